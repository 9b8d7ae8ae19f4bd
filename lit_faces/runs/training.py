"""The way of a run: built, its folder taken, trained, tested."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from lit_faces import slurm
from lit_faces.runs.build import build
from lit_faces.runs.folder import sign, working_in
from lit_faces.runs.plan import Plan

if TYPE_CHECKING:
    from pytorch_lightning.cli import LightningCLI


def run(plan: Plan) -> LightningCLI | None:
    """Train and test; None when a requeued job had been done before.

    Raises:
        UsageError: what was typed cannot be run; nothing has been written then.
        BusyError: another process works in the run's folder.
        Terminated: SIGTERM.
        KeyboardInterrupt: SIGINT.
    """
    if plan.writes and plan.done:
        print(f"done before: {plan.root}", flush=True)
        return None
    cli = build(plan)
    if cli.config.dry_run:
        print(cli.parser.dump(cli.config, skip_none=True))
        return cli
    from lit_faces.runs.checkpoints import checkpoint_to_resume, load_for_test

    resume = start = None
    if (given := plan.resume) is not None:
        resume, start = checkpoint_to_resume(given, cli.model)
    elif hasattr(cli.model, "starts_from") and not cli.config.test_only:
        cli.model.starts_from()  # a wrong word is said before any work
    if cli.config.test_only:
        load_for_test(Path(cli.config.test_only), cli.model)
    callbacks = _callbacks(cli, plan)
    trainer = cli.trainer
    trainer._default_root_dir = str(plan.root)  # type: ignore[attr-defined]  # the folder is taken only now
    with working_in(plan.root, trainer.is_global_zero):
        if trainer.is_global_zero:
            sign(plan.root, plan.command)
        trainer.callbacks = callbacks  # type: ignore[attr-defined]
        trainer.loggers = [*_loggers(cli, plan, start), *trainer.loggers]
        if trainer.is_global_zero:
            _save_config(cli, plan.root)
            print(f"run folder: {plan.root}", flush=True)
        try:
            _train_and_test(cli, resume)
        except BaseException:
            _finish_wandb(trainer, failed=True)
            raise
        _finish_wandb(trainer)
        if trainer.is_global_zero:
            print(f"done: {plan.root}", flush=True)
            _show(plan.root)
    return cli


def _show(root: Path) -> None:
    """Say what to look at, and draw the curves: the run is whole without them."""
    from lit_faces.reports.comparison import curves_plot
    from lit_faces.reports.runs import Run, curves_of

    for panel in sorted(root.glob("panels/test-*.png"))[-1:]:
        print(f"look at: {panel}", flush=True)
    run = Run(root.name, curves=curves_of(root / "metrics.csv"))
    try:
        if (curves := curves_plot([run], root / "plots" / "curves.png")) is not None:
            print(f"look at: {curves}", flush=True)
    except OSError as error:
        print(f"the curves were not drawn: {error}", flush=True)


def _train_and_test(cli: LightningCLI, resume: Path | None) -> None:
    from lit_faces.tasks.obedient import obedient

    trainer = cli.trainer
    with obedient(trainer):
        if not cli.config.test_only:
            trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=resume, weights_only=True)
        if not cli.config.fit_only:
            trainer.test(cli.model, datamodule=cli.datamodule, verbose=False)


def _callbacks(cli: LightningCLI, plan: Plan) -> list[Any]:
    """Those of the experiment, then ours; Lightning wants checkpointing ones last, and its own bar makes way."""
    from pytorch_lightning.callbacks import ProgressBar

    from lit_faces.callbacks.checkpoints import LastCheckpoint
    from lit_faces.callbacks.leaving import Leaving
    from lit_faces.callbacks.panels import Panels
    from lit_faces.callbacks.people import People
    from lit_faces.callbacks.progress import progress_callback
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
    theirs = [c for c in cli.trainer.callbacks if not isinstance(c, ProgressBar)]  # type: ignore[attr-defined]
    given = {type(callback) for callback in cli.trainer.callbacks}  # type: ignore[attr-defined]
    last = LastCheckpoint(cli.config.checkpoint_every)
    leaving = Leaving(last, seconds=5.0 if slurm.in_job() else 1.0)
    return [*theirs, *(callback for callback in order if type(callback) not in given), last, leaving]


def _loggers(cli: LightningCLI, plan: Plan, start: int | None) -> list[Any]:
    from lit_faces.callbacks.metrics_csv import MetricsCSV
    from lit_faces.reports.tracking import resolve_mode

    loggers: list[Any] = [MetricsCSV(plan.root, keep_until=start)]
    mode = resolve_mode(cli.config.wandb)
    if mode != "disabled":
        os.environ["WANDB_MODE"] = mode
        loggers.append(_wandb_logger(cli, plan, resumed=bool(start)))
    return loggers


def _wandb_logger(cli: LightningCLI, plan: Plan, resumed: bool) -> Any:
    """The same run again where one is resumed; no path, no host, no user."""
    os.environ.setdefault("WANDB_SILENT", "true")
    from pytorch_lightning.loggers import WandbLogger

    from lit_faces.reports.results import circumstances
    from lit_faces.reports.tracking import wandb_settings, without_paths

    config = yaml.safe_load(cli.parser.dump(cli.config, skip_none=False))
    before = sorted((plan.root / "wandb").glob("*run-*-*"), key=lambda path: path.name)
    same: dict[str, Any] = {"id": before[-1].name.rpartition("-")[2], "resume": "allow"} if before and resumed else {}
    logger = WandbLogger(
        name=f"{plan.name}/{plan.root.name}",
        project="lit_faces",
        save_dir=str(plan.root.resolve()),  # its service may stand in another folder
        config={**without_paths(config), **circumstances()},
        group=plan.name,
        job_type="fit",
        settings=wandb_settings(),
        **same,
    )
    getattr(logger, "_wandb_init", {}).pop("anonymous", None)  # Lightning gives it, W&B warns of it
    return logger


def _save_config(cli: LightningCLI, root: Path) -> None:
    from lit_faces.core.files import replacing

    with replacing(root / "config.yaml") as temporary:
        cli.parser.save(cli.config, temporary, skip_none=False, overwrite=True, multifile=False)


def _finish_wandb(trainer: Any, failed: bool = False) -> None:
    """Write the run's file to its end; another fit in this process starts a run of its own."""
    from pytorch_lightning.loggers import WandbLogger

    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger) and trainer.is_global_zero and logger._experiment is not None:
            logger.experiment.finish(exit_code=1 if failed else 0)
