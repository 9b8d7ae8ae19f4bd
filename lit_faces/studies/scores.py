"""From the readings of a study to its scores.

    rows    one a (cell, step, evaluated person): ICC(3,1) and MAE by AU, before and after
    lines   one a (protocol, method, k, images): gain, drop, transfer, with intervals over people

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

from lit_faces.core.facs import AU_KEYS, NUM_AUS
from lit_faces.core.fields import field, read_npz
from lit_faces.metrics.bootstrap import bootstrap_difference, bootstrap_over_subjects
from lit_faces.metrics.continual import START, ResultMatrix
from lit_faces.metrics.detector import scores
from lit_faces.metrics.icc import icc_of_moments, pair_moments
from lit_faces.studies.description import Cell, Study
from lit_faces.studies.worker import Worker

_AGAIN = "remove it and run the study again: that person is learnt anew"
_FEWEST_ACTIVE = 2  # frames in which an AU must be seen, or its ICC on a few frames is an accident


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
    start = {name: scores(truth.labels[name], value) for name, value in readings_of(out / "start.npz").items()}
    rows = []
    for cell in study.cells():
        for file in sorted((out / "cells" / cell.key).glob("[0-9]*.npz")):
            person, seconds = _facts(file, len(truth.names))
            for name, readings in readings_of(file).items():
                rows.append(_row(cell, int(file.stem), person, seconds, name, truth, readings, start[name]))
    return rows


def readings_of(file: Path) -> dict[str, Tensor]:
    """Readings float32 (frames, 19) of a file that a worker wrote, by whose they are.

    Raises:
        ValueError: damaged; names the file.
    """
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
    start = readings_of(out / "start.npz")
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
                _change(paired(own, start, out, truth), resamples),
                _change(paired(last, start, out, truth), resamples, -1.0),
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


def paired(rows: Sequence[Mapping[str, Any]], start: Mapping[str, Tensor], out: Path, truth: Truth) -> Paired | None:
    """The frames behind some rows, one under another; None for no rows."""
    labels: list[Tensor] = []
    after: list[Tensor] = []
    before: list[Tensor] = []
    subjects: list[str] = []
    for row in rows:
        cell = Cell(row["protocol"], row["method"], row["k"], row["images"], row["seed"])
        name = "generic" if row["evaluated"] == "generic" else f"p{truth.names.index(row['evaluated'])}"
        found = readings_of(out / "cells" / cell.key / f"{row['step']:03d}.npz")[name]
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
