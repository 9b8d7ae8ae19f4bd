"""Nothing that is measured may have been learnt from: who and what two groups of faces share, and what is held out.

Four groups meet when a person is learnt:

=========  ========================================  =================================================
group      what it is for                            may share people with    may share pictures with
=========  ========================================  =================================================
person     learnt from                               test, memory             memory (learnt again)
test       what the person's figures are measured on person, memory           nobody
others     known before; remembered                  nobody                   nobody
generic    strangers: what forgetting is measured on nobody                   nobody
=========  ========================================  =================================================
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lit_faces.core.sample import FaceBatch
from lit_faces.core.seeding import generator_for

_STREAM = 0x7E57
_GAP = 0.05  # of a clip: frames beside what is held out that are neither learnt nor tested
FEWEST = 4  # faces of a test that says anything
_MANY_CLIPS = 4  # from so many on, whole clips are held out


@dataclass
class Split:
    """What is learnt from, what is tested on, and what the test is.

    Attributes:
        learnt: faces to learn from.
        test: faces to test on.
        test_is: in words; names no person.
        honest: whether the two are apart.
    """

    learnt: FaceBatch
    test: FaceBatch
    test_is: str
    honest: bool = True


def refuse_shared(
    groups: Mapping[str, FaceBatch],
    people: Collection[tuple[str, str]] = (),
    pictures: Collection[tuple[str, str]] = (),
    called: Mapping[str, str] | None = None,
) -> None:
    """Refuse groups of faces that share a person or a picture.

    A person is a name within a source set, and, where ``called`` says who a whole group is, that name in any set.
    Pictures are told by their pixels at the size at hand: another file format of the same picture is seen, another
    crop is not.

    Args:
        groups: faces by the name that messages use (``--person``).
        people: pairs of groups that may share people.
        pictures: pairs of groups that may share pictures.
        called: who a group is as a whole.

    Raises:
        ValueError: names the groups, and the person or how many pictures they share.
    """
    called = called or {}
    names = list(groups)
    digests = {name: set(picture_digests(groups[name].image)) for name in names}
    for number, one in enumerate(names):
        for other in names[number + 1 :]:
            if not _listed((one, other), people):
                shared = _shared_people(groups[one], groups[other], called.get(one), called.get(other))
                if shared:
                    raise ValueError(
                        f"{one} and {other} share {'people' if len(shared) > 1 else 'a person'} "
                        f"({', '.join(shared[:3])}{', ...' if len(shared) > 3 else ''}): figures would be measured on "
                        "whom was learnt; take them out of one, or give them other names if they are others"
                    )
            if not _listed((one, other), pictures) and (same := len(digests[one] & digests[other])):
                raise ValueError(
                    f"{one} and {other} share {same} {'pictures' if same > 1 else 'picture'}: figures would be "
                    "measured on what was learnt; take them out of one"
                )


def picture_digests(images: Tensor) -> list[bytes]:
    """A digest of each picture's pixels, uint8 (B, 3, S, S)."""
    pixels = images.cpu().contiguous().numpy()
    return [hashlib.blake2b(one.tobytes(), digest_size=16).digest() for one in pixels]


