"""FaceSample: the one record type that travels everywhere, its batch and its checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor

from lit_faces.core.facs import EMOTIONS, NUM_AUS


def _nan(*shape: int) -> Tensor:
    return torch.full(shape, float("nan"))


@dataclass
class FaceSample:
    """One labelled face crop.

    Attributes:
        image: uint8 (3, H, W), RGB.
        landmarks: float32 (68, 2), pixels of this crop, x right, y down; (0, 0) is the centre of the top-left pixel;
            NaN rows are unknown.
        au_intensity: float32 (19,), 0..5, NaN = not coded.
        au_occurrence: float32 (19,), 0 or 1, NaN = not coded.
        emotion: index into ``EMOTIONS``; -1 = not coded.
        pose: float32 (3,), yaw, pitch, roll in degrees, NaN = unknown.  Positive yaw: the subject turns to their left
            (the nose moves to the image's right); positive pitch: nose down; positive roll: the top of the head moves
            towards the image's right (clockwise on screen).
        subject: who.
        source: which data set, or generator and checkpoint.
        frame: which frame.
        provenance: for generated images: source hash, plan cell, asked and achieved AUs, checkpoint, seed.
    """

    image: Tensor
    landmarks: Tensor = field(default_factory=lambda: _nan(68, 2))
    au_intensity: Tensor = field(default_factory=lambda: _nan(NUM_AUS))
    au_occurrence: Tensor = field(default_factory=lambda: _nan(NUM_AUS))
    emotion: int = -1
    pose: Tensor = field(default_factory=lambda: _nan(3))
    subject: str = ""
    source: str = ""
    frame: int = 0
    provenance: dict[str, Any] = field(default_factory=dict)


#: The fields of a batch that are tensors.
TENSORS = ("image", "landmarks", "au_intensity", "au_occurrence", "emotion", "pose", "frame")


@dataclass
class FaceBatch:
    """A batch of face samples; tensors carry a leading batch axis, ``subject`` and ``source`` are lists."""

    image: Tensor  # uint8 (B, 3, H, W)
    landmarks: Tensor  # float32 (B, 68, 2)
    au_intensity: Tensor  # float32 (B, 19)
    au_occurrence: Tensor  # float32 (B, 19)
    emotion: Tensor  # int64 (B,)
    pose: Tensor  # float32 (B, 3)
    subject: list[str] = field(default_factory=list)
    source: list[str] = field(default_factory=list)
    frame: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))

    def __len__(self) -> int:
        return self.image.shape[0]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> FaceBatch:
        """A copy whose tensors live on ``device``."""
        return apply_to_collection(self, Tensor, Tensor.to, device, non_blocking=non_blocking)

    def pin_memory(self) -> FaceBatch:
        """A copy in page-locked memory (what a pinning DataLoader calls)."""
        return apply_to_collection(self, Tensor, Tensor.pin_memory)

    def image_float(self) -> Tensor:
        """Images as float32 (B, 3, H, W) in [-1, 1]."""
        return self.image.to(torch.float32) / 127.5 - 1.0

    def select(self, index: Tensor | slice) -> FaceBatch:
        """The samples at ``index`` (a slice or an int64/bool tensor (n,))."""
        picked = range(len(self))[index] if isinstance(index, slice) else torch.arange(len(self))[index.cpu()].tolist()
        out: dict[str, Any] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, Tensor):
                out[f.name] = value[index] if len(value) == len(self) else value
            else:
                out[f.name] = [value[i] for i in picked] if value else []
        return FaceBatch(**out)


def to_uint8(image: Tensor) -> Tensor:
    """Float images in [-1, 1] to uint8 of the same shape (rounded, clipped)."""
    return ((image.float() + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)


def collate(samples: Sequence[FaceSample]) -> FaceBatch:
    """Stack samples of equal image size.

    Raises:
        ValueError: no sample, or images of different size.
    """
    if not samples:
        raise ValueError("cannot make a batch of no samples")
    sizes = {tuple(s.image.shape) for s in samples}
    if len(sizes) > 1:
        raise ValueError(f"images of one batch must have one size, got {sorted(sizes)}: set `size` in the data module")
    return FaceBatch(
        image=torch.stack([s.image for s in samples]),
        landmarks=torch.stack([s.landmarks for s in samples]),
        au_intensity=torch.stack([s.au_intensity for s in samples]),
        au_occurrence=torch.stack([s.au_occurrence for s in samples]),
        emotion=torch.tensor([s.emotion for s in samples], dtype=torch.int64),
        pose=torch.stack([s.pose for s in samples]),
        subject=[s.subject for s in samples],
        source=[s.source for s in samples],
        frame=torch.tensor([s.frame for s in samples], dtype=torch.int64),
    )


def check_sample(sample: FaceSample) -> None:
    """Check shapes, types and value ranges.

    Raises:
        ValueError: names the field, what was expected and what was found.
    """
    image = sample.image
    if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3:
        raise ValueError(f"image: expected uint8 (3, H, W), got {image.dtype} {tuple(image.shape)}")
    for name, shape in (
        ("landmarks", (68, 2)),
        ("au_intensity", (NUM_AUS,)),
        ("au_occurrence", (NUM_AUS,)),
        ("pose", (3,)),
    ):
        value = getattr(sample, name)
        if value.dtype != torch.float32 or tuple(value.shape) != shape:
            raise ValueError(f"{name}: expected float32 {shape}, got {value.dtype} {tuple(value.shape)}")
    known = sample.au_intensity[~sample.au_intensity.isnan()]
    if known.numel() and (known.min() < 0 or known.max() > 5):
        raise ValueError(f"au_intensity: expected 0..5 or NaN, got {known.min():g}..{known.max():g}")
    coded = sample.au_occurrence[~sample.au_occurrence.isnan()]
    if ((coded != 0) & (coded != 1)).any():
        raise ValueError(
            "au_occurrence: expected 0, 1 or NaN; mask the data set's own code for unknown (9, 999, -1) as NaN"
        )
    if not -1 <= sample.emotion < len(EMOTIONS):
        raise ValueError(f"emotion: expected -1..{len(EMOTIONS) - 1}, got {sample.emotion}")


def joined(*batches: FaceBatch) -> FaceBatch:
    """Batches as one; empty ones may be among them."""
    full = [batch for batch in batches if len(batch)] or list(batches[:1])
    tensors = {name: torch.cat([getattr(batch, name) for batch in full]) for name in TENSORS}
    subject, source = ([word for batch in full for word in getattr(batch, name)] for name in ("subject", "source"))
    return FaceBatch(**tensors, subject=subject, source=source)
