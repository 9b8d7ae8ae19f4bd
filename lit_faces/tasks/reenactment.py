"""Train a generator and its discriminator on pairs of frames of one person.

batch = {"source": FaceBatch, "target": FaceBatch}, two frames of the same person and scene

fake = G(source image, landmarks and AUs of both)
D:  hinge(real, fake) + AU regression on the real target
G:  L1 and gradient pyramid to the target, weighted where AUs change
    + hinge + feature matching + AU consistency (the discriminator's regression; never the judge)
    + mask sparsity once the AU loss has moved + smoothness of the residual flow
an exponential moving average of G is what is validated, tested and exported
"""

from __future__ import annotations

import copy
import inspect
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.utilities.rank_zero import rank_zero_info
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from lit_faces.core.sample import FaceBatch
from lit_faces.core.shipped import initial_weights
from lit_faces.core.weights import check_card, load_state, load_weights, save_weights
from lit_faces.metrics.means import WeightedMeans
from lit_faces.models.conditioning import Condition
from lit_faces.models.discriminators import MultiScaleDiscriminator, Request, Verdict
from lit_faces.models.generators.base import Generator, specification
from lit_faces.models.generators.output import GeneratorOutput
from lit_faces.tasks.attention import AttentionWatch
from lit_faces.tasks.base import FaceTask, quiet_save_hyperparameters
from lit_faces.tasks.critic import AUCritic, same_detector
from lit_faces.tasks.evaluation import PIXEL_FIGURES, ReenactmentEvaluation, pixel_figures
from lit_faces.tasks.objectives import (
    DEFAULT_WEIGHTS,
    LossWeights,
    adversarial_terms,
    critic_terms,
    discriminator_terms,
    identity_term,
    reconstruction_terms,
)
from lit_faces.tasks.pairs import Example, Pair, request, training_example

WEIGHTS_FILE = "generator.safetensors"
KIND = "reenactment"  # on the card


