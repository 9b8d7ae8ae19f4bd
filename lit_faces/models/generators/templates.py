"""What each Action Unit looks like on the mean face: learnt pictures, looked up pixel by pixel.

Active Appearance Models (Cootes, Edwards & Taylor 2001) describe a face's appearance linearly on a mean shape. Here
each AU has such pictures (*templates*) of its own; a request mixes them by its intensities, and the mixture is carried
onto the face by the spline's face coordinates. A crow's foot is one or two pixels wide: maps at a quarter of the
resolution cannot place it, this look-up can. The appearance network turns the mixture into light and colour.

A face is symmetric, the change of a surface normal is not: two thirds of the channels are mirror images of themselves,
the others change their sign from side to side.
"""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from lit_faces.core.facs import MAX_INTENSITY, NUM_AUS
from lit_faces.models.blocks import upsample
from lit_faces.models.conditioning import Condition


class AUTemplates(nn.Module):
    """Mixture of learnt AU pictures on the mean face, sampled where the face is.

    Two pictures an AU: for the change (the absolute request where the source is unknown) and for the intensity asked.

    Args:
        channels: of the mixture.
        cells: side of the pictures, even; the mean face's crop spans them, so 96 cells are 1.3 pixels of a 128 px crop.
        coarse: side of the smooth part that is added to each, which learns first.
        gain: how much faster than other weights they learn.
    """

    def __init__(self, channels: int = 8, cells: int = 96, coarse: int = 24, gain: float = 4.0) -> None:
        super().__init__()
        if cells % 2 or coarse % 2:
            raise ValueError(f"cells and coarse must be even (faces are symmetric), got {cells} and {coarse}")
        self.channels, self.cells, self.gain = channels, cells, gain
        self.fine = nn.Parameter(torch.zeros(2 * NUM_AUS, channels, cells, cells // 2))
        self.coarse = nn.Parameter(torch.zeros(2 * NUM_AUS, channels, coarse, coarse // 2))
        sign = torch.ones(channels)
        sign[2 * channels // 3 :] = -1.0
        self.register_buffer("sign", sign.view(-1, 1, 1), persistent=False)
        nn.init.normal_(self.coarse, std=0.02)

    sign: Tensor

    @staticmethod
    def coefficients(condition: Condition) -> Tensor:
        """Weights of the pictures, float32 (B, 38) in [-1, 1]; an AU that is not asked has none."""
        target, source = condition.target_au.float(), condition.source_au.float()
        absolute = target.nan_to_num(0.0) / MAX_INTENSITY
        change = (target - source.nan_to_num(0.0)).nan_to_num(0.0) / MAX_INTENSITY
        return torch.cat([change, absolute], 1)

    def forward(self, condition: Condition, face: Tensor, size: int) -> Tensor:
        """The mixture on the target face.

        Args:
            condition: the request, B faces.
            face: float (B, g, g, 2), mean-face coordinates in [-1, 1] of each cell of the target crop.
            size: side of the result.

        Returns:
            float32 (B, channels, size, size); 0 outside the mean face's crop.
        """
        with torch.autocast(face.device.type, enabled=False):
            weights = self.coefficients(condition) * self.gain
            mixed = [(weights @ part.flatten(1)).view(-1, *part.shape[1:]) for part in (self.fine, self.coarse)]
            # the parts join after they are whole: a half has no neighbour across the midline
            fine, coarse = (torch.cat([half, half.flip(-1) * self.sign], -1) for half in mixed)
            where = upsample(face.permute(0, 3, 1, 2).float(), size).permute(0, 2, 3, 1)
            return functional.grid_sample(fine + upsample(coarse, self.cells), where, align_corners=False)
