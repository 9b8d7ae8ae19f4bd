r"""Agreement of read and coded intensities, AU by AU, besides the ICC: PCC, CCC, MAE, MSE and RMSE.

With label a, prediction b, error d = b - a, means m and (population) variances v over the coded frames:

    PCC  = cov(a, b) / sqrt(v_a v_b)                     Pearson; blind to a wrong scale and level
    CCC  = 2 cov(a, b) / (v_a + v_b + (m_a - m_b)^2)     concordance, Lin 1989; forgives neither
    MAE  = mean abs(d)      MSE = mean d^2      RMSE = sqrt(MSE)

All follow from the moments of :mod:`lit_faces.metrics.icc`, that is from global sums: batches, ranks and people add up
exactly.  torchmetrics' PearsonCorrCoef and ConcordanceCorrCoef turn NaN as soon as one frame is not coded, hence ours.

**NaN where undefined**, never 0: PCC and CCC where the label never varies, PCC where the prediction never varies (a CCC
is 0 then, like the ICC), the errors where nothing is coded.  The errors of an AU that is coded and never varies are
defined, but cheap: they reward a detector that always says 0, so they are left out of the means over AUs.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from lit_faces.core.facs import AU_KEYS
from lit_faces.metrics.icc import Kind, PairMoments, check_kind, icc_of_moments, mean_of_defined


def _varies(low: Tensor, high: Tensor) -> Tensor:
    return low < high  # nothing coded is (inf, -inf)


def label_varies(moments: Tensor) -> Tensor:
    """Where the coded labels are not all the same: (..., 12, C) -> bool (..., C)."""
    return _varies(moments[..., 8, :], moments[..., 10, :])


def pcc_of_moments(moments: Tensor) -> Tensor:
    """Pearson's correlation: (..., 12, C) -> float64 (..., C), -1..1, NaN where label or prediction never varies."""
    _, _, _, aa, bb, _, ab, _, _, low, _, high = moments.unbind(-2)
    value = (ab / (aa.sqrt() * bb.sqrt())).clamp(-1.0, 1.0)
    return torch.where(label_varies(moments) & _varies(low, high), value, float("nan"))


def ccc_of_moments(moments: Tensor) -> Tensor:
    """Concordance (Lin 1989): (..., 12, C) -> float64 (..., C), -1..1, NaN where the label never varies."""
    n, _, mean_d, aa, bb, _, ab, *_ = moments.unbind(-2)
    return torch.where(label_varies(moments), 2 * ab / (aa + bb + n * mean_d**2), float("nan"))


def mae_of_moments(moments: Tensor) -> Tensor:
    """Mean absolute error: (..., 12, C) -> float64 (..., C), unit of the values, NaN where nothing is coded."""
    return moments[..., 7, :] / moments[..., 0, :]


def mse_of_moments(moments: Tensor) -> Tensor:
    """Mean squared error: (..., 12, C) -> float64 (..., C), squared unit of the values, NaN where nothing is coded."""
    n, _, mean_d, _, _, dd, *_ = moments.unbind(-2)
    return torch.where(n > 0, dd / n + mean_d**2, float("nan"))


def rmse_of_moments(moments: Tensor) -> Tensor:
    """Square root of :func:`mse_of_moments`."""
    return mse_of_moments(moments).sqrt()


class _Agreement(PairMoments):
    """One formula, column by column."""

    formula: ClassVar[Any]  # moments (..., 12, C) -> (..., C)

    def compute(self) -> Tensor:
        """Value of each column, float64 (num_outputs,), a scalar for one column; NaN where undefined."""
        return type(self).formula(self.moments)


class PCC(_Agreement):
    """Pearson's correlation of each column; ``PCC(num_outputs)``."""

    higher_is_better = True
    formula = staticmethod(pcc_of_moments)


class CCC(_Agreement):
    """Concordance correlation of each column; ``CCC(num_outputs)``."""

    higher_is_better = True
    formula = staticmethod(ccc_of_moments)


class MAE(_Agreement):
    """Mean absolute error of each column; ``MAE(num_outputs)``."""

    higher_is_better = False
    formula = staticmethod(mae_of_moments)


class MSE(_Agreement):
    """Mean squared error of each column; ``MSE(num_outputs)``."""

    higher_is_better = False
    formula = staticmethod(mse_of_moments)


class RMSE(_Agreement):
    """Root mean squared error of each column; ``RMSE(num_outputs)``."""

    higher_is_better = False
    formula = staticmethod(rmse_of_moments)


class AgreementOverAUs(PairMoments):
    """Everything above and the ICC of the 19 AUs, in one pass.

    Args:
        kind: of ICC, see :mod:`lit_faces.metrics.icc`.
    """

    higher_is_better = None
    figures = {"icc": True, "pcc": True, "ccc": True, "mae": False, "rmse": False}

    def __init__(self, kind: Kind = "3,1") -> None:
        super().__init__(len(AU_KEYS))
        check_kind(kind)
        self.kind = kind

    def compute(self) -> dict[str, Tensor]:
        """Flat dict of scalars: ``icc/AU01`` ..., ``icc/mean``, and so for ``pcc``, ``ccc``, ``mae`` and ``rmse``.

        The means are over the AUs whose label varies, the same ones for each figure but the PCC, which also needs
        predictions that vary.
        """
        varies, result = label_varies(self.moments), {}
        columns = {
            "icc": icc_of_moments(self.moments, self.kind),
            "pcc": pcc_of_moments(self.moments),
            "ccc": ccc_of_moments(self.moments),
            "mae": mae_of_moments(self.moments),
            "rmse": rmse_of_moments(self.moments),
        }
        for name, values in columns.items():
            result.update({f"{name}/{key}": value for key, value in zip(AU_KEYS, values)})
            result[f"{name}/mean"] = mean_of_defined(torch.where(varies, values, float("nan")))
        return result
