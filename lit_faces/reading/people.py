"""Who is who in a video: people by dlib's embedding of the face, so that an id outlives cuts and absences."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lit_faces.core.clips import SAME_PERSON

_MOST = 5  # embeddings that a person's mean is made of: a face that turns away later does not wash it out


class People:
    """People that were seen, each with the mean of the first few embeddings.

    Attributes:
        means: float32 (128,) of each.
        counts: embeddings that each is the mean of.
    """

    def __init__(self) -> None:
        self.means: list[NDArray[np.float32]] = []
        self.counts: list[int] = []

    def recognise(self, face: NDArray[np.float32], elsewhere: Collection[int] = ()) -> int:
        """The number of the person, a new one where nobody is near enough.

        Args:
            face: embedding, float32 (128,).
            elsewhere: who it cannot be, because they are in the picture at another place.
        """
        near = self.distances(face)
        free = [(distance, who) for who, distance in enumerate(near) if who not in elsewhere and distance < SAME_PERSON]
        if free:
            who = min(free)[1]
            self.learn(who, face)
            return who
        self.means.append(face)
        self.counts.append(1)
        return len(self.means) - 1

    def learn(self, who: int, face: NDArray[np.float32]) -> None:
        """One more embedding of a person."""
        if self.counts[who] < _MOST:
            count = self.counts[who]
            self.means[who] = ((self.means[who] * count + face) / (count + 1)).astype(np.float32)
            self.counts[who] = count + 1

    def face(self, who: int) -> NDArray[np.float32]:
        """The mean embedding of a person, float32 (128,)."""
        return self.means[who]

    def distances(self, face: NDArray[np.float32]) -> list[float]:
        """From an embedding to everybody."""
        return [float(np.linalg.norm(mean - face)) for mean in self.means]

    def state(self) -> dict[str, Any]:
        """What :meth:`restore` takes; JSON."""
        return {"means": [mean.tolist() for mean in self.means], "counts": list(self.counts)}

    def restore(self, state: dict[str, Any]) -> None:
        """As it was."""
        self.means = [np.array(mean, np.float32) for mean in state["means"]]
        self.counts = [int(count) for count in state["counts"]]
