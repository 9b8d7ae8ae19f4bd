"""Tools compared on one set of labels: ICC, MAE and F1 of each, on the frames that all of them could be asked about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lit_faces.core.facs import AU_KEYS, NUM_AUS
from lit_faces.core.files import replace_file
from lit_faces.core.inputs import read_file
from lit_faces.core.options import check_out
from lit_faces.core.sample import FaceBatch
from lit_faces.core.tables import TABLE, LabelRow, read_table
from lit_faces.metrics.detector import detector_figures, table
from lit_faces.reading.foreign import ToolReadings, read_readings
from lit_faces.reports.plots import plot_readings
from lit_faces.reports.results import circumstances, write_json

_SURE = 10.0  # logit that stands for "present"


@dataclass
class Comparison:
    """What was found.

    Attributes:
        table: Markdown.
        figures: by tool and flat name.
        notes: what a user should know.
        files: that were written.
    """

    table: str
    figures: dict[str, dict[str, Any]]
    notes: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)


def compare(
    readings: Sequence[Path], labels: Path, out: Path | None = None, resamples: int = 1000, seed: int = 0
) -> Comparison:
    """Evaluate tables of readings on labels.

    Rows meet by file name where both have names in common, else by frame number (from 0, as everywhere here;
    OpenFace's, which count from 1, are moved). A labelled frame that a tool gave no reading for is left out of its
    figures, and counted.

    Args:
        readings: tables that ``predict``, OpenFace or py-feat wrote.
        labels: ``labels.csv``, or the folder that holds it; of one video ``frame`` is enough, without ``file``.
        out: folder for results.json, table.md and the plots of each.
        resamples: of the bootstrap over people; 0: no intervals.
        seed: of the bootstrap.

    Raises:
        FileNotFoundError, OSError: no such file.
        ValueError: a table that cannot be read; no row of it meets a label.
    """
    if out is not None:
        check_out(out)
    truth = _labels(labels)
    found = Comparison("", {})
    for path in readings:
        tool = read_readings(path)
        name = _new_name(tool.tool, found.figures)
        faces, intensity, present = _meet(truth, tool, labels, found.notes)
        half = torch.full((NUM_AUS,), 0.5)
        figures = detector_figures(faces, intensity, half, (2 * present - 1) * _SURE, None, resamples, seed)
        found.figures[name] = figures
        if out is not None:
            where = out / name
            where.mkdir(parents=True, exist_ok=True)
            replace_file(where / "table.md", table(figures).encode())
            found.files += plot_readings(figures, faces.au_intensity, intensity, where)
    found.table = side_by_side(found.figures)
    if out is not None:
        flat = {f"{name}/{key}": value for name, one in found.figures.items() for key, value in one.items()}
        facts = {"run/readings": [str(path) for path in readings], "run/labels": str(labels), "notes": found.notes}
        write_json(out / "results.json", {**flat, **facts, **circumstances()})
        replace_file(out / "table.md", found.table.encode())
    return found


def side_by_side(figures: dict[str, dict[str, Any]]) -> str:
    """AUs in rows, ICC, MAE and F1 of each tool in columns; the means are over the AUs that every tool has."""
    names = list(figures)
    head = ["AU", *(f"{name}: {what}" for what in ("ICC(3,1)", "MAE", "F1") for name in names)]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    shared: list[list[float]] = []
    for key in AU_KEYS:
        row = [figures[name].get(f"{what}/{key}", np.nan) for what in ("icc", "mae", "f1") for name in names]
        if np.isnan(row).all():
            continue
        lines.append(f"| {key} | " + " | ".join("-" if value != value else f"{value:.2f}" for value in row) + " |")
        if np.isfinite(row[: len(names)]).all():
            shared.append(row)
    if shared:
        means = [f"{np.nanmean(column):.2f}" if np.isfinite(column).any() else "-" for column in np.array(shared).T]
        lines.append(f"| mean of {len(shared)} | " + " | ".join(means) + " |")
    sizes = ", ".join(f"{name} {one['faces']} frames of {one['people']} people" for name, one in figures.items())
    return "\n".join([f"{sizes}", "", *lines]) + "\n"


def _labels(path: Path) -> list[LabelRow]:
    path = path / TABLE if path.is_dir() else path
    found = read_table(read_file(path, "table of labels"), str(path), of_frames=True)
    if found.problems:
        raise ValueError(str(found.problems[0]))
    return found.rows


def _new_name(tool: str, taken: dict[str, Any]) -> str:
    count = sum(name.split(" ")[0] == tool for name in taken)
    return tool if not count else f"{tool} {count + 1}"


def _meet(
    truth: Sequence[LabelRow], tool: ToolReadings, labels: Path, notes: list[str]
) -> tuple[FaceBatch, torch.Tensor, torch.Tensor]:
    """The labelled frames that the tool has read, and what it read: intensities and presence, float (n, 19)."""
    names = {name for name, _ in tool.keys if name}
    by_name = names and bool(names & {Path(row.file).stem for row in truth})
    several_frames = len(tool.keys) > len(names)
    place: dict[Any, int] = {}
    for number, (name, frame) in enumerate(tool.keys):
        place[(name if by_name else "", frame if several_frames else None)] = number
    pairs = []
    for row in truth:
        key = (Path(row.file).stem if by_name else "", row.frame if several_frames else None)
        if key in place and np.isfinite(tool.intensity[place[key]]).any():
            pairs.append((row, place[key]))
    if not pairs:
        how = "file names" if by_name else "frame numbers (column frame, from 0)"
        raise ValueError(f"{tool.path}: none of its {len(tool.keys)} rows meets a label of {labels} by {how}")
    if len(pairs) < len(truth):
        notes.append(f"{tool.path}: no reading for {len(truth) - len(pairs)} of {len(truth)} labelled frames")
    if tool.several:
        notes.append(f"{tool.path}: {tool.several} rows of further faces in a frame were left out")
    rows, numbers = [row for row, _ in pairs], [number for _, number in pairs]
    intensity, present = (torch.from_numpy(values[numbers]) for values in (tool.intensity, tool.present))
    faces = _batch(rows, ~np.isnan(tool.intensity[numbers]), ~np.isnan(tool.present[numbers]))
    return faces, intensity.nan_to_num(0.0), present.nan_to_num(0.0)


def _batch(rows: Sequence[LabelRow], read: NDArray[np.bool_], told: NDArray[np.bool_]) -> FaceBatch:
    """Labels of AUs that the tool has; its others are taken for not coded."""
    count = len(rows)
    graded = np.where(read, np.stack([row.au_intensity for row in rows]), np.nan).astype(np.float32)
    present = np.where(told, np.stack([row.au_occurrence for row in rows]), np.nan).astype(np.float32)
    return FaceBatch(
        image=torch.zeros(count, 3, 1, 1, dtype=torch.uint8),
        landmarks=torch.zeros(count, 68, 2),
        au_intensity=torch.from_numpy(graded),
        au_occurrence=torch.from_numpy(present),
        emotion=torch.full((count,), -1),
        pose=torch.zeros(count, 3),
        subject=[row.subject for row in rows],
        source=["labelled"] * count,
        frame=torch.tensor([row.frame or 0 for row in rows]),
    )
