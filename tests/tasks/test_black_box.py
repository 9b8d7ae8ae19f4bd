"""Detectors of one's own, from the command line: networks, functions, timm models; and what cannot be, in a sentence."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lit_faces import calibrate, evaluate, predict
from lit_faces.core.facs import AU_INDEX, AU_KEYS
from lit_faces.core.weights import save_weights
from lit_faces.core.words import UsageError
from lit_faces.persons.readers import person_reader
from lit_faces.rendering.renderer import FaceRenderer
from lit_faces.rendering.sets import write_folder
from lit_faces.tasks.au_detector import AUDetector
from lit_faces.tasks.black_box import BlackBox, Words, code_of, is_own, open_detector

MINE = """
import numpy as np
import pytorch_lightning as pl
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, outputs: int = 3) -> None:
        super().__init__()
        self.linear = nn.Linear(3, outputs)

    def forward(self, image):
        return self.linear(image.mean((2, 3)))


class Module(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, image):
        found = self.linear(image.mean((2, 3)))
        return {"AU06": found[:, 0], "AU12": found[:, 1], "jaw": found[:, 1]}


def light(picture):
    assert picture.dtype == np.uint8 and picture.shape == (64, 64, 3)
    return {"AU06": picture.mean() / 255, "au12": float("nan"), "jawOpen": 1.0}


class Reader:
    def __init__(self, value: float) -> None:
        self.value = value

    def __call__(self, picture):
        return [self.value, 0.0]


def nothing(picture):
    return {"smile": 1.0}


NUMBER = 3
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    (tmp_path / "mine_of_tests.py").write_text(MINE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    yield "mine_of_tests"
    sys.modules.pop("mine_of_tests", None)


@pytest.fixture
def images():
    return torch.randint(0, 256, (3, 3, 64, 64), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def words(path, **arguments):
    return path + json.dumps(arguments)


def test_a_network_reads_the_aus_that_its_outputs_are(mine, images, tmp_path):
    state = {"module.linear.weight": torch.zeros(3, 3), "module.linear.bias": torch.tensor([1.0, 2.5, 9.0])}
    save_weights(tmp_path / "net.safetensors", state, {})
    detector = open_detector(words(f"{mine}.Net", weights="net.safetensors", aus=[1, "AU12", 43], size=32))
    found = detector.predict(images).intensity
    assert detector.size == 32 and found.shape == (3, 19)
    for number, value in ((1, 1.0), (12, 2.5), (43, 5.0)):
        torch.testing.assert_close(found[:, AU_INDEX[number]], torch.full((3,), value))
    assert int(found.isfinite().sum()) == 9
    occurs = detector.occurs(detector.predict(images))
    assert occurs[0, AU_INDEX[12]] == 1 and occurs[0, AU_INDEX[1]] == 0 and bool(occurs[0, AU_INDEX[6]].isnan())


def test_a_lightning_module_from_its_checkpoint(mine, images, tmp_path):
    state = {"linear.weight": torch.zeros(2, 3), "linear.bias": torch.tensor([0.0, -20.0])}
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "last.ckpt")
    found = open_detector(words(f"{mine}.Module", weights="last.ckpt", logits=True)).predict_au(images, mirror=True)
    torch.testing.assert_close(found[:, AU_INDEX[6]], torch.full((3,), 2.5))
    assert float(found[:, AU_INDEX[12]].max()) < 1e-3


def test_timm_models_and_functions(mine, images):
    found = open_detector(words("timm:resnet10t", aus=[6, 17], size=32)).predict(images).intensity
    assert int(found.isfinite().sum()) == 6
    found = open_detector(words(f"{mine}.light", most=1.0, size=64)).predict(images).intensity
    expected = images.float().mean((1, 2, 3)) / 255 * 5
    torch.testing.assert_close(found[:, AU_INDEX[6]], expected)
    assert int(found.isfinite().sum()) == 3
    found = open_detector(words(f"{mine}.Reader", init={"value": 3.0}, aus=[4, 5])).predict(images).intensity
    assert found[0, AU_INDEX[4]] == 3.0 and found[0, AU_INDEX[5]] == 0.0


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("mine_of_tests.Nett", "no 'Nett'"),
        ("no_such_module.Net", "no module 'no_such_module'"),
        ("subprocess.Popen", "refused"),
        ("mine_of_tests.NUMBER", "something that can be called"),
        ("mine_of_tests.Net{aus: 1}", "a JSON object"),
        ('mine_of_tests.Net{"auss": [1]}', "no argument 'auss'; did you mean aus"),
        ('mine_of_tests.Net{"aus": [3]}', "3 is none of"),
        ('mine_of_tests.Net{"aus": [1, 1]}', "each once"),
        ('mine_of_tests.Net{"size": "big"}', "whole number from 16"),
        ('mine_of_tests.Net{"most": 0}', "above 0"),
        ('mine_of_tests.Net{"mean": [1]}', "three numbers"),
        ('mine_of_tests.Reader{"init": {"vlaue": 1}}', "making it failed: TypeError"),
        ('mine_of_tests.light{"weights": "x.safetensors"}', "no place for weights"),
        ("timm:resnet1000", "timm knows no model"),
        ("timm:resnet10t", "say which AUs"),
    ],
)
def test_what_cannot_be_is_said(mine, word, said):
    with pytest.raises(UsageError, match=said):
        open_detector(word)


