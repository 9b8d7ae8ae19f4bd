"""Checkpoints and weights that a run is given: understood, or named for what they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from lit_faces.arguments import UsageError
from lit_faces.core.weights import load_checkpoint
from lit_faces.runs.folder import last_checkpoint

_WRAPPERS = ("module.", "_orig_mod.")  # of DistributedDataParallel and torch.compile
_STATE = ("state_dict", "loops", "optimizer_states", "epoch", "global_step")  # what a training goes on from


def checkpoint_to_resume(path: Path, model: Any) -> tuple[Path, int]:
    """The file to go on from, checked against the networks of the experiment, and the batches behind it.

    Args:
        path: a run's folder, or a checkpoint.
        model: of the experiment.

    Raises:
        UsageError: another architecture, or weights alone.
        FileNotFoundError: no such file.
        ValueError: truncated, or not a checkpoint.
    """
    file = last_checkpoint(path) if path.is_dir() else path
    content = load_checkpoint(file)
    done = _batches(content, file)
    same_architecture(content["state_dict"], model, file)
    return file, done


def batches_done(file: Path) -> int:
    """Training batches behind a checkpoint. metrics.csv counts batches; ``global_step`` counts optimiser steps.

    Raises:
        UsageError: it holds weights, but no state of a training.
    """
    return _batches(load_checkpoint(file), file)


def _batches(content: Mapping[str, Any], file: Path) -> int:
    missing = [name for name in _STATE if name not in content]
    try:
        done = content["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["ready"]
    except (KeyError, TypeError, IndexError):
        done = None
    if missing or isinstance(done, bool) or not isinstance(done, int) or done < 0:
        what = f"it lacks {', '.join(missing)}" if missing else "its count of batches cannot be read"
        raise UsageError(
            f"{file}: there is no training state in it to go on from ({what}); weights alone can be tested "
            "(--test_only), and exported ones (.safetensors) be started from (--model.init)"
        )
    return done


def weights_of(content: Mapping[str, Any], file: Path) -> dict[str, Tensor]:
    """The weights in a checkpoint: of Lightning, or a plain state_dict, also of DDP or a compiled module.

    Raises:
        UsageError: there are none.
    """
    found = content.get("state_dict", content)
    if not isinstance(found, Mapping) or not found or not all(isinstance(v, Tensor) for v in found.values()):
        keys = ", ".join(map(str, list(content)[:5])) or "nothing"
        raise UsageError(f"{file}: no weights in it: expected a state_dict, found {keys}")
    state = dict(found)
    for prefix in _WRAPPERS:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return {name.replace("._orig_mod.", "."): value for name, value in state.items()}


def same_architecture(state: Mapping[str, Tensor], model: Any, file: Path) -> None:
    """Whether weights are those of the model.

    Raises:
        UsageError: names the first that is not.
    """
    own = model.state_dict()
    for name, value in state.items():
        if name not in own or tuple(own[name].shape) != tuple(value.shape):
            found = "no such weight" if name not in own else f"{tuple(own[name].shape)}"
            raise UsageError(
                f"{file}: checkpoint of another architecture: {name} is {tuple(value.shape)}, {found} here"
            )
    missing = sorted(set(own) - set(state))
    if missing:
        raise UsageError(f"{file}: checkpoint of another architecture: it lacks {missing[0]} ({len(missing)} in all)")


def load_for_test(path: Path, model: Any) -> None:
    """Give a model the weights of a checkpoint, or of an exported file.

    Raises:
        UsageError: another architecture, or no weights.
        ValueError: truncated.
    """
    if path.suffix == ".safetensors":
        if hasattr(model, "load_exported"):
            model.load_exported(path)
            return
        model.init = str(path)
        model.load_initial_weights()
        return
    state = weights_of(load_checkpoint(path), path)
    same_architecture(state, model, path)
    model.load_state_dict(state)
    if hasattr(model, "_initialised"):
        model._initialised = True
