"""What is counted on real people who were photographed at rest and smiling: figures with intervals over people.

Nobody has coded these faces. Only this is certain: at rest every AU is near 0, a smile has more AU12 than the same
person's resting face, and AUs that a smile does not move stay. So the figures are: how often a resting face is read at
grade 1 or more; how well smiles are told from resting faces (AUC) and each person's from their own (order); how far
readings of what stays shift. Clips are compared with outside readers, who measure and never teach.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lit_faces.core.facs import AU_INDEX, AU_KEYS
from lit_faces.metrics.bootstrap import Interval, bootstrap_over_subjects

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
GRADE = 1.0  # what is read at this grade or above, where nothing is, is a false reading
MOVES = 0.7  # grades from the 5th to the 95th percentile: an AU of a clip that moves less is not compared
_RESAMPLES = 1000
_BLOCKS = 20  # of a clip, for its interval: neighbouring frames are nearly the same picture


@dataclass(frozen=True)
class RealTable:
    """Readings of photographs of people, and what is known of them.

    Attributes:
        subject: who, n names.
        neutral, strong, parted: bool (n,): at rest; a strong smile; lips seen apart.
        gender, ethnicity: n words, empty = unknown.
        age: years (n,), NaN = unknown.
        grade: (n, 19), 0..5, NaN = the reader has no such AU, or no face.
        score: (n, 19), what orders pictures: finer than grades where a reader has it.
        present: (n, 19) 0 or 1, what the reader calls present; None = it does not say.
    """

    subject: NDArray[np.str_]
    neutral: Bools
    strong: Bools
    parted: Bools
    gender: NDArray[np.str_]
    ethnicity: NDArray[np.str_]
    age: Floats
    grade: Floats
    score: Floats
    present: Floats | None = None

    def of(self, grade: Floats, score: Floats | None = None, present: Floats | None = None) -> RealTable:
        """The same photographs, read by another."""
        return replace(self, grade=grade, score=grade if score is None else score, present=present)

    def both(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows of the resting photo and of the smile of everybody who has both."""
        rest = {name: row for row, name in enumerate(self.subject) if self.neutral[row]}
        smile = {name: row for row, name in enumerate(self.subject) if not self.neutral[row]}
        names = sorted(rest.keys() & smile.keys())
        return np.array([rest[n] for n in names], dtype=int), np.array([smile[n] for n in names], dtype=int)


def groups(table: RealTable) -> Iterator[tuple[str, Bools]]:
    """Groups of people in whom false readings are counted: name, and rows."""
    yield "all", np.ones(len(table.subject), dtype=bool)
    for word in sorted(set(table.gender) - {""}):
        yield word, table.gender == word
    for word in sorted(set(table.ethnicity) - {""}):
        yield word, table.ethnicity == word
    yield "below 25", table.age < 25
    yield "25 to 34", (table.age >= 25) & (table.age < 35)
    yield "35 and above", table.age >= 35


def _interval(statistic, columns: dict[str, np.ndarray], subjects: np.ndarray, resamples: int) -> Interval:
    """An interval over people; without one where there are fewer than two."""
    if len(set(subjects.tolist())) < 2:
        none = np.full(columns[next(iter(columns))].shape[1:], np.nan)
        return Interval(none, none, none)
    return bootstrap_over_subjects(statistic, columns, subjects, resamples, method="percentile")


def false_at_rest(
    table: RealTable, rows: Bools, present: bool = False, resamples: int = _RESAMPLES
) -> tuple[NDArray[np.int64], int, Interval]:
    """How often a resting face is read at grade 1 or more (or called present), by AU.

    Returns:
        People read so, int (19,); how many rest in all; the share with its interval, (19,).
    """
    chosen = rows & table.neutral
    values = table.present if present else table.grade
    if values is None:
        raise ValueError("present: this reader does not say it")
    found = values[chosen]
    wrong = np.where(np.isnan(found), np.nan, found >= GRADE)
    return (
        np.nansum(wrong, axis=0).astype(int),
        int(chosen.sum()),
        _interval(_mean, {"wrong": wrong}, table.subject[chosen], resamples),
    )


