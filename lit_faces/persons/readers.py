"""Which reader a person's folder means; kept apart from how it was made, so that a photo is read soon.

::

    person_detector("anna")             # the folder's detector, beside the references there
    person_reader(Path("anna"))(images) # intensities (B, 19), less the zero there
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from lit_faces.core.facs import AU_KEYS
from lit_faces.core.shipped import weights_path
from lit_faces.models.adapters import detector_code
from lit_faces.models.detector import WEIGHTS_FILE, DetectorNetwork
from lit_faces.persons.reference import REFERENCE_FILE, PersonReferences
from lit_faces.persons.zero import ZERO_FILE, Zero, ZeroedReader
from lit_faces.tasks.black_box import FaceReader, code_of, is_own, open_detector


def person_detector(word: str | Path, folder: Path | None = None) -> FaceReader:
    """A detector by its name, which reads beside a person's references where such lie in the folder.

    Args:
        word: ``generic``, a personal folder, weights, or a reader of one's own.
        folder: where the references lie, if not in the folder that ``word`` names.

    Raises:
        FileNotFoundError, ValueError: no such detector; damaged references, or another detector's.
    """
    place = Path(word) if folder is None else Path(folder)
    detector = open_detector(word_of(word))
    if not isinstance(detector, DetectorNetwork) or detector.reference is None:
        return detector
    own = weights_path("detector", place)  # a delta that was learnt beside the photo has its references beside it
    code, others = detector_code(detector), None
    for kept in [
        PersonReferences.load(one) for one in dict.fromkeys((own.parent, place)) if (one / REFERENCE_FILE).is_file()
    ]:
        if kept.reader == code:
            detector.set_references(kept.references)
            return detector
        others = kept
    if (
        others is not None and own == place and place.is_dir()
    ):  # else the folder's own detector has learnt the person since
        raise ValueError(f"{place / REFERENCE_FILE}: {others.of_another(code)}")
    return detector


def detector_of(folder: Path, asked: str | None = None) -> str:
    """The detector that is meant: what was asked, the folder's own, or the shipped one."""
    own = Path(folder) / WEIGHTS_FILE
    return asked or (str(own) if own.is_file() else "generic")


def word_of(detector: str | Path) -> str:
    """What is meant by a folder of ``calibrate`` alone: the shipped detector, which knows a photo of the person."""
    place = Path(detector)
    if is_own(detector) or weights_path("detector", place) != place:
        return str(detector)
    return (
        detector_of(place) if any((place / name).is_file() for name in (ZERO_FILE, REFERENCE_FILE)) else str(detector)
    )


def reader_code(detector: str) -> str:
    """Digits of the SHA-256 of a detector's weights: a word such as ``generic`` may mean others tomorrow."""
    if is_own(detector):
        return code_of(detector)
    return hashlib.sha256(weights_path("detector", detector).read_bytes()).hexdigest()[:12]


def person_reader(folder: Path, detector: str | None = None) -> ZeroedReader:
    """A person's reader: the detector of the folder (or ``detector``, or the shipped one), beside the references there.

    Where there are none, less the zero there: references stand in its place, for they say the same and more.

    Raises:
        ValueError, OSError: a damaged file; a zero of another detector.
    """
    word = detector_of(folder, detector)
    made = person_detector(word, folder)
    beside = isinstance(made, DetectorNetwork) and made.references is not None
    return with_zero(made, None if beside else zero_there(folder, reader_code(word)))


def with_zero(detector: FaceReader, zero: Zero | None) -> ZeroedReader:
    """A detector with a person's zero: pictures uint8 (B, 3, H, W) to intensities (B, 19)."""
    return ZeroedReader(detector.predict_au, AU_KEYS, zero)


def zero_there(folder: Path, code: str) -> Zero | None:
    """The zero in a folder, of the reader of ``code``; None where there is none.

    Raises:
        ValueError: damaged, or another reader's.
    """
    path = Path(folder) / ZERO_FILE
    if not path.is_file():
        return None
    zero = Zero.load(path)
    if zero.reader not in ("", code):
        raise ValueError(
            f"{path}: the zero of another detector ({zero.reader}, not {code}): a zero says what *its* detector reads "
            "at rest; give that one with --detector, or begin anew with --overwrite"
        )
    return zero
