"""Rendered faces as data: the cache on disk, the splits, the pairs, and a stream that resumes."""

import errno
import multiprocessing
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from data_modules import cache
from data_modules.base import EpochSampler
from data_modules.rendered import RenderedFaces
from data_modules.transforms import FaceAugment
from lit_faces.core.facs import NUM_AUS
from lit_faces.core.landmarks import MIRROR
from lit_faces.core.sample import FaceBatch
from lit_faces.core.seeding import generator_for
from tests.core.test_files import files_of_at_most


class FakeRenderer:
    """Flat pictures whose colour says subject, scene and frame; ``calls`` counts the faces of every call."""

    calls: list[int] = []
    fail_after: int | None = None

    def __init__(
        self, size: int, seed: int, head: str, focus_aus: tuple[int, ...], yaw_limit: float, device: str
    ) -> None:
        self.size, self.seed = size, seed

    def render(
        self,
        subjects: Tensor,
        frames: Tensor,
        scenes: Tensor,
        au: Tensor | None = None,
        pose: Tensor | None = None,
        posed_as: Tensor | None = None,
    ) -> FaceBatch:
        if self.fail_after is not None and len(self.calls) >= self.fail_after:
            raise KeyboardInterrupt
        self.calls.append(len(subjects))
        n = len(subjects)
        draws = [generator_for(self.seed, s, f) for s, f in zip(subjects.tolist(), frames.tolist())]
        if au is None:
            au = torch.stack([torch.rand(NUM_AUS, generator=g) * 5 for g in draws])
        own = frames if posed_as is None else posed_as
        turned = own[:, None].expand(-1, 3).float() + 100
        pose = turned if pose is None else torch.where(pose.isnan(), turned, pose)
        colour = torch.stack([subjects % 251, scenes % 251, frames % 251], dim=1).to(torch.uint8)
        return FaceBatch(
            image=colour[:, :, None, None].expand(-1, -1, self.size, self.size).contiguous(),
            landmarks=torch.stack([torch.rand(68, 2, generator=g) * self.size for g in draws]),
            au_intensity=au,
            au_occurrence=(au >= 2).float(),
            emotion=torch.full((n,), -1),
            pose=pose,
            subject=[str(s) for s in subjects.tolist()],
            source=["fake"] * n,
            frame=frames,
        )


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeRenderer, "calls", [])
    monkeypatch.setattr(FakeRenderer, "fail_after", None)
    monkeypatch.setattr(cache, "CHUNK", 8)


def faces(tmp_path: Path, **options) -> RenderedFaces:
    defaults = {
        "size": 32, "train_subjects": 5, "val_subjects": 2, "test_subjects": 3, "scenes": 2, "frames": 4, "eval_frames": 3,
        "batch_size": 4, "eval_batch_size": 5, "cache_dir": str(tmp_path), "renderer": f"{__name__}.FakeRenderer",
    }  # fmt: skip
    data = RenderedFaces(**{**defaults, **options})
    data.prepare_data()
    data.setup("fit")
    data.setup("test")
    return data


def colours(batch: FaceBatch) -> list[tuple[int, ...]]:
    """(subject, scene, frame) of every picture."""
    return [tuple(c) for c in batch.image[:, :, 0, 0].tolist()]


def seen(loader) -> list[tuple]:
    return [(tuple(colours(batch["source"])), tuple(colours(batch["target"]))) for batch in loader]


def test_faces_are_rendered_once(tmp_path: Path) -> None:
    first = faces(tmp_path)
    assert sum(FakeRenderer.calls) == 5 * 2 * 4 + 2 * 2 * 3 + 3 * 2 * 3
    FakeRenderer.calls.clear()
    again = faces(tmp_path)
    assert FakeRenderer.calls == []
    assert seen(first.train_dataloader()) == seen(again.train_dataloader())
    faces(tmp_path, seed=1)
    assert sum(FakeRenderer.calls) > 0  # other options never meet old pictures


