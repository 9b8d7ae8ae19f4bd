import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load, save
from torch import nn

from lit_faces.continual.ewc import fisher_diagonal
from lit_faces.continual.penalties import L2SP, SI, LwF, distillation_loss

LIKELIHOODS = ("bernoulli", "categorical", "gaussian")


def net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double()


def nudge(model, seed=1):
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data += torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)


def check_gradient(penalty, model):
    parameters = list(model.parameters())
    expected = torch.autograd.grad(penalty.penalty(model), parameters)
    model.zero_grad()
    penalty.gradient_(model)
    torch.testing.assert_close([p.grad for p in parameters], list(expected))


# -- L2-SP ------------------------------------------------------------------------------------------------------------


def test_l2sp_is_the_written_formula():
    model, penalty = net(), L2SP(strength=3.0, strength_new=0.5, new=("2.",))
    penalty.consolidate(model)
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    nudge(model)
    old = sum((p - start[n]).square().sum() for n, p in model.named_parameters() if n.startswith("0."))
    new = sum(p.square().sum() for n, p in model.named_parameters() if n.startswith("2."))
    assert penalty.penalty(model).item() == pytest.approx((1.5 * old + 0.25 * new).item())
    check_gradient(penalty, model)


def test_l2sp_is_zero_at_the_start_and_a_second_task_moves_the_start():
    model, penalty = net(), L2SP(strength=2.0)
    assert penalty.penalty(model) == 0
    for seed in range(2):
        nudge(model, seed)
        penalty.consolidate(model)
        assert penalty.penalty(model) == 0
    assert penalty.tasks == 2


def test_l2sp_names_wrong_strengths():
    with pytest.raises(ValueError, match="strength_new"):
        L2SP(strength_new=1.0)
    with pytest.raises(ValueError, match="strength_new"):
        L2SP(strength=0.0, strength_new=1.0, new=("2.",))
    with pytest.raises(ValueError, match="strength: expected a number >= 0, got -1"):
        L2SP(strength=-1.0)


# -- SI ---------------------------------------------------------------------------------------------------------------


class Bowl(nn.Module):
    """loss = 1/2 sum of curvature_i theta_i^2."""

    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor([2.0, 2.0, 2.0], dtype=torch.float64))

    def forward(self):
        return 0.5 * (torch.tensor([4.0, 1.0, 0.0]) * self.theta.square()).sum()


def descend(model, penalty, steps, lr, skip=()):
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    for step in range(steps):
        optimizer.zero_grad()
        model().backward()
        if step in skip:  # what a gradient scaler does
            model.theta.grad.fill_(float("inf"))
        penalty.before_step(model)
        penalty.gradient_(model)
        if step not in skip:
            optimizer.step()
        penalty.after_step(model)


def test_si_finds_the_loss_that_each_parameter_saved_on_a_quadratic():
    model, penalty = Bowl(), SI(strength=0.6, damping=0.1)
    descend(model, penalty, steps=4000, lr=4e-3)
    saved = torch.tensor([8.0, 2.0, 0.0], dtype=torch.float64)  # curvature / 2 * 2^2, all of it by small steps
    torch.testing.assert_close(penalty.path["theta"], saved, rtol=1e-2, atol=1e-9)
    penalty.consolidate(model)
    expected = saved / (torch.tensor([4.0, 4.0, 0.0]) + 0.1)
    torch.testing.assert_close(penalty.importance["theta"], expected, rtol=1e-2, atol=1e-9)
    assert penalty.importance["theta"][0] / penalty.importance["theta"][1] == pytest.approx(4, rel=2e-2)
    assert penalty.penalty(model) == 0
    nudge(model)
    moved = (model.theta - penalty.anchor["theta"]).square()
    assert penalty.penalty(model).item() == pytest.approx(0.3 * (penalty.importance["theta"] * moved).sum().item())
    check_gradient(penalty, model)


def test_si_starts_a_new_path_for_each_task_and_adds_importances():
    model, penalty = Bowl(), SI(strength=0.0)
    descend(model, penalty, 50, 0.05)
    penalty.consolidate(model)
    first = penalty.importance["theta"].clone()
    assert penalty.path["theta"].eq(0).all() and torch.equal(penalty.start["theta"], model.theta)
    model.theta.data.fill_(2.0)
    penalty.start["theta"].fill_(2.0)
    descend(model, penalty, 50, 0.05)
    penalty.consolidate(model)
    torch.testing.assert_close(penalty.importance["theta"], 2 * first)


def test_si_survives_a_skipped_step_and_keeps_its_own_penalty_out_of_the_path():
    model, penalty = Bowl(), SI(strength=1.0)
    descend(model, penalty, 10, 0.05, skip=(0, 4))
    assert penalty.path["theta"].isfinite().all() and penalty.path["theta"][0] > 0
    penalty.consolidate(model)
    nudge(model)
    before = model.theta.detach().clone()
    gradient = torch.autograd.grad(model(), [model.theta])[0]
    descend(model, penalty, 1, 0.05)
    torch.testing.assert_close(penalty.path["theta"], -gradient * (model.theta.detach() - before))


