import math

import numpy as np
import pytest
import torch
from torchmetrics import MetricCollection
from torchmetrics.functional.classification import multilabel_auroc, multilabel_f1_score

from lit_faces.core.facs import AU_INDEX, AU_KEYS, occurrence
from lit_faces.metrics.classification import (
    AUC,
    F1,
    BalancedAccuracy,
    OccurrenceOverAUs,
    SkewNormalisedF1,
    auc,
    choose_thresholds,
)

METRICS = {"f1": F1, "f1_norm": SkewNormalisedF1, "balanced_accuracy": BalancedAccuracy, "auc": AUC}
pytestmark = pytest.mark.filterwarnings("ignore:.*before the ``update``")


def scored(n: int, columns: int = 1, rate: float = 0.3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels 0 and 1 and scores 0..1 with many ties, float32 (n, columns)."""
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.rand(n, columns, generator=generator) < rate).float()
    scores = 0.25 * labels + 0.75 * torch.rand(n, columns, generator=generator)
    return labels, (scores * 20).round() / 20


def value(name: str, labels: torch.Tensor, scores: torch.Tensor) -> list[float]:
    metric = METRICS[name](labels.shape[1])
    metric.update(labels, scores)
    return metric.compute().reshape(-1).tolist()


def test_values_are_those_of_sklearn():
    sklearn = pytest.importorskip("sklearn.metrics", reason="sklearn comes with pingouin of the extra [test]")
    labels, scores = scored(300, 3)
    for column in range(3):
        truth, score = labels[:, column].double().numpy(), scores[:, column].numpy()
        theirs = {
            "f1": sklearn.f1_score(truth, score >= 0.5),
            "balanced_accuracy": sklearn.balanced_accuracy_score(truth, score >= 0.5),
            "auc": sklearn.roc_auc_score(truth, score),
            # skew-normalised: as if every negative weighed positives / negatives
            "f1_norm": sklearn.f1_score(
                truth, score >= 0.5, sample_weight=np.where(truth == 1, 1, truth.sum() / (1 - truth).sum())
            ),
        }
        assert {name: value(name, labels, scores)[column] for name in theirs} == pytest.approx(theirs, abs=1e-12)


def test_values_are_those_of_torchmetrics():
    labels, scores = scored(200, 4)
    off = scores * 0.99  # torchmetrics wants score > threshold: no score at the threshold
    theirs = multilabel_f1_score(off, labels.int(), 4, threshold=0.5, average="none")
    assert value("f1", labels, off) == pytest.approx(theirs.tolist(), abs=1e-6)
    assert value("auc", labels, off) == pytest.approx(
        multilabel_auroc(off, labels.int(), 4, average="none").tolist(), abs=1e-6
    )


def test_f1_depends_on_how_often_an_au_occurs_and_the_others_do_not():
    def at(copies: int) -> dict[str, float]:
        """70 % of the positives found, 10 % false alarms, negatives repeated."""
        truth = torch.tensor([1.0] * 10 + [0.0] * 10 * copies)[:, None]
        said = torch.tensor([1.0] * 7 + [0.0] * 3 + ([1.0] + [0.0] * 9) * copies)[:, None]
        return {name: value(name, truth, said)[0] for name in METRICS}

    even, rare = at(1), at(20)
    assert even["f1"] == pytest.approx(even["f1_norm"]) == pytest.approx(14 / 18)
    assert rare["f1"] < 0.5 < rare["f1_norm"] == pytest.approx(even["f1_norm"])
    assert rare["balanced_accuracy"] == pytest.approx(even["balanced_accuracy"]) == pytest.approx(0.8)
    assert rare["auc"] == pytest.approx(even["auc"])


@pytest.mark.parametrize("name", METRICS)
def test_frames_that_are_not_coded_are_left_out_au_by_au(name):
    labels, scores = scored(90, 3)
    holes, broken = labels.clone(), scores.clone()
    holes[::4, 1] = math.nan
    broken[:10, 2] = math.nan
    kept = ~holes[:, 1].isnan()
    expected = [
        value(name, labels, scores)[0],
        value(name, labels[kept], scores[kept])[1],
        value(name, labels[10:], scores[10:])[2],
    ]
    assert value(name, holes, broken) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_an_au_that_never_varies_is_undefined_not_0(name):
    labels = torch.tensor([[0.0, 1.0, math.nan, 0.0], [0.0, 1.0, math.nan, 1.0]])
    scores = torch.tensor([[0.9, 0.1, 0.2, 0.6], [0.1, 0.9, 0.7, 0.1]])
    found = value(name, labels, scores)
    assert all(math.isnan(x) for x in found[:3])
    assert found[3] == 0, "all wrong is 0"
    assert METRICS[name](2).compute().isnan().all()
    metric = METRICS[name](2)
    metric.update(torch.zeros(0, 2), torch.zeros(0, 2))
    assert metric.compute().isnan().all()


@pytest.mark.parametrize("name", METRICS)
def test_batches_and_ranks_add_up(name):
    labels, scores = scored(150, 3)
    labels[:40, 0] = math.nan
    whole, forward, merged = (METRICS[name](3) for _ in range(3))
    whole.update(labels, scores)
    for rows in (slice(0, 1), slice(1, 60), slice(60, 60), slice(60, 150)):
        rank = METRICS[name](3)
        rank.update(labels[rows], scores[rows])
        merged.merge_state(rank)
        forward(labels[rows], scores[rows])
    assert merged.compute().tolist() == forward.compute().tolist() == whole.compute().tolist()
    whole.reset()
    assert whole.compute().isnan().all()


def test_auc_needs_only_the_order_of_the_scores():
    labels, scores = scored(200, 2)
    expected = auc(labels, scores).tolist()
    assert auc(labels, 1000 * scores.double() - 500).tolist() == expected, "logits that a sigmoid would make equal"
    assert auc(1 - labels, -scores).tolist() == pytest.approx(expected)
    assert auc(labels, -scores).tolist() == pytest.approx([1 - x for x in expected])
    assert auc(labels, torch.zeros_like(scores)).tolist() == [0.5, 0.5]
    assert auc(torch.tensor([[0.0], [1.0]]), torch.tensor([[-math.inf], [math.inf]])).tolist() == [1]


def test_thresholds_are_one_a_column_and_reach_the_threshold_itself():
    labels = torch.tensor([[0.0, 0.0], [1.0, 1.0], [1.0, 0.0]])
    scores = torch.tensor([[0.1, 1.0], [0.7, 3.0], [0.8, 2.0]])
    metric = F1(2, torch.tensor([0.7, 2.5]))
    metric.update(labels, scores)
    assert metric.compute().tolist() == [1, 1]
    single = F1(1, 0.7)  # 0.7 in float32 is below 0.7 in float64
    single.update(labels[:, :1], scores[:, :1])
    assert single.compute() == 1
    with pytest.raises(ValueError, match=r"one or 2, one a column, got shape \(3,\)"):
        F1(2, torch.zeros(3))


def test_a_collection_keeps_two_thresholds_apart_when_their_first_counts_agree():
    metrics = MetricCollection({"low": F1(1, 0.4), "high": F1(1, 0.6), "also_low": BalancedAccuracy(1, 0.4)})
    metrics.update(torch.tensor([[1.0], [0.0]]), torch.tensor([[0.9], [0.1]]))
    metrics.update(torch.tensor([[0.0]]), torch.tensor([[0.5]]))
    assert {k: float(v) for k, v in metrics.compute().items()} == pytest.approx(
        {"low": 2 / 3, "high": 1, "also_low": 0.75}
    )


def test_intensities_are_not_taken_for_occurrence():
    intensity, scores = torch.tensor([[3.0], [0.0], [math.nan]]), torch.tensor([[0.9], [0.1], [0.5]])
    for name in METRICS:
        with pytest.raises(ValueError, match=r"expected 0, 1 or NaN, found 3; turn intensities into occurrence"):
            value(name, intensity, scores)
    assert value("f1", occurrence(intensity), scores) == [1]
    with pytest.raises(ValueError, match=r"expected two \(B, 2\)"):
        AUC(2).update(torch.zeros(2, 1), torch.zeros(2, 1))


def f1_at(labels: torch.Tensor, scores: torch.Tensor, threshold: float) -> float:
    metric = F1(1, threshold)
    metric.update(labels[:, None], scores[:, None])
    return float(metric.compute())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_chosen_thresholds_are_the_best_of_all(dtype):
    labels, scores = scored(120, 3)
    scores = 4 * scores.to(dtype) - 1
    labels[::5, 1] = math.nan
    scores[::7, 2] = math.nan
    chosen = choose_thresholds(scores, labels)
    assert chosen.dtype == dtype
    for column in range(3):
        every = [*scores[:, column][~scores[:, column].isnan()].unique().tolist(), 9.0]
        best = max(f1_at(labels[:, column], scores[:, column], threshold) for threshold in every)
        assert f1_at(labels[:, column], scores[:, column], chosen[column]) == pytest.approx(best, abs=1e-12)


def test_a_threshold_lies_between_scores_and_is_kept_where_nothing_can_be_chosen():
    labels = torch.tensor([[0.0, 0.0, 1.0, math.nan], [0.0, 0.0, 1.0, math.nan], [1.0, 0.0, 1.0, math.nan]])
    scores = torch.tensor([0.2, 0.4, 0.8])[:, None].expand(3, 4)
    assert choose_thresholds(scores, labels, default=2.0, fewest=1).tolist() == pytest.approx([0.6, 2, 2, 2])
    defaults = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert choose_thresholds(scores, labels, default=defaults, fewest=0).tolist() == pytest.approx([0.6, 2, 3, 4])
    assert defaults.tolist() == [1, 2, 3, 4]
    assert choose_thresholds(scores[:0], labels[:0]).tolist() == [0.5] * 4


def test_uncoded_frames_do_not_count_and_rare_aus_keep_the_default():
    labels, scores = torch.zeros(40, 2), torch.rand(40, 2, generator=torch.Generator().manual_seed(1))
    labels[:20, 0] = 1
    labels[:9, 1] = 1  # one less than needed
    scores[:20, 0] += 1
    half = torch.full_like(labels, float("nan"))
    half[5:35] = labels[5:35]
    chosen = choose_thresholds(scores, half, default=torch.tensor([9.0, 7.0]))
    assert 0.9 < chosen[0] < 1.1 and chosen[1] == 7.0
    assert choose_thresholds(scores, labels, default=7.0, fewest=9)[1] != 7.0
    with pytest.raises(ValueError, match="expected two"):
        choose_thresholds(scores, labels[:3])


def test_a_threshold_parts_neighbouring_floats_and_not_equal_ones():
    low = torch.tensor(0.7)
    high = torch.nextafter(low, torch.tensor(1.0))
    scores, labels = torch.stack([low, high])[:, None], torch.tensor([[0.0], [1.0]])
    assert f1_at(labels[:, 0], scores[:, 0], choose_thresholds(scores, labels, fewest=1)[0]) == 1
    tied = torch.tensor([[0.3], [0.3], [0.3]])
    assert choose_thresholds(tied, torch.tensor([[0.0], [1.0], [1.0]]), fewest=1).tolist() == pytest.approx([0.3])
    assert choose_thresholds(torch.tensor([[-math.inf], [0.5]]), labels, fewest=1).tolist() == [0.5]


def test_over_aus_all_figures_are_named():
    labels, scores = scored(80, 19)
    labels[:, AU_INDEX[43]] = math.nan
    metric = OccurrenceOverAUs(torch.full((19,), 0.4))
    metric.update(labels, scores)
    result = metric.compute()
    assert set(result) == {f"{n}/{k}" for n in ("f1", "f1_norm", "balanced_accuracy") for k in (*AU_KEYS, "mean")}
    alone = F1(19, 0.4)
    alone.update(labels, scores)
    assert result["f1/AU43"].isnan() and result["f1/AU06"] == alone.compute()[AU_INDEX[6]]
    assert float(result["f1/mean"]) == pytest.approx(float(alone.compute().nanmean()))
