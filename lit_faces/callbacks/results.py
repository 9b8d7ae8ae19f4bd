"""results.json is written, and the table printed, when a test has ended."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback

from lit_faces.reports.results import circumstances, peak_rss_gib, table, write_json


class Results(Callback):
    """Collects what ``test`` logged and writes results.json into the run folder.

    Args:
        facts: entries known before the run starts (experiment, data set, seeds, ...), flat.
    """

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self.facts = dict(facts)
        self.started = time.time()
        self.path: Path | None = None

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the file and print the table."""
        if not trainer.is_global_zero:
            return
        measured = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("test/")}
        words = getattr(pl_module, "result_notes", None)  # protocol names and the like, plain data
        self.path = Path(trainer.default_root_dir) / "results.json"
        parameters = {f"model/{name}_parameters": count for name, count in parameter_counts(pl_module).items()}
        everything = {
            **measured,
            **(words() if callable(words) else {}),
            **self.facts,
            **parameters,
            **circumstances(),
            "run/world_size": trainer.world_size,
            "run/wall_time_s": round(time.time() - self.started, 1),
            "run/peak_rss_gib": round(peak_rss_gib(), 2),
        }
        write_json(self.path, everything)
        print("\n" + table(everything) + "\n", flush=True)


def parameter_counts(pl_module: LightningModule) -> dict[str, int]:
    """Number of trainable parameters of each network of a task."""
    counts = {
        name: sum(p.numel() for p in child.parameters() if p.requires_grad)
        for name, child in pl_module.named_children()
    }
    return {name: count for name, count in counts.items() if count}
