"""Sets that lit_faces made itself: crops with landmarks, as a folder with ``labels.csv`` or as tar shards.

``python -m lit_faces.render set`` writes both. The crops are taken as they are.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_modules.folder import Folder, key_of, together
from data_modules.reader import Clip, Problem
from lit_faces.core.pictures import PictureError, decode
from lit_faces.core.tables import TABLE, LabelRow


@dataclass
class Generated(Folder):
    """Reader of rendered and generated sets; the arguments are the folder's."""

    name = "generated"
    title = "the generated set"
    aligned = True

    def clips(self) -> list[Clip]:
        """A clip a person; of tar shards, a clip a person and shard."""
        if (self.root / TABLE).exists():
            return self._of_table(self.root / TABLE)
        shards = [path for _, path in self.files(self.root, r".*\.tar")]
        if not shards:
            raise FileNotFoundError(
                f"{self.root}: expected {TABLE} or *.tar; `python -m lit_faces.render set` writes them"
            )
        return [clip for shard in shards for clip in self._of_shard(shard)]

    def _of_shard(self, shard: Path) -> list[Clip]:
        rows: list[LabelRow] = []
        offsets: dict[str, int] = {}
        try:
            with tarfile.open(shard) as tar:
                for member in tar:
                    key, _, suffix = member.name.rpartition(".")
                    if suffix.lower() in ("png", "jpg", "jpeg"):
                        offsets[key] = member.offset_data
                    elif suffix.lower() == "csv" and (handle := tar.extractfile(member)) is not None:
                        rows += self.rows_of(handle.read(), shard, key, key)
        except (tarfile.TarError, OSError, EOFError) as error:
            self.report(shard, f"damaged or cut short after {len(rows)} faces ({error}); write it again")
        missing = [row.table for row in rows if row.table not in offsets]
        if missing:
            self.report(shard, f"no picture beside the labels of {missing[0]}", clip=missing[0])
        clips = []
        rows = self.settled(shard, [row for row in rows if row.table in offsets])
        for (person, split), own in together(rows).items():
            # the number in the key: a person may go on in the next shard
            for row in own:
                row.frame = int(row.table) if row.table.isdigit() else row.frame
            key = f"{shard.stem}/{key_of(person, split)}"
            positions = np.array([offsets[row.table] for row in own])
            clips.append(self.clip_of(key, person, own, container=shard, positions=positions))
        return clips

    def pictures(self, clip: Clip) -> Iterator[tuple[int, NDArray[np.uint8] | None, Problem | None]]:
        """From files, or from the shard at its offsets."""
        if clip.container is None or clip.positions is None:
            yield from super().pictures(clip)
            return
        with clip.container.open("rb") as handle:
            for row, offset in enumerate(clip.positions):
                handle.seek(int(offset) - 512)
                header = tarfile.TarInfo.frombuf(handle.read(512), "utf-8", "surrogateescape")
                try:
                    yield row, decode(handle.read(header.size), header.name), None
                except PictureError as error:
                    yield row, None, self.problem(clip.container, str(error), clip, clip.frames[[row]])


READER = Generated
