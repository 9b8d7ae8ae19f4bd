"""python -m lit_faces.report: runs side by side in one file."""

import json

import pytest
import torch

from lit_faces import report
from lit_faces.core.facs import AU_KEYS
from lit_faces.reports.pictures import save_png


def run_folder(path, icc, revision):
    from PIL import Image

    path.mkdir(parents=True)
    results = {f"test/icc/{key}": icc for key in AU_KEYS} | {"test/icc/mean": icc, "test/l1": 0.1, "test/nan": None}
    (path / "results.json").write_text(json.dumps({**results, "run/seed": 3, "git/revision": revision}))
    (path / "metrics.csv").write_text("step,epoch,val/l1\n1,0,0.5\n2,0,\n3,0,0.25\noops,0,x\n")
    for name, grey in (("panels/val-000100", 10), ("panels/val-000200", 200), ("strips/AU06", 90), ("wandb/x/y", 0)):
        picture = torch.full((16, 16, 3), grey, dtype=torch.uint8)
        save_png(Image.fromarray(picture.numpy()), path / f"{name}.png")
    return path


def test_two_runs_side_by_side(tmp_path, capsys):
    one, other = (run_folder(tmp_path / name / "20261123", icc, name) for name, icc in (("a", 0.5), ("b", 0.75)))
    assert report.main([str(one), str(other), "--out", str(tmp_path / "r.html")]) == 0
    assert str(tmp_path / "r.html") in capsys.readouterr().out
    text = (tmp_path / "r.html").read_text()
    assert "a/20261123" in text and "<td>0.5</td><td>0.75</td>" in text and "git/revision" in text
    assert text.count("data:image/png") == 5  # two pictures of two runs, and the curves
    assert "panels/val</figcaption>" in text and "wandb" not in text
    runs = report.read_runs([one, other])
    assert runs[0].pictures["panels/val"].name == "val-000200.png"  # the last of the series
    assert runs[0].curves == {"val/l1": [(1.0, 0.5), (3.0, 0.25)]}


def test_one_run_into_its_own_folder(tmp_path):
    path = run_folder(tmp_path / "run", 0.5, "x")
    assert report.main([str(path), "--pictures", "1"]) == 0
    assert "1 more pictures" in (path / "report.html").read_text()


def test_what_is_no_run(tmp_path, capsys):
    run_folder(tmp_path / "smoke" / "20261123", 0.5, "x")
    assert report.main([str(tmp_path / "smoke")]) == 2
    assert "did you mean" in capsys.readouterr().err
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "results.json").write_text("{")
    assert report.main([str(tmp_path / "bad")]) == 2
    assert "damaged" in capsys.readouterr().err
    with pytest.raises(ValueError, match="named twice"):
        report.read_runs([tmp_path / "smoke" / "20261123"] * 2)
