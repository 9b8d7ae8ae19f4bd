"""Frames of glasses on a photograph: found, rigid, and not seen where there are none. The photographs are renders."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from lit_faces.core.facs import AU_INDEX, NUM_AUS
from lit_faces.core.originals import original_of_crop
from lit_faces.fitting.landmark_model import LandmarkModel
from lit_faces.fitting.retarget import fit_photo
from lit_faces.photohead.glasses import pixels_of
from lit_faces.photohead.head import PhotoHead
from lit_faces.rendering.renderer import FaceRenderer

SIZE, SUBJECT = 160, 4


class Optician(FaceRenderer):
    """Everybody wears the same frames: half width, half height, thickness (mm), shade; or none."""

    worn: tuple[float, ...] = (0.0, 25.0, 17.0, 1.6, 0.1)

    def people(self, subjects):
        found = super().people(subjects)
        return replace(found, glasses=torch.tensor([self.worn]).expand(len(subjects), -1))


@pytest.fixture(scope="module")
def optician():
    return Optician(SIZE, seed=71)


def head_of(optician, worn):
    optician.worn = (1.0 if worn else 0.0, *Optician.worn[1:])
    who, still = torch.tensor([SUBJECT]), torch.zeros(1, dtype=torch.int64)
    faces = optician.render(who, still, still, torch.zeros(1, NUM_AUS), torch.zeros(1, 3))
    original = original_of_crop(faces.image[0])
    face = fit_photo(LandmarkModel(), faces.landmarks[0], SIZE, torch.zeros(NUM_AUS))
    return PhotoHead(original.image, original.crop, face, LandmarkModel(), SIZE)


@pytest.fixture(scope="module")
def heads(optician):
    return head_of(optician, True), head_of(optician, False)


def test_frames_are_found_and_bare_faces_have_none(heads):
    worn, bare = heads
    assert worn.glasses is not None and bare.glasses is None
    share = (worn.glasses.alpha > 0.5).mean()
    assert 0.005 < share < 0.08


def test_a_request_that_changes_nothing_keeps_the_frames(heads):
    made = heads[0].render(torch.zeros(NUM_AUS))
    assert np.abs(made.image.astype(float) - heads[0].exact).mean() < 1.0
    assert made.uncertain == []


def test_frames_do_not_follow_cheeks_and_brows(heads):
    worn = heads[0]
    au = torch.zeros(NUM_AUS)
    for number in (1, 2, 6, 12):
        au[AU_INDEX[number]] = 5.0
    frame = worn.glasses.alpha > 0.95
    shown = cv2.resize(frame.astype(np.float32), (SIZE, SIZE), interpolation=cv2.INTER_AREA) > 0.99
    assert shown.sum() > 20
    change = np.abs(worn.render(au).image.astype(float) - worn.exact).mean(-1)
    assert change[shown].mean() < 4.0  # though the skin beneath has moved by millimetres


def test_frames_turn_as_a_plane_before_the_eyes(heads):
    worn = heads[0]
    pose = worn.fit.pose + torch.tensor([15.0, 0.0, 0.0])
    made = worn.render(torch.zeros(NUM_AUS), pose=pose)
    front = worn.glasses.quads[0]
    bridge = np.array([[0.0, front[:, 1].mean() + 6.0, front[0, 2]]], np.float32)
    view = worn.fit.view(pose, SIZE)
    x, y = pixels_of(view, bridge)[0]
    rows = slice(int(y) - 10, int(y) + 11)
    column = made.image[rows, round(float(x))].astype(float).mean(-1)
    assert column.min() < np.median(column) - 40  # the bridge, where the plane has gone
    assert made.image.std() > 10


def test_eyes_behind_glasses_that_look_elsewhere_are_uncertain(heads):
    made = heads[0].render(torch.zeros(NUM_AUS), gaze=(15.0, 0.0))
    assert "glasses cover the eyes" in made.uncertain[0]
