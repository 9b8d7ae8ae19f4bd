"""python -m lit_faces.study STUDY.yaml: which way of learning people is best? Methods x people x frames x seeds."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lit_faces.studies.study import Cell, Study

PROGRAM = "python -m lit_faces.study"
_WORKER: Any = None


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    from lit_faces.reports.tracking import add_wandb_argument

    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Learn people one after another by every method, and say what each gains and what it forgets. Goes "
        "on where it was killed; more processes or machines may work on the same --out at once.",
        epilog=f"example: {PROGRAM} experiments/study/personal.yaml --jobs 2",
    )
    parser.add_argument("study", type=Path, help="what is compared (experiments/study/*.yaml)")
    parser.add_argument("--out", type=Path, help="the study's folder (default: runs/study/<name of the file>)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)")
    parser.add_argument("--report", action="store_true", help="no learning: table and plots of what is there")
    add_wandb_argument(parser)
    parser.add_argument("--dry-run", action="store_true", help="list the cells and stop")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    args = build_parser().parse_args(argv)
    from concurrent.futures.process import BrokenProcessPool

    from lit_faces.arguments import UsageError, existing_file, read_experiment
    from lit_faces.reports.tracking import resolve_mode
    from lit_faces.studies.study import Study

    try:
        if args.jobs < 1:
            raise UsageError(f"--jobs: expected 1 or more, got {args.jobs}")
        resolve_mode(args.wandb)
        study = Study.read(read_experiment(existing_file(args.study)), str(args.study))
        out = args.out or Path("runs") / "study" / args.study.stem
        if args.dry_run:
            for cell in study.cells():
                print(cell.key)
            return 0
        _same_study(study, out)
        if not args.report:
            _learn(study, out, args.jobs)
        report(study, out, args.wandb)
    except BrokenProcessPool:
        print(f"{PROGRAM}: a process was killed (out of memory?): fewer --jobs; run again to go on", file=sys.stderr)
        return 2
    except (UsageError, ValueError, OSError) as error:
        if os.environ.get("LIT_FACES_DEBUG"):
            raise
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 2
    return 0


def _same_study(study: Study, out: Path) -> None:
    """Refuse to mix the results of two studies in one folder; further cells are welcome."""
    from lit_faces.arguments import UsageError
    from lit_faces.core.files import replace_file

    file, mine = out / "study.txt", study.fingerprint()
    if file.is_file() and file.read_text().strip() != mine:
        raise UsageError(
            f"{out}: holds the results of a study with another detector, people or recipe; choose another --out, or "
            "remove it"
        )
    replace_file(file, f"{mine}\n".encode())


def _learn(study: Study, out: Path, jobs: int) -> None:
    """Do all cells, in processes of one thread each, with a progress bar over persons."""
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor, wait

    from tqdm import tqdm

    from lit_faces.studies.study import Worker, missing_steps

    worker = Worker(study, out)
    worker.prepare()
    people = len(worker.people.names)
    left = missing_steps(study, out, people)
    total = people * len(study.cells())
    bar = tqdm(total=total, initial=total - left, unit="person", desc="learning", dynamic_ncols=True, mininterval=1)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, _start_worker, (study, out, jobs)) as pool, bar:
        while left := missing_steps(study, out, people):
            waiting = {pool.submit(_do, cell) for cell in study.cells()}
            while waiting:
                done, waiting = wait(waiting, timeout=2, return_when="FIRST_EXCEPTION")
                bar.update(total - missing_steps(study, out, people) - bar.n)
                for future in done:
                    if error := future.exception():
                        pool.shutdown(wait=False, cancel_futures=True)
                        raise error
            if left == missing_steps(study, out, people):  # all that is left is in other hands
                time.sleep(2)


def _start_worker(study: Study, out: Path, jobs: int) -> None:
    global _WORKER
    import torch

    from lit_faces.core.memory import keep_freed_memory
    from lit_faces.studies.study import Worker

    torch.set_num_threads(max(1, (os.cpu_count() or 1) // jobs))
    keep_freed_memory()
    _WORKER = Worker(study, out, os.getppid())


def _do(cell: Cell) -> None:
    _WORKER.run(cell)


def report(study: Study, out: Path, wandb: str = "disabled") -> None:
    """Write results.parquet, summary.md, summary.json and the plots, and print the table.

    Raises:
        ValueError: nothing is finished yet.
    """
    from dataclasses import asdict

    from lit_faces.core.files import replace_file
    from lit_faces.reports.results import circumstances, write_json
    from lit_faces.reports.tracking import tracked
    from lit_faces.studies.report import Truth, collect, plots, summarise, table, write_parquet
    from lit_faces.studies.study import Worker

    truth = Truth.of(Worker(study, out))
    rows = collect(study, out, truth)
    if not rows:
        raise ValueError(f"{out}: no cell of this study has learnt a person yet; run without --report")
    write_parquet(rows, out / "results.parquet")
    lines = summarise(rows, out, truth)
    text = table(lines)
    replace_file(out / "summary.md", text.encode())
    write_json(out / "summary.json", {"lines": [asdict(line) for line in lines], **circumstances()})
    print(text)
    written = plots(rows, lines, out, truth)
    for path in written:
        print(path)
    with tracked("study", wandb, out, {"fingerprint": study.fingerprint()}) as tracker:
        if tracker is not None:
            columns = list(asdict(lines[0]))
            tracker.table("tables/methods", columns, [[_cell(asdict(line)[key]) for key in columns] for line in lines])
            tracker.pictures({_caption(path): path for path in written})


def _cell(value: Any) -> Any:
    """What a W&B table takes: of an estimate with its interval the text."""
    if isinstance(value, tuple | list):
        return " to ".join("-" if v != v else f"{v:+.3f}" for v in value)
    return None if isinstance(value, float) and value != value else value


def _caption(path: Path) -> str:
    if path.stem.startswith("r_"):
        what = "ICC after learning each person (rows) on each person (columns), less the start"
        return f"R matrix of {path.stem[2:]}: {what}"
    return path.stem.replace("_", " ")


if __name__ == "__main__":
    raise SystemExit(main())
