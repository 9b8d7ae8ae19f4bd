"""Damaged files of every kind: read, or refused by a message that names the file; no crash, no hang, no raw error.

50 damages a kind in the suite; ``LIT_FACES_LONG=1`` for 1,000 of each, ``LIT_FACES_FUZZ=N`` for another number. The
figures are printed with ``-s``.
"""

import os
import signal
from pathlib import Path

import pytest
import torch

from tests.fuzz.kinds import KINDS
from tests.fuzz.worker import run

COUNT = int(os.environ.get("LIT_FACES_FUZZ") or (1000 if os.environ.get("LIT_FACES_LONG") else 50))


@pytest.fixture
def one_thread():
    """A fork has none of its parent's threads: nothing may wait for them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", KINDS)
def test_damaged_files_are_read_or_refused_by_name(name: str, tmp_path: Path, monkeypatch, one_thread) -> None:
    monkeypatch.chdir(tmp_path)
    kind = KINDS[name](tmp_path)
    for path in dict.fromkeys(kind.files):
        kind.read(path)  # as it was, it can be read
    outcomes = run(kind, range(COUNT))
    print(f"\n{name}: {sum(outcomes.count.values())} damages: {dict(outcomes.count)}")
    assert not outcomes.bad, "\n".join(outcomes.bad[:20])
    assert outcomes.count["refused"], "no damage had an effect: the test tests nothing"
    assert sum(outcomes.count.values()) == COUNT


def test_the_worker_sees_crashes_hangs_and_raw_errors(monkeypatch) -> None:
    def read(seed: int) -> str:
        if seed == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if seed == 2:
            while True:
                pass
        if seed == 3:
            raise KeyError("file")
        if seed == 4:
            raise ValueError("something")
        if seed == 5:
            raise ValueError("file: something")
        return "file"

    read.names = ["file"]  # type: ignore[attr-defined]
    monkeypatch.setattr("tests.fuzz.worker.SECONDS", 1)
    outcomes = run(read, range(7))
    assert outcomes.count == {"read": 2, "crash": 1, "hang": 1, "raw": 2, "refused": 1}
