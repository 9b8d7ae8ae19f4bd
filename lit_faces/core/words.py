"""What is answered to a mistyped word: the nearest right one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UsageError(ValueError):
    """What was typed, or what a file asks for, cannot be run; the message says what to type instead."""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known name that was probably meant, or None."""
    names = sorted(known)
    folded = {name.lower(): name for name in names}
    for cutoff in (0.75, 0.5):
        if found := difflib.get_close_matches(word.lower(), folded, n=1, cutoff=cutoff):
            return folded[found[0]]
    return None


def suggestion(word: str, known: Iterable[str], prefix: str = "") -> str:
    """``; did you mean X?`` or the list of what there is."""
    names = sorted(known)
    if found := nearest(word, names):
        return f"; did you mean {prefix}{found}?"
    shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    return f"; known here: {shown}" if names else ""


def count_of(number: int, what: str) -> str:
    """``1 photo``, ``2 photos``."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
