"""Reading a face beside the person's resting face: what looks like an Action Unit there all the time is morphology.

::

    frame -> backbone -> f -----------------+--> heads --------------> generic reading (logits)
                                            v                                  +
    references -> backbone -> r, their AUs -> ReferenceHead -> shift ----------+---> sigmoid -> reading beside them

The same network sees the frame and the references (a Siamese network), and is trained for it end to end, on people who
are new in every batch; at use nothing is trained, so nothing can be forgotten. The idea is that of one-frame
calibration (arXiv 2409.00240), which subtracts features of the neutral frame. Here references may be several, show AUs
(known or estimated), and be absent: the shift is then exactly 0, and the reading the generic one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from lit_faces.core.facs import MAX_INTENSITY, NUM_AUS


@dataclass
class References:
    """Reference faces of one person, as a detector remembers them, or of B people.

    Attributes:
        features: float32 (..., M, D), of the detector's backbone.
        intensity: float32 (..., M, 19), their AUs, 0..5: known or estimated, never NaN.
        there: bool (..., M), False = no face stands in this place; None = all are there.
    """

    features: Tensor
    intensity: Tensor
    there: Tensor | None = None

    @classmethod
    def checked(cls, features: Tensor | None, intensity: Tensor | None, where: str) -> References:
        """Of one person, from a file.

        Raises:
            ValueError: no two tables of finite numbers that go together; names ``where``.
        """
        tables = [one for one in (features, intensity) if one is not None and one.dim() == 2 and len(one)]
        if (
            features is None
            or intensity is None
            or len(tables) < 2
            or not all(bool(x.isfinite().all()) for x in tables)
        ):
            raise ValueError(f"{where}: expected features and AUs of reference pictures: damaged?")
        if len(features) != len(intensity) or intensity.shape[1] != NUM_AUS:
            shapes = f"{tuple(features.shape)} and AUs {tuple(intensity.shape)}"
            raise ValueError(f"{where}: features {shapes} do not match: damaged?")
        return cls(features.float(), intensity.float().clamp(0.0, MAX_INTENSITY))

    def __len__(self) -> int:
        return self.features.shape[-2]

    def to(self, device: torch.device | str) -> References:
        """A copy on ``device``."""
        there = None if self.there is None else self.there.to(device)
        return References(self.features.to(device), self.intensity.to(device), there)

    def expand(self, count: int) -> References:
        """The same references for each of ``count`` faces; nothing is copied."""
        there = self.there
        if there is None:
            there = torch.ones(len(self), dtype=torch.bool, device=self.features.device)
        features, intensity, there = (x.expand(count, *x.shape) for x in (self.features, self.intensity, there))
        return References(features, intensity, there)


class Beside(nn.Module):
    """Reference faces of one person as a module, so that they are kept and moved like weights."""

    features: Tensor
    intensity: Tensor

    def __init__(self, references: References) -> None:
        super().__init__()
        self.register_buffer("features", references.features)
        self.register_buffer("intensity", references.intensity)

    @property
    def references(self) -> References:
        """What a detector reads beside."""
        return References(self.features, self.intensity)


class ReferenceHead(nn.Module):
    """How far the logits of a face move once references of the same person are seen; 0 at the start and without any.

    Each reference is compared with the face (both features, their difference, the reference's AUs); the answers are
    averaged over the references, so that their order does not matter.

    Args:
        inputs: D, length of the feature vector.
        outputs: logits that are moved.
        width: of the compared features.
        hidden: of the comparison.
    """

    def __init__(self, inputs: int, outputs: int, width: int = 128, hidden: int = 192) -> None:
        super().__init__()
        self.inputs, self.outputs = inputs, outputs
        self.norm = nn.LayerNorm(inputs)
        self.project = nn.Linear(inputs, width)
        self.compare = nn.Linear(3 * width + NUM_AUS, hidden)
        self.mix = nn.Linear(hidden, hidden)
        self.shift = nn.Linear(hidden, outputs)
        nn.init.zeros_(self.shift.weight)
        nn.init.zeros_(self.shift.bias)

    def forward(self, features: Tensor, references: References) -> Tensor:
        """Shift of the logits, float32 (B, outputs).

        Args:
            features: (B, D), of the faces that are read.
            references: of each of them, (B, M, ...).
        """
        face = self.project(self.norm(features.float()))[:, None].expand(-1, len(references), -1)
        other = self.project(self.norm(references.features.float()))
        aus = references.intensity.float() / MAX_INTENSITY
        compared = functional.gelu(self.compare(torch.cat([face, other, face - other, aus], -1)))
        there = (torch.ones_like(aus[..., 0]) if references.there is None else references.there.float())[..., None]
        seen = (compared * there).sum(1) / there.sum(1).clamp_min(1.0)
        shift = self.shift(functional.gelu(self.mix(seen))).float()
        return shift * there.amax(1)


class DifferenceHead(nn.Module):
    """One-frame calibration as it was published: the features of the reference are subtracted, and the rest is read.

    A Siamese network whose two branches meet in a difference (arXiv 2409.00240), beside :class:`ReferenceHead` as the
    method to compare with: it knows neither the references' AUs nor the face itself, and cannot do without a reference.

    Args:
        inputs: D, length of the feature vector.
        outputs: logits.
        hidden: of the part behind the difference.
    """

    def __init__(self, inputs: int, outputs: int, hidden: int = 192) -> None:
        super().__init__()
        self.inputs, self.outputs = inputs, outputs
        self.mix = nn.Linear(inputs, hidden)
        self.read = nn.Linear(hidden, outputs)
        nn.init.zeros_(self.read.weight)
        nn.init.zeros_(self.read.bias)

    def forward(self, features: Tensor, references: References) -> Tensor:
        """Logits, float32 (B, outputs); arguments as of :class:`ReferenceHead`."""
        there = torch.ones_like(references.intensity[..., 0]) if references.there is None else references.there.float()
        mean = (references.features.float() * there[..., None]).sum(1) / there.sum(1).clamp_min(1.0)[..., None]
        return self.read(functional.gelu(self.mix(features.float() - mean))).float()


#: How a face is read beside references; ``difference`` is the published baseline.
REFERENCE_HEADS: dict[str, type[ReferenceHead] | type[DifferenceHead]] = {
    "compare": ReferenceHead,
    "difference": DifferenceHead,
}


def draw_references(
    subjects: list[str], intensity: Tensor, generator: torch.Generator, most: int = 2
) -> tuple[Tensor, Tensor]:
    """Which rows of a batch serve as references of which: other rows of the same subject, resting ones first.

    Args:
        subjects: who each of the B rows is.
        intensity: float (B, 19), NaN = not coded.
        generator: of the draws, on the CPU.
        most: references of a face at most; one is the commonest number.

    Returns:
        Rows int64 (B, most), and bool (B, most), whether one stands there. A face whose person is alone has none.
    """
    same = torch.tensor([[a == b and a != "" for b in subjects] for a in subjects]).fill_diagonal_(False)
    rests = (intensity.nan_to_num(0.0) <= 0).all(1).cpu()
    weight = same * torch.where(rests, 4.0, 1.0)
    lonely = ~same.any(1)
    weight[lonely] = 1.0
    count = min(most, max(len(subjects), 1))
    weight = weight + 1e-9  # as many as are asked can always be drawn; what is nobody's is masked below
    rows = torch.multinomial(weight, count, replacement=False, generator=generator)
    wanted = 1 + (torch.rand(len(subjects), generator=generator) < 0.3).long() * (most - 1)
    there = (torch.arange(count)[None] < wanted[:, None]) & same.gather(1, rows)
    return rows, there
