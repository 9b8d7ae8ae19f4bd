"""python -m lit_faces.render set|sheet --out DIR ...: rendered faces with FACS ground truth."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from lit_faces.command import program, run_command

if TYPE_CHECKING:
    from lit_faces.rendering.renderer import FaceRenderer


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog=program("render"),
        description="Render faces with FACS ground truth.",
        epilog=f"example: {program('render')} set --out faces --n 500 --size 128 --seed 7",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("set", help="a labelled set: PNG and labels.csv, or tar shards")
    sheet = commands.add_parser("sheet", help="contact sheets: crowd, identities x AUs, AU sweeps 0-5, poses")
    person = commands.add_parser("person", help="one person: photo.png, clip.webm, and labelled/ with other frames")
    for command in (make, sheet, person):
        command.add_argument("--out", type=Path, required=True, help="folder to write to")
        command.add_argument("--size", type=int, default=128, help="side of the pictures, pixels (multiple of 8)")
        command.add_argument("--seed", type=int, default=0, help="another seed, other people")
        command.add_argument(
            "--head", default="parametric", help="parametric, or ict:PATH (a checkout of ICT-FaceKit or its npz)"
        )
        command.add_argument("--yaw-limit", type=float, default=25.0, help="largest yaw, degrees")
        command.add_argument("--device", default="cpu")
    person.add_argument("--n", type=int, default=40, help="labelled frames")
    make.add_argument("--n", type=int, default=500, help="number of pictures")
    make.add_argument("--frames-per-subject", type=int, default=1, help="pictures of each person")
    make.add_argument("--format", choices=("folder", "shards"), default="folder")
    sheet.add_argument("--people", type=int, default=6)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    args = build_parser().parse_args(argv)
    return run_command(program("render"), lambda: _render(args))


def _render(args: argparse.Namespace) -> None:
    """Check what is cheap to check, then draw."""
    for name in ("n", "frames_per_subject", "people"):
        if getattr(args, name, 1) < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {getattr(args, name)}")
    if args.out.exists() and not args.out.is_dir():
        raise NotADirectoryError(f"--out {args.out}: not a folder")
    args.out.mkdir(parents=True, exist_ok=True)
    from lit_faces.rendering.renderer import FaceRenderer

    renderer = FaceRenderer(args.size, args.seed, args.head, args.device, yaw_limit=args.yaw_limit)
    if args.command == "set":
        _write_set(renderer, args.out, args.n, args.frames_per_subject, args.format)
    elif args.command == "person":
        larger = FaceRenderer(2 * args.size, args.seed, args.head, args.device, yaw_limit=args.yaw_limit)
        _write_person(renderer, larger, args.out, args.n)
    else:
        _write_sheets(renderer, args.out, args.people)


def _write_set(renderer: FaceRenderer, out: Path, count: int, frames_per_subject: int, form: str) -> None:
    from lit_faces.rendering.sets import write_folder, write_shards

    start = time.perf_counter()
    (write_folder if form == "folder" else write_shards)(renderer, out, count, frames_per_subject)
    seconds = time.perf_counter() - start
    print(f"{count} faces in {out} ({form}), {count / max(seconds, 1e-6):.0f} faces/s")


def _write_person(renderer: FaceRenderer, larger: FaceRenderer, out: Path, count: int) -> None:
    from lit_faces.rendering.sets import write_clip, write_folder, write_photo

    print(write_photo(larger, out / "photo.png"))
    print(write_clip(larger, out / "clip.webm"))
    print(write_folder(renderer, out / "labelled", count, count))


def _write_sheets(renderer: FaceRenderer, out: Path, people: int) -> None:
    from lit_faces.rendering.sheets import crowd_sheet, identity_sheet, pose_sheet, sweep_sheet

    for path in (
        crowd_sheet(renderer, out / "crowd.png"),
        identity_sheet(renderer, out / "identities_x_aus.png", people),
        sweep_sheet(renderer, out / "au_sweeps.png"),
        pose_sheet(renderer, out / "poses.png", people),
    ):
        print(path)


if __name__ == "__main__":
    raise SystemExit(main())
