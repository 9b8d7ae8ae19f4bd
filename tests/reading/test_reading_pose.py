"""Head pose from landmarks, against heads that were rendered at a known pose."""

import numpy as np
import pytest
import torch

from lit_faces.core.facs import NUM_AUS
from lit_faces.reading.pose import head_pose, openface_pose
from lit_faces.rendering.camera import rotation_matrix
from lit_faces.rendering.renderer import FaceRenderer

POSES = [[0, 0, 0], [20, 0, 0], [-20, 0, 0], [0, 15, 0], [0, -15, 0], [0, 0, 20], [15, -10, -12]]


def test_known_poses_are_found():
    count = len(POSES)
    pose = torch.tensor(POSES, dtype=torch.float32)
    who = torch.arange(count)
    made = FaceRenderer(128, seed=5).render(who, who, 0 * who, torch.zeros(count, NUM_AUS), pose)
    found = np.stack([head_pose(points.numpy()) for points in made.landmarks])
    error = np.abs(found - pose.numpy())
    assert error.mean(0) == pytest.approx(0, abs=4.5) and error.max() < 10


def test_without_landmarks_there_is_no_pose():
    assert np.isnan(head_pose(np.full((68, 2), np.nan, np.float32))).all()


def test_openface_s_angles_are_the_same_rotation():
    pose = np.array([25.0, -10.0, 15.0], np.float32)
    x, y, z, rx, ry, rz = openface_pose(pose, (400.0, 240.0, 221.0), 640, 480)
    assert (x, y, z) == pytest.approx((80.0, 0.0, 500.0))

    def about(axis: int, angle: float) -> np.ndarray:
        c, s = np.cos(angle), np.sin(angle)
        turn = np.eye(3)
        one, other = [(1, 2), (0, 2), (0, 1)][axis]
        sign = -1 if axis == 1 else 1
        turn[one, one] = turn[other, other] = c
        turn[one, other], turn[other, one] = -sign * s, sign * s
        return turn

    flip = np.diag([1.0, -1.0, -1.0])
    ours = flip @ rotation_matrix(torch.tensor(pose)[None])[0].double().numpy() @ flip
    assert about(0, rx) @ about(1, ry) @ about(2, rz) == pytest.approx(ours, abs=1e-5)
