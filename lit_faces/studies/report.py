"""From the readings of a study to its table and plots.

    results.parquet   one row a (cell, step, evaluated person): ICC(3,1) and MAE by AU, before and after
    summary.md        one row a (protocol, method, k, images): gain, drop, transfer, with intervals over people
    plots             plane, gain against k, R matrices, bars by AU

The score of a group is the mean over AUs of ICC(3,1) on all its frames together, as the field reports it: there a bias
that differs from person to person counts against the detector. (ICC(3,1) on one person's frames alone is blind to it;
it is given beside, and fills the R matrix.)

    gain   score of the people who arrive, each read right after they were learnt, minus the generic detector's
    drop   the generic detector's score on people who are never learnt, minus the score after the last person
           (sequence), or over all persons' detectors (single)

Frames of all seeds count together; intervals are over people, paired with the generic detector.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lit_faces.core.facs import AU_INDEX, AU_KEYS, AUS, NUM_AUS
from lit_faces.core.fields import field, read_npz
from lit_faces.core.files import replace_file
from lit_faces.metrics.bootstrap import bootstrap_difference, bootstrap_over_subjects
from lit_faces.metrics.continual import START, ResultMatrix
from lit_faces.metrics.detector import scores
from lit_faces.metrics.icc import icc_of_moments, pair_moments
from lit_faces.reports.pictures import save_figure
from lit_faces.studies.study import Cell, Study, Worker

_AGAIN = "remove it and run the study again: that person is learnt anew"
_METHOD_ORDER = ("none", "finetune", "ewc_replay", "joint")


@dataclass
class Truth:
    """Labels of everything that is evaluated.

    Attributes:
        names: of the people who arrive.
        labels: float (frames, 19) by ``p0``, ``p1``, ..., ``generic``.
        generic_subjects: whose the generic frames are.
    """

    names: list[str]
    labels: dict[str, Tensor]
    generic_subjects: list[str]

    @classmethod
    def of(cls, worker: Worker) -> Truth:
        """From the study's people."""
        people = worker.people
        labels = {f"p{i}": people.test(i).au_intensity for i in range(len(people.names))}
        generic = people.generic()
        return cls(people.names, {**labels, "generic": generic.au_intensity}, generic.subject)


def collect(study: Study, out: Path, truth: Truth) -> list[dict[str, Any]]:
    """Every score of every finished step, with the generic detector's beside it."""
    start = {name: scores(truth.labels[name], value) for name, value in _readings(out / "start.npz").items()}
    rows = []
    for cell in study.cells():
        for file in sorted((out / "cells" / cell.key).glob("[0-9]*.npz")):
            person, seconds = _facts(file, len(truth.names))
            for name, readings in _readings(file).items():
                rows.append(_row(cell, int(file.stem), person, seconds, name, truth, readings, start[name]))
    return rows


def _readings(file: Path) -> dict[str, Tensor]:
    arrays = read_npz(file, _AGAIN)
    found = {name: torch.from_numpy(a.astype(np.float32)) for name, a in arrays.items() if a.ndim == 2}
    for name, value in found.items():
        if value.shape[1] != NUM_AUS or not bool(value.isfinite().all()):
            raise ValueError(f"{file}: {name}: expected finite readings (n, {NUM_AUS}); {_AGAIN}")
    return found


def _facts(file: Path, people: int) -> tuple[int, float]:
    """Who was learnt, and in how many seconds."""
    arrays = read_npz(file, _AGAIN)
    plain = {name: value.item() for name, value in arrays.items() if value.ndim == 0}
    person = field(plain, "person", int, file, minimum=0, maximum=people - 1)
    return person, field(plain, "seconds", float, file, minimum=0)


def _row(
    cell: Cell,
    step: int,
    person: int,
    seconds: float,
    name: str,
    truth: Truth,
    readings: Tensor,
    before: tuple[np.ndarray, np.ndarray],
) -> dict[str, Any]:
    icc, error = scores(truth.labels[name], readings)
    return {
        "protocol": cell.protocol,
        "method": cell.method,
        "k": cell.k,
        "images": cell.images,
        "seed": cell.seed,
        "step": step,
        "learnt": truth.names[person],
        "evaluated": name if name == "generic" else truth.names[int(name[1:])],
        "own": name == f"p{person}",
        "seconds": seconds,
        "icc": _mean(icc),
        "icc_before": _mean(before[0]),
        "mae": _mean(error),
        "mae_before": _mean(before[1]),
        **{f"icc_{key}": float(value) for key, value in zip(AU_KEYS, icc)},
        **{f"icc_before_{key}": float(value) for key, value in zip(AU_KEYS, before[0])},
    }


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan


def write_parquet(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """One table, atomically."""
    import pyarrow
    import pyarrow.parquet as parquet

    content = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.Table.from_pylist([dict(row) for row in rows]), content)
    replace_file(path, content.getvalue().to_pybytes())


@dataclass
class Line:
    """One line of the summary: a method under one condition, over seeds and people.

    Attributes:
        gain, drop: estimate, low, high.
        gain_alone: mean over people of the gain in ICC(3,1) on their own frames alone.
        gain_mae: fall of the mean absolute error on the people's own frames.
        backward, forgetting: of sequences (means over seeds), NaN for others.
        seconds: mean to learn one person.
        people: gain_alone of each person, mean over seeds.
        steps: how many (person, seed) pairs are behind it.
        drop_mean: generic drop averaged over all steps.
    """

    protocol: str
    method: str
    k: int
    images: str
    gain: tuple[float, float, float]
    drop: tuple[float, float, float]
    gain_alone: tuple[float, float, float]
    gain_mae: float
    drop_mean: float
    backward: float
    forgetting: float
    seconds: float
    people: dict[str, float]
    steps: int


