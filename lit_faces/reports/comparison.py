"""Runs side by side on one page: pictures first, then figures, curves, and what each was made with."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from lit_faces.core.facs import AU_KEYS
from lit_faces.reports.page import Page
from lit_faces.reports.pictures import save_figure
from lit_faces.reports.runs import Run
from lit_faces.reports.tracking import direction

_CURVES = 12


def write_report(runs: list[Run], out: Path, pictures: int = 16) -> Path:
    """Write the page.

    Args:
        runs: one or more.
        out: HTML file.
        pictures: of each run, at most.

    Returns:
        ``out``.
    """
    page = Page(runs[0].name if len(runs) == 1 else f"{len(runs)} runs compared")
    if len(runs) > 1:
        page.text("Runs, in this order: " + "; ".join(run.name for run in runs))
    _pictures(page, runs, pictures)
    _tables(page, runs)
    with tempfile.TemporaryDirectory() as folder:
        plot = curves_plot(runs, Path(folder) / "curves.png")
        if plot is not None:
            page.heading("Training")
            page.picture(plot, "Curves of metrics.csv, one colour a run.")
    page.heading("What it was made with")
    names = list(dict.fromkeys(key for run in runs for key in run.facts))
    rows = [(name, *(_short(run.facts.get(name)) for run in runs)) for name in names]
    page.table(("", *(run.name for run in runs)), rows)
    return page.write(out)


def _pictures(page: Page, runs: list[Run], most: int) -> None:
    """Each picture of all runs that have it, side by side."""
    names = list(dict.fromkeys(name for run in runs for name in run.pictures))
    if names:
        page.heading("Pictures")
    for name in names[:most]:
        shown = [
            (run.pictures[name], f"{run.name}: {name}" if len(runs) > 1 else name)
            for run in runs
            if name in run.pictures
        ]
        page.pictures(shown)
    if len(names) > most:
        page.text(f"{len(names) - most} more pictures are in the folders (--pictures).")


def _tables(page: Page, runs: list[Run]) -> None:
    """Figures: those by AU as a table of AUs, the others one a line."""
    names = list(dict.fromkeys(key for run in runs for key in run.figures))
    stems = list(dict.fromkeys(name.rsplit("/", 1)[0] for name in names if name.rsplit("/", 1)[-1] in AU_KEYS))
    plain = [name for name in names if not any(part in AU_KEYS for part in name.split("/"))]
    if plain:
        page.heading("Figures")
        if len(runs) > 1:
            page.text("Of each figure the best run is bold and green, the worst red, where one end of it is better.")
        marks = dict[tuple[int, int], str]()
        for line, name in enumerate(plain):
            marks |= _best_and_worst(runs, name, line, 1)
        page.table(("", *(run.name for run in runs)), [(n, *(_cell(run, n) for run in runs)) for n in plain], (), marks)
    if stems:
        page.heading("By Action Unit")
        head = ["AU", *(f"{stem}: {run.name}" if len(runs) > 1 else stem for stem in stems for run in runs)]
        keys = [
            key for key in (*AU_KEYS, "mean") if any(_cell(run, f"{s}/{key}") != "-" for s in stems for run in runs)
        ]
        rows = [(key, *(_cell(run, f"{stem}/{key}") for stem in stems for run in runs)) for key in keys]
        marks = dict[tuple[int, int], str]()
        for line, key in enumerate(keys):
            for block, stem in enumerate(stems):
                marks |= _best_and_worst(runs, f"{stem}/{key}", line, 1 + block * len(runs))
        page.table(head, rows, (), marks)


def _best_and_worst(runs: list[Run], name: str, line: int, first: int) -> dict[tuple[int, int], str]:
    """Marks of a row whose runs begin at column ``first``; none where all are alike or neither end is better."""
    better = direction(name)
    known = {k: run.figures[name] for k, run in enumerate(runs) if np.isfinite(run.figures.get(name, np.nan))}
    if better is None or len({_cell(runs[k], name) for k in known}) < 2:
        return {}
    low, high = min(known.values()), max(known.values())
    best, worst = (high, low) if better == "max" else (low, high)
    named = {best: "best", worst: "worst"}
    return {(line, first + k): named[value] for k, value in known.items() if value in named}


def _cell(run: Run, name: str) -> str:
    value = run.figures.get(name, float("nan"))
    return "-" if value != value else f"{value:.4g}"


def _short(value: Any) -> str:
    if value is None:
        return "-"
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _moves(points: list[tuple[float, float]]) -> bool:
    """Whether there is anything to see: two numbers, not all the same."""
    values = [value for _, value in points if np.isfinite(value)]
    return len(values) > 1 and max(values) > min(values)


def curves_plot(runs: list[Run], path: Path) -> Path | None:
    """What moved in training, one plot a figure, one line a run.

    Args:
        runs: with their curves.
        path: PNG to write.

    Returns:
        ``path``; None where nothing moved, and nothing is written.

    Raises:
        OSError: it cannot be written.
    """
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(name for run in runs for name, points in run.curves.items() if _moves(points)))
    names = sorted(names, key=lambda name: (not name.startswith("val/"), names.index(name)))[:_CURVES]
    if not names:
        return None
    columns = min(3, len(names))
    lines = -(-len(names) // columns)
    figure = Figure(figsize=(4 * columns, 2.6 * lines), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False)
    for axes, name in zip(grid.flat, names):
        for number, run in enumerate(runs):
            points = run.curves.get(name, [])
            axes.plot([p[0] for p in points], [p[1] for p in points], color=f"C{number}", label=run.name, linewidth=1.2)
        axes.set_title(name, fontsize=9)
    for axes in list(grid.flat)[len(names) :]:
        axes.set_axis_off()
    if len(runs) > 1:
        figure.legend(*grid.flat[0].get_legend_handles_labels(), loc="outside upper center", fontsize=8)
    return save_figure(figure, path)
