"""What a person's detector changed where the user can see it: on the pictures that the person gave.

No label stands behind these figures: what rests should be read as small, what the pictures show should stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lit_faces.core.facs import AU_KEYS, CATALOGUE
from lit_faces.models.detector import load_network
from lit_faces.persons.readers import person_detector
from lit_faces.persons.report import source_sheet
from lit_faces.persons.source import PersonSource
from lit_faces.persons.zero import Zero
from lit_faces.reports.page import Page
from lit_faces.reports.pictures import save_figure, save_png

_SHOWN = 0.3  # grades: AUs that nobody reads above it are left out
_COLOURS = {"before": "#a0a8b4", "zero": "#d9a441", "after": "#3a6ea5"}
_WORDS = {"before": "before", "zero": "zero alone", "after": "after"}


@dataclass
class OnSource:
    """Mean readings on the source pictures, float32 (19,) each.

    Attributes:
        before: of the detector that was adapted.
        zero: the same less the person's zero.
        after: of the person's own detector.
        pictures: that the means are over.
    """

    before: NDArray[np.float32]
    zero: NDArray[np.float32]
    after: NDArray[np.float32]
    pictures: int

    @classmethod
    def read(cls, source: PersonSource, first: str | Path, zero: Zero, last: Path) -> OnSource:
        """Let both detectors read the source pictures.

        Args:
            source: the person.
            first: detector that was adapted.
            zero: the person's, of ``first``.
            last: folder of the person's own detector, and of what it reads beside.
        """
        images = source.faces.image
        before, after = (one.predict_au(images) for one in (load_network(first), person_detector(last)))
        less = zero.apply(before, AU_KEYS)
        means = [one.mean(0).float().numpy() for one in (before, less, after)]
        return cls(means[0], means[1], means[2], len(images))

    def each(self) -> dict[str, NDArray[np.float32]]:
        """By when."""
        return {"before": self.before, "zero": self.zero, "after": self.after}

    def flat(self) -> dict[str, Any]:
        """Under flat names, for results.json: ``source/after/AU06``, ``source/after/mean``."""
        figures: dict[str, Any] = {"source/pictures": self.pictures}
        for when, values in self.each().items():
            figures |= {f"source/{when}/{key}": float(value) for key, value in zip(AU_KEYS, values)}
            figures[f"source/{when}/mean"] = float(values.mean())
        return figures


def add_to_page(page: Page, source: PersonSource, found: OnSource, folder: Path) -> None:
    """The first section of a person's page.

    Args:
        page: to write on.
        source: the person.
        found: readings.
        folder: for the plot.
    """
    what = {1: "the source picture"}.get(found.pictures, f"the {found.pictures} source pictures (means)")
    page.heading(f"What changed on {what}")
    page.facts([(f"grades read, mean of {len(AU_KEYS)} AUs, {_WORDS[when]}", f"{values.mean():.2f}")
                for when, values in found.each().items()])  # fmt: skip
    shown = [k for k in range(len(AU_KEYS)) if max(values[k] for values in found.each().values()) >= _SHOWN]
    shown.sort(key=lambda k: found.after[k] - found.before[k])
    if not shown:
        page.text(f"No AU is read above {_SHOWN}, before or after.")
    else:
        sheet = (save_png(source_sheet(source), folder / "source.png"), "Green: landmarks found, after the fit")
        page.pictures([sheet, (_bars(found, shown, folder / "source_before_after.png"), "What is read there, 0 to 5")])
        rows = [
            (AU_KEYS[k], *(f"{values[k]:.1f}" for values in found.each().values()), CATALOGUE[k].name) for k in shown
        ]
        page.table(("AU", *_WORDS.values(), ""), rows)
    said = next((note for note in source.notes if note.startswith("AUs of the source")), "")
    page.text(
        "No label stands behind these: what rests should be read as small, what the source shows should stay. "
        f"AUs that are never read above {_SHOWN} are left out. {said}".strip(),
        note=True,
    )


def _bars(found: OnSource, shown: list[int], path: Path) -> Path:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 1.2 + 0.42 * len(shown)), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(shown))
    for shift, (when, values) in zip((-0.27, 0.0, 0.27), found.each().items()):
        axes.barh(places + shift, values[shown], 0.25, color=_COLOURS[when], label=_WORDS[when])
    axes.set_yticks(places, [AU_KEYS[k] for k in shown])
    axes.invert_yaxis()
    axes.set_xlim(0, 5)
    axes.set_xlabel("intensity that is read")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=8)
    return save_figure(figure, path)
