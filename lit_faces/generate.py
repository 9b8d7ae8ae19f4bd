"""python -m lit_faces.generate PHOTO|CLIP --out DIR: a person's own training set, balanced, verified and labelled.

out/shard-*.tar, index.arrow, manifest.json   the set: `adapt --person`, `fit` and `evaluate` read it
out/report.html                               pictures first, then figures; contact.png, source.png and the plots beside
out/attempts.csv                              every picture that was asked for, kept or not, and why
out/results.json                              the figures by name
out/driven.webm, driven.png                   with --drive: the person acting like a clip
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lit_faces.persons.plan import Plan
    from lit_faces.persons.report import Figures
    from lit_faces.persons.sets import Attempt
    from lit_faces.persons.source import PersonSource

PROGRAM = "python -m lit_faces.generate"


def add_source_arguments(parser: argparse.ArgumentParser) -> None:
    """What `generate` and `personalise` share."""
    from lit_faces.persons.plan import PLANS
    from lit_faces.persons.verify import LABELS, Tolerances
    from lit_faces.reports.tracking import add_wandb_argument

    limits = Tolerances()
    parser.add_argument("source", type=Path, metavar="PHOTO|CLIP", help="photo or video of the person, from the front")
    parser.add_argument("--out", type=Path, required=True, help="folder to write; a stopped run goes on there")
    parser.add_argument("--n", type=int, default=300, help="pictures wanted (default: 300)")
    parser.add_argument("--plan", default="balanced", help=f"{', '.join(PLANS)} (default: balanced)")
    parser.add_argument("--prior", type=Path, help="labelled set whose AU combinations the plan natural follows")
    parser.add_argument("--face", type=int, help="which face of the photo, or person of the clip, from 0")
    parser.add_argument(
        "--source-au", default="auto", help="AUs of the source: auto, neutral, detector, or stated: 6=2,12=3"
    )
    parser.add_argument("--name", help="of the person (default: the file's name)")
    parser.add_argument("--generator", default="packaged", help="weights (.safetensors), or packaged (default)")
    parser.add_argument("--judge", default="packaged", help="who verifies: weights, or packaged (default)")
    parser.add_argument("--attempts", type=int, default=8, help="for each picture, at most (default: 8)")
    parser.add_argument("--labels", default="agreed", help=f"{', '.join(LABELS)} (default: agreed)")
    parser.add_argument("--max-nme", type=float, default=limits.nme, help=f"landmark error (default: {limits.nme})")
    parser.add_argument(
        "--max-identity", type=float, default=limits.identity, help=f"distance (default: {limits.identity})"
    )
    parser.add_argument("--max-leak", type=float, default=limits.leak, help=f"grades (default: {limits.leak})")
    parser.add_argument("--focus", default="6,17", help="AUs verified in every picture (default: 6,17), or none")
    parser.add_argument("--seed", type=int, default=0, help="of everything")
    parser.add_argument("--jobs", type=int, default=min(os.cpu_count() or 1, 8), help="processes")
    parser.add_argument("--accelerator", default="auto", help="cpu, gpu or auto")
    parser.add_argument("--overwrite", action="store_true", help="throw away a set in --out that was made otherwise")
    add_wandb_argument(parser)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        usage="%(prog)s PHOTO|CLIP --out DIR [options]",
        description="From a photo or a clip of a person: labelled pictures in other poses, with other AUs, verified.",
        epilog=f"example: {PROGRAM} anna.jpg --out anna_set --n 300 && python -m lit_faces.adapt --person anna_set "
        "--out anna_detector. Use a person's photo only with that person's consent.",
    )
    add_source_arguments(parser)
    parser.add_argument("--detector", default="generic", help="reads the source's AUs (default: generic)")
    parser.add_argument("--no-verify", action="store_true", help="keep every picture, labelled as asked")
    parser.add_argument("--plan-only", action="store_true", help="print the plan's table and stop")
    parser.add_argument("--drive", type=Path, metavar="CLIP", help="also let the person act like this clip")
    parser.add_argument("--drive-face", type=int, help="which person of that clip")
    parser.add_argument(
        "--drive-frames", type=int, default=300, help="frames of it, at most, spread over all of it (default: 300)"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    from lit_faces.arguments import UsageError

    args = build_parser().parse_args(argv)
    try:
        run(args)
    except (UsageError, ValueError, OSError) as error:
        if os.environ.get("LIT_FACES_DEBUG"):
            raise
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\n{PROGRAM}: interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130
    return 0


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Do what the command line asks; the figures of the set."""
    from lit_faces.core.memory import keep_freed_memory
    from lit_faces.reports.tracking import resolve_mode
    from lit_faces.tasks.au_detector import load_detector

    keep_freed_memory()
    began = time.monotonic()
    resolve_mode(args.wandb)
    plan = plan_of(args)
    if getattr(args, "plan_only", False):
        print(plan_table(plan))
        return {}
    clips = _driving_clip(args)
    detector = load_detector(args.detector)
    source = source_of(args, detector.predict_au)
    for note in [*source.notes, *plan.notes]:
        print(note)
    if getattr(args, "drive", None) is not None:
        drive(args, source, detector, clips)
    return make_set(args, source, plan, began)


