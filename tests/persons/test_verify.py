"""Verification: each way a picture can be wrong is found, and true pictures pass."""

import pytest
import torch

from lit_faces.core.facs import AU_INDEX, NUM_AUS
from lit_faces.core.landmarks import FaceAnalyser
from lit_faces.persons.verify import JUDGE_ERROR, UNVERIFIABLE, Tolerances, Verifier, labels_of
from lit_faces.rendering.renderer import FaceRenderer

AU6, AU7, AU12 = AU_INDEX[6], AU_INDEX[7], AU_INDEX[12]


@pytest.fixture(scope="module")
def analyser():
    return FaceAnalyser()


@pytest.fixture(scope="module")
def faces():
    """Neutral source and three frames of one person, then a stranger, all in one light."""
    who = torch.tensor([5, 5, 5, 5, 9])
    pose = torch.tensor([[0.0, 0, 0], [8, 0, 0], [-8, 0, 0], [0, 5, 0], [0, 0, 0]])
    return FaceRenderer(128, seed=66).render(who, torch.arange(5), 0 * who, torch.zeros(5, NUM_AUS), pose)


class Judge:
    """Says what it is told; the source (one picture) reads 0.5 everywhere."""

    def __init__(self):
        self.says = None

    def __call__(self, images):
        return torch.full((len(images), NUM_AUS), 0.5) if self.says is None else self.says


def verdicts(faces, analyser, says, asked, lead, rows=(1, 2, 3), landmarks=None, images=None, **limits):
    judge = Judge()
    source = faces.select(slice(0, 1))
    found = analyser.batch_landmarks(faces.image)
    source.landmarks = found[:1]
    verifier = Verifier(judge, source, analyser, Tolerances(**limits))
    judge.says = says
    rows = list(rows)
    points = found[rows] if landmarks is None else landmarks
    pictures = faces.image[rows] if images is None else images
    return verifier(pictures, points, asked, lead, torch.zeros(len(rows), dtype=torch.int64))


def test_true_pictures_pass_and_readings_count_from_the_source(faces, analyser):
    asked = torch.zeros(3, NUM_AUS)
    asked[:, AU12] = 3.0
    found = verdicts(faces, analyser, asked + 0.5, asked, torch.full((3,), AU12))
    assert found.reason == ["", "", ""] and found.kept == [True] * 3
    torch.testing.assert_close(found.achieved, asked)
    assert float(found.leak.max()) == 0 and float(found.nme.max()) < 0.01
    assert float(found.distance.min()) > 0 and float(found.distance.max()) < 0.45


def test_an_au_that_is_not_shown_is_found_but_not_one_that_the_judge_cannot_tell(faces, analyser):
    asked, says = torch.zeros(3, NUM_AUS), torch.full((3, NUM_AUS), 0.5)
    asked[:, AU7], asked[:2, AU6], asked[2, AU12] = 4.0, 4.0, 1.0
    says[1, AU6] = 4.0
    lead = torch.tensor([AU6, AU6, AU7])
    found = verdicts(faces, analyser, says, asked, lead)
    assert found.reason[0] == "AU06: asked 4.0, achieved 0.0" and found.reason[1:] == ["", ""]
    assert JUDGE_ERROR[7] > UNVERIFIABLE and torch.isnan(found.distance[0])  # rejected before the dear check


def test_the_aus_in_focus_are_verified_in_every_picture(faces, analyser):
    asked, says = torch.zeros(3, NUM_AUS), torch.full((3, NUM_AUS), 0.5)
    asked[:, AU12], says[:, AU12] = 3.0, 3.5
    says[0, AU6] = 3.5
    lead = torch.full((3,), AU12)
    assert verdicts(faces, analyser, says, asked, lead).reason == ["AU06: asked 0.0, achieved 3.0", "", ""]
    assert verdicts(faces, analyser, says, asked, lead, focus=()).reason == ["", "", ""]
    with pytest.raises(ValueError, match="--focus: AU7 cannot be verified"):
        Tolerances(focus=(7,))


def test_several_asked_aus_are_judged_together(faces, analyser):
    asked, says = torch.zeros(2, NUM_AUS), torch.full((2, NUM_AUS), 0.5)
    asked[:, AU6], asked[:, AU12] = 3.0, 4.0
    says[0, AU6], says[0, AU12] = 3.5, 4.0
    found = verdicts(faces, analyser, says, asked, torch.tensor([-1, -1]), rows=(1, 2))
    assert found.reason[0] == "" and found.reason[1].startswith("AU12")


def test_leak_landmarks_identity_and_missing_faces(faces, analyser):
    asked, says = torch.zeros(4, NUM_AUS), torch.full((4, NUM_AUS), 0.5)
    says[0, [0, 1, 2, 3, 5, 6, 7, 8]] = 3.0
    landmarks = analyser.batch_landmarks(faces.image)[[1, 2, 4, 3]].clone()
    landmarks[1] += 7.0
    images = faces.image[[1, 2, 4, 3]].clone()
    images[3] = torch.randint(0, 255, images[3].shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    limits = {"identity": 0.45}
    found = verdicts(faces, analyser, says, asked, torch.full((4,), -1), (1, 2, 4, 3), landmarks, images, **limits)
    assert found.reason[0].startswith("leak of") and "landmarks" in found.reason[1]
    assert found.reason[2].startswith("another person") and found.reason[3] == "no face found"
    assert torch.isnan(found.nme[3])


def test_labels():
    limits = Tolerances()
    asked, achieved = torch.zeros(1, NUM_AUS), torch.zeros(1, NUM_AUS)
    asked[0, [AU6, AU7, AU12]], achieved[0, [AU6, AU7, AU12]] = (
        torch.tensor([3.0, 4.0, 4.0]),
        torch.tensor([2.0, 0.0, 1.0]),
    )
    agreed = labels_of(asked, achieved, "agreed", limits)[0]
    assert float(agreed[AU6]) == 3.0 and float(agreed[AU7]) == 4.0 and torch.isnan(agreed[AU12])
    kept = labels_of(asked, achieved, "achieved", limits)[0]
    assert float(kept[AU6]) == 2.0 and float(kept[AU7]) == 4.0  # the judge cannot tell AU7: as asked
    assert torch.equal(labels_of(asked, achieved, "asked", limits), asked)
    with pytest.raises(ValueError, match="--labels"):
        labels_of(asked, achieved, "seen", limits)
    with pytest.raises(ValueError, match="--max-nme"):
        Tolerances(nme=0.0)
