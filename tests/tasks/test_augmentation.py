import torch

from lit_faces.tasks.augmentation import (
    augment_frames,
    jitter_colours,
    jitter_pair_colours,
    mirror_pairs,
    move,
    relight,
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
