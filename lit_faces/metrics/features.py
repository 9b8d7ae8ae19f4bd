"""Feature extractors for image quality: what an image is turned into before distributions are compared.

Plain objects, not modules: a network that is a child of a metric would enter the state_dict, the optimiser, DDP and
train mode of the LightningModule that owns the metric.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from lightning_utilities.core.imports import RequirementCache
from torch import Tensor, nn

from lit_faces.core.geometry import resize_images
from lit_faces.core.landmarks import EMBEDDING_SIZE, FaceAnalyser, centred_box
from lit_faces.core.weights import load_checkpoint, load_state, load_weights, plain_weights

INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
_INCEPTION_URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{INCEPTION_FILE}"
_FIDELITY = RequirementCache("torch-fidelity>=0.3")


class Features(NamedTuple):
    """What an extractor finds in B images.

    Attributes:
        features: float32 (B, D).
        logits: float32 (B, classes), or None where the extractor is no classifier.
        found: bool (B,), whether a face was found; None where the extractor looks for none.
    """

    features: Tensor
    logits: Tensor | None = None
    found: Tensor | None = None


class Extractor(Protocol):
    """Turns uint8 (B, 3, H, W) into :class:`Features`; ``name`` goes into the metric's name."""

    name: str
    num_features: int

    def __call__(self, images: Tensor) -> Features:
        """Features of the images."""
        ...


class DlibFeatures:
    """dlib's face embedding (128-d).

    An image where no face is found is embedded as if its face were at the centre, where an aligned crop has it; so
    ruined images count, instead of dropping out of the comparison.

    Args:
        analyser: None makes one.
    """

    name = "dlib"
    num_features = EMBEDDING_SIZE

    def __init__(self, analyser: FaceAnalyser | None = None) -> None:
        self.analyser = FaceAnalyser() if analyser is None else analyser

    def __call__(self, images: Tensor) -> Features:
        """Features of uint8 (B, 3, H, W); 0.1 s an image on one core."""
        return self.of_landmarks(images, self.analyser.batch_landmarks(images))

    def of_landmarks(self, images: Tensor, landmarks: Tensor) -> Features:
        """The same with landmarks (B, 68, 2) already found; NaN where no face was."""
        found = torch.isfinite(landmarks).all(dim=(1, 2))
        points = landmarks.cpu().clone()
        for index in (~found).nonzero().flatten().tolist():
            image = images[index].permute(1, 2, 0).contiguous().cpu().numpy()
            points[index] = torch.from_numpy(self.analyser.landmarks(image, centred_box(*image.shape[:2])))
        return Features(self.analyser.batch_embeddings(images, points), None, found.cpu())


class InceptionFeatures:
    """The Inception network of the literature (2048-d and logits), through torch-fidelity, from a file on disk.

    Args:
        weights: the weight file; None means ``$TORCH_HOME/hub/checkpoints/`` (``~/.cache/torch`` without TORCH_HOME).

    Raises:
        ModuleNotFoundError: torch-fidelity is not installed.
        FileNotFoundError: the weight file is not there. It is never downloaded.
    """

    name = "inception"
    num_features = 2048

    def __init__(self, weights: Path | str | None = None) -> None:
        path = find_inception_weights() if weights is None else Path(weights)
        if path is None or not path.is_file():
            wanted = _hub_folder() / INCEPTION_FILE if path is None else path
            raise FileNotFoundError(
                f"features: inception needs its weight file at {wanted}; put {_INCEPTION_URL} (91 MB) there, or choose "
                "features: dlib"
            )
        if not _FIDELITY:
            raise ModuleNotFoundError(f"features: inception needs a package. {_FIDELITY}")
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        network = FeatureExtractorInceptionV3(
            "inception-v3-compat", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(path)
        )
        self.network = _freeze(network)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Features:
        """Features of uint8 (B, 3, H, W)."""
        features, logits = self.network.to(images.device)(images)
        return Features(features, logits)


class TimmFeatures:
    """The pooled features and logits of any timm classifier, from a weight file on disk.

    Args:
        model: timm's name, for example ``resnet18``.
        weights: safetensors or ``.pth`` file of that model's state_dict.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no file given, a name that timm does not know, or weights of another architecture.
    """

    def __init__(self, model: str, weights: Path | str | None) -> None:
        import timm

        self.name = f"timm-{model.replace('/', '-')}"
        if weights is None:
            raise ValueError(
                f'features: timm:{model} needs a weight file: where there is network, python -c "import timm, torch; '
                f"torch.save(timm.create_model('{model}', pretrained=True).state_dict(), '{model}.pth')\", then "
                f"feature_weights: {model}.pth"
            )
        if model not in timm.list_models():
            near = timm.list_models(f"*{model.split('.')[0][:6]}*")[:3]
            raise ValueError(f"features: timm knows no model {model!r}; near: {', '.join(near) or 'none'}")
        network: Any = timm.create_model(model, pretrained=False)
        load_state(network, _state_of(Path(weights)), str(weights))
        config = timm.data.resolve_model_data_config(network)
        self.size = tuple(config["input_size"][1:])
        self.mean, self.std = (torch.tensor(config[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
        self.num_features = int(network.head_hidden_size)
        self.network = _freeze(network)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Features:
        """Features of uint8 (B, 3, H, W), resized to the model's own input size."""
        network: Any = self.network.to(images.device)
        resized = resize_images(images.float() / 255, *self.size)
        maps = network.forward_features((resized - self.mean.to(resized)) / self.std.to(resized))
        features = network.forward_head(maps, pre_logits=True)
        return Features(features.float(), network.forward_head(maps).float())


def make_extractor(features: str, weights: Path | str | None = None, analyser: FaceAnalyser | None = None) -> Extractor:
    """The extractor of a name.

    Args:
        features: ``dlib``, ``inception``, or ``timm:NAME``; ``auto`` is inception where its package and file are there,
            else dlib.
        weights: weight file of inception (None: its usual place) or of the timm model.
        analyser: for dlib.

    Raises:
        ValueError: another name; see the extractors for what each one raises.
    """
    if features == "auto":
        features = "inception" if _inception_at_hand() else "dlib"
    if features.startswith("timm:"):
        return TimmFeatures(features.removeprefix("timm:"), weights)
    makers: dict[str, Callable[[], Extractor]] = {
        "dlib": lambda: DlibFeatures(analyser),
        "inception": lambda: InceptionFeatures(weights),
    }
    if features not in makers:
        raise ValueError(f"features: expected dlib, inception, timm:NAME or auto, got {features!r}")
    return makers[features]()


def find_inception_weights() -> Path | None:
    """Inception's weight file in torch's hub folder, or None."""
    path = _hub_folder() / INCEPTION_FILE
    return path if path.is_file() else None


def _inception_at_hand() -> bool:
    return find_inception_weights() is not None and bool(_FIDELITY)


def _hub_folder() -> Path:
    home = os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "torch"
    return Path(home).expanduser() / "hub" / "checkpoints"


def _freeze(network: nn.Module) -> nn.Module:
    return network.eval().requires_grad_(False)


def _state_of(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file or a checkpoint."""
    if path.suffix == ".safetensors":
        return load_weights(path)[0]
    return plain_weights(load_checkpoint(path), path, ())[0]
