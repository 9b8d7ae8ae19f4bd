import multiprocessing
import os
import signal
import time

from data_modules import base


def _worker(ready) -> None:
    base._outlive_sigterm(0)
    ready.set()
    while True:
        time.sleep(0.05)


def test_a_loader_process_outlives_a_signal_to_the_group_but_not_for_ever(monkeypatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setattr(base, "_LOADER_OUTLIVES_S", 1)
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=_worker, args=(ready,))
    process.start()
    assert ready.wait(20)
    os.kill(process.pid, signal.SIGTERM)
    process.join(0.4)
    assert process.is_alive()
    process.join(10)
    assert process.exitcode == -signal.SIGALRM
