import numpy as np
import pytest
import torch

from lit_faces.core.alignment import cut_out
from lit_faces.core.landmarks import (
    MIRROR,
    align_crop,
    crop_frame,
    inner_eye_distance,
    mirror_landmarks,
    outer_eye_distance,
    warp_crop,
)

LEFT_RIGHT_PAIRS = ((0, 16), (7, 9), (17, 26), (21, 22), (31, 35), (36, 45), (37, 44), (39, 42), (40, 47), (41, 46))
LIP_PAIRS = ((48, 54), (49, 53), (50, 52), (59, 55), (58, 56), (60, 64), (61, 63), (67, 65))
MIDLINE = (8, 27, 28, 29, 30, 33, 51, 57, 62, 66)


def face(scale: float = 1.0, cx: float = 60.0, cy: float = 60.0) -> np.ndarray:
    """A symmetrical schematic face, outer-eye distance 40 px at scale 1, roughly where the points of a face are."""
    points = np.zeros((68, 2))
    angle = np.linspace(np.pi, 0, 17)
    points[:17] = np.stack([40 * np.cos(angle), 10 + 45 * np.sin(angle)], 1)
    points[17:22] = np.stack([np.linspace(-28, -8, 5), [-20, -24, -25, -24, -22]], 1)
    points[22:27] = points[17:22][::-1] * (-1, 1)
    points[27:31] = np.stack([np.zeros(4), np.linspace(-10, 10, 4)], 1)
    points[31:36] = np.stack([np.linspace(-8, 8, 5), [14, 15, 16, 15, 14]], 1)
    points[36:42] = [(-20, -10), (-16, -13), (-12, -13), (-8, -10), (-12, -8), (-16, -8)]
    points[42:48] = points[[39, 38, 37, 36, 41, 40]] * (-1, 1)
    points[48:55] = np.stack([np.linspace(-14, 14, 7), [28, 26, 25, 26, 25, 26, 28]], 1)
    points[55:60] = np.stack([np.linspace(10, -10, 5), [32, 34, 35, 34, 32]], 1)
    points[60:65] = np.stack([np.linspace(-10, 10, 5), [28, 28, 28, 28, 28]], 1)
    points[65:68] = np.stack([np.linspace(5, -5, 3), [30, 30, 30]], 1)
    return (points * scale + (cx, cy)).astype(np.float32)


def test_mirror_is_its_own_inverse_and_pairs_left_with_right():
    assert sorted(MIRROR) == list(range(68))
    assert [MIRROR[i] for i in MIRROR] == list(range(68))
    for left, right in LEFT_RIGHT_PAIRS + LIP_PAIRS:
        assert MIRROR[left] == right
    assert all(MIRROR[i] == i for i in MIDLINE)


@pytest.mark.parametrize("convert", [np.asarray, torch.as_tensor])
def test_a_symmetrical_face_is_its_own_mirror_image(convert):
    points = convert(face(cx=49.5))  # the middle of 100 px
    mirrored = mirror_landmarks(points, 100)
    assert np.allclose(np.asarray(mirrored), np.asarray(points), atol=1e-4)
    assert np.array_equal(np.asarray(points), face(cx=49.5)), "the argument is left alone"


def test_mirrored_landmarks_lie_on_the_mirrored_picture():
    rng = np.random.default_rng(0)
    points = rng.permutation(60 * 50)[:68]  # one pixel each
    landmarks = np.stack([points % 60, points // 60], 1)
    picture = np.zeros((50, 60), dtype=np.uint8)
    picture[landmarks[:, 1], landmarks[:, 0]] = np.arange(1, 69)
    flipped = picture[:, ::-1]
    for index, (x, y) in enumerate(mirror_landmarks(landmarks, 60)):
        assert flipped[y, x] == MIRROR[index] + 1


def test_mirror_keeps_unknown_points_unknown_at_their_mirrored_place():
    points = torch.from_numpy(face())
    points[36] = float("nan")
    mirrored = mirror_landmarks(points[None], 120)[0]
    assert mirrored[45].isnan().all()
    assert mirrored.isnan().sum() == 2


def test_eye_distances_in_batches():
    points = torch.from_numpy(np.stack([face(1.0), face(2.0)]))
    assert torch.allclose(outer_eye_distance(points), torch.tensor([40.0, 80.0]))
    assert torch.allclose(inner_eye_distance(points), torch.tensor([16.0, 32.0]))
    assert outer_eye_distance(points[0].numpy()) == pytest.approx(40)


def test_crop_frame_follows_shift_and_scale_and_ignores_mirroring():
    cx, cy, side = crop_frame(face())
    moved = crop_frame(face(1.5, 100, 80))
    assert moved[2] == pytest.approx(1.5 * side, rel=1e-5)
    assert moved[0] == pytest.approx(100 + 1.5 * (cx - 60), rel=1e-5)
    assert moved[1] == pytest.approx(80 + 1.5 * (cy - 60), rel=1e-5)
    mirrored = crop_frame(mirror_landmarks(face(), 200))
    assert [float(value) for value in mirrored] == pytest.approx([float(199 - cx), float(cy), float(side)], rel=1e-5)


def test_crop_frame_gives_the_same_for_batches_and_tensors():
    batch = crop_frame(torch.from_numpy(np.stack([face(), face(2.0, 150, 150)])))
    single = crop_frame(face(2.0, 150, 150))
    assert [float(value[1]) for value in batch] == pytest.approx([float(value) for value in single], rel=1e-5)


def test_a_wide_face_is_framed_by_its_eyes():
    wide = (face() - 60) * (1.6, 1.0) + 60
    assert crop_frame(wide)[2] == pytest.approx(2.4 * 1.6 * 40)


def test_a_turned_head_keeps_its_crop_by_the_length_of_the_face():
    narrow = (face() - 60) * (0.5, 1.0) + 60
    eyes = 0.5 * (narrow[36:42].mean(0) + narrow[42:48].mean(0))
    assert crop_frame(narrow)[2] == pytest.approx(3.2 * np.linalg.norm(narrow[48:60].mean(0) - eyes))


def test_renderer_frames_its_faces_by_the_same_rule():
    camera = pytest.importorskip("lit_faces.rendering.camera")
    from lit_faces.core import alignment

    rule = (alignment.SIDE_PER_EYES, alignment.SIDE_PER_FACE)
    assert rule == (camera.SIDE_PER_EYES, camera.SIDE_PER_FACE)


def test_a_crop_of_the_whole_picture_is_the_picture():
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    assert np.array_equal(warp_crop(picture, 15.5, 15.5, 32, 32), picture)


def test_a_whole_pixel_shift_copies_pixels_and_replicates_the_border():
    picture = np.random.default_rng(1).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    crop = warp_crop(picture, 9.5 - 3, 9.5 + 2, 20, 20)
    assert np.array_equal(crop[:18, 3:], picture[2:, :17])
    assert np.array_equal(crop[:18, :3], np.repeat(picture[2:, :1], 3, axis=1))
    assert np.array_equal(crop[18:, 3:], np.repeat(picture[-1:, :17], 2, axis=0))


def blobs(points: np.ndarray, height: int, width: int, sigma: float) -> np.ndarray:
    """A white Gaussian at each point on black; their coordinates can be read back to a hundredth of a pixel."""
    y, x = np.mgrid[:height, :width]
    total = sum(np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * sigma**2)) for px, py in points)
    return np.repeat((255 * np.clip(total, 0, 1)).round().astype(np.uint8)[..., None], 3, axis=2)


