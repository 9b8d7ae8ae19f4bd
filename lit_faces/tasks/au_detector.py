"""Train an AU-intensity detector; with ``experiments/judge.yaml``, the referee of the generators."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from lit_faces.core.facs import AU_INDEX, AU_KEYS, MAX_INTENSITY
from lit_faces.core.sample import FaceBatch
from lit_faces.core.weights import load_state, load_weights, save_weights
from lit_faces.losses.action_units import masked_bce, masked_concordance, masked_mse, masked_ordinal
from lit_faces.metrics.icc import StreamingICC
from lit_faces.models.backbones import build_backbone
from lit_faces.models.heads import AUHead
from lit_faces.tasks.augmentation import augment_frames
from lit_faces.tasks.base import FaceTask, quiet_save_hyperparameters

WEIGHTS = Path(__file__).parent.parent / "weights"
WEIGHTS_FILE = "detector.safetensors"
_KIND = "au_detector"


class AUDetector(FaceTask):
    """Regress the 19 AU intensities of aligned faces.

    Batches are :class:`FaceBatch`; AUs that are not coded (NaN) add nothing to the losses nor to the metrics.

    Args:
        backbone: name of a timm model (``aligned_face_small`` and ``aligned_face_base`` are our own).
        backbone_weights: local safetensors file to start the backbone from; nothing is downloaded.
        size: side of the crops that the detector reads; others are resized.
        lr: highest learning rate (AdamW, one cycle).
        weight_decay: of AdamW.
        warmup: share of the training in which the learning rate rises.
        clip: largest norm of the gradient.
        drop_rate: dropout before the head.
        weight_mse: weight of the squared error (full scale = 1).
        weight_concordance: weight of 1 - concordance correlation, which keeps predictions from shrinking to the mean.
        weight_ordinal: weight of the cumulative-link loss.
        weight_occurrence: weight of the cross-entropy of occurrence.
        augment: change light, place, noise and blur of training pictures, and mirror half of them.
        channels_last: memory format of the network.
        compile: compile the backbone.
        export: write ``detector.safetensors`` into the run's folder when training ends.
        seed: of the augmentation.
    """

    def __init__(
        self,
        backbone: str = "aligned_face_base",
        backbone_weights: str | None = None,
        size: int = 128,
        lr: float = 2e-3,
        weight_decay: float = 1e-3,
        warmup: float = 0.1,
        clip: float = 1.0,
        drop_rate: float = 0.1,
        weight_mse: float = 4.0,
        weight_concordance: float = 0.5,
        weight_ordinal: float = 0.0,
        weight_occurrence: float = 0.0,
        augment: bool = True,
        channels_last: bool = True,
        compile: bool = False,
        export: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__(seed)
        quiet_save_hyperparameters(self, inspect.currentframe())
        self.backbone_name, self.backbone_weights, self.drop_rate = backbone, backbone_weights, drop_rate
        self.size, self.augment, self.export = size, augment, export
        self.lr, self.weight_decay, self.warmup, self.clip = lr, weight_decay, warmup, clip
        self.loss_weights = {
            "mse": weight_mse,
            "concordance": weight_concordance,
            "ordinal": weight_ordinal,
            "occurrence": weight_occurrence,
        }
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.compile_networks = compile
        self.configure()

    def configure_models(self) -> None:
        """The backbone and its head."""
        self.backbone, width = build_backbone(self.backbone_name, self.backbone_weights, self.drop_rate)
        self.head = AUHead(width)
        nn.Module.to(self.backbone, memory_format=self.memory_format)
        if self.compile_networks:
            self.backbone.compile()

    def configure_metrics(self) -> None:
        """ICC(3,1) from global sums, one an AU."""
        self.val_icc = StreamingICC(num_outputs=len(AU_KEYS), kind="3,1")
        self.test_icc = StreamingICC(num_outputs=len(AU_KEYS), kind="3,1")

    def forward(self, image: Tensor) -> Tensor:
        """Pictures float (B, 3, S, S) in [-1, 1] -> float32 (B, 19), intensity 0..5."""
        if image.shape[-1] != self.size:
            down = image.shape[-1] > self.size
            image = functional.interpolate(
                image, size=(self.size, self.size), mode="bilinear", align_corners=False, antialias=down
            )
        return self.head(self.backbone(image.contiguous(memory_format=self.memory_format)))

    @torch.no_grad()
    def predict_au(self, images: Tensor, batch_size: int = 64) -> Tensor:
        """Intensities of pictures uint8 (B, 3, H, W): float32 (B, 19) on the CPU, 0..5. Leaves the mode as it was."""
        if not len(images):
            return torch.zeros(0, len(AU_KEYS))
        training = self.training
        self.eval()
        found = []
        for chunk in images.split(batch_size):
            found.append(self(chunk.to(self.device).float() / 127.5 - 1.0).float().cpu())
        self.train(training)
        return torch.cat(found)

    def losses(self, predicted: Tensor, batch: FaceBatch) -> dict[str, Tensor]:
        """The losses whose weight is not zero, unweighted."""
        functions = {
            "mse": lambda: masked_mse(predicted, batch.au_intensity),
            "concordance": lambda: masked_concordance(predicted, batch.au_intensity),
            "ordinal": lambda: masked_ordinal(predicted, batch.au_intensity),
            "occurrence": lambda: masked_bce(predicted, batch.au_occurrence),
        }
        return {name: function() for name, function in functions.items() if self.loss_weights[name]}

    def training_step(self, batch: FaceBatch, batch_idx: int) -> Tensor:
        """Augment, predict, and sum the weighted losses."""
        image = batch.image_float()
        if self.augment:
            image = augment_frames(image, self.step_generator())
        losses = self.losses(self(image), batch)
        total = torch.stack([self.loss_weights[name] * value for name, value in losses.items()]).sum()
        self.count(len(batch))
        if self.batches_seen % self.log_every() == 0:
            self.log_dict({f"train/{k}": v.detach() for k, v in losses.items()}, batch_size=len(batch))
            self.log("train/loss", total.detach(), prog_bar=True, batch_size=len(batch))
            self.log("train/images", float(self.images_seen), batch_size=len(batch))
        return total

    def validation_step(self, batch: FaceBatch, batch_idx: int) -> None:
        """Collect the sums of the ICC."""
        predicted = self(batch.image_float())
        self.val_icc.update(batch.au_intensity, predicted)
        self.log("val/mse", masked_mse(predicted, batch.au_intensity), batch_size=len(batch))

    def on_validation_epoch_end(self) -> None:
        """Log ``val/icc/AU06`` ... and ``val/icc/mean``."""
        self._log_icc("val", self.val_icc)

    def test_step(self, batch: FaceBatch, batch_idx: int) -> None:
        """Collect the sums of the ICC."""
        self.test_icc.update(batch.au_intensity, self(batch.image_float()))

    def on_test_epoch_end(self) -> None:
        """Log ``test/icc/AU06`` ... and ``test/icc/mean``."""
        self._log_icc("test", self.test_icc)

    def _log_icc(self, stage: str, metric: StreamingICC) -> None:
        values = metric.compute().float()
        metric.reset()
        self.log_dict({f"{stage}/icc/{key}": values[AU_INDEX[int(key[2:])]] for key in AU_KEYS})
        self.log(f"{stage}/icc/mean", values.nanmean(), prog_bar=True)

    def configure_optimizers(self) -> Any:
        """AdamW (no decay on norms and biases), one cycle over the whole training."""
        decayed = [p for p in self.parameters() if p.ndim > 1]
        others = [p for p in self.parameters() if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": self.weight_decay}, {"params": others, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=self.lr)
        steps = self.trainer.estimated_stepping_batches
        if not 0 < steps < float("inf"):
            return optimizer
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=self.lr, total_steps=int(steps), pct_start=self.warmup, div_factor=10.0
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:
        """Clip the norm of the gradient to ``clip``."""
        torch.nn.utils.clip_grad_norm_(self.parameters(), self.clip)

    def on_fit_end(self) -> None:
        """Export the weights with their card."""
        if self.export and self.trainer.is_global_zero and self.trainer.state.status != "interrupted":
            self.export_weights(Path(self.trainer.default_root_dir) / WEIGHTS_FILE)

    def export_weights(self, path: Path | str, half: bool = True, **card: Any) -> Path:
        """Write backbone and head as safetensors with a card; ``half`` stores 16-bit floats.

        Args:
            path: file to write.
            half: store float16 (the file is half as large; the networks run in float32 all the same).
            card: more for the card (JSON values).
        """
        state = {key: value for key, value in self.state_dict().items() if key.startswith(("backbone.", "head."))}
        if half:
            state = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
        about = self.card(_KIND, backbone=self.backbone_name, size=self.size, scale=[0.0, MAX_INTENSITY], **card)
        save_weights(path, state, about)
        return Path(path)


def load_detector(path: Path | str) -> AUDetector:
    """The detector of a file written by :meth:`AUDetector.export_weights`, in evaluation mode.

    Args:
        path: safetensors file, or ``packaged`` for the judge that ships with lit_faces.

    Raises:
        FileNotFoundError: no such file.
        ValueError: truncated, or not a detector.
    """
    path = WEIGHTS / "judge.safetensors" if str(path) == "packaged" else Path(path)
    state, card = load_weights(path)
    if card.get("kind") != _KIND:
        raise ValueError(
            f"{path}: expected the weights of an AU detector, found {card.get('kind', 'a file without a card')!r}; "
            "train one with `python -m lit_faces.fit experiments/judge.yaml`"
        )
    detector = AUDetector(backbone=card["backbone"], size=int(card["size"]), drop_rate=0.0)
    networks = nn.ModuleDict({"backbone": detector.backbone, "head": detector.head})
    load_state(
        networks,
        {key: value.float() if value.is_floating_point() else value for key, value in state.items()},
        str(path),
    )
    detector.images_seen = int(card.get("images_seen", 0))
    return detector.eval().requires_grad_(False)