def summarise(rows: Sequence[Mapping[str, Any]], out: Path, truth: Truth, resamples: int = 1000) -> list[Line]:
    """A line a (protocol, method, k, images)."""
    groups: dict[tuple[str, str, int, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["protocol"], row["method"], row["k"], row["images"]), []).append(row)
    start = _readings(out / "start.npz")
    lines = []
    for (protocol, method, k, images), group in groups.items():
        own = [row for row in group if row["own"]]
        alone = _by_person((row["learnt"], row["icc"] - row["icc_before"]) for row in own)
        generic = [row for row in group if row["evaluated"] == "generic"]
        last = [row for row in generic if protocol == "single" or row["step"] == len(truth.names) - 1]
        matrices = [r for r in result_matrices(group, truth).values() if protocol == "sequence"]
        lines.append(
            Line(
                protocol,
                method,
                k,
                images,
                _change(_paired(own, start, out, truth), resamples),
                _change(_paired(last, start, out, truth), resamples, -1.0),
                _interval(alone, resamples),
                _mean(np.array([row["mae_before"] - row["mae"] for row in own])),
                _mean(np.array([row["icc_before"] - row["icc"] for row in generic])),
                _mean(np.array([r.backward_transfer() for r in matrices])),
                _mean(np.array([r.forgetting("learnt") for r in matrices])),
                _mean(np.array([row["seconds"] for row in own])),
                alone,
                len(own),
            )
        )
    return lines


@dataclass
class Paired:
    """Labels, readings after and before, float (n, 19) each, and whose they are (n)."""

    labels: Tensor
    after: Tensor
    before: Tensor
    subjects: list[str]


def _paired(rows: Sequence[Mapping[str, Any]], start: Mapping[str, Tensor], out: Path, truth: Truth) -> Paired | None:
    """The frames behind some rows, one under another; None for no rows."""
    labels: list[Tensor] = []
    after: list[Tensor] = []
    before: list[Tensor] = []
    subjects: list[str] = []
    for row in rows:
        cell = Cell(row["protocol"], row["method"], row["k"], row["images"], row["seed"])
        name = "generic" if row["evaluated"] == "generic" else f"p{truth.names.index(row['evaluated'])}"
        found = _readings(out / "cells" / cell.key / f"{row['step']:03d}.npz")[name]
        labels.append(truth.labels[name])
        after.append(found)
        before.append(start[name])
        subjects += truth.generic_subjects if name == "generic" else [row["evaluated"]] * len(found)
    return Paired(torch.cat(labels), torch.cat(after), torch.cat(before), subjects) if labels else None


def _change(frames: Paired | None, resamples: int, sign: float = 1.0) -> tuple[float, float, float]:
    """ICC(3,1) after minus before, mean over AUs, with its interval over people; ``sign`` -1 for a drop."""
    if frames is None:
        return math.nan, math.nan, math.nan
    pair = [{"labels": frames.labels, "predictions": x} for x in (frames.after, frames.before)]
    first, second = pair if sign > 0 else pair[::-1]
    if not resamples or len(set(frames.subjects)) < 2:
        one, other = (icc_of_moments(pair_moments(p["labels"], p["predictions"])) for p in (first, second))
        return float((one - other).nanmean()), math.nan, math.nan
    found = bootstrap_difference("icc", first, second, frames.subjects, resamples, mean=True)
    return float(found.estimate), float(found.low), float(found.high)


def _by_person(pairs: Iterable[tuple[str, float]]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return {name: _mean(np.array(values)) for name, values in found.items()}


def _interval(by_person: Mapping[str, float], resamples: int) -> tuple[float, float, float]:
    known = {name: value for name, value in by_person.items() if not math.isnan(value)}
    values = np.array(list(known.values()))
    if len(values) < 2 or not resamples:
        return _mean(values), math.nan, math.nan
    found = bootstrap_over_subjects(np.mean, [values], list(known), resamples)
    return float(found.estimate), float(found.low), float(found.high)


def result_matrices(rows: Sequence[Mapping[str, Any]], truth: Truth) -> dict[int, ResultMatrix]:
    """R of every seed of one sequence."""
    found: dict[int, ResultMatrix] = {}
    for seed in sorted({row["seed"] for row in rows}):
        mine = [row for row in rows if row["seed"] == seed]
        order = [row["learnt"] for row in sorted(mine, key=lambda r: r["step"]) if row["own"]]
        matrix = ResultMatrix(order, "ICC(3,1)")
        for row in mine:
            column = row["evaluated"]
            if column == "generic" or column in order:
                matrix[row["learnt"], column] = row["icc"]
                matrix[START, column] = row["icc_before"]
        found[seed] = matrix
    return found


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


# -- plots ---------------------------------------------------------------------------------------------------------


def plots(rows: Sequence[Mapping[str, Any]], lines: Sequence[Line], out: Path, truth: Truth) -> list[Path]:
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
    start = _readings(out / "start.npz")
    found: dict[str, tuple[Paired, Tensor]] = {}
    for method in ("finetune", "ewc_replay"):
        wanted = ("sequence", method, *condition)
        own = [r for r in rows if r["own"] and (r["protocol"], r["method"], r["k"], r["images"]) == wanted]
        frames = _paired(own, start, out, truth)
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
