"""The detector as one compiled function, for long videos.

Following faces holds Python's lock for milliseconds at a time (dlib's detector does). A network that runs operation by
operation asks for that lock between any two of them and would wait for most of its time; compiled, with normalisation
folded into the convolutions, it asks once a batch.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lit_faces.models.detector import DetectorNetwork, Reading
from lit_faces.persons.gate import Gate
from lit_faces.tasks.black_box import FaceReader

_CHUNK = 8  # crops that go through the backbone at once: more leave the processor's cache and take a fifth longer
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
    def of(cls, reading: Reading, detector: FaceReader | Gate) -> CropReadings:
        """On the CPU, as arrays."""
        expression = None if reading.expression is None else reading.expression.softmax(1).cpu().numpy()
        return cls(reading.intensity.cpu().numpy(), detector.occurs(reading).cpu().numpy(), expression)


class CropReader:
    """Reads crops as a detector does, or as a gate does: each face as its own person's.

    Args:
        detector: whose readings.
        compiled: worth it from a few hundred crops on; only where our own detector runs on the CPU, and only if what
            is compiled reads as the detector does.
    """

    def __init__(self, detector: FaceReader | Gate, compiled: bool = True) -> None:
        self.detector = detector
        self._backbone: torch.jit.ScriptModule | None = None
        if compiled and isinstance(detector, DetectorNetwork) and detector.device.type == "cpu":
            self._backbone = _compiled(detector)

    @torch.inference_mode()
    def __call__(self, crops: Tensor, names: Sequence[str] = ()) -> CropReadings:
        """Read crops uint8 (B, 3, S, S).

        Args:
            crops: the faces.
            names: whose they are, where there is a gate.
        """
        detector = self.detector
        if isinstance(detector, Gate):
            return CropReadings.of(detector.predict_as(crops, names), detector)
        if self._backbone is None or not isinstance(detector, DetectorNetwork):
            return CropReadings.of(detector.predict(crops), detector)
        return CropReadings.of(_read(detector, self._backbone, crops), detector)


class _Backbone(nn.Module):
    """Crops uint8 (B, 3, S, S) to features (B, D)."""

    def __init__(self, detector: DetectorNetwork) -> None:
        super().__init__()
        self.backbone = detector.backbone

    def forward(self, crops: Tensor) -> Tensor:
        """B crops to their features."""
        features: Tensor = self.backbone(crops.float() / 127.5 - 1.0)
        return features


def _read(detector: DetectorNetwork, backbone: torch.jit.ScriptModule, crops: Tensor) -> Reading:
    reading = detector.reading_beside(torch.cat([backbone(chunk) for chunk in crops.split(_CHUNK)]))
    reading.intensity = detector.calibration(reading.intensity)
    return reading


def _compiled(detector: DetectorNetwork) -> torch.jit.ScriptModule | None:
    """Traced and frozen; None where that fails, or reads otherwise than :meth:`DetectorNetwork.predict`."""
    shape = (3, 3, detector.size, detector.size)
    crops = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    training = detector.training
    detector.eval()
    try:
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")  # of torch about its own compiler
            backbone = torch.jit.freeze(torch.jit.trace(_Backbone(detector).eval(), crops[:2], check_trace=False))
            theirs, ours = detector.predict(crops), _read(detector, backbone, crops)
    except (RuntimeError, ValueError, AttributeError, TypeError):  # a backbone that cannot be traced
        return None
    finally:
        detector.train(training)
    pairs = [(one, other) for one, other in zip(vars(theirs).values(), vars(ours).values()) if one is not None]
    same = all(other is not None and torch.allclose(one, other, atol=_SAME) for one, other in pairs)
    return backbone if same else None
