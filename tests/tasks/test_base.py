"""What all tasks share."""

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader

from lit_faces.tasks.au_detector import AUDetector
from lit_faces.tasks.base import FaceTask

pytestmark = pytest.mark.filterwarnings("ignore")


class Line(FaceTask):
    """Sets its rate as the tasks that optimise by hand do."""

    def __init__(self):
        super().__init__()
        self.net, self.rates = nn.Linear(1, 1), []

    def training_step(self, batch, batch_idx):
        self.count(len(batch))
        return self.net(batch).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0)

    def on_before_optimizer_step(self, optimizer):
        self.rates.append(self.rate(0.5))


class StopAfter(pl.Callback):
    """As the clock does."""

    def on_train_batch_end(self, trainer, *_):
        trainer.should_stop = trainer.global_step >= 6


def fit(task, loader, **bounds):
    pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[StopAfter()],
        **bounds,
    ).fit(task, loader)
    return task


def test_with_the_clock_alone_a_task_trains_at_the_asked_rate():
    loader = DataLoader(torch.ones(4, 1), batch_size=1)
    assert fit(Line(), loader, max_time={"minutes": 10}).rates == [1.0] * 6
    assert fit(Line(), loader, max_epochs=-1).rates == [1.0] * 6
    known = fit(Line(), loader, max_time={"minutes": 10}, max_steps=6).rates
    assert known[0] < 0.5 and max(known) == 1.0 and known[-1] < 0.5  # it rises, and falls to the end that is known


def test_with_the_clock_alone_a_detector_trains_at_the_asked_rate(frame_loader):
    task = AUDetector("aligned_face_small", size=32, lr=3e-4, export=False)
    rates = []
    task.on_before_optimizer_step = lambda optimizer: rates.extend(group["lr"] for group in optimizer.param_groups)
    fit(task, frame_loader(2), max_time={"minutes": 10})
    assert set(rates) == {3e-4}
