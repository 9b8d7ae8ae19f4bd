"""Several photos and clips of one person: what of them can be used, and why the rest cannot.

Messages count photos and clips in the order in which they were named (of a folder: in the order of their names); their
names stand in no note, for notes go into the manifest of the set.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lit_faces.core.clips import SAME_PERSON, faces_of_clip, is_clip
from lit_faces.core.landmarks import FaceAnalyser
from lit_faces.core.originals import Original, cut_original, originals_of_clip
from lit_faces.core.photos import load_photo, photographs_in, source_from_photo
from lit_faces.core.sample import FaceSample, collate

#: Raises ValueError where a photo's face is covered or turned away.
Check = Callable[[Path, FaceSample, FaceAnalyser], None]
FEW = 3  # pictures that can be used, below which a warning says so, if more were given
_FRAMES = 24  # of a clip that is one of several sources
_SAID = 3  # reasons that are said


@dataclass
class Pieces:
    """Pictures of one person from several files.

    Attributes:
        samples: what can be used; ``subject`` is the picture's number here.
        paths: the file of each.
        labels: what to call each: ``photo 2``, ``frame 14 of clip 3``.
        left_out: why a file cannot be used, a line each.
        photos: given.
        clips: given.
    """

    samples: list[FaceSample] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    photos: int = 0
    clips: int = 0

    def add(self, path: Path, label: str, samples: Sequence[FaceSample]) -> None:
        """Pictures of one file."""
        for sample in samples:
            self.labels.append(f"frame {sample.frame} of {label}" if is_clip(path) else label)
            self.samples.append(replace(sample, subject=str(len(self.samples))))
            self.paths.append(path)

    @property
    def files(self) -> list[Path]:
        """That something of can be used."""
        return list(dict.fromkeys(self.paths))

    @property
    def sha256(self) -> str:
        """Of all files together, whatever their order."""
        codes = sorted({sample.provenance["sha256"] for sample in self.samples})
        return hashlib.sha256("".join(codes).encode()).hexdigest()

    def check_one_person(self, analyser: FaceAnalyser) -> None:
        """Refuse pictures of different people.

        Raises:
            ValueError: names two files.
        """
        batch = collate(self.samples)
        known = analyser.batch_embeddings(batch.image, batch.landmarks)
        apart = (known - known[0]).norm(dim=1)
        if float(apart.max()) > SAME_PERSON:
            first, other = self.paths[0], self.paths[int(apart.argmax())]
            raise ValueError(
                f"{first.parent}: {first.name} and {other.name} show different people (distance "
                f"{float(apart.max()):.2f}, at most {SAME_PERSON}); give photos and clips of one person"
            )

    def originals(self, rows: Sequence[int]) -> list[Original]:
        """The chosen pictures at their own resolution."""
        places: dict[Path, dict[int, tuple[float, float, float]]] = {}
        for row in rows:
            places.setdefault(self.paths[row], {})[self.samples[row].frame] = tuple(
                self.samples[row].provenance["crop"]
            )
        cut: dict[Path, dict[int, Original]] = {}
        for path, frames in places.items():  # a clip is decoded once, whatever is wanted of it
            cut[path] = originals_of_clip(path, frames) if is_clip(path) else _of_photo(path, frames)
        return [cut[self.paths[row]][self.samples[row].frame] for row in rows]

    def notes(self, used: int, sources: Sequence[int]) -> list[str]:
        """How much of what was given counts, which pictures are the sources, and what was left out.

        Args:
            used: pictures that the identity rests on.
            sources: numbers of the source pictures.
        """
        photos = sum(not is_clip(path) for path in self.files)
        kept = [f"{photos} of {self.photos} photos"] if self.photos else []
        kept += [f"{len(self.files) - photos} of {self.clips} clips"] if self.clips else []
        named = ", ".join(self.labels[row] for row in sources)
        lines = [f"{' and '.join(kept)} were used ({used} pictures for the identity); sources: {named}"]
        lines += [f"left out: {reason}" for reason in self.left_out[:_SAID]]
        more = len(self.left_out) - _SAID
        lines += [f"left out: {more} more"] if more > 0 else []
        if len(self.samples) < FEW and self.left_out:
            lines.append(f"few pictures can be used ({len(self.samples)}): give more that show the whole face")
        return lines


def _of_photo(path: Path, places: dict[int, tuple[float, float, float]]) -> dict[int, Original]:
    picture = load_photo(path)
    return {frame: cut_original(picture, place) for frame, place in places.items()}


def gather(sources: Sequence[Path], size: int, face: int | None, analyser: FaceAnalyser, check: Check) -> Pieces:
    """The pictures of one person in photos, folders of photos, and clips.

    Args:
        sources: one or more.
        size: side of the crops, pixels.
        face: which face of a photo, or person of a clip, where there are several.
        analyser: finds the faces.
        check: of photos.

    Raises:
        FileNotFoundError: no such file.
        ValueError: nothing can be used; or they show different people.
    """
    found = Pieces()
    paths = [path for source in sources for path in (photographs_in(source) if source.is_dir() else [source])]
    for path in paths:
        clip = is_clip(path)
        found.clips, found.photos = found.clips + clip, found.photos + (not clip)
        label = f"clip {found.clips}" if clip else f"photo {found.photos}"
        try:
            if clip:
                found.add(path, label, faces_of_clip(path, size, face, limit=_FRAMES, analyser=analyser).samples)
            else:
                sample = source_from_photo(path, size, face, analyser)
                check(path, sample, analyser)
                found.add(path, label, [sample])
        except ValueError as error:
            found.left_out.append(f"{label}: {str(error).removeprefix(f'{path}: ')}")
    if not found.samples:
        where = f"{sources[0]}: no photo in this folder" if len(sources) == 1 else "none of the photos and clips"
        reason = found.left_out[0] if found.left_out else "it has none"
        raise ValueError(f"{where} can be used; {reason}")
    found.check_one_person(analyser)
    return found
