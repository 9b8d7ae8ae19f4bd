"""Train and test an experiment: ``python -m lit_faces.fit EXPERIMENT.yaml [more.yaml ...] [--key.sub value ...]``.

Train what the experiment file describes, test it on people it has never seen, and leave everything in
``runs/<experiment>/<time>/``. LightningCLI underneath; ``--print_config``, ``--dry_run`` and ``--resume RUN`` help.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from lit_faces import slurm
from lit_faces.arguments import (
    UsageError,
    check_keys,
    check_option,
    existing_file,
    guard_parser,
    merge,
    option_names,
    read_experiment,
    split_arguments,
    tidy,
)
from lit_faces.core.quiet import quiet_libraries

if TYPE_CHECKING:
    from pytorch_lightning.cli import LightningCLI

PROGRAM = "python -m lit_faces.fit"
LAST = "last.ckpt"  # as lit_faces.callbacks.checkpoints has it, which is heavy to import
_STAMP = "LIT_FACES_RUN"
_COMMAND, _OWNER = "command.txt", "job.txt"  # in a run's folder: what was typed, and the SLURM job that is at it
HELP = f"""usage: {PROGRAM} EXPERIMENT.yaml [more.yaml ...] [--key.sub value ...]

Train and test an experiment; later files and options win over earlier ones.

  --name NAME              name of the run's folder (default: the file's name)
  --runs DIR               where runs are kept (default: runs)
  --resume RUN|CKPT        go on with an interrupted run, exactly where it stood
  --test_only CKPT         no training: test these weights (a checkpoint, or an exported .safetensors)
  --fit_only               no test
  --checkpoint_every N     batches between two checkpoints (default: 200)
  --wandb MODE             auto, offline, online or disabled (default: auto = offline unless logged in)
  --dry_run                print the resolved experiment and stop
  --print_config           the same, complete
  --model.X, --data.X, --trainer.X    any argument, for example --trainer.max_epochs 2
  --model.help, --data.help           what there is

example: {PROGRAM} experiments/au6_17.yaml --model.init scratch --trainer.max_epochs 2
"""
#: What constructors say of arguments that cannot be: torch raises RuntimeError for a negative width.
BUILDING = (ValueError, TypeError, RuntimeError, ArithmeticError, LookupError, AttributeError, OSError, ImportError)
OWN = {
    "config",
    "name",
    "runs",
    "resume",
    "test_only",
    "fit_only",
    "checkpoint_every",
    "wandb",
    "dry_run",
    "print_config",
    "help",
    "seed_everything",
}


class _Plan:
    """What was typed, before anything heavy is imported."""

    def __init__(self, argv: list[str]) -> None:
        self.files, self.options = split_arguments(argv)
        self.resume = self._value("resume")
        root: Path | None = None
        if self.resume is not None:
            path = Path(self.resume)
            if not path.exists():
                raise UsageError(f"--resume {path}: no such run or checkpoint")
            root = path if path.is_dir() else path.parent.parent
            if not self.files:
                self.files = [existing_file(root / "config.yaml")]
        if not self.files:
            raise UsageError(f"which experiment? usage: {PROGRAM} experiments/au6_17.yaml (see --help)")
        self.tree: dict[str, Any] = {}
        for file in self.files:
            self.tree = merge(self.tree, read_experiment(file))
        self.name = self._value("name") or self.tree.get("name") or self.files[0].stem
        self.root = root or Path(self._value("runs") or self.tree.get("runs") or "runs") / self.name / _run_name()
        again = slurm.in_job() and slurm.was_requeued()
        if root is None and self.root.name == (slurm.run_name() if slurm.in_job() else None):
            self.root = _folder_in_job(self.root, self.command, again)
        self.done = root is None and again and (self.root / "results.json").is_file()
        if again and (self.root / "checkpoints" / LAST).is_file():
            self.resume = str(self.root)  # also after a --resume of an older checkpoint: what was reached since counts

    @property
    def command(self) -> str:
        """What was typed."""
        return " ".join([PROGRAM, *map(str, self.files), *self.options])

    def _value(self, key: str) -> str | None:
        for index, option in enumerate(self.options):
            if option.startswith(f"--{key}="):
                return option.partition("=")[2]
            if option == f"--{key}" and index + 1 < len(self.options):
                return self.options[index + 1]
        return None

    def where(self, message: str) -> str:
        """The message with the files before it, unless it is of an option that was typed."""
        typed = any(message.startswith(f"{name}:") for name in option_names(self.options))
        return message if typed else f"{', '.join(map(str, self.files))}: {message}"

    def check(self, groups: dict[str, set[str] | None], hints: dict[str, Any]) -> None:
        for file in self.files:
            check_keys(read_experiment(file), groups, str(file), hints)
        check_keys(self.tree, groups, str(self.files[-1]), hints)  # arguments in one file, their class in another
        for name in option_names(self.options):
            check_option(name, self.tree, groups)


def _run_name() -> str:
    """The run's folder: the SLURM job, or the time at which rank 0 started. All ranks get the same."""
    if slurm.in_job() and (name := slurm.run_name()) is not None:
        return name
    if "LOCAL_RANK" in os.environ:  # another process of the same training
        if _STAMP in os.environ:
            return os.environ[_STAMP]
        if os.environ.get("TORCHELASTIC_RUN_ID", "none") == "none":
            raise UsageError("torchrun: give it --rdzv_id=NAME, so that all processes agree on the run's folder")
        return f"torchrun-{os.environ['TORCHELASTIC_RUN_ID']}"
    os.environ[_STAMP] = time.strftime("%Y%m%d-%H%M%S")
    return os.environ[_STAMP]


