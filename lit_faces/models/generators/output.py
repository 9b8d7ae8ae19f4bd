"""What every generator returns."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass
class GeneratorOutput:
    """A generated picture and how it was made; a part that a generator does not have is None.

    Attributes:
        image: float (B, 3, H, W) in [-1, 1].
        warped: float (B, 3, H, W), the source moved by the flow.
        flow: float (B, h, w, 2), backward flow in crop coordinates (2 = the crop's width).
        keep: float (B, 1, H, W) in [0, 1], share of the pixel that comes from the source.
        attention: float (B, 1, H, W) in [0, 1], how far the appearance network may change it.
        gate: float (B, 1, H, W) in [0, 1], where the request allows a change of appearance at all.
        residual_flow: float (B, h, w, 2), what the motion network added to the closed-form flow.
    """

    image: Tensor
    warped: Tensor | None = None
    flow: Tensor | None = None
    keep: Tensor | None = None
    attention: Tensor | None = None
    gate: Tensor | None = None
    residual_flow: Tensor | None = None
