"""Plots of a study: plane, gain against k, what one photo is worth, R matrices, bars by AU."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from lit_faces.core.facs import AU_INDEX, AU_KEYS, AUS
from lit_faces.metrics.bootstrap import bootstrap_over_subjects
from lit_faces.reports.pictures import save_figure
from lit_faces.studies.scores import Line, Paired, Truth, paired, readings_of, result_matrices

_METHOD_ORDER = ("none", "finetune", "ewc_replay", "joint")


def draw(rows: Sequence[Mapping[str, Any]], lines: Sequence[Line], out: Path, truth: Truth) -> list[Path]:
    """Every plot that the finished cells allow; their paths."""
    written = []
    wanted = headline(lines)
    sequence = [line for line in lines if (line.protocol, line.k, line.images) == ("sequence", *wanted)]
    if sequence:
        written.append(_plane(sequence, out / "plane.png"))
        for method in _METHOD_ORDER:
            mine = [
                row
                for row in rows
                if (row["protocol"], row["method"], row["k"], row["images"]) == ("sequence", method, *wanted)
            ]
            if mine and method != "none":
                first = result_matrices(mine, truth)[min(row["seed"] for row in mine)]
                first.people = [name.split(":")[-1].lstrip("0") or "0" for name in first.people]
                first.plot(out / f"r_{method}.png", relative=True)
                written.append(out / f"r_{method}.png")
    single = [line for line in lines if line.protocol == "single" and line.images == "real"]
    if len({line.k for line in single}) > 1:
        written.append(_against_k(single, out / "gain_k.png"))
    conditions = [line for line in lines if line.protocol == "single" and line.k <= 1]
    if conditions:
        written.append(_one_photo(conditions, out / "one_photo.png"))
    written += _by_au(rows, wanted, out, truth, out / "aus.png")
    return written


def headline(lines: Sequence[Line]) -> tuple[int, str]:
    """``k`` and ``images`` under which the most methods learnt in sequence: what the plots show."""
    count: dict[tuple[int, str], int] = {}
    for line in lines:
        if line.protocol == "sequence":
            count[line.k, line.images] = count.get((line.k, line.images), 0) + 1
    return max(count, key=lambda key: (count[key], key), default=(0, "real"))


def _axes(width: float = 7, height: float = 4.5) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _plane(lines: Sequence[Line], path: Path) -> Path:
    """Rigidity and plasticity: generic drop to the right, personal gain upwards; the best corner is top left."""
    figure, axes = _axes()
    for line in lines:
        gain, drop = line.gain, line.drop
        bars = [[max(0, v[0] - v[1])] + [max(0, v[2] - v[0])] if not math.isnan(v[1]) else [0, 0] for v in (drop, gain)]
        axes.errorbar(
            drop[0], gain[0], xerr=np.array(bars[0])[:, None], yerr=np.array(bars[1])[:, None], fmt="o", capsize=2,
            elinewidth=0.8,
        )  # fmt: skip
        axes.annotate(line.method, (drop[0], gain[0]), textcoords="offset points", xytext=(5, 4), fontsize=8)
    axes.axhline(0, color="grey", linewidth=0.6)
    axes.axvline(0, color="grey", linewidth=0.6)
    axes.set_xlabel("generic drop after the last person, ICC(3,1) (left is better)")
    axes.set_ylabel("personal gain, ICC(3,1) (up is better)")
    axes.set_title(
        f"{len(lines[0].people)} people in sequence, k = {lines[0].k}, {lines[0].images}; bars: 95 % over people",
        fontsize=9,
    )
    return save_figure(figure, path, dpi=130)


def _against_k(lines: Sequence[Line], path: Path) -> Path:
    """Personal gain against the number of labelled frames."""
    figure, axes = _axes()
    for number, method in enumerate(dict.fromkeys(line.method for line in lines)):
        mine = sorted((line for line in lines if line.method == method), key=lambda line: line.k)
        gain = np.array([line.gain for line in mine])
        around = np.nan_to_num(np.abs(gain[:, 1:] - gain[:, :1]).T)
        places = np.array([line.k for line in mine]) * 1.03 ** (number - 2)
        axes.errorbar(places, gain[:, 0], yerr=around, marker="o", capsize=2, label=method)
    axes.axhline(0, color="grey", linewidth=0.6)
    axes.set_xscale("symlog", linthresh=1)
    ticks = sorted({line.k for line in lines})
    axes.set_xticks(ticks, [str(k) for k in ticks])
    axes.set_xlabel("labelled frames of the person")
    axes.set_ylabel("personal gain, ICC(3,1)")
    axes.legend(fontsize=8)
    return save_figure(figure, path, dpi=130)


def _one_photo(lines: Sequence[Line], path: Path) -> Path:
    """What one photo is worth: bars of gain for each way of using it."""
    figure, axes = _axes(8, max(3.0, 0.3 * len(lines) + 1))
    ordered = sorted(lines, key=lambda line: line.gain[0])
    names = [f"{line.method}, {line.images}" for line in ordered]
    gain = np.array([line.gain for line in ordered])
    colours = ["#b04a3a" if line.images == "wrong" else "#4878a8" for line in ordered]
    axes.barh(names, gain[:, 0], color=colours, xerr=np.nan_to_num(np.abs(gain[:, 1:] - gain[:, :1]).T), capsize=2)
    axes.axvline(0, color="grey", linewidth=0.8)
    axes.set_xlabel("personal gain from one photo, ICC(3,1), 95 % over people (red: images of the wrong person)")
    return save_figure(figure, path, dpi=130)


def _by_au(
    rows: Sequence[Mapping[str, Any]], condition: tuple[int, str], out: Path, truth: Truth, path: Path
) -> list[Path]:
    """ICC by AU on the people who arrive: generic, fine-tuned, EWC + replay; 95 % over people."""
    start = readings_of(out / "start.npz")
    found: dict[str, tuple[Paired, Tensor]] = {}
    for method in ("finetune", "ewc_replay"):
        wanted = ("sequence", method, *condition)
        own = [r for r in rows if r["own"] and (r["protocol"], r["method"], r["k"], r["images"]) == wanted]
        frames = paired(own, start, out, truth)
        if frames is not None and len(set(frames.subjects)) > 1:
            found.setdefault("generic", (frames, frames.before))
            found[method] = (frames, frames.after)
    if not found:
        return []
    figure, axes = _axes(10, 4)
    places = np.arange(len(AUS))
    for number, (label, (frames, readings)) in enumerate(found.items()):
        columns = {"labels": frames.labels, "predictions": readings}
        span = bootstrap_over_subjects("icc", columns, frames.subjects, 500)
        around = np.nan_to_num(np.abs(np.stack([span.estimate - span.low, span.high - span.estimate])))
        axes.bar(
            places + 0.27 * (number - 1), span.estimate, 0.26, label=label, yerr=around, capsize=1,
            error_kw={"linewidth": 0.7},
        )  # fmt: skip
    axes.set_xticks(places, AU_KEYS, rotation=60)
    for number in (6, 17):
        axes.get_xticklabels()[AU_INDEX[number]].set_fontweight("bold")
    axes.set_ylabel("ICC(3,1) on the people who arrive")
    axes.legend(fontsize=8)
    return [save_figure(figure, path, dpi=130)]
