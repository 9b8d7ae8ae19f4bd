"""A person's zero: what the detector reads on the face at rest, taken off every reading.

    intensity = clip(reading - zero, 0, 5)

``auto`` takes the 10th percentile of each AU over a person's frames in the clip for the face at rest (as
:func:`lit_faces.persons.source.acting` does): right where an AU rests for a tenth of the time or more; an AU that is
held all the time is taken for the face's shape. A photo's zero is its own reading, a file's what it says.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lit_faces.core.facs import AU_KEYS, MAX_INTENSITY, NUM_AUS
from lit_faces.core.inputs import read_file
from lit_faces.persons.zero import Zero
from lit_faces.reading.rows import FaceRow

SHARE = 0.1  # of a person's frames that are taken for rest
LEAST_FRAMES = 25  # of a person, below which the clip says nothing of rest
_BINS = 500
_TRACE = 1.0  # after the zero, an AU below grade A is not present, whatever the head for occurrence says


def take_off(row: FaceRow, zero: NDArray[np.float32] | None) -> FaceRow:
    """A row on the person's own scale; an AU of which nothing is left is not present."""
    if zero is None or not row.success:
        return row
    intensity = (row.intensity - zero).clip(0.0, MAX_INTENSITY)
    gone = (zero > 0) & (intensity < _TRACE)
    return replace(row, intensity=intensity, present=np.where(gone & np.isfinite(row.present), 0.0, row.present))


@dataclass
class Zeros:
    """The zeros of the people of a video.

    Attributes:
        kind: ``none``, ``auto``, ``photo``, ``file`` or ``registry``.
        people: zero by face id, float32 (19,).
        notes: what a user should know.
    """

    kind: str = "none"
    people: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def of(self, row: FaceRow) -> FaceRow:
        """The row less its person's zero."""
        return take_off(row, self.people.get(row.person))

    def facts(self) -> dict[str, Any]:
        """For the file beside the table."""
        rounded = {who: [round(float(value), 3) for value in zero] for who, zero in self.people.items()}
        said = {
            "none": "as the detector reads",
            "auto": f"percentile {100 * SHARE:.0f} of each AU over the person's frames, taken off and clipped to 0..5",
            "photo": "the reading of the resting photo, taken off and clipped to 0..5",
            "file": "the values of the file, taken off and clipped to 0..5",
            "registry": "of people of the registry: part of their delta, or their zero taken off and clipped to 0..5",
        }[self.kind]
        return {
            "kind": self.kind,
            "rule": said,
            "by_face": {str(who): dict(zip(AU_KEYS, zero)) for who, zero in rounded.items()},
        }


class RestingEstimate:
    """Percentiles of every person's readings, in memory that does not grow with the clip."""

    def __init__(self) -> None:
        self._counts: dict[int, NDArray[np.int64]] = {}

    def add(self, rows: Iterable[FaceRow]) -> RestingEstimate:
        """Count readings in bins of 0.01."""
        aus = np.arange(NUM_AUS)
        for row in rows:
            known = aus[np.isfinite(row.intensity)]  # a detector of one's own may lack some
            if row.success and len(known):
                counts = self._counts.setdefault(row.person, np.zeros((NUM_AUS, _BINS + 1), np.int64))
                bins = np.rint(row.intensity[known] / MAX_INTENSITY * _BINS).astype(int).clip(0, _BINS)
                counts[known, bins] += 1
        return self

    def zeros(self) -> Zeros:
        """The zeros of all who were seen long enough."""
        found = Zeros("auto")
        for who, counts in sorted(self._counts.items()):
            frames = int(counts.sum(1).max())
            if frames < LEAST_FRAMES:
                found.notes.append(
                    f"--zero auto: face {who} has {frames} frames, {LEAST_FRAMES} are needed; none taken off"
                )
                continue
            below = counts.cumsum(1) >= SHARE * frames
            found.people[who] = (below.argmax(1) * (MAX_INTENSITY / _BINS)).astype(np.float32)
        return found


def zero_of_file(path: Path) -> NDArray[np.float32]:
    """Zero from a JSON file: of ``calibrate``, or ``{"AU06": 0.8, ...}``; AUs that it does not name are 0.

    Raises:
        FileNotFoundError, OSError: no such file.
        ValueError: names the file and what is wrong with it.
    """
    try:
        content = json.loads(read_file(path, "zero file"))
    except json.JSONDecodeError as error:
        raise ValueError(
            f'{path}: no JSON (line {error.lineno}: {error.msg}); expected {{"AU06": 0.8, ...}}'
        ) from error
    if isinstance(content, Mapping) and "aus" in content and "zero" in content:
        known = Zero.of_content(dict(content), path)
        content = dict(zip(known.names, known.offset.clip(0.0, MAX_INTENSITY).tolist()))
    values = content.get("zero", content) if isinstance(content, Mapping) else None
    if not isinstance(values, Mapping) or not any(key in values for key in AU_KEYS):
        raise ValueError(f'{path}: expected a zero by AU, such as {{"AU06": 0.8, ...}}')
    zero = np.zeros(NUM_AUS, np.float32)
    for number, key in enumerate(AU_KEYS):
        value = values.get(key, 0.0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_INTENSITY:
            raise ValueError(f"{path}: {key}: expected a number from 0 to 5, found {value!r}")
        zero[number] = value
    return zero
