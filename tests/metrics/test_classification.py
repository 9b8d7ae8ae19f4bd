import pytest
import torch
from sklearn.metrics import f1_score

from lit_faces.metrics.classification import choose_thresholds


def test_no_other_threshold_has_a_better_f1():
    generator = torch.Generator().manual_seed(0)
    labels = (torch.rand(200, 3, generator=generator) < torch.tensor([0.1, 0.4, 0.7])).float()
    scores = (labels + torch.randn(200, 3, generator=generator)).round(decimals=1)  # with ties
    chosen = choose_thresholds(scores, labels)
    for column in range(3):
        best = max(f1_score(labels[:, column], scores[:, column] >= t) for t in scores[:, column].unique())
        assert f1_score(labels[:, column], scores[:, column] >= chosen[column]) == pytest.approx(best)


def test_uncoded_frames_do_not_count_and_rare_aus_keep_the_default():
    labels, scores = torch.zeros(40, 2), torch.rand(40, 2, generator=torch.Generator().manual_seed(1))
    labels[:20, 0] = 1
    scores[:20, 0] += 1
    half = torch.full_like(labels, float("nan"))
    half[5:35] = labels[5:35]
    chosen = choose_thresholds(scores, half, default=torch.tensor([9.0, 7.0]))
    assert 0.9 < chosen[0] < 1.1 and chosen[1] == 7.0
    with pytest.raises(ValueError, match="expected two"):
        choose_thresholds(scores, labels[:3])