def _folder_in_job(folder: Path, command: str, again: bool) -> Path:
    """The folder of a command in a SLURM job that may run several: ``slurm-77``, then ``slurm-77.2``, ...

    Args:
        folder: by the job and step.
        command: what was typed.
        again: the job was requeued, so that folders belong to the commands that they name.

    Raises:
        UsageError: another command of several tasks has it.
    """
    count = 1
    found = folder
    while found.exists():
        note = found / _COMMAND
        theirs = note.read_text() if note.is_file() else command
        if theirs == command and (again or int(os.environ["SLURM_NTASKS"]) > 1):
            break
        if int(os.environ["SLURM_NTASKS"]) > 1:  # who came second cannot be told: the tasks start together
            raise UsageError(f"{note}: this step has run `{theirs}` there: give each of its commands a --name")
        count += 1
        found = folder.with_name(f"{folder.name}.{count}")
    return found


def _groups() -> dict[str, set[str] | None]:
    from pytorch_lightning import Trainer

    from lit_faces.arguments import parameters

    return {
        **dict.fromkeys(sorted(OWN)),
        "model": None,
        "data": None,
        "trainer": parameters(Trainer),
        "optimizer": None,
        "lr_scheduler": None,
    }


def _hints() -> dict[str, Any]:
    """What belongs in each place of an experiment that takes classes."""
    from pytorch_lightning import LightningDataModule, LightningModule, Trainer

    from lit_faces.core.classes import hints_of

    trainer = {f"trainer.{name}": hint for name, hint in hints_of(Trainer).items()}
    return {"model": LightningModule, "data": LightningDataModule, **trainer}


def _cli_class(options: list[str]) -> Any:
    from pytorch_lightning.cli import LightningArgumentParser, LightningCLI

    class Parser(LightningArgumentParser):
        """Errors as one line instead of the whole usage."""

        def error(self, message: str, ex: Exception | None = None) -> Any:
            raise UsageError(message) from ex

    class FitCLI(LightningCLI):
        """LightningCLI with our options."""

        def __init__(self, **kwargs: Any) -> None:
            super().__init__(parser_class=Parser, **kwargs)

        def instantiate_trainer(self, **kwargs: Any) -> Any:
            return super().instantiate_trainer(**_distributed(self.config_init.trainer, options), **kwargs)

        def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
            parser.add_argument("--name", type=str | None, default=None, help="name of the run's folder")
            parser.add_argument("--runs", type=str, default="runs", help="where runs are kept")
            parser.add_argument(
                "--resume", type=str | None, default=None, help="run folder or checkpoint to go on with"
            )
            parser.add_argument("--test_only", type=str | None, default=None, help="weights to test without training")
            parser.add_argument("--fit_only", type=bool, default=False, help="do not test")
            parser.add_argument("--checkpoint_every", type=int, default=200, help="batches between two checkpoints")
            parser.add_argument("--wandb", type=str, default="auto", help="auto, offline, online or disabled")
            parser.add_argument("--dry_run", type=bool, default=False, help="print the experiment and stop")

    return FitCLI


