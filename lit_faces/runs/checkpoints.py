"""Checkpoints and weights that a run is given: understood, or named for what they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lit_faces.core.weights import check_state, load_checkpoint, load_state, plain_weights, training_state
from lit_faces.runs.folder import last_checkpoint


def checkpoint_to_resume(path: Path, model: Any) -> tuple[Path, int]:
    """The file to go on from, checked against the networks of the experiment, and the batches behind it.

    Args:
        path: a run's folder, or a checkpoint.
        model: of the experiment.

    Raises:
        FileNotFoundError: no such file.
        ValueError: truncated, not a checkpoint, weights alone, or of another architecture.
    """
    file = last_checkpoint(path) if path.is_dir() else path
    content = load_checkpoint(file)
    done = training_state(content, file)
    check_state(model, content["state_dict"], str(file))
    return file, done


def batches_done(file: Path) -> int:
    """Training batches behind a checkpoint. metrics.csv counts batches; ``global_step`` counts optimiser steps.

    Raises:
        ValueError: it holds weights, but no state of a training.
    """
    return training_state(load_checkpoint(file), file)


def load_for_test(path: Path, model: Any) -> None:
    """Give a model the weights of a checkpoint, or of an exported file.

    Raises:
        ValueError: truncated, another architecture, or no weights.
    """
    if path.suffix == ".safetensors":
        if hasattr(model, "load_exported"):
            model.load_exported(path)
            return
        model.init = str(path)
        model.load_initial_weights()
        return
    state, stripped = plain_weights(load_checkpoint(path), path, model.state_dict())
    if stripped:
        print(f"{path}: {stripped} was left out of the names of the weights", flush=True)
    load_state(model, state, str(path))
    if hasattr(model, "_initialised"):
        model._initialised = True
