"""Mirror and size: picture, landmarks and pose change together."""

from dataclasses import replace

import numpy as np
import torch

from lit_faces.core.alignment import mirror_landmarks
from lit_faces.core.geometry import mirror_faces, resize_images, resize_landmarks


def test_only_the_chosen_faces_are_mirrored_and_twice_is_nothing(faces):
    batch = faces(3, 1)
    batch = replace(batch, pose=torch.tensor([[10.0, 5.0, -3.0]] * 3))
    batch.landmarks[1, 4] = float("nan")
    which = torch.tensor([True, False, True])
    made = mirror_faces(batch, which)
    assert torch.equal(made.image[0], batch.image[0].flip(-1)) and torch.equal(made.image[1], batch.image[1])
    assert made.pose.tolist() == [[-10, 5, 3], [10, 5, -3], [-10, 5, 3]]
    torch.testing.assert_close(made.landmarks[2], mirror_landmarks(batch.landmarks[2], 32), rtol=0, atol=0)
    torch.testing.assert_close(made.landmarks[1], batch.landmarks[1], equal_nan=True, rtol=0, atol=0)
    again = mirror_faces(made, which)
    assert torch.equal(again.image, batch.image) and torch.equal(again.pose, batch.pose)
    torch.testing.assert_close(again.landmarks, batch.landmarks, equal_nan=True)


def test_a_mark_stays_on_its_pixel_in_every_size():
    picture = torch.zeros(1, 1, 32, 32)
    picture[0, 0, 8:12, 20:24] = 1.0  # centre (21.5, 9.5)
    mark = torch.tensor([[21.5, 9.5]])
    for size in (8, 64, 96):
        small = resize_images(picture, size, size)[0, 0]
        weight = small / small.sum()
        steps = torch.arange(size, dtype=torch.float32)
        found = torch.stack([(weight.sum(0) * steps).sum(), (weight.sum(1) * steps).sum()])
        torch.testing.assert_close(found[None], resize_landmarks(mark, size / 32), atol=0.02, rtol=0)
    wide = resize_landmarks(np.array([[21.5, 9.5]], np.float32), np.array([2.0, 1.0], np.float32))
    assert wide.tolist() == [[43.5, 9.5]]


def test_shrinking_averages_and_the_same_size_is_the_same_tensor():
    fine = torch.tensor([0.0, 1.0]).repeat(32).expand(1, 1, 64, 64)  # lines of one pixel
    assert resize_images(fine, 64, 64) is fine
    assert float((resize_images(fine, 16, 16) - 0.5).abs().max()) < 0.15
