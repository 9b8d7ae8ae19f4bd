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
from lit_faces.photohead import inside, layers, lids, scenes
from lit_faces.photohead.fitting import MeshFit, fit_mesh
from lit_faces.photohead.honesty import doubts
from lit_faces.photohead.layers import LINEAR, NEAREST, sample, smooth
from lit_faces.photohead.light import Light, display, fit_light, linear
from lit_faces.photohead.mesh import COLUMNS, ROWS, Posed, face_mesh, gains
from lit_faces.photohead.relief import TEXELS, VARIANTS, relief
from lit_faces.photohead.scenes import Scene
from lit_faces.photohead.smile import Smile, load
from lit_faces.rendering.camera import View
from lit_faces.rendering.raster import Fragments, grid_triangles, rasterise

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

INNER = 1.5  # pixels of the inner picture to a pixel of the result
_SLACK = 3.0  # mm that a point may lie behind what the photo shows and still be it
_GRAZING = 0.05  # cosine from which a surface shows its colour
_RATIO = (0.65, 1.4)  # of light, at most: beyond it hard shadows would tear the skin
_FURROW = (0.5, 1.6)
_TOP_LIGHT = 0.35  # photographs are lit from above, if only a little: folds show even in flat light
_HOLLOW = np.array([1.05, 1.35, 1.40], dtype=np.float32)  # light is lost in hollows, least of it red
_FILTER_MM = 0.45  # relief finer than this is not skin but noise
_OWN_SCENE = Scene()
_COLOURLESS = 1.0  # grey levels between the channels, in the mean: a photo in black and white
_NECK = (0.0, -60.0, -85.0)  # mm, where the neck carries the head
_MOVES_LIPS = index_of((10, 12, 15, 17, 20, 23, 24, 25, 26, 27))


@dataclass
class Picture:
    """What was asked for.

    Attributes:
        image: uint8 (S, S, 3), RGB.
        landmarks: float32 (68, 2), pixels of it.
        uncertain: what in it is a guess ("eyes are closed in the photo: the opened eye is invented"), or nothing.
    """

    image: NDArray[np.uint8]
    landmarks: Floats
    uncertain: list[str] = field(default_factory=list)


