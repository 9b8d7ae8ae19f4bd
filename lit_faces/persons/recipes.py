"""How long and how hard a person is learnt, and the fit.

A method (:mod:`lit_faces.persons.methods`) that learns by gradient is an ordinary Lightning fit of
:class:`lit_faces.tasks.personal.PersonalHead`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, fields
from typing import Literal

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from lit_faces.continual.penalties import QuadraticPenalty
from lit_faces.core.quiet import quiet_libraries
from lit_faces.core.sample import FaceBatch
from lit_faces.core.seeding import generator_for
from lit_faces.models.adapters import RANK, Delta, learning
from lit_faces.models.reference import References
from lit_faces.persons.methods import Method, find_method, references_of
from lit_faces.tasks.au_detector import AUDetector
from lit_faces.tasks.obedient import obedient
from lit_faces.tasks.personal import Memory, PersonalHead

Step = Callable[[], None]


def nothing() -> None:
    """What happens after a step that nobody watches."""


_STREAM = 0x9E45
_ALONE = 0.1  # of the learning rate of a delta whose batches hold nobody else: validation people lost by more


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
        delta_lr, delta_rank: highest learning rate and rank of a person's delta.
        replay_targets: what remembered faces of people whom the generic detector knew are held to: its ``answers``, or
            their ``labels``. People who were learnt since are held to their labels.
        keep: frames of a person that are remembered, at most.
        generic_weight: what the people before the first count for in EWC, in people.
        replay_share: remembered faces to new ones; of a delta, which cannot harm others, one at most.
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
    delta_lr: float = 1e-2
    delta_rank: int = RANK
    replay_targets: Literal["answers", "labels"] = "answers"
    replay_share: float = 2.0
    keep: int = 30
    generic_weight: float = 1.0
    seed: int = 0
    precision: str = "auto"

    def __post_init__(self) -> None:
        """Refuse values that cannot be.

        Raises:
            ValueError: names the field.
        """
        whole = {"steps": 1, "batch_size": 1, "keep": 1, "seed": 0, "delta_rank": 1}
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


def learn_person(
    detector: AUDetector,
    frames: FaceBatch,
    method: str | Method,
    recipe: Recipe,
    memory: Memory | None = None,
    penalty: QuadraticPenalty | None = None,
    accelerator: str = "cpu",
    teacher: AUDetector | None = None,
    labelled: Collection[str] = (),
    each_step: Step = nothing,
) -> AUDetector:
    """A copy of ``detector`` that has learnt one person.

    Args:
        detector: as it is before.
        frames: labelled frames of the person.
        method: one that learns by gradient, see :func:`~lit_faces.persons.methods.find_method`.
        recipe: steps, strengths, seed.
        memory: faces of others, for methods that replay.
        penalty: consolidated penalty of ``method`` on what came before.
        accelerator: of Lightning.
        teacher: who answers remembered faces, where the recipe says ``answers``; by default ``detector``.
        labelled: people in the memory whose labels count instead.
        each_step: called after each step.

    Raises:
        ValueError: unknown method, no frames, or a method that lacks its memory or penalty.
    """
    how = find_method(method) if isinstance(method, str) else method
    name = method if isinstance(method, str) else type(method).__name__
    if how.fit is not None or how.trains == "delta":
        raise ValueError(f"method {name}: leaves the detector as it is; PersonalLearner applies it")
    learnt = copy.deepcopy(detector).requires_grad_(True)
    if how.trains == "nothing":
        return learnt.eval()
    penalty = _checked(how, name, frames, memory, penalty)
    distil = None if how.distil is None else how.distil(recipe)
    if distil is not None:
        distil.consolidate(learnt)
    task = PersonalHead(
        learnt,
        penalty,
        distil,
        memory if how.replay else None,
        _teacher(how, recipe, detector if teacher is None else teacher),
        labelled,
        recipe.replay_share,
        trains="head" if how.trains == "head" else "all",
        lr=recipe.lr,
        seed=recipe.seed,
    )
    _fit(task, frames, recipe, accelerator, each_step)
    return learnt.eval()


def learn_delta(
    detector: AUDetector,
    frames: FaceBatch,
    how: Method,
    recipe: Recipe,
    memory: Memory | None = None,
    penalty: QuadraticPenalty | None = None,
    accelerator: str = "cpu",
    zero: Tensor | None = None,
    references: References | None = None,
    each_step: Step = nothing,
) -> Delta:
    """What one person changes in ``detector``, which stays as it is.

    Args:
        detector: the shared one.
        frames: labelled frames of the person.
        how: a method that trains a delta.
        recipe: steps, strengths, seed.
        memory: faces of others, for methods that replay.
        penalty: consolidated on whom the detector knew; it holds the *sum* of shared weights and delta.
        accelerator: of Lightning.
        zero: what is taken off the person's readings (19,), grades; the delta learns what is left, and holds it.
            References stand in its place.
        references: of the person, where the method looks at them; by default the first of ``frames``, at rest.
        each_step: called after each step.

    Raises:
        ValueError: no frames, a method that lacks its memory or penalty, or a detector without a reference head.
    """
    penalty = _checked(how, "delta", frames, memory, penalty)
    if how.beside and references is None:
        references = references_of(detector, frames)
    elif not how.beside:
        references = None
    delta, shared = Delta.fresh(detector, recipe.delta_rank, recipe.seed, references), copy.deepcopy(detector)
    if zero is not None and references is None:  # they say the same and more
        delta.lowered(zero)
    with learning(shared, delta):
        task = PersonalHead(
            shared,
            None if penalty is None else OnDelta(penalty, delta),
            None,
            memory if how.replay else None,
            _teacher(how, recipe, detector),
            replay_share=min(1.0, recipe.replay_share),
            lr=recipe.delta_lr * (1.0 if how.replay else _ALONE),
            seed=recipe.seed,
            references=references,
        )
        _fit(task, frames, recipe, accelerator, each_step)
    return delta.cpu().requires_grad_(False)


class OnDelta(QuadraticPenalty):
    """A penalty on shared weights, felt by a delta: 1/2 strength sum importance (up @ down)^2, exactly.

    Args:
        of: consolidated where the shared weights are.
        delta: what moves.
    """

    def __init__(self, of: QuadraticPenalty, delta: Delta) -> None:
        super().__init__(of.strength)
        self.of, self.delta = of, delta

    @torch.enable_grad()
    def penalty(self, module: nn.Module) -> Tensor:
        """A scalar with a graph that ends at the delta; ``module`` is not looked at."""
        total = torch.zeros((), device=next(self.delta.parameters()).device)
        for name, change in self.delta.changes().items():
            if name in self.of.importance:
                total = (
                    total
                    + (self.of.importance[name].to(change) * change.view_as(self.of.importance[name]).square()).sum()
                )
        return 0.5 * self.strength * total

    def gradient_(self, module: nn.Module, only: Iterable[Tensor] | None = None) -> None:
        """Add its gradient to that of the delta's parameters."""
        found = self.penalty(module)
        if found.requires_grad:
            found.backward()


