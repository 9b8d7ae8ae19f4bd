"""FER2013 (Goodfellow et al. 2013), with its own labels or those of FER+ (Barsoum et al. 2016).

::

    fer2013.csv       emotion,pixels,Usage      48x48 grey values between blanks
    fer2013new.csv    Usage,Image name,neutral,happiness,...,contempt,unknown,NF      votes on the same rows

Nobody knows who is on a picture: each is a subject of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_modules.reader import Clip, Problem, Reader, in_groups, option
from lit_faces.core.facs import EMOTION_INDEX

_SIDE = 48
_SPLITS = {"Training": "train", "PublicTest": "val", "PrivateTest": "test"}
_EMOTIONS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
_CODES = {str(code).encode(): code for code in range(len(_EMOTIONS))}
#: The votes of a row that is reported already; -1 is "no emotion has the most".
_UNREADABLE = -2
_VOTES = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF")


@dataclass
class FER2013(Reader):
    """Reader of FER2013 and FER+.

    Args:
        root: folder that holds the tables.
        labels: ``fer2013``, or ``ferplus``: the emotion with most votes; ties, unknown and no face are left out.
    """

    name = "fer2013"
    title = "FER2013"
    cropped = True

    labels: str = option("fer2013", "whose labels", ("fer2013", "ferplus"))

    def clips(self) -> list[Clip]:
        """Clips of a thousand pictures by split; positions are the bytes where a row begins."""
        table = self._table(r"fer2013\.csv")
        if self.labels == "fer2013":
            self.choose("codes 0..6: anger, disgust, fear, happiness, sadness, surprise, neutral (one source)")
            votes: dict[int, tuple[str, int]] | None = None
        else:
            plus = self._table(r"fer2013new\.csv")
            votes = self._votes(plus)
        rows: dict[str, list[tuple[int, int, int]]] = {split: [] for split in _SPLITS.values()}
        left_out, without, last = 0, [], -1
        for number, offset, code, usage in self._rows(table):
            last = number
            if votes is None:
                emotion = EMOTION_INDEX[_EMOTIONS[code]]
            elif number not in votes:
                without.append(number)
                continue
            elif votes[number][1] == _UNREADABLE:
                continue  # said already
            elif votes[number][0] != usage:
                reason = f"row {number + 1}: Usage {votes[number][0][:20]!r}, but {usage} in {table.name}: row left out"
                self.report(plus, reason, number + 2, frames=[number])
                continue
            elif (emotion := votes[number][1]) < 0:
                left_out += 1
                continue
            rows[_SPLITS[usage]].append((number, offset, emotion))
        if without:
            self.report(table, f"{len(without):,} rows have no votes: fer2013new.csv is shorter", 0, "", without)
        beyond = [number for number in votes or {} if number > last]
        if beyond:
            self.report(plus, f"{len(beyond):,} votes have no row in {table.name}: it is cut short", 0, "", beyond)
        if left_out:
            self.choose(f"FER+: {left_out:,} pictures without a majority for one emotion are left out")
        clips = []
        for split, own in rows.items():
            columns = np.array(own, dtype=np.int64).reshape(-1, 3).T
            clips += in_groups(
                Clip(
                    key=split,
                    subject="fer2013:*",
                    frames=columns[0],
                    container=table,
                    positions=columns[1],
                    emotion=columns[2],
                    split=split,
                )
            )
        return clips

    def _table(self, pattern: str) -> Path:
        found = [p for f in [self.root, *self.folders(r".*", depth=2)] for _, p in self.files(f, pattern)]
        name = pattern.replace("\\", "")
        return self.need(name, name, found)

    def _rows(self, table: Path) -> Iterator[tuple[int, int, int, str]]:
        """Row number from 0, byte offset, code, usage; bad rows are reported."""
        try:
            handle = table.open("rb")
        except OSError as error:
            self.report(table, f"cannot be read ({error.strerror})")
            return
        with handle:
            header = handle.readline().decode("utf-8", "replace").strip().lower()
            if header.split(",")[:3] != ["emotion", "pixels", "usage"]:
                self.report(table, f"expected the header emotion,pixels,Usage, found {header[:40]!r}", 1)
                return
            number, at = -1, 1
            while True:
                offset, line = handle.tell(), handle.readline()
                if not line:
                    return
                at += 1
                if not line.strip():
                    continue
                number += 1
                code, _, rest = line.partition(b",")
                usage = rest.rpartition(b",")[2].strip().decode("utf-8", "replace")
                if code.strip() not in _CODES or usage not in _SPLITS:
                    what = line[:30].decode("utf-8", "replace")
                    self.report(table, f"expected 0..6,pixels,Usage, found {what!r}", at, frames=[number])
                    continue
                yield number, offset, _CODES[code.strip()], usage

    def _votes(self, table: Path) -> dict[int, tuple[str, int]]:
        """Usage and emotion of each row of FER+, the emotion -1 where none has the most votes."""
        # no cell holds a comma: a stray quote must not swallow the lines after it
        lines = [(n, line.replace('"', "").split(",")) for n, line in enumerate(self.lines(table) or [], 1)]
        names = [name.strip() for name in lines[0][1]] if lines else []
        missing = [name for name in ("Usage", *_VOTES) if name not in names]
        if missing:
            self.report(table, f"line 1 has no column {missing[0]}", 1)
            return {}
        found: dict[int, tuple[str, int]] = {}
        for number, (at, cells) in enumerate((n, cells) for n, cells in lines[1:] if any(map(str.strip, cells))):
            row = dict(zip(names, cells))
            usage = row.get("Usage", "").strip()
            try:
                votes = [int(row.get(name, "")) for name in _VOTES]
                if min(votes) < 0:
                    raise ValueError
            except ValueError:
                what = ",".join(cells)[:40]
                self.report(table, f"expected ten numbers of votes, found {what!r}", at, frames=[number])
                found[number] = usage, _UNREADABLE
                continue
            best = [name for name, count in zip(_VOTES, votes) if count == max(votes)]
            found[number] = usage, EMOTION_INDEX.get(best[0], -1) if len(best) == 1 and max(votes) else -1
        return found

    def pictures(self, clip: Clip) -> Iterator[tuple[int, NDArray[np.uint8] | None, Problem | None]]:
        """From the rows of the table."""
        assert clip.container is not None and clip.positions is not None
        with clip.container.open("rb") as handle:
            for row, offset in enumerate(clip.positions):
                handle.seek(int(offset))
                text = handle.readline().partition(b",")[2].rpartition(b",")[0]
                try:
                    values = np.array(text.strip(b' "').split(), dtype=np.int64)
                    if values.size != _SIDE**2 or values.min() < 0 or values.max() > 255:
                        raise ValueError
                except (ValueError, OverflowError):
                    number = int(clip.frames[row])
                    reason = f"row {number + 1}: expected {_SIDE**2} grey values 0..255"
                    yield row, None, self.problem(clip.container, reason, clip, [number])
                    continue
                grey = values.astype(np.uint8).reshape(_SIDE, _SIDE)
                yield row, np.repeat(grey[:, :, None], 3, axis=2), None


READER = FER2013
