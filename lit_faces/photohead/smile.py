"""What a smile does to the light on skin: a template measured on real people, each at rest and smiling.

Folds, the shadow beside nose and mouth, the shine on the raised cheek and the dark triangle under the eye come from
skin that bunches: more than the shape of a mesh can tell. Over people they are alike: for each pair of photographs, the
logarithm of the luminance of each point of skin (smile less rest), less what the mesh's own normals explain, is a map
on the chart; maps are regressed on how far the corners of the mouth moved, and made symmetric.

AU12 and AU6 come together in these pairs. What lies below the nostrils is drawn with AU12, what lies above with AU6,
which also deepens the nasolabial furrow a little (FACS manual, AU6: appearance changes).

Measured on the smile pairs of the Face Research Lab London Set (L. DeBruine & B. Jones, CC BY 4.0, altered) by
``python -m benchmarks.photohead template``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_faces.core.facs import AU_INDEX
from lit_faces.core.shipped import WEIGHTS
from lit_faces.core.weights import check_card, load_weights
from lit_faces.photohead.layers import LINEAR, sample, smooth
from lit_faces.photohead.light import LUMA, linear
from lit_faces.photohead.mesh import COLUMNS, ROWS, face_mesh

if TYPE_CHECKING:
    from lit_faces.photohead.head import PhotoHead

Floats = NDArray[np.float32]

FILE = WEIGHTS / "smile.safetensors"
KIND = "photohead/smile"
_BLUR_MM = 1.2  # of the photos: pores and stubble of one person do not belong to all
_SPREAD = 0.9  # texels: a last smoothing of the mean
_FACING = 0.25  # cosine from which skin is looked at
_SEEN = 0.6  # share of the people who show a point
_LIMIT = (-0.55, 0.35)  # log light of the template at intensity 5
_NOSTRILS = (-30.0, -42.0)  # mm on the chart: AU6 above, AU12 below
_CHEEKS = 1.5  # AU6 of these smiles is about two thirds of their AU12
_DEEPENS = 0.25  # share of AU12's furrow that AU6 draws on its own


@dataclass(frozen=True)
class Smile:
    """The template.

    Attributes:
        cheek: float32 (ROWS, COLUMNS), log light at activation 1 of AU6.
        mouth: likewise of AU12.
    """

    cheek: Floats
    mouth: Floats

    def change(self, right: Floats, left: Floats) -> Floats | None:
        """Log light on the chart, (ROWS, COLUMNS), for activations (19,) of both sides; None: none."""
        six, twelve = AU_INDEX[6], AU_INDEX[12]
        asked = np.array([[right[six], left[six]], [right[twelve], left[twelve]]])
        if np.abs(asked).max() < 1e-3:
            return None
        half = face_mesh().neutral[:, 0].reshape(ROWS, COLUMNS)
        share = smooth(half, -6.0, 6.0)  # of the subject's left
        cheek, mouth = (pair[0] * (1 - share) + pair[1] * share for pair in asked)
        return (self.cheek * cheek + self.mouth * mouth).astype(np.float32)


def luminance(head: PhotoHead) -> tuple[Floats, NDArray[np.bool_]]:
    """Log luminance of the skin at each vertex (V,), less the light that the mesh explains, and where it is seen."""
    import cv2

    log = np.log(np.maximum(linear(head.cropped(head.photo)) @ LUMA, 1e-3)).astype(np.float32)
    log = cv2.GaussianBlur(log, (0, 0), _BLUR_MM * head.scale)
    at, normal = head.source_xy.numpy(), head.source_normals.numpy()
    found = sample(log, at[:, :1], at[:, 1:], LINEAR)[:, 0]
    seen = (normal[:, 2] > _FACING) & ~head.mesh.ball & ~head.mesh.mouth
    return found - np.log(np.maximum(head.light.shade(normal), 0.2)), seen


def corners(head: PhotoHead) -> Floats:
    """Corners of the mouth (4,), relative to the eyes' outer corners and their distance."""
    points = head.landmarks_xy
    right, left = points[36], points[45]
    axis = (left - right) / np.linalg.norm(left - right)
    turn = np.array([[axis[0], axis[1]], [-axis[1], axis[0]]])
    return (
        ((points[[48, 54]] - (right + left) / 2) @ turn.T / np.linalg.norm(left - right)).reshape(-1).astype(np.float32)
    )


def measure(pairs: Sequence[tuple[PhotoHead, PhotoHead]]) -> Smile:
    """The template of some people.

    Args:
        pairs: heads of the same person's resting and smiling photograph.

    Raises:
        ValueError: no pairs.
    """
    if not pairs:
        raise ValueError("smile: no pairs of photographs, at least one person at rest and smiling is needed")
    change, moved, shown = [], [], []
    for rest, smiling in pairs:
        smiling.light = rest.light  # one studio: its light is fitted better on the face at rest
        (before, seen), (after, too) = luminance(rest), luminance(smiling)
        both = seen & too
        change.append(np.where(both, after - before - np.median((after - before)[both]), 0.0))
        moved.append(np.linalg.norm(corners(smiling) - corners(rest)))
        shown.append(both)
    maps, by, mask = np.array(change), np.array(moved)[:, None], np.array(shown)
    slope = (maps * by).sum(0) / np.maximum((mask * by**2).sum(0), 1e-6)
    slope[mask.mean(0) < _SEEN] = 0.0
    return _split(slope.reshape(ROWS, COLUMNS) * _travel())


def _travel() -> float:
    """How far the mean head's corners of the mouth travel at activation 1 of AU12, of its outer-eye distance."""
    mesh = face_mesh()
    zero, full = torch.zeros(19), torch.zeros(19)
    full[AU_INDEX[12]] = 1.0
    shape = torch.zeros(len(mesh.head.shape))
    before, after = (mesh.landmarks(mesh.pose(shape, au, au).vertices) for au in (zero, full))
    eyes = float((before[36] - before[45]).norm())
    return float((after[[48, 54], :2] - before[[48, 54], :2]).reshape(-1).norm()) / eyes


def _split(both: Floats) -> Smile:
    """Symmetric, without lips and what no skin of the face is, into cheek and mouth."""
    from scipy.ndimage import gaussian_filter

    neutral = face_mesh().neutral.reshape(ROWS, COLUMNS, 3)
    x, y = neutral[..., 0], neutral[..., 1]
    both = gaussian_filter(0.5 * (both + both[:, ::-1]), _SPREAD)
    lips = np.hypot(x / 25.0, (y + 71.0) / 11.0)
    keep = smooth(lips, 0.9, 1.3) * (1 - smooth(np.hypot(x / 66.0, (y + 42.0) / 74.0), 0.72, 0.95))
    keep *= 1 - smooth(y, 2.0, 12.0)  # brows and forehead: only noise
    both = np.clip(both * keep, *_LIMIT)
    above = smooth(y, _NOSTRILS[1], _NOSTRILS[0])
    mouth = both * (1 - above)
    return Smile(
        (_CHEEKS * both * above + _DEEPENS * np.minimum(mouth, 0)).astype(np.float32), mouth.astype(np.float32)
    )


@lru_cache(maxsize=4)
def load(path: Path = FILE) -> Smile:
    """The shipped template, or one of :func:`measure` that was saved.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another kind of file.
    """
    state, card = load_weights(path)
    check_card(
        path, card, KIND, "a smile template", "reinstall lit_faces, or run python -m benchmarks.photohead template"
    )
    maps: list[Tensor] = [state[name].float() for name in ("cheek", "mouth")]
    return Smile(*(m.numpy() for m in maps))
