"""python -m lit_faces.export --detector anna --to onnx --out anna.onnx: a detector that runs without lit_faces.

See :mod:`lit_faces.reading.exporting` for what is in the file and beside it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from lit_faces.command import program, run_command


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    from lit_faces.core.options import HelpFormatter, add_options
    from lit_faces.reading.exporting import ExportOptions

    called = program("export")
    parser = argparse.ArgumentParser(
        prog=called,
        formatter_class=HelpFormatter,
        description="Write a detector as ONNX, TorchScript or torch.export, with a description of input and outputs.",
        epilog=f"example: {called} --detector anna --to onnx --out anna.onnx",
    )
    parser.add_argument("--out", type=Path, required=True, help="file; NAME.json beside it says how to use it")
    add_options(parser, ExportOptions)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    args = build_parser().parse_args(argv)

    def work() -> None:
        from lit_faces.core.options import check_out, read_options
        from lit_faces.reading.detector import resting_zero
        from lit_faces.reading.exporting import ExportOptions, export, exportable

        options = read_options(ExportOptions, vars(args))
        check_out(args.out.parent)
        try:
            detector = exportable(options.detector)
            done = export(options, args.out, resting_zero(options.zero, detector), detector)
        except ModuleNotFoundError as error:
            raise ValueError(str(error)) from error
        if done.cost is None:
            print(f"{done.path}: as the detector, to {done.worst:.1g}")
        else:
            lost = f"ICC(3,1) {done.cost.before:.3f} in floats, {done.cost.after:.3f} in 8 bits"
            print(f"{done.path}: {lost} (mean over the AUs of {done.cost.faces} rendered faces)")
        print(done.path.with_suffix(".json"))

    return run_command(program("export"), work)


if __name__ == "__main__":
    raise SystemExit(main())
