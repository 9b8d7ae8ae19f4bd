"""Train and test an experiment: ``python -m lit_faces.fit EXPERIMENT.yaml [more.yaml ...] [--key.sub value ...]``.

Train what the experiment file describes, test it on people it has never seen, and leave everything in
``runs/<experiment>/<time>/``. LightningCLI underneath; ``--print_config``, ``--dry_run`` and ``--resume RUN`` help.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from lit_faces import slurm
from lit_faces.command import program, run_command
from lit_faces.core.quiet import quiet_libraries
from lit_faces.runs.folder import last_checkpoint
from lit_faces.runs.options import help_text
from lit_faces.runs.plan import Plan

if TYPE_CHECKING:
    from pytorch_lightning.cli import LightningCLI

#: What a collective call says when another process is gone.
_LOST = (
    "Connection closed by peer", "Connection reset by peer", "Broken pipe", "NCCL", "[Rank ", "Timed out waiting",
)  # fmt: skip


def build(argv: list[str]) -> LightningCLI:
    """Parse and instantiate an experiment; nothing is trained or written.

    Raises:
        UsageError: what was typed cannot be run; the message names the nearest right name.
        SystemExit: ``--print_config`` or a help option has printed what was asked.
    """
    from lit_faces.runs.build import build as build_plan

    return build_plan(Plan(argv))


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code (see :mod:`lit_faces.command`)."""
    argv = sys.argv[1:] if argv is None else list(argv)
    if not argv or argv[0] in ("-h", "--help"):
        print(help_text(program("fit")))
        return 0 if argv else 2
    known: list[Plan] = []

    def work() -> int:
        if slurm.in_job():
            slurm.listen()  # before anything heavy is imported
        known.append(Plan(argv))
        quiet_libraries()
        from lit_faces.runs.training import run

        try:
            run(known[0])
        except (RuntimeError, SystemExit) as error:
            lost = _lost(error)
            if lost is None:
                raise
            print(_obituary(known[0], lost), file=sys.stderr, flush=True)
            if isinstance(error, SystemExit):  # SLURM ends the step of a dead rank by SIGTERM, which may come first
                raise
            return 1
        return 0

    def go_on() -> str:
        return known[0].go_on if known else "run the same command again"

    return run_command(program("fit"), work, go_on, patient=slurm.in_job())


def _lost(error: BaseException | None) -> BaseException | None:
    """The error, or the one that it took the place of, that says that another process is gone; None: nothing does."""
    while error is not None:
        if isinstance(error, RuntimeError) and any(sign in str(error) for sign in _LOST):
            return error
        error = error.__context__
    return None


def _obituary(plan: Plan, error: BaseException) -> str:
    """What to say of a training that has lost one of its processes."""
    rank = os.environ.get("SLURM_PROCID") or os.environ.get("RANK") or os.environ.get("LOCAL_RANK", "0")
    first = str(error).strip().splitlines()[-1][:200]
    kept = last_checkpoint(plan.root).is_file()
    go_on = plan.go_on if kept else "no checkpoint had been written yet"
    return f"{program('fit')}: error: rank {rank} lost another process of the training ({first}); {go_on}"


if __name__ == "__main__":
    raise SystemExit(main())
