"""A 3-D model of the 68 landmarks: whose face it is, how the head is turned, which AUs are active.

    rest    = mean + identity modes (principal components over people, unit variance)
    posed   = rest + muscles, jaw, lids                   (the parametric head, with people's mean strength)
    pixels  = perspective(rotation(posed)), framed as ``align_crop`` frames photographs

Fitted to the landmarks of one photo by maximum a posteriori (Gauss-Newton, prior from the people), it gives the same
face in another pose with other AUs: :meth:`LandmarkModel.retarget`.  What the fit could not explain (this person's own
morphology) is carried along.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lit_faces.core.facs import MAX_INTENSITY, NUM_AUS
from lit_faces.core.landmarks import outer_eye_distance
from lit_faces.rendering.camera import View, frame
from lit_faces.rendering.parametric import HeadPose, ParametricHead
from lit_faces.rendering.sampler import sample_people

_POPULATION = 0x1A2D  # seed of the people that the modes are taken from: nobody else uses it
_PEOPLE = 3_000
_DISTANCE = 900.0  # camera to head, mm, where it is not known
_POSE_SPREAD = (20.0, 12.0, 8.0)  # of the prior, degrees
_JITTER_SPREAD = (0.05, 0.05, 0.08)
_STEP = 1e-3  # of the finite differences


class _LandmarkHead(ParametricHead):
    """The parametric head, of which only the vertices that carry landmarks are moved."""

    def __init__(self) -> None:
        super().__init__(97, 85)
        used, place = torch.unique(self.landmark_index, return_inverse=True)
        count = len(self.neutral) // 3
        self.landmark_index = place.reshape(self.landmark_index.shape)
        for name in ("neutral", "shape", "muscles"):
            values = getattr(self, name)
            setattr(self, name, values.reshape(-1, count, 3)[:, used].flatten(1).squeeze(0))
        self.lids, self.jaw = self.lids[:, used], self.jaw[used]
        found = (self.lid_vertices[:, None] == used[None]).nonzero()
        self.lid_side, self.lid_is_ball = self.lid_side[found[:, 0]], self.lid_is_ball[found[:, 0]]
        self.lid_vertices = found[:, 1]


@dataclass
class FittedFace:
    """A face that was fitted to landmarks.

    Attributes:
        identity: float32 (K,), standard deviations.
        pose: float32 (3,), yaw, pitch, roll in degrees.
        jitter: float32 (3,), place and log size of the face in its crop.
        au: float32 (19,), intensities of the fitted picture, 0..5.
        residual: float32 (68, 2), pixels: what the fit does not explain.
        size: side of the crop, pixels.
        error: mean length of the residual over the distance of the outer eye corners (NME).
    """

    identity: Tensor
    pose: Tensor
    jitter: Tensor
    au: Tensor
    residual: Tensor
    size: int
    error: float


class LandmarkModel:
    """Built from the parametric head of :mod:`lit_faces.rendering`; nobody's photograph is in it.

    Args:
        modes: identity modes, at most as many as the head has.
    """

    def __init__(self, modes: int = 30) -> None:
        self.head = _LandmarkHead()
        people = sample_people(_POPULATION, torch.arange(_PEOPLE))
        self.mean = people.shape.mean(0)
        self.amplitude, self.gamma = people.amplitude.mean(0), float(people.gamma.mean())
        centred = people.shape - self.mean
        covariance = centred.T @ centred / (len(centred) - 1)
        values, vectors = torch.linalg.eigh(covariance)
        root = vectors * values.clamp_min(0.0).sqrt()  # unit normal -> shape
        moved = (self.head.shape.T @ root).reshape(-1, len(self.mean))  # vertices of the landmarks
        _, _, rotation = torch.linalg.svd(moved, full_matrices=False)
        self.modes = (root @ rotation.T)[:, :modes].T.contiguous()  # (K, shape), by what they move

    def landmarks(self, identity: Tensor, au: Tensor) -> HeadPose:
        """Landmarks in mm for identities (B, K) and intensities (B, 19), 0..5: ``rest`` and ``landmarks``."""
        active = (au / MAX_INTENSITY).clamp(0.0, 1.0) ** self.gamma * self.amplitude
        return self.head.pose(self.mean + identity @ self.modes, active, active)

    def project(self, identity: Tensor, pose: Tensor, au: Tensor, jitter: Tensor, size: int) -> Tensor:
        """Landmarks in pixels of a crop, (B, 68, 2).

        Args:
            identity: (B, K).
            pose: (B, 3), degrees.
            au: (B, 19), 0..5.
            jitter: (B, 3).
            size: side of the crop.
        """
        mesh = self.landmarks(identity, au)
        view: View = frame(mesh.rest, pose, torch.full_like(pose[:, 0], _DISTANCE), jitter, size)
        return view.project(view.to_camera(mesh.landmarks))

    def fit(
        self, landmarks: Tensor, size: int, au: Tensor | None = None, noise: float = 0.005, steps: int = 12
    ) -> FittedFace:
        """The most probable face for 68 landmarks of an aligned crop.

        Args:
            landmarks: float (68, 2), pixels; NaN rows are left out.
            size: side of the crop.
            au: float (19,), known intensities; NaN = to be estimated. None: all are.
            noise: standard deviation of the landmarks, share of the crop.
            steps: of Gauss-Newton.

        Raises:
            ValueError: fewer than 40 landmarks are known, or another shape.
        """
        if landmarks.shape != (68, 2):
            raise ValueError(f"landmarks: expected (68, 2), got {tuple(landmarks.shape)}")
        known = landmarks.isfinite().all(1)
        if int(known.sum()) < 40:
            raise ValueError(f"landmarks: only {int(known.sum())} of 68 are known; a fit needs 40")
        given = torch.full((NUM_AUS,), float("nan")) if au is None else au.float()
        free = given.isnan().nonzero()[:, 0]
        count = len(self.modes)
        spread = torch.cat([torch.ones(count), torch.tensor([*_POSE_SPREAD, *_JITTER_SPREAD]), torch.ones(len(free))])
        observed = landmarks.float()[known]

        def pixels(parameters: Tensor) -> Tensor:
            identity, pose, jitter, level = (parameters * spread).split([count, 3, 3, len(free)], 1)
            aus = given.nan_to_num(0.0).expand(len(parameters), -1).clone()
            aus[:, free] = level
            return self.project(identity, pose, aus, jitter, size)

        point = torch.zeros(1, len(spread))
        weight = 1.0 / (noise * size)
        for _ in range(steps):
            offsets = torch.cat([torch.zeros(1, len(spread)), torch.eye(len(spread)) * _STEP])
            values = pixels(point + offsets)[:, known].flatten(1)
            jacobian = ((values[1:] - values[:1]) / _STEP * weight).T
            left = (observed.flatten() - values[0]) * weight
            normal = jacobian.T @ jacobian + torch.eye(len(spread))
            point = point + torch.linalg.solve(normal, jacobian.T @ left - point[0])[None]
            if len(free):  # intensities stay in their range
                point[:, -len(free) :] = point[:, -len(free) :].clamp(0.0, MAX_INTENSITY)
        residual = torch.zeros(68, 2)
        residual[known] = observed - pixels(point)[0][known]
        identity, pose, jitter, level = (point[0] * spread).split([count, 3, 3, len(free)])
        aus = given.clone()
        aus[free] = level
        error = residual[known].norm(dim=1).mean() / outer_eye_distance(pixels(point))[0]
        return FittedFace(identity, pose, jitter, aus, residual, size, float(error))

    def retarget(self, face: FittedFace, pose: Tensor, au: Tensor) -> Tensor:
        """The fitted person in other poses, with other AUs.

        Args:
            face: of :meth:`fit`.
            pose: float (B, 3), yaw, pitch, roll in degrees.
            au: float (B, 19), 0..5.

        Returns:
            float32 (B, 68, 2), pixels of a crop of the same size and framing.
        """
        count = len(pose)
        identity, jitter = face.identity.expand(count, -1), face.jitter.expand(count, -1)
        turn = torch.deg2rad(pose[:, 2] - face.pose[2])
        turned = torch.stack(
            [
                turn.cos()[:, None] * face.residual[:, 0] - turn.sin()[:, None] * face.residual[:, 1],
                turn.sin()[:, None] * face.residual[:, 0] + turn.cos()[:, None] * face.residual[:, 1],
            ],
            -1,
        )
        return self.project(identity, pose, au, jitter, face.size) + turned
