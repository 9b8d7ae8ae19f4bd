"""After a test: how each person fared, and plots of what the detector read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback

from lit_faces.metrics.readings import Readings
from lit_faces.reports.plots import detector_plots, people_plot, write_people


class People(Callback):
    """Writes ``people.csv`` and ``plots/``: calibration, ICC by AU, expressions, people.

    A task takes part by having ``tested_people()`` (rows, one a person, ``subject`` first), and a detector by
    ``test_readings`` (:class:`lit_faces.metrics.readings.Readings`), both there when the test has ended.
    """

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write."""
        rows: list[dict[str, Any]] = getattr(pl_module, "tested_people", list)()
        if not rows or not trainer.is_global_zero:
            return
        root = Path(trainer.default_root_dir)
        write_people(rows, root / "people.csv")
        figure = next((name for name in ("icc", "identity_distance", "nme") if name in rows[0]), None)
        if figure is not None:
            people_plot(rows, figure, root / "plots" / "people.png")
        readings: Readings | None = getattr(pl_module, "test_readings", None)
        if readings is not None:
            detector_plots(readings, root / "plots")
