"""The renderer: reproducible, honest about its labels, and shaped like FaceSample."""

import os
from pathlib import Path

import pytest
import torch

from lit_faces.core.facs import AU_INDEX, AUS, NUM_AUS
from lit_faces.rendering.renderer import FaceRenderer, neutral_au

SHARED = Path(os.environ.get("LIT_FACES_SHARED", Path(__file__).parents[3] / "shared" / "data"))
ICT = SHARED / "ict_facekit" / "ict_whole_f16.npz"


@pytest.fixture(scope="module")
def renderer() -> FaceRenderer:
    return FaceRenderer(size=64, seed=3)


def test_batch_has_the_fields_of_facesample(renderer: FaceRenderer) -> None:
    batch = renderer.render(torch.arange(3), torch.arange(3))
    assert batch.image.shape == (3, 3, 64, 64) and batch.image.dtype == torch.uint8
    assert batch.landmarks.shape == (3, 68, 2) and batch.landmarks.isfinite().all()
    assert (
        batch.au_intensity.shape == (3, NUM_AUS) and (batch.au_intensity >= 0).all() and (batch.au_intensity <= 5).all()
    )
    assert torch.equal(batch.au_occurrence, (batch.au_intensity >= 2).float())
    assert len(set(batch.subject)) == 3 and batch.pose.isfinite().all()


def test_the_same_face_in_any_batch(renderer: FaceRenderer) -> None:
    subjects = torch.arange(19)
    together = renderer.render(subjects, subjects * 2)
    alone = renderer.render(subjects[13:14], subjects[13:14] * 2)
    assert (together.image[13].int() - alone.image[0].int()).abs().max() <= 1
    assert torch.allclose(together.landmarks[13], alone.landmarks[0], atol=1e-3)
    assert torch.equal(together.au_intensity[13], alone.au_intensity[0])


def test_rendering_one_face_leaves_no_trace(renderer: FaceRenderer) -> None:
    one = torch.tensor([4])
    pictures = [renderer.render(one, one).image for _ in range(3)]
    assert torch.equal(pictures[0], pictures[1]) and torch.equal(pictures[0], pictures[2])


def test_other_seeds_are_other_people(renderer: FaceRenderer) -> None:
    one = renderer.render(torch.tensor([5]), torch.tensor([0]))
    other = FaceRenderer(size=64, seed=4).render(torch.tensor([5]), torch.tensor([0]))
    assert (one.image.float() - other.image.float()).abs().mean() > 8


def test_asked_aus_become_the_labels_and_nan_keeps_the_sampled(renderer: FaceRenderer) -> None:
    au = torch.full((2, NUM_AUS), float("nan"))
    au[0] = neutral_au(1, AU12=4.0)[0]
    batch = renderer.render(torch.tensor([1, 1]), torch.tensor([7, 7]), au=au)
    assert batch.au_intensity[0, AU_INDEX[12]] == 4.0 and batch.au_intensity[0].sum() == 4.0
    assert torch.equal(batch.au_intensity[1], renderer.render(torch.tensor([1]), torch.tensor([7])).au_intensity[0])


@pytest.mark.parametrize("number", [n for n in AUS if n != 43])
def test_every_au_shows_and_more_at_five_than_at_two(renderer: FaceRenderer, number: int) -> None:
    au = torch.zeros(3, NUM_AUS)
    au[1, AU_INDEX[number]], au[2, AU_INDEX[number]] = 2.0, 5.0
    who = torch.full((3,), 2)
    image = renderer.render(who, who, au=au, pose=torch.zeros(3, 3)).image.float()
    small, large = ((image[k] - image[0]).abs().mean() for k in (1, 2))
    assert large > small > 0


def test_landmarks_tell_au12_but_hardly_au6(renderer: FaceRenderer) -> None:
    au = torch.cat([neutral_au(1), neutral_au(1, AU06=5.0), neutral_au(1, AU12=5.0)])
    who = torch.zeros(3, dtype=torch.int64)
    marks = renderer.render(who, who, au=au, pose=torch.zeros(3, 3)).landmarks
    eyes = (marks[0, 36] - marks[0, 45]).norm()
    moved = (marks - marks[0]).norm(dim=-1).mean(1) / eyes
    assert moved[1] < 0.015 < 0.025 < moved[2]


