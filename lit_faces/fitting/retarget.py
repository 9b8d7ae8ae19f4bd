"""From 68 landmarks to a face, and to the same face in any pose with any AUs.

One photo, or the frames of a clip jointly: identity is shared, every frame has its own pose, framing and AUs.  The most
probable parameters (MAP) are found by Gauss-Newton; wrong points lose their weight (Student's t, iteratively reweighted
least squares); the frames' own parameters are eliminated by Schur's complement, so that time grows with the number of
frames only.  What the model cannot explain about a person is carried along as a displacement in three dimensions.

The target of the generator is always the person's own morphology re-posed, never a stranger's landmarks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lit_faces.core.alignment import outer_eye_distance
from lit_faces.core.facs import MAX_INTENSITY, NUM_AUS, index_of
from lit_faces.fitting.landmark_model import JITTER_SPREAD, POSE_SPREAD, LandmarkModel

MIN_POINTS = 40
MAX_ERROR = 0.06  # of the outer-eye distance; photographs measured: 0.012 to 0.035
MAX_WRONG = 20  # points
MAX_YAW, MAX_PITCH = 38.0, 30.0  # degrees; dlib's points of the hidden half are guesses beyond
_NOISE = 0.01  # standard deviation of a landmark, share of the crop
_FREEDOM = 4.0  # of Student's t
_WRONG = 6.0  # a point further off than so many standard deviations is wrong
_STEP = 1e-3  # of the finite differences
_MOUTH = slice(48, 68)
MOUTH_AUS = index_of((10, 12, 14, 15, 17, 20, 23, 24, 25, 26, 27))
_JAW = index_of((26, 27))
ACTING = 4.0  # squared intensity of the mouth's AUs from which its residual is all expression


@dataclass
class FittedFace:
    """A face that was fitted to the landmarks of one picture.

    Attributes:
        identity: float32 (K,), standard deviations.
        pose: float32 (3,), yaw, pitch, roll in degrees.
        jitter: float32 (3,), place and log size of the face in its crop.
        au: float32 (19,), intensities of the picture, 0..5.
        jaw: float32 (2,), how much wider the mouth stands open than ``au`` says, as intensities of AU26 and AU27: a
            toothy smile.
        landmarks: float32 (68, 2), pixels: the points found; wrong and unknown ones are replaced by the model's.
        correction: float32 (68, 3), mm in the head's own axes: what the model does not explain about this person.
        wrong: bool (68,), points that do not belong to this face; unknown points are not among them.
        size: side of the crop, pixels.
        error: mean distance of the known points from the model over the outer-eye distance (NME).
    """

    identity: Tensor
    pose: Tensor
    jitter: Tensor
    au: Tensor
    jaw: Tensor
    landmarks: Tensor
    correction: Tensor
    wrong: Tensor
    size: int
    error: float


def fit_photo(
    model: LandmarkModel,
    landmarks: Tensor,
    size: int,
    au: Tensor | None = None,
    noise: float = _NOISE,
    free_jaw: bool = False,
) -> FittedFace:
    """The most probable face for the landmarks of one aligned crop.

    Args:
        model: the landmark model.
        landmarks: float (68, 2), pixels; NaN rows are unknown.
        size: side of the crop.
        au: float (19,), known intensities 0..5; NaN = to be estimated. None: all are.
        noise: standard deviation of the landmarks, share of the crop.
        free_jaw: see :func:`fit_clip`.

    Raises:
        ValueError: fewer than 40 landmarks are known, or another shape.
    """
    if landmarks.shape != (68, 2):
        raise ValueError(f"landmarks: expected (68, 2), got {tuple(landmarks.shape)}")
    return fit_clip(model, landmarks[None], size, None if au is None else au[None], noise, free_jaw=free_jaw)[0]


def fit_clip(
    model: LandmarkModel,
    landmarks: Tensor,
    size: int,
    au: Tensor | None = None,
    noise: float = _NOISE,
    steps: int = 14,
    free_jaw: bool = False,
) -> list[FittedFace]:
    """The most probable face for several frames of one person.

    Args:
        model: the landmark model.
        landmarks: float (T, 68, 2), pixels of T aligned crops; NaN rows are unknown.
        size: side of the crops.
        au: float (T, 19), known intensities; NaN = to be estimated. An AU is given in all frames or in none.
        noise: standard deviation of the landmarks, share of the crop.
        steps: of Gauss-Newton.
        free_jaw: where ``au`` is an estimate, let landmarks say how wide the mouth stands open; a smile that shows the
            teeth must not become part of the identity.

    Returns:
        A face for each frame; all share ``identity`` and ``correction``.

    Raises:
        ValueError: a frame with fewer than 40 known landmarks, or other shapes.
    """
    if landmarks.ndim != 3 or landmarks.shape[1:] != (68, 2) or not len(landmarks):
        raise ValueError(f"landmarks: expected (T, 68, 2), got {tuple(landmarks.shape)}")
    frames = len(landmarks)
    known = landmarks.isfinite().all(2)
    least = int(known.sum(1).min())
    if least < MIN_POINTS:
        raise ValueError(f"landmarks: only {least} of 68 are known; a fit needs {MIN_POINTS}")
    given = torch.full((frames, NUM_AUS), float("nan")) if au is None else au.float()
    if given.shape != (frames, NUM_AUS):
        raise ValueError(f"au: expected ({frames}, {NUM_AUS}), got {tuple(given.shape)}")
    open_jaw = given.clone()
    if free_jaw:
        open_jaw[:, _JAW] = float("nan")
    free = open_jaw.isnan().any(0).nonzero()[:, 0]
    solver = _Solver(model, landmarks.float(), known, open_jaw, free, size, noise)
    for step in range(steps):
        solver.improve(robust=step >= 3)  # pose first: a turned head is no wrong point
    faces = solver.faces()
    for face, stated in zip(faces, given):
        level = torch.where(stated.isnan(), face.au, stated)
        face.jaw, face.au = (face.au - level)[_JAW], level
    return faces


class _Solver:
    """Gauss-Newton over one identity and T frames; parameters are in units of their prior's standard deviation."""

    def __init__(
        self,
        model: LandmarkModel,
        observed: Tensor,
        known: Tensor,
        given: Tensor,
        free: Tensor,
        size: int,
        noise: float,
    ) -> None:
        self.model, self.known, self.given, self.free, self.size = model, known, given, free, size
        self.observed = observed.nan_to_num(0.0)
        self.sigma = noise * size
        self.spread = torch.cat([torch.tensor([*POSE_SPREAD, *JITTER_SPREAD]), torch.ones(len(free))])
        self.identity = torch.zeros(len(model.modes))
        self.own = torch.zeros(len(observed), len(self.spread))
        self.weight = known.float()

    def pixels(self, identity: Tensor, own: Tensor) -> Tensor:
        """(T, P, K) and (T, P, M) to (T, P, 68, 2)."""
        shape = own.shape[:2]
        pose, jitter, level = (own * self.spread).split([3, 3, len(self.free)], 2)
        au = self.given.nan_to_num(0.0)[:, None].expand(*shape, -1).clone()
        au[..., self.free] = level
        found = self.model.project(
            identity.flatten(0, 1), pose.flatten(0, 1), au.flatten(0, 1), jitter.flatten(0, 1), self.size
        )
        return found.unflatten(0, shape)

    def improve(self, robust: bool) -> None:
        """One step."""
        frames, count, width = len(self.own), len(self.identity), len(self.spread)
        nudges = torch.cat([torch.zeros(1, count + width), torch.eye(count + width) * _STEP]).expand(frames, -1, -1)
        identity, own = nudges.split([count, width], 2)
        values = self.pixels(self.identity + identity, self.own[:, None] + own)
        left = self.observed - values[:, 0]
        if robust:
            far = (left / self.sigma).square().sum(2)
            self.weight = self.known * (_FREEDOM + 2.0) / (_FREEDOM + far)
        root = self.weight.sqrt()[..., None] / self.sigma
        jacobian = ((values[:, 1:] - values[:, :1]) / _STEP * root[:, None]).flatten(2).transpose(1, 2)
        target = (left * root).flatten(1)
        shared, private = jacobian.split([count, width], 2)
        # normal equations of (identity, own) with the unit normal prior, the frames' own part eliminated
        a = torch.einsum("tni,tnj->ij", shared, shared) + torch.eye(count)
        b = torch.einsum("tni,tnj->tij", shared, private)
        c = torch.einsum("tni,tnj->tij", private, private) + torch.eye(width)
        right_shared = torch.einsum("tni,tn->i", shared, target) - self.identity
        right_own = torch.einsum("tni,tn->ti", private, target) - self.own
        solved = torch.linalg.solve(c, torch.cat([b.transpose(1, 2), right_own[..., None]], 2))
        reduced = a - (b @ solved[..., :-1]).sum(0)
        move = torch.linalg.solve(reduced, right_shared - (b @ solved[..., -1:]).sum(0)[:, 0])
        self.identity = self.identity + move
        self.own = self.own + solved[..., -1] - (solved[..., :-1] @ move)
        self.own[:, 6:].clamp_(0.0, MAX_INTENSITY)  # intensities stay in their range

    def faces(self) -> list[FittedFace]:
        """The frames as they are fitted now."""
        frames = len(self.own)
        identity = self.identity.expand(frames, -1)
        found = self.pixels(identity[:, None], self.own[:, None])[:, 0]
        pose, jitter, level = (self.own * self.spread).split([3, 3, len(self.free)], 1)
        au = self.given.clone()
        au[:, self.free] = level
        left = self.observed - found
        distance = left.norm(dim=2)
        spread = (distance * self.known).sum(1) / self.known.sum(1) / 1.25  # Rayleigh: the mean is 1.25 sigma
        wrong = self.known & (distance > _WRONG * spread.clamp_min(self.sigma)[:, None])
        good = self.known & ~wrong
        landmarks = torch.where(good[..., None], self.observed, found)
        offset = self.model.lift(identity, pose, au, jitter, self.size, left * good[..., None])
        share = good.float()[..., None]
        correction = (offset * share).sum(0) / share.sum(0).clamp_min(1.0)
        error = (distance * self.known).sum(1) / self.known.sum(1) / outer_eye_distance(found)
        return [
            FittedFace(
                self.identity,
                pose[t],
                jitter[t],
                au[t],
                torch.zeros(2),
                landmarks[t],
                correction,
                wrong[t],
                self.size,
                float(error[t]),
            )
            for t in range(frames)
        ]


