"""Reconstruction losses between a generated picture and the real frame of the same person."""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor, nn


def weighted_l1(image: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean absolute error, each pixel weighted and the weights' mean divided out.

    Args:
        image: float (B, C, H, W).
        target: the same shape.
        weight: float (B, 1, H, W) >= 0, or None for equal weights.

    Returns:
        Scalar.
    """
    error = (image.float() - target.float()).abs()
    if weight is None:
        return error.mean()
    return (error * weight).mean() / weight.mean().clamp(min=1e-6)


def gradient_pyramid(image: Tensor, target: Tensor, weight: Tensor | None = None, levels: int = 3) -> Tensor:
    """L1 of horizontal and vertical differences at ``levels`` octaves: edges and wrinkles, whatever the brightness.

    Args:
        image: float (B, C, H, W).
        target: the same shape.
        weight: float (B, 1, H, W) >= 0, or None.
        levels: number of octaves, each half the size of the one before.

    Returns:
        Scalar.
    """
    difference = image.float() - target.float()
    losses = []
    for level in range(levels):
        if level:
            difference = functional.avg_pool2d(difference, 2)
            weight = None if weight is None else functional.avg_pool2d(weight, 2)
        across = (difference[..., :, 1:] - difference[..., :, :-1]).abs()
        down = (difference[..., 1:, :] - difference[..., :-1, :]).abs()
        if weight is None:
            losses.append(across.mean() + down.mean())
        else:
            mean = weight.mean().clamp(min=1e-6)
            losses.append(((across * weight[..., :, 1:]).mean() + (down * weight[..., 1:, :]).mean()) / mean)
    return torch.stack(losses).mean()


def flow_smoothness(flow: Tensor) -> Tensor:
    """Mean squared difference of neighbouring flow vectors (B, h, w, 2), in cells of the grid; scalar."""
    cells = flow.float() * (flow.shape[1] / 2)
    across, down = cells[:, :, 1:] - cells[:, :, :-1], cells[:, 1:] - cells[:, :-1]
    return across.square().mean() + down.square().mean()


def feature_distance(network: nn.Module, image: Tensor, target: Tensor) -> Tensor:
    """1 - cosine similarity of a frozen network's features of two pictures (identity or perceptual loss); scalar.

    Args:
        network: (B, 3, H, W) in [-1, 1] -> (B, D) features.
        image: generated pictures; gradients flow through them.
        target: real pictures.
    """
    with torch.no_grad():
        wanted = network(target)
    return (1.0 - functional.cosine_similarity(network(image).float(), wanted.float(), dim=-1)).mean()