class _Seen:
    """Attributes of the mesh and of the sheet at the pixels of one view."""

    def __init__(self, fragments: Fragments, corners: Tensor, size: int) -> None:
        self.size = size
        self.pixel, self.weights = fragments.pixel, fragments.weights
        self.corner = corners[fragments.triangle].t().contiguous()
        self.triangle = fragments.triangle

    def __call__(self, values: Tensor) -> Floats:
        """Vertex values (N, C) as a picture (S, S, C), 0 where nothing is seen."""
        planar = values.t().contiguous()
        out = torch.zeros(len(planar), self.size * self.size)
        at = planar.index_select(1, self.corner[0]) * self.weights[0]
        for k in (1, 2):
            at.addcmul_(planar.index_select(1, self.corner[k]), self.weights[k])
        out[:, self.pixel] = at
        return np.ascontiguousarray(out.t().reshape(self.size, self.size, -1).numpy())

    def face(self, faces: int) -> Mask:
        """Where triangles of the face are seen, not of the sheet."""
        out = torch.zeros(self.size * self.size, dtype=torch.bool)
        out[self.pixel] = self.triangle < faces
        return out.reshape(self.size, self.size).numpy()


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
        self.photo = _padded(photo, crop, self.inner, self.pad)
        self.exact = _padded(photo, crop, size, 0)
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
        self.source_vertices, self.source_camera = source.vertices, camera
        self.source_xy = self.view.project(camera[None])[0]
        self.source_normals = mesh.normals(camera)
        self.landmarks = mesh.landmarks(source.vertices)
        self.landmarks_xy = self.view.project(self.view.to_camera(self.landmarks[None]))[0].numpy()
        seen = _Seen(self._rasterise(self.source_xy, camera, mesh.triangles), mesh.triangles, self.inner)
        covered = seen.face(len(mesh.triangles))
        found = seen(torch.cat([camera[:, 2:], self.source_normals, self._places()], 1))
        self.depth = np.where(covered, found[..., 0], -1e3).astype(np.float32)
        crop = self.cropped(self.photo)
        self.skin = self._skin(covered, found)
        light = linear(crop)
        normal = found[..., 1:4] / np.maximum(np.linalg.norm(found[..., 1:4], axis=-1, keepdims=True), 1e-6)
        soft = np.asarray(cv2.GaussianBlur(light, (0, 0), 0.006 * self.inner), np.float32)
        self.light: Light = fit_light(normal[self.skin][::7], soft[self.skin][::7])
        brow, chin = float(self.landmarks_xy[27, 1]), float(self.landmarks_xy[8, 1])
        scale, shift = float(self.view.scale[0]), self.view.shift[0].numpy()
        self.scale = scale
        self.around = layers.build(
            self.photo, self.pad, covered, self.depth, (brow, chin), scale, shift, float(self.view.distance[0])
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
            gaze: degrees to the subject's left and upwards, beside the photo's.
            scene: light and background; the photo's own where it says nothing.
        """
        right = au.float()
        left = right if left is None else left.float()
        pose = self.fit.pose if pose is None else pose.float()
        share = float(own_expression(self.fit.au, 0.5 * (right + left)[None])[0])
        view = self.fit.view(pose, self.inner)
        target = self.fit.target(right, left, share)
        camera = view.to_camera(target.vertices[None])[0]
        around = self._turned(view, target.vertices - self.source_vertices)
        both = torch.cat([camera, around])
        xy = view.project(both[None])[0]
        seen = _Seen(self._rasterise(xy, both, self.corners), self.corners, self.inner)
        faces = len(self.mesh.triangles)
        state = _State(self, seen, seen.face(faces), target, camera, xy, right, left, share, view, gaze, scene)
        result = state.picture()
        state.uncertain += doubts(self.fit, self.shows_teeth, right, left, pose)
        return Picture(result, self._landmarks(target, view), state.uncertain)

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


class _State:
    """One picture in the making; the steps of :meth:`picture`, in their order."""

    def __init__(
        self,
        head: PhotoHead,
        seen: _Seen,
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
        self._look()
        colour = self._textured()
        light = linear(colour)
        light = inside.draw(self, light)
        light *= self._ratio()[..., None]
        light = self._furrowed(light)
        out = display(light)
        out = self._hidden(out)
        out = lids.lash_line(self, out)
        out = scenes.placed(self, out)
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
        on_face = torch.cat(
            [source, head.source_camera[:, 2:], head.source_normals, normals, head._places(), self.target.vertices,
             head.source_vertices[:, 1:]], 1,
        )  # fmt: skip
        sheet = torch.zeros(len(head.around.source), on_face.shape[1])
        sheet[:, :2] = torch.as_tensor(head.around.source)
        values = self.seen(torch.cat([on_face, sheet]))
        self.x, self.y, depth = values[..., 0], values[..., 1], values[..., 2]
        self.was, self.now = values[..., 3:6], values[..., 6:9]
        self.u, self.v = values[..., 9], values[..., 10]
        self.place = values[..., 13:16]  # head axes, mm
        rest_y = values[..., 16]
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
        maps = relief(right, left, head.variant, 1.0)
        if maps is None:
            return light
        scale = (TEXELS - 1) * 0.5
        folds = sample(maps, (self.u + 1) * scale, (self.v + 1) * scale, LINEAR)
        folds[~self.is_skin] = 0
        sigma = max(_FILTER_MM * head.scale, 0.45 / head.native) * 0.5
        if sigma > 0.3:
            folds = np.asarray(cv2.GaussianBlur(folds, (0, 0), sigma), np.float32)
        normal = self.now / np.maximum(np.linalg.norm(self.now, axis=-1, keepdims=True), 1e-6)
        up = self.view.rotation[0][:, 1].numpy()
        across = np.cross(np.broadcast_to(up, normal.shape), normal)
        across /= np.maximum(np.linalg.norm(across, axis=-1, keepdims=True), 0.2)
        along = np.cross(normal, across)
        slope = np.clip(folds[..., :2], -1.5, 1.5)
        tilted = normal - slope[..., :1] * across - slope[..., 1:2] * along
        tilted /= np.maximum(np.linalg.norm(tilted, axis=-1, keepdims=True), 1e-6)
        lit, flat = (head.light.shade(n) + _TOP_LIGHT * n[..., 1] for n in (tilted, normal))
        change = np.clip(np.maximum(lit, 0.15) / np.maximum(flat, 0.15), *_FURROW)
        return light * change[..., None] * np.exp(-np.clip(folds[..., 2], -0.2, 1.2)[..., None] * _HOLLOW)

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


def _resized(face: FittedFace, size: int) -> FittedFace:
    """A fit at another size of the crop."""
    from dataclasses import replace

    factor = size / face.size
    return replace(face, landmarks=(face.landmarks + 0.5) * factor - 0.5, size=size)


def _padded(photo: NDArray[np.uint8], crop: tuple[float, float, float], size: int, pad: int) -> Floats:
    """The photo around a crop at ``size`` pixels: float32 (size + 2 pad, ..., 3), smoothly continued where it ends."""
    (cx, cy, side), (height, width) = crop, photo.shape[:2]
    step = side / size
    line = (np.arange(size + 2 * pad) - pad + 0.5) * step
    columns, rows = cx - side / 2 + line, cy - side / 2 + line
    if step > 1.0:  # area average before sampling: no aliasing, no loss
        found = _shrunk(photo, crop, size, pad)
    else:
        found = sample(photo.astype(np.float32), *np.meshgrid(columns, rows))
    known = ((rows >= 0) & (rows <= height - 1))[:, None] & ((columns >= 0) & (columns <= width - 1))[None]
    return found if known.all() or not pad else layers.fill(found, known)


def _shrunk(photo: NDArray[np.uint8], crop: tuple[float, float, float], size: int, pad: int) -> Floats:
    """Area average over the photo's pixels under each pixel of the crop."""
    import cv2

    (cx, cy, side), more = crop, 3
    whole = int(side / size / more)
    if whole > 1:  # a photograph of many megapixels: whole pixels first
        height, width = (n // whole * whole for n in photo.shape[:2])
        small = cv2.resize(photo[:height, :width], (width // whole, height // whole), interpolation=cv2.INTER_AREA)
        photo = np.asarray(small, np.uint8)
        cx, cy, side = (cx + 0.5) / whole - 0.5, (cy + 0.5) / whole - 0.5, side / whole
    n = (size + 2 * pad) * more
    step = side / size / more
    line = -pad * side / size + (np.arange(n) + 0.5) * step - side / 2
    x, y = np.meshgrid((cx + line).astype(np.float32), (cy + line).astype(np.float32))
    fine = cv2.remap(photo.astype(np.float32), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.resize(fine, (size + 2 * pad,) * 2, interpolation=cv2.INTER_AREA), np.float32)
