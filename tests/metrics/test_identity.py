import math

import pytest
import torch

from lit_faces.metrics.identity import IdentitySimilarity, choose_threshold, pair_distances


def on_a_line(*positions: float) -> torch.Tensor:
    return torch.tensor(positions)[:, None]


def people(count: int, shots: int, spread: float, seed: int = 0) -> tuple[torch.Tensor, list[str]]:
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(count, 1, 16, generator=generator)
    embeddings = centres + spread * torch.randn(count, shots, 16, generator=generator)
    return embeddings.flatten(0, 1), [f"person{k}" for k in range(count) for _ in range(shots)]


def test_all_pairs_once():
    distances, same = pair_distances(on_a_line(0.0, 1.0, 5.0), ["a", "a", "b"])
    assert distances.tolist() == [1.0, 5.0, 4.0] and same.tolist() == [True, False, False]


def test_the_threshold_lies_in_the_middle_of_the_gap():
    choice = choose_threshold(on_a_line(0.0, 1.0, 5.0, 6.0), ["a", "a", "b", "b"])
    assert choice.threshold == pytest.approx(2.5) and choice.auc == 1.0  # same: 1, 1; different: 4, 5, 5, 6


def test_auc_is_the_share_of_pairs_in_order_and_ties_count_half():
    # same: 2 (a), 4 (b); different: |0-3|=3, |0-7|=7, |2-3|=1, |2-7|=5
    assert choose_threshold(on_a_line(0.0, 2.0, 3.0, 7.0), ["a", "a", "b", "b"]).auc == pytest.approx(5 / 8)
    assert choose_threshold(on_a_line(0.0, 0.0, 0.0, 0.0), ["a", "a", "b", "b"]).auc == 0.5


def test_auc_agrees_with_scikit_learn_and_threshold_with_a_search():
    metrics = pytest.importorskip("sklearn.metrics")
    embeddings, subjects = people(12, 4, 1.0)
    distances, same = pair_distances(embeddings, subjects)
    choice = choose_threshold(embeddings, subjects)
    assert choice.auc == pytest.approx(metrics.roc_auc_score(same.numpy(), -distances.numpy()), abs=1e-12)

    def gain(threshold: float) -> float:
        near = distances < threshold
        return float(near[same].double().mean() - near[~same].double().mean())

    assert gain(choice.threshold) == pytest.approx(max(gain(float(t)) for t in torch.linspace(0, 10, 2001)), abs=5e-3)


def test_unrelated_embeddings_have_chance_auc():
    embeddings, subjects = people(60, 3, 50.0)
    assert abs(choose_threshold(embeddings, subjects).auc - 0.5) < 0.08


def test_pictures_without_a_face_are_left_out():
    embeddings, subjects = people(5, 3, 0.3)
    holes = torch.cat([embeddings, torch.full((2, 16), float("nan"))])
    assert choose_threshold(holes, [*subjects, "person0", "nobody"]) == choose_threshold(embeddings, subjects)


def test_a_threshold_needs_both_kinds_of_pairs():
    with pytest.raises(ValueError, match=r"got 0 and 1.*two people with two pictures each"):
        choose_threshold(on_a_line(0.0, 1.0), ["a", "b"])
    with pytest.raises(ValueError, match="got 1 and 0"):
        choose_threshold(on_a_line(0.0, 1.0), ["a", "a"])
    with pytest.raises(ValueError, match=r"got \(2, 1\) and 1"):
        choose_threshold(on_a_line(0.0, 1.0), ["a"])


def test_similarity_has_known_values():
    metric = IdentitySimilarity(threshold=0.6)
    source, generated = torch.zeros(4, 128), torch.zeros(4, 128)
    generated[:, 0] = torch.tensor([0.2, 0.4, 0.9, float("nan")])
    metric.update(source, generated)
    result = metric.compute()
    assert float(result["distance"]) == pytest.approx(0.5)
    assert float(result["same_share"]) == pytest.approx(2 / 3)
    assert float(result["found"]) == pytest.approx(3 / 4)


def test_similarity_adds_up_over_batches_and_is_nan_without_faces():
    embeddings, _ = people(10, 2, 0.2)
    whole, parts = IdentitySimilarity(1.0), IdentitySimilarity(1.0)
    whole.update(embeddings[::2], embeddings[1::2])
    for k in range(10):
        parts.update(embeddings[2 * k][None], embeddings[2 * k + 1][None])
    assert all(torch.allclose(value, parts.compute()[key]) for key, value in whole.compute().items())
    blind = IdentitySimilarity()
    blind.update(torch.full((2, 128), float("nan")), torch.zeros(2, 128))
    assert math.isnan(float(blind.compute()["distance"])) and float(blind.compute()["found"]) == 0


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="above 0, got 0"):
        IdentitySimilarity(0)
    with pytest.raises(ValueError, match=r"expected two \(B, D\)"):
        IdentitySimilarity().update(torch.zeros(2, 128), torch.zeros(3, 128))
