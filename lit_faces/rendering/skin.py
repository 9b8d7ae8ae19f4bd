"""The skin's texture as linear maps on the chart: a person is a vector of weights, a texture is one matrix product.

Channels of a texel (see ``CHANNELS``): pigment (melanin, haemoglobin), slope of the relief, occlusion, signed distances
to brows and hair (blended as level sets, so that shapes morph), beard density, strand noise, lips, eyes, mouth, lashes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from lit_faces.core.facs import AUS
from lit_faces.rendering import resting
from lit_faces.rendering.chart import (
    Chart,
    build_chart,
    gauss,
    lid_lines,
    lower_lip_edge,
    mouth_gap,
    seam,
    smoothstep,
    upper_lip_edge,
)
from lit_faces.rendering.hair import BROW_STYLES, HAIR_STYLES, beard_parts, brow_distance, hair_distance
from lit_faces.rendering.wrinkles import LINES, Line, au_height, furrow

Array = NDArray[np.float64]
CHANNELS = (
    "melanin",
    "blood",
    "slope_x",
    "slope_y",
    "occlusion",
    "brow",
    "hair",
    "beard",
    "strand",
    "lips",
    "eye",
    "mouth",
    "lash",
    "makeup",
    "cloth",
)
PERSONAL = 9  # the first channels differ between people, the others are the same maps for all
CHANNEL = {name: index for index, name in enumerate(CHANNELS)}
VARIANTS = 2
RELIEF_GROUPS = ("pores", "wrinkles_right", "wrinkles_left", "static")
FULL_GROUPS = ("hair", "strand")  # the others live in the window of the face
WRINKLED_AUS = tuple(number for number in AUS if LINES[number])


def _noise(shape: tuple[int, int], rng: np.random.Generator, sigma: float, stretch: float = 1.0) -> Array:
    raw = gaussian_filter(rng.normal(size=shape), (sigma * stretch, sigma / stretch), mode="wrap")
    return raw / raw.std()


def _slopes(chart: Chart, height: Array) -> tuple[Array, Array]:
    """Slope of a height map along the chart's rows (to +x) and columns (to +y), mm per mm."""
    arc = np.maximum(np.hypot(np.gradient(chart.x, axis=1), np.gradient(chart.z, axis=1)), 0.25)
    step = np.minimum(np.gradient(chart.y, axis=0), -0.25)
    return np.gradient(height, axis=1) / arc, np.gradient(height, axis=0) / step


def _cavity(height: Array) -> Array:
    """Darkening of furrows from their depth below the surroundings (mm)."""
    return np.clip(gaussian_filter(height, 3.5) - height, 0, None) * 0.45


SOCKET_PARTS = ("below_brow", "inner_corner", "low_crease", "high_crease", "trough", "frown")
SPOTS = 24
#: What skin wears without moving: name -> share of people, and how much of it comes with age.
STATIC_TRAITS: dict[str, tuple[float, float]] = {
    "crows_feet": (0.30, 1.0),
    "forehead_lines": (0.30, 1.0),
    "frown_lines": (0.30, 1.0),
    "nasolabial": (0.36, 0.9),
    "dimpled_chin": (0.22, 0.0),
    "eye_bags": (0.34, 0.9),
    "mouth_lines": (0.30, 1.0),
    "cleft_chin": (0.12, 0.0),
    "lip_lines": (0.25, 1.0),
    "tear_trough": (0.34, 0.7),
    "marionette": (0.28, 1.0),
}


@dataclass
class Basis:
    """Named maps: ``groups[name] = (channels, maps)`` with maps float32 (K, len(channels), H * W)."""

    groups: dict[str, tuple[tuple[int, ...], Tensor]]
    constant: Tensor  # (len(CHANNELS), H * W)
    size: tuple[int, int]
    window: tuple[int, int, int, int]  # rows and columns of the face, where the relief groups live
    joined: dict[int, Tensor] = field(default_factory=dict)

    def gather(self, textures: Tensor, item: Tensor, uv: Tensor) -> Tensor:
        """Nearest texel of per-person textures (B, P, H * W) and the constant maps at uv (2, N) in [-1, 1]: (C, N).

        Texels are about as large as the supersampled pixels, whose averaging does the filtering.
        """
        height, width = self.size
        x = ((uv[0] + 1) * 0.5 * (width - 1) + 0.5).long().clamp_(0, width - 1)
        y = ((uv[1] + 1) * 0.5 * (height - 1) + 0.5).long().clamp_(0, height - 1)
        texel = y * width + x
        count = textures.shape[1]
        flat, area = textures.reshape(-1), height * width
        index = texel + item * (count * area)
        out = torch.empty(len(CHANNELS), len(item), device=textures.device)
        for channel in range(count):
            torch.index_select(flat[channel * area :], 0, index, out=out[channel])
        out[count:] = self.constant[count:].index_select(1, texel)
        return out

    def relief(self, names: list[str], position: int) -> Tensor:
        """The maps of all relief groups for one of their channels, (sum of K, texels of the window)."""
        if position not in self.joined:
            self.joined[position] = torch.cat([self.groups[name][1][:, position] for name in names])
        return self.joined[position]


