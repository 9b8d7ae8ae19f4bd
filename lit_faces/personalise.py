"""python -m lit_faces.personalise PHOTO|CLIP --out DIR: from one photo to a person's own detector, in one command.

See :mod:`lit_faces.persons.personalisation` for what it does and writes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from lit_faces.command import program, run_command


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    from lit_faces.core.options import HelpFormatter, add_options
    from lit_faces.generate import add_place
    from lit_faces.persons.adaptation import LearnOptions
    from lit_faces.persons.generation import SetOptions
    from lit_faces.persons.source import PersonOptions
    from lit_faces.reports.tracking import add_wandb_argument

    called = program("personalise")
    parser = argparse.ArgumentParser(
        prog=called,
        formatter_class=HelpFormatter,
        usage="%(prog)s PHOTO|CLIP|FOLDER ... --out DIR [options]",
        description="From a photo or a clip to the person's own AU detector: generate, verify, adapt, report.",
        epilog=f"example: {called} anna.jpg --out anna. The next person likewise: nobody changes anything of others",
    )
    add_place(parser)
    add_options(parser, PersonOptions, SetOptions, LearnOptions)
    parser.add_argument("--registry", type=Path, help="folder of people: enrol there too (methods that learn a delta)")
    add_wandb_argument(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    args = build_parser().parse_args(argv)

    def work() -> None:
        from lit_faces.adapt import step_bar
        from lit_faces.core.memory import keep_freed_memory
        from lit_faces.core.options import read_options
        from lit_faces.generate import progress_bar, read_person_options
        from lit_faces.persons.adaptation import LearnOptions
        from lit_faces.persons.generation import SetOptions
        from lit_faces.persons.personalisation import personalise
        from lit_faces.reports.tracking import resolve_mode, track_detector, track_set

        keep_freed_memory()
        resolve_mode(args.wandb)
        typed = vars(args)
        person, wanted = read_person_options(args.sources, typed), read_options(SetOptions, typed)
        learning = read_options(LearnOptions, typed)
        with progress_bar(wanted.n) as progress, step_bar(learning.steps) as each_step:
            done = personalise(person, wanted, learning, args.out, progress, print, args.registry, each_step)
        print(f"{done.learnt.detector}\n{done.page}\n{done.figures['run/seconds']:.0f} s")
        made, learnt = done.made, done.learnt
        track_set(made.folder, args.wandb, made.figures.flat(), wanted.generator, wanted.judge, wanted.tracked())
        track_detector(learnt.folder, args.wandb, done.figures, learning.detector, made.folder, learning.tracked())

    return run_command(program("personalise"), work, "the same command goes on where it stopped")


if __name__ == "__main__":
    raise SystemExit(main())
