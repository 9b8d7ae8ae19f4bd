"""From a photo into a registry: `personalise --registry`, `adapt --method delta`, and whose face it is."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lit_faces import adapt, people, personalise
from lit_faces.core.labelled import read_labelled
from lit_faces.core.landmarks import FaceAnalyser
from lit_faces.models.adapters import MOST_BYTES, Delta, detector_code, worn
from lit_faces.persons.enrolment import enrol, entry_of, face_of
from lit_faces.persons.registry import Entry, Registry
from lit_faces.tasks.au_detector import load_detector
from tests.small_person import SmallPerson

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return SmallPerson.write(tmp_path_factory.mktemp("small"))


def test_a_photo_is_personalised_and_enrolled(small, tmp_path, capsys):
    registry, out = tmp_path / "people", tmp_path / "anna"
    words = small.personalise(out, "--registry", str(registry), "--name", "anna")
    assert personalise.main(words) == 0
    assert "anna is enrolled, 1 people" in capsys.readouterr().out
    assert (out / "detector" / "delta.safetensors").stat().st_size <= MOST_BYTES
    shared = load_detector(small.root / "small.safetensors")
    kept = Registry(registry, detector_code(shared))
    entry = kept.get("anna")
    assert entry.delta is not None and entry.zero is not None and entry.face is not None
    again = face_of(small.root / "anna.png", analyser=FaceAnalyser())
    assert float(np.linalg.norm(entry.face - again)) < 0.2
    held = sum(path.stat().st_size for path in registry.rglob("*") if path.is_file())
    assert held < 60_000  # no picture is in it
    own, pictures = load_detector(out), torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    with worn(shared, entry.delta):
        torch.testing.assert_close(shared.predict_au(pictures), own.predict_au(pictures), atol=0.02, rtol=0)
    assert personalise.main(words) == 0
    assert "enrolled anew, 1 people" in capsys.readouterr().out
    with pytest.raises(ValueError, match="somebody else is called 'anna'"):
        enrol(kept, "anna", replace(entry, face=entry.face + 1.0))
    assert people.main([str(registry), "--add", "cat", "--photo", str(small.root / "anna.png"), "--face", "3"]) == 2
    assert "anna.png" in capsys.readouterr().err


def test_deltas_of_two_people_by_adapt(small, tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    assert adapt.main(small.adapt(first, "--method", "delta", "--name", "anna")) == 0
    delta = Delta.load(first / "delta.safetensors")
    delta.check(load_detector(small.root / "small.safetensors"))
    memory = ["--memory", str(first / "memory.safetensors"), "--detector", str(first / "detector.safetensors")]
    sets = ["--person", str(small.root / "labelled"), "--name", "ben", "--out", str(second), "--steps", "2"]
    generic = ["--generic", str(small.root / "crowd"), "--accelerator", "cpu", "--seed", "4"]
    assert adapt.main([*sets, *memory, *generic]) == 0  # the shared detector is in the memory, as it was
    Delta.load(second / "delta.safetensors").check(load_detector(small.root / "small.safetensors"))
    assert entry_of(first, None, "").delta is not None
    with pytest.raises(ValueError, match="holds neither"):
        entry_of(small.root / "crowd", None, "")


def test_a_trained_delta_makes_a_toy_person_better_and_leaves_the_rest_alone(small):
    """A person whose AUs are misread by a constant: few steps take it off, for this person alone."""
    from lit_faces.persons.learner import PersonalLearner
    from lit_faces.persons.recipes import Recipe

    detector = load_detector(small.root / "small.safetensors")
    faces = read_labelled(small.root / "labelled", 32)
    before = detector.predict_au(faces.image)
    truth = (before + 1.5).clamp(0, 5)
    learner = PersonalLearner(
        detector, "delta_alone", Recipe(steps=30, batch_size=8, delta_lr=3e-2, precision="32-true")
    )
    learner.learn("anna", replace(faces, au_intensity=truth))
    assert float((learner.predict(faces.image, "anna") - truth).abs().mean()) < 1.0  # of 1.5
    assert torch.equal(learner.predict(faces.image), before)
    assert torch.equal(learner.predict(faces.image, "somebody"), before)
    with pytest.raises(ValueError, match="1 to 100"):
        Registry.create(small.root / "people", detector_code(detector)).add("", Entry(learner.personal["anna"]))
