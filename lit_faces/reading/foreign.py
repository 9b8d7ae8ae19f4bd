"""Tables of readings as tools write them: ours, OpenFace's and py-feat's, told by their columns.

=========  ==========================================  ===============  ==================  =======================
tool       told by                                     frames           AU intensity        present
=========  ==========================================  ===============  ==================  =======================
lit_faces  ``file``, ``face_id``, ``AU06``             from 0           0..5                ``AU06_c``
OpenFace   ``success``, ``AU06_r``                     from 1           0..5 (AU45 as 43)   ``AU06_c``
py-feat    ``FaceRectX``, ``AU06``                     from 0           0..1, times 5       half or more
=========  ==========================================  ===============  ==================  =======================
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray

from lit_faces.core.columns import delimiter_of, fold
from lit_faces.core.csv_files import CsvError, check_line, plain, short, split_line, text_lines, to_number
from lit_faces.core.facs import AU_INDEX, MAX_INTENSITY, NUM_AUS
from lit_faces.core.inputs import read_file

_AU = re.compile(r"au0*(\d{1,2})(_r|_c)?", re.ASCII)
_BLINK = {45: 43}  # OpenFace's and FACS' blink is our eyes closed, for a moment
_PRESENT = 0.5  # py-feat's AUs are probabilities


@dataclass
class ToolReadings:
    """What a tool read.

    Attributes:
        tool: ``lit_faces``, ``OpenFace`` or ``py-feat``.
        path: file.
        keys: file name without its ending (empty where the table has none) and frame, 0 first; of each row.
        intensity: float32 (n, 19), 0..5; NaN where the tool has no such AU, or found no face.
        present: float32 (n, 19), 0 or 1; NaN likewise.
        several: rows that were left out because another face of the same frame was surer.
    """

    tool: str
    path: Path
    keys: list[tuple[str, int | None]]
    intensity: NDArray[np.float32]
    present: NDArray[np.float32]
    several: int = 0
    _sure: list[float] = field(default_factory=list)


def read_readings(path: Path) -> ToolReadings:
    """Read a table of readings.

    Raises:
        FileNotFoundError, OSError: no such file.
        ValueError: names the file, and the line and column of a bad value; or a table of no tool that is known.
    """
    try:
        lines = text_lines(read_file(path, "table"))
    except CsvError as error:
        raise ValueError(f"{path}: {error}") from error
    if len(lines) < 2:
        raise ValueError(f"{path}: no row stands below the names of the columns")
    delimiter = delimiter_of(lines[0][1])
    names = [fold(name) for name in split_line(lines[0][1], delimiter)]
    tool = _tool(path, names)
    places = _places(names, tool)
    found: dict[tuple[str, int | None], tuple[float, NDArray[np.float32], NDArray[np.float32]]] = {}
    several = 0
    for at, line in lines[1:]:
        where = f"{path}, line {at}"
        try:
            check_line(line)
            cells = split_line(line, delimiter)
            key, sure, intensity, present = _row(dict(zip(names, cells)), cells, places, tool)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        several += key in found
        if key not in found or sure > found[key][0]:
            found[key] = sure, intensity, present
    rows = list(found.values())
    return ToolReadings(
        tool, path, list(found), np.stack([row[1] for row in rows]), np.stack([row[2] for row in rows]), several
    )


def _tool(path: Path, names: Sequence[str]) -> str:
    if "facerectx" in names:
        return "py-feat"
    if "success" in names and any(name.endswith("_r") and _AU.fullmatch(name) for name in names):
        return "OpenFace"
    if "face_id" in names and "au06" in names:
        return "lit_faces"
    raise ValueError(
        f"{path}: the columns are not those of a table that lit_faces, OpenFace or py-feat wrote (found: "
        f"{', '.join(names[:6])} ...)"
    )


def _places(names: Sequence[str], tool: str) -> list[tuple[int, int, bool]]:
    """Column, AU and whether it says presence."""
    found = []
    for column, name in enumerate(names):
        match = _AU.fullmatch(name)
        number = int(match[1]) if match else 0
        number = _BLINK.get(number, number) if tool == "OpenFace" else number
        if match and number in AU_INDEX:
            found.append((column, AU_INDEX[number], match[2] == "_c"))
    return found


def _row(
    row: dict[str, str], cells: Sequence[str], places: Sequence[tuple[int, int, bool]], tool: str
) -> tuple[tuple[str, int | None], float, NDArray[np.float32], NDArray[np.float32]]:
    intensity, present = (np.full(NUM_AUS, np.nan, np.float32) for _ in range(2))
    frame = to_number(row.get("frame", ""))
    number = None if np.isnan(frame) else int(frame) - (tool == "OpenFace")
    name = PurePath(plain(row.get("file") or row.get("input") or "")).stem
    sure = to_number(row.get("confidence") or row.get("facescore") or "")
    if to_number(row.get("success", "1")) != 0:
        scale = MAX_INTENSITY if tool == "py-feat" else 1.0
        for column, au, says_presence in places:
            if column >= len(cells):
                raise ValueError(f"{len(cells)} cells, fewer than there are columns")
            value = to_number(cells[column])
            if not np.isnan(value) and not -0.01 <= value * scale <= MAX_INTENSITY + 0.01:
                most = MAX_INTENSITY / scale
                raise ValueError(f"column {column + 1}: expected 0..{most:g}, found {short(cells[column])}")
            if says_presence:
                present[au] = value
            else:
                intensity[au] = value * scale
        if tool == "py-feat":
            present = np.where(np.isnan(intensity), np.nan, intensity >= _PRESENT * MAX_INTENSITY).astype(np.float32)
    return (name, number), 0.0 if np.isnan(sure) else sure, intensity, present
