"""What a generator is asked for, as pictures: landmark heatmaps and AU-intensity maps.

Landmark heatmaps are Gaussians grouped by facial part. AU maps follow EAC-Net (Li et al. 2018) and JAA-Net (Shao et al.
2018): one channel an AU, Gaussians at its muscle centres (rules on the landmarks, :mod:`lit_faces.core.facs`),
amplitude = intensity / 5. NaN landmarks and NaN AUs give empty channels, and a mask channel says so.

Pixel coordinates are FaceSample's: x right, y down, (0, 0) is the centre of the top-left pixel.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache

import torch
from torch import Tensor

from lit_faces.core.facs import CATALOGUE, MAX_INTENSITY, NUM_AUS

NUM_LANDMARKS = 68

#: Facial parts of the heatmaps: first and last landmark.
PARTS: dict[str, tuple[int, int]] = {
    "jaw": (0, 16),
    "brows": (17, 26),
    "nose": (27, 35),
    "eyes": (36, 47),
    "outer mouth": (48, 59),
    "inner mouth": (60, 67),
}
NUM_PARTS = len(PARTS)

_INNER_EYES = (39, 42)
_SMALLEST_EYE_DISTANCE = 0.06  # of the crop: a profile must not shrink the maps to nothing


@dataclass
class Condition:
    """What the generator is asked for.

    Attributes:
        source_landmarks: float (B, 68, 2), pixels of the square crop, NaN = unknown.
        target_landmarks: float (B, 68, 2), the source's own morphology where it is asked to go.
        source_au: float (B, 19), 0..5, NaN = not known (a photograph): the target is then an absolute request.
        target_au: float (B, 19), 0..5, NaN = not asked.
    """

    source_landmarks: Tensor
    target_landmarks: Tensor
    source_au: Tensor
    target_au: Tensor

    def __len__(self) -> int:
        return self.target_au.shape[0]

    def to(self, device: torch.device | str) -> Condition:
        """A copy on ``device``."""
        return Condition(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})

    def select(self, index: Tensor | slice) -> Condition:
        """The requests at ``index``."""
        return Condition(**{f.name: getattr(self, f.name)[index] for f in fields(self)})


def pixel_centres(size_in: int, size_out: int, device: torch.device | str | None = None) -> Tensor:
    """Where the cells of a ``size_out`` grid lie in a ``size_in`` picture: float (size_out,), pixels of the latter."""
    return (torch.arange(size_out, device=device, dtype=torch.float32) + 0.5) * (size_in / size_out) - 0.5


def _gaussian_planes(points: Tensor, sigma: Tensor, size_in: int, size_out: int) -> tuple[Tensor, Tensor]:
    """Rows and columns of separable Gaussians at ``points`` (B, K, 2) px; the picture is their outer product."""
    grid = pixel_centres(size_in, size_out, points.device)
    scaled = (grid[None, None, None, :] - points[..., None]) / sigma[..., None, None]  # (B, K, 2, S)
    planes = torch.exp(-0.5 * scaled.square())
    return planes[:, :, 1], planes[:, :, 0]


def landmark_heatmaps(landmarks: Tensor, size_in: int, size_out: int, sigma: float = 0.02) -> Tensor:
    """Gaussian heatmaps of the 68 landmarks, one channel a facial part, and a mask channel.

    Args:
        landmarks: float (B, 68, 2), pixels of a ``size_in`` crop, NaN = unknown.
        size_in: side of the crop, pixels.
        size_out: side of the maps, cells.
        sigma: standard deviation in units of the crop's side (never below half a cell).

    Returns:
        float32 (B, 7, size_out, size_out) in [0, 1]: jaw, brows, nose, eyes, outer mouth, inner mouth, and the known
        mask: a constant plane with the share of landmarks that are known.
    """
    points = landmarks.float()
    known = ~points.isnan().any(-1)  # (B, 68)
    width = torch.full_like(points[..., 0], max(sigma * size_in, 0.5 * size_in / size_out))
    rows, columns = _gaussian_planes(points.nan_to_num(0.0), width, size_in, size_out)
    rows = rows * known[..., None]
    with torch.autocast(points.device.type, enabled=False):  # the products would round to bfloat16
        parts = [rows[:, a : b + 1].transpose(1, 2) @ columns[:, a : b + 1] for a, b in PARTS.values()]
    share = known.float().mean(1)[:, None, None].expand(-1, size_out, size_out)
    return torch.stack([part.clamp(max=1.0) for part in parts] + [share], dim=1)


@lru_cache(maxsize=8)
def _centre_rules(device: str) -> tuple[Tensor, Tensor, Tensor]:
    """The catalogue as tensors: weights (19, 2, 68), offsets (19, 2, 2), spread (19, 2); single centres stand twice."""
    weights = torch.zeros(NUM_AUS, 2, NUM_LANDMARKS)
    offsets, spread = torch.zeros(NUM_AUS, 2, 2), torch.zeros(NUM_AUS, 2)
    for row, unit in enumerate(CATALOGUE):
        for side in range(2):
            centre = unit.centres[min(side, len(unit.centres) - 1)]
            weights[row, side, list(centre.points)] = 1.0 / len(centre.points)
            offsets[row, side] = torch.tensor(centre.offset)
            spread[row, side] = unit.spread
    return weights.to(device), offsets.to(device), spread.to(device)


def au_centres(landmarks: Tensor, size_in: int) -> tuple[Tensor, Tensor]:
    """Muscle centres of the 19 AUs and the radius of their maps.

    Args:
        landmarks: float (B, 68, 2), pixels; NaN = unknown.
        size_in: side of the crop, pixels.

    Returns:
        centres float32 (B, 19, 2 sides, 2), pixels, NaN where a landmark of the rule or of the inner eye corners is
        unknown; radius float32 (B, 19, 2), pixels (standard deviation).
    """
    weights, offsets, spread = _centre_rules(str(landmarks.device))
    points = landmarks.float()
    across = points[:, _INNER_EYES[1]] - points[:, _INNER_EYES[0]]  # subject's right to left: image x of the face
    distance = across.norm(dim=-1).clamp(min=_SMALLEST_EYE_DISTANCE * size_in)
    x_axis = torch.nn.functional.normalize(across, dim=-1)
    y_axis = torch.stack([-x_axis[:, 1], x_axis[:, 0]], dim=-1)
    missing = points.isnan().any(-1)
    with torch.autocast(points.device.type, enabled=False):  # bfloat16 coordinates are half a pixel off
        centres = torch.einsum("asl,bld->basd", weights, points.nan_to_num(0.0))
        unknown = torch.einsum("asl,bl->bas", weights, missing.float()) > 0
    shift = offsets[None, ..., 0, None] * x_axis[:, None, None] + offsets[None, ..., 1, None] * y_axis[:, None, None]
    centres = centres + shift * distance[:, None, None, None]
    return centres.masked_fill(unknown[..., None], float("nan")), spread[None] * distance.nan_to_num(1.0)[:, None, None]


def au_masks(landmarks: Tensor, size_in: int, size_out: int) -> Tensor:
    """Where each AU acts: Gaussians at its muscle centres.

    Args:
        landmarks: float (B, 68, 2), pixels of a ``size_in`` crop, NaN = unknown (gives an empty channel).
        size_in: side of the crop, pixels.
        size_out: side of the maps, cells.

    Returns:
        float32 (B, 19, size_out, size_out) in [0, 1], 1 at a centre.
    """
    centres, radius = au_centres(landmarks, size_in)
    known = ~centres.isnan().any(-1)  # (B, 19, 2)
    batch = len(landmarks)
    rows, columns = _gaussian_planes(
        centres.nan_to_num(0.0).reshape(batch, -1, 2), radius.reshape(batch, -1), size_in, size_out
    )
    rows = (rows * known.reshape(batch, -1, 1)).reshape(batch, NUM_AUS, 2, size_out)
    columns = columns.reshape(batch, NUM_AUS, 2, size_out)
    return (rows[..., :, None] * columns[..., None, :]).amax(2)


def au_maps(landmarks: Tensor, au: Tensor, size_in: int, size_out: int) -> Tensor:
    """AU-intensity maps: intensity / 5 at the AU's place, and a mask channel.

    Args:
        landmarks: float (B, 68, 2), pixels of a ``size_in`` crop, NaN = unknown.
        au: float (B, 19), 0..5 or differences -5..5, NaN = not coded (gives an empty channel).
        size_in: side of the crop, pixels.
        size_out: side of the maps, cells.

    Returns:
        float32 (B, 20, size_out, size_out): 19 AUs in the order of ``AUS``, then the known mask (the union of the
        masks of the coded AUs).
    """
    masks = au_masks(landmarks, size_in, size_out)
    known = (masks * (~au.isnan())[..., None, None]).amax(1, keepdim=True)
    return torch.cat([masks * (au.float().nan_to_num(0.0) / MAX_INTENSITY)[..., None, None], known], dim=1)


def changed(condition: Condition, full: float = 0.5) -> Tensor:
    """Which AUs are to change: float (B, 19), from 0 (same intensity) to 1 (differs by ``full`` or more).

    An AU that is not asked for does not change; one whose source intensity is unknown may.
    """
    difference = (condition.target_au - condition.source_au).float().abs()
    moved = (difference / full).clamp(0, 1).nan_to_num(1.0)
    return moved.masked_fill(condition.target_au.isnan(), 0.0)


def changed_area(masks: Tensor, amount: Tensor, widen: float = 3.0) -> Tensor:
    """Union of AU masks: (B, 19, S, S) and (B, 19) amounts in 0..1 -> (B, 1, S, S) in [0, 1].

    ``widen`` opens the area fully up to 1.5 standard deviations around the centres (for 3).
    """
    return ((masks * widen).clamp(max=1.0) * amount[..., None, None]).amax(1, keepdim=True)


def check_condition(source: Tensor, condition: Condition) -> None:
    """Check the shapes that every generator relies on.

    Raises:
        ValueError: names the field, what was expected and what was found.
    """
    if source.ndim != 4 or source.shape[1] != 3 or source.shape[2] != source.shape[3] or source.shape[2] % 16:
        raise ValueError(
            f"source: expected (B, 3, S, S) with S a multiple of 16, got {tuple(source.shape)}; align and crop the face"
        )
    batch = source.shape[0]
    for name, shape in (("landmarks", (batch, NUM_LANDMARKS, 2)), ("au", (batch, NUM_AUS))):
        for side in ("source", "target"):
            value = getattr(condition, f"{side}_{name}")
            if tuple(value.shape) != shape:
                raise ValueError(f"{side}_{name}: expected {shape}, got {tuple(value.shape)}")
