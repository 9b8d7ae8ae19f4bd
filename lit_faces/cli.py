"""``lit-faces VERB ...``: the commands of lit_faces under one name; the same as ``python -m lit_faces.VERB ...``."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from pathlib import Path

VERBS = {
    "personalise": "from one photo or clip to a person's own detector",
    "calibrate": "one photo sets a person's zero; nothing is learnt",
    "people": "a registry of people: who is known to a shared detector",
    "generate": "a person's balanced, verified set from a photo or clip",
    "predict": "the AUs of every face in every frame of videos, photos or a camera, as tables",
    "export": "a detector as ONNX, TorchScript or torch.export",
    "adapt": "a detector learns one person from labelled faces, and keeps what it knows of others",
    "fit": "train and test an experiment (experiments/*.yaml)",
    "folds": "an experiment over the published folds, one table",
    "evaluate": "a detector on a labelled set, with intervals over people",
    "study": "ways of learning people, compared",
    "report": "runs side by side, one HTML file",
    "prepare": "read a public data set once, and keep its faces as shards",
    "render": "rendered faces with FACS truth",
}

_SHELLS = ("bash", "zsh", "tcsh")


def complete_parser() -> argparse.ArgumentParser:
    """A parser of all verbs and their options, for shtab alone: the verbs parse for themselves."""
    from pytorch_lightning import Trainer

    from lit_faces.arguments import parameters
    from lit_faces.runs.options import OPTIONS

    parser = argparse.ArgumentParser(prog="lit-faces")
    verbs = parser.add_subparsers(dest="verb")
    for verb, what in VERBS.items():
        if verb != "fit":
            own = importlib.import_module(f"lit_faces.{verb}").build_parser()
            verbs.add_parser(verb, help=what, parents=[own], conflict_handler="resolve", add_help=False)
            continue
        fit = verbs.add_parser(verb, help=what, add_help=False)
        fit.add_argument("files", nargs="*", type=Path)
        for option in OPTIONS:
            fit.add_argument(f"--{option.name}", help=option.help)
        for name in sorted(parameters(Trainer) or ()):
            fit.add_argument(f"--trainer.{name}")
    verbs.add_parser("completion", help="print a completion script").add_argument("shell", choices=_SHELLS)
    _complete_paths(parser)
    return parser


def _complete_paths(parser: argparse.ArgumentParser) -> None:
    """Files where a path is wanted, in all verbs."""
    import shtab

    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                _complete_paths(child)
        elif action.type is Path or not action.option_strings:
            action.complete = shtab.FILE  # type: ignore[attr-defined]


def completion(shell: str) -> int:
    """Print a completion script; returns the exit code."""
    from lightning_utilities.core.imports import RequirementCache

    if not (known := RequirementCache("shtab>=1.7")):
        print(f"lit-faces: completion: {known}", file=sys.stderr)
        return 2
    import shtab

    if shell not in _SHELLS:
        print(f"lit-faces: completion for {', '.join(_SHELLS)}; got {shell!r}", file=sys.stderr)
        return 2
    print(shtab.complete(complete_parser(), shell))
    return 0


def usage() -> str:
    """What there is."""
    width = max(map(len, VERBS))
    lines = [f"  {verb:{width}}  {what}" for verb, what in VERBS.items()]
    return "\n".join(
        ["usage: lit-faces VERB ...", "", *lines, "", "`lit-faces VERB --help` says more; for example:"]
        + ["  lit-faces personalise anna.jpg --out anna", "", "`lit-faces completion bash` prints what a shell needs."]
    )


def main(argv: list[str] | None = None) -> int:
    """Run a verb; returns the exit code."""
    from lit_faces import __version__
    from lit_faces.arguments import suggestion
    from lit_faces.command import called_as_lit_faces

    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return 0 if argv else 2
    if argv[0] == "--version":
        print(__version__)
        return 0
    if argv[0] == "completion":
        return completion((argv[1:] or ["bash"])[0])
    if argv[0] not in VERBS:
        print(f"lit-faces: no verb {argv[0]!r}{suggestion(argv[0], VERBS)}", file=sys.stderr)
        return 2
    _find_users_modules()
    with called_as_lit_faces():  # before the import: commands may keep their name
        return int(importlib.import_module(f"lit_faces.{argv[0]}").main(argv[1:]) or 0)


def _find_users_modules() -> None:
    """The folder where the user stands holds classes that experiments name: on the path, as ``python -m`` has it."""
    if not sys.flags.safe_path and not {"", os.getcwd()} & set(sys.path):
        sys.path.insert(0, os.getcwd())


if __name__ == "__main__":
    raise SystemExit(main())
