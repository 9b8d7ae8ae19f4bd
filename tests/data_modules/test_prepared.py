"""Streams of prepared sets: who is in which split, what a batch holds, DDP and resuming in mid-epoch."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from data_modules.mixture import Sequential
from data_modules.prepared import Faces, PreparedFaces, Source
from data_modules.transforms import FaceAugment
from lit_faces.core.alignment import mirror_landmarks
from lit_faces.core.facs import AU_INDEX
from lit_faces.core.shards import ShardSet, ShardWriter, write_index

ROOT = Path(__file__).resolve().parents[2]
SIZE = 32


def write_set(
    out: Path, people: dict[str, int], codes: tuple[int, ...] = (6, 12), splits: dict[str, str] | None = None
) -> Path:
    """A prepared set of flat pictures: the red value is the frame's number, the green one the person's."""
    import cv2

    out.mkdir(parents=True)
    chance = np.random.default_rng(0)
    for number, (name, count) in enumerate(people.items()):
        writer = ShardWriter(out, number)
        for frame in range(count):
            picture = np.full((SIZE, SIZE, 3), (0, number, frame), np.uint8)  # BGR for cv2
            grades = np.full(19, np.nan, np.float32)
            grades[[AU_INDEX[au] for au in codes]] = frame % 6
            row = {
                "subject": name, "clip": f"{name}-clip", "frame": frame, "source": out.name,
                "split": (splits or {}).get(name, ""), "emotion": frame % 8, "au_intensity": grades,
                "au_occurrence": np.where(np.isnan(grades), np.nan, grades >= 2).astype(np.float32),
                "landmarks": chance.uniform(4, 28, 136).astype(np.float32), "pose": np.zeros(3, np.float32),
            }  # fmt: skip
            writer.add(f"{number}-{frame}", cv2.imencode(".png", picture)[1].tobytes(), "png", row)
        writer.close()
    write_index(out, len(people), {"title": out.name, "set": out.name, "size": SIZE, "aus": list(codes)})
    return out


DISFA = {f"disfa:{name}": 6 for name in ("SN001", "SN002", "SN013", "SN018", "SN003", "SN029")}
BP4D = {f"bp4d:{name}": 5 for name in ("F001", "M007", "M011", "F003", "F007", "F015")}


@pytest.fixture
def sets(tmp_path: Path) -> tuple[Path, Path]:
    return write_set(tmp_path / "disfa", DISFA), write_set(tmp_path / "bp4d", BP4D, (6, 17))


def module(*sources: Source, **arguments) -> PreparedFaces:
    data = PreparedFaces(list(sources), **{"batch_size": 4, **arguments})
    data.prepare_data()
    data.setup("fit")
    return data


def everything(loader) -> list[tuple[str, int]]:
    return [(who, int(frame)) for batch in loader for who, frame in zip(batch.subject, batch.frame)]


def test_a_batch_holds_what_was_written(sets) -> None:
    faces = ShardSet(sets[0])
    batch = faces.gather([7, 0, 35])
    assert batch.image[:, 0, 0, 0].tolist() == [1, 0, 5] and batch.image[:, 1, 0, 0].tolist() == [1, 0, 5]
    assert batch.subject == ["disfa:SN002", "disfa:SN001", "disfa:SN029"] and batch.frame.tolist() == [1, 0, 5]
    assert torch.equal(batch.au_intensity[:, AU_INDEX[6]], torch.tensor([1.0, 0.0, 5.0]))
    assert batch.au_intensity[:, AU_INDEX[17]].isnan().all()


@pytest.mark.parametrize("part", [1, 2, 3])
def test_people_are_in_one_split_and_the_held_out_part_is_tested(sets, part: int) -> None:
    data = module(Source(str(sets[0])), Source(str(sets[1])), held_out_part=part)
    seen = {name: {who for who, _ in everything(loader)} for name, loader in (
        ("train", data.train_dataloader()), ("val", data.val_dataloader()), ("test", data.test_dataloader()))}  # fmt: skip
    assert seen["train"] | seen["val"] | seen["test"] == set(DISFA) | set(BP4D)
    assert sum(map(len, seen.values())) == 12
    tested = list(DISFA)[2 * part - 2 : 2 * part] + list(BP4D)[2 * part - 2 : 2 * part]
    assert seen["test"] == set(tested) and len(seen["val"]) == 2


def test_partly_coded_aus_meet_by_name(sets) -> None:
    data = module(Source(str(sets[0])), Source(str(sets[1])))
    for batch in data.train_dataloader():
        disfa = torch.tensor([who.startswith("disfa") for who in batch.subject])
        assert batch.au_intensity[:, AU_INDEX[6]].isfinite().all()
        assert batch.au_intensity[disfa][:, AU_INDEX[17]].isnan().all()
        assert batch.au_intensity[~disfa][:, AU_INDEX[12]].isnan().all()
        assert batch.image[:, 0, 3, 3].tolist() == batch.frame.tolist(), "labels and pictures stay together"
    only = module(Source(str(sets[0])), aus=[12])
    batch = next(iter(only.train_dataloader()))
    assert batch.au_intensity[:, AU_INDEX[6]].isnan().all() and batch.au_intensity[:, AU_INDEX[12]].isfinite().all()


def test_weights_are_shares_of_the_stream(sets) -> None:
    data = module(Source(str(sets[0]), weight=3), Source(str(sets[1]), weight=1), length=40)
    came = [who.partition(":")[0] for who, _ in everything(data.train_dataloader())]
    assert came.count("disfa") == 30 and came.count("bp4d") == 10


def test_whoever_is_tested_anywhere_trains_nowhere(sets, tmp_path: Path, capsys) -> None:
    plus = write_set(tmp_path / "plus", {"disfa:SN001": 4, "disfa:SN003": 4})
    data = module(Source(str(plus), use="train"), Source(str(sets[0]), use="test"), Source(str(sets[1]), use="train"))
    assert {who for who, _ in everything(data.train_dataloader())} == set(BP4D)
    assert {who for who, _ in everything(data.test_dataloader())} == set(DISFA)
    assert "left out of train, being in test or val of another set: 2 people" in capsys.readouterr().out
    with pytest.raises(ValueError, match="no source has people to choose by"):
        data.val_dataloader()


def test_cross_set_validation_comes_from_the_training_set(sets) -> None:
    data = module(Source(str(sets[1]), use="folds_val"), Source(str(sets[0]), use="test"), held_out_part=2)
    assert {who for who, _ in everything(data.val_dataloader())} == {"bp4d:M011", "bp4d:F003"}
    assert {who for who, _ in everything(data.train_dataloader())} == set(BP4D) - {"bp4d:M011", "bp4d:F003"}
    assert {who for who, _ in everything(data.test_dataloader())} == set(DISFA)


def test_leave_one_subject_out(sets) -> None:
    data = module(Source(str(sets[0])), held_out_subject="SN018")
    assert {who for who, _ in everything(data.test_dataloader())} == {"disfa:SN018"}


def test_own_splits(tmp_path: Path) -> None:
    names = {f"raf:{i}": 2 for i in range(10)}
    own = write_set(tmp_path / "raf", names, splits={n: "test" if i < 3 else "train" for i, n in enumerate(names)})
    data = module(Source(str(own), use="own"), val_share=0.3)
    assert {who for who, _ in everything(data.test_dataloader())} == set(list(names)[:3])
    assert len({who for who, _ in everything(data.val_dataloader())}) == 2
    none = write_set(tmp_path / "none", names)
    with pytest.raises(ValueError, match="no split of its own"):
        module(Source(str(none), use="own"))


def test_frames_are_thinned_within_a_recording(sets) -> None:
    data = module(Source(str(sets[0]), every=3), eval_every=4)
    assert {frame for _, frame in everything(data.train_dataloader())} == {0, 3}
    assert {frame for _, frame in everything(data.test_dataloader())} == {0, 4}


@pytest.mark.parametrize("workers", [0, 2])
def test_stopped_in_mid_epoch_it_goes_on_where_it_stood(sets, workers: int) -> None:
    def loader():
        data = module(Source(str(sets[0]), weight=1), Source(str(sets[1]), weight=2), num_workers=workers, seed=3)
        stream = data.train_dataloader()
        stream.batch_sampler.set_epoch(2)
        return stream

    whole = [list(zip(batch.subject, batch.frame.tolist())) for batch in loader()]
    first = loader()
    seen = [list(zip(b.subject, b.frame.tolist())) for b in itertools.islice(first, 5)]
    state = first.state_dict()
    second = loader()
    second.load_state_dict(state)
    rest = [list(zip(batch.subject, batch.frame.tolist())) for batch in second]
    assert seen + rest == whole


def test_augmentation_follows_from_the_draw_alone_and_flips_left_and_right(sets) -> None:
    rows = [np.arange(36)]
    plain = Faces([ShardSet(sets[0])], rows)
    augment = FaceAugment(flip=1.0, rotate=0, scale=0, shift=0, colour=0, degrade=0)
    flipped = Faces([ShardSet(sets[0])], rows, augment=augment)
    draws = [(0, 3, 0), (0, 5, 1)]
    before, after = plain.__getitems__(draws), flipped.__getitems__(draws)
    assert torch.allclose(after.landmarks, mirror_landmarks(before.landmarks, SIZE), atol=1e-3)
    assert torch.equal(after.au_intensity.nan_to_num(-1), before.au_intensity.nan_to_num(-1)), "label-safe"
    random = Faces([ShardSet(sets[0])], rows, augment=FaceAugment(), seed=1)
    together, alone = random.__getitems__(draws), random.__getitems__(draws[1:])
    assert torch.equal(together.image[1:], alone.image)
    assert not torch.equal(random.__getitems__([(0, 5, 2)]).image, alone.image), "the next time it looks otherwise"


def test_object_stores_are_fetched_once_and_checked(sets, tmp_path: Path, monkeypatch) -> None:
    import fsspec

    store = fsspec.filesystem("memory")
    store.put(str(sets[0]), "/bucket/disfa", recursive=True)
    monkeypatch.setenv("LIT_FACES_CACHE", str(tmp_path / "cache"))
    remote, local = ShardSet("memory://bucket/disfa"), ShardSet(sets[0])
    assert torch.equal(remote.gather([0, 20]).image, local.gather([0, 20]).image)
    assert len(list((tmp_path / "cache").rglob("*.tar"))) == 2, "the shards that were needed, and no more"
    store.rm("/bucket/disfa/shard-00000.tar")
    assert torch.equal(ShardSet("memory://bucket/disfa").gather([1]).image, local.gather([1]).image), "kept"
    store.pipe("/bucket/disfa/shard-00004.tar", b"other")
    with pytest.raises(ValueError, match="not what the manifest says"):
        ShardSet("memory://bucket/disfa").gather([24])
    with pytest.raises(FileNotFoundError, match="not there"):
        ShardSet("memory://bucket/nothing")
    store.rm("/bucket", recursive=True)


@pytest.mark.parametrize(
    ("sources", "arguments", "says"),
    [
        ([], {}, "at least one"),
        ([Source("a", use="fold")], {}, "use: expected one of folds"),
        ([Source("a", weight=1), Source("b")], {}, "every training source a weight"),
        ([Source("a", every=0)], {}, "every"),
        ([Source("a")], {"held_out_part": 4}, "held_out_part"),
        ([Source("a")], {"aus": [3]}, "unknown AU 3"),
    ],
)
def test_what_cannot_be_is_refused(sources, arguments: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        PreparedFaces(sources, **arguments)


def test_a_set_that_is_not_there_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"python -m lit_faces\.prepare NAME"):
        PreparedFaces([Source(str(tmp_path))]).prepare_data()


def test_evaluation_in_order(sets) -> None:
    faces = Faces([ShardSet(sets[0])], [np.arange(36)])
    loader = DataLoader(faces, batch_sampler=Sequential(faces.sizes, 8), collate_fn=lambda batch: batch)
    assert [frame for batch in loader for frame in batch.frame.tolist()] == [
        frame for _ in range(6) for frame in range(6)
    ]


TRAINING = """
import os, sys, json, torch
import pytorch_lightning as pl
sys.path.insert(0, {root!r})
from data_modules.prepared import PreparedFaces, Source

