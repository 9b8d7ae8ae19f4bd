"""A photographed head in another scene: other light on the skin, another room behind the person.

The photo's own light stays the base: what is asked is blended into it, for pixels keep the shadows that they have.  The
person is cut out once for each photograph (GrabCut, Rother et al. 2004, told by the mesh where the face is); the cut
travels with the pixels when the head turns.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lit_faces.photohead.layers import LINEAR, sample
from lit_faces.photohead.light import Light

if TYPE_CHECKING:
    from lit_faces.photohead.drawing import State
    from lit_faces.photohead.head import PhotoHead

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

_CUT = 224  # pixels: side of the padded photo while the person is cut out
_ROUNDS = 3
_SHOULDERS = 0.30  # of the crop below the chin: there the person is as wide as the picture, likely
_HAIR = 0.16  # of the crop around the face: there hair is likely
_SOFT = 0.006  # of the crop: width of the seam


@dataclass(frozen=True)
class Scene:
    """Where a head is seen.

    Attributes:
        light: on the skin; None: the photo's own.
        background: float32 (H, W, 3), grey levels, at any size; None: the photo's own.
    """

    light: Light | None = None
    background: Floats | None = None


def distant(direction: Floats, soft: float) -> Floats:
    """The nine coefficients of a lamp far away on a matt surface, 1 where it faces the camera.

    Args:
        direction: (3,), unit, towards the lamp, camera axes (x right, y up, z to the camera).
        soft: share of light that comes from everywhere, 0..1.
    """
    x, y, z = direction
    # max(0, n.l) = 1/4 + (n.l)/2 + 5/32 (3 (n.l)^2 - 1), written in the basis of `harmonics`
    second = 5 / 32 * np.array([6 * x * y, 6 * x * z, 6 * y * z, 1.5 * (x * x - y * y), z * z - 0.5 * (x * x + y * y)])
    lamp = np.concatenate([[0.25, 0.5 * x, 0.5 * y, 0.5 * z], second])
    even = np.eye(9)[0]
    found = (1 - soft) * lamp + soft * even
    facing = found[0] + found[3] + 2 * found[8]
    return (found / max(float(facing), 0.15)).astype(np.float32)


def relit(light: Light, direction: Floats, soft: float, share: float) -> Light:
    """The light of a photo with another lamp's blended in.

    Args:
        light: of the photo.
        direction: see :func:`distant`.
        soft: see :func:`distant`.
        share: of the other lamp, 0..1.
    """
    own = light.coefficients
    level = float(own[0] + own[3] + 2 * own[8])
    mixed = (1 - share) * own + share * max(level, 0.15) * distant(direction, soft)
    return replace(light, coefficients=mixed.astype(np.float32))


def cut_out(head: PhotoHead) -> Floats:
    """How far each pixel of the padded photo belongs to the person: float32 (P, P), 0..1."""
    import cv2

    full = len(head.photo)
    scale = _CUT / full
    small = cv2.resize(head.photo, (_CUT, _CUT), interpolation=cv2.INTER_AREA).clip(0, 255).astype(np.uint8)
    points = (head.landmarks_xy + head.pad + 0.5) * scale - 0.5
    crop = head.inner * scale
    covered = np.zeros((full, full), np.uint8)
    covered[head.pad : head.pad + head.inner, head.pad : head.pad + head.inner] = head.depth > -900.0
    face = cv2.resize(covered, (_CUT, _CUT), interpolation=cv2.INTER_AREA) > 0
    chin, left, right = points[8, 1], points[0, 0], points[16, 0]
    rows, columns = np.mgrid[:_CUT, :_CUT]
    mask = np.full((_CUT, _CUT), cv2.GC_PR_BGD, np.uint8)
    away = cv2.distanceTransform((~face).astype(np.uint8), cv2.DIST_L2, 5)
    neck = (rows > chin) & (columns > left) & (columns < right)
    mask[(away < _HAIR * crop) & (rows < chin)] = cv2.GC_PR_FGD
    mask[neck | (rows > chin + _SHOULDERS * crop)] = cv2.GC_PR_FGD
    mask[(away > 0.5 * crop) & (rows < chin - 0.2 * crop)] = cv2.GC_BGD
    mask[cv2.erode(face.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0] = cv2.GC_FGD
    cv2.setRNGSeed(0)  # GrabCut starts from k-means
    cv2.grabCut(small, mask, None, np.zeros((1, 65)), np.zeros((1, 65)), _ROUNDS, cv2.GC_INIT_WITH_MASK)  # type: ignore[call-overload]
    person = (mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD)
    person = _in_one_piece(person, face)
    wide = cv2.resize(person.astype(np.float32), (full, full), interpolation=cv2.INTER_CUBIC)
    soft = cv2.GaussianBlur(wide, (0, 0), max(_SOFT * head.inner, 0.7 / scale))
    return np.asarray(np.clip(2.0 * soft - 0.6, 0, 1), np.float32)  # the seam lies inside: no rim of the old room


def _in_one_piece(person: Mask, face: Mask) -> Mask:
    """What hangs together with the face, without holes."""
    from scipy.ndimage import binary_fill_holes, binary_opening, label

    parts, _ = label(binary_opening(person | face, iterations=1) | face)
    kept = np.unique(parts[face])
    return np.asarray(binary_fill_holes(np.isin(parts, kept[kept > 0])), bool)


def placed(state: State, picture: Floats) -> Floats:
    """The picture before another background."""
    import cv2

    scene, head = state.scene, state.head
    if scene.background is None:
        return picture
    size = (head.inner, head.inner)
    room = cv2.resize(scene.background, size, interpolation=cv2.INTER_LINEAR)
    share = sample(head.person, state.x + head.pad, state.y + head.pad, LINEAR)
    share = np.where(state.face, 1.0, share)[..., None].astype(np.float32)
    return picture * share + room * (1 - share)
