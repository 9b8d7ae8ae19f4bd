"""One person after another: adapt a detector to a person, and keep what it knows of everyone else.

    detector --(frames of a person)--> loss on them
             --(replay memory)-------> loss on remembered frames of others, in the same batch
             --(EWC, L2-SP, SI)------> gradient of the penalty, before each step
             --(LwF)-----------------> stay with the old detector's answers

:data:`METHODS` names the combinations; each is an ordinary Lightning fit, or no fit at all.
"""

from __future__ import annotations

import copy
from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Any, Literal, Protocol

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from lit_faces.continual.ewc import EWC
from lit_faces.continual.penalties import L2SP, SI, LwF, QuadraticPenalty
from lit_faces.core.quiet import quiet_libraries
from lit_faces.core.sample import TENSORS, FaceBatch
from lit_faces.core.seeding import generator_for
from lit_faces.losses.action_units import masked_concordance, masked_cross_entropy, masked_logit_bce, masked_mse
from lit_faces.tasks.au_detector import AUDetector, Reading
from lit_faces.tasks.augmentation import augment_frames
from lit_faces.tasks.base import FaceTask
from lit_faces.tasks.schedule import warm_cosine

_STREAM = 0x9E45


@dataclass(frozen=True)
class Method:
    """How a person is learnt.

    Attributes:
        trains: which weights move; the heads of occurrence and expression stay as they are.
        penalty: what holds them.
        replay: whether frames of others are mixed into every batch.
        generative: whether those frames are generated, from one picture of each person.
        joint: whether the memory must hold *all* frames of earlier people, answered by their labels; the caller gives
            that memory.
    """

    trains: Literal["nothing", "head", "all"] = "all"
    penalty: Literal["", "ewc", "l2sp", "si", "lwf"] = ""
    replay: bool = False
    generative: bool = False
    joint: bool = False


