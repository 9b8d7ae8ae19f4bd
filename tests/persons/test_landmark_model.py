"""The landmark model against rendered people whom it has never seen."""

import pytest
import torch

from lit_faces.core.facs import AU_INDEX, NUM_AUS
from lit_faces.core.landmarks import outer_eye_distance
from lit_faces.persons.landmark_model import LandmarkModel
from lit_faces.rendering.renderer import FaceRenderer

PEOPLE, FRAMES = 4, 6


@pytest.fixture(scope="module")
def model():
    return LandmarkModel()


@pytest.fixture(scope="module")
def rendered():
    """Each person: a neutral frame, then others, in one framing (scene)."""
    who = torch.arange(PEOPLE).repeat_interleave(FRAMES)
    frame = torch.arange(FRAMES).repeat(PEOPLE)
    au = torch.full((len(who), NUM_AUS), float("nan"))
    au[frame == 0] = 0.0
    return FaceRenderer(64, seed=77).render(who, frame, torch.zeros_like(who), au)


def nme(found, truth):
    """Mean distance over the outer eye distance, place and size apart."""
    found, truth = (points - points.mean(1, keepdim=True) for points in (found, truth))
    found = found * (truth.norm(dim=(1, 2)) / found.norm(dim=(1, 2)))[:, None, None]
    return (found - truth).norm(dim=2).mean(1) / outer_eye_distance(truth)


def test_a_neutral_photo_gives_the_person_in_other_poses_with_other_aus(model, rendered):
    own, strangers = [], []
    photos = [rendered.select(slice(p * FRAMES, p * FRAMES + 1)) for p in range(PEOPLE)]
    for person in range(PEOPLE):
        rest = rendered.select(slice(person * FRAMES + 1, (person + 1) * FRAMES))
        for photo, found in ((photos[person], own), (photos[person - 1], strangers)):
            face = model.fit(photo.landmarks[0], 64, photo.au_intensity[0])
            assert face.error < 0.01
            found.append(nme(model.retarget(face, rest.pose, rest.au_intensity), rest.landmarks))
    assert float(torch.stack(own).mean()) < 0.02
    assert float(torch.stack(strangers).mean()) > 2 * float(torch.stack(own).mean())  # it is this person


def test_pose_is_found_and_the_source_reproduced(model, rendered):
    for row in range(0, PEOPLE * FRAMES, FRAMES):
        face = model.fit(rendered.landmarks[row], 64, rendered.au_intensity[row])
        assert float((face.pose - rendered.pose[row]).abs().max()) < 3.0
        again = model.retarget(face, face.pose[None], face.au[None])[0]
        torch.testing.assert_close(again, rendered.landmarks[row], atol=1e-3, rtol=0)


def test_aus_that_move_landmarks_are_estimated(model, rendered):
    face = model.fit(rendered.landmarks[0], 64)
    smile = torch.zeros(NUM_AUS)
    smile[AU_INDEX[12]] = 4.0
    points = model.retarget(model.fit(rendered.landmarks[0], 64, torch.zeros(NUM_AUS)), face.pose[None], smile[None])[0]
    found = model.fit(points, 64).au
    assert 2.0 < float(found[AU_INDEX[12]]) <= 5.0
    assert bool(((found >= 0) & (found <= 5)).all())


def test_unknown_landmarks_are_left_out_and_too_few_refused(model, rendered):
    points = rendered.landmarks[0].clone()
    whole = model.fit(points, 64, rendered.au_intensity[0])
    points[:17] = float("nan")
    part = model.fit(points, 64, rendered.au_intensity[0])
    assert part.error < 0.01
    assert float((part.pose - whole.pose).abs().max()) < 5.0
    points[17:48] = float("nan")
    with pytest.raises(ValueError, match="only 20 of 68"):
        model.fit(points, 64)
    with pytest.raises(ValueError, match=r"expected \(68, 2\)"):
        model.fit(points[:5], 64)
