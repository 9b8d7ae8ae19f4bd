"""python -m lit_faces.evaluate --detector FILE --data DIR: how well a detector reads a labelled set of people.

With ``--readings a.csv b.csv --labels labels.csv``: how well tools read, from the tables that they wrote.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lit_faces.command import program, run_command


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    from lit_faces.core.options import add_options
    from lit_faces.persons.evaluation import EvaluateOptions

    called = program("evaluate")
    parser = argparse.ArgumentParser(
        prog=called,
        description="Evaluate an AU detector on a labelled set: ICC, MAE, F1, AUC by AU, intervals over people.",
        epilog="example: python -m lit_faces.render set --out faces --n 320 --frames-per-subject 8 && "
        f"{called} --detector generic --data faces --out report",
    )
    parser.add_argument("--data", type=Path, help="folder with labels.csv, or tar shards")
    parser.add_argument(
        "--readings",
        type=Path,
        nargs="+",
        metavar="CSV",
        help="instead: tables of predict, OpenFace or py-feat",
    )
    parser.add_argument("--labels", type=Path, help="what --readings are measured on: labels.csv (file, frame, au6)")
    parser.add_argument("--out", type=Path, help="folder for results.json, table.md and the plots")
    add_options(parser, EvaluateOptions)
    return parser


def compare_tools(
    readings: list[Path] | None, labels: Path | None, data: Path | None, out: Path | None, resamples: int, seed: int
) -> None:
    """Evaluate tables of readings, and say what was found.

    Raises:
        ValueError: half of what it takes.
    """
    from lit_faces.reading.comparing import compare

    if not readings or labels is None or data is not None:
        raise ValueError("--readings and --labels belong together, without --data: tables of tools, and what is true")
    found = compare(readings, labels, out, resamples, seed)
    print(found.table)
    for note in found.notes:
        print(f"{program('evaluate')}: {note}", file=sys.stderr)
    for path in found.files:
        print(path)


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    args = build_parser().parse_args(argv)

    def work() -> None:
        from lit_faces.core.options import read_options
        from lit_faces.persons.evaluation import EvaluateOptions, evaluate

        options = read_options(EvaluateOptions, vars(args))
        if args.readings or args.labels:
            compare_tools(args.readings, args.labels, args.data, args.out, options.resamples, options.seed)
            return
        if args.data is None:
            raise ValueError("--data: name a labelled set; or --readings and --labels to compare tables of readings")
        found = evaluate(args.data, options, args.out)
        print(found.table)
        for path in found.plots:
            print(path)

    return run_command(program("evaluate"), work)


if __name__ == "__main__":
    raise SystemExit(main())
