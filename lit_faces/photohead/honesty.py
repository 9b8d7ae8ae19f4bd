"""What a photograph cannot tell: requests that are answered with a guess, and requests that are not answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from lit_faces.core.facs import AU_INDEX, AU_KEYS, index_of
from lit_faces.fitting.retarget import FittedFace

if TYPE_CHECKING:
    from lit_faces.photohead.fitting import MeshFit

SEEN_YAW, SEEN_PITCH = 25.0, 18.0  # degrees beside the photo: further turns show skin that it hides
MOST_YAW, MOST_PITCH = 40.0, 30.0  # further still, most of a cheek is a guess: refused
_SHUT = 3.0  # AU43 of eyes that are closed
_OPENED = 1.5  # grades of AU43 less than in the photo
_SHOWN = (
    1.0  # grade from which an open mouth shows its inside, and from which a smile of the photo has folds of its own
)
_COVERED = 0.42  # light under both eyes over that of the cheeks; 77 photographs: .59 and more, dark glasses: .1 to .3
_JAW = index_of((25, 26, 27))
_FOLDING = index_of((4, 6, 9, 10, 12))  # AUs whose folds are in the photo's own pixels


def turned_too_far(pose: Tensor, own: Tensor) -> str:
    """Why a pose (3,) in degrees cannot be shown by a photo of the pose ``own`` (3,); empty where it can."""
    yaw, pitch = (float(value) for value in (pose - own)[:2])
    if abs(yaw) > MOST_YAW:
        return f"turned {abs(yaw):.0f} degrees from the photo (at most {MOST_YAW:.0f}): that cheek is not in it"
    if abs(pitch) > MOST_PITCH:
        return f"bent {abs(pitch):.0f} degrees from the photo (at most {MOST_PITCH:.0f}): that side is not in it"
    return ""


def eyes_are_closed(faces: Sequence[FittedFace]) -> bool:
    """Whether no source shows an open eye."""
    return all(float(face.au[AU_INDEX[43]]) >= _SHUT for face in faces)


def eyes_are_covered(image: Tensor, landmarks: Tensor) -> bool:
    """Whether dark glasses hide both eyes: the skin below them is far darker than the cheeks.

    Args:
        image: uint8 (3, S, S), aligned crop.
        landmarks: float (68, 2), pixels of it.
    """
    grey, points = image.float().mean(0).numpy(), landmarks.numpy()
    down = points[8] - points[27]
    down = down / max(float(np.linalg.norm(down)), 1e-6)

    def light(centre: np.ndarray, half_x: float, half_y: float) -> float:
        x, y = centre
        rows = slice(max(round(y - half_y), 0), max(round(y + half_y) + 1, 1))
        columns = slice(max(round(x - half_x), 0), max(round(x + half_x) + 1, 1))
        part = grey[rows, columns]
        return float(np.median(part)) if part.size else float("nan")

    shares = []
    for outer, inner, lower, mouth in ((36, 39, (40, 41), 48), (45, 42, (46, 47), 54)):
        width = float(np.linalg.norm(points[outer] - points[inner]))
        under = light(points[list(lower)].mean(0) + 0.3 * width * down, 0.25 * width, 0.1 * width)
        cheek = light(0.5 * (points[outer] + points[mouth]), 0.2 * width, 0.2 * width)
        shares.append(under / max(cheek, 1.0))
    return bool(max(shares) < _COVERED)


def doubts(fit: MeshFit, open_mouth: bool, right: Tensor, left: Tensor, pose: Tensor) -> list[str]:
    """What in a picture is a guess.

    Args:
        fit: of the photo.
        open_mouth: whether the photo shows the inside of the mouth.
        right: float (19,), asked of the right side, 0..5.
        left: of the left side.
        pose: float (3,), degrees.
    """
    asked, found = 0.5 * (right + left), []
    yaw, pitch = (float(value) for value in (pose - fit.pose)[:2])
    if abs(yaw) > SEEN_YAW or abs(pitch) > SEEN_PITCH:
        found.append(f"turned {max(abs(yaw), abs(pitch)):.0f} degrees from the photo: hidden skin is filled in")
    own = float(fit.au[AU_INDEX[43]])
    if own >= _SHUT and float(asked[AU_INDEX[43]]) < own - _OPENED:
        found.append("the photo's eyes are closed: open eyes are invented")
    if float(asked[_JAW].max()) >= _SHOWN and not open_mouth:
        found.append("the photo's mouth is closed: teeth and tongue are invented")
    gone = [k for k in _FOLDING if float(fit.au[k]) >= 2 * _SHOWN and float(asked[k]) < float(fit.au[k]) - 2 * _SHOWN]
    if gone:
        found.append(f"the photo shows {', '.join(AU_KEYS[k] for k in gone)}: what it folds is only smoothed")
    return found
