"""python -m lit_faces.report: runs side by side in one file."""

import json

import pytest
import torch

from lit_faces import report
from lit_faces.core.facs import AU_KEYS
from lit_faces.reports.pictures import save_png
from lit_faces.reports.runs import read_runs


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
    assert (
        "a/20261123" in text and "<td class=worst>0.5</td><td class=best>0.75</td>" in text and "git/revision" in text
    )
    assert text.count("data:image/png") == 5  # two pictures of two runs, and the curves
    assert "panels/val</figcaption>" in text and "wandb" not in text
    runs, left_out = read_runs([one, other])
    assert left_out == []
    assert runs[0].pictures["panels/val"].name == "val-000200.png"  # the last of the series
    assert runs[0].curves == {"val/l1": [(1.0, 0.5), (3.0, 0.25)]}


def test_one_run_into_its_own_folder(tmp_path):
    path = run_folder(tmp_path / "run", 0.5, "x")
    assert report.main([str(path), "--pictures", "1"]) == 0
    assert "1 more pictures" in (path / "report.html").read_text()


def test_runs_that_are_not_finished_are_named_and_left_out(tmp_path, capsys):
    good = run_folder(tmp_path / "good", 0.5, "x")
    (running := tmp_path / "running" / "checkpoints").mkdir(parents=True)
    half, deep, other = (run_folder(tmp_path / name, 0.25, "y") for name in ("half", "deep", "other"))
    (half / "results.json").write_text((half / "results.json").read_text()[:80])
    (deep / "results.json").write_text("[" * 100_000)
    (other / "results.json").write_text("[1, 2]")
    folders = [str(path) for path in (good, running.parent, half, deep, other)]
    assert report.main([*folders, "--out", str(tmp_path / "r.html")]) == 0
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 4 and all(line.startswith("python -m lit_faces.report: left out: ") for line in said)
    assert "running: not finished: no results.json" in said[0] and "half/results.json: damaged" in said[1]
    text = (tmp_path / "r.html").read_text()
    assert "<td>0.5</td>" in text and "0.25" not in text
    assert report.main(folders[1:]) == 2
    assert len(lines := capsys.readouterr().err.splitlines()) == 1 and "no finished run" in lines[0]


def test_what_is_no_run(tmp_path, capsys):
    path = run_folder(tmp_path / "smoke" / "20261123", 0.5, "x")
    assert report.main([str(tmp_path / "smoke")]) == 2
    assert f"did you mean {path}?" in capsys.readouterr().err
    assert report.main([str(path), str(tmp_path / "smok")]) == 2  # a slip of the pen, not a run that goes on
    assert "smok: no such folder" in capsys.readouterr().err
    assert report.main([str(path), "--pictures", "-1"]) == 2
    assert "--pictures" in capsys.readouterr().err
    with pytest.raises(ValueError, match="named twice"):
        read_runs([path] * 2)
