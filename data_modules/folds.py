"""Published subject-exclusive folds of DISFA and BP4D, the counts that go with them, and our own splits.

A *part* is one of the three published groups of people; holding out a part is a fold. Papers number their folds in
different ways (:data:`FOLD_NAMES`); the parts are the same people everywhere.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

#: People of part 1, 2 and 3 (JAA-Net, ME-GraphAU, FG-Net and LibreFace agree).
PARTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "disfa": (
        (
            "SN002", "SN010", "SN001", "SN026", "SN027",
            "SN032", "SN030", "SN009", "SN016",
        ),
        (
            "SN013", "SN018", "SN011", "SN028", "SN012",
            "SN006", "SN031", "SN021", "SN024",
        ),
        (
            "SN003", "SN029", "SN023", "SN025", "SN008",
            "SN005", "SN007", "SN017", "SN004",
        ),
    ),
    "bp4d": (
        (
            "F001", "M007", "F018", "F008", "F002", "M004", "F010",
            "F009", "M012", "M001", "F016", "M014", "F023", "M008",
        ),
        (
            "M011", "F003", "M010", "M002", "F005", "F022", "M018",
            "M017", "F013", "M016", "F020", "F011", "M013", "M005",
        ),
        (
            "F007", "F015", "F006", "F019", "M006", "M009", "F012",
            "M003", "F004", "F021", "F017", "M015", "F014",
        ),
    ),
    "london": (  # folds 0, 1, 2 of faces_ccby: 51 of the 102 people; the others get seeded parts
        (
            "002", "016", "019", "022", "025", "030", "036", "041", "044", "081", "101", "107", "114", "120",
            "131", "141", "143",
        ),
        (
            "001", "010", "021", "026", "027", "031", "039", "063", "067", "104", "126", "134", "135", "137",
            "138", "139", "142",
        ),
        (
            "014", "020", "033", "034", "043", "062", "066", "069", "091", "092", "094", "112", "115", "118",
            "119", "121", "123",
        ),
    ),
    "canada": (
        ("003f", "020f", "048f", "065f", "110m", "114m", "123m"),
        ("024f", "044f", "056f", "095m", "116m", "119m", "149m"),
        ("010f", "026f", "053f", "100m", "147m", "152m"),
    ),
}  # fmt: skip

#: What papers call the fold that tests part 1, 2 and 3.
FOLD_NAMES: dict[str, tuple[str, str, str]] = {
    "JAA-Net": ("combine_2_3", "combine_1_3", "combine_1_2"),
    "ME-GraphAU": ("fold3", "fold2", "fold1"),
    "FG-Net": ("0", "1", "2"),
    "LibreFace": ("2", "1", "0"),
}


@dataclass(frozen=True)
class PublishedCounts:
    """Frames of each part, and positives of each part and AU.

    Attributes:
        frames: frames of part 1, 2, 3.
        positives: AU -> positives in part 1, 2, 3.
        subset: name and frames of part 1, 2, 3 of another count in use.
        threshold: least intensity that counts (NaN: the set codes occurrence itself).
    """

    frames: tuple[int, int, int]
    positives: dict[int, tuple[int, int, int]]
    subset: tuple[str, tuple[int, int, int]]
    threshold: float


def _columns(aus: Sequence[int], *parts: Sequence[int]) -> dict[int, tuple[int, int, int]]:
    return {au: (parts[0][i], parts[1][i], parts[2][i]) for i, au in enumerate(aus)}


PUBLISHED: dict[str, PublishedCounts] = {
    "disfa": PublishedCounts(
        frames=(43_604, 43_605, 43_605),
        positives=_columns(
            (1, 2, 4, 6, 9, 12, 25, 26),
            (1839, 1125, 5119, 2360, 1218, 4503, 10850, 4902),
            (1469, 879, 6653, 3558, 1287, 6187, 13206, 4123),
            (3198, 3640, 8161, 4409, 2968, 6161, 12191, 2508),
        ),
        subset=("JAA-Net's, without the frames of failed landmarks (--bad-frames drop)", (43_173, 40_344, 42_627)),
        threshold=2.0,
    ),
    "bp4d": PublishedCounts(
        frames=(50_631, 50_182, 46_034),
        positives=_columns(
            (1, 2, 4, 6, 7, 10, 12, 14, 15, 17, 23, 24),
            (8322, 8172, 10085, 21055, 29862, 29183, 28277, 20274, 7664, 16080, 8023, 7076),
            (10223, 6568, 9870, 23312, 27651, 27954, 26187, 25762, 10024, 18379, 8657, 7867),
            (12497, 10370, 9800, 23309, 23103, 30133, 28066, 22339, 7181, 15947, 7608, 7286),
        ),
        subset=("JAA-Net's, without the frames of failed landmarks (--bad-frames drop)", (50_601, 50_166, 45_809)),
        threshold=float("nan"),
    ),
}

#: What is known of other sets: people, recordings, and labelled frames in all or in each split of their authors.
TOTALS: dict[str, dict[str, int]] = {
    "disfa_plus": {"people": 9, "frames": 57_150},
    "bp4d_plus": {"people": 140, "recordings": 559},
    "ck_plus": {"people": 123, "recordings": 593},
    "unbc": {"people": 25, "recordings": 200, "frames": 48_398},
    "rafdb": {"frames train": 12_271, "frames test": 3_068},
    "fer2013": {"frames train": 28_709, "frames val": 3_589, "frames test": 3_589},
    "london": {"people": 102, "frames": 204},
    "faces_ccby": {"people": 71, "frames": 122},
}

#: Rows of the label files of each DISFA subject; SN010 has one less.
DISFA_ROWS = {name: 4844 if name == "SN010" else 4845 for part in PARTS["disfa"] for name in part}

#: Frames whose shipped landmarks failed: clip -> inclusive ranges of label frames. JAA-Net drops them.
BAD_FRAMES: dict[str, dict[str, tuple[tuple[int, int], ...]]] = {
    "disfa": {
        "SN001": ((398, 420), (3190, 3243)),
        "SN002": ((800, 826),),
        "SN004": ((4541, 4555),),
        "SN006": ((1349, 1405),),
        "SN009": ((1736, 1808), (1851, 1885)),
        "SN011": ((4529, 4533), (4830, 4845)),
        "SN021": (
            (574, 616), (985, 1164), (1190, 1205), (1305, 1338), (1665, 1710), (1862, 2477), (2554, 4657), (4710, 4722),
        ),
        "SN023": ((1021, 1049), (3378, 3557), (3584, 3668), (4547, 4621), (4741, 4772), (4825, 4845)),
        "SN025": ((4596, 4662), (4816, 4835)),
        "SN027": ((3461, 3494), (4738, 4785)),
        "SN028": ((1875, 1885), (4571, 4690)),
        "SN029": ((4090, 4543),),
        "SN030": ((939, 962), (1406, 1422), (2100, 2132), (2893, 2955)),
    },
    "bp4d": {
        "F017_T3": ((198, 201), (203, 206), (209, 263), (265, 267), (269, 332), (335, 335)),
        "F021_T3": ((223, 227),),
        "F023_T6": ((1002, 1031),),
        "M003_T5": ((844, 845),),
        "M003_T7": ((1386, 1461),),
        "M009_T4": ((749, 753), (755, 760)),
        "M010_T6": ((942, 957),),
    },
}  # fmt: skip


def part_of(subject: str) -> int:
    """Part (1..3) of a subject such as ``disfa:SN001``; 0 when there is no published part.

    Subjects of DISFA+ are people of DISFA and carry its name.
    """
    dataset, _, name = subject.partition(":")
    for number, names in enumerate(PARTS.get(dataset, ()), 1):
        if name in names:
            return number
    return 0


def random_parts(subjects: Iterable[str], count: int = 3, seed: int = 0) -> dict[str, int]:
    """Seeded parts 1..count of equal size (within one) for sets without published ones."""
    names = sorted(set(subjects))
    random.Random(f"lit_faces parts {seed}").shuffle(names)
    return {name: i % count + 1 for i, name in enumerate(names)}


@dataclass(frozen=True)
class Split:
    """Who trains, who chooses, who is reported on: three disjoint groups of subjects."""

    train: frozenset[str]
    val: frozenset[str]
    test: frozenset[str]

    def __post_init__(self) -> None:
        both = (self.train & self.val) | (self.train & self.test) | (self.val & self.test)
        if both:
            raise ValueError(f"subject {min(both)!r} is in two groups of the split")


def hold_out(subjects: Iterable[str], part: int, val_share: float = 0.2, seed: int = 0) -> Split:
    """Hold out one published (or seeded) part; validation people come off the *training* parts.

    Args:
        subjects: everybody in the set, ``dataset:name``.
        part: 1..3, the part that is tested.
        val_share: share of the training people who validate; at least one where two or more train.
        seed: of the choice of the validation people, and of the parts where none are published.

    Raises:
        ValueError: ``part`` or ``val_share`` cannot be, or nobody would be left to train.
    """
    names = sorted(set(subjects))
    if part not in (1, 2, 3):
        raise ValueError(f"held_out_part: expected 1, 2 or 3, got {part}")
    if not 0 <= val_share < 1:
        raise ValueError(f"val_share: expected 0 up to 1, got {val_share}")
    own = random_parts([name for name in names if not part_of(name)], seed=seed)
    parts = {name: part_of(name) or own[name] for name in names}
    test = frozenset(name for name in names if parts[name] == part)
    train, val = take_validation([name for name in names if name not in test], val_share, seed)
    if not train:
        raise ValueError(f"nobody is left to train on when part {part} is held out: {len(names)} subjects in all")
    return Split(train, val, test)


def leave_one_out(subjects: Iterable[str], subject: str, val_share: float = 0.2, seed: int = 0) -> Split:
    """Test one person, train on all others but some who validate.

    Raises:
        ValueError: no such subject.
    """
    names = sorted(set(subjects))
    chosen = [name for name in names if subject in (name, name.partition(":")[2])]
    if len(chosen) != 1:
        raise ValueError(f"held_out_subject: {subject!r} is not one of {', '.join(names[:8])}, ...")
    train, val = take_validation([name for name in names if name != chosen[0]], val_share, seed)
    return Split(train, val, frozenset(chosen))


def take_validation(names: Sequence[str], share: float, seed: int) -> tuple[frozenset[str], frozenset[str]]:
    """Split training people into those who train and those who validate (at least one, if there are two)."""
    order = sorted(names)
    random.Random(f"lit_faces validation {seed}").shuffle(order)
    count = round(share * len(order))
    if share > 0 and len(order) > 1:
        count = min(max(count, 1), len(order) - 1)
    return frozenset(order[count:]), frozenset(order[:count])
