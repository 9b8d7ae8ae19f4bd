"""Weights on disk: safetensors with a card, and checkpoints that cannot run code.

A *card* is a small dict (JSON) that travels inside the weight file: what it is, which command made it, its figures.
Every file is written beside its final place and then moved there, so that a killed process leaves no half file.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lit_faces.core.fields import field, parse_json, shown
from lit_faces.core.words import UsageError

_CARD = "card"
#: What torch and safetensors raise of bytes that make no sense to them, beside their own errors.
_LIBRARY = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, EOFError, MemoryError, OverflowError)
_PREFIXES = ("module.", "_orig_mod.", "model.", "network.", "net.")  # of DDP, torch.compile, and wrappers of others
_TRAINING = ("state_dict", "loops", "optimizer_states", "epoch", "global_step")  # what a training goes on from
_HOLDERS = ("state_dict", "model_state_dict", "model", "weights", "net")  # where other code keeps the weights
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x04")  # zip (torch.save), pickle


def save_weights(path: Path | str, state: Mapping[str, Tensor], card: Mapping[str, Any]) -> None:
    """Write tensors and their card as one safetensors file, atomically.

    Args:
        path: file, by custom ``*.safetensors``; missing folders are made.
        state: tensors by name, any device; shared memory is written twice.
        card: JSON values only.

    Raises:
        TypeError: a value of ``state`` is no tensor, or the card holds something that JSON has no word for.
    """
    from safetensors.torch import save

    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise TypeError(
                f"weights {name!r}: expected a tensor, got {type(value).__name__}; put it on the card instead"
            )
    try:
        text = json.dumps(dict(card), sort_keys=True)
    except TypeError as error:
        raise TypeError(f"card of {path}: {error}; use strings, numbers, lists and dicts") from error
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    _write_atomically(Path(path), save(tensors, metadata={_CARD: text}))


def _write_atomically(path: Path, data: bytes) -> None:
    """Write beside ``path``, flush to the disk, move into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)  # mkstemp makes private files
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def load_weights(path: Path | str, device: torch.device | str = "cpu") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a file of :func:`save_weights`.

    Args:
        path: safetensors file.
        device: where the tensors go.

    Returns:
        Tensors by name, and the card (empty where the file has none).

    Raises:
        FileNotFoundError: no such file.
        ValueError: truncated, or not a safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    path = _existing(path, "weights")
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
    except (SafetensorError, OSError, *_LIBRARY) as error:
        with path.open("rb") as raw:
            start = raw.read(4)
        if start.startswith(_PICKLE_STARTS):
            raise ValueError(
                f"{path}: a torch checkpoint, not safetensors; export its weights first (export_weights of the task)"
            ) from error
        raise ValueError(
            f"{path}: truncated, or not a safetensors file ({error}); copy or download it again, or train it anew"
        ) from error
    card = parse_json(metadata.get(_CARD, "{}"), f"{path}: its card", "copy or download it again")
    if not isinstance(card, dict):
        raise ValueError(f"{path}: its card: expected named values, found {shown(card)}; copy or download it again")
    return state, card


def check_card(path: Path | str, card: Mapping[str, Any], kind: str, what: str, way_out: str) -> None:
    """Check that a file is what it is taken for.

    Args:
        path: the file.
        card: its card.
        kind: that the card must name.
        what: the same for people, "the weights of an AU detector".
        way_out: what to do with another one.

    Raises:
        ValueError: it is something else; says what.
    """
    found = card.get("kind", "a file without a card")
    if found != kind:
        raise ValueError(f"{path}: expected {what}, found {shown(found)}; {way_out}")


