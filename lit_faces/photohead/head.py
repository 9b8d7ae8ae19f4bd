"""A photograph that can be asked for another pose and other Action Units."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_faces.core.facs import index_of
from lit_faces.fitting.landmark_model import LandmarkModel
from lit_faces.fitting.retarget import FittedFace, own_expression
from lit_faces.photohead import eyes, glasses, inside, layers, lids, scenes
from lit_faces.photohead.drawing import Seen, State
from lit_faces.photohead.fitting import MeshFit, fit_mesh
from lit_faces.photohead.framing import padded
from lit_faces.photohead.honesty import doubts
from lit_faces.photohead.light import Light, fit_light, linear
from lit_faces.photohead.mesh import Posed, face_mesh, gains
from lit_faces.photohead.relief import VARIANTS, creasing
from lit_faces.photohead.scenes import Scene
from lit_faces.photohead.smile import Smile, load
from lit_faces.rendering.camera import View
from lit_faces.rendering.raster import Fragments, grid_triangles, rasterise

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

INNER = 1.5  # pixels of the inner picture to a pixel of the result
_OWN_SCENE = Scene()
_COLOURLESS = 1.0  # grey levels between the channels, in the mean: a photo in black and white
_NECK = (0.0, -60.0, -85.0)  # mm, where the neck carries the head
_LOOKS = 0.05  # degrees: a smaller turn of the eyes is none
_MOVES_LIPS = index_of((10, 12, 15, 17, 20, 23, 24, 25, 26, 27))


@dataclass
class Picture:
    """What was asked for.

    Attributes:
        image: uint8 (S, S, 3), RGB.
        landmarks: float32 (68, 2), pixels of it.
        uncertain: what in it is a guess ("eyes are closed in the photo: the opened eye is invented"), or nothing.
        gaze: how far the eyes have turned from the photo's, degrees to the subject's left and upwards.
    """

    image: NDArray[np.uint8]
    landmarks: Floats
    uncertain: list[str] = field(default_factory=list)
    gaze: tuple[float, float] = (0.0, 0.0)


class PhotoHead:
    """One photograph as a head.

    Args:
        photo: uint8 (H, W, 3), the whole photograph, RGB.
        crop: centre x, y and side of the aligned crop in it, pixels (:func:`lit_faces.core.landmarks.crop_frame`).
        face: the face fitted in that crop, at any size.
        model: the landmark model that it was fitted with.
        size: side of the pictures that will be asked for, pixels.
        gain: (19,), of the muscles; None: :func:`lit_faces.photohead.mesh.gains`.
        seed: whose skin it is: which way it folds.
        smile: what smiles do to skin; None: the shipped template.

    Raises:
        ValueError: too little skin is seen to tell the light.
    """

    def __init__(
        self,
        photo: NDArray[np.uint8],
        crop: tuple[float, float, float],
        face: FittedFace,
        model: LandmarkModel,
        size: int = 256,
        gain: Tensor | None = None,
        seed: int = 0,
        smile: Smile | None = None,
    ) -> None:
        self.smile = load() if smile is None else smile
        self.size, self.inner = size, round(size * INNER)
        self.crop = crop
        self.pad = self.inner // 2
        self.mesh = face_mesh()
        gain = gains() if gain is None else gain
        self.fit: MeshFit = fit_mesh(self.mesh, model, _resized(face, self.inner), gain)
        self.variant = seed % VARIANTS
        self.photo = padded(photo, crop, self.inner, self.pad)
        self.exact = padded(photo, crop, size, 0)
        self.grey = float(np.ptp(self.exact, axis=-1).mean()) < _COLOURLESS
        self.native = crop[2] / self.inner  # pixels of the photo to a pixel of the inner crop
        self._prepare()

    def _prepare(self) -> None:
        """Where everything is in the photo itself, its light, and its surroundings."""
        import cv2

        fit, mesh = self.fit, self.mesh
        self.view = fit.view(fit.pose, self.inner)
        source = fit.source()
        camera = self.view.to_camera(source.vertices[None])[0]
        self.source_vertices, self.source_camera, self.source_eyes = source.vertices, camera, source.eyes
        self.source_xy = self.view.project(camera[None])[0]
        self.source_normals = mesh.normals(camera)
        self.landmarks = mesh.landmarks(source.vertices)
        self.landmarks_xy = self.view.project(self.view.to_camera(self.landmarks[None]))[0].numpy()
        seen = Seen(self._rasterise(self.source_xy, camera, mesh.triangles), mesh.triangles, self.inner)
        covered = seen.face(len(mesh.triangles))
        found = seen(torch.cat([camera[:, 2:], self.source_normals, self._places()], 1))
        self.depth = np.where(covered, found[..., 0], -1e3).astype(np.float32)
        self.scale = float(self.view.scale[0])  # pixels a mm
        self.glasses: glasses.Glasses | None = None
        if worn := glasses.find(self):
            self.glasses, bare = worn
            self.photo = self.photo.copy()
            self.cropped(self.photo)[:] = bare
        crop = self.cropped(self.photo)
        self.skin = self._skin(covered, found)
        self.creasing = creasing(crop, self.skin, self.scale)
        light = linear(crop)
        normal = found[..., 1:4] / np.maximum(np.linalg.norm(found[..., 1:4], axis=-1, keepdims=True), 1e-6)
        soft = np.asarray(cv2.GaussianBlur(light, (0, 0), 0.006 * self.inner), np.float32)
        self.light: Light = fit_light(normal[self.skin][::7], soft[self.skin][::7])
        brow, chin = float(self.landmarks_xy[27, 1]), float(self.landmarks_xy[8, 1])
        shift = self.view.shift[0].numpy()
        self.around = layers.build(
            self.photo, self.pad, covered, self.depth, (brow, chin), self.scale, shift, float(self.view.distance[0])
        )
        front = mesh.triangles.unique()
        self.rim = layers.followers(self.around, front.numpy(), self.source_xy[front].numpy(), self.inner)
        sheet = grid_triangles(layers.GRID, layers.GRID) + len(mesh.neutral)
        self.corners = torch.cat([mesh.triangles, sheet])
        self.lids = lids.measure(self.landmarks_xy)
        self.teeth = inside.teeth_of(crop, covered, self.landmarks_xy, self.light)

    def _places(self) -> Tensor:
        """Columns: place on the chart (2), on an eyeball, in the mouth."""
        mesh = self.mesh
        flags = np.stack([mesh.ball, mesh.mouth], 1).astype(np.float32)
        return torch.cat([torch.as_tensor(mesh.uv), torch.as_tensor(flags)], 1)

    def _rasterise(self, xy: Tensor, camera: Tensor, triangles: Tensor) -> Fragments:
        return rasterise(xy[None], -camera[None, :, 2], triangles, self.inner)

    def cropped(self, padded: Floats) -> Floats:
        """The crop (S, S, ...) of a padded picture."""
        return padded[self.pad : self.pad + self.inner, self.pad : self.pad + self.inner]

    def _skin(self, covered: Mask, found: Floats) -> Mask:
        """Pixels of bare skin in the crop: no eye, mouth, brow or nostril, nothing above the brows by much."""
        import cv2

        size, points = self.inner, self.landmarks_xy
        taboo = np.zeros((size, size), np.uint8)
        for first, last, grow in ((36, 42, 1.5), (42, 48, 1.5), (48, 60, 1.15)):
            outline = points[first:last]
            outline = (outline - outline.mean(0)) * grow + outline.mean(0)
            cv2.fillPoly(taboo, [outline.round().astype(np.int32)], 1)
        for first, last, width in ((17, 22, 0.05), (22, 27, 0.05), (31, 36, 0.03)):
            cv2.polylines(taboo, [points[first:last].round().astype(np.int32)], False, 1, max(1, int(width * size)))
        rows = np.arange(size)[:, None]
        high, low = points[[19, 24], 1].min() - 0.10 * size, points[8, 1]
        return covered & (taboo == 0) & (found[..., 3] > 0.2) & (rows > high) & (rows < low)

    # -- asking ------------------------------------------------------------------------------------------------------

    def render(
        self,
        au: Tensor,
        left: Tensor | None = None,
        pose: Tensor | None = None,
        gaze: tuple[float, float] = (0.0, 0.0),
        scene: Scene = _OWN_SCENE,
    ) -> Picture:
        """A picture.

        Args:
            au: float (19,), intensities 0..5, of the subject's right side.
            left: of the left side; None: the same.
            pose: float (3,), yaw, pitch, roll in degrees; None: the photo's.
            gaze: degrees to the subject's left and upwards, beside the photo's; no further than eyes turn.
            scene: light and background; the photo's own where it says nothing.
        """
        right = au.float()
        left = right if left is None else left.float()
        pose = self.fit.pose if pose is None else pose.float()
        share = float(own_expression(self.fit.au, 0.5 * (right + left)[None])[0])
        view = self.fit.view(pose, self.inner)
        gaze = self._within_reach(gaze)
        target = self.fit.target(right, left, share, gaze[1])
        camera = view.to_camera(target.vertices[None])[0]
        around = self._turned(view, target.vertices - self.source_vertices)
        both = torch.cat([camera, around])
        xy = view.project(both[None])[0]
        seen = Seen(self._rasterise(xy, both, self.corners), self.corners, self.inner)
        faces = len(self.mesh.triangles)
        state = State(self, seen, seen.face(faces), target, camera, xy, right, left, share, view, gaze, scene)
        result = state.picture()
        state.uncertain += doubts(self.fit, self.shows_teeth, right, left, pose)
        if max(abs(turn) for turn in gaze) > _LOOKS:
            state.uncertain += eyes.doubts(self)
        return Picture(result, self._landmarks(target, view), state.uncertain, gaze)

    @cached_property
    def eyes(self) -> tuple[eyes.EyeLayers, eyes.EyeLayers]:
        """The photo's eyes taken apart, the subject's right and left."""
        return eyes.take_apart(self)

    @property
    def gaze(self) -> tuple[float, float]:
        """Where the photo's eyes look beside the head, degrees to the subject's left and upwards."""
        return eyes.own_gaze(self.eyes, self.view.rotation[0])

    def _within_reach(self, gaze: tuple[float, float]) -> tuple[float, float]:
        """The turn of the eyes that is possible from where they look in the photo."""
        if max(abs(turn) for turn in gaze) <= _LOOKS:
            return (0.0, 0.0)
        found = [
            float(np.clip(own + turn, -most, most)) - float(np.clip(own, -most, most))
            for own, turn, most in zip(self.gaze, gaze, eyes.FURTHEST, strict=True)
        ]
        return found[0], found[1]

    def landmarks_of(self, au: Tensor, left: Tensor, pose: Tensor) -> Floats:
        """Landmarks (68, 2) of the picture that :meth:`render` makes for the same arguments."""
        share = float(own_expression(self.fit.au, 0.5 * (au + left)[None])[0])
        return self._landmarks(self.fit.target(au, left, share), self.fit.view(pose.float(), self.inner))

    def _landmarks(self, target: Posed, view: View) -> Floats:
        points = view.project(view.to_camera(self.mesh.landmarks(target.vertices)[None]))[0]
        return np.asarray(((points + 0.5) * (self.size / self.inner) - 0.5).numpy(), np.float32)

    @property
    def shows_teeth(self) -> bool:
        """Whether the photo shows the inside of the mouth."""
        width = float(np.linalg.norm(self.landmarks_xy[54] - self.landmarks_xy[48]))
        return self.teeth.gap > 0.05 * width

    @cached_property
    def person(self) -> Floats:
        """How far each pixel of the padded photo belongs to the person, 0..1."""
        return scenes.cut_out(self)

    def _turned(self, view: View, moved: Tensor) -> Tensor:
        """The sheet in another pose: near the head it turns, the body goes along with the neck, which only shifts.

        Args:
            view: the camera.
            moved: (V, 3), how the expression has moved the face; skin beside the face goes along.
        """
        position, turns = torch.as_tensor(self.around.position), torch.as_tensor(self.around.turns)
        which, share = self.rim
        position = position + share * (moved[which].mean(1) @ self.view.rotation[0].T)
        move = view.rotation[0] @ self.view.rotation[0].T
        neck = torch.tensor([[_NECK]])
        shift = view.to_camera(neck)[0, 0] - self.view.to_camera(neck)[0, 0]
        return turns * (position @ move.T) + (1 - turns) * (position + shift)


def _resized(face: FittedFace, size: int) -> FittedFace:
    """A fit at another size of the crop."""
    from dataclasses import replace

    factor = size / face.size
    return replace(face, landmarks=(face.landmarks + 0.5) * factor - 0.5, size=size)
