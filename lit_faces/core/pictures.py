"""The one decoder: every picture that the package reads goes through here, and looks as it is meant to be seen.

    bytes -> recognise (first bytes) -> lean (pixels alone) -> one Pillow decoder -> pixel limit -> 8-bit RGB -> upright

Its rules: the format is what the content says, from a list of raster formats; a picture that is cut short is no
picture, one with something behind its end is; the EXIF orientation is applied; transparent pixels show mid grey.
"""

from __future__ import annotations

import functools
import importlib
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lit_faces.core.inputs import read_file
from lit_faces.core.picture_files import ends, lean, orientation_of, recognise
from lit_faces.core.quiet import quiet_descriptor

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 100_000_000  # a phone's largest photo; beyond it a small file may be a decompression bomb
#: Formats, each with the one class that decodes it: no other decoder of Pillow is asked, whatever the file.
DECODERS = {
    "JPEG": "PIL.JpegImagePlugin:JpegImageFile",
    "PNG": "PIL.PngImagePlugin:PngImageFile",
    "BMP": "PIL.BmpImagePlugin:BmpImageFile",
    "TIFF": "PIL.TiffImagePlugin:TiffImageFile",
    "WEBP": "PIL.WebPImagePlugin:WebPImageFile",
    "GIF": "PIL.GifImagePlugin:GifImageFile",
    "PPM": "PIL.PpmImagePlugin:PpmImageFile",
    "AVIF": "PIL.AvifImagePlugin:AvifImageFile",
    "HEIC": "pillow_heif:HeifImageFile",
}
_ALPHA_GREY = 128  # what shows through transparent pixels
_READABLE = "JPEG, PNG, BMP, TIFF, WebP, GIF, PPM, AVIF, and HEIC with `pip install lit_faces[heic]`"


class PictureError(ValueError):
    """Bytes that are no whole picture of a format that is read.

    Attributes:
        name: of the file.
        reason: what is wrong and what to do, without the name.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name, self.reason = name, reason

    def __reduce__(self) -> tuple[type[PictureError], tuple[str, str]]:
        return type(self), (self.name, self.reason)  # between processes


def load_picture(path: Path | str, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Read a picture file as it is meant to be seen.

    Args:
        path: file; only a regular one is opened.
        max_pixels: refuse larger pictures before decoding them.

    Returns:
        uint8 (H, W, 3), RGB.

    Raises:
        FileNotFoundError, IsADirectoryError, PermissionError, OSError: there is no such file that can be read.
        ValueError: a pipe or device, an empty file; :class:`PictureError`: as :func:`decode`.
    """
    return decode(read_file(path), str(path), max_pixels)


