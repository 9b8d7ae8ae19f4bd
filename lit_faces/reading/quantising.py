"""An ONNX file with convolutions in whole numbers of 8 bits: smaller, faster on CPUs.

What it costs is measured, not assumed: ICC(3,1) on rendered strangers, whose AUs are known, of the file before and
after; it is let through only where that is next to nothing. Scales are set on other rendered people.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_faces.core.sample import FaceBatch
from lit_faces.metrics.detector import scores
from lit_faces.rendering.renderer import render_population

MOST = 0.005  # ICC(3,1), mean over the AUs, that it may cost
_SCALES = (2_010_000, 96, 2)  # first subject, faces, faces of each: what the scales are set on
_MEASURED = (2_020_000, 240, 4)
_BATCH = 8


@dataclass(frozen=True)
class Cost:
    """What 8 bits cost.

    Attributes:
        before: ICC(3,1) of the file in floats, mean over the AUs.
        after: of the file in whole numbers.
        worst: largest loss of one AU.
        faces: that were read.
    """

    before: float
    after: float
    worst: float
    faces: int

    @property
    def icc(self) -> float:
        """What it costs in the mean; negative where it gains."""
        return self.before - self.after


def quantise(path: Path, size: int) -> Cost:
    """Put whole numbers in the place of a file's floats.

    Args:
        path: ONNX file of :func:`lit_faces.reading.exporting.export`; replaced.
        size: side of the crops, pixels.

    Raises:
        ModuleNotFoundError: ``onnxruntime`` is not installed.
        ValueError: it would cost more than :data:`MOST`; the file is as it was.
    """
    from onnxruntime import quantization

    rest, test = (render_population(size, *which) for which in (_SCALES, _MEASURED))
    with TemporaryDirectory() as folder:
        prepared, small = Path(folder) / "prepared.onnx", Path(folder) / "small.onnx"
        quantization.quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
        quantization.quantize_static(
            str(prepared), str(small), _Crops(rest.image), quant_format=quantization.QuantFormat.QDQ,
            per_channel=True, activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8, op_types_to_quantize=["Conv"],
            calibrate_method=quantization.CalibrationMethod.Entropy,
        )  # fmt: skip
        cost = _cost(test, _read(path, test.image), _read(small, test.image))
        if not cost.icc <= MOST:
            raise ValueError(
                f"--int8: costs {cost.icc:.3f} of ICC(3,1) ({cost.before:.3f} to {cost.after:.3f} on {cost.faces} "
                f"rendered faces), more than {MOST}; nothing was written; leave it out"
            )
        path.write_bytes(small.read_bytes())
    return cost


class _Crops:
    """What onnxruntime asks for batches; a plain object with ``get_next`` is enough for it."""

    def __init__(self, images: Tensor) -> None:
        self._batches: Iterator[Tensor] = iter(images.split(_BATCH))

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"crop": batch.float().numpy()}


def _read(path: Path, images: Tensor) -> Tensor:
    """Intensities (n, 19) that a file reads."""
    import onnxruntime

    session: Any = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    parts = [session.run(["intensity"], {"crop": batch.float().numpy()})[0] for batch in images.split(_BATCH)]
    return torch.from_numpy(np.concatenate(parts))


def _cost(faces: FaceBatch, before: Tensor, after: Tensor) -> Cost:
    one, other = (scores(faces.au_intensity, readings)[0] for readings in (before, after))
    known = np.isfinite(one) & np.isfinite(other)
    return Cost(float(one[known].mean()), float(other[known].mean()), float((one - other)[known].max()), len(faces))