def _mean(wrong: Floats) -> Floats:
    defined = ~np.isnan(wrong)
    with np.errstate(invalid="ignore"):
        return np.where(defined, wrong, 0.0).sum(0) / defined.sum(0)


def auc_of_smiles(
    table: RealTable,
    rows: Bools | None = None,
    smiles: Bools | None = None,
    resamples: int = _RESAMPLES,
    keys: Sequence[str] = AU_KEYS,
) -> Interval:
    """AUC of smiles against resting faces by AU, (19,); NaN where the reader has no such AU, and for all but ``keys``.

    Args:
        table: the readings.
        rows: whose.
        smiles: which smiles; all by default.
        resamples: of the bootstrap.
        keys: AUs that are wanted: each takes its time.
    """
    rows = np.ones(len(table.neutral), dtype=bool) if rows is None else rows
    smiles = np.ones(len(table.neutral), dtype=bool) if smiles is None else smiles
    chosen = rows & (table.neutral | smiles)
    wanted = np.array([key in keys for key in AU_KEYS])
    label, score = (~table.neutral[chosen]).astype(float), np.where(wanted, table.score[chosen], np.nan)
    return auc(label, score, table.subject[chosen], resamples)


def auc(label: Floats, score: Floats, subject: np.ndarray, resamples: int = _RESAMPLES) -> Interval:
    """AUC of each column of ``score`` (n, C) for one label (n,), with intervals over people."""
    known = ~np.isnan(score).all(0)
    out = np.full((3, score.shape[1]), np.nan)
    if known.any() and 0 < label.sum() < len(label) and len(set(subject.tolist())) > 1:
        labels = np.repeat(label[:, None], int(known.sum()), 1)
        labels[np.isnan(score[:, known])] = np.nan
        found = bootstrap_over_subjects("auc", {"labels": labels, "predictions": score[:, known]}, subject, resamples)
        out[:, known] = np.stack([np.asarray(part) for part in found])
    return Interval(*out)


def order_within(table: RealTable, resamples: int = _RESAMPLES) -> tuple[Floats, int, Interval]:
    """In how many people the smile is read above the own resting face, by AU; ties count half.

    Returns:
        People, float (19,); how many have both photos; the share with its interval, (19,).
    """
    rest, smile = table.both()
    gain = table.score[smile] - table.score[rest]
    above = np.where(np.isnan(gain), np.nan, (gain > 0) + 0.5 * (gain == 0))
    return np.nansum(above, axis=0), len(rest), _interval(_mean, {"wrong": above}, table.subject[rest], resamples)


def shift(table: RealTable, resamples: int = _RESAMPLES) -> dict[str, Interval]:
    """Smile less rest of the same person: ``mean`` and ``size`` (of |smile - rest|), grades, and ``r`` over people."""
    rest, smile = table.both()
    first, second, subject = table.grade[rest], table.grade[smile], table.subject[rest]
    change = second - first
    return {
        "mean": _interval(_mean, {"wrong": change}, subject, resamples),
        "size": _interval(_mean, {"wrong": np.abs(change)}, subject, resamples),
        "r": _interval(_columns_r, {"first": first, "second": second}, subject, resamples),
    }


def _columns_r(first: Floats, second: Floats) -> Floats:
    return np.array([pearson(first[:, k], second[:, k]) for k in range(first.shape[1])])


def pearson(one: Floats, other: Floats) -> float:
    """Pearson's r over what both know; NaN where one of them does not vary."""
    known = ~(np.isnan(one) | np.isnan(other))
    if known.sum() < 3 or np.ptp(one[known]) == 0 or np.ptp(other[known]) == 0:
        return float("nan")
    return float(np.corrcoef(one[known], other[known])[0, 1])


def residual(values: Floats, controls: Floats) -> Floats:
    """What of ``values`` (n,) no linear function of ``controls`` (n, C) says; what is only rounding is 0."""
    design = np.column_stack([np.ones(len(values)), controls])
    return (values - design @ np.linalg.lstsq(design, values, rcond=None)[0]).round(9)


def partial_r(one: Floats, other: Floats, controls: Floats) -> float:
    """Correlation of two columns with ``controls`` (n, C) held fixed in both."""
    known = ~(np.isnan(one) | np.isnan(other) | np.isnan(controls).any(1))
    if known.sum() < controls.shape[1] + 4:
        return float("nan")
    return pearson(residual(one[known], controls[known]), residual(other[known], controls[known]))


