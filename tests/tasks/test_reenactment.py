import copy
import warnings

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from lit_faces.callbacks.penalties import PenaltyCallback
from lit_faces.continual.penalties import L2SP
from lit_faces.core.weights import load_weights
from lit_faces.models.discriminators import MultiScaleDiscriminator
from lit_faces.models.generators.au_vector import AUVectorGenerator
from lit_faces.models.generators.fused import FusedGenerator
from lit_faces.models.generators.landmark_only import LandmarkOnlyGenerator
from lit_faces.models.generators.output import GeneratorOutput
from lit_faces.models.generators.warp_only import WarpOnlyGenerator
from lit_faces.tasks.attention import AttentionWatch
from lit_faces.tasks.objectives import LossWeights
from lit_faces.tasks.reenactment import WEIGHTS_FILE, ReenactmentGAN

pytestmark = pytest.mark.filterwarnings("ignore")


class DroppingGenerator(FusedGenerator):
    """A generator that draws from the global random numbers while it trains."""

    def __init__(self) -> None:
        super().__init__(width=4, condition_width=8)
        self.drop = nn.Dropout(0.2)

    def forward(self, source, condition):
        return super().forward(self.drop(source), condition)


def build(generator=None, discriminator=True, **options):
    torch.manual_seed(0)
    network = generator or FusedGenerator(width=4, condition_width=8)
    critic = MultiScaleDiscriminator(width=4) if discriminator else None
    return ReenactmentGAN(
        network, critic, **{"init": "scratch", "critic": None, "judge": None, "evaluation_images": 0, **options}
    )


def trainer(path, **options):
    defaults = {
        "accelerator": "cpu",
        "max_epochs": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": 1,
        "default_root_dir": path,
    }
    return pl.Trainer(**{**defaults, **options})


class SaveAt(pl.Callback):
    """Save after batch ``batch``, as a preempted job does."""

    def __init__(self, batch, path):
        self.batch, self.path = batch, path

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if batch_idx + 1 == self.batch:
            trainer.save_checkpoint(self.path)


class Resumed(torch.utils.data.IterableDataset):
    """The batches of a loader from ``start`` on (the data module's own state does this in earnest)."""

    def __init__(self, loader, start):
        self.batches = list(loader)[start:]

    def __iter__(self):
        return iter(self.batches)


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (lambda: FusedGenerator(width=4, condition_width=8), {}),
        (DroppingGenerator, {"discriminator_every": 2}),
        (lambda: FusedGenerator(width=4, condition_width=8), {"accumulate": 2}),
    ],
    ids=["plain", "dropout, lazy discriminator", "in the middle of an accumulation"],
)
def test_a_resumed_run_ends_with_the_same_weights(tmp_path, pair_loader, make, options):
    path = tmp_path / "preempted.ckpt"
    torch.manual_seed(3)
    whole = build(make(), **options)
    start = copy.deepcopy(whole)
    trainer(tmp_path, callbacks=[SaveAt(3, path)]).fit(whole, pair_loader(6))
    again = build(make(), **options)
    torch.manual_seed(99)  # a new process is in another random state
    loader = torch.utils.data.DataLoader(Resumed(pair_loader(6), 3), batch_size=None)
    resumed = trainer(tmp_path, limit_train_batches=6)
    resumed.fit(again, loader, ckpt_path=path)
    assert again.images_seen == whole.images_seen == 12
    moved = False
    for (name, a), b, old in zip(whole.state_dict().items(), again.state_dict().values(), start.state_dict().values()):
        assert torch.equal(a, b) or (a.isnan() & b.isnan()).all(), name
        moved |= not torch.equal(a, old)
    assert moved


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_training_moves_both_networks_and_the_average_follows(tmp_path, pair_loader, precision):
    task = build()
    before = {name: value.clone() for name, value in task.named_parameters()}
    run = trainer(tmp_path, precision=precision)
    run.fit(task, pair_loader(4), pair_loader(1))
    after = dict(task.named_parameters())
    for part in ("generator.body", "discriminator.face", "ema.body"):
        names = [n for n in before if n.startswith(part)]
        assert any(not torch.equal(before[n], after[n]) for n in names), part
    assert any(not torch.equal(after[n], after["ema" + n[9:]]) for n in after if n.startswith("generator."))
    assert run.global_step == 4  # updates of the generator, not of both
    assert task.images_seen == 8
    assert {"val/l1", "val/l1_changed", "val/keep", "val/attention", "train/discriminator"} <= set(run.callback_metrics)
    assert all(torch.isfinite(v) for v in run.callback_metrics.values())


@pytest.mark.parametrize(
    "network",
    [
        LandmarkOnlyGenerator(width=4, condition_width=8),
        AUVectorGenerator(width=4),
        WarpOnlyGenerator(width=4, condition_width=8, motion_width=8),
    ],
    ids=lambda network: network.name,
)
@pytest.mark.parametrize("discriminator", [True, False])
def test_baselines_train_with_and_without_a_discriminator(tmp_path, pair_loader, network, discriminator):
    task = build(copy.deepcopy(network), discriminator)
    before = [p.clone() for p in task.generator.parameters()]
    trainer(tmp_path).fit(task, pair_loader(3))
    assert any(not torch.equal(a, b) for a, b in zip(before, task.generator.parameters()))


def test_an_untrained_discriminator_has_no_say_at_first(tmp_path, pair_loader):
    weights = LossWeights(adversarial=100.0, features=100.0, au=100.0, sparsity=0.0)
    alone = build(discriminator=False, weights=weights)
    patient = build(discriminator_warmup=10**9, weights=weights)
    hasty = build(weights=weights)
    for task in (alone, patient, hasty):
        trainer(tmp_path).fit(task, pair_loader(2))
    distance = [
        max(float((a - b).abs().max()) for a, b in zip(alone.generator.parameters(), task.generator.parameters()))
        for task in (patient, hasty)
    ]
    assert distance[0] < 0.1 * distance[1]


