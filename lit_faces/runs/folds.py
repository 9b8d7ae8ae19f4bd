"""The folds of an experiment: who is held out, which are done, and the table of all."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lit_faces.arguments import UsageError, read_experiment
from lit_faces.core.fields import read_json
from lit_faces.core.files import replace_file
from lit_faces.core.shards import ShardSet
from lit_faces.reports.results import write_json

_KEPT = ("test/icc/", "test/f1/", "test/balanced_accuracy/", "test/expression/")
_COLUMNS = 6
_PARTS = {1, 2, 3}


def part_folds(text: str) -> list[str]:
    """``1,3`` -> ``["part1", "part3"]``.

    Raises:
        UsageError: other parts than 1, 2 and 3.
    """
    try:
        parts = [int(part) for part in text.split(",")]
    except ValueError:
        parts = []
    if not parts or not set(parts) <= _PARTS:
        raise UsageError(f"--parts: expected some of 1,2,3, got {text!r}")
    return [f"part{part}" for part in parts]


def person_folds(experiment: Path, subjects: str | None) -> list[str]:
    """Everybody in the sets that the experiment shares out by folds, or those who are asked for, with commas.

    Raises:
        UsageError: nobody is there to leave out.
    """
    if subjects:
        return [name.strip() for name in subjects.split(",") if name.strip()]
    found: set[str] = set()
    arguments = read_experiment(experiment).get("data", {}).get("init_args", {})
    for source in arguments.get("sources", []):
        if source.get("use", "folds") == "folds":
            found |= {name.partition(":")[2] or name for name in ShardSet(source["path"]).subjects()}
    if not found:
        raise UsageError(f"{experiment}: no source with use: folds, so nobody to leave out")
    return sorted(found)


def chosen(folds: list[str], index: int | None) -> list[str]:
    """All of them, or the one at ``index``, from 1.

    Raises:
        UsageError: there are not so many.
    """
    if index is None:
        return folds
    if not 1 <= index <= len(folds):
        raise UsageError(f"--index {index}: there are {len(folds)} folds; use #SBATCH --array=1-{len(folds)}")
    return [folds[index - 1]]


def begun(folder: Path) -> Path | None:
    """The latest run of a fold that has a checkpoint to go on from."""
    found = sorted(folder.glob("*/checkpoints/last.ckpt"), key=_age)
    return found[-1].parent.parent if found else None


def _age(path: Path) -> float:
    return path.stat().st_mtime


def finished(folder: Path) -> dict[str, Any] | None:
    """Results of the latest finished run of a fold."""
    found = sorted(folder.glob("*/results.json"), key=_age)
    return read_json(found[-1], "remove it and run the fold again") if found else None


def gather(results: Mapping[str, Mapping[str, Any]]) -> tuple[str, dict[str, Any]]:
    """A table of the folds, and every figure's mean and spread.

    Args:
        results: ``results.json`` of each fold, by its name.

    Returns:
        Markdown, and ``{figure: {"mean": float, "sd": float, "folds": int, "part1": float, ...}}``. A mean is over the
        folds where the figure is defined. Of many folds the table has the lowest and the highest only.
    """
    gathered: dict[str, Any] = {}
    names = sorted({name for found in results.values() for name in found if name.startswith(_KEPT)})
    for name in names:
        values = {fold: _finite(found.get(name)) for fold, found in results.items()}
        known = [value for value in values.values() if value is not None]
        if known:
            spread = statistics.stdev(known) if len(known) > 1 else None
            gathered[name] = {"mean": statistics.fmean(known), "sd": spread, "folds": len(known), **values}
    folds = list(results)
    few = len(folds) <= _COLUMNS
    head = folds if few else [f"lowest of {len(folds)}", "highest"]
    lines = ["| figure | " + " | ".join(head) + " | mean | sd |", "|---" * (len(head) + 3) + "|"]
    for name, row in gathered.items():
        values = {fold: row[fold] for fold in folds}
        cells = [_shown(value) for value in values.values()] if few else _extremes(values)
        lines.append(f"| {name} | " + " | ".join([*cells, _shown(row["mean"]), _shown(row["sd"])]) + " |")
    return "\n".join(lines), gathered


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _extremes(values: Mapping[str, float | None]) -> list[str]:
    """Lowest and highest, and whose they are."""
    known = {fold: value for fold, value in values.items() if value is not None}
    return [
        f"{known[fold]:.3f} ({fold})" for fold in (min(known, key=known.__getitem__), max(known, key=known.__getitem__))
    ]


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def write_table(folder: Path, text: str, gathered: Mapping[str, Any]) -> None:
    """``folds.md`` and ``folds.json``."""
    replace_file(folder / "folds.md", (text + "\n").encode())
    write_json(folder / "folds.json", gathered)
