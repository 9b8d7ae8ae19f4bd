"""Rendered faces with FACS truth: the embedded default data, made on the first run and kept on disk.

People of the three splits are different people: subject numbers of training start at 0, of validation at 1,000,000, of
test at 2,000,000, whatever the set sizes are. The judge and the base weights use another ``seed``, hence other people
again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from data_modules.base import FaceDataModule
from data_modules.cache import RenderedCache, RenderPlan, ensure_rendered, renderer_version
from data_modules.transforms import FaceAugment
from lit_faces.core.files import default_cache_dir
from lit_faces.core.sample import FaceBatch
from lit_faces.core.seeding import generator_for

FIRST_SUBJECT = {"train": 0, "val": 1_000_000, "test": 2_000_000}
STAGES_OF = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",), "predict": ("test",)}
PAIR_STREAM = 0xFACE  # keeps the draws of pairs apart from others of the same seed
PEOPLE_STREAM = 0xFAB5  # and those of people


class TrainingPairs:
    """Two frames of one person in one scene, drawn anew for every index.

    Item ``k`` belongs to scene ``k % scenes``, so an epoch is balanced over people. A share of the pairs has the same
    frame twice: there the generator must change nothing.

    Args:
        cache: the rendered faces.
        length: pairs of one epoch.
        seed: seed of the draws.
        neutral_source: share of pairs whose source is the scene's neutral frame, as a user's photo often is.
        identity_share: share of pairs with target = source.
    """

    def __init__(
        self, cache: RenderedCache, length: int, seed: int, neutral_source: float, identity_share: float
    ) -> None:
        self.cache, self.length, self.seed = cache, length, seed
        self.neutral_source, self.identity_share = neutral_source, identity_share

    def __len__(self) -> int:
        return self.length

    def rows(self, index: int) -> tuple[int, int]:
        """Cache rows of source and target of pair ``index``, from (seed, index) alone."""
        plan = self.cache.plan
        scene = index % self.length % (plan.subjects * plan.scenes)
        generator = generator_for(self.seed, PAIR_STREAM, index)
        chance = torch.rand(2, generator=generator).tolist()
        first, step = torch.randint(0, 2**31, (2,), generator=generator).tolist()
        source = first % plan.frames
        if chance[0] < self.neutral_source and plan.neutral_first:
            source = 0
        target = source
        if chance[1] >= self.identity_share and plan.frames > 1:
            target = (source + 1 + step % (plan.frames - 1)) % plan.frames
        return scene * plan.frames + source, scene * plan.frames + target

    def __getitems__(self, indices: Sequence[int]) -> dict[str, FaceBatch]:
        """``{"source": FaceBatch, "target": FaceBatch}``."""
        rows = torch.tensor([self.rows(index) for index in indices], dtype=torch.int64)
        return {"source": self.cache.gather(rows[:, 0]), "target": self.cache.gather(rows[:, 1])}


class EvaluationPairs:
    """Every other frame of a scene as target, the scene's first (neutral) frame as source; people alternate."""

    def __init__(self, cache: RenderedCache) -> None:
        if cache.plan.frames < 2:
            raise ValueError(f"pairs need at least 2 frames in a scene, got {cache.plan.frames}: raise eval_frames")
        self.cache = cache

    def __len__(self) -> int:
        plan = self.cache.plan
        return plan.subjects * plan.scenes * (plan.frames - 1)

    def __getitems__(self, indices: Sequence[int]) -> dict[str, FaceBatch]:
        """``{"source": FaceBatch, "target": FaceBatch}``."""
        plan = self.cache.plan
        scenes = plan.subjects * plan.scenes
        index = torch.tensor(list(indices), dtype=torch.int64)
        first = index % scenes * plan.frames
        return {"source": self.cache.gather(first), "target": self.cache.gather(first + 1 + index // scenes)}


class Frames:
    """Single frames, optionally augmented; for detectors."""

    def __init__(self, cache: RenderedCache, augment: FaceAugment | None = None, seed: int = 0) -> None:
        self.cache, self.augment, self.seed = cache, augment, seed

    def __len__(self) -> int:
        return len(self.cache)

    def __getitems__(self, indices: Sequence[int]) -> FaceBatch:
        """One FaceBatch; the augmentation of an item follows from its (endless) index."""
        rows: Tensor = torch.tensor(list(indices), dtype=torch.int64) % len(self.cache)
        batch = self.cache.gather(rows)
        return batch if self.augment is None else self.augment(batch, [(self.seed, index) for index in indices])


class PeopleFrames:
    """Frames of few people, several of each in a batch: for detectors that read a face beside the person's others.

    ``together`` consecutive rows of a batch are one person's: the first at rest more often than not, all of them in
    scenes drawn anew (another light, another camera, another pose).

    Args:
        cache: the rendered faces; the first frame of every scene is neutral.
        together: frames of each person in a batch.
        seed: seed of the draws.
        resting: share of the people who are seen at rest.
    """

    def __init__(self, cache: RenderedCache, together: int, seed: int, resting: float = 0.8) -> None:
        self.cache, self.together, self.seed, self.resting = cache, together, seed, resting

    def __len__(self) -> int:
        return len(self.cache)

    def __getitems__(self, indices: Sequence[int]) -> FaceBatch:
        """One FaceBatch; the people are those of every ``together``-th index, the rest follows from the indices."""
        plan = self.cache.plan
        each = plan.scenes * plan.frames
        rows = []
        for place, index in enumerate(indices):
            person = indices[place - place % self.together] % len(self.cache) // each
            generator = generator_for(self.seed, PEOPLE_STREAM, int(index))
            scene, frame = torch.randint(0, 2**31, (2,), generator=generator).tolist()
            rests = place % self.together == 0 and float(torch.rand(1, generator=generator)) < self.resting
            acted = 0 if rests or plan.frames == 1 else 1 + frame % (plan.frames - 1)
            rows.append(person * each + scene % plan.scenes * plan.frames + acted)
        return self.cache.gather(torch.tensor(rows, dtype=torch.int64))


class RenderedFaces(FaceDataModule):
    """Rendered people, three splits of them.

    Args:
        mode: ``pairs`` gives ``{"source": FaceBatch, "target": FaceBatch}`` (two frames of one person and scene),
            ``frames`` gives one FaceBatch, ``people`` one FaceBatch with ``together`` frames of each person.
        size: side of the square crops, pixels.
        train_subjects: people to train on.
        val_subjects: other people, to choose by.
        test_subjects: other people again, to report on.
        scenes: scenes (light, background, camera) of each person.
        frames: frames (AUs, pose, gaze) of each training scene.
        eval_frames: frames of each validation and test scene; the first is neutral and the source of all its pairs.
        pairs_per_epoch: training pairs of one epoch; None means one a training frame.
        neutral_source: share of training pairs whose source is neutral.
        identity_share: share of training pairs with target = source.
        seed: seed of the people and of the training stream.
        head: ``parametric``, or ``ict:PATH``.
        focus_aus: AUs that are active more often.
        yaw_limit: largest yaw, degrees.
        poses: distinct poses (and gazes) of each training scene; 0 gives every frame its own. With 2, nearly half of
            the training pairs differ in their AUs alone, which teaches what an AU looks like.
        together: frames of each person that stand beside each other in a training batch (mode ``people``), 2 or more.
        smooth_share: share of people whose skin hardly wrinkles.
        spread: how far faces differ in shape, in units of the usual.
        renderer: class path of the renderer.
        render_device: device to render on; None means CUDA when it is there.
        cache_dir: where rendered faces are kept; None means ``$LIT_FACES_CACHE`` or ``~/.cache/lit_faces``.
        augment: augmentation of the training frames (mode ``frames`` only).
        batch_size: training items of one step.
        eval_batch_size: items of one evaluation step.
        num_workers: loader processes.

    Raises:
        ValueError: names the argument that cannot be.
    """

    def __init__(
        self,
        mode: Literal["pairs", "frames", "people"] = "pairs",
        size: int = 128,
        train_subjects: int = 400,
        val_subjects: int = 16,
        test_subjects: int = 64,
        scenes: int = 1,
        frames: int = 12,
        eval_frames: int = 9,
        pairs_per_epoch: int | None = None,
        neutral_source: float = 0.4,
        identity_share: float = 0.05,
        seed: int = 0,
        head: str = "parametric",
        focus_aus: list[int] = [6, 17],  # noqa: B006  (never changed; jsonargparse shows it as the default)
        yaw_limit: float = 25.0,
        poses: int = 0,
        together: int = 4,
        smooth_share: float = 0.0,
        spread: float = 1.0,
        renderer: str = "lit_faces.rendering.renderer.FaceRenderer",
        render_device: str | None = None,
        cache_dir: str | None = None,
        augment: FaceAugment | None = None,
        batch_size: int = 16,
        eval_batch_size: int = 32,
        num_workers: int = 0,
    ) -> None:
        super().__init__(batch_size, eval_batch_size, seed, num_workers)
        counts = {"train": train_subjects, "val": val_subjects, "test": test_subjects}
        for stage, count in counts.items():
            if not 1 <= count <= 1_000_000:
                raise ValueError(f"{stage}_subjects must be in 1..1,000,000, got {count}")
        if scenes < 1 or frames < 1 or eval_frames < 1:
            raise ValueError(
                f"scenes, frames and eval_frames must be at least 1, got {scenes}, {frames}, {eval_frames}"
            )
        if mode == "pairs" and (frames < 2 or eval_frames < 2):
            raise ValueError(f"mode 'pairs' needs frames and eval_frames of at least 2, got {frames} and {eval_frames}")
        if mode == "people" and (together < 2 or batch_size % together or frames < 2):
            raise ValueError(
                f"mode 'people' needs frames and together of at least 2, and a batch_size that together divides; got "
                f"frames {frames}, together {together}, batch_size {batch_size}"
            )
        if mode != "frames" and augment is not None:
            raise ValueError("augment is for mode 'frames': a pair must be two pictures of one person in one light")
        if not 0 <= poses <= frames:
            raise ValueError(f"poses must be in 0..frames ({frames}), got {poses}")
        if head.startswith("photo:"):
            raise ValueError(
                f"head {head!r}: the people of a folder are few, and the same in every split; render them once with "
                "`python -m lit_faces.render set --head photo:DIR`, and train on that set (`prepare folder`)"
            )
        if size < 32:
            raise ValueError(f"size must be at least 32 pixels, got {size}")
        self.mode, self.counts, self.scenes, self.augment = mode, counts, scenes, augment
        self.together = together
        self.poses = {"train": poses, "val": 0, "test": 0}
        self.frames = {"train": frames, "val": eval_frames, "test": eval_frames}
        self.pairs_per_epoch, self.neutral_source, self.identity_share = pairs_per_epoch, neutral_source, identity_share
        self.renderer, self.render_device, self.cache_dir = renderer, render_device, cache_dir
        self.renderer_options: dict[str, Any] = {
            "size": size,
            "seed": seed,
            "head": head,
            "focus_aus": tuple(focus_aus),
            "yaw_limit": yaw_limit,
        }
        for name, value, usual in (("smooth_share", smooth_share, 0.0), ("spread", spread, 1.0)):
            if value != usual:
                self.renderer_options[name] = value

    def plan(self, stage: str) -> RenderPlan:
        """Who is rendered for ``train``, ``val`` or ``test``."""
        return RenderPlan(
            renderer=self.renderer,
            options=self.renderer_options,
            version=renderer_version(self.renderer),
            first_subject=FIRST_SUBJECT[stage],
            subjects=self.counts[stage],
            scenes=self.scenes,
            frames=self.frames[stage],
            neutral_first=self.mode == "pairs" or (self.mode == "people" and stage == "train"),
            poses=self.poses[stage],
        )

    def seen(self) -> list[dict[str, Any]]:
        """What is trained on, for the card of the weights."""
        plan = self.plan("train")
        about = {name: self.renderer_options[name] for name in ("head", "seed")}
        return [
            {"what": "rendered faces", "faces": len(plan), "people": plan.subjects, "renderer": plan.version, **about}
        ]

    def _cache(self, stage: str) -> RenderedCache:
        device = self.render_device or ("cuda" if torch.cuda.is_available() else "cpu")
        folder = Path(self.cache_dir).expanduser() if self.cache_dir else default_cache_dir()
        return ensure_rendered(self.plan(stage), folder, device)

    def prepare_data(self) -> None:
        """Render what the coming stage needs; nothing when it is on disk already."""
        state = self.trainer.state.fn.value if self.trainer is not None and self.trainer.state.fn else "fit"
        for stage in STAGES_OF[state]:
            self._cache(stage)

    def setup(self, stage: str) -> None:
        """Open the caches and make the data sets of ``fit``, ``validate``, ``test`` or ``predict``."""
        for split in STAGES_OF[stage]:
            if getattr(self, f"{split}_set") is None:
                setattr(self, f"{split}_set", self._dataset(split))

    def _dataset(self, split: str) -> TrainingPairs | EvaluationPairs | Frames | PeopleFrames:
        cache = self._cache(split)
        if self.mode == "frames":
            return Frames(cache, self.augment if split == "train" else None, self.seed)
        if self.mode == "people":
            return PeopleFrames(cache, self.together, self.seed) if split == "train" else Frames(cache)
        if split != "train":
            return EvaluationPairs(cache)
        length = len(cache) if self.pairs_per_epoch is None else self.pairs_per_epoch
        return TrainingPairs(cache, length, self.seed, self.neutral_source, self.identity_share)