def _distributed(trainer: Any, options: list[str]) -> dict[str, Any]:
    """What several processes need: SLURM's layout, and DDP that allows for networks which take turns."""
    import torch
    from pytorch_lightning.plugins.environments import SLURMEnvironment

    devices, nodes = trainer.devices, trainer.num_nodes
    more: dict[str, Any] = {}
    if slurm.in_job():
        typed = any(o.partition("=")[0] in ("--trainer.devices", "--trainer.num_nodes") for o in options)
        more.update(slurm.layout(devices, nodes, typed))
        devices, nodes = more.get("devices", devices), more.get("num_nodes", nodes)
        if SLURMEnvironment.detect():
            plugins = trainer.plugins if isinstance(trainer.plugins, list) else [trainer.plugins]
            mine: Any = SLURMEnvironment(auto_requeue=False)  # see lit_faces.slurm
            more["plugins"] = [*(plugin for plugin in plugins if plugin is not None), mine]
    if devices in ("auto", "-1", -1):
        cuda = trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
        devices = torch.cuda.device_count() if cuda else 1
    count = len(devices) if isinstance(devices, list | tuple) else int(devices)
    if trainer.strategy == "auto" and count * int(nodes) > 1:
        more["strategy"] = "ddp_find_unused_parameters_true"
    return more


def build(argv: list[str]) -> LightningCLI:
    """Parse and instantiate an experiment; nothing is trained or written.

    Raises:
        UsageError: what was typed cannot be run; the message names the nearest right name.
        SystemExit: ``--print_config`` or a help option has printed what was asked.
    """
    return _build(_Plan(argv))


def _build(plan: _Plan) -> LightningCLI:
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    from pytorch_lightning import LightningDataModule, LightningModule

    plan.check(_groups(), _hints())
    guard_parser()
    arguments = [part for file in plan.files for part in ("--config", str(file))] + plan.options
    before = sys.argv
    sys.argv = ["fit", *arguments]  # LightningCLI(args=...) warns
    try:
        cli = _cli_class(plan.options)(
            model_class=LightningModule,
            datamodule_class=LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            run=False,
            auto_configure_optimizers=False,
            seed_everything_default=0,
            save_config_callback=None,
            trainer_defaults={
                "default_root_dir": str(plan.root),
                "logger": False,
                "enable_checkpointing": False,
                "num_sanity_val_steps": 0,
                "use_distributed_sampler": False,  # our data modules share out the data themselves
            },
            parser_kwargs={"prog": PROGRAM},
        )
    except UsageError as error:
        raise UsageError(plan.where(tidy(str(error), plan.tree))) from error
    except BUILDING as error:  # of the constructors of the classes
        if os.environ.get("LIT_FACES_DEBUG"):
            raise
        what = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise UsageError(plan.where(f"{what}{' '.join(str(error).split())}")) from error
    finally:
        sys.argv = before
    cli.trainer._default_root_dir = str(plan.root)  # a resumed run keeps its folder, whatever its file says
    return cli


def _loggers(cli: LightningCLI, plan: _Plan, start_step: int | None) -> list[Any]:
    from lit_faces.callbacks.metrics_csv import MetricsCSV
    from lit_faces.reports.tracking import default_wandb_mode

    loggers: list[Any] = [MetricsCSV(plan.root, keep_until=start_step)]
    mode = default_wandb_mode() if cli.config.wandb == "auto" else cli.config.wandb
    if mode not in ("offline", "online", "disabled"):
        raise UsageError(f"--wandb {mode}: expected auto, offline, online or disabled")
    if mode != "disabled":
        os.environ["WANDB_MODE"] = mode
        os.environ.setdefault("WANDB_SILENT", "true")
        from pytorch_lightning.loggers import WandbLogger

        from lit_faces.reports.results import circumstances

        config = {**yaml.safe_load(cli.parser.dump(cli.config, skip_none=False)), **circumstances()}
        before = sorted((plan.root / "wandb").glob("*run-*-*"), key=lambda path: path.name)
        same: dict[str, Any] = {}
        if before and start_step:
            same = {"id": before[-1].name.rpartition("-")[2], "resume": "allow"}
        logger = WandbLogger(
            name=f"{plan.name}/{plan.root.name}",
            project="lit_faces",
            save_dir=str(plan.root.resolve()),  # its service may stand in another folder
            config=config,
            group=plan.name,
            job_type="fit",
            **same,
        )
        getattr(logger, "_wandb_init", {}).pop("anonymous", None)  # Lightning gives it, W&B warns of it
        loggers.append(logger)
    return loggers


