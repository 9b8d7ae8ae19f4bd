"""fit under a real SLURM: two nodes, requeue, arrays, a death. The batch files are those of experiments/slurm."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest

from lit_faces.core.weights import load_checkpoint
from lit_faces.folds import main as folds
from lit_faces.prepare import main as prepare
from tests.cluster.loopback import Cluster
from tests.fake import disfa

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
BATCH = ROOT / "experiments" / "slurm"
TWO_NODES = ["--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=1", "--gres=gpu:1"]
EXPERIMENT = """
seed_everything: 0
model:
  class_path: lit_faces.tasks.reenactment.ReenactmentGAN
  init_args:
    generator: {{class_path: lit_faces.models.generators.fused.FusedGenerator, init_args: {{width: 8, condition_width: 8}}}}
    discriminator: {{class_path: lit_faces.models.discriminators.MultiScaleDiscriminator, init_args: {{width: 8}}}}
    init: scratch
    critic: null
    judge: null
    evaluation_images: 0
data:
  class_path: data_modules.rendered.RenderedFaces
  init_args: {{size: 64, train_subjects: 8, val_subjects: 2, test_subjects: 2, frames: 4, eval_frames: 3, batch_size: 2, eval_batch_size: 4, pairs_per_epoch: {pairs}}}
trainer:
  max_epochs: {epochs}
  accelerator: cpu
  devices: 1
  log_every_n_steps: 1
  enable_progress_bar: false
  enable_model_summary: false
  callbacks:
    - {{class_path: tests.cluster.notes.RankNotes, init_args: {{folder: {notes}}}}}
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """What a job sees: this interpreter first, one thread, the rendered faces of this session."""
    (tmp_path / "bin").mkdir()
    wrapper = tmp_path / "bin" / "python"
    wrapper.write_text(f'#!/bin/sh\nexec {sys.executable} -W ignore "$@"\n')
    wrapper.chmod(0o755)
    return {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}:/usr/sbin",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "LIT_FACES_CACHE": os.environ["LIT_FACES_CACHE"],
    }


def experiment(folder: Path, pairs: int = 160, epochs: int = 1) -> str:
    file = folder / "small.yaml"
    file.write_text(EXPERIMENT.format(notes=folder / "notes", pairs=pairs, epochs=epochs))
    return str(file)


def notes(folder: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted((folder / "notes").glob("rank-*.json"))]


def rows(run: Path) -> list[dict[str, str]]:
    file = run / "metrics.csv"
    return list(csv.DictReader(file.open())) if file.is_file() else []


def networks(note: dict) -> dict[str, str]:
    """Digests of the networks; running means of what a rank saw are its own until the next step shares them."""
    return {
        name: digest for name, digest in note["weights"].items() if name.startswith(("generator.", "ema.", "discri"))
    }


def time_is_up(folder: Path) -> str:
    """What a job said when it was told."""
    return "; ".join(line for line in log(folder).splitlines() if "time is" in line)


def log(folder: Path) -> str:
    return "\n".join(path.read_text() for path in sorted(folder.glob("slurm-*.out")))


def test_two_nodes_train_as_one_and_rank_1_writes_nothing(cluster: Cluster, environment, tmp_path: Path) -> None:
    # every rank has a working folder of its own: whatever rank 1 writes lies there
    (tmp_path / "bin" / "python").write_text(
        f'#!/bin/sh\nmkdir -p "ranks/$SLURM_PROCID" && cd "ranks/$SLURM_PROCID"\nexec {sys.executable} -W ignore "$@"\n'
    )
    file = experiment(tmp_path)
    job = cluster.submit(tmp_path, *TWO_NODES, str(BATCH / "several_nodes.sbatch"), file, **environment)
    assert cluster.finish(job) == ["COMPLETED"], log(tmp_path)
    (run,) = (tmp_path / "ranks" / "0" / "runs" / "small").iterdir()
    assert run.name == f"slurm-{job}"
    results = json.loads((run / "results.json").read_text())
    assert results["run/world_size"] == 2 and results["test/l1"] > 0
    assert not list((tmp_path / "ranks" / "1").rglob("*")), "rank 1 has written something"
    first, second = notes(tmp_path)
    assert (first["world"], second["world"]) == (2, 2) and {first["node"], second["node"]} == {"n0", "n1"}
    assert first["environment"] == "SLURMEnvironment" and networks(first) == networks(second)
    assert first["steps"] == 40  # 160 pairs, two a step and rank


