"""Compare a user's copy with the published counts: what differs, and why that may be. Warnings, never a refusal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_modules.folds import DISFA_ROWS, PARTS, PUBLISHED, TOTALS, part_of
from data_modules.reader import Clip
from lit_faces.core.facs import AU_INDEX


@dataclass(frozen=True)
class Line:
    """One figure: what it is, published, found."""

    what: str
    part: int
    published: int
    found: int

    @property
    def differs(self) -> bool:
        """Whether the copy has another figure."""
        return self.published != self.found


def compare(name: str, clips: Sequence[Clip]) -> list[Line]:
    """Frames, people and positives of each part against the published ones; empty where nothing is published."""
    if name not in PUBLISHED:
        return [Line(what, 0, count, _count(what, clips)) for what, count in TOTALS.get(name, {}).items()]
    published = PUBLISHED[name]
    lines = []
    for part in (1, 2, 3):
        own = [clip for clip in clips if part_of(clip.subject) == part]
        lines.append(Line("people", part, len(PARTS[name][part - 1]), len({clip.subject for clip in own})))
        lines.append(Line("frames", part, published.frames[part - 1], sum(map(len, own))))
        for au, counts in published.positives.items():
            found = sum(int(np.nansum(_present(clip, au, published.threshold))) for clip in own)
            lines.append(Line(f"AU{au:02d}", part, counts[part - 1], found))
    return lines


def _count(what: str, clips: Sequence[Clip]) -> int:
    kind, _, split = what.partition(" ")
    own = [clip for clip in clips if split in ("", clip.split)]
    if kind == "people":
        return len({clip.subject for clip in own})
    return len(own) if kind == "recordings" else sum(map(len, own))


def _present(clip: Clip, au: int, threshold: float):
    assert clip.au_intensity is not None and clip.au_occurrence is not None
    if np.isnan(threshold):
        return clip.au_occurrence[:, AU_INDEX[au]]
    return clip.au_intensity[:, AU_INDEX[au]] >= threshold


def causes(name: str, clips: Sequence[Clip], lines: Sequence[Line]) -> list[str]:
    """Likely causes of the differences, most telling first."""
    if not any(line.differs for line in lines) or name not in PUBLISHED:
        return []
    published, found = PUBLISHED[name], []
    here = {clip.subject.partition(":")[2] for clip in clips}
    everybody = [person for part in PARTS[name] for person in part]
    missing, strangers = sorted(set(everybody) - here), sorted(here - set(everybody))
    if missing:
        found.append(f"{len(missing)} of {len(everybody)} people are not there: {', '.join(missing)}")
    if strangers:
        found.append(f"people whom the published list does not have: {', '.join(strangers)}")
    frames = tuple(line.found for line in lines if line.what == "frames")
    if frames == published.subset[1]:
        found.append(f"the frames are exactly {published.subset[0]}")
    if name == "disfa":
        found += _short_people(clips)
    empty = {line.part for line in lines if line.what == "people" and not line.found}
    silent = [f"{x.what} in part {x.part}" for x in lines if x.what[:2] == "AU" and not x.found and x.part not in empty]
    if silent:
        found.append(f"no positive at all: {', '.join(silent)}: label files are missing, empty or of another coding")
    wrong = [line for line in lines if line.differs and line.what.startswith("AU")]
    if not missing and not found and wrong:
        more = sum(line.found > line.published for line in wrong)
        if name == "disfa" and more == len(wrong):
            found.append("all positives exceed the published ones: labels of another threshold, or another edition")
        else:
            found.append("same people and frames, other positives: edited labels, or columns in another order")
    return found


def _short_people(clips: Sequence[Clip]) -> list[str]:
    rows = {clip.key: len(clip) for clip in clips}
    odd = [f"{name} has {rows[name]} rows of {DISFA_ROWS[name]}" for name in sorted(rows)
           if name in DISFA_ROWS and rows[name] != DISFA_ROWS[name]]  # fmt: skip
    return [f"label files are cut short or joined: {'; '.join(odd)}"] if odd else []


def table(name: str, clips: Sequence[Clip]) -> str:
    """The comparison as text: differing figures only, then the likely causes."""
    lines = compare(name, clips)
    if not lines:
        people = {clip.subject for clip in clips}
        return (
            f"{name}: no published counts to compare with; {sum(map(len, clips)):,} labelled frames, "
            f"{len(clips)} recordings, {len(people)} people"
        )
    empty = {line.part for line in lines if line.what == "people" and not line.found}
    wrong = [line for line in lines if line.differs and (line.part not in empty or line.what == "people")]
    if not wrong:
        return f"{name}: all {len(lines)} figures (people, frames, positives) are the published ones"
    rows = [f"{'':12}{'part':>6}{'published':>12}{'found':>10}{'difference':>12}"]
    rows += [
        f"{x.what:12}{x.part or 'all':>6}{x.published:>12,}{x.found:>10,}{x.found - x.published:>+12,}" for x in wrong
    ]
    rows += [f"likely: {cause}" for cause in causes(name, clips, lines)]
    differing = sum(line.differs for line in lines)
    return f"{name}: {differing} of {len(lines)} figures are not the published ones (a warning)\n" + "\n".join(rows)