def _lashes(above: Array, below: Array, s: Array) -> Array:
    """Darkness of the lash line (H, W): heights over the upper and the lower lid's margin (mm), s from corner to corner.

    The upper line is thick and runs out past the outer corner; the lower one is faint.
    """
    thick = 1.5 + 0.7 * smoothstep(s, -0.2, 0.8)
    upper = smoothstep(above - thick, 0.6, -0.8) * smoothstep(above, -0.9, -0.1)
    upper = upper * smoothstep(s, -1.06, -0.5) * smoothstep(s, 1.3, 1.04) * (0.75 + 0.25 * smoothstep(s, -0.5, 0.6))
    lower = 0.55 * np.exp(-0.5 * ((below + 0.3) / 0.8) ** 2) * smoothstep(s, -0.9, 0.3) * smoothstep(s, 1.06, 0.9)
    return np.clip(np.maximum(upper, lower), 0, 1)


def _constant(chart: Chart) -> Array:
    """What everybody has: pigment of regions, occlusion of hollows, masks of lips, eyes and mouth."""
    x, y, ax = chart.x, chart.y, np.abs(chart.x)
    maps = np.zeros((len(CHANNELS), *x.shape))
    maps[CHANNEL["brow"]] = -9.0
    front = smoothstep(np.cos(chart.azimuth), 0.0, 0.3)
    lips = smoothstep(np.minimum(upper_lip_edge(x) - y, y - lower_lip_edge(x)), -0.7, 0.9) * (ax < 26) * front
    top, bottom, s = lid_lines(x)
    blood = (
        0.10 * gauss(ax, y, 44, -32, 14, 14) + 0.16 * gauss(x, y, 0, -40, 13, 8) + 0.08 * gauss(x, y, 0, -102, 14, 9)
    )
    blood = (
        blood
        + 0.12 * gauss(ax, y, 31, -14, 12, 4)
        + 0.15 * gauss(ax, y, 17, -5, 3, 4)
        + 0.30 * (np.rad2deg(np.abs(chart.azimuth)) > 86) * gauss(ax, y, 88, -17, 14, 22)
    )
    margin = np.maximum(np.maximum(y - top, bottom - y), (np.abs(s) - 1.0) * 13.3)
    around_eye = np.exp(-0.5 * (np.clip(margin, 0, None) / 3.5) ** 2) * (1 - chart.eye_inside) * front
    maps[CHANNEL["blood"]] = blood * front + 0.28 * around_eye + 0.85 * lips
    maps[CHANNEL["melanin"]] = (
        0.06 * gauss(ax, y, 30, -14, 13, 5) + 0.05 * gauss(ax, y, 30, 8, 13, 5) + 0.10 * around_eye + 0.10 * lips
    )
    hollow = 0.20 * gauss(ax, y, 18.5, 1.5, 5, 6.5) + 0.12 * gauss(ax, y, 32, 7.5, 13, 3.2)
    hollow = (
        hollow
        + 0.95 * gauss(ax, y, 7.0, -47.6, 3.0, 1.7)
        + 0.34 * gauss(x, y, 0, -50.5, 13, 3.0)
        + 0.35 * gauss(ax, y, 19.5, -44, 2.2, 5.5)
    )
    hollow = (
        hollow
        + 0.25 * gauss(x, y, 0, -86.5, 15, 3.2)
        + 0.5 * gauss(ax, y, 26, -72.5, 2.4, 2.2)
        + 0.75 * smoothstep(y, -112, -124)
    )
    line = y - (0.5 * (upper_lip_edge(x) + lower_lip_edge(x)))
    hollow = (
        hollow
        + 0.9
        * np.exp(-0.5 * ((np.abs(chart.mouth) * mouth_gap(x) - mouth_gap(x)) / 0.9) ** 2)
        * (np.abs(line) < 5)
        * (ax < 24)
        * front
    )
    hollow = hollow + 0.5 * (np.rad2deg(np.abs(chart.azimuth)) > 88) * gauss(
        np.rad2deg(np.abs(chart.azimuth)), y, 98, -16, 3.2, 9
    )
    crease = 0.28 * np.exp(-0.5 * ((y - top - resting.CREASE) / 0.9) ** 2) * smoothstep(np.abs(s - 0.12), 1.25, 0.7)
    crease = (crease + 0.45 * gauss(ax, y, 46.5, -3.8, 4.0, 2.4)) * front
    maps[CHANNEL["occlusion"]] = hollow + crease
    eye = chart.eye_inside
    caruncle = smoothstep(s, -0.70, -0.86) * eye  # flesh, not white, at the inner corner
    maps[CHANNEL["eye"]] = eye - caruncle
    maps[CHANNEL["blood"]] += 0.35 * caruncle
    inside_top, inside_bottom = np.clip(top - y, 0, None), np.clip(y - bottom, 0, None)
    maps[CHANNEL["occlusion"]] = maps[CHANNEL["occlusion"]] * (1 - eye) + eye * (
        1.1 * np.exp(-inside_top / 1.7)
        + 0.3 * np.exp(-inside_bottom / 1.2)
        + 0.35 * smoothstep(-s, 0.6, 1.0)
        + 1.5 * smoothstep(s, 0.66, 0.96)
    )
    maps[CHANNEL["lash"]] = _lashes(y - top, y - bottom, s) * front
    maps[CHANNEL["lips"]] = lips * (1 - chart.mouth_inside)
    maps[CHANNEL["mouth"]] = chart.mouth_inside * smoothstep(1.0 - np.abs(chart.mouth), 0.0, 0.25)
    shadow = np.exp(-0.5 * ((y - top - 3.4) / 2.6) ** 2) * (np.abs(s) < 1.15) * front
    maps[CHANNEL["makeup"]] = shadow * (y > top)
    maps[CHANNEL["cloth"]] = smoothstep(y - 14.0 * np.cos(chart.azimuth), -166.0, -170.0)
    height = 0.35 * np.exp(-0.5 * ((y - top - resting.CREASE - 1.0) / 1.2) ** 2) * (np.abs(s) < 1) - 0.45 * np.exp(
        -0.5 * ((y - top - resting.CREASE) / 0.8) ** 2
    ) * (np.abs(s) < 1)
    lip_lines = 0.10 * np.sin(chart.x * 4.1 + 1.2 * np.sin(chart.x * 1.3)) * lips
    maps[CHANNEL["slope_x"]], maps[CHANNEL["slope_y"]] = _slopes(chart, (height + lip_lines) * front)
    return maps


