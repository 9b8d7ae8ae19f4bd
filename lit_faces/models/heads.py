"""Heads on pooled features."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lit_faces.core.facs import MAX_INTENSITY, NUM_AUS


class AUHead(nn.Module):
    """AU intensities from pooled features; starts near 1, the mean of most data sets, and stays within 0..5.

    Args:
        inputs: length of the feature vector.
        num_aus: number of AUs.
    """

    def __init__(self, inputs: int, num_aus: int = NUM_AUS) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, num_aus)
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.constant_(self.linear.bias, -1.4)

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, inputs) -> float32 (B, num_aus), intensity 0..5."""
        return MAX_INTENSITY * torch.sigmoid(self.linear(features).float())