def test_paired_training_lowers_the_distance_to_the_target(tmp_path, pair_loader):
    task = build(lr=5e-3, augment=False, drop_source_au=0.0, ema_decay=0.5, weights=LossWeights(sparsity=0.0))
    batch = next(iter(pair_loader(1)))
    loader = torch.utils.data.DataLoader(Resumed([batch] * 40, 0), batch_size=None)
    run = trainer(tmp_path, limit_train_batches=40)
    run.validate(task, pair_loader(1), verbose=False)
    before = float(run.callback_metrics["val/l1"])
    run.fit(task, loader)
    run.validate(task, pair_loader(1), verbose=False)
    assert float(run.callback_metrics["val/l1"]) < 0.97 * before


def test_exported_weights_start_another_run(tmp_path, pair_loader):
    task = build()
    trainer(tmp_path).fit(task, pair_loader(2))
    state, card = load_weights(tmp_path / WEIGHTS_FILE)
    assert card["generator"] == "fused" and card["images_seen"] == 4
    other = build(init=str(tmp_path / WEIGHTS_FILE))
    other.load_initial_weights()
    for name, value in other.generator.state_dict().items():
        assert torch.equal(value, state[f"generator.{name}"])
        assert torch.equal(value, other.ema.state_dict()[name])
    assert torch.equal(other.discriminator.au.linear.weight, state["discriminator.au.linear.weight"])
    wrong = build(FusedGenerator(width=8, condition_width=8), init=str(tmp_path / WEIGHTS_FILE))
    with pytest.raises(ValueError, match="another architecture"):
        wrong.load_initial_weights()


def test_a_generator_without_base_weights_says_what_to_do():
    class Stranger(AUVectorGenerator):
        name = "stranger"

    with pytest.raises(FileNotFoundError, match=r"--model\.init scratch"):
        build(Stranger(width=4), init="base").load_initial_weights()


def test_a_checkpoint_is_plain_data_and_is_not_overwritten_by_the_initial_weights(tmp_path, pair_loader):
    task = build(weights=LossWeights(l1=2.0))
    run = trainer(tmp_path)
    run.fit(task, pair_loader(2))
    run.save_checkpoint(tmp_path / "a.ckpt")
    checkpoint = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert checkpoint["hyper_parameters"]["weights"]["l1"] == 2.0
    again = ReenactmentGAN.load_from_checkpoint(
        tmp_path / "a.ckpt",
        generator=FusedGenerator(width=4, condition_width=8),
        discriminator=MultiScaleDiscriminator(width=4),
        init=str(tmp_path / "missing.safetensors"),
    )
    assert again.weights.l1 == 2.0 and again.images_seen == 4
    trainer(tmp_path).validate(again, pair_loader(1), verbose=False)  # does not look for missing.safetensors
    for a, b in zip(task.ema.parameters(), again.ema.parameters()):
        assert torch.equal(a, b)


def test_reenact_takes_a_photograph(faces):
    task = build()
    source = faces(2, 0)
    source.au_intensity[:] = float("nan")
    output = task.reenact(source, source.landmarks, torch.full((2, 19), 2.0))
    assert output.image.shape == source.image.shape
    assert output.image.min() >= -1 and output.image.max() <= 1
    assert not output.image.requires_grad


def test_a_collapsed_attention_is_reported():
    watch = AttentionWatch()
    for value, warns in ((0.3, False), (0.999, True), (0.001, True)):
        watch.mean.fill_(float("nan"))
        watch.update(GeneratorOutput(torch.zeros(1), attention=torch.full((1, 1, 4, 4), value)))
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            watch.warn(images_seen=100)  # too early to tell
            watch.warn(images_seen=5000)
        assert [("attention collapse" in str(w.message)) for w in found] == ([True] if warns else [])


def test_arguments_that_cannot_be():
    with pytest.raises(ValueError, match="accumulate and discriminator_every"):
        build(accumulate=0)


def test_a_penalty_reaches_generator_and_discriminator_before_clipping(tmp_path, pair_loader):
    task = build(clip=0.5)
    penalty = L2SP(1e6)
    penalty.consolidate(task)
    start = {name: parameter.detach().clone() for name, parameter in task.named_parameters()}
    shift = {"generator": task.generator, "discriminator": task.discriminator}
    with torch.no_grad():
        for network in shift.values():
            for parameter in network.parameters():
                parameter += 0.01  # the only way is back, for the penalty outweighs all losses
    norms = []

    class Norms(pl.Callback):
        def on_train_start(self, trainer, pl_module):
            for optimizer in trainer.optimizers:
                optimizer.register_step_pre_hook(self.note)

        def note(self, optimizer, args, kwargs):
            grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
            norms.append(float(nn.utils.get_total_norm(grads)))

    trainer(tmp_path, max_epochs=1, callbacks=[PenaltyCallback([penalty]), Norms()]).fit(task, pair_loader(2))
    assert len(norms) == 4 and all(norm == pytest.approx(0.5, rel=1e-3) for norm in norms), "clipped with the penalty"
    for name, network in shift.items():
        moved = [p.detach() - start[f"{name}.{key}"] - 0.01 for key, p in network.named_parameters()]
        assert all(bool((change < 1e-7).all()) for change in moved), name
        assert sum(float(change.sum()) for change in moved) < 0, name
