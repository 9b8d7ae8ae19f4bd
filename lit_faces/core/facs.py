"""The FACS vocabulary: the 19 Action Units, their anatomy and the emotion prototypes.

Intensity is a float in 0..5 (0 absent, 1..5 the FACS grades A..E).  **NaN means "not coded"** in data, losses and
metrics alike; it never turns into 0.  Facial muscles and appearance changes follow Ekman, Friesen & Hager, *Facial
Action Coding System: The Manual* (2002); emotion prototypes follow EMFACS.

An AU acts where its muscle is, which is written here as a rule on the 68 landmarks (the idea of EAC-Net, Li et al.
2018, and JAA-Net, Shao et al. 2018): a mean of some landmarks, plus an offset along the face's own axes in units of
the distance between the inner eye corners.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_INTENSITY = 5.0
GRADES = ("0", "A", "B", "C", "D", "E")
OCCURRENCE_THRESHOLD = 2.0  # DISFA's protocol: present means intensity >= 2


@dataclass(frozen=True)
class Centre:
    """A muscle centre: mean of ``points`` (68-landmark indices), moved by ``offset`` (x right, y down; inner-eye distances)."""

    points: tuple[int, ...]
    offset: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class ActionUnit:
    """One Action Unit.

    Attributes:
        number: FACS number.
        name: FACS name.
        muscle: muscle that moves it.
        region: ``brows | eyes | nose | cheeks | mouth | chin | jaw``.
        centres: muscle centres in the image (subject's right side first where there are two).
        spread: standard deviation of the AU's map, inner-eye distances.
        moves_landmarks: whether the 68 points move enough to show it (FACTS: AU6 moves them by under 1 %).
    """

    number: int
    name: str
    muscle: str
    region: str
    centres: tuple[Centre, ...]
    spread: float
    moves_landmarks: bool

    @property
    def key(self) -> str:
        """Two-digit name for files and logs, for example ``AU06``."""
        return au_key(self.number)


def au_key(number: int) -> str:
    """``6 -> 'AU06'``."""
    return f"AU{number:02d}"


def _pair(right: tuple[int, ...], left: tuple[int, ...], dx: float = 0.0, dy: float = 0.0) -> tuple[Centre, Centre]:
    """A centre on each side; ``dx`` is outward. The subject's right is on the image's left."""
    return Centre(right, (-dx, dy)), Centre(left, (dx, dy))


CATALOGUE: tuple[ActionUnit, ...] = (
    ActionUnit(1, "inner brow raiser", "frontalis, pars medialis", "brows", _pair((20, 21), (22, 23), dy=-0.25), 0.35, True),
    ActionUnit(2, "outer brow raiser", "frontalis, pars lateralis", "brows", _pair((17, 18), (25, 26), dy=-0.25), 0.35, True),
    ActionUnit(4, "brow lowerer", "corrugator supercilii, depressor supercilii", "brows", _pair((21,), (22,), dy=0.05), 0.35, True),
    ActionUnit(5, "upper lid raiser", "levator palpebrae superioris", "eyes", _pair((37, 38), (43, 44)), 0.22, False),
    ActionUnit(6, "cheek raiser", "orbicularis oculi, pars orbitalis", "cheeks", _pair((36, 41, 40), (45, 46, 47), dx=0.1, dy=0.35), 0.45, False),
    ActionUnit(7, "lid tightener", "orbicularis oculi, pars palpebralis", "eyes", _pair((40, 41), (46, 47), dy=0.05), 0.25, False),
    ActionUnit(9, "nose wrinkler", "levator labii superioris alaeque nasi", "nose", _pair((27, 28, 39), (27, 28, 42), dy=0.1), 0.35, True),
    ActionUnit(10, "upper lip raiser", "levator labii superioris", "mouth", _pair((31, 50), (35, 52)), 0.35, True),
    ActionUnit(12, "lip corner puller", "zygomaticus major", "mouth", _pair((48,), (54,), dx=0.1, dy=-0.1), 0.4, True),
    ActionUnit(14, "dimpler", "buccinator", "mouth", _pair((48,), (54,), dx=0.1), 0.28, True),
    ActionUnit(15, "lip corner depressor", "depressor anguli oris", "mouth", _pair((48,), (54,), dy=0.25), 0.32, True),
    ActionUnit(17, "chin raiser", "mentalis", "chin", (Centre((57, 8)),), 0.45, False),
    ActionUnit(20, "lip stretcher", "risorius", "mouth", _pair((48,), (54,), dx=0.2, dy=0.1), 0.35, True),
    ActionUnit(23, "lip tightener", "orbicularis oris", "mouth", (Centre((51, 57)),), 0.4, False),
    ActionUnit(24, "lip pressor", "orbicularis oris", "mouth", (Centre((62, 66)),), 0.35, True),
    ActionUnit(25, "lips part", "depressor labii inferioris", "mouth", (Centre((62, 66)),), 0.35, True),
    ActionUnit(26, "jaw drop", "masseter, relaxed", "jaw", (Centre((57, 8)),), 0.6, True),
    ActionUnit(27, "mouth stretch", "pterygoids, digastric", "jaw", (Centre((66, 8)),), 0.7, True),
    ActionUnit(43, "eyes closed", "levator palpebrae superioris, relaxed", "eyes", _pair((36, 37, 38, 39, 40, 41), (42, 43, 44, 45, 46, 47)), 0.28, True),
)  # fmt: skip

AUS: tuple[int, ...] = tuple(unit.number for unit in CATALOGUE)
NUM_AUS = len(AUS)
AU_INDEX: dict[int, int] = {number: index for index, number in enumerate(AUS)}
AU_KEYS: tuple[str, ...] = tuple(au_key(number) for number in AUS)

EMOTIONS: tuple[str, ...] = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt")
EMOTION_INDEX: dict[str, int] = {name: index for index, name in enumerate(EMOTIONS)}

#: Typical intensities of a full expression (EMFACS prototypes; weights of secondary units are lower).
EMOTION_PROTOTYPES: dict[str, dict[int, float]] = {
    "neutral": {},
    "happiness": {6: 3.5, 12: 4.0, 25: 2.5},
    "sadness": {1: 3.5, 4: 2.5, 15: 3.5, 17: 2.5},
    "surprise": {1: 4.0, 2: 4.0, 5: 3.0, 25: 3.0, 26: 4.0},
    "fear": {1: 3.5, 2: 2.5, 4: 2.5, 5: 3.5, 7: 1.5, 20: 3.5, 25: 2.5, 26: 2.0},
    "disgust": {9: 4.0, 10: 2.5, 15: 1.5, 17: 2.5, 4: 1.5},
    "anger": {4: 4.0, 5: 2.5, 7: 3.0, 23: 3.0, 24: 2.0},
    "contempt": {14: 4.0, 12: 1.0},
}


def au_numbers(text: str) -> tuple[int, ...]:
    """``"6,17"`` or ``"AU06, AU17"`` to numbers, whether lit_faces codes them or not.

    Raises:
        ValueError: cannot be read.
    """
    try:
        return tuple(int(part.strip().upper().removeprefix("AU")) for part in text.split(","))
    except ValueError:
        raise ValueError(f"cannot read {text!r}; expected AU numbers with commas, such as 6,17") from None


def index_of(numbers: list[int] | tuple[int, ...]) -> list[int]:
    """Columns of the given AU numbers in an AU vector.

    Raises:
        ValueError: a number is not one of :data:`AUS`.
    """
    unknown = [number for number in numbers if number not in AU_INDEX]
    if unknown:
        raise ValueError(f"unknown AU {unknown[0]}: lit_faces codes {', '.join(map(str, AUS))}")
    return [AU_INDEX[number] for number in numbers]


def occurrence(intensity, threshold: float = OCCURRENCE_THRESHOLD):
    """Occurrence 0/1 from intensity; NaN stays NaN. Works on torch tensors and numpy arrays of any shape."""
    present = intensity >= threshold
    as_float = present.to(intensity.dtype) if hasattr(present, "to") else present.astype(intensity.dtype)
    return as_float + (intensity - intensity) * 0  # NaN - NaN is NaN: the code "not coded" survives
