"""results.json: every figure of a run under a flat name, beside what made it; and the same as a table to read."""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
import resource
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lit_faces.core.facs import AU_KEYS
from lit_faces.core.files import replace_file

PACKAGES = ("torch", "torchvision", "pytorch-lightning", "timm", "torchmetrics", "numpy", "albumentations", "wandb")
#: Columns of the table: title, and the flat name with ``*`` for the AU.
AU_COLUMNS = {
    "ICC(3,1)": "test/icc/*",
    "F1": "test/f1/*",
    "F1, balanced": "test/f1_norm/*",
    "balanced accuracy": "test/balanced_accuracy/*",
    "ICC": "test/au_fidelity/icc/*",
    "MAE": "test/au_fidelity/mae/*",
    "leak": "test/leak/*",
    "judge's own ICC": "test/judge/icc/*",
    "ICC - neutral": "test/au_fidelity/icc_neutral/*",
    "judge - neutral": "test/judge/icc_neutral/*",
}


def git_revision(folder: Path | None = None) -> str:
    """Short hash of the checkout, ``-dirty`` when files differ, ``unknown`` outside a checkout."""
    where = str(folder or Path(__file__).resolve().parent)
    command = ["git", "-C", where, "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def peak_rss_gib() -> float:
    """Largest resident memory so far of this process and of its largest child, GiB."""
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return (own + children) / 2**20  # Linux counts KiB


def circumstances() -> dict[str, Any]:
    """What a figure depends on besides the configuration: revision, packages, machine."""
    versions: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            versions[f"packages/{name}"] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[f"packages/{name}"] = None
    return {
        "run/git_revision": git_revision(),
        "run/python": platform.python_version(),
        "run/machine": f"{platform.machine()}, {os.cpu_count()} cores",
        **versions,
    }


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write atomically; NaN and infinities become null, which JSON can say."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, (json.dumps(_sayable(dict(content)), indent=1, allow_nan=False) + "\n").encode())


def _sayable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sayable(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_sayable(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cell(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, int | float) and math.isfinite(value) else "-"


def table(results: Mapping[str, Any]) -> str:
    """Figures of one run: AUs in rows, then everything else that was tested, one a line."""
    columns = {
        title: name for title, name in AU_COLUMNS.items() if any(name.replace("*", k) in results for k in AU_KEYS)
    }
    lines, shown = [], set()
    if columns:
        lines.append("        " + "".join(f"{title:>18}" for title in columns))
        for key in (*AU_KEYS, "mean"):
            values = [results.get(name.replace("*", key)) for name in columns.values()]
            shown |= {name.replace("*", key) for name in columns.values()}
            if any(isinstance(v, int | float) and math.isfinite(v) for v in values):
                lines.append(f"{key:<8}" + "".join(f"{_cell(value):>18}" for value in values))
        lines.append("")
    rest = {k: v for k, v in results.items() if k.startswith("test/") and k not in shown and isinstance(v, int | float)}
    lines += [f"{name:<36}{_cell(value):>12}" for name, value in rest.items()]
    return "\n".join(lines)


def comparison(runs: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> str:
    """Several runs side by side: runs in columns, the named figures in rows."""
    width = max(16, *(len(run) + 2 for run in runs))
    lines = [" " * 36 + "".join(f"{run:>{width}}" for run in runs)]
    lines += [f"{name:<36}" + "".join(f"{_cell(run.get(name)):>{width}}" for run in runs.values()) for name in names]
    return "\n".join(lines)
