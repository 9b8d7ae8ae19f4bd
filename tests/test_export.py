"""A detector as a file of its own: it gives what the detector gives, and says how to use it."""

import importlib.util
import json

import numpy as np
import pytest
import torch

from lit_faces.core.facs import AU_INDEX
from lit_faces.export import main
from lit_faces.reading.exporting import KINDS
from lit_faces.tasks.au_detector import load_detector


@pytest.fixture(scope="module")
def crops():
    return torch.randint(0, 256, (3, 3, 128, 128), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def run(path, kind, crops):
    if kind == "torchscript":
        return torch.jit.load(str(path))(crops)
    if kind == "torch.export":
        return torch.export.load(str(path)).module()(crops)
    import onnxruntime

    return [torch.from_numpy(one) for one in onnxruntime.InferenceSession(str(path)).run(None, {"crop": crops.numpy()})]


@pytest.mark.parametrize("kind", list(KINDS))
def test_the_file_reads_as_the_detector_less_the_zero(tmp_path, crops, kind):
    if kind == "onnx" and not all(map(importlib.util.find_spec, ("onnxruntime", "onnxscript"))):
        pytest.skip("needs lit_faces[onnx]")
    (tmp_path / "zero.json").write_text('{"AU06": 0.5}')
    out = tmp_path / f"generic{KINDS[kind]}"
    assert main(["--to", kind, "--out", str(out), "--zero", str(tmp_path / "zero.json")]) == 0
    detector = load_detector("generic")
    reading = detector.predict(crops)
    intensity = reading.intensity.clone()
    intensity[:, AU_INDEX[6]] = (intensity[:, AU_INDEX[6]] - 0.5).clamp_min(0)
    found = run(out, kind, crops.float())
    for one, other in zip(found, (intensity, reading.occurrence.sigmoid(), reading.expression.softmax(1)), strict=True):
        assert torch.allclose(one, other, atol=1e-4)
    said = json.loads(out.with_suffix(".json").read_text())
    assert said["input"]["shape"] == ["batch", 3, 128, 128] and said["zero"]["AU06"] == 0.5
    assert said["outputs"] == ["intensity", "occurrence", "expression"]
    present = (found[1].numpy() >= np.array(said["present_from"]["threshold"])).astype(float)
    assert np.array_equal(present, detector.occurs(reading).numpy())


def test_what_is_missing_is_said(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    assert main(["--out", str(tmp_path / "a.onnx")]) == 2
    assert "pip install 'lit_faces[onnx]'" in capsys.readouterr().err and not list(tmp_path.iterdir())
    assert main(["--to", "coreml", "--out", str(tmp_path / "a")]) == 2
    assert main(["--to", "onnx", "--zero", "auto", "--out", str(tmp_path / "a")]) == 2
    assert main(["--to", "torchscript", "--int8", "--out", str(tmp_path / "a")]) == 2


def test_eight_bits_are_refused_where_they_cost(tmp_path, capsys, monkeypatch):
    for name in ("onnxruntime", "onnxscript"):
        pytest.importorskip(name)
    from lit_faces.reading import quantising

    monkeypatch.setattr(quantising, "_SCALES", (0, 4, 2))
    monkeypatch.setattr(quantising, "_MEASURED", (50, 6, 4))
    out = tmp_path / "small.onnx"
    assert main(["--int8", "--out", str(out)]) == 0
    said = json.loads(out.with_suffix(".json").read_text())
    lost = said["icc_on_rendered_strangers"]
    assert lost["before"] - lost["after"] <= 0.005 and out.stat().st_size < 2_000_000
    monkeypatch.setattr(quantising, "MOST", -1.0)
    assert main(["--int8", "--out", str(tmp_path / "b.onnx")]) == 2
    assert "costs" in capsys.readouterr().err and not (tmp_path / "b.onnx").exists()


def test_an_ending_of_another_kind_is_refused(tmp_path, capsys):
    assert main(["--to", "torchscript", "--out", str(tmp_path / "a.onnx")]) == 2
    assert "ends as onnx does; --to torchscript writes .pt" in capsys.readouterr().err and not list(tmp_path.iterdir())
