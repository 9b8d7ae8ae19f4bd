"""python -m lit_faces.adapt --detector FILE --person DIR: a detector becomes one person's expert, and forgets nobody.

out/detector.safetensors   the personal detector, with its card
out/memory.safetensors     what the next person's learning needs; give it with --memory tomorrow
out/report.md, results.json, before_after.png, calibration.png
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from lit_faces.core.sample import FaceBatch
    from lit_faces.persons.learner import PersonalLearner
    from lit_faces.tasks.au_detector import AUDetector

PROGRAM = "python -m lit_faces.adapt"
#: The population that the shipped detector was trained on (experiments/detector.yaml), rendered again on demand.
POPULATION = {"seed": 5000, "smooth_share": 0.35, "spread": 1.15, "focus_aus": (6, 17)}
_OTHERS, _GENERIC = (0, 320, 2), (2_004_000, 128, 2)  # first subject, frames, frames a person


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    from lit_faces.persons.recipes import Recipe
    from lit_faces.reports.tracking import add_wandb_argument

    recipe = Recipe()
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Adapt an AU detector to one person from labelled (or generated) images; others stay known.",
        epilog=f"example: {PROGRAM} --detector generic --person anna/ --out anna_detector && "
        f"{PROGRAM} --detector anna_detector/detector.safetensors --memory anna_detector/memory.safetensors "
        "--person ben/ --out ben_detector",
    )
    parser.add_argument("--detector", default="generic", help="exported detector (.safetensors), or generic (default)")
    parser.add_argument(
        "--person", type=Path, required=True, help="the person's faces: folder with labels.csv, or shards"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--name", help="of the person (default: the subject in the labels, or the folder's name)")
    parser.add_argument("--method", help="ewc_replay (default), replay, ewc, finetune, head_only, ridge, affine, ...")
    parser.add_argument("--memory", type=Path, help="memory.safetensors of an earlier adaptation")
    parser.add_argument(
        "--others", type=Path, help="labelled set the detector was trained on (default: rendered people)"
    )
    parser.add_argument(
        "--generic", type=Path, help="labelled set of strangers for the report (default: rendered people)"
    )
    parser.add_argument("--test", type=Path, help="labelled set of the person for the report (default: --held-out)")
    parser.add_argument("--held-out", type=float, default=0.2, help="share of the person's faces kept for the report")
    parser.add_argument("--steps", type=int, default=recipe.steps, help="of training")
    parser.add_argument("--capacity", default="600", help='of a new memory: faces, or bytes such as "64MB"')
    parser.add_argument("--seed", type=int, default=0, help="of everything")
    parser.add_argument("--accelerator", default="auto", help="cpu, gpu or auto")
    add_wandb_argument(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    args = build_parser().parse_args(argv)
    try:
        adapt(args)
        for name in ("report.md", "before_after.png", "calibration.png", "detector.safetensors"):
            print(args.out / name)
    except (ValueError, OSError) as error:
        if os.environ.get("LIT_FACES_DEBUG"):
            raise
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 2
    return 0


def adapt(args: argparse.Namespace) -> dict[str, Any]:
    """Do what the command line asks; the figures of the report."""
    import torch

    from lit_faces.core.labelled import read_labelled
    from lit_faces.core.memory import keep_freed_memory
    from lit_faces.reports.tracking import track_detector
    from lit_faces.tasks.au_detector import load_detector

    keep_freed_memory()
    began = time.monotonic()
    check(args)
    detector = load_detector(args.detector)
    faces = read_labelled(args.person, detector.size)
    name = args.name or _one_name(faces, args.person)
    train, test, held_out = _split(faces, args, detector.size)
    if args.memory is None:
        _check_new(args)
    if str(args.method).startswith("neutral"):
        train = _neutral_first(train, args)
    clock = {"reading": time.monotonic() - began}
    generic = _set_or_rendered(args.generic, detector.size, *_GENERIC)
    learner = _learner(args, detector, clock)
    before = {"person": learner.predict(test.image, name), "generic": learner.predict(generic.image)}
    began_learning = time.monotonic()
    accelerator = "cpu" if args.accelerator == "auto" and not torch.cuda.is_available() else args.accelerator
    learner.learn(name, train, accelerator)
    learner.detector.cpu()
    clock["learning"] = time.monotonic() - began_learning
    after = {"person": learner.predict(test.image, name), "generic": learner.predict(generic.image)}
    figures = _figures(test, generic, before, after)
    figures["run/seconds"] = time.monotonic() - began
    figures.update({f"run/seconds/{key}": value for key, value in clock.items()})
    figures.update(
        {
            "run/person": name, "run/method": learner.method, "run/frames": len(train), "run/test_frames": len(test),
            "run/test_is": held_out, "run/learnt": learner.learnt, "run/detector": str(args.detector),
            "run/memory": str(args.memory), "run/seed": args.seed,
        }
    )  # fmt: skip
    _write(args.out, learner, name, figures, test, generic, before, after)
    settings = {"method": learner.method, "steps": args.steps, "capacity": args.capacity, "seed": args.seed}
    track_detector(args.out, args.wandb, figures, args.detector, args.person, settings)
    return figures


def check(args: argparse.Namespace) -> None:
    """Refuse options that cannot be, before anything dear is begun.

    Raises:
        ValueError: names the option.
    """
    import torch

    from lit_faces.persons.methods import find_method
    from lit_faces.reports.tracking import resolve_mode

    resolve_mode(args.wandb)

    if args.method is not None:
        find_method(args.method, "--method")
    if not 0 <= args.held_out < 1 or args.steps < 1:
        raise ValueError(f"--held-out: expected 0..1, and --steps 1 or more, got {args.held_out} and {args.steps}")
    if args.accelerator in ("gpu", "cuda") and not torch.cuda.is_available():
        raise ValueError(f"--accelerator {args.accelerator}: no GPU is there; use cpu or auto")
    if (args.out / "memory.safetensors").exists():
        raise ValueError(f"--out {args.out}: holds the memory of an earlier adaptation; choose another folder")
    if args.memory is not None and args.memory.resolve().parent == args.out.resolve():
        raise ValueError(f"--out {args.out}: holds the memory that is read; write the next person elsewhere")


def _one_name(faces: FaceBatch, path: Path) -> str:
    """The subject, if there is one."""
    subjects = sorted({subject for subject in faces.subject if subject})
    if len(subjects) > 1:
        raise ValueError(
            f"{path}: faces of {len(subjects)} people ({subjects[0]}, {subjects[1]}, ...): adapt to one person at a "
            "time, or say with --name that they are one"
        )
    return subjects[0] if subjects else path.resolve().stem


def _check_new(args: argparse.Namespace) -> None:
    """A personal detector without its memory would forget its people."""
    from lit_faces.core.weights import load_weights

    if str(args.detector) in ("generic", "packaged"):
        return
    learnt = load_weights(args.detector)[1].get("learnt")
    if learnt:
        raise ValueError(
            f"--detector {args.detector}: has learnt {', '.join(learnt)}, who would be forgotten; give --memory with "
            "the memory.safetensors that was written beside it"
        )


def _neutral_first(faces: FaceBatch, args: argparse.Namespace) -> FaceBatch:
    """Neutral faces before the others: the first is taken for the person's resting face."""
    neutral = (faces.au_intensity.nan_to_num(0.0) == 0).all(1)
    coded = faces.au_intensity.isfinite().any(1)
    if not bool((neutral & coded).any()) and bool(coded.any()):
        raise ValueError(f"{args.person}: --method {args.method} needs a neutral face (all coded AUs 0), found none")
    return faces.select((~(neutral & coded)).int().argsort(stable=True))