def test_a_requeued_job_goes_on_as_if_nothing_had_been(cluster: Cluster, environment, tmp_path: Path) -> None:
    times = int(os.environ.get("LIT_FACES_REQUEUES", "1"))
    names = ("whole", *(f"stopped{k}" for k in range(times)))
    for name in names:
        (tmp_path / name).mkdir()
    submit = {name: (tmp_path / name, *TWO_NODES, str(BATCH / "several_nodes.sbatch")) for name in names}
    jobs = {
        name: cluster.submit(*submit[name], experiment(tmp_path / name, 320, 2), **environment) for name in names[:2]
    }
    runs = {}
    for k, name in enumerate(names[1:]):
        if name not in jobs:
            jobs[name] = cluster.submit(*submit[name], experiment(tmp_path / name, 320, 2), **environment)
        run = runs[name] = tmp_path / name / "runs" / "small" / f"slurm-{jobs[name]}"
        if k == 0:
            cluster.wait(lambda run=run: len(rows(run)) >= 20, 120, "some training steps")
        else:  # at any moment, from the first import to the test
            cluster.wait(lambda name=name: cluster.job(jobs[name]).state == "RUNNING", 60, "start")
            time.sleep(random.uniform(1.0, 35.0))
        sent = cluster.job(jobs[name]).state == "RUNNING" and not (run / "results.json").is_file()
        if sent:
            cluster.call("scancel", "--signal=USR1", jobs[name])
        assert cluster.finish(jobs[name]) == ["COMPLETED"], log(tmp_path / name)
        print(f"{name}: {'signalled' if sent else 'was done before the signal'};", time_is_up(tmp_path / name))
        if sent and "done: " not in log(tmp_path / name).partition("time is nearly up")[0]:
            assert cluster.job(jobs[name]).restarts == 1, log(tmp_path / name)
    assert cluster.finish(jobs["whole"]) == ["COMPLETED"], log(tmp_path / "whole")
    whole = tmp_path / "whole" / "runs" / "small" / f"slurm-{jobs['whole']}"
    expected = rows(whole)
    assert len(expected) > 160
    for k, (name, run) in enumerate(runs.items()):
        assert cluster.job(jobs[name]).restarts == 1 or k > 0, log(tmp_path / name)
        steps = [row["step"] for row in rows(run)]
        got = {row["step"]: row for row in rows(run)}
        assert len(steps) == len(got), "a step is written twice"
        for row in expected:
            same = {key: got[row["step"]][key] for key in row if key in got[row["step"]]}
            assert same == row, (name, row["step"])
        assert (run / "results.json").is_file()
    before, after = notes(tmp_path / "whole"), notes(tmp_path / "stopped0")
    assert after[0]["restart"] == "1" and networks(after[0]) == networks(after[1]) == networks(before[0])


def test_a_cancelled_job_leaves_a_checkpoint_of_its_last_batch(cluster: Cluster, environment, tmp_path: Path) -> None:
    file = experiment(tmp_path, pairs=4000)
    more = ["--data.num_workers", "2", "--wandb", "disabled"]  # SLURM's SIGTERM goes to the loader processes too
    job = cluster.submit(tmp_path, *TWO_NODES, str(BATCH / "several_nodes.sbatch"), file, *more, **environment)
    run = tmp_path / "runs" / "small" / f"slurm-{job}"
    cluster.wait(lambda: len(rows(run)) >= 20, 120, "some training steps")
    cluster.call("scancel", "--signal=TERM", job)
    assert cluster.finish(job, 90) == ["FAILED"]
    assert "told to stop: saved" in log(tmp_path) and "DataLoader worker" not in log(tmp_path), log(tmp_path)
    loops = load_checkpoint(run / "checkpoints" / "last.ckpt")["loops"]
    assert loops["fit_loop"]["epoch_loop.batch_progress"]["total"]["ready"] == len(rows(run))