def cheek_beside_smile(
    table: RealTable, outside: RealTable, smile_of_other: RealTable, resamples: int = _RESAMPLES
) -> dict[str, Interval]:
    """Whether AU6 is more than a second name of AU12.

    Args:
        table: the reader that is asked.
        outside: whose AU6 is compared (OpenFace's raw one).
        smile_of_other: whose AU12 is held fixed besides the own (MediaPipe's).
        resamples: of the bootstrap.

    Returns:
        ``partial_r`` of own and outside AU6, smile less rest, own AU12 and the other's AU12 (likewise) held fixed;
        ``r`` of the two without that; ``auc`` of AU6 with a linear function of the own AU12 taken out.
    """
    rest, smile = table.both()
    six, twelve = AU_INDEX[6], AU_INDEX[12]
    own, own_smile, theirs, other_smile = (
        one.score[smile, column] - one.score[rest, column]
        for one, column in ((table, six), (table, twelve), (outside, six), (smile_of_other, twelve))
    )
    columns = {"own": own, "theirs": theirs, "first": own_smile, "second": other_smile}
    subject = table.subject[rest]
    left = np.full((len(table.subject), 1), np.nan)
    known = ~np.isnan(table.score[:, [six, twelve]]).any(1)
    left[known, 0] = residual(table.score[known, six], table.score[known][:, [twelve]])
    alone = auc((~table.neutral).astype(float), left, table.subject, resamples)
    return {
        "partial_r": _scalar(_partial_of_columns, columns, subject, resamples),
        "r": _scalar(_r_of_columns, columns, subject, resamples),
        "auc": Interval(*(float(part[0]) for part in alone)),
    }


def _scalar(statistic, columns: dict[str, np.ndarray], subjects: np.ndarray, resamples: int) -> Interval:
    return bootstrap_over_subjects(statistic, columns, subjects, resamples, method="percentile")


def _partial_of_columns(own: Floats, theirs: Floats, first: Floats, second: Floats) -> float:
    return partial_r(own, theirs, np.stack([first, second], 1))


def _r_of_columns(own: Floats, theirs: Floats, first: Floats, second: Floats) -> float:
    return pearson(own, theirs)


def clip_agreement(
    readings: Floats, reference: Floats, grades: Floats, resamples: int = _RESAMPLES
) -> tuple[Interval, Bools]:
    """Correlation over the frames of a clip with a reference, by column, and which columns move enough to be compared.

    The interval is over blocks of neighbouring frames: it says how sure this clip is, not how people differ.

    Args:
        readings: (frames, C).
        reference: (frames, C), whatever its scale.
        grades: the reference as grades 0..5, (frames, C): :data:`MOVES` is of these.
        resamples: of the bootstrap.
    """
    with np.errstate(all="ignore"):
        spread = np.nanpercentile(grades, 95, axis=0) - np.nanpercentile(grades, 5, axis=0)
    block = np.minimum(np.arange(len(readings)) * _BLOCKS // max(len(readings), 1), _BLOCKS - 1)
    found = bootstrap_over_subjects(
        _columns_r, {"first": readings, "second": reference}, block, resamples, method="percentile"
    )
    return found, np.nan_to_num(spread, nan=0.0) > MOVES


def confusion(named: Sequence[str], table: RealTable) -> dict[str, dict[str, int]]:
    """Which expression was named on resting faces, smiles and strong smiles: counts by name, most frequent first."""
    found = np.array(list(named))
    rows = {"neutral": table.neutral, "smile": ~table.neutral, "strong smile": table.strong}
    out: dict[str, dict[str, int]] = {}
    for what, chosen in rows.items():
        words, counts = np.unique(found[chosen], return_counts=True)
        order = np.argsort(-counts, kind="stable")
        out[what] = {str(words[k]): int(counts[k]) for k in order}
    return out


def column(interval: Interval, key: str) -> Interval:
    """One AU of an interval that has them all."""
    k = AU_KEYS.index(key)
    return Interval(*(float(part[k]) for part in interval))
