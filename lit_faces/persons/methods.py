"""The ways of learning a person: one object a way, found by name or by class path.

A way of one's own is a class in any file that Python finds: a penalty
(:class:`~lit_faces.continual.penalties.QuadraticPenalty`), or a :class:`Method` that says more, for example that frames
of others are replayed beside it. It is written as its class path, with arguments as JSON behind it where it has any:

    adapt --method my_method.MAS
    adapt --method 'my_method.MAS{"strength": 10.0}'
    study: methods: [ewc, my_method.MAS, {class_path: my_method.MAS, init_args: {strength: 10.0}}]

The same words stand in the card of ``memory.safetensors``, and find the class again.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

import torch
from torch import Tensor, nn

from lit_faces.continual.calibration import (
    labelled_affine,
    match_moments,
    median_subtraction,
    neutral_subtraction,
)
from lit_faces.continual.ewc import EWC
from lit_faces.continual.few_shot import ridge_update
from lit_faces.continual.penalties import L2SP, SI, LwF, QuadraticPenalty
from lit_faces.core.classes import find_class
from lit_faces.core.facs import MAX_INTENSITY
from lit_faces.core.sample import FaceBatch
from lit_faces.core.words import UsageError, nearest, suggestion
from lit_faces.models.reference import Beside, References
from lit_faces.tasks.au_detector import AUDetector

if TYPE_CHECKING:
    from lit_faces.persons.recipes import Recipe


class Reader(Protocol):
    """What a map of readings needs of a learner.

    Attributes:
        detector: the shared one.
        recipe: strengths.
        population: what is usual: ``mean``, ``std``, ``neutral``, ``between``, ``within``, (A,) each.
    """

    detector: AUDetector
    recipe: Recipe
    population: dict[str, Tensor]

    def read(self, images: Tensor) -> Tensor:
        """Intensities (n, A) of pictures uint8 (n, 3, H, W)."""
        ...


@dataclass(frozen=True)
class Method:
    """How a person is learnt.

    Attributes:
        trains: which weights move; the heads of occurrence and expression stay as they are. ``delta``: none of the
            shared ones; a change of the person's own is learnt beside them (:mod:`lit_faces.models.adapters`).
        penalty: makes what holds them, not yet consolidated.
        distil: makes learning without forgetting; consolidated on the detector as it is before each person.
        replay: whether frames of others are mixed into every batch.
        generative: whether those frames are generated, from one picture of each person.
        joint: whether the memory holds *all* frames of earlier people, answered by their labels.
        fit: makes a map of the person's own instead (a calibration, a head): no gradient, and nobody else is touched.
        labels: whether the labels of the person's frames are read.
        population: whether ``fit`` needs to know what is usual.
        beside: whether a delta is learnt, and read, with the photo beside every frame.
    """

    trains: Literal["nothing", "head", "all", "delta"] = "all"
    penalty: Callable[[Recipe], QuadraticPenalty] | None = None
    distil: Callable[[Recipe], LwF] | None = None
    replay: bool = False
    generative: bool = False
    joint: bool = False
    fit: Callable[[Reader, FaceBatch], nn.Module] | None = None
    labels: bool = True
    population: bool = False
    beside: bool = False

    @property
    def leaves_others(self) -> bool:
        """Whether the shared detector stays as it is, so that nobody else can notice."""
        return self.fit is not None or self.trains in ("nothing", "delta")


def _ewc(recipe: Recipe) -> EWC:
    return EWC(recipe.ewc, mode="separate", likelihood="gaussian")


def _neutral(learner: Reader, frames: FaceBatch) -> nn.Module:
    known = learner.population
    return neutral_subtraction(learner.read(frames.image)[:1], known["neutral"], known["between"], known["within"])


def _neutral_raw(learner: Reader, frames: FaceBatch) -> nn.Module:
    return neutral_subtraction(learner.read(frames.image)[:1], learner.population["neutral"])


def _median(learner: Reader, frames: FaceBatch) -> nn.Module:
    return median_subtraction(learner.read(frames.image), learner.population["neutral"])


def _affine(learner: Reader, frames: FaceBatch) -> nn.Module:
    return match_moments(learner.read(frames.image), learner.population["mean"], learner.population["std"])


def _labelled_affine(learner: Reader, frames: FaceBatch) -> nn.Module:
    return labelled_affine(learner.read(frames.image), frames.au_intensity)


def references_of(detector: AUDetector, frames: FaceBatch) -> References:
    """The photo, which comes first and is neutral, as the detector remembers it."""
    return detector.make_references(frames.image[:1], torch.zeros(1, frames.au_intensity.shape[1]))


def _reference(learner: Reader, frames: FaceBatch) -> nn.Module:
    return Beside(references_of(learner.detector, frames))


@torch.no_grad()
def _ridge(learner: Reader, frames: FaceBatch) -> nn.Module:
    """The intensity head of one person: ridge regression of its logits towards the generic head's."""
    detector = learner.detector
    features = torch.cat(
        [detector.features(chunk.to(detector.device).float() / 127.5 - 1.0) for chunk in frames.image.split(64)]
    ).float()
    line = detector.calibration
    share = ((frames.au_intensity.to(features.device) - line.shift) / line.scale / MAX_INTENSITY).clamp(0.02, 0.98)
    head = nn.Linear(features.shape[1], share.shape[1])
    weight, bias = ridge_update(
        features, share.logit(), detector.head.linear.weight, detector.head.linear.bias, learner.recipe.ridge
    )
    head.load_state_dict({"weight": weight, "bias": bias})
    return head.requires_grad_(False)


