"""What was read, to look at: a plot of the AUs over time, and one page."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lit_faces.core.facs import AU_KEYS, CATALOGUE, MAX_INTENSITY, NUM_AUS
from lit_faces.reading.rows import FaceRow
from lit_faces.reading.zero import Zeros
from lit_faces.reports.page import Page
from lit_faces.reports.pictures import save_figure

if TYPE_CHECKING:
    from lit_faces.reading.run import Outcome

_POINTS = 1500  # of a curve: more are not seen
_FACES = 4  # that are drawn
_MOVES = 0.3  # grades from the 5th to the 95th percentile from which an AU is said to move


class Curves:
    """Intensities over time of every face, in memory that does not grow: neighbours are averaged pair by pair.

    Attributes:
        people: times (n,) and intensities (n, 19) by face, n <= 2 * _POINTS.
    """

    def __init__(self, rows: Iterable[FaceRow]) -> None:
        self._sums: dict[int, list[tuple[int, NDArray[np.float64]]]] = {}  # frame's place, (count, seconds, AUs)
        self._step = 1
        place = -1
        last: tuple[str, int] | None = None
        for row in rows:
            if (row.file, row.frame) != last:
                place, last = place + 1, (row.file, row.frame)
            if row.success:
                self._add(row, place)

    def _add(self, row: FaceRow, place: int) -> None:
        line = self._sums.setdefault(row.person, [])
        value = np.array([1.0, row.seconds or place, *row.intensity])
        if line and line[-1][0] == place // self._step:
            line[-1] = (line[-1][0], line[-1][1] + value)
        else:
            line.append((place // self._step, value))
        if len(line) > 2 * _POINTS:
            self._step *= 2
            self._sums = {who: _halved(one) for who, one in self._sums.items()}

    @property
    def people(self) -> dict[int, tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """Times and intensities by face; a gap in time is a row of NaN."""
        found = {}
        for who, line in sorted(self._sums.items(), key=lambda one: -len(one[1])):
            rows: list[NDArray[np.float64]] = []
            for number, (place, values) in enumerate(line):
                if number and place > line[number - 1][0] + 1:
                    rows.append(np.full(2 + NUM_AUS, np.nan))
                rows.append(values / values[0])
            table = np.array(rows)
            found[who] = table[:, 1], table[:, 2:]
        return found


def _halved(line: list[tuple[int, NDArray[np.float64]]]) -> list[tuple[int, NDArray[np.float64]]]:
    found: dict[int, NDArray[np.float64]] = {}
    for place, values in line:
        found[place // 2] = found[place // 2] + values if place // 2 in found else values
    return list(found.items())


def write_plot(path: Path, rows: Iterable[FaceRow], title: str) -> Path:
    """A row an AU, a colour a face; AUs that rest all the time are named, not drawn.

    Args:
        path: PNG.
        rows: in order.
        title: of the plot.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as pyplot

    people = list(Curves(rows).people.items())[:_FACES]
    drawn = _lively([intensity for _, (_, intensity) in people])
    size = (11, 0.62 * len(drawn) + 1.2)
    figure, grid = pyplot.subplots(len(drawn), 1, figsize=size, sharex=True, sharey=True, squeeze=False)
    axes = grid[:, 0]
    for number, axis in zip(drawn, axes):
        for who, (seconds, intensity) in people:
            axis.plot(
                seconds,
                intensity[:, number],
                linewidth=0.9,
                label=f"face {who}",
                marker="." if len(seconds) < 8 else "",
            )
        axis.set_ylim(-0.15, MAX_INTENSITY + 0.15)  # a curve at 0 or 5 is seen, too
        axis.set_yticks([0, 2, 4])
        axis.tick_params(labelsize=7)
        axis.set_ylabel(
            f"{AU_KEYS[number]}\n{CATALOGUE[number].name}", rotation=0, ha="right", va="center", fontsize=7.5
        )
        axis.grid(alpha=0.25, linewidth=0.5)
    axes[0].set_title(Path(title).name, fontsize=10)
    if len(people) > 1:
        axes[0].legend(loc="upper right", ncols=len(people), fontsize=7, frameon=False)
    still = [AU_KEYS[number] for number in range(NUM_AUS) if number not in drawn]
    axes[-1].set_xlabel("seconds" + (f"\nat rest all the time: {', '.join(still)}" if still else ""), fontsize=8)
    figure.tight_layout(h_pad=0.15)
    return save_figure(figure, path, 110)


def _lively(readings: list[NDArray[np.float64]]) -> list[int]:
    """AUs that move in some face, or are read at grade 1 or more; all where none does."""
    found = set()
    for intensity in readings:
        low, high, top = np.nanpercentile(intensity, (5, 95, 100), axis=0)
        found |= set(np.flatnonzero((high - low >= _MOVES) | (top >= 1.0)).tolist())
    return sorted(found) or list(range(NUM_AUS))


def write_page(path: Path, title: str, rows: Iterable[FaceRow], done: Outcome, zeros: Zeros, detector: str) -> Path:
    """One file: how much was read, which AUs moved, the plot."""
    page = Page(f"Action Units: {Path(title).name}")
    share = done.found / max(1, done.frames)
    facts = [("frames", str(done.frames)), ("with a face", f"{100 * share:.0f} %"), ("people", str(len(done.people)))]
    page.facts([*facts, ("detector", detector)])
    page.text(f"Intensities 0 to 5. Taken for the person's rest (zero): {zeros.facts()['rule']}.")
    for line in [*done.notes, *done.trouble]:
        page.text(line, note=True)
    page.picture(path.with_suffix(".png"), "Intensity of each AU over time; a gap is a stretch without the face")
    for who, (_, intensity) in list(Curves(rows).people.items())[:_FACES]:
        page.heading(f"Face {who}: {done.people.get(who, 0)} frames")
        page.table(["AU", "median", "5 %", "95 %", "moves"], list(_lines(intensity)))
    return page.write(path)


def _lines(intensity: NDArray[np.float64]) -> Iterable[list[Any]]:
    low, middle, high = np.nanpercentile(intensity, (5, 50, 95), axis=0)
    for number in np.argsort(low - high):
        moves = "yes" if high[number] - low[number] >= _MOVES else ""
        yield [
            f"{AU_KEYS[number]} {CATALOGUE[number].name}", f"{middle[number]:.1f}", f"{low[number]:.1f}",
            f"{high[number]:.1f}", moves,
        ]  # fmt: skip
