"""python -m lit_faces.folds EXPERIMENT.yaml: train and test with each part held out, and gather one table."""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PROGRAM = "python -m lit_faces.folds"
_KEPT = ("test/icc/", "test/f1/", "test/balanced_accuracy/", "test/expression/")


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Run `lit_faces.fit` with each published part held out in turn, and gather the figures. Folds that "
        "are done are kept, an interrupted one is resumed. All other options go to fit.",
        epilog=f"example: {PROGRAM} experiments/disfa_detector.yaml --trainer.max_epochs 3",
    )
    parser.add_argument(
        "experiment", type=Path, help="experiment file with data of data_modules.prepared.PreparedFaces"
    )
    parser.add_argument("--parts", default="1,2,3", help="parts to hold out (default: 1,2,3)")
    parser.add_argument("--name", help="name of the runs' folder (default: the file's name)")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where runs are kept")
    parser.add_argument("--report", action="store_true", help="no training: gather what is there")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    args, options = build_parser().parse_known_args(argv)
    from lit_faces.arguments import UsageError, existing_file

    try:
        parts = _parts(args.parts)
        existing_file(args.experiment)
        name = args.name or args.experiment.stem
        for part in parts:
            if not args.report:
                _run(args, name, part, options)
        results = {part: found for part in parts if (found := finished(args.runs / name / f"part{part}")) is not None}
        if not results:
            raise UsageError(f"{args.runs / name}: no fold is done yet")
        text, gathered = gather(results)
        _write(args.runs / name, text, gathered)
        print(text)
    except subprocess.CalledProcessError as error:
        print(f"{PROGRAM}: fold stopped with {error.returncode}; the same command goes on", file=sys.stderr)
        return 2
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


def _run(args: argparse.Namespace, name: str, part: int, options: list[str]) -> None:
    """One fold: nothing when it is done, the rest when it was interrupted."""
    from lit_faces.arguments import UsageError

    folder = args.runs / name / f"part{part}"
    wanted = " ".join([str(args.experiment), *options])
    note = folder / "command.txt"
    if note.is_file() and note.read_text() != wanted:
        raise UsageError(f"{folder}: made by another command ({note.read_text()}): choose another --name")
    if finished(folder) is not None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    note.write_text(wanted)
    command = [sys.executable, "-m", "lit_faces.fit"]
    begun = sorted(path.parent.parent for path in folder.glob("*/checkpoints/last.ckpt"))
    if begun:
        command += ["--resume", str(begun[-1])]
    else:
        command += [str(args.experiment), "--name", f"{name}/part{part}", "--runs", str(args.runs)]
        command += ["--data.held_out_part", str(part), *options]
    print(f"part {part} held out: {' '.join(command[1:])}", flush=True)
    subprocess.run(command, check=True)


def finished(folder: Path) -> dict[str, Any] | None:
    """Results of the latest finished run of a fold."""
    found = sorted(folder.glob("*/results.json"))
    return json.loads(found[-1].read_text()) if found else None


def gather(results: Mapping[int, Mapping[str, Any]]) -> tuple[str, dict[str, Any]]:
    """A table of the folds, and every figure's mean and spread.

    Args:
        results: ``results.json`` of each held-out part.

    Returns:
        Markdown, and ``{figure: {"mean": float, "sd": float, "part1": float, ...}}``. A mean is over the folds where
        the figure is defined.
    """
    gathered: dict[str, Any] = {}
    names = sorted({name for found in results.values() for name in found if name.startswith(_KEPT)})
    for name in names:
        values = {part: _finite(found.get(name)) for part, found in results.items()}
        known = [value for value in values.values() if value is not None]
        if known:
            spread = statistics.stdev(known) if len(known) > 1 else None
            columns = {f"part{part}": value for part, value in values.items()}
            gathered[name] = {"mean": statistics.fmean(known), "sd": spread, "folds": len(known), **columns}
    parts = list(results)
    lines = [
        "| figure | " + " | ".join(f"part {part}" for part in parts) + " | mean | sd |",
        "|---" * (len(parts) + 3) + "|",
    ]
    for name, row in gathered.items():
        cells = [row[f"part{part}"] for part in parts] + [row["mean"], row["sd"]]
        lines.append(f"| {name} | " + " | ".join("-" if v is None else f"{v:.3f}" for v in cells) + " |")
    return "\n".join(lines), gathered


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _write(folder: Path, text: str, gathered: dict[str, Any]) -> None:
    from lit_faces.callbacks.results import write_json
    from lit_faces.core.shards import replace_file

    replace_file(folder / "folds.md", (text + "\n").encode())
    write_json(folder / "folds.json", gathered)


if __name__ == "__main__":
    raise SystemExit(main())
