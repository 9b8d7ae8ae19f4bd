"""python -m lit_faces.prepare NAME --root DIR --out DIR: read a public data set once, and keep its faces as shards."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from pathlib import Path
from typing import Any

from lit_faces.command import program, run_command

READERS = (
    "disfa", "disfa_plus", "bp4d", "bp4d_plus", "ck_plus", "unbc", "rafdb", "affectnet", "fer2013", "affwild2",
    "emotionet", "folder", "generated",
)  # fmt: skip
_SHOWN = 8  # problems on the screen; failures.csv has all
_SHEET = (8, 4)


def build_parser(name: str | None = None) -> argparse.ArgumentParser:
    """The command line; with a name, with the options of that set."""
    parser = argparse.ArgumentParser(
        prog=program("prepare") if name is None else f"{program('prepare')} {name}",
        description="Decode a data set as it is shipped, find the faces, align and crop them, and write shards with "
        "labels. Goes on where it was killed; what cannot be read is listed in failures.csv.",
        epilog=f"sets: {', '.join(READERS)}; `{program('prepare')} NAME --help` shows a set's own options. "
        f"example: {program('prepare')} disfa --root /data/DISFA --out prepared/disfa --jobs 8",
    )
    if name is None:
        parser.add_argument("name", metavar="NAME", help="data set, see below")
    parser.add_argument("--root", type=Path, required=True, help="folder where the set was unpacked")
    parser.add_argument("--out", type=Path, help="folder to write to (not with --verify-only)")
    parser.add_argument("--size", type=int, default=128, help="side of the crops, pixels")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)")
    parser.add_argument("--landmarks", choices=("dlib", "own"), default="dlib", help="own: those that the set ships")
    parser.add_argument("--encoding", choices=("jpg", "png"), default="jpg")
    parser.add_argument("--shard-frames", type=int, default=1000, help="faces of a shard, at most")
    parser.add_argument("--subjects", help="only these people, with commas: SN001,SN002")
    parser.add_argument("--limit", type=int, help="only so many frames, the first of each recording")
    parser.add_argument("--verify-only", action="store_true", help="compare with the published counts, and stop")
    parser.add_argument(
        "--check", action="store_true", help="compare the prepared shards with their checksums, and stop"
    )
    parser.add_argument("--overwrite", action="store_true", help="throw away what --out holds with other settings")
    if name is not None:
        own = parser.add_argument_group(f"of {reader_class(name).title}")
        for item in reader_class(name).options():
            kind = type(item.default)
            own.add_argument(
                f"--{item.name.replace('_', '-')}",
                type=kind,
                default=item.default,
                choices=item.metadata["choices"] or None,
                help=f"{item.metadata['help']} (default: {item.default})",
            )
    return parser


def reader_class(name: str) -> Any:
    """The reader of a set, found by its name as experiments find their data modules.

    Raises:
        UsageError: no such set; names the nearest one.
    """
    from lit_faces.arguments import UsageError, suggestion

    if name not in READERS:
        raise UsageError(f"no data set {name!r}{suggestion(name, READERS)}")
    return importlib.import_module(f"data_modules.{name}").READER


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0].startswith("-"):
        build_parser().parse_args(argv or ["--help"])
        print(f"{program('prepare')}: the name of the set comes first: {', '.join(READERS)}", file=sys.stderr)
        return 2

    def work() -> int:
        cls = reader_class(argv[0])
        args = build_parser(argv[0]).parse_args(argv[1:])
        reader = cls(args.root, **{item.name: getattr(args, item.name) for item in cls.options()})
        return _run(reader, args)

    return run_command(program("prepare"), work, "the same command goes on where it stopped")


def _run(reader: Any, args: argparse.Namespace) -> int:
    from lit_faces.arguments import UsageError

    if args.check:
        return _check(_out(args))
    if args.jobs < 1 or (args.limit is not None and args.limit < 1):
        raise UsageError("--jobs and --limit: expected 1 or more")
    start = time.monotonic()
    clips = reader.clips()
    verify = importlib.import_module("data_modules.verify")
    print(verify.table(reader.name, clips))
    for choice in reader.choices:
        print(f"chosen: {choice}")
    if args.verify_only:
        _show(reader.problems)
        return 0
    out = _out(args)
    selection = {"subjects": args.subjects, "limit": args.limit}
    clips = select(clips, args.subjects, args.limit)
    if args.overwrite:
        _clear(out)
    outcome = _prepare(reader, out, clips, args, selection)
    write_failures(out / "failures.csv", outcome.problems)
    _show(outcome.problems)
    if outcome.faces:
        print(au_table(out))
        print(sheet(out))
    minutes = (time.monotonic() - start) / 60
    print(
        f"{outcome.faces:,} faces of {outcome.expected:,} labelled frames in {out} ({minutes:.1f} min); "
        f"{len(outcome.problems)} problems in {out / 'failures.csv'}"
    )
    return 0 if outcome.faces else 1


def _out(args: argparse.Namespace) -> Path:
    from lit_faces.arguments import UsageError

    if args.out is None:
        raise UsageError("--out is missing: the folder to write to")
    return args.out


def _prepare(reader: Any, out: Path, clips: Any, args: argparse.Namespace, selection: dict[str, Any]) -> Any:
    from tqdm import tqdm

    preparation = importlib.import_module("data_modules.preparation")
    settings = preparation.Settings(args.size, args.landmarks, args.encoding, args.shard_frames)
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # broken videos are reported by us, once
    with tqdm(total=sum(map(len, clips)), desc=f"preparing {reader.name}", unit="frame", dynamic_ncols=True) as bar:
        lost = 0

        def progress(done: int, failed: int) -> None:
            nonlocal lost
            lost += failed
            bar.update(done)
            bar.set_postfix(lost=lost)

        return preparation.prepare(reader, out, settings, clips, args.jobs, progress, selection)


def select(clips: Any, subjects: str | None, limit: int | None) -> Any:
    """The clips of the named people, the first ``limit`` frames in all, dealt evenly over the recordings.

    Raises:
        UsageError: nobody of that name.
    """
    from lit_faces.arguments import UsageError, suggestion

    if subjects:
        wanted = {name.strip() for name in subjects.split(",") if name.strip()}
        known = {clip.subject.partition(":")[2] for clip in clips}
        for name in sorted(wanted - known):
            raise UsageError(f"--subjects: no {name!r} in this copy{suggestion(name, known)}")
        clips = [clip for clip in clips if clip.subject.partition(":")[2] in wanted]
    if limit is None:
        return clips
    left, taken = limit, []
    for number, clip in enumerate(clips):
        count = min(len(clip), -(-left // (len(clips) - number)))
        if count:
            taken.append(clip.select(slice(0, count)))
        left -= count
    return taken


def _clear(out: Path) -> None:
    """Remove what a preparation wrote, and nothing else."""
    for pattern in ("shard-*.tar", "shard-*.arrow", "index.arrow", "manifest.json", "settings.json", "failures.csv"):
        for path in out.glob(pattern):
            path.unlink()


def _check(out: Path) -> int:
    from lit_faces.core.shards import ShardSet

    shards = ShardSet(out)
    wrong = shards.damaged()
    for name in wrong:
        path = out / name
        path.with_suffix(".arrow").unlink(missing_ok=True)  # the next run makes it anew
        print(f"{path}: damaged; run the prepare command again, it makes this shard anew", file=sys.stderr)
    if not wrong:
        print(f"{out}: {len(shards):,} faces in {len(shards.manifest['shards'])} shards, all as they were written")
    return 2 if wrong else 0


def _show(problems: Any) -> None:
    for problem in problems[:_SHOWN]:
        line = f", line {problem.line}" if problem.line else ""
        frames = f" (frames {problem.frames})" if problem.frames else ""
        print(f"problem: {problem.file}{line}: {problem.reason}{frames}"[:300])
    if len(problems) > _SHOWN:
        print(f"... and {len(problems) - _SHOWN} more problems")


def write_failures(path: Path, problems: Any) -> None:
    """Every problem as a row: file, line, clip, frames, reason."""
    from lit_faces.core.csv_files import csv_bytes
    from lit_faces.core.files import replace_file

    rows = [(problem.file, problem.line or None, problem.clip, problem.frames, problem.reason) for problem in problems]
    replace_file(path, csv_bytes(("file", "line", "clip", "frames", "reason"), rows))


def au_table(out: Path) -> str:
    """Coded and positive faces of every AU, and expressions, of a prepared set."""
    import numpy as np

    from lit_faces.core.facs import AU_KEYS, EMOTIONS
    from lit_faces.core.shards import ShardSet

    shards = ShardSet(out)
    rows = []
    for key, present, grade in zip(AU_KEYS, shards.au_occurrence.T, shards.au_intensity.T):
        coded = int(np.isfinite(present).sum())
        if coded:
            rows.append(f"{key:10}{coded:>10,}{int(np.nansum(present)):>10,}{int(np.isfinite(grade).sum()):>10,}")
    for index, name in enumerate(EMOTIONS):
        if count := int((shards.emotion == index).sum()):
            rows.append(f"{name:10}{count:>10,}")
    return "\n".join([f"{'':10}{'coded':>10}{'present':>10}{'graded':>10}", *rows]) if rows else "no labels"


def sheet(out: Path, seed: int = 0) -> Path:
    """``sheet.png``: faces drawn at random, with landmarks, AUs and who they are. Look at it."""
    import numpy as np
    from PIL import Image, ImageDraw

    from lit_faces.core.facs import AUS, EMOTIONS
    from lit_faces.core.shards import ShardSet
    from lit_faces.reports.pictures import cell_size, paste, save_png, write

    shards = ShardSet(out)
    count = min(len(shards), _SHEET[0] * _SHEET[1])
    rows = np.sort(np.random.default_rng(seed).choice(len(shards), count, replace=False))
    faces = shards.gather(rows)
    cell, text = cell_size(faces.image.shape[-1]), 34
    picture = Image.new("RGB", (_SHEET[0] * cell, -(-count // _SHEET[0]) * (cell + text)), "white")
    draw = ImageDraw.Draw(picture)
    scale = cell / faces.image.shape[-1]
    for place in range(count):
        x, y = place % _SHEET[0] * cell, place // _SHEET[0] * (cell + text)
        paste(picture, faces.image[place], x, y, cell)
        for px, py in ((faces.landmarks[place] + 0.5) * scale).nan_to_num(-9).tolist():
            if px > 0:
                draw.point([(x + px + dx, y + py + dy) for dx in (0, 1) for dy in (0, 1)], fill="cyan")
        grades, present = faces.au_intensity[place].tolist(), faces.au_occurrence[place].tolist()
        labels = [f"{au}:{g:g}" if g == g else str(au) for au, g, p in zip(AUS, grades, present) if g > 0 or p == 1]
        emotion = int(faces.emotion[place])
        write(draw, x + 2, y + cell, f"{faces.subject[place].partition(':')[2]} {int(faces.frame[place])}", cell - 4)
        write(draw, x + 2, y + cell + 16, " ".join([*([EMOTIONS[emotion]] if emotion >= 0 else []), *labels]), cell - 4)
    return save_png(picture, out / "sheet.png")


if __name__ == "__main__":
    raise SystemExit(main())