def load_into(module: nn.Module, path: Path | str, strict: bool = True) -> dict[str, Any]:
    """Load a safetensors file into a module.

    Args:
        module: of the architecture that the weights were saved from.
        path: file of :func:`save_weights`.
        strict: every name must fit; otherwise names that only one side has are left alone (shapes must fit either way).

    Returns:
        The card.

    Raises:
        FileNotFoundError: no such file.
        ValueError: truncated file, or weights of another architecture; nothing is changed in the module then.
    """
    state, card = load_weights(path)
    load_state(module, state, str(path), strict)
    return card


def load_state(module: nn.Module, state: Mapping[str, Tensor], origin: str, strict: bool = True) -> None:
    """``module.load_state_dict`` with a message for people.

    Args:
        module: where the tensors go.
        state: tensors by name.
        origin: where they come from, for the message.
        strict: see :func:`load_into`.

    Raises:
        ValueError: weights of another architecture: names the first key that is missing, unexpected or mis-shaped.
    """
    check_state(module, state, origin, strict)
    own = module.state_dict()
    module.load_state_dict({key: state[key] for key in own if key in state}, strict=strict)


def check_state(module: nn.Module, state: Mapping[str, Tensor], origin: str, strict: bool = True) -> None:
    """Whether tensors are finite weights of the module's architecture; the module stays as it is.

    Raises:
        ValueError: names the first that is not; see :func:`load_state`.
    """
    own = module.state_dict()
    problems = []
    if strange := [key for key, value in state.items() if not isinstance(value, Tensor)]:
        raise ValueError(f"{origin}: {strange[0]}: expected a tensor, found {type(state[strange[0]]).__name__}")
    if strict:
        problems += _first("missing", [key for key in own if key not in state])
        problems += _first("unexpected", [key for key in state if key not in own])
    both = {key: value for key, value in state.items() if key in own}
    problems += _first(
        "of another shape",
        [
            f"{key} (file {tuple(both[key].shape)}, {type(module).__name__} {tuple(value.shape)})"
            for key, value in own.items()
            if key in both and value.shape != both[key].shape
        ],
    )
    if not strict and not both and own:
        problems.append("no name in common")
    strange = [
        key for key, value in both.items()
        if value.is_floating_point() and bool(own[key].isfinite().all()) and not bool(value.isfinite().all())
    ]  # fmt: skip
    if strange and not problems:
        raise ValueError(
            f"{origin}: {strange[0]} holds values that are no finite numbers ({len(strange)} weights in all): "
            "the file is damaged, or its training diverged; use another one"
        )
    if problems:
        raise ValueError(
            f"{origin}: weights of another architecture than {type(module).__name__}: {'; '.join(problems)}. "
            "Use the model and the options (size, width, ...) that the file was saved with: see its card or "
            "config.yaml"
        )


def _first(what: str, keys: list[str]) -> list[str]:
    """``['3 missing, the first is a.weight']``, or nothing."""
    return [f"{len(keys)} {what}, the first is {keys[0]}"] if keys else []


def load_checkpoint(path: Path | str) -> dict[str, Any]:
    """Read a checkpoint of Lightning or ``torch.save`` to the CPU, without ever running code from it.

    Raises:
        FileNotFoundError: no such file.
        ValueError: truncated, not a checkpoint, or refused because it holds Python objects other than plain data.
    """
    import pickle

    path = _existing(path, "checkpoint")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        if found is None:
            raise _damaged(path, error) from error
        raise ValueError(
            f"{path}: refused: it holds the Python object {found.group(1)}, and loading such objects can run any code. "
            "Get the weights as safetensors, or save plain tensors, numbers, strings, lists and dicts"
        ) from error
    except (OSError, RecursionError, *_LIBRARY) as error:
        raise _damaged(path, error) from error
    if not isinstance(checkpoint, dict):
        raise ValueError(
            f"{path}: not a checkpoint: expected a dict with 'state_dict', found {type(checkpoint).__name__}"
        )
    return checkpoint


