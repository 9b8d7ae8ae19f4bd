"""SIGTERM and SIGINT in every phase of fit: exit code, checkpoint, how to go on, and the same end as without."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from lit_faces.fit import main
from tests.runs.toy import BATCHES

ROOT = Path(__file__).resolve().parents[2]
SIGNALS = [signal.SIGTERM, signal.SIGINT]


def folders(toy: Path, name: str = "toy") -> list[Path]:
    place = toy.parent / "runs" / name
    return sorted(place.iterdir()) if place.is_dir() else []


def checkpoint(run: Path) -> dict:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)


def batches(run: Path) -> int:
    return checkpoint(run)["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["ready"]


def rows(run: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((run / "metrics.csv").open()))


def same_end(one: Path, other: Path) -> None:
    """Weights, metrics and figures are equal to the last digit."""
    first, second = checkpoint(one)["state_dict"], checkpoint(other)["state_dict"]
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    assert rows(one) == rows(other)
    figures = [json.loads((run / "results.json").read_text())["test/loss"] for run in (one, other)]
    assert figures[0] == figures[1]


@pytest.fixture
def whole(toy: Path) -> Path:
    """The run that nobody disturbs."""
    assert main([str(toy), "--name", "whole"]) == 0
    return folders(toy, "whole")[0]


@pytest.mark.parametrize("number", SIGNALS, ids=["SIGTERM", "SIGINT"])
@pytest.mark.parametrize(
    ("at", "kept"),
    [
        ("train", BATCHES + 4),
        ("last_batch", BATCHES),
        ("val", BATCHES),
        ("test", 3 * BATCHES),
        ("test_end", 3 * BATCHES),
        ("setup", None),
    ],
)
def test_every_phase_ends_with_its_code_and_a_checkpoint_to_go_on_from(toy, whole, capsys, at, kept, number) -> None:
    options = ["--model.at", at, "--model.number", str(int(number))]
    start = time.monotonic()
    assert main([str(toy), *options]) == 128 + number
    assert time.monotonic() - start < 3.0
    said = capsys.readouterr().err
    (run,) = folders(toy)
    if kept is None:
        assert "run the same command again" in said and not (run / "checkpoints" / "last.ckpt").exists()
        return
    assert f"--resume runs/toy/{run.name}" in said and batches(run) == kept
    assert not (run / "results.json").exists() and not list(run.rglob("*.tmp*"))
    assert main(["--resume", str(run), "--model.at", ""]) == 0
    same_end(whole, run)


def start(toy: Path, *options: str) -> subprocess.Popen:
    command = [sys.executable, "-W", "ignore", "-m", "lit_faces.fit", *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    log = (toy.parent / "log.txt").open("a")
    return subprocess.Popen(command, cwd=toy.parent, env=environment, stdout=log, stderr=log)


def wait_for(condition, seconds: float = 90.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.02)


def _grown(toy: Path, count: int) -> bool:
    """Whether a checkpoint and so many rows are there."""
    run = folders(toy)[0] if folders(toy) else None
    return run is not None and (run / "checkpoints" / "last.ckpt").exists() and len(rows(run)) >= count


def test_a_killed_run_goes_on_as_if_nothing_had_been(toy: Path, whole: Path) -> None:
    kills = int(os.environ.get("LIT_FACES_KILLS", "2"))
    options = ("--checkpoint_every", "1")
    process = start(toy, str(toy), "--model.nap", "0.05", *options)
    for kill in range(kills):
        seen = len(rows(folders(toy)[0])) if kill else 0
        if kill % 3 < 2:  # in training; else at any moment, imports included
            wait_for(lambda seen=seen, process=process: process.poll() is not None or _grown(toy, seen + 1))
            time.sleep(random.uniform(0.0, 0.1))
        else:
            time.sleep(random.uniform(0.5, 8.0))
        print(f"kill {kill + 1}: {seen} rows before, process {'at work' if process.poll() is None else 'done'}")
        process.kill()
        process.wait()
        (run,) = folders(toy)
        process = start(toy, "--resume", str(run), *options)
    assert process.wait(timeout=120) == 0, (toy.parent / "log.txt").read_text()[-2000:]
    same_end(whole, run)
    assert not [path for path in run.rglob(".*") if path.suffix == ".ckpt" and path.stat().st_size == 0]


def test_two_runs_started_together_have_two_folders_and_one_run_one_process(toy: Path, capsys) -> None:
    both = [start(toy, str(toy), "--model.nap", "0.1") for _ in range(2)]
    wait_for(lambda: len(folders(toy)) == 2)
    run = folders(toy)[0]
    wait_for(lambda: (run / "checkpoints" / "last.ckpt").exists())
    assert main(["--resume", str(run)]) == 2
    said = capsys.readouterr().err.strip()
    assert "another process is at work there" in said and str(run) in said and "\n" not in said
    assert [process.wait(timeout=120) for process in both] == [0, 0], (toy.parent / "log.txt").read_text()[-2000:]
    assert all((run / "results.json").is_file() for run in folders(toy))


def test_imports_are_interrupted_too(toy: Path) -> None:
    for number in SIGNALS:
        process = start(toy, str(toy))
        time.sleep(random.uniform(0.5, 2.0))
        sent = time.monotonic()
        process.send_signal(number)
        code = process.wait(timeout=20)
        assert code in (128 + number, -number), (toy.parent / "log.txt").read_text()[-2000:]
        assert time.monotonic() - sent < 3.5


def test_an_error_of_the_disk_leaves_the_old_checkpoint(toy: Path, monkeypatch, capsys) -> None:
    import errno

    from lit_faces.callbacks import checkpoints

    real, written = checkpoints.replace_file, []

    def full(path, data) -> None:
        written.append(path)
        if len(written) > 2:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        real(path, data)

    monkeypatch.setattr(checkpoints, "replace_file", full)
    assert main([str(toy), "--checkpoint_every", "2"]) == 2
    said = capsys.readouterr().err.strip()
    assert "the disk is full: make room" in said and "last.ckpt" in said and "\n" not in said
    (run,) = folders(toy)
    assert batches(run) == 4, "the second checkpoint is whole"
    monkeypatch.setattr(checkpoints, "replace_file", real)
    assert main(["--resume", str(run)]) == 0
