"""The study: what is asked, killed at the worst moment, gone on with, and its table."""

import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from lit_faces.arguments import UsageError
from lit_faces.core.facs import NUM_AUS
from lit_faces.core.files import locked
from lit_faces.core.seeding import derive_seed
from lit_faces.fitting.landmark_model import LandmarkModel
from lit_faces.persons.learner import PersonalLearner
from lit_faces.persons.maker import SetMaker
from lit_faces.persons.source import source_of_faces
from lit_faces.studies import worker as module
from lit_faces.studies.description import Study
from lit_faces.studies.scores import Paired, _change, scores
from lit_faces.studies.worker import Worker, missing_steps
from lit_faces.study import main
from lit_faces.tasks.au_detector import AUDetector

pytestmark = pytest.mark.filterwarnings("ignore")
ROOT = Path(__file__).resolve().parents[2]
KILLS = int(os.environ.get("LIT_FACES_KILLS", "2"))


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """A study of a few seconds."""
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("study")
    AUDetector("aligned_face_small", size=32).export_weights(root / "detector.safetensors")
    people = {
        "people": 3, "support": 4, "test": 4, "generic_people": 3, "generic_frames": 2, "others": 8,
        "reference_people": 2, "size": 32, "cache_dir": str(root / "cache"),
    }  # fmt: skip
    return {
        "detector": str(root / "detector.safetensors"),
        "people": {"class_path": "data_modules.people.RenderedPeople", "init_args": people},
        "recipe": {"steps": 2, "batch_size": 4, "precision": "32-true"},
        "capacity": 10,
        "fisher_samples": 1,
        "seeds": [0, 1],
        "sequence": [{"methods": ["finetune", "ewc_replay"], "k": 3}],
        "single": [{"methods": ["neutral", "finetune"], "k": [0, 1]}],
    }


def readings(out: Path) -> dict[str, dict[str, np.ndarray]]:
    found = {}
    for file in sorted(out.rglob("[0-9]*.npz")):
        with np.load(file) as arrays:
            found[str(file.relative_to(out))] = {k: arrays[k] for k in arrays.files if k != "seconds"}
    return found


def done(study: Study, out: Path) -> dict[str, dict[str, np.ndarray]]:
    worker = Worker(study, out)
    worker.prepare()
    for cell in study.cells():
        worker.run(cell)
    return readings(out)


@pytest.mark.parametrize("moment", ["before the readings", "after the readings"])
def test_killed_in_the_middle_of_a_person_it_redoes_that_person_and_ends_the_same(
    moment, content, tmp_path, monkeypatch
):
    study = Study.read({**content, "single": [], "seeds": [0]}, "x.yaml")
    whole = done(study, tmp_path / "whole")
    worker, learnt, learn, save = Worker(study, tmp_path / "cut"), [], PersonalLearner.learn, PersonalLearner.save
    worker.prepare()
    cell = study.cells()[1]

    class Killed(BaseException):
        pass

    def dies(self, *args, **kwargs):
        (learn if moment.startswith("before") else save)(self, *args, **kwargs)
        if len(self.learnt) == 2:
            raise Killed

    with monkeypatch.context() as patch:
        if moment.startswith("before"):
            patch.setattr(PersonalLearner, "learn", dies)
        else:  # the state of the second person is not written
            patch.setattr(
                PersonalLearner,
                "save",
                lambda self, path: dies(self, path) if len(self.learnt) < 2 else dies(self, tmp_path / "lost"),
            )
        with pytest.raises(Killed):
            worker.run(cell)
    monkeypatch.setattr(
        PersonalLearner, "learn", lambda self, name, *a, **k: (learnt.append(name), learn(self, name, *a, **k))
    )
    fresh = Worker(study, tmp_path / "cut")
    for each in study.cells():
        fresh.run(each)
    assert len(learnt) == 2 + 3  # the second and third person of the cut cell, and the whole other cell
    cut = readings(tmp_path / "cut")
    assert cut.keys() == whole.keys()
    for name, arrays in whole.items():
        assert all(np.array_equal(arrays[key], cut[name][key]) for key in arrays), name


@pytest.fixture(scope="module")
def typed(content, tmp_path_factory):
    """A study as it is typed, what it reads when nobody disturbs it, and how long that takes."""
    root = tmp_path_factory.mktemp("typed")
    (root / "x.yaml").write_text(yaml.safe_dump({**content, "single": [], "seeds": [0]}))
    command = [sys.executable, "-m", "lit_faces.study", str(root / "x.yaml"), "--jobs", "2", "--out"]
    began = time.monotonic()
    assert subprocess.run([*command, str(root / "whole")], cwd=ROOT, capture_output=True).returncode == 0
    return command, readings(root / "whole"), time.monotonic() - began


