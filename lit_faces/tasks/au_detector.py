"""Train an AU detector; with ``experiments/judge.yaml``, the referee of the generators.

picture -> backbone -> features -> intensity 0..5 of 19 AUs
                                -> occurrence logits      (``occurrence_head``)
                                -> expression logits      (``expression_head``: neutral and seven emotions)
    + reference pictures        -> all of these, shifted  (``reference_head``: :mod:`lit_faces.models.reference`)

After each epoch of a fit, scale and thresholds are fitted on the validation people; they travel with the weights.
"""

from __future__ import annotations

import functools
import inspect
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from lit_faces.core.facs import AU_KEYS, MAX_INTENSITY, OCCURRENCE_THRESHOLD
from lit_faces.core.orders import OrderedFaces, Orders
from lit_faces.core.sample import FaceBatch
from lit_faces.core.seeding import generator_for
from lit_faces.core.shipped import INIT_WORDS, initial_weights, weights_code
from lit_faces.core.weights import load_weights, save_weights
from lit_faces.losses.action_units import (
    masked_bce,
    masked_concordance,
    masked_cross_entropy,
    masked_logit_bce,
    masked_mse,
    masked_order,
    masked_ordinal,
)
from lit_faces.models.detector import HEADS, KIND, PARTS, WEIGHTS_FILE, DetectorNetwork, Reading, load_as
from lit_faces.models.heads import NUM_EXPRESSIONS, Prevalence
from lit_faces.models.reference import References, draw_references
from lit_faces.tasks.augmentation import augment_frames, augment_strongly
from lit_faces.tasks.base import one_cycle, quiet_save_hyperparameters
from lit_faces.tasks.measured import MeasuredDetector

_REFERENCES = 0x5EE  # keeps the draws of references apart from the augmentation of the same batch


class AUDetector(DetectorNetwork, MeasuredDetector):
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
        super(DetectorNetwork, self).__init__(seed)  # its networks are built below, by `configure`
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
        for name in HEADS:
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
        self.build()
        self.prevalence = nn.ModuleDict(
            {"occurrence": Prevalence(len(AU_KEYS), 0.2), "expression": Prevalence(NUM_EXPRESSIONS, 0.125)}
        )
        if self.compile_networks:
            self.backbone.compile()

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
        state = {key: value for key, value in self.state_dict().items() if key.startswith(PARTS)}
        if half:
            state = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
        heads = {name: getattr(self, name) for name in HEADS if getattr(self, name) or name != "reference_head"}
        if self.reference is not None and self.reference_kind != "compare":
            card = {"reference_kind": self.reference_kind, **card}
        about = self.card(
            KIND, backbone=self.backbone_name, size=self.size, scale=[0.0, MAX_INTENSITY], **{**heads, **card}
        )
        save_weights(path, state, about)
        return Path(path)


def load_detector(path: Path | str) -> AUDetector:
    """What :func:`lit_faces.models.detector.load_network` loads, as a LightningModule: to train, or to adapt."""
    return load_as(functools.partial(AUDetector, drop_rate=0.0), path)
