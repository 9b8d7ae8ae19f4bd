"""python -m lit_faces.personalise PHOTO|CLIP --out DIR: from one photo to a person's own detector, in one command.

out/report.html            pictures and figures of the whole way, one file
out/set/                   the generated, verified set (`lit_faces.generate`)
out/detector/              detector.safetensors, memory.safetensors, report.md (`lit_faces.adapt`)
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lit_faces.reports.page import Page

PROGRAM = "python -m lit_faces.personalise"
_PASSED_ON = ("detector", "method", "memory", "others", "generic", "test", "steps", "capacity", "seed", "accelerator")


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    from lit_faces.generate import add_source_arguments
    from lit_faces.persons.recipes import Recipe

    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        usage="%(prog)s PHOTO|CLIP --out DIR [options]",
        description="From a photo or a clip to the person's own AU detector: generate, verify, adapt, report.",
        epilog=f"example: {PROGRAM} anna.jpg --out anna. The next person: {PROGRAM} ben.jpg --out "
        "ben --detector anna/detector/detector.safetensors --memory anna/detector/memory.safetensors",
    )
    add_source_arguments(parser)
    parser.add_argument("--detector", default="generic", help="exported detector, or generic (default)")
    parser.add_argument("--memory", type=Path, help="memory.safetensors of an earlier person")
    parser.add_argument("--method", help="of adapting (default: ewc_replay); see adapt --help")
    parser.add_argument("--test", type=Path, help="labelled real faces of the person for the report")
    parser.add_argument("--others", type=Path, help="labelled set the detector was trained on (default: rendered)")
    parser.add_argument("--generic", type=Path, help="labelled set of strangers for the report (default: rendered)")
    parser.add_argument("--steps", type=int, default=Recipe().steps, help="of training")
    parser.add_argument("--capacity", default="600", help='of a new memory: faces, or bytes such as "64MB"')
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
    """Do what the command line asks; the figures of the set and of the detector."""
    from lit_faces import adapt, generate
    from lit_faces.core.memory import keep_freed_memory
    from lit_faces.persons.report import summarise, write_report
    from lit_faces.persons.sets import fingerprint
    from lit_faces.reports.results import write_json
    from lit_faces.reports.tracking import resolve_mode, track_detector, track_set
    from lit_faces.tasks.au_detector import load_detector

    keep_freed_memory()
    began = time.monotonic()
    resolve_mode(args.wandb)
    plan = generate.plan_of(args)
    shutil.rmtree(args.out / ".detector", ignore_errors=True)  # of a run that was stopped
    learning = _adapt_arguments(args)
    learning.out = args.out / ".detector"  # what is half done never bears the name of what is done
    adapt.check(learning)
    source = generate.source_of(args, load_detector(args.detector).predict_au)
    for note in [*source.notes, *plan.notes]:
        print(note)
    key = fingerprint(source, plan, generate.settings_of(args))
    final = args.out / "detector"
    asked = {"set": key, **{name: str(getattr(learning, name)) for name in _PASSED_ON}}
    if final.exists() and not args.overwrite and _made_of(final) != asked:
        raise ValueError(
            f"{final}: was made from another photo or with other settings: choose another --out, or --overwrite"
        )
    attempts = generate.write_pictures(args, args.out / "set", source, plan)
    figures = summarise(plan, attempts)
    seconds = time.monotonic() - began
    generate.tell(figures, args, seconds)
    if final.exists() and _made_of(final) == asked:
        print(f"{final}: is there already")
        results = json.loads((final / "results.json").read_text())
    else:
        results = adapt.adapt(learning)
        write_json(learning.out / "made_of.json", asked)
        if final.exists():
            shutil.rmtree(final)
        learning.out.rename(final)
    results = {**results, **figures.flat(), "run/seconds/set": seconds, "run/seconds": time.monotonic() - began}

    def first(page: Page) -> None:
        _detector_part(page, final, results, args)

    page = write_report(args.out / "set", source, plan, attempts, args.out / "report.html", first)[1]
    write_json(args.out / "results.json", results)
    track_set(args.out / "set", args.wandb, figures.flat(), generate.tracked_settings(args))
    settings = {name: getattr(args, name) for name in ("method", "steps", "capacity", "seed")}
    track_detector(final, args.wandb, results, args.detector, args.out / "set", settings)
    print(f"{final / 'detector.safetensors'}\n{page}\n{time.monotonic() - began:.0f} s")
    return results


def _adapt_arguments(args: argparse.Namespace) -> argparse.Namespace:
    """The arguments of `adapt` that make the detector."""
    from lit_faces.adapt import build_parser as adapt_parser

    words = [
        "--person",
        str(args.out / "set"),
        "--out",
        str(args.out / "detector"),
        "--name",
        args.name or args.source.stem,
    ]
    learning = adapt_parser().parse_args(words)
    for name in _PASSED_ON:
        setattr(learning, name, getattr(args, name))
    return learning


def _made_of(folder: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads((folder / "made_of.json").read_text()))
    except (OSError, ValueError):
        return None


def _detector_part(page: Page, folder: Path, results: dict[str, Any], args: argparse.Namespace) -> None:
    def cell(name: str) -> str:
        value = results.get(name, float("nan"))
        return "-" if value is None or value != value else f"{value:.2f}"

    page.heading("The detector")
    page.facts(
        [
            ("seconds in all", f"{results['run/seconds']:.0f}"),
            ("ICC on the person, before", cell("person/before/icc/mean")),
            ("ICC on the person, after", cell("person/after/icc/mean")),
            ("ICC on strangers, before", cell("generic/before/icc/mean")),
            ("ICC on strangers, after", cell("generic/after/icc/mean")),
        ]
    )
    if args.test is None:
        page.text(
            "'The person' are generated pictures that were not learnt from, with the labels that they were asked "
            "for: they "
            "show that learning worked, not how well real pictures are read. Give labelled real faces with --test "
            "to know.",
            note=True,
        )
    page.picture(
        folder / "before_after.png", "Before and after, by AU; crosses are strangers, who must not be forgotten."
    )
    page.picture(folder / "calibration.png", "What is read at each intensity, before and after.")


if __name__ == "__main__":
    raise SystemExit(main())
