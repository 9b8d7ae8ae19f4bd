import pytest
import torch

from lit_faces.models.warping import canonical_face, landmark_flow, regular_grid, resize_flow, spline, warp

SIZE = 128


@pytest.fixture
def face():
    """A mean face, float (1, 68, 2), pixels."""
    return ((canonical_face() + 1) * SIZE / 2 - 0.5)[None]


def sample_flow(flow, points):
    """Flow in pixels at ``points`` (1, 68, 2) px."""
    grid = (points + 0.5) * (2 / SIZE) - 1
    planes = flow.permute(0, 3, 1, 2)
    return torch.nn.functional.grid_sample(planes, grid[:, None], align_corners=False)[0, :, 0].T * SIZE / 2


def jaw_drop(face):
    moved = face.clone()
    moved[:, 3:14, 1] += torch.tensor([1.0, 3.0, 5.0, 6.0, 7.0, 7.0, 7.0, 6.0, 5.0, 3.0, 1.0])
    moved[:, 55:60, 1] += torch.tensor([4.0, 6.0, 7.0, 6.0, 4.0])
    moved[:, 65:68, 1] += torch.tensor([6.0, 7.0, 6.0])
    return moved


def smile(face):
    moved = face.clone()
    moved[:, 48] += torch.tensor([-5.0, -4.0])
    moved[:, 54] += torch.tensor([5.0, -4.0])
    return moved


def roll(face):
    angle = torch.tensor(0.2)
    turn = torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])
    return (face - SIZE / 2) @ turn.T + SIZE / 2


def test_canonical_face_is_symmetric_and_ordered():
    face = canonical_face()
    assert (face[:17, 0].diff() > 0).all()
    assert torch.allclose(face[36:42].mean(0)[0], -face[42:48].mean(0)[0], atol=1e-6)
    assert face[8, 1] > face[57, 1] > face[51, 1] > face[33, 1] > face[27, 1]
    assert len(face.unique(dim=0)) == 68


def test_identical_landmarks_give_the_identity(face):
    flow, coordinates = landmark_flow(face, face, SIZE, 32)
    assert flow.abs().max() == 0
    image = torch.rand(1, 3, SIZE, SIZE)
    assert torch.allclose(warp(image, flow), image, atol=1e-5)
    assert coordinates.shape == (1, 32, 32, 2)


@pytest.mark.parametrize("motion", [jaw_drop, smile, roll])
def test_spline_lands_on_the_landmarks_and_does_not_fold(face, motion):
    target = motion(face)
    flow, _ = landmark_flow(face, target, SIZE, 64)
    landed = target + sample_flow(flow, target)
    eye = float((face[0, 36] - face[0, 45]).norm())
    assert float((landed - face[0]).norm(dim=-1).mean()) / eye < 0.006
    position = regular_grid(64) + flow[0]
    across = position[:, 1:, 0] - position[:, :-1, 0]
    down = position[1:, :, 1] - position[:-1, :, 1]
    assert (across <= 0).float().mean() == 0 and (down <= 0).float().mean() < 1e-3


def test_face_coordinates_name_the_landmarks(face):
    target = roll(smile(face))
    _, coordinates = landmark_flow(face, target, SIZE, 64)
    found = sample_flow(coordinates, target) * 2 / SIZE
    assert (found - canonical_face()).abs().mean() < 0.02


def test_unknown_landmarks_are_left_out(face):
    target = smile(face)
    some = face.clone()
    some[:, :17] = float("nan")
    flow, _ = landmark_flow(some, target, SIZE, 32)
    assert torch.isfinite(flow).all()
    assert (target + sample_flow(flow, target) - face)[0, 48].norm() < 1.0
    nobody = torch.full_like(face, float("nan"))
    flow, coordinates = landmark_flow(nobody, nobody, SIZE, 32)
    assert flow.abs().max() < 1e-4
    assert torch.isfinite(coordinates).all()


def test_spline_interpolates_exactly_without_stiffness():
    generator = torch.Generator().manual_seed(0)
    control = torch.rand(2, 12, 2, generator=generator) * 2 - 1
    values = torch.rand(2, 12, 3, generator=generator)
    for sample in range(2):
        found = spline(control[sample : sample + 1], values[sample : sample + 1], control[sample], stiffness=0.0)
        assert torch.allclose(found[0], values[sample], atol=1e-3)


def test_warp_moves_pixels_by_the_flow():
    image = torch.zeros(1, 1, 16, 16)
    image[0, 0, 8, 8] = 1.0
    flow = torch.zeros(1, 16, 16, 2)
    flow[..., 0] = 3 * 2 / 16  # sample three pixels to the right: the picture moves to the left
    moved = warp(image, flow)
    assert moved[0, 0, 8, 5] == pytest.approx(1.0, abs=1e-5)


def test_resized_flow_keeps_its_units():
    flow = torch.ones(1, 8, 8, 2) * 0.25
    assert torch.allclose(resize_flow(flow, 32), torch.full((1, 32, 32, 2), 0.25))
    assert torch.allclose(resize_flow(flow, 4), torch.full((1, 4, 4, 2), 0.25))


def test_geometry_is_exact_under_autocast(face):
    exact = landmark_flow(face, smile(face), SIZE, 32)
    with torch.autocast("cpu", torch.bfloat16):
        assert all(torch.equal(a, b) for a, b in zip(exact, landmark_flow(face, smile(face), SIZE, 32)))
