"""Resting faces, seeds and muscles: what was set by measurements on people and on the scanned head stays set."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from lit_faces.core.facs import AU_INDEX, NUM_AUS
from lit_faces.rendering import hair, skin
from lit_faces.rendering.ict import RenderedICTHead
from lit_faces.rendering.parametric import NUM_MODES, ParametricHead
from lit_faces.rendering.random import key
from lit_faces.rendering.renderer import FaceRenderer, neutral_au
from lit_faces.rendering.sampler import sample_frames, sample_people

SHARED = Path(os.environ.get("LIT_FACES_SHARED", Path(__file__).parents[3] / "shared" / "data"))
ICT = SHARED / "ict_facekit" / "ict_whole_f16.npz"


@pytest.fixture(scope="module")
def head() -> ParametricHead:
    return ParametricHead(97, 85)


@pytest.fixture(scope="module")
def resting(head: ParametricHead) -> np.ndarray:
    """Landmarks (300, 68, 2) of resting people in % of the outer-eye distance, y up."""
    still = torch.zeros(300, NUM_AUS)
    marks = head.pose(sample_people(12, torch.arange(300)).shape, still, still).landmarks[..., :2].numpy()
    return 100 * marks / np.linalg.norm(marks[:, 45] - marks[:, 36], axis=-1)[:, None, None]


def test_no_seed_shares_people_with_another() -> None:
    subjects = torch.arange(500)
    keys = torch.cat([key(seed, 1, subjects) for seed in range(2990, 3010)])
    assert len(keys.unique()) == len(keys)
    assert key(3000, 1, torch.tensor([7])) != key(3001, 1, torch.tensor([6]))
    assert key(4, 2, torch.tensor([3])) != key(4, 3, torch.tensor([2])) != key(2, 4, torch.tensor([3]))
    pair = torch.tensor([5]), torch.tensor([8])
    assert key(1, 1, *pair) != key(1, 1, *pair[::-1])


def test_brows_rest_where_peoples_do_and_differ_as_much(resting: np.ndarray) -> None:
    corner = resting[:, [39, 42], 1].mean(1)
    for points, mean, spread in (((21, 22), 23.0, 3.0), ((20, 23), 28.4, 3.1), ((18, 25), 26.2, 3.3)):
        height = resting[:, points, 1].mean(1) - corner
        assert abs(height.mean() - mean) < 1.2, points  # dlib's points on 48 neutral faces
        assert spread / 1.4 < height.std() < spread * 1.4, points


def test_lids_rest_and_close_on_every_eye(head: ParametricHead, resting: np.ndarray) -> None:
    opening = (resting[:, [37, 38, 43, 44], 1] - resting[:, [41, 40, 47, 46], 1]).mean(1)
    assert 8.8 < opening.mean() < 10.4 and 0.8 < opening.std() < 1.7  # people: 9.7 +- 1.0
    shut = torch.zeros(300, NUM_AUS)
    shut[:, AU_INDEX[43]] = 0.8  # the weakest amplitude of a person
    marks = head.pose(sample_people(12, torch.arange(300)).shape, shut, shut).landmarks[..., 1]
    left_open = marks[:, [37, 38, 43, 44]] - marks[:, [41, 40, 47, 46]]
    assert left_open.max() < 3.2 and left_open.std() < 0.4  # mm: lashes and a line, however wide the eye rests


def test_eyes_follow_the_pose_that_is_asked_for() -> None:
    renderer, who = FaceRenderer(64, 3), torch.arange(3)
    drawn = sample_frames(3, who, who, (), 25.0)
    usual, asked = renderer.render(who, who), renderer.render(who, who, pose=drawn.pose)
    assert torch.equal(usual.image, asked.image)


def test_men_wear_every_part_of_a_beard_and_women_none() -> None:
    people = sample_people(5, torch.arange(1500))
    beard = people.skin["beard"]
    assert beard.shape[1] == len(hair.BEARD_PARTS) and (beard.amax(0) > 0.3).all() and beard.max() <= 1
    assert (beard.sum(1) == 0).float().mean() > 0.4


def test_every_weight_has_its_map_and_skin_reaches_from_pale_to_very_dark() -> None:
    people = sample_people(5, torch.arange(400))
    basis = skin.build_basis(48, 48)
    for name, weights in people.skin.items():
        assert weights.shape[1] == basis.groups[name][1].shape[0], name
    assert people.skin["static"].shape[1] == len(skin.STATIC_TRAITS)
    assert people.melanin.min() < 0.15 and people.melanin.max() > 3.0
    assert 0.1 < (people.melanin > 1.6).float().mean() < 0.4


def test_dark_skin_is_brown_not_orange() -> None:
    renderer = FaceRenderer(64, 3)
    image = renderer.render(torch.arange(48), torch.arange(48), au=neutral_au(48), pose=torch.zeros(48, 3)).image
    cheeks = image[:, :, 32:40, 18:26].float().flatten(2).mean(2)
    melanin = renderer.people(torch.arange(48)).melanin
    dark, pale = cheeks[melanin > 1.6], cheeks[melanin < 0.5]
    assert dark.mean() < 0.75 * pale.mean()
    assert (dark[:, 0] / dark[:, 2]).median() < 2.4


@pytest.fixture(scope="module")
def scan() -> RenderedICTHead:
    return RenderedICTHead(str(ICT), 64, torch.device("cpu"))


@pytest.mark.skipif(not ICT.exists(), reason=f"ICT-FaceKit's packed head is not at {ICT} (set LIT_FACES_SHARED)")
@pytest.mark.parametrize(("number", "share"), [(1, 0.25), (2, 0.2), (4, 0.2), (26, 0.2), (27, 0.2)])
def test_brows_and_jaw_move_as_on_the_scanned_head(
    head: ParametricHead, scan: RenderedICTHead, number: int, share: float
) -> None:
    active = torch.zeros(2, NUM_AUS)
    active[1, AU_INDEX[number]] = 1.0
    marks = head.pose(torch.zeros(2, NUM_MODES), active, active).landmarks
    moved = scan.muscles.view(2, NUM_AUS, -1, 3).sum(0)[AU_INDEX[number], scan.marks]
    assert (marks[1] - marks[0] - moved).square().sum(1).mean().sqrt() < share * moved.square().sum(1).mean().sqrt()
