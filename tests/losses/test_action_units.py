import pytest
import torch
import torch.nn.functional as functional

from lit_faces.losses.action_units import (
    masked_bce,
    masked_concordance,
    masked_cross_entropy,
    masked_logit_bce,
    masked_mse,
    masked_order,
    masked_ordinal,
    masked_smooth_l1,
)

NAN = float("nan")


@pytest.mark.parametrize("loss", [masked_mse, masked_smooth_l1, masked_ordinal, masked_concordance])
def test_uncoded_entries_add_nothing_and_get_no_gradient(loss):
    predicted = torch.tensor([[1.0, 4.0], [3.0, 2.0], [2.0, 5.0]], requires_grad=True)
    target = torch.tensor([[2.0, NAN], [1.0, NAN], [4.0, NAN]])
    value = loss(predicted, target)
    assert value.item() == pytest.approx(loss(predicted[:, :1], target[:, :1]).item(), rel=1e-5)
    value.backward()
    assert torch.isfinite(predicted.grad).all()
    assert predicted.grad[:, 1].abs().max() == 0 and predicted.grad[:, 0].abs().max() > 0


@pytest.mark.parametrize("loss", [masked_mse, masked_smooth_l1, masked_ordinal, masked_concordance, masked_bce])
def test_nothing_coded_costs_nothing(loss):
    predicted = torch.rand(3, 2, requires_grad=True)
    value = loss(predicted, torch.full((3, 2), NAN))
    assert value == 0
    value.backward()
    assert torch.isfinite(predicted.grad).all()


def test_mse_in_units_of_the_scale():
    assert masked_mse(torch.tensor([[5.0, 0.0]]), torch.tensor([[0.0, 0.0]])) == pytest.approx(0.5)
    weight = torch.tensor([3.0, 1.0])
    assert masked_mse(torch.tensor([[5.0, 0.0]]), torch.tensor([[0.0, 0.0]]), weight) == pytest.approx(0.75)


def test_smooth_l1_turns_linear():
    assert masked_smooth_l1(torch.tensor([[3.0]]), torch.tensor([[0.0]])) == pytest.approx(2.5)


def test_ordinal_loss_falls_towards_the_right_grade():
    target = torch.tensor([[3.0]])
    values = [float(masked_ordinal(torch.tensor([[x]]), target)) for x in (0.0, 1.0, 2.0, 3.0)]
    assert values == sorted(values, reverse=True)


def test_occurrence_is_decided_at_the_threshold():
    present, absent = torch.tensor([[1.0]]), torch.tensor([[0.0]])
    at = torch.tensor([[2.0]])
    assert masked_bce(at, present) == pytest.approx(float(masked_bce(at, absent)))
    assert masked_bce(torch.tensor([[4.0]]), present) < masked_bce(torch.tensor([[4.0]]), absent)


def test_concordance_of_known_cases():
    target = torch.tensor([[0.0], [1.0], [4.0]])
    assert masked_concordance(target, target) == pytest.approx(0.0, abs=1e-6)
    assert masked_concordance(4 - target, target) > 1
    mean = target.mean()
    shrunk = mean + 0.5 * (target - mean)  # correlation 1, but half the spread
    assert masked_concordance(shrunk, target) == pytest.approx(1 - 2 * 0.5 / 1.25, rel=1e-4)
    assert masked_concordance(target, torch.ones(3, 1)) == 0  # a label that never varies says nothing


def test_logit_losses_leave_out_what_is_not_coded():
    logits = torch.tensor([[0.0, 2.0], [1.0, -3.0]])
    occurrence = torch.tensor([[1.0, float("nan")], [float("nan"), 0.0]])
    expected = (functional.softplus(torch.tensor(0.0)) + functional.softplus(torch.tensor(-3.0))) / 2
    assert torch.allclose(masked_logit_bce(logits, occurrence), expected)
    weighted = masked_logit_bce(logits, occurrence, torch.tensor([3.0, 1.0]), torch.tensor([1.0, 2.0]))
    assert torch.allclose(
        weighted, (3 * functional.softplus(torch.tensor(0.0)) + 2 * functional.softplus(torch.tensor(-3.0))) / 2
    )
    assert masked_logit_bce(logits, torch.full((2, 2), float("nan"))) == 0


def test_cross_entropy_of_coded_labels_only():
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    label = torch.tensor([0, -1, 2, -1])
    assert torch.allclose(masked_cross_entropy(logits, label), functional.cross_entropy(logits[[0, 2]], label[[0, 2]]))
    assert masked_cross_entropy(logits, torch.full((4,), -1)) == 0


@pytest.mark.parametrize(
    ("difference", "expected"), [(2.0, 0.0), (1.0, 0.0), (3.0, 0.0), (0.5, 0.01), (-1.0, 0.16), (4.0, 0.04)]
)
def test_an_order_costs_the_square_of_what_lies_outside_its_bounds(difference, expected):
    lower, higher = torch.tensor([[0.5]]), torch.tensor([[0.5 + difference]])
    found = masked_order(lower, higher, torch.tensor([[1.0]]), torch.tensor([[3.0]]))
    assert float(found) == pytest.approx(expected, abs=1e-6)


def test_what_is_not_known_of_an_order_costs_nothing():
    lower, higher = torch.tensor([[0.0, 0.0, 0.0]]), torch.tensor([[5.0, 0.0, 3.0]], requires_grad=True)
    least, most = torch.tensor([[1.0, 1.0, NAN]]), torch.tensor([[NAN, NAN, NAN]])
    found = masked_order(lower, higher, least, most)
    assert float(found.detach()) == pytest.approx(0.5 * (1 / 5) ** 2)
    found.backward()
    assert higher.grad[0, 0] == 0 and higher.grad[0, 2] == 0 and higher.grad[0, 1] < 0
    assert float(masked_order(lower[:0], higher[:0], least[:0], most[:0])) == 0