def _relief(chart: Chart, heights: list[Array]) -> tuple[tuple[int, ...], Array]:
    rows = [np.stack([*_slopes(chart, h), _cavity(h)]) for h in heights]
    return (CHANNEL["slope_x"], CHANNEL["slope_y"], CHANNEL["occlusion"]), np.stack(rows)


def _no_groups() -> dict[str, tuple[tuple[int, ...], Array]]:
    return {}


def _pigment_groups(chart: Chart) -> dict[str, tuple[tuple[int, ...], Array]]:
    rng, shape, groups = np.random.default_rng(3), chart.x.shape, _no_groups()
    fade = (
        smoothstep(np.abs(chart.azimuth), np.deg2rad(72), np.deg2rad(60))
        * smoothstep(chart.y, -121, -112)
        * smoothstep(chart.y, 64, 56)
    )
    clouds = [_noise(shape, rng, s) for s in (3, 3, 5, 5, 9, 9, 16, 16, 28, 28)]
    groups["clouds"] = ((CHANNEL["melanin"],), 0.016 * (fade * np.stack(clouds))[:, None])
    flush = [_noise(shape, rng, s) for s in (4, 7, 12, 22, 22)]
    groups["flush"] = ((CHANNEL["blood"],), 0.022 * (fade * np.stack(flush))[:, None])
    x, y, ax = chart.x, chart.y, np.abs(chart.x)
    regions = [
        gauss(ax, y, 44, -34, 16, 16),
        gauss(x, y, 0, -38, 12, 12),
        gauss(x, y, 0, -103, 16, 10),
        gauss(x, y, 0, 45, 40, 22),
        gauss(ax, y, 31, -14, 14, 5),
        gauss(ax, y, 33, -62, 20, 18),
    ]
    groups["blush"] = ((CHANNEL["blood"],), 0.07 * np.stack(regions)[:, None])
    groups["tan"] = ((CHANNEL["melanin"],), 0.05 * np.stack(regions)[:, None])
    freckles = []
    for density in (0.004, 0.008):
        dots = gaussian_filter((rng.random(shape) < density).astype(float), 0.9) * 6.0
        freckles.append(np.clip(dots, 0, 1.2) * (gauss(ax, y, 28, -26, 24, 18) + 0.4 * gauss(x, y, 0, 40, 50, 25)))
    groups["freckles"] = ((CHANNEL["melanin"],), np.stack(freckles)[:, None])
    spots = []
    for _ in range(SPOTS):
        cx, cy, r = rng.uniform(-60, 60), rng.uniform(-110, 55), rng.uniform(0.8, 1.9)
        spots.append(gauss(x, y, cx, cy, r, r) * (np.cos(chart.azimuth) > 0))
    groups["spots"] = ((CHANNEL["melanin"],), np.stack(spots)[:, None])
    return groups


