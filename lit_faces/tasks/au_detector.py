"""Train an AU detector; with ``experiments/judge.yaml``, the referee of the generators.

picture -> backbone -> features -> intensity 0..5 of 19 AUs
                                -> occurrence logits      (``occurrence_head``)
                                -> expression logits      (``expression_head``: neutral and seven emotions)
    + reference pictures        -> all of these, shifted  (``reference_head``: :mod:`lit_faces.models.reference`)

After each epoch of a fit, scale and thresholds are fitted on the validation people; they travel with the weights.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from lit_faces.core.facs import AU_KEYS, MAX_INTENSITY, OCCURRENCE_THRESHOLD
from lit_faces.core.fields import field
from lit_faces.core.geometry import mirror_images, resize_images
from lit_faces.core.orders import OrderedFaces, Orders
from lit_faces.core.sample import FaceBatch
from lit_faces.core.seeding import generator_for
from lit_faces.core.shipped import INIT_WORDS, initial_weights, weights_code, weights_path
from lit_faces.core.weights import check_card, load_state, load_weights, save_weights
from lit_faces.losses.action_units import (
    masked_bce,
    masked_concordance,
    masked_cross_entropy,
    masked_logit_bce,
    masked_mse,
    masked_order,
    masked_ordinal,
)
from lit_faces.models.backbones import build_backbone
from lit_faces.models.heads import NUM_EXPRESSIONS, AUHead, Calibration, LogitHead, Prevalence
from lit_faces.models.reference import REFERENCE_HEADS, References, draw_references
from lit_faces.tasks.augmentation import augment_frames, augment_strongly
from lit_faces.tasks.base import one_cycle, quiet_save_hyperparameters
from lit_faces.tasks.measured import MeasuredDetector, Reading

WEIGHTS_FILE = "detector.safetensors"
_KIND = "au_detector"
_PARTS = ("backbone.", "head.", "occurrence.", "expression.", "reference.", "calibration.")
_HEADS = ("occurrence_head", "expression_head", "reference_head")
_REFERENCES = 0x5EE  # keeps the draws of references apart from the augmentation of the same batch


class AUDetector(MeasuredDetector):
    """Regress the 19 AU intensities of aligned faces.

    Batches are :class:`FaceBatch`; AUs that are not coded (NaN) add nothing to the losses nor to the metrics.

    Args:
        backbone: name of a timm model (``aligned_face_small`` and ``aligned_face_base`` are our own).
        backbone_weights: local safetensors file to start the backbone from; nothing is downloaded.
        init: ``scratch`` (or null) starts from random weights, ``critic`` and ``generic`` from the shipped ones, else
            from a file of :meth:`export_weights` of the same backbone; heads that it lacks start anew. See
            :data:`lit_faces.core.shipped.INIT_WORDS`.
        size: side of the crops that the detector reads; others are resized.
        lr: highest learning rate (AdamW, one cycle).
        weight_decay: of AdamW.
        warmup: share of the training in which the learning rate rises.
        clip: largest norm of the gradient; ``trainer.gradient_clip_val`` goes before it.
        drop_rate: dropout before the head.
        weight_mse: weight of the squared error (full scale = 1).
        weight_concordance: weight of 1 - concordance correlation, which keeps predictions from shrinking to the mean.
        weight_ordinal: weight of the cumulative-link loss.
        weight_occurrence: weight of the cross-entropy of occurrence; of the occurrence head where there is one (rare
            AUs then weigh as much as frequent ones), of the intensity's distance to grade 2 otherwise.
        weight_expression: weight of the cross-entropy of the expression head, rare expressions raised likewise.
        weight_order: weight of what is known of faces beside each other (``data_modules.mixed`` gives such batches).
        occurrence_head: whether occurrence has a head of its own.
        expression_head: whether expressions are read.
        reference_head: whether other pictures of a person may stand beside the one that is read. Training batches need
            several faces of one subject then (``mode: people`` of rendered faces).
        reference_kind: ``compare``, or ``difference`` (one-frame calibration as published, a baseline).
        weight_reference: weight of what is read beside references, against what is read without.
        trains: ``all``, or ``reference``: the reference head alone, everything else as ``init`` has it, calibration
            included, so that faces which are read alone are read as before to the last bit. To be given people whom
            ``init`` has not seen: of those it knows by heart a photo tells it little.
        calibrate: fit scale and thresholds on the validation people after each epoch of a fit.
        augment: change light, place, noise and blur of training pictures, and mirror half of them.
        strong: with ``augment``, change them as far as photographs of strangers differ.
        channels_last: memory format of the network.
        compile: compile the backbone.
        export: write ``detector.safetensors`` into the run's folder when training ends.
        seed: of the augmentation.
    """

    def __init__(
        self,
        backbone: str = "aligned_face_base",
        backbone_weights: str | None = None,
        init: str | None = "scratch",
        size: int = 128,
        lr: float = 2e-3,
        weight_decay: float = 1e-3,
        warmup: float = 0.1,
        clip: float = 1.0,
        drop_rate: float = 0.1,
        weight_mse: float = 4.0,
        weight_concordance: float = 0.5,
        weight_ordinal: float = 0.0,
        weight_occurrence: float = 0.0,
        weight_expression: float = 0.3,
        weight_order: float = 0.0,
        occurrence_head: bool = False,
        expression_head: bool = False,
        reference_head: bool = False,
        reference_kind: Literal["compare", "difference"] = "compare",
        weight_reference: float = 1.0,
        trains: Literal["all", "reference"] = "all",
        calibrate: bool = False,
        augment: bool = True,
        strong: bool = False,
        channels_last: bool = True,
        compile: bool = False,
        export: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__(seed)
        quiet_save_hyperparameters(self, inspect.currentframe())
        self.backbone_name, self.backbone_weights, self.drop_rate = backbone, backbone_weights, drop_rate
        self.size, self.augment, self.export = size, augment, export
        self.change = augment_strongly if strong else augment_frames
        self.lr, self.weight_decay, self.warmup, self.clip = lr, weight_decay, warmup, clip
        self.loss_weights = {
            "mse": weight_mse,
            "concordance": weight_concordance,
            "ordinal": weight_ordinal,
            "occurrence": weight_occurrence,
            "expression": weight_expression if expression_head else 0.0,
        }
        self.weight_order, self.reference_head, self.weight_reference = weight_order, reference_head, weight_reference
        self.reference_kind, self.trains = reference_kind, trains
        self.references: References | None = None
        self.occurrence_head, self.expression_head, self.calibrate = occurrence_head, expression_head, calibrate
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.compile_networks = compile
        self.init = init
        self.configure()

    def setup(self, stage: str) -> None:
        """Take over the weights of ``init``, unless a checkpoint brings others."""
        if stage == "fit" and self.occurrence_head and not self.loss_weights["occurrence"]:
            raise ValueError("occurrence_head: needs a weight_occurrence above 0, or nothing would train it")
        if stage == "fit" and self.trainer.ckpt_path is None and (path := self.starts_from()) is not None:
            self._start_from(path)
            if self.trains == "reference":
                self.calibration.load_state_dict(load_detector(path).calibration.state_dict())
        if stage == "fit" and self.trains == "reference":
            self._hold_all_but_references()

    def _hold_all_but_references(self) -> None:
        if self.calibrate or self.reference is None or self.starts_from() is None:
            raise ValueError(
                "trains reference: needs reference_head, an init that can read already, and calibrate: false"
            )
        self.requires_grad_(False)
        self.reference.requires_grad_(True)
        self.train(self.training)  # Lightning leaves every part in the mode that it is in

    def train(self, mode: bool = True) -> AUDetector:
        """Training mode; what does not train stays as it reads."""
        super().train(mode)
        if mode and self.trains == "reference":
            self.backbone.eval()
        return self

    def starts_from(self) -> Path | None:
        """The file that ``init`` means; None = random weights.

        Raises:
            ValueError: neither a known word nor a file.
        """
        return initial_weights("detector", self.init)

    def load_exported(self, path: Path) -> None:
        """Take over an exported detector as it is, calibration included.

        Raises:
            ValueError: another backbone, or a head that one of the two lacks.
        """
        self._start_from(path)
        other = load_detector(path)
        for name in _HEADS:
            unused = name == "reference_head" and not self.reference_head  # it plays no part where faces are read alone
            if getattr(other, name) != getattr(self, name) and not unused:
                raise ValueError(f"{path}: {name} is {getattr(other, name)} there and {getattr(self, name)} here")
        self.calibration.load_state_dict(other.calibration.state_dict())

    def _start_from(self, path: Path) -> None:
        """Take over backbone, intensity head, and the other heads where both have them.

        A head of occurrence that is new says at first what the intensities say: few labels need not teach it all.
        """
        other = load_detector(path)
        if other.backbone_name != self.backbone_name:
            raise ValueError(f"init {path}: its backbone is {other.backbone_name!r}, not {self.backbone_name!r}")
        names = ("backbone", "head", "occurrence", "expression")
        for name in names if other.reference_kind != self.reference_kind else (*names, "reference"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine is not None and theirs is not None:
                mine.load_state_dict(theirs.state_dict())
        if self.occurrence is not None and other.occurrence is None:
            self.occurrence.start_from(other.head, OCCURRENCE_THRESHOLD)

    def configure_models(self) -> None:
        """The backbone and its head."""
        self.backbone, width = build_backbone(self.backbone_name, self.backbone_weights, self.drop_rate)
        self.head = AUHead(width)
        self.occurrence = LogitHead(width, len(AU_KEYS)) if self.occurrence_head else None
        self.expression = LogitHead(width, NUM_EXPRESSIONS) if self.expression_head else None
        outputs = [
            head.linear.out_features for head in (self.head, self.occurrence, self.expression) if head is not None
        ]
        self.reference = REFERENCE_HEADS[self.reference_kind](width, sum(outputs)) if self.reference_head else None
        self.calibration = self._new_calibration()
        self.prevalence = nn.ModuleDict(
            {"occurrence": Prevalence(len(AU_KEYS), 0.2), "expression": Prevalence(NUM_EXPRESSIONS, 0.125)}
        )
        nn.Module.to(self.backbone, memory_format=self.memory_format)
        if self.compile_networks:
            self.backbone.compile()

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

    def losses(self, reading: Reading, batch: FaceBatch) -> dict[str, Tensor]:
        """The losses whose weight is not zero, unweighted."""
        intensity = reading.intensity
        functions = {
            "mse": lambda: masked_mse(intensity, batch.au_intensity),
            "concordance": lambda: masked_concordance(intensity, batch.au_intensity),
            "ordinal": lambda: masked_ordinal(intensity, batch.au_intensity),
            "occurrence": lambda: self._occurrence_loss(reading, batch),
            "expression": lambda: self._expression_loss(reading, batch),
        }
        return {name: function() for name, function in functions.items() if self.loss_weights[name]}

    def _occurrence_loss(self, reading: Reading, batch: FaceBatch) -> Tensor:
        if reading.occurrence is None:
            return masked_bce(reading.intensity, batch.au_occurrence)
        prevalence: Any = self.prevalence["occurrence"]
        if self.training:
            prevalence.update(batch.au_occurrence)
        return masked_logit_bce(reading.occurrence, batch.au_occurrence, *prevalence.weights())

    def _expression_loss(self, reading: Reading, batch: FaceBatch) -> Tensor:
        if reading.expression is None:
            return batch.au_intensity.new_zeros(())
        prevalence: Any = self.prevalence["expression"]
        coded = batch.emotion[batch.emotion >= 0]
        if self.training and len(coded):
            prevalence.update(functional.one_hot(coded, NUM_EXPRESSIONS))
        return masked_cross_entropy(reading.expression, batch.emotion, prevalence.weights()[0])

    def _order_loss(self, intensity: Tensor, orders: Orders) -> Tensor:
        return masked_order(intensity[orders.lower], intensity[orders.higher], orders.least, orders.most)

    def _beside(self, features: Tensor, alone: Reading, batch: FaceBatch, orders: Orders) -> Tensor:
        """The weighted losses of faces that are read beside others of the batch, of the same people."""
        references, there = self._references_of(features, alone, batch)
        beside = self.reading_of(features, references)
        rows = there.any(1)
        losses = self.losses(beside.select(rows), batch.select(rows)) if rows.any() else {}
        total = sum((self.loss_weights[name] * value for name, value in losses.items()), beside.intensity.sum() * 0.0)
        if self.weight_order and len(orders):
            total = total + self.weight_order * self._order_loss(beside.intensity, orders)
        return total

    def _references_of(self, features: Tensor, alone: Reading, batch: FaceBatch) -> tuple[References, Tensor]:
        """Other rows of the batch as references; half of them tell their AUs, where they are known."""
        generator = generator_for(self.seed, self.global_rank, self.batches_seen, _REFERENCES, device="cpu")
        rows, there = draw_references(batch.subject, batch.au_intensity.cpu(), generator)
        told = (torch.rand(len(features), 1, generator=generator) < 0.5).to(features.device)
        estimate = alone.intensity.detach()
        intensity = torch.where(told & batch.au_intensity.isfinite(), batch.au_intensity, estimate)
        rows, there = rows.to(features.device), there.to(features.device)
        return References(features[rows], intensity[rows], there), there

    def training_step(self, batch: FaceBatch | OrderedFaces, batch_idx: int) -> Tensor:
        """Augment, predict, and sum the weighted losses."""
        batch, orders = (batch.faces, batch.orders) if isinstance(batch, OrderedFaces) else (batch, Orders())
        image = batch.image_float()
        if self.augment:
            image = self.change(image, self.step_generator())
        with torch.set_grad_enabled(self.trains == "all" and torch.is_grad_enabled()):
            features = self.features(image)
            alone = self.reading_of(features)
        losses, weights = self.losses(alone, batch) if self.trains == "all" else {}, dict(self.loss_weights)
        if self.weight_order and len(orders) and self.trains == "all":
            losses["order"], weights["order"] = self._order_loss(alone.intensity, orders), self.weight_order
        if self.reference is not None:
            losses["reference"] = self._beside(features, alone, batch, orders)
            weights["reference"] = self.weight_reference
        total = torch.stack([weights[name] * value for name, value in losses.items()]).sum()
        self.count(len(batch))
        if self.batches_seen % self.log_every() == 0:
            self.log_dict({f"train/{k}": v.detach() for k, v in losses.items()}, batch_size=len(batch))
            self.log("train/loss", total.detach(), prog_bar=True, batch_size=len(batch))
            self.log("train/images", float(self.images_seen), batch_size=len(batch))
        return total

    def configure_optimizers(self) -> Any:
        """AdamW (no decay on norms and biases), one cycle over the whole training."""
        return one_cycle(self, self.lr, self.weight_decay, self.warmup)

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip the norm of the gradient to ``clip``, or as the trainer was told."""
        if gradient_clip_val is not None:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        else:
            torch.nn.utils.clip_grad_norm_(self.parameters(), self.clip)

    def on_fit_end(self) -> None:
        """Export the weights with their card."""
        if self.export and self.trainer.is_global_zero and self.trainer.state.status != "interrupted":
            self.export_weights(Path(self.trainer.default_root_dir) / WEIGHTS_FILE, **self._history())

    def _history(self) -> dict[str, Any]:
        """For the card: what this training has seen, and what the weights that it began from had."""
        tell = getattr(getattr(self.trainer, "datamodule", None), "seen", None)
        seen = [] if tell is None else tell()
        path = self.starts_from()
        if path is None:
            return {"seen": seen}
        before = {key: value for key, value in load_weights(path)[1].items() if key in ("seen", "began_from")}
        word = str(self.init)
        name = word if word in INIT_WORDS["detector"] else weights_code("detector", word)
        return {"seen": seen, "began_from": {"weights": name, **before}}

    def export_weights(self, path: Path | str, half: bool = True, **card: Any) -> Path:
        """Write backbone, heads and calibration as safetensors with a card; ``half`` stores 16-bit floats.

        Args:
            path: file to write.
            half: store float16 (the file is half as large; the networks run in float32 all the same).
            card: more for the card (JSON values).
        """
        state = {key: value for key, value in self.state_dict().items() if key.startswith(_PARTS)}
        if half:
            state = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
        heads = {name: getattr(self, name) for name in _HEADS if getattr(self, name) or name != "reference_head"}
        if self.reference is not None and self.reference_kind != "compare":
            card = {"reference_kind": self.reference_kind, **card}
        about = self.card(
            _KIND, backbone=self.backbone_name, size=self.size, scale=[0.0, MAX_INTENSITY], **{**heads, **card}
        )
        save_weights(path, state, about)
        return Path(path)


