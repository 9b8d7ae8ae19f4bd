"""Plans: what they cover, in which proportions, and that they can be repeated."""

import itertools
from collections import Counter

import pytest
import torch

from lit_faces.core.facs import AU_INDEX, AUS, EMOTION_INDEX, EMOTION_PROTOTYPES, NUM_AUS
from lit_faces.persons.plan import (
    EXCLUSIVE,
    PLANS,
    balanced,
    compatible,
    factorial,
    make_plan,
    natural,
    pairwise,
    plausible,
    prior_of,
    sweeps,
)


@pytest.mark.parametrize("n", [60, 300, 501])
def test_balanced_means_every_au_intensity_and_side_equally_often(n):
    plan = balanced(n, seed=3)
    assert len(plan) == n
    sides = Counter(cell.rsplit(", ")[-1] for cell in plan.cell)
    assert max(sides.values()) - min(sides.values()) <= 0.05 * n + 2
    singles = Counter(int(lead) for lead in plan.lead if lead >= 0)
    assert set(singles) <= set(range(NUM_AUS)) and max(singles.values()) - min(singles.values()) <= 1
    cells = Counter(cell.split(",")[0] for cell in plan.cell if cell.startswith("AU"))
    assert max(cells.values()) - (min(cells.values()) if len(cells) == 57 else 0) <= 1
    emotions = Counter(int(e) for e in plan.emotion if e > 0)
    assert len(emotions) == 7 and max(emotions.values()) - min(emotions.values()) <= 1
    assert any(cell.startswith("neutral") for cell in plan.cell)


def test_what_is_asked_depends_on_slot_and_attempt_alone():
    plan = balanced(80, seed=5)
    pose, au = plan.ask(range(80))
    again = plan.ask([70, 3])
    assert torch.equal(again[0], pose[[70, 3]]) and torch.equal(again[1], au[[70, 3]])
    later = plan.ask(range(80), attempt=1)
    assert not torch.equal(later[0], pose)
    other = balanced(80, seed=6).ask(range(80))
    assert not torch.equal(other[0], pose)


@pytest.mark.parametrize("attempt", [0, 1, 4])
def test_attempts_stay_in_their_cell(attempt):
    plan = balanced(300, seed=1)
    pose, au = plan.ask(range(300), attempt)
    assert float(au.min()) >= 0 and float(au.max()) <= 5
    for k, cell in enumerate(plan.cell):
        kind, side = cell.rsplit(", ", 1)
        yaw = float(pose[k, 0])
        assert {"left": yaw < -8, "front": -8 < yaw < 8, "right": yaw > 8}[side]
        if kind.startswith("AU"):
            number, level = kind.split()
            value = float(au[k, AU_INDEX[int(number[2:])]])
            low, high = {"low": (0.9, 2.1), "middle": (2.4, 3.6), "high": (3.9, 5.0)}[level]
            assert low <= value <= high
        elif kind == "neutral":
            assert float(au[k].sum()) == 0
        assert compatible(set((au[k] >= 0.3).nonzero()[:, 0].tolist()))


def test_stubborn_slots_are_asked_plainly_at_both_ends_of_their_cell():
    plan = balanced(57, seed=1)
    singles = [k for k in range(57) if plan.lead[k] >= 0 and int(plan.lead[k]) not in (AU_INDEX[26], AU_INDEX[27])]
    early, low, high = (plan.ask(singles, attempt)[1] for attempt in (0, 2, 3))
    assert int((early > 0).sum()) > len(singles) and int((low > 0).sum()) == int((high > 0).sum()) == len(singles)
    torch.testing.assert_close((high - low).sum(1), torch.ones(len(singles)))


def test_impossible_faces_give_way_to_the_lead():
    au = torch.zeros(1, NUM_AUS)
    au[0, AU_INDEX[24]], au[0, AU_INDEX[26]] = 3.0, 4.0
    open_mouth, pressed = plausible(au), plausible(au, AU_INDEX[24])
    assert float(open_mouth[0, AU_INDEX[25]]) == 4.0 and float(open_mouth[0, AU_INDEX[24]]) == 0
    assert float(pressed[0, AU_INDEX[24]]) == 3.0 and float(pressed[0, AU_INDEX[26]]) == 0
    assert float(au[0, AU_INDEX[26]]) == 4.0  # the argument is left alone