def retarget(model: LandmarkModel, face: FittedFace, pose: Tensor, au: Tensor) -> Tensor:
    """The fitted person in other poses, with other AUs.

    Args:
        model: the landmark model.
        face: of :func:`fit_photo` or :func:`fit_clip`.
        pose: float (B, 3), yaw, pitch, roll in degrees.
        au: float (B, 19), 0..5.

    Returns:
        float32 (B, 68, 2), pixels of a crop of the same size and framing.
    """
    count = len(pose)
    identity, jitter = face.identity.expand(count, -1), face.jitter.expand(count, -1)
    share = own_expression(face.au, au.float())
    shown = au.float().clone()
    shown[:, _JAW] = (shown[:, _JAW] + share[:, None] * face.jaw).clamp(0.0, MAX_INTENSITY)
    correction = face.correction.expand(count, -1, -1).clone()
    correction[:, _MOUTH] *= share[:, None, None]
    return model.project(identity, pose.float(), shown, jitter, face.size, correction)


def own_expression(source: Tensor, asked: Tensor) -> Tensor:
    """How much of what the source's mouth shows beyond the model belongs to what is asked, 0..1: (B,).

    All of it where the source's mouth rests (it is morphology), or is asked to do the same; none where the source
    smiles and another expression is asked.
    """
    own, wanted = source[MOUTH_AUS], asked[:, MOUTH_AUS]
    power = own.square().sum()
    alike = ((wanted * own).sum(1) / power.clamp_min(1e-6)).clamp(0.0, 1.0)
    active = (power / ACTING).clamp(0.0, 1.0)
    return 1.0 - active + active * alike


