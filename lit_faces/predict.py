"""python -m lit_faces.predict VIDEO|PHOTO|FOLDER|camera:0 ... --out aus.csv: the AUs of every face in every frame.

See :mod:`lit_faces.reading.run` for what it writes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lit_faces.command import one_line, program, run_command
from lit_faces.core.words import count_of

if TYPE_CHECKING:
    from lit_faces.reading.options import PredictOptions
    from lit_faces.reading.run import Outcome, Progress
    from lit_faces.reading.sources import Job

_ENDINGS = (".csv", ".parquet", ".txt", ".tsv")
_OTHERS = (".json", ".xlsx", ".xls", ".ods", ".pkl", ".npy", ".npz", ".h5", ".mat", ".html", ".png", ".mp4")


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    from lit_faces.core.options import HelpFormatter, add_options
    from lit_faces.reading.options import PredictOptions

    called = program("predict")
    parser = argparse.ArgumentParser(
        prog=called,
        formatter_class=HelpFormatter,
        description="Read the Action Units of every face in every frame of videos, photos or a camera into tables.",
        epilog=f"example: {called} interview.mp4 --detector anna --zero auto --out aus.csv --page",
    )
    parser.add_argument("sources", nargs="+", metavar="VIDEO|PHOTO|FOLDER|camera:N", help="what is read")
    parser.add_argument(
        "--out", type=Path, required=True, help="the table (.csv, .parquet); of several videos a folder, one table each"
    )
    parser.add_argument("--share", help="K/N: only every N-th video or photo from the K-th, for job arrays")
    add_options(parser, PredictOptions)
    return parser


def tables_of(jobs: list[Job], out: Path, several: bool, ending: str) -> list[Path]:
    """Where each job's table goes.

    Raises:
        ValueError: several videos and one file; the name of another kind of file.
    """
    if out.suffix.lower() in _OTHERS and not out.is_dir():
        raise ValueError(f"--out {out}: a table is .csv or .parquet; name one of these, or a folder")
    if out.suffix.lower() in _ENDINGS and not out.is_dir():
        if several:
            raise ValueError(f"--out {out}: several videos have a table each: name a folder")
        return [out for _ in jobs]
    return [out / f"{job.name}{ending}" for job in jobs]


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A bar a job on the terminal, with the time left; a line now and then in a log file."""
    from tqdm import tqdm

    bars: dict[str, tqdm] = {}  # type: ignore[type-arg]  # of no items
    quiet = not sys.stderr.isatty()

    def progress(job: Job, done: float, total: float, rows: int) -> None:
        if job.title not in bars:
            for bar in bars.values():
                bar.close()
            unit = "photo" if job.kind == "photos" else "s"
            shape = "{desc} {percentage:3.0f}% |{bar}| {n:.0f}/{total:.0f} {unit}, {remaining} left{postfix}"
            bars[job.title] = tqdm(
                total=total or None, desc=Path(job.title).name, unit=unit, dynamic_ncols=True, smoothing=0.1,
                mininterval=20.0 if quiet else 0.2, bar_format=shape if total else None, initial=0,
            )  # fmt: skip
        bar = bars[job.title]
        bar.set_postfix_str(f"{rows} rows", refresh=False)
        bar.update(min(done, total or done) - bar.n)

    try:
        yield progress
    finally:
        for bar in bars.values():
            bar.close()


def told(done: Outcome) -> str:
    """What became of a job, in a line."""
    if done.already:
        return f"{done.table}: is there already"
    if done.photos:
        return f"{done.table}: {count_of(done.faces, 'face')} in {done.found} of {count_of(done.frames, 'photo')}"
    people = sorted(done.people.items())[:6]
    faces = ", ".join(f"face {who}: {count_of(count, 'frame')}" for who, count in people) or "no face"
    return f"{done.table}: {count_of(done.rows, 'row')} of {count_of(done.frames, 'frame')} ({faces})"


def read_all(jobs: list[Job], tables: list[Path], options: PredictOptions, say: Callable[[str], None]) -> int:
    """Read the jobs one after the other; one that cannot be read does not stop the others. The exit code."""
    from lit_faces.core.files import BusyError
    from lit_faces.reading.run import Predictor

    predictor = Predictor(options)
    code = 0
    for job, table in zip(jobs, tables):
        try:
            with progress_bar() as progress:
                done = predictor.run(job, table, progress)
        except (ValueError, FileExistsError, BusyError) as error:
            if len(jobs) == 1:
                raise
            print(f"{program('predict')}: {one_line(error)}", file=sys.stderr, flush=True)
            code = 1
            continue
        say(told(done))
        for path in done.files:
            say(str(path))
        for line in [*done.notes, *done.trouble]:
            print(f"{program('predict')}: {' '.join(line.split())}", file=sys.stderr, flush=True)
        code = 1 if done.trouble else code
    return code


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    args = build_parser().parse_args(argv)

    def work() -> int:
        from lit_faces.core.devices import leave_a_core
        from lit_faces.core.options import check_out, read_options
        from lit_faces.reading.options import PredictOptions
        from lit_faces.reading.sources import find_jobs, share_of

        options = read_options(PredictOptions, vars(args))
        jobs = find_jobs(args.sources)
        ending = ".parquet" if options.format == "parquet" else ".csv"
        several = len(jobs) > 1
        if several and options.overlay is not None:
            raise ValueError("--overlay: is of one video; read the videos one by one")
        jobs = share_of(jobs, args.share) if args.share else jobs
        tables = tables_of(jobs, args.out, several, ending)
        if not tables:
            print(f"{program('predict')}: share {args.share} has nothing to read")
            return 0
        check_out(tables[0].parent)
        leave_a_core()
        return read_all(jobs, tables, options, print)

    return run_command(
        program("predict"), work, "what was read is in NAME.partial.csv; the same command goes on from there"
    )


if __name__ == "__main__":
    raise SystemExit(main())
