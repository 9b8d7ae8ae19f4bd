"""From a photograph and its 68 landmarks to the mesh of that face in that picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_faces.core.facs import AU_INDEX, index_of
from lit_faces.fitting.landmark_model import CAMERA_DISTANCE, LandmarkModel
from lit_faces.fitting.retarget import ACTING, MOUTH_AUS, FittedFace
from lit_faces.photohead.mesh import FaceMesh, Posed, activation
from lit_faces.rendering.camera import View, frame

Floats = NDArray[np.float32]

_LIDS = (((37, 38), (41, 40)), ((43, 44), (47, 46)))  # upper and lower points of the subject's right and left eye
_LIPS = ((61, 67), (62, 66), (63, 65))  # facing points of the inner lips
_MOUTH = slice(48, 68)
_CLOSED = 4.5  # intensity of AU43 from which the lids meet
_PART_LIPS = index_of((25, 26, 27))
_LIFTED, _MORE = 0.8, 6.0  # mm that lips part when the upper one is lifted and AU25 is not asked; more per grade
_APART = 3.0  # mm apart from which lips are two arcs, not one seam
_OVERLAP = 0.6  # mm that closed lids overlap
_UPPER_FOLLOWS, _LOWER_FOLLOWS = 0.14, 0.05  # mm a degree that lids go along with the gaze (the eye's surface: 0.21)


@dataclass
class MeshFit:
    """A person's face as a mesh, and the picture that it was fitted to.

    Attributes:
        mesh: what all people share.
        shape: float32 (K,), of the parametric head.
        residual: float32 (V, 3), mm, head axes: what the head cannot be, and this person is.
        expression: float32 (V, 3): likewise what the photo's own expression adds; it goes where another one is asked.
        au: float32 (19,), of the photo, 0..5 (both sides).
        pose: float32 (3,), degrees.
        jitter: float32 (3,), place and log size of the face in the crop.
        gain: float32 (19,), of the muscles.
        opening: float32 (2,), how far the eyes stand open compared with the model's, right and left.
        size: side of the crop, pixels.
    """

    mesh: FaceMesh
    model: LandmarkModel
    shape: Tensor
    residual: Tensor
    expression: Tensor
    au: Tensor
    pose: Tensor
    jitter: Tensor
    gain: Tensor
    opening: Tensor
    size: int

    def view(self, pose: Tensor, size: int) -> View:
        """The camera for a pose (3,), framed as :func:`lit_faces.core.landmarks.align_crop` frames."""
        rest = self._model_mesh(torch.zeros_like(self.au), torch.zeros_like(self.au)).rest
        return frame(rest[None], pose[None], torch.tensor([CAMERA_DISTANCE]), self.jitter[None], size)

    def activations(self, au: Tensor, gained: bool) -> Tensor:
        """What intensities (19,), 0..5, make of this person's muscles: (19,), with or without the gains."""
        gain = self.gain if gained else torch.ones_like(self.gain)
        return activation(au, self.model.gamma, self.model.amplitude, gain)

    def _model_mesh(self, right: Tensor, left: Tensor, gained: bool = True) -> Posed:
        return self.mesh.pose(self.shape, self.activations(right, gained), self.activations(left, gained))

    def source(self) -> Posed:
        """The mesh as the photo shows it."""
        found = self._model_mesh(self.au, self.au, gained=False)
        moved = self.residual + self.expression
        found.vertices = found.vertices + moved
        found.eyes = found.eyes + self.mesh.of_eyes(moved)
        return found

    def target(self, right: Tensor, left: Tensor, share: float, up: float = 0.0) -> Posed:
        """The mesh with other intensities (19,) of both sides.

        Args:
            right: of the subject's right side, 0..5.
            left: of the left side.
            share: how much of the photo's own expression stays, 0..1.
            up: degrees that the eyes look higher than in the photo: lids follow.
        """
        model = self._model_mesh(right, left)
        found = Posed(model.vertices + self.residual + share * self.expression, model.rest, model.eyes)
        self._set_lids(found, model, right, left, up)
        self._set_lips(found, model, self._most_parted(right, left), share)
        return found

    def _set_lids(self, found: Posed, model: Posed, right: Tensor, left: Tensor, up: float) -> None:
        """Lids travel as far as this person's eyes are open, and a little with the gaze; closed lids meet."""
        wanted, is_ = self.mesh.landmarks(model.vertices), self.mesh.landmarks(found.vertices)
        for side, (upper, lower) in enumerate(_LIDS):
            own = float((wanted[list(upper), 1] - wanted[list(lower), 1]).mean())
            gap = own * float(self.opening[side])
            shut = float((right, left)[side][AU_INDEX[43]])
            follow = up * max(0.0, 1.0 - shut / _CLOSED)
            if shut >= _CLOSED:
                gap = -_OVERLAP
            now = float((is_[list(upper), 1] - is_[list(lower), 1]).mean())
            gap += follow * (_UPPER_FOLLOWS - _LOWER_FOLLOWS)
            lids = self.mesh.head.lids
            found.vertices[:, 1] += (gap - now) * lids[side] + follow * _LOWER_FOLLOWS * (lids[side] + lids[2 + side])

    @staticmethod
    def _most_parted(right: Tensor, left: Tensor) -> float:
        """Mm that lips may be apart: whatever the muscles do once AU25, 26 or 27 is asked, else hardly at all."""
        return _LIFTED + _MORE * float((right + left)[_PART_LIPS].max())

    def _set_lips(self, found: Posed, model: Posed, most: float, share: float) -> None:
        """The gap between the lips is the model's, and what the photo's own expression adds to it.

        What lifts a lip (AU9, 10, 12) does not part the lips by more than a hair: parted lips are AU25's truth.
        """
        wanted, is_ = self.mesh.landmarks(model.vertices), self.mesh.landmarks(found.vertices)
        kept = self.mesh.landmarks(self.residual + share * self.expression)
        own = self.mesh.landmarks(self.residual)
        upper = torch.as_tensor(self.mesh.upper) > 0.5
        x, y, z = found.vertices.unbind(1)
        front = ((z + 22.0) / 14.0).clamp(0, 1)
        move = torch.zeros_like(y)
        for top, bottom in _LIPS:
            gap = min(float(wanted[top, 1] - wanted[bottom, 1]), most)
            gap += max(float(kept[top, 1] - kept[bottom, 1]), 0.0)
            excess = float(is_[top, 1] - is_[bottom, 1]) - gap
            middle = 0.5 * float(is_[top, 0] + is_[bottom, 0])
            near = torch.exp(-(((x - middle) / 6.5) ** 2)) * front
            above = torch.exp(-(((y - is_[top, 1]) / 7.0) ** 2)) * near * upper
            below = torch.exp(-(((y - is_[bottom, 1]) / 7.0) ** 2)) * near * ~upper
            move += 0.31 * excess * (below - above)
        apart = (is_[62, 1] - is_[66, 1]).clamp(0.0, _APART) / _APART
        for middle, sides, lip in ((62, (61, 63), upper), (66, (65, 67), ~upper)):
            dip = own[middle, 1] - own[list(sides), 1].mean()  # a seam's kink is the other lip's; parted lips are arcs
            near = torch.exp(-(((x - is_[middle, 0]) / 6.0) ** 2) - ((y - is_[middle, 1]) / 7.0) ** 2)
            move -= apart * dip * near * front * lip
        found.vertices[:, 1] += move


