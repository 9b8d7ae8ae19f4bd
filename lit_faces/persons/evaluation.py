"""How well a detector reads a labelled set of people.

out/results.json, table.md, icc.png, calibration.png
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lit_faces.core.files import replace_file
from lit_faces.core.labelled import read_labelled
from lit_faces.core.options import at_least, check_out, option
from lit_faces.core.shipped import DETECTOR_HELP, weights_code
from lit_faces.metrics.detector import detector_figures, table
from lit_faces.reports.plots import plot_readings
from lit_faces.reports.results import circumstances, write_json
from lit_faces.tasks.au_detector import load_detector


@dataclass(frozen=True)
class EvaluateOptions:
    """How a detector is evaluated; each field's help says what it is."""

    detector: str = option("generic", DETECTOR_HELP)
    resamples: int = option(1000, "of the bootstrap over people; 0: no intervals")
    seed: int = option(0, "of the bootstrap")
    mirror: bool = option(False, "read mirror images too, and average")

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
    detector = load_detector(options.detector)
    faces = read_labelled(data, detector.size, need="any", align=True)
    reading = detector.predict(faces.image)
    intensity = detector.predict_au(faces.image, mirror=True) if options.mirror else reading.intensity
    figures = detector_figures(
        faces, intensity, detector.calibration.threshold.cpu(), reading.occurrence, reading.expression,
        options.resamples, options.seed,
    )  # fmt: skip
    found = Evaluation(figures, table(figures))
    if out is not None:
        facts = {"run/detector": weights_code("detector", options.detector), "run/data": str(data)}
        write_json(out / "results.json", {**figures, **facts, "run/seed": options.seed, **circumstances()})
        replace_file(out / "table.md", found.table.encode())
        found.plots = list(plot_readings(figures, faces.au_intensity, intensity, out))
    return found
