"""People who arrive one after another, for the study of personal detectors.

A stream answers five questions: who comes (``names``), what is known of a person (``support``) and what they are tested
on (``test``), whom the detector knew before (``others``), who is never learnt (``generic``), and who says what is usual
(``reference``). All are different people, but for a person's own two sets: those are frames in other light and places.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch

from data_modules.cache import RenderedCache, RenderPlan, ensure_rendered, renderer_version
from data_modules.rendered import FIRST_SUBJECT
from lit_faces.core.files import default_cache_dir
from lit_faces.core.labelled import read_labelled
from lit_faces.core.sample import FaceBatch
from lit_faces.core.seeding import generator_for

_ORDER = 0x0DE8
_FRAMES_OF_SCENE = 4
#: Subjects of the study, counted from the split's first: nobody else uses these numbers.
_ARRIVING, _NEVER_LEARNT, _REFERENCE = 1_000, 4_000, 6_000
_RENDERER = "lit_faces.rendering.renderer.FaceRenderer"


class RenderedPeople:
    """Rendered people whom the detector has never seen.

    Frames come in scenes (light, background, camera) of four, the first of a scene neutral; what a person is learnt
    from and what they are tested on are different scenes. The first frame of the support is the *photo*: neutral.

    Args:
        people: how many arrive.
        support: frames of each that can be given to learn from.
        test: frames of each for the test.
        generic_people: people who are never learnt.
        generic_frames: frames of each.
        others: frames of people whom the detector was trained on, two a person (the memory starts with them).
        reference_people: validation people who say what is usual, eight frames each, two of them neutral.
        split: ``test``, or ``val`` for choosing strengths and steps.
        size, seed, smooth_share, spread, focus_aus, yaw_limit: of the renderer, as the detector was trained.
        cache_dir: where rendered faces are kept; None means ``$LIT_FACES_CACHE`` or ``~/.cache/lit_faces``.

    Raises:
        ValueError: names the argument that cannot be.
    """

    def __init__(
        self,
        people: int = 20,
        support: int = 20,
        test: int = 32,
        generic_people: int = 64,
        generic_frames: int = 4,
        others: int = 400,
        reference_people: int = 40,
        split: Literal["val", "test"] = "test",
        size: int = 128,
        seed: int = 5000,
        smooth_share: float = 0.35,
        spread: float = 1.15,
        focus_aus: list[int] = [6, 17],  # noqa: B006  (never changed; jsonargparse shows it as the default)
        yaw_limit: float = 25.0,
        cache_dir: str | None = None,
    ) -> None:
        for name, count, most in (
            ("people", people, _NEVER_LEARNT - _ARRIVING), ("support", support, 10_000), ("test", test, 10_000),
            ("generic_people", generic_people, _REFERENCE - _NEVER_LEARNT), ("generic_frames", generic_frames, 1_000),
            ("others", others, 1_000_000), ("reference_people", reference_people, 1_000),
        ):  # fmt: skip
            if not 1 <= count <= most:
                raise ValueError(f"{name}: expected 1..{most:,}, got {count}")
        if split not in ("val", "test"):
            raise ValueError(f"split: expected val or test, got {split!r}: people of the training are known already")
        self.count, self.generic_shape, self.split = people, (generic_people, generic_frames), split
        self.support_count, self.test_count, self.others_count = support, test, others
        self.reference_people = reference_people
        self.support_scenes = -(-support // _FRAMES_OF_SCENE)
        self.scenes = self.support_scenes + -(-test // _FRAMES_OF_SCENE)
        self.folder = Path(cache_dir).expanduser() if cache_dir else default_cache_dir()
        self.options: dict[str, Any] = {
            "size": size,
            "seed": seed,
            "head": "parametric",
            "focus_aus": tuple(focus_aus),
            "yaw_limit": yaw_limit,
            "smooth_share": smooth_share,
            "spread": spread,
        }
        self._caches: dict[str, RenderedCache] = {}

    @property
    def names(self) -> list[str]:
        """Who arrives, in the order of their numbers."""
        first = FIRST_SUBJECT[self.split] + _ARRIVING
        return [f"render{self.options['seed']}:{first + i:06d}" for i in range(self.count)]

    def prepare(self) -> None:
        """Render what is missing; later calls in other processes only read."""
        for group in ("arriving", "generic", "others", "reference"):
            self._cache(group)

    def support(self, person: int, count: int | None = None, seed: int = 0) -> FaceBatch:
        """``count`` frames to learn a person from: the photo first, then others as ``seed`` draws them."""
        count = self.support_count if count is None else count
        if not 0 <= count <= self.support_count:
            raise ValueError(f"support frames: expected 0..{self.support_count}, got {count}")
        order = 1 + torch.randperm(self.support_count - 1, generator=generator_for(seed, _ORDER, person))
        return self._frames(person, torch.cat([torch.zeros(1, dtype=torch.int64), order])[:count])

    def test(self, person: int) -> FaceBatch:
        """The frames that a person is tested on."""
        first = self.support_scenes * _FRAMES_OF_SCENE
        return self._frames(person, torch.arange(first, first + self.test_count))

    def generic(self) -> FaceBatch:
        """Frames of people who are never learnt."""
        cache = self._cache("generic")
        return cache.gather(torch.arange(len(cache)))

    def others(self) -> FaceBatch:
        """Frames of people whom the detector was trained on."""
        cache = self._cache("others")
        return cache.gather(torch.arange(self.others_count))

    def reference(self) -> FaceBatch:
        """Frames of validation people, one of four neutral: what calibrations take for usual."""
        cache = self._cache("reference")
        return cache.gather(torch.arange(len(cache)))

    def _frames(self, person: int, frames: torch.Tensor) -> FaceBatch:
        if not 0 <= person < self.count:
            raise ValueError(f"person: expected 0..{self.count - 1}, got {person}")
        return self._cache("arriving").gather(person * self.scenes * _FRAMES_OF_SCENE + frames)

    def _cache(self, group: str) -> RenderedCache:
        if group not in self._caches:
            self._caches[group] = ensure_rendered(self._plan(group), self.folder)
        return self._caches[group]

    def _plan(self, group: str) -> RenderPlan:
        first = FIRST_SUBJECT[self.split]
        people, frames = self.generic_shape
        first_subject, subjects, scenes, each, neutral_first = {
            "arriving": (first + _ARRIVING, self.count, self.scenes, _FRAMES_OF_SCENE, True),
            "generic": (first + _NEVER_LEARNT, people, frames, 1, False),
            "others": (FIRST_SUBJECT["train"], -(-self.others_count // 2), 2, 1, False),
            "reference": (FIRST_SUBJECT["val"] + _REFERENCE, self.reference_people, 2, _FRAMES_OF_SCENE, True),
        }[group]
        return RenderPlan(
            renderer=_RENDERER,
            options=self.options,
            version=renderer_version(_RENDERER),
            first_subject=first_subject,
            subjects=subjects,
            scenes=scenes,
            frames=each,
            neutral_first=neutral_first,
        )


def _halves(faces: FaceBatch, path: str) -> tuple[FaceBatch, FaceBatch]:
    """The first, third, ... person of a set, and the others."""
    people = list(dict.fromkeys(faces.subject))
    if len(people) < 2:
        raise ValueError(f"{path}: only one person: name a reference set, for nobody may be in it and tested too")
    second = torch.tensor([people.index(subject) % 2 == 1 for subject in faces.subject])
    return faces.select(~second), faces.select(second)


class LabelledPeople:
    """People of labelled sets on disk (a folder with ``labels.csv``, or tar shards).

    The study refuses sets that share people.

    Args:
        path: set of the people who arrive; the first ``support`` frames of each are to learn from, the others the test.
        generic: set of people who are never learnt.
        others: set of people whom the detector was trained on.
        support: frames of each person to learn from.
        size: side of the crops, pixels.
        reference: set of people whom it was not trained on, neutral frames among them; by default
            every second person of ``generic``, who is then not tested.

    Raises:
        FileNotFoundError: no such set.
        ValueError: no person with more than ``support`` frames, or a single generic person and no reference.
    """

    def __init__(
        self, path: str, generic: str, others: str, support: int = 20, size: int = 128, reference: str | None = None
    ) -> None:
        if support < 1:
            raise ValueError(f"support: expected 1 or more, got {support}")
        self.support_count = support
        self._all, self._generic, self._others = (
            read_labelled(p, size, need="intensity") for p in (path, generic, others)
        )
        if reference is None:
            self._generic, self._reference = _halves(self._generic, generic)
        else:
            self._reference = read_labelled(reference, size)
        rows: dict[str, list[int]] = {}
        for row, subject in enumerate(self._all.subject):
            rows.setdefault(subject, []).append(row)
        self._rows = {name: found for name, found in rows.items() if len(found) > support}
        if not self._rows:
            most = max(map(len, rows.values()))
            raise ValueError(f"{path}: nobody has more than support={support} frames (the most is {most}): lower it")

    @property
    def names(self) -> list[str]:
        """Who arrives, in the order of the set."""
        return list(self._rows)

    def prepare(self) -> None:
        """Nothing to do: the sets were read at once."""

    def support(self, person: int, count: int | None = None, seed: int = 0) -> FaceBatch:
        """``count`` frames to learn a person from: their first, then others as ``seed`` draws them."""
        count = self.support_count if count is None else count
        if not 0 <= count <= self.support_count:
            raise ValueError(f"support frames: expected 0..{self.support_count}, got {count}")
        order = 1 + torch.randperm(self.support_count - 1, generator=generator_for(seed, _ORDER, person))
        rows = torch.tensor(self._rows[self.names[person]])
        return self._all.select(rows[torch.cat([torch.zeros(1, dtype=torch.int64), order])[:count]])

    def test(self, person: int) -> FaceBatch:
        """The frames that a person is tested on."""
        return self._all.select(torch.tensor(self._rows[self.names[person]][self.support_count :]))

    def generic(self) -> FaceBatch:
        """Frames of people who are never learnt."""
        return self._generic

    def others(self) -> FaceBatch:
        """Frames of people whom the detector was trained on."""
        return self._others

    def reference(self) -> FaceBatch:
        """What calibrations take for usual."""
        return self._reference