def _checked(
    how: Method, name: str, frames: FaceBatch, memory: Memory | None, penalty: QuadraticPenalty | None
) -> QuadraticPenalty | None:
    """The penalty that holds the weights; refuses a method that lacks something."""
    if not len(frames):
        raise ValueError(f"method {name}: no labelled frames of the person; `none` and calibrations need none")
    if how.replay and memory is None:
        raise ValueError(f"method {name}: needs a memory of other people")
    if how.penalty is None:
        return None
    if penalty is None or (penalty.at_start and not penalty.anchor):
        raise ValueError(f"method {name}: needs a penalty that was consolidated on what came before")
    return penalty


def _teacher(how: Method, recipe: Recipe, detector: AUDetector) -> AUDetector | None:
    """Who answers remembered faces."""
    if not how.replay or how.joint or recipe.replay_targets == "labels":
        return None
    return copy.deepcopy(detector).requires_grad_(False).eval()


class _EachStep(pl.Callback):
    def __init__(self, each_step: Step) -> None:
        self.each_step = each_step

    def on_train_batch_end(self, *_: object) -> None:
        self.each_step()


def _fit(task: PersonalHead, frames: FaceBatch, recipe: Recipe, accelerator: str, each_step: Step) -> None:
    loader: DataLoader[FaceBatch] = DataLoader(
        _Steps(frames, recipe.batch_size, recipe.steps, recipe.seed), batch_size=None, shuffle=False
    )
    trainer = quiet_trainer(recipe.steps, accelerator, recipe.precision, [_EachStep(each_step)])
    with obedient(trainer):
        trainer.fit(task, loader)


def quiet_trainer(
    steps: int, accelerator: str, precision: str = "auto", callbacks: list[pl.Callback] | None = None
) -> pl.Trainer:
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
        callbacks=callbacks,
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