class ReenactmentGAN(FaceTask):
    """Generator and discriminator, optimised by hand in turns.

    ``global_step`` counts the generator's updates. Checkpoints hold both networks, the moving average, both optimisers,
    gradients that are still being accumulated, and the random state: a resumed run ends with the same weights.

    Args:
        generator: one of ``lit_faces.models.generators``, or a :class:`~lit_faces.models.generators.base.Generator` of
            your own.
        discriminator: ``lit_faces.models.discriminators.MultiScaleDiscriminator``, or null for reconstruction alone.
        init: ``base`` starts from the shipped weights of this generator, ``scratch`` (or null) from random ones, else
            from a safetensors file of :meth:`export_weights`; see :data:`lit_faces.core.shipped.INIT_WORDS`.
        lr: of the generator (Adam, linear warm-up, then cosine to a twentieth; constant with ``max_time`` alone).
        lr_discriminator: of the discriminator.
        betas: of both.
        warmup: share of the training in which the learning rates rise.
        accumulate: batches of one update.
        clip: largest norm of each network's gradient.
        ema_decay: of the generator's moving average.
        discriminator_every: the discriminator learns on every so-manieth batch.
        discriminator_warmup: images over which the discriminator's say in the generator's loss grows from nothing: set
            it when both start from scratch, for an untrained discriminator's features are noise.
        drop_source_au: share of training pairs whose source AUs are hidden, as they are for a photograph.
        landmark_noise: standard deviation of the landmark noise, common to both frames of a pair, share of the crop.
        augment: mirror half of the pairs and vary brightness, contrast and colour, alike in both frames.
        weights: of the losses, see :class:`~lit_faces.tasks.objectives.LossWeights`.
        identity_network: frozen module, pictures to features, or null.
        critic: weight file of the AU critic (a perceptual loss), ``packaged``, or null. Never the judge.
        judge: weight file of the AU judge, ``packaged``, or null for no AU fidelity in the test. Never a loss term.
        features: feature extractor of FID, KID and IS: ``dlib``, ``inception``, ``timm:NAME``.
        evaluation_images: test pictures that get dlib's landmarks and embeddings (0.25 s each).
        identity_threshold: embedding distance of one person; null chooses it on the real frames of the test people.
        compile: compile both networks.
        channels_last: memory format of both networks.
        export: write ``generator.safetensors`` into the run's folder when training ends.
        seed: of the training's random numbers.

    Raises:
        ValueError: an argument that cannot be.
    """

    au_loss: Tensor

    def __init__(
        self,
        generator: Generator,
        discriminator: MultiScaleDiscriminator | None = None,
        init: str | None = "base",
        lr: float = 1e-3,
        lr_discriminator: float = 5e-4,
        betas: tuple[float, float] = (0.5, 0.99),
        warmup: float = 0.05,
        accumulate: int = 1,
        clip: float = 1.0,
        ema_decay: float = 0.99,
        discriminator_every: int = 1,
        discriminator_warmup: int = 0,
        drop_source_au: float = 0.3,
        landmark_noise: float = 0.002,
        augment: bool = True,
        weights: LossWeights = DEFAULT_WEIGHTS,
        identity_network: nn.Module | None = None,
        critic: str | None = "packaged",
        judge: str | None = "packaged",
        features: str = "dlib",
        evaluation_images: int = 240,
        identity_threshold: float | None = None,
        compile: bool = False,
        channels_last: bool = True,
        export: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__(seed)
        if not isinstance(generator, Generator):
            raise ValueError(
                "generator: expected a child of lit_faces.models.generators.base.Generator, got "
                f"{type(generator).__name__}"
            )
        specification(generator)  # what cannot be exported is said now, not after the training
        if accumulate < 1 or discriminator_every < 1:
            raise ValueError(
                f"accumulate and discriminator_every: expected 1 or more, got {accumulate} and {discriminator_every}"
            )
        quiet_save_hyperparameters(self, inspect.currentframe())
        self.automatic_optimization = False
        self.generator, self.discriminator = generator, discriminator
        self.identity_network = identity_network
        if critic is not None and judge is not None and same_detector(critic, judge):
            raise ValueError(
                f"critic {critic} and judge {judge} are one file: what trains a generator cannot referee it"
            )
        self.critic = None if critic is None else AUCritic(critic)
        self.init, self.judge, self.export = init, judge, export
        self.lr, self.lr_discriminator, self.betas, self.warmup = lr, lr_discriminator, (betas[0], betas[1]), warmup
        self.accumulate, self.clip, self.ema_decay = accumulate, clip, ema_decay
        self.discriminator_every, self.discriminator_warmup = discriminator_every, discriminator_warmup
        self.drop_source_au = drop_source_au
        self.landmark_noise, self.augment = landmark_noise, augment
        self.weights = LossWeights(**weights) if isinstance(weights, dict) else weights  # a checkpoint holds a dict
        self.features, self.evaluation_images, self.identity_threshold = features, evaluation_images, identity_threshold
        self.compile_networks = compile
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self._initialised = False
        self._pending: dict[str, Tensor] | None = None
        self.configure()

    def configure_models(self) -> None:
        """The moving average is a copy of the generator that is never trained."""
        self.ema = copy.deepcopy(self.generator).requires_grad_(False).eval()
        for network in (self.generator, self.ema, self.discriminator):
            if network is not None:
                nn.Module.to(network, memory_format=self.memory_format)
        if self.identity_network is not None:
            self.identity_network.requires_grad_(False).eval()
        self.register_buffer("au_loss", torch.full((2,), float("nan")))  # at the start, and now
        self.attention = AttentionWatch()
        if self.compile_networks:
            self.generator.compile()
            if self.discriminator is not None:
                self.discriminator.compile()

    def configure_metrics(self) -> None:
        """The test's metrics load dlib and the judge, so they are made when a test starts."""
        self.evaluation: ReenactmentEvaluation | None = None
        self._people: list[dict[str, Any]] = []
        self.val_pixels = WeightedMeans(PIXEL_FIGURES)

    def setup(self, stage: str) -> None:
        """Load the initial weights, unless a checkpoint or an earlier stage has brought others."""
        if not self._initialised and self.trainer.ckpt_path is None:
            self.load_initial_weights()
        if str(getattr(self.trainer, "precision", "")) == "16-mixed" and self.device.type != "cpu":
            raise ValueError("precision 16-mixed needs a gradient scaler per network; use bf16-mixed or 32-true")
        self._initialised = True

    def starts_from(self) -> Path | None:
        """The file that ``init`` means; None = random weights.

        Raises:
            ValueError: neither a known word nor a file.
            FileNotFoundError: no weights are shipped for this generator.
        """
        return initial_weights("generator", self.init, self.generator.name)

    def load_initial_weights(self) -> None:
        """Load ``init`` into generator, moving average and discriminator.

        Raises:
            FileNotFoundError: no such file, or no weights are shipped for this generator.
            ValueError: weights of another architecture, or a truncated file.
        """
        self._initialised = True
        path = self.starts_from()
        if path is None:
            return
        state, card = load_weights(path)
        if card:
            check_card(path, card, KIND, "the weights of a generator", "export one with a run of `lit_faces.fit`")
        state = {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
        for network, prefix in (
            (self.generator, "generator."),
            (self.ema, "generator."),
            (self.discriminator, "discriminator."),
        ):
            part = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
            if network is not None and (part or prefix == "generator."):
                load_state(network, part, str(path))

    def export_weights(self, path: Path | str, discriminator: bool = True, half: bool = False, **card: Any) -> Path:
        """Write the moving average (as ``generator.*``) and the discriminator as safetensors with a card.

        Args:
            path: file to write.
            discriminator: with the discriminator, so that a later run can go on training.
            half: store float16.
            card: more for the card (JSON values).
        """
        state = {f"generator.{key}": value for key, value in self.ema.state_dict().items()}
        if discriminator and self.discriminator is not None:
            state.update({f"discriminator.{key}": value for key, value in self.discriminator.state_dict().items()})
        if half:
            state = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
        about = {"generator": self.generator.name, "network": specification(self.generator)}
        save_weights(path, state, self.card(KIND, **about, **card))
        return Path(path)

    def on_fit_end(self) -> None:
        """Export the weights with their card."""
        if self.export and self.trainer.is_global_zero and self.trainer.state.status != "interrupted":
            self.export_weights(Path(self.trainer.default_root_dir) / WEIGHTS_FILE)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Adam for the generator, and for the discriminator where there is one."""
        optimizers: list[torch.optim.Optimizer] = [
            torch.optim.Adam(self.generator.parameters(), lr=self.lr, betas=self.betas)
        ]
        if self.discriminator is not None:
            optimizers.append(
                torch.optim.Adam(self.discriminator.parameters(), lr=self.lr_discriminator, betas=self.betas)
            )
        return optimizers

    @property
    def batches_per_step(self) -> int:
        """Batches of one update of the generator."""
        return self.accumulate

    def forward(self, source: Tensor, condition: Condition) -> GeneratorOutput:
        """The moving average's picture: float (B, 3, S, S) in [-1, 1] and its request."""
        return self.ema(source.contiguous(memory_format=self.memory_format), condition)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Put back what a checkpoint kept of an unfinished accumulation."""
        super().on_train_batch_start(batch, batch_idx)
        if self._pending is not None:
            parameters = dict(self.named_parameters())
            for name, gradient in self._pending.items():
                parameters[name].grad = gradient.to(parameters[name].device)
            self._pending = None

    def training_step(self, batch: Pair, batch_idx: int) -> None:
        """One turn of the discriminator, one of the generator."""
        options = self.drop_source_au, self.landmark_noise, self.augment, self.weights.changed
        example = training_example(batch, self.step_generator(), *options)
        example.source = example.source.contiguous(memory_format=self.memory_format)
        example.target = example.target.contiguous(memory_format=self.memory_format)
        found = self.optimizers()
        optimizers = found if isinstance(found, list) else [found]
        last = (self.batches_seen + 1) % self.accumulate == 0
        output = self.generator(example.source, example.condition)
        losses = reconstruction_terms(self.weights, example, output)
        losses |= identity_term(self.weights, self.identity_network, output.image, example.target)
        losses |= critic_terms(self.weights, self.critic, output.image, example.target)
        report: dict[str, Tensor] = {}
        if self.discriminator is not None:
            report, prepared, real = self._teach_discriminator(example, output.image.detach(), optimizers[1], last)
            self.discriminator.requires_grad_(False)
            fake = self.discriminator(output.image.contiguous(memory_format=self.memory_format), prepared)
            losses |= adversarial_terms(self.weights, fake, real, example.target_au)
        if self.weights.sparsity and output.attention is not None and "au" in losses:
            losses["sparsity"] = output.attention.mean() * self._au_loss_has_moved(losses["au"])
        judged = min(1.0, self.images_seen / self.discriminator_warmup) if self.discriminator_warmup else 1.0
        self.manual_backward(self.weights.total(losses, judged) / self.accumulate)
        if self.discriminator is not None:
            self.discriminator.requires_grad_(True)
        if last:
            self._update(self.generator, optimizers[0], self.lr)
            self._update_average()
        self.count(len(batch["source"]))
        report |= losses
        self._watch(output, {f"train/{name}": value.detach() for name, value in report.items()})

    def _teach_discriminator(
        self, example: Example, fake: Tensor, optimizer: Any, last: bool
    ) -> tuple[dict[str, Tensor], Request, Verdict]:
        """One turn of the discriminator, if it is its turn: its losses, the request, its verdict on the real frames."""
        network = self.discriminator
        if network is None:
            raise RuntimeError("there is no discriminator to teach")
        prepared = network.prepare(example.condition, fake.shape[-1])
        if self.batches_seen // self.accumulate % self.discriminator_every:
            with torch.no_grad():
                return {}, prepared, network(example.target, prepared)
        losses, total, real = discriminator_terms(
            self.weights, network, prepared, example.target, fake, example.target_au
        )
        self.manual_backward(total / self.accumulate)
        if last:  # the bare optimiser: Lightning would count this as a step of its own
            self._update(network, optimizer.optimizer, self.lr_discriminator)
        return losses, prepared, real

    def _update(self, network: nn.Module, optimizer: Any, lr: float) -> None:
        """Clip, set the learning rate, step; a step with a gradient that is not finite is left out."""
        self.gradients_complete(optimizer)
        norm = torch.nn.utils.clip_grad_norm_(network.parameters(), self.clip)
        for group in optimizer.param_groups:
            group["lr"] = lr * self.rate(self.warmup)
        if torch.isfinite(norm):
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def _au_loss_has_moved(self, au: Tensor) -> Tensor:
        """1 once the running AU loss is a tenth below its start, else 0; the same on all ranks."""
        value = au.detach().float()
        if self.trainer.world_size > 1:  # optimised by hand, DDP shares no buffers after the first step
            value = self.trainer.strategy.reduce(value, reduce_op="mean")
        start = torch.where(self.au_loss[0].isnan(), value, self.au_loss[0])
        now = torch.where(self.au_loss[1].isnan(), value, torch.lerp(self.au_loss[1], value, 0.02))
        self.au_loss.copy_(torch.stack([start, now]))
        return (now < 0.9 * start).float()

    @torch.no_grad()
    def _update_average(self) -> None:
        """Move the average towards the generator; faster at the start of the training."""
        updates = self.batches_seen // self.accumulate
        decay = min(self.ema_decay, (1 + updates) / (10 + updates))
        average, live = list(self.ema.parameters()), list(self.generator.parameters())
        get_ema_multi_avg_fn(decay)(average, live, updates)
        for kept, now in zip(self.ema.buffers(), self.generator.buffers()):
            kept.copy_(now)

    def _watch(self, output: GeneratorOutput, report: dict[str, Tensor]) -> None:
        """Log every so-manieth batch, and warn of a collapsed attention mask."""
        self.attention.update(output)
        if self.batches_seen % self.log_every():
            return
        for name in ("keep", "attention"):
            if (value := getattr(output, name)) is not None:
                report[f"train/{name}"] = value.detach().mean()
        self.attention.warn(self.images_seen)
        batch_size = len(output.image)
        self.log_dict(report, batch_size=batch_size)
        self.log("train/images", float(self.images_seen), batch_size=batch_size)
        self.log("l1", report.get("train/l1", output.image.new_zeros(())), True, logger=False, batch_size=batch_size)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add gradients that wait for the rest of their accumulation."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["pending"] = {
            name: parameter.grad.detach().cpu()
            for name, parameter in self.named_parameters()
            if parameter.grad is not None
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The checkpoint brings the weights: ``init`` is not loaded over them."""
        super().on_load_checkpoint(checkpoint)
        self._initialised = True
        self._pending = checkpoint.get("pending") or None

    @torch.no_grad()
    def reenact(self, source: FaceBatch, target_landmarks: Tensor, target_au: Tensor) -> GeneratorOutput:
        """Faces of ``source`` as asked, by the moving average.

        Args:
            source: B faces; AUs that are NaN make the request absolute.
            target_landmarks: float (B, 68, 2), pixels of the same crop.
            target_au: float (B, 19), 0..5, NaN = not asked.
        """
        source = source.to(self.device)
        asked = request(source, target_landmarks.to(self.device), target_au.to(self.device))
        output = self(source.image_float(), asked)
        output.image = output.image.clamp(-1.0, 1.0)
        return output

    def validation_step(self, batch: Pair, batch_idx: int) -> None:
        """Distances to the real frame, over the picture and where AUs change, and the shares of kept pixels."""
        source, target = batch["source"], batch["target"]
        output = self.reenact(source, target.landmarks, target.au_intensity)
        self.val_pixels.update(pixel_figures(source, target, output))

    def on_validation_epoch_end(self) -> None:
        """Log ``val/l1`` and the other figures."""
        self.log_dict({f"val/{name}": value for name, value in self.val_pixels.compute().items()})
        self.val_pixels.reset()

    def on_test_epoch_start(self) -> None:
        """Load the judge and dlib."""
        self.evaluation = ReenactmentEvaluation(
            self.judge, self.features, self.evaluation_images, self.identity_threshold, self.device
        )

    def test_step(self, batch: Pair, batch_idx: int) -> None:
        """Generate, and hand everything to the evaluation."""
        source, target = batch["source"], batch["target"]
        output = self.reenact(source, target.landmarks, target.au_intensity)
        if self.evaluation is not None:
            self.evaluation.update(source, target, output)

    def on_test_epoch_end(self) -> None:
        """Log ``test/...``; the names are listed in :mod:`lit_faces.tasks.evaluation`."""
        if self.evaluation is not None:
            self.log_dict({f"test/{name}": value for name, value in self.evaluation.compute().items()})
            for note in self.evaluation.notes():
                rank_zero_info(note)
            self._people = self.evaluation.people()
            self.evaluation = None

    def tested_people(self) -> list[dict[str, Any]]:
        """One row a person of the last test."""
        return self._people
