"""The open faces in other rooms: the face stays, the wall does not."""

import torch

from benchmarks.studio import STUDIOS, elsewhere, foreground
from lit_faces.rendering.renderer import FaceRenderer


def test_the_face_stays_and_the_wall_changes() -> None:
    faces = FaceRenderer(96, seed=55).render(torch.tensor([1]), torch.tensor([0]), pose=torch.zeros(1, 3))
    wall = torch.full_like(faces.image, 200)
    marks = faces.landmarks[0].numpy()
    person = torch.from_numpy(foreground(faces.image[0].permute(1, 2, 0).numpy(), marks))
    x, y = (int(value) for value in faces.landmarks[0, 30].round())
    assert person[y, x] > 0.99 and person.shape == (96, 96)
    rooms = elsewhere(faces.image, faces.landmarks)
    assert list(rooms) == list(STUDIOS) and len(rooms) == 5
    clutter = rooms["clutter"].int()
    assert (clutter[0, :, y, x] - faces.image[0, :, y, x].int()).abs().max() <= 2
    again = elsewhere(faces.image, faces.landmarks)["clutter"].int()
    assert torch.equal(clutter, again)
    others = [rooms[name].float().mean() for name in STUDIOS]
    assert max(others) - min(others) > 20 and wall.shape == clutter.shape
