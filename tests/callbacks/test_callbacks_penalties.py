import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.strategies import FSDPStrategy
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lit_faces.callbacks.penalties import PenaltyCallback
from lit_faces.continual.ewc import EWC
from lit_faces.continual.penalties import L2SP, SI, LwF
from lit_faces.core.weights import load_checkpoint

X = torch.randn(16, 3, generator=torch.Generator().manual_seed(0))
Y = (X @ torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, -1.0]]) > 0).float()


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Tiny(pl.LightningModule):
    """Knows nothing of penalties."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))

    def forward(self, x):
        return self.net(x)

    def loss(self, batch):
        return F.binary_cross_entropy_with_logits(self(batch[0]), batch[1])

    def training_step(self, batch):
        return self.loss(batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.5)


class TwoOptimizers(Tiny):
    """Manual optimisation, each layer by its own optimiser."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch):
        for optimizer in self.optimizers():
            optimizer.zero_grad()
            self.manual_backward(self.loss(batch))
            optimizer.step()

    def configure_optimizers(self):
        return [torch.optim.SGD(self.net[i].parameters(), lr=0.1) for i in (0, 2)]


def batches(size=4):
    return DataLoader(TensorDataset(X, Y), batch_size=size)


def fit(model, callbacks, tmp_path, size=4, ckpt_path=None, **kwargs):
    trainer = pl.Trainer(
        **{"max_epochs": 2, "accumulate_grad_batches": 2} | kwargs,
        accelerator="cpu",
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(model, batches(size), ckpt_path=ckpt_path)
    return trainer


def remembered(model, penalty):
    """A penalty that has something to say."""
    penalty.consolidate(model, X) if isinstance(penalty, EWC) else penalty.consolidate(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3
    return penalty


def by_hand(model, penalties, size, accumulate=2, clip=None):
    """The penalty as a term of the loss, with autograd."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
    for _ in range(2):
        for step, batch in enumerate(batches(size)):
            (model.loss(batch) / accumulate).backward()
            if (step + 1) % accumulate == 0:
                sum(penalty.penalty(model) for penalty in penalties).backward()
                if clip:
                    nn.utils.clip_grad_norm_(model.parameters(), clip)
                optimizer.step()
                optimizer.zero_grad()
    return model.state_dict()


@pytest.mark.parametrize("clip", [None, 0.2])
def test_training_equals_the_penalty_in_the_loss_once_a_step(tmp_path, clip):
    expected_model, model = Tiny(), Tiny()
    penalties = [remembered(m, EWC(5.0)) for m in (expected_model, model)]
    second = L2SP(0.3)
    second.consolidate(Tiny())
    expected = by_hand(expected_model, [penalties[0], second], size=4, clip=clip)
    trainer = fit(
        model, [PenaltyCallback([penalties[1], second])], tmp_path, gradient_clip_val=clip, log_every_n_steps=1
    )
    assert trainer.global_step == 4
    torch.testing.assert_close(model.state_dict(), expected)
    assert {"penalty/ewc", "penalty/l2sp"} <= trainer.callback_metrics.keys()


def test_the_penalty_does_not_depend_on_accumulation(tmp_path):
    states = []
    for size, accumulate in ((8, 1), (4, 2)):
        model = Tiny()
        penalty = remembered(model, EWC(5.0))
        fit(model, [PenaltyCallback([penalty], log=False)], tmp_path, size, accumulate_grad_batches=accumulate)
        states.append(model.state_dict())
    torch.testing.assert_close(*states)


def test_each_of_several_optimizers_gets_the_penalty_of_its_own_parameters(tmp_path):
    expected_model, model = TwoOptimizers(), TwoOptimizers()
    penalties = [remembered(m, EWC(5.0)) for m in (expected_model, model)]
    optimizers = expected_model.configure_optimizers()
    for batch in batches():
        for optimizer in optimizers:
            optimizer.zero_grad()
            (expected_model.loss(batch) + penalties[0].penalty(expected_model)).backward()
            optimizer.step()
    fit(model, [PenaltyCallback([penalties[1]])], tmp_path, max_epochs=1, accumulate_grad_batches=1)
    torch.testing.assert_close(model.state_dict(), expected_model.state_dict())


class ByHand(TwoOptimizers):
    """Both gradients, both clipped, both stepped, in every way that a module may do it."""

    way = "lightning"

    def training_step(self, batch):
        optimizers = self.optimizers()
        bare = [optimizer.optimizer for optimizer in optimizers]
        for optimizer in optimizers:
            optimizer.zero_grad()
        self.manual_backward(self.loss(batch))
        for optimizer in optimizers if self.way == "lightning" else bare:
            if self.way == "told":
                for callback in self.trainer.callbacks:
                    getattr(callback, "on_gradients_complete", lambda *_: None)(self.trainer, self, optimizer)
                nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], 0.2)
            else:
                self.clip_gradients(optimizer, 0.2, "norm")
        for optimizer in optimizers if self.way == "lightning" else bare:
            optimizer.step()


@pytest.mark.parametrize("way", ["lightning", "bare", "told"])
def test_by_hand_both_optimizers_get_it_and_clipping_sees_it(tmp_path, way):
    expected_model, model = ByHand(), ByHand()
    penalties = [remembered(m, EWC(5.0)) for m in (expected_model, model)]
    optimizers = expected_model.configure_optimizers()
    for batch in batches():
        expected_model.zero_grad()
        (expected_model.loss(batch) + penalties[0].penalty(expected_model)).backward()
        for optimizer in optimizers:
            nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], 0.2)
            optimizer.step()
    model.way = way
    paths = SI(strength=0.0)
    fit(model, [PenaltyCallback([penalties[1], paths])], tmp_path, max_epochs=1, accumulate_grad_batches=1)
    torch.testing.assert_close(model.state_dict(), expected_model.state_dict())
    assert all(bool(paths.path[f"net.{i}.weight"].any()) for i in (0, 2)), "both layers' steps are on the path"
    assert "clip_gradients" not in vars(model)


def test_a_step_that_was_left_out_does_not_take_the_next_penalty(tmp_path):
    class Skipping(TwoOptimizers):
        def training_step(self, batch, batch_idx):
            for optimizer in self.optimizers():
                optimizer.zero_grad()
                self.manual_backward(self.loss(batch))
                self.clip_gradients(optimizer, 100.0, "norm")
                if batch_idx % 2:
                    optimizer.step()

    expected_model, model = Skipping(), Skipping()
    penalties = [remembered(m, EWC(5.0)) for m in (expected_model, model)]
    optimizers = expected_model.configure_optimizers()
    for number, batch in enumerate(batches()):
        for optimizer in optimizers if number % 2 else ():
            optimizer.zero_grad()
            (expected_model.loss(batch) + penalties[0].penalty(expected_model)).backward()
            optimizer.step()
    fit(model, [PenaltyCallback([penalties[1]])], tmp_path, max_epochs=1, accumulate_grad_batches=1)
    torch.testing.assert_close(model.state_dict(), expected_model.state_dict())


@pytest.mark.parametrize("build", [Tiny, TwoOptimizers])
def test_synaptic_intelligence_sums_up_the_saved_loss(tmp_path, build):
    model, penalty = build(), SI(damping=1e-3)
    before = model.loss((X, Y)).item()
    callback = PenaltyCallback([penalty, remembered(Tiny(), L2SP(1e-4))])
    fit(model, [callback], tmp_path, size=16, max_epochs=300, accumulate_grad_batches=1)
    saved = before - model.loss((X, Y)).item()
    assert saved > 0.1
    assert sum(p.sum().item() for p in penalty.path.values()) == pytest.approx(saved, rel=0.05)
    penalty.consolidate(model)
    assert penalty.penalty(model) == 0 and penalty.importance["net.0.weight"].max() > 0


def test_a_resumed_run_has_the_penalties_of_the_first(tmp_path):
    whole, model = Tiny(), Tiny()
    penalties = [remembered(m, EWC(5.0)) for m in (whole, model)]
    paths = SI(strength=0.0), SI(strength=0.0)
    fit(whole, [PenaltyCallback([penalties[0], paths[0]])], tmp_path)
    trainer = fit(model, [PenaltyCallback([penalties[1], paths[1]])], tmp_path, max_epochs=1)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    assert load_checkpoint(tmp_path / "half.ckpt"), "plain data only"
    fresh = PenaltyCallback([EWC(5.0), SI(strength=0.0)])
    resumed = Tiny()
    fit(resumed, [fresh], tmp_path, ckpt_path=tmp_path / "half.ckpt")
    torch.testing.assert_close(resumed.state_dict(), whole.state_dict())
    torch.testing.assert_close(fresh.penalties[1].state_dict(), paths[0].state_dict())
    with pytest.raises(ValueError, match="expected 1 penalties, as here, found 2"):
        PenaltyCallback([EWC()]).load_state_dict(fresh.state_dict())


def test_what_cannot_be_right_is_refused(tmp_path):
    with pytest.raises(TypeError, match="got LwF; a penalty that needs the batch"):
        PenaltyCallback([LwF()])

    class Trainer:
        strategy = FSDPStrategy.__new__(FSDPStrategy)

    with pytest.raises(ValueError, match="FSDPStrategy cuts them into pieces"):
        PenaltyCallback([EWC()]).setup(Trainer(), Tiny(), "fit")

    class Scaled:
        precision_plugin = type("Half", (), {"scaler": object()})

    fused = torch.optim.SGD(Tiny().parameters(), lr=0.1)
    fused._step_supports_amp_scaling = True
    with pytest.raises(ValueError, match="use fused=False"):
        PenaltyCallback([EWC()]).on_before_optimizer_step(Scaled(), Tiny(), fused)


def test_a_lightning_module_can_be_distilled_and_copied_in_the_middle_of_training(tmp_path):
    lwf = LwF()

    class Distilled(Tiny):
        def on_train_start(self):
            lwf.consolidate(self)

        def training_step(self, batch):
            return self.loss(batch) + lwf.penalty(self, batch[0])

    fit(Distilled(), [], tmp_path)
    assert lwf.old._trainer is None
