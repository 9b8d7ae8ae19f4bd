"""python -m lit_faces.people REGISTRY: who is in a registry of people; enrol and forget.

See :mod:`lit_faces.persons.registry` for what is kept.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from lit_faces.command import program, run_command


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    from lit_faces.core.options import HelpFormatter
    from lit_faces.core.shipped import DETECTOR_HELP

    called = program("people")
    parser = argparse.ArgumentParser(
        prog=called,
        formatter_class=HelpFormatter,
        description="People of one shared detector: list, enrol (delta, zero, face embedding; no photo), forget.",
        epilog=f"example: {called} people --add anna --from anna/ --photo anna.jpg; {called} people; "
        f"{called} people --remove anna",
    )
    parser.add_argument("registry", type=Path, help="folder; --add makes it")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--add", metavar="NAME", help="enrol; needs --from, --photo or both")
    what.add_argument("--remove", metavar="NAME", help="forget: name, embedding, delta and zero")
    parser.add_argument("--from", dest="folder", type=Path, help="of personalise, adapt or calibrate; or a delta")
    parser.add_argument("--photo", type=Path, help="photo or clip by which the person is recognised; it is not kept")
    parser.add_argument("--face", type=int, help="which face of it, from 0")
    parser.add_argument("--detector", default="generic", help=f"of a new registry: {DETECTOR_HELP} (default: generic)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    args = build_parser().parse_args(argv)

    def work() -> None:
        from lit_faces.persons.enrolment import enrol, entry_of, face_of, registry_for
        from lit_faces.persons.registry import Registry

        if args.add is not None:
            if args.folder is None and args.photo is None:
                raise ValueError("--add: nothing to keep: add --from FOLDER, --photo PHOTO, or both")
            face = None if args.photo is None else face_of(args.photo, args.face)
            registry = registry_for(args.registry, args.detector)
            entry = entry_of(args.folder, face, registry.detector, args.detector)
            print(enrol(registry, args.add, entry))
            return
        registry = Registry(args.registry)
        if args.remove is not None:
            registry.remove(args.remove)
            print(f"{args.registry}: {args.remove} is forgotten, {len(registry)} people")
            return
        for name in registry.names:
            entry = registry.get(name)
            kept = [what for what in ("delta", "zero", "references", "face") if getattr(entry, what) is not None]
            print(f"{name}: {', '.join(kept)}")
        print(f"{len(registry)} people of the detector {registry.detector}")

    return run_command(program("people"), work)


if __name__ == "__main__":
    raise SystemExit(main())
