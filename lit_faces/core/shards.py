"""Prepared sets on disk: tar shards that webdataset opens, beside an Arrow index that gives random access.

::

    out/
      manifest.json        what the set is, its index and shards with size and SHA-256
      index.arrow          one row a face: shard, offset, length, and every label (memory-mapped)
      shard-00000.tar      KEY.jpg and KEY.json by turns, the layout of webdataset
      shard-00000.arrow    the rows of that shard; written last, so its presence says that the shard is complete

A shard appears under its name only when it is complete, so a killed writer leaves nothing half-written behind.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import itertools
import json
import os
import re
import tarfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from lit_faces.core.facs import AU_KEYS, EMOTIONS
from lit_faces.core.fields import field, parse_json, read_json, shown
from lit_faces.core.files import Replacement, replace_file
from lit_faces.core.geometry import resize_landmarks
from lit_faces.core.pictures import decode_own
from lit_faces.core.rows import SCHEMA, STRINGS, VECTORS, check_rows, read_arrow, vectors
from lit_faces.core.sample import FaceBatch

MANIFEST, INDEX, LAYOUT = "manifest.json", "index.arrow", 1
_BLOCK = 512  # of tar
#: Indices that were checked by this process: path, size, time of change.
_CHECKED: set[tuple[str, int, int]] = set()


def shard_name(number: int) -> str:
    """``0 -> 'shard-00000'``."""
    return f"shard-{number:05d}"


class ShardWriter:
    """Write one shard; nothing is visible before :meth:`close`.

    Args:
        folder: of the set.
        number: of the shard.
        fingerprint: what the shard is made of; :func:`shard_state` compares it.
    """

    def __init__(self, folder: Path, number: int, fingerprint: str = "") -> None:
        self.folder, self.number, self.fingerprint = folder, number, fingerprint
        self._tar_file = Replacement(folder / f"{shard_name(number)}.tar", ending=False)
        try:
            self._file = self._tar_file.temporary.open("wb")
        except OSError as error:
            raise self.named(error) from error
        self._tar = tarfile.TarFile(fileobj=self._file, mode="w", format=tarfile.USTAR_FORMAT)
        self._rows: list[dict[str, Any]] = []

    def add(
        self, key: str, picture: bytes, suffix: str, row: dict[str, Any], provenance: dict[str, Any] | None = None
    ) -> None:
        """Add a face.

        Args:
            key: unique in the set, ASCII, under 90 characters, without dots.
            picture: encoded picture.
            suffix: ``jpg`` or ``png``.
            row: the label columns of the index.
            provenance: of a generated picture; kept in ``KEY.json`` only.
        """
        offset = self._tar.offset + _BLOCK
        row = {"key": key, "shard": self.number, "offset": offset, "length": len(picture), **row}
        for name, data in ((f"{key}.{suffix}", picture), (f"{key}.json", _record(row, provenance))):
            info = tarfile.TarInfo(name)  # time, owner and mode are the same everywhere: equal input, equal bytes
            info.size = len(data)
            self._tar.addfile(info, io.BytesIO(data))
        self._rows.append(row)

    def close(self, failures: Sequence[dict[str, Any]] = ()) -> int:
        """Publish the shard with its index; returns the number of faces.

        Args:
            failures: what could not be read on the way; kept with the index.
        """
        self._tar.close()
        self._file.close()
        written = self._tar_file.temporary
        with written.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        about = {
            "fingerprint": self.fingerprint,
            "bytes": written.stat().st_size,
            "sha256": sha256,
            "failures": list(failures),
        }
        columns = {name: [row[name] for row in self._rows] for name in SCHEMA.names}
        table = pa.table(columns, schema=SCHEMA).replace_schema_metadata({"lit_faces": json.dumps(about)})
        self._tar_file.commit()
        replace_file(self.folder / f"{shard_name(self.number)}.arrow", _arrow(table))
        return len(self._rows)

    def named(self, error: OSError) -> OSError:
        """A writer's error with the name of the shard."""
        return self._tar_file.named(error)

    def abandon(self) -> None:
        """Leave nothing behind."""
        with contextlib.suppress(OSError):  # of what is still to be written, on a full disk
            self._file.close()
        self._tar_file.discard()


def _record(row: dict[str, Any], provenance: dict[str, Any] | None = None) -> bytes:
    """The labels of one face as JSON; what is not coded is left out."""
    record: dict[str, Any] = {name: row[name] for name in ("subject", "clip", "frame", "source", "split")}
    for name in ("au_intensity", "au_occurrence"):
        record[name] = {key: round(float(v), 4) for key, v in zip(AU_KEYS, row[name]) if v == v}
    if row["emotion"] >= 0:
        record["emotion"] = EMOTIONS[row["emotion"]]
    if all(v == v for v in row["landmarks"][54:]):
        record["landmarks"] = [None if v != v else round(float(v), 2) for v in row["landmarks"]]
    if provenance is not None:
        record["provenance"] = provenance
    return json.dumps(record, separators=(",", ":")).encode()


