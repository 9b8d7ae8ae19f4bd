"""The open faces in other rooms: the face stays, the wall does not."""

import cv2
import numpy as np
import pytest
import torch

from benchmarks.studio import STUDIOS, elsewhere, foreground
from lit_faces.models.warping import canonical_face

SIZE = 96


@pytest.fixture(scope="module")
def face() -> tuple[torch.Tensor, torch.Tensor]:
    """A head on a grey wall, drawn: uint8 (1, 3, S, S) and landmarks (1, 68, 2)."""
    marks = (canonical_face() + 1) * SIZE / 2
    middle, extent = marks.mean(0), marks.max(0).values - marks.min(0).values
    picture = np.full((SIZE, SIZE, 3), 200, np.uint8)
    axes = (int(0.62 * extent[0]), int(0.8 * extent[1]))
    cv2.ellipse(picture, (int(middle[0]), int(middle[1])), axes, 0, 0, 360, (150, 90, 60), -1)
    picture = picture + np.random.default_rng(0).integers(0, 6, picture.shape, np.uint8)
    return torch.from_numpy(picture).permute(2, 0, 1)[None], marks[None]


def test_the_person_is_cut_out(face) -> None:
    image, marks = face
    person = foreground(image[0].permute(1, 2, 0).numpy(), marks[0].numpy())
    x, y = (int(value) for value in marks[0, 30].round())
    assert person[y, x] > 0.99 and person[2, 2] < 0.01 and person[2, -3] < 0.01
    head = image[0, 2].numpy() < 100
    assert (np.abs(person - head)[: int(marks[0, 8, 1])]).mean() < 0.1


def test_the_face_stays_and_the_wall_changes(face) -> None:
    image, marks = face
    x, y = (int(value) for value in marks[0, 30].round())
    rooms = elsewhere(image, marks)
    assert list(rooms) == list(STUDIOS) and len(rooms) == 5
    clutter = rooms["clutter"].int()
    assert (clutter[0, :, y, x] - image[0, :, y, x].int()).abs().max() <= 2
    assert (clutter[0, :, :8] - image[0, :, :8].int()).abs().float().mean() > 20
    assert torch.equal(clutter, elsewhere(image, marks)["clutter"].int())
    lights = [rooms[name][0, :, y, x].float().mean() for name in STUDIOS]
    assert max(lights) - min(lights) > 20
