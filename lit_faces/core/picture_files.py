"""What a picture file is, how it is turned, and the file without all that describes no pixel.

Cameras and programs write much beside a picture, not always well: EXIF with impossible values, text chunks with wrong
checksums, previews. None of it may keep a good picture from being read, so only two things are taken from a file: the
parts that the decoder needs, and the orientation.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterable, Iterator

UPRIGHT = 1  # EXIF orientation of a picture that is stored as it is seen

#: First bytes of what cannot be read, and what it is.
_OTHERS = (
    (b"%!PS", "PostScript"),
    (b"\xc5\xd0\xd3\xc6", "PostScript"),
    (b"%PDF", "a PDF"),
    (b"8BPS", "a Photoshop document"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\x00\x00\x00\x0cJXL ", "JPEG XL"),
    (b"\x00\x00\x00\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\x1a\x45\xdf\xa3", "a video"),
    (b"PK\x03\x04", "an archive"),
    (b"\x1f\x8b", "an archive"),
)
_HEIC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_AVIF = {b"avif", b"avis"}
_BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)  # their sizes in bytes

# TIFF tags that say how pixels are stored; all others (EXIF, GPS, previews, ICC, notes of makers) are left out.
_TIFF_PIXELS = frozenset(
    (256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320, 322, 323, 324, 325, 332, 334, 336, 338)
    + (339, 340, 341, 347, 512, 513, 514, 515, 517, 518, 519, 520, 521, 529, 530, 531, 532)
)
_TIFF_SUBFILE, _TIFF_ORIENTATION, _DNG_VERSION = 254, 274, 50706
_XMP = re.compile(rb"tiff:Orientation\s*(?:=\s*[\"']|>)\s*([1-8])")
_PNG_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_MOST_TEXT = 2**20  # bytes that a compressed text chunk may grow to


def recognise(data: bytes) -> str:
    """The format that the first bytes say.

    Returns:
        A key of :data:`lit_faces.core.pictures.DECODERS`; of anything else a description ("a PDF", "something else").
    """
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return "GIF"
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "a camera's raw file" if data[8:10] == b"CR" or is_raw(data) else "TIFF"
    if data[:4] == b"RIFF":
        return "WEBP" if data[8:12] == b"WEBP" else "a video" if data[8:12] == b"AVI " else "a RIFF file"
    if data[:2] == b"BM" and len(data) >= 18 and struct.unpack_from("<I", data, 14)[0] in _BMP_HEADERS:
        return "BMP"
    if re.match(rb"P[1-6][\s#]", data):
        return "PPM"
    if data[4:8] == b"ftyp":
        length = min(struct.unpack_from(">I", data)[0], 256)
        brands = {data[8:12], *(data[at : at + 4] for at in range(16, length - 3, 4))}
        return "AVIF" if brands & _AVIF else "HEIC" if brands & _HEIC else "a video"
    start = data[:1000].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<svg", b"<?xml")) and b"<svg" in start:
        return "an SVG drawing"
    if start.startswith((b"<html", b"<!doctype html")):
        return "a web page"
    return next((what for first, what in _OTHERS if data.startswith(first)), "something else")


def lean(data: bytes, kind: str) -> tuple[bytes, int]:
    """The file without what describes no pixel, and its EXIF orientation.

    What cannot be understood is left as it is, for the decoder to judge.

    Args:
        data: the file.
        kind: of :func:`recognise`.

    Returns:
        What the decoder needs, and the orientation, 1..8.
    """
    keep = {"JPEG": _lean_jpeg, "PNG": _lean_png, "TIFF": _lean_tiff, "WEBP": _lean_webp}.get(kind)
    return (data, UPRIGHT) if keep is None else keep(data)


def ends(data: bytes, kind: str) -> bool:
    """Whether the mark of the end is there, of formats that have one (whatever stands behind it).

    It is asked besides the decoder, which takes a file whose rest is filled with zeros for whole.
    """
    if kind == "JPEG":
        scan = data.find(b"\xff\xda")
        return scan < 0 or data.find(b"\xff\xd9", scan) > 0  # in a scan, 0xFF is only ever a marker's
    if kind == "PNG":
        return data.find(b"IEND\xae\x42\x60\x82") > 0
    if kind == "PPM" and data[1:2] in b"123":  # numbers as text: the last one may have lost digits
        return data[-1:].isspace()
    return True


def orientation_of(exif: bytes) -> int | None:
    """The orientation in a block of EXIF, 1..8; None where it says none that can be read. Nothing else is looked at."""
    block = exif[6:] if exif[:6] == b"Exif\0\0" else exif
    for tag, value, _ in _entries(block):
        if tag == _TIFF_ORIENTATION:
            return value if 1 <= value <= 8 else None
    return None


def is_raw(data: bytes) -> bool:
    """Whether a TIFF is a camera's raw file: its first picture is a small preview."""
    tags = {tag: value for tag, value, _ in _entries(data)}
    return _DNG_VERSION in tags or tags.get(_TIFF_SUBFILE, 0) & 1 == 1


