"""Train an AU detector; with ``experiments/judge.yaml``, the referee of the generators.

picture -> backbone -> features -> intensity 0..5 of 19 AUs
                                -> occurrence logits      (``occurrence_head``)
                                -> expression logits      (``expression_head``: neutral and seven emotions)

After each epoch of a fit, scale and thresholds are fitted on the validation people; they travel with the weights.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from lit_faces.core.facs import AU_INDEX, AU_KEYS, EMOTIONS, MAX_INTENSITY, OCCURRENCE_THRESHOLD
from lit_faces.core.fields import field
from lit_faces.core.geometry import mirror_images, resize_images
from lit_faces.core.orders import OrderedFaces, Orders
from lit_faces.core.ranks import gather
from lit_faces.core.sample import FaceBatch
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
from lit_faces.metrics.classification import OccurrenceOverAUs, choose_thresholds
from lit_faces.metrics.icc import StreamingICC
from lit_faces.metrics.means import WeightedMeans
from lit_faces.metrics.readings import Readings
from lit_faces.models.backbones import build_backbone
from lit_faces.models.heads import NUM_EXPRESSIONS, AUHead, Calibration, LogitHead, Prevalence
from lit_faces.tasks.augmentation import augment_frames, augment_strongly
from lit_faces.tasks.base import FaceTask, quiet_save_hyperparameters

WEIGHTS_FILE = "detector.safetensors"
_KIND = "au_detector"
_PARTS = ("backbone.", "head.", "occurrence.", "expression.", "calibration.")


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


class AUDetector(FaceTask):
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
        self.weight_order = weight_order
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
        for name in ("occurrence_head", "expression_head"):
            if getattr(other, name) != getattr(self, name):
                raise ValueError(f"{path}: {name} is {getattr(other, name)} there and {getattr(self, name)} here")
        self.calibration.load_state_dict(other.calibration.state_dict())

    def _start_from(self, path: Path) -> None:
        """Take over backbone, intensity head, and the other heads where both have them.

        A head of occurrence that is new says at first what the intensities say: few labels need not teach it all.
        """
        other = load_detector(path)
        if other.backbone_name != self.backbone_name:
            raise ValueError(f"init {path}: its backbone is {other.backbone_name!r}, not {self.backbone_name!r}")
        for name in ("backbone", "head", "occurrence", "expression"):
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
        self.calibration = self._new_calibration()
        self.prevalence = nn.ModuleDict(
            {"occurrence": Prevalence(len(AU_KEYS), 0.2), "expression": Prevalence(NUM_EXPRESSIONS, 0.125)}
        )
        nn.Module.to(self.backbone, memory_format=self.memory_format)
        if self.compile_networks:
            self.backbone.compile()

    def configure_metrics(self) -> None:
        """ICC(3,1), F1 and the confusion of expressions, all from global sums."""
        from torchmetrics.classification import MulticlassConfusionMatrix

        self.val_mse = WeightedMeans(["mse"])
        self.val_icc = StreamingICC(num_outputs=len(AU_KEYS), kind="3,1")
        self.test_icc = StreamingICC(num_outputs=len(AU_KEYS), kind="3,1")
        self.test_occurrence = OccurrenceOverAUs(threshold=0.5)
        self.test_confusion = MulticlassConfusionMatrix(NUM_EXPRESSIONS, ignore_index=-1)
        self._seen_in_validation: list[Tensor] = []
        self._tested: list[Readings] = []
        self.test_readings: Readings | None = None

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
        """Pictures float (B, 3, S, S) in [-1, 1] -> what every head reads, intensities not yet calibrated."""
        features = self.features(image)
        return Reading(
            self.head(features),
            None if self.occurrence is None else self.occurrence(features),
            None if self.expression is None else self.expression(features),
        )

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

    def training_step(self, batch: FaceBatch | OrderedFaces, batch_idx: int) -> Tensor:
        """Augment, predict, and sum the weighted losses."""
        batch, orders = (batch.faces, batch.orders) if isinstance(batch, OrderedFaces) else (batch, Orders())
        image = batch.image_float()
        if self.augment:
            image = self.change(image, self.step_generator())
        reading = self.read(image)
        losses, weights = self.losses(reading, batch), dict(self.loss_weights)
        if self.weight_order and len(orders):
            losses["order"], weights["order"] = self._order_loss(reading.intensity, orders), self.weight_order
        total = torch.stack([weights[name] * value for name, value in losses.items()]).sum()
        self.count(len(batch))
        if self.batches_seen % self.log_every() == 0:
            self.log_dict({f"train/{k}": v.detach() for k, v in losses.items()}, batch_size=len(batch))
            self.log("train/loss", total.detach(), prog_bar=True, batch_size=len(batch))
            self.log("train/images", float(self.images_seen), batch_size=len(batch))
        return total

    def validation_step(self, batch: FaceBatch, batch_idx: int) -> None:
        """Collect the sums of the ICC, and what calibration needs."""
        reading = self.read(batch.image_float())
        self.val_icc.update(batch.au_intensity, reading.intensity)
        known = batch.au_intensity.isfinite()
        error = masked_mse(reading.intensity, batch.au_intensity)
        self.val_mse.update({"mse": (error, known.sum().double())})
        if self.calibrate:
            scores = reading.intensity if reading.occurrence is None else reading.occurrence.sigmoid()
            row = reading.intensity, batch.au_intensity, scores, batch.au_occurrence
            self._seen_in_validation.append(torch.stack([x.detach().float().cpu() for x in row]))

    def on_validation_epoch_end(self) -> None:
        """Log ``val/mse``, ``val/icc/AU06`` ... and ``val/icc/mean`` of raw readings; fit the calibration."""
        self.log_dict({f"val/{name}": value for name, value in self.val_mse.compute().items()})
        self.val_mse.reset()
        self._log_icc("val", self.val_icc)
        fitting = self.trainer.state.fn == "fit" and not self.trainer.sanity_checking
        if self.calibrate and fitting:  # never on the people of a later validation
            rows = [
                part.cpu() for rank in gather(self._seen_in_validation) for part in rank
            ]  # a rank may have seen none
            if rows:
                self._calibrate(torch.cat(rows, 1))
        self._seen_in_validation.clear()

    def _calibrate(self, rows: Tensor) -> None:
        """Fit scale, shift and thresholds to (4, n, 19): intensity, its truth, occurrence score, its truth."""
        predicted, truth, scores, occurrence = rows
        calibration = self._new_calibration()
        calibration.fit(predicted, truth)
        if self.occurrence is None:
            scores = calibration(scores)
        calibration.threshold.copy_(choose_thresholds(scores, occurrence, default=calibration.threshold))
        self.calibration.load_state_dict(calibration.state_dict())

    def test_step(self, batch: FaceBatch, batch_idx: int) -> None:
        """Collect the sums of the ICC, of F1 at the validated thresholds, and the confusion of expressions."""
        reading = self.read(batch.image_float())
        reading.intensity = self.calibration(reading.intensity)
        self.test_icc.update(batch.au_intensity, reading.intensity)
        occurs = self.occurs(reading)
        self.test_occurrence.update(batch.au_occurrence, occurs)
        self._tested.append(
            Readings(
                subject=list(batch.subject),
                truth=batch.au_intensity.cpu(),
                read=reading.intensity.detach().float().cpu(),
                occurrence=batch.au_occurrence.cpu(),
                occurs=occurs.detach().cpu(),
                emotion=batch.emotion.cpu(),
                expression=None if reading.expression is None else reading.expression.argmax(1).cpu(),
            )
        )
        if reading.expression is not None:
            self.test_confusion.update(reading.expression, batch.emotion)

    def on_test_epoch_end(self) -> None:
        """Log ``test/icc/AU06`` ... of calibrated readings, ``test/f1/AU06`` ..., and how expressions were named."""
        self._log_icc("test", self.test_icc)
        self.test_readings = Readings.of_batches(self._tested)
        self._tested = []
        self.log_dict({f"test/{name}": value.float() for name, value in self.test_occurrence.compute().items()})
        self.test_occurrence.reset()
        if self.expression is not None:
            self.log_dict(expression_figures(self.test_confusion.compute()))
            self.test_confusion.reset()

    def tested_people(self) -> list[dict[str, Any]]:
        """One row a person of the last test."""
        return [] if self.test_readings is None or not all(self.test_readings.subject) else self.test_readings.people()

    def result_notes(self) -> dict[str, Any]:
        """For results.json: what the figures are of."""
        fresh = self._new_calibration().state_dict()
        same = all(torch.equal(fresh[key], value.cpu()) for key, value in self.calibration.state_dict().items())
        return {
            "run/calibrated": not same,
            "run/test_icc_is_of": "raw readings" if same else "readings calibrated on validation people",
            "run/val_icc_is_of": "raw readings",
        }

    def _log_icc(self, stage: str, metric: StreamingICC) -> None:
        values = metric.compute().float()
        metric.reset()
        self.log_dict({f"{stage}/icc/{key}": values[AU_INDEX[int(key[2:])]] for key in AU_KEYS})
        self.log(f"{stage}/icc/mean", values.nanmean(), prog_bar=True)

    def configure_optimizers(self) -> Any:
        """AdamW (no decay on norms and biases), one cycle over the whole training."""
        decayed = [p for p in self.parameters() if p.ndim > 1]
        others = [p for p in self.parameters() if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": self.weight_decay}, {"params": others, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=self.lr)
        steps = self.trainer.estimated_stepping_batches
        if not 0 < steps < float("inf"):
            return optimizer
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=self.lr, total_steps=int(steps), pct_start=self.warmup, div_factor=10.0
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

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
        heads = {"occurrence_head": self.occurrence_head, "expression_head": self.expression_head}
        about = self.card(
            _KIND, backbone=self.backbone_name, size=self.size, scale=[0.0, MAX_INTENSITY], **{**heads, **card}
        )
        save_weights(path, state, about)
        return Path(path)


def expression_figures(confusion: Tensor) -> dict[str, Tensor]:
    """Accuracy, recall of each expression that was shown, and their mean, from a confusion matrix (truth in rows)."""
    counts = confusion.double()
    recall = counts.diagonal() / counts.sum(1)  # NaN where nobody showed it
    shown = {f"test/expression/recall/{name}": value for name, value in zip(EMOTIONS, recall) if value == value}
    if not shown:
        return {}
    return {
        "test/expression/accuracy": (counts.diagonal().sum() / counts.sum()).float(),
        "test/expression/recall/mean": recall.nanmean().float(),
        **{name: value.float() for name, value in shown.items()},
    }


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
    heads: dict[str, Any] = {
        name: field(card, name, bool, where, default=False) for name in ("occurrence_head", "expression_head")
    }
    backbone = field(card, "backbone", str, where, minimum=1, maximum=100)
    size = field(card, "size", int, where, minimum=16, maximum=1024)
    seen = field(card, "images_seen", int, where, minimum=0, default=0)
    try:
        detector = AUDetector(backbone=backbone, size=size, drop_rate=0.0, **heads)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    networks = nn.ModuleDict(
        {
            name: part
            for name, part in detector.named_children()
            if name in ("backbone", "head", "occurrence", "expression", "calibration") and part is not None
        }
    )
    state = {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
    if not any(key.startswith("calibration.") for key in state):  # written before there was one
        state.update({f"calibration.{key}": value for key, value in Calibration().state_dict().items()})
    load_state(networks, state, str(path))
    detector.images_seen = seen
    return detector.eval().requires_grad_(False)