def test_si_resumes_in_the_middle_of_a_task():
    model, penalty = Bowl(), SI()
    descend(model, penalty, 10, 0.05)
    again = SI()
    again.load_state_dict(load(save(penalty.state_dict())))
    for each in (penalty, again):
        copy = Bowl()
        copy.load_state_dict(model.state_dict())
        descend(copy, each, 10, 0.05)
        each.consolidate(copy)
    torch.testing.assert_close(again.state_dict(), penalty.state_dict(), rtol=0, atol=0)


def test_si_says_when_it_has_seen_nothing():
    with pytest.raises(ValueError, match="no optimiser step was seen"):
        SI().consolidate(Bowl())
    with pytest.raises(ValueError, match="damping: expected a number > 0"):
        SI(damping=0.0)


# -- LwF --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_lwf_is_zero_with_zero_gradient_at_the_old_model_and_positive_elsewhere(likelihood):
    model, lwf, x = net(), LwF(2.0, likelihood), torch.randn(6, 3, dtype=torch.float64)
    assert lwf.penalty(model, x) == 0, "nothing is known yet"
    lwf.consolidate(model)
    value = lwf.penalty(model, x)
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-12)
    assert all(p.grad.abs().max() < 1e-12 for p in model.parameters())
    nudge(model)
    assert lwf.penalty(model, x) > 0.01
    assert torch.equal(lwf.penalty(model, x, model(x)), lwf.penalty(model, x))
    assert not any(p.requires_grad for p in lwf.old.parameters())


def test_distillation_is_the_divergence_of_torch_distributions():
    from torch.distributions import Bernoulli, Categorical, Normal, kl_divergence

    new, old = torch.randn(2, 7, 4, dtype=torch.float64)
    for temperature in (1.0, 2.0):
        soft = [Bernoulli(logits=z / temperature) for z in (old, new)]
        expected = temperature**2 * kl_divergence(*soft).sum(1).mean()
        torch.testing.assert_close(distillation_loss(new, old, "bernoulli", temperature), expected)
        soft = [Categorical(logits=z / temperature) for z in (old, new)]
        expected = temperature**2 * kl_divergence(*soft).mean()
        torch.testing.assert_close(distillation_loss(new, old, "categorical", temperature), expected)
        expected = kl_divergence(Normal(old, 1.0), Normal(new, 1.0)).sum(1).mean()
        torch.testing.assert_close(distillation_loss(new, old, "gaussian", temperature), expected)


def test_distillation_has_the_gradient_of_the_papers_cross_entropy():
    new, old = torch.randn(2, 7, 4)
    new.requires_grad_(True)
    soft = (old / 2).softmax(1)
    paper = 4 * F.cross_entropy(new / 2, soft)
    expected = torch.autograd.grad(paper, new)[0]
    found = torch.autograd.grad(distillation_loss(new, old, "categorical", 2.0), new)[0]
    torch.testing.assert_close(found, expected)


def test_distillation_stays_finite_for_extreme_logits():
    for likelihood in LIKELIHOODS:
        new = torch.tensor([[300.0, -300.0]], requires_grad=True)
        loss = distillation_loss(new, -new.detach(), likelihood)
        loss.backward()
        assert loss.isfinite() and new.grad.isfinite().all()


def test_lwf_near_the_old_model_is_the_full_fisher_form():
    """Along one parameter alone, the diagonal of the Fisher is the whole story."""
    for likelihood in LIKELIHOODS:
        model, x = net(), torch.randn(6, 3, dtype=torch.float64)
        lwf = LwF(1.0, likelihood, temperature=1.0)
        lwf.consolidate(model)
        fisher = fisher_diagonal(model, x, likelihood)
        with torch.no_grad():
            model[0].weight[1, 2] += 1e-3
            found = lwf.penalty(model, x).item()
        assert found == pytest.approx(0.5 * 1e-6 * fisher["0.weight"][1, 2].item(), rel=1e-2)


def test_lwf_keeps_an_old_model_of_its_own():
    model, lwf, x = net(), LwF(), torch.randn(6, 3, dtype=torch.float64)
    lwf.consolidate(model)
    nudge(model)
    again = LwF()
    again.load_state_dict(load(save(lwf.state_dict())), net(seed=5))
    assert again.penalty(model, x).item() == lwf.penalty(model, x).item() > 0
    again.load_state_dict({}, net())
    assert again.penalty(model, x) == 0 and LwF().state_dict() == {}


def test_lwf_names_wrong_arguments():
    with pytest.raises(ValueError, match="likelihood: expected one of"):
        LwF(likelihood="softmax")
    with pytest.raises(ValueError, match="strength"):
        LwF(strength=-1)
    with pytest.raises(ValueError, match=r"expected two \(n, K\), got \(2, 3\) and \(2, 4\)"):
        distillation_loss(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(ValueError, match="temperature: expected a number > 0, got 0"):
        distillation_loss(torch.zeros(2, 3), torch.zeros(2, 3), temperature=0.0)


def test_a_frozen_module_has_no_starting_point():
    with pytest.raises(ValueError, match="no parameter of Linear is trainable"):
        L2SP().consolidate(nn.Linear(2, 2).requires_grad_(False))
