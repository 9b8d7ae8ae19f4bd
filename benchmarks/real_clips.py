"""Clips and photos of other people: our readings beside the outside readers' on the same frames."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.outside import OutsideTable
from benchmarks.real_figures import Floats
from lit_faces.core.clips import faces_of_clip, is_clip
from lit_faces.core.facs import AU_KEYS
from lit_faces.core.landmarks import FaceAnalyser
from lit_faces.core.photos import source_from_photo
from lit_faces.core.sample import collate
from lit_faces.persons.calibration import looked_at
from lit_faces.tasks.au_detector import AUDetector

_LOG = logging.getLogger(__name__)
_PICTURES = (".jpg", ".jpeg", ".png")
_MOST_FRAMES = 100_000


@dataclass
class ClipReading:
    """A clip as everybody reads it, on the frames in which all found a face.

    Attributes:
        name: of the clip.
        ours: (frames, 19), grades.
        openface: (frames, 19), raw scores.
        openface_grade: (frames, 19), 0..5.
        mediapipe: (frames, 19), scores.
        beside: as ``ours``, beside the two frames in which the person rests most; None: no reference head.
    """

    name: str
    ours: Floats
    openface: Floats
    openface_grade: Floats
    mediapipe: Floats
    beside: Floats | None = None


def read_clips(folder: Path, detector: AUDetector, outside: OutsideTable, every: int = 4) -> list[ClipReading]:
    """The clips of a folder that are in the outside readers' tables, each ``every``-th frame."""
    analyser, found = FaceAnalyser(), []
    for path in sorted(folder.iterdir()):
        if not is_clip(path):
            continue
        if not outside.frames(path.name):
            _LOG.warning("%s: not in the readers' table; run readers.py on it", path)
            continue
        clip = faces_of_clip(path, detector.size, limit=_MOST_FRAMES, every=every, analyser=analyser)
        batch = collate(clip.samples)
        names = [f"{path.name}#{int(frame)}" for frame in batch.frame]
        openface, mediapipe = outside.openface(names), outside.mediapipe(names)
        ours = detector.predict_au(batch.image).double().numpy()
        known = ~np.isnan(openface.score[:, AU_KEYS.index("AU12")])
        reading = ClipReading(
            path.name, ours[known], openface.score[known], openface.grade[known], mediapipe.score[known]
        )
        if detector.reference is not None:
            detector.set_references(looked_at(detector, batch, torch.from_numpy(ours), "auto", path.name).references)
            reading.beside = detector.predict_au(batch.image).double().numpy()[known]
            detector.set_references(None)
        found.append(reading)
    return found


def resting_medians(folder: Path, detector: AUDetector, clips: Sequence[ClipReading]) -> dict[str, Any]:
    """Median reading of each AU over a clip's frames, and over the photos of a folder."""
    analyser, samples = FaceAnalyser(), []
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in _PICTURES:
            try:
                samples.append(source_from_photo(path, detector.size, analyser=analyser))
            except ValueError as error:
                _LOG.warning("%s", error)
    readings = {clip.name: clip.ours for clip in clips}
    if samples:
        readings["photos"] = detector.predict_au(collate(samples).image).double().numpy()
    figures: dict[str, Any] = {}
    for name, values in readings.items():
        for key, median in zip(AU_KEYS, np.median(values, axis=0)):
            figures[f"median/{name}/{key}"] = float(median)
    return figures
