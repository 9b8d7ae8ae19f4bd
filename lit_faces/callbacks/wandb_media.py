"""The same pictures and figures to Weights & Biases, offline unless the user is logged in."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import WandbLogger

from lit_faces.reports.tracking import (
    STEP,
    au_table,
    define_metrics,
    described_artifact,
    direction,
    plain_value,
    set_facts,
    use,
    weights_artifact,
)

_WEIGHTS = ("generator.safetensors", "detector.safetensors")
_IRRELEVANT = (
    "num_workers",
    "decode_threads",
    "pin_memory",
    "prepare_data_per_node",
    "allow_zero_length_dataloader_with_multiple_devices",
)
#: What a picture of a group shows, behind its name and step.
CAPTIONS = {
    "panels": ": source, asked landmarks, asked AUs, target, output, kept pixels, attention, flow",
    "strips": ": one AU from 0 to 5 on a person never seen; below, where there is one, the rendered truth",
    "plots": "",
}


def wandb_run(trainer: Trainer) -> Any:
    """The run of the trainer's WandbLogger; None without one, and on ranks that do not log."""
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger) and trainer.is_global_zero:
            return logger.experiment
    return None


class WandbMedia(Callback):
    """What a W&B run page shows besides the scalars of the logger; nothing without a WandbLogger.

    Figures know which end is good (``define_metric``). Panels, AU strips over training, plots and strips of the test
    come as captioned images, people and AUs as tables, weights as an artifact that says which data and which
    weights it was made of. Pictures with real people in them (a data module that does not render) stay in the run's
    folder.

    Args:
        upload_photos: log those as well, and the strips of a real photograph.
    """

    def __init__(self, upload_photos: bool = False) -> None:
        self.upload_photos = upload_photos

    def _shows_people(self, trainer: Trainer) -> bool:
        """Whether pictures of faces may be logged."""
        return self.upload_photos or getattr(trainer, "datamodule", None) is None or _rendered(trainer)

    def _log_image(self, trainer: Trainer, key: str, file: Path) -> None:
        run = wandb_run(trainer)
        if run is None or not file.is_file():
            return
        import wandb

        what = CAPTIONS.get(key.partition("/")[0], "")
        picture = wandb.Image(str(file), caption=f"{file.stem}, step {trainer.global_step}{what}")
        run.log({key: picture, STEP: trainer.global_step})

    def _log_faces(self, trainer: Trainer, stage: str) -> None:
        """Panel and strips of this step, as far as they were drawn."""
        if not self._shows_people(trainer):
            return
        root, step = Path(trainer.default_root_dir), f"{trainer.global_step:06d}"
        self._log_image(trainer, f"panels/{stage}", root / "panels" / f"{stage}-{step}.png")
        for file in sorted((root / "strips").glob(f"{stage}-AU*-{step}.png")):
            self._log_image(trainer, f"strips/{stage}/{file.stem.split('-')[1]}", file)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Say what the run reads."""
        run = wandb_run(trainer)
        if run is None or run.config.get("inputs") is not None:
            return
        inputs = []
        data = data_facts(getattr(trainer, "datamodule", None))
        if data:
            inputs.append(use(run, described_artifact("data", data)))
        init = getattr(pl_module, "init", None)
        if isinstance(init, str) and init.endswith(".safetensors") and Path(init).is_file():
            inputs.append(use(run, weights_artifact(_kind_of(pl_module), Path(init))))
        run.config.update({"inputs": inputs}, allow_val_change=True)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Panel and strips of this validation; the first time, how figures are summed up."""
        if trainer.sanity_checking:
            return
        run = wandb_run(trainer)
        if run is not None and not self._defined:
            define_metrics(run, sorted(k for k in trainer.callback_metrics if k.startswith(("train/", "val/"))))
            self._defined = True
        self._log_faces(trainer, "val")

    _defined = False

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Pictures, tables and weights, and how to look at them."""
        run = wandb_run(trainer)
        if run is None:
            return
        import wandb

        self._log_faces(trainer, "test")
        root = Path(trainer.default_root_dir)
        for file in sorted((root / "strips").glob("AU*.png")):
            own = self._shows_people(trainer) and not file.stem.endswith("-photo")
            if own or self.upload_photos:
                self._log_image(trainer, f"strips/{file.stem}", file)
        for file in sorted((root / "plots").glob("*.png")):
            self._log_image(trainer, f"plots/{file.stem}", file)
        figures = {k: float(v) for k, v in sorted(trainer.callback_metrics.items()) if k.startswith("test/")}
        define_metrics(run, figures)
        rows = [[name, value if math.isfinite(value) else None, direction(name)] for name, value in figures.items()]
        tables = {"tables/results": wandb.Table(columns=["name", "value", "good is"], data=rows)}
        if (table := au_table(figures)) is not None:
            tables["tables/aus"] = wandb.Table(columns=list(table[0]), data=table[1])
        people: list[dict[str, Any]] = getattr(pl_module, "tested_people", list)()
        if people:
            columns: list[str | int] = list(people[0])
            cells = [[plain_value(row.get(str(name))) for name in columns] for row in people]
            tables["tables/people"] = wandb.Table(columns=columns, data=cells)
        run.log({**tables, STEP: trainer.global_step})
        weights = next((root / name for name in _WEIGHTS if (root / name).is_file()), None)
        if weights is not None:
            run.log_artifact(weights_artifact(_kind_of(pl_module), weights))
        folder = Path(run.dir).parent
        if run.offline:
            print(f"W&B, offline: browse with `wandb leet {folder}`, upload with `wandb sync {folder}`", flush=True)
        else:
            print(f"W&B: {run.url}; browse here with `wandb leet {folder}`", flush=True)


def _kind_of(pl_module: LightningModule) -> str:
    return "generator" if hasattr(pl_module, "reenact") else "detector"


def _rendered(trainer: Trainer) -> bool:
    return getattr(getattr(trainer, "datamodule", None), "renderer_options", None) is not None


def data_facts(datamodule: Any) -> dict[str, Any]:
    """What a data module streams, in plain words: settings and digests, no face, no path."""
    if datamodule is None:
        return {}
    facts: dict[str, Any] = {"class": type(datamodule).__qualname__}
    for name, value in sorted(vars(datamodule).items()):
        if not name.startswith("_") and isinstance(value, bool | int | float) and name not in _IRRELEVANT:
            facts[name] = value
    if (options := getattr(datamodule, "renderer_options", None)) is not None:
        facts["renderer"] = {key: str(value) for key, value in options.items()}
    sets = []
    for source in getattr(datamodule, "sources", []):
        try:
            sets.append({"use": source.use, "weight": source.weight, **set_facts(Path(source.path))})
        except (OSError, ValueError):  # an object store
            sets.append({"use": source.use, "weight": source.weight})
    return {**facts, "sets": sets} if sets else facts
