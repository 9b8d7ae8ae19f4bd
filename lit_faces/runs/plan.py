"""What was typed, before anything heavy is imported: files, options, the name and the folder of the run."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from lit_faces import slurm
from lit_faces.arguments import (
    UsageError,
    check_keys,
    check_option,
    existing_file,
    merge,
    option_names,
    read_experiment,
    split_arguments,
)
from lit_faces.command import program
from lit_faces.runs.folder import last_checkpoint, take_folder
from lit_faces.runs.options import FLAGS, OPTIONS, Option


class Plan:
    """What was typed.

    Args:
        argv: files and options.

    Attributes:
        files: experiment files, later ones win.
        options: all options, as jsonargparse wants them.
        tree: the files, merged.
        name: of the experiment.

    Raises:
        UsageError: it cannot be run; says what to type instead.
    """

    def __init__(self, argv: list[str]) -> None:
        self.files, self.options = split_arguments(argv, FLAGS)
        self.tree: dict[str, Any] = {}
        self._given: Path | None = None  # the run to go on with
        if (resume := self._typed("resume")) is not None:
            _check(next(option for option in OPTIONS if option.name == "resume"), resume)
            path = Path(resume)
            self._given = path.parent.parent if path.is_file() else path
        if self._given is not None and not self.files and self._given.is_dir():
            self.files = [existing_file(self._given / "config.yaml")]
        if not self.files and self._given is None:
            raise UsageError(f"which experiment? usage: {program('fit')} experiments/au6_17.yaml (see --help)")
        for file in self.files:
            self.tree = merge(self.tree, read_experiment(file))
        for option in OPTIONS:
            _check(option, self.value(option.name))
        self.name = str(self.value("name") or self.files[0].stem)

    def value(self, name: str) -> Any:
        """An option of ours: as typed, else as a file has it, else its default."""
        default = next(option.default for option in OPTIONS if option.name == name)
        found = self._typed(name) or self.tree.get(name)
        return default if found is None else found

    def _typed(self, name: str) -> str | None:
        found = None
        for index, option in enumerate(self.options):
            if option.startswith(f"--{name}="):
                found = option.partition("=")[2]
            elif option == f"--{name}" and index + 1 < len(self.options):
                found = self.options[index + 1]
        return None if found == "null" else found

    @property
    def command(self) -> str:
        """What was typed, the same whether by ``lit-faces`` or ``python -m``."""
        return " ".join(["python -m lit_faces.fit", *map(str, self.files), *self.options])

    @property
    def writes(self) -> bool:
        """Whether a run is wanted, not only a look at the experiment."""
        asked = {name.partition(".")[0] for name in option_names(self.options) if not name.endswith(".help")}
        helps = any(name.endswith("help") for name in option_names(self.options))
        dry = str(self.value("dry_run")).lower() in ("true", "yes", "1", "on")
        return not (dry or helps or "print_config" in asked)

    @cached_property
    def root(self) -> Path:
        """The run's folder. A new one is made, and this run's alone, the first time that it is asked for."""
        return self._given or take_folder(Path(self.value("runs")) / self.name, self.command)

    @property
    def go_on(self) -> str:
        """What to do after an interruption."""
        known = self._given or self.__dict__.get("root")
        if known is not None and last_checkpoint(known).is_file():
            return f"go on with `{program('fit')} --resume {known}`"
        return "no checkpoint had been written yet: run the same command again"

    @property
    def done(self) -> bool:
        """Whether a requeued job had ended before."""
        return self._given is None and _again() and (self.root / "results.json").is_file()

    @property
    def resume(self) -> Path | None:
        """Run or checkpoint to go on with. What a requeued job has reached since counts more than what was typed."""
        if _again() and last_checkpoint(self.root).is_file():
            return self.root
        typed = self._typed("resume")
        return None if typed is None else Path(typed)

    def where(self, message: str) -> str:
        """The message with the files before it, unless it is of an option that was typed."""
        typed = any(message.startswith(f"{name}:") for name in option_names(self.options))
        return message if typed or not self.files else f"{', '.join(map(str, self.files))}: {message}"

    def check(self, groups: dict[str, set[str] | None], hints: dict[str, Any]) -> None:
        """Every key of files and options must exist, and every class must be of the kind that belongs in its place.

        Args:
            groups: top-level keys, see :func:`lit_faces.arguments.check_keys`.
            hints: annotations of the places that take classes.

        Raises:
            UsageError: the first that does not; names the nearest.
        """
        for file in self.files:
            check_keys(read_experiment(file), groups, str(file), hints)
        if len(self.files) > 1:  # arguments in one file, their class in another
            check_keys(self.tree, groups, str(self.files[-1]), hints)
        for name in option_names(self.options):
            check_option(name, self.tree, groups)


def _check(option: Option, value: Any) -> None:
    if option.check is not None and value is not None:
        option.check(str(value))


def _again() -> bool:
    return slurm.in_job() and slurm.was_requeued()
