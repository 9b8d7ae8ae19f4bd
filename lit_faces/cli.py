"""``lit-faces VERB ...``: the commands of lit_faces under one name; the same as ``python -m lit_faces.VERB ...``."""

from __future__ import annotations

import importlib
import sys

VERBS = {
    "personalise": "from one photo or clip to a person's own detector",
    "generate": "a person's balanced, verified set from a photo or clip",
    "adapt": "a detector learns one person from labelled faces, and forgets nobody",
    "fit": "train and test an experiment (experiments/*.yaml)",
    "folds": "an experiment over the published folds, one table",
    "evaluate": "a detector on a labelled set, with intervals over people",
    "study": "ways of learning people, compared",
    "report": "runs side by side, one HTML file",
    "prepare": "read a public data set once, and keep its faces as shards",
    "render": "rendered faces with FACS truth",
}


def usage() -> str:
    """What there is."""
    width = max(map(len, VERBS))
    lines = [f"  {verb:{width}}  {what}" for verb, what in VERBS.items()]
    return "\n".join(
        ["usage: lit-faces VERB ...", "", *lines, "", "`lit-faces VERB --help` says more; for example:"]
        + ["  lit-faces personalise anna.jpg --out anna"]
    )


def main(argv: list[str] | None = None) -> int:
    """Run a verb; returns the exit code."""
    from lit_faces import __version__
    from lit_faces.arguments import suggestion

    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return 0 if argv else 2
    if argv[0] == "--version":
        print(__version__)
        return 0
    if argv[0] not in VERBS:
        print(f"lit-faces: no verb {argv[0]!r}{suggestion(argv[0], VERBS)}", file=sys.stderr)
        return 2
    return int(importlib.import_module(f"lit_faces.{argv[0]}").main(argv[1:]) or 0)


if __name__ == "__main__":
    raise SystemExit(main())
