"""Few-shot heads against textbook solutions and sklearn's."""

import pytest
import torch

from lit_faces.continual.few_shot import choose_ridge, prototype_head, ridge_update

NAN = float("nan")


def problem(rows: int, columns: int = 6, outputs: int = 3):
    draws = torch.Generator().manual_seed(rows)
    x = torch.randn(rows, columns, generator=draws)
    weight, bias = torch.randn(outputs, columns, generator=draws), torch.randn(outputs, generator=draws)
    truth = weight + 0.5 * torch.randn(outputs, columns, generator=draws)
    return x, x @ truth.T + bias, weight, bias, truth


@pytest.mark.parametrize("rows", [3, 40])  # both forms of the solution
def test_the_gradient_vanishes_at_the_solution(rows: int) -> None:
    x, y, weight, bias, _ = problem(rows)
    w, b = (t.double().requires_grad_() for t in ridge_update(x, y, weight, bias, 2.5))
    loss = (x.double() @ w.T + b - y).square().sum() + 2.5 * ((w - weight).square().sum() + (b - bias).square().sum())
    for gradient in torch.autograd.grad(loss, [w, b]):
        assert float(gradient.abs().max()) < 1e-4


def test_no_labels_change_nothing_and_many_give_least_squares() -> None:
    x, y, weight, bias, truth = problem(500)
    same, _ = ridge_update(x[:0], y[:0], weight, bias, 1.0)
    torch.testing.assert_close(same, weight)
    found, _ = ridge_update(x, y, weight, bias, 1e-6)
    torch.testing.assert_close(found, truth, atol=1e-4, rtol=0)


def test_each_output_learns_from_its_own_labels() -> None:
    x, y, weight, bias, _ = problem(30)
    y[10:, 0] = NAN
    y[:, 2] = NAN
    w, b = ridge_update(x, y, weight, bias, 1.0)
    alone, _ = ridge_update(x[:10], y[:10, :1], weight[:1], bias[:1], 1.0)
    torch.testing.assert_close(w[:1], alone)
    torch.testing.assert_close(w[2], weight[2])
    torch.testing.assert_close(b[2], bias[2])


def test_the_strength_that_serves_unseen_frames_is_chosen() -> None:
    draws = torch.Generator().manual_seed(0)
    weight, bias = torch.zeros(1, 5), torch.zeros(1)
    people = [str(i // 30) for i in range(300)]
    x = torch.randn(300, 5, generator=draws)
    noise = 3.0 * torch.randn(300, 1, generator=draws)
    assert choose_ridge(x, noise, people, weight, bias, 10) == 1000.0  # nothing to learn
    own = torch.randn(10, 5, generator=draws).repeat_interleave(30, 0)
    assert choose_ridge(x, (x * own).sum(1, keepdim=True), people, weight, bias, 10) == 1.0
    with pytest.raises(ValueError, match="more than 40"):
        choose_ridge(x, noise, people, weight, bias, 40)


def test_prototypes_are_the_nearest_class_mean() -> None:
    draws = torch.Generator().manual_seed(1)
    x, labels = torch.randn(60, 4, generator=draws), torch.arange(60) % 3
    labels[:5] = -1
    head = prototype_head(x, labels, classes=4)
    means = torch.stack([x[labels == c].mean(0) for c in range(3)])
    assert torch.equal(head(x).argmax(1), torch.cdist(x, means).argmin(1))


def test_what_cannot_be_is_refused() -> None:
    x, y, weight, bias, _ = problem(5)
    with pytest.raises(ValueError, match="strength"):
        ridge_update(x, y, weight, bias, 0.0)
    with pytest.raises(ValueError, match="features"):
        ridge_update(x, y[:, :2], weight, bias, 1.0)
    with pytest.raises(ValueError, match="prototypes"):
        prototype_head(x, torch.full((5,), -1), 3)