def _split(faces: FaceBatch, args: argparse.Namespace, size: int) -> tuple[FaceBatch, FaceBatch, str]:
    """What is learnt, what is tested, and what the test is."""
    import torch

    from lit_faces.core.labelled import read_labelled
    from lit_faces.core.seeding import generator_for
    from lit_faces.persons.methods import find_method

    if not bool(faces.au_intensity.isfinite().any()) and (args.method is None or find_method(args.method).labels):
        raise ValueError(f"{args.person}: no AU is coded in any face: labels.csv needs columns such as au6, au17")
    if args.test is not None:
        return faces, read_labelled(args.test, size, need="intensity"), str(args.test)
    count = min(round(args.held_out * len(faces)), len(faces) - 1)
    if count < 4:
        return faces, faces, "the faces that were learnt from (too few to hold some out): says nothing of new pictures"
    order = torch.randperm(len(faces), generator=generator_for(args.seed, 0x7E57))
    rest, kept = order[count:].sort().values, order[:count].sort().values
    return faces.select(rest), faces.select(kept), f"{count} faces of the person that were not learnt from"


def _set_or_rendered(path: Path | None, size: int, first: int, frames: int, each: int) -> FaceBatch:
    """A labelled set, or people of the shipped detector's population."""
    import torch

    from lit_faces.core.labelled import read_labelled
    from lit_faces.rendering.renderer import FaceRenderer

    if path is not None:
        return read_labelled(path, size, need="intensity")
    renderer = FaceRenderer(max(32, -(-size // 8) * 8), **POPULATION)  # type: ignore[arg-type]
    index = torch.arange(frames)
    return renderer.render(first + index // each, index % each)


def _learner(args: argparse.Namespace, detector: AUDetector, clock: dict[str, float]) -> PersonalLearner:
    """A new learner, or the one of an earlier adaptation."""
    from lit_faces.core.weights import load_weights
    from lit_faces.persons.learner import PersonalLearner, shipped_fisher
    from lit_faces.persons.methods import find_method
    from lit_faces.persons.recipes import Recipe

    capacity = int(args.capacity) if str(args.capacity).isdigit() else str(args.capacity)
    recipe = Recipe(steps=args.steps, seed=args.seed)
    began = time.monotonic()
    if args.memory is not None:
        card = load_weights(args.memory)[1]
        method = str(card.get("method", "ewc_replay"))
        if args.method not in (None, method):
            raise ValueError(f"{args.memory}: was kept by the method {method}, not {args.method}: leave --method out")
        find_method(method, f"{args.memory}: method")
        kept = Recipe(**{**card["recipe"], "steps": args.steps, "seed": args.seed})
        learner = PersonalLearner(detector, method, kept, card["capacity"], card["fisher_samples"])
        given = {key: value.clone() for key, value in detector.state_dict().items()}
        learner.load(args.memory)
        if learner.how.fit is None:  # with those, the written detector has a person's own head
            _same_detector(given, learner.detector.state_dict(), args)
    else:
        learner = PersonalLearner(detector, args.method or "ewc_replay", recipe, capacity)
        others = _set_or_rendered(args.others, detector.size, *_OTHERS)
        fisher = shipped_fisher(str(args.detector))
        learner.start(others, _set_or_rendered(args.generic, detector.size, 1_006_000, 160, 4), fisher)
    clock["preparing"] = time.monotonic() - began
    return learner


def _same_detector(given: dict[str, Tensor], kept: dict[str, Tensor], args: argparse.Namespace) -> None:
    """The detector beside the memory, but for the rounding of the weight file."""
    import torch

    for key, value in kept.items():
        rounded = value.half().float() if value.is_floating_point() else value
        if key.startswith(("backbone.", "head.")) and not any(
            torch.allclose(given[key].float(), one.float(), 1e-5, 1e-7) for one in (value, rounded)
        ):
            raise ValueError(
                f"--detector {args.detector}: is not the detector that {args.memory} belongs to ({key} differs): give "
                "the detector.safetensors that was written beside it"
            )


def _figures(
    test: FaceBatch, generic: FaceBatch, before: dict[str, Tensor], after: dict[str, Tensor]
) -> dict[str, Any]:
    from lit_faces.core.facs import AU_KEYS
    from lit_faces.studies.scores import scores

    figures: dict[str, Any] = {}
    for group, faces in (("person", test), ("generic", generic)):
        for when, readings in (("before", before), ("after", after)):
            icc, error = scores(faces.au_intensity, readings[group])
            for key, one, other in zip(AU_KEYS, icc, error):
                figures[f"{group}/{when}/icc/{key}"], figures[f"{group}/{when}/mae/{key}"] = float(one), float(other)
            for figure, values in (("icc", icc), ("mae", error)):
                known = values[values == values]
                figures[f"{group}/{when}/{figure}/mean"] = float(known.mean()) if len(known) else float("nan")
    return figures


def _write(
    out: Path,
    learner: PersonalLearner,
    name: str,
    figures: dict[str, Any],
    test: FaceBatch,
    generic: FaceBatch,
    before: dict[str, Tensor],
    after: dict[str, Tensor],
) -> None:
    from lit_faces.reports.results import circumstances, write_json

    out.mkdir(parents=True, exist_ok=True)
    learner.save(out / "memory.safetensors")
    learner.for_person(name).export_weights(
        out / "detector.safetensors",
        command=" ".join(["python", "-m", "lit_faces.adapt", *sys.argv[1:]]),
        learnt=learner.learnt,
        method=learner.method,
        figures={k: round(v, 4) for k, v in figures.items() if isinstance(v, float) and k.endswith("mean") and v == v},
    )
    write_json(out / "results.json", {**figures, **circumstances()})
    text = report(figures)
    (out / "report.md").write_text(text, encoding="utf-8")
    print(text)
    _bars(figures, out)
    _calibration(test, before["person"], after["person"], out)


def report(figures: dict[str, Any]) -> str:
    """Markdown: what changed by AU, for the person and for strangers, and what it cost."""
    from lit_faces.core.facs import AU_KEYS

    def cell(name: str) -> str:
        value = figures[name]
        return "-" if value != value else f"{value:.2f}"

    lines = [
        f"# {figures['run/person']}: {figures['run/method']} on {figures['run/frames']} faces", "",
        f"Tested on {figures['run/test_is']}; strangers are people whom nobody learnt. Took "
        f"{figures['run/seconds']:.0f} s: preparing {figures['run/seconds/preparing']:.0f} s, learning "
        f"{figures['run/seconds/learning']:.0f} s. People learnt so far: {', '.join(figures['run/learnt'])}.", "",
        "| AU | ICC(3,1) before | after | MAE before | after | strangers: ICC before | after |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for key in (*AU_KEYS, "mean"):
        names = [f"{g}/{w}/{f}/{key}" for g, f in (("person", "icc"), ("person", "mae")) for w in ("before", "after")]
        names += [f"generic/{when}/icc/{key}" for when in ("before", "after")]
        lines.append("| " + " | ".join([key, *(cell(name) for name in names)]) + " |")
    return "\n".join(lines) + "\n"


def _bars(figures: dict[str, Any], out: Path) -> Path:
    """Mean absolute error by AU, before and after, of the person; a cross marks strangers."""
    import numpy as np
    from matplotlib.figure import Figure

    from lit_faces.core.facs import AU_KEYS
    from lit_faces.reports.pictures import save_figure

    figure = Figure(figsize=(10, 6), layout="constrained")
    for axes, measure, label in zip(
        figure.subplots(2, 1, sharex=True), ("icc", "mae"), ("ICC(3,1), up is better", "MAE, down is better")
    ):
        places = np.arange(len(AU_KEYS))
        for shift, when, colour in ((-0.2, "before", "#a0a8b4"), (0.2, "after", "#4878a8")):
            values = [figures[f"person/{when}/{measure}/{key}"] for key in AU_KEYS]
            strangers = [figures[f"generic/{when}/{measure}/{key}"] for key in AU_KEYS]
            axes.bar(places + shift, values, 0.38, color=colour, label=f"the person, {when}")
            axes.scatter(
                places + shift, strangers, marker="x", s=18, color="black", label="strangers" if shift < 0 else None
            )
        axes.set_ylabel(label)
        axes.set_xticks(places, AU_KEYS, rotation=60)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper center", fontsize=8, ncols=3)
    return save_figure(figure, out / "before_after.png")


def _calibration(test: FaceBatch, before: Tensor, after: Tensor, out: Path) -> Path:
    """What is read at each true intensity, before and after."""
    from matplotlib.figure import Figure

    from lit_faces.core.facs import AU_KEYS
    from lit_faces.reports.pictures import save_figure

    figure = Figure(figsize=(11, 9), layout="constrained")
    grid = figure.subplots(4, 5, sharex=True, sharey=True)
    for axes, key in zip(grid.flat, AU_KEYS):
        column = AU_KEYS.index(key)
        truth = test.au_intensity[:, column].numpy()
        axes.plot([0, 5], [0, 5], color="grey", linewidth=0.7)
        axes.scatter(truth, before[:, column].numpy(), s=7, color="#a0a8b4", label="before")
        axes.scatter(truth, after[:, column].numpy(), s=7, color="#4878a8", label="after")
        axes.set_title(key, fontsize=9)
    for axes in list(grid.flat)[len(AU_KEYS) :]:
        axes.set_axis_off()
    grid.flat[0].legend(fontsize=7)
    figure.supxlabel("true intensity")
    figure.supylabel("read")
    return save_figure(figure, out / "calibration.png")


if __name__ == "__main__":
    raise SystemExit(main())
