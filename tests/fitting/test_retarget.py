"""Retargeting against rendered people whom the landmark model has never seen."""

import pytest
import torch

from lit_faces.core.facs import AU_INDEX, NUM_AUS
from lit_faces.core.landmarks import outer_eye_distance
from lit_faces.fitting.landmark_model import LandmarkModel
from lit_faces.fitting.retarget import MAX_YAW, drive, fit_clip, fit_photo, refusal, retarget, smooth_over_time
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


def rows(rendered, person):
    return slice(person * FRAMES, (person + 1) * FRAMES)


def test_a_neutral_photo_gives_the_person_in_other_poses_with_other_aus(model, rendered):
    own, strangers = [], []
    photos = [rendered.select(slice(p * FRAMES, p * FRAMES + 1)) for p in range(PEOPLE)]
    for person in range(PEOPLE):
        rest = rendered.select(slice(person * FRAMES + 1, (person + 1) * FRAMES))
        for photo, found in ((photos[person], own), (photos[person - 1], strangers)):
            face = fit_photo(model, photo.landmarks[0], 64, photo.au_intensity[0])
            assert face.error < 0.012 and refusal(face) is None
            found.append(nme(retarget(model, face, rest.pose, rest.au_intensity), rest.landmarks))
    assert float(torch.cat(own).mean()) < 0.012
    assert float(torch.cat(strangers).mean()) > 3 * float(torch.cat(own).mean())  # it is this person


def test_pose_is_found_and_the_source_reproduced(model, rendered):
    for row in range(0, PEOPLE * FRAMES, FRAMES):
        face = fit_photo(model, rendered.landmarks[row], 64, rendered.au_intensity[row])
        assert float((face.pose - rendered.pose[row]).abs().max()) < 3.0
        again = retarget(model, face, face.pose[None], face.au[None])[0]
        torch.testing.assert_close(again, rendered.landmarks[row], atol=1e-2, rtol=0)


def test_what_the_model_cannot_explain_turns_with_the_head(model, rendered):
    """A mole-like displacement to the image's right of a frontal face shrinks by the cosine when the head turns."""
    still = torch.zeros(1, NUM_AUS)
    base = model.project(torch.zeros(1, 30), torch.zeros(1, 3), still, torch.zeros(1, 3), 128)[0]
    moved = base.clone()
    moved[30, 0] += 1.0  # tip of the nose, one pixel
    turned = []
    for points in (base, moved):
        face = fit_photo(model, points, 128, still[0])
        turned.append(retarget(model, face, torch.tensor([[40.0, 0.0, 0.0]]), still)[0, 30, 0])
    assert 0.3 < float(turned[1] - turned[0]) < 0.85


def test_wrong_points_lose_their_weight_and_are_replaced(model, rendered):
    points = rendered.landmarks[0].clone()
    whole = fit_photo(model, points, 64, rendered.au_intensity[0])
    points[[40, 41, 50]] += torch.tensor([12.0, -9.0])
    bent = fit_photo(model, points, 64, rendered.au_intensity[0])
    assert bent.wrong.nonzero()[:, 0].tolist() == [40, 41, 50] and not bool(whole.wrong.any())
    assert float((bent.landmarks - rendered.landmarks[0]).norm(dim=1).max()) < 1.5  # nearly where they belong
    assert float((bent.pose - whole.pose).abs().max()) < 2.0


def test_a_clip_shares_one_identity_and_is_better_than_its_worst_frame(model, rendered):
    generator = torch.Generator().manual_seed(1)
    frames = rendered.select(rows(rendered, 1))
    noisy = frames.landmarks + 0.5 * torch.randn(frames.landmarks.shape, generator=generator)
    faces = fit_clip(model, noisy, 64, frames.au_intensity, noise=0.008)
    assert all(torch.equal(face.identity, faces[0].identity) for face in faces)
    rest = rendered.select(slice(FRAMES + 1, 2 * FRAMES))

    def error(face):
        return float(nme(retarget(model, face, rest.pose, rest.au_intensity), rest.landmarks).mean())

    alone = [error(fit_photo(model, noisy[k], 64, frames.au_intensity[k], noise=0.008)) for k in range(FRAMES)]
    assert error(faces[0]) < sum(alone) / len(alone)
    for face, pose in zip(faces, frames.pose):
        assert float((face.pose - pose).abs().max()) < 5.0


def test_one_frame_clip_is_the_photo(model, rendered):
    one = fit_photo(model, rendered.landmarks[2], 64)
    other = fit_clip(model, rendered.landmarks[2:3], 64)[0]
    assert torch.equal(one.identity, other.identity) and one.error == other.error


