"""From a photo file to an aligned face: every way a photo can be unusable has its own message."""

from __future__ import annotations

import hashlib
from pathlib import Path

from lit_faces.core.inputs import read_file
from lit_faces.core.landmarks import Box, FaceAnalyser, align_crop, crop_frame
from lit_faces.core.pictures import decode, load_picture
from lit_faces.core.sample import FaceSample

MIN_FACE = 64  # pixels, side of the aligned crop
SURE_SCORE = 0.35  # a further detection below it is taken for a false alarm

#: Endings of the names of photographs in a folder; what a file is, its content says.
ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".heic", ".avif")

load_photo = load_picture  # the name that a photo's user looks for


def photographs_in(folder: Path, below: bool = False) -> list[Path]:
    """Files of a folder whose names end as photographs' do, in the order of their names; ``below``: in its folders too.

    Hidden files (``._anna.jpg`` of a Mac's archive) are none.
    """
    found = folder.rglob("*") if below else folder.iterdir()
    return sorted(p for p in found if p.suffix.lower() in ENDINGS and not p.name.startswith(".") and p.is_file())


def source_from_photo(
    path: Path | str, size: int, face: int | None = None, analyser: FaceAnalyser | None = None
) -> FaceSample:
    """The face of a photo as an aligned sample; AUs, emotion and pose are unknown.

    Args:
        path: image file, read by :func:`load_photo`.
        size: side of the crop, pixels.
        face: which face, 0 being the leftmost; None means that there must be only one.
        analyser: finds the face; None makes one (it loads 0.1 GB of weights, so share it over many photos).

    Returns:
        A sample with image, landmarks, ``subject`` (the file's name without its ending), ``source`` "photo" and the
        provenance: file name, SHA-256 of the file, box, frame of the crop.

    Raises:
        FileNotFoundError: no such file, or dlib's weight files are missing.
        IsADirectoryError: it is a folder.
        ValueError: unreadable photo, no face, several faces and no ``face``, no such ``face``, a face under 64 px.
    """
    path = Path(path)
    data = read_file(path)
    image = decode(data, str(path))
    height, width = image.shape[:2]
    if min(height, width) < MIN_FACE:
        raise ValueError(
            f"{path}: {width}x{height} px is too small, a face needs at least {MIN_FACE} px; use a larger photo"
        )
    analyser = FaceAnalyser() if analyser is None else analyser
    boxes = sure_faces(analyser.detect(image))
    box = _choose_face(boxes, face, path, f"{width}x{height} px")
    points = analyser.landmarks(image, box)
    cx, cy, side = (float(value) for value in crop_frame(points))
    if side < MIN_FACE:
        raise ValueError(
            f"{path}: the face at {_describe(box)} is only {side:.0f} px, at least {MIN_FACE} px are needed; "
            "use a larger photo or one taken closer"
        )
    crop, landmarks = align_crop(image, points, size)
    provenance = {
        "photo": path.name,
        "sha256": hashlib.sha256(data).hexdigest(),
        "box": [box.left, box.top, box.right, box.bottom],
        "score": round(box.score, 3),
        "crop": [round(cx, 3), round(cy, 3), round(side, 3)],
    }
    return FaceSample(crop, landmarks, subject=path.stem, source="photo", provenance=provenance)


def sure_faces(boxes: list[Box]) -> list[Box]:
    """Drop likely false alarms, unless nothing else was found; leftmost first."""
    best = boxes[:1]
    others = [box for box in boxes[1:] if box.score >= SURE_SCORE]
    return sorted(best + others, key=lambda box: (box.left, box.top))


def _describe(box: Box) -> str:
    return f"x {box.left}..{box.right}, y {box.top}..{box.bottom}"


def _choose_face(boxes: list[Box], face: int | None, path: Path, extent: str) -> Box:
    """The face that is meant, or an error that says how to name it."""
    if not boxes:
        raise ValueError(
            f"{path}: no face found in {extent}; use a photo from the front, upright, with the face at least "
            f"{MIN_FACE} px wide and some space around it"
        )
    if face is None and len(boxes) == 1:
        return boxes[0]
    listing = "; ".join(f"face={index} at {_describe(box)}" for index, box in enumerate(boxes))
    if face is None:
        raise ValueError(
            f"{path}: {len(boxes)} faces found, one expected; crop the photo or choose one: {listing} "
            "(on the command line: --face NUMBER)"
        )
    if not 0 <= face < len(boxes):
        raise ValueError(f"{path}: face={face} does not exist, found {len(boxes)}: {listing}")
    return boxes[face]