def plan_of(args: argparse.Namespace) -> Plan:
    """The plan, before anything dear is begun.

    Raises:
        ValueError: options that cannot be.
    """
    from lit_faces.core.labelled import read_labelled
    from lit_faces.persons.plan import make_plan, prior_of

    if args.jobs < 1:
        raise ValueError(f"--jobs: expected 1 or more, got {args.jobs}")
    prior = None
    if args.prior is not None:
        if args.plan != "natural":
            raise ValueError(f"--prior belongs to --plan natural, not {args.plan}")
        prior = prior_of(read_labelled(args.prior, 32, need="intensity").au_intensity)
    return make_plan(args.plan, args.n, args.seed, prior)


def plan_table(plan: Plan) -> str:
    """Planned pictures by AU and intensity, and by side."""
    counts: dict[str, int] = {}
    for cell in plan.cell:
        for name in cell.rsplit(", ", 1):
            counts[name] = counts.get(name, 0) + 1
    width = max(map(len, counts))
    return "\n".join(
        [f"{plan.name} plan, {len(plan)} pictures, seed {plan.seed}"] + [f"{n:{width}}  {c}" for n, c in counts.items()]
    )


def source_of(args: argparse.Namespace, read: Any) -> PersonSource:
    """The person of the command line.

    Raises:
        ValueError, OSError: names the file and what is wrong with it.
    """
    from lit_faces.persons.landmark_model import LandmarkModel
    from lit_faces.persons.source import read_source

    source = read_source(args.source, 128, LandmarkModel(), read, args.face, args.source_au)
    source.name = args.name or args.source.stem
    return source


def settings_of(args: argparse.Namespace) -> Any:
    """Settings of the set."""
    import torch

    from lit_faces.persons.sets import Settings
    from lit_faces.persons.verify import Tolerances

    if args.accelerator in ("gpu", "cuda") and not torch.cuda.is_available():
        raise ValueError(f"--accelerator {args.accelerator}: no GPU is there; use cpu or auto")
    limits = Tolerances(focus=_numbers(args.focus), leak=args.max_leak, nme=args.max_nme, identity=args.max_identity)
    device = "cpu" if args.accelerator == "cpu" or not torch.cuda.is_available() else "cuda"
    return Settings(
        args.generator, args.judge, args.attempts, args.labels, not getattr(args, "no_verify", False), limits, device
    )


def _numbers(text: str) -> tuple[int, ...]:
    """``"6,17"`` to numbers, ``"none"`` to none."""
    if text.strip().lower() in ("", "none"):
        return ()
    try:
        return tuple(int(part.strip().upper().removeprefix("AU")) for part in text.split(","))
    except ValueError:
        raise ValueError(f"--focus: cannot read {text!r}; expected AU numbers with commas, such as 6,17") from None


def make_set(args: argparse.Namespace, source: PersonSource, plan: Plan, began: float) -> dict[str, Any]:
    """Generate, verify, report; the figures."""
    from lit_faces.persons.report import write_report
    from lit_faces.reports.results import circumstances, write_json
    from lit_faces.reports.tracking import track_set

    attempts = write_pictures(args, args.out, source, plan)
    figures, page = write_report(args.out, source, plan, attempts)
    flat = {
        **figures.flat(), "run/seconds": time.monotonic() - began, "run/source": str(args.source),
        "run/seed": args.seed, "run/neutral_probability": source.neutral, "run/fit_error": source.fits[0].error,
        **circumstances(),
    }  # fmt: skip
    write_json(args.out / "results.json", flat)
    tell(figures, args, time.monotonic() - began)
    print(page)
    track_set(args.out, args.wandb, flat, tracked_settings(args))
    return flat


