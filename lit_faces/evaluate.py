"""python -m lit_faces.evaluate --detector FILE --data DIR: how well a detector reads a labelled set of people."""

from __future__ import annotations

import argparse
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
    parser.add_argument("--data", type=Path, required=True, help="folder with labels.csv, or tar shards")
    parser.add_argument("--out", type=Path, help="folder for results.json, table.md and the plots")
    add_options(parser, EvaluateOptions)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    args = build_parser().parse_args(argv)

    def work() -> None:
        from lit_faces.core.options import read_options
        from lit_faces.persons.evaluation import EvaluateOptions, evaluate

        found = evaluate(args.data, read_options(EvaluateOptions, vars(args)), args.out)
        print(found.table)
        for path in found.plots:
            print(path)

    return run_command(program("evaluate"), work)


if __name__ == "__main__":
    raise SystemExit(main())
