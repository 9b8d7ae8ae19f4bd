"""The test of a generator on people it has never seen, figure by figure beside the same figure of the real frames.

    au_fidelity/icc|mae/AU06 ..., /mean    judge's reading of the generated picture against what was asked
    au_fidelity/icc_neutral/AU06 ...       the same, of its reading less that of the person's source picture
    leak/AU06 ..., /mean                   judged change of AUs that were not asked to change
    judge/icc|icc_neutral|mae|leak/...     the same for the real target frames: the judge's own errors
    l1, l1_changed, gradient_changed       distance to the real frame; copy_...: of an unchanged copy of the source
    keep, attention                        share of pixels copied; mean attention
    nme, nme_found, real/nme ...           dlib's landmarks on generated (real) pictures against the asked ones, as a
                                           fraction of the outer-eye distance
    identity/distance, same_share, ...     dlib embedding of source and generated (real/: real) face
    fid_P, kid_P, is_P                     P is the protocol, for example n240_dlib

The judge reads every picture and its mirror image. dlib takes a quarter of a second for each, so it sees the first
``images`` pairs only.

With several processes every figure is that of one process over the same data: rank r must see pairs r, r + world, ...,
as :class:`data_modules.base.EpochSampler` deals them out.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lit_faces.core.landmarks import FaceAnalyser
from lit_faces.core.ranks import gather, gather_tensors, interleave, place
from lit_faces.core.sample import FaceBatch, to_uint8
from lit_faces.losses.reconstruction import gradient_pyramid, weighted_l1
from lit_faces.metrics.au_fidelity import AUFidelity
from lit_faces.metrics.features import DlibFeatures
from lit_faces.metrics.identity import IdentitySimilarity, choose_threshold
from lit_faces.metrics.image_quality import ImageQuality
from lit_faces.metrics.landmark_error import LandmarkNME, nme
from lit_faces.metrics.means import WeightedMeans
from lit_faces.models.generators.output import GeneratorOutput
from lit_faces.tasks.au_detector import AUDetector, load_detector
from lit_faces.tasks.pairs import changed_weight

PIXEL_FIGURES = ("l1", "l1_changed", "gradient_changed", "copy_l1_changed", "keep", "attention")


@torch.no_grad()
def pixel_figures(
    source: FaceBatch, target: FaceBatch, output: GeneratorOutput
) -> dict[str, tuple[Tensor, Tensor | float]]:
    """L1 to the real frame (pictures span -1..1), also where AUs change only, and kept shares.

    Returns:
        Mean and weight of each figure: with :class:`WeightedMeans` the mean over a set does not depend on how it was
        cut into batches.
    """
    where = changed_weight(source, target, 1.0) - 1.0
    real = target.image_float()
    number = float(len(source))
    area = where.double().mean() * number
    values: dict[str, tuple[Tensor, Tensor | float]] = {
        "l1": (weighted_l1(output.image, real), number),
        "l1_changed": (weighted_l1(output.image, real, where), area),
        "gradient_changed": (gradient_pyramid(output.image, real, where), area),
        "copy_l1_changed": (weighted_l1(source.image_float(), real, where), area),
    }
    for name in ("keep", "attention"):
        if (value := getattr(output, name)) is not None:
            values[name] = value.float().mean(), number
    return values


class ReenactmentEvaluation:
    """Collects the figures above; everything is computed once a picture.

    Args:
        judge: weight file, ``packaged``, a detector, or None for no AU figures.
        features: of FID, KID and IS: ``dlib``, ``inception``, ``timm:NAME``.
        images: pairs that dlib looks at; 0 leaves its figures out.
        threshold: embedding distance of one person; None chooses it on the real frames seen here.
        device: of the judge.
        analyser: dlib, shared.
    """

    def __init__(
        self,
        judge: str | AUDetector | None,
        features: str = "dlib",
        images: int = 240,
        threshold: float | None = None,
        device: torch.device | str = "cpu",
        analyser: FaceAnalyser | None = None,
    ) -> None:
        self.judge = load_detector(judge).to(device) if isinstance(judge, str) else judge
        self.images, self.threshold = images, threshold
        self.analyser = analyser or FaceAnalyser()
        self.dlib = DlibFeatures(self.analyser)
        self.fidelity, self.reading = AUFidelity(), AUFidelity()
        self.quality = ImageQuality(features, analyser=self.analyser) if images else None
        self.nme, self.real_nme = LandmarkNME(), LandmarkNME()
        self.pixels = WeightedMeans(PIXEL_FIGURES)
        rank, world = place()
        self.left = len(range(rank, images, world))
        for metric in (self.fidelity, self.reading, self.nme, self.real_nme, self.pixels, self.quality):
            if metric is not None:
                metric.dist_sync_fn = gather_tensors
        self.subjects: list[str] = []
        self.errors: list[Tensor] = []
        self.embeddings: dict[str, list[Tensor]] = {"source": [], "generated": [], "real": []}
        self._known: dict[tuple[str, str, int], Tensor] = {}
        self._notes: list[str] = []

    @torch.no_grad()
    def update(self, source: FaceBatch, target: FaceBatch, output: GeneratorOutput) -> None:
        """Add a batch: sources, the real targets, and what was generated from the first for the second."""
        fake = to_uint8(output.image).cpu()
        self.pixels.update(pixel_figures(source, target, output))
        if self.judge is not None:
            asked, was = target.au_intensity.cpu(), source.au_intensity.cpu()
            before = self.judge.predict_au(source.image, mirror=True)
            self.fidelity.update(asked, self.judge.predict_au(fake, mirror=True), was, before)
            self.reading.update(asked, self.judge.predict_au(target.image, mirror=True), was, before)
        if self.left:
            some = slice(0, self.left)
            self._look(source.select(some).to("cpu"), target.select(some).to("cpu"), fake[some])
            self.left -= len(fake[some])

    def _look(self, source: FaceBatch, target: FaceBatch, fake: Tensor) -> None:
        """Landmarks and embeddings of dlib, and the features of FID."""
        asked = target.landmarks
        found, real_found = (self.analyser.batch_landmarks(images) for images in (fake, target.image))
        self.nme.update(found, asked)
        self.errors.append(nme(found, asked))
        self.real_nme.update(real_found, asked)
        made = self.dlib.of_landmarks(fake, found)
        real = self.dlib.of_landmarks(target.image, real_found)
        self.embeddings["generated"].append(_where_found(made.features, made.found))
        self.embeddings["real"].append(_where_found(real.features, real.found))
        self.embeddings["source"].append(torch.stack([self._embed(source, i) for i in range(len(source))]))
        self.subjects += target.subject
        if self.quality is None:
            return
        if self.quality.extractor.name == "dlib":
            self.quality.update_features(real=real, fake=made)
        else:
            self.quality.update(target.image, real=True)
            self.quality.update(fake, real=False)

    def _embed(self, batch: FaceBatch, index: int) -> Tensor:
        """Embedding (128,) of a source frame; each frame once."""
        key = (batch.source[index] if batch.source else "", batch.subject[index], int(batch.frame[index]))
        if key not in self._known:
            one = batch.image[index : index + 1]
            self._known[key] = self.analyser.batch_embeddings(one, self.analyser.batch_landmarks(one))[0]
        return self._known[key]

    def compute(self) -> dict[str, Tensor]:
        """All figures by the names above. All ranks must call it."""
        self._gather()
        result = self.pixels.compute()
        if self.judge is not None:
            made, real = self.fidelity.compute(), self.reading.compute()
            result.update({(k if k.startswith("leak/") else f"au_fidelity/{k}"): v for k, v in made.items()})
            result.update({f"judge/{k}": v for k, v in real.items()})
        if self.images and self.subjects:
            result.update(self.nme.compute())
            result.update({f"real/{k}": v for k, v in self.real_nme.compute().items()})
            result.update(self._identity())
            result.update(self._quality())
        return {name: value.float() for name, value in result.items()}

    def _gather(self) -> None:
        """Embeddings and people of all ranks, in the order of the data."""
        self.subjects = interleave(gather(self.subjects))
        self.errors = interleave(gather(list(torch.cat(self.errors)) if self.errors else []))
        for name, rows in self.embeddings.items():
            mine = list(torch.cat(rows)) if rows else []
            everybody = interleave(gather(mine))
            self.embeddings[name] = [torch.stack(everybody)] if everybody else []

    def _identity(self) -> dict[str, Tensor]:
        """Is it still the same person? For generated and for real targets, against the source."""
        source, made, real = (torch.cat(self.embeddings[k]) for k in ("source", "generated", "real"))
        threshold, result = self.threshold, {}
        if threshold is None:
            try:
                choice = choose_threshold(real, self.subjects)
            except ValueError as error:
                self._notes.append(f"identity: no threshold could be chosen ({error})")
            else:
                threshold = max(choice.threshold, 1e-3)
                result = {"identity/auc": torch.tensor(choice.auc)}
                self._notes.append("identity/threshold was chosen on the real frames of the people tested")
        for prefix, embeddings in (("identity", made), ("real/identity", real)):
            metric = IdentitySimilarity(threshold) if threshold else IdentitySimilarity()
            metric.sync_on_compute = False  # all ranks have all rows already
            metric.update(source, embeddings)
            values = metric.compute()
            result[f"{prefix}/distance"], result[f"{prefix}/found"] = values["distance"], values["found"]
            if threshold:
                result[f"{prefix}/same_share"] = values["same_share"]
        if threshold:
            result["identity/threshold"] = torch.tensor(threshold)
        return result

    def _quality(self) -> dict[str, Tensor]:
        """FID, KID and IS."""
        if self.quality is None:
            return {}
        if self.quality.extractor.name == "dlib" and len(set(self.subjects)) > 1:
            try:
                self.quality.set_references(torch.cat(self.embeddings["real"]), self.subjects)
            except ValueError as error:
                self._notes.append(str(error))
        with self.quality.sync_context(dist_sync_fn=self.quality.dist_sync_fn):  # of all ranks' images, as the figures
            self._notes += self.quality.notes()
        return self.quality.compute()

    def people(self) -> list[dict[str, Any]]:
        """One row a person dlib has looked at: pairs, landmark error in %, embedding distance to the source."""
        if not self.subjects:
            return []
        source, made = (torch.cat(self.embeddings[name]) for name in ("source", "generated"))
        distance, error = (source - made).norm(dim=1), torch.stack(self.errors)
        rows = []
        for name in sorted(set(self.subjects)):
            where = torch.tensor([subject == name for subject in self.subjects])
            figures = {"nme": error[where].nanmean(), "identity_distance": distance[where].nanmean()}
            rows.append({"subject": name, "pairs": int(where.sum()), **{k: float(v) for k, v in figures.items()}})
        return rows

    def notes(self) -> list[str]:
        """What a reader of the figures must know; after :meth:`compute`."""
        return self._notes


def _where_found(embeddings: Tensor, found: Tensor | None) -> Tensor:
    """Embeddings with NaN rows where no face was found."""
    return embeddings if found is None else embeddings.masked_fill(~found[:, None], float("nan"))
