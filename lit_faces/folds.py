"""python -m lit_faces.folds EXPERIMENT.yaml: train and test with each part, or person, held out; one table of all."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lit_faces.command import program, run_command

_STOPPED = 128 + signal.SIGTERM


@dataclass(frozen=True)
class FoldOptions:
    """What is asked; the options of the command line, and those that are passed on to ``fit``."""

    experiment: Path
    parts: str
    leave_one_out: bool
    subjects: str | None
    index: int | None
    list: bool
    name: str | None
    runs: Path
    report: bool
    to_fit: Sequence[str]


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog=program("folds"),
        description="Run `lit_faces.fit` with each published part (or each person) held out in turn, and gather the "
        "figures. Folds that are done are kept, an interrupted one is resumed. All other options go to fit.",
        epilog=f"example: {program('folds')} experiments/disfa_detector.yaml --trainer.max_epochs 3",
    )
    parser.add_argument(
        "experiment",
        type=Path,
        help="experiment file with data of data_modules.prepared.PreparedFaces or mixed.MixedFaces",
    )
    parser.add_argument("--parts", default="1,2,3", help="parts to hold out (default: 1,2,3)")
    parser.add_argument(
        "--leave-one-out", action="store_true", help="hold out each person of the set in turn instead of parts"
    )
    parser.add_argument("--subjects", help="with --leave-one-out: these people only, with commas")
    parser.add_argument(
        "--index", type=int, help="the K-th fold only, from 1: for a job array, --index $SLURM_ARRAY_TASK_ID"
    )
    parser.add_argument("--list", action="store_true", help="print the folds, one a line, and stop")
    parser.add_argument("--name", help="name of the runs' folder (default: the file's name)")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where runs are kept")
    parser.add_argument("--report", action="store_true", help="no training: gather what is there")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    args, to_fit = build_parser().parse_known_args(argv)
    options = FoldOptions(**vars(args), to_fit=to_fit)
    from lit_faces import slurm

    def work() -> int:
        told: list[int] = []
        if slurm.in_job():  # signals are for fit, which is in the same group; while it saves, this process must stay
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
        try:
            return _work(options, told)
        except subprocess.CalledProcessError as error:
            return _stopped(error.returncode, bool(told))

    return run_command(program("folds"), work, "the same command goes on", patient=True)  # fit has its own patience


def _work(options: FoldOptions, told: list[int]) -> int:
    from lit_faces import slurm
    from lit_faces.arguments import UsageError, existing_file
    from lit_faces.runs.folds import chosen, finished, gather, part_folds, person_folds, write_table

    existing_file(options.experiment)
    one_out = options.leave_one_out
    folds = person_folds(options.experiment, options.subjects) if one_out else part_folds(options.parts)
    if options.list:
        print("\n".join(folds))
        return 0
    place = options.runs / (options.name or options.experiment.stem)
    for fold in chosen(folds, options.index):
        if told:
            return _STOPPED
        if not options.report:
            held_out = ["held_out_subject", fold] if one_out else ["held_out_part", fold.removeprefix("part")]
            _run(options.experiment, place, fold, held_out, options.to_fit)
    if not slurm.is_rank_zero():
        return 0
    results = {fold: found for fold in folds if (found := finished(place / fold)) is not None}
    if not results:
        raise UsageError(f"{place}: no fold is done yet")
    text, gathered = gather(results)
    write_table(place, text, gathered)
    print(text)
    return 0


def _run(experiment: Path, place: Path, fold: str, held_out: Sequence[str], options: Sequence[str]) -> None:
    """One fold: nothing when it is done, the rest when it was interrupted."""
    from lit_faces.arguments import UsageError
    from lit_faces.core.files import replace_file
    from lit_faces.runs.folds import begun, finished

    folder = place / fold
    wanted = " ".join([str(experiment), *options])
    note = folder / "command.txt"
    if note.is_file() and note.read_text() != wanted:
        raise UsageError(f"{folder}: made by another command ({note.read_text()}): choose another --name")
    if finished(folder) is not None:
        return
    replace_file(note, wanted.encode())
    command = [sys.executable, "-m", "lit_faces.fit"]
    if (run := begun(folder)) is not None:
        command += ["--resume", str(run)]
    else:
        command += [str(experiment), "--name", f"{place.name}/{fold}", "--runs", str(place.parent)]
        command += [f"--data.{held_out[0]}", held_out[1], *options]
    print(f"{fold} held out: {' '.join(command[1:])}", flush=True)
    _fit(command)


def _fit(command: list[str]) -> None:
    """Run fit to its end; when this process is told to stop, so is fit, which then saves.

    Raises:
        CalledProcessError: it did not end well.
    """
    process = subprocess.Popen(command)
    try:
        code = process.wait()
    except BaseException:
        process.terminate()  # after a Ctrl-C, which it has heard too, this changes nothing: it is on its way
        process.wait()
        raise
    if code:
        raise subprocess.CalledProcessError(code, command)


def _stopped(code: int, told: bool) -> int:
    """What to answer when a fold has ended with a code: a stop is a stop, the rest is an error."""
    print(f"{program('folds')}: fold stopped with {code}; the same command goes on", file=sys.stderr)
    if told or code in (_STOPPED, -signal.SIGTERM):
        return _STOPPED
    return 128 + signal.SIGINT if code in (128 + signal.SIGINT, -signal.SIGINT) else 2


if __name__ == "__main__":
    raise SystemExit(main())
