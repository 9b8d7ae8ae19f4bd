"""How the head is turned, from 68 landmarks: the mean head's rigid points, seen from a usual distance.

The angles are those of :class:`lit_faces.core.sample.FaceSample`, against the line of sight to the face, so that no
focal length is needed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lit_faces.reading.refining import frame_of

_DISTANCE = 900.0  # camera to face, mm
_SIDE = 221.0  # of the aligned crop of the mean head, mm
#: The points that expressions hardly move: bridge and tip of the nose, nostrils, corners of the eyes, sides of the jaw.
RIGID = (0, 1, 2, 14, 15, 16, 27, 28, 29, 30, 31, 33, 35, 36, 39, 42, 45)
#: Where they are at rest on the mean head of :mod:`lit_faces.rendering`, mm: x right, y up, z to the camera.
MEAN_HEAD = (
    (-75.9, 0.1, -71.3), (-74.7, -21.9, -57.8), (-72.0, -41.9, -64.0), (72.0, -41.9, -64.0), (74.7, -21.9, -57.8),
    (75.9, 0.1, -71.3), (0.0, 0.3, 0.2), (0.0, -11.1, 7.6), (0.0, -21.4, 15.5), (0.0, -34.0, 23.5),
    (-12.5, -48.1, 1.1), (0.0, -49.9, 8.3), (12.5, -48.1, 1.1), (-44.3, -2.8, -18.6), (-18.7, -4.7, -17.9),
    (18.7, -4.7, -17.9), (44.3, -2.8, -18.6),
)  # fmt: skip
_FLIP = np.diag([1.0, -1.0, -1.0])  # from x right, y up, z near to OpenCV's x right, y down, z far
_POINTS = np.array(MEAN_HEAD) @ _FLIP
_MIDDLE = np.array([0.0, 37.0, 20.0])  # of the face in OpenCV's axes, mm: the crop's centre


def rotation_of(points: NDArray[np.floating]) -> NDArray[np.float64]:
    """Rotation (3, 3) of a head with landmarks (68, 2), in OpenCV's axes; NaN where there is none."""
    import cv2

    x, y, side = frame_of(points)
    if not np.isfinite([x, y, side]).all() or side <= 0:
        return np.full((3, 3), np.nan)
    focal = _DISTANCE * side / _SIDE
    camera = np.array([[focal, 0.0, 0.0], [0.0, focal, 0.0], [0.0, 0.0, 1.0]])
    seen = np.asarray(points, np.float64)[list(RIGID)] - (x, y)
    turn, shift = np.zeros((3, 1)), np.array([[0.0], [0.0], [_DISTANCE]])
    done, found, _ = cv2.solvePnP(_POINTS - _MIDDLE, seen, camera, None, turn, shift, True)
    return cv2.Rodrigues(found)[0] if done else np.full((3, 3), np.nan)  # type: ignore[return-value]


def head_pose(points: NDArray[np.floating]) -> NDArray[np.float32]:
    """Yaw, pitch and roll in degrees, float32 (3,), of landmarks (68, 2); see :class:`FaceSample`."""
    turned = _FLIP @ rotation_of(points) @ _FLIP
    yaw, roll = np.arctan2(-turned[2, 0], turned[2, 2]), np.arctan2(turned[0, 1], turned[1, 1])
    pitch = np.arcsin(np.clip(turned[2, 1], -1.0, 1.0))
    return np.degrees([yaw, pitch, roll]).astype(np.float32)


def openface_pose(
    pose: NDArray[np.floating], points_frame: tuple[float, float, float], width: int, height: int
) -> list[float]:
    """``pose_Tx .. pose_Rz`` as OpenFace 2 gives them: mm from the camera (x right, y down, z away), and radians.

    Args:
        pose: yaw, pitch, roll, degrees.
        points_frame: centre and side of the face's aligned crop, pixels.
        width: of the picture; with ``height`` it gives the focal length that OpenFace assumes.
        height: of the picture.
    """
    focal = 0.5 * (500.0 * width / 640.0 + 500.0 * height / 480.0)
    x, y, side = points_frame
    z = focal * _SIDE / side
    yaw, pitch, roll = np.radians(pose.astype(np.float64))
    rotation = _FLIP @ _rotation(yaw, pitch, roll) @ _FLIP
    rx, rz = np.arctan2(-rotation[1, 2], rotation[2, 2]), np.arctan2(-rotation[0, 1], rotation[0, 0])
    ry = np.arcsin(np.clip(rotation[0, 2], -1.0, 1.0))
    return [(x - width / 2) * z / focal, (y - height / 2) * z / focal, z, float(rx), float(ry), float(rz)]


def _rotation(yaw: float, pitch: float, roll: float) -> NDArray[np.float64]:
    """As :func:`lit_faces.rendering.camera.rotation_matrix`, radians."""
    cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    about_y = np.array([[cy, 0.0, sy], [0.0, 1.0, 0.0], [-sy, 0.0, cy]])
    about_x = np.array([[1.0, 0.0, 0.0], [0.0, cp, -sp], [0.0, sp, cp]])
    about_z = np.array([[cr, sr, 0.0], [-sr, cr, 0.0], [0.0, 0.0, 1.0]])
    return about_z @ about_x @ about_y
