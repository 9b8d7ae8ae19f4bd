"""One photo sets a person's zero: from photos and clips to ``zero.json`` (:mod:`lit_faces.persons.zero`).

::

    done = calibrate([Path("anna.jpg")], CalibrateOptions(), Path("anna"))
    person_reader(Path("anna"))(images)             # intensities (B, 19) with Anna's zero

What is *done* in a source must not become the zero. Stated AUs (``--source-au 6=2,12=3``) are taken off. Without a word
on that (``auto``), landmarks say it, not the detector, for it is the detector's misreading that is wanted: where they
show a smile, parted lips or closed eyes, what goes with these (cheeks, lip corners) is not asked of this source.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lit_faces.core.alignment import lip_gap
from lit_faces.core.clips import faces_of_clip, is_clip
from lit_faces.core.facs import AU_KEYS, index_of
from lit_faces.core.files import locked
from lit_faces.core.landmarks import FaceAnalyser
from lit_faces.core.options import at_least, check_out, option
from lit_faces.core.photos import source_from_photo
from lit_faces.core.sample import FaceBatch, collate
from lit_faces.core.shipped import DETECTOR_HELP
from lit_faces.models.adapters import detector_code
from lit_faces.models.detector import DetectorNetwork
from lit_faces.persons.intensities import EYES, PARTED, eyes_open, stated_intensities
from lit_faces.persons.readers import detector_of, reader_code, zero_there
from lit_faces.persons.reference import REFERENCE_FILE, PersonReferences
from lit_faces.persons.source import check_visible
from lit_faces.persons.zero import ZERO_FILE, Evidence, Floats, ReadPictures, Slopes, Zero
from lit_faces.tasks.black_box import OWN_HELP, FaceReader, open_detector

_SMILES = 0.69  # of smile_shape
#: What a smile, parted lips and closed eyes make unknowable at rest.
_GOES_WITH = {12: (6, 7, 10, 12, 14, 20, 23, 24, 25, 26, 27), 25: (23, 24, 25, 26, 27), 43: (5, 7, 43)}
_AT_REST = 0.2  # quantile over the frames of a clip: people rest now and then, each AU in its own time
_FRAMES = 24  # of a clip
_LOOKS = 2  # of them that the detector looks at while it reads


@dataclass(frozen=True)
class CalibrateOptions:
    """How a zero is set; each field's help says what it is."""

    detector: str | None = option(
        None, f"whose zero: {DETECTOR_HELP}{OWN_HELP} (default: the one in --out, or generic)"
    )
    source_au: str = option("auto", "what is done in the sources: auto, neutral, or stated: 6=2,12=3")
    face: int | None = option(None, "which face of a photo, or person of a clip, from 0")
    slopes: Path | None = option(None, "how much of a resting reading returns, JSON (default: of the shipped detector)")
    undo: bool = option(False, "take the zero away again; needs --out alone")
    overwrite: bool = option(False, "begin anew; otherwise what is given is pooled with what is there")

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        Raises:
            ValueError: names the option.
        """
        if self.face is not None:
            at_least("face", self.face, 0)
        if self.source_au not in ("auto", "neutral"):
            stated_intensities(self.source_au)


@dataclass
class Calibrated:
    """A zero that was set.

    Attributes:
        zero: the person's.
        path: its file.
        notes: what a user should know.
    """

    zero: Zero
    path: Path
    notes: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """What is taken off, largest first."""
        offset = self.zero.offset
        order = np.argsort(-offset)
        said = [f"{self.zero.names[k]} {offset[k]:.1f}" for k in order if offset[k] >= 0.05]
        count = len(self.zero.sources)
        return f"zero of {count} source{'s' * (count != 1)}: {', '.join(said) or 'nothing to take off'}"


def calibrate(
    sources: Sequence[Path], options: CalibrateOptions, out: Path, analyser: FaceAnalyser | None = None
) -> Calibrated:
    """Set a person's zero, or pool more photos and clips with it.

    Args:
        sources: photos and clips of one person.
        options: how.
        out: folder of the person; a ``detector.safetensors`` there is the one that is meant.
        analyser: finds the faces; None makes one.

    Raises:
        ValueError: no source; a photo, clip or option that cannot be used; a zero of another detector.
        OSError: a file that cannot be read or written; another process works in ``out``.
    """
    check_out(out)
    if not sources:
        raise ValueError("no photo and no clip is given: a zero needs one at least")
    word = detector_of(out, options.detector)
    detector, code = open_detector(word), reader_code(word)
    analyser, notes = FaceAnalyser() if analyser is None else analyser, []
    with locked(out, "calibrate"):  # what is there is read, too: two photos at once must both count
        zero = _begun(options, out, code)
        beside = None if options.overwrite else _references_there(out, detector)
        for path in sources:
            faces, source, said = faces_of(path, detector.size, options, analyser)
            read = detector.predict_au(faces.image)
            rest, done = resting(faces, lambda _, found=read: found, options.source_au)  # type: ignore[misc]
            known, zero = zero, zero.pooled(Evidence(rest, source))
            notes += [f"{path}: {line}" for line in (said + done if zero is not known else ["is in the zero already"])]
            if isinstance(detector, DetectorNetwork) and detector.reference is not None:
                found = looked_at(detector, faces, read, options.source_au, source)
                beside = found if beside is None else beside.pooled(found)
        if beside is not None:
            notes.append(f"{beside.save(out)}: the detector will look at {beside.count} while it reads")
        return Calibrated(zero, zero.save(out), notes)


def calibrate_readings(readings: Floats, tool: str, source: str, options: CalibrateOptions, out: Path) -> Calibrated:
    """Set a person's zero from what another tool has read of them at rest; raises as :func:`calibrate`.

    Args:
        readings: (T, A), NaN = not read; of one frame, or of many in which the person mostly rests.
        tool: whose readings these are, any word.
        source: what tells one table from another, its SHA-256.
        options: what is done in them, where that is stated; ``auto`` takes them for rest.
        out: folder of the person.
    """
    check_out(out)
    table = torch.from_numpy(np.asarray(readings, np.float64))
    if not table.isfinite().any():
        raise ValueError(f"{tool}: no face is read in any row of the table: give one of the person at rest")
    if options.source_au not in ("auto", "neutral"):
        table = table - stated_intensities(options.source_au).double()
    rest = table.clamp_min(0.0).nanquantile(_AT_REST if len(table) > 1 else 0.5, dim=0).numpy()
    with locked(out, "calibrate"):
        zero = _begun(options, out, tool).pooled(Evidence(rest, source))
        return Calibrated(zero, zero.save(out))


def _begun(options: CalibrateOptions, out: Path, code: str) -> Zero:
    """The zero that is there, or one of somebody of whom nothing is known."""
    zero = None if options.overwrite else zero_there(out, code)
    slopes = Slopes.shipped() if options.slopes is None else Slopes.shipped(options.slopes)
    return Zero.of(AU_KEYS, slopes, code) if zero is None else zero


def _references_there(out: Path, detector: FaceReader) -> PersonReferences | None:
    if not isinstance(detector, DetectorNetwork) or not (out / REFERENCE_FILE).is_file():
        return None
    return PersonReferences.load(out, detector_code(detector))


def undo(out: Path) -> bool:
    """Take a zero, and the references beside it, away; whether there was one."""
    path = Path(out) / ZERO_FILE
    there = path.is_file()
    for name in (ZERO_FILE, REFERENCE_FILE):
        (Path(out) / name).unlink(missing_ok=True)
    return there


# -- from pictures to evidence ----------------------------------------------------------------------------------------


def faces_of(
    path: Path, size: int, options: CalibrateOptions, analyser: FaceAnalyser
) -> tuple[FaceBatch, str, list[str]]:
    """The face of a photo, or of the frames of a clip; SHA-256 of the file, and what a user should know.

    Args:
        path: photo or clip.
        size: side of the crops, pixels.
        options: which face.
        analyser: finds it.

    Raises:
        FileNotFoundError, IsADirectoryError, ValueError: says what is wrong with the file or the face.
    """
    if is_clip(path):
        found = faces_of_clip(path, size, options.face, limit=_FRAMES, analyser=analyser)
        samples, said = found.samples, [f"{len(found.samples)} frames", *found.notes]
    else:
        sample = source_from_photo(path, size, options.face, analyser)
        check_visible(path, sample, analyser)
        samples, said = [sample], []
    return collate(samples), samples[0].provenance["sha256"], said


def looked_at(detector: DetectorNetwork, faces: FaceBatch, read: Tensor, au: str, source: str) -> PersonReferences:
    """What a detector with a reference head remembers of a photo, or of the two most resting frames of a clip.

    Args:
        detector: remembers its own features.
        faces: T frames, with landmarks.
        read: what it reads on them, (T, 19).
        au: what is done in them: ``auto`` (nothing, but for what landmarks show), ``neutral``, or stated.
        source: SHA-256 of the file.
    """
    if au in ("auto", "neutral"):
        shown = torch.zeros(len(faces), len(AU_KEYS))
        shown = shown.masked_fill(hidden_at_rest(faces.landmarks), torch.nan) if au == "auto" else shown
    else:
        shown = stated_intensities(au)[None].expand(len(faces), -1)
    order = read.sum(1).argsort()[:_LOOKS]
    made = detector.make_references(faces.image[order], shown[order])
    return PersonReferences(made, (source[:8],), detector_code(detector))


def resting(
    faces: FaceBatch, read: ReadPictures, au: str = "auto", names: Sequence[str] = AU_KEYS
) -> tuple[Floats, list[str]]:
    """Readings at rest (A,) of frames of one person, NaN where they cannot say, and notes.

    Args:
        faces: T frames, with landmarks.
        read: crops to readings (T, A).
        au: what is done in them: ``auto``, ``neutral``, or stated.
        names: of the readings; those that are no AU of ours are taken as they are.
    """
    readings = read(faces.image).double()
    notes = []
    if au == "auto":
        hidden = _by_name(hidden_at_rest(faces.landmarks), names)
        readings = readings.masked_fill(hidden, torch.nan)
        if lost := [key for key, column in zip(names, hidden.all(0)) if column]:
            notes.append(f"not at rest (a smile, parted lips or closed eyes): says nothing of {', '.join(lost)}")
    elif au != "neutral":
        readings = readings - _by_name(stated_intensities(au).double()[None], names)
    rest = readings.clamp_min(0.0).nanquantile(_AT_REST if len(faces) > 1 else 0.5, dim=0)
    return rest.numpy(), notes


def _by_name(values: Tensor, names: Sequence[str]) -> Tensor:
    """Columns of our AUs (T, 19) in the order of a reader's names (T, A); 0 for what is no AU of ours."""
    columns = [AU_KEYS.index(name) if name in AU_KEYS else len(AU_KEYS) for name in names]
    return torch.cat([values, torch.zeros_like(values[:, :1])], 1)[:, columns]


