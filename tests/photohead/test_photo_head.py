"""A photograph as a head: what it answers, and what it says of its answers. The photograph is a rendered face."""

import numpy as np
import pytest
import torch

from lit_faces.core.alignment import mirror_landmarks, outer_eye_distance
from lit_faces.core.facs import AU_INDEX, NUM_AUS
from lit_faces.core.landmarks import FaceAnalyser
from lit_faces.core.originals import cut_original, original_of_crop
from lit_faces.fitting.landmark_model import LandmarkModel
from lit_faces.fitting.retarget import fit_photo
from lit_faces.photohead.fitting import fit_mesh
from lit_faces.photohead.head import PhotoHead
from lit_faces.photohead.honesty import doubts, eyes_are_covered, turned_too_far
from lit_faces.photohead.scenes import Scene, relit
from lit_faces.rendering.renderer import FaceRenderer

SIZE = 128


@pytest.fixture(scope="module")
def model():
    return LandmarkModel()


@pytest.fixture(scope="module")
def photo():
    """A resting face from the front: image (3, S, S), landmarks (68, 2)."""
    one, still = torch.ones(1, dtype=torch.int64), torch.zeros(1, NUM_AUS)
    faces = FaceRenderer(SIZE, seed=71).render(one, 0 * one, 0 * one, still, torch.zeros(1, 3))
    return faces.image[0], faces.landmarks[0]


def head_of(image, landmarks, model, size=SIZE, **known):
    original = original_of_crop(image)
    face = fit_photo(model, landmarks, image.shape[-1], asked(**known))
    return PhotoHead(original.image, original.crop, face, model, size)


@pytest.fixture(scope="module")
def head(photo, model):
    return head_of(*photo, model)


def asked(**levels):
    """AU12=3.0 and the like as a vector."""
    au = torch.zeros(NUM_AUS)
    for name, level in levels.items():
        au[AU_INDEX[int(name[2:])]] = level
    return au


def test_a_request_that_changes_nothing_gives_the_photo_back(head, photo):
    made = head.render(asked())
    change = np.abs(made.image.astype(float) - photo[0].permute(1, 2, 0).numpy())
    assert change.mean() <= 1.0
    assert np.abs(made.landmarks - photo[1].numpy()).max() < 0.02 * SIZE
    assert made.uncertain == []


def test_landmarks_are_where_dlib_finds_them(head):
    analyser = FaceAnalyser()
    for au, pose in ((asked(AU12=4.0), (12.0, 0.0, 0.0)), (asked(AU26=4.0, AU25=4.0), (-8.0, 5.0, 4.0))):
        made = head.render(au, pose=torch.tensor(pose))
        found = analyser.landmarks(made.image)
        error = np.linalg.norm(found - made.landmarks, axis=1).mean() / outer_eye_distance(made.landmarks)
        assert error < 0.07  # dlib errs by .05 on true renders
        again = head.landmarks_of(au, au, torch.tensor(pose))
        np.testing.assert_allclose(again, made.landmarks, atol=1e-3)


def test_the_mirrored_request_of_the_mirrored_photo_is_the_mirrored_picture(head, photo, model):
    image, points = photo
    other = head_of(image.flip(2), mirror_landmarks(points, SIZE), model)
    right, left = asked(AU12=4.0, AU2=1.0), asked(AU12=1.0, AU2=4.0)
    one = head.render(right, left, torch.tensor([10.0, 4.0, 3.0]))
    two = other.render(left, right, torch.tensor([-10.0, 4.0, -3.0]))
    mirrored = mirror_landmarks(one.landmarks, SIZE)
    assert np.abs(mirrored - two.landmarks).max() < 0.02 * SIZE
    assert np.abs(one.image[:, ::-1].astype(float) - two.image).mean() < 4.0


def test_pictures_do_not_depend_on_what_was_asked_before(head, photo, model):
    au, pose = asked(AU6=3.0, AU4=2.0), torch.tensor([-9.0, 3.0, 0.0])
    first = head.render(au, pose=pose)
    head.render(asked(AU43=5.0), pose=-pose)
    assert np.array_equal(first.image, head.render(au, pose=pose).image)
    assert np.array_equal(first.image, head_of(*photo, model).render(au, pose=pose).image)