def plain_weights(
    checkpoint: Mapping[str, Any], path: Path | str, wanted: Collection[str]
) -> tuple[dict[str, Tensor], str]:
    """The weights in a checkpoint, whoever wrote it.

    Understood are Lightning's checkpoints, ``{"state_dict": ...}`` and its like without any training state, plain
    mappings of names to tensors, and names that a wrapper has lengthened (``module.`` of DDP, ``_orig_mod.`` of
    ``torch.compile``, ``model.``).

    Args:
        checkpoint: of :func:`load_checkpoint`.
        path: its file, for the message.
        wanted: names of the network that is to take them.

    Returns:
        Tensors by name, and what was stripped off the names ("" for nothing).

    Raises:
        ValueError: no weights in it; says what it holds instead.
    """
    holder = next((checkpoint[name] for name in _HOLDERS if isinstance(checkpoint.get(name), Mapping)), checkpoint)
    state = {str(name): value for name, value in holder.items() if isinstance(value, Tensor)}
    if not state:
        keys = ", ".join(map(str, list(holder)[:6])) or "nothing"
        raise ValueError(
            f"{path}: holds no weights: expected a state_dict of tensors by name, found {keys}; give the checkpoint "
            "of a run (RUN/checkpoints/last.ckpt), or exported weights (*.safetensors)"
        )
    best, stripped = state, ""
    for prefix in _prefixes(list(state)):
        shorter = {_without(name, prefix): value for name, value in state.items()}
        if len(shorter) == len(state) and len(set(shorter) & set(wanted)) > len(set(best) & set(wanted)):
            inner = "_orig_mod." not in prefix and any("_orig_mod." in name for name in state)
            best, stripped = shorter, prefix + "_orig_mod." * inner
    return best, stripped


def _prefixes(names: list[str]) -> list[str]:
    """What may be left out at the start of names, singly or one after the other, and ``_orig_mod.`` anywhere."""
    found, rest = [], names
    before = ""
    while prefix := next((p for p in _PREFIXES if all(name.startswith(p) for name in rest)), ""):
        before += prefix
        rest = [name.removeprefix(prefix) for name in rest]
        found.append(before)
    return [*found, "_orig_mod."] if any("_orig_mod." in name for name in names) else found


def _without(name: str, prefix: str) -> str:
    shorter = name.removeprefix(prefix)
    return shorter.replace("_orig_mod.", "")


def training_state(checkpoint: Mapping[str, Any], path: Path | str) -> int:
    """Training batches behind a checkpoint, which must hold all that a training goes on from.

    Raises:
        ValueError: weights only, or a damaged state; says what can be done with them.
    """
    lacks = [name for name in _TRAINING if name not in checkpoint]
    if lacks:
        raise UsageError(
            f"{path}: there is no training state in it to go on from (it lacks {', '.join(lacks)}); weights alone can "
            "be tested (--test_only), and exported ones (.safetensors) be started from (--model.init)"
        )
    field(checkpoint, "state_dict", dict, path, minimum=1)
    inner: Any = checkpoint
    for name in ("loops", "fit_loop", "epoch_loop.batch_progress", "total"):
        inner = field(inner, name, dict, path)
    return field(inner, "ready", int, path, minimum=0)


def _damaged(path: Path, error: Exception) -> ValueError:
    """What to say of a file that torch cannot read."""
    size = path.stat().st_size
    first_line = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
    return ValueError(
        f"{path}: not a checkpoint, or a truncated one ({size} bytes; {first_line}); use another checkpoint of that "
        "run (last.ckpt?) or copy it again"
    )


def _existing(path: Path | str, what: str) -> Path:
    """The path, if it is a file with something in it."""
    path = Path(path)
    if not path.is_file():
        where = (
            "the folder holds " + ", ".join(sorted(p.name for p in path.parent.iterdir())[:5])
            if path.parent.is_dir()
            else (f"the folder {path.parent} does not exist")
        )
        raise FileNotFoundError(f"{path}: no such {what} file ({where})")
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: the {what} file is empty (0 bytes); copy it again or use another one")
    return path