def _callbacks(cli: LightningCLI, plan: _Plan) -> list[Any]:
    from lit_faces.callbacks.checkpoints import LastCheckpoint
    from lit_faces.callbacks.panels import Panels
    from lit_faces.callbacks.people import People
    from lit_faces.callbacks.progress import progress_callback
    from lit_faces.callbacks.requeue import Requeue
    from lit_faces.callbacks.results import Results
    from lit_faces.callbacks.strips import AUStrips
    from lit_faces.callbacks.wandb_media import WandbMedia

    facts = {
        "run/experiment": plan.name,
        "run/command": plan.command,
        "run/seed": cli.config.seed_everything,
        "data/class": cli.config.data.class_path,
        **{
            f"data/{key}": value
            for key, value in vars(cli.config.data.init_args).items()
            if isinstance(value, str | int | float)
        },
    }
    pictures = [Panels(), AUStrips()] if hasattr(cli.model, "reenact") else []
    order = [progress_callback(), *pictures, People(), Results(facts), WandbMedia()]
    given = {type(callback) for callback in cli.trainer.callbacks}  # type: ignore[attr-defined]
    last = LastCheckpoint(cli.config.checkpoint_every)
    leave = [Requeue(last)] if slurm.in_job() else []
    return [callback for callback in order if type(callback) not in given] + [*leave, last]


def _checkpoint(path: Path, cli: LightningCLI) -> tuple[Path, int]:
    """The checkpoint to resume from, checked against the networks of the experiment, and the batches behind it.

    metrics.csv counts batches; ``global_step`` counts optimiser steps.
    """
    from lit_faces.core.weights import load_checkpoint, load_state

    file = path / "checkpoints" / LAST if path.is_dir() else path
    checkpoint = load_checkpoint(file)
    batches = _batches_done(file, checkpoint)
    load_state(cli.model, checkpoint["state_dict"], str(file))
    return file, batches


def _batches_done(file: Path, checkpoint: dict[str, Any] | None = None) -> int:
    """Training batches behind a checkpoint.

    Raises:
        ValueError: it holds weights only.
    """
    from lit_faces.core.weights import load_checkpoint, training_state

    return training_state(load_checkpoint(file) if checkpoint is None else checkpoint, file)


def _load_for_test(path: Path, cli: LightningCLI) -> None:
    from lit_faces.core.weights import load_checkpoint, load_state, plain_weights

    if not path.is_file():
        raise UsageError(f"--test_only {path}: no such file")
    if path.suffix == ".safetensors":
        if hasattr(cli.model, "load_exported"):
            cli.model.load_exported(path)
            return
        cli.model.init = str(path)
        cli.model.load_initial_weights()
        return
    state, stripped = plain_weights(load_checkpoint(path), path, cli.model.state_dict())
    if stripped:
        print(f"{path}: {stripped!r} was left out of the weights' names", flush=True)
    load_state(cli.model, state, str(path))
    if hasattr(cli.model, "_initialised"):
        cli.model._initialised = True


