"""What a detector is when it reads: networks without the tools of training, so that a first photo is read soon.

picture -> backbone -> features -> intensity 0..5 of 19 AUs
                                -> occurrence logits      (``occurrence_head``)
                                -> expression logits      (``expression_head``: neutral and seven emotions)
    + reference pictures        -> all of these, shifted  (``reference_head``: :mod:`lit_faces.models.reference`)

:class:`lit_faces.tasks.au_detector.AUDetector` is the same as a LightningModule.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from lit_faces.core.facs import AU_KEYS, OCCURRENCE_THRESHOLD
from lit_faces.core.fields import field
from lit_faces.core.geometry import mirror_images, resize_images
from lit_faces.core.shipped import weights_path
from lit_faces.core.weights import check_card, load_state, load_weights
from lit_faces.models.backbones import build_backbone
from lit_faces.models.heads import NUM_EXPRESSIONS, AUHead, Calibration, LogitHead
from lit_faces.models.reference import REFERENCE_HEADS, References

WEIGHTS_FILE = "detector.safetensors"
KIND = "au_detector"
PARTS = ("backbone.", "head.", "occurrence.", "expression.", "reference.", "calibration.")
HEADS = ("occurrence_head", "expression_head", "reference_head")


@dataclass
class Reading:
    """What a detector reads on B faces; a head that it does not have is None.

    Attributes:
        intensity: float32 (B, 19), 0..5.
        occurrence: float32 (B, 19), logits.
        expression: float32 (B, 8), logits in the order of ``EMOTIONS``.
    """

    intensity: Tensor
    occurrence: Tensor | None = None
    expression: Tensor | None = None

    def select(self, rows: Tensor) -> Reading:
        """Some of the faces: bool or int64 (n,)."""
        picked = (None if part is None else part[rows] for part in (self.occurrence, self.expression))
        return Reading(self.intensity[rows], *picked)


class DetectorNetwork(nn.Module):
    """Reads the 19 AU intensities of aligned faces.

    Args:
        backbone: name of a timm model (``aligned_face_small`` and ``aligned_face_base`` are our own).
        size: side of the crops that are read; others are resized.
        occurrence_head: whether occurrence has a head of its own.
        expression_head: whether expressions are read.
        reference_head: whether other pictures of a person may stand beside the one that is read.
        reference_kind: ``compare``, or ``difference`` (one-frame calibration as published, a baseline).

    Attributes:
        references: beside which all faces are read, or None.
        images_seen: in training.
    """

    backbone: nn.Module
    head: AUHead
    occurrence: LogitHead | None
    expression: LogitHead | None
    reference: Any
    calibration: Calibration
    images_seen: int
    backbone_weights: str | None = None
    drop_rate: float = 0.0

    def __init__(
        self,
        backbone: str = "aligned_face_base",
        size: int = 128,
        occurrence_head: bool = False,
        expression_head: bool = False,
        reference_head: bool = False,
        reference_kind: str = "compare",
    ) -> None:
        super().__init__()
        self.backbone_name, self.size = backbone, size
        self.occurrence_head, self.expression_head = occurrence_head, expression_head
        self.reference_head, self.reference_kind = reference_head, reference_kind
        self.memory_format = torch.channels_last
        self.images_seen = 0
        self.build()

    def build(self) -> None:
        """Make backbone, heads and calibration, from what the attributes say."""
        self.references: References | None = None
        self.backbone, width = build_backbone(self.backbone_name, self.backbone_weights, self.drop_rate)
        self.head = AUHead(width)
        self.occurrence = LogitHead(width, len(AU_KEYS)) if self.occurrence_head else None
        self.expression = LogitHead(width, NUM_EXPRESSIONS) if self.expression_head else None
        outputs = [
            head.linear.out_features for head in (self.head, self.occurrence, self.expression) if head is not None
        ]
        self.reference = REFERENCE_HEADS[self.reference_kind](width, sum(outputs)) if self.reference_head else None
        self.calibration = self._new_calibration()
        nn.Module.to(self.backbone, memory_format=self.memory_format)

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self.head.linear.weight.device

    def _new_calibration(self) -> Calibration:
        """Scale 1, and the thresholds of an unfitted detector: grade 2, or a probability of one half."""
        return Calibration(threshold=0.5 if self.occurrence_head else OCCURRENCE_THRESHOLD)

    def features(self, image: Tensor) -> Tensor:
        """Pictures float (B, 3, S, S) in [-1, 1] -> features (B, D) that the heads read."""
        image = resize_images(image, self.size, self.size)
        return self.backbone(image.contiguous(memory_format=self.memory_format))

    def forward(self, image: Tensor) -> Tensor:
        """Pictures float (B, 3, S, S) in [-1, 1] -> float32 (B, 19), intensity 0..5, not yet calibrated."""
        return self.head(self.features(image))

    def read(self, image: Tensor) -> Reading:
        """Pictures float (B, 3, S, S) in [-1, 1] -> what every head reads, intensities not yet calibrated.

        Where references were set (:meth:`set_references`), all pictures are read beside them.
        """
        return self.reading_beside(self.features(image))

    def reading_beside(self, features: Tensor) -> Reading:
        """Features (B, D) -> what every head reads, beside the references that were set."""
        if self.references is None:
            return self.reading_of(features)
        if self.references.features.device != features.device:
            self.references = self.references.to(features.device)
        return self.reading_of(features, self.references.expand(len(features)))

    def reading_of(self, features: Tensor, references: References | None = None) -> Reading:
        """Features (B, D) -> what every head reads; beside ``references`` (B, M, ...) of the same people, or alone."""
        logits = [head.linear(features).float() for head in self._heads() if head is not None]
        if references is not None and self.reference is not None:
            found = list(self.reference(features, references).split([part.shape[1] for part in logits], 1))
            shifts = self.reference_kind == "compare"
            logits = [part + shift for part, shift in zip(logits, found)] if shifts else found
        others = iter(logits[1:])
        occurrence, expression = (None if head is None else next(others) for head in (self.occurrence, self.expression))
        return Reading(self.head.of_logits(logits[0]), occurrence, expression)

    def _heads(self) -> tuple[AUHead, LogitHead | None, LogitHead | None]:
        return self.head, self.occurrence, self.expression

    @torch.no_grad()
    def make_references(self, images: Tensor, intensity: Tensor | None = None) -> References:
        """What this detector remembers of reference pictures of one person.

        Args:
            images: uint8 (M, 3, H, W), best at rest.
            intensity: their AUs, float (M, 19), 0..5; NaN or None where they are not known: the generic reading then.

        Raises:
            ValueError: this detector has no reference head, or there is no picture.
        """
        if self.reference is None:
            raise ValueError("this detector reads every face alone (it has no reference head): use a zero instead")
        if not len(images):
            raise ValueError("references: one picture at least is needed")
        training = self.training
        self.eval()
        features = self.features(images.to(self.device).float() / 127.5 - 1.0).float()
        found = self.reading_of(features).intensity
        self.train(training)
        known = torch.full_like(found, torch.nan) if intensity is None else intensity.to(found)
        return References(features, torch.where(known.isnan(), found, known))

    def set_references(self, references: References | None) -> None:
        """Read all faces beside these from now on; None reads each alone again.

        Raises:
            ValueError: no reference head, or references of another detector.
        """
        if references is not None:
            if self.reference is None:
                raise ValueError("this detector has no reference head")
            if references.features.shape[-1] != self.reference.inputs:
                raise ValueError(
                    f"references: {references.features.shape[-1]} features, this detector has {self.reference.inputs}"
                )
            references = references.to(self.device)
        self.references = references

    @torch.no_grad()
    def predict_au(self, images: Tensor, batch_size: int = 64, mirror: bool = False) -> Tensor:
        """Calibrated intensities of pictures uint8 (B, 3, H, W): float32 (B, 19) on the CPU, 0..5.

        ``mirror`` reads the mirror images too and averages: AUs are labelled for both sides of the face together.
        """
        found = self.predict(images, batch_size).intensity
        return 0.5 * (found + self.predict(mirror_images(images), batch_size).intensity) if mirror else found

    @torch.no_grad()
    def predict(self, images: Tensor, batch_size: int = 64) -> Reading:
        """What is read on pictures uint8 (B, 3, H, W), on the CPU, intensities calibrated; the mode stays."""
        if not len(images):
            return Reading(torch.zeros(0, len(AU_KEYS)))
        training = self.training
        self.eval()
        parts = [self.read(chunk.to(self.device).float() / 127.5 - 1.0) for chunk in images.split(batch_size)]
        self.train(training)
        occurrence, expression = (
            None if getattr(parts[0], name) is None else torch.cat([getattr(p, name) for p in parts]).cpu()
            for name in ("occurrence", "expression")
        )
        intensity = self.calibration(torch.cat([p.intensity.float() for p in parts]))
        return Reading(intensity.cpu(), occurrence, expression)

    def occurs(self, reading: Reading) -> Tensor:
        """Occurrence 0/1, float32 (B, 19): the reading at the thresholds that were fitted on validation people."""
        scores = reading.intensity if reading.occurrence is None else reading.occurrence.sigmoid()
        return (scores >= self.calibration.threshold.to(scores.device)).float()


Network = TypeVar("Network", bound=DetectorNetwork)


def load_as(kind: Callable[..., Network], path: Path | str) -> Network:
    """A detector of a file, as a class that takes the arguments of :class:`DetectorNetwork`; in evaluation mode.

    Raises:
        FileNotFoundError: no such file.
        ValueError: truncated, or not a detector.
    """
    path = weights_path("detector", path)
    state, card = load_weights(path)
    train = "train one with `python -m lit_faces.fit experiments/judge.yaml`"
    check_card(path, card, KIND, "the weights of an AU detector", train)
    where = f"{path}: its card"
    heads: dict[str, Any] = {name: field(card, name, bool, where, default=False) for name in HEADS}
    heads["reference_kind"] = field(card, "reference_kind", str, where, choices=REFERENCE_HEADS, default="compare")
    backbone = field(card, "backbone", str, where, minimum=1, maximum=100)
    size = field(card, "size", int, where, minimum=16, maximum=1024)
    seen = field(card, "images_seen", int, where, minimum=0, default=0)
    try:
        detector = kind(backbone=backbone, size=size, **heads)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    networks = nn.ModuleDict(
        {name: part for name, part in detector.named_children() if f"{name}." in PARTS and part is not None}
    )
    state = {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
    if not any(key.startswith("calibration.") for key in state):  # written before there was one
        state.update({f"calibration.{key}": value for key, value in Calibration().state_dict().items()})
    load_state(networks, state, str(path))
    detector.images_seen = seen
    return detector.eval().requires_grad_(False)


def load_network(path: Path | str) -> DetectorNetwork:
    """The detector of a file, to read with.

    Args:
        path: safetensors file; ``generic`` for the detector that ships with lit_faces, ``packaged`` for its judge.

    Raises:
        FileNotFoundError: no such file.
        ValueError: truncated, or not a detector.
    """
    return load_as(DetectorNetwork, path)
