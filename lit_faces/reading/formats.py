"""Tables as other tools write them, from the tool's own rows: OpenFace 2, py-feat, Parquet.

=============  =======================================================================================================
openface       columns of OpenFace 2 (2.1 and later); frames count from 1; 0 where there is no face, as there
openface-2.0   the same with a blank after each comma of the header, as version 2.0 wrote it (``" AU06_r"``)
fex            columns of py-feat 2; its AUs are 0..1: our intensity over 5; radians, as there
parquet        the own columns, typed (pyarrow)
=============  =======================================================================================================
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lit_faces.core.csv_files import csv_bytes
from lit_faces.core.facs import AU_INDEX, AU_KEYS, AUS, EMOTION_INDEX, EMOTIONS, MAX_INTENSITY
from lit_faces.core.files import replacing
from lit_faces.reading.pose import openface_pose
from lit_faces.reading.rows import BOX, FACTS, MARKS, PLACE, POSE, PRESENT, FaceRow, cells, columns, numbers

FORMATS = ("csv", "openface", "openface-2.0", "fex", "parquet")
#: OpenFace's AUs; its AU45 (blink) is our AU43 (eyes closed), its AU28 is not read. Ours that it lacks come last.
_OPENFACE = {k: k for k in (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26)} | {45: 43}
_MORE = (24, 27)
_GROUP = 2000  # rows that are written at once


def write_table(path: Path, rows: Iterable[FaceRow], kind: str, landmarks: bool, pictures: bool = False) -> Path:
    """Write a table, whole or not at all; memory does not grow with the rows.

    Args:
        path: file.
        rows: in their order.
        kind: one of :data:`FORMATS`.
        landmarks: the 68 landmarks too.
        pictures: the rows are of several photos, so that their names belong into every format.

    Raises:
        OSError: it cannot be written.
    """
    with replacing(path) as temporary:
        if kind == "parquet":
            _write_parquet(temporary, rows, landmarks)
            return path
        if kind == "csv":
            names, line = columns(landmarks), lambda row: cells(row, landmarks)
        elif kind == "fex":
            names, line = fex_columns(), fex_cells
        else:
            names = openface_columns(landmarks, pictures)
            line = lambda row: openface_cells(row, landmarks, pictures)  # noqa: E731
        head = ", ".join(names) + "\n" if kind == "openface-2.0" else ",".join(names) + "\n"
        with temporary.open("wb") as handle:
            handle.write(head.encode())
            for group in _groups(rows):
                handle.write(csv_bytes(names, map(line, group), header=False))
    return path


def _groups(rows: Iterable[FaceRow]) -> Iterator[list[FaceRow]]:
    rows = iter(rows)
    while group := list(itertools.islice(rows, _GROUP)):
        yield group


# -- OpenFace ---------------------------------------------------------------------------------------------------------


def openface_columns(landmarks: bool, pictures: bool) -> list[str]:
    """Of OpenFace's ``FeatureExtraction``; gaze, eye landmarks and 3-D landmarks, which are not read, are left out."""
    numbers_of = [*_OPENFACE, *_MORE]
    return [
        "frame", "face_id", "timestamp", "confidence", "success",
        "pose_Tx", "pose_Ty", "pose_Tz", "pose_Rx", "pose_Ry", "pose_Rz", *(MARKS if landmarks else ()),
        *(f"AU{number:02d}_r" for number in numbers_of), *(f"AU{number:02d}_c" for number in numbers_of),
        *(("file",) if pictures else ()),
    ]  # fmt: skip


