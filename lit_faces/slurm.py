"""fit under SLURM: who is who, where the run lives, and leaving in time.

Lightning starts the processes (``SLURMEnvironment``, DDP). Its own requeue saves inside the signal handler, where one
rank may wait in an all-reduce while the other waits in the checkpoint's barrier: it hangs. Here a signal only raises a
flag, and all ranks agree at the end of a batch (:class:`lit_faces.callbacks.requeue.Requeue`).
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

from lit_faces.arguments import UsageError
from lit_faces.core.signals import SIGNALS

INTERACTIVE = ("bash", "interactive")  # Lightning takes such jobs for a shell
_PATIENCE_S = 120.0  # SLURM ends a requeued job long before
_OTHERS_WAIT_S = 15.0


def in_job(environment: Mapping[str, str] | None = None) -> bool:
    """Whether SLURM started this process: a batch script, or a task of ``srun``."""
    environment = os.environ if environment is None else environment
    return "SLURM_JOB_ID" in environment and "SLURM_NTASKS" in environment


def job_id(environment: Mapping[str, str] | None = None) -> str:
    """``1234``, or ``1234_5`` for a member of a job array: what ``scontrol requeue`` takes."""
    environment = os.environ if environment is None else environment
    array = environment.get("SLURM_ARRAY_JOB_ID")
    return f"{array}_{environment['SLURM_ARRAY_TASK_ID']}" if array else environment["SLURM_JOB_ID"]


def run_name(environment: Mapping[str, str] | None = None) -> str | None:
    """Folder of a run, the same for all tasks and after a requeue.

    ``slurm-1234``; ``slurm-1234-1`` for the second ``srun`` of the job; None in an interactive shell, where the same
    command typed again is another run.
    """
    environment = os.environ if environment is None else environment
    step = environment.get("SLURM_STEP_ID") if "SLURM_PROCID" in environment else None
    if step is None and environment.get("ENVIRONMENT") != "BATCH":
        return None
    return f"slurm-{job_id(environment)}" + (f"-{step}" if step not in (None, "0") else "")


def was_requeued(environment: Mapping[str, str] | None = None) -> bool:
    """Whether SLURM starts this job again."""
    environment = os.environ if environment is None else environment
    return environment.get("SLURM_RESTART_COUNT", "0") not in ("", "0")


def in_queue(job: str) -> bool:
    """Whether SLURM still has a job, running or waiting; False where nobody can tell."""
    if job and shutil.which("squeue"):
        asked = subprocess.run(["squeue", "-h", "-j", job, "-o", "%T"], capture_output=True, text=True)
        return asked.returncode == 0 and bool(asked.stdout.strip())
    return False


def is_rank_zero(environment: Mapping[str, str] | None = None) -> bool:
    """Whether this task writes what is shared; True outside SLURM."""
    environment = os.environ if environment is None else environment
    return not in_job(environment) or environment.get("SLURM_PROCID", "0") == "0"


def layout(
    devices: Any, nodes: Any, typed: bool = False, environment: Mapping[str, str] | None = None
) -> dict[str, int]:
    """``devices`` and ``num_nodes`` of the trainer for the tasks that SLURM started.

    Args:
        devices: of the experiment; 1 or "auto", unless typed, means as many as there are tasks.
        nodes: of the experiment, likewise.
        typed: whether one of them stood on the command line, so that it must fit.
        environment: instead of the process's own.

    Raises:
        UsageError: tasks and devices do not fit, or nobody started the other tasks; names the fix.
    """
    environment = os.environ if environment is None else environment
    tasks = int(environment["SLURM_NTASKS"])
    if tasks == 1:
        return {}
    if "SLURM_STEP_ID" not in environment or "SLURM_PROCID" not in environment:
        raise UsageError(
            f"the job has {tasks} tasks and this is not one of them: write `srun python -m lit_faces.fit ...` "
            "in the batch script"
        )
    if environment.get("SLURM_JOB_NAME") in INTERACTIVE:
        name = environment["SLURM_JOB_NAME"]
        raise UsageError(
            f"a job called {name!r} is taken for a shell, and {tasks} runs would write over each other: use "
            "`srun --job-name=lit_faces python -m lit_faces.fit ...`"
        )
    on_nodes = int(environment.get("SLURM_STEP_NUM_NODES") or environment.get("SLURM_NNODES") or 1)
    if "SLURM_NTASKS_PER_NODE" not in environment or tasks % on_nodes:
        raise UsageError(
            f"{tasks} tasks on {on_nodes} nodes: say `#SBATCH --ntasks-per-node=N` (one task a device), "
            "not --ntasks alone"
        )
    found = {"devices": tasks // on_nodes, "num_nodes": on_nodes}
    for name, wanted in (("devices", devices), ("num_nodes", nodes)):
        count = len(wanted) if isinstance(wanted, list | tuple) else wanted
        silent = count in (None, 1, "auto", -1, "1", "-1") and not typed
        if not silent and str(count) not in (str(found[name]), "auto", "-1"):
            raise UsageError(
                f"trainer.{name} is {wanted}, but SLURM started {tasks} tasks on {on_nodes} nodes "
                f"({found['devices']} a node): make --ntasks-per-node equal to devices and --nodes equal to num_nodes"
            )
    if "MASTER_ADDR" not in environment:
        first = _first_node(environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_JOB_NODELIST") or "")
        if environment is os.environ:
            os.environ["MASTER_ADDR"] = first  # Lightning would take the job's, which may not be in this step
    return found


def _first_node(nodes: str) -> str:
    """Where all processes meet; a name that does not resolve would hang for minutes."""
    from lightning_fabric.plugins.environments import SLURMEnvironment

    first = SLURMEnvironment.resolve_root_node_address(nodes)
    try:
        socket.getaddrinfo(first, None)
    except OSError as error:
        raise UsageError(
            f"the node {first!r} has no address here ({error}): export MASTER_ADDR with one that all nodes reach"
        ) from error
    return first


def listen() -> None:
    """Hear SIGUSR1 too (``#SBATCH --signal=USR1@120``); SIGINT and SIGTERM are heard already."""
    signal.signal(signal.SIGUSR1, _time_is_up)


def _time_is_up(*_: Any) -> None:
    if SIGNALS.in_child:  # a DataLoader worker: SLURM signals the whole group
        return
    SIGNALS.requeue = True
    if not SIGNALS.guarded:  # nothing to save yet: as well now
        requeue_and_wait()


def requeue_and_wait() -> None:
    """Put the job back into the queue, and wait for the end: a rank that left now would fail the job.

    Rank 0 asks. It may be waiting for another rank and not hear, so the others ask too, later.

    Raises:
        SystemExit: SLURM refused, or did not end the job.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    first = int(os.environ.get("SLURM_PROCID", 0)) == 0
    if not first:
        time.sleep(_OTHERS_WAIT_S)
    command = ["scontrol", "requeue", job_id()]
    print(f"lit_faces.fit: time is nearly up: {' '.join(command)}", flush=True)
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode and first:
        print(
            f"lit_faces.fit: error: SLURM refused the requeue ({done.stderr.strip()}); sbatch with --requeue, or "
            "go on by hand with --resume",
            file=sys.stderr,
            flush=True,
        )
        raise SystemExit(1)
    time.sleep(_PATIENCE_S)
    raise SystemExit(1)
