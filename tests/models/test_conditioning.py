import pytest
import torch

from lit_faces.core.facs import AU_INDEX, NUM_AUS
from lit_faces.models.conditioning import (
    Condition,
    au_centres,
    au_maps,
    au_masks,
    changed,
    changed_area,
    check_condition,
    landmark_heatmaps,
)
from lit_faces.models.warping import canonical_face

SIZE = 64


@pytest.fixture
def face():
    """A mean face: float (1, 68, 2) in pixels of a 64 px crop."""
    return ((canonical_face() + 1) * SIZE / 2 - 0.5)[None]


def test_heatmap_peaks_at_the_landmark(face):
    maps = landmark_heatmaps(face, SIZE, SIZE)
    assert maps.shape == (1, 7, SIZE, SIZE)
    nose = maps[0, 2]
    x, y = face[0, 30].round().long().tolist()
    assert nose[y, x] > 0.9
    assert nose[2, 2] < 1e-3
    assert maps.min() >= 0 and maps.max() <= 1


def test_heatmaps_keep_the_half_pixel_convention_across_sizes(face):
    face[:, 28:36] = float("nan")  # one nose point is left
    for size in (SIZE, SIZE // 2):
        nose = landmark_heatmaps(face, SIZE, size, sigma=0.05)[0, 2]
        x = (nose.sum(0) * torch.arange(size)).sum() / nose.sum()
        y = (nose.sum(1) * torch.arange(size)).sum() / nose.sum()
        found = (torch.stack([x, y]) + 0.5) * (SIZE / size) - 0.5
        assert torch.allclose(found, face[0, 27], atol=0.05)


def test_unknown_landmarks_give_empty_channels_and_the_mask_says_so(face):
    face[:, 27:36] = float("nan")
    maps = landmark_heatmaps(face, SIZE, 32)
    assert maps[0, 2].abs().max() == 0
    assert torch.isfinite(maps).all()
    assert maps[0, 6].unique() == pytest.approx(59 / 68)
    empty = landmark_heatmaps(torch.full((1, 68, 2), float("nan")), SIZE, 32)
    assert empty.abs().max() == 0


def test_au_maps_are_intensity_over_five_at_the_muscle(face):
    au = torch.zeros(1, NUM_AUS)
    au[0, AU_INDEX[17]] = 4.0
    maps = au_maps(face, au, SIZE, SIZE)
    assert maps.shape == (1, NUM_AUS + 1, SIZE, SIZE)
    centres, radius = au_centres(face, SIZE)
    x, y = centres[0, AU_INDEX[17], 0].round().long().tolist()
    assert maps[0, AU_INDEX[17], y, x] == pytest.approx(0.8, abs=0.01)
    assert maps[0, AU_INDEX[6]].abs().max() == 0
    assert radius[0, AU_INDEX[17], 0] == pytest.approx(0.45 * float((face[0, 42] - face[0, 39]).norm()), rel=1e-4)


def test_cheek_mask_lies_below_the_outer_eye_corners(face):
    mask = au_masks(face, SIZE, SIZE)[0, AU_INDEX[6]]
    y = float((mask.sum(1) * torch.arange(SIZE)).sum() / mask.sum())
    assert face[0, 41, 1] < y < face[0, 48, 1]
    assert torch.allclose(mask, mask.flip(-1), atol=0.02)


def test_au_maps_turn_with_the_face(face):
    centre = (SIZE - 1) / 2
    turned = torch.stack([centre - (face[..., 1] - centre), face[..., 0]], -1)  # a quarter turn
    upright = au_masks(face, SIZE, SIZE)
    assert torch.allclose(au_masks(turned, SIZE, SIZE), upright.rot90(-1, (2, 3)), atol=1e-3)


def test_uncoded_aus_and_unknown_landmarks_give_empty_channels(face):
    au = torch.full((1, NUM_AUS), 3.0)
    au[0, AU_INDEX[6]] = float("nan")
    maps = au_maps(face, au, SIZE, 32)
    assert maps[0, AU_INDEX[6]].abs().max() == 0 and maps[0, AU_INDEX[12]].max() > 0.5
    face[0, 8] = float("nan")  # the chin
    maps = au_maps(face, au, SIZE, 32)
    assert maps[0, AU_INDEX[17]].abs().max() == 0
    assert torch.isfinite(maps).all()
    nothing = au_maps(face, torch.full((1, NUM_AUS), float("nan")), SIZE, 32)
    assert nothing.abs().max() == 0


def test_maps_are_exact_under_autocast(face):
    exact = landmark_heatmaps(face, SIZE, 32), au_masks(face, SIZE, 32)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = landmark_heatmaps(face, SIZE, 32), au_masks(face, SIZE, 32)
    for a, b in zip(exact, rounded):
        assert torch.equal(a, b)


def test_changed_aus(face):
    source, target = torch.zeros(1, NUM_AUS), torch.zeros(1, NUM_AUS)
    target[0, 0], target[0, 1] = 5.0, 0.25
    source[0, 2], target[0, 3] = float("nan"), float("nan")
    amount = changed(Condition(face, face, source, target))[0]
    assert amount[:5].tolist() == [1.0, 0.5, 1.0, 0.0, 0.0]
    area = changed_area(au_masks(face, SIZE, 32), amount[None])
    assert area.shape == (1, 1, 32, 32) and area.max() == 1 and area[0, 0, 0, 0] < 0.05


def test_a_wrong_shape_is_named(face):
    condition = Condition(face, face[:, :60], torch.zeros(1, NUM_AUS), torch.zeros(1, NUM_AUS))
    with pytest.raises(ValueError, match=r"target_landmarks: expected \(1, 68, 2\), got \(1, 60, 2\)"):
        check_condition(torch.zeros(1, 3, SIZE, SIZE), condition)
    with pytest.raises(ValueError, match="multiple of 16"):
        check_condition(torch.zeros(1, 3, 60, 60), condition)
