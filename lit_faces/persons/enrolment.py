"""Into a registry: a person's delta and zero out of the folder that `personalise` wrote, and their face's embedding.

The photo is looked at and not kept: an embedding of 128 numbers is.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lit_faces.core.clips import SAME_PERSON, faces_of_clip, is_clip
from lit_faces.core.landmarks import Box, FaceAnalyser
from lit_faces.core.originals import Original
from lit_faces.core.photos import load_photo, photographs_in, source_from_photo
from lit_faces.models.adapters import DELTA_FILE, Delta, detector_code
from lit_faces.models.detector import load_network
from lit_faces.persons.readers import reader_code, zero_there
from lit_faces.persons.reference import REFERENCE_FILE, PersonReferences
from lit_faces.persons.registry import Entry, Face, Registry
from lit_faces.persons.zero import ZERO_FILE

_FRAMES = 5  # of a clip, whose embeddings are averaged


def face_of(path: Path, face: int | None = None, analyser: FaceAnalyser | None = None) -> Face:
    """The embedding of the one face of a photo, or the mean of a few frames of a clip: float32 (128,).

    Raises:
        FileNotFoundError, ValueError: no such file, no face in it, or several.
    """
    analyser = FaceAnalyser() if analyser is None else analyser
    if is_clip(path):
        samples = faces_of_clip(path, 128, face, limit=_FRAMES, analyser=analyser).samples
        found = [analyser.embedding(one.image.permute(1, 2, 0).numpy(), one.landmarks.numpy()) for one in samples]
        return _mean(found, path)
    if path.is_dir():
        return _mean([face_of(one, face, analyser) for one in photographs_in(path)[:_FRAMES]], path)
    box = Box(*source_from_photo(path, 128, face, analyser).provenance["box"])
    picture = load_photo(path)
    return _mean([analyser.embedding(picture, analyser.landmarks(picture, box))], path)


def face_of_original(original: Original, analyser: FaceAnalyser) -> Face | None:
    """The embedding of the face in the pixels around a crop; None where it is not found again."""
    marks = _points(original.image, original.crop, analyser)
    if marks is None:
        return None
    found = analyser.embedding(original.image, marks)
    return found if bool(np.isfinite(found).all()) else None


def _points(picture: np.ndarray, crop: tuple[float, float, float], analyser: FaceAnalyser) -> np.ndarray | None:
    """Landmarks of the face that a crop was cut around; None: there is none."""
    x, y, side = crop
    near = [box for box in analyser.detect(picture) if abs((box.left + box.right) / 2 - x) < side / 3]
    near = [box for box in near if abs((box.top + box.bottom) / 2 - y) < side / 3]
    return analyser.landmarks(picture, near[0]) if near else None


def _mean(found: list[np.ndarray], path: Path) -> Face:
    good = [face for face in found if bool(np.isfinite(face).all())]
    if not good:
        raise ValueError(f"{path}: no face is found whose embedding could be taken; use a photo from the front")
    return np.mean(good, axis=0).astype(np.float32)


def entry_of(folder: Path | None, face: Face | None, reader: str, detector: str = "generic") -> Entry:
    """What is kept of a person: delta, zero and references of a folder of `personalise`, `adapt` or `calibrate`.

    Args:
        folder: the person's; None: the face alone.
        face: embedding.
        reader: code of the registry's detector.
        detector: the word for it.

    Raises:
        ValueError, OSError: there is neither; a damaged file.
    """
    if folder is None:
        return Entry(face=face)
    places = [folder, folder / "detector"]
    delta = folder if folder.is_file() else next((p / DELTA_FILE for p in places if (p / DELTA_FILE).is_file()), None)
    above = [folder.parent] if folder.is_file() or folder.name == "detector" else []  # as `personalise` lays them
    zero = next((p for p in (folder, *above) if (p / ZERO_FILE).is_file()), None)
    beside = next((p for p in (folder, *above) if (p / REFERENCE_FILE).is_file()), None)
    if delta is None and zero is None and beside is None:
        raise ValueError(f"{folder}: holds neither {DELTA_FILE} nor {ZERO_FILE}: personalise --method delta makes both")
    found = None if delta is None else Delta.load(delta)
    references = None if beside is None or delta is not None else PersonReferences.load(beside, reader)
    beside_them = None if references is None else references.references
    return Entry(found, None if zero is None else zero_there(zero, reader_code(detector)), face, beside_them)


def registry_for(folder: Path, detector: str) -> Registry:
    """The registry of a folder, made where there is none, for the detector of a word."""
    return Registry.create(folder, detector_code(load_network(detector)))


def enrol(registry: Registry, name: str, entry: Entry) -> str:
    """Add a person, or put what was learnt now in the place of what was learnt before; says which.

    Raises:
        ValueError: somebody else, by the face, has that name.
    """
    if name not in registry:
        registry.add(name, entry)
        return f"{registry.folder}: {name} is enrolled, {len(registry)} people"
    before = registry.get(name).face
    if before is not None and entry.face is not None and float(np.linalg.norm(before - entry.face)) > SAME_PERSON:
        raise ValueError(f"{registry.folder}: somebody else is called {name!r} there: choose another --name")
    registry.add(name, entry, overwrite=True)
    return f"{registry.folder}: {name} is enrolled anew, {len(registry)} people"
