"""Whether a video file is as long as it says: what its container declares against the bytes that are there.

Decoders play what they find and stop where the file stops, in silence. Counts and rates in headers are often wrong, but
lengths of boxes are not: a player would lose its way.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

_ASF, _ASF_FILE = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"), bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_SEGMENT, _CLUSTER = 0x18538067, 0x1F43B675
_UNFINISHED = (0, 0xFFFFFFFF)  # written by who did not live to write the length
_SLACK = 8  # bytes: some writers count the head of a RIFF file into its length
_TS_PACKETS = (188, 192, 204)


def missing_bytes(path: Path) -> int:
    """Bytes that the container declares and the file does not have, at least; 0 where it is whole or does not say.

    AVI, MP4 and MOV, Matroska and WebM, WMV, FLV and MPEG (in whole packets) are known; live streams and broadcasts
    declare nothing.
    """
    size = path.stat().st_size
    with path.open("rb") as handle:
        head = handle.read(32)
        if head[:4] == b"RIFF":
            end = _end_of_riff(handle, size)
        elif head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot"):
            end = _end_of_boxes(handle, size)
        elif head[:4] == b"\x1a\x45\xdf\xa3":
            end = _end_of_ebml(handle, size)
        elif head[:16] == _ASF:
            end = _end_of_asf(handle)
        elif head[:4] == b"\0\0\1\xba":
            end = _end_of_packs(handle, size)
        elif head[:4] == b"FLV\1":
            end = _end_of_tags(handle, size)
        else:
            end = _end_of_packets(handle, size)
    return max(0, end - size)


def _end_of_riff(handle: BinaryIO, size: int) -> int:
    """AVI; beyond a gigabyte it has several RIFF chunks."""
    at = 0
    while at + 8 <= size:
        handle.seek(at)
        name, length = struct.unpack("<4sI", handle.read(8))
        if name != b"RIFF" or length in _UNFINISHED:
            return 0
        end = at + 8 + length
        if end > size + _SLACK:
            return end
        at = end + length % 2
    return 0


def _end_of_boxes(handle: BinaryIO, size: int) -> int:
    """MP4, MOV, 3GP: boxes one behind the other."""
    at = 0
    while at + 8 <= size:
        handle.seek(at)
        head = handle.read(16)
        length, name = struct.unpack(">I4s", head[:8])
        if not (name.isascii() and name.decode("ascii").isprintable()) or length == 0:  # the last one may be open
            return 0
        if length == 1:
            if len(head) < 16:
                return at + 16
            length = struct.unpack(">Q", head[8:])[0]
        if length < 8:
            return 0
        at += length
    return at


def _end_of_ebml(handle: BinaryIO, size: int) -> int:
    """Matroska, WebM: elements; a segment or cluster of unknown length is looked into."""
    at = 0
    while at < size:
        handle.seek(at)
        head = handle.read(12)
        name, used = _vint(head, keep=True)
        length, more = _vint(head[used:], keep=False)
        if not used or not more:
            return size + 1 if len(head) < 12 else 0  # the head itself is cut; or this is no element
        start = at + used + more
        unknown = length == (1 << 7 * more) - 1
        if unknown and name in (_SEGMENT, _CLUSTER):
            at = start
            continue
        if unknown:
            return 0
        if start + length > size or name == _SEGMENT:
            return start + length
        at = start + length
    return 0


def _vint(data: bytes, keep: bool) -> tuple[int, int]:
    """A number of EBML and its bytes (0: none); ``keep`` leaves the mark of the length in, as in names."""
    if not data or not data[0]:
        return 0, 0
    used = 9 - data[0].bit_length()
    if len(data) < used:
        return 0, 0
    value = int.from_bytes(data[:used], "big")
    return (value if keep else value & ((1 << 7 * used) - 1)), used


def _end_of_asf(handle: BinaryIO) -> int:
    """WMV: the header's file properties say the length, unless it is a broadcast."""
    handle.seek(0)
    head = handle.read(65536)
    at = head.find(_ASF_FILE)
    if at < 0 or at + 92 > len(head):
        return 0
    (length,) = struct.unpack_from("<Q", head, at + 40)
    broadcast = struct.unpack_from("<I", head, at + 88)[0] & 1
    return 0 if broadcast else length


def _end_of_packs(handle: BinaryIO, size: int) -> int:
    """MPEG program streams: packs and packets one behind the other."""
    at = 0
    while at < size:
        handle.seek(at)
        head = handle.read(14)
        if len(head) < 4:
            return at + 4
        if head[:3] != b"\0\0\1" or head[3] < 0xB9:  # something else stands there
            return 0
        if head[3] == 0xB9:  # the end
            return at + 4
        if head[3] == 0xBA:
            second = len(head) == 14 and head[4] >> 6 == 1  # MPEG-2
            at += 14 + (head[13] & 7) if second else 12
        else:
            at += 6 + (int.from_bytes(head[4:6], "big") if len(head) >= 6 else 0)
    return at


def _end_of_tags(handle: BinaryIO, size: int) -> int:
    """Flash video: a head of 9 bytes, then tags with their length before and behind them."""
    at = 13
    while at < size:
        handle.seek(at)
        head = handle.read(4)
        if len(head) < 4 or head[0] & 0x1F not in (8, 9, 18):
            return at + 15 if len(head) < 4 else 0
        at += 11 + int.from_bytes(head[1:], "big") + 4
    return at


def _end_of_packets(handle: BinaryIO, size: int) -> int:
    """MPEG transport streams: packets of one length, each with a mark."""
    for length in _TS_PACKETS:
        first = 4 if length == 192 else 0
        handle.seek(0)
        start = handle.read(3 * length)
        if len(start) == 3 * length and all(start[first + k * length] == 0x47 for k in range(3)):
            return -(-size // length) * length
    return 0