def _socket_groups(chart: Chart) -> dict[str, tuple[tuple[int, ...], Array]]:
    """Shade around the eyes and the mouth that differs between people."""
    x, y, ax = chart.x, chart.y, np.abs(chart.x)
    top, _bottom, s = lid_lines(x)
    front = smoothstep(np.cos(chart.azimuth), 0.0, 0.3)
    over = smoothstep(np.abs(s - 0.12), 1.25, 0.7)

    def crease(height: float) -> Array:
        return 0.8 * np.exp(-0.5 * ((y - top - height) / 0.9) ** 2) * over

    shade = {
        "below_brow": gauss(ax, y, 29, 8.6, 13, 3.4) * (y > top),
        "inner_corner": gauss(ax, y, 18.0, 2.5, 4.5, 6.5),
        "low_crease": crease(resting.CREASE - resting.CREASE_SPREAD),
        "high_crease": crease(resting.CREASE + resting.CREASE_SPREAD),
        "trough": gauss(ax, y, 23.0, -13.5, 8.0, 3.0) + 0.5 * gauss(ax, y, 32.0, -15.5, 11.0, 4.0),
        "frown": gauss(ax, y, 6.0, 10.0, 3.5, 7.0),
    }
    outside = front * (1 - chart.eye_inside)
    groups = _no_groups()
    groups["socket"] = ((CHANNEL["occlusion"],), np.stack([shade[name] * outside for name in SOCKET_PARTS])[:, None])
    lips = smoothstep(np.minimum(upper_lip_edge(x) - y, y - lower_lip_edge(x)), -0.7, 0.9) * (ax < 26) * front
    ring = np.minimum(np.abs(y - upper_lip_edge(x)), np.abs(y - lower_lip_edge(x)))
    outline = np.exp(-0.5 * (ring / 1.3) ** 2) * (ax < 25.5) * front
    corners = gauss(ax, y, 27.0, -73.5, 4.5, 4.0) * front
    groups["lip_tone"] = ((CHANNEL["melanin"],), np.stack([lips, outline, corners])[:, None])
    line = np.exp(-0.5 * ((y - seam(x)) / 1.1) ** 2) * (ax < 25) * (1 - chart.mouth_inside) * front
    pits = gauss(ax, y, 26.3, -73.0, 2.6, 2.0) * front
    groups["lip_shade"] = ((CHANNEL["occlusion"],), np.stack([line, pits])[:, None])
    return groups


def _hair_groups(chart: Chart) -> dict[str, tuple[tuple[int, ...], Array]]:
    rng, shape, groups = np.random.default_rng(5), chart.x.shape, _no_groups()
    groups["hair"] = ((CHANNEL["hair"],), np.stack([hair_distance(chart, **style) for style in HAIR_STYLES])[:, None])
    groups["brow"] = (
        (CHANNEL["brow"],),
        9.0 + np.stack([brow_distance(chart, **style) for style in BROW_STYLES.values()])[:, None],
    )
    groups["beard"] = ((CHANNEL["beard"],), beard_parts(chart)[:, None] * (np.cos(chart.azimuth) > 0))
    strands = [_noise(shape, rng, 1.6, 2.4), _noise(shape, rng, 2.2, 3.0), _noise(shape, rng, 1.2, 1.3)]
    groups["strand"] = ((CHANNEL["strand"],), np.stack(strands)[:, None])
    return groups