def batch_digest(faces: FaceBatch) -> str:
    """Hexadecimal digest of faces and what they are labelled with."""
    digest = hashlib.sha256(repr((faces.subject, faces.source)).encode())
    for values in (faces.image, faces.au_intensity, faces.au_occurrence, faces.emotion, faces.landmarks, faces.frame):
        digest.update(values.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _listed(pair: tuple[str, str], pairs: Collection[tuple[str, str]]) -> bool:
    return pair in pairs or pair[::-1] in pairs


def _shared_people(one: FaceBatch, other: FaceBatch, who: str | None, else_who: str | None) -> list[str]:
    def keys(faces: FaceBatch) -> set[tuple[str, str]]:
        return {(source, subject) for source, subject in zip(faces.source, faces.subject) if subject}

    shared = {subject for _, subject in keys(one) & keys(other)}
    shared |= {who} & {*other.subject} if who else set()
    shared |= {else_who} & {*one.subject} if else_who else set()
    return sorted(shared)


def hold_out(faces: FaceBatch, share: float, seed: int, clips: Sequence[str] = ()) -> Split:
    """Keep faces of one person apart for the test, none of them a neighbour of what is learnt.

    * Generated pictures (``source`` begins with ``generated/``) were drawn one by one from a plan: any of them may be
      held out.
    * Frames are not independent. Of many clips, whole ones are held out; of each clip of a few, one block of time,
      and some frames on both sides of it are neither learnt nor tested. Which block, or clips, the seed says.

    Where one clip ends is said by ``clips``, or, where frame numbers repeat, seen where they stop rising; without frame
    numbers the order of the set is taken for time.

    Args:
        faces: of one person, in the order of the set.
        share: of the faces that are held out, 0..1.
        seed: of the choice.
        clips: which clip each face is of.
    """
    count = min(round(share * len(faces)), len(faces) - 1)
    if count < FEWEST:
        return _all_learnt(faces)
    generator = generator_for(seed, _STREAM)
    if all(source.startswith("generated/") for source in faces.source):
        order = torch.randperm(len(faces), generator=generator).tolist()
        chosen, near = set(order[:count]), set[int]()
        what = f"{count} generated pictures of the plan that were not learnt from"
    else:
        runs = _clips(faces, clips)
        chosen = _whole_clips(runs, count, generator) if len(runs) >= _MANY_CLIPS else set()
        near = set[int]()
        what = f"{len(chosen)} faces of whole clips that were not learnt from"
        if len(chosen) < FEWEST:
            chosen, near = _blocks(runs, share, generator)
            what = f"{len(chosen)} faces, a block of time of each clip; {len(near)} beside it were left out"
    same = picture_digests(faces.image)
    learnt = [row for row in range(len(faces)) if row not in chosen and row not in near]
    known = {same[row] for row in learnt}
    test = [row for row in sorted(chosen) if same[row] not in known]
    if len(test) < FEWEST or not learnt:
        return _all_learnt(faces)
    return Split(faces.select(torch.tensor(learnt)), faces.select(torch.tensor(test)), what)


def _all_learnt(faces: FaceBatch) -> Split:
    why = "the faces that were learnt from (too few to hold some out): says nothing of new pictures"
    return Split(faces, faces, why, honest=False)


def _clips(faces: FaceBatch, clips: Sequence[str]) -> list[list[int]]:
    """Rows of each clip, in the order of time."""
    frames = faces.frame.tolist()
    repeated = 1 < len(set(frames)) < len(frames)
    runs: dict[object, list[int]] = {}
    number = 0
    for row, frame in enumerate(frames):
        if repeated and row and frame <= frames[row - 1]:
            number += 1
        runs.setdefault(clips[row] if clips else number, []).append(row)
    return [sorted(rows, key=lambda row: frames[row]) for rows in runs.values()]


def _whole_clips(runs: Sequence[Sequence[int]], count: int, generator: torch.Generator) -> set[int]:
    """Rows of clips, about so many; none where every clip is too long."""
    chosen: set[int] = set()
    for number in torch.randperm(len(runs), generator=generator).tolist():
        if len(chosen) < count and len(chosen) + len(runs[number]) < 2 * count:
            chosen |= set(runs[number])
    return chosen


def _blocks(runs: Sequence[Sequence[int]], share: float, generator: torch.Generator) -> tuple[set[int], set[int]]:
    """One block of each clip, and the frames on both sides of it."""
    chosen: set[int] = set()
    near: set[int] = set()
    for rows in runs:
        length = round(share * len(rows))
        if not length:
            continue
        places = max(1, len(rows) // length)
        start = length * int(torch.randint(places, (1,), generator=generator))
        gap = max(1, round(_GAP * len(rows)))
        chosen |= set(rows[start : start + length])
        near |= set(rows[max(0, start - gap) : start]) | set(rows[start + length : start + length + gap])
    return chosen, near
