"""A bounded memory of what was learnt, kept fair by reservoir sampling or balanced over cells.

    reservoir    each row that was ever added is kept with the same probability, capacity / seen     (Vitter 1985, R)
    balanced     counts of cells differ by one at most, where enough rows came                       (CBRS: Chrysakis
                 and Moens 2020); within a cell, each row is kept with the same probability

A *cell* of a face is identity x AU x grade. A face with several AUs could stand in several cells; it is kept once,
filed in that of its cells which holds the fewest rows: so AU17 of grade 5, which comes rarely and never alone, gets its
share, and no face is counted twice. With more cells than places, each cell is kept with the same probability.

:class:`ReplayMemory` holds rows of any dict of tensors, :class:`FaceMemory` holds faces.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self, get_args

import numpy as np
import torch
from torch import Tensor

from lit_faces.continual.stored import check_cells, check_draws, check_faces, checked_policy, checked_seed
from lit_faces.core.facs import AU_KEYS
from lit_faces.core.sample import TENSORS, FaceBatch
from lit_faces.core.seeding import generator_for

Policy = Literal["reservoir", "balanced"]
_DRAWS = 0x2E91A7
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}
ONE_CELL = "all"


@dataclass
class _Cell:
    """What is known of a cell.

    Attributes:
        seen: rows that were filed here.
        slots: places of those that are kept.
        full: whether it was as large as any when a row had to go; from then on, rows replace each other in it.
    """

    seen: int = 0
    slots: list[int] = field(default_factory=list)
    full: bool = False


class ReplayMemory:
    """Rows of tensors of which a bounded number is kept.

    Args:
        capacity: rows, or bytes such as ``"64MB"`` (of the tensors' content).
        policy: ``balanced`` or ``reservoir``.
        seed: of what is kept.

    Raises:
        ValueError: a capacity that is not a positive number or size, or an unknown policy.

    Example:
        >>> memory = ReplayMemory(capacity=2, policy="reservoir")
        >>> memory.add({"x": torch.arange(100.0)})
        >>> len(memory), memory.seen
        (2, 100)
    """

    def __init__(self, capacity: int | str = 500, policy: Policy = "balanced", seed: int = 0) -> None:
        if policy not in get_args(Policy):
            raise ValueError(f"policy of the memory: expected one of {', '.join(get_args(Policy))}, got {policy!r}")
        self.capacity, self.policy, self.seed = capacity, policy, seed
        self._bytes = _bytes_of(capacity)
        self._cells: dict[str, _Cell] = {}
        self._rows: dict[str, Tensor] = {}
        self._used = 0
        self._draws = generator_for(seed, _DRAWS)

    def __len__(self) -> int:
        return self._used

    @property
    def seen(self) -> int:
        """Rows that were ever added."""
        return sum(cell.seen for cell in self._cells.values())

    @property
    def counts(self) -> dict[str, int]:
        """Rows kept in each cell that was ever seen."""
        return {name: len(cell.slots) for name, cell in self._cells.items()}

    @property
    def supply(self) -> dict[str, int]:
        """Rows that were filed in each cell."""
        return {name: cell.seen for name, cell in self._cells.items()}

    @property
    def row_bytes(self) -> int:
        """Size of a row; 0 before the first."""
        return sum(value[0].numel() * value.element_size() for value in self._rows.values() if len(value))

    @property
    def nbytes(self) -> int:
        """Size of what is kept."""
        return self._used * self.row_bytes

    @property
    def places(self) -> int:
        """Rows that can be kept.

        Raises:
            ValueError: a capacity in bytes that is smaller than a row.
        """
        if self._bytes is None:
            return int(self.capacity)
        size = self.row_bytes
        if size > self._bytes:
            raise ValueError(f"capacity {self.capacity!r}: a row takes {size:,} bytes; ask for more")
        return self._bytes // size if size else 0

    # -- filling ------------------------------------------------------------------------------------------------

    def add(self, rows: Mapping[str, Tensor], cells: Sequence[Sequence[str]] | None = None) -> None:
        """Offer rows to the memory, in their order.

        Args:
            rows: tensors (n, ...) of the same n; copied to the CPU.
            cells: for each row, the cells in which it could be filed; not read by ``reservoir``.

        Raises:
            ValueError: other names, shapes or types than before, tensors of unequal length, or a row without a cell.
        """
        rows = {name: value.detach().cpu() for name, value in rows.items()}
        count = self._check(rows)
        if cells is not None and len(cells) != count:
            raise ValueError(f"cells: expected one list a row ({count}), got {len(cells)}")
        if not count:
            return
        for number in range(count):
            names = (ONE_CELL,) if cells is None or self.policy == "reservoir" else cells[number]
            slot = self._place(self._file(names))
            if slot is not None:
                self._write(slot, rows, number)

    def _check(self, rows: Mapping[str, Tensor]) -> int:
        lengths = {len(value) for value in rows.values()}
        if len(lengths) != 1:
            raise ValueError(f"rows: expected tensors of one length, got {sorted(lengths)}")
        if not self._rows:
            self._rows = {name: value.new_empty((1, *value.shape[1:])) for name, value in rows.items()}
        for name in rows.keys() | self._rows.keys():
            new, old = rows.get(name), self._rows.get(name)
            if new is None or old is None or new.shape[1:] != old.shape[1:] or new.dtype != old.dtype:
                what = ["nothing" if v is None else f"{v.dtype} {tuple(v.shape[1:])}" for v in (old, new)]
                raise ValueError(f"row {name!r}: expected {what[0]}, as is kept, got {what[1]}")
        return lengths.pop()

    def _file(self, names: Sequence[str]) -> str:
        """The cell of a row: of those it could stand in, the one that holds the fewest."""
        if not names:
            raise ValueError("cells: a row has none; give one for rows without a label, too")
        empty = _Cell()

        def order(name: str) -> tuple[bool, int, int]:
            cell = self._cells.get(name, empty)
            return cell.full and not cell.slots, len(cell.slots), cell.seen  # one that was given up takes nothing

        return min(names, key=order)

    def _place(self, name: str) -> int | None:
        """Where a new row of a cell goes; None if it is not kept."""
        new = name not in self._cells
        cell = self._cells.setdefault(name, _Cell())
        cell.seen += 1
        places = self.places
        if self._used < places:
            cell.slots.append(self._used)
            self._used += 1
            return self._used - 1
        sizes = np.fromiter((len(other.slots) for other in self._cells.values()), np.int64, len(self._cells))
        most = int(sizes.max())
        if len(cell.slots) == most:
            cell.full = True
        if cell.full:
            chosen = self._draw(cell.seen)
            return cell.slots[chosen] if chosen < len(cell.slots) else None
        if most == 1 and new and self._draw(len(self._cells)) >= places:  # more cells than places
            cell.full = True
            return None
        largest = list(self._cells)[self._pick(np.flatnonzero(sizes == most))]
        giver = self._cells[largest]
        for other, size in zip(self._cells.values(), sizes):
            other.full = other.full or bool(size == most)
        slot = giver.slots.pop(self._draw(len(giver.slots)))
        cell.slots.append(slot)
        return slot

    def _draw(self, below: int) -> int:
        return int(torch.randint(below, (), generator=self._draws))

    def _pick(self, among: np.ndarray) -> int:
        return int(among[self._draw(len(among))])

    def _write(self, slot: int, rows: Mapping[str, Tensor], number: int) -> None:
        for name, value in rows.items():
            kept = self._rows[name]
            if slot >= len(kept):
                longer = kept.new_empty((min(max(2 * len(kept), 64), max(self.places, slot + 1)), *kept.shape[1:]))
                longer[: len(kept)] = kept
                self._rows[name] = kept = longer
            kept[slot] = value[number]

    # -- using --------------------------------------------------------------------------------------------------

    def rows(self) -> dict[str, Tensor]:
        """Everything that is kept, (len, ...)."""
        return {name: value[: self._used] for name, value in self._rows.items()}

    def draw(self, n: int, generator: torch.Generator) -> dict[str, Tensor]:
        """``n`` rows by chance: different ones, if there are that many.

        Raises:
            ValueError: the memory is empty.
        """
        if not self._used:
            raise ValueError("the memory is empty: add rows before drawing")
        if n <= self._used:
            index = torch.randperm(self._used, generator=generator)[:n]
        else:
            index = torch.randint(self._used, (n,), generator=generator)
        return {name: value[index] for name, value in self.rows().items()}

    def remove(self, slots: Iterable[int]) -> int:
        """Erase rows by their place in :meth:`rows`; a cell that loses all of its rows was never seen.

        Returns:
            How many rows went.
        """
        gone = set(slots) & set(range(self._used))
        keep = [slot for slot in range(self._used) if slot not in gone]
        place = {old: new for new, old in enumerate(keep)}
        self._rows = {name: value[keep].clone() for name, value in self._rows.items()} if keep else {}  # no byte stays
        self._used = len(keep)
        for name, cell in list(self._cells.items()):
            left = [place[slot] for slot in cell.slots if slot not in gone]
            if len(left) < len(cell.slots):
                cell.seen = round(cell.seen * len(left) / len(cell.slots))
                cell.slots = left
                if not left:
                    del self._cells[name]
            else:
                cell.slots = left
        return len(gone)

    def merge(self, other: ReplayMemory) -> None:
        """Become what one memory would be (in distribution) that had seen this one's rows and the other's.

        For the ranks of a distributed run. Within a cell, a row of either memory is kept with the same probability.

        Raises:
            ValueError: another policy, or other rows.
        """
        if other.policy != self.policy:
            raise ValueError(f"merge: expected a memory of policy {self.policy}, got {other.policy}")
        if not len(other):
            return
        self._check({name: value[:0] for name, value in other.rows().items()})
        old, names = (self.rows(), other.rows()), list(dict.fromkeys([*self._cells, *other._cells]))
        seen = {n: [m._cells[n].seen if n in m._cells else 0 for m in (self, other)] for n in names}
        kept = {n: [list(m._cells[n].slots) if n in m._cells else [] for m in (self, other)] for n in names}
        sizes = self._levels({n: len(kept[n][0]) + len(kept[n][1]) for n in names})
        cells, chosen = {}, []
        for name in names:
            took = self._split(sizes[name], seen[name], [len(slots) for slots in kept[name]])
            slots: list[int] = []
            for source, count in enumerate(took):
                pick = torch.randperm(len(kept[name][source]), generator=self._draws)[:count].tolist()
                chosen += [(source, kept[name][source][i]) for i in pick]
                slots += range(len(chosen) - len(pick), len(chosen))
            total = sum(seen[name])
            cells[name] = _Cell(total, slots, len(slots) < total)
        self._cells, self._used = cells, len(chosen)
        self._rows = {
            name: torch.stack([old[source][name][slot] for source, slot in chosen]) for name in self._rows if chosen
        }

    def _levels(self, available: Mapping[str, int]) -> dict[str, int]:
        """Rows of each cell after a merge: as even as the supply and the places allow."""
        left, sizes = self.places, dict.fromkeys(available, 0)
        order = [list(available)[i] for i in torch.randperm(len(available), generator=self._draws).tolist()]
        open_ = [name for name in order if available[name]]
        while left and open_:
            share = max(1, left // len(open_))
            for name in open_:
                more = min(share, available[name] - sizes[name], left)
                sizes[name] += more
                left -= more
            open_ = [name for name in open_ if sizes[name] < available[name]]
        return sizes

    def _split(self, count: int, seen: Sequence[int], most: Sequence[int]) -> list[int]:
        """How many of ``count`` rows come from each of two memories: as if drawn from all rows that both saw."""
        took, left = [0, 0], list(seen)
        for _ in range(count):
            source = int(self._draw(max(1, sum(left))) >= left[0])
            if took[source] >= most[source]:  # the memory of that one is used up
                source = 1 - source
            took[source] += 1
            left[source] = max(0, left[source] - 1)
        return took

    # -- keeping ------------------------------------------------------------------------------------------------

    def tensors(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All of it, as tensors by name and as plain data: for safetensors and its card."""
        stored = {f"rows.{name}": value.clone() for name, value in self.rows().items()}
        stored["draws"] = self._draws.get_state()
        cells = [[n, cell.seen, cell.full, cell.slots] for n, cell in self._cells.items()]  # their order counts
        return stored, {"capacity": self.capacity, "policy": self.policy, "seed": self.seed, "cells": cells}

    @classmethod
    def from_tensors(cls, stored: Mapping[str, Tensor], plain: Mapping[str, Any]) -> Self:
        """The memory of :meth:`tensors`; it goes on as the first would have.

        Raises:
            ValueError: not of such a memory.
        """
        memory = cls(plain.get("capacity", 0), checked_policy(plain), checked_seed(plain))
        memory._check_stored(stored, plain)
        memory._take(stored, plain)
        return memory

    def _check_stored(self, stored: Mapping[str, Tensor], plain: Mapping[str, Any]) -> None:
        check_cells(plain)
        check_draws(stored, self._draws.get_state())

    def _take(self, stored: Mapping[str, Tensor], plain: Mapping[str, Any]) -> None:
        self._rows = {k.partition(".")[2]: v.clone() for k, v in stored.items() if k.startswith("rows.")}
        self._cells = {n: _Cell(int(seen), list(slots), bool(full)) for n, seen, full, slots in plain["cells"]}
        self._used = sum(len(cell.slots) for cell in self._cells.values())
        if not self._used:
            self._rows = {}
        if any(len(value) != self._used for value in self._rows.values()):
            raise ValueError(f"state of a replay memory: expected {self._used} rows, as its cells say: damaged?")
        self._draws.set_state(stored["draws"].cpu().to(torch.uint8))

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint: tensors, numbers, strings, lists and dicts."""
        stored, plain = self.tensors()
        return {"tensors": stored, "plain": plain}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the state of another memory, capacity and policy included."""
        other = self.from_tensors(state["tensors"], state["plain"])
        self.__dict__.update(other.__dict__)


class FaceMemory(ReplayMemory):
    """A memory of faces, balanced over identity x AU x grade; see :class:`ReplayMemory` for the arguments."""

    def __init__(self, capacity: int | str = 500, policy: Policy = "balanced", seed: int = 0) -> None:
        super().__init__(capacity, policy, seed)
        self._names: dict[str, int] = {}

    @property
    def subjects(self) -> dict[str, int]:
        """Faces kept of each person."""
        found: dict[str, int] = {}
        for subject in self.faces().subject if len(self) else []:
            found[subject] = found.get(subject, 0) + 1
        return found

    def add(self, rows: FaceBatch | Mapping[str, Tensor], cells: Sequence[Sequence[str]] | None = None) -> None:
        """Offer faces; what is not coded makes no cell, and nothing is invented for it.

        Args:
            rows: a batch of faces.
            cells: in place of identity x AU x grade.

        Raises:
            ValueError: faces of another size than before.
        """
        if not isinstance(rows, FaceBatch):
            return super().add(rows, cells)
        content = {name: getattr(rows, name) for name in TENSORS}
        if len(rows.frame) != len(rows):
            content["frame"] = torch.zeros(len(rows), dtype=torch.int64)
        for name in ("subject", "source"):
            words = getattr(rows, name) or [""] * len(rows)
            content[name] = torch.tensor([self._number(word) for word in words], dtype=torch.int64)
        return super().add(content, face_cells(rows) if cells is None else cells)

    def _number(self, word: str) -> int:
        return self._names.setdefault(word, len(self._names))

    def sample(self, n: int, generator: torch.Generator) -> FaceBatch:
        """``n`` faces by chance: different ones, if there are that many.

        Raises:
            ValueError: the memory is empty.
        """
        return self._batch(self.draw(n, generator))

    def faces(self) -> FaceBatch:
        """All that are kept."""
        return self._batch(self.rows())

    def _batch(self, rows: dict[str, Tensor]) -> FaceBatch:
        words = list(self._names)
        text = {name: [words[i] for i in rows.pop(name).tolist()] for name in ("subject", "source")}
        content: dict[str, Any] = {**rows, **text}
        return FaceBatch(**content)

    def forget(self, subject: str) -> int:
        """Erase every face of a person.

        Returns:
            How many went.
        """
        gone = 0
        if subject in self._names and len(self):
            gone = self.remove((self.rows()["subject"] == self._names[subject]).nonzero()[:, 0].tolist())
        own = subject.replace("|", "/") + "|"  # as face_cells writes it; of cells that keep no face, the name is left
        self._cells = {name: cell for name, cell in self._cells.items() if cell.slots or not name.startswith(own)}
        if subject in self._names:
            self._names = {f"#{number}" if name == subject else name: number for name, number in self._names.items()}
        return gone

    def merge(self, other: ReplayMemory) -> None:
        """As :meth:`ReplayMemory.merge`; names are matched by what they are."""
        if not isinstance(other, FaceMemory):
            raise ValueError(f"merge: expected a FaceMemory, got {type(other).__name__}")
        if not len(other):
            return
        renamed = FaceMemory.from_tensors(*other.tensors())
        number = torch.tensor([self._number(word) for word in other._names], dtype=torch.int64)
        for name in ("subject", "source"):
            renamed._rows[name] = number[renamed._rows[name]]
        super().merge(renamed)

    def tensors(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """As :meth:`ReplayMemory.tensors`."""
        stored, plain = super().tensors()
        return stored, {**plain, "names": list(self._names)}

    def _check_stored(self, stored: Mapping[str, Tensor], plain: Mapping[str, Any]) -> None:
        super()._check_stored(stored, plain)
        check_faces(stored, plain)

    def _take(self, stored: Mapping[str, Tensor], plain: Mapping[str, Any]) -> None:
        super()._take(stored, plain)
        self._names = {name: number for number, name in enumerate(plain["names"])}


def face_cells(faces: FaceBatch) -> list[list[str]]:
    """``subject|AU|grade`` of every AU that is seen in a face; ``subject|neutral`` where none is.

    Grades are intensities rounded to 1..5, ``on`` where only the occurrence is coded; faces without any AU code stand
    in ``subject|emotion`` or ``subject|uncoded``.
    """
    grade = faces.au_intensity.nan_to_num(-1.0).round().long().tolist()
    seen = (faces.au_occurrence == 1).tolist()
    coded = (faces.au_intensity.isfinite() | faces.au_occurrence.isfinite()).any(1).tolist()
    found = []
    for row, subject in enumerate(faces.subject or [""] * len(faces)):
        subject = subject.replace("|", "/")
        cells = [f"{subject}|{key}|{g}" for key, g in zip(AU_KEYS, grade[row]) if g >= 1]
        cells += [f"{subject}|{key}|on" for key, g, on in zip(AU_KEYS, grade[row], seen[row]) if on and g < 0]
        if not cells:
            emotion = int(faces.emotion[row])
            rest = "neutral" if coded[row] else f"emotion{emotion}" if emotion >= 0 else "uncoded"
            cells = [f"{subject}|{rest}"]
        found.append(cells)
    return found


def _bytes_of(capacity: int | str) -> int | None:
    """Bytes that a capacity allows; None where it counts rows."""
    if isinstance(capacity, int) and not isinstance(capacity, bool) and capacity > 0:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]?)i?B", str(capacity).strip(), re.IGNORECASE)
    if match is None or not float(match[1]):
        raise ValueError(f'capacity: expected a number of rows above 0, or a size such as "64MB", got {capacity!r}')
    return int(float(match[1]) * _UNITS[match[2].upper()])
