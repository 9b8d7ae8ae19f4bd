"""What a study leaves behind for people.

results.parquet   one row a (cell, step, evaluated person): ICC(3,1) and MAE by AU, before and after
summary.md        one row a (protocol, method, k, images): gain, drop, transfer, with intervals over people
summary.json      the same for programs, and what it was made with
results.json      gain and drop by flat name, for `report`
*.png             see :mod:`lit_faces.studies.plots`
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lit_faces.core.files import replace_file, replacing
from lit_faces.reports.results import circumstances, write_json
from lit_faces.reports.tracking import tracked
from lit_faces.studies.description import Study
from lit_faces.studies.plots import draw
from lit_faces.studies.scores import Line, Truth, collect, summarise
from lit_faces.studies.worker import Worker, set_sizes


def write_report(study: Study, out: Path, wandb: str = "disabled") -> tuple[str, list[Path]]:
    """Score what is finished, and write everything.

    Args:
        study: what was asked.
        out: its folder.
        wandb: mode of tracking.

    Returns:
        The table, and the plots.

    Raises:
        ValueError: nothing is finished yet.
    """
    truth = Truth.of(Worker(study, out))
    rows = collect(study, out, truth)
    if not rows:
        raise ValueError(f"{out}: no cell of this study has learnt a person yet; run without --report")
    write_parquet(rows, out / "results.parquet")
    lines = summarise(rows, out, truth)
    text = table(lines)
    replace_file(out / "summary.md", text.encode())
    about = {"synthetic/pictures": set_sizes(out), "fingerprint": study.fingerprint()}
    write_json(out / "summary.json", {"lines": [asdict(line) for line in lines], **about, **circumstances()})
    write_json(out / "results.json", {**_flat(lines), **circumstances()})
    plots = draw(rows, lines, out, truth)
    with tracked("study", wandb, out, {"fingerprint": study.fingerprint()}) as tracker:
        if tracker is not None:
            columns = list(asdict(lines[0]))
            tracker.table("tables/methods", columns, [[_plain(asdict(line)[key]) for key in columns] for line in lines])
            tracker.pictures({_caption(path): path for path in plots})
    return text, plots


def _flat(lines: Sequence[Line]) -> dict[str, float]:
    """Figures by name, for :mod:`lit_faces.report`."""
    figures: dict[str, float] = {}
    for line in lines:
        condition = f"{line.protocol}/{line.method}/k{line.k}/{line.images}"
        figures |= {f"{condition}/gain": line.gain[0], f"{condition}/drop": line.drop[0]}
    return figures


def _plain(value: Any) -> Any:
    """What a W&B table takes: of an estimate with its interval the text."""
    if isinstance(value, tuple | list):
        return " to ".join("-" if v != v else f"{v:+.3f}" for v in value)
    return None if isinstance(value, float) and value != value else value


def _caption(path: Path) -> str:
    if path.stem.startswith("r_"):
        what = "ICC after learning each person (rows) on each person (columns), less the start"
        return f"R matrix of {path.stem[2:]}: {what}"
    return path.stem.replace("_", " ")


def write_parquet(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """One table, atomically."""
    import pyarrow
    import pyarrow.parquet as parquet

    with replacing(path) as temporary:
        parquet.write_table(pyarrow.Table.from_pylist([dict(row) for row in rows]), temporary)


def table(lines: Sequence[Line]) -> str:
    """Markdown."""

    def cell(value: float, digits: int = 3) -> str:
        return "-" if math.isnan(value) else f"{value:+.{digits}f}"

    def span(value: tuple[float, float, float]) -> str:
        return cell(value[0]) + ("" if math.isnan(value[1]) else f" ({cell(value[1])} to {cell(value[2])})")

    text = []
    for protocol in ("sequence", "single"):
        mine = [line for line in lines if line.protocol == protocol]
        if not mine:
            continue
        what = "one after another" if protocol == "sequence" else "each from the generic detector"
        text += [f"## {protocol}: people learnt {what}", ""]
        text += [
            "| method | k | images | personal gain, ICC | generic drop, ICC | mean drop over steps | gain, MAE | "
            "gain, ICC on each alone | backward transfer | seconds a person | n |",
            "|---|---|---|---|---|---|---|---|---|---|---|",
        ]
        for line in mine:
            text.append(
                f"| {line.method} | {line.k} | {line.images} | {span(line.gain)} | {span(line.drop)} | "
                f"{cell(line.drop_mean)} | {cell(line.gain_mae)} | {span(line.gain_alone)} | {cell(line.backward)} | "
                f"{line.seconds:.1f} | "
                f"{line.steps} |"
            )
        text += [""]
    text += compared_with_finetuning(lines)
    return "\n".join(text) + "\n"


def compared_with_finetuning(lines: Sequence[Line]) -> list[str]:
    """Shares of fine-tuning's gain and drop, within each condition."""
    text = []
    for line in lines:
        if line.protocol != "sequence" or line.method in ("finetune", "none"):
            continue
        base = [
            x
            for x in lines
            if (x.protocol, x.k, x.images, x.method) == (line.protocol, line.k, line.images, "finetune")
        ]
        if base and base[0].gain[0] > 0 and base[0].drop[0] > 0 and base[0].drop_mean > 0:
            text.append(
                f"| {line.method} | {line.k} | {line.images} | {100 * line.gain[0] / base[0].gain[0]:.0f} % | "
                f"{100 * line.drop[0] / base[0].drop[0]:.0f} % | {100 * line.drop_mean / base[0].drop_mean:.0f} % |"
            )
    if text:
        head = ["## shares of fine-tuning's gain and drop", ""]
        head += [
            "| method | k | images | gain kept | generic drop | mean drop over steps |",
            "|---|---|---|---|---|---|",
        ]
        text = [*head, *text, ""]
    return text
