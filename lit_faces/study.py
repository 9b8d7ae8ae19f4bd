"""python -m lit_faces.study STUDY.yaml: which way of learning people is best? Methods x people x frames x seeds."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lit_faces.command import program, run_command

if TYPE_CHECKING:
    from lit_faces.studies.description import Study

_SIGNATURE = "study.txt"


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    from lit_faces.reports.tracking import add_wandb_argument

    parser = argparse.ArgumentParser(
        prog=program("study"),
        description="Learn people one after another by every method, and say what each gains and what it forgets. Goes "
        "on where it was killed; more processes or machines may work on the same --out at once.",
        epilog=f"example: {program('study')} experiments/study/personal.yaml --jobs 2",
    )
    parser.add_argument("study", type=Path, help="what is compared (experiments/study/*.yaml)")
    parser.add_argument("--out", type=Path, help="the study's folder (default: runs/study/<name of the file>)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)")
    parser.add_argument("--report", action="store_true", help="no learning: table and plots of what is there")
    add_wandb_argument(parser)
    parser.add_argument("--dry-run", action="store_true", help="list the cells and stop")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    args = build_parser().parse_args(argv)
    out = args.out or Path("runs") / "study" / args.study.stem
    return run_command(
        program("study"),
        lambda: run_study(args.study, out, args.jobs, args.wandb, not args.report, args.dry_run),
        "the same command goes on where it stopped",
    )


def run_study(
    file: Path, out: Path, jobs: int = 1, wandb: str = "disabled", learn: bool = True, dry_run: bool = False
) -> int:
    """Learn what a study asks, or what is left of it, and print its table.

    Args:
        file: the study.
        out: its folder.
        jobs: processes.
        wandb: mode of tracking.
        learn: False reports what is there.
        dry_run: print the cells and stop.

    Returns:
        0, or 1 where a process died.

    Raises:
        ValueError, OSError: what is asked cannot be done.
    """
    from lit_faces.arguments import UsageError, existing_file, read_experiment
    from lit_faces.reports.tracking import resolve_mode
    from lit_faces.studies.description import Study
    from lit_faces.studies.report import write_report

    if jobs < 1:
        raise UsageError(f"--jobs: expected 1 or more, got {jobs}")
    resolve_mode(wandb)
    study = Study.read(read_experiment(existing_file(file)), str(file))
    if dry_run:
        print("\n".join(cell.key for cell in study.cells()))
        return 0
    _sign(study, out)
    if learn and not _learn(study, out, jobs):
        return 1
    text, plots = write_report(study, out, wandb)
    print(text, *plots, sep="\n")
    return 0


def _sign(study: Study, out: Path) -> None:
    """Refuse to mix the results of two studies in one folder; further cells are welcome."""
    from lit_faces.arguments import UsageError
    from lit_faces.core.files import replace_file

    file, mine = out / _SIGNATURE, study.fingerprint()
    if not file.is_file():
        replace_file(file, f"{mine}\n".encode())
    elif file.read_text(errors="replace").strip() != mine:
        raise UsageError(
            f"{out}: holds the results of a study with another detector, people, recipe or version of lit_faces; "
            "choose another --out, or remove it"
        )


def _learn(study: Study, out: Path, jobs: int) -> bool:
    """With a progress bar over persons; whether it came to its end."""
    from concurrent.futures.process import BrokenProcessPool

    from tqdm import tqdm

    from lit_faces.studies.pool import learn

    with tqdm(unit="person", desc="learning", dynamic_ncols=True, mininterval=1) as bar:

        def progress(done: int, total: int) -> None:
            if bar.total is None:
                bar.reset(total)
                bar.initial = done
            bar.n = done
            bar.refresh()

        try:
            learn(study, out, jobs, progress)
        except BrokenProcessPool:
            hint = "the same command goes on where it stopped, with fewer --jobs perhaps"
            print(f"{program('study')}: error: a process was killed (out of memory?); {hint}", file=sys.stderr)
            return False
    return True


if __name__ == "__main__":
    raise SystemExit(main())
