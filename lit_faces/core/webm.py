"""A tag in a WebM file, which OpenCV cannot write.

WebM is a tree of elements: id, size, content. Moving any of them would spoil the index, so the tags are written anew at
the end of the segment, the old ones become padding, and the table of contents (SeekHead, with padding behind it) is
pointed at the new ones::

    Segment [ SeekHead | padding | Info | Tracks | Tags -> padding | Clusters | Cues ]  + Tags
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lit_faces.core.files import replace_file

_SEGMENT, _SEEK_HEAD, _TAGS, _VOID = b"\x18\x53\x80\x67", b"\x11\x4d\x9b\x74", b"\x12\x54\xc3\x67", b"\xec"
_SEEK, _SEEK_ID, _SEEK_POSITION = b"\x4d\xbb", b"\x53\xab", b"\x53\xac"
_TAG, _TARGETS, _SIMPLE, _NAME, _STRING = b"\x73\x73", b"\x63\xc0", b"\x67\xc8", b"\x45\xa3", b"\x44\x87"


def tag_webm(path: Path, name: str, text: str) -> Path:
    """Add a tag to a WebM file, atomically.

    Args:
        path: a finished file of OpenCV or FFmpeg: with sizes filled in, and tags of its own.
        name: of the tag, ``COMMENT``.
        text: what it says.

    Raises:
        ValueError: another kind of file.
    """
    data = bytearray(path.read_bytes())
    try:
        start, end = next((found[1], found[2]) for found in _elements(data, 0, len(data)) if found[0] == _SEGMENT)
        inside = list(_elements(data, start, end))
        (head, head_end), (room_start, room_end) = (
            next((one, other) for ident, one, other in inside if ident == wanted) for wanted in (_SEEK_HEAD, _VOID)
        )
        old_start, old_end = next((one, other) for ident, one, other in inside if ident == _TAGS)
        contents = _contents(data, head, head_end, end - start)
        first = data.rindex(_SEEK_HEAD, start, head)
        padding = _padding(room_end - first - len(contents))
        if room_start - head_end > 9 or data[start - 8] != 1:
            raise ValueError("unknown order of elements")
    except (StopIteration, ValueError, IndexError) as error:
        raise ValueError(f"{path}: not a WebM file as OpenCV writes it: it cannot be marked ({error})") from error
    simple = _element(_SIMPLE, _element(_NAME, name.encode()) + _element(_STRING, text.encode()))
    tags = _element(_TAGS, bytes(data[old_start:old_end]) + _element(_TAG, _element(_TARGETS, b"") + simple))
    old = data.rindex(_TAGS, start, old_start)
    data[old:old_end] = _padding(old_end - old)
    data[first:room_end] = contents + padding
    data[start - 8 : start] = _size(end - start + len(tags), 8)
    replace_file(path, bytes(data[:end]) + tags + bytes(data[end:]))
    return path


def _elements(data: bytearray, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(id, where the content starts, where it ends) of the elements in a stretch."""
    at = start
    while at < end:
        length = _width(data[at])
        ident, at = bytes(data[at : at + length]), at + length
        width = _width(data[at])
        size = int.from_bytes(data[at : at + width], "big") & ((1 << 7 * width) - 1)
        at += width
        yield ident, at, min(at + size, end)
        at += size


def _width(first: int) -> int:
    """Bytes of a number that begins with this one."""
    if not first:
        raise IndexError("no element starts here")
    return 9 - first.bit_length()


def _contents(data: bytearray, start: int, end: int, tags: int) -> bytes:
    """The table of contents, with another place for the tags."""
    entries = [bytes(data[one:other]) for _, one, other in _elements(data, start, end)]
    entries = [entry for entry in entries if _TAGS not in entry]
    entries.append(_element(_SEEK_ID, _TAGS, 1) + _element(_SEEK_POSITION, tags.to_bytes(8, "big"), 1))
    return _element(_SEEK_HEAD, b"".join(_element(_SEEK, entry, 1) for entry in entries), 1)


def _element(ident: bytes, content: bytes, width: int = 8) -> bytes:
    return ident + _size(len(content), width) + content


def _size(value: int, width: int) -> bytes:
    return ((1 << 7 * width) | value).to_bytes(width, "big")


def _padding(length: int) -> bytes:
    """An element of so many bytes that players skip."""
    if length < 2:
        raise ValueError("no room for the table of contents")
    width = 1 if length < 100 else 8
    return _VOID + _size(length - 1 - width, width) + bytes(length - 1 - width)