def _arrow(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def shard_state(folder: Path, number: int, fingerprint: str | None = None) -> dict[str, Any] | None:
    """What a complete shard says of itself (rows, bytes, sha256, failures); None when it must be written."""
    path = folder / f"{shard_name(number)}.arrow"
    if not path.is_file():
        return None
    try:
        table = read_arrow(path)
        about = parse_json((table.schema.metadata or {}).get(b"lit_faces", b"{}"), path)
        check_shard_entry({**about, "rows": table.num_rows}, path)
        field(about, "failures", list, path, of=dict)
        check_rows(table, path, {number: about["bytes"]})
    except (ValueError, TypeError):
        return None
    tar = path.with_suffix(".tar")
    if not tar.is_file() or tar.stat().st_size != about["bytes"]:
        return None
    if fingerprint is not None and about.get("fingerprint") != fingerprint:
        return None
    return {"rows": table.num_rows, **about}


def check_shard_entry(entry: Any, where: Path | str) -> None:
    """What a manifest, or a shard itself, says of one shard.

    Raises:
        ValueError: names file and field.
    """
    for name in ("rows", "bytes"):
        field(entry, name, int, where, minimum=0)
    if re.fullmatch("[0-9a-f]{64}", digest := field(entry, "sha256", str, where)) is None:
        raise ValueError(f"{where}: sha256: expected 64 hexadecimal digits, found {shown(digest)}")


def write_index(folder: Path, shards: int, about: dict[str, Any]) -> dict[str, Any]:
    """Join the rows of all shards into ``index.arrow`` and write ``manifest.json``, in that order.

    Returns:
        The manifest.

    Raises:
        ValueError: a shard is missing or damaged.
    """
    tables, entries = [], []
    for number in range(shards):
        state = shard_state(folder, number)
        if state is None:
            raise ValueError(f"{folder / shard_name(number)}.tar: missing or damaged; run the same command again")
        tables.append(read_arrow(folder / f"{shard_name(number)}.arrow").replace_schema_metadata(None))
        entries.append({"name": f"{shard_name(number)}.tar", **{k: state[k] for k in ("rows", "bytes", "sha256")}})
    table = pa.concat_tables(tables) if tables else SCHEMA.empty_table()
    index = _arrow(table.combine_chunks())
    replace_file(folder / INDEX, index)
    manifest = {
        "layout": LAYOUT,
        "faces": table.num_rows,
        **about,
        "index": {"bytes": len(index), "sha256": hashlib.sha256(index).hexdigest()},
        "shards": entries,
    }
    replace_file(folder / MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode())
    return manifest


class ShardSet:
    """Random access to a prepared set; picture bytes are read where they lie, labels are memory-mapped.

    Args:
        path: folder of a prepared set, or its URL (``s3://...``, any scheme of fsspec): then each shard is fetched
            once, when it is first needed, checked, and kept in ``cache``.
        cache: folder for fetched shards.

    Attributes:
        manifest: dict, see :func:`write_index`.
        frame: int64 (n,).
        emotion: int64 (n,).
        au_intensity, au_occurrence: float32 (n, 19).
        landmarks: float32 (n, 136).
        subject, clip, source, split: int32 (n,) codes; the words are in ``words[name]``.

    Raises:
        FileNotFoundError: no prepared set there.
        ValueError: damaged, or of another layout; names the file.
    """

    def __init__(self, path: Path | str, cache: Path | None = None) -> None:
        self.path = str(path)
        self.remote = None
        folder = Path(self.path)
        if "://" in self.path and not self.path.startswith("file://"):
            from lit_faces.core.remote import RemoteFolder

            self.remote = RemoteFolder(self.path, cache)
            folder = self.remote.fetch_head()
        elif self.path.startswith("file://"):
            folder = Path(self.path.removeprefix("file://"))
        self.folder = folder.expanduser()
        self.manifest = read_manifest(self.folder, self.path)
        self._files: dict[int, int] = {}
        self._sizes = [entry["bytes"] for entry in self.manifest["shards"]]
        if self.remote is None:
            self._check_sizes()
        table = self._read_index()
        self._keys = table["key"]
        for name in ("shard", "offset", "length", "frame"):
            setattr(self, name, table[name].to_numpy())
        self.emotion = table["emotion"].to_numpy().astype(np.int64)
        for name in VECTORS:
            setattr(self, name, vectors(table, name))
        self.words: dict[str, list[str]] = {}
        for name in STRINGS:
            column = table[name].combine_chunks()
            coded = (column.chunk(0) if isinstance(column, pa.ChunkedArray) else column).dictionary_encode()
            setattr(self, name, coded.indices.to_numpy(zero_copy_only=False))
            self.words[name] = coded.dictionary.to_pylist()

    shard: NDArray[np.int32]
    offset: NDArray[np.int64]
    length: NDArray[np.int32]
    frame: NDArray[np.int64]
    subject: NDArray[np.int32]
    clip: NDArray[np.int32]
    source: NDArray[np.int32]
    split: NDArray[np.int32]
    au_intensity: NDArray[np.float32]
    au_occurrence: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    pose: NDArray[np.float32]

    def _read_index(self) -> pa.Table:
        """The rows; checked once a process, and not again in its loaders' processes while the file is as it was."""
        path = self.folder / INDEX
        if not path.is_file():
            raise ValueError(f"{path}: is missing; run the same prepare command again")
        status = path.stat()
        self._seen = (str(path.resolve()), status.st_size, status.st_mtime_ns)
        if self._seen not in _CHECKED:
            self._check_digest(path, status.st_size)
        table = read_arrow(path)
        if table.num_rows != self.manifest["faces"]:
            raise ValueError(
                f"{path}: {table.num_rows} rows, the manifest says {self.manifest['faces']}; "
                "run the same prepare command again"
            )
        if self._seen not in _CHECKED:
            check_rows(table, path, dict(enumerate(self._sizes)))
            _CHECKED.add(self._seen)
        return table

    def _check_digest(self, path: Path, size: int) -> None:
        """Compare the index with what the manifest says of it, before pyarrow reads it.

        Sets that were prepared before manifests said so are told by what Arrow itself can check.
        """
        said = self.manifest.get("index")
        if said is None:
            return
        with path.open("rb") as handle:
            same = size == said["bytes"] and hashlib.file_digest(handle, "sha256").hexdigest() == said["sha256"]
        if not same:
            raise ValueError(f"{path}: damaged: not what {MANIFEST} says; run the same prepare command again")

    def __len__(self) -> int:
        return len(self.frame)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "cache": self.remote.cache if self.remote else None, "seen": self._seen}

    def __setstate__(self, state: dict[str, Any]) -> None:
        _CHECKED.add(state.pop("seen"))
        self.__init__(**state)  # type: ignore[misc]  # a worker maps the files itself

    def __del__(self) -> None:
        for handle in getattr(self, "_files", {}).values():
            os.close(handle)

    def key(self, row: int) -> str:
        """Name of a face in its shard."""
        return str(self._keys[row].as_py())

    def subjects(self) -> list[str]:
        """Everybody in the set."""
        return sorted(self.words["subject"])

    def picture(self, row: int) -> bytes:
        """Encoded picture of a row.

        Raises:
            ValueError: the shard is cut short.
        """
        number = int(self.shard[row])
        length = int(self.length[row])
        data = os.pread(self._open(number), length, int(self.offset[row]))
        if len(data) != length:
            raise ValueError(f"{self._shard(number)}: cut short; run the same prepare command again")
        return data

    def _open(self, number: int) -> int:
        handle = self._files.get(number)
        if handle is None:
            handle = self._files[number] = os.open(self._shard(number), os.O_RDONLY)
        return handle

    def _shard(self, number: int) -> Path:
        entry = self.manifest["shards"][number]
        return self.remote.fetch(entry) if self.remote else self.folder / entry["name"]

    def gather(self, rows: Sequence[int] | NDArray[np.int64], size: int | None = None, threads: int = 1) -> FaceBatch:
        """The faces of ``rows`` as one batch.

        Args:
            rows: n row numbers.
            size: side of the crops, pixels; None means as prepared.
            threads: threads that decode.

        Raises:
            ValueError: a picture cannot be decoded; names shard and key.
        """
        index = np.asarray(rows, dtype=np.int64)
        own = int(self.manifest["size"])
        size = own if size is None else size
        images = _buffer((len(index), 3, size, size))
        planes = images.numpy()
        for number in np.unique(self.shard[index]):
            self._open(int(number))
        cuts = [len(index) * k // threads for k in range(threads + 1)]
        jobs = [(index[a:b], size, planes[a:b]) for a, b in itertools.pairwise(cuts)]
        decoding = [_threads(threads).submit(self._decode_all, *job) for job in jobs[1:]]
        self._decode_all(*jobs[0])  # one share here: a waiting thread more would only fight for the interpreter
        marks = self.landmarks[index].reshape(-1, 68, 2)
        if size != own:
            marks = resize_landmarks(marks, size / own)
        words = {name: self.words[name] for name in ("subject", "source")}
        batch = FaceBatch(
            image=images,
            landmarks=torch.from_numpy(np.ascontiguousarray(marks, dtype=np.float32)),
            au_intensity=torch.from_numpy(self.au_intensity[index]),
            au_occurrence=torch.from_numpy(self.au_occurrence[index]),
            emotion=torch.from_numpy(self.emotion[index]),
            pose=torch.from_numpy(self.pose[index]),
            subject=[words["subject"][code] for code in self.subject[index]],
            source=[words["source"][code] for code in self.source[index]],
            frame=torch.from_numpy(self.frame[index]),
        )
        for done in decoding:
            done.result()
        return batch

    def _decode_all(self, rows: NDArray[np.int64], size: int, planes: NDArray[np.uint8]) -> None:
        for row, own in zip(rows, planes):
            self._decode(int(row), size, own)

    def _decode(self, row: int, size: int, planes: NDArray[np.uint8]) -> None:
        """Decode a row into its three planes, uint8 (3, size, size)."""
        import cv2

        picture = decode_own(self.picture(row))
        own = int(self.manifest["size"])
        if picture is None or picture.shape[:2] != (own, own):
            name = self.manifest["shards"][int(self.shard[row])]["name"]
            what = "cannot be decoded" if picture is None else f"is not {own} x {own} pixels"
            raise ValueError(f"{self.path}/{name}: {self.key(row)} {what}; run `prepare ... --check`")
        if picture.shape[0] != size:
            how = cv2.INTER_AREA if size < picture.shape[0] else cv2.INTER_CUBIC
            picture = cv2.resize(picture, (size, size), interpolation=how)  # type: ignore[assignment]  # its stubs: any number
        cv2.split(picture, [planes[2], planes[1], planes[0]])  # BGR; ten times as fast as a transposed copy

    def _check_sizes(self) -> None:
        for entry in self.manifest["shards"]:
            path = self.folder / entry["name"]
            found = path.stat().st_size if path.is_file() else -1
            if found != entry["bytes"]:
                what = "is missing" if found < 0 else f"has {found} bytes instead of {entry['bytes']}"
                raise ValueError(f"{path}: {what}; run the same prepare command again, it makes what is not whole")

    def damaged(self) -> list[str]:
        """Names of the shards whose SHA-256 is another than when they were written."""
        wrong = []
        for number, entry in enumerate(self.manifest["shards"]):
            with self._shard(number).open("rb") as handle:
                if hashlib.file_digest(handle, "sha256").hexdigest() != entry["sha256"]:
                    wrong.append(entry["name"])
        return wrong


@functools.cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads)