def _save_config(cli: LightningCLI, root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    temporary = root / "config.yaml.tmp"
    cli.parser.save(cli.config, temporary, skip_none=False, overwrite=True, multifile=False)
    os.replace(temporary, root / "config.yaml")


def _own(plan: _Plan) -> None:
    """Leave word whose folder it is.

    Raises:
        UsageError: another SLURM job is at work in it.
    """
    from lit_faces.core.files import replace_file

    plan.root.mkdir(parents=True, exist_ok=True)
    owner = plan.root / _OWNER
    before = owner.read_text() if owner.is_file() else ""
    mine = slurm.job_id() if slurm.in_job() else ""
    if before not in ("", mine) and slurm.in_queue(before):
        raise UsageError(f"{owner}: job {before} is still at work there: wait for it, or `scancel {before}`")
    if mine:
        replace_file(owner, mine.encode())
    else:
        owner.unlink(missing_ok=True)
    if not (plan.root / _COMMAND).is_file():
        replace_file(plan.root / _COMMAND, plan.command.encode())


def run(plan: _Plan) -> LightningCLI | None:
    """Train and test."""
    if plan.done:
        print(f"done before: {plan.root}", flush=True)
        return None
    cli = _build(plan)
    if cli.config.dry_run:
        print(cli.parser.dump(cli.config, skip_none=True))
        return cli
    resume, start = _checkpoint(Path(plan.resume), cli) if plan.resume else (None, None)
    if cli.config.test_only:
        _load_for_test(Path(cli.config.test_only), cli)
    trainer = cli.trainer
    if trainer.is_global_zero:
        _own(plan)
    # Lightning wants checkpointing callbacks last; its own default progress bar makes way for ours
    from pytorch_lightning.callbacks import ProgressBar

    ours = _callbacks(cli, plan)
    theirs = [c for c in trainer.callbacks if not isinstance(c, ProgressBar)]  # type: ignore[attr-defined]
    trainer.callbacks = theirs + ours  # type: ignore[attr-defined]
    trainer.loggers = _loggers(cli, plan, start)
    if trainer.is_global_zero:
        _save_config(cli, plan.root)
        print(f"run folder: {plan.root}", flush=True)
    if not cli.config.test_only:
        trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=resume, weights_only=True)
        if trainer.interrupted:
            raise KeyboardInterrupt
    if not cli.config.fit_only:
        trainer.test(cli.model, datamodule=cli.datamodule, verbose=False)
    if trainer.is_global_zero:
        _finish_wandb(trainer)
        print(f"done: {plan.root}", flush=True)
    return cli


def _finish_wandb(trainer: Any) -> None:
    """Write the run's file to its end; another fit in this process starts a run of its own."""
    from pytorch_lightning.loggers import WandbLogger

    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.finish()


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code (2: what was typed cannot be run, 130: interrupted)."""
    argv = sys.argv[1:] if argv is None else list(argv)
    if not argv or argv[0] in ("-h", "--help"):
        print(HELP)
        return 0 if argv else 2
    plan = None
    if slurm.in_job():
        slurm.SIGNALS.install()  # before anything heavy is imported
    try:
        plan = _Plan(argv)
        quiet_libraries()
        run(plan)
    except (UsageError, FileNotFoundError, ValueError) as error:
        if os.environ.get("LIT_FACES_DEBUG"):
            raise
        print(f"lit_faces.fit: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        where = plan.root if plan is not None else "RUN"
        print(f"lit_faces.fit: interrupted; go on with `{PROGRAM} --resume {where}`", file=sys.stderr)
        return 130
    except RuntimeError as error:
        if plan is None or not _lost_a_process(error):
            raise
        print(_obituary(plan, error), file=sys.stderr, flush=True)
        return 1
    return 0


def _lost_a_process(error: RuntimeError) -> bool:
    """Whether a collective call failed because another process is gone."""
    text = str(error)
    signs = (
        "Connection closed by peer",
        "Connection reset by peer",
        "Broken pipe",
        "NCCL",
        "[Rank ",
        "Timed out waiting",
    )
    return any(sign in text for sign in signs)


def _obituary(plan: _Plan, error: RuntimeError) -> str:
    rank = os.environ.get("SLURM_PROCID") or os.environ.get("RANK") or os.environ.get("LOCAL_RANK", "0")
    first = str(error).strip().splitlines()[-1][:200]
    kept = plan.root / "checkpoints" / LAST
    go_on = f"go on with `{PROGRAM} --resume {plan.root}`" if kept.is_file() else "no checkpoint had been written yet"
    return f"lit_faces.fit: error: rank {rank} lost another process of the training ({first}); {go_on}"


if __name__ == "__main__":
    raise SystemExit(main())