def tracked_settings(args: argparse.Namespace) -> dict[str, Any]:
    """The options that say nothing of who it is."""
    names = ("n", "plan", "attempts", "labels", "max_nme", "max_identity", "max_leak", "focus", "seed")
    return {**{name: getattr(args, name) for name in names}, "generator": args.generator, "judge": args.judge}


def tell(figures: Figures, args: argparse.Namespace, seconds: float) -> None:
    """Say in a few lines what became of the set.

    Raises:
        ValueError: nothing was kept.
    """
    print(f"{figures.kept} of {figures.slots} pictures kept ({figures.attempts} asked for, {seconds:.0f} s)")
    if not getattr(args, "no_verify", False):
        icc = ", ".join(f"AU{n} {figures.icc_kept[f'AU{n:02d}']:.2f}" for n in (6, 17))
        print(f"asked against achieved, ICC(3,1) of what was kept: {icc}")
    if figures.short:
        some = ", ".join(figures.short[:8])
        print(f"cells with too few pictures: {some}{' ...' if len(figures.short) > 8 else ''}")
    if not figures.kept:
        raise ValueError(f"{args.source}: no picture passed the verification; attempts.csv has the reasons")


def write_pictures(args: argparse.Namespace, out: Path, source: PersonSource, plan: Plan) -> list[Attempt]:
    """Generate and verify with a progress bar."""
    from tqdm import tqdm

    from lit_faces.persons.sets import write_set

    settings = settings_of(args)
    if args.overwrite:
        clear(out)
    kept = 0
    with tqdm(total=len(plan), unit="picture", desc="generate and verify", smoothing=0.1) as bar:

        def progress(slots: int, filled: int) -> None:
            nonlocal kept
            kept += filled
            bar.set_postfix_str(f"{kept} kept", refresh=False)
            bar.update(slots)

        return write_set(out, source, plan, settings, args.jobs, progress)


def clear(out: Path) -> None:
    """Remove a set that `generate` wrote, and nothing else."""
    import shutil

    if not (out / "settings.json").is_file():
        if any(out.glob("shard-*")):
            raise ValueError(f"--overwrite: {out} holds a set that `generate` did not write; remove it yourself")
        return
    shutil.rmtree(out / "rejected", ignore_errors=True)
    for path in [
        *out.glob("shard-*"),
        out / "index.arrow",
        out / "manifest.json",
        out / "attempts.csv",
        out / "settings.json",
    ]:
        path.unlink(missing_ok=True)


def _driving_clip(args: argparse.Namespace) -> Any:
    """The faces of the driving clip, read first: a bad clip must not cost a set."""
    from lit_faces.core.clips import faces_of_clip

    if getattr(args, "drive", None) is None:
        return None
    if args.drive_frames < 1:
        raise ValueError(f"--drive-frames: expected 1 or more, got {args.drive_frames}")
    return faces_of_clip(args.drive, 128, args.drive_face, args.drive_frames)


def drive(args: argparse.Namespace, source: PersonSource, detector: Any, clip: Any) -> Path:
    """Write ``driven.webm`` (the clip beside the person, as long as the clip) and ``driven.png``."""
    import torch

    from lit_faces.core.sample import collate
    from lit_faces.core.video import write_video
    from lit_faces.persons.generators import load_generator
    from lit_faces.persons.landmark_model import LandmarkModel
    from lit_faces.persons.sets import drive_pictures
    from lit_faces.persons.source import acting
    from lit_faces.rendering.sheets import save_grid

    faces = collate(clip.samples)
    fits, level = acting(faces, LandmarkModel(), detector.predict_au)
    made = drive_pictures(load_generator(args.generator), source, fits, level)
    side = clip.beside(made)
    video = write_video(
        args.out / "driven.webm",
        torch.nn.functional.interpolate(side.float(), scale_factor=2, mode="bicubic")
        .round()
        .clamp(0, 255)
        .to(torch.uint8),
        [look.seconds for look in clip.looks],
        clip.duration,
    )
    without = sum(look.sample is None for look in clip.looks)
    if without:
        print(f"{args.drive}: no face in {without} of {clip.sampled} frames; the last expression is kept there")
    for note in clip.notes:
        print(f"{args.drive}: {note}")
    pick = torch.linspace(0, len(made) - 1, min(10, len(made))).round().long()
    save_grid(
        torch.cat([faces.image[pick], made[pick]]), len(pick), args.out / "driven.png", ["clip", source.name[:10]], []
    )
    print(video)
    return video


if __name__ == "__main__":
    raise SystemExit(main())
