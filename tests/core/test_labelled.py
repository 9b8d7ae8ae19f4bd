"""Labelled sets from disk: what ``render set`` writes is read back, and every bad cell has its own message."""

import csv
import tarfile
from pathlib import Path

import pytest
import torch

from lit_faces.core.facs import AU_INDEX
from lit_faces.core.labelled import read_labelled
from lit_faces.rendering.renderer import FaceRenderer
from lit_faces.rendering.sets import write_folder, write_shards


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[FaceRenderer, Path, Path]:
    renderer, root = FaceRenderer(64, seed=5), tmp_path_factory.mktemp("sets")
    write_folder(renderer, root / "folder", 6, frames_per_subject=3, progress=False)
    write_shards(renderer, root / "shards", 6, frames_per_subject=3, progress=False)
    return renderer, root / "folder", root / "shards"


@pytest.mark.parametrize("which", [1, 2])
def test_what_was_rendered_is_read_back(sets, which: int) -> None:
    truth = sets[0].render(torch.arange(6) // 3, torch.arange(6) % 3)
    found = read_labelled(sets[which], size=64)
    assert torch.equal(found.image, truth.image)
    assert torch.allclose(found.au_intensity, truth.au_intensity, atol=1e-3)
    assert torch.allclose(found.landmarks, truth.landmarks, atol=1e-2)
    assert torch.allclose(found.pose, truth.pose, atol=1e-3)
    assert found.subject == truth.subject and torch.equal(found.emotion, truth.emotion)
    assert len(read_labelled(sets[which], size=64, limit=2)) == 2


def test_other_sizes_move_the_landmarks_too(sets) -> None:
    small, large = read_labelled(sets[1], 64), read_labelled(sets[1], 128)
    assert large.image.shape[-1] == 128
    assert torch.allclose((large.landmarks + 0.5) / 2, small.landmarks + 0.5, atol=1e-4)


def table(folder: Path, rows: list[dict], sets) -> Path:
    folder.mkdir()
    (folder / "a.png").write_bytes((sets[1] / "images" / "000000.png").read_bytes())
    with (folder / "labels.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


def test_a_foreign_table_needs_a_file_column_only(tmp_path: Path, sets) -> None:
    batch = read_labelled(table(tmp_path / "a", [{"file": "a.png", "AU06": "2.5", "au_12": ""}], sets), 64)
    assert batch.au_intensity[0, AU_INDEX[6]] == 2.5 and batch.au_occurrence[0, AU_INDEX[6]] == 1
    assert int(batch.au_intensity.isnan().sum()) == 18 and batch.landmarks.isnan().all() and batch.emotion[0] == -1


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"file": "a.png", "au6": "9"}, r"line 2: column au6: expected 0\.\.5 .*found 9"),
        ({"file": "a.png", "au6": "much"}, "line 2: column au6: expected a number"),
        ({"file": "a.png", "emotion": "joy"}, "column emotion: expected one of neutral, happiness"),
        ({"picture": "a.png"}, r"labels.csv, line 1: there is no column 'file' \(found: picture\)"),
        ({"file": "", "au6": "1"}, "line 2: column file is empty"),
        ({"file": "b.png"}, r"line 2: the picture .*b\.png is missing"),
        ({"file": "labels.csv"}, "not a picture that can be read"),
    ],
)
def test_bad_tables(tmp_path: Path, sets, row: dict, words: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        read_labelled(table(tmp_path / "a", [row], sets), 64)


def test_bad_places(tmp_path: Path, sets) -> None:
    with pytest.raises(FileNotFoundError, match=r"did you mean .*folder"):
        read_labelled(sets[1].with_name("folderr"))
    (tmp_path / "shard-00000.tar").write_bytes(b"no tar")
    with pytest.raises(ValueError, match="damaged or cut short"):
        read_labelled(tmp_path)
    with tarfile.open(sets[2] / "shard-00000.tar") as whole, tarfile.open(tmp_path / "shard-00000.tar", "w") as cut:
        for member in whole.getmembers()[:3]:
            cut.addfile(member, whole.extractfile(member))
    with pytest.raises(ValueError, match="000001 has no picture or no CSV"):
        read_labelled(tmp_path, 64)
    with tarfile.open(tmp_path / "shard-00000.tar", "w"):
        pass
    with pytest.raises(ValueError, match="the set is empty"):
        read_labelled(tmp_path)


def test_prepared_sets_are_read_too(sets, tmp_path: Path) -> None:
    from lit_faces.prepare import main

    arguments = [
        "--root",
        str(sets[1]),
        "--out",
        str(tmp_path / "out"),
        "--size",
        "64",
        "--encoding",
        "png",
        "--jobs",
        "1",
    ]
    assert main(["generated", *arguments]) == 0
    direct, prepared = read_labelled(sets[1], 64), read_labelled(tmp_path / "out", 64)
    assert torch.equal(prepared.image, direct.image) and torch.equal(prepared.au_intensity, direct.au_intensity)
    assert [name.rpartition(":")[2] for name in prepared.subject] == [n.rpartition(":")[2] for n in direct.subject]
    assert len(read_labelled(tmp_path / "out", 64, limit=2)) == 2
