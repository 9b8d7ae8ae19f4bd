"""python -m lit_faces.folds EXPERIMENT.yaml: train and test with each part, or person, held out; one table of all."""

from __future__ import annotations

import argparse
import math
import signal
import statistics
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lit_faces.core.fields import read_json

PROGRAM = "python -m lit_faces.folds"
_KEPT = ("test/icc/", "test/f1/", "test/balanced_accuracy/", "test/expression/")
_COLUMNS = 6
_STOPPED = 128 + signal.SIGTERM


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Run `lit_faces.fit` with each published part (or each person) held out in turn, and gather the "
        "figures. Folds that are done are kept, an interrupted one is resumed. All other options go to fit.",
        epilog=f"example: {PROGRAM} experiments/disfa_detector.yaml --trainer.max_epochs 3",
    )
    parser.add_argument(
        "experiment", type=Path, help="experiment file with data of data_modules.prepared.PreparedFaces"
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
    args, options = build_parser().parse_known_args(argv)
    from lit_faces import slurm
    from lit_faces.arguments import UsageError, existing_file

    told: list[int] = []
    if slurm.in_job():  # signals are for fit, which is in the same group; while it saves, this process must stay
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    try:
        existing_file(args.experiment)
        folds = _people(args) if args.leave_one_out else [f"part{part}" for part in _parts(args.parts)]
        if args.list:
            print("\n".join(folds))
            return 0
        name = args.name or args.experiment.stem
        for fold in _chosen(folds, args.index):
            if told:
                return _STOPPED
            if not args.report:
                _run(args, name, fold, options)
        if not slurm.is_rank_zero():
            return 0
        results = {fold: found for fold in folds if (found := finished(args.runs / name / fold)) is not None}
        if not results:
            raise UsageError(f"{args.runs / name}: no fold is done yet")
        text, gathered = gather(results)
        _write(args.runs / name, text, gathered)
        print(text)
    except subprocess.CalledProcessError as error:
        print(f"{PROGRAM}: fold stopped with {error.returncode}; the same command goes on", file=sys.stderr)
        return _STOPPED if told else 2
    except (UsageError, ValueError, OSError) as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 2
    return 0


def _parts(text: str) -> list[int]:
    from lit_faces.arguments import UsageError

    try:
        parts = [int(part) for part in text.split(",")]
    except ValueError:
        parts = []
    if not parts or not set(parts) <= {1, 2, 3}:
        raise UsageError(f"--parts: expected some of 1,2,3, got {text!r}")
    return parts


def _people(args: argparse.Namespace) -> list[str]:
    """Everybody in the sets that the experiment shares out by folds, or those who are asked for."""
    from lit_faces.arguments import UsageError, read_experiment
    from lit_faces.core.shards import ShardSet

    if args.subjects:
        return [name.strip() for name in args.subjects.split(",") if name.strip()]
    found: set[str] = set()
    arguments = read_experiment(args.experiment).get("data", {}).get("init_args", {})
    for source in arguments.get("sources", []):
        if source.get("use", "folds") == "folds":
            found |= {name.partition(":")[2] or name for name in ShardSet(source["path"]).subjects()}
    if not found:
        raise UsageError(f"{args.experiment}: no source with use: folds, so nobody to leave out")
    return sorted(found)


def _chosen(folds: list[str], index: int | None) -> list[str]:
    from lit_faces.arguments import UsageError

    if index is None:
        return folds
    if not 1 <= index <= len(folds):
        raise UsageError(f"--index {index}: there are {len(folds)} folds; use #SBATCH --array=1-{len(folds)}")
    return [folds[index - 1]]


def _run(args: argparse.Namespace, name: str, fold: str, options: list[str]) -> None:
    """One fold: nothing when it is done, the rest when it was interrupted."""
    from lit_faces.arguments import UsageError
    from lit_faces.core.files import replace_file

    folder = args.runs / name / fold
    wanted = " ".join([str(args.experiment), *options])
    note = folder / "command.txt"
    if note.is_file() and note.read_text() != wanted:
        raise UsageError(f"{folder}: made by another command ({note.read_text()}): choose another --name")
    if finished(folder) is not None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(note, wanted.encode())
    command = [sys.executable, "-m", "lit_faces.fit"]
    begun = sorted(folder.glob("*/checkpoints/last.ckpt"), key=_age)
    if begun:
        command += ["--resume", str(begun[-1].parent.parent)]
    else:
        held_out = ["held_out_subject", fold] if args.leave_one_out else ["held_out_part", fold.removeprefix("part")]
        command += [str(args.experiment), "--name", f"{name}/{fold}", "--runs", str(args.runs)]
        command += [f"--data.{held_out[0]}", held_out[1], *options]
    print(f"{fold} held out: {' '.join(command[1:])}", flush=True)
    subprocess.run(command, check=True)


def _age(path: Path) -> float:
    return path.stat().st_mtime


def finished(folder: Path) -> dict[str, Any] | None:
    """Results of the latest finished run of a fold."""
    found = sorted(folder.glob("*/results.json"), key=_age)
    return read_json(found[-1], "remove it and run the fold again") if found else None


def gather(results: Mapping[str, Mapping[str, Any]]) -> tuple[str, dict[str, Any]]:
    """A table of the folds, and every figure's mean and spread.

    Args:
        results: ``results.json`` of each fold, by its name.

    Returns:
        Markdown, and ``{figure: {"mean": float, "sd": float, "folds": int, "part1": float, ...}}``. A mean is over the
        folds where the figure is defined. Of many folds the table has the lowest and the highest only.
    """
    gathered: dict[str, Any] = {}
    names = sorted({name for found in results.values() for name in found if name.startswith(_KEPT)})
    for name in names:
        values = {fold: _finite(found.get(name)) for fold, found in results.items()}
        known = [value for value in values.values() if value is not None]
        if known:
            spread = statistics.stdev(known) if len(known) > 1 else None
            gathered[name] = {"mean": statistics.fmean(known), "sd": spread, "folds": len(known), **values}
    folds = list(results)
    few = len(folds) <= _COLUMNS
    head = folds if few else [f"lowest of {len(folds)}", "highest"]
    lines = ["| figure | " + " | ".join(head) + " | mean | sd |", "|---" * (len(head) + 3) + "|"]
    for name, row in gathered.items():
        values = {fold: row[fold] for fold in folds}
        cells = [_shown(value) for value in values.values()] if few else _extremes(values)
        lines.append(f"| {name} | " + " | ".join([*cells, _shown(row["mean"]), _shown(row["sd"])]) + " |")
    return "\n".join(lines), gathered


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _extremes(values: Mapping[str, float | None]) -> list[str]:
    """Lowest and highest, and whose they are."""
    known = {fold: value for fold, value in values.items() if value is not None}
    return [
        f"{known[fold]:.3f} ({fold})" for fold in (min(known, key=known.__getitem__), max(known, key=known.__getitem__))
    ]


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _write(folder: Path, text: str, gathered: dict[str, Any]) -> None:
    from lit_faces.core.files import replace_file
    from lit_faces.reports.results import write_json

    replace_file(folder / "folds.md", (text + "\n").encode())
    write_json(folder / "folds.json", gathered)


if __name__ == "__main__":
    raise SystemExit(main())