@pytest.mark.parametrize("size", [128, 512])
def test_every_size_shows_the_same(size, head, photo, model):
    small, made = head.render(asked(AU12=3.0)), head_of(*photo, model, size).render(asked(AU12=3.0))
    assert made.image.shape == (size, size, 3) and made.image.dtype == np.uint8
    scaled = (small.landmarks + 0.5) * size / SIZE - 0.5
    assert np.abs(scaled - made.landmarks).max() < 0.01 * size


def test_what_is_guessed_is_said(head, photo, model):
    def said(request, turn=0.0, **shown):
        fit = fit_mesh(head.mesh, model, fit_photo(model, photo[1], SIZE, asked(**shown)), torch.ones(NUM_AUS))
        return doubts(fit, False, request, request, fit.pose + torch.tensor([turn, 0.0, 0.0]))

    assert said(asked(AU12=3.0), 20.0) == []
    assert "teeth and tongue are invented" in head.render(asked(AU26=4.0)).uncertain[0]
    assert "30 degrees" in said(asked(), 30.0)[0]
    assert "open eyes are invented" in said(asked(), AU43=4.5)[0] and not said(asked(AU43=4.5), AU43=4.5)
    assert "AU12" in said(asked(), AU12=4.0)[0] and not said(asked(AU12=4.0), AU12=4.0)
    assert turned_too_far(torch.tensor([41.0, 0, 0]), torch.zeros(3)).startswith("turned 41 degrees")
    assert turned_too_far(torch.tensor([0.0, 20, 0]), torch.zeros(3)) == ""


def test_a_grey_photo_stays_grey(photo, model):
    grey = photo[0].float().mean(0, keepdim=True).expand(3, -1, -1).round().to(torch.uint8)
    made = head_of(grey, photo[1], model).render(asked(AU26=5.0, AU25=5.0)).image.astype(int)
    assert np.ptp(made, axis=-1).max() <= 1


def test_dark_glasses_are_seen(photo):
    image, points = photo
    assert not eyes_are_covered(image, points)
    worn = image.clone()
    for first in (36, 42):
        x, y = points[first : first + 6].mean(0).round().int().tolist()
        worn[:, y - 9 : y + 15, x - 16 : x + 16] = 15
    assert eyes_are_covered(worn, points)


def test_a_lamp_lights_the_side_that_it_is_on(head):
    lamp = relit(head.light, np.array([0.9, 0.1, 0.42], dtype=np.float32), 0.0, 0.5)  # from the picture's right
    plain, lit = head.render(asked()).image.astype(float), head.render(asked(), scene=Scene(lamp)).image.astype(float)
    change = lit - plain
    cheeks = [change[r, c].mean() for r, c in _cheeks(head)]
    assert cheeks[1] > cheeks[0] + 5
    assert np.abs(change[:8, :8]).max() == 0  # the wall has its own light


def _cheeks(head):
    points = head.render(asked()).landmarks
    for eye, mouth in ((36, 48), (45, 54)):
        x, y = (points[eye] + points[mouth]) / 2
        yield slice(int(y) - 3, int(y) + 4), slice(int(x) - 3, int(x) + 4)


def test_another_room_leaves_the_face_alone(head):
    room = np.zeros((16, 16, 3), np.float32)
    room[..., 1] = 255.0
    plain, moved = head.render(asked()), head.render(asked(), scene=Scene(background=room))
    x, y = plain.landmarks[30].astype(int)
    face = slice(y - 20, y + 20), slice(x - 20, x + 20)
    assert np.abs(plain.image[face].astype(int) - moved.image[face]).max() <= 1
    assert (moved.image[:6, :6] == [0, 255, 0]).all()


def test_the_part_of_a_photo_that_is_kept_shows_the_same_crop():
    picture = np.random.default_rng(0).integers(0, 255, (400, 500, 3), dtype=np.uint8)
    kept = cut_original(picture, (260.5, 200.25, 90.0))
    dx, dy = 260.5 - kept.crop[0], 200.25 - kept.crop[1]
    assert dx.is_integer() and dy.is_integer() and kept.crop[2] == 90.0
    rows, columns = slice(int(dy), int(dy) + kept.image.shape[0]), slice(int(dx), int(dx) + kept.image.shape[1])
    assert np.array_equal(kept.image, picture[rows, columns])
    large = cut_original(np.zeros((9000, 9000, 3), np.uint8), (4500.0, 4400.0, 4096.0))
    assert large.crop[2] == pytest.approx(1024, rel=0.01) and max(large.image.shape) < 2300
