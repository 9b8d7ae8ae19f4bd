"""A detector that learns people one after another: every method, and a saved learner goes on as if never stopped."""

import copy

import pytest
import torch

from lit_faces.persons.learner import PersonalLearner, shipped_fisher
from lit_faces.persons.methods import ALL_METHODS, CLOSED_FORM, ZERO_SHOT
from lit_faces.persons.recipes import Recipe
from lit_faces.tasks.au_detector import AUDetector, load_detector

pytestmark = pytest.mark.filterwarnings("ignore")
RECIPE = Recipe(steps=3, batch_size=4, lr=1e-3, precision="32-true")


@pytest.fixture(scope="module")
def detector():
    torch.manual_seed(0)
    made = AUDetector("aligned_face_small", size=32, reference_head=True)
    torch.nn.init.normal_(made.reference.shift.weight, std=0.2)
    return made.eval().requires_grad_(False)


def people(faces, seed, count=6):
    """Faces of which the first is neutral."""
    found = faces(count, seed)
    found.au_intensity[0] = torch.where(found.au_intensity[0].isnan(), float("nan"), 0.0)
    return found


def started(detector, method, faces):
    learner = PersonalLearner(copy.deepcopy(detector), method, RECIPE, capacity=12, fisher_samples=2)
    learner.start(faces(8, 90), people(faces, 91, 8))
    return learner


@pytest.mark.parametrize("method", [m for m in ALL_METHODS if m != "generative_replay"])  # see test_generative_replay
def test_every_method_learns_a_person_and_goes_on_from_what_it_saved(method, detector, faces, tmp_path):
    learner = started(detector, method, faces)
    strangers = faces(4, 50).image
    before = learner.predict(strangers)
    learner.learn("anna", people(faces, 1))
    learner.save(tmp_path / "memory.safetensors")
    resumed = PersonalLearner(copy.deepcopy(detector), method, RECIPE, capacity=12, fisher_samples=2)
    resumed.load(tmp_path / "memory.safetensors")
    for one in (learner, resumed):
        one.learn("ben", people(faces, 2))
    assert learner.learnt == resumed.learnt == ["anna", "ben"]
    for name in ("anna", "ben", None):
        assert torch.equal(learner.predict(strangers, name), resumed.predict(strangers, name))
    if method in ZERO_SHOT + CLOSED_FORM or method == "none" or method.startswith("delta"):
        assert torch.equal(learner.predict(strangers), before)  # nobody else notices
    if method not in ("none", "neutral", "neutral_raw"):  # one neutral frame says nothing of how people differ
        assert not torch.equal(learner.predict(strangers, "ben"), before)


@pytest.mark.parametrize("method", ["neutral", "ridge", "finetune", "delta_alone"])
def test_the_exported_personal_detector_reads_as_the_learner_does(method, detector, faces, tmp_path):
    learner = started(detector, method, faces)
    learner.learn("anna", people(faces, 1))
    learner.for_person("anna").export_weights(tmp_path / "detector.safetensors")
    images = faces(6, 7).image
    exported = load_detector(tmp_path / "detector.safetensors").predict(images).intensity
    torch.testing.assert_close(exported, learner.predict(images, "anna"), atol=0.02, rtol=0)


def test_nothing_to_learn_from_changes_nothing(detector, faces):
    learner = started(detector, "finetune", faces)
    images = faces(3, 7).image
    before = learner.predict(images)
    learner.learn("anna", faces(6, 1).select(slice(0, 0)))
    assert torch.equal(learner.predict(images), before)
    assert learner.learnt == ["anna"]


def test_the_memory_holds_the_bound_and_joint_holds_everything(detector, faces):
    bounded, joint = (started(detector, method, faces) for method in ("replay", "joint"))
    for learner in (bounded, joint):
        for number, name in enumerate(("anna", "ben")):
            learner.learn(name, people(faces, number))
    assert len(bounded.memory) == 12
    assert len(joint.memory) == 8 + 6 + 6
    assert {"anna", "ben"} <= set(joint.memory.subjects)


def test_mistakes_are_named(detector, faces, tmp_path):
    with pytest.raises(ValueError, match="expected one of"):
        PersonalLearner(detector, "magic")
    learner = started(detector, "replay", faces)
    learner.save(tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match="was kept for the method 'replay'"):
        PersonalLearner(detector, "finetune").load(tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match="another architecture"):
        PersonalLearner(AUDetector("aligned_face_base", size=32), "replay").load(tmp_path / "m.safetensors")
    learner.detector.export_weights(tmp_path / "d.safetensors")
    with pytest.raises(ValueError, match="expected a memory"):
        learner.load(tmp_path / "d.safetensors")
    expressive = faces(6, 3)
    with pytest.raises(ValueError, match="no neutral frame"):
        PersonalLearner(detector, "neutral").start(expressive)


def test_the_shipped_fisher_goes_with_the_shipped_detector():
    fisher = shipped_fisher("generic")
    parameters = dict(load_detector("generic").named_parameters())
    wanted = {name for name in parameters if name.startswith(("backbone.", "head."))}
    assert wanted <= fisher.keys() <= parameters.keys()
    assert all(fisher[name].shape == parameters[name].shape and bool((fisher[name] >= 0).all()) for name in wanted)
    assert shipped_fisher("packaged") is None
