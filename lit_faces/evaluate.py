"""python -m lit_faces.evaluate --detector FILE --data DIR: how well a detector reads a labelled set of people."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lit_faces.core.sample import FaceBatch
    from lit_faces.tasks.au_detector import AUDetector, Reading

PROGRAM = "lit_faces.evaluate"


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {PROGRAM}",
        description="Evaluate an AU detector on a labelled set: ICC, MAE, F1, AUC by AU, intervals over people.",
        epilog="example: python -m lit_faces.render set --out faces --n 320 --frames-per-subject 8 && "
        "python -m lit_faces.evaluate --detector generic --data faces --out report",
    )
    parser.add_argument(
        "--detector",
        required=True,
        help="exported detector (.safetensors), generic (shipped) or packaged (the shipped judge)",
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with labels.csv, or tar shards")
    parser.add_argument("--out", type=Path, help="folder for results.json, table.md and the plots")
    parser.add_argument("--resamples", type=int, default=1000, help="of the bootstrap over people")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    parser.add_argument("--mirror", action="store_true", help="read mirror images too, and average")
    return parser


def figures(
    detector: AUDetector, faces: FaceBatch, reading: Reading, resamples: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Every figure of a detector on labelled faces, by flat name.

    ``icc/AU06`` (also ``pcc``, ``ccc``, ``mae``, ``rmse``, ``f1``, ``f1_norm``, ``balanced_accuracy``, ``auc``), and
    ``.../mean``; ``icc/AU06/low`` and ``/high``: 95 % interval over people (BCa); ``expression/accuracy`` where both
    sides have expressions. NaN where an AU is not coded or never varies.

    Args:
        detector: whose thresholds of occurrence count.
        faces: n labelled faces.
        reading: what the detector reads on them.
        resamples: of the bootstrap; 0 leaves the intervals out.
        seed: of the bootstrap.
    """
    import torch

    from lit_faces.core.facs import AU_KEYS
    from lit_faces.metrics.agreement import AgreementOverAUs
    from lit_faces.metrics.bootstrap import bootstrap_over_subjects
    from lit_faces.metrics.classification import OccurrenceOverAUs, auc

    truth, found = faces.au_intensity, reading.intensity
    agreement = AgreementOverAUs()
    agreement.update(truth, found)
    scores = found if reading.occurrence is None else reading.occurrence.sigmoid()
    occurrence = OccurrenceOverAUs(detector.calibration.threshold.cpu())
    occurrence.update(faces.au_occurrence, scores)
    ranked = auc(faces.au_occurrence, scores)
    result: dict[str, Any] = {
        "people": len(set(faces.subject)),
        "faces": len(faces),
        **{name: float(value) for name, value in agreement.compute().items()},
        **{name: float(value) for name, value in occurrence.compute().items()},
        **{f"auc/{key}": float(value) for key, value in zip(AU_KEYS, ranked)},
        "auc/mean": float(ranked.nanmean()),
    }
    if resamples and result["people"] > 1:
        columns = {"labels": truth, "predictions": found}
        each = bootstrap_over_subjects("icc", columns, faces.subject, resamples, seed=seed)
        mean = bootstrap_over_subjects("icc", columns, faces.subject, resamples, seed=seed, mean=True)
        for key, low, high in zip((*AU_KEYS, "mean"), (*each.low, mean.low), (*each.high, mean.high)):
            result[f"icc/{key}/low"], result[f"icc/{key}/high"] = float(low), float(high)
    coded = faces.emotion >= 0
    if reading.expression is not None and bool(coded.any()):
        right = reading.expression.argmax(1)[coded] == faces.emotion[coded]
        result["expression/accuracy"] = float(right.to(torch.float32).mean())
    return result


def table(result: dict[str, Any]) -> str:
    """Markdown: AUs in rows."""
    from lit_faces.core.facs import AU_KEYS

    def cell(name: str) -> str:
        value = result.get(name, float("nan"))
        return "-" if value != value else f"{value:.2f}"

    lines = [f"{result['faces']} faces of {result['people']} people", ""]
    lines += ["| AU | ICC(3,1) | 95 % over people | MAE | F1 | F1 norm | AUC |", "|---|---|---|---|---|---|---|"]
    for key in (*AU_KEYS, "mean"):
        names = [f"{name}/{key}" for name in ("icc", "mae", "f1", "f1_norm", "auc")]
        if all(cell(name) == "-" for name in names):
            continue
        interval = f"{cell(f'icc/{key}/low')} to {cell(f'icc/{key}/high')}"
        cells = [cell(name) for name in names]
        lines.append("| " + " | ".join([key, cells[0], interval, *cells[1:]]) + " |")
    if "expression/accuracy" in result:
        lines += ["", f"expressions named rightly: {result['expression/accuracy']:.2f}"]
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    args = build_parser().parse_args(argv)
    if args.resamples < 0:
        print(f"{PROGRAM}: --resamples must be 0 or more, got {args.resamples}", file=sys.stderr)
        return 2
    from lit_faces.core.files import replace_file
    from lit_faces.core.labelled import read_labelled
    from lit_faces.reports.plots import plot_readings
    from lit_faces.reports.results import circumstances, write_json
    from lit_faces.tasks.au_detector import Reading, load_detector

    try:
        detector = load_detector(args.detector)
        faces = read_labelled(args.data, detector.size, need="any")
    except (ValueError, OSError) as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 2
    reading = detector.predict(faces.image)
    if args.mirror:
        reading = Reading(detector.predict_au(faces.image, mirror=True), reading.occurrence, reading.expression)
    result = figures(detector, faces, reading, args.resamples, args.seed)
    print(table(result))
    if args.out is not None:
        facts = {"run/detector": str(args.detector), "run/data": str(args.data), "run/seed": args.seed}
        write_json(args.out / "results.json", {**result, **facts, **circumstances()})
        replace_file(args.out / "table.md", table(result).encode())
        for path in plot_readings(result, faces.au_intensity, reading.intensity, args.out):
            print(path)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
