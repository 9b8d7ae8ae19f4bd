"""One picture of a photo head in the making: which pixel of the photo each pixel shows, its light, its folds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_faces.photohead import eyes, glasses, inside, layers, lids, scenes
from lit_faces.photohead.fitting import Posed
from lit_faces.photohead.layers import LINEAR, NEAREST, sample, smooth
from lit_faces.photohead.light import display, linear
from lit_faces.photohead.mesh import COLUMNS, ROWS
from lit_faces.photohead.relief import TEXELS, relief
from lit_faces.photohead.scenes import Scene
from lit_faces.rendering.camera import View
from lit_faces.rendering.raster import Fragments

if TYPE_CHECKING:
    from lit_faces.photohead.head import PhotoHead

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

_SLACK = 3.0  # mm that a point may lie behind what the photo shows and still be it
_GRAZING = 0.05  # cosine from which a surface shows its colour
_RATIO = (0.65, 1.4)  # of light, at most: beyond it hard shadows would tear the skin
_FURROW = (0.5, 1.6)
_TOP_LIGHT = 0.35  # photographs are lit from above, if only a little: folds show even in flat light
_HOLLOW = np.array([1.05, 1.35, 1.40], dtype=np.float32)  # light is lost in hollows, least of it red
_FILTER_MM = 0.45  # relief finer than this is not skin but noise


class Seen:
    """Attributes of the mesh and of the sheet at the pixels of one view."""

    def __init__(self, fragments: Fragments, corners: Tensor, size: int) -> None:
        self.size = size
        self.pixel, self.weights = fragments.pixel, fragments.weights
        self.corner = corners[fragments.triangle].t().contiguous()
        self.triangle = fragments.triangle

    def __call__(self, values: Tensor) -> Floats:
        """Vertex values (N, C) as a picture (S, S, C), 0 where nothing is seen; each channel lies together."""
        planar = values.t().contiguous()
        out = torch.zeros(len(planar), self.size * self.size)
        at = planar.index_select(1, self.corner[0]) * self.weights[0]
        for k in (1, 2):
            at.addcmul_(planar.index_select(1, self.corner[k]), self.weights[k])
        out[:, self.pixel] = at
        return np.moveaxis(out.reshape(-1, self.size, self.size).numpy(), 0, -1)

    def face(self, faces: int) -> Mask:
        """Where triangles of the face are seen, not of the sheet."""
        out = torch.zeros(self.size * self.size, dtype=torch.bool)
        out[self.pixel] = self.triangle < faces
        return out.reshape(self.size, self.size).numpy()


class State:
    """One picture in the making; the steps of :meth:`picture`, in their order."""

    def __init__(
        self,
        head: PhotoHead,
        seen: Seen,
        face: Mask,
        target: Posed,
        camera: Tensor,
        xy: Tensor,
        right: Tensor,
        left: Tensor,
        share: float,
        view: View,
        gaze: tuple[float, float],
        scene: Scene,
    ) -> None:
        self.head, self.seen, self.face = head, seen, face
        self.target, self.camera, self.xy = target, camera, xy
        self.right, self.left, self.share, self.view, self.gaze = right, left, share, view, gaze
        self.scene, self.uncertain = scene, list[str]()

    def picture(self) -> NDArray[np.uint8]:
        """uint8 (S, S, 3)."""
        import cv2

        head = self.head
        points = head.mesh.landmarks(self.target.vertices)
        self.landmarks_xy = self.view.project(self.view.to_camera(points[None]))[0].numpy()
        self._look()
        colour = self._textured()
        light = linear(eyes.draw(self, colour))
        light = inside.draw(self, light)
        light *= self._ratio()[..., None]
        light = self._furrowed(light)
        out = display(light)
        out = self._hidden(out)
        out = lids.lash_line(self, out)
        out = scenes.placed(self, out)
        out, colour = glasses.draw(self, out), glasses.draw(self, colour)
        size = (head.size, head.size)
        made = cv2.resize(out.astype(np.float32), size, interpolation=cv2.INTER_AREA)
        same = cv2.resize(self._unchanged(colour, out), size, interpolation=cv2.INTER_AREA)[..., None]
        if head.grey:  # and what was invented is, too
            made = np.repeat(made.mean(-1, keepdims=True), 3, -1)
        made = head.exact * same + made * (1 - same)
        return np.clip(made + 0.5, 0, 255).astype(np.uint8)

    def _look(self) -> None:
        """Which pixel of the photo each pixel shows, and whether it is seen there."""
        head, mesh = self.head, self.head.mesh
        source = head.source_xy.clone()
        source = lids.sources(self, source)
        source = inside.lip_sources(self, source)
        normals = mesh.normals(self.camera)
        still = head.view.project(head.view.to_camera(self.target.vertices[None]))[0]
        on_face = torch.cat(
            [source, head.source_camera[:, 2:], head.source_normals, normals, head._places(), self.target.vertices,
             head.source_vertices[:, 1:], still], 1,
        )  # fmt: skip
        sheet = torch.zeros(len(head.around.source), on_face.shape[1])
        sheet[:, :2] = torch.as_tensor(head.around.source)
        values = self.seen(torch.cat([on_face, sheet]))
        self.x, self.y, depth = values[..., 0], values[..., 1], values[..., 2]
        self.was, self.now = values[..., 3:6], values[..., 6:9]
        self.u, self.v = values[..., 9], values[..., 10]
        self.place = values[..., 13:16]  # head axes, mm
        rest_y = values[..., 16]
        self.eye_x, self.eye_y = values[..., 18], values[..., 19]  # pixel of the photo in which eyeballs were here
        texels = len(mesh.eye_inside) - 1
        tu, tv = (self.u + 1) * 0.5 * texels, (self.v + 1) * 0.5 * texels
        low = rest_y < float(head.landmarks[33, 1]) - 6.0
        self.mouth = self.face & (sample(mesh.mouth_inside, tu, tv, LINEAR) > 0.5) & low
        self.ball = self.face & (sample(mesh.eye_inside, tu, tv, LINEAR) > 0.5) & ~low
        self.is_skin = self.face & ~self.mouth & ~self.ball
        shown = sample(head.depth, self.x, self.y, NEAREST)
        facing = self.was[..., 2] / np.maximum(np.linalg.norm(self.was, axis=-1), 1e-6)
        self.facing = facing
        self.visible = self.face & (depth > shown - _SLACK) & (facing > _GRAZING)
        self.visible |= lids.stretched(self)

    def _textured(self) -> Floats:
        """Grey levels of the photo at every pixel, float32 (S, S, 3)."""
        import cv2

        head = self.head
        x, y = self.x + head.pad, self.y + head.pad
        own = sample(head.photo, x, y)
        around = sample(head.around.picture, x, y)
        # beside a rim that has moved inwards lies what the face used to hide, not a copy of the rim
        away = cv2.distanceTransform((~self.face).astype(np.uint8), cv2.DIST_L2, 5)
        was = sample(head.around.outside, self.x, self.y, LINEAR)
        gone = np.clip((away - was - 1.5) / 3.0, 0, 1) * (was < 12.0)
        gone = cv2.GaussianBlur(np.where(self.face, 0, gone).astype(np.float32), (0, 0), 1.0)[..., None]
        if gone.max() > 0.01:
            around = around * (1 - gone) + sample(head.around.wide, x, y) * gone
        return np.where(self.face[..., None], own, around)

    def _ratio(self) -> Floats:
        """Light now over light in the photo, (S, S)."""
        import cv2

        head = self.head
        now, was = (n / np.maximum(np.linalg.norm(n, axis=-1, keepdims=True), 1e-6) for n in (self.now, self.was))
        lit = head.light if self.scene.light is None else self.scene.light
        ratio = np.clip(lit.shade(now) / head.light.shade(was), *_RATIO)
        ratio = cv2.GaussianBlur(np.where(self.is_skin, ratio, 1.0).astype(np.float32), (0, 0), 0.006 * head.inner)
        hold = np.clip((self.facing - 0.1) / 0.35, 0, 1)
        ratio = np.where(self.is_skin, 1 + (ratio - 1) * hold, 1.0).astype(np.float32)
        return lids.evened(self, ratio)

    def _furrowed(self, light: Floats) -> Floats:
        """The asked AUs' relief, lit by the photo's own light; the photo's own relief stays in its pixels."""
        import cv2

        head, fit = self.head, self.head.fit
        own = fit.activations(fit.au, gained=False)
        right, left = (
            (fit.activations(side, gained=True) - self.share * own).clamp(min=0).numpy()
            for side in (self.right, self.left)
        )
        light = self._bunched(light)
        maps = relief(right, left, head.variant, head.creasing)
        if maps is None:
            return light
        scale = (TEXELS - 1) * 0.5
        folds = sample(maps, (self.u + 1) * scale, (self.v + 1) * scale, LINEAR)
        folds[~self.is_skin] = 0
        sigma = max(_FILTER_MM * head.scale, 0.45 / head.native) * 0.5
        if sigma > 0.3:
            folds = np.asarray(cv2.GaussianBlur(folds, (0, 0), sigma), np.float32)
        part = layers.around(np.asarray(folds.any(-1)), 0)  # elsewhere nothing folds
        folds, now = folds[part], self.now[part]
        normal = now / np.maximum(np.linalg.norm(now, axis=-1, keepdims=True), 1e-6)
        up = self.view.rotation[0][:, 1].numpy()
        across = np.cross(np.broadcast_to(up, normal.shape), normal)
        across /= np.maximum(np.linalg.norm(across, axis=-1, keepdims=True), 0.2)
        along = np.cross(normal, across)
        slope = np.clip(folds[..., :2], -1.5, 1.5)
        tilted = normal - slope[..., :1] * across - slope[..., 1:2] * along
        tilted /= np.maximum(np.linalg.norm(tilted, axis=-1, keepdims=True), 1e-6)
        lit, flat = (head.light.shade(n) + _TOP_LIGHT * n[..., 1] for n in (tilted, normal))
        change = np.clip(np.maximum(lit, 0.15) / np.maximum(flat, 0.15), *_FURROW)
        out = light.copy()
        out[part] *= change[..., None] * np.exp(-np.clip(folds[..., 2], -0.2, 1.2)[..., None] * _HOLLOW)
        return out

    def _bunched(self, light: Floats) -> Floats:
        """The measured template of a smile: more of it than the photo shows, or less."""
        fit = self.head.fit
        own = fit.activations(fit.au, gained=False)
        sides = [(fit.activations(side, gained=True) - own).numpy() for side in (self.right, self.left)]
        change = self.head.smile.change(*sides)
        if change is None:
            return light
        at_x, at_y = ((v + 1) * 0.5 * (n - 1) for v, n in ((self.u, COLUMNS), (self.v, ROWS)))
        found = sample(change, at_x, at_y, LINEAR)
        return light * np.exp(np.where(self.is_skin, found, 0.0))[..., None].astype(np.float32)

    def _hidden(self, picture: Floats) -> Floats:
        """Skin that the photo does not show, filled from the skin around it."""
        import cv2

        lost = (self.is_skin & ~self.visible).astype(np.uint8)
        lost = cv2.morphologyEx(lost, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
        lost = (cv2.dilate(lost, np.ones((5, 5), np.uint8)) > 0) & self.is_skin
        if not lost.any():
            return picture
        filled = layers.fill(picture, self.is_skin & ~lost)
        soft = cv2.GaussianBlur(lost.astype(np.float32), (0, 0), 1.5)[..., None]
        soft = np.where(lost[..., None], np.maximum(soft, 0.6), soft * self.is_skin[..., None])
        return picture * (1 - soft) + filled * soft

    def _unchanged(self, before: Floats, after: Floats) -> Floats:
        """1 where the result is the photo's own pixel at its own place, (S, S)."""
        line = np.arange(self.head.inner, dtype=np.float32)
        moved = np.maximum(np.abs(self.x - line[None]), np.abs(self.y - line[:, None]))
        changed = np.abs(after - before).max(-1)
        return ((1 - smooth(moved, 0.02, 0.1)) * (1 - smooth(changed, 0.3, 1.5))).astype(np.float32)
