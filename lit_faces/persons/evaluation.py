"""How well a detector reads a labelled set of people.

out/results.json, table.md, icc.png, calibration.png
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lit_faces.core.facs import AU_KEYS, NUM_AUS, OCCURRENCE_THRESHOLD
from lit_faces.core.files import replace_file
from lit_faces.core.labelled import read_labelled
from lit_faces.core.options import at_least, check_out, option
from lit_faces.core.sample import FaceBatch
from lit_faces.core.shipped import DETECTOR_HELP
from lit_faces.metrics.detector import detector_figures, table
from lit_faces.models.detector import DetectorNetwork
from lit_faces.persons.readers import person_detector, word_of
from lit_faces.persons.zero import Zero
from lit_faces.reports.plots import plot_readings
from lit_faces.reports.results import circumstances, write_json
from lit_faces.tasks.black_box import OWN_HELP, code_of


@dataclass(frozen=True)
class EvaluateOptions:
    """How a detector is evaluated; each field's help says what it is."""

    detector: str = option("generic", DETECTOR_HELP + OWN_HELP)
    resamples: int = option(1000, "of the bootstrap over people; 0: no intervals")
    seed: int = option(0, "of the bootstrap")
    mirror: bool = option(False, "read mirror images too, and average")
    zero: Path | None = option(None, "zero.json of the one person in the set, taken off")

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        Raises:
            ValueError: names the option.
        """
        at_least("resamples", self.resamples, 0)
        at_least("seed", self.seed, 0)


@dataclass
class Evaluation:
    """What was found.

    Attributes:
        figures: see :func:`lit_faces.metrics.detector.detector_figures`.
        table: the same, Markdown.
        plots: files, where a folder was given.
    """

    figures: dict[str, Any]
    table: str
    plots: list[Path] = field(default_factory=list)


def evaluate(data: Path, options: EvaluateOptions, out: Path | None = None) -> Evaluation:
    """Evaluate a detector.

    Args:
        data: folder with labels.csv, or tar shards.
        options: how.
        out: folder to write; nothing is written without.

    Raises:
        ValueError, OSError: names the file or the option that cannot be used.
    """
    if out is not None:
        check_out(out)
    detector = person_detector(options.detector)
    zero = None if options.zero is None else Zero.load(options.zero)
    faces = read_labelled(data, detector.size, need="any", align=True)
    reading = detector.predict(faces.image)
    intensity = detector.predict_au(faces.image, mirror=True) if options.mirror else reading.intensity
    if zero is not None:
        intensity = zero.apply(intensity, AU_KEYS)
    threshold = torch.full((NUM_AUS,), OCCURRENCE_THRESHOLD)
    if isinstance(detector, DetectorNetwork):
        threshold = detector.calibration.threshold.cpu()
    faces, intensity = only_read(faces, intensity)
    figures = detector_figures(
        faces, intensity, threshold, reading.occurrence, reading.expression,
        options.resamples, options.seed,
    )  # fmt: skip
    found = Evaluation(figures, table(figures))
    if out is not None:
        facts = {"run/detector": code_of(word_of(options.detector)), "run/data": str(data)}
        write_json(out / "results.json", {**figures, **facts, "run/seed": options.seed, **circumstances()})
        replace_file(out / "table.md", found.table.encode())
        found.plots = list(plot_readings(figures, faces.au_intensity, intensity, out))
    return found


def only_read(faces: FaceBatch, intensity: Tensor) -> tuple[FaceBatch, Tensor]:
    """AUs that a detector does not have (NaN) are taken for not coded; readings (n, 19) without NaN."""
    read = intensity.isfinite()
    nothing = torch.full_like(faces.au_intensity, torch.nan)
    graded, present = (torch.where(read, one, nothing) for one in (faces.au_intensity, faces.au_occurrence))
    return replace(faces, au_intensity=graded, au_occurrence=present), intensity.nan_to_num(0.0)
