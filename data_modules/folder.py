"""A folder of photographs, with or without a table of labels.

::

    photos/anna/1.jpg, photos/anna/2.jpg, photos/bert/1.jpg     a sub-folder a person; or
    photos/*.jpg                                                everybody by themselves; or
    photos/labels.csv                                           columns file, subject, frame, au1, AU06, emotion, split

In the table only ``file`` is needed; an empty cell is *not coded*. Occurrence is intensity >= 2, or a column ``occ6``.
"""

from __future__ import annotations

import csv
import io
import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_modules.reader import PICTURES, Clip, Floats, Reader, not_coded, option
from lit_faces.core.facs import AU_INDEX, EMOTION_INDEX, MAX_INTENSITY, occurrence

TABLE = "labels.csv"
_AU = re.compile(r"(au|occ)_?0*(\d+)", re.IGNORECASE)
_SPLITS = ("", "train", "val", "test")


@dataclass
class Folder(Reader):
    """Reader of a folder of photographs.

    Args:
        root: the folder.
        set_name: name of the set; subjects are ``set_name:person``.
        threshold: least intensity that counts as present.
    """

    name = "folder"
    title = "the folder"
    aus = tuple(AU_INDEX)

    set_name: str = option("", "name of the set (default: the folder's name)")
    threshold: float = option(2.0, "least intensity that counts as present")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.set_name = self.set_name or self.root.resolve().name

    def clips(self) -> list[Clip]:
        """A clip a person."""
        table = self.root / TABLE
        return self._of_table(table) if table.exists() else self._of_tree()

    def _of_tree(self) -> list[Clip]:
        clips: list[Clip] = []
        self._collect(self.root, "", clips)
        if not clips:
            raise FileNotFoundError(f"{self.root}: no pictures (jpg, png, bmp, tif, webp) in it or below")
        self.choose("no labels.csv: faces without labels; a sub-folder is a person")
        return clips

    def _collect(self, folder: Path, person: str, clips: list[Clip]) -> None:
        found = [path for _, path in self.files(folder, rf".*{PICTURES}")]
        if found:
            subject = f"{self.set_name}:{person or '*'}"
            clips.append(Clip(person or "pictures", subject, np.arange(len(found)), pictures=found))
        for child in self.children(folder):
            self._collect(child, f"{person}/{child.name}" if person else child.name, clips)

    def _of_table(self, table: Path) -> list[Clip]:
        lines = self.lines(table)
        if lines is None:
            return []
        records = self.records("\n".join(lines), table)
        clips = []
        for person in dict.fromkeys(record["subject"] for record in records):
            own = [record for record in records if record["subject"] == person]
            clips.append(self.clip_of(person, own, pictures=[self.root / record["file"] for record in own]))
        return clips

    def clip_of(self, person: str, records: list[dict], **where) -> Clip:
        """A clip of records of one person."""
        numbers = [record["frame"] for record in records]
        if None in numbers or len(set(numbers)) < len(numbers):
            numbers = list(range(len(records)))
        order = np.argsort(numbers, kind="stable")
        clip = Clip(
            key=person or "pictures",
            subject=f"{self.set_name}:{person or '*'}",
            frames=np.array(numbers),
            au_intensity=np.stack([record["au_intensity"] for record in records]),
            au_occurrence=np.stack([record["au_occurrence"] for record in records]),
            emotion=np.array([record["emotion"] for record in records]),
            landmarks=np.stack([record["landmarks"] for record in records]),
            pose=np.stack([record["pose"] for record in records]),
            split=records[0]["split"],
            **where,
        )
        return clip.select(order)

    def records(self, text: str, path: Path, clip: str = "") -> list[dict]:
        """Rows of a table of labels; a bad row is reported and left out."""
        reader = csv.DictReader(io.StringIO(text, newline=""))
        if "file" not in (reader.fieldnames or []):
            self.report(
                path, f"line 1 has no column 'file' (found: {', '.join(reader.fieldnames or [])[:60]})", 1, clip
            )
            return []
        for name in reader.fieldnames or []:
            found = _AU.fullmatch(name)
            if found and int(found[2]) not in AU_INDEX:
                self.choose(f"{self.relative(path)}: column {name} left out, it is not one of our 19 AUs")
        records = []
        try:
            for row in reader:
                try:
                    records.append(self._record(row))
                except ValueError as error:
                    self.report(path, f"{error}; row left out", reader.line_num, clip, [reader.line_num - 2])
        except csv.Error as error:
            self.report(path, f"no table ({error}); rows from here on are lost", reader.line_num, clip)
        return records

    def _record(self, row: dict[str, str]) -> dict:
        if not row["file"]:
            raise ValueError("column file is empty")
        graded, present = not_coded(1)[0], not_coded(1)[0]
        for name in row:
            found = _AU.fullmatch(name or "")
            if found and int(found[2]) in AU_INDEX:
                value = _number(row, name)
                most = MAX_INTENSITY if found[1].lower() == "au" else 1
                if not math.isnan(value) and not 0 <= value <= most:
                    raise ValueError(f"column {name}: expected 0..{most:g} or nothing, found {value:g}")
                (graded if most > 1 else present)[AU_INDEX[int(found[2])]] = value
        derived = occurrence(graded, self.threshold)
        emotion = (row.get("emotion") or "").strip().lower()
        if emotion and emotion not in EMOTION_INDEX:
            raise ValueError(f"column emotion: expected one of {', '.join(EMOTION_INDEX)}, found {emotion!r}")
        split = (row.get("split") or "").strip().lower()
        if split not in _SPLITS:
            raise ValueError(f"column split: expected train, val or test, found {split!r}")
        frame = _number(row, "frame")
        return {
            "file": row["file"],
            "subject": (row.get("subject") or "").strip(),
            "frame": None if math.isnan(frame) else int(frame),
            "au_intensity": graded,
            "au_occurrence": np.where(np.isnan(present), derived, present),
            "emotion": EMOTION_INDEX[emotion] if emotion else -1,
            "landmarks": _numbers(row, [f"{axis}{i}" for i in range(68) for axis in "xy"]).reshape(68, 2),
            "pose": _numbers(row, ["yaw", "pitch", "roll"]),
            "split": split,
        }


def _number(row: dict[str, str], name: str) -> float:
    text = (row.get(name) or "").strip()
    if text.lower() in ("", "nan"):
        return math.nan
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"column {name}: expected a number or nothing, found {text!r}") from None


def _numbers(row: dict[str, str], names: list[str]) -> Floats:
    return np.array([_number(row, name) for name in names], dtype=np.float32)


READER = Folder
