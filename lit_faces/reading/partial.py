"""What has been read so far, on the disk: a killed run goes on there, an interrupted one leaves it.

Beside ``aus.csv`` stand, until it is written, ``aus.partial.csv`` (the own format, whatever the table's) and
``aus.partial.json``: up to which frame and byte it is whole, and how the tracker stood there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lit_faces.core.csv_files import csv_bytes, rows_of_own
from lit_faces.core.files import replace_file
from lit_faces.reading.rows import FaceRow, cells, columns, from_cells


class Partial:
    """The rows of a run that is not done.

    Args:
        out: the table that will be.
        landmarks: whether the rows keep them.
        about: what the run depends on; rows of another run are not gone on from.

    Attributes:
        path: the CSV.
        frame: the last frame that is whole; -1: none.
        seconds: its time.
        state: of the tracker after it.
    """

    def __init__(self, out: Path, landmarks: bool, about: Mapping[str, Any]) -> None:
        self.path, self._state = out.with_name(f"{out.stem}.partial.csv"), out.with_name(f"{out.stem}.partial.json")
        self.landmarks, self.about = landmarks, dict(about)
        self.frame, self.seconds = -1, 0.0
        self.state: dict[str, Any] = {}
        self._bytes = self._go_on()
        if not self._bytes:
            self.path.write_bytes(csv_bytes(columns(landmarks), []))
            self._bytes = self.path.stat().st_size
        os.truncate(self.path, self._bytes)
        self._handle = self.path.open("ab")

    def _go_on(self) -> int:
        """Bytes that are whole of an earlier run of the same; 0 where there is none."""
        try:
            said = json.loads(self._state.read_bytes())
            if said["about"] != self.about or self.path.stat().st_size < said["bytes"]:
                return 0
            self.frame, self.seconds, self.state = int(said["frame"]), float(said["seconds"]), said["state"]
            return int(said["bytes"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0

    def append(self, rows: list[FaceRow]) -> None:
        """Rows of the next frame."""
        self._handle.write(csv_bytes((), (cells(row, self.landmarks) for row in rows), header=False))

    def keep(self, frame: int, seconds: float, state: dict[str, Any]) -> None:
        """Everything up to here is whole: a later run goes on after this frame.

        Raises:
            OSError: the disk is full.
        """
        self._handle.flush()
        said = {"about": self.about, "bytes": self._handle.tell(), "frame": frame, "seconds": seconds, "state": state}
        replace_file(self._state, json.dumps(said).encode())

    def close(self) -> None:
        """Write what is still in memory."""
        self._handle.close()

    def rows(self) -> Iterator[FaceRow]:
        """All rows, from the disk."""
        with self.path.open(newline="", encoding="utf-8") as handle:
            yield from map(from_cells, rows_of_own(handle))

    def remove(self) -> None:
        """The table is written: nobody needs this any more."""
        self.close()
        for path in (self.path, self._state):
            with suppress(FileNotFoundError):
                path.unlink()
