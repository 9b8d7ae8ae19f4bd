r"""Know a person's resting face and range, without training: a line an AU, fitted on a few of the person's readings.

    personal = clip(scale * reading + shift, 0, 5)

From neutral frames (:func:`neutral_subtraction`), from any frames without labels (:func:`median_subtraction`,
:func:`match_moments`) or from labelled ones (:func:`labelled_affine`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lit_faces.core.facs import MAX_INTENSITY, NUM_AUS


class PersonCalibration(nn.Module):
    """A line an AU, clipped to 0..5.

    Args:
        scale: (A,); ones by default.
        shift: (A,); zeros by default.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, scale: Tensor | None = None, shift: Tensor | None = None) -> None:
        super().__init__()
        count = NUM_AUS if scale is None and shift is None else len(scale if scale is not None else shift)  # type: ignore[arg-type]
        self.register_buffer("scale", torch.ones(count) if scale is None else scale.detach().float().clone())
        self.register_buffer("shift", torch.zeros(count) if shift is None else shift.detach().float().clone())

    def line(self, readings: Tensor) -> Tensor:
        """Readings (n, A) on the person's scale, not clipped."""
        return self.scale * readings + self.shift

    def forward(self, readings: Tensor) -> Tensor:
        """Readings (n, A), 0..5, on the person's scale, 0..5."""
        return self.line(readings).clamp(0.0, MAX_INTENSITY)


def neutral_statistics(readings: Tensor, subjects: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
    """What a detector reads on neutral faces of many people: one-way random effects, by the method of moments.

    Args:
        readings: (n, A) on neutral frames.
        subjects: whose.

    Returns:
        mean (A,), variance between people (A,), variance within a person (A,); the latter is 0 where nobody has two
        frames.

    Raises:
        ValueError: no frame, or lists of unequal length.
    """
    if not len(readings) or len(readings) != len(subjects):
        raise ValueError(f"neutral readings: expected one subject each, got {len(readings)} and {len(subjects)}")
    names = {name: number for number, name in enumerate(dict.fromkeys(subjects))}
    group = torch.tensor([names[name] for name in subjects])
    count = torch.bincount(group).double()
    values = readings.double().cpu()
    means = torch.zeros(len(names), values.shape[1], dtype=values.dtype).index_add_(0, group, values) / count[:, None]
    grand, people, frames = values.mean(0), len(names), len(values)
    inside = (values - means[group]).square().sum(0)
    within = inside / (frames - people) if frames > people else torch.zeros_like(grand)
    if people < 2:
        return grand.float(), torch.zeros_like(within).float(), within.float()
    around = (count[:, None] * (means - grand).square()).sum(0) / (people - 1)
    usual = (frames - count.square().sum() / frames) / (people - 1)  # frames a person, unequal ones weighted
    return grand.float(), ((around - within) / usual).clamp_min(0.0).float(), within.float()


def neutral_subtraction(
    readings: Tensor, generic_neutral: Tensor, between: Tensor | None = None, within: Tensor | None = None
) -> PersonCalibration:
    """Take off what is read on the person's neutral face, beyond what is read on any neutral face.

    With the variances of :func:`neutral_statistics`, as much as can be believed of so few frames (the best linear
    predictor of the person's offset): times between / (between + within / n).

    Args:
        readings: (n, A) on neutral frames of the person, n >= 1.
        generic_neutral: (A,), mean over people.
        between: variance between people (A,), or None: take off all.
        within: variance within a person (A,).

    Raises:
        ValueError: no frame, or one variance without the other.
    """
    if not len(readings):
        raise ValueError("neutral subtraction: needs a neutral frame of the person, got none")
    if (between is None) != (within is None):
        raise ValueError("neutral subtraction: give both variances, or none")
    offset = readings.float().mean(0) - generic_neutral
    if between is not None and within is not None:
        total = between + within / len(readings)
        offset = offset * torch.where(total > 0, between / total.clamp_min(1e-12), 0.0)
    return PersonCalibration(torch.ones_like(offset), -offset)


def median_subtraction(readings: Tensor, neutral: Tensor) -> PersonCalibration:
    """Take a person's median reading for their resting face (person-specific normalisation, Baltrusaitis et al. 2015).

    Right for people who mostly rest, as in DISFA; wrong for frames that were chosen to be expressive.

    Args:
        readings: (n, A) on any frames, n >= 1.
        neutral: (A,), what is read on neutral faces on average.

    Raises:
        ValueError: no frame.
    """
    if not len(readings):
        raise ValueError("median subtraction: needs frames of the person, got none")
    offset = readings.float().median(0).values - neutral
    return PersonCalibration(torch.ones_like(offset), -offset)


def match_moments(readings: Tensor, mean: Tensor, std: Tensor) -> PersonCalibration:
    """Give a person's readings the mean and spread of everybody's, half-way per ten frames.

    What is known of a person's moments after n frames counts n / (n + 10); from one frame none is known, and the
    readings stay as they are. The spread changes by a factor of two at most.

    Args:
        readings: (n, A) on any frames.
        mean: (A,), over the frames of many people.
        std: (A,), likewise.
    """
    count = len(readings)
    if count < 2:
        return PersonCalibration(torch.ones_like(mean), torch.zeros_like(mean))
    trust = count / (count + 10.0)
    own_mean, own_std = readings.float().mean(0), readings.float().std(0)
    ratio = torch.where(own_std > 1e-6, std / own_std.clamp_min(1e-6), 1.0).clamp(0.5, 2.0)
    scale = ratio.pow(trust)
    centre = own_mean + trust * (mean - own_mean)
    return PersonCalibration(scale, centre - scale * own_mean)


def labelled_affine(readings: Tensor, targets: Tensor, strength: float = 4.0) -> PersonCalibration:
    """The line from readings to labels: least squares, drawn to the identity where labels are few.

    Minimises sum (scale x + shift - y)^2 + strength ((scale - 1)^2 + shift^2) for each AU.

    Args:
        readings: (n, A).
        targets: (n, A), NaN = not coded; an AU without a code stays as it is.
        strength: labels of unit spread that the identity is worth.

    Raises:
        ValueError: strength not above 0, or other shapes.
    """
    if strength <= 0 or readings.shape != targets.shape:
        raise ValueError(
            f"labelled affine: expected a strength above 0 and targets of shape {tuple(readings.shape)}, got "
            f"{strength} and {tuple(targets.shape)}"
        )
    known = targets.isfinite()
    x = torch.where(known, readings, 0.0).double()
    error = torch.where(known, targets - readings, 0.0).double()  # the identity leaves this
    one = known.double()
    gram = torch.stack([x * x, x * one, x * one, one], -1).sum(0).unflatten(-1, (2, 2))
    right = torch.stack([(x * error).sum(0), error.sum(0)], -1)
    change = torch.linalg.solve(gram + strength * torch.eye(2, dtype=gram.dtype), right)
    return PersonCalibration((1.0 + change[:, 0]).float(), change[:, 1].float())