METHODS: dict[str, Method] = {
    # by gradient
    "none": Method("nothing"),
    "head_only": Method("head"),
    "finetune": Method(),
    "l2sp": Method(penalty=lambda recipe: L2SP(recipe.l2sp)),
    "si": Method(penalty=lambda recipe: SI(recipe.si)),
    "lwf": Method(distil=lambda recipe: LwF(recipe.lwf, likelihood="gaussian")),
    "ewc": Method(penalty=_ewc),
    "replay": Method(replay=True),
    "ewc_replay": Method(penalty=_ewc, replay=True),
    "generative_replay": Method(penalty=_ewc, replay=True, generative=True),
    "joint": Method(replay=True, joint=True),
    # by gradient, beside the shared weights: others in the batch keep the change from fitting the few frames alone
    "delta": Method("delta", replay=True),
    "delta_alone": Method("delta"),
    "delta_ewc_replay": Method("delta", penalty=_ewc, replay=True),
    "delta_reference": Method("delta", replay=True, beside=True),  # the photo comes first, and is neutral
    # without labels: from the photo, which is neutral; from all frames of the person
    "reference": Method(fit=_reference, labels=False),
    "neutral": Method(fit=_neutral, labels=False, population=True),
    "neutral_raw": Method(fit=_neutral_raw, labels=False, population=True),
    "median": Method(fit=_median, labels=False, population=True),
    "affine": Method(fit=_affine, labels=False, population=True),
    # with labels, in closed form
    "labelled_affine": Method(fit=_labelled_affine),
    "ridge": Method(fit=_ridge),
}
BY_GRADIENT = tuple(name for name, method in METHODS.items() if method.fit is None)
ZERO_SHOT = tuple(name for name, method in METHODS.items() if not method.labels)
CLOSED_FORM = tuple(name for name, method in METHODS.items() if method.fit is not None and method.labels)
ALL_METHODS = tuple(METHODS)


def find_method(words: str, where: str = "method") -> Method:
    """The method of a name, or of a class path with perhaps arguments.

    Args:
        words: ``ewc_replay``, ``my_method.MAS``, ``my_method.MAS{"strength": 10.0}``.
        where: what the message begins with.

    Raises:
        UsageError: no such name or class, a class of another kind (it is not called), or arguments that it refuses.
    """
    if words in METHODS:
        return METHODS[words]
    path, arguments = _parts(words, where)
    if "." not in path:
        near = nearest(path, METHODS)
        hint = f"; did you mean {near}?" if near else ""
        raise UsageError(
            f"{where}: unknown method {words}{hint} (expected one of {', '.join(METHODS)}, or a class path)"
        )
    cls = find_class(path, where, (Method, QuadraticPenalty))
    if cls is None:
        raise UsageError(f"{where}: {path}: expected the dotted path of a class")
    if issubclass(cls, QuadraticPenalty) and cls.consolidate is QuadraticPenalty.consolidate:
        raise UsageError(f"{where}: {path}: has no consolidate of its own, which says how importances are found")
    known = inspect.signature(cls).parameters
    for name in arguments:
        if name not in known and not any(one.kind is one.VAR_KEYWORD for one in known.values()):
            raise UsageError(f"{where}: {path} has no argument {name!r}{suggestion(name, known)}")
    try:
        if issubclass(cls, Method):
            return cls(**arguments)
        made = cast(Callable[..., QuadraticPenalty], cls)  # find_class has checked it
        made(**arguments)  # what it refuses is said now, not after an hour
    except (TypeError, ValueError) as error:
        raise UsageError(f"{where}: {words}: {error}") from error
    return Method(penalty=lambda recipe: made(**arguments))


def _parts(words: str, where: str) -> tuple[str, dict[str, Any]]:
    """Class path, and the arguments behind it."""
    path, brace, rest = words.partition("{")
    if not brace:
        return path, {}
    try:
        arguments = json.loads(brace + rest)
    except (json.JSONDecodeError, RecursionError) as error:
        raise UsageError(f"{where}: {words}: arguments behind a class path are a JSON object: {error}") from error
    return path.strip(), arguments


def method_words(given: Any, where: str = "method") -> str:
    """A method as words, from an experiment file's text or its ``class_path`` and ``init_args``.

    Raises:
        UsageError: neither.
    """
    if isinstance(given, str):
        return given
    if not isinstance(given, Mapping) or not isinstance(given.get("class_path"), str):
        raise UsageError(f"{where}: expected a name, a class path, or class_path and init_args, got {given!r}")
    arguments = given.get("init_args") or {}
    if set(given) - {"class_path", "init_args"} or not isinstance(arguments, Mapping):
        raise UsageError(f"{where}: {given['class_path']}: expected class_path and init_args alone, got {dict(given)}")
    return given["class_path"] + (json.dumps(arguments, sort_keys=True) if arguments else "")


def folder_name(words: str) -> str:
    """A method as part of a folder's name: names and class paths as they are, all else marked with a digest."""
    safe = re.sub(r"[^A-Za-z0-9_.]+", "_", words)[:80].strip("._")
    return safe if safe == words else f"{safe}_{hashlib.sha256(words.encode()).hexdigest()[:8]}"
