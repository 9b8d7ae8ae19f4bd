"""What to ask the generator for: designs over pose x AU x intensity, balanced, covering, natural or prototypical.

A plan is a list of *slots*. Each slot belongs to a *cell* (what it is to show, in words), and can be asked again: the
first attempt is the slot itself, later ones vary the pose and the intensity within the cell, for pictures that the
verification rejected. What a slot asks at an attempt depends on (plan, seed, slot, attempt) alone.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lit_faces.core.facs import AU_INDEX, AU_KEYS, AUS, EMOTION_INDEX, EMOTION_PROTOTYPES, MAX_INTENSITY, NUM_AUS
from lit_faces.core.seeding import generator_for

PLANS = ("balanced", "factorial", "sweeps", "pairwise", "natural", "prototypes")
#: What cannot be shown together; the second gives way.
EXCLUSIVE = ((25, 23), (25, 24), (5, 43), (27, 26))
YAWS = {"left": -18.0, "front": 0.0, "right": 18.0}  # of the subject's nose in the picture; centres, degrees
_YAW_SLACK, _PITCH_SPREAD, _ROLL_SPREAD = 7.0, 6.0, 3.0
LEVELS = {"low": 1.5, "middle": 3.0, "high": 4.5}
_LEVEL_SLACK = 0.5
_STREAM, _ORDER = 0x91A8, 0x91A9
_PLAIN = 2  # attempts from which a slot is asked without companions
_RETRY_POSE, _RETRY_LEVEL = (4.0, 3.0, 2.0), 0.35  # how far later attempts vary a fixed slot


@dataclass
class Plan:
    """A design.

    Attributes:
        name: which design.
        seed: of everything drawn.
        cell: cell of each slot, n words such as ``AU06 high, left``.
        pose: float32 (n, 3), yaw, pitch, roll in degrees.
        au: float32 (n, 19), 0..5.
        lead: column of the AU that the slot is about, -1 for none (neutral, several).
        emotion: index into ``EMOTIONS``, -1 for none.
        extras: up to so many further AUs are drawn at each attempt.
        pose_slack: how far from ``pose`` an attempt may be, degrees; ``level_slack`` likewise for the lead's intensity.
    """

    name: str
    seed: int
    cell: list[str]
    pose: Tensor
    au: Tensor
    lead: Tensor
    emotion: Tensor
    extras: int = 0
    pose_slack: tuple[float, float, float] = (0.0, 0.0, 0.0)
    level_slack: float = 0.0
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.cell)

    def ask(self, slots: Sequence[int], attempt: int = 0) -> tuple[Tensor, Tensor]:
        """What to ask for.

        Args:
            slots: B of 0..n-1.
            attempt: 0 for the first time.

        Returns:
            Poses (B, 3) in degrees and intensities (B, 19), 0..5.
        """
        poses, aus = [], []
        for slot in slots:
            draws = generator_for(self.seed, _STREAM, slot, attempt)
            pose, au = self.pose[slot].clone(), self.au[slot].clone()
            uniform = 2 * torch.rand(4, generator=draws) - 1
            slack = torch.tensor(self.pose_slack)
            if attempt:
                slack = torch.maximum(slack, torch.tensor(_RETRY_POSE))
            pose = pose + slack * uniform[:3]
            vary = max(self.level_slack, _RETRY_LEVEL if attempt else 0.0)
            if attempt >= _PLAIN:  # stubborn: both ends of the cell in turn, and nothing beside the lead
                uniform[3] = 1.0 if attempt % 2 else -1.0
            lead = int(self.lead[slot])
            shown = au > 0 if lead < 0 else torch.arange(NUM_AUS) == lead
            au = torch.where(shown & (au > 0), (au + vary * uniform[3]).clamp(0.3, MAX_INTENSITY), au)
            if self.extras and lead >= 0 and attempt < _PLAIN:
                au = self._with_extras(au, lead, draws)
            poses.append(pose)
            aus.append(au)
        return torch.stack(poses), torch.stack(aus)

    def _with_extras(self, au: Tensor, lead: int, draws: torch.Generator) -> Tensor:
        """Further AUs that can go with the lead."""
        count = int(torch.randint(self.extras + 1, (), generator=draws))
        level = 0.5 + 4.0 * torch.rand(NUM_AUS, generator=draws)
        barred = {lead, *(AU_INDEX[number] for number in (26, 27) if AUS[lead] == 25)}  # a jaw would part the lips more
        for column in torch.randperm(NUM_AUS, generator=draws).tolist():
            if count and column not in barred and compatible({*au.nonzero()[:, 0].tolist(), column}):
                au[column] = level[column]
                count -= 1
        return plausible(au[None], lead)[0]

    def summary(self) -> str:
        """Planned pictures by AU and intensity, and by side, a line each."""
        counts = Counter(name for cell in self.cell for name in cell.rsplit(", ", 1))
        width = max(map(len, counts))
        head = f"{self.name} plan, {len(self)} pictures, seed {self.seed}"
        return "\n".join([head, *(f"{name:{width}}  {count}" for name, count in counts.items())])


def compatible(columns: set[int]) -> bool:
    """Whether AUs can be shown together (an open jaw parts the lips)."""
    numbers = {AUS[column] for column in columns}
    if numbers & {26, 27}:
        numbers.add(25)
    return not any({one, other} <= numbers for one, other in EXCLUSIVE)


def plausible(au: Tensor, lead: int = -1) -> Tensor:
    """Intensities (B, 19) that a face can show: a dropped jaw parts the lips, ``lead`` stays whatever it excludes."""
    au = au.clone()
    if lead >= 0 and AUS[lead] in (23, 24):  # pressed lips are closed
        for number in (25, 26, 27):
            au[:, AU_INDEX[number]] = 0.0
    jaw = torch.maximum(au[:, AU_INDEX[26]], au[:, AU_INDEX[27]])
    au[:, AU_INDEX[25]] = torch.maximum(au[:, AU_INDEX[25]], jaw)
    for stays, goes in EXCLUSIVE:
        if lead >= 0 and AUS[lead] == goes:
            stays, goes = goes, stays
        au[:, AU_INDEX[goes]] *= au[:, AU_INDEX[stays]] < 0.3
    return au


def make_plan(name: str, n: int, seed: int = 0, prior: Tensor | None = None) -> Plan:
    """A plan by name.

    Args:
        name: one of :data:`PLANS`.
        n: slots; ``factorial``, ``sweeps`` and ``pairwise`` are repeated or thinned evenly to it (0: as they are).
        seed: of what is drawn.
        prior: float (m, 19), AU vectors that people really showed, for ``natural``.

    Raises:
        ValueError: no such plan, or a number of slots that it cannot have.
    """
    if n < 0 or (n == 0 and name in ("balanced", "natural", "prototypes")):
        raise ValueError(f"--n: expected 1 or more pictures for the plan {name}, got {n}")
    if name == "balanced":
        return balanced(n, seed)
    if name == "natural":
        return natural(n, seed, prior)
    if name == "prototypes":
        return prototypes(n, seed)
    if name == "factorial":
        return _resized(factorial(seed=seed), n)
    if name == "sweeps":
        return _resized(sweeps(seed=seed), n)
    if name == "pairwise":
        return _resized(pairwise(seed=seed), n)
    raise ValueError(f"--plan: expected one of {', '.join(PLANS)}, got {name!r}")


def balanced(n: int, seed: int = 0, emotions: float = 0.12) -> Plan:
    """Every AU leads equally often, low, middle and high, left, front and right.

    A share are emotion prototypes and neutral faces. The lead may have up to two other AUs beside it. Remainders are
    spread so that no AU, level or side has two slots more than another of its kind.

    Args:
        n: slots.
        seed: of order and companions.
        emotions: share of emotion prototypes; neutral faces have about half as many.
    """
    sides = list(YAWS)
    kinds: list[tuple[int, str, int]] = []  # lead column, word, emotion
    rest = [name for name in EMOTION_INDEX if EMOTION_PROTOTYPES[name]]
    acted, plain = round(emotions * n), round(0.5 * emotions * n)
    plain = max(plain, min(n, 1))
    singles = n - acted - plain
    if singles < 0:
        acted, singles = 0, n - plain
    order = torch.randperm(NUM_AUS, generator=generator_for(seed, _ORDER)).tolist()
    grid = [
        (order[k % NUM_AUS], list(LEVELS)[(k // NUM_AUS + order[k % NUM_AUS]) % len(LEVELS)]) for k in range(singles)
    ]
    kinds += [(column, level, -1) for column, level in grid]
    kinds += [(-1, rest[k % len(rest)], EMOTION_INDEX[rest[k % len(rest)]]) for k in range(acted)]
    kinds += [(-1, "neutral", EMOTION_INDEX["neutral"])] * plain
    cell: list[str] = []
    pose: list[Tensor] = []
    au: list[Tensor] = []
    lead: list[int] = []
    emotion: list[int] = []
    seen: Counter[tuple[int, str]] = Counter()
    turn: dict[tuple[int, str], int] = {}
    for column, word, which in kinds:
        kind = (column, word)
        first = turn.setdefault(kind, len(turn))  # sides start in turn, so that no side is favoured
        side = sides[(seen[kind] + first) % len(sides)]
        seen[kind] += 1
        row = torch.zeros(NUM_AUS)
        if column >= 0:
            row[column] = LEVELS[word]
            row = plausible(row[None], column)[0]
        elif word != "neutral":
            strength = (0.5, 0.8, 1.1)[(seen[kind] - 1) % 3]
            for number, value in EMOTION_PROTOTYPES[word].items():
                row[AU_INDEX[number]] = min(value * strength, MAX_INTENSITY)
        cell.append(f"{AU_KEYS[column]} {word}, {side}" if column >= 0 else f"{word}, {side}")
        pose.append(_posed(seed, len(pose), YAWS[side]))
        au.append(row)
        lead.append(column)
        emotion.append(which)
    return Plan(
        "balanced", seed, cell, torch.stack(pose), torch.stack(au), torch.tensor(lead), torch.tensor(emotion), 2,
        (_YAW_SLACK, 0.0, 0.0), _LEVEL_SLACK,
    )  # fmt: skip


def _posed(seed: int, slot: int, yaw: float) -> Tensor:
    """A pose with natural pitch and roll."""
    z = torch.randn(2, generator=generator_for(seed, _ORDER, slot)).clamp(-2.0, 2.0)
    return torch.stack([torch.tensor(yaw), _PITCH_SPREAD * z[0], _ROLL_SPREAD * z[1]])


def factorial(
    aus: Sequence[int] = (6, 17),
    levels: Sequence[float] = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0),
    yaws: Sequence[float] = (-20.0, -10.0, 0.0, 10.0, 20.0),
    pitches: Sequence[float] = (0.0,),
    seed: int = 0,
) -> Plan:
    """All combinations of poses and of the intensities of some AUs.

    Raises:
        ValueError: an unknown AU, or more than 100,000 combinations.
    """
    columns = _columns(aus)
    count = len(levels) ** len(columns) * len(yaws) * len(pitches)
    if count > 100_000:
        raise ValueError(f"factorial plan: {count:,} combinations; use the pairwise plan for so many factors")
    rows = []
    for yaw, pitch in itertools.product(yaws, pitches):
        for combination in itertools.product(levels, repeat=len(columns)):
            row = torch.zeros(NUM_AUS)
            row[columns] = torch.tensor(combination)
            words = " ".join(f"{AU_KEYS[c]}={v:g}" for c, v in zip(columns, combination))
            rows.append((f"{words}, yaw {yaw:g} pitch {pitch:g}", (yaw, pitch, 0.0), plausible(row[None])[0]))
    return _fixed("factorial", seed, rows)


def sweeps(aus: Sequence[int] = AUS, steps: int = 6, yaws: Sequence[float] = (0.0,), seed: int = 0) -> Plan:
    """One AU after another from 0 to 5, alone."""
    rows = []
    for yaw, column in itertools.product(yaws, _columns(aus)):
        for value in torch.linspace(0.0, MAX_INTENSITY, steps).tolist():
            row = torch.zeros(NUM_AUS)
            row[column] = value
            row = plausible(row[None], column)[0]
            rows.append((f"{AU_KEYS[column]}={value:g}, yaw {yaw:g}", (yaw, 0.0, 0.0), row))
    return _fixed("sweeps", seed, rows)


def prototypes(n: int, seed: int = 0) -> Plan:
    """Emotion prototypes and neutral, weak to full, from all sides."""
    names, strengths = list(EMOTION_INDEX), (0.4, 0.6, 0.8, 1.0, 1.2)
    rows, emotions = [], []
    for k in range(n):
        name = names[k % len(names)]
        turn = k // len(names)
        side = list(YAWS)[turn % len(YAWS)]
        row = torch.zeros(NUM_AUS)
        for number, value in EMOTION_PROTOTYPES[name].items():
            row[AU_INDEX[number]] = min(value * strengths[turn % len(strengths)], MAX_INTENSITY)
        rows.append((f"{name}, {side}", tuple(_posed(seed, k, YAWS[side]).tolist()), row))
        emotions.append(EMOTION_INDEX[name])
    plan = _fixed("prototypes", seed, rows)
    plan.emotion, plan.pose_slack = torch.tensor(emotions), (_YAW_SLACK, 0.0, 0.0)
    return plan


def natural(n: int, seed: int = 0, prior: Tensor | None = None) -> Plan:
    """AUs as they go together in life.

    Args:
        n: slots.
        seed: of what is drawn.
        prior: float (m, 19), AU vectors of real frames (:func:`prior_of`), NaN = not coded, which is asked as absent.
            Rows are drawn with replacement and varied by half a grade. None: emotion prototypes whose AUs come and go
            independently, and neutral faces.

    Raises:
        ValueError: a prior without rows.
    """
    draws = generator_for(seed, _ORDER, n)
    if prior is not None and not len(prior):
        raise ValueError("the prior has no row: give labelled faces with coded AUs")
    rows = []
    names = [name for name in EMOTION_INDEX if EMOTION_PROTOTYPES[name]]
    for k in range(n):
        row = torch.zeros(NUM_AUS)
        if prior is not None:
            row = prior[int(torch.randint(len(prior), (), generator=draws))].nan_to_num(0.0)
            row = torch.where(row > 0, row + 0.25 * torch.randn(NUM_AUS, generator=draws), row)
        elif float(torch.rand((), generator=draws)) > 0.25:
            name = names[int(torch.randint(len(names), (), generator=draws))]
            for number, value in EMOTION_PROTOTYPES[name].items():
                if float(torch.rand((), generator=draws)) < 0.75:
                    row[AU_INDEX[number]] = value * (0.2 + float(torch.rand((), generator=draws)))
        yaw = 2 * max(YAWS.values()) * (float(torch.rand((), generator=draws)) - 0.5)
        side = min(YAWS, key=lambda word: abs(YAWS[word] - yaw))
        rows.append((f"natural, {side}", tuple(_posed(seed, k, yaw).tolist()), plausible(row[None].clamp(0, 5))[0]))
    return _fixed("natural", seed, rows)


def prior_of(au_intensity: Tensor, least: float = 0.5) -> Tensor:
    """AU vectors for :func:`natural`, from labelled frames (DISFA, BP4D, ...).

    Runs of almost equal frames count by their square root, so that long neutral stretches do not drown the rest.

    Args:
        au_intensity: float (m, 19), NaN = not coded.
        least: grades below it count as absent.

    Returns:
        float (k, 19).
    """
    coded = au_intensity[au_intensity.isfinite().any(1)].nan_to_num(0.0)
    rounded = torch.where(coded >= least, coded, torch.zeros_like(coded)).round()
    unique, place, counts = torch.unique(rounded, dim=0, return_inverse=True, return_counts=True)
    weight = counts.float().sqrt()
    times = (weight / weight.min().clamp_min(1.0)).round().long().clamp_min(1) if len(unique) else counts
    first = torch.stack([(place == k).nonzero()[0, 0] for k in range(len(unique))]) if len(unique) else counts
    return torch.where(coded >= least, coded, torch.zeros_like(coded))[first].repeat_interleave(times, 0)


def pairwise(
    aus: Sequence[int] = AUS,
    levels: Sequence[float] = (0.0, 2.5, 4.5),
    yaws: Sequence[float] = (-18.0, 0.0, 18.0),
    pitches: Sequence[float] = (-8.0, 0.0, 8.0),
    active: int = 4,
    seed: int = 0,
    candidates: int = 12,
) -> Plan:
    """A covering array of strength two: every pair of levels of every two factors is shown, with few pictures.

    Factors are yaw, pitch and each AU; pairs that no face can show are left out. Rows are made greedily, the best of
    some candidates at a time (AETG: Cohen, Dalal, Fredman, Patton, IEEE TSE 1997), with at most ``active`` AUs each.

    Raises:
        ValueError: an unknown AU, or a level outside 0..5.
    """
    columns = _columns(aus)
    if not all(0 <= level <= MAX_INTENSITY for level in levels):
        raise ValueError(f"levels: expected intensities 0..5, got {list(levels)}")
    sizes = [len(yaws), len(pitches), *(len(levels) for _ in columns)]
    zero = [index for index, level in enumerate(levels) if level == 0]
    open_pairs = set()
    for (f, one), (g, other) in itertools.combinations(enumerate(sizes), 2):
        for a, b in itertools.product(range(one), range(other)):
            shown = {columns[k - 2] for k, level in ((f, a), (g, b)) if k >= 2 and level not in zero}
            if compatible(shown) and (len(shown) <= active):
                open_pairs.add((f, a, g, b))
    draws = generator_for(seed, _ORDER, 0x9A12)
    rows = []
    while open_pairs:
        best = max(
            (_candidate(open_pairs, sizes, columns, zero, active, draws) for _ in range(candidates)),
            key=lambda row: len(_covered(row) & open_pairs),
        )
        gained = _covered(best) & open_pairs
        if not gained:  # cannot happen: a candidate starts from an open pair
            break
        open_pairs -= gained
        au = torch.zeros(NUM_AUS)
        for column, index in zip(columns, best[2:]):
            au[column] = levels[index]
        yaw, pitch = yaws[best[0]], pitches[best[1]]
        words = " ".join(f"{AU_KEYS[c]}={au[c]:g}" for c in range(NUM_AUS) if au[c] > 0) or "neutral"
        rows.append((f"{words}, yaw {yaw:g} pitch {pitch:g}", (yaw, pitch, 0.0), plausible(au[None])[0]))
    return _fixed("pairwise", seed, rows)


def _covered(row: Sequence[int]) -> set[tuple[int, int, int, int]]:
    return {(f, row[f], g, row[g]) for f, g in itertools.combinations(range(len(row)), 2)}


def _candidate(
    open_pairs: set[tuple[int, int, int, int]],
    sizes: Sequence[int],
    columns: Sequence[int],
    zero: Sequence[int],
    active: int,
    draws: torch.Generator,
) -> list[int]:
    """A row around an open pair; factors in random order take the level that covers most, within what a face can do."""
    pairs = sorted(open_pairs)
    f, a, g, b = pairs[int(torch.randint(len(pairs), (), generator=draws))]
    row: dict[int, int] = {f: a, g: b}
    shown = {columns[k - 2] for k, level in row.items() if k >= 2 and level not in zero}
    for factor in torch.randperm(len(sizes), generator=draws).tolist():
        if factor in row:
            continue
        gains = []
        for level in range(sizes[factor]):
            now = shown | {columns[factor - 2]} if factor >= 2 and level not in zero else shown
            if len(now) > active or not compatible(now):
                continue
            new = sum(
                ((k, v, factor, level) if k < factor else (factor, level, k, v)) in open_pairs for k, v in row.items()
            )
            gains.append((new, float(torch.rand((), generator=draws)), level))
        row[factor] = max(gains)[2] if gains else (zero[0] if zero else 0)
        if factor >= 2 and row[factor] not in zero:
            shown.add(columns[factor - 2])
    return [row[k] for k in range(len(sizes))]


def _columns(aus: Sequence[int]) -> list[int]:
    unknown = [number for number in aus if number not in AU_INDEX]
    if unknown or not aus:
        raise ValueError(f"plan: lit_faces has no AU {unknown or ''}; it codes {', '.join(map(str, AUS))}")
    return [AU_INDEX[number] for number in aus]


def _fixed(name: str, seed: int, rows: Sequence[tuple[str, Sequence[float], Tensor]]) -> Plan:
    """A plan whose first attempt is exactly what is listed."""
    au = torch.stack([row[2] for row in rows])
    active = au > 0
    lead = torch.where(active.sum(1) == 1, active.float().argmax(1), -1)
    pose = torch.tensor([list(row[1]) for row in rows])
    return Plan(name, seed, [row[0] for row in rows], pose, au, lead, torch.full((len(rows),), -1))


def _resized(plan: Plan, n: int) -> Plan:
    """A fixed plan thinned evenly or repeated to n slots."""
    if n in (0, len(plan)):
        return plan
    own = len(plan)
    pick = [k % own for k in range(n)] if n > own else [math.floor(k * own / n) for k in range(n)]
    index = torch.tensor(pick)
    note = f"the {plan.name} plan has {own} slots; {'repeated' if n > own else 'thinned evenly'} to {n}"
    return Plan(
        plan.name, plan.seed, [plan.cell[k] for k in pick], plan.pose[index], plan.au[index], plan.lead[index],
        plan.emotion[index], plan.extras, plan.pose_slack, plan.level_slack, [note],
    )  # fmt: skip
