"""A person's reference pictures, as a detector with a reference head remembers them: features, no picture.

::

    out/reference.safetensors     up to four pictures (features and AUs; 2 KB each), and whose features these are

Set by ``calibrate`` beside the zero, of detectors that have a reference head. Nothing is trained, so nothing is
forgotten; taken away by deleting the file. Features belong to one detector's weights: others are refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from lit_faces.core.fields import field
from lit_faces.core.weights import check_card, load_weights, save_weights
from lit_faces.models.reference import References

REFERENCE_FILE = "reference.safetensors"
MOST_REFERENCES = 4
_KIND = "references"
_AGAIN = "make it again with `python -m lit_faces.calibrate PHOTO --out DIR`"


@dataclass
class PersonReferences:
    """What is remembered of one person.

    Attributes:
        references: features and AUs.
        sources: first digits of the SHA-256 of the photos and clips they come from.
        reader: of whose weights, :func:`~lit_faces.models.adapters.detector_code`.
    """

    references: References
    sources: tuple[str, ...]
    reader: str

    @property
    def count(self) -> str:
        """How many pictures, in words."""
        return f"{len(self.references)} picture{'s' * (len(self.references) != 1)} of the person"

    def pooled(self, more: PersonReferences) -> PersonReferences:
        """These and more, the first :data:`MOST_REFERENCES` of them; a source that is in already changes nothing."""
        if set(more.sources) <= set(self.sources):
            return self
        features = torch.cat([self.references.features, more.references.features])[:MOST_REFERENCES]
        intensity = torch.cat([self.references.intensity, more.references.intensity])[:MOST_REFERENCES]
        return PersonReferences(References(features, intensity), (*self.sources, *more.sources), self.reader)

    def save(self, folder: Path) -> Path:
        """Write the file, whole or not at all; returns where."""
        path = Path(folder) / REFERENCE_FILE
        tensors = {"features": self.references.features.half(), "intensity": self.references.intensity.half()}
        save_weights(path, tensors, {"kind": _KIND, "reader": self.reader, "sources": list(self.sources)})
        return path

    def of_another(self, code: str) -> str:
        """What is wrong where the detector of ``code`` should read with these."""
        return (
            f"the references of another detector ({self.reader}, not {code}): features mean something to the detector "
            f"that made them alone; {_AGAIN} --overwrite"
        )

    @classmethod
    def load(cls, path: Path, reader: str | None = None) -> PersonReferences:
        """From a file, or from the folder that holds it.

        Args:
            path: where.
            reader: code of the detector that will read with them; None: whichever.

        Raises:
            FileNotFoundError: there is none.
            ValueError: damaged, no references, or another detector's.
        """
        path = path / REFERENCE_FILE if path.is_dir() else path
        state, card = load_weights(path)
        check_card(path, card, _KIND, "a person's references", _AGAIN)
        where = f"{path}: its card"
        found = field(card, "reader", str, where)
        sources = field(card, "sources", list, where, of=str)
        kept = References.checked(state.get("features"), state.get("intensity"), str(path))
        made = cls(kept, tuple(sources), found)
        if reader not in (None, found):
            raise ValueError(f"{path}: {made.of_another(str(reader))}")
        return made
