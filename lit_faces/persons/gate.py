"""Who wears which delta: the person who is named, the person who is recognised, or, for everybody else, nobody's.

::

    gate = Gate(detector, registry, recognise=True)
    gate.who(track, lambda: embedding)              # "anna" or "": asked once a track, not in every frame
    gate.predict_as(crops, ["anna", "", "anna"])    # one network, read as each of them

A stranger's rows are read by the shared weights themselves, so that no delta can do anything to them: what others lose
is what the gate mistakes, and nothing else (``python -m benchmarks.gate``).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_faces.core.facs import AU_KEYS
from lit_faces.core.fields import field
from lit_faces.models.adapters import folded, wearing
from lit_faces.models.detector import DetectorNetwork, Reading
from lit_faces.persons.registry import THRESHOLD, Entry, Face, Registry

_KEPT = 8  # people whose sums stay in memory: 5 MB each
NOBODY = ""


class Gate:
    """A shared detector that reads known people as their own.

    Args:
        detector: the shared one, on the device where it reads.
        registry: of this detector.
        person: the only one who is looked for.
        recognise: whether faces are compared; otherwise every face is taken for ``person``.
        threshold: largest distance of embeddings.

    Attributes:
        known: name by number of the track, empty for strangers.

    Raises:
        ValueError: neither a person nor recognising; there is nobody of that name; a person who cannot be recognised.
    """

    def __init__(
        self,
        detector: DetectorNetwork,
        registry: Registry,
        person: str | None = None,
        recognise: bool = False,
        threshold: float = THRESHOLD,
    ) -> None:
        if person is None and not recognise:
            raise ValueError("--registry: says who may be known, but not who is: add --person NAME or --recognise")
        if person is not None and registry.get(person).face is None and recognise:
            raise ValueError(f"{registry.folder}: no embedding of {person!r} is kept: name them without --recognise")
        detector.set_references(None)  # the registry says beside whom a face is read
        self.detector, self.registry = detector, registry
        self.person, self.recognise, self.threshold = person, recognise, threshold
        self.known: dict[int, str] = {}
        self._sums: OrderedDict[str, dict[str, Tensor]] = OrderedDict()

    @property
    def size(self) -> int:
        """Side of the crops that are read, pixels."""
        return self.detector.size

    # -- who is it ----------------------------------------------------------------------------------------------------

    def who(self, track: int, face: Callable[[], Face]) -> str:
        """Whose face a track is, decided once; empty for a stranger.

        Args:
            track: number of the person in a clip.
            face: gives the embedding, where it is needed.
        """
        if track not in self.known:
            self.known[track] = self.name_of(face)
        return self.known[track]

    def name_of(self, face: Callable[[], Face]) -> str:
        """Whose face it is; empty for a stranger."""
        if not self.recognise:
            return self.person or NOBODY
        name = self.registry.recognise(face(), self.threshold)
        return NOBODY if name is None or self.person not in (None, name) else name

    def state(self) -> dict[str, Any]:
        """What :meth:`restore` takes; JSON."""
        return {"known": {str(track): name for track, name in self.known.items()}}

    def restore(self, state: Mapping[str, Any]) -> None:
        """As it was; an empty state begins anew."""
        known = field(state, "known", dict, "registry", default={}, of=str)
        self.known = {int(track): name for track, name in known.items() if name in ("", *self.registry.names)}

    # -- reading ------------------------------------------------------------------------------------------------------

    def predict_as(self, images: Tensor, names: Sequence[str]) -> Reading:
        """Pictures uint8 (B, 3, H, W), each read as of the person named; empty: of a stranger."""
        groups = {name: [row for row, one in enumerate(names) if one == name] for name in dict.fromkeys(names)}
        if len(groups) == 1:
            return self._as(next(iter(groups)), images)
        parts = [self._as(name, images[rows]) for name, rows in groups.items()]
        order = torch.tensor([row for rows in groups.values() for row in rows]).argsort()

        def together(what: str) -> Tensor | None:
            values = [getattr(part, what) for part in parts]
            return None if values[0] is None else torch.cat(values)[order]

        intensity = together("intensity")
        assert intensity is not None
        return Reading(intensity, together("occurrence"), together("expression"))

    def occurs(self, reading: Reading) -> Tensor:
        """Occurrence 0/1, float32 (B, 19); thresholds are shared."""
        return self.detector.occurs(reading)

    def zero_of(self, name: str) -> NDArray[np.float32] | None:
        """What is taken off a person's readings (19,), grades; None where there is nothing, or the delta knows it."""
        entry = self.registry.get(name) if name else Entry()
        if entry.delta is not None or entry.references is not None or entry.zero is None:
            return None
        return entry.zero.offset_of(AU_KEYS).astype(np.float32)

    def _as(self, name: str, images: Tensor) -> Reading:
        entry = self.registry.get(name) if name else Entry()
        delta = entry.delta
        if delta is None:
            self.detector.set_references(entry.references)
            try:
                return self.detector.predict(images)
            finally:
                self.detector.set_references(None)
        if name not in self._sums:
            delta.check(self.detector, self.registry.detector, f"{self.registry.folder}: {name}")
            self._sums[name] = folded(self.detector, delta)
            if len(self._sums) > _KEPT:
                self._sums.popitem(last=False)
        self._sums.move_to_end(name)
        with wearing(self.detector, self._sums[name], delta.beside):
            return self.detector.predict(images)