def _threads(threads: int) -> ThreadPoolExecutor:
    """The decoding threads of this process (a fork has none of its parent's)."""
    return _pool(os.getpid(), threads)


def _buffer(shape: tuple[int, ...]) -> torch.Tensor:
    """An empty uint8 tensor; in a loader's process in shared memory, where it would be copied to otherwise."""
    if torch.utils.data.get_worker_info() is None:
        return torch.empty(shape, dtype=torch.uint8)
    storage = torch.UntypedStorage._new_shared(int(np.prod(shape)))
    return torch.empty(0, dtype=torch.uint8).set_(storage).view(shape)


def read_manifest(folder: Path, name: str | None = None) -> dict[str, Any]:
    """``manifest.json`` of a prepared set.

    Raises:
        FileNotFoundError: none there; says how to make one.
        ValueError: damaged, or of another layout.
    """
    path = folder / MANIFEST
    if not path.is_file():
        what = "preparation was interrupted: run the same command again" if any(folder.glob("shard-*.tar")) else (
            "no prepared set; make one with `python -m lit_faces.prepare NAME --root ... --out ...`"
        )  # fmt: skip
        raise FileNotFoundError(f"{name or folder}: {what}")
    again = "run the same prepare command again"
    manifest = read_json(path, again)
    layout = field(manifest, "layout", int, path)
    if layout != LAYOUT:
        raise ValueError(f"{path}: layout {layout}, this lit_faces reads {LAYOUT}; prepare the set again")
    faces = field(manifest, "faces", int, path, minimum=0)
    field(manifest, "size", int, path, minimum=1, maximum=8192)
    field(manifest, "title", str, path, default="")
    field(manifest, "aus", list, path, of=int, default=[])
    entries = field(manifest, "shards", list, path, of=dict)
    for entry in entries:
        if re.fullmatch(r"shard-\d{5}\.tar", name := field(entry, "name", str, path)) is None:
            raise ValueError(f"{path}: shards: name: expected shard-00000.tar or alike, found {shown(name)}; {again}")
        check_shard_entry(entry, f"{path}: {name}")
    if sum(entry["rows"] for entry in entries) != faces:
        raise ValueError(f"{path}: its shards have another number of rows than {faces} faces; {again}")
    if "index" in manifest:
        check_shard_entry({"rows": faces, **field(manifest, "index", dict, path)}, f"{path}: index")
    return manifest