def decode(data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """A picture file's bytes as the picture is meant to be seen.

    The orientation (EXIF in JPEG, PNG, WebP and TIFF; XMP where EXIF says none) is applied. Grey, palette, CMYK,
    YCbCr and 16-bit pictures become RGB; transparent pixels show mid grey; of several frames the first is taken.
    ICC profiles are not applied.

    Args:
        data: the file.
        name: of the file, for messages.
        max_pixels: refuse larger pictures before decoding them.

    Returns:
        uint8 (H, W, 3), RGB, C-contiguous and writable.

    Raises:
        PictureError: empty, no picture, a format that is not read, damaged or cut short, larger than ``max_pixels``,
            or of a pixel type with no known range.
    """
    kind = recognise(data)
    if kind not in DECODERS:
        raise PictureError(name, _refusal(kind) if data else "the picture is empty (0 bytes); copy it again")
    if not ends(data, kind):
        raise PictureError(name, _damaged("its end is missing"))
    pixels, orientation = lean(data, kind)
    try:
        decoder = _decoder(kind)
    except ImportError as error:
        raise PictureError(name, _refusal(kind)) from error
    with _quiet(kind):
        try:
            rgb, stated = _decode(decoder, pixels, kind, max_pixels)
        except _RefusedError as error:
            raise PictureError(name, str(error)) from error
        except SyntaxError as error:  # Pillow's word for a header that it does not understand
            why = f"its pixel type is not handled: {error}; save it with 8 bits a channel"
            raise PictureError(name, why if "unknown pixel mode" in str(error) else _damaged(error)) from error
        except Exception as error:  # on foreign bytes a decoder may raise anything
            raise PictureError(name, _damaged(error)) from error
    return _upright(rgb, stated or orientation)


def _decode(decoder: Any, data: bytes, kind: str, max_pixels: int) -> tuple[NDArray[np.uint8], int | None]:
    """uint8 (H, W, 3) as stored, and the orientation that the decoder passes on."""
    from PIL import Image

    limit = f"limit {max_pixels / 1e6:g} million px); make it smaller"
    try:
        opened = decoder(io.BytesIO(data))
    except Image.DecompressionBombError as error:
        raise _RefusedError(f"too large to decode safely ({error}; {limit}") from error
    with opened as image:
        width, height = image.size
        if width * height > max_pixels:
            raise _RefusedError(f"too large to decode safely ({width}x{height} px; {limit}")
        if min(width, height) < 1:
            raise ValueError("it has no pixels")
        image.load()
        # Pillow says in EXIF what an AVIF's container says; pillow_heif has turned the picture already.
        stated = orientation_of(image.info.get("exif") or b"") if kind == "AVIF" else None
        return _to_rgb(image, kind, data), stated


@contextmanager
def _quiet(kind: str) -> Iterator[None]:
    """libtiff, and Pillow's readers of TIFF and GIF, print what they think of an odd file; ours is the message."""
    with warnings.catch_warnings() if kind in ("TIFF", "GIF") else nullcontext():
        if kind in ("TIFF", "GIF"):
            warnings.simplefilter("ignore")
        with quiet_descriptor() if kind == "TIFF" else nullcontext():
            yield


def decode_own(data: bytes | memoryview | NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """A JPEG or PNG that this package wrote itself (8-bit RGB, upright, its shard's checksum known), fast.

    :func:`decode` gives the same pixels in half as much time again, which counts where training waits for 128-pixel
    crops. Not for files of others: it fills what is missing with grey, in silence.

    Returns:
        uint8 (H, W, 3), BGR; None when that fails.
    """
    import cv2

    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)  # type: ignore[return-value]
    except cv2.error:
        return None


class _RefusedError(ValueError):
    """Maybe whole, but too large, or its numbers have no known range or colour; the message says what to do."""


@functools.cache
def _decoder(kind: str) -> Any:
    module, _, name = DECODERS[kind].partition(":")
    if kind == "AVIF":
        from PIL import features

        if not features.check("avif"):
            raise ImportError("this Pillow reads no AVIF")
    return getattr(importlib.import_module(module), name)


def _refusal(kind: str) -> str:
    if kind == "HEIC":
        return "a HEIC photo, as iPhones take them: `pip install lit_faces[heic]` reads it, or save it as JPEG"
    if kind == "AVIF":
        return "an AVIF picture: `pip install --upgrade pillow` reads it, or save it as JPEG"
    found = "" if kind == "something else" else f" ({kind})"
    return (
        f"not a picture that can be read, whatever its name says{found}; readable: {_READABLE}; open it in an image "
        "program and save it as JPEG or PNG"
    )


def _damaged(why: object) -> str:
    return f"damaged or cut short ({why}); copy or download the photo again"


def _upright(rgb: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Undo how the camera was held: EXIF orientation, 1..8."""
    if orientation in (5, 6, 7, 8):
        rgb = rgb.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        rgb = rgb[::-1]
    if orientation in (2, 3, 6, 7):
        rgb = rgb[:, ::-1]
    return np.ascontiguousarray(rgb)


def _to_rgb(image: Image.Image, kind: str, data: bytes) -> NDArray[np.uint8]:
    """Any mode to uint8 (H, W, 3)."""
    from PIL import Image

    transparency = _transparency(image, kind, data)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values = np.asarray(image)
        grey = _to_8_bit(values)
        if kind == "TIFF" and image.mode.startswith("I;16") and image.tag_v2.get(262) == 0:  # type: ignore[attr-defined]
            grey = 255 - grey  # white is zero
        if transparency is not None:
            grey[values == transparency] = _ALPHA_GREY
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or transparency is not None:
        if transparency is not None:
            image.info["transparency"] = transparency
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (_ALPHA_GREY,) * 3 + (255,)), image)
    if image.mode not in ("1", "L", "P", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"):
        raise _RefusedError(f"colour mode {image.mode} is not handled; save the photo as an RGB JPEG or PNG")
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _transparency(image: Image.Image, kind: str, data: bytes) -> Any:
    """The colour that is transparent, as the decoded pixels have it; None where none is."""
    found = image.info.get("transparency")
    if kind != "PNG" or found is None or len(data) < 25:
        return found
    depth = data[24]  # bits a channel, as in the file; the picture itself has 8, or 16 where it is grey
    if isinstance(found, tuple) and depth == 16:
        return tuple(value >> 8 for value in found)
    if image.mode == "L" and depth in (2, 4):
        return found * 255 // (2**depth - 1)
    return found


def _to_8_bit(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Grey values of more than 8 bits to uint8 (H, W).

    16-bit integers are divided by 257; 32-bit integers are taken for 16-bit ones; floats for 0..1 (or for 0..255 where
    any is above 1).
    """
    if values.dtype.kind == "f" and not np.isfinite(values).any():
        raise _RefusedError("no grey value is a number; save it with 8 bits a channel")
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    if not (low >= 0 and high <= 65535):
        raise _RefusedError(f"grey values {low:g}..{high:g}, expected 0..65535; save it with 8 bits a channel")
    if values.dtype.kind == "f":
        if high > 255:
            raise _RefusedError(f"grey values up to {high:g} in floats, expected 0..1 or 0..255; save it with 8 bits")
        scaled = np.nan_to_num(values) * (255.0 if high <= 1 else 1.0)
    else:
        scaled = values.astype(np.float64) / 257.0
    return np.rint(scaled).astype(np.uint8)
