"""Prepared sets (``python -m lit_faces.prepare``), several mixed into one stream, split by subject.

AUs are aligned by name: a source that does not code an AU gives NaN there, and losses and metrics leave it out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from data_modules.base import FaceDataModule
from data_modules.folds import Split, hold_out, leave_one_out, take_validation
from data_modules.mixture import Draw, MixtureBatches, Sequential
from data_modules.transforms import FaceAugment
from lit_faces.core.facs import index_of
from lit_faces.core.sample import TENSORS, FaceBatch
from lit_faces.core.shards import ShardSet

STAGES = ("train", "val", "test")
_USES = ("folds", "folds_val", "own", "train", "val", "test")


@dataclass
class Source:
    """One prepared set in a mixture.

    Attributes:
        path: folder, or URL of fsspec.
        weight: share in the training stream; None at every source means every face once an epoch.
        use: who trains, chooses and is tested on:
            ``folds``: the held-out part (or subject) is tested, some training people validate;
            ``folds_val``: the held-out part validates, the others train (for tests on another set);
            ``own``: the set's own split; people who train give the validation where it has none;
            ``train``, ``val``, ``test``: everybody.
        every: train on every n-th frame of a recording (neighbours are nearly the same picture).
    """

    path: str
    weight: float | None = None
    use: Literal["folds", "folds_val", "own", "train", "val", "test"] = "folds"
    every: int = 1


class Faces:
    """The faces of one split, from several prepared sets.

    Args:
        sets: prepared sets.
        rows: rows of each set in this split.
        size: side of the crops, pixels; None means as the first set was prepared.
        augment: augmentation; what it does follows from (seed, source, row, how often the row came).
        seed: of the augmentation.
        aus: columns whose labels are used; None means all.
        threads: threads that decode a batch.
    """

    def __init__(
        self,
        sets: Sequence[ShardSet],
        rows: Sequence[NDArray[np.int64]],
        size: int | None = None,
        augment: FaceAugment | None = None,
        seed: int = 0,
        aus: Sequence[int] | None = None,
        threads: int = 1,
    ) -> None:
        self.threads = threads
        self.sets, self.rows, self.augment, self.seed = list(sets), list(rows), augment, seed
        self.size = int(self.sets[0].manifest["size"]) if size is None else size
        self.hidden = None if aus is None else [i for i in range(19) if i not in index_of(list(aus))]

    @property
    def sizes(self) -> list[int]:
        """Faces of each source."""
        return [len(rows) for rows in self.rows]

    def __len__(self) -> int:
        return sum(self.sizes)

    def __getitems__(self, draws: Sequence[Draw]) -> FaceBatch:
        """One batch in the order of ``draws``."""
        source = np.array([draw[0] for draw in draws])
        row = np.array([draw[1] for draw in draws])
        parts, places = [], []
        for k in np.unique(source):
            here = np.flatnonzero(source == k)
            parts.append(self.sets[k].gather(self.rows[k][row[here]], self.size, self.threads))
            places.append(here)
        batch = parts[0] if len(parts) == 1 else _joined(parts, np.concatenate(places))
        if self.hidden:
            batch.au_intensity[:, self.hidden] = float("nan")
            batch.au_occurrence[:, self.hidden] = float("nan")
        if self.augment is not None:
            batch = self.augment(batch, [(self.seed, *draw) for draw in draws])
        return batch


def _joined(parts: Sequence[FaceBatch], places: NDArray[np.int64]) -> FaceBatch:
    """One batch; part p's items belong at ``places``."""
    order = torch.from_numpy(np.argsort(places))
    joined: dict[str, Any] = {}
    for item in fields(FaceBatch):
        values = [getattr(part, item.name) for part in parts]
        joined[item.name] = torch.cat(values) if item.name in TENSORS else [word for value in values for word in value]
    return FaceBatch(**joined).select(order)