def test_the_pairwise_plan_shows_every_pair_that_a_face_can_show():
    levels, yaws = (0.0, 2.0, 4.0), (-10.0, 10.0)
    plan = pairwise(aus=(4, 5, 6, 12, 24, 25, 43), levels=levels, yaws=yaws, pitches=(0.0,), active=3)
    shown = [(tuple(pose[:1].tolist()), au) for pose, au in zip(plan.pose, plan.au)]
    for yaw, number, level in itertools.product(yaws, (4, 5, 6, 12), levels):
        assert any(p[0] == yaw and float(au[AU_INDEX[number]]) == level for p, au in shown)
    for one, other in itertools.combinations((4, 5, 6, 12, 24, 25, 43), 2):
        possible = not any({one, other} == set(pair) for pair in EXCLUSIVE)
        for a, b in itertools.product(levels, levels):
            found = any(float(au[AU_INDEX[one]]) == a and float(au[AU_INDEX[other]]) == b for _, au in shown)
            assert found == (possible or not (a and b)), (one, other, a, b)
    assert len(plan) < 0.1 * 2 * 3**7  # of the full factorial
    assert int((plan.au > 0).sum(1).max()) <= 3


def test_factorial_and_sweeps_list_what_they_say():
    plan = factorial((6, 17), (0.0, 5.0), (0.0, 10.0), (0.0,))
    assert len(plan) == 8 and len(set(plan.cell)) == 8
    assert torch.equal(plan.ask(range(8))[0], plan.pose) and torch.equal(plan.ask(range(8))[1], plan.au)
    lines = sweeps((17,), 6)
    assert lines.au[:, AU_INDEX[17]].tolist() == [0, 1, 2, 3, 4, 5]
    assert float((lines.au.sum(1) - lines.au[:, AU_INDEX[17]]).abs().max()) == 0
    with pytest.raises(ValueError, match="combinations"):
        factorial((1, 2, 4, 5, 6, 7, 9))
    with pytest.raises(ValueError, match="no AU"):
        sweeps((3,))


def test_natural_plans_follow_the_prior():
    faces = torch.full((400, NUM_AUS), float("nan"))
    faces[:, [AU_INDEX[6], AU_INDEX[12]]] = 0.0
    faces[300:, AU_INDEX[12]] = 4.0
    faces[300:, AU_INDEX[6]] = 3.0
    faces[:5] = float("nan")  # not coded at all
    prior = prior_of(faces)
    assert 0.2 < float((prior[:, AU_INDEX[12]] > 0).float().mean()) < 0.5  # 1:3 by counts, 1:1.7 by their roots
    plan = natural(200, 1, prior)
    both = (plan.au[:, AU_INDEX[6]] > 1) == (plan.au[:, AU_INDEX[12]] > 1)
    assert bool(both.all()) and float(plan.au[:, AU_INDEX[17]].max()) == 0
    free = natural(300, 1)
    joint = ((free.au[:, AU_INDEX[6]] > 1) & (free.au[:, AU_INDEX[12]] > 1)).float().mean()
    apart = (free.au[:, AU_INDEX[6]] > 1).float().mean() * (free.au[:, AU_INDEX[12]] > 1).float().mean()
    assert float(joint) > 1.5 * float(apart)  # cheeks rise in smiles
    with pytest.raises(ValueError, match="no row"):
        natural(5, 0, prior[:0])


def test_prototypes_carry_their_emotion():
    plan = make_plan("prototypes", 64, 2)
    assert set(plan.emotion.tolist()) == set(range(len(EMOTION_INDEX)))
    for au, emotion in zip(plan.au, plan.emotion.tolist()):
        name = list(EMOTION_INDEX)[emotion]
        active = {AUS[k] for k in (au > 0).nonzero()[:, 0].tolist()}
        assert active == set(EMOTION_PROTOTYPES[name])


@pytest.mark.parametrize("name", PLANS)
def test_any_plan_has_the_asked_size_and_a_table(name):
    plan = make_plan(name, 37, seed=4)
    head, *rows = plan.summary().splitlines()
    assert len(plan) == 37 and "37 pictures" in head
    words = [word for cell in plan.cell for word in cell.rsplit(", ", 1)]
    assert sum(int(row.split()[-1]) for row in rows) == len(words) and len(rows) == len(set(words))
    pose, au = plan.ask(range(37), 2)
    assert pose.shape == (37, 3) and au.shape == (37, NUM_AUS) and bool(au.isfinite().all())


def test_plans_that_cannot_be():
    with pytest.raises(ValueError, match="expected one of balanced"):
        make_plan("blanced", 5)
    with pytest.raises(ValueError, match="expected 1 or more"):
        make_plan("balanced", 0)
    with pytest.raises(ValueError, match="expected 1 or more"):
        make_plan("sweeps", -1)
    assert len(make_plan("sweeps", 0)) == 6 * NUM_AUS