class Watch(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.zeros(1))
        self.stop = {stop}
    def training_step(self, batch, i):
        with open({log!r} + f".{{self.global_rank}}", "a") as f:
            f.write(json.dumps([self.current_epoch, list(zip(batch.subject, batch.frame.tolist()))]) + "\\n")
        return self.w.sum() * batch.image.float().mean()
    def on_train_batch_end(self, outputs, batch, i):
        if self.stop and self.current_epoch == 1 and i == 2:
            self.trainer.save_checkpoint({checkpoint!r})
            self.trainer.strategy.barrier()
            os._exit(0)
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

data = PreparedFaces([Source({disfa!r}), Source({bp4d!r})], batch_size=3, val_share=0.0)
trainer = pl.Trainer(max_epochs=2, accelerator="cpu", devices=2, strategy="ddp", use_distributed_sampler=False,
                     logger=False, enable_checkpointing=False, enable_progress_bar=False, limit_val_batches=0,
                     enable_model_summary=False, default_root_dir={folder!r})
trainer.fit(Watch(), datamodule=data, ckpt_path={resume!r}, weights_only=True)
"""


def read_log(log: Path) -> dict[int, list]:
    """Epoch -> what both ranks saw in it, batch by batch."""
    import json

    seen: dict[int, list] = {}
    for rank in (0, 1):
        path = log.with_name(f"{log.name}.{rank}")
        for line in path.read_text().splitlines():
            epoch, faces = json.loads(line)
            seen.setdefault(epoch, []).append((rank, [tuple(face) for face in faces]))
    return seen


def test_two_processes_see_each_face_once_and_resume_in_mid_epoch(sets, tmp_path: Path) -> None:
    def fit(name: str, stop: bool = False, resume: Path | None = None) -> Path:
        log = tmp_path / name
        script = tmp_path / f"{name}.py"
        script.write_text(
            TRAINING.format(
                root=str(ROOT), stop=stop, log=str(log), checkpoint=str(tmp_path / "mid.ckpt"), disfa=str(sets[0]),
                bp4d=str(sets[1]), folder=str(tmp_path), resume=str(resume) if resume else None,
            )
        )  # fmt: skip
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "NCCL_P2P_DISABLE": "1"}
        done = subprocess.run(
            [sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=200
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return log

    whole = read_log(fit("whole"))
    expected = sorted((who, frame) for who in list(DISFA)[:4] for frame in range(6))
    expected += sorted((who, frame) for who in list(BP4D)[:4] for frame in range(5))
    for epoch in (0, 1):
        assert sorted(face for _, faces in whole[epoch] for face in faces) == sorted(expected)
        assert {rank for rank, _ in whole[epoch]} == {0, 1}
    stopped = read_log(fit("stopped", stop=True))
    resumed = read_log(fit("resumed", resume=tmp_path / "mid.ckpt"))
    assert len(stopped[1]) == 6 and 0 not in resumed
    for rank in (0, 1):
        both = [faces for r, faces in stopped[1] if r == rank] + [faces for r, faces in resumed[1] if r == rank]
        assert both == [faces for r, faces in whole[1] if r == rank], "nothing missed, nothing twice"


@pytest.mark.parametrize("threads", [2, 3, 50])
def test_threads_decode_the_same(sets, threads: int) -> None:
    faces, rows = ShardSet(sets[0]), [30, 2, 2, 17, 35, 0, 9]
    alone, together = faces.gather(rows), faces.gather(rows, threads=threads)
    assert torch.equal(alone.image, together.image) and alone.subject == together.subject
