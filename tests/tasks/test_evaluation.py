import pytest
import torch

from lit_faces.models.generators.output import GeneratorOutput
from lit_faces.tasks.au_detector import AUDetector
from lit_faces.tasks.evaluation import ReenactmentEvaluation


class Oracle:
    """A dlib that knows: the truth for the pictures it has been shown, nothing for others."""

    def __init__(self, *batches):
        self.truth = {self.key(image): points for b in batches for image, points in zip(b.image, b.landmarks)}
        self.embedded = 0

    @staticmethod
    def key(image):
        return int(image.long().sum())

    def batch_landmarks(self, images):
        nothing = torch.full((68, 2), float("nan"))
        return torch.stack([self.truth.get(self.key(image), nothing) for image in images])

    def batch_embeddings(self, images, landmarks=None):
        self.embedded += len(images)
        return torch.stack([image.float().mean((1, 2)).repeat(43)[:128] for image in images])

    def landmarks(self, image, box=None):
        return torch.zeros(68, 2).numpy()


@pytest.fixture
def judge():
    return AUDetector(backbone="aligned_face_small", size=32).eval()


def test_copies_of_the_target_are_perfect(faces, judge):
    source, target = faces(6, 0), faces(6, 1)
    target.subject = ["a", "a", "b", "b", "c", "c"]
    oracle = Oracle(source, target)
    evaluation = ReenactmentEvaluation(judge, images=4, analyser=oracle)
    evaluation.update(source, target, GeneratorOutput(target.image_float(), keep=torch.ones(6, 1, 32, 32)))
    figures = evaluation.compute()
    assert figures["l1"] < 1e-6 and figures["copy_l1_changed"] > 0.1 and figures["keep"] == 1
    assert figures["nme"] == 0 and figures["nme_found"] == 1 and figures["real/nme"] == 0
    for name in ("icc/AU06", "mae/AU06", "mae/mean"):
        assert figures[f"judge/{name}"].isfinite() and figures[f"judge/{name}"] != 0
        assert torch.equal(figures[f"au_fidelity/{name}"], figures[f"judge/{name}"])
    assert "leak/AU06" in figures and "judge/leak/AU06" in figures
    assert figures["identity/distance"] == figures["real/identity/distance"]
    assert "fid_n4_dlib" in figures and abs(figures["fid_n4_dlib"]) < 1e-2
    assert oracle.embedded == 4 * 3  # the first four pairs only, each picture once
    assert all(isinstance(v, torch.Tensor) and v.ndim == 0 for v in figures.values())


def test_a_source_frame_is_embedded_once(faces, judge):
    source, target = faces(2, 0), faces(2, 1)
    oracle = Oracle(source, target)
    evaluation = ReenactmentEvaluation(None, images=100, analyser=oracle)
    for _ in range(2):
        evaluation.update(source, target, GeneratorOutput(target.image_float()))
    assert oracle.embedded == 2 + 4 * 2
    figures = evaluation.compute()
    assert "au_fidelity/icc/mean" not in figures and "nme" in figures


def test_ruined_pictures_are_counted_as_not_found(faces):
    source, target = faces(3, 0), faces(3, 1)
    evaluation = ReenactmentEvaluation(None, images=3, threshold=1.0, analyser=Oracle(source, target))
    evaluation.update(source, target, GeneratorOutput(torch.zeros(3, 3, 32, 32)))
    figures = evaluation.compute()
    assert figures["nme_found"] == 0 and figures["nme"].isnan()
    assert figures["identity/found"] == 0 and figures["real/identity/found"] == 1


def test_without_dlib(faces, judge):
    evaluation = ReenactmentEvaluation(judge, images=0)
    source, target = faces(3, 0), faces(3, 1)
    evaluation.update(source, target, GeneratorOutput(target.image_float()))
    figures = evaluation.compute()
    assert "nme" not in figures and "au_fidelity/mae/AU17" in figures
