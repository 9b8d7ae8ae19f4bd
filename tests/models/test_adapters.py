"""A delta: nothing at first, small, worn and taken off without a trace, never by a stranger's detector."""

import copy

import pytest
import torch
from torch import nn

from lit_faces.models.adapters import (
    MOST_BYTES,
    Delta,
    detector_code,
    fold_in,
    learning,
    worn,
)
from lit_faces.tasks.au_detector import AUDetector, load_detector


@pytest.fixture(scope="module")
def detector():
    torch.manual_seed(0)
    return AUDetector("aligned_face_small", size=32).eval().requires_grad_(False)


@pytest.fixture
def images():
    return torch.randint(0, 256, (5, 3, 32, 32), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)


def moved(delta, size=0.05):
    """The same delta, no longer fresh."""
    draws = torch.Generator().manual_seed(4)
    for one in [*delta.up.values(), *delta.shift.values()]:
        one.data.normal_(0.0, size, generator=draws)
    return delta


@pytest.mark.parametrize("backbone", ["aligned_face_small", "mobilenetv3_small_050"])
def test_a_fresh_delta_reads_as_the_shared_detector_to_the_last_bit(backbone, images):
    torch.manual_seed(1)
    detector = AUDetector(backbone, size=32).eval().requires_grad_(False)
    before = detector.predict(images)
    delta = Delta.fresh(detector)
    with worn(detector, delta):
        assert torch.equal(detector.predict(images).intensity, before.intensity)
    with learning(detector, delta):
        assert torch.equal(detector.predict(images).intensity, before.intensity)
        assert {id(p) for p in detector.parameters() if p.requires_grad} == {id(p) for p in delta.parameters()}
    with worn(detector, moved(delta)):
        assert not torch.equal(detector.predict(images).intensity, before.intensity)
    assert torch.equal(detector.predict(images).intensity, before.intensity)


def test_what_is_worn_is_taken_off_whatever_happens(detector, images):
    before, state = detector.predict(images).intensity, copy.deepcopy(detector.state_dict())
    with pytest.raises(RuntimeError, match="stop"), worn(detector, moved(Delta.fresh(detector))):
        raise RuntimeError("stop")
    assert torch.equal(detector.predict(images).intensity, before)
    assert all(torch.equal(value, state[name]) for name, value in detector.state_dict().items())


def test_learning_and_wearing_read_alike(detector, images):
    shared, delta = copy.deepcopy(detector), moved(Delta.fresh(detector, rank=2))
    own = copy.deepcopy(detector)
    fold_in(own, delta)
    with learning(shared, delta):
        learnt = shared.predict(images).intensity
    with worn(shared, delta):
        torch.testing.assert_close(shared.predict(images).intensity, learnt)
    assert torch.equal(own.predict(images).intensity, learnt)
    assert not torch.equal(detector.predict(images).intensity, learnt)


def test_a_folded_zero_is_taken_off(detector, images):
    offset = torch.linspace(0, 1, 19)
    with worn(detector, Delta.fresh(detector).lowered(offset)):
        found = detector.predict(images).intensity
    expected = (detector.predict(images).intensity - offset).clamp_min(0.0)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", ["generic", "mobilenetv3_small_100", "resnet18"])
def test_a_file_has_50_kilobytes_at_most_and_comes_back(name, tmp_path):
    made = load_detector("generic") if name == "generic" else AUDetector(name, size=64)
    delta = moved(Delta.fresh(made))
    path = delta.save(tmp_path / "delta.safetensors", frames=120)
    assert path.stat().st_size <= MOST_BYTES
    back = Delta.load(path)
    back.check(made)
    for name, change in delta.changes().items():
        torch.testing.assert_close(back.changes()[name], change, atol=2e-3, rtol=2e-3)


def test_a_detector_is_known_by_its_weights_in_memory_and_from_its_file(detector, tmp_path):
    detector.export_weights(tmp_path / "d.safetensors")
    assert detector_code(load_detector(tmp_path / "d.safetensors")) == detector_code(detector)
    other = copy.deepcopy(detector)
    other.head.linear.bias.data[0] += 0.1
    assert detector_code(other) != detector_code(detector)


def test_another_detector_is_refused_by_name(detector, tmp_path):
    path = moved(Delta.fresh(detector)).save(tmp_path / "delta.safetensors")
    with pytest.raises(ValueError, match="a delta only fits its own"):
        Delta.load(path).check(load_detector("generic"))


def test_damage_is_named(detector, tmp_path):
    path = moved(Delta.fresh(detector)).save(tmp_path / "delta.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(path.read_bytes()[:900])
    with pytest.raises(ValueError, match="truncated"):
        Delta.load(tmp_path / "cut.safetensors")
    detector.export_weights(tmp_path / "d.safetensors")
    with pytest.raises(ValueError, match="expected a person's delta"):
        Delta.load(tmp_path / "d.safetensors")
    good = dict(Delta.load(path).state_dict())
    with pytest.raises(ValueError, match="do not go together"):
        Delta.of_state({k: v for k, v in good.items() if not k.startswith("up.head")}, "x", "f")
    with pytest.raises(ValueError, match="no part of a delta"):
        Delta.of_state({**good, "up.head/linear/weight": torch.full((19, 4), torch.nan)}, "x", "f")
    foreign = Delta.of_state({"shift.nothing": torch.zeros(3)}, detector_code(detector), "f")
    with pytest.raises(ValueError, match="has no nothing"):
        foreign.check(detector)


def test_a_rank_that_does_not_fit_is_refused():
    class Wide(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone, self.head = nn.Sequential(), nn.Linear(40_000, 19)

    with pytest.raises(ValueError, match="lower"):
        Delta.fresh(Wide())
    with pytest.raises(ValueError, match="1 or more"):
        Delta.fresh(Wide(), rank=0)


def test_a_delta_that_was_learnt_beside_its_person_looks_at_them_while_it_is_worn(images, tmp_path):
    torch.manual_seed(2)
    detector = AUDetector("aligned_face_small", size=32, reference_head=True).eval().requires_grad_(False)
    torch.nn.init.normal_(detector.reference.shift.weight, std=0.2)
    references = detector.make_references(images[:1], torch.zeros(1, 19))
    alone = detector.predict(images).intensity
    detector.set_references(references)
    beside = detector.predict(images).intensity
    detector.set_references(None)
    delta = Delta.fresh(detector, references=references)
    assert delta.save(tmp_path / "delta.safetensors").stat().st_size <= MOST_BYTES
    for one in (delta, Delta.load(tmp_path / "delta.safetensors")):
        with worn(detector, one):
            torch.testing.assert_close(detector.predict(images).intensity, beside, atol=0.02, rtol=0)
        assert torch.equal(detector.predict(images).intensity, alone)
    own = copy.deepcopy(detector)
    fold_in(own, moved(delta))
    with worn(detector, delta):
        assert torch.equal(own.predict(images).intensity, detector.predict(images).intensity)
    damaged = {**delta.state_dict(), "beside.intensity": torch.zeros(1, 3)}
    with pytest.raises(ValueError, match="do not match"):
        Delta.of_state(damaged, delta.detector, "delta")
