"""Plots of what a detector read, and of the people it read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from lit_faces.core.csv_files import csv_bytes
from lit_faces.core.facs import AU_KEYS, EMOTIONS
from lit_faces.core.files import replace_file
from lit_faces.metrics.icc import icc_of_moments, pair_moments
from lit_faces.metrics.readings import Readings
from lit_faces.reports.pictures import save_figure
from lit_faces.reports.tracking import direction


def write_people(rows: list[dict[str, Any]], path: Path) -> Path:
    """The rows as CSV, atomically; undefined figures stay empty."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    defined = [{k: round(v, 5) if isinstance(v, float) else v for k, v in row.items() if v == v} for row in rows]
    replace_file(path, csv_bytes(columns, defined))
    return path


def plot_readings(result: dict[str, Any], intensity: Tensor, readings: Tensor, out: Path) -> list[Path]:
    """``icc.png``: bars with intervals; ``calibration.png``: what is read at each labelled intensity.

    Args:
        result: ``icc/AU06`` ... and, where known, ``icc/AU06/low`` and ``/high``.
        intensity: float (n, 19), 0..5, NaN = not coded.
        readings: float (n, 19), 0..5.
        out: folder.
    """
    from matplotlib.figure import Figure

    keys = [key for key in AU_KEYS if result[f"icc/{key}"] == result[f"icc/{key}"]]
    values = np.array([result[f"icc/{key}"] for key in keys])
    ends = np.array([[result.get(f"icc/{key}/{end}", np.nan) for key in keys] for end in ("low", "high")])
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    axes = figure.subplots()
    axes.bar(keys, values, color="#4878a8")
    spread = np.nan_to_num(np.abs(ends - values))
    axes.errorbar(keys, values, yerr=spread, fmt="none", ecolor="black", capsize=3)
    axes.set_ylabel("ICC(3,1), 95 % over people")
    axes.set_ylim(min(0.0, float(np.nanmin([*ends[0], *values, 0]))), 1)
    axes.tick_params(axis="x", rotation=60)
    written = [save_figure(figure, out / "icc.png")]
    columns = min(5, max(1, len(keys)))
    rows = -(-len(keys) // columns) or 1
    figure = Figure(figsize=(2 * columns, 2 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes, key in zip(grid.flat, keys):
        column = AU_KEYS.index(key)
        truth, found = intensity[:, column].numpy(), readings[:, column].numpy()
        known = ~np.isnan(truth)
        axes.plot([0, 5], [0, 5], color="grey", linewidth=0.8)
        axes.scatter(truth[known], found[known], s=4, alpha=0.3, linewidths=0)
        places = np.unique(np.round(truth[known]))
        medians = [np.median(found[known & (np.round(truth) == grade)]) for grade in places]
        axes.plot(places, medians, color="#b04a3a", marker="o", markersize=3)
        axes.set_title(f"{key} {result[f'icc/{key}']:.2f}", fontsize=9)
    for axes in grid.flat[len(keys) :]:
        axes.set_axis_off()
    figure.supxlabel("labelled intensity")
    figure.supylabel("read (red: median by grade)")
    written.append(save_figure(figure, out / "calibration.png"))
    return written


def confusion_plot(truth: Tensor, read: Tensor, path: Path) -> Path:
    """Confusion of expressions, rows summing to one, with the counts."""
    from matplotlib.figure import Figure

    counts = np.zeros((len(EMOTIONS), len(EMOTIONS)))
    coded = truth >= 0
    np.add.at(counts, (truth[coded].numpy(), read[coded].numpy()), 1)
    share = counts / counts.sum(1, keepdims=True).clip(1)
    figure = Figure(figsize=(6, 5.4), layout="constrained")
    axes = figure.subplots()
    axes.imshow(share, vmin=0, vmax=1, cmap="Blues")
    for (row, column), value in np.ndenumerate(share):
        if counts[row].sum():
            colour = "white" if value > 0.5 else "black"
            axes.text(
                column,
                row,
                f"{value:.2f}\n{counts[row, column]:.0f}",
                ha="center",
                va="center",
                fontsize=7,
                color=colour,
            )
    axes.set_xticks(range(len(EMOTIONS)), EMOTIONS, rotation=45, ha="right")
    axes.set_yticks(range(len(EMOTIONS)), EMOTIONS)
    axes.set_xlabel("read")
    axes.set_ylabel("shown")
    return save_figure(figure, path)


def people_plot(rows: list[dict[str, Any]], figure_name: str, path: Path) -> Path:
    """One figure of every person, the worst first."""
    from matplotlib.figure import Figure

    known = sorted(
        ((row[figure_name], row["subject"]) for row in rows if row.get(figure_name) == row.get(figure_name)),
        reverse=direction(figure_name) == "min",
    )
    figure = Figure(figsize=(7, 2.8), layout="constrained")
    axes = figure.subplots()
    axes.bar(range(len(known)), [value for value, _ in known], color="#4878a8")
    if len(known) <= 30:
        axes.set_xticks(range(len(known)), [name for _, name in known], rotation=60, fontsize=7, ha="right")
    axes.set_xlabel(f"{len(known)} people, the worst first")
    axes.set_ylabel(figure_name)
    return save_figure(figure, path)


def detector_plots(readings: Readings, folder: Path) -> None:
    """ICC and calibration of a detector's test where AUs are coded, confusion where expressions are labelled."""
    values = icc_of_moments(pair_moments(readings.truth, readings.read))
    result = {f"icc/{key}": float(value) for key, value in zip(AU_KEYS, values)}
    if any(value == value for value in result.values()):
        plot_readings(result, readings.truth, readings.read, folder)
    if readings.expression is not None and bool((readings.emotion >= 0).any()):
        confusion_plot(readings.emotion, readings.expression, folder / "expressions.png")
