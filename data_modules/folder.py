"""A folder of photographs, with or without a table of labels.

::

    photos/anna/1.jpg, photos/anna/2.jpg, photos/bert/1.jpg     a sub-folder a person; or
    photos/*.jpg                                                everybody by themselves; or
    photos/labels.csv                                           columns file, subject, frame, au1, AU06, emotion, split

In the table only ``file`` is needed; an empty cell is *not coded*. Occurrence is intensity >= 2, or a column ``occ6``;
:mod:`lit_faces.core.tables` says what else is understood. A line that cannot be read is a problem and left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_modules.reader import PICTURES, Clip, Reader, option
from lit_faces.core.facs import AU_INDEX
from lit_faces.core.label_checks import is_coded, settle
from lit_faces.core.tables import TABLE, LabelRow, picture_path, read_table


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
        """A clip a person; of people without a name, a clip a split.

        Raises:
            FileNotFoundError: no pictures and no table.
            ValueError: no row of the table can be read; says the first reason.
        """
        table = self.root / TABLE
        return self._of_table(table) if table.exists() or table.is_symlink() else self._of_tree()

    def _of_tree(self) -> list[Clip]:
        clips: list[Clip] = []
        self._collect(self.root, "", clips)
        if not clips:
            raise FileNotFoundError(f"{self.root}: no pictures (jpg, png, bmp, tif, webp) in it or below")
        others = [path.name for _, path in self.files(self.root, r".*\.(?:csv|tsv|xlsx?|ods)")]
        unread = f" ({', '.join(others[:5])} not read: the table must be named {TABLE})" if others else ""
        self.choose(f"no {TABLE}{unread}: faces without labels; a sub-folder is a person")
        return clips

    def _collect(self, folder: Path, person: str, clips: list[Clip]) -> None:
        found = [path for _, path in self.files(folder, rf".*{PICTURES}")]
        if found:
            subject = f"{self.set_name}:{person or '*'}"
            clips.append(Clip(person or "pictures", subject, np.arange(len(found)), pictures=found))
        for child in self.children(folder):
            self._collect(child, f"{person}/{child.name}" if person else child.name, clips)

    def _of_table(self, table: Path) -> list[Clip]:
        if table.exists() and not table.is_file():
            raise ValueError(f"{table}: not a regular file; write the table there, or take it away")
        rows = self.settled(table, self.rows_of(table.read_bytes(), table))
        if not rows:  # an old set at --out must not be emptied for a slip in a table
            first = self.problems[0]
            raise ValueError(f"{table}, line {first.line}: {first.reason}")
        clips = []
        for (person, split), own in together(rows).items():
            pictures = [picture_path(self.root, row.file) for row in own]
            clips.append(self.clip_of(key_of(person, split), person, own, pictures=pictures))
        return clips

    def rows_of(self, data: bytes, path: Path, table: str = "", clip: str = "") -> list[LabelRow]:
        """Rows of a table of labels; a bad line is reported and left out.

        Args:
            data: the table.
            path: the file that it is, or lies in.
            table: its name in that file.
            clip: that it is of.
        """
        found = read_table(data, table or self.relative(path), self.threshold)
        for problem in found.problems:
            left_out = "" if problem.whole else "; row left out"
            self.report(path, f"{problem.reason}{left_out}", problem.line, clip)
        for note in [*found.notes, *([found.taken] if found.taken else [])]:  # the same in all tables of all shards
            self.choose(f"{'tables in the shards' if table else self.relative(path)}: {note}")
        return found.rows

    def settled(self, path: Path, rows: Sequence[LabelRow]) -> list[LabelRow]:
        """The rows of a whole set that agree with each other; the others are reported."""
        found = settle(rows)
        for problem in found.problems:
            self.report(path, f"{problem.reason}; row left out", problem.line)
        for note in found.notes:
            self.choose(f"{self.relative(path)}: {note}")
        if found.rows and not is_coded(found.rows):
            self.choose(f"{self.relative(path)}: nothing is coded in any row: faces without labels")
        return found.rows

    def clip_of(self, key: str, person: str, rows: Sequence[LabelRow], **where: Any) -> Clip:
        """A clip of rows of one person in one split."""
        numbers = [row.frame for row in rows if row.frame is not None]
        if len(set(numbers)) < len(rows):
            if numbers:
                self.choose(f"{key}: frame numbers are missing or stand twice; counted in the order of the table")
            numbers = list(range(len(rows)))
        clip = Clip(
            key=key,
            subject=f"{self.set_name}:{person or '*'}",
            frames=np.array(numbers),
            au_intensity=np.stack([row.au_intensity for row in rows]),
            au_occurrence=np.stack([row.au_occurrence for row in rows]),
            emotion=np.array([row.emotion for row in rows]),
            landmarks=np.stack([row.landmarks for row in rows]),
            pose=np.stack([row.pose for row in rows]),
            split=rows[0].split,
            **where,
        )
        return clip.select(np.argsort(numbers, kind="stable"))


def together(rows: Sequence[LabelRow]) -> dict[tuple[str, str], list[LabelRow]]:
    """Rows by person and split: faces of nobody in particular may stand in all of them."""
    groups: dict[tuple[str, str], list[LabelRow]] = {}
    for row in rows:
        groups.setdefault((row.subject, row.split), []).append(row)
    return groups


def key_of(person: str, split: str) -> str:
    """The key of the clip of a person, or of everybody without a name in a split."""
    return person or ("-".join(filter(None, ("pictures", split))))


READER = Folder
