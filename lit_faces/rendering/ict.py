"""The scanned ICT-FaceKit head behind the same interface, from a user's own copy of that repository.

ICT-FaceKit (USC Institute for Creative Technologies, MIT licence) has 100 identity modes and FACS blendshapes of
scanned faces, no textures, brows or wrinkles.  It is never used for training here: a detector trained on the parametric
head and tested on this one is our sim-to-sim transfer figure.  Skin, lips, brows and hair are painted by carrying our
chart over, landmark to landmark; wrinkles of AUs are left out, so only its own geometry shows them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import RBFInterpolator
from scipy.spatial import cKDTree
from torch import Tensor

from lit_faces.core.facs import AU_INDEX, AUS, NUM_AUS
from lit_faces.core.fields import read_json, read_npz
from lit_faces.rendering import hair, skin
from lit_faces.rendering.chart import build_chart
from lit_faces.rendering.muscles import JAW
from lit_faces.rendering.parametric import HeadPose, landmark_positions
from lit_faces.rendering.raster import unit
from lit_faces.rendering.sampler import People
from lit_faces.rendering.skin import CHANNEL

Array = NDArray[np.float32]

#: AU -> (blendshape without its side, gain); AU23 and AU25 have no scan and are not coded.
SHAPES: dict[int, tuple[str, float]] = {
    1: ("browInnerUp", 1.0), 2: ("browOuterUp", 1.0), 4: ("browDown", 1.0), 5: ("eyeWide", 1.0), 6: ("cheekSquint", 1.0),
    7: ("eyeSquint", 1.0), 9: ("noseSneer", 1.0), 10: ("mouthShrugUpper", 1.0), 12: ("mouthSmile", 1.0), 14: ("mouthDimple", 1.0),
    15: ("mouthFrown", 1.0), 17: ("mouthShrugLower", 1.0), 20: ("mouthStretch", 1.0), 24: ("mouthPress", 1.0), 26: ("jawOpen", 0.4),
    27: ("jawOpen", 1.0), 43: ("eyeBlink", 1.0),
}  # fmt: skip
_SKIN_END, _MOUTH_END, _SOCKET_END, _TEETH_END, _BALL_END = 11248, 13294, 14062, 21451, 24591
_IDENTITIES = 40
_BROWS = np.arange(17, 27)


@dataclass
class ICTModel:
    """Meshes in mm, origin at the nasion: neutral (V, 3), quads (Q, 4), shapes by name, identity modes, landmarks."""

    neutral: Array
    quads: NDArray[np.int64]
    shapes: dict[str, Array]
    identities: Array
    landmarks: NDArray[np.int64]


def load_ict(path: str | Path) -> ICTModel:
    """Read the packed npz or a checkout of ICT-FaceKit.

    Raises:
        FileNotFoundError: nothing of the kind at ``path``.
        ValueError: the npz lacks an array.
    """
    where = Path(path)
    if where.is_dir():
        return _from_checkout(where if (where / "generic_neutral_mesh.obj").exists() else where / "FaceXModel")
    if not where.is_file():
        raise FileNotFoundError(f"no ICT-FaceKit at {where}: give a checkout of ICT-VGL/ICT-FaceKit or its packed npz")
    data = read_npz(where, "pack the head again")
    missing = {"neutral", "quads", "expr", "ident", "landmarks68", "expr_names"} - set(data)
    if missing:
        raise ValueError(f"{where}: not a packed ICT-FaceKit head, {sorted(missing)[0]!r} is missing")
    shapes = {str(n): e.astype(np.float32) * 10 for n, e in zip(data["expr_names"], data["expr"], strict=True)}
    neutral = data["neutral"].astype(np.float32) * 10
    marks = data["landmarks68"].astype(np.int64)
    return ICTModel(
        neutral - neutral[marks[27]],
        data["quads"].astype(np.int64),
        shapes,
        data["ident"][:_IDENTITIES].astype(np.float32) * 10,
        marks,
    )


def _read_obj(path: Path) -> tuple[Array, NDArray[np.int64]]:
    points, faces = [], []
    for line in path.read_text().splitlines():
        if line.startswith("v "):
            points.append([float(t) for t in line.split()[1:4]])
        elif line.startswith("f "):
            corner = [int(t.split("/")[0]) - 1 for t in line.split()[1:]]
            faces.append(corner if len(corner) == 4 else [*corner, -1])
    return np.array(points, dtype=np.float32), np.array(faces, dtype=np.int64)


def _from_checkout(folder: Path) -> ICTModel:
    neutral_file, index_file = folder / "generic_neutral_mesh.obj", folder / "vertex_indices.json"
    for needed in (neutral_file, index_file):
        if not needed.exists():
            raise FileNotFoundError(f"{needed} is missing: {folder} is not the FaceXModel folder of ICT-FaceKit")
    neutral, quads = _read_obj(neutral_file)
    table = read_json(index_file, "check out ICT-FaceKit again")
    marks = next((table[k] for k in ("idx_to_landmark_verts", "landmarks68", "landmark_verts") if k in table), None)
    if marks is None or len(marks) < 68:
        raise ValueError(f"{index_file}: expected 68 vertex numbers under 'idx_to_landmark_verts'")
    names = [f.stem for f in sorted(folder.glob("*.obj")) if not f.stem.startswith(("identity", "generic"))]
    shapes = {name: (_read_obj(folder / f"{name}.obj")[0] - neutral) * 10 for name in names}
    modes = sorted(folder.glob("identity*.obj"))[:_IDENTITIES]
    identities = np.stack([(_read_obj(f)[0] - neutral) * 10 for f in modes])
    indices = np.array(marks[:68], dtype=np.int64)
    return ICTModel(neutral * 10 - neutral[indices[27]] * 10, quads, shapes, identities, indices)


class RenderedICTHead:
    """Scanned head with our paint."""

    name, prefix, scale_of_glasses = "ict", "ict", 29.0
    shapes = SHAPES
    coded = torch.tensor([number in SHAPES for number in AUS])

    def __init__(self, path: str, size: int, device: torch.device) -> None:
        model = load_ict(path)
        keep = np.zeros(len(model.neutral), dtype=bool)
        keep[:_MOUTH_END] = True
        keep[_SOCKET_END:_BALL_END] = True
        part = np.zeros(len(keep), dtype=np.int64)
        part[_SKIN_END:_MOUTH_END] = 2
        part[_SOCKET_END:_TEETH_END] = 2
        part[_TEETH_END:_BALL_END] = 1
        self._build(model, keep, part, size, device)

    def _build(
        self, model: ICTModel, keep: np.ndarray, part: NDArray[np.int64], size: int, device: torch.device
    ) -> None:
        """Mesh, muscles and paint of a model.

        Args:
            model: with all its vertices.
            keep: (V,), vertices that are drawn.
            part: (V,), 0 skin, 1 eyeball, 2 inside of the mouth.
            size: side of the pictures, pixels.
            device: where the tensors live.
        """
        texels = 288 if size <= 160 else 480
        self.basis = skin.build_basis(texels, texels, device)
        renumber = np.cumsum(keep) - 1
        quads = model.quads[keep[np.where(model.quads < 0, 0, model.quads)].all(1)]
        three = quads[:, 3] < 0
        triangles = np.concatenate([quads[:, :3], quads[~three][:, [0, 2, 3]]])

        def tensor(values: np.ndarray) -> Tensor:
            return torch.as_tensor(np.ascontiguousarray(values), dtype=torch.float32, device=device)

        self.triangles = torch.as_tensor(renumber[triangles], device=device)
        self.part = torch.as_tensor(part[keep], device=device)
        self.neutral = tensor(model.neutral[keep].reshape(-1))
        self.identities = tensor(model.identities[:, keep].reshape(len(model.identities), -1))
        self.muscles = tensor(self._expressions(model)[:, keep].reshape(2 * NUM_AUS, -1))
        self.marks = torch.as_tensor(renumber[model.landmarks], device=device)
        self.balls = [
            torch.as_tensor(np.flatnonzero((part[keep] == 1) & ((model.neutral[keep][:, 0] > 0) == k)), device=device)
            for k in (0, 1)
        ]
        self._paint(model, keep, part, texels, device, tensor)

    def _expressions(self, model: ICTModel) -> Array:
        out = np.zeros((2, NUM_AUS, *model.neutral.shape), dtype=np.float32)
        for number, (name, gain) in self.shapes.items():
            for side, suffix in enumerate(("R", "L")):
                shape = model.shapes.get(f"{name}_{suffix}")
                out[side, AU_INDEX[number]] = gain * (0.5 * model.shapes[name] if shape is None else shape)
        return out.reshape(2 * NUM_AUS, *model.neutral.shape)

    def _paint(
        self, model: ICTModel, keep: np.ndarray, part: np.ndarray, texels: int, device: torch.device, tensor
    ) -> None:
        """Carry our chart over: warp landmark to landmark, then take the nearest chart point.

        The scan has no brows, and its brow landmarks lie 7 mm higher above the eyes than people's brows (see
        ``rendering.resting``): brows are painted where people have them, and the landmarks go with the paint.
        """
        chart = build_chart(texels, texels)
        surface = np.stack([chart.x, chart.y, chart.z], -1).reshape(-1, 3)
        usable = (chart.mouth_inside.reshape(-1) < 0.5) & (chart.eye_inside.reshape(-1) < 0.5)
        flat = landmark_positions()
        front = cKDTree(surface[usable & (surface[:, 2] > -95)][:, :2])
        own = surface[usable & (surface[:, 2] > -95)][front.query(flat)[1]]
        own[:, :2] = flat
        theirs = model.neutral[model.landmarks].astype(np.float64)
        unique = np.setdiff1d(np.unique(theirs.round(2), axis=0, return_index=True)[1], _BROWS)
        warp = RBFInterpolator(theirs[unique], own[unique] - theirs[unique], kernel="thin_plate_spline", smoothing=1.0)
        points = model.neutral[keep].astype(np.float64)
        near = np.exp(-((np.clip(-60 - points[:, 2], 0, None) / 40.0) ** 2))[:, None]
        moved = points + warp(points) * near
        nearest = cKDTree(surface[usable]).query(moved)[1]
        index = np.flatnonzero(usable)[nearest]
        skin_points = np.flatnonzero((part[keep] == 0) & (points[:, 2] > -60))
        brows = skin_points[cKDTree(moved[skin_points]).query(own[_BROWS])[1]]
        self.marks[_BROWS] = torch.as_tensor(brows, device=device)
        rows, columns = np.unravel_index(index, chart.x.shape)
        self.uv = tensor(np.stack([columns / (texels - 1) * 2 - 1, rows / (texels - 1) * 2 - 1], -1))
        styles = [
            hair.hair_distance(chart, **style).reshape(-1)[index] * (part[keep] == 0) - 30.0 * (part[keep] != 0)
            for style in hair.HAIR_STYLES
        ]
        self.hair = tensor(np.stack(styles))
        out = np.stack([points[:, 0], np.clip(points[:, 1] - 20, 0, None) * 1.2, points[:, 2] + 95.0], -1)
        self.outward = tensor(out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1.0))

    def _person(self, people: People) -> Tensor:
        """Vertices at rest, (B, 3 V)."""
        count = len(self.identities)
        return torch.addmm(self.neutral, people.shape[:, :count].clamp(-2, 2), self.identities[: people.shape.shape[1]])

    def pose(self, people: People, right: Tensor, left: Tensor) -> HeadPose:
        """See :class:`Head`."""
        person = self._person(people)
        batch = len(person)
        rest = person.view(batch, -1, 3)[:, self.marks]
        eyes = torch.stack([person.view(batch, -1, 3)[:, ball].mean(1) for ball in self.balls], 1)
        moved = torch.addmm(person, torch.cat([right, left], 1), self.muscles).view(batch, -1, 3)
        volume = torch.sigmoid(((people.skin["hair"] @ self.hair) - 3.5) / 1.6) * people.hair_volume[:, None]
        return HeadPose(moved + volume[..., None] * self.outward, rest, moved[:, self.marks], eyes)

    def normals(self, points: Tensor) -> Tensor:
        """See :class:`Head`."""
        a, b, c = (points[:, self.triangles[:, k]] for k in range(3))
        face = torch.linalg.cross(b - a, c - a)
        out = torch.zeros_like(points)
        for k in range(3):
            out.index_add_(1, self.triangles[:, k], face)
        return unit(out, -1)

    def texture(self, people: People, right: Tensor, left: Tensor, item: Tensor, uv: Tensor, vertex: Tensor) -> Tensor:
        """See :class:`Head`."""
        none = people.wrinkle * 0
        weights = {**people.skin, "wrinkles_right": none, "wrinkles_left": none}
        texel = self.basis.gather(skin.compose(self.basis, weights), item, uv)
        part = self.part[vertex]
        texel[CHANNEL["eye"]] = (part == 1).float()
        texel[CHANNEL["mouth"]] = (part == 2).float()
        texel[CHANNEL["occlusion"]] = torch.where(part == 1, 0.35, texel[CHANNEL["occlusion"]])
        return texel

    def jaw_opening(self, activation: Tensor) -> Tensor:
        """See :class:`Head`."""
        return JAW[27] * (activation[:, AU_INDEX[27]] + self.shapes[26][1] * activation[:, AU_INDEX[26]])
