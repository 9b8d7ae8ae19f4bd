"""From a photo file to a picture, and to an aligned face: every way a photo can be unusable has its own message."""

from __future__ import annotations

import difflib
import hashlib
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lit_faces.core.landmarks import Box, FaceAnalyser, align_crop, crop_frame
from lit_faces.core.sample import FaceSample

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 100_000_000  # a phone's largest photo; beyond it a small file may be a decompression bomb
MIN_FACE = 64  # pixels, side of the aligned crop
SURE_SCORE = 0.35  # a further detection below it is taken for a false alarm
# Formats that Pillow decodes itself (EPS, for one, would start another program).
_FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF", "PPM")
_ALPHA_GREY = 128  # what shows through transparent pixels


def load_photo(path: Path | str, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read a photo as it is meant to be seen.

    The EXIF rotation is applied; transparent pixels show mid grey; grey, palette, CMYK and 16-bit pictures become RGB;
    of an animation the first frame is taken.

    Args:
        path: image file.
        max_pixels: refuse larger pictures before decoding them.

    Returns:
        uint8 (H, W, 3), RGB.

    Raises:
        FileNotFoundError: no such file.
        IsADirectoryError: it is a folder.
        ValueError: empty, no picture, damaged, larger than ``max_pixels``, or of a pixel type with no known range.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    path = Path(path)
    check_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # checked below, with a message
            opened = Image.open(path, formats=_FORMATS)
        with opened as image:
            if image.width * image.height > max_pixels:
                raise _too_large(path, f"{image.width}x{image.height} px", max_pixels)
            image.load()
            upright = _apply_exif(image, ImageOps.exif_transpose)
            return _to_rgb(upright, path)
    except UnidentifiedImageError as error:
        raise ValueError(
            f"{path}: not a picture that can be read, whatever its name says (readable: {', '.join(_FORMATS)} with "
            "8 bits a channel, or 16-bit grey or PNG); open it in an image program and save it as JPEG or PNG"
        ) from error
    except Image.DecompressionBombError as error:
        raise _too_large(path, str(error), max_pixels) from error
    except (OSError, SyntaxError, EOFError, IndexError) as error:  # what Pillow's decoders raise on damaged data
        raise ValueError(f"{path}: damaged or cut short ({error}); copy or download the photo again") from error


def check_file(path: Path, what: str = "photo") -> None:
    """Exists, is a file, is not empty.

    Raises:
        FileNotFoundError, IsADirectoryError, ValueError: says which, with the nearest name.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{path}: expected a {what}, found a folder; name one file in it")
    if not path.is_file():
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*")], n=1)
        hint = f"; did you mean {path.parent / near[0]}?" if near else "; check the path (quotes around spaces?)"
        raise FileNotFoundError(f"{path}: no such {what}{hint}")
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: the file is empty (0 bytes); copy or download the {what} again")


def _too_large(path: Path, found: str, limit: int) -> ValueError:
    return ValueError(
        f"{path}: too large to decode safely ({found}; limit {limit / 1e6:g} million px); make it smaller"
    )


def _apply_exif(image: Image.Image, transpose) -> Image.Image:
    """The picture turned as its EXIF says; EXIF that cannot be read says nothing."""
    try:
        return transpose(image)
    except (ValueError, TypeError, KeyError, SyntaxError, OSError):
        return image


def _to_rgb(image: Image.Image, path: Path) -> np.ndarray:
    """Any mode to uint8 (H, W, 3)."""
    from PIL import Image

    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return np.repeat(_to_8_bit(np.asarray(image), path)[..., None], 3, axis=2)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (_ALPHA_GREY,) * 3 + (255,)), image)
    try:
        return np.array(image.convert("RGB"))
    except ValueError as error:
        raise ValueError(
            f"{path}: colour mode {image.mode} is not handled; save the photo as an RGB JPEG or PNG"
        ) from error


def _to_8_bit(values: np.ndarray, path: Path) -> np.ndarray:
    """Grey values of more than 8 bits to uint8 (H, W).

    16-bit integers are divided by 257; 32-bit integers are taken for 16-bit ones; floats for 0..1 (or for 0..255 where
    any is above 1).
    """
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    if not (low >= 0 and high <= 65535):
        raise ValueError(f"{path}: grey values {low:g}..{high:g}, expected 0..65535; save it with 8 bits a channel")
    if values.dtype.kind == "f":
        if high > 255:
            raise ValueError(
                f"{path}: grey values up to {high:g} in floats, expected 0..1 or 0..255; save it with 8 bits"
            )
        scaled = np.nan_to_num(values) * (255.0 if high <= 1 else 1.0)
    else:
        scaled = values.astype(np.float64) / 257.0
    return np.rint(scaled).astype(np.uint8)


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
    image = load_photo(path)
    height, width = image.shape[:2]
    if min(height, width) < MIN_FACE:
        raise ValueError(
            f"{path}: {width}x{height} px is too small, a face needs at least {MIN_FACE} px; use a larger photo"
        )
    analyser = FaceAnalyser() if analyser is None else analyser
    boxes = _sure_faces(analyser.detect(image))
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
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "box": [box.left, box.top, box.right, box.bottom],
        "score": round(box.score, 3),
        "crop": [round(cx, 3), round(cy, 3), round(side, 3)],
    }
    return FaceSample(crop, landmarks, subject=path.stem, source="photo", provenance=provenance)


def _sure_faces(boxes: list[Box]) -> list[Box]:
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
