"""Figures of an AU detector on labelled faces, by flat name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from lit_faces.core.facs import AU_KEYS
from lit_faces.core.sample import FaceBatch
from lit_faces.metrics.agreement import AgreementOverAUs
from lit_faces.metrics.bootstrap import bootstrap_over_subjects
from lit_faces.metrics.classification import OccurrenceOverAUs, auc
from lit_faces.metrics.icc import icc_of_moments, pair_moments

_FEWEST_ACTIVE = 2  # frames in which an AU must be seen, or its ICC on a few frames is an accident


def scores(labels: Tensor, readings: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """ICC(3,1) and mean absolute error by AU, float (19,) each; NaN where an AU is seen in fewer than 2 frames."""
    icc = icc_of_moments(pair_moments(labels, readings)).numpy().astype(np.float64)
    active = ((labels > 0.5).sum(0) >= _FEWEST_ACTIVE).numpy()
    icc[~active] = np.nan
    error = (readings - labels).abs().nanmean(0).numpy().astype(np.float64)
    return icc, error


def detector_figures(
    faces: FaceBatch,
    intensity: Tensor,
    thresholds: Tensor,
    occurrence: Tensor | None = None,
    expression: Tensor | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Every figure of a detector on labelled faces, by flat name.

    ``icc/AU06`` (also ``pcc``, ``ccc``, ``mae``, ``rmse``, ``f1``, ``f1_norm``, ``balanced_accuracy``, ``auc``), and
    ``.../mean``; ``icc/AU06/low`` and ``/high``: 95 % interval over people (BCa); ``expression/accuracy`` where both
    sides have expressions. NaN where an AU is not coded or never varies.

    Args:
        faces: n labelled faces.
        intensity: as read, float (n, 19), 0..5.
        thresholds: of occurrence, float (19,), on what ``occurrence`` holds, or on the intensity where it is None.
        occurrence: as read, logits (n, 19), where the detector has such a head.
        expression: as read, logits (n, 8), likewise.
        resamples: of the bootstrap; 0 leaves the intervals out.
        seed: of the bootstrap.
    """
    truth = faces.au_intensity
    agreement = AgreementOverAUs()
    agreement.update(truth, intensity)
    told = intensity if occurrence is None else occurrence.sigmoid()
    occurs = OccurrenceOverAUs(thresholds)
    occurs.update(faces.au_occurrence, told)
    ranked = auc(faces.au_occurrence, told)
    result: dict[str, Any] = {
        "people": len(set(faces.subject)),
        "faces": len(faces),
        **{name: float(value) for name, value in agreement.compute().items()},
        **{name: float(value) for name, value in occurs.compute().items()},
        **{f"auc/{key}": float(value) for key, value in zip(AU_KEYS, ranked)},
        "auc/mean": float(ranked.nanmean()),
    }
    if resamples and result["people"] > 1:
        columns = {"labels": truth, "predictions": intensity}
        each = bootstrap_over_subjects("icc", columns, faces.subject, resamples, seed=seed)
        mean = bootstrap_over_subjects("icc", columns, faces.subject, resamples, seed=seed, mean=True)
        for key, low, high in zip((*AU_KEYS, "mean"), (*each.low, mean.low), (*each.high, mean.high)):
            result[f"icc/{key}/low"], result[f"icc/{key}/high"] = float(low), float(high)
    coded = faces.emotion >= 0
    if expression is not None and bool(coded.any()):
        right = expression.argmax(1)[coded] == faces.emotion[coded]
        result["expression/accuracy"] = float(right.double().mean())
    return result


def table(result: Mapping[str, Any]) -> str:
    """Markdown: AUs in rows."""

    def cell(name: str) -> str:
        value = result.get(name, float("nan"))
        return "-" if value != value else f"{value:.2f}"

    lines = [f"{result['faces']} faces of {result['people']} people", ""]
    lines += ["| AU | ICC(3,1) | 95 % over people | MAE | F1 | F1 norm | AUC |", "|---|---|---|---|---|---|---|"]
    for key in (*AU_KEYS, "mean"):
        names = [f"{name}/{key}" for name in ("icc", "mae", "f1", "f1_norm", "auc")]
        if all(cell(name) == "-" for name in names):
            continue
        interval = f"{cell(f'icc/{key}/low')} to {cell(f'icc/{key}/high')}"
        cells = [cell(name) for name in names]
        lines.append("| " + " | ".join([key, cells[0], interval, *cells[1:]]) + " |")
    if "expression/accuracy" in result:
        lines += ["", f"expressions named rightly: {result['expression/accuracy']:.2f}"]
    return "\n".join(lines) + "\n"
