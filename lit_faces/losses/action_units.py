"""Losses on AU vectors. NaN targets are not coded: they add nothing to the loss nor to its mean."""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor

from lit_faces.core.facs import MAX_INTENSITY, OCCURRENCE_THRESHOLD


def _known_mean(loss: Tensor, known: Tensor, weight: Tensor | None) -> Tensor:
    mask = known.to(loss.dtype) if weight is None else known * weight.to(loss.dtype)
    return torch.where(known, loss, torch.zeros_like(loss)).mul(mask).sum() / mask.sum().clamp(min=1e-6)


def masked_mse(predicted: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean squared error over coded entries, in units of the full scale (both divided by 5).

    Args:
        predicted: float (B, A), intensity 0..5.
        target: float (B, A), 0..5, NaN = not coded.
        weight: float (A,), importance of each AU, or None.

    Returns:
        Scalar; 0 when nothing is coded.
    """
    known = ~target.isnan()
    error = (predicted.float() - target.nan_to_num(0.0).float()) / MAX_INTENSITY
    return _known_mean(error.square(), known, weight)


def masked_smooth_l1(predicted: Tensor, target: Tensor, beta: float = 1.0, weight: Tensor | None = None) -> Tensor:
    """Huber loss over coded entries, intensity units; ``beta`` grades is where it turns linear. Shapes as above."""
    known = ~target.isnan()
    loss = functional.smooth_l1_loss(predicted.float(), target.nan_to_num(0.0).float(), beta=beta, reduction="none")
    return _known_mean(loss, known, weight)


def masked_ordinal(predicted: Tensor, target: Tensor, temperature: float = 0.5) -> Tensor:
    """Cumulative-link loss: is the intensity above 0.5, 1.5, ... 4.5? Mean cross-entropy over coded entries.

    Args:
        predicted: float (B, A), intensity 0..5.
        target: float (B, A), 0..5, NaN = not coded.
        temperature: softness of the comparison, grades.
    """
    cuts = torch.arange(5, device=predicted.device, dtype=torch.float32) + 0.5
    known = ~target.isnan()
    logits = (predicted.float()[..., None] - cuts) / temperature
    above = (target.nan_to_num(0.0).float()[..., None] > cuts).float()
    loss = functional.binary_cross_entropy_with_logits(logits, above, reduction="none").mean(-1)
    return _known_mean(loss, known, None)


def masked_bce(
    predicted: Tensor, occurrence: Tensor, threshold: float = OCCURRENCE_THRESHOLD, temperature: float = 0.5
) -> Tensor:
    """Binary cross-entropy of occurrence, with logit (intensity - threshold) / temperature.

    Args:
        predicted: float (B, A), intensity 0..5.
        occurrence: float (B, A), 0 or 1, NaN = not coded.
        threshold: intensity that counts as present.
        temperature: softness, grades.
    """
    known = ~occurrence.isnan()
    logits = (predicted.float() - threshold) / temperature
    loss = functional.binary_cross_entropy_with_logits(logits, occurrence.nan_to_num(0.0).float(), reduction="none")
    return _known_mean(loss, known, None)


def masked_concordance(predicted: Tensor, target: Tensor) -> Tensor:
    """1 - concordance correlation (Lin 1989), averaged over the AUs that vary in the batch.

    Squared error shrinks predictions to the mean, which an intraclass correlation punishes; this does not.

    Args:
        predicted: float (B, A).
        target: float (B, A), NaN = not coded.

    Returns:
        Scalar in [0, 2]; 0 when no AU has two coded entries that differ.
    """
    known = ~target.isnan()
    number = known.sum(0).clamp(min=1)
    predicted = torch.where(known, predicted.float(), torch.zeros_like(predicted, dtype=torch.float32))
    wanted = target.nan_to_num(0.0).float()
    means = predicted.sum(0) / number, wanted.sum(0) / number
    centred = (predicted - means[0]) * known, (wanted - means[1]) * known
    covariance = (centred[0] * centred[1]).sum(0) / number
    variance = centred[0].square().sum(0) / number, centred[1].square().sum(0) / number
    scale = variance[0] + variance[1] + (means[0] - means[1]).square()
    concordance = 2 * covariance / scale.clamp(min=1e-6)
    varies = variance[1] > 1e-6
    return _known_mean(1.0 - concordance, varies, None)


def masked_order(lower: Tensor, higher: Tensor, least: Tensor, most: Tensor) -> Tensor:
    """How far differences lie outside what is known of them: mean square, in units of the full scale.

    A difference inside its bounds costs nothing and is moved nowhere: the bounds are no grades.

    Args:
        lower: float (P, A), intensities of the faces that show less.
        higher: float (P, A), of the faces that show more.
        least: float (P, A), grades by which ``higher`` lies above at least; NaN = not known.
        most: float (P, A), and at most; NaN = not known.

    Returns:
        Scalar; 0 when nothing is known.
    """
    known = least.isfinite() | most.isfinite()
    difference = higher.float() - lower.float()
    short = (least.nan_to_num(-torch.inf).float() - difference).clamp(min=0.0)
    over = (difference - most.nan_to_num(torch.inf).float()).clamp(min=0.0)
    return _known_mean(((short + over) / MAX_INTENSITY).square(), known, None)


def masked_logit_bce(
    logits: Tensor, occurrence: Tensor, positive: Tensor | None = None, negative: Tensor | None = None
) -> Tensor:
    """Binary cross-entropy of logits over coded entries.

    Args:
        logits: float (B, A).
        occurrence: float (B, A), 0 or 1, NaN = not coded.
        positive: float (A,), weight of present AUs, or None for 1.
        negative: float (A,), weight of absent ones, or None for 1.
    """
    known = ~occurrence.isnan()
    target = occurrence.nan_to_num(0.0).float()
    loss = functional.binary_cross_entropy_with_logits(logits.float(), target, reduction="none")
    if positive is not None:
        loss = torch.where(target > 0.5, loss * positive, loss)
    if negative is not None:
        loss = torch.where(target > 0.5, loss, loss * negative)
    return _known_mean(loss, known, None)


def masked_cross_entropy(logits: Tensor, label: Tensor, weight: Tensor | None = None) -> Tensor:
    """Weighted mean of the cross-entropy over coded labels; 0 when nothing is coded.

    Args:
        logits: float (B, C).
        label: int64 (B,), -1 = not coded.
        weight: float (C,), importance of each class, or None.
    """
    loss = functional.cross_entropy(logits.float(), label, weight, ignore_index=-1, reduction="none")
    known = label >= 0
    share = known.float() if weight is None else torch.where(known, weight.float()[label.clamp(min=0)], 0.0)
    # by the sum of weights, as torch does: two rare faces in a batch must not drown sixty others
    return loss.sum() / share.sum().clamp(min=1e-6)
