"""Heads on pooled features, and what is fitted to their outputs afterwards."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lit_faces.core.facs import EMOTIONS, MAX_INTENSITY, NUM_AUS, OCCURRENCE_THRESHOLD


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
        return self.of_logits(self.linear(features).float())

    @staticmethod
    def of_logits(logits: Tensor) -> Tensor:
        """What the linear part says (B, num_aus) -> intensity 0..5."""
        return MAX_INTENSITY * torch.sigmoid(logits)


class LogitHead(nn.Module):
    """Logits from pooled features: occurrence of each AU, or one of the expressions; starts undecided."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, inputs) -> float32 (B, outputs), logits."""
        return self.linear(features).float()

    @torch.no_grad()
    def start_from(self, head: AUHead, threshold: float) -> None:
        """Say what a head of intensities says: a probability of one half at intensity ``threshold``, in (0, 5)."""
        share = torch.tensor(threshold / MAX_INTENSITY)
        self.linear.weight.copy_(head.linear.weight)
        self.linear.bias.copy_(head.linear.bias - share.logit())


class Prevalence(nn.Module):
    """Running share of each class, for losses that must not forget the rare ones.

    Args:
        classes: number of classes or labels.
        momentum: weight of a new batch.
    """

    share: Tensor

    def __init__(self, classes: int, start: float, momentum: float = 0.02) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("share", torch.full((classes,), start))

    @torch.no_grad()
    def update(self, present: Tensor) -> None:
        """Add a batch, float (B, classes) of 0 and 1, NaN = not coded."""
        now = present.float().nanmean(0)
        self.share.copy_(torch.where(now.isnan(), self.share, self.share.lerp(now, self.momentum)))

    def weights(self, largest: float = 10.0) -> tuple[Tensor, Tensor]:
        """Weights of positives and negatives, (classes,) each, that give both half of the loss; at most ``largest``."""
        share = self.share.clamp(1e-3, 1 - 1e-3)
        return (0.5 / share).clamp(max=largest), (0.5 / (1 - share)).clamp(max=largest)


class Calibration(nn.Module):
    """Intensities on the scale of the truth, and the thresholds of occurrence; fitted on validation people only.

    ``a * intensity + b`` with the truth's mean and standard deviation on the validation people, not the least-squares
    line: that one shrinks to the mean by the correlation r and gives an ICC(3,1) of 2 r^2 / (1 + r^2), this one r.
    """

    scale: Tensor
    shift: Tensor
    threshold: Tensor

    def __init__(self, num_aus: int = NUM_AUS, threshold: float = OCCURRENCE_THRESHOLD) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(num_aus))
        self.register_buffer("shift", torch.zeros(num_aus))
        self.register_buffer("threshold", torch.full((num_aus,), threshold))

    def line(self, intensity: Tensor) -> Tensor:
        """Intensities (B, A) -> on the calibrated scale, not clipped: what a loss needs."""
        return intensity * self.scale + self.shift

    def forward(self, intensity: Tensor) -> Tensor:
        """Intensities (B, A) -> the same on the calibrated scale, 0..5."""
        return self.line(intensity).clamp(0.0, MAX_INTENSITY)

    @torch.no_grad()
    def fit(self, predicted: Tensor, truth: Tensor, fewest: int = 30) -> None:
        """Fit scale and shift; AUs that do not vary, or with less than ``fewest`` coded frames, keep theirs.

        Args:
            predicted: float (n, A), uncalibrated.
            truth: float (n, A), NaN = not coded.
            fewest: coded frames that an AU needs.
        """
        known = ~truth.isnan()
        for column in range(truth.shape[1]):
            p, t = (x[known[:, column], column].double() for x in (predicted, truth))
            if len(p) < fewest or float(t.std()) < 1e-3 or float(p.std()) < 1e-6:
                continue
            scale = float((t.std() / p.std()).clamp(0.25, 4.0))
            self.scale[column], self.shift[column] = scale, float(t.mean() - scale * p.mean())


NUM_EXPRESSIONS = len(EMOTIONS)
