"""A study in several processes, which end with this one."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, wait
from pathlib import Path

from lit_faces.core.processes import end_workers, follow
from lit_faces.studies.description import Cell, Study
from lit_faces.studies.worker import Worker, missing_steps

_WORKER: dict[str, Worker] = {}
_LOOK = 1.0  # seconds between two looks at what is done


def learn(study: Study, out: Path, jobs: int, progress: Callable[[int, int], None]) -> None:
    """Do all cells, or what is left of them, in processes that share the cores.

    Args:
        study: what is asked.
        out: the study's folder; other calls, on other machines too, may work there at the same time.
        jobs: processes.
        progress: called with persons learnt so far and persons in all.

    Raises:
        ValueError: what is asked cannot be.
        BrokenProcessPool: a process was killed.
    """
    worker = Worker(study, out)
    worker.prepare()
    people, cells = len(worker.people.names), study.cells()
    total = people * len(cells)
    progress(total - missing_steps(study, out, people), total)
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, context, _start, (os.getpid(), study, out, jobs))
    try:
        while left := missing_steps(study, out, people):
            waiting = {pool.submit(_do, cell) for cell in cells}
            while waiting:
                done, waiting = wait(waiting, timeout=_LOOK, return_when="FIRST_EXCEPTION")
                progress(total - missing_steps(study, out, people), total)
                for future in done:
                    future.result()
            if left == missing_steps(study, out, people):  # all that is left is in other hands
                time.sleep(2)
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        end_workers()
        raise
    pool.shutdown()


def _start(parent: int, study: Study, out: Path, jobs: int) -> None:
    import torch

    from lit_faces.core.memory import keep_freed_memory

    follow(parent)
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // jobs))
    keep_freed_memory()
    _WORKER["worker"] = Worker(study, out)


def _do(cell: Cell) -> None:
    _WORKER["worker"].run(cell)
