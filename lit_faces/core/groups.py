"""Groups of people that must not share anybody: what is learnt, what is remembered, what is tested on.

A detector that was tuned on somebody reads that person better than a stranger: a figure that mixes the two says
nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations

from lit_faces.core.sample import FaceBatch


def disjoint(groups: Mapping[str, FaceBatch | Iterable[str]]) -> None:
    """Refuse groups that share people.

    Args:
        groups: by name, as the message is to call them: faces, or subjects. Faces without a subject belong to nobody
            and are not compared.

    Raises:
        ValueError: names two groups, and who is in both.
    """
    people = {
        name: {subject for subject in (group.subject if isinstance(group, FaceBatch) else group) if subject}
        for name, group in groups.items()
    }
    for (one, mine), (other, theirs) in combinations(people.items(), 2):
        both = sorted(mine & theirs)
        if both:
            more = f" and {len(both) - 1} more" if len(both) > 1 else ""
            raise ValueError(
                f"{other}: {both[0]!r}{more} is among {one} too: whoever is learnt from must not be tested as a "
                "stranger; take people apart, or rename them where two sets use one name for two people"
            )
