"""Sets that lit_faces made itself: crops with landmarks, as a folder with ``labels.csv`` or as tar shards.

``python -m lit_faces.render set`` writes both. The crops are taken as they are.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_modules.folder import TABLE, Folder
from data_modules.reader import Clip, Problem
from lit_faces.core.pictures import PictureError, decode


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
        records: list[dict[str, Any]] = []
        offsets: dict[str, int] = {}
        try:
            with tarfile.open(shard) as tar:
                for member in tar:
                    key, _, suffix = member.name.rpartition(".")
                    if suffix.lower() in ("png", "jpg", "jpeg"):
                        offsets[key] = member.offset_data
                    elif suffix.lower() == "csv" and (handle := tar.extractfile(member)) is not None:
                        text = handle.read().decode("utf-8-sig", errors="replace")
                        records += [{**record, "key": key} for record in self.records(text, shard, key)]
        except (tarfile.TarError, OSError, EOFError) as error:
            self.report(shard, f"damaged or cut short after {len(records)} faces ({error}); write it again")
        missing = [record["key"] for record in records if record["key"] not in offsets]
        if missing:
            self.report(shard, f"no picture beside the labels of {missing[0]}", clip=missing[0])
        records = [record for record in records if record["key"] in offsets]
        clips = []
        for person in dict.fromkeys(record["subject"] for record in records):
            own = [record for record in records if record["subject"] == person]
            # the number in the key: a person may go on in the next shard
            for record in own:
                record["frame"] = int(record["key"]) if record["key"].isdigit() else record["frame"]
            clip = self.clip_of(person, own, container=shard, positions=np.array([offsets[r["key"]] for r in own]))
            clip.key = f"{shard.stem}/{clip.key}"
            clips.append(clip)
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