def fit_mesh(mesh: FaceMesh, model: LandmarkModel, face: FittedFace, gain: Tensor) -> MeshFit:
    """The mesh of a fitted face, put exactly on the photo's landmarks.

    Args:
        mesh: see :func:`lit_faces.photohead.mesh.face_mesh`.
        model: the landmark model that ``face`` was fitted with.
        face: of :func:`lit_faces.fitting.retarget.fit_photo`.
        gain: (19,), of the muscles where something is asked.
    """
    shape = model.mean + face.identity @ model.modes
    au = face.au.clone()
    au[[AU_INDEX[26], AU_INDEX[27]]] = (au[[AU_INDEX[26], AU_INDEX[27]]] + face.jaw).clamp(0.0, 5.0)
    zero = torch.zeros(len(mesh.neutral), 3)
    fit = MeshFit(
        mesh, model, shape, zero, zero, au, face.pose.float(), face.jitter.float(), gain, torch.ones(2), face.size
    )
    base = fit.source()
    points = mesh.landmarks(base.vertices)
    view = fit.view(fit.pose, face.size)
    camera = view.to_camera(points[None])
    off = face.landmarks - view.project(camera)[0]
    depth, distance = camera[0, :, 2], view.distance[0]
    mm = off * off.new_tensor([1.0, -1.0]) / view.scale[0] * ((distance - depth) / distance)[:, None]
    moved = torch.cat([mm, torch.zeros(68, 1)], 1) @ view.rotation[0]
    moved[face.wrong] = 0.0
    share = _resting(au)  # of the mouth's residual that is morphology
    expression = moved.clone()
    expression[_MOUTH] *= 1.0 - share
    expression[:48] = 0.0
    carry = torch.as_tensor(mesh.carry)
    fit.residual, fit.expression = carry @ (moved - expression), carry @ expression
    found = mesh.landmarks(fit.source().vertices)
    for side, (upper, lower) in enumerate(_LIDS):
        own, now = (float((p[list(upper), 1] - p[list(lower), 1]).mean()) for p in (points, found))
        fit.opening[side] = now / max(own, 1e-3)
    return fit


def _resting(au: Tensor) -> float:
    """How much of the mouth's residual is morphology: all where the mouth rests, none where it acts."""
    return 1.0 - float((au[MOUTH_AUS].square().sum() / ACTING).clamp(0.0, 1.0))
