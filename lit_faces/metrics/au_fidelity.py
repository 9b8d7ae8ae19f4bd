"""AU fidelity: does a generated face show the Action Units that were asked, and no others?

The judge's reading of the generated image is compared with what was asked (ICC(3,1) and mean absolute error), and its
*change* against the source image is summed up where no change was asked (leak).  The judge is a trained detector with
errors of its own: print its own accuracy beside every figure.

Morphology looks like expression: half of a judge's error is the same on every picture of a person. ``icc_neutral``
reads the *change* against the source picture, added to the source's known AUs (neutral-frame subtraction, as in
OpenFace: Baltrusaitis et al. 2015), for the generated and for the real frames alike.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lit_faces.core.facs import AU_KEYS, MAX_INTENSITY, NUM_AUS
from lit_faces.metrics.icc import Kind, StreamingICC, check_pair, mean_of_defined

UNCHANGED = 0.25  # an AU was "not asked to change" when asked and source intensity differ by at most this


class AUFidelity(StreamingICC):
    """ICC, mean absolute error and leak of each AU.

    Args:
        kind: of ICC, see :mod:`lit_faces.metrics.icc`.
        unchanged: largest difference, in FACS grades, between the asked and the source's intensity that counts as "not
            asked to change".
    """

    higher_is_better = None
    figures = {"icc": True, "icc_neutral": True, "mae": False, "leak": False}
    error_sum: Tensor
    error_count: Tensor
    leak_sum: Tensor
    leak_count: Tensor

    def __init__(self, kind: Kind = "3,1", unchanged: float = UNCHANGED) -> None:
        super().__init__(2 * NUM_AUS, kind)  # the reading as it is, and relative to the source's
        self.unchanged = unchanged
        for name in ("error_sum", "error_count", "leak_sum", "leak_count"):
            self.add_state(name, torch.zeros(NUM_AUS, dtype=torch.float64), dist_reduce_fx="sum")

    def update(  # type: ignore[override]
        self, asked: Tensor, judged: Tensor, source_asked: Tensor, source_judged: Tensor
    ) -> None:
        """Add a batch of generated images.

        Args:
            asked: intensities asked for, 0..5, float (B, 19), NaN = not asked.
            judged: the judge's reading of the generated images, 0..5, float (B, 19).
            source_asked: true intensities of the source images, 0..5, float (B, 19), NaN = not coded.
            source_judged: the judge's reading of the source images, 0..5, float (B, 19).

        Raises:
            ValueError: a shape is another.
        """
        for other in (judged, source_asked, source_judged):
            check_pair(asked, other, NUM_AUS)
        known = asked.masked_fill(source_asked.isnan(), float("nan"))
        relative = (judged - source_judged + source_asked.nan_to_num(0.0)).clamp(0.0, MAX_INTENSITY)
        super().update(torch.cat([asked, known], 1), torch.cat([judged, relative], 1))
        self._add("error", (judged - asked).abs())
        change = (judged - source_judged).abs()
        still = (asked - source_asked).abs() <= self.unchanged  # False where either is NaN
        self._add("leak", torch.where(still, change, float("nan")))

    def _add(self, name: str, values: Tensor) -> None:
        """Sum and count of the values that are not NaN, by column."""
        known = torch.isfinite(values)
        getattr(self, f"{name}_sum").add_(torch.where(known, values, 0.0).double().sum(0))
        getattr(self, f"{name}_count").add_(known.sum(0))

    def compute(self) -> dict[str, Tensor]:  # type: ignore[override]
        """Flat dict of scalars: ``icc/AU06`` ..., ``icc/mean``, and so for ``icc_neutral``, ``mae`` and ``leak``.

        MAE and leak are in FACS grades.  NaN where undefined; the means are over the AUs where a value is defined.
        """
        icc, relative = super().compute().split(NUM_AUS)
        columns = {
            "icc": icc,
            "icc_neutral": relative,
            "mae": (self.error_sum / self.error_count).float(),
            "leak": (self.leak_sum / self.leak_count).float(),
        }
        result = {f"{name}/{key}": value for name, values in columns.items() for key, value in zip(AU_KEYS, values)}
        result.update({f"{name}/mean": mean_of_defined(values) for name, values in columns.items()})
        return result
