"""A 3-D model of the 68 landmarks: whose face it is, how the head is turned, which AUs are active.

    rest    = mean + identity modes (principal components over people, unit variance)
    posed   = rest + muscles, jaw, lids                   (the parametric head, with people's mean strength)
    pixels  = perspective(rotation(posed)), framed as ``align_crop`` frames photographs

Fitted to the landmarks of a photo or a clip (:mod:`lit_faces.fitting.retarget`), it gives the same face in another pose
with other AUs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lit_faces.core.facs import MAX_INTENSITY
from lit_faces.rendering.camera import View, frame
from lit_faces.rendering.parametric import HeadPose, ParametricHead
from lit_faces.rendering.sampler import sample_people

_POPULATION = 0x1A2D  # seed of the people that the modes are taken from: nobody else uses it
_PEOPLE = 3_000
CAMERA_DISTANCE = 900.0  # camera to head, mm, where it is not known
POSE_SPREAD = (20.0, 12.0, 8.0)  # standard deviations of the prior, degrees
JITTER_SPREAD = (0.05, 0.05, 0.08)  # place and log size of a face in its crop


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

    def project(
        self,
        identity: Tensor,
        pose: Tensor,
        au: Tensor,
        jitter: Tensor,
        size: int,
        correction: Tensor | None = None,
    ) -> Tensor:
        """Landmarks in pixels of a crop, (B, 68, 2).

        Args:
            identity: (B, K).
            pose: (B, 3), degrees.
            au: (B, 19), 0..5.
            jitter: (B, 3).
            size: side of the crop.
            correction: (68, 3) or (B, 68, 3), mm in the head's axes, added to the landmarks; it does not move the crop.
        """
        mesh, view = self._view(identity, pose, au, jitter, size)
        points = mesh.landmarks if correction is None else mesh.landmarks + correction
        return view.project(view.to_camera(points))

    def lift(self, identity: Tensor, pose: Tensor, au: Tensor, jitter: Tensor, size: int, offset: Tensor) -> Tensor:
        """Displacements in mm in the head's axes that move the landmarks by ``offset`` pixels, parallel to the picture.

        Args:
            identity: (B, K).
            pose: (B, 3), degrees.
            au: (B, 19), 0..5.
            jitter: (B, 3).
            size: side of the crop.
            offset: (B, 68, 2), pixels.

        Returns:
            (B, 68, 3), to be given to :meth:`project` as ``correction``.
        """
        mesh, view = self._view(identity, pose, au, jitter, size)
        depth = view.to_camera(mesh.landmarks)[..., 2]
        distance = view.distance[:, None]
        mm = offset * offset.new_tensor([1.0, -1.0]) / view.scale[:, None, None]
        mm = mm * ((distance - depth) / distance)[..., None]
        return torch.cat([mm, torch.zeros_like(mm[..., :1])], 2) @ view.rotation

    def _view(self, identity: Tensor, pose: Tensor, au: Tensor, jitter: Tensor, size: int) -> tuple[HeadPose, View]:
        mesh = self.landmarks(identity, au)
        return mesh, frame(mesh.rest, pose, torch.full_like(pose[:, 0], CAMERA_DISTANCE), jitter, size)
