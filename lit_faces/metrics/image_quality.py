"""FID, KID and Inception Score, under names that say how they were measured.

A figure is comparable only with one of the same name: ``fid_n256_dlib`` is the Frechet distance over 256 generated
images in dlib's embedding space, ``fid_n256r300_dlib`` the same against 300 real ones.  The formulas are torchmetrics';
KID's subsets are drawn from a fixed seed (torchmetrics draws them from the global generator).

The Inception Score needs a classifier.  ``inception`` and ``timm:NAME`` have one; one split is used, for the set is
small.  A face embedding has none, so with ``dlib`` the score is ``is_..._dlib_identities``: exp of the mutual
information between image and nearest reference person, from softmax(-distance² / 0.05) over the mean embeddings of the
reference people.  It goes from 1 (all images look alike, or like nobody) to the number of reference people, and is left
out where none are set.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.inception import InceptionScore
from torchmetrics.image.kid import KernelInceptionDistance
from torchmetrics.utilities import dim_zero_cat

from lit_faces.core.landmarks import FaceAnalyser
from lit_faces.core.ranks import gather_tensors
from lit_faces.metrics.features import Extractor, Features, make_extractor

#: Squared embedding distance that divides a likeness by e. Two photographs of one person are 0.16 apart, of two 0.67.
IDENTITY_TEMPERATURE = 0.05


class _Precomputed(nn.Module):
    """Stands where torchmetrics expects a network: the images are features already."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def frechet_distance(real: Tensor, fake: Tensor) -> Tensor:
    """FID of two feature sets (n, D) and (m, D): scalar float32, NaN where a set has fewer than 2 rows."""
    if min(len(real), len(fake)) < 2:
        return real.new_full((), float("nan"))
    metric = FrechetInceptionDistance(_Precomputed(real.shape[1]), sync_on_compute=False).to(real.device)
    metric.update(real, real=True)
    metric.update(fake, real=False)
    return metric.compute().float()


def kernel_distance(real: Tensor, fake: Tensor, subsets: int, subset_size: int, seed: int) -> tuple[Tensor, Tensor]:
    """KID of two feature sets (n, D) and (m, D): mean and standard deviation over seeded subsets, NaN under 2 rows.

    Args:
        real: float (n, D).
        fake: float (m, D).
        subsets: how many are drawn.
        subset_size: rows of each; at most what there is.
        seed: of the draws; the global generator is left as it was.
    """
    size = min(subset_size, len(real), len(fake))
    if size < 2:
        nan = real.new_full((), float("nan"))
        return nan, nan
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")  # about its buffer
        metric = KernelInceptionDistance(
            _Precomputed(real.shape[1]), subsets=subsets, subset_size=size, sync_on_compute=False
        )
        torch.manual_seed(seed)
        metric.update(_in_one_order(real.cpu().double()), real=True)
        metric.update(_in_one_order(fake.cpu().double()), real=False)
        mean, deviation = metric.compute()
    return mean.float().to(real.device), deviation.float().to(real.device)


def _in_one_order(features: Tensor) -> Tensor:
    """Rows (n, D) sorted, so that KID's subsets do not depend on the order of batches and ranks."""
    columns = features[:, :4].cpu().double().numpy()
    return features[torch.from_numpy(np.lexsort(columns.T)).to(features.device)]


def inception_score(logits: Tensor) -> Tensor:
    """Exp of the mutual information of image and class, from logits (n, classes): scalar, 1 to number of classes."""
    if not len(logits):
        return logits.new_full((), float("nan"))
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")  # its buffer, and the deviation over a single split
        metric = InceptionScore(_Precomputed(logits.shape[1]), splits=1, sync_on_compute=False)
        metric.update(logits.cpu().double())
        return metric.compute()[0].float().to(logits.device)


def identity_logits(embeddings: Tensor, references: Tensor, temperature: float = IDENTITY_TEMPERATURE) -> Tensor:
    """How like each reference person an embedding is: (n, D), (people, D) to (n, people), -distance² / temperature."""
    return -torch.cdist(embeddings.double(), references.double()).square() / temperature


