"""The columns of label tables: which name means what, as we and other tools write them."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Sequence

from lit_faces.core.csv_files import plain, split_line
from lit_faces.core.facs import AU_INDEX

POSE = ("yaw", "pitch", "roll")
MARKS = tuple(f"{axis}{i}" for i in range(68) for axis in "xy")
_KNOWN = frozenset(("file", "subject", "frame", "split", "emotion", *POSE, *MARKS))
_AU = re.compile(r"(au|occ)[ _-]*0*(\d{1,3})(?:[ _-]([rc]))?", re.ASCII)
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}


def canonical(name: str) -> str:
    """The column that a name means: ``au6`` for ``AU06_r``, ``occ6`` for ``AU06_c``; empty when it is none of ours."""
    folded = fold(name)
    found = _AU.fullmatch(folded)
    if not found:
        return folded if folded in _KNOWN else ""
    if int(found[2]) not in AU_INDEX or (found[1] == "occ" and found[3] == "r"):
        return ""
    return f"{'occ' if found[1] == 'occ' or found[3] == 'c' else 'au'}{int(found[2])}"


def fold(name: str) -> str:
    """A name without what does not tell columns apart: case, blanks around it, full-width letters."""
    return unicodedata.normalize("NFKC", plain(name)).strip().casefold()


def delimiter_of(head: str) -> str:
    """The character between the names of the columns: the one that finds ``file``, then the one that finds most."""

    def found(delimiter: str) -> tuple[bool, int]:
        try:
            names = [canonical(name) for name in split_line(head, delimiter)]
        except ValueError:
            return False, -1
        return "file" in names, len(names)

    return max(DELIMITERS, key=found)


def in_runs(names: Sequence[str]) -> list[str]:
    """Names in order, runs such as ``x_0 ... x_67`` as one, what may be a slip with the name that is near."""
    runs: list[tuple[str, list[str]]] = []
    for name in names:
        stem = re.sub(r"\d+", "#", name)
        if "#" in stem and runs and runs[-1][0] == stem and not _AU.fullmatch(fold(name)):
            runs[-1][1].append(name)
        else:
            runs.append((stem, [name]))
    said = []
    for _, run in runs:
        near = difflib.get_close_matches(fold(run[0]), sorted(_KNOWN - {*MARKS}), n=1, cutoff=0.8)
        other = _AU.fullmatch(fold(run[0]))
        if other and int(other[2]) not in AU_INDEX:
            said.append(f"{run[0]} (lit_faces has no AU{int(other[2])})")
        elif near:
            said.append(f"{run[0]} (did you mean {near[0]}?)")
        else:
            said.append(run[0] if len(run) == 1 else f"{run[0]} ... {run[-1]} ({len(run)})")
    return said