def test_a_killed_rendering_goes_on_where_it_stood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = count(step=10)
    monkeypatch.setattr(cache, "time", SimpleNamespace(monotonic=lambda: next(clock)))  # saves after every chunk
    whole = faces(tmp_path / "whole")
    calls = list(FakeRenderer.calls)
    FakeRenderer.calls.clear()
    monkeypatch.setattr(FakeRenderer, "fail_after", 4)  # two chunks, two calls each: neutral and other frames
    with pytest.raises(KeyboardInterrupt):
        faces(tmp_path / "killed")
    (partial,) = (tmp_path / "killed" / "rendered").glob("*.partial")
    assert not partial.with_suffix("").exists()
    monkeypatch.setattr(FakeRenderer, "fail_after", None)
    killed = faces(tmp_path / "killed")
    assert FakeRenderer.calls == calls
    assert not partial.exists()
    assert seen(whole.train_dataloader()) == seen(killed.train_dataloader())
    rows = torch.arange(40)
    for stage in ("train_set", "test_set"):
        a, b = (getattr(d, stage).cache.gather(rows[: len(getattr(d, stage).cache)]) for d in (whole, killed))
        assert torch.equal(a.landmarks, b.landmarks) and torch.equal(a.au_intensity, b.au_intensity)


def test_a_damaged_cache_says_what_to_delete(tmp_path: Path) -> None:
    data = faces(tmp_path)
    folder = data.train_set.cache.folder
    whole = (folder / "image.npy").read_bytes()
    other = whole.replace(b"'shape': (40", b"'shape': (41", 1)
    for content, what in (
        (b"short", "not an array"),
        (whole[:-1], "expected 123008 bytes, found 123007"),
        (other, "41"),
    ):
        (folder / "image.npy").write_bytes(content)
        with pytest.raises(ValueError, match=rf"image\.npy: .*{what}.* delete the folder"):
            faces(tmp_path)


def test_splits_have_different_people(tmp_path: Path) -> None:
    data = faces(tmp_path, mode="frames")
    people = []
    for stage in ("train", "val", "test"):
        dataset = getattr(data, f"{stage}_set")
        people.append(set(dataset.__getitems__(range(len(dataset))).subject))
    assert [len(p) for p in people] == [5, 2, 3]
    assert len(set().union(*people)) == 10


def test_a_pair_shares_person_and_scene(tmp_path: Path) -> None:
    data = faces(tmp_path, identity_share=0.0)
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        for batch in loader:
            source, target = batch["source"], batch["target"]
            assert source.subject == target.subject
            for a, b in zip(colours(source), colours(target)):
                assert a[:2] == b[:2] and a[2] != b[2]


def test_evaluation_asks_every_other_frame_of_a_neutral_source_once(tmp_path: Path) -> None:
    data = faces(tmp_path)
    batches = list(data.test_dataloader())
    assert all(float(batch["source"].au_intensity.abs().max()) == 0 for batch in batches)
    assert all(float(batch["source"].pose.abs().max()) <= 12 for batch in batches)
    asked = [c for batch in batches for c in colours(batch["target"])]
    assert len(asked) == len(set(asked)) == 3 * 2 * 2


def test_frames_of_a_scene_can_share_a_few_poses(tmp_path: Path) -> None:
    cache = faces(tmp_path, poses=2).train_set.cache
    pose = cache.gather(torch.arange(len(cache))).pose.view(10, 4, 3)
    assert torch.equal(pose[:, 0], pose[:, 2]) and torch.equal(pose[:, 1], pose[:, 3])
    assert not torch.equal(pose[:, 0], pose[:, 1])
    assert float(pose[:, 0].abs().max()) <= 12  # the neutral frame's
    held_out = faces(tmp_path, poses=2).test_set.cache
    pose = held_out.gather(torch.arange(len(held_out))).pose.view(6, 3, 3)
    assert not torch.equal(pose[:, 0], pose[:, 2])


def test_identity_share_gives_pairs_without_change(tmp_path: Path) -> None:
    pairs = faces(tmp_path, identity_share=0.5, pairs_per_epoch=400).train_set
    same = [source == target for source, target in map(pairs.rows, range(400))]
    assert 0.4 < sum(same) / 400 < 0.6


