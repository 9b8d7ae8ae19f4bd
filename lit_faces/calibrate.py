"""python -m lit_faces.calibrate PHOTO|CLIP ... --out DIR: one photo sets a person's zero.

See :mod:`lit_faces.persons.calibration` for how, and :mod:`lit_faces.persons.zero` for what is written.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from lit_faces.command import program, run_command


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    from lit_faces.core.options import HelpFormatter, add_options
    from lit_faces.persons.calibration import CalibrateOptions

    called = program("calibrate")
    parser = argparse.ArgumentParser(
        prog=called,
        formatter_class=HelpFormatter,
        usage="%(prog)s PHOTO|CLIP ... --out DIR [options]",
        description="What a resting photo of a person reads is taken off whatever is read of them afterwards: "
        "DIR/zero.json, under 1 KB. No weight changes.",
        epilog=f"example: {called} anna.jpg --out anna; a second photo pools: {called} anna2.jpg --out anna; "
        f"undone by {called} --undo --out anna",
    )
    parser.add_argument("sources", nargs="*", type=Path, metavar="PHOTO|CLIP", help="of one person, best at rest")
    parser.add_argument("--out", type=Path, required=True, help="folder of the person")
    parser.add_argument("--readings", type=Path, metavar="CSV", help="instead: what another tool has read at rest")
    parser.add_argument(
        "--correct",
        type=Path,
        nargs="+",
        default=[],
        metavar="CSV",
        help="tables of the same tool, less the zero, to --out",
    )
    add_options(parser, CalibrateOptions)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    args = build_parser().parse_args(argv)

    def work() -> None:
        from lit_faces.core.options import read_options
        from lit_faces.persons.calibration import CalibrateOptions, calibrate, undo

        options = read_options(CalibrateOptions, vars(args))
        if options.undo:
            if args.sources:
                raise ValueError("--undo: takes the whole zero away; leave the photos out")
            print(f"{args.out}: the zero is taken away" if undo(args.out) else f"{args.out}: there was no zero")
            return
        if args.readings is not None or args.correct:
            from lit_faces.reading.correcting import calibrate_tables

            if args.sources or args.readings is None:
                raise ValueError("--readings: a table of the person at rest sets the zero; photos belong to a detector")
            done = calibrate_tables(args.readings, args.correct, options, args.out)
        else:
            done = calibrate(args.sources, options, args.out)
        for line in done.notes:
            print(line)
        print(f"{done.text}\n{done.path}")

    return run_command(program("calibrate"), work)


if __name__ == "__main__":
    raise SystemExit(main())
