"""python -m lit_faces.prepare NAME --root DIR --out DIR: read a public data set once, and keep its faces as shards."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

from lit_faces.command import program, run_command


def build_parser(name: str | None = None) -> argparse.ArgumentParser:
    """The command line; with a name, with the options of that set."""
    parser = argparse.ArgumentParser(
        prog=program("prepare") if name is None else f"{program('prepare')} {name}",
        description="Decode a data set as it is shipped, find the faces, align and crop them, and write shards with "
        "labels. Goes on where it was killed; what cannot be read is listed in failures.csv.",
        epilog=f"sets: {', '.join(reader_names())}; `{program('prepare')} NAME --help` shows a set's own options. "
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


def reader_names() -> list[str]:
    """Names of the sets: whatever ``data_modules`` holds a reader of."""
    return list(importlib.import_module("data_modules").reader_names())


def reader_class(name: str) -> Any:
    """The reader of a set, found by its name as experiments find their data modules.

    Raises:
        UsageError: no such set; names the nearest one.
    """
    from lit_faces.arguments import UsageError, suggestion

    if name not in (known := reader_names()):
        raise UsageError(f"no data set {name!r}{suggestion(name, known)}")
    return importlib.import_module(f"data_modules.{name}").READER


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0].startswith("-"):
        build_parser().parse_args(argv or ["--help"])
        print(f"{program('prepare')}: the name of the set comes first: {', '.join(reader_names())}", file=sys.stderr)
        return 2

    def work() -> int:
        cls = reader_class(argv[0])
        args = build_parser(argv[0]).parse_args(argv[1:])
        if args.out is None and not args.verify_only:
            raise ValueError("--out is missing: the folder to write to")
        if args.check:
            return check(args.out)
        options_class = importlib.import_module("data_modules.units").PrepareOptions
        options = options_class(**{field.name: getattr(args, field.name) for field in fields(options_class)})
        reader = cls(args.root, **{item.name: getattr(args, item.name) for item in cls.options()})
        return verify(reader) if args.verify_only else run(reader, options)

    return run_command(program("prepare"), work, "the same command goes on where it stopped")


def run(reader: Any, options: Any) -> int:
    """Prepare a set as its ``data_modules.units.PrepareOptions`` ask, saying what comes of it; the exit code."""
    from lit_faces.reports.prepared import au_table, problem_lines, sheet

    start = time.monotonic()
    outcome = importlib.import_module("data_modules.preparation").run(reader, options, _clips(reader))
    print(problem_lines(outcome.problems))
    if outcome.faces:
        print(au_table(options.out))
        print(sheet(options.out))
    minutes = (time.monotonic() - start) / 60
    print(
        f"{outcome.faces:,} faces of {outcome.expected:,} labelled frames in {options.out} ({minutes:.1f} min); "
        f"{len(outcome.problems)} problems in {options.out / 'failures.csv'}"
    )
    return 0 if outcome.faces else 1


def verify(reader: Any) -> int:
    """Compare a copy with the published counts; the exit code."""
    from lit_faces.reports.prepared import problem_lines

    _clips(reader)
    print(problem_lines(reader.problems))
    return 0


def _clips(reader: Any) -> Any:
    clips = reader.clips()
    print(importlib.import_module("data_modules.verify").table(reader.name, clips))
    for choice in reader.choices:
        print(f"chosen: {choice}")
    return clips


def check(out: Path) -> int:
    """Compare shards with their checksums; the exit code."""
    from lit_faces.core.shards import ShardSet

    shards = ShardSet(out)
    if wrong := shards.damaged():
        importlib.import_module("data_modules.preparation").forget(out, wrong)
        for name in wrong:
            print(f"{out / name}: damaged; run the prepare command again, it makes this shard anew", file=sys.stderr)
        return 2
    print(f"{out}: {len(shards):,} faces in {len(shards.manifest['shards'])} shards, all as they were written")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
