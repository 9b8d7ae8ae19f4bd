import math

import pytest
import torch
from torch import nn

from lit_faces.core.landmarks import FaceAnalyser
from lit_faces.metrics.features import Features
from lit_faces.metrics.image_quality import (
    ImageQuality,
    frechet_distance,
    identity_logits,
    inception_score,
    kernel_distance,
)


def normal(n: int, mean: float = 0.0, columns: int = 128, seed: int = 0) -> torch.Tensor:
    return mean + torch.randn(n, columns, generator=torch.Generator().manual_seed(seed))


def people(count: int = 5, shots: int = 8, spread: float = 0.02) -> tuple[torch.Tensor, list[str]]:
    centres = torch.nn.functional.normalize(normal(count), dim=1)[:, None]
    embeddings = centres + spread * normal(count * shots, seed=1).view(count, shots, 128)
    return embeddings.flatten(0, 1), [f"p{k}" for k in range(count) for _ in range(shots)]


def test_fid_of_two_gaussians_is_known():
    # equal covariance 1, means 0 and 2 in one dimension: 4; means equal, sigma 1 and 3: (3 - 1)^2 = 4
    line = torch.linspace(-1, 1, 4001)[:, None]
    line = line / line.std()
    assert float(frechet_distance(line, line + 2)) == pytest.approx(4, abs=1e-4)
    assert float(frechet_distance(line, 3 * line)) == pytest.approx(4, abs=1e-4)
    assert float(frechet_distance(line, line)) == pytest.approx(0, abs=1e-6)


def test_kid_is_unbiased_and_sees_a_shift():
    same = kernel_distance(normal(200), normal(200, seed=1), subsets=20, subset_size=100, seed=0)
    moved = kernel_distance(normal(200), normal(200, 0.5, seed=1), subsets=20, subset_size=100, seed=0)
    assert abs(float(same[0])) < 0.02 < 0.2 < float(moved[0])


def test_kid_depends_on_its_seed_only_and_leaves_the_global_generator_alone():
    torch.manual_seed(1)
    first = kernel_distance(normal(80), normal(80, seed=1), 10, 50, seed=3)
    following = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), following)
    assert kernel_distance(normal(80), normal(80, seed=1), 10, 50, seed=3) == first
    assert kernel_distance(normal(80), normal(80, seed=1), 10, 50, seed=4) != first


def test_kid_of_sets_smaller_than_a_subset_uses_all_of_them():
    mean, deviation = kernel_distance(normal(10), normal(12, seed=1), subsets=5, subset_size=100, seed=0)
    assert math.isfinite(float(mean)) and math.isfinite(float(deviation))


def test_inception_score_is_the_number_of_classes_seen_with_certainty():
    logits = 50 * torch.eye(7)[torch.arange(70) % 7]
    assert float(inception_score(logits)) == pytest.approx(7, rel=1e-4)
    assert float(inception_score(torch.zeros(20, 7))) == pytest.approx(1)
    assert float(inception_score(logits[:1].repeat(30, 1))) == pytest.approx(1)


def test_identity_score_runs_from_one_to_the_number_of_people():
    embeddings, subjects = people()
    means = torch.stack([embeddings[k : k + 8].mean(0) for k in range(0, 40, 8)])
    assert identity_logits(embeddings, means).argmax(1).tolist() == [int(name[1]) for name in subjects]
    assert float(inception_score(identity_logits(embeddings, means))) == pytest.approx(5, rel=0.01)
    assert float(inception_score(identity_logits(embeddings[:8], means))) == pytest.approx(1, abs=0.01)


def test_names_carry_protocol_and_number():
    metric = ImageQuality("dlib")
    metric.update_features(real=normal(200), fake=normal(200, seed=1))
    assert set(metric.compute()) == {
        *("fid_n200_dlib", "kid_n200_dlib", "kid_std_n200_dlib", "found_real_n200_dlib", "found_fake_n200_dlib")
    }
    metric.update_features(real=normal(50))
    assert "fid_n200r250_dlib" in metric.compute()


def test_precomputed_features_give_the_formulas_values_whatever_the_batches():
    real, fake = normal(200), normal(200, 0.1, seed=1)
    metric = ImageQuality("dlib", kid_subsets=5)
    metric.update_features(real=real)
    for k in range(0, 200, 64):
        metric.update_features(fake=fake[k : k + 64])
    result = metric.compute()
    assert float(result["fid_n200_dlib"]) == pytest.approx(float(frechet_distance(real, fake)), rel=1e-4)
    assert result["kid_n200_dlib"] == kernel_distance(real, fake, 5, 100, 0)[0]


