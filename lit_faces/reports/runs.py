"""What the folder of a run holds: figures, facts, pictures and curves, of any command that leaves ``results.json``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lit_faces.core.csv_files import read_own
from lit_faces.core.fields import read_json

RESULTS = "results.json"
_SKIPPED = {"wandb", "rejected", "checkpoints"}
_CURVES = "curves.png"  # drawn anew, of all runs together
_CIRCUMSTANCES = ("run/", "packages/", "git/", "machine/", "memory/", "time/", "config/")
_STEP = re.compile(r"[-_]?\d{3,}$")


class Unfinished(ValueError):
    """A folder that is no finished run; the message says why."""


@dataclass
class Run:
    """What a folder holds.

    Attributes:
        name: short and unique among the runs that are compared.
        figures: numbers by flat name.
        facts: everything else of results.json, and what the run was made with.
        pictures: PNG by what it shows; of a series the last.
        curves: step and value by name, of metrics.csv.
    """

    name: str
    figures: dict[str, float] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    pictures: dict[str, Path] = field(default_factory=dict)
    curves: dict[str, list[tuple[float, float]]] = field(default_factory=dict)


def read_runs(paths: Sequence[Path]) -> tuple[list[Run], list[str]]:
    """Runs with names that tell them apart, and why others were left out.

    Args:
        paths: folders.

    Returns:
        The finished runs, and one line for each that is not finished, or is damaged.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: a run is named twice, or none is finished.
    """
    resolved = [path.resolve() for path in paths]
    if len(set(resolved)) < len(resolved):
        raise ValueError("a run is named twice: give each folder once")
    for path in paths:
        if not path.is_dir():
            raise FileNotFoundError(f"{path}: no such folder; give folders that fit, adapt or generate wrote")
    parts = 2 if any(path.name[:1].isdigit() for path in resolved) else 1  # runs/EXPERIMENT/TIME
    while parts < 4 and len({path.parts[-parts:] for path in resolved}) < len(resolved):
        parts += 1
    runs, left_out = [], []
    for path in paths:
        try:
            runs.append(read_run(path, "/".join(path.resolve().parts[-max(parts, 1) :])))
        except Unfinished as error:
            left_out.append(str(error))
    if not runs:
        raise ValueError(f"no finished run: {'; '.join(left_out)}")
    return runs, left_out


def read_run(path: Path, name: str) -> Run:
    """One run.

    Args:
        path: its folder.
        name: what to call it.

    Raises:
        Unfinished: no ``results.json`` there, or half of one.
    """
    run = Run(name)
    for key, value in _results(path).items():
        plain = isinstance(value, int | float) and not isinstance(value, bool)
        if plain and not key.startswith(_CIRCUMSTANCES):
            run.figures[key] = float(value)
        else:
            run.facts[key] = value
    for picture in sorted(path.rglob("*.png")):
        inside = picture.relative_to(path)
        shown = len(inside.parts) <= 3 and not _SKIPPED & set(inside.parts) and picture.name != _CURVES
        if shown and picture.is_file():
            run.pictures[_STEP.sub("", str(inside.with_suffix("")))] = picture  # of panels/val-000250 ... the last
    run.curves = curves_of(path / "metrics.csv")
    return run


def _results(path: Path) -> dict[str, Any]:
    file = path / RESULTS
    if not file.is_file():
        near = sorted({str(found.parent) for found in path.glob(f"*/{RESULTS}")})[-3:]
        hint = f"; did you mean {near[-1]}?" if near else ""
        raise Unfinished(f"{path}: not finished: no {RESULTS} there{hint}")
    try:
        return read_json(file, "run the job again")
    except ValueError as error:
        raise Unfinished(str(error)) from error


def curves_of(path: Path) -> dict[str, list[tuple[float, float]]]:
    """Columns of a ``metrics.csv`` that have at least two values; lines that cannot be read are left out."""
    if not path.is_file():
        return {}
    curves: dict[str, list[tuple[float, float]]] = {}
    for row in read_own(path.read_bytes())[1]:
        try:
            step = float(row.get("step") or "nan")
            known = {k: float(v) for k, v in row.items() if k not in ("step", "epoch") and v}
        except ValueError:
            continue
        for name, value in known.items():
            curves.setdefault(name, []).append((step, value))
    return {name: points for name, points in curves.items() if len(points) > 1}
