"""python -m lit_faces.report RUN... --out report.html: pictures, tables and curves of runs, side by side, in one file.

A run is any folder with results.json: of fit, folds, evaluate, adapt, generate, personalise or study.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lit_faces.core.fields import read_json

if TYPE_CHECKING:
    from lit_faces.reports.page import Page

PROGRAM = "python -m lit_faces.report"
_SKIPPED = {"wandb", "rejected", "checkpoints"}
_CIRCUMSTANCES = ("run/", "packages/", "git/", "machine/", "memory/", "time/", "config/")
_STEP = re.compile(r"[-_]?\d{3,}$")
_CURVES = 12


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


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Runs side by side in one HTML file: pictures first, then tables and curves. No network.",
        epilog=f"example: {PROGRAM} runs/au6_17/20261123-120000 runs/smoke/20261123-130000 --out report.html",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder with results.json")
    parser.add_argument("--out", type=Path, help="HTML file (default: report.html in the first run's folder)")
    parser.add_argument("--pictures", type=int, default=16, help="pictures of each run, at most (default: 16)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    args = build_parser().parse_args(argv)
    try:
        runs = read_runs(args.runs)
        print(write_report(runs, args.out or args.runs[0] / "report.html", args.pictures))
    except (ValueError, OSError) as error:
        if os.environ.get("LIT_FACES_DEBUG"):
            raise
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 2
    return 0


def read_runs(paths: list[Path]) -> list[Run]:
    """Runs with names that tell them apart.

    Raises:
        FileNotFoundError: no run there; names runs that are near.
        ValueError: results.json is damaged, or a run is named twice.
    """
    resolved = [path.resolve() for path in paths]
    if len(set(resolved)) < len(resolved):
        raise ValueError("a run is named twice: give each folder once")
    parts = 2 if any(path.name[:1].isdigit() for path in resolved) else 1  # runs/EXPERIMENT/TIME
    while parts < 4 and len({path.parts[-parts:] for path in resolved}) < len(resolved):
        parts += 1
    return [read_run(path, "/".join(path.resolve().parts[-max(parts, 1) :])) for path in paths]


def read_run(path: Path, name: str) -> Run:
    """One run; see :func:`read_runs`."""
    file = path / "results.json"
    if not file.is_file():
        near = sorted({str(found.parent) for found in path.glob("*/results.json")})[-3:] if path.is_dir() else []
        hint = f"; did you mean {near[-1]}?" if near else "; give the folder that fit, adapt or generate wrote"
        raise FileNotFoundError(f"{path}: no results.json there{hint}")
    content = read_json(file, "run the job again")
    run = Run(name)
    for key, value in content.items():
        plain = isinstance(value, int | float) and not isinstance(value, bool)
        if plain and not key.startswith(_CIRCUMSTANCES):
            run.figures[key] = float(value)
        else:
            run.facts[key] = value
    for picture in sorted(path.rglob("*.png")):
        inside = picture.relative_to(path)
        if len(inside.parts) <= 3 and not _SKIPPED & set(inside.parts):
            run.pictures[_STEP.sub("", str(inside.with_suffix("")))] = picture  # of panels/val-000250 ... the last
    run.curves = _curves(path / "metrics.csv")
    return run


def _curves(path: Path) -> dict[str, list[tuple[float, float]]]:
    """Columns of metrics.csv that have at least two values; lines that cannot be read are left out."""
    from lit_faces.core.csv_files import read_own

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


def write_report(runs: list[Run], out: Path, pictures: int = 16) -> Path:
    """Write the page."""
    from lit_faces.reports.page import Page

    page = Page(runs[0].name if len(runs) == 1 else f"{len(runs)} runs compared")
    if len(runs) > 1:
        page.text("Runs, in this order: " + "; ".join(run.name for run in runs))
    _pictures(page, runs, pictures)
    _tables(page, runs)
    with tempfile.TemporaryDirectory() as folder:
        plot = _plot(runs, Path(folder) / "curves.png")
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
    from lit_faces.core.facs import AU_KEYS

    names = list(dict.fromkeys(key for run in runs for key in run.figures))
    stems = list(dict.fromkeys(name.rsplit("/", 1)[0] for name in names if name.rsplit("/", 1)[-1] in AU_KEYS))
    plain = [name for name in names if not any(part in AU_KEYS for part in name.split("/"))]
    if plain:
        page.heading("Figures")
        page.table(("", *(run.name for run in runs)), [(n, *(_cell(run, n) for run in runs)) for n in plain])
    if stems:
        page.heading("By Action Unit")
        head = ["AU", *(f"{stem}: {run.name}" if len(runs) > 1 else stem for stem in stems for run in runs)]
        rows = [(key, *(_cell(run, f"{stem}/{key}") for stem in stems for run in runs)) for key in (*AU_KEYS, "mean")]
        page.table(head, [row for row in rows if any(cell != "-" for cell in row[1:])])


def _cell(run: Run, name: str) -> str:
    value = run.figures.get(name, float("nan"))
    return "-" if value != value else f"{value:.4g}"


def _short(value: Any) -> str:
    if value is None:
        return "-"
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _plot(runs: list[Run], path: Path) -> Path | None:
    from matplotlib.figure import Figure

    from lit_faces.reports.pictures import save_figure

    names = list(dict.fromkeys(name for run in runs for name in run.curves))
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


if __name__ == "__main__":
    raise SystemExit(main())
