"""python -m lit_faces.report RUN... --out report.html: pictures, tables and curves of runs, side by side, in one file.

A run is any folder with results.json: of fit, folds, evaluate, adapt, generate, personalise or study.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lit_faces.command import program, run_command


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog=program("report"),
        description="Runs side by side in one HTML file: pictures first, then tables and curves. No network. Runs that "
        "are not finished are named and left out.",
        epilog=f"example: {program('report')} runs/au6_17/20261123-120000 runs/smoke/20261123-130000 --out report.html",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder with results.json")
    parser.add_argument("--out", type=Path, help="HTML file (default: report.html in the first run's folder)")
    parser.add_argument("--pictures", type=int, default=16, help="pictures of each run, at most (default: 16)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    args = build_parser().parse_args(argv)
    return run_command(program("report"), lambda: print(report(args.runs, args.out, args.pictures)))


def report(folders: Sequence[Path], out: Path | None = None, pictures: int = 16) -> Path:
    """Write the page of some runs; those that are not finished are named on stderr and left out.

    Args:
        folders: of the runs.
        out: HTML file; ``report.html`` in the first folder by default.
        pictures: of each run, at most.

    Returns:
        The file.

    Raises:
        ValueError, OSError: none is finished, one is named twice, or the page cannot be written.
    """
    from lit_faces.reports.comparison import write_report
    from lit_faces.reports.runs import read_runs

    if pictures < 0:
        raise ValueError(f"--pictures: expected 0 or more, got {pictures}")
    runs, left_out = read_runs(folders)
    for line in left_out:
        print(f"{program('report')}: left out: {line}", file=sys.stderr)
    return write_report(runs, out or folders[0] / "report.html", pictures)


if __name__ == "__main__":
    raise SystemExit(main())