def test_yaw_moves_the_nose_to_the_right_of_the_picture(renderer: FaceRenderer) -> None:
    pose = torch.tensor([[0.0, 0, 0], [20.0, 0, 0], [0.0, 12, 0], [0.0, 0, 10]])
    who = torch.zeros(4, dtype=torch.int64)
    marks = renderer.render(who, who, au=torch.zeros(4, NUM_AUS), pose=pose).landmarks
    middle = 0.5 * (marks[:, 36] + marks[:, 45])
    nose = marks[:, 30] - middle
    assert nose[1, 0] > nose[0, 0] + 3  # yaw
    assert nose[2, 1] > nose[0, 1] + 1  # pitch: nose down
    slope = marks[3, 45] - marks[3, 36]
    assert torch.rad2deg(torch.atan2(slope[1], slope[0])) == pytest.approx(10, abs=2)  # roll: clockwise


def test_blink_closes_the_eyes(renderer: FaceRenderer) -> None:
    au = torch.cat([neutral_au(1), neutral_au(1, AU43=5.0)])
    who = torch.zeros(2, dtype=torch.int64)
    marks = renderer.render(who, who, au=au, pose=torch.zeros(2, 3)).landmarks
    opening = (marks[:, 41] - marks[:, 37]).norm(dim=-1)
    assert opening[1] < 0.35 * opening[0]


def test_a_size_that_is_no_multiple_of_8_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 8"):
        FaceRenderer(size=100)


def test_unknown_head_is_refused() -> None:
    with pytest.raises(ValueError, match="ict:PATH"):
        FaceRenderer(size=64, head="flame")


def test_missing_ict_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="ICT-FaceKit"):
        FaceRenderer(size=64, head=f"ict:{tmp_path / 'none.npz'}")


@pytest.mark.skipif(not ICT.exists(), reason=f"ICT-FaceKit's packed head is not at {ICT} (set LIT_FACES_SHARED)")
def test_scanned_head_renders_and_does_not_code_what_it_lacks() -> None:
    batch = FaceRenderer(size=64, seed=1, head=f"ict:{ICT}").render(torch.arange(2), torch.arange(2))
    assert batch.image.float().std() > 20
    assert batch.au_intensity[:, AU_INDEX[23]].isnan().all() and batch.au_intensity[:, AU_INDEX[6]].isfinite().all()
    assert batch.source == ["rendered/ict"] * 2


def test_posed_as_takes_pose_and_gaze_of_another_frame(renderer: FaceRenderer) -> None:
    who, own, other = torch.tensor([2]), torch.tensor([5]), torch.tensor([9])
    au = torch.zeros(1, NUM_AUS)
    like = renderer.render(who, own, own, au=au, posed_as=other)
    assert torch.equal(like.pose, renderer.render(who, other).pose)
    assert torch.allclose(like.landmarks, renderer.render(who, other, own, au=au).landmarks, atol=1e-4)


def test_smooth_people_show_an_au_in_their_geometry_alone() -> None:
    usual, smooth = FaceRenderer(64, 3), FaceRenderer(64, 3, smooth_share=1.0)
    who = torch.arange(4)
    for au, same in ((neutral_au(4), True), (neutral_au(4, AU06=5.0), False)):
        a, b = (r.render(who, who, au=au) for r in (usual, smooth))
        assert torch.equal(a.landmarks, b.landmarks)
        assert torch.equal(a.image, b.image) == same
    with pytest.raises(ValueError, match="smooth_share must be"):
        FaceRenderer(64, smooth_share=2.0)


def test_spread_moves_faces_apart() -> None:
    def variety(spread: float) -> float:
        who = torch.arange(12)
        pose = torch.zeros(12, 3)
        points = FaceRenderer(64, 3, spread=spread).render(who, who, au=neutral_au(12), pose=pose).landmarks
        return float(points.std(0).mean())

    assert variety(1.6) > 1.1 * variety(0.8) > 1.1 * variety(0.0)  # where traits, sex and the camera still differ
