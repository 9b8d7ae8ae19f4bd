"""The detector as one compiled function, for long videos.

dlib's predictor holds Python's lock for a millisecond at a time. A network that runs operation by operation asks for
that lock between any two of them and would wait for most of its time; compiled, with normalisation folded into the
convolutions, it asks once a batch.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lit_faces.tasks.au_detector import AUDetector, Reading

_SAME = 1e-3  # largest difference to the detector itself that is let through; 1e-5 is usual


@dataclass
class CropReadings:
    """What is read on crops.

    Attributes:
        intensity: float32 (B, 19), calibrated.
        present: float32 (B, 19), 0 or 1.
        expression: float32 (B, 8), probabilities; None from a detector that reads none.
    """

    intensity: NDArray[np.float32]
    present: NDArray[np.float32]
    expression: NDArray[np.float32] | None

    @classmethod
    def of(cls, reading: Reading, detector: AUDetector) -> CropReadings:
        """On the CPU, as arrays."""
        expression = None if reading.expression is None else reading.expression.softmax(1).cpu().numpy()
        return cls(reading.intensity.cpu().numpy(), detector.occurs(reading).cpu().numpy(), expression)


class CropReader:
    """Reads crops as a detector does.

    Args:
        detector: whose readings.
        compiled: worth it from a few hundred crops on; only where the detector runs on the CPU, and only if what
            is compiled reads as the detector does.
    """

    def __init__(self, detector: AUDetector, compiled: bool = True) -> None:
        self.detector = detector
        self._heads: torch.jit.ScriptModule | None = None
        if compiled and detector.device.type == "cpu":
            self._heads = _compiled(detector)

    @torch.inference_mode()
    def __call__(self, crops: Tensor) -> CropReadings:
        """Read crops uint8 (B, 3, S, S)."""
        if self._heads is None:
            return CropReadings.of(self.detector.predict(crops), self.detector)
        return CropReadings.of(_read(self.detector, self._heads, crops), self.detector)


class _Heads(nn.Module):
    """Backbone and heads: crops uint8 (B, 3, S, S) to what the heads say; empty where there is no such head."""

    def __init__(self, detector: AUDetector) -> None:
        super().__init__()
        self.backbone, self.head = detector.backbone, detector.head
        self.occurrence, self.expression = detector.occurrence, detector.expression

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """B crops to intensities (B, 19), not calibrated, and two logits, (B, 19) and (B, 8)."""
        features = self.backbone(crops.float() / 127.5 - 1.0)
        none = crops.new_zeros(0, dtype=torch.float32)
        occurrence = none if self.occurrence is None else self.occurrence(features)
        return self.head(features), occurrence, none if self.expression is None else self.expression(features)


def _read(detector: AUDetector, heads: torch.jit.ScriptModule, crops: Tensor) -> Reading:
    intensity, *others = heads(crops)
    occurrence, expression = (one if one.numel() else None for one in others)
    return Reading(detector.calibration(intensity), occurrence, expression)


def _compiled(detector: AUDetector) -> torch.jit.ScriptModule | None:
    """Traced and frozen; None where that fails, or reads otherwise than :meth:`AUDetector.predict`."""
    shape = (3, 3, detector.size, detector.size)
    crops = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    training = detector.training
    detector.eval()
    try:
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")  # of torch about its own compiler
            heads = torch.jit.freeze(torch.jit.trace(_Heads(detector).eval(), crops[:2], check_trace=False))
            theirs, ours = detector.predict(crops), _read(detector, heads, crops)
    except (RuntimeError, ValueError, AttributeError, TypeError):  # a backbone that cannot be traced
        return None
    finally:
        detector.train(training)
    pairs = [(one, other) for one, other in zip(vars(theirs).values(), vars(ours).values()) if one is not None]
    same = all(other is not None and torch.allclose(one, other, atol=_SAME) for one, other in pairs)
    return heads if same else None
