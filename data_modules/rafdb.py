"""RAF-DB, basic expressions (Li et al. 2017): 12,271 training and 3,068 test pictures from the web.

::

    basic/EmoLabel/list_patition_label.txt               ("patition" is how they spell it) rows "train_00001.jpg 5"
    basic/Image/aligned/train_00001_aligned.jpg          basic/Image/original/train_00001.jpg

Nobody knows who is on a picture: each is a subject of its own. RAF-AU is not read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_modules.reader import PICTURES, Clip, Reader, in_groups, option
from lit_faces.core.facs import EMOTION_INDEX

_EMOTIONS = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")  # codes 1..7
_ROW = re.compile(r"\s*((train|test)_0*(\d{1,9})\.jpe?g)\s+(\d{1,9})\s*", re.IGNORECASE)


@dataclass
class RAFDB(Reader):
    """Reader of RAF-DB.

    Args:
        root: folder that holds ``basic``, or its content.
        pictures_of: ``aligned`` (100 px crops of the authors), or ``original``.
    """

    name = "rafdb"
    title = "RAF-DB"
    cropped = True

    pictures_of: str = option("aligned", "which pictures", ("aligned", "original"))

    def clips(self) -> list[Clip]:
        """Clips of a thousand pictures, training and test apart."""
        labels = self.need("EmoLabel folder", "basic/EmoLabel", self.folders("EmoLabel"))
        listed = self.files(labels, r"list_parti?tion_label\.txt|list_patition_label\.txt")
        if not listed:
            raise FileNotFoundError(f"RAF-DB: no list_patition_label.txt in {labels}; unpack basic.zip there")
        folder = self.need(
            f"Image/{self.pictures_of} folder", f"{self.pictures_of}.zip", self.folders(self.pictures_of)
        )
        here = {match[1].lower(): path for match, path in self.files(folder, rf"(.*){PICTURES}")}
        self.choose("no subject numbers: every picture is its own subject; train and test are the authors'")
        path = listed[0][1]
        rows: dict[str, dict[int, tuple[Path, int]]] = {"train": {}, "test": {}}
        for number, line in enumerate(self.lines(path) or [], 1):
            found = _ROW.fullmatch(line)
            if not found or not 1 <= int(found[4]) <= len(_EMOTIONS):
                if line.strip():
                    self.report(path, f"expected 'train_00001.jpg 1..7', found {line[:40]!r}; line left out", number)
                continue
            stem = found[1].rpartition(".")[0] + ("_aligned" if self.pictures_of == "aligned" else "")
            picture = here.get(stem.lower(), folder / f"{stem}.jpg")
            if int(found[3]) in rows[found[2].lower()]:
                self.report(path, f"{found[1]} stands twice; the first counts", number)
                continue
            rows[found[2].lower()][int(found[3])] = picture, EMOTION_INDEX[_EMOTIONS[int(found[4]) - 1]]
        named = {picture for own in rows.values() for picture, _ in own.values()}
        unlabelled = [picture.name for picture in here.values() if picture not in named]
        if unlabelled:
            self.report(
                path, f"{len(unlabelled):,} pictures have no label: {', '.join(unlabelled[:3])} ...; copy it again"
            )
        clips = []
        for split, own in rows.items():
            numbers = sorted(own)
            pictures, emotions = [own[n][0] for n in numbers], np.array([own[n][1] for n in numbers], dtype=np.int64)
            clips += in_groups(
                Clip(split, "rafdb:*", np.array(numbers), pictures=pictures, emotion=emotions, split=split)
            )
        return clips


READER = RAFDB
