"""Reads an offline run back with W&B's own reader."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass
class OfflineRun:
    """What an offline run file holds."""

    records: list[dict[str, Any]]
    text: str

    @classmethod
    def read(cls, folder: Path) -> OfflineRun:
        """The only run below ``folder``."""
        (run,) = sorted(folder.glob("**/offline-run-*"))
        command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(run)]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return cls([json.loads(line) for line in text.splitlines()], text)

    def logged(self) -> set[str]:
        """Names of what was logged."""
        items = [r["history"]["item"] for r in self.records if r["type"] == "history"]
        return {key.partition(".")[0] for item in items for key in item}

    def captions(self) -> dict[str, str]:
        """Captions of pictures."""
        items = [r["history"]["item"] for r in self.records if r["type"] == "history"]
        return {k.removesuffix(".caption"): v for item in items for k, v in item.items() if k.endswith(".caption")}

    def summaries(self) -> dict[str, list[str]]:
        """How each metric is summed up."""
        metrics = [r["metric"] for r in self.records if r["type"] == "metric"]
        return {m["name"]: sorted(m["summary"]) for m in metrics if "name" in m and "summary" in m}

    def artifacts(self, used: bool) -> dict[str, list[str]]:
        """Files by name of the artifacts that were read, or made; those of tables left out."""
        found = [r["artifact"] for r in self.records if r["type"] == "artifact"]
        return {
            a["name"]: [file["path"] for file in a["manifest"]["contents"]]
            for a in found
            if bool(a.get("use_after_commit")) == used and a["type"] != "run_table"
        }

    def config(self) -> dict[str, Any]:
        """Configuration, as the run started and as it was updated."""
        values: dict[str, Any] = {}
        for record in self.records:
            updates = (
                record.get("config", {}) if record["type"] == "config" else record.get("run", {}).get("config", {})
            )
            values.update(updates.get("update", {}))
        return values
