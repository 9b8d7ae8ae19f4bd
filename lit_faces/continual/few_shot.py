"""Heads from a handful of labelled examples, in closed form, on features that do not move."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def ridge_update(
    features: Tensor, targets: Tensor, weight: Tensor, bias: Tensor, strength: float
) -> tuple[Tensor, Tensor]:
    """Ridge regression drawn to a head that is there, not to zero; one output at a time, each on its own labels.

    Minimises sum_n (w x_n + b - y_n)^2 + strength (|w - weight|^2 + (b - bias)^2).  Without labels the head stays; with
    many, it is the least-squares one.  Solved in the smaller of (n, n) and (D + 1, D + 1), in float64.

    Args:
        features: (n, D).
        targets: (n, A), NaN = not coded.
        weight: (A, D), of the head that is there.
        bias: (A,).
        strength: above 0, in units of a squared feature.

    Returns:
        weight (A, D) and bias (A,), float32.

    Raises:
        ValueError: strength not above 0, or other shapes.
    """
    if strength <= 0:
        raise ValueError(f"ridge strength: expected a number above 0, got {strength}")
    if targets.shape != (len(features), len(weight)) or weight.shape[1] != features.shape[1]:
        raise ValueError(
            f"ridge: expected features (n, D), targets (n, A) and weight (A, D), got {tuple(features.shape)}, "
            f"{tuple(targets.shape)} and {tuple(weight.shape)}"
        )
    if not len(features):
        return weight.detach().float().clone(), bias.detach().float().clone()
    x = torch.cat([features.double(), features.new_ones(len(features), 1, dtype=torch.float64)], 1)
    start = torch.cat([weight, bias[:, None]], 1).double()
    left = targets.double() - x @ start.T
    known = targets.isfinite()
    change = torch.zeros_like(start)
    for pattern in torch.unique(known.T, dim=0):
        outputs = (pattern == known.T).all(1)
        if bool(pattern.any()):
            change[outputs] = _ridge(x[pattern], left[pattern][:, outputs], strength).T
    found = start + change
    return found[:, :-1].float(), found[:, -1].float()


def _ridge(x: Tensor, y: Tensor, strength: float) -> Tensor:
    """Argmin |x w - y|^2 + strength |w|^2: (D, A)."""
    rows, columns = x.shape
    if rows <= columns:
        inner = x @ x.T + strength * torch.eye(rows, dtype=x.dtype, device=x.device)
        return x.T @ torch.linalg.solve(inner, y)
    inner = x.T @ x + strength * torch.eye(columns, dtype=x.dtype, device=x.device)
    return torch.linalg.solve(inner, x.T @ y)


def choose_ridge(
    features: Tensor,
    targets: Tensor,
    people: Sequence[str],
    weight: Tensor,
    bias: Tensor,
    shots: int,
    strengths: Sequence[float] = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0),
) -> float:
    """The strength of :func:`ridge_update` that serves unseen frames of validation people best.

    Each person's first ``shots`` frames update the head, the others are predicted.

    Args:
        features: (n, D).
        targets: (n, A), NaN = not coded.
        people: whose each row is.
        weight: (A, D), of the head that is there.
        bias: (A,).
        shots: labelled frames of a person.
        strengths: to choose from.

    Raises:
        ValueError: nobody has more than ``shots`` frames.
    """
    rows: dict[str, list[int]] = {}
    for number, name in enumerate(people):
        rows.setdefault(name, []).append(number)
    split = [(r[:shots], r[shots:]) for r in rows.values() if len(r) > shots]
    if not split:
        raise ValueError(f"choose_ridge: nobody has more than {shots} frames")

    def error(strength: float) -> float:
        found = []
        for learn, test in split:
            w, b = ridge_update(features[learn], targets[learn], weight, bias, strength)
            found.append((features[test].float() @ w.T + b - targets[test]).square().nanmean())
        return float(torch.stack(found).nanmean())

    return min(strengths, key=error)


def prototype_head(features: Tensor, labels: Tensor, classes: int, temperature: float = 1.0) -> nn.Linear:
    """Nearest class mean (Snell et al. 2017) as a linear layer: logits -|x - mean_c|^2 / temperature, but for |x|^2.

    Args:
        features: (n, D).
        labels: int64 (n,); negative = not coded.
        classes: how many; one without an example is never chosen.
        temperature: above 0.

    Raises:
        ValueError: no example at all, a label beyond ``classes``, or a temperature that is not above 0.
    """
    if temperature <= 0 or not bool((labels >= 0).any()) or int(labels.max()) >= classes:
        raise ValueError(
            f"prototypes: expected labels 0..{classes - 1} with an example, and a temperature above 0, got "
            f"{sorted(set(labels.tolist()))} and {temperature}"
        )
    head = nn.Linear(features.shape[1], classes)
    with torch.no_grad():
        for number in range(classes):
            mine = features[labels == number].float()
            mean = mine.mean(0) if len(mine) else torch.zeros_like(head.weight[number])
            head.weight[number] = 2.0 * mean / temperature
            head.bias[number] = -mean.square().sum() / temperature if len(mine) else -1e9
    return head.requires_grad_(False)
