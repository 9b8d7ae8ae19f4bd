"""EmotioNet (Benitez-Quiroz et al. 2016): AUs present or absent on pictures from the web, which users download.

::

    EmotioNet_FACS_aws_2020_24600.csv    columns URL, "URL orig", 'AU 1' ... 'AU 60'; 0, 1, 999 = not coded
    *.txt                                 older lists: url, original url, AU1..AU60 between tabs
    any folders/N_0000000001_00001.jpg    flat or nested

Nobody knows who is on a picture: each is a subject of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_modules.reader import PICTURES, Clip, Floats, Reader, in_groups, not_coded
from lit_faces.core.csv_files import split_line, to_number
from lit_faces.core.facs import AU_INDEX, AUS

_DEPTH = 4
_AUS_OF_LISTS = range(1, 61)


@dataclass
class EmotioNet(Reader):
    """Reader of EmotioNet.

    Args:
        root: folder that holds the lists and the pictures.
    """

    name = "emotionet"
    title = "EmotioNet"
    aus = AUS

    def clips(self) -> list[Clip]:
        """Clips of a thousand pictures of each list."""
        folders = [self.root, *self._all_folders(self.root, _DEPTH)]
        lists = [p for f in folders for _, p in self.files(f, r"emotionet_facs.*\.csv|.*\.txt|.*aws.*\.csv")]
        lists = [path for path in lists if "readme" not in path.name.lower()]
        if not lists:
            raise FileNotFoundError(f"EmotioNet: no list (EmotioNet_FACS_aws_2020_24600.csv, *.txt) under {self.root}")
        here: dict[str, Path] = {}
        for match, path in (pair for f in folders for pair in self.files(f, rf"(.*){PICTURES}")):
            if here.setdefault(match[1].lower(), path) != path:
                self.choose(f"{self.relative(here[match[1].lower()])} taken, {self.relative(path)} left")
        self.choose("999 is not coded; every picture is its own subject; AUs outside our 19 are left out")
        clips, seen = [], set()
        names = [path.stem for path in lists]
        for path in lists:
            key = path.stem if names.count(path.stem) == 1 else self.relative(path.with_suffix("")).replace("/", "_")
            rows = self._csv(path) if path.suffix.lower() == ".csv" else self._text(path)
            known, missing = [], []
            for line, stem, present in rows:
                if stem.lower() in seen:
                    self.report(path, f"{stem} stands twice; the first counts", line)
                elif stem.lower() not in here:
                    missing.append((line, stem))
                else:
                    seen.add(stem.lower())
                    known.append((line, here[stem.lower()], present))
            if missing:
                some = ", ".join(stem for _, stem in missing[:5])
                lost = [line for line, _ in missing]
                self.report(path, f"{len(missing):,} pictures were not downloaded: {some} ...", missing[0][0], "", lost)
            if known:
                clips += in_groups(
                    Clip(
                        key=key,
                        subject="emotionet:*",
                        frames=np.array([line for line, _, _ in known]),
                        pictures=[picture for _, picture, _ in known],
                        au_occurrence=np.stack([present for _, _, present in known]),
                        split="train",
                    )
                )
        unlisted = sorted(set(here) - seen)
        if unlisted:
            self.report(self.root, f"{len(unlisted):,} pictures are in no list: {', '.join(unlisted[:3])} ...")
        return clips

    def _all_folders(self, folder: Path, depth: int) -> list[Path]:
        below = self.children(folder) if depth else []
        return below + [inner for child in below for inner in self._all_folders(child, depth - 1)]

    def _csv(self, path: Path) -> list[tuple[int, str, Floats]]:
        lines = self.lines(path)
        if not lines:
            if lines is not None:
                self.report(path, "the file is empty")
            return []
        names = [name.strip().strip("'\"").strip() for name in _cells(lines[0])]
        columns = {
            place: int(found[1]) for place, name in enumerate(names) if (found := re.fullmatch(r"AU ?(\d+)", name))
        }
        if "URL" not in names or not columns:
            self.report(path, f"expected the columns URL and 'AU 1'..., found {lines[0][:40]!r}", 1)
            return []
        strange = [name for place, name in enumerate(names) if place not in columns and not name.startswith("URL")]
        if strange:
            self.report(path, f"line 1: {', '.join(strange)[:40]!r} is neither a URL nor an AU; its codes are lost", 1)
        url = names.index("URL")
        return self._rows(
            path, [(i, _cells(line)) for i, line in enumerate(lines[1:], 2) if line.strip()], url, columns
        )

    def _text(self, path: Path) -> list[tuple[int, str, Floats]]:
        lines = self.lines(path)
        if lines is not None and not any(map(str.strip, lines)):
            self.report(path, "the file is empty")
        cells = [(i, line.split("\t")) for i, line in enumerate(lines or [], 1) if line.strip()]
        return self._rows(path, cells, 0, {number + 1: number for number in _AUS_OF_LISTS})

    def _rows(
        self, path: Path, table: list[tuple[int, list[str]]], url: int, columns: dict[int, int]
    ) -> list[tuple[int, str, Floats]]:
        rows, bad = [], []
        for line, row in table:
            parsed = self._row(row, url, columns)
            if parsed is None:
                bad.append((line, ",".join(row)[:40]))
            else:
                rows.append((line, *parsed))
        if bad:
            more = f" (and {len(bad) - 1:,} more lines)" if len(bad) > 1 else ""
            self.report(
                path, f"expected a URL and codes 0, 1 or 999, found {bad[0][1]!r}{more}; line left out",
                bad[0][0], "", [line for line, _ in bad],
            )  # fmt: skip
        return rows

    def _row(self, row: list[str], url: int, columns: dict[int, int]) -> tuple[str, Floats] | None:
        present = not_coded(1)[0]
        try:
            stem = Path(row[url].strip().strip("'\"").split("?")[0]).stem
            if not stem:
                raise ValueError
            for place, au in columns.items():
                value = to_number(row[place])
                if value not in (0.0, 1.0, 999.0):
                    raise ValueError
                if au in AU_INDEX and value != 999.0:
                    present[AU_INDEX[au]] = value
        except (ValueError, IndexError):
            return None
        return stem, present


def _cells(line: str) -> list[str]:
    """Cells of one line: a stray quote must not swallow the lines after it."""
    try:
        return split_line(line)
    except ValueError:  # a stray quote: no cell of it is sure
        return [line]


READER = EmotioNet
