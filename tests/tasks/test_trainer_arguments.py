"""What a trainer is told reaches the tasks: signals, clipping; and the moving average is torch's."""

import os
import signal

import pytest
import pytorch_lightning as pl
import torch

from lit_faces.core.signals import Terminated
from lit_faces.models.generators.fused import FusedGenerator
from lit_faces.persons.recipes import Recipe, learn_person
from lit_faces.tasks.au_detector import AUDetector
from lit_faces.tasks.obedient import obedient
from lit_faces.tasks.personal import PersonalHead
from lit_faces.tasks.reenactment import ReenactmentGAN

pytestmark = pytest.mark.filterwarnings("ignore")


def trainer(path, **options) -> pl.Trainer:
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return pl.Trainer(
        accelerator="cpu", max_epochs=1, num_sanity_val_steps=0, default_root_dir=path, **quiet, **options
    )


def detector(**options) -> AUDetector:
    return AUDetector("aligned_face_small", size=32, augment=False, export=False, **options)


@pytest.mark.parametrize(("number", "raised"), [(signal.SIGTERM, Terminated), (signal.SIGINT, KeyboardInterrupt)])
def test_learning_a_person_swallows_no_signal(faces, monkeypatch, number, raised) -> None:
    original, steps = PersonalHead.training_step, []

    def told(self, batch, batch_idx):
        steps.append(batch_idx)
        if len(steps) == 2:
            os.kill(os.getpid(), number)
        return original(self, batch, batch_idx)

    monkeypatch.setattr(PersonalHead, "training_step", told)
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pytest.raises(raised):
        learn_person(detector(), faces(8, 1, 32), "finetune", Recipe(steps=50, precision="32-true"))
    assert len(steps) == 2
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_an_error_of_the_work_stays_that_error(tmp_path, monkeypatch, frame_loader) -> None:
    def breaks(*_):
        raise RuntimeError("of the work")

    monkeypatch.setattr(AUDetector, "training_step", breaks)
    run = trainer(tmp_path)
    with pytest.raises(RuntimeError, match="of the work"), obedient(run):
        run.fit(detector(), frame_loader(2))


@pytest.mark.parametrize(("options", "most"), [({}, 0.5), ({"gradient_clip_val": 1e-3}, 1e-3), ({"gradient_clip_val": 1e-4, "gradient_clip_algorithm": "value"}, 1.0)])  # fmt: skip
def test_a_detector_obeys_the_trainers_clipping(tmp_path, frame_loader, options, most) -> None:
    norms: list[float] = []

    class Watched(AUDetector):
        def on_before_zero_grad(self, optimizer) -> None:
            gradients = [p.grad for p in self.parameters() if p.grad is not None]
            if gradients:
                norms.append(float(torch.stack([g.norm() for g in gradients]).norm()))
                largest.append(max(float(g.abs().max()) for g in gradients))

    largest: list[float] = []
    task = Watched("aligned_face_small", size=32, augment=False, export=False, clip=0.5)
    trainer(tmp_path, **options).fit(task, frame_loader(2))
    assert norms and max(norms) <= most * 1.001
    if options.get("gradient_clip_algorithm") == "value":
        assert max(largest) <= 1e-4 * 1.001


def test_the_moving_average_is_what_it_was_by_hand() -> None:
    torch.manual_seed(0)
    task = ReenactmentGAN(FusedGenerator(width=4, condition_width=8), None, "scratch", critic=None, judge=None)
    wanted = [p.clone() for p in task.ema.parameters()]
    for batches in (0, 1, 5, 5000):
        task.batches_seen = batches
        with torch.no_grad():
            for parameter in task.generator.parameters():
                parameter.add_(torch.randn_like(parameter))
            decay = min(0.99, (1 + batches) / (10 + batches))
            wanted = [decay * a + (1 - decay) * p for a, p in zip(wanted, task.generator.parameters())]
        task._update_average()
    for average, expected in zip(task.ema.parameters(), wanted):
        torch.testing.assert_close(average, expected)
    keys = set(task.state_dict())
    assert {k for k in keys if k.startswith("ema.")} == {"ema" + k[9:] for k in keys if k.startswith("generator.")}


def test_results_say_whether_the_readings_were_calibrated() -> None:
    task = detector()
    assert (
        task.result_notes()["run/calibrated"] is False and task.result_notes()["run/test_icc_is_of"] == "raw readings"
    )
    task.calibration.scale.fill_(1.5)
    assert task.result_notes()["run/calibrated"] is True and "calibrated" in task.result_notes()["run/test_icc_is_of"]
    assert task.result_notes()["run/val_icc_is_of"] == "raw readings"
