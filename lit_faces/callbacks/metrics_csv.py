"""metrics.csv of a run: one row a logging step, one column a metric, continued when the run is resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_only

from lit_faces.core.csv_files import csv_bytes, read_own
from lit_faces.core.files import replace_file


class MetricsCSV(Logger):
    """Writes ``metrics.csv``; Lightning's own CSV logger deletes the file of the run that it continues.

    Args:
        folder: the run folder.
        keep_until: when a run is resumed, rows at or after this step are dropped: they will be logged again.
    """

    def __init__(self, folder: Path | str, keep_until: int | None = None) -> None:
        super().__init__()
        self.folder = Path(folder)
        self.file = self.folder / "metrics.csv"
        self.rows: list[dict[str, Any]] = []
        if keep_until is not None and self.file.is_file():
            self.rows = [row for row in _whole_rows(self.file) if int(row["step"]) < keep_until]
        self.columns = list(dict.fromkeys(name for row in self.rows for name in row)) or ["step"]
        self._written = 0  # rows of the file that are up to date
        self._dirty_header = True

    @property
    def name(self) -> str:
        """Unused by us."""
        return ""

    @property
    def version(self) -> str:
        """Unused by us."""
        return ""

    @property
    def log_dir(self) -> str:
        """The run folder."""
        return str(self.folder)

    @property
    def save_dir(self) -> str:
        """The run folder."""
        return str(self.folder)

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: config.yaml has them."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Add to the row of ``step``."""
        step = -1 if step is None else int(step)
        new = [name for name in metrics if name not in self.columns]
        self.columns += new
        self._dirty_header |= bool(new)
        if self.rows and int(self.rows[-1]["step"]) == step:
            self.rows[-1].update(metrics)
            self._dirty_header |= self._written == len(self.rows)
        else:
            self.rows.append({"step": step, **metrics})

    @rank_zero_only
    def save(self) -> None:
        """Append the new rows; a new column rewrites the file, atomically."""
        if self._written == len(self.rows) and not self._dirty_header:
            return
        if self._dirty_header:
            replace_file(self.file, csv_bytes(self.columns, self.rows))
        else:
            with self.file.open("ab") as file:
                file.write(csv_bytes(self.columns, self.rows[self._written :], header=False))
        self._written, self._dirty_header = len(self.rows), False

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write what is left."""
        self.save()


def _whole_rows(file: Path) -> list[dict[str, Any]]:
    """The rows of a file; the last one not, where a kill or a full disk has cut it short."""
    data = file.read_bytes()
    rows: list[dict[str, Any]] = list(read_own(data[: data.rfind(b"\n") + 1])[1])
    return [row for row in rows if (row.get("step") or "").isdigit()]