def test_every_epoch_has_other_pairs_and_all_people(tmp_path: Path) -> None:
    loader = faces(tmp_path).train_dataloader()
    first = seen(loader)
    loader.sampler.set_epoch(1)
    second = seen(loader)
    assert first != second and len(first) == len(second) == 10
    assert {c[0] for source, _ in second for c in source} == set(range(5))


@pytest.mark.parametrize("epoch", [0, 3])
def test_resuming_in_the_middle_of_an_epoch_gives_the_remaining_batches(tmp_path: Path, epoch: int) -> None:
    loader = faces(tmp_path).train_dataloader()
    loader.sampler.set_epoch(epoch)
    stream = iter(loader)
    for _ in range(4):
        next(stream)
    state = loader.state_dict()
    rest = seen(stream)
    assert len(rest) == 6
    resumed = faces(tmp_path).train_dataloader()
    resumed.sampler.set_epoch(epoch)
    resumed.load_state_dict(state)
    assert seen(resumed) == rest


def test_making_an_iterator_leaves_the_global_random_state_alone(tmp_path: Path) -> None:
    loader = faces(tmp_path).train_dataloader()
    torch.manual_seed(3)
    before = torch.get_rng_state()
    next(iter(loader))
    assert torch.equal(torch.get_rng_state(), before)


def test_ranks_share_one_order() -> None:
    whole = list(EpochSampler(11, seed=5))
    ranks = [list(EpochSampler(11, seed=5, rank=r, world=3)) for r in range(3)]
    assert [index for step in zip(*ranks) for index in step] == whole[:9]
    evaluated = [list(EpochSampler(11, shuffle=False, rank=r, world=3, even=False)) for r in range(3)]
    assert sorted(index for rank in evaluated for index in rank) == list(range(11))
    assert [len(EpochSampler(11, rank=r, world=3, even=False)) for r in range(3)] == [4, 4, 3]
    with pytest.raises(ValueError, match="cannot be shared"):
        EpochSampler(2, world=3)


def test_augmentation_moves_picture_and_landmarks_by_key_alone(tmp_path: Path) -> None:
    batch, keys = faces(tmp_path, mode="frames").train_set.__getitems__([0, 5, 9]), [(0, 1), (0, 2), (0, 3)]
    together = FaceAugment()(batch, keys)
    assert together.landmarks.shape == (3, 68, 2)
    assert not torch.equal(together.landmarks, batch.landmarks)
    alone = FaceAugment()(batch.select(slice(1, 2)), keys[1:2])
    assert torch.equal(together.image[1:2], alone.image) and torch.equal(together.landmarks[1:2], alone.landmarks)


def test_augmentation_of_colours_follows_from_the_key_alone(tmp_path: Path) -> None:
    batch, keys = faces(tmp_path, mode="frames").train_set.__getitems__([0, 5, 9]), [(0, 1), (0, 2), (0, 3)]
    augment = FaceAugment(rotate=0, scale=0, shift=0, degrade=0.5)
    together = augment(batch, keys)
    assert not torch.equal(together.image, batch.image)
    assert torch.equal(together.image[1:2], augment(batch.select(slice(1, 2)), keys[1:2]).image)
    with pytest.raises(ValueError, match="one key for each"):
        augment(batch, keys[:2])


