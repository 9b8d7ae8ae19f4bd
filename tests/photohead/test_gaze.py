"""Eyes of a photographed head that look elsewhere."""

import numpy as np
import pytest
import torch

from lit_faces.core.facs import AU_INDEX, NUM_AUS
from lit_faces.core.originals import original_of_crop
from lit_faces.fitting.landmark_model import LandmarkModel
from lit_faces.fitting.retarget import fit_photo
from lit_faces.photohead.eyes import FURTHEST
from lit_faces.photohead.head import PhotoHead
from lit_faces.rendering.renderer import FaceRenderer

BROWN_EYES = 4  # a subject


def head_of(size, **levels):
    """A head of 128 pixels made of a rendered face of ``size`` pixels."""
    au = torch.zeros(1, NUM_AUS)
    for name, level in levels.items():
        au[0, AU_INDEX[int(name[2:])]] = level
    who, still = torch.tensor([BROWN_EYES]), torch.zeros(1, dtype=torch.int64)
    faces = FaceRenderer(size, seed=71).render(who, still, still, au, torch.zeros(1, 3))
    original = original_of_crop(faces.image[0])
    face = fit_photo(LandmarkModel(), faces.landmarks[0], size, au[0])
    return PhotoHead(original.image, original.crop, face, LandmarkModel(), 128)


@pytest.fixture(scope="module")
def head():
    return head_of(160)


def shot(head, gaze=(0.0, 0.0), **levels):
    au = torch.zeros(NUM_AUS)
    for name, level in levels.items():
        au[AU_INDEX[int(name[2:])]] = level
    return head.render(au, gaze=gaze)


def dark(made, first):
    """Centre (2,) of what is dark between the lids of the eye whose landmarks begin at ``first``."""
    import cv2

    lids = np.zeros(made.image.shape[:2], np.uint8)
    cv2.fillPoly(lids, [made.landmarks[first : first + 6].round().astype(np.int32)], 1)
    weight = np.clip(110.0 - made.image.astype(float).mean(-1), 0, None) * lids
    y, x = np.mgrid[: len(lids), : len(lids)]
    return np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum()


def test_both_irises_go_where_they_are_told(head):
    assert all(eye.own for eye in head.eyes)
    middle = shot(head)
    for side in (-15.0, 15.0):
        made = shot(head, (side, 0.0))
        assert made.gaze == pytest.approx((side, 0.0)) and made.uncertain == []
        for first in (36, 42):
            moved = dark(made, first) - dark(middle, first)
            expected = 11.5 * np.sin(np.radians(side)) * head.scale / 1.5
            assert 0.6 < moved[0] / expected < 1.35 and abs(moved[1]) < 1.0
        outside = np.ones((128, 128), bool)
        for first in (36, 42):
            x, y = made.landmarks[first : first + 6].mean(0).round().astype(int)
            outside[y - 9 : y + 10, x - 14 : x + 15] = False
        assert np.array_equal(made.image[outside], middle.image[outside])


def test_no_turn_is_the_photo(head):
    assert np.array_equal(shot(head).image, shot(head, (0.01, -0.02)).image)


def test_lids_follow_the_gaze_unless_they_are_shut(head):
    down, up, rest = (shot(head, (0.0, angle)).landmarks for angle in (-12.0, 12.0, 0.0))
    assert down[[37, 38, 43, 44], 1].min() > rest[[37, 38, 43, 44], 1].min() + 0.3
    assert up[[37, 38, 43, 44], 1].mean() < rest[[37, 38, 43, 44], 1].mean() - 0.3
    assert np.abs(down[:17] - rest[:17]).max() < 1e-4 and np.abs(down[48:] - rest[48:]).max() < 0.05
    shut = [shot(head, (0.0, angle), AU43=5.0).landmarks for angle in (-12.0, 0.0)]
    assert np.abs(shut[0] - shut[1]).max() < 1e-3


def test_eyes_turn_no_further_than_eyes_do_and_the_truth_says_so(head):
    made = shot(head, (80.0, -70.0))
    assert made.gaze[0] + head.gaze[0] == pytest.approx(FURTHEST[0], abs=0.1)
    assert made.gaze[1] + head.gaze[1] == pytest.approx(-FURTHEST[1], abs=0.1)


def test_irises_that_cannot_be_seen_are_invented_and_said():
    small, shut = head_of(32), head_of(128, AU43=5.0)
    assert "pixels wide: their irises are invented" in shot(small, (15.0, 0.0)).uncertain[0]
    made = shot(shut, (15.0, 0.0))
    assert not any(eye.own for eye in shut.eyes)
    assert any("look elsewhere are invented" in word for word in made.uncertain)
    assert shot(shut, AU43=5.0).uncertain == []


def test_wide_eyes_keep_round_irises(head):
    """A raised lid shows more of the eyeball; the iris is not stretched with it."""
    made, rest = shot(head, AU5=4.0), shot(head)
    for first in (36, 42):
        assert abs(dark(made, first)[1] - dark(rest, first)[1]) < 1.5
