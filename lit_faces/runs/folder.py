"""A run's folder: new and its own, or that of the run, the other ranks or the SLURM job that it goes on with.

``runs/<experiment>/<time>`` is made by whoever starts: two runs of one second are two folders. Other processes of the
same training learn the name through the environment. In a SLURM job it is named after the job (docs/howto/slurm.md).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lit_faces import slurm
from lit_faces.arguments import UsageError
from lit_faces.core.files import claim_folder, locked, replace_file

LAST = "last.ckpt"
COMMAND, OWNER = "command.txt", "job.txt"  # what was typed, and the SLURM job that is at it
_STAMP = "LIT_FACES_RUN"


def last_checkpoint(root: Path) -> Path:
    """Where a run keeps the checkpoint that it goes on from."""
    return root / "checkpoints" / LAST


def take_folder(place: Path, command: str) -> Path:
    """The folder of a run that starts; it is made, unless another process of the same training makes it.

    Args:
        place: ``runs/<experiment>``.
        command: what was typed.

    Raises:
        UsageError: the processes of a training cannot agree, or another command of several SLURM tasks has it.
        OSError: it cannot be made.
    """
    if slurm.in_job() and (name := slurm.run_name()) is not None:
        return _folder_in_job(place / name, command)
    if "LOCAL_RANK" in os.environ:  # another process of the same training
        return place / _name_for_ranks()
    folder = claim_folder(place / time.strftime("%Y%m%d-%H%M%S"))
    os.environ[_STAMP] = folder.name
    return folder


def _name_for_ranks() -> str:
    if _STAMP in os.environ:
        return os.environ[_STAMP]
    if os.environ.get("TORCHELASTIC_RUN_ID", "none") == "none":
        raise UsageError("torchrun: give it --rdzv_id=NAME, so that all processes agree on the run's folder")
    return f"torchrun-{os.environ['TORCHELASTIC_RUN_ID']}"


def _folder_in_job(folder: Path, command: str) -> Path:
    """The folder of a command in a SLURM job that may run several: ``slurm-77``, then ``slurm-77.2``, ..."""
    tasks, again = int(os.environ["SLURM_NTASKS"]), slurm.was_requeued()
    count, found = 1, folder
    while True:
        if not found.exists():
            if tasks > 1:
                return found  # rank 0 makes it
            found.parent.mkdir(parents=True, exist_ok=True)
            try:
                found.mkdir()
            except FileExistsError:  # another command of the job, just now
                continue
            return found
        note = found / COMMAND
        theirs = note.read_text() if note.is_file() else None
        if theirs in (None, command) and (again or tasks > 1):
            return found
        if tasks > 1:  # who came second cannot be told: the tasks start together
            raise UsageError(f"{note}: this step has run `{theirs}` there: give each of its commands a --name")
        count += 1
        found = folder.with_name(f"{folder.name}.{count}")


def sign(root: Path, command: str) -> None:
    """Leave word whose folder it is; rank 0 alone does.

    Raises:
        UsageError: another SLURM job is at work in it.
    """
    root.mkdir(parents=True, exist_ok=True)
    owner = root / OWNER
    before = owner.read_text() if owner.is_file() else ""
    mine = slurm.job_id() if slurm.in_job() else ""
    if before not in ("", mine) and slurm.in_queue(before):
        raise UsageError(f"{owner}: job {before} is still at work there: wait for it, or `scancel {before}`")
    if mine:
        replace_file(owner, mine.encode())
    else:
        owner.unlink(missing_ok=True)
    if not (root / COMMAND).is_file():
        replace_file(root / COMMAND, command.encode())


@contextmanager
def working_in(root: Path, first: bool) -> Iterator[None]:
    """Be the only training there; the other ranks of one stand behind their rank 0.

    Raises:
        BusyError: another process works there.
    """
    if not first:
        yield
        return
    try:
        lock = locked(root, "fit")
        lock.__enter__()
    except NotImplementedError:  # a cluster's file system without locks; job.txt stands there all the same
        yield
        return
    try:
        yield
    finally:
        lock.__exit__(None, None, None)
