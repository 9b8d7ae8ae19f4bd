"""The weights that the package carries: the one place that knows their file names.

Three words stand for them on the command line and in experiments, and mean the same everywhere:

* ``generic`` (of a detector): the AU detector that adapting starts from. It *began* from the critic's weights
  (docs/science.md) and has been trained on other people and pictures since.
* ``photohead`` (of a generator): no weights; the photo itself is moved (:mod:`lit_faces.photohead`).
* ``packaged`` (of a judge): the independent network that measures what was generated; of a generator: the fused base.
  ``load_detector("packaged")`` is therefore the *judge*, not the detector.

The help texts of all commands take their words from here.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

WEIGHTS = Path(__file__).resolve().parent.parent / "weights"
GENERIC, JUDGE, CRITIC = WEIGHTS / "detector.safetensors", WEIGHTS / "judge.safetensors", WEIGHTS / "critic.safetensors"
FISHER = WEIGHTS / "detector_fisher.safetensors"  # of GENERIC, on the people it was trained on

Kind = Literal["generator", "detector", "judge", "critic"]
#: What an option of a command takes, for its help.
DETECTOR_HELP = "weights or a personal folder; generic, packaged: the shipped detector, judge"
PHOTO_HEAD = "photohead"
GENERATOR_HELP = "photohead: the photo itself; packaged: the learnt base; or weights"
JUDGE_HELP = "who verifies: weights; packaged: the shipped judge"
_BY_WORD: dict[tuple[str, str], Path] = {
    ("generator", "packaged"): WEIGHTS / "base_fused.safetensors",
    ("detector", "generic"): GENERIC,
    ("detector", "packaged"): JUDGE,
    ("judge", "packaged"): JUDGE,
    ("judge", "generic"): GENERIC,
    ("critic", "packaged"): CRITIC,
}


def base_weights(generator: str) -> Path:
    """Where base weights of a generator would be: ``fused`` is the one that is shipped."""
    return WEIGHTS / f"base_{generator}.safetensors"


def weights_path(kind: Kind, option: Path | str) -> Path:
    """What an option of a command means: a word for shipped weights, or the file that it names.

    Args:
        kind: what is wanted.
        option: ``generic``, ``packaged``, or a path; of a detector also the folder that ``personalise`` or ``adapt``
            wrote.
    """
    if (kind, str(option)) in _BY_WORD:
        return _BY_WORD[kind, str(option)]
    path = Path(option)
    if kind == "detector" and path.is_dir():
        inside = [path / name for name in ("detector.safetensors", "detector/detector.safetensors")]
        return next((one for one in inside if one.is_file()), path)
    return path


#: What ``--model.init`` takes besides a weight file, everywhere. ``scratch`` (or null): random weights. ``base``: the
#: shipped weights of this generator. ``critic``, ``generic``: those of the shipped detectors of these names.
INIT_WORDS: dict[str, dict[str, Path | None]] = {
    "generator": {"scratch": None, "base": WEIGHTS / "base_fused.safetensors"},
    "detector": {"scratch": None, "critic": CRITIC, "generic": GENERIC},
}


def initial_weights(kind: Literal["generator", "detector"], init: str | None, generator: str = "fused") -> Path | None:
    """The file that a network starts from; None = random weights.

    Args:
        kind: of network.
        init: a word of :data:`INIT_WORDS`, a safetensors file, or null, which is ``scratch``.
        generator: name of the generator, whose ``base`` is meant.

    Raises:
        ValueError: neither a word nor a file; names the right words.
        FileNotFoundError: no base weights are shipped for this generator.
    """
    if init is None or init == "scratch":
        return None
    words = INIT_WORDS[kind]
    if init not in words:
        if not Path(init).is_file():
            raise ValueError(f"init {init!r}: expected {', '.join(words)}, or a .safetensors file that is there")
        return Path(init)
    path = base_weights(generator) if init == "base" else words[init]
    if path is not None and not path.is_file():
        raise FileNotFoundError(
            f"no base weights are shipped for the generator {generator!r} ({path} is missing): use --model.init "
            "scratch, or the path of a generator.safetensors that an earlier run has exported"
        )
    return path


def weights_code(kind: Kind, option: Path | str) -> str:
    """What labels and provenance call the weights of an option: the word, or a code of the content; never a path.

    Args:
        kind: what is wanted.
        option: see :func:`weights_path`.
    """
    if (kind, str(option)) in _BY_WORD or (kind, str(option)) == ("generator", PHOTO_HEAD):
        return str(option)
    path = weights_path(kind, option)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12] if path.is_file() else "unknown"
    return f"weights-{digest}"
