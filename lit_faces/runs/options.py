"""The options of ``fit`` that are not of the model, the data or the trainer: the one list of them.

Help, parser, completion and the checks before any work come from :data:`OPTIONS`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lit_faces.arguments import UsageError
from lit_faces.reports.tracking import MODES

_LONGEST = 200  # bytes of a folder's name; file systems allow 255


def _check_name(value: str) -> None:
    path = Path(value)
    bad = path.is_absolute() or ".." in path.parts or not path.parts or "\0" in value
    if bad or any(len(os.fsencode(part)) > _LONGEST for part in path.parts):
        raise UsageError(f"--name {value[:80]!r}: expected the name of a folder below --runs, for example anna_v2")


def _check_runs(value: str) -> None:
    """The nearest folder that is there must be one in which something can be made."""
    place = Path(value).absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise UsageError(f"--runs {value}: {place} is not a folder")
    if not os.access(place, os.W_OK | os.X_OK):
        raise UsageError(f"--runs {value}: nothing can be written in {place}: choose another place")


def _check_count(value: str) -> None:
    if value.lstrip("-").isdigit() and int(value) < 1:  # what is no number at all is for the parser
        raise UsageError(f"--checkpoint_every {value}: expected 1 or more")


def _check_mode(value: str) -> None:
    if value not in MODES:
        raise UsageError(f"--wandb {value}: expected {', '.join(MODES)}")


def _check_file(value: str) -> None:
    if not Path(value).is_file():
        raise UsageError(f"--test_only {value}: no such file")


def _check_run(value: str) -> None:
    path = Path(value)
    if not path.exists():
        raise UsageError(f"--resume {path}: no such run or checkpoint")
    if path.is_file() and path.absolute().parent.name != "checkpoints":
        raise UsageError(f"--resume {path}: expected a run's folder, or a checkpoint in its checkpoints/ folder")


@dataclass(frozen=True)
class Option:
    """An option of fit.

    Attributes:
        name: without dashes.
        kind: what the parser makes of it; bool takes no value on the line.
        default: where it is not given.
        value: how the help calls its value.
        help: one line.
        check: raises UsageError for a value that cannot be; before anything heavy is imported.
        ours: False: Lightning's parser has it already.
    """

    name: str
    kind: Any
    default: Any
    value: str
    help: str
    check: Callable[[str], None] | None = None
    ours: bool = True


OPTIONS = (
    Option("name", str | None, None, "NAME", "name of the run's folder (default: the file's name)", _check_name),
    Option("runs", str, "runs", "DIR", "where runs are kept (default: runs)", _check_runs),
    Option(
        "resume", str | None, None, "RUN|CKPT", "go on with an interrupted run, exactly where it stood", _check_run
    ),
    Option(
        "test_only", str | None, None, "CKPT",
        "no training: test these weights (a checkpoint, or an exported .safetensors)", _check_file,
    ),
    Option("fit_only", bool, False, "", "no test"),
    Option("checkpoint_every", int, 200, "N", "batches between two checkpoints (default: 200)", _check_count),
    Option(
        "wandb", str, "auto", "MODE",
        "auto, offline, online or disabled (default: auto = offline unless logged in)", _check_mode,
    ),
    Option("dry_run", bool, False, "", "print the resolved experiment and stop"),
    Option("print_config", bool, False, "", "the same, complete", ours=False),
    Option("seed_everything", int, 0, "SEED", "of all random numbers (default: 0)", ours=False),
    Option("config", Path, None, "FILE", "the same as an EXPERIMENT.yaml", ours=False),
    Option("help", bool, False, "", "this", ours=False),
)  # fmt: skip
NAMES = frozenset(option.name for option in OPTIONS)
FLAGS = tuple(f"--{option.name}" for option in OPTIONS if option.kind is bool and option.ours)
_HIDDEN = ("config", "help")


def help_text(program: str) -> str:
    """What ``--help`` prints."""
    shown = [
        (f"--{option.name} {option.value}".rstrip(), option.help) for option in OPTIONS if option.name not in _HIDDEN
    ]
    shown += [
        ("--model.X, --data.X, --trainer.X", "any argument, for example --trainer.max_epochs 2"),
        ("--model.help, --data.help", "what there is"),
    ]
    width = 24
    lines = [f"  {name:{width}} {what}" if len(name) <= width else f"  {name}    {what}" for name, what in shown]
    return "\n".join(
        [
            f"usage: {program} EXPERIMENT.yaml [more.yaml ...] [--key.sub value ...]",
            "",
            "Train and test an experiment; later files and options win over earlier ones.",
            "",
            *lines,
            "",
            f"example: {program} experiments/au6_17.yaml --model.init scratch --trainer.max_epochs 2",
        ]
    )
