"""python -m lit_faces.render set|sheet --out DIR ...: rendered faces with FACS ground truth."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m lit_faces.render",
        description="Render faces with FACS ground truth.",
        epilog="example: python -m lit_faces.render set --out faces --n 500 --size 128 --seed 7",
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
    for name in ("n", "frames_per_subject", "people"):
        if getattr(args, name, 1) < 1:
            print(
                f"lit_faces.render: --{name.replace('_', '-')} must be at least 1, got {getattr(args, name)}",
                file=sys.stderr,
            )
            return 2
    from lit_faces.rendering.renderer import FaceRenderer

    try:
        renderer = FaceRenderer(args.size, args.seed, args.head, args.device, yaw_limit=args.yaw_limit)
        start = time.perf_counter()
        if args.command == "set":
            from lit_faces.rendering.sets import write_folder, write_shards

            write = write_folder if args.format == "folder" else write_shards
            write(renderer, args.out, args.n, args.frames_per_subject)
            seconds = time.perf_counter() - start
            print(f"{args.n} faces in {args.out} ({args.format}), {args.n / max(seconds, 1e-6):.0f} faces/s")
        elif args.command == "person":
            from lit_faces.rendering.sets import write_clip, write_folder, write_photo

            larger = FaceRenderer(2 * args.size, args.seed, args.head, args.device, yaw_limit=args.yaw_limit)
            print(write_photo(larger, args.out / "photo.png"))
            print(write_clip(larger, args.out / "clip.webm"))
            print(write_folder(renderer, args.out / "labelled", args.n, args.n))
        else:
            from lit_faces.rendering.sheets import crowd_sheet, identity_sheet, pose_sheet, sweep_sheet

            for path in (
                crowd_sheet(renderer, args.out / "crowd.png"),
                identity_sheet(renderer, args.out / "identities_x_aus.png", args.people),
                sweep_sheet(renderer, args.out / "au_sweeps.png"),
                pose_sheet(renderer, args.out / "poses.png", args.people),
            ):
                print(path)
    except (ValueError, OSError) as error:
        print(f"lit_faces.render: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
