"""What a detector's figures are made of: validation, calibration and test."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from lit_faces.core.facs import AU_INDEX, AU_KEYS, EMOTIONS
from lit_faces.core.ranks import gather
from lit_faces.core.sample import FaceBatch
from lit_faces.losses.action_units import masked_mse
from lit_faces.metrics.classification import OccurrenceOverAUs, choose_thresholds
from lit_faces.metrics.icc import StreamingICC
from lit_faces.metrics.means import WeightedMeans
from lit_faces.metrics.readings import Readings
from lit_faces.models.detector import Reading
from lit_faces.models.heads import NUM_EXPRESSIONS, Calibration, LogitHead
from lit_faces.tasks.base import FaceTask


def _to_calibrate(reading: Reading, batch: FaceBatch) -> Tensor:
    """(4, n, 19) on the CPU: intensity, its truth, occurrence score, its truth."""
    scores = reading.intensity if reading.occurrence is None else reading.occurrence.sigmoid()
    row = reading.intensity, batch.au_intensity, scores, batch.au_occurrence
    return torch.stack([x.detach().float().cpu() for x in row])


class MeasuredDetector(FaceTask):
    """Validation and test of whatever reads AUs on a batch; a subclass says how it reads, and trains it.

    Attributes:
        calibrate: whether scale and thresholds are fitted on the validation people after each epoch of a fit.
        calibration: scale and thresholds.
        occurrence, expression: heads besides that of intensity, or None.
    """

    calibrate: bool
    calibration: Calibration
    occurrence: LogitHead | None
    expression: LogitHead | None

    @abstractmethod
    def read(self, image: Tensor) -> Reading:
        """Pictures float (B, 3, S, S) in [-1, 1] -> what every head reads, intensities not yet calibrated."""

    @abstractmethod
    def occurs(self, reading: Reading) -> Tensor:
        """Occurrence 0/1, float32 (B, 19)."""

    @abstractmethod
    def _new_calibration(self) -> Calibration:
        """An unfitted one."""

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

    def validation_step(self, batch: FaceBatch, batch_idx: int) -> None:
        """Collect the sums of the ICC, and what calibration needs."""
        reading = self.read(batch.image_float())
        self.val_icc.update(batch.au_intensity, reading.intensity)
        known = batch.au_intensity.isfinite()
        error = masked_mse(reading.intensity, batch.au_intensity)
        self.val_mse.update({"mse": (error, known.sum().double())})
        if self.calibrate:
            self._seen_in_validation.append(_to_calibrate(reading, batch))

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

    @torch.no_grad()
    def fit_calibration(self, faces: FaceBatch, batch_size: int = 64) -> None:
        """Fit scale, shift and thresholds on labelled faces, as each epoch of a fit does on the validation people."""
        parts = [faces.select(slice(k, k + batch_size)).to(self.device) for k in range(0, len(faces), batch_size)]
        self._calibrate(torch.cat([_to_calibrate(self.read(part.image_float()), part) for part in parts], 1))

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
