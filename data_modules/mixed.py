"""Rendered faces, folders of labelled pictures and photographs of real people, mixed into every training batch.

::

    batch = rendered faces (as many as their ``batch_size``)      AUs, expressions: exact
          + faces of each folder (a number of them a batch)       what its labels.csv says; AUs can be masked
          + resting and smiling people (pairs, neutrals)          what is certain, and orders between rows

Validation and test are those of the rendered faces: scale and thresholds are chosen on them. What stands in a batch
follows from the seed and the rendered faces' indices alone, so that a killed run goes on with the same batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from data_modules.base import BatchDataset, FaceDataModule
from data_modules.rendered import RenderedFaces
from data_modules.smiles import LICENCES, Smiles, SmilingPeople, some_of
from lit_faces.core.csv_files import read_own
from lit_faces.core.facs import index_of
from lit_faces.core.inputs import read_file
from lit_faces.core.labelled import read_labelled
from lit_faces.core.orders import OrderedFaces, Orders
from lit_faces.core.sample import FaceBatch, joined
from lit_faces.core.seeding import generator_for
from lit_faces.core.tables import TABLE

_PEOPLE = "people.csv"  # beside the labels of rendered photographs: what is known of each person
_STREAM = 0x313D  # keeps the draws of the mixture apart from others of the same seed


@dataclass
class FolderShare:
    """A folder of labelled face crops in the mixture, kept in memory (48 KB a face at 128 pixels).

    Attributes:
        path: folder with ``labels.csv``, or tar shards; see :mod:`lit_faces.core.labelled`.
        faces: how many stand in a training batch.
        together: how many of these are one person's, for detectors that read a face beside others of the person (the
            first at rest where the folder has such); 1 draws faces without looking at who they are.
        masked_aus: AUs whose labels are not learnt from.
        invented: nobody in it exists (rendered heads), so that no fold of real people leaves anybody out.
    """

    path: str
    faces: int = 16
    together: int = 1
    invented: bool = False
    masked_aus: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.faces < 1 or self.together < 1 or self.faces % self.together:
            raise ValueError(
                f"{self.path}: faces and together: expected 1 or more, and together to divide faces, got {self.faces} "
                f"and {self.together}"
            )
        index_of(self.masked_aus)

    def read(self, size: int, without_fold: int | None = None) -> FaceBatch:
        """Its faces, but those of a fold.

        Raises:
            FileNotFoundError: no such folder.
            ValueError: damaged, nothing coded, or no fold where one is needed.
        """
        faces = read_labelled(self.path, size, need="any")
        if without_fold is not None and not self.invented:
            folds = _folds(Path(self.path), faces.subject)
            faces = faces.select(torch.tensor([fold != without_fold for fold in folds]))
        for values in (faces.au_intensity, faces.au_occurrence):
            values[:, index_of(self.masked_aus)] = float("nan")
        return faces


def _folds(folder: Path, subjects: Sequence[str]) -> list[int]:
    """The fold of every face: of the column ``fold`` of its row, or of its person in ``people.csv``.

    Raises:
        ValueError: no such column in either, or a face whose fold is not said.
    """
    rows = _rows(folder / TABLE)
    if rows and "fold" not in rows[0] and (folder / _PEOPLE).is_file():
        of_person = {row.get("subject", ""): row.get("fold", "") for row in _rows(folder / _PEOPLE)}
        found = [of_person.get(name) or of_person.get(name.rpartition(":")[2], "") for name in subjects]
    else:
        found = [row.get("fold", "") for row in rows]
    lacking = [subject for subject, fold in zip(subjects, found) if not fold.strip().isdigit()]
    if lacking or len(found) != len(subjects):
        who = f" of {lacking[0]!r}" if lacking else ""
        raise ValueError(
            f"{folder}: no fold{who} in {TABLE} or {_PEOPLE}: a column fold says which part of the people is held out"
        )
    return [int(fold) for fold in found]


def _rows(table: Path) -> list[dict[str, str]]:
    return read_own(read_file(table, "table"))[1]


def _numbers(what: str, faces: FaceBatch) -> dict[str, Any]:
    return {"what": what, "faces": len(faces), "people": len(set(faces.subject))}


class FolderFaces:
    """The faces of a folder in memory, and how they are drawn for a batch."""

    def __init__(self, faces: FaceBatch, share: FolderShare) -> None:
        self.faces, self.share = faces, share
        rows: dict[str, list[int]] = {}
        for row, subject in enumerate(faces.subject):
            rows.setdefault(subject, []).append(row)
        rests = (faces.au_intensity.nan_to_num(0.0) <= 0).all(1).tolist()
        self.people = [(found, [row for row in found if rests[row]]) for found in rows.values()]

    def draw(self, generator: torch.Generator) -> FaceBatch:
        """The faces of one training batch."""
        count, together = self.share.faces, self.share.together
        if together == 1:
            return self.faces.select(torch.randint(0, len(self.faces), (count,), generator=generator))
        rows = []
        for person in some_of(len(self.people), count // together, generator).tolist():
            everything, resting = self.people[person]
            picks = torch.randint(0, 2**31, (together,), generator=generator).tolist()
            rows += [everything[pick % len(everything)] for pick in picks]
            if resting:
                rows[-together] = resting[picks[0] % len(resting)]
        return self.faces.select(torch.tensor(rows, dtype=torch.int64))


class MixedSet:
    """The training batches: index ``k`` is rendered face ``k``; the others are drawn beside it.

    Args:
        rendered: the rendered faces.
        folders: faces of each folder, and how many of them stand in a batch, and how many together.
        people: photographed people, or None.
        seed: of the draws.
    """

    def __init__(
        self,
        rendered: BatchDataset,
        folders: Sequence[FolderFaces],
        people: SmilingPeople | None,
        seed: int,
    ) -> None:
        self.rendered, self.folders, self.people, self.seed = rendered, list(folders), people, seed

    def __len__(self) -> int:
        return len(self.rendered)

    def __getitems__(self, indices: Sequence[int]) -> OrderedFaces:
        """One batch; rendered faces last, because what is known of pairs counts rows from 0."""
        faces: FaceBatch = self.rendered.__getitems__(indices)
        generator = generator_for(self.seed, _STREAM, int(indices[0]))
        drawn, orders = [], Orders()
        if self.people is not None:
            found = self.people.draw(generator, behind=faces.image)
            drawn.append(found.faces)
            orders = found.orders
        drawn += [folder.draw(generator) for folder in self.folders]
        return OrderedFaces(joined(*drawn, faces), orders)


class MixedFaces(FaceDataModule):
    """Rendered faces and what else a detector shall learn from.

    Args:
        rendered: the rendered faces, mode ``frames`` or ``people``; length of an epoch, validation and test are theirs.
        folders: folders of labelled crops, for example photographs with drawn AUs.
        smiles: real people at rest and smiling.
        held_out_part: 1, 2 or 3: nobody of fold 0, 1 or 2 is seen in the photographs and the folders, which must say
            the folds of their people then; None sees all. ``python -m lit_faces.folds`` goes through the three.
        seed: of the mixture.

    Raises:
        ValueError: names the argument that cannot be.
    """

    def __init__(
        self,
        rendered: RenderedFaces,
        folders: list[FolderShare] = [],  # noqa: B006  (never changed; jsonargparse shows it as the default)
        smiles: Smiles | None = None,
        held_out_part: int | None = None,
        seed: int = 0,
    ) -> None:
        if rendered.mode == "pairs":
            raise ValueError("rendered: mode 'frames' or 'people' is needed, got 'pairs'")
        if held_out_part not in (None, 1, 2, 3):
            raise ValueError(f"held_out_part: expected 1, 2, 3 or null, got {held_out_part}")
        super().__init__(rendered.batch_size, rendered.eval_batch_size, seed, rendered.num_workers)
        self.rendered, self.folders, self.smiles = rendered, folders, smiles
        self.without_fold = None if held_out_part is None else held_out_part - 1

    def prepare_data(self) -> None:
        """Render what is missing."""
        self._tell_rendered()
        self.rendered.prepare_data()

    def setup(self, stage: str) -> None:
        """Open the caches; read folders and photographs where they are trained on."""
        self._tell_rendered()
        self.rendered.setup(stage)
        self.val_set, self.test_set = self.rendered.val_set, self.rendered.test_set
        if stage == "fit" and self.train_set is None:
            self.train_set = self._mixture()

    def _tell_rendered(self) -> None:
        self.rendered.trainer = self.trainer  # it looks there for ranks and for the coming stage

    def _mixture(self) -> MixedSet:
        size = int(self.rendered.renderer_options["size"])
        folders = [FolderFaces(share.read(size, self.without_fold), share) for share in self.folders]
        people = None if self.smiles is None else SmilingPeople(self.smiles, size, self.without_fold)
        rendered: Any = self.rendered.train_set
        if self.trainer is None or self.trainer.is_global_zero:
            told = [f"{len(rendered):,} rendered faces", *(f"{len(one.faces):,} of a folder" for one in folders)]
            print(f"train: {'; '.join(told)}; {0 if people is None else len(people)} photographs", flush=True)
        return MixedSet(rendered, folders, people, self.seed)

    def seen(self) -> list[dict[str, Any]]:
        """What is trained on, for the card of the weights: numbers and licences, nobody's name."""
        found = self.rendered.seen()
        if isinstance(self.train_set, MixedSet):
            for one in self.train_set.folders:
                what = "labelled crops of people who do not exist" if one.share.invented else "labelled crops"
                found.append(_numbers(what, one.faces))
            if self.smiles is not None and self.train_set.people is not None:
                about = {"set": self.smiles.reader, "licence": LICENCES.get(self.smiles.reader, "the set's own")}
                found.append({**_numbers("photographs", self.train_set.people.faces), **about})
        return found if self.without_fold is None else [*found, {"what": "fold left out", "fold": self.without_fold}]

    def val_dataloader(self) -> DataLoader:
        """Rendered people of the validation split."""
        return self.rendered.val_dataloader()

    def test_dataloader(self) -> DataLoader:
        """Rendered people of the test split."""
        return self.rendered.test_dataloader()