METHODS: dict[str, Method] = {
    "none": Method("nothing"),
    "head_only": Method("head"),
    "finetune": Method(),
    "l2sp": Method(penalty="l2sp"),
    "si": Method(penalty="si"),
    "lwf": Method(penalty="lwf"),
    "ewc": Method(penalty="ewc"),
    "replay": Method(replay=True),
    "ewc_replay": Method(penalty="ewc", replay=True),
    "generative_replay": Method(penalty="ewc", replay=True, generative=True),
    "joint": Method(replay=True, joint=True),
}


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
    ) -> None:
        super().__init__(seed)
        if replay_share <= 0 or lr <= 0:
            raise ValueError(f"replay_share and lr: expected numbers above 0, got {replay_share} and {lr}")
        self.detector, self.penalty, self.distil, self.memory = detector, penalty, distil, memory
        self.teacher, self.labelled = teacher, frozenset(labelled)
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
        reading = self.detector.read(image)
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
            group["lr"] = self.lr * warm_cosine(self.progress(), 0.1)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Some penalties look at what a step did."""
        if self.penalty is not None:
            self.penalty.after_step(self.detector)


def joined(*batches: FaceBatch) -> FaceBatch:
    """Batches as one; empty ones may be among them."""
    full = [batch for batch in batches if len(batch)] or list(batches[:1])
    tensors = {name: torch.cat([getattr(batch, name) for batch in full]) for name in TENSORS}
    subject, source = ([word for batch in full for word in getattr(batch, name)] for name in ("subject", "source"))
    return FaceBatch(**tensors, subject=subject, source=source)


class _Steps(Dataset[FaceBatch]):
    """Shuffled batches of a few frames, again and again, by (seed, epoch) alone."""

    def __init__(self, faces: FaceBatch, batch_size: int, steps: int, seed: int) -> None:
        self.faces, self.seed, self.steps = faces, seed, steps
        self.size = min(batch_size, len(faces))
        self.each = max(1, len(faces) // self.size)

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> FaceBatch:
        order = torch.randperm(len(self.faces), generator=generator_for(self.seed, _STREAM, step // self.each))
        start = step % self.each * self.size
        return self.faces.select(order[start : start + self.size])


@dataclass
class Recipe:
    """How long and how hard a person is learnt; chosen on validation people.

    Attributes:
        steps: batches.
        batch_size: new frames a batch, at most.
        lr: highest learning rate.
        ewc, l2sp, si, lwf, ridge: strengths.
        replay_targets: what remembered faces of people whom the generic detector knew are held to: its ``answers``, or
            their ``labels``. People who were learnt since are held to their labels.
        keep: frames of a person that are remembered, at most.
        generic_weight: what the people before the first count for in EWC, in people.
        replay_share: remembered faces to new ones.
        seed: of everything.
        precision: of Lightning; ``auto`` is bf16-mixed where the processor has instructions for it.
    """

    steps: int = 30
    batch_size: int = 16
    lr: float = 3e-4
    ewc: float = 3.0
    l2sp: float = 1.0
    si: float = 0.2
    lwf: float = 1.0
    ridge: float = 30.0
    replay_targets: Literal["answers", "labels"] = "answers"
    replay_share: float = 1.0
    keep: int = 30
    generic_weight: float = 1.0
    seed: int = 0
    precision: str = "auto"

    def __post_init__(self) -> None:
        """Refuse values that cannot be.

        Raises:
            ValueError: names the field.
        """
        whole = {"steps": 1, "batch_size": 1, "keep": 1, "seed": 0}
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in whole:
                if isinstance(value, bool) or not isinstance(value, int) or value < whole[field.name]:
                    raise ValueError(
                        f"recipe.{field.name}: expected a whole number from {whole[field.name]}, got {value!r}"
                    )
            elif field.name == "replay_targets":
                if value not in ("answers", "labels"):
                    raise ValueError(f"recipe.replay_targets: expected answers or labels, got {value!r}")
            elif field.name != "precision" and (
                isinstance(value, bool) or not isinstance(value, int | float) or value < 0
            ):
                hint = " (YAML reads 3e-4 as text: write 3.0e-4)" if isinstance(value, str) else ""
                raise ValueError(f"recipe.{field.name}: expected a number from 0, got {value!r}{hint}")


def make_penalty(name: str, recipe: Recipe) -> QuadraticPenalty | None:
    """The penalty of a method, not yet consolidated; None for methods that have none of this kind."""
    if name == "ewc":
        return EWC(recipe.ewc, mode="separate", likelihood="gaussian")
    if name == "l2sp":
        return L2SP(recipe.l2sp)
    return SI(recipe.si) if name == "si" else None


def learn_person(
    detector: AUDetector,
    frames: FaceBatch,
    method: str,
    recipe: Recipe,
    memory: Memory | None = None,
    penalty: QuadraticPenalty | None = None,
    accelerator: str = "cpu",
    teacher: AUDetector | None = None,
    labelled: Collection[str] = (),
) -> AUDetector:
    """A copy of ``detector`` that has learnt one person.

    Args:
        detector: as it is before.
        frames: labelled frames of the person.
        method: a key of :data:`METHODS`.
        recipe: steps, strengths, seed.
        memory: faces of others, for methods that replay.
        penalty: consolidated penalty of ``method`` on what came before.
        accelerator: of Lightning.
        teacher: who answers remembered faces, where the recipe says ``answers``; by default ``detector``.
        labelled: people in the memory whose labels count instead.

    Raises:
        ValueError: unknown method, no frames, or a method that lacks its memory or penalty.
    """
    if method not in METHODS:
        raise ValueError(f"method {method!r}: expected one of {', '.join(METHODS)}")
    how = METHODS[method]
    learnt = copy.deepcopy(detector).requires_grad_(True)
    if how.trains == "nothing":
        return learnt.eval()
    if not len(frames):
        raise ValueError(f"method {method}: no labelled frames of the person; `none` and calibrations need none")
    if how.replay and memory is None:
        raise ValueError(f"method {method}: needs a memory of other people")
    distil = None
    if how.penalty == "lwf":
        distil = LwF(recipe.lwf, likelihood="gaussian")
        distil.consolidate(learnt)
    elif how.penalty and (penalty is None or (not penalty.anchor and how.penalty != "si")):  # SI watches the way itself
        raise ValueError(f"method {method}: needs a penalty that was consolidated on what came before")
    if not how.replay or how.joint or recipe.replay_targets == "labels":
        teacher = None
    else:
        teacher = copy.deepcopy(detector if teacher is None else teacher).requires_grad_(False).eval()
    task = PersonalHead(
        learnt,
        penalty if how.penalty != "lwf" else None,
        distil,
        memory if how.replay else None,
        teacher,
        labelled,
        recipe.replay_share,
        trains="head" if how.trains == "head" else "all",
        lr=recipe.lr,
        seed=recipe.seed,
    )
    loader: DataLoader[FaceBatch] = DataLoader(
        _Steps(frames, recipe.batch_size, recipe.steps, recipe.seed), batch_size=None, shuffle=False
    )
    quiet_trainer(recipe.steps, accelerator, recipe.precision).fit(task, loader)
    return learnt.eval()


def quiet_trainer(steps: int, accelerator: str, precision: str = "auto") -> pl.Trainer:
    """A trainer of a short fit that says and writes nothing."""
    import logging

    if precision == "auto":
        precision = "bf16-mixed" if fast_bfloat16(accelerator) else "32-true"
    quiet_libraries()
    logging.getLogger("pytorch_lightning.utilities.rank_zero").setLevel(logging.ERROR)
    return pl.Trainer(
        max_steps=steps,
        accelerator=accelerator,
        devices=1,
        precision=precision,  # type: ignore[arg-type]
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


def fast_bfloat16(accelerator: str = "cpu") -> bool:
    """Whether 16-bit arithmetic is worth it: GPUs of this decade, and processors with instructions for it."""
    if accelerator != "cpu" and torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    return bool(torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported())
