import torch

from lit_faces.tasks.augmentation import (
    augment_frames,
    augment_strongly,
    bend_tones,
    cut_borders,
    jitter_colours,
    jitter_pair_colours,
    mirror_pairs,
    move,
    relight,
    shake,
    shrink_and_enlarge,
    tilt,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_augmentations_repeat_with_their_generator(faces):
    image = faces(4, 0).image_float()
    assert torch.equal(augment_frames(image, generator()), augment_frames(image, generator()))
    assert not torch.equal(augment_frames(image, generator()), augment_frames(image, generator(1)))


def test_no_movement_gives_the_picture_or_its_mirror(faces):
    image = faces(8, 0).image_float()
    moved = move(image, generator(), shift=0.0, scale=0.0, roll=0.0, stretch=0.0)
    same = [torch.allclose(a, b, atol=1e-4) for a, b in zip(moved, image)]
    mirrored = [torch.allclose(a, b.flip(-1), atol=1e-4) for a, b in zip(moved, image)]
    assert all(s or m for s, m in zip(same, mirrored)) and any(same) and any(mirrored)


def test_colours_stay_in_range(faces):
    jittered = jitter_colours(faces(8, 0).image_float(), generator(), strength=2.0)
    assert jittered.min() >= -1 and jittered.max() <= 1


def test_a_pair_is_changed_alike(faces):
    image = faces(4, 0).image_float()
    a, b = jitter_pair_colours(image, image, generator())
    assert torch.equal(a, b) and not torch.equal(a, image)


def test_pairs_are_mirrored_with_their_landmarks(faces):
    source = faces(8, 0)
    a, b = mirror_pairs(source, source, generator())
    flipped = (a.image != source.image).flatten(1).any(1)
    assert flipped.any() and not flipped.all()
    assert torch.equal(a.image, b.image) and torch.equal(a.landmarks, b.landmarks)
    size = source.image.shape[-1]
    left, right = a.landmarks[flipped][:, 36, 0], source.landmarks[flipped][:, 45, 0]
    assert torch.allclose(left, size - 1 - right)
    assert torch.equal(a.landmarks[~flipped], source.landmarks[~flipped])


def test_relighting_is_a_ramp_and_keeps_black():
    image = torch.zeros(3, 3, 16, 16)
    lit = relight(image, generator()) + 1
    across, down = lit[0, 0, 8], lit[0, 0, :, 8]
    for line in (across, down):
        assert torch.allclose(line.diff(), line.diff()[0].expand(15), atol=1e-6)
    assert not torch.equal(lit[0], lit[1])
    assert torch.equal(relight(image - 1, generator()), image - 1)


def test_strong_augmentation_repeats_keeps_the_range_and_leaves_the_batch_alone(faces):
    image = faces(12, 0).image_float()
    before = image.clone()
    changed = augment_strongly(image, generator())
    assert torch.equal(image, before) and torch.equal(changed, augment_strongly(image, generator()))
    assert changed.shape == image.shape and changed.isfinite().all() and changed.abs().max() < 1.5


def test_a_camera_straight_ahead_tilts_nothing(faces):
    image = faces(3, 0).image_float()
    assert torch.allclose(tilt(image, generator(), strength=0.0), image, atol=1e-4)
    assert not torch.allclose(tilt(image, generator()), image, atol=0.1)


def test_perspective_keeps_the_middle_and_moves_the_sides():
    ramp = torch.linspace(-1, 1, 33).expand(8, 3, 33, 33)
    moved = tilt(ramp, generator(), strength=0.3)
    assert torch.allclose(moved[:, 0, 16, 16], torch.zeros(8), atol=1e-5)
    assert (moved[:, 0, 16, 4] - ramp[:, 0, 16, 4]).abs().max() > 0.05


def test_tones_bend_without_changing_their_order():
    ramp = torch.linspace(-0.9, 0.9, 16).expand(6, 3, 16, 16)
    bent = bend_tones(ramp, generator())
    assert (bent.diff(dim=-1) >= 0).all() and bent.abs().max() <= 1
    assert torch.allclose(bend_tones(ramp, generator(), gamma=0.0, contrast=0.0), ramp, atol=1e-5)


def test_motion_blur_keeps_flat_pictures_and_the_sum_of_a_point():
    flat, point = torch.full((5, 3, 17, 17), 0.3), torch.zeros(5, 3, 17, 17)
    point[:, :, 8, 8] = 1.0
    assert torch.allclose(shake(flat, generator()), flat, atol=1e-5)
    blurred = shake(point, generator())
    assert torch.allclose(blurred.sum((2, 3)), torch.ones(5, 3), atol=1e-5)
    widths = (blurred[:, 0] > 0.02).sum((1, 2))
    assert widths.max() > widths.min() >= 1, "each picture has its own line"


def test_a_detour_over_smaller_pictures_loses_detail(faces):
    image = faces(4, 0).image_float()
    found = shrink_and_enlarge(image, generator())
    assert found.shape == image.shape and found.var() < 0.9 * image.var()


def test_borders_are_black_and_the_middle_stays(faces):
    image = faces(32, 0).image_float()
    cut = cut_borders(image, generator(), widest=0.2)
    assert torch.equal(cut[:, :, 8:-8, 8:-8], image[:, :, 8:-8, 8:-8])
    assert (cut[:, :, :2] == -1).all(-1).any() and torch.equal(cut_borders(image, generator(), widest=0.0), image)
