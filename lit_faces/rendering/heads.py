"""Head models behind one interface: the renderer asks for a mesh and for the texture of what it sees."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from lit_faces.rendering import skin
from lit_faces.rendering.parametric import HeadPose, ParametricHead
from lit_faces.rendering.sampler import People


class Head(Protocol):
    """What the renderer needs of a head.

    Attributes:
        name: goes into ``FaceSample.source``.
        prefix: starts the subject's name.
        triangles: int64 (F, 3).
        uv: float32 (V, 2), position on the chart in [-1, 1].
        scale_of_glasses: distance of the spectacles' plane in front of the eyeballs' centres, mm.
    """

    name: str
    prefix: str
    triangles: Tensor
    uv: Tensor
    scale_of_glasses: float

    def pose(self, people: People, right: Tensor, left: Tensor) -> HeadPose:
        """The mesh for AU activations 0..1 of the right and the left side, (B, 19) each."""

    def normals(self, points: Tensor) -> Tensor:
        """Unit vertex normals (B, V, 3)."""

    def texture(self, people: People, right: Tensor, left: Tensor, item: Tensor, uv: Tensor, vertex: Tensor) -> Tensor:
        """Channels (N, C) of ``skin.CHANNELS`` at chart positions uv (N, 2) of pictures ``item`` (N,)."""

    def jaw_opening(self, activation: Tensor) -> Tensor:
        """Jaw rotation in radians (B,)."""


def sample_texture(texture: Tensor, size: tuple[int, int], item: Tensor, uv: Tensor) -> Tensor:
    """Bilinear look-up in textures (B, H * W, C) at uv (N, 2) in [-1, 1]; returns (N, C)."""
    height, width = size
    x = ((uv[:, 0] + 1) * 0.5 * (width - 1)).clamp(0, width - 1.001)
    y = ((uv[:, 1] + 1) * 0.5 * (height - 1)).clamp(0, height - 1.001)
    x0, y0 = x.floor(), y.floor()
    fx, fy = (x - x0)[:, None], (y - y0)[:, None]
    index = (item * height + y0.long()) * width + x0.long()
    rows = texture.reshape(-1, texture.shape[2])
    top = torch.lerp(rows.index_select(0, index), rows.index_select(0, index + 1), fx)
    bottom = torch.lerp(rows.index_select(0, index + width), rows.index_select(0, index + width + 1), fx)
    return torch.lerp(top, bottom, fy)


class RenderedParametricHead:
    """The parametric head with skin and hair."""

    name, prefix, scale_of_glasses = "parametric", "render", 31.0

    def __init__(self, size: int, device: torch.device) -> None:
        texels = 256 if size <= 160 else 448
        rows, columns = (113, 97) if size <= 160 else (169, 145)
        self.mesh = ParametricHead(rows, columns, device)
        self.basis = skin.build_basis(texels, texels, device)
        self.triangles, self.uv = self.mesh.triangles, self.mesh.uv
        chart = self.mesh.chart
        styles = [skin.hair_distance(chart, **style) for style in skin.HAIR_STYLES]
        self.hair = torch.stack([torch.as_tensor(s.reshape(-1), dtype=torch.float32, device=device) for s in styles])
        out = torch.as_tensor(chart.x.reshape(-1), dtype=torch.float32, device=device)
        deep = torch.as_tensor((chart.z + 95.0).reshape(-1), dtype=torch.float32, device=device)
        rise = torch.as_tensor((chart.y - 20.0).reshape(-1), dtype=torch.float32, device=device).clamp(min=0) * 1.2
        direction = torch.stack([out, rise, deep], 1)
        self.outward = direction / direction.norm(dim=1, keepdim=True).clamp(min=1.0)
        self.columns = [skin.WRINKLED_AUS.index(n) for n in skin.WRINKLED_AUS]
        self.wrinkled = torch.tensor([skin.AUS.index(n) for n in skin.WRINKLED_AUS], device=device)

    def pose(self, people: People, right: Tensor, left: Tensor) -> HeadPose:
        mesh = self.mesh.pose(people.shape, right, left)
        mask = torch.sigmoid((people.skin["hair"] @ self.hair) / 4.0 - 0.4)
        volume = mask * people.hair_volume[:, None]
        mesh.vertices = mesh.vertices + volume[..., None] * self.outward
        return mesh

    def normals(self, points: Tensor) -> Tensor:
        grid = points.reshape(len(points), self.mesh.rows, self.mesh.columns, 3)
        padded = torch.cat([grid[:, :, :1], grid, grid[:, :, -1:]], 2)
        du = padded[:, :, 2:] - padded[:, :, :-2]
        padded = torch.cat([grid[:, :1], grid, grid[:, -1:]], 1)
        dv = padded[:, 2:] - padded[:, :-2]
        return torch.nn.functional.normalize(torch.linalg.cross(dv, du), dim=-1).reshape_as(points)

    def texture(self, people: People, right: Tensor, left: Tensor, item: Tensor, uv: Tensor, vertex: Tensor) -> Tensor:
        def wrinkles(side: Tensor) -> Tensor:
            strength = side[:, self.wrinkled].clamp(min=0) ** 1.25
            return strength.repeat_interleave(skin.VARIANTS, 1) * people.wrinkle

        weights = {**people.skin, "wrinkles_right": wrinkles(right), "wrinkles_left": wrinkles(left)}
        return sample_texture(skin.compose(self.basis, weights), self.basis.size, item, uv)

    def jaw_opening(self, activation: Tensor) -> Tensor:
        return activation @ self.mesh.jaw_angle


def build_head(name: str, size: int, device: torch.device) -> Head:
    """``"parametric"`` or ``"ict:PATH"``.

    Raises:
        ValueError: another name.
    """
    if name == "parametric":
        return RenderedParametricHead(size, device)
    if name.startswith("ict:"):
        from lit_faces.rendering.ict import RenderedICTHead

        return RenderedICTHead(name.removeprefix("ict:"), size, device)
    raise ValueError(f"unknown head {name!r}: use 'parametric' or 'ict:PATH' (a checkout of ICT-FaceKit or its packed npz)")