def test_kid_does_not_depend_on_the_order_of_the_images():
    real, fake = normal(150), normal(150, 0.2, seed=1)
    first = kernel_distance(real, fake, 7, 40, 0)
    other = kernel_distance(real.flip(0), fake[torch.randperm(150)], 7, 40, 0)
    assert [float(a) for a in first] == [float(b) for b in other]


def test_identity_score_needs_reference_people_and_notes_say_so():
    embeddings, subjects = people()
    metric = ImageQuality("dlib")
    metric.update_features(real=embeddings, fake=embeddings)
    assert not any(name.startswith("is_") for name in metric.compute())
    assert any("is_n40_dlib: left out, call set_references" in note for note in metric.notes())
    metric.set_references(embeddings, subjects)
    assert float(metric.compute()["is_n40_dlib_identities"]) == pytest.approx(5, rel=0.01)
    assert not any("left out" in note for note in metric.notes())
    with pytest.raises(ValueError, match="at least 2 reference people"):
        metric.set_references(embeddings[:8], subjects[:8])
    with pytest.raises(ValueError, match="got 3 for 8"):
        metric.set_references(embeddings[:8], subjects[:3])


def test_too_few_images_are_noted():
    metric = ImageQuality("dlib")
    metric.update_features(real=normal(60), fake=normal(60, seed=1))
    assert any("60 images for 128 features" in note and "biased" in note for note in metric.notes())
    metric.update_features(real=normal(100, seed=2), fake=normal(100, seed=3))
    assert not any("biased" in note for note in metric.notes())


def test_rows_with_nan_are_left_out_and_counted():
    fake = normal(10, seed=1)
    fake[3] = float("nan")
    metric = ImageQuality("dlib")
    metric.update_features(real=normal(9), fake=fake)
    result = metric.compute()
    assert float(result["found_fake_n9_dlib"]) == pytest.approx(0.9)
    assert result["fid_n9_dlib"].isfinite()


@pytest.mark.filterwarnings("ignore:.*before the ``update``")
def test_nothing_or_one_image_is_nan():
    metric = ImageQuality("dlib")
    assert metric.compute()["fid_n0_dlib"].isnan()
    metric.reset()
    metric.update_features(real=normal(1), fake=normal(1))
    assert metric.compute()["kid_n1_dlib"].isnan()


class Colours:
    """A stand-in extractor: mean colour as features, brightest channel as class."""

    name, num_features = "colours", 3

    def __call__(self, images: torch.Tensor) -> Features:
        means = images.float().mean((2, 3)) / 255
        return Features(means, 100 * means)


def test_images_go_through_the_extractor_and_a_classifier_gives_the_score():
    metric = ImageQuality("dlib")
    metric.extractor = Colours()
    images = torch.zeros(30, 3, 8, 8, dtype=torch.uint8)
    images[torch.arange(30), torch.arange(30) % 3] = 255
    metric.update(images, real=True)
    metric.update(images, real=False)
    result = metric.compute()
    assert float(result["is_n30_colours"]) == pytest.approx(3, rel=1e-3)
    assert float(result["fid_n30_colours"]) == pytest.approx(0, abs=1e-5)
    assert metric.notes() == []


def test_real_faces_through_dlib():
    from skimage import data

    picture = torch.from_numpy(data.astronaut()[56:184, 161:289].copy()).permute(2, 0, 1)[None]
    metric = ImageQuality("dlib", analyser=FaceAnalyser())
    metric.update(torch.cat([picture, picture.flip(3)]), real=True)
    metric.update(torch.cat([picture, torch.zeros_like(picture)]), real=False)
    result = metric.compute()
    assert float(result["found_real_n2_dlib"]) == 1 and float(result["found_fake_n2_dlib"]) == 0.5
    assert result["fid_n2_dlib"].isfinite()


def test_the_extractor_stays_out_of_the_owning_module():
    class Owner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.quality = ImageQuality("dlib")

    owner = Owner()
    assert list(owner.parameters()) == [] and owner.state_dict() == {}


def test_wrong_arguments_are_named():
    metric = ImageQuality("dlib")
    with pytest.raises(ValueError, match=r"expected uint8 \(B, 3, H, W\), got torch\.float32"):
        metric.update(torch.zeros(1, 3, 8, 8), real=True)
    with pytest.raises(ValueError, match=r"expected \(B, 128\) features of dlib, got \(4, 7\)"):
        metric.update_features(real=torch.zeros(4, 7))
