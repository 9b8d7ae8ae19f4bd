"""An experiment as LightningCLI builds it: model, data, trainer; nothing is written."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from lit_faces import slurm
from lit_faces.arguments import UsageError, guard_parser, parameters, tidy
from lit_faces.command import program
from lit_faces.core.classes import hints_of
from lit_faces.runs.options import NAMES, OPTIONS
from lit_faces.runs.plan import Plan

if TYPE_CHECKING:
    from pytorch_lightning.cli import LightningCLI

_FEWEST_PROCESSES = 8  # that may be started on any machine
#: What constructors say of arguments that cannot be: torch raises RuntimeError for a negative width.
_BUILDING = (ValueError, TypeError, RuntimeError, ArithmeticError, LookupError, OSError, MemoryError)
#: Trainer arguments whose job something of ours does: refused, with the way that works.
_OURS = {
    "default_root_dir": "a run's folder is --runs DIR and --name NAME",
    "use_distributed_sampler": "the data modules share out the data themselves",
}


def build(plan: Plan) -> LightningCLI:
    """Parse and instantiate an experiment.

    Raises:
        UsageError: what was typed cannot be run; the message names the nearest right name.
        SystemExit: ``--print_config`` or a help option has printed what was asked.
    """
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    from pytorch_lightning import LightningDataModule, LightningModule
    from pytorch_lightning.utilities.exceptions import MisconfigurationException

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
                "logger": False,
                "enable_checkpointing": False,
                "num_sanity_val_steps": 0,
                "use_distributed_sampler": False,  # our data modules share out the data themselves
            },
            parser_kwargs={"prog": program("fit")},
        )
    except UsageError as error:
        raise UsageError(plan.where(tidy(str(error), plan.tree))) from error
    except (MisconfigurationException, *_BUILDING) as error:
        if os.environ.get("LIT_FACES_DEBUG"):
            raise
        what = f"{type(error).__name__}: " if isinstance(error, TypeError | RuntimeError | LookupError) else ""
        raise UsageError(plan.where(f"{what}{' '.join(str(error).split())}")) from error
    finally:
        sys.argv = before
    _refuse_what_would_be_ignored(cli)
    return cli


def _groups() -> dict[str, set[str] | None]:
    from pytorch_lightning import Trainer

    return {**dict.fromkeys(sorted(NAMES)), "model": None, "data": None, "trainer": parameters(Trainer)}


def _hints() -> dict[str, Any]:
    """What belongs in each place of an experiment that takes classes."""
    from pytorch_lightning import LightningDataModule, LightningModule, Trainer

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
            for option in OPTIONS:
                if option.ours:
                    parser.add_argument(f"--{option.name}", type=option.kind, default=option.default, help=option.help)

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
    on_gpu = trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    count = _count_devices(devices, torch.cuda.device_count() if on_gpu else 1)
    most = max(_FEWEST_PROCESSES, os.cpu_count() or 1)
    if not on_gpu and not slurm.in_job() and count > most:
        raise UsageError(f"trainer.devices: {count} processes on {os.cpu_count()} cores; expected at most {most}")
    if trainer.strategy == "auto" and count * int(nodes) > 1:
        more["strategy"] = "ddp_find_unused_parameters_true"
    return more


def _count_devices(devices: Any, available: int) -> int:
    """How many devices ``trainer.devices`` asks for.

    Raises:
        UsageError: that is no number of devices.
    """
    if devices in ("auto", "-1", -1):
        return available
    if isinstance(devices, str) and "," in devices:
        devices = [part for part in devices.split(",") if part.strip()]
    try:
        count = len(devices) if isinstance(devices, list | tuple) else int(devices)
    except (TypeError, ValueError) as error:
        raise UsageError(f"trainer.devices: expected a number, a list or auto, got {devices!r}") from error
    if count < 1:
        raise UsageError(f"trainer.devices: expected 1 or more, or auto, got {devices!r}")
    return count


def _refuse_what_would_be_ignored(cli: LightningCLI) -> None:
    """Arguments of the trainer that would be accepted and change nothing.

    Raises:
        UsageError: names the first, and what does what it promises.
    """
    trainer = cli.config.trainer
    for name, instead in _OURS.items():
        if trainer.get(name) not in (None, False):
            raise UsageError(f"trainer.{name}: not here: {instead}")
    if trainer.logger is True:
        raise UsageError("trainer.logger: metrics.csv and W&B (--wandb) are there; give another one by class_path")
    if cli.model.automatic_optimization:
        return
    ignored = {"gradient_clip_val": "clip", "gradient_clip_algorithm": "clip"}
    if trainer.accumulate_grad_batches != 1:
        ignored["accumulate_grad_batches"] = "accumulate"
    for name, own in ignored.items():
        if trainer.get(name) is not None:
            hint = f"use --model.{own}" if hasattr(cli.model, own) else "its training_step decides"
            raise UsageError(f"trainer.{name}: {type(cli.model).__name__} is optimised by hand: {hint}")