def test_aus_that_move_landmarks_are_estimated(model, rendered):
    still = fit_photo(model, rendered.landmarks[0], 64, torch.zeros(NUM_AUS))
    smile = torch.zeros(NUM_AUS)
    smile[AU_INDEX[12]] = 4.0
    found = fit_photo(model, retarget(model, still, still.pose[None], smile[None])[0], 64).au
    assert 2.0 < float(found[AU_INDEX[12]]) <= 5.0
    assert bool(((found >= 0) & (found <= 5)).all())


def test_a_toothy_smile_does_not_become_the_identity(model, rendered):
    """The gap of the lips belongs to the smile: it goes when a closed mouth is asked, and stays with the smile."""
    still = fit_photo(model, rendered.landmarks[0], 64, torch.zeros(NUM_AUS))
    smile, grin = torch.zeros(NUM_AUS), torch.zeros(NUM_AUS)
    smile[AU_INDEX[12]], smile[AU_INDEX[25]] = 4.0, 2.5
    grin[:] = smile
    grin[AU_INDEX[27]] = 1.5  # teeth show, but nobody would code a mouth stretch
    points = retarget(model, still, still.pose[None], grin[None])[0]
    face = fit_photo(model, points, 64, smile, free_jaw=True)
    gap = lambda found: float((found[62] - found[66]).norm())  # noqa: E731
    closed = retarget(model, face, face.pose[None], torch.zeros(1, NUM_AUS))[0]
    rest = retarget(model, still, still.pose[None], torch.zeros(1, NUM_AUS))[0]
    assert gap(points) > 3 * gap(closed) and abs(gap(closed) - gap(rest)) < 1.0
    again = retarget(model, face, face.pose[None], smile[None])[0]
    assert gap(again) > 0.7 * gap(points)
    stiff = fit_photo(model, points, 64, smile)
    assert gap(retarget(model, stiff, stiff.pose[None], torch.zeros(1, NUM_AUS))[0]) > gap(closed)


def test_unknown_landmarks_are_filled_and_too_few_refused(model, rendered):
    points = rendered.landmarks[0].clone()
    whole = fit_photo(model, points, 64, rendered.au_intensity[0])
    points[:17] = float("nan")
    part = fit_photo(model, points, 64, rendered.au_intensity[0])
    assert part.error < 0.015 and bool(part.landmarks.isfinite().all()) and not bool(part.wrong.any())
    assert float((part.pose - whole.pose).abs().max()) < 5.0
    points[17:48] = float("nan")
    with pytest.raises(ValueError, match="only 20 of 68"):
        fit_photo(model, points, 64)
    with pytest.raises(ValueError, match=r"expected \(68, 2\)"):
        fit_photo(model, points[:5], 64)
    with pytest.raises(ValueError, match=r"expected \(T, 68, 2\)"):
        fit_clip(model, points, 64)
    with pytest.raises(ValueError, match=r"au: expected \(1, 19\)"):
        fit_clip(model, rendered.landmarks[:1], 64, torch.zeros(2, 19))


def test_bad_fits_are_refused_with_the_reason(model, rendered):
    generator = torch.Generator().manual_seed(2)
    noise = fit_photo(model, 64 * torch.rand(68, 2, generator=generator), 64)
    assert "do not fit a face" in str(refusal(noise))
    still = torch.zeros(1, NUM_AUS)
    turned = torch.tensor([[MAX_YAW + 14.0, 0.0, 0.0]])
    points = model.project(torch.zeros(1, 30), turned, still, torch.zeros(1, 3), 64)[0]
    assert "profile view" in str(refusal(fit_photo(model, points, 64, still[0])))


def test_driving_takes_pose_and_aus_of_the_one_and_the_shape_of_the_other(model, rendered):
    me, actor = (rendered.select(rows(rendered, person)) for person in (0, 2))
    face = fit_photo(model, me.landmarks[0], 64, me.au_intensity[0])
    driver = fit_clip(model, actor.landmarks, 64, actor.au_intensity)
    pose, au, points = drive(model, face, driver, smooth=0.0)
    assert float((pose - actor.pose).abs().max()) < 4.0
    torch.testing.assert_close(au, actor.au_intensity)
    torch.testing.assert_close(points, retarget(model, face, pose, au))
    given = torch.full_like(au, float("nan"))
    given[:, 0] = 3.0
    assert drive(model, face, driver, given, smooth=0.0)[1][:, 0].tolist() == [3.0] * FRAMES
    with pytest.raises(ValueError, match="no frame"):
        drive(model, face, [])


def test_smoothing_keeps_constants_and_calms_noise():
    generator = torch.Generator().manual_seed(3)
    noise = torch.randn(200, 4, generator=generator)
    torch.testing.assert_close(smooth_over_time(torch.ones(9, 2), 2.0), torch.ones(9, 2))
    assert float(smooth_over_time(noise, 2.0).std()) < 0.5 * float(noise.std())
    assert torch.equal(smooth_over_time(noise, 0.0), noise)