def _entries(block: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Tag, value (0 where it is no small integer) and bytes of each entry of a TIFF's first directory."""
    order = {b"II": "<", b"MM": ">"}.get(block[:2], "")
    if not order:
        return
    big = block[2:4] in (b"+\0", b"\0+")
    try:
        at = struct.unpack_from(order + "Q", block, 8)[0] if big else struct.unpack_from(order + "I", block, 4)[0]
        (count,) = struct.unpack_from(order + ("Q" if big else "H"), block, at)
        at, step = (at + 8, 20) if big else (at + 2, 12)
        for start in range(at, min(at + count * step, len(block) - step + 1), step):
            tag, kind = struct.unpack_from(order + "HH", block, start)
            form = {1: "B", 3: "H", 4: "I"}.get(kind)
            value = struct.unpack_from(order + form, block, start + (12 if big else 8))[0] if form else 0
            yield tag, value, block[start : start + step]
    except (struct.error, OverflowError):
        return


def _first(found: Iterable[int | None]) -> int:
    return next((value for value in found if value is not None), UPRIGHT)


def _of_xmp(text: bytes) -> int | None:
    found = _XMP.search(text)
    return int(found[1]) if found else None


def _lean_jpeg(data: bytes) -> tuple[bytes, int]:
    """Drop the APPn segments that say nothing about colour, comments, and with them a second picture (MPO)."""
    kept, exif, xmp, at = [data[:2]], [], [], 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # filling
            at += 1
            continue
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:  # stand alone
            at += 2
            continue
        if marker in (0xD9, 0xDA):
            break
        segment = data[at : at + 2 + struct.unpack_from(">H", data, at + 2)[0]]
        body = segment[4:]
        if marker == 0xE1 and body[:6] == b"Exif\0\0":
            exif.append(orientation_of(body))
        elif marker == 0xE1 and body.startswith(b"http://ns.adobe.com/xap/1.0/\0"):
            xmp.append(_of_xmp(body))
        colour = (marker == 0xE0 and len(body) >= 14) or (marker == 0xEE and body[:5] == b"Adobe" and len(body) >= 12)
        if colour or not (0xE0 <= marker <= 0xEF or marker == 0xFE):
            kept.append(segment)
        at += len(segment)
    return b"".join([*kept, data[at:]]), _first([*exif, *xmp])


def _lean_png(data: bytes) -> tuple[bytes, int]:
    """The chunks that say pixels; an animation's further frames go, and what stands behind the end."""
    kept, exif, text, at = [data[:8]], [], [], 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        name, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        if name == b"eXIf":
            exif.append(orientation_of(body))
        elif name in (b"tEXt", b"zTXt", b"iTXt"):
            text.append(_of_png_text(name, body))
        if name in _PNG_PIXELS or name[:1].isupper():  # a capital: the picture cannot be shown without
            kept.append(data[at : at + 12 + length])
        at += 12 + length
        if name == b"IEND":
            return b"".join(kept), _first([*exif, *text])
    return b"".join([*kept, data[at:]]), _first([*exif, *text])


def _of_png_text(name: bytes, body: bytes) -> int | None:
    """The orientation in XMP, or in EXIF that ImageMagick wrote as text in hexadecimal."""
    keyword, _, rest = body.partition(b"\0")
    if keyword == b"XML:com.adobe.xmp":
        return _of_xmp(rest)
    if keyword not in (b"Raw profile type exif", b"Raw profile type APP1"):
        return None
    try:
        said = zlib.decompressobj().decompress(rest[1:], _MOST_TEXT) if name == b"zTXt" else rest
        return orientation_of(bytes.fromhex(b"".join(said.split(b"\n")[3:]).decode("ascii")))
    except (zlib.error, ValueError):
        return None


def _lean_webp(data: bytes) -> tuple[bytes, int]:
    """Nothing is dropped (its decoder looks at no metadata); the orientation is read."""
    exif, xmp, at = [], [], 12
    while at + 8 <= len(data):
        (length,) = struct.unpack_from("<I", data, at + 4)
        body = data[at + 8 : at + 8 + length]
        if data[at : at + 4] == b"EXIF":
            exif.append(orientation_of(body))
        elif data[at : at + 4] == b"XMP ":
            xmp.append(_of_xmp(body))
        at += 8 + length + length % 2
    return data, _first([*exif, *xmp])


def _lean_tiff(data: bytes) -> tuple[bytes, int]:
    """The first directory with the tags that say pixels; further pages go."""
    entries = list(_entries(data))
    turned = [value for tag, value, _ in entries if tag == _TIFF_ORIENTATION]
    kept = [entry for tag, _, entry in entries if tag in _TIFF_PIXELS]
    if not kept:
        return data, UPRIGHT
    order, big = ("<" if data[:2] == b"II" else ">"), data[2:4] in (b"+\0", b"\0+")
    at = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)[0]
    directory = struct.pack(order + ("Q" if big else "H"), len(kept)) + b"".join(kept) + bytes(8 if big else 4)
    upright = turned[0] if turned and 1 <= turned[0] <= 8 else UPRIGHT
    return data[:at] + directory + data[at + len(directory) :], upright
