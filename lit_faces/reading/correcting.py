"""The readings of another tool, less a person's zero: for whoever keeps using OpenFace, py-feat or any other table.

    calibrate --readings anna_rest.csv --correct monday.csv tuesday.csv --out anna

writes anna/zero.json, anna/monday.csv and anna/tuesday.csv, in the columns of our own tables.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from lit_faces.core.facs import AU_KEYS, MAX_INTENSITY
from lit_faces.core.files import replace_file
from lit_faces.core.inputs import read_file
from lit_faces.persons.calibration import Calibrated, CalibrateOptions, calibrate_readings
from lit_faces.persons.zero import Zero
from lit_faces.reading.foreign import ToolReadings, read_readings
from lit_faces.reading.formats import csv_bytes


def calibrate_tables(rest: Path, tables: Sequence[Path], options: CalibrateOptions, out: Path) -> Calibrated:
    """Set a person's zero from a table, and take it off others.

    Args:
        rest: table of the person at rest.
        tables: of the same tool and person, to be corrected.
        options: how.
        out: folder of the person; the corrected tables have the names of the tables.

    Raises:
        FileNotFoundError, OSError: no such file; the disk is full.
        ValueError: a table that cannot be read; tables of two tools; two of one name, or one that lies in ``out``.
    """
    resting, others = read_readings(rest), [read_readings(path) for path in tables]
    places = [Path(out) / f"{path.stem}.csv" for path in tables]
    for path, table, place in zip(tables, others, places):
        if table.tool != resting.tool:
            raise ValueError(f"{path}: is of {table.tool}, {rest} of {resting.tool}: a zero is of one tool")
        if place.exists() and place.resolve() in {one.resolve() for one in (rest, *tables)}:
            raise ValueError(f"{path}: would be written over: choose another --out")
    if len(set(places)) < len(places):
        raise ValueError(f"--correct: two tables are called {places[0].name}: correct them one by one")
    source = hashlib.sha256(read_file(rest, "table")).hexdigest()
    done = calibrate_readings(resting.intensity.astype(np.float64), resting.tool, source, options, out)
    for table, place in zip(others, places):
        replace_file(place, corrected(table, done.zero))
        done.notes.append(f"{place}: {len(table.keys)} rows of {table.tool}, less the zero")
    return done


def corrected(table: ToolReadings, zero: Zero) -> bytes:
    """A table of readings less a zero, as CSV in our columns; cells of what was not read are empty."""
    values = zero.apply(torch.from_numpy(table.intensity), AU_KEYS, MAX_INTENSITY).numpy()
    names = ("file", "frame", "face_id", "success", *AU_KEYS)
    rows = []
    for (name, frame), row in zip(table.keys, values):
        read = bool(np.isfinite(row).any())
        cells = [None if value != value else f"{value:.3f}" for value in row.tolist()]
        rows.append([name, frame, 0 if read else None, int(read), *cells])
    return csv_bytes(names, rows)
