r"""What learning one person after another does to everyone: the matrix R and the figures that follow from it.

    R[i, j] = score on person j after persons 0..i were learnt;  R[start, j] = before anything was learnt

                    person 0   person 1   person 2   generic
        start         .50        .40        .60        .55      the generic detector
        0             .80        .42        .61        .53
        1             .70        .75        .60        .50
        2 (final)     .65        .70        .85        .49

With T people learnt, i and j counted from 0, F = T - 1 the final row, and every mean over people:

    plasticity         mean of R[i, i] - R[start, i]                         the gain over the generic detector
    learning accuracy  mean of R[i, i]                                       Riemer et al. 2019
    average            mean of R[F, j]                                       ACC of Lopez-Paz & Ranzato 2017
    backward transfer  mean over j < F of R[F, j] - R[j, j]                  BWT, likewise; negative = forgets
    forward transfer   mean over j > 0 of R[j-1, j] - R[start, j]            FWT, likewise; their b is the start row
    forgetting         ``"max"``:   mean over j < F of max over i < F of R[i, j], minus R[F, j]   Chaudhry et al. 2018
                       ``"learnt"``: mean over j < F of R[j, j] - R[F, j]   = -BWT (Avalanche's definition)
    generic drop       R[start, generic] - R[F, generic]                     on people who are never learnt

Scores are "higher is better" (ICC, F1; give -MAE, not MAE).  The two forgettings differ: the maximum is over *all*
earlier rows, also those before j was learnt, so it is not below the other and may count a zero-shot score.

**A score that was not measured or is undefined is NaN, never 0**: a padded 0 is a maximum where scores are negative
(an ICC can be) and a minimum elsewhere.  Means are over the people for whom all that a figure needs is defined, NaN
when there is none (BWT of one person, say).
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lit_faces.core.fields import field, read_json
from lit_faces.core.files import replace_file

START = "start"
GENERIC = "generic"
Forgetting = Literal["max", "learnt"]
#: The figures of :meth:`ResultMatrix.per_person`; :meth:`ResultMatrix.summary` adds the generic drop.
FIGURES = (
    "plasticity",
    "learning_accuracy",
    "average",
    "backward_transfer",
    "forward_transfer",
    "forgetting_max",
    "forgetting_learnt",
)


class ResultMatrix:
    """Scores on every person after each person learnt; figures by the formulas above.

    Rows are ``"start"`` (or -1) and the people in the order in which they are learnt; columns are the people and
    ``"generic"``, the held-out people who are never learnt. People go by name or by number.

    Args:
        people: names of the people, in the order in which they are learnt.
        score: what the scores are, for files and plots.

    Raises:
        ValueError: no people, one name twice, or a person called ``start`` or ``generic``.

    Example:
        >>> results = ResultMatrix(["anna", "ben"])
        >>> results["start", "anna"], results["anna", "anna"], results["ben", "anna"] = 0.5, 0.8, 0.7
        >>> round(results.forgetting("learnt"), 3)
        0.1
    """

    figures = {
        "plasticity": True, "learning_accuracy": True, "average": True, "backward_transfer": True,
        "forward_transfer": True, "forgetting": False, "generic_drop": False,
    }  # fmt: skip

    def __init__(self, people: Sequence[str], score: str = "icc") -> None:
        names = [str(name) for name in people]
        twice = sorted({name for name in names if names.count(name) > 1})
        if not names or twice or {START, GENERIC} & set(names):
            raise ValueError(
                f"people: expected different names other than {START!r} and {GENERIC!r}, at least one, "
                f"got {', '.join(twice or names) or 'none'}"
            )
        self.people, self.score = names, score
        # Rows: people, and start last, where index -1 finds it; columns: people, and generic last.
        self.values = np.full((len(names) + 1, len(names) + 1), np.nan)

    def _row(self, key: int | str) -> int:
        if isinstance(key, str):
            return len(self.people) if key == START else self._person(key, START)
        if not -1 <= key < len(self.people):
            raise IndexError(f"row: expected -1 (start) to {len(self.people) - 1}, got {key}")
        return int(key) % len(self.values)

    def _column(self, key: int | str) -> int:
        if isinstance(key, str):
            return len(self.people) if key == GENERIC else self._person(key, GENERIC)
        if not 0 <= key < len(self.people):
            raise IndexError(f"column: expected 0 to {len(self.people) - 1} or {GENERIC!r}, got {key}")
        return int(key)

    def _person(self, name: str, other: str) -> int:
        if name not in self.people:
            raise KeyError(f"no person {name!r}; expected {other!r} or one of {', '.join(self.people)}")
        return self.people.index(name)

    def __getitem__(self, key: tuple[int | str, int | str]) -> float:
        return float(self.values[self._row(key[0]), self._column(key[1])])

    def __setitem__(self, key: tuple[int | str, int | str], score: float) -> None:
        if math.isinf(score):
            raise ValueError(f"score: expected a number, or NaN where it is undefined, got {score}")
        self.values[self._row(key[0]), self._column(key[1])] = float(score)

    def final_row(self) -> int:
        """Number of the last person after whom anything was measured; -1 when nobody was learnt yet."""
        measured = np.flatnonzero(~np.isnan(self.values[:-1]).all(axis=1))
        return int(measured[-1]) if len(measured) else -1

    def per_person(self, after: int | str | None = None) -> dict[str, np.ndarray]:
        """What each person adds to the figures, for intervals over people.

        Args:
            after: the person after whom to look, as if the sequence ended there; None = the last one measured.

        Returns:
            Name of the figure (:data:`FIGURES`) -> float64 (people,), NaN where the figure says nothing of a person:
            not learnt yet, learnt last, or a score that is undefined.
        """
        final = self.final_row() if after is None else self._row(after)
        count = 0 if final in (-1, len(self.people)) else final + 1
        scores, start = self.values[:count, :count], self.values[-1, :count]
        learnt, last = np.diag(scores), scores[-1] if count else start
        before_last = np.arange(count) < count - 1
        earlier = np.full(count, np.nan)
        if count > 1:
            earlier = np.fmax.reduce(scores[:-1], axis=0)  # the largest that is defined
        unseen = np.concatenate([[np.nan], np.diag(scores, k=1)])[:count]  # R[j - 1, j]
        figures = {
            "plasticity": learnt - start,
            "learning_accuracy": learnt,
            "average": last,
            "backward_transfer": np.where(before_last, last - learnt, np.nan),
            "forward_transfer": unseen - start,
            "forgetting_max": np.where(before_last, earlier - last, np.nan),
            "forgetting_learnt": np.where(before_last, learnt - last, np.nan),
        }
        rest = np.full(len(self.people) - count, np.nan)
        return {name: np.concatenate([values, rest]) for name, values in figures.items()}

    def summary(self, after: int | str | None = None) -> dict[str, float]:
        """All figures: the means of :meth:`per_person` over the people where they are defined, and ``generic_drop``."""
        means = {name: _mean_of_defined(values) for name, values in self.per_person(after).items()}
        return {**means, "generic_drop": self.generic_drop(after)}

    def plasticity(self) -> float:
        """Mean of R[i, i] - R[start, i]: what a person gains over the generic detector."""
        return self.summary()["plasticity"]

    def learning_accuracy(self) -> float:
        """Mean of R[i, i] (Riemer et al. 2019)."""
        return self.summary()["learning_accuracy"]

    def average(self) -> float:
        """Mean score over the people learnt, after the last one (ACC)."""
        return self.summary()["average"]

    def backward_transfer(self) -> float:
        """BWT of Lopez-Paz & Ranzato 2017; negative where earlier people are forgotten."""
        return self.summary()["backward_transfer"]

    def forward_transfer(self) -> float:
        """FWT of Lopez-Paz & Ranzato 2017, against the start row: what earlier people do for one not learnt yet."""
        return self.summary()["forward_transfer"]

    def forgetting(self, definition: Forgetting = "max") -> float:
        """Forgetting; say which in every table.

        Args:
            definition: ``"max"``, best earlier score minus final (Chaudhry et al. 2018; Mammoth), or ``"learnt"``,
                score when just learnt minus final, that is -BWT (Avalanche).

        Raises:
            ValueError: another definition.
        """
        if definition not in ("max", "learnt"):
            raise ValueError(f"definition of forgetting: expected 'max' or 'learnt', got {definition!r}")
        return self.summary()[f"forgetting_{definition}"]

    def generic_drop(self, after: int | str | None = None) -> float:
        """R[start, generic] - R[after, generic]: what people who are never learnt lose; NaN if not measured."""
        final = self.final_row() if after is None else self._row(after)
        return float(self.values[-1, -1] - self.values[final, -1]) if final >= 0 else math.nan

    def save(self, path: Path | str) -> None:
        """Write as JSON: names, rows by name, undefined scores as null; a file that is there is replaced whole."""
        names = [*self.people, START]
        rows = {name: [None if math.isnan(x) else x for x in row] for name, row in zip(names, self.values.tolist())}
        document = {"score": self.score, "people": self.people, "columns": [*self.people, GENERIC], "rows": rows}
        replace_file(path, (json.dumps(document, indent=1, allow_nan=False) + "\n").encode())

    @classmethod
    def load(cls, path: Path | str) -> ResultMatrix:
        """Read what :meth:`save` wrote.

        Raises:
            ValueError: another file.
        """
        document = read_json(path)
        result = cls(field(document, "people", list, path, of=str), field(document, "score", str, path))
        kept = field(document, "rows", dict, path, of=list)
        rows = [field(kept, name, list, f"{path}: rows") for name in (*result.people, START)]
        scores = {str(n): x for n, x in enumerate(x for row in rows for x in row) if x is not None}
        for name in scores:
            field(scores, name, float, f"{path}: rows: score")
        lengths = {len(row) for row in rows}
        if lengths != {len(rows)}:
            raise ValueError(
                f"{path}: expected rows of {len(rows)} scores, got {sorted(lengths)}; was the file edited?"
            )
        values = np.array([[math.nan if x is None else x for x in row] for row in rows], dtype=np.float64)
        result.values = values
        return result

    def plot(self, path: Path | str | None = None, relative: bool = False) -> Any:
        """Heat map as a ``matplotlib.figure.Figure``: rows after each person, a column a person, undefined cells grey.

        Args:
            path: where to write it (.png, .svg, .pdf), or None.
            relative: show the change against the start row, on a scale that is symmetric about 0.
        """
        from matplotlib.figure import Figure

        names = [START, *self.people]
        rows = np.roll(self.values, 1, axis=0)
        shown = rows - rows[:1] if relative else rows
        size = max(4.0, 0.35 * len(names) + 2)
        figure = Figure(figsize=(size + 1, size), layout="constrained")
        axes = figure.subplots()
        axes.set_facecolor("0.85")
        finite = np.abs(shown[np.isfinite(shown)])
        limit = float(finite.max()) if relative and finite.size and finite.max() > 0 else None
        span = {"cmap": "RdBu", "vmin": -limit, "vmax": limit} if limit else {"cmap": "viridis"}
        image = axes.imshow(np.ma.masked_invalid(shown), **span)
        axes.set_xticks(range(len(names)), [*self.people, GENERIC], rotation=90)
        axes.set_yticks(range(len(names)), names)
        axes.axvline(len(self.people) - 0.5, color="white", linewidth=2)
        axes.axhline(0.5, color="white", linewidth=2)
        axes.set(xlabel="evaluated on", ylabel="after learning")
        figure.colorbar(image, label=f"change of {self.score} since start" if relative else self.score)
        if len(names) <= 12:
            for i, j in np.argwhere(np.isfinite(shown)):
                bright = np.dot(image.cmap(image.norm(shown[i, j]))[:3], (0.3, 0.59, 0.11)) > 0.5
                colour = "black" if bright else "white"
                axes.text(j, i, f"{shown[i, j]:.2f}", ha="center", va="center", color=colour, fontsize=8)
        if path is not None:
            figure.savefig(path, dpi=150)
        return figure


def _mean_of_defined(values: np.ndarray) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else math.nan