def test_what_a_reader_gives_must_be_aus(mine, images):
    with pytest.raises(UsageError, match="gave smile; expected names"):
        open_detector(f"{mine}.nothing").predict(images)
    with pytest.raises(UsageError, match=r"gave \(3, 3\) of 3 pictures"):
        open_detector(words(f"{mine}.Net", aus=[1, 2])).predict(images)
    with pytest.raises(FileNotFoundError, match="no such weights"):
        open_detector(words(f"{mine}.Net", weights="gone.safetensors", aus=[1, 2, 4]))
    save_weights(Path("other.safetensors"), {"linear.weight": torch.zeros(9, 9)}, {})
    with pytest.raises(ValueError, match="linear"):
        open_detector(words(f"{mine}.Net", weights="other.safetensors", aus=[1, 2, 4]))


def test_words_paths_and_class_paths_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.b").mkdir()
    for word in ("generic", "packaged", "runs/x/detector.safetensors", "detector.safetensors", "a.b", "anna"):
        assert not is_own(word)
    for word in ("a.b.Net", 'a.Net{"aus": [1]}', "timm:resnet10t"):
        assert is_own(word)
    assert code_of("a.b.Net") == code_of("a.b.Net{}") != code_of('a.b.Net{"aus": [1]}')
    assert Words.parse("a.b.Net").code.startswith("Net-")


# -- end to end -------------------------------------------------------------------------------------------------------


@pytest.fixture
def photo(tmp_path):
    au = torch.zeros(1, 19)
    face = FaceRenderer(128, seed=55).render(torch.ones(1, dtype=torch.int64), torch.zeros(1).long(), au=au).image[0]
    picture = np.pad(face.permute(1, 2, 0).numpy(), ((60, 60), (60, 60), (0, 0)), mode="edge")
    Image.fromarray(picture).resize((372, 372)).save(tmp_path / "anna.png")
    return tmp_path / "anna.png"


def test_a_black_box_is_calibrated_and_reads_less_its_zero(mine, photo, tmp_path, capsys):
    reader = words(f"{mine}.light", most=1.0, size=64)
    given = [str(photo), "--out", "anna", "--detector", reader, "--source-au", "neutral"]
    assert calibrate.main(given) == 0
    assert calibrate.main([str(photo), "--out", "anna"]) == 2  # of another detector: said, not mixed
    assert "zero of another detector" in capsys.readouterr().err
    before, after = open_detector(reader), person_reader(Path("anna"), reader)
    crop = torch.full((1, 3, 64, 64), 200, dtype=torch.uint8)
    gone = float(before.predict_au(crop)[0, AU_INDEX[6]] - after(crop)[0, AU_INDEX[6]])
    assert 0.2 < gone < 3.9
    assert predict.main([str(photo), "--out", "aus.csv", "--detector", reader, "--zero", "anna/zero.json"]) == 0
    row = dict(zip(*(line.split(",") for line in Path("aus.csv").read_text().splitlines()[:2])))
    assert row["AU06"] and row["AU12"] == row["AU12_c"] == ""
    assert json.loads(Path("aus.json").read_text())["about"]["detector"].startswith("light-")


def test_a_black_box_is_evaluated_on_the_aus_that_it_has(mine, tmp_path, capsys):
    write_folder(FaceRenderer(64, seed=3), tmp_path / "faces", 6, 3)
    reader = words(f"{mine}.light", most=1.0, size=64)
    assert evaluate.main(["--data", "faces", "--detector", reader, "--resamples", "0"]) == 0
    said = capsys.readouterr().out
    assert "AU06" in said and "AU17" not in said


def test_tables_of_other_tools_are_set_to_zero(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    head = "frame, face_id, timestamp, confidence, success, AU06_r, AU12_r, AU45_r\n"
    Path("rest.csv").write_text(head + "".join(f"{k},0,0.0,0.9,1,1.5,0.2,0.0\n" for k in range(1, 6)))
    Path("monday.csv").write_text(head + "1,0,0.0,0.9,1,3.5,2.0,1.0\n2,0,0.0,0.1,0,0,0,0\n")
    Path("slopes.json").write_text(json.dumps({"all": 1.0, "slope": {"AU12": 0.5}}))
    words_ = ["--readings", "rest.csv", "--correct", "monday.csv", "--out", "anna", "--slopes", "slopes.json"]
    assert calibrate.main(words_) == 0
    lines = [line.split(",") for line in Path("anna/monday.csv").read_text().splitlines()]
    first, second = (dict(zip(lines[0], line)) for line in lines[1:])
    assert float(first["AU06"]) == pytest.approx(2.0) and float(first["AU12"]) == pytest.approx(1.9)
    assert float(first["AU43"]) == pytest.approx(1.0) and first["AU17"] == ""
    assert second["success"] == "0" and second["AU06"] == ""
    assert calibrate.main(["--readings", "rest.csv", "--correct", "anna/monday.csv", "--out", "b"]) == 2
    assert "a zero is of one tool" in capsys.readouterr().err


def test_a_made_detector_serves_the_python_interface(images):
    from lit_faces.reading.detector import Detector

    box = BlackBox(lambda pictures: torch.full((len(pictures), len(AU_KEYS)), 2.0), 32, "two")
    assert Detector(box).crops(images[0]).intensity["AU06"] == 2.0
    assert Detector(AUDetector("aligned_face_small", size=32).eval()).crops(images[0]).faces


def test_arguments_may_be_longer_than_a_files_name() -> None:
    assert is_own("my.Net" + json.dumps({"aus": list(range(200))})) and not is_own("x" * 300)