@lru_cache(maxsize=4)
def build_basis(height: int, width: int, device: torch.device | str = "cpu") -> Basis:
    """All maps at ``height`` x ``width`` texels."""
    chart = build_chart(height, width)
    rng = np.random.default_rng(11)
    groups: dict[str, tuple[tuple[int, ...], Array]] = {
        **_pigment_groups(chart),
        **_hair_groups(chart),
        **_socket_groups(chart),
    }
    front = smoothstep(np.cos(chart.azimuth), 0.0, 0.3) * (1 - chart.eye_inside)
    texels = [_noise(chart.x.shape, rng, s) for s in (0.8, 0.8, 1.3, 1.3, 2.2, 4.0)]
    groups["pores"] = _relief(
        chart, [0.026 * s * t * front for s, t in zip((1, 1, 1.6, 1.6, 2.4, 4.0), texels, strict=True)]
    )
    right, left = [], []
    for number in WRINKLED_AUS:
        for variant in range(VARIANTS):
            right_map, left_map = au_height(chart, number, variant)
            right.append(right_map * (1 - chart.eye_inside))
            left.append(left_map * (1 - chart.eye_inside))
    groups["wrinkles_right"] = _relief(chart, right)
    groups["wrinkles_left"] = _relief(chart, left)

    def whole(number: int, variant: int) -> Array:
        a, b = au_height(chart, number, variant)
        return (a + b) * (1 - chart.eye_inside)

    cleft = -1.4 * gauss(chart.x, chart.y, 0, -102, 1.7, 6.5)

    def both(*points: tuple[float, float], depth: float, width: float) -> Array:
        drawn = Line(points, depth, width)
        return (furrow(chart, drawn, 1.0) + furrow(chart, drawn, -1.0)) * (1 - chart.eye_inside)

    static = {
        "crows_feet": whole(6, 2),
        "forehead_lines": whole(1, 2) + whole(2, 2),
        "frown_lines": whole(4, 2),
        "nasolabial": whole(12, 2),
        "dimpled_chin": whole(17, 2),
        "eye_bags": whole(7, 2),
        "mouth_lines": whole(15, 2),
        "cleft_chin": cleft,
        "lip_lines": whole(23, 2),
        "tear_trough": both((18, -9), (23, -15), (31, -20), (39, -22), depth=1.1, width=1.5),
        "marionette": both((28, -77), (32, -86), (33, -97), depth=1.2, width=1.4),
    }
    groups["static"] = _relief(chart, [static[name] for name in STATIC_TRAITS])
    rows = np.flatnonzero((chart.y[:, width // 2] < 64) & (chart.y[:, width // 2] > -121))
    columns = np.flatnonzero(np.abs(chart.azimuth[0]) < np.deg2rad(72))
    window = (int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1)
    tensors = {}
    for name, (channels, maps) in groups.items():
        if name not in FULL_GROUPS:
            maps = maps[..., window[0] : window[1], window[2] : window[3]]
        flat = maps.reshape(len(maps), len(channels), -1)
        tensors[name] = (channels, torch.as_tensor(np.ascontiguousarray(flat), dtype=torch.float32, device=device))
    constant = torch.as_tensor(_constant(chart).reshape(len(CHANNELS), -1), dtype=torch.float32, device=device)
    return Basis(tensors, constant, (height, width), window)


def compose(basis: Basis, weights: dict[str, Tensor]) -> Tensor:
    """Per-person textures float32 (B, PERSONAL, H * W) from weights of each group (B, K)."""
    batch = next(iter(weights.values())).shape[0]
    out = basis.constant[:PERSONAL].expand(batch, -1, -1).clone(memory_format=torch.contiguous_format)
    top, bottom, first, last = basis.window
    face = out.view(batch, -1, *basis.size)[:, :, top:bottom, first:last]
    relief = [name for name in weights if name in RELIEF_GROUPS]
    stacked = torch.cat([weights[name] for name in relief], 1)
    channels = basis.groups[relief[0]][0]
    for position, channel in enumerate(channels):
        maps = basis.relief(relief, position)
        face[:, channel] += (stacked @ maps).view(batch, bottom - top, last - first)
    for name, weight in weights.items():
        if name not in RELIEF_GROUPS:
            channels, maps = basis.groups[name]
            for position, channel in enumerate(channels):
                painted = weight @ maps[:, position]
                if name in FULL_GROUPS:
                    out[:, channel] += painted
                else:
                    face[:, channel] += painted.view(batch, bottom - top, last - first)
    return out