class PreparedFaces(FaceDataModule):
    """Streams of prepared sets, people exclusive to their split.

    Args:
        sources: prepared sets.
        held_out_part: 1, 2 or 3: which published part is tested (papers number folds otherwise, see docs/data.md).
        held_out_subject: test this person alone instead, for example ``SN001`` (leave-one-subject-out).
        val_share: share of the training people who validate; test people never do.
        size: side of the crops, pixels; None means as prepared.
        aus: train and report on these AUs only; None means all that are coded.
        length: faces of a training epoch over all processes; None means as many as there are.
        eval_every: validate and test on every n-th frame of a recording.
        augment: augmentation of training faces; None means none (AUDetector has one of its own).
        seed: of the choice of validation people, the order and the augmentation.
        batch_size: training faces of one step of one process.
        eval_batch_size: faces of one evaluation step.
        drop_last: equal training batches; what is left over opens the next epoch.
        num_workers: loader processes; 0 decodes in this one, which on few cores is twice as fast (docs/data.md).
        decode_threads: threads that decode a batch, in each process.

    Raises:
        ValueError: names the argument that cannot be.
    """

    def __init__(
        self,
        sources: list[Source],
        held_out_part: int = 3,
        held_out_subject: str | None = None,
        val_share: float = 0.2,
        size: int | None = None,
        aus: list[int] | None = None,
        length: int | None = None,
        eval_every: int = 1,
        augment: FaceAugment | None = None,
        seed: int = 0,
        batch_size: int = 64,
        eval_batch_size: int = 64,
        drop_last: bool = False,
        num_workers: int = 0,
        decode_threads: int = 2,
    ) -> None:
        super().__init__(batch_size, eval_batch_size, seed, num_workers)
        if decode_threads < 1:
            raise ValueError(f"decode_threads: expected 1 or more, got {decode_threads}")
        self.decode_threads = decode_threads
        if not sources:
            raise ValueError("sources: at least one prepared set is needed")
        for source in sources:
            if source.use not in _USES:
                raise ValueError(f"{source.path}: use: expected one of {', '.join(_USES)}, got {source.use!r}")
            if source.every < 1:
                raise ValueError(f"{source.path}: every: expected 1 or more, got {source.every}")
        given = [source for source in sources if source.use not in ("val", "test")]
        if {source.weight is None for source in given} == {True, False}:
            raise ValueError("sources: give every training source a weight, or none")
        if held_out_part not in (1, 2, 3):
            raise ValueError(f"held_out_part: expected 1, 2 or 3, got {held_out_part}")
        if eval_every < 1 or (length is not None and length < 1):
            raise ValueError(f"eval_every and length: expected 1 or more, got {eval_every} and {length}")
        if aus is not None:
            index_of(aus)
        self.sources, self.part, self.subject, self.val_share = sources, held_out_part, held_out_subject, val_share
        self.size, self.aus, self.length, self.eval_every = size, aus, length, eval_every
        self.augment, self.drop_last = augment, drop_last
        self.people: dict[str, set[str]] = {}

    def prepare_data(self) -> None:
        """Open every set once, so that a missing one is said before anything is trained."""
        for source in self.sources:
            ShardSet(source.path)

    def setup(self, stage: str) -> None:
        """Open the sets, split their people, and say who is where."""
        if self.train_set is not None or self.test_set is not None:
            return
        sets = [ShardSet(source.path) for source in self.sources]
        splits = [self.split(source, faces) for source, faces in zip(self.sources, sets)]
        self.people = {name: set().union(*(getattr(split, name) for split in splits)) for name in STAGES}
        notes = self._keep_apart()
        for name in STAGES:
            rows = [self._rows(name, s, source, split) for s, source, split in zip(sets, self.sources, splits)]
            if sum(map(len, rows)):
                augment = self.augment if name == "train" else None
                setattr(
                    self, f"{name}_set", Faces(sets, rows, self.size, augment, self.seed, self.aus, self.decode_threads)
                )
            notes.append(f"{name}: " + self._summary(sets, rows))
        if self.trainer is None or self.trainer.is_global_zero:
            print("\n".join(notes), flush=True)

    def split(self, source: Source, faces: ShardSet) -> Split:
        """Who of a set trains, validates and is tested on."""
        everybody = faces.subjects()
        if source.use in STAGES:
            groups = {name: frozenset(everybody if name == source.use else ()) for name in STAGES}
            return Split(**groups)
        if source.use == "own":
            return self._own_split(source, faces)
        if self.subject is not None and source.use == "folds":
            return leave_one_out(everybody, self.subject, self.val_share, self.seed)
        split = hold_out(everybody, self.part, self.val_share, self.seed)
        if source.use == "folds_val":
            return Split(split.train | split.val, split.test, frozenset())
        return split

    def _own_split(self, source: Source, faces: ShardSet) -> Split:
        named = np.array([faces.words["split"][code] for code in faces.split])
        who = np.array(faces.words["subject"], dtype=object)
        groups = {name: set(who[np.unique(faces.subject[named == name])]) for name in STAGES}
        if not groups["train"]:
            raise ValueError(f"{source.path}: use 'own', but the set has no split of its own: use 'folds' or 'train'")
        groups["train"] -= groups["val"] | groups["test"]
        groups["val"] -= groups["test"]
        if not groups["val"]:
            # the test is fixed: held_out_part draws other validation people
            train, val = take_validation(sorted(groups["train"]), self.val_share, self.seed + self.part)
            return Split(train, val, frozenset(groups["test"]))
        if not groups["test"]:  # nobody may choose on the people of the report: the set's validation people are tested
            train, val = take_validation(sorted(groups["train"]), self.val_share, self.seed + self.part)
            return Split(train, val, frozenset(groups["val"]))
        return Split(*(frozenset(groups[name]) for name in STAGES))

    def _keep_apart(self) -> list[str]:
        """A person who is tested in one set must not train in another (DISFA+ are people of DISFA)."""
        notes = []
        for name, stronger in (("val", ("test",)), ("train", ("test", "val"))):
            both = self.people[name] & set().union(*(self.people[other] for other in stronger))
            if both:
                notes.append(f"left out of {name}, being in {' or '.join(stronger)} of another set: {len(both)} people")
                self.people[name] -= both
        return notes

    def _rows(self, name: str, faces: ShardSet, source: Source, split: Split) -> NDArray[np.int64]:
        wanted = getattr(split, name) & self.people[name]
        chosen = np.array([word in wanted for word in faces.words["subject"]], dtype=bool)
        rows = np.flatnonzero(chosen[faces.subject]) if len(faces) else np.empty(0, np.int64)
        every = source.every if name == "train" else self.eval_every
        if every == 1 or not len(rows):
            return rows
        clip = faces.clip[rows]
        first = np.flatnonzero(np.r_[True, clip[1:] != clip[:-1]])
        within = np.arange(len(rows)) - np.repeat(first, np.diff(np.r_[first, len(rows)]))
        return rows[within % every == 0]

    def _summary(self, sets: Sequence[ShardSet], rows: Sequence[NDArray[np.int64]]) -> str:
        told = []
        for source, faces, own in zip(self.sources, sets, rows):
            if len(own):
                people = len(np.unique(faces.subject[own]))
                weight = "" if source.weight is None else f", weight {source.weight:g}"
                told.append(f"{faces.manifest['title']} {len(own):,} faces of {people:,} people{weight}")
        return "; ".join(told) or "nobody"

    def train_dataloader(self) -> StatefulDataLoader:
        """The mixture: weighted, sharded by rank, resumable in the middle of an epoch."""
        dataset: Any = self._need("train")
        weights = None
        if any(source.weight is not None for source in self.sources):
            weights = [source.weight or 0.0 if size else 0.0 for source, size in zip(self.sources, dataset.sizes)]
        batches = MixtureBatches(
            dataset.sizes, weights, self.batch_size, self.length, self.seed, *self._place(), self.drop_last
        )
        if self.trainer is not None:
            batches.set_epoch(self.trainer.current_epoch)  # on resume Lightning iterates before it calls set_epoch
        return StatefulDataLoader(dataset, batch_sampler=batches, **self._common())

    def _place(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    def _eval_dataloader(self, stage: str) -> DataLoader:
        dataset: Any = self._need(stage)
        return DataLoader(
            dataset, batch_sampler=Sequential(dataset.sizes, self.eval_batch_size, *self._place()), **self._common()
        )

    def _need(self, stage: str) -> Any:
        if getattr(self, f"{stage}_set") is None and self.people:
            hint = "no source has people to " + ("train on" if stage == "train" else "choose by" if stage == "val" else
                                                 "test: give one `use: folds`, `own` or `test`")  # fmt: skip
            raise ValueError(f"sources: {hint}")
        return super()._need(stage)