def load_detector(path: Path | str) -> AUDetector:
    """The detector of a file written by :meth:`AUDetector.export_weights`, in evaluation mode.

    Args:
        path: safetensors file; ``generic`` for the detector that ships with lit_faces, ``packaged`` for its judge.

    Raises:
        FileNotFoundError: no such file.
        ValueError: truncated, or not a detector.
    """
    path = weights_path("detector", path)
    state, card = load_weights(path)
    train = "train one with `python -m lit_faces.fit experiments/judge.yaml`"
    check_card(path, card, _KIND, "the weights of an AU detector", train)
    where = f"{path}: its card"
    heads: dict[str, Any] = {name: field(card, name, bool, where, default=False) for name in _HEADS}
    heads["reference_kind"] = field(card, "reference_kind", str, where, choices=REFERENCE_HEADS, default="compare")
    backbone = field(card, "backbone", str, where, minimum=1, maximum=100)
    size = field(card, "size", int, where, minimum=16, maximum=1024)
    seen = field(card, "images_seen", int, where, minimum=0, default=0)
    try:
        detector = AUDetector(backbone=backbone, size=size, drop_rate=0.0, **heads)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    networks = nn.ModuleDict(
        {name: part for name, part in detector.named_children() if f"{name}." in _PARTS and part is not None}
    )
    state = {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
    if not any(key.startswith("calibration.") for key in state):  # written before there was one
        state.update({f"calibration.{key}": value for key, value in Calibration().state_dict().items()})
    load_state(networks, state, str(path))
    detector.images_seen = seen
    return detector.eval().requires_grad_(False)
