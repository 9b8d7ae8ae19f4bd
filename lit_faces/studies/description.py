"""What a study asks: which way of learning people is best? Methods x people x frames x seeds.

    sequence   people arrive one after another, each learnt on top of the last; everything is evaluated after each
    single     each person is learnt from the generic detector

A *cell* is one (protocol, method, k, images, seed); it learns all people in the seed's order.

``images`` says what a person is learnt from:

    real            k labelled frames, the photo first
    real+synthetic  those, and the set that is made from the photo, as `generate` makes it: planned, verified, labelled
    synthetic       that set alone
    wrong           the set that was made from the *next* person's photo: a control that must not help
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, Protocol, get_args

from lit_faces.arguments import UsageError, find_class, parameters, suggestion
from lit_faces.core.fields import field as field_of
from lit_faces.core.sample import FaceBatch
from lit_faces.core.shipped import Kind, weights_path
from lit_faces.persons import sets
from lit_faces.persons.methods import find_method, folder_name, method_words
from lit_faces.persons.plan import PLANS, Plan, make_plan
from lit_faces.persons.recipes import Recipe
from lit_faces.persons.verify import LABELS

Images = Literal["real", "real+synthetic", "synthetic", "wrong"]
Protocol_ = Literal["sequence", "single"]
#: What some keys may say; a natural plan needs the AU vectors of a data set.
_WORDS = {
    "plan": tuple(plan for plan in PLANS if plan != "natural"),
    "labels": LABELS,
    "source_au": ("auto", "detector", "neutral"),
}
VERSION = 2  # raise it when the same study gives other results; 2: sets as `generate` makes them, verified


class People(Protocol):
    """Who arrives; see :mod:`data_modules.people`."""

    @property
    def names(self) -> list[str]:
        """Of the people who arrive."""

    def prepare(self) -> None:
        """Make or fetch what is missing, once."""

    def support(self, person: int, count: int | None = None, seed: int = 0) -> FaceBatch:
        """Frames to learn from, the photo first."""

    def test(self, person: int) -> FaceBatch:
        """Frames to test on."""

    def generic(self) -> FaceBatch:
        """People who are never learnt."""

    def others(self) -> FaceBatch:
        """People whom the detector was trained on."""

    def reference(self) -> FaceBatch:
        """People whom it was not trained on, nor is tested on; some neutral."""


@dataclass(frozen=True)
class Cell:
    """One line of the study: all people, one after another, by one method."""

    protocol: Protocol_
    method: str
    k: int
    images: Images
    seed: int

    @property
    def key(self) -> str:
        """Name of its folder."""
        return f"{self.protocol}-{folder_name(self.method)}-k{self.k}-{self.images}-s{self.seed}"


@dataclass
class Study:
    """What is asked; the keys of ``experiments/study/*.yaml``.

    Attributes:
        detector: weight file of the generic detector, or ``generic`` for the one that ships with lit_faces.
        people: ``class_path`` and ``init_args`` of a stream of :mod:`data_modules.people`.
        sequence: blocks of ``methods`` and ``k`` to run in sequence.
        single: blocks of ``methods``, ``k`` and ``images`` to run person by person.
        seeds: of the order of people, the frames drawn, and the training; a block may name its own.
        recipe: see :class:`lit_faces.persons.recipes.Recipe`.
        capacity: of the memory.
        fisher_samples: frames of a person for the Fisher information.
        synthetic: pictures wanted from a photo.
        plan: what they are to show, one of :data:`~lit_faces.persons.plan.PLANS` (not ``natural``).
        attempts, labels, verify: see :class:`lit_faces.persons.sets.Settings`.
        source_au: AUs of the photo, see :func:`lit_faces.persons.source.read_source`; the study's detector reads them.
        generator: ``photohead`` (each person's photo itself, moved), a weight file of a generator, or ``packaged``.
        judge: weight file of the judge that verifies, or ``packaged``.
    """

    detector: str = "generic"
    people: dict[str, Any] = field(default_factory=lambda: {"class_path": "data_modules.people.RenderedPeople"})
    sequence: list[dict[str, Any]] = field(default_factory=list)
    single: list[dict[str, Any]] = field(default_factory=list)
    seeds: list[int] = field(default_factory=lambda: [0])
    recipe: dict[str, Any] = field(default_factory=dict)
    capacity: int | str = 600
    fisher_samples: int = 12
    synthetic: int = 200
    plan: str = "balanced"
    attempts: int = 8
    labels: str = "agreed"
    verify: bool = True
    source_au: str = "auto"
    generator: str = "packaged"
    judge: str = "packaged"

    @classmethod
    def read(cls, content: Mapping[str, Any], where: str) -> Study:
        """From the mapping of an experiment file.

        Raises:
            UsageError: names the key that is wrong, and the nearest that exists.
        """
        names = {f.name for f in fields(cls)}
        for key in content:
            if key not in names:
                raise UsageError(f"{where}: unknown key {key}{suggestion(str(key), names)}")
        try:
            _check_types(content, where)
            study = cls(**content)
            study.recipe = study.recipe or {}
            _check_recipe(study.recipe, where)
        except ValueError as error:
            raise UsageError(str(error)) from error
        for protocol in get_args(Protocol_):
            for number, block in enumerate(getattr(study, protocol)):
                _check_block(block, f"{where}: {protocol}[{number}]")
        if not study.seeds or not (study.sequence or study.single):
            raise UsageError(f"{where}: nothing to do: expected seeds, and blocks under sequence or single")
        study.stream_class(where)
        return study

    def settings(self) -> sets.Settings:
        """How a person's set is made."""
        return sets.Settings(self.generator, self.judge, self.attempts, self.labels, self.verify)

    def set_plan(self, seed: int) -> Plan:
        """What a person's set is to show."""
        return make_plan(self.plan, self.synthetic, seed)

    def stream_class(self, where: str = "study") -> Callable[..., People]:
        """The class of the stream.

        Raises:
            UsageError: there is none.
        """
        if set(self.people) - {"class_path", "init_args"} or "class_path" not in self.people:
            raise UsageError(f"{where}: people: expected class_path (dotted) and init_args, got {self.people}")
        found = find_class(self.people["class_path"], f"{where}: people.class_path", People)
        if found is None:
            raise UsageError(f"{where}: people.class_path: expected a dotted path, got {self.people['class_path']}")
        names = parameters(found)
        for key in field_of(self.people, "init_args", dict, f"{where}: people", default={}):
            if names is not None and key not in names:
                raise UsageError(f"{where}: unknown key people.init_args.{key}{suggestion(str(key), names)}")
        return found

    def stream(self) -> People:
        """The people."""
        cls = self.stream_class()
        try:
            return cls(**self.people.get("init_args", {}))
        except TypeError as error:
            raise UsageError(f"study: people.init_args: {error}") from error

    def cells(self) -> list[Cell]:
        """Everything that is asked, once each; sequences first, for they are the longest."""
        found: dict[Cell, None] = {}
        for protocol in get_args(Protocol_):
            for block in getattr(self, protocol):
                for seed in _listed(block.get("seeds", self.seeds)):
                    for k in _listed(block["k"]):
                        for images in _listed(block.get("images", "real")):
                            for method in _listed(block["methods"]):
                                found[Cell(protocol, method_words(method), k, images, seed)] = None
        return list(found)

    def fingerprint(self) -> str:
        """Changes with everything that changes a cell's result: not with the list of cells."""
        content = {k: v for k, v in asdict(self).items() if k not in ("sequence", "single", "seeds")}
        content["recipe"] = asdict(Recipe(**self.recipe))  # defaults change, too
        content["versions"] = [VERSION, sets.VERSION]
        kinds: tuple[Kind, ...] = ("detector", "generator", "judge")
        for name in kinds:
            path = weights_path(name, content[name])
            if path.is_file():
                content[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _check_types(content: Mapping[str, Any], where: str) -> None:
    """Compare the values of a study file with what they are for.

    Raises:
        ValueError: names the key.
    """
    for name in ("detector", "generator", "judge"):
        field_of(content, name, str, where, minimum=1, default="")
    field_of(content, "people", dict, where, default={})
    for name in get_args(Protocol_):
        field_of(content, name, list, where, of=dict, maximum=1000, default=[])
    field_of(content, "seeds", list, where, of=int, minimum=1, maximum=1000, default=[])
    for name, most in (("fisher_samples", 100_000), ("synthetic", 100_000), ("attempts", 1000)):
        field_of(content, name, int, where, minimum=1, maximum=most, default=1)
    for name, known in _WORDS.items():
        field_of(content, name, str, where, choices=known, default="")
    field_of(content, "verify", bool, where, default=True)
    if not isinstance(content.get("capacity", 1), str):
        field_of(content, "capacity", int, where, minimum=1, default=1)
    if content.get("recipe") is not None:
        field_of(content, "recipe", dict, where, default={})


def _check_recipe(recipe: Mapping[str, Any], where: str) -> None:
    """Compare the values of a recipe with what they are for.

    Raises:
        ValueError: names the key, and the nearest that exists.
    """
    known = {f.name for f in fields(Recipe)}
    for key in recipe:
        if key not in known:
            raise UsageError(f"{where}: unknown key recipe.{key}{suggestion(str(key), known)}")
    try:
        Recipe(**recipe)
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from error


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _check_block(block: Any, where: str) -> None:
    keys = {"methods", "k", "images", "seeds"}
    for seed in _listed(block.get("seeds", [])) if isinstance(block, dict) else []:
        field_of({"seeds": seed}, "seeds", int, where)
    if not isinstance(block, dict) or not {"methods", "k"} <= set(block) <= keys:
        raise UsageError(f"{where}: expected methods and k, and perhaps images and seeds, got {block}")
    for method in _listed(block["methods"]):
        find_method(method_words(method, f"{where}: methods"), f"{where}: methods")
    for images in _listed(block.get("images", "real")):
        if images not in get_args(Images):
            raise UsageError(f"{where}: unknown images {images}{suggestion(str(images), get_args(Images))}")
    for k in _listed(block["k"]):
        if not isinstance(k, int) or isinstance(k, bool) or k < 0:
            raise UsageError(f"{where}: k: expected whole numbers of frames, 0 or more, got {k}")