def openface_cells(row: FaceRow, landmarks: bool, pictures: bool) -> list[object]:
    """A row in the order of :func:`openface_columns`; 0 where nothing was found, as OpenFace has it."""
    facts: list[object] = [
        row.frame + 1,
        max(row.person, 0),
        f"{row.seconds:.3f}",
        f"{row.confidence:.2f}",
        int(row.success),
    ]
    pick = [AU_INDEX[ours] for ours in [*_OPENFACE.values(), *_MORE]]
    pose = openface_pose(row.pose, row.crop, row.width, row.height) if row.success else [0.0] * 6
    values = np.nan_to_num(np.array([*pose[:3]])).tolist(), np.nan_to_num(np.array(pose[3:])).tolist()
    marks = np.nan_to_num(row.landmarks.T.ravel()) if landmarks else np.zeros(0)
    return [
        *facts, *(f"{value:.1f}" for value in values[0]), *(f"{value:.3f}" for value in values[1]), *numbers(marks, 1),
        *numbers(np.nan_to_num(row.intensity[pick]), 2), *numbers(np.nan_to_num(row.present[pick]), 2),
        *((row.file,) if pictures else ()),
    ]  # fmt: skip


# -- py-feat ----------------------------------------------------------------------------------------------------------

_FEX_BOX = ("FaceRectX", "FaceRectY", "FaceRectWidth", "FaceRectHeight", "FaceScore")
_FEX_EMOTIONS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")


def fex_columns() -> list[str]:
    """Of a py-feat ``Fex``; ``contempt``, which it has not, comes last with ``timestamp`` and ``Identity``.

    ``feat.utils.io.read_feat`` (2.1.5) takes every column with AU in its name for an AU, and the others by name; X, Y
    and Z, without which its ``poses`` fails, are in units of its own network and stay empty.
    """
    return [
        *_FEX_BOX, *MARKS, "Pitch", "Roll", "Yaw", "X", "Y", "Z", *AU_KEYS, *_FEX_EMOTIONS, "input", "frame",
        "Identity", "timestamp", "contempt",
    ]  # fmt: skip


def fex_cells(row: FaceRow) -> list[object]:
    """A row in the order of :func:`fex_columns`; empty where nothing was found."""
    yaw, pitch, roll = np.radians(row.pose)
    found = row.success
    expressions = row.expression[[EMOTION_INDEX[name] for name in _FEX_EMOTIONS]]
    return [
        *(row.box if found else [None] * 4), f"{row.confidence:.4f}" if found else None,
        *numbers(row.landmarks.T.ravel(), 2), *numbers(np.array([pitch, roll, yaw]), 4), *[None] * 3,
        *numbers(row.intensity / MAX_INTENSITY, 4), *numbers(expressions, 4), row.file, row.frame,
        f"Person_{row.person}" if found else None, f"{row.seconds:.6f}",
        *numbers(row.expression[[EMOTION_INDEX["contempt"]]], 4),
    ]  # fmt: skip


# -- Parquet ----------------------------------------------------------------------------------------------------------


def _write_parquet(path: Path, rows: Iterable[FaceRow], landmarks: bool) -> None:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    schema = pa.schema([(name, _type_of(name, pa)) for name in columns(landmarks)])
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for group in _groups(rows):
            lines = [cells(row, landmarks) for row in group]
            values = zip(*lines)
            arrays = [pa.array(_typed(column, one.type, pa), one.type) for column, one in zip(values, schema)]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def _type_of(name: str, pa: Any) -> Any:
    if name in ("file", "expression"):
        return pa.string()
    if name in PRESENT or name in ("success",):
        return pa.bool_()
    if name in ("frame", "face_id", "width", "height", *BOX):
        return pa.int32()
    return pa.float64() if name == "timestamp" else pa.float32()


def _typed(column: tuple[object, ...], kind: Any, pa: Any) -> list[object]:
    if kind == pa.string():
        return list(column)
    read = float if kind in (pa.float32(), pa.float64()) else int
    found = [None if value is None else read(value) for value in column]  # type: ignore[arg-type, call-overload]  # text or numbers
    return [None if value is None else bool(value) for value in found] if kind == pa.bool_() else found


__all__ = [
    "AUS", "EMOTIONS", "FACTS", "FORMATS", "PLACE", "POSE", "fex_cells", "fex_columns", "openface_cells",
    "openface_columns", "write_table",
]  # fmt: skip
