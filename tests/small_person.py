"""What a person's commands need, as small as it can be: a photo, a detector of 32 pixels, labelled sets."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from lit_faces.core.facs import NUM_AUS
from lit_faces.rendering.renderer import FaceRenderer
from lit_faces.rendering.sets import write_folder
from lit_faces.tasks.au_detector import AUDetector

#: A process that has imported everything, and forks one for each command: no import is waited for twice.
SERVER = multiprocessing.get_context("forkserver")
PRELOADED = [
    "lit_faces.persons.personalisation",
    "lit_faces.reports.tracking",
    "matplotlib.pyplot",
    "tests.small_person",
]


@dataclass
class SmallPerson:
    """Files in one folder."""

    root: Path

    @classmethod
    def write(cls, root: Path, name: str = "anna") -> SmallPerson:
        """Make them; the photo is called ``name``.png."""
        torch.manual_seed(0)
        AUDetector("aligned_face_small", size=32).export_weights(root / "small.safetensors")
        for folder, seed, count, each in (("labelled", 1, 10, 10), ("crowd", 300, 8, 2), ("known", 400, 8, 2)):
            write_folder(FaceRenderer(32, seed=seed), root / folder, count, frames_per_subject=each, progress=False)
        one, still = torch.ones(1, dtype=torch.int64), torch.zeros(1, NUM_AUS)
        face = FaceRenderer(192, seed=71).render(one, 0 * one, 0 * one, still, torch.zeros(1, 3)).image[0]
        wide = torch.nn.functional.pad(face.float()[None], (48, 48, 48, 48), mode="replicate")[0].to(torch.uint8)
        Image.fromarray(wide.permute(1, 2, 0).contiguous().numpy()).save(root / f"{name}.png")
        return cls(root)

    def generate(self, out: Path, *more: str, photo: str = "anna") -> list[str]:
        """What is typed after `generate`."""
        words = ["--n", "4", "--attempts", "1", "--no-verify", "--jobs", "1", "--source-au", "neutral"]
        made = ["--generator", "packaged"]  # the fastest to start
        return [str(self.root / f"{photo}.png"), "--out", str(out), *words, *made, *self.detector, *more]

    def adapt(self, out: Path, *more: str) -> list[str]:
        """What is typed after `adapt`."""
        words = [] if "--person" in more else ["--person", str(self.root / "labelled")]
        return [*words, "--out", str(out), *self.detector, *self.learning, *more]

    def personalise(self, out: Path, *more: str, photo: str = "anna") -> list[str]:
        """What is typed after `personalise`."""
        return [*self.generate(out, photo=photo), *self.learning, *more]

    @property
    def detector(self) -> list[str]:
        """The small detector."""
        return ["--detector", str(self.root / "small.safetensors"), "--accelerator", "cpu"]

    @property
    def learning(self) -> list[str]:
        """Two steps, small sets."""
        sets = ["--generic", str(self.root / "crowd"), "--others", str(self.root / "known")]
        return [*sets, "--steps", "2", "--capacity", "20"]


def _run(verb: str, words: Sequence[str]) -> None:
    import importlib
    import sys

    torch.set_num_threads(1)
    os.environ.setdefault("WANDB_MODE", "offline")
    sys.exit(importlib.import_module(f"lit_faces.{verb}").main(list(words)))


def start(verb: str, words: Sequence[str]) -> multiprocessing.process.BaseProcess:
    """A command in a process of its own."""
    SERVER.set_forkserver_preload(PRELOADED)
    process = SERVER.Process(target=_run, args=(verb, words))
    process.start()
    return process


def run(verb: str, words: Sequence[str]) -> int:
    """A command to its end; the exit code."""
    return ended(start(verb, words))


def ended(process: multiprocessing.process.BaseProcess, seconds: float = 300) -> int:
    """The exit code, when it has one."""
    process.join(seconds)
    assert process.exitcode is not None, f"still at work after {seconds} s"
    return process.exitcode


def wait_for(there: Callable[[], object], process: multiprocessing.process.BaseProcess, seconds: float = 300) -> None:
    """Until something is there, or the process has ended."""
    end = time.monotonic() + seconds
    while not there() and process.is_alive():
        assert time.monotonic() < end, "never came"
        time.sleep(0.01)


def kill(process: multiprocessing.process.BaseProcess, number: signal.Signals) -> None:
    """A signal to a process that is still there."""
    if process.is_alive() and process.pid is not None:
        os.kill(process.pid, number)