@pytest.mark.parametrize(("scale", "size"), [(0.7, 128), (1.0, 96), (3.0, 128), (3.3, 64)])
def test_drawn_points_are_where_the_returned_landmarks_say(scale, size):
    landmarks = face(scale, 171.3, 148.7)
    shown = [8, 19, 36, 45, 48, 54]
    picture = blobs(landmarks[shown], 400, 340, sigma=4.0 * scale / 1.5)
    crop, moved = align_crop(picture, landmarks, size)
    assert crop.shape == (3, size, size) and crop.dtype == torch.uint8 and moved.dtype == torch.float32
    grey, radius = crop[0].double().numpy(), 6.0 * size / 128
    y, x = np.mgrid[:size, :size]
    for px, py in moved[shown].numpy():
        near = grey * (np.hypot(x - px, y - py) < radius)
        found = ((near * x).sum() / near.sum(), (near * y).sum() / near.sum())
        assert found == pytest.approx((px, py), abs=0.12)


def test_align_crop_takes_tensors_and_puts_the_frame_on_the_borders():
    landmarks = torch.from_numpy(face(2.0, 150, 150))
    picture = torch.zeros(3, 300, 300, dtype=torch.uint8)
    _, moved = align_crop(picture, landmarks, 64)
    cx, cy, side = crop_frame(moved)
    assert (float(cx), float(cy), float(side)) == pytest.approx((31.5, 31.5, 64.0), abs=1e-3)


def test_shrinking_averages_instead_of_skipping_pixels():
    stripes = np.zeros((256, 256, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(warp_crop(stripes, 127.5, 127.5, 200, 40).astype(int) - 127).max() <= 2


def test_align_crop_refuses_what_it_cannot_align():
    picture = np.zeros((100, 100, 3), dtype=np.uint8)
    unknown = face()
    unknown[40] = np.nan
    with pytest.raises(ValueError, match="unknown"):
        align_crop(picture, unknown, 64)
    with pytest.raises(ValueError, match="does not fit an image of 100x100"):
        align_crop(picture, face(1000.0), 64)
    with pytest.raises(ValueError, match="expected \\(68, 2\\)"):
        align_crop(picture, face()[:5], 64)
    with pytest.raises(ValueError, match="float32"):
        align_crop(picture.astype(np.float32), face(), 64)


@pytest.mark.parametrize(
    "place", [(10, 20, 40, 50), (-5, -7, 30, 30), (40, 30, 75, 61), (-9, -9, 90, 80), (70, 10, 95, 35)]
)
def test_cutting_replicates_the_border(place: tuple[int, int, int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3)).astype(np.uint8)
    left, top, right, bottom = place
    rows, columns = np.arange(top, bottom).clip(0, 47), np.arange(left, right).clip(0, 63)
    assert np.array_equal(cut_out(image, *place), image[rows][:, columns])


@pytest.mark.parametrize(("left", "top", "side"), [(10, 20, 30), (-5, -7, 36), (-9, -9, 90), (70, 10, 25)])
def test_whole_pixels_are_copied(left: int, top: int, side: int) -> None:
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3)).astype(np.uint8)
    rows, columns = np.arange(top, top + side).clip(0, 47), np.arange(left, left + side).clip(0, 63)
    cx, cy = left + (side - 1) / 2, top + (side - 1) / 2
    assert np.array_equal(warp_crop(image, cx, cy, side, side), image[rows][:, columns])