def test_augmentation_mirrors_picture_landmarks_and_pose(tmp_path: Path) -> None:
    batch = faces(tmp_path, mode="frames").train_set.__getitems__([0, 5, 9])
    batch.pose[:] = torch.tensor([10.0, 5.0, 3.0])
    batch.image[..., 16:] = 0
    mirror = FaceAugment(flip=1, rotate=0, scale=0, shift=0, colour=0, degrade=0)(batch, [(0,), (1,), (2,)])
    expected = batch.landmarks[:, torch.as_tensor(MIRROR)] * torch.tensor([-1.0, 1.0]) + torch.tensor([31.0, 0.0])
    assert torch.allclose(mirror.landmarks, expected, atol=1e-4)
    assert torch.equal(mirror.image, batch.image.flip(-1))
    assert torch.allclose(mirror.pose, torch.tensor([-10.0, 5.0, -3.0]), atol=1e-3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"train_subjects": 0}, "train_subjects must be in 1"),
        ({"test_subjects": 2_000_000}, "test_subjects must be in 1"),
        ({"frames": 1}, "needs frames and eval_frames of at least 2"),
        ({"scenes": 0}, "scenes, frames and eval_frames must be at least 1"),
        ({"size": 16}, "at least 32 pixels"),
        ({"poses": 5}, "poses must be in 0..frames"),
        ({"batch_size": 0}, "batch sizes must be at least 1"),
        ({"augment": FaceAugment()}, "augment is for mode 'frames'"),
        (
            {"renderer": "lit_faces.rendering.renderer.NoRenderer"},
            "did you mean lit_faces.rendering.renderer.FaceRenderer",
        ),
    ],
)
def test_bad_arguments_are_refused(tmp_path: Path, options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        faces(tmp_path, **options)


def test_an_epoch_smaller_than_a_batch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="lower batch_size"):
        faces(tmp_path, batch_size=64).train_dataloader()


def test_a_full_disk_is_noticed_before_rendering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(OSError, match="LIT_FACES_CACHE"):
        faces(tmp_path)
    assert FakeRenderer.calls == []


def test_a_disk_that_fills_up_is_an_error_that_names_the_file_and_no_bus_error(tmp_path: Path) -> None:
    with files_of_at_most(100_000), pytest.raises(OSError, match="File too large") as caught:
        faces(tmp_path)  # its pictures have 123,008 bytes
    assert caught.value.errno == errno.EFBIG and str(caught.value.filename).endswith("image.npy")
    assert FakeRenderer.calls == [], "noticed before anything was rendered"
    assert len(faces(tmp_path).train_set.cache) == 40, "and the same goes on when there is room"


def test_the_rows_of_a_cache_have_their_blocks_before_they_are_written(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(FakeRenderer, "fail_after", 0)
    with pytest.raises(KeyboardInterrupt):
        faces(tmp_path)
    (file,) = (tmp_path / "rendered").glob("*.partial/image.npy")
    assert file.stat().st_size == 123_008 <= file.stat().st_blocks * 512


def test_a_complete_cache_is_read_without_a_lock_or_leave_to_write(tmp_path: Path) -> None:
    first = faces(tmp_path)
    for lock in (tmp_path / "rendered").glob("*.lock"):
        lock.unlink()
    before = sorted(tmp_path.rglob("*"))
    assert seen(faces(tmp_path).train_dataloader()) == seen(first.train_dataloader())
    assert sorted(tmp_path.rglob("*")) == before


def test_two_processes_fill_one_cache_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    two = [context.Process(target=_fill, args=(tmp_path, results)) for _ in range(2)]
    for process in two:
        process.start()
    for process in two:
        process.join(60)
        assert process.exitcode == 0
    assert results.get() + results.get() == 40 + 12 + 18


def _fill(folder: Path, results) -> None:
    torch.set_num_threads(1)
    faces(folder)
    results.put(sum(FakeRenderer.calls))


def test_people_stand_together_at_rest_first_and_in_other_scenes(tmp_path):
    module = RenderedFaces(
        mode="people", size=32, train_subjects=3, val_subjects=1, test_subjects=1, scenes=2, frames=2, eval_frames=2,
        together=3, batch_size=6, cache_dir=str(tmp_path),
    )  # fmt: skip
    module.setup("fit")
    batch = module.train_set.__getitems__(range(40, 52))
    groups = [batch.subject[k : k + 3] for k in range(0, 12, 3)]
    assert all(len(set(group)) == 1 for group in groups) and len(set(batch.subject)) > 1
    levels = batch.au_intensity.nan_to_num(0).sum(1)
    assert (levels[0::3] == 0).float().mean() >= 0.5 and (levels[1::3] > 0).any()
    again = module.train_set.__getitems__(range(40, 52))
    assert torch.equal(again.image, batch.image)
    with pytest.raises(ValueError, match="together"):
        RenderedFaces(mode="people", together=4, batch_size=6)
