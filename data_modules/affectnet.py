"""AffectNet (Mollahosseini et al. 2017), both releases: expressions of faces from the web.

::

    2016   Manually_Annotated_Images/<dir>/<hash>.jpg    training.csv, validation.csv (with face boxes and 68 points)
    2021   train_set/images/0.jpg    train_set/annotations/0_exp.npy, 0_lnd.npy    (val_set likewise)

Valence and arousal are not read. Nobody knows who is on a picture: each is a subject of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_modules.reader import PICTURES, Clip, Floats, Reader, in_groups, option
from lit_faces.core.csv_files import to_number
from lit_faces.core.facs import EMOTION_INDEX

_EMOTIONS = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt")
_NONE, _UNCERTAIN, _NO_FACE = 8, 9, 10
_MOST_PIXELS = 1e5
_COLUMNS = ("subDirectory_filePath", "expression")
_OPTIONAL = ("face_x", "face_y", "face_width", "face_height", "facial_landmarks")


@dataclass
class AffectNet(Reader):
    """Reader of AffectNet.

    Args:
        root: folder that holds the unpacked archives.
        release: ``2016``, ``2021``, or ``auto``: what is found.
        uncertain: ``drop`` faces whose expression is "none" or "uncertain", or ``keep`` them without a label.
    """

    name = "affectnet"
    title = "AffectNet"
    cropped = True
    has_landmarks = True

    release: str = option("auto", "which release", ("auto", "2016", "2021"))
    uncertain: str = option("drop", "faces whose expression is none or uncertain", ("drop", "keep"))

    def clips(self) -> list[Clip]:
        """Clips of a thousand pictures, training and validation apart."""
        self.choose("val is the authors' validation set, which papers report on; every picture is its own subject")
        new = {name: self.folders(f"{name}_set") for name in ("train", "val")}
        if self.release != "2016" and any(new.values()):
            self.choose("release 2021: *_set/images and *_set/annotations")
            return [clip for name, found in new.items() if found for clip in self._of_2021(name, found[0])]
        images = self.folders("Manually_Annotated_Images")
        if self.release == "2021" or not images:
            raise FileNotFoundError(
                f"AffectNet: neither train_set/images nor Manually_Annotated_Images under {self.root}; unpack there"
            )
        self.choose("release 2016: Manually_Annotated_Images with training.csv and validation.csv")
        clips = []
        for split, name in (("train", "training"), ("val", "validation")):
            tables = [p for f in [self.root, *self.folders(r".*", depth=2)] for _, p in self.files(f, rf"{name}\.csv")]
            if not tables:
                self.report(self.root / f"{name}.csv", "the file is missing: unpack it there")
                continue
            clips += self._of_2016(split, tables[0], images[0])
        return clips

    def _emotion(self, code: float) -> int | None:
        """Our index, -1 without a label, None to leave the picture out.

        Raises:
            ValueError: no such code.
        """
        if code in range(len(_EMOTIONS)):
            return EMOTION_INDEX[_EMOTIONS[int(code)]]
        if code in (_NONE, _UNCERTAIN):
            return -1 if self.uncertain == "keep" else None
        if code == _NO_FACE:
            return None
        raise ValueError(f"expected an expression 0..10, found {code:g}")

    def _of_2016(self, split: str, table: Path, images: Path) -> list[Clip]:
        lines = self.lines(table)
        if lines is None:
            return []
        columns = _cells(lines[0]) if lines else []
        missing = [name for name in _COLUMNS if name not in columns]
        if missing:
            self.report(table, f"line 1 has no column {missing[0]}", 1)
            return []
        lacking = [name for name in _OPTIONAL if name not in columns]
        if lacking:
            self.report(table, f"line 1 has no column {lacking[0]}: faces are found without it", 1)
        rows, left_out = [], 0
        listed: dict[Path, dict[str, Path]] = {}
        for number, line in enumerate(lines[1:], 2):
            if not line.strip():
                continue
            cells = _cells(line)
            row = dict.fromkeys(columns, "") | dict(zip(columns, cells))
            try:
                if any(cells[len(columns) :]):
                    raise ValueError(f"expected {len(columns)} columns, found {len(cells)}")
                name = row["subDirectory_filePath"]
                emotion = self._emotion(to_number(row["expression"]))
                if not name:
                    raise ValueError("no picture is named")
                box = self._box(row)
                marks = _points(row.get("facial_landmarks") or "")
            except ValueError as error:
                self.report(table, f"{error}; line left out", number)
                continue
            if emotion is None:
                left_out += 1
                continue
            rows.append((number, _exact(images / name, listed), emotion, box, marks))
        if left_out:
            self.choose(f"{split}: {left_out:,} faces without an expression, or no face at all, are left out")
        if not rows:
            return []
        numbers, pictures, emotions, boxes, points = zip(*rows)
        return in_groups(
            Clip(
                split, "affectnet:*", np.array(numbers), list(pictures), emotion=np.array(emotions),
                boxes=np.stack(boxes), landmarks=np.stack(points), split=split,
            )
        )  # fmt: skip

    def _box(self, row: dict[str, str]) -> Floats:
        """Left, top, right, bottom; NaN where it is not said."""
        values = [row.get(f"face_{name}") or "nan" for name in ("x", "y", "width", "height")]
        try:
            x, y, width, height = map(to_number, values)
            if any(abs(value) > _MOST_PIXELS for value in (x, y, width, height)):
                raise ValueError
        except ValueError:
            raise ValueError(f"expected a face box in numbers, found {' '.join(values)[:40]!r}") from None
        return np.array([x, y, x + width - 1, y + height - 1], dtype=np.float32)

    def _of_2021(self, split: str, folder: Path) -> list[Clip]:
        images, notes = folder / "images", folder / "annotations"
        pictures = {int(m[1]): path for m, path in self.files(images, rf"(\d+){PICTURES}")}
        labels = {int(m[1]): path for m, path in self.files(notes, r"(\d+)_exp\.npy")}
        for number in sorted(set(pictures) - set(labels))[:20]:
            self.report(notes / f"{number}_exp.npy", "no expression for this picture", frames=[number])
        more = len(set(pictures) - set(labels)) - 20
        if more > 0:
            self.report(notes, f"no expression for {more} more pictures", frames=sorted(set(pictures) - set(labels)))
        known, left_out = {}, 0
        for number in sorted(labels):
            try:
                emotion = self._emotion(float(np.load(labels[number], allow_pickle=False).reshape(-1)[0]))
            except (OSError, ValueError, IndexError, EOFError) as error:
                self.report(labels[number], f"no expression can be read ({str(error)[:60]})", frames=[number])
                continue
            if emotion is None:
                left_out += 1
            else:
                known[number] = pictures.get(number, images / f"{number}.jpg"), emotion
        if left_out:
            self.choose(f"{split}: {left_out:,} faces without an expression are left out")
        numbers = sorted(known)
        pictures_of = [known[n][0] for n in numbers]
        emotions = np.array([known[n][1] for n in numbers], dtype=np.int64)
        return in_groups(
            Clip(split, "affectnet:*", np.array(numbers), pictures=pictures_of, emotion=emotions, split=split)
        )

    def own_landmarks(self, clip: Clip) -> Floats:
        """68 points, from the table (2016) or from the files beside the expressions (2021)."""
        if clip.landmarks is not None:
            return clip.landmarks
        points = np.full((len(clip), 68, 2), np.nan, dtype=np.float32)
        for row, (frame, picture) in enumerate(zip(clip.frames, clip.pictures)):
            path = picture.parent.parent / "annotations" / f"{frame}_lnd.npy"
            try:
                points[row] = np.load(path, allow_pickle=False).astype(np.float32).reshape(68, 2)
            except (OSError, ValueError, EOFError) as error:
                self.report(path, f"landmarks cannot be read ({str(error)[:60]})", 0, clip.key, [frame])
        return points


def _points(text: str) -> Floats:
    """``x;y;x;y...`` as (68, 2); NaN where there are none."""
    if not text.strip():
        return np.full((68, 2), np.nan, dtype=np.float32)
    values = text.split(";")
    try:
        points = np.array([to_number(value) for value in values]).reshape(68, 2)
        if (np.abs(points) > _MOST_PIXELS).any():
            raise ValueError
        return points.astype(np.float32)
    except ValueError:
        raise ValueError(f"expected 136 coordinates between semicolons, found {text[:30]!r}") from None


def _cells(line: str) -> list[str]:
    """No cell holds a comma: a stray quote must not swallow the lines after it."""
    return [cell.strip() for cell in line.replace('"', "").split(",")]


def _exact(path: Path, listed: dict[Path, dict[str, Path]]) -> Path:
    """The file itself, or one that differs in case or suffix; only then its folder is listed, once."""
    try:
        if path.is_file():
            return path
        if path.parent not in listed:
            listed[path.parent] = {other.stem.lower(): other for other in sorted(path.parent.iterdir())}
    except (OSError, ValueError):  # no such folder, a name that is too long
        return path
    return listed[path.parent].get(path.stem.lower(), path)


READER = AffectNet