class ImageQuality(Metric):
    """FID, KID and IS of generated images against real ones.

    Feed it images (:meth:`update`), or, where embeddings are needed elsewhere too, features that were computed once
    (:meth:`update_features`); both may be mixed.

    Args:
        features: ``dlib``, ``inception``, ``timm:NAME`` or ``auto``, see
            :func:`lit_faces.metrics.features.make_extractor`.
        feature_weights: weight file of inception or of the timm model.
        kid_subsets: subsets drawn for KID.
        kid_subset_size: images of a subset; fewer where the sets are smaller.
        seed: of KID's subsets.
        analyser: a loaded analyser to share, for dlib.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = None
    figures = {"fid": False, "kid": False, "is": True, "found_real": True, "found_fake": True}
    real: list[Tensor]
    fake: list[Tensor]
    fake_logits: list[Tensor]
    face_counts: Tensor

    def __init__(
        self,
        features: str = "dlib",
        feature_weights: Path | str | None = None,
        kid_subsets: int = 50,
        kid_subset_size: int = 100,
        seed: int = 0,
        analyser: FaceAnalyser | None = None,
    ) -> None:
        super().__init__(dist_sync_fn=gather_tensors)  # torchmetrics' own waits for ever where a rank saw nothing
        self.extractor: Extractor = make_extractor(features, feature_weights, analyser)
        self.kid_subsets, self.kid_subset_size, self.seed = kid_subsets, kid_subset_size, seed
        self._references: Tensor | None = None
        for name in ("real", "fake", "fake_logits"):
            self.add_state(name, [], dist_reduce_fx="cat")
        # real images looked at, faces found in them; generated images looked at, faces found
        self.add_state("face_counts", torch.zeros(4, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, images: Tensor, real: bool) -> None:
        """Add images.

        Args:
            images: uint8 (B, 3, H, W), RGB.
            real: real, or generated.

        Raises:
            ValueError: the images are not uint8 (B, 3, H, W).
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images: expected uint8 (B, 3, H, W), got {images.dtype} {tuple(images.shape)}")
        self._add(self.extractor(images), real)

    def update_features(
        self,
        real: Tensor | Features | None = None,
        fake: Tensor | Features | None = None,
        fake_logits: Tensor | None = None,
    ) -> None:
        """Add features computed elsewhere, by the same extractor (``metric.extractor``).

        Args:
            real: of real images, float (B, D) or what the extractor returned; rows with NaN are left out and counted as
                faces not found.
            fake: of generated images, likewise.
            fake_logits: the classifier's logits of the generated images, float (B, classes).

        Raises:
            ValueError: another number of columns than the extractor's.
        """
        self._computed = None  # what torchmetrics notes down around update()
        self._update_count += 1
        if real is not None:
            self._add(real if isinstance(real, Features) else _without_nan(real, None), True)
        if fake is not None:
            self._add(fake if isinstance(fake, Features) else _without_nan(fake, fake_logits), False)

    def _add(self, batch: Features, real: bool) -> None:
        values = batch.features.detach().float()
        if values.ndim != 2 or values.shape[1] != self.extractor.num_features:
            expected = f"(B, {self.extractor.num_features}) features of {self.extractor.name}"
            raise ValueError(f"features: expected {expected}, got {tuple(values.shape)}")
        keep = torch.isfinite(values).all(1)
        (self.real if real else self.fake).append(values[keep].to(self.device))
        if batch.logits is not None and not real:
            self.fake_logits.append(batch.logits.detach().float()[keep].to(self.device))
        if batch.found is not None:
            counts = self.face_counts[:2] if real else self.face_counts[2:]
            counts += torch.tensor([len(batch.found), int(batch.found.sum())], dtype=torch.float64).to(counts)

    def set_references(self, embeddings: Tensor, subjects: Sequence[str]) -> None:
        """Say who the people of the identity score are; with ``dlib`` only.

        Args:
            embeddings: float (n, D) of real images; rows with NaN are left out.
            subjects: who is on each, n names.

        Raises:
            ValueError: another number of subjects than of embeddings, or fewer than 2 people with a face found.
        """
        if len(embeddings) != len(subjects):
            raise ValueError(f"expected a subject for each embedding, got {len(subjects)} for {len(embeddings)}")
        keep = torch.isfinite(embeddings).all(1).tolist()
        groups: dict[str, list[Tensor]] = {}
        for embedding, subject, usable in zip(embeddings.detach().cpu(), subjects, keep):
            if usable:
                groups.setdefault(subject, []).append(embedding)
        if len(groups) < 2:
            raise ValueError(
                f"the identity score needs at least 2 reference people with a face found, got {len(groups)}"
            )
        self._computed = None
        self._references = torch.stack([torch.stack(group).mean(0) for group in groups.values()])

    def protocol(self) -> str:
        """What stands behind ``fid_``, for example ``n256_dlib``."""
        real, fake = (sum(map(len, part)) for part in (_as_list(self.real), _as_list(self.fake)))
        return f"n{fake}{'' if real == fake else f'r{real}'}_{self.extractor.name}"

    def notes(self) -> list[str]:
        """What a reader of the figures must know: sets too small for them, a score that is left out."""
        notes = []
        smallest = min(sum(map(len, _as_list(self.real))), sum(map(len, _as_list(self.fake))))
        if smallest <= self.extractor.num_features:
            notes.append(
                f"fid_{self.protocol()}: {smallest} images for {self.extractor.num_features} features, so the "
                "covariance is singular and FID is biased upwards; compare runs of the same n only, or read KID"
            )
        if self._logits() is None:
            reason = (
                "call set_references for the identity score"
                if self.extractor.name == "dlib"
                else "no logits were given"
            )
            notes.append(f"is_{self.protocol()}: left out, {reason}")
        return notes

    def _logits(self) -> Tensor | None:
        """Logits of the generated images, or None where no classifier is at hand."""
        if _as_list(self.fake_logits):
            return dim_zero_cat(self.fake_logits)
        if self.extractor.name == "dlib" and self._references is not None and _as_list(self.fake):
            fake = dim_zero_cat(self.fake)
            return identity_logits(fake, self._references.to(fake.device))
        return None

    def compute(self) -> dict[str, Tensor]:
        """Scalars ``fid_P``, ``kid_P``, ``kid_std_P``, ``is_P`` (dlib: ``is_P_identities``), P being :meth:`protocol`.

        With dlib also ``found_real_P`` and ``found_fake_P``, the shares of images where a face was found.  NaN where a
        set has fewer than 2 images.
        """
        name = self.protocol()
        empty = torch.zeros(0, self.extractor.num_features, device=self.device)
        real = dim_zero_cat(self.real) if _as_list(self.real) else empty
        fake = dim_zero_cat(self.fake) if _as_list(self.fake) else empty
        result = {f"fid_{name}": frechet_distance(real, fake)}
        mean, deviation = kernel_distance(real, fake, self.kid_subsets, self.kid_subset_size, self.seed)
        result.update({f"kid_{name}": mean, f"kid_std_{name}": deviation})
        logits = self._logits()
        if logits is not None:
            result[f"is_{name}_identities" if not _as_list(self.fake_logits) else f"is_{name}"] = inception_score(
                logits
            )
        for index, which in ((0, "real"), (2, "fake")):
            if self.face_counts[index] > 0:
                result[f"found_{which}_{name}"] = (self.face_counts[index + 1] / self.face_counts[index]).float()
        return result


def _as_list(state: list[Tensor] | Tensor) -> list[Tensor]:
    """A list state; torchmetrics turns it into one tensor, maybe an empty one, while ranks are synchronised."""
    return [part for part in ([state] if isinstance(state, Tensor) else state) if part.numel()]


def _without_nan(values: Tensor, logits: Tensor | None) -> Features:
    """Features where NaN rows mean "no face found"."""
    return Features(values, logits, torch.isfinite(values).all(1))
