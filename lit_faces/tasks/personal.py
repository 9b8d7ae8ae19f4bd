"""Adapting a detector to one person: the LightningModule that every gradient method of :mod:`lit_faces.persons` uses.

detector --(frames of a person)--> loss on them
--(replay memory)-------> loss on remembered frames of others, in the same batch
--(EWC, L2-SP, SI)------> gradient of the penalty, before each step
--(LwF)-----------------> stay with the old detector's answers
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from lit_faces.continual.penalties import LwF, QuadraticPenalty
from lit_faces.core.sample import FaceBatch, joined
from lit_faces.losses.action_units import masked_concordance, masked_cross_entropy, masked_logit_bce, masked_mse
from lit_faces.models.detector import Reading
from lit_faces.models.reference import References
from lit_faces.tasks.au_detector import AUDetector
from lit_faces.tasks.augmentation import augment_frames
from lit_faces.tasks.base import FaceTask


class Memory(Protocol):
    """What replay needs of a memory."""

    def sample(self, n: int, generator: torch.Generator) -> FaceBatch:
        """``n`` remembered faces."""
        ...


class PersonalHead(FaceTask):
    """Adapts an AU detector to the person whose frames it is given.

    The running statistics of normalisation layers stay as they are: a few frames of one face would ruin them. So do the
    weights of the occurrence and expression heads, but their losses count: features must go on telling them the truth.

    Args:
        detector: what is adapted, in place.
        penalty: holds the detector's weights; consolidated before.
        distil: learning without forgetting; consolidated before.
        memory: faces of others, or None.
        teacher: a detector as it was; remembered faces are then answered as it answers them (after dark experience
            replay, Buzzega et al. 2020), not as they are labelled: what is not wrong about others does not move.
        labelled: remembered people whose labels count all the same: who were learnt after the teacher.
        replay_share: of a batch, remembered faces to new ones.
        trains: which weights move.
        lr: highest learning rate (AdamW, cosine).
        weight_concordance: of the loss; needs batches that vary, so few-shot batches do without.
        weight_other: of the losses of occurrence and expression, where the detector has such heads.
        augment: vary light and place of the frames.
        seed: of augmentation and replay.
        references: of the person, beside whom the new frames (not the remembered ones) are read.
    """

    def __init__(
        self,
        detector: AUDetector,
        penalty: QuadraticPenalty | None = None,
        distil: LwF | None = None,
        memory: Memory | None = None,
        teacher: AUDetector | None = None,
        labelled: Collection[str] = (),
        replay_share: float = 1.0,
        trains: Literal["head", "all"] = "all",
        lr: float = 3e-4,
        weight_concordance: float = 0.25,
        weight_other: float = 0.1,
        augment: bool = True,
        seed: int = 0,
        references: References | None = None,
    ) -> None:
        super().__init__(seed)
        if replay_share <= 0 or lr <= 0:
            raise ValueError(f"replay_share and lr: expected numbers above 0, got {replay_share} and {lr}")
        self.detector, self.penalty, self.distil, self.memory = detector, penalty, distil, memory
        self.teacher, self.labelled, self.references = teacher, frozenset(labelled), references
        self.replay_share, self.trains, self.lr, self.augment = replay_share, trains, lr, augment
        self.loss_weights = {"mse": 4.0, "concordance": weight_concordance, "other": weight_other}
        if trains == "head":
            detector.requires_grad_(False)
            detector.head.requires_grad_(True)
        for head in (detector.occurrence, detector.expression):
            if head is not None:
                head.requires_grad_(False)

    def forward(self, image: Tensor) -> Tensor:
        """Pictures float (B, 3, S, S) in [-1, 1] -> float32 (B, 19), intensity 0..5."""
        return self.detector(image)

    def train(self, mode: bool = True) -> PersonalHead:
        """Training mode, but for the normalisation layers and dropout."""
        super().train(mode)
        if self.teacher is not None:
            self.teacher.eval()
        for module in self.detector.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm | nn.Dropout):
                module.eval()
        return self

    def training_step(self, batch: FaceBatch, batch_idx: int) -> Tensor:
        """The detector's loss on new and remembered frames, and the old detector's answers where they are kept."""
        draws = self.step_generator()
        new = len(batch)
        if self.memory is not None:
            batch = joined(batch, self.memory.sample(max(1, round(self.replay_share * new)), draws).to(self.device))
        image = batch.image_float()
        if self.augment:
            image = augment_frames(image, draws)
        reading = self._read(image, new)
        raw = reading.intensity
        read = self.detector.calibration.line(raw)  # what is right in the end is what is read out
        wanted = batch.au_intensity
        if self.teacher is not None and len(batch) > new:
            with torch.no_grad():
                answers = self.teacher.calibration.line(self.teacher.read(image[new:]).intensity)
            own = torch.tensor([subject in self.labelled for subject in batch.subject[new:]], device=wanted.device)
            wanted = torch.cat([wanted[:new], torch.where(own[:, None], wanted[new:], answers.to(wanted))])
        losses = {
            "mse": self._mean_over_parts(read, wanted, new),
            "concordance": masked_concordance(read, wanted) if len(batch) >= 16 else image.new_zeros(()),
            "other": self._other_heads(reading, batch, new if self.teacher is not None else len(batch)),
        }
        total = torch.stack([self.loss_weights[name] * value for name, value in losses.items()]).sum()
        if self.distil is not None:
            total = total + self.distil.penalty(self.detector, image[:new], raw[:new])
        self.count(new)
        return total

    def _read(self, image: Tensor, new: int) -> Reading:
        """What the detector reads, on the first ``new`` pictures beside the person's references where there are any."""
        if self.references is None:
            return self.detector.read(image)
        beside = self.references.to(image.device).expand(len(image))
        assert beside.there is not None  # `expand` has made it
        beside.there = beside.there & (torch.arange(len(image), device=image.device) < new)[:, None]
        return self.detector.reading_of(self.detector.features(image), beside)

    def _other_heads(self, reading: Reading, batch: FaceBatch, rows: int) -> Tensor:
        """Cross-entropies of occurrence and expression over the first rows, 0 without such a head or any code."""
        total = batch.au_intensity.new_zeros(())
        if self.trains == "head" or not self.loss_weights["other"]:
            return total  # the features do not move, nor do these heads
        if reading.occurrence is not None:
            total = total + masked_logit_bce(reading.occurrence[:rows], batch.au_occurrence[:rows])
        if reading.expression is not None and bool((batch.emotion[:rows] >= 0).any()):
            total = total + masked_cross_entropy(reading.expression[:rows], batch.emotion[:rows])
        return total

    @staticmethod
    def _mean_over_parts(predicted: Tensor, truth: Tensor, new: int) -> Tensor:
        """Mean squared error of the new frames and of the remembered ones, half each: the person must not drown."""
        parts = [masked_mse(predicted[:new], truth[:new])]
        if len(predicted) > new:
            parts.append(masked_mse(predicted[new:], truth[new:]))
        return torch.stack(parts).mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW without decay, over the weights that move."""
        return torch.optim.AdamW(self._moving(), lr=self.lr, weight_decay=0.0)

    def _moving(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.detector.parameters() if parameter.requires_grad]

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Add the penalty's gradient, clip, and set the learning rate."""
        if self.penalty is not None:
            self.penalty.before_step(self.detector)
            self.penalty.gradient_(self.detector)
        torch.nn.utils.clip_grad_norm_(self._moving(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = self.lr * self.rate(0.1)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Some penalties look at what a step did."""
        if self.penalty is not None:
            self.penalty.after_step(self.detector)