@pytest.mark.parametrize("number", range(KILLS))
def test_killed_at_a_random_moment_the_command_ends_as_an_uninterrupted_one(number, typed, tmp_path):
    command, whole, seconds = typed
    process = subprocess.Popen(
        [*command, str(tmp_path)], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    time.sleep(random.Random(f"study {number}").uniform(0.3, 1.0) * seconds)
    process.kill()  # its workers are not told; they end with it
    process.wait()
    again = subprocess.run([*command, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    cut = readings(tmp_path)
    assert cut.keys() == whole.keys()
    for name, arrays in whole.items():
        assert all(np.array_equal(arrays[key], cut[name][key]) for key in arrays), name
    assert (tmp_path / "summary.md").is_file() and (tmp_path / "results.parquet").is_file()


def test_the_command_writes_table_parquet_and_plots_and_more_cells_may_come(content, tmp_path, capsys):
    import pyarrow.parquet as parquet

    file, out = tmp_path / "tiny.yaml", tmp_path / "out"
    file.write_text(yaml.safe_dump({**content, "seeds": [0]}))
    arguments = [str(file), "--out", str(out), "--jobs", "1"]
    assert main(["--dry-run", *arguments]) == 0
    assert "sequence-ewc_replay-k3-real-s0" in capsys.readouterr().out
    assert main(["--report", *arguments]) == 2  # nothing there yet
    study = Study.read(yaml.safe_load(file.read_text()), str(file))
    assert missing_steps(study, out, 3) == 3 * 6
    done(study, out)
    assert missing_steps(study, out, 3) == 0
    capsys.readouterr()
    assert main(["--report", *arguments]) == 0
    text = capsys.readouterr().out
    assert "| ewc_replay | 3 | real |" in text and "| neutral | 1 | real |" in text
    rows = parquet.read_table(out / "results.parquet").to_pylist()
    assert len(rows) == 2 * 3 * (3 + 1) + 4 * 3 * 2
    assert {row["protocol"] for row in rows} == {"sequence", "single"}
    assert json.loads((out / "results.json").read_text())["single/finetune/k0/real/gain"] == 0
    for name in ("summary.md", "plane.png", "aus.png", "gain_k.png", "r_finetune.png"):
        assert (out / name).stat().st_size > 100, name
    lines = json.loads((out / "summary.json").read_text())["lines"]
    zero = next(line for line in lines if line["method"] == "finetune" and line["k"] == 0)
    assert zero["gain"][0] == 0 and zero["drop"][0] == 0  # no frame, nothing learnt

    file.write_text(yaml.safe_dump({**content, "seeds": [0], "recipe": {"steps": 3}}))
    assert main(arguments) == 2
    assert "another detector, people, recipe" in capsys.readouterr().err


def test_two_processes_do_not_do_one_cell_twice(content, tmp_path):
    worker = Worker(Study.read(content, "x.yaml"), tmp_path)
    cell = worker.study.cells()[0]
    folder = tmp_path / "cells" / cell.key
    with locked(folder, "study"), ThreadPoolExecutor(1) as another:
        another.submit(worker.run, cell).result()  # somebody is at it
    assert not list(folder.glob("*.npz"))


def test_a_persons_set_is_what_the_product_makes_of_the_photo(content, tmp_path):
    people = {**content["people"]["init_args"], "people": 2, "support": 1, "size": 128}
    asked = {**content, "people": {**content["people"], "init_args": people}, "synthetic": 4, "attempts": 1}
    study = Study.read({**asked, "single": [{"methods": ["finetune"], "k": 1, "images": "synthetic"}]}, "x.yaml")
    worker = Worker(study, tmp_path)
    made = worker.synthetic(0)
    photo, name = worker.people.support(0, 1), worker.people.names[0]
    plan = study.set_plan(derive_seed(0, module._SYNTHETIC, 0) % 2**31)
    source = source_of_faces(photo, LandmarkModel(), worker.detector.predict_au, "auto", name)
    maker = SetMaker(source, plan, study.settings())
    attempts, kept, _ = maker.make(list(range(4)))
    assert len(made) == len(kept) == sum(a.kept for a in attempts)
    assert made.frame.tolist() == sorted(kept) and set(made.subject) <= {name}
    for slot, image in zip(made.frame.tolist(), made.image):
        assert torch.equal(image, kept[slot])
    torch.testing.assert_close(made.au_intensity, maker.batch(attempts, kept).au_intensity, equal_nan=True)
    assert module.set_sizes(tmp_path) == {"000": len(kept)}
    assert torch.equal(Worker(study, tmp_path).synthetic(0).image, made.image)  # kept in the folder
    without = Study.read({**content, "verify": False}, "x.yaml")
    assert without.fingerprint() != Study.read(content, "x.yaml").fingerprint()


@pytest.mark.parametrize("group", ["others", "generic", "reference"])
def test_a_person_in_two_groups_is_refused_before_anything_is_learnt(group, content, tmp_path, monkeypatch):
    worker = Worker(Study.read(content, "x.yaml"), tmp_path / "out")
    faces = getattr(worker.people, group)()
    monkeypatch.setattr(worker.people, group, lambda: replace(faces, subject=[worker.people.names[1]] * len(faces)))
    with pytest.raises(
        ValueError, match=f"the people who arrive and .*{group}.* share a person .{worker.people.names[1]}"
    ):
        worker.prepare()
    assert not worker.start_file.exists()


def lives(pid: str) -> bool:
    """Whether a process runs; one that has ended may wait for init to take notice."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_told_to_stop_it_ends_at_once_with_its_workers_and_says_how_to_go_on(content, tmp_path):
    (tmp_path / "x.yaml").write_text(yaml.safe_dump({**content, "recipe": {**content["recipe"], "steps": 10**6}}))
    command = [sys.executable, "-m", "lit_faces.study", str(tmp_path / "x.yaml"), "--out", str(tmp_path / "out")]
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen([*command, "--jobs", "2"], stdout=said, stderr=said, cwd=ROOT)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    try:
        deadline = time.monotonic() + 240
        while not list((tmp_path / "out" / "cells").glob("*/.lock")):
            assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "said").read_text()
            time.sleep(0.2)
        workers = children.read_text().split()
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143 and len(workers) >= 2
        assert time.monotonic() - began < 20  # 3 s on a machine that has nothing else to do
        time.sleep(1.0)
        assert [pid for pid in workers if lives(pid)] == []
    finally:
        process.kill()
        process.wait()
    assert "told to stop; the same command goes on where it stopped" in (tmp_path / "said").read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"secuence": []}, "did you mean"),
        ({"recipe": {"step": 3}}, "recipe.step"),
        ({"recipe": {"lr": "3e-4"}}, "write 3.0e-4"),
        ({"recipe": {"replay_targets": "label"}}, "answers or labels"),
        ({"recipe": {"steps": 0}}, "whole number from 1"),
        ({"synthetic": 0}, "synthetic: expected a whole number"),
        ({"attempts": True}, "attempts: expected a whole number"),
        ({"plan": "natural"}, "plan: expected one of balanced"),
        ({"labels": "seen"}, "labels: expected one of asked"),
        ({"verify": "no"}, "verify: expected true or false"),
        ({"source_au": "6=2"}, "source_au: expected one of auto"),
        ({"sequence": [{"methods": ["finetun"], "k": 1}]}, "unknown method finetun"),
        ({"single": [{"methods": ["none"], "k": -1}]}, "whole numbers"),
        ({"single": [{"methods": ["none"], "k": 1, "images": "fake"}]}, "unknown images"),
        ({"single": [{"methods": ["none"]}]}, "expected methods and k"),
        ({"seeds": []}, "seeds: expected a list"),
        ({"single": [], "sequence": []}, "nothing to do"),
        ({"people": {"class_path": "data_modules.people.Nobody"}}, "people"),
    ],
)
def test_mistakes_in_the_file_are_named(change, message, content):
    with pytest.raises((UsageError, ValueError), match=message):
        Study.read({**content, **change}, "x.yaml")


def test_a_bias_that_differs_from_person_to_person_counts_in_the_pooled_score_alone():
    draws = torch.Generator().manual_seed(0)
    labels = 5 * torch.rand(120, NUM_AUS, generator=draws)
    bias = torch.randn(6, NUM_AUS, generator=draws).repeat_interleave(20, 0)
    names = [str(i // 20) for i in range(120)]
    gain, low, high = _change(Paired(labels, labels, labels + bias, names), 200)
    assert 0 < low < gain < high
    alone, _ = scores(labels[:20], (labels + bias)[:20])
    assert np.nanmin(alone) > 0.999
    drop = _change(Paired(labels, labels, labels + bias, names), 0, -1.0)
    assert drop[0] == pytest.approx(-gain) and math.isnan(drop[1])