def smile_shape(landmarks: Tensor) -> Tensor:
    """Width of the mouth and height of its corners over its middle, of the outer-eye distance: (B, 68, 2) to (B,).

    Of the 71 open people at rest 2 are above :data:`_SMILES`, of their 30 strong smiles 26.
    """
    eyes = landmarks[:, 45] - landmarks[:, 36]
    distance = eyes.norm(dim=1, keepdim=True)
    across = eyes / distance
    down = torch.stack([-across[:, 1], across[:, 0]], 1)
    corners, middle = landmarks[:, [48, 54]], landmarks[:, [51, 57]].mean(1)
    width = ((corners[:, 1] - corners[:, 0]) * across).sum(1)
    lift = ((middle - corners.mean(1)) * down).sum(1)
    return (width + lift) / distance[:, 0]


def hidden_at_rest(landmarks: Tensor) -> Tensor:
    """Which AUs frames cannot show at rest, for something is done in them: (T, 68, 2) to bool (T, 19)."""
    done = {
        12: smile_shape(landmarks) > _SMILES,
        25: lip_gap(landmarks) > PARTED,
        43: eyes_open(landmarks) < EYES[0],
    }
    hidden = torch.zeros(len(landmarks), len(AU_KEYS), dtype=torch.bool)
    for au, seen in done.items():
        hidden[:, index_of(_GOES_WITH[au])] |= seen[:, None]
    return hidden