def test_an_array_of_folds_is_gathered_in_one_table(cluster: Cluster, environment, tmp_path: Path, monkeypatch) -> None:
    disfa.write(tmp_path / "DISFA", frames=3, names=("SN001", "SN002", "SN013", "SN018", "SN003", "SN029"))
    prepared = ["--root", str(tmp_path / "DISFA"), "--out", str(tmp_path / "prepared" / "disfa"), "--jobs", "1"]
    assert prepare(["disfa", *prepared]) == 0
    small = ["--trainer.max_epochs", "60", "--data.batch_size", "4", "--trainer.log_every_n_steps", "1", "--wandb", "disabled", "--model.init", "null",
             "--model.backbone", "aligned_face_small", "--trainer.precision", "32-true"]  # fmt: skip
    detector = str(ROOT / "experiments" / "disfa_detector.yaml")
    size = ["--cpus-per-task=1"]
    submit = (tmp_path, *size, str(BATCH / "folds_array.sbatch"), detector, *small)
    job = cluster.submit(*submit, **environment)
    runs = [tmp_path / "runs" / "disfa_detector" / f"part{part}" / f"slurm-{job}_{part}" for part in (1, 2, 3)]
    for run, name in zip(runs, ("USR1", "TERM")):
        cluster.wait(lambda run=run: len(rows(run)) >= 3, 120, "some training steps")
        cluster.call("scancel", f"--signal={name}", run.name.removeprefix("slurm-"))
    cluster.wait(lambda: "told to stop" in log(tmp_path), 60, "the end of the member that was stopped")
    assert sorted(cluster.finish(job)) == ["COMPLETED", "COMPLETED", "FAILED"], log(tmp_path)
    assert (runs[0] / "results.json").is_file() and "part1 held out: -m lit_faces.fit --resume" in log(tmp_path)
    assert (runs[1] / "checkpoints" / "last.ckpt").is_file() and not (runs[1] / "results.json").exists()
    assert cluster.finish(cluster.submit(*submit, **environment)) == ["COMPLETED"] * 3, log(tmp_path)
    assert (runs[1] / "results.json").is_file(), "the second array has gone on with it"
    monkeypatch.chdir(tmp_path)
    assert folds([detector, "--report"]) == 0
    gathered = json.loads((tmp_path / "runs" / "disfa_detector" / "folds.json").read_text())
    assert gathered["test/icc/mean"]["folds"] == 3
    assert {path.name for path in (tmp_path / "runs" / "disfa_detector").glob("part*")} == {"part1", "part2", "part3"}
    print((tmp_path / "runs" / "disfa_detector" / "folds.md").read_text())


def test_a_rank_that_dies_ends_the_job_with_a_checkpoint_to_go_on_from(
    cluster: Cluster, environment, tmp_path: Path
) -> None:
    file = experiment(tmp_path, pairs=4000)
    more = ["--checkpoint_every", "10", "--wandb", "disabled"]
    job = cluster.submit(tmp_path, *TWO_NODES, str(BATCH / "several_nodes.sbatch"), file, *more, **environment)
    run = tmp_path / "runs" / "small" / f"slurm-{job}"
    cluster.wait(lambda: (run / "checkpoints" / "last.ckpt").is_file(), 120, "a checkpoint")
    os.kill(notes(tmp_path)[1]["pid"], signal.SIGKILL)
    assert cluster.finish(job, 90) == ["FAILED"]
    said = log(tmp_path)
    assert "lost another process of the training" in said and f"--resume runs/small/slurm-{job}" in said, said
    assert load_checkpoint(run / "checkpoints" / "last.ckpt")["global_step"] >= 10


def test_scripts_name_only_options_that_exist(cluster: Cluster, tmp_path: Path) -> None:
    for script in sorted(BATCH.glob("*.sbatch")):
        assert "export SRUN_CPUS_PER_TASK" in script.read_text(), "or every task has one processor since SLURM 22.05"
        cluster.call("sbatch", "--test-only", str(script), "x.yaml")