def refusal(face: FittedFace) -> str | None:
    """Why a fit must not be used, or None.

    The limits are module constants; they were set by looking at fits of rendered and real faces.
    """
    if not face.error <= MAX_ERROR:  # NaN too
        return (
            f"the landmarks do not fit a face: mean error {100 * face.error:.1f} % of the distance between the eyes, "
            f"at most {100 * MAX_ERROR:.0f} %; use a sharper photo from the front"
        )
    wrong = int(face.wrong.sum())
    yaw, pitch = float(face.pose[0]), float(face.pose[1])
    if abs(yaw) > MAX_YAW or abs(pitch) > MAX_PITCH:
        side = "profile view" if abs(yaw) > MAX_YAW else "the head is bent too far"
        return (
            f"{side} (yaw {yaw:.0f}, pitch {pitch:.0f} degrees; at most {MAX_YAW:.0f} and {MAX_PITCH:.0f}); use a "
            f"photo "
            "from the front"
        )
    if wrong > MAX_WRONG:
        return (
            f"{wrong} of 68 landmarks do not fit a face (covered by a hand or a mask?); use a photo of the whole face"
        )
    return None


def drive(
    model: LandmarkModel, face: FittedFace, driver: list[FittedFace], au: Tensor | None = None, smooth: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Another person's acting with this person's morphology.

    Args:
        model: the landmark model.
        face: whose face it is.
        driver: frames of the acting person, in their order in time (:func:`fit_clip`).
        au: float (T, 19), the driver's intensities from a detector; the fit's where NaN or None.
        smooth: standard deviation of the filter over time, frames; 0 leaves it out.

    Returns:
        Pose (T, 3), intensities (T, 19) and landmarks (T, 68, 2) for the generator.

    Raises:
        ValueError: no frame.
    """
    if not driver:
        raise ValueError("drive: the clip has no frame with a face")
    pose = torch.stack([frame.pose for frame in driver])
    level = torch.stack([frame.au for frame in driver])
    if au is not None:
        level = torch.where(au.isnan(), level, au)
    pose, level = smooth_over_time(pose, smooth), smooth_over_time(level, smooth).clamp(0.0, MAX_INTENSITY)
    return pose, level, retarget(model, face, pose, level)


def smooth_over_time(values: Tensor, sigma: float) -> Tensor:
    """Gaussian filter over the first axis (T, ...); the ends are weighted with what is there."""
    if sigma <= 0 or len(values) < 2:
        return values
    place = torch.arange(len(values), dtype=values.dtype)
    weight = torch.exp(-0.5 * ((place[:, None] - place[None]) / sigma) ** 2)
    return torch.tensordot(weight / weight.sum(1, keepdim=True), values, dims=1)
