"""Learning one person and keeping the others: mechanics on a detector of a few weights."""

import copy

import pytest
import torch

from lit_faces.core.sample import joined
from lit_faces.models.adapters import Delta, fold_in
from lit_faces.persons.methods import BY_GRADIENT, METHODS
from lit_faces.persons.recipes import OnDelta, Recipe, learn_delta, learn_person
from lit_faces.tasks.au_detector import AUDetector
from lit_faces.tasks.personal import PersonalHead

pytestmark = pytest.mark.filterwarnings("ignore")
RECIPE = Recipe(steps=8, batch_size=4, lr=3e-3)


class Shelf:
    """A memory that gives what it holds, in order."""

    def __init__(self, faces) -> None:
        self.faces, self.asked = faces, []

    def sample(self, n, generator):
        self.asked.append(n)
        return self.faces.select(torch.arange(n) % len(self.faces))


@pytest.fixture
def detector():
    torch.manual_seed(0)
    return AUDetector("aligned_face_small", size=32).eval()


def consolidated(name, detector, faces):
    if METHODS[name].penalty is None:
        return None
    penalty = METHODS[name].penalty(RECIPE)
    if penalty.at_start:
        penalty.consolidate(detector, faces(6, 50).image_float())
    return penalty


def moved(before, after):
    return {
        name.split(".")[0]
        for (name, a), b in zip(before.named_parameters(), after.parameters(), strict=True)
        if not torch.equal(a, b)
    }


@pytest.mark.parametrize("method", [name for name in BY_GRADIENT if METHODS[name].trains != "delta"])
def test_every_method_learns_and_leaves_the_old_detector_alone(method, detector, faces):
    before = copy.deepcopy(detector)
    memory, penalty = Shelf(faces(5, 9)), consolidated(method, detector, faces)
    steps: list[int] = []
    after = learn_person(detector, faces(7, 1), method, RECIPE, memory, penalty, each_step=lambda: steps.append(1))
    assert moved(before, detector) == set()
    assert len(steps) == (0 if METHODS[method].trains == "nothing" else RECIPE.steps)
    expected = {"nothing": set(), "head": {"head"}, "all": {"backbone", "head"}}[METHODS[method].trains]
    assert moved(before, after) == expected
    assert memory.asked == ([8] * 8 if METHODS[method].replay else []), "two remembered faces a new one"
    assert not after.training
    for name, buffer in before.named_buffers():
        if "running" in name:
            assert torch.equal(buffer, dict(after.named_buffers())[name])  # a few faces must not move the statistics


@pytest.mark.parametrize("method", ["delta", "delta_alone", "delta_ewc_replay"])
def test_a_delta_is_learnt_beside_the_detector(method, detector, faces):
    before = copy.deepcopy(detector)
    memory, penalty = Shelf(faces(5, 9)), consolidated(method, detector, faces)
    steps: list[int] = []
    delta = learn_delta(
        detector, faces(7, 1), METHODS[method], RECIPE, memory, penalty, each_step=lambda: steps.append(1)
    )
    assert moved(before, detector) == set() and len(steps) == RECIPE.steps
    assert all(bool(up.any()) for up in delta.up.values())
    assert memory.asked == ([4] * 8 if METHODS[method].replay else [])


def test_a_penalty_is_felt_by_a_delta_as_by_the_weights_that_it_changes(detector, faces):
    penalty = consolidated("ewc", detector, faces)
    delta = Delta.fresh(detector, rank=2)
    for up in delta.up.values():
        up.data.normal_(generator=torch.Generator().manual_seed(1))
    other = copy.deepcopy(detector)
    fold_in(other, delta)
    felt = OnDelta(penalty, delta)
    torch.testing.assert_close(felt.penalty(detector), penalty.penalty(other), rtol=1e-4, atol=0)
    felt.gradient_(detector)
    assert all(bool(parameter.grad.any()) for parameter in delta.up.values())
    held = learn_delta(detector, faces(7, 1), METHODS["delta_ewc_replay"], RECIPE, Shelf(faces(5, 9)), penalty)
    penalty.strength = 1e6
    firm = learn_delta(detector, faces(7, 1), METHODS["delta_ewc_replay"], RECIPE, Shelf(faces(5, 9)), penalty)

    def size(one):
        return sum(float(change.square().sum()) for change in one.changes().values())

    assert size(firm) < 0.5 * size(held)


def test_the_same_seed_gives_the_same_person(detector, faces):
    first, second = (learn_person(detector, faces(7, 1), "finetune", RECIPE) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_a_penalty_holds_what_it_is_told_to(detector, faces):
    free = learn_person(detector, faces(7, 1), "finetune", RECIPE)
    strong = Recipe(**{**vars(RECIPE), "l2sp": 1e4})
    penalty = METHODS["l2sp"].penalty(strong)
    penalty.consolidate(detector)
    held = learn_person(detector, faces(7, 1), "l2sp", strong, penalty=penalty)

    def way(other):
        return sum(float((a - b).square().sum()) for a, b in zip(detector.parameters(), other.parameters()))

    assert way(held) < 0.5 * way(free)


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("magic", "unknown method magic"),
        ("neutral", "leaves the detector as it is"),
        ("delta", "leaves the detector as it is"),
        ("replay", "needs a memory"),
        ("ewc", "needs a penalty that was consolidated"),
    ],
)
def test_what_is_missing_is_named(method, words, detector, faces):
    with pytest.raises(ValueError, match=words):
        learn_person(detector, faces(4, 1), method, RECIPE)


def test_no_frames_and_no_rate(detector, faces):
    with pytest.raises(ValueError, match="no labelled frames"):
        learn_person(detector, faces(4, 1).select(slice(0, 0)), "finetune", RECIPE)
    with pytest.raises(ValueError, match="expected numbers above 0"):
        PersonalHead(detector, lr=0.0)


def test_joining_keeps_the_order(faces):
    both = joined(faces(2, 0), faces(3, 1))
    assert len(both) == 5 and both.subject == ["s0:0", "s0:1", "s1:0", "s1:1", "s1:2"]
    assert len(joined(both, both.select(slice(0, 0)))) == 5


def test_a_calibrated_detector_learns_what_is_read_out(detector, faces):
    detector.calibration.scale.fill_(2.0)
    detector.calibration.shift.fill_(-1.0)
    person = faces(6, 3)
    learnt = learn_person(detector, person, "head_only", Recipe(steps=60, batch_size=6, lr=0.05))
    truth = person.au_intensity[:, ::2]

    def error(which):
        return float((which.predict_au(person.image)[:, ::2] - truth).abs().mean())

    assert error(learnt) < 0.7 * error(detector)
    assert torch.equal(learnt.calibration.scale, detector.calibration.scale)


def test_head_only_trains_nothing_else(detector):
    task = PersonalHead(detector, trains="head")
    assert {name.split(".")[0] for name, p in task.detector.named_parameters() if p.requires_grad} == {"head"}
