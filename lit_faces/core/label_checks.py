"""All labels of a set together: who and what is in which split, and what the numbers can mean."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence

import numpy as np

from lit_faces.core.csv_files import short
from lit_faces.core.facs import NUM_AUS
from lit_faces.core.tables import LabelRow, LabelTable


def settle(rows: Sequence[LabelRow]) -> LabelTable:
    """Look at the rows of one set together.

    A person belongs to one split, and a picture too: a row that disagrees with the first is a problem. A row without a
    split takes its person's.

    Returns:
        The rows that stay (their ``split`` filled in), the problems, and notes on what the numbers were taken for.
    """
    result = LabelTable()
    splits: dict[tuple[str, str, str], LabelRow] = {}
    for row in rows:
        for party in _parties(row) if row.split else ():
            splits.setdefault(party, row)
    filled = 0
    for row in rows:
        known = [(party, splits[party]) for party in _parties(row) if party in splits]
        split = row.split or (known[0][1].split if known else "")
        against = next(((party, first) for party, first in known if first.split != split), None)
        if against:
            (kind, name, _), first = against
            place = f"line {first.line}" if first.table == row.table else f"{first.table}, line {first.line}"
            result.problems.append(
                row.problem(
                    f"column split: {kind} {short(name)} is in {split} here, but in {first.split} at {place}; "
                    "people and pictures stand in one split only"
                )
            )
            continue
        filled += split != row.split
        row.split = split
        result.rows.append(row)
    if filled:
        result.notes.append(f"{filled:,} rows without a split stand in the split of their person's other rows")
    result.notes += [*_of_people(rows), *_of_scale(rows)]
    return result


def _parties(row: LabelRow) -> list[tuple[str, str, str]]:
    """Who and what must not be in two splits; nobody knows who is on the pictures of an empty subject."""
    person = [("person", row.subject, "")] if row.subject else []
    return [*person, ("picture", posixpath.normpath(row.file), row.table)]


def _of_people(rows: Sequence[LabelRow]) -> list[str]:
    """People that may be one, pictures that may be another's."""
    notes = []
    by_name: dict[str, str] = {}
    owner: dict[tuple[str, str], LabelRow] = {}
    for row in rows:
        if by_name.setdefault(row.subject.casefold(), row.subject) != row.subject:
            known = by_name[row.subject.casefold()]
            notes.append(f"{short(known)} and {short(row.subject)} are taken for two people")
        first = owner.setdefault((row.table, posixpath.normpath(row.file)), row)
        if first.subject != row.subject:
            notes.append(
                f"{short(row.file)} is {short(first.subject)} at line {first.line} and {short(row.subject)} at line "
                f"{row.line}"
            )
    unique = list(dict.fromkeys(notes))
    return [*unique[:3], *([f"{len(unique) - 3:,} more such names or pictures"] if len(unique) > 3 else [])]


def _of_scale(rows: Sequence[LabelRow]) -> list[str]:
    """Intensities that never pass 1 may be probabilities or 0/1 codes; they are read as what their column says."""
    grades = np.stack([row.au_intensity for row in rows]) if rows else np.empty((0, NUM_AUS), dtype=np.float32)
    coded = grades[np.isfinite(grades)]
    if not coded.size or not 0 < float(coded.max()) <= 1:
        return []
    return [
        "no AU intensity passes 1: they are taken for intensities of 0..5, 1 = grade A. Probabilities (py-feat) must "
        "be scaled first, codes of presence belong in columns such as AU06_c"
    ]


def is_coded(rows: Sequence[LabelRow]) -> bool:
    """Whether any AU or emotion of any row is known."""
    return any(row.emotion >= 0 or np.isfinite(row.au_occurrence).any() for row in rows)
