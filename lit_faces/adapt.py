"""python -m lit_faces.adapt --detector FILE --person DIR: a detector becomes one person's expert, and keeps the others.

See :mod:`lit_faces.persons.adaptation` for what it writes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lit_faces.command import program, run_command


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    from lit_faces.core.options import HelpFormatter, add_options
    from lit_faces.persons.adaptation import LearnOptions
    from lit_faces.reports.tracking import add_wandb_argument

    called = program("adapt")
    parser = argparse.ArgumentParser(
        prog=called,
        formatter_class=HelpFormatter,
        description="Adapt an AU detector to one person from labelled (or generated) images; others stay known.",
        epilog=f"example: {called} --detector generic --person anna/ --out anna_detector && "
        f"{called} --detector anna_detector/detector.safetensors --memory anna_detector/memory.safetensors "
        "--person ben/ --out ben_detector",
    )
    parser.add_argument(
        "--person", type=Path, required=True, help="the person's faces: folder with labels.csv, or shards"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write; a stopped run begins again there")
    parser.add_argument("--name", help="of the person (default: the subject in the labels, or the folder's name)")
    add_options(parser, LearnOptions)
    add_wandb_argument(parser)
    return parser


@contextmanager
def step_bar(steps: int) -> Iterator[Callable[[], None]]:
    """A bar on the terminal that comes with the first step, and what to call after each."""
    from tqdm import tqdm

    bar: Any = None

    def each_step() -> None:
        nonlocal bar
        if bar is None:
            bar = tqdm(total=steps, unit="step", desc="learn")
        bar.update()
        if bar.n >= steps:
            bar.close()

    try:
        yield each_step
    finally:
        if bar is not None:
            bar.close()


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    args = build_parser().parse_args(argv)

    def work() -> None:
        from lit_faces.core.memory import keep_freed_memory
        from lit_faces.core.options import read_options
        from lit_faces.persons.adaptation import LearnOptions, adapt
        from lit_faces.reports.tracking import resolve_mode, track_detector

        keep_freed_memory()
        resolve_mode(args.wandb)
        options = read_options(LearnOptions, vars(args))
        with step_bar(options.steps) as each_step:
            learnt = adapt(args.person, options, args.out, args.name, print, each_step=each_step)
        print(f"{learnt.folder}: is there already" if learnt.already else learnt.text)
        for name in ("report.md", "before_after.png", "calibration.png", "detector.safetensors"):
            print(learnt.folder / name)
        if not learnt.already:
            track_detector(learnt.folder, args.wandb, learnt.figures, options.detector, args.person, options.tracked())

    return run_command(program("adapt"), work, "the same command begins again, and replaces what is half done")


if __name__ == "__main__":
    raise SystemExit(main())
