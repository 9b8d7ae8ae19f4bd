"""The rows of prepared sets as Arrow files: their schema, and what must hold before a value of theirs is used."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lit_faces.core.facs import EMOTIONS, NUM_AUS
from lit_faces.core.fields import shown

SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("shard", pa.int32()),
        ("offset", pa.int64()),
        ("length", pa.int32()),
        ("subject", pa.string()),
        ("clip", pa.string()),
        ("frame", pa.int64()),
        ("source", pa.string()),
        ("split", pa.string()),
        ("emotion", pa.int8()),
        ("au_intensity", pa.list_(pa.float32(), NUM_AUS)),
        ("au_occurrence", pa.list_(pa.float32(), NUM_AUS)),
        ("landmarks", pa.list_(pa.float32(), 136)),
        ("pose", pa.list_(pa.float32(), 3)),
    ]
)
VECTORS = {"au_intensity": NUM_AUS, "au_occurrence": NUM_AUS, "landmarks": 136, "pose": 3}
STRINGS = ("subject", "clip", "source", "split")
#: What labels can be, where they are not NaN: grades, pixels of the crop, degrees.
_RANGES = {"au_intensity": (0.0, 5.0), "landmarks": (-1e6, 1e6), "pose": (-360.0, 360.0)}


def read_arrow(path: Path) -> pa.Table:
    """A table of rows, memory-mapped, whose layout can be trusted.

    The schema is compared and every offset and text is looked at before a value is used: pyarrow follows what the file
    says, and two changed bits ended the interpreter.

    Raises:
        ValueError: damaged.
    """
    try:
        with pa.memory_map(str(path)) as source:
            table = pa.ipc.open_file(source).read_all()
        if not table.schema.equals(SCHEMA):
            raise pa.ArrowInvalid("not the columns of a prepared set")
        table.validate(full=True)
        holed = [name for name in SCHEMA.names if table[name].null_count]
        if holed:
            raise pa.ArrowInvalid(f"values of {holed[0]} are missing")
    except (pa.ArrowException, OSError, MemoryError, ValueError, LookupError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path}: damaged ({reason}); run the same prepare command again") from error
    return table


def check_rows(table: pa.Table, path: Path, sizes: Mapping[int, int]) -> None:
    """Check the values of rows: pictures lie within their shards, labels within their ranges.

    Args:
        table: of :func:`read_arrow`.
        path: of the table, for the message.
        sizes: bytes of each shard by its number.

    Raises:
        ValueError: names the file, the first row that cannot be, and the column.
    """
    if not table.num_rows:
        return
    number, offset, length = (table[name].to_numpy() for name in ("shard", "offset", "length"))
    known = np.isin(number, list(sizes))
    _refuse_row(path, "shard", ~known, number)
    ends = np.array([sizes.get(n, 0) for n in range(int(number.max()) + 1)])[number]
    beyond = (offset < 0) | (length < 1) | (offset > ends - length.astype(np.int64))
    _refuse_row(path, "offset", beyond, offset)
    emotion = table["emotion"].to_numpy()
    _refuse_row(path, "emotion", (emotion < -1) | (emotion >= len(EMOTIONS)), emotion)
    for name, (low, high) in _RANGES.items():
        values = vectors(table, name)
        wrong = ~(np.isnan(values) | ((values >= low) & (values <= high)))
        _refuse_row(path, name, wrong.any(1), values)
    occurrence = vectors(table, "au_occurrence")
    _refuse_row(path, "au_occurrence", ~(np.isnan(occurrence) | np.isin(occurrence, (0, 1))).all(1), occurrence)


def _refuse_row(path: Path, column: str, wrong: Any, values: NDArray[Any]) -> None:
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise ValueError(
            f"{path}: damaged: row {row}: {column}: {shown(np.asarray(values[row]).tolist())} cannot be; "
            "run the same prepare command again"
        )


def vectors(table: pa.Table, name: str) -> NDArray[np.float32]:
    """A column of fixed-length lists, float32 (n, width)."""
    column = table[name].combine_chunks()
    array = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
    return array.flatten().to_numpy(zero_copy_only=False).reshape(-1, VECTORS[name])
