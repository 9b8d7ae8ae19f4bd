"""python -m lit_faces.generate PHOTO|CLIP --out DIR: a person's own training set, balanced, verified and labelled.

See :mod:`lit_faces.persons.generation` for what it writes; with --drive, :mod:`lit_faces.persons.driving`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lit_faces.command import program, run_command

if TYPE_CHECKING:
    from lit_faces.persons.source import PersonOptions


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    from lit_faces.core.options import HelpFormatter, add_options
    from lit_faces.persons.driving import DriveOptions
    from lit_faces.persons.generation import SetOptions
    from lit_faces.persons.source import PersonOptions
    from lit_faces.reports.tracking import add_wandb_argument

    called = program("generate")
    parser = argparse.ArgumentParser(
        prog=called,
        formatter_class=HelpFormatter,
        usage="%(prog)s PHOTO|CLIP|FOLDER ... --out DIR [options]",
        description="From a photo or a clip of a person: labelled pictures in other poses, with other AUs, verified.",
        epilog=f"example: {called} anna.jpg --out anna_set --n 300 && python -m lit_faces.adapt --person anna_set "
        "--out anna_detector. Use a person's photo only with that person's consent.",
    )
    add_place(parser)
    add_options(parser, PersonOptions, SetOptions, DriveOptions)
    parser.add_argument("--plan-only", action="store_true", help="print the plan's table and stop")
    add_wandb_argument(parser)
    return parser


def add_place(parser: argparse.ArgumentParser) -> None:
    """Who, and where to: what `generate` and `personalise` begin with."""
    what = "photos, clips or folders of one person"
    parser.add_argument("sources", nargs="+", type=Path, metavar="PHOTO|CLIP|FOLDER", help=what)
    parser.add_argument("--out", type=Path, required=True, help="folder to write; a stopped run goes on there")


def read_person_options(sources: Sequence[Path], typed: Mapping[str, Any]) -> PersonOptions:
    """The person of the command line."""
    from lit_faces.core.options import read_options
    from lit_faces.persons.source import PersonOptions

    return read_options(PersonOptions, typed, source=sources[0], more=tuple(sources[1:]))


@contextmanager
def progress_bar(pictures: int) -> Iterator[Callable[[int, int], None]]:
    """A bar on the terminal, and what to call with slots done and slots filled."""
    from tqdm import tqdm

    kept = 0
    with tqdm(total=pictures, unit="picture", desc="generate and verify", smoothing=0.1) as bar:

        def progress(slots: int, filled: int) -> None:
            nonlocal kept
            kept += filled
            bar.set_postfix_str(f"{kept} kept", refresh=False)
            bar.update(slots)
            if bar.n >= pictures:
                bar.close()  # what comes after the set is not its time

        yield progress


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    args = build_parser().parse_args(argv)

    def work() -> None:
        from lit_faces.core.memory import keep_freed_memory
        from lit_faces.core.options import read_options
        from lit_faces.persons.driving import DriveOptions
        from lit_faces.persons.generation import SetOptions, generate
        from lit_faces.reports.tracking import resolve_mode, track_set

        keep_freed_memory()
        resolve_mode(args.wandb)
        typed = vars(args)
        person, wanted = read_person_options(args.sources, typed), read_options(SetOptions, typed)
        driving = read_options(DriveOptions, typed)
        if args.plan_only:
            print(wanted.make_plan().summary())
            return
        with progress_bar(wanted.n) as progress:
            made = generate(person, wanted, args.out, progress, print, driving)
        for line in (*made.summary(wanted.verify), made.driven, made.page):
            if line is not None:
                print(line)
        track_set(made.folder, args.wandb, made.flat, wanted.generator, wanted.judge, wanted.tracked())

    return run_command(program("generate"), work, "the same command goes on where it stopped")


if __name__ == "__main__":
    raise SystemExit(main())
