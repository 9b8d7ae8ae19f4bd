import itertools

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load, save
from torch import nn

from lit_faces.continual.ewc import EWC, fisher_diagonal
from lit_faces.continual.penalties import distillation_loss

LIKELIHOODS = ("bernoulli", "categorical", "gaussian")


def conv_net(outputs=4, seed=0, dtype=torch.float32):
    """BatchNorm with lived-in statistics, in-place activations, dropout; in training mode."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 6, 3, stride=2),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(6, outputs),
    )
    for _ in range(5):
        net(1.5 * torch.randn(16, 2, 8, 8) + 0.3)
    with torch.no_grad():
        net[-1].weight *= 4
    return net.to(dtype)


def mlp(outputs=3, seed=0, dtype=torch.float64):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, outputs)).to(dtype)


def log_likelihood(outputs, labels, likelihood):
    """Of one sample, outputs (K,); independent of the code under test."""
    if likelihood == "bernoulli":
        known = ~labels.isnan()
        return -F.binary_cross_entropy_with_logits(outputs[known], labels[known], reduction="sum")
    if likelihood == "categorical":
        return -F.cross_entropy(outputs[None], labels[None], reduction="sum")
    known = ~labels.isnan()
    return -0.5 * (outputs[known] - labels[known]).square().sum()


def squared_gradient(model, sample, labels, likelihood):
    outputs = model(sample[None])[0]
    grads = torch.autograd.grad(log_likelihood(outputs, labels, likelihood), list(model.parameters()))
    return [grad.square() for grad in grads]


def enumerated(model, x, likelihood):
    """Mean over samples of the expectation over every label outcome, each by its own backward pass."""
    model = model.eval()
    sums = [torch.zeros_like(p) for p in model.parameters()]
    for sample in x:
        p = model(sample[None])[0].detach()
        if likelihood == "bernoulli":
            outcomes = [torch.tensor(y, dtype=p.dtype) for y in itertools.product((0.0, 1.0), repeat=len(p))]
            chances = [(y * p.sigmoid() + (1 - y) * (-p).sigmoid()).prod() for y in outcomes]
        else:
            outcomes, chances = list(torch.arange(len(p))), list(p.softmax(0))
        assert sum(chances) == pytest.approx(1)
        for chance, labels in zip(chances, outcomes):
            for total, square in zip(sums, squared_gradient(model, sample, labels, likelihood)):
                total += chance * square / len(x)
    return dict(zip([name for name, _ in model.named_parameters()], sums))


@pytest.mark.parametrize("likelihood", ["bernoulli", "categorical"])
@pytest.mark.parametrize("build", [conv_net, mlp])
def test_exact_fisher_is_the_enumeration_of_all_labels(likelihood, build):
    model = build()
    x = torch.randn(5, 2, 8, 8) if build is conv_net else torch.randn(5, 3, dtype=torch.float64)
    found = fisher_diagonal(model, x, likelihood)
    assert model.training
    torch.testing.assert_close(found, enumerated(model, x, likelihood), rtol=1e-5, atol=1e-7)
    assert all(value.max() > 0 for value in found.values()), "BatchNorm's scale and shift included"


def test_exact_fisher_of_a_gaussian_head_is_the_squared_jacobian():
    model, x = conv_net(dtype=torch.float64).eval(), torch.randn(6, 2, 8, 8, dtype=torch.float64)
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    jacobian = torch.func.jacrev(lambda p: torch.func.functional_call(model, p, (x,)))(parameters)
    expected = {name: value.square().sum((0, 1)) / len(x) for name, value in jacobian.items()}
    torch.testing.assert_close(fisher_diagonal(model, x, "gaussian"), expected)


def test_exact_fisher_of_a_gaussian_head_is_the_mean_over_drawn_labels():
    model, x = mlp(), torch.randn(1, 3, dtype=torch.float64).expand(4000, -1)
    generator = torch.Generator().manual_seed(1)
    labels = model(x).detach() + torch.randn(4000, 3, generator=generator, dtype=torch.float64)
    drawn = fisher_diagonal(model, x, "gaussian", "empirical", labels, batch_size=1000)
    torch.testing.assert_close(drawn, fisher_diagonal(model, x[:1], "gaussian"), rtol=0.15, atol=1e-6)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_exact_fisher_is_the_curvature_of_the_divergence_from_the_old_model(likelihood):
    model, x = mlp(), torch.randn(5, 3, dtype=torch.float64)
    names, values = zip(*((n, p.detach()) for n, p in model.named_parameters()))
    old = model(x).detach()

    def divergence(*chosen):
        new = torch.func.functional_call(model, dict(zip(names, chosen)), (x,))
        return distillation_loss(new, old, likelihood, temperature=1.0)

    found = fisher_diagonal(model, x, likelihood)
    curvature = torch.autograd.functional.hessian(divergence, values)
    for i, (name, value) in enumerate(zip(names, values)):
        diagonal = curvature[i][i].reshape(value.numel(), value.numel()).diagonal().view_as(value)
        torch.testing.assert_close(found[name], diagonal)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_fisher_does_not_depend_on_the_batch_size(likelihood):
    model, x = conv_net(), torch.randn(11, 2, 8, 8)
    labels = torch.randint(0, 2, (11, 4)).float() if likelihood != "categorical" else torch.randint(0, 4, (11,))
    for kind in ("exact", "empirical"):
        whole = fisher_diagonal(model, x, likelihood, kind, labels, batch_size=100)
        for batch_size in (1, 4):
            torch.testing.assert_close(fisher_diagonal(model, x, likelihood, kind, labels, batch_size), whole)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_empirical_fisher_is_the_loop_of_single_samples(likelihood):
    model, x = conv_net(dtype=torch.float64).eval(), torch.randn(9, 2, 8, 8, dtype=torch.float64)
    if likelihood == "categorical":
        labels = torch.randint(0, 4, (9,))
        coded = labels.clone()
        coded[2] = -1
    else:
        labels = torch.randint(0, 2, (9, 4)).double() if likelihood == "bernoulli" else torch.randn(9, 4).double()
        labels[2] = labels[4, 1] = labels[5, :3] = float("nan")
        coded = labels
    sums = [torch.zeros_like(p) for p in model.parameters()]
    for i in range(9):
        if i != 2:  # not coded at all
            for total, square in zip(sums, squared_gradient(model, x[i], labels[i], likelihood)):
                total += square / 9
    found = fisher_diagonal(model, x, likelihood, "empirical", coded, batch_size=4)
    torch.testing.assert_close(list(found.values()), sums)


def test_batched_fisher_is_the_square_of_the_batch_mean_and_another_number():
    model, x = conv_net(dtype=torch.float64), torch.randn(8, 2, 8, 8, dtype=torch.float64)
    labels = torch.randint(0, 2, (8, 4)).double()
    found = fisher_diagonal(model, x, "bernoulli", "batched", labels, batch_size=4)
    model.eval()
    expected = [torch.zeros_like(p) for p in model.parameters()]
    for part in (slice(0, 4), slice(4, 8)):
        loss = F.binary_cross_entropy_with_logits(model(x[part]), labels[part], reduction="sum") / 4
        for total, grad in zip(expected, torch.autograd.grad(loss, list(model.parameters()))):
            total += grad.square() / 2
    torch.testing.assert_close(list(found.values()), expected)
    one = fisher_diagonal(model, x, "bernoulli", "batched", labels, batch_size=1)
    torch.testing.assert_close(one, fisher_diagonal(model, x, "bernoulli", "empirical", labels))
    total = {size: sum(float(v.sum()) for v in f.values()) for size, f in ((4, found), (1, one))}
    assert total[4] < 0.7 * total[1], "it shrinks with the batch"


def test_outputs_that_do_not_count_are_left_out():
    model, x = mlp(), torch.randn(6, 3, dtype=torch.float64)
    head = nn.Sequential(*model[:2], nn.Linear(5, 2).double())
    head[2].weight.data, head[2].bias.data = model[2].weight.data[[0, 2]], model[2].bias.data[[0, 2]]
    keep = torch.tensor([True, False, True])
    for likelihood in ("bernoulli", "gaussian"):
        found = fisher_diagonal(model, x, likelihood, mask=keep)
        torch.testing.assert_close(found["0.weight"], fisher_diagonal(head, x, likelihood)["0.weight"])
        assert found["2.bias"][1] == 0
        torch.testing.assert_close(fisher_diagonal(model, x, likelihood, mask=keep.expand(6, 3)), found)
    rows = torch.zeros(6, 3, dtype=torch.bool)
    rows[0] = True
    alone = fisher_diagonal(model, x[:1])
    torch.testing.assert_close(fisher_diagonal(model, x, mask=rows), {k: v / 6 for k, v in alone.items()})


def test_saturated_logits_give_a_finite_fisher():
    layer = nn.Linear(1, 2)
    layer.weight.data, layer.bias.data = torch.tensor([[200.0], [-200.0]]), torch.zeros(2)
    for likelihood in LIKELIHOODS:
        assert all(v.isfinite().all() for v in fisher_diagonal(layer, torch.ones(2, 1), likelihood).values())


def test_wrong_arguments_are_named():
    model, x = mlp(), torch.randn(6, 3, dtype=torch.float64)
    with pytest.raises(ValueError, match="one of bernoulli, categorical, gaussian, got 'poisson'"):
        fisher_diagonal(model, x, "poisson")
    with pytest.raises(ValueError, match="one of exact, empirical, batched, got 'true'"):
        fisher_diagonal(model, x, kind="true")
    for kind in ("empirical", "batched"):
        with pytest.raises(ValueError, match="give targets, or take kind='exact'"):
            fisher_diagonal(model, x, kind=kind)
        with pytest.raises(ValueError, match=r"shape of the outputs, \(n, 3\), got \(n, 2\)"):
            fisher_diagonal(model, x, kind=kind, targets=torch.zeros(6, 2))
        with pytest.raises(ValueError, match=r"one row an input, 6, got \(5, 3\)"):
            fisher_diagonal(model, x, kind=kind, targets=torch.zeros(5, 3))
        with pytest.raises(ValueError, match="integer classes"):
            fisher_diagonal(model, x, "categorical", kind, torch.zeros(6))
    with pytest.raises(ValueError, match="cannot be left out of a categorical"):
        fisher_diagonal(model, x, "categorical", mask=torch.ones(3, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"mask: expected the shape of the outputs, \(n, 3\)"):
        fisher_diagonal(model, x, mask=torch.ones(2, dtype=torch.bool))
    norm = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2, track_running_stats=False))
    with pytest.raises(ValueError, match="track_running_stats=False"):
        fisher_diagonal(norm, x.float(), kind="batched", targets=torch.zeros(6, 2))
    with pytest.raises(ValueError, match="mode of EWC: expected one of separate, online"):
        EWC(mode="both")
    with pytest.raises(ValueError, match=r"decay: expected 0..1, and 1 for separate"):
        EWC(mode="separate", decay=0.9)
    with pytest.raises(ValueError, match="strength: expected a number >= 0"):
        EWC(strength=-1.0)


# -- the penalty ------------------------------------------------------------------------------------------------------


def nudged(model, seed):
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)


def three_tasks(penalty):
    """Fisher and parameters of three tasks; the model has moved on afterwards."""
    model, tasks = mlp(), []
    for seed in range(3):
        x = torch.randn(6, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        penalty.consolidate(model, x)
        tasks.append((fisher_diagonal(model, x), {n: p.detach().clone() for n, p in model.named_parameters()}))
        nudged(model, seed)
    return model, tasks


def test_separate_terms_are_their_written_sum():
    penalty = EWC(strength=3.0, mode="separate")
    model, tasks = three_tasks(penalty)
    own = dict(model.named_parameters())
    expected = sum(1.5 * (f[n] * (own[n] - there[n]).square()).sum() for f, there in tasks for n in own)
    assert penalty.penalty(model).item() == pytest.approx(expected.item(), rel=1e-6)
    gradients = torch.autograd.grad(expected, list(own.values()))
    torch.testing.assert_close(torch.autograd.grad(penalty.penalty(model), list(own.values())), gradients)
    assert penalty.tasks == 3 and len(penalty.anchor) == len(own), "the state has not grown"


def test_online_follows_the_written_recursion():
    penalty = EWC(strength=2.0, mode="online", decay=0.8)
    model, tasks = three_tasks(penalty)
    fisher = {name: 0.0 for name, _ in model.named_parameters()}
    for new, _ in tasks:
        fisher = {name: 0.8 * fisher[name] + new[name] for name in fisher}
    last = tasks[-1][1]
    expected = sum((fisher[n] * (p - last[n]).square()).sum() for n, p in model.named_parameters())
    assert penalty.penalty(model).item() == pytest.approx(expected.item(), rel=1e-6)


def test_gradient_is_autograd_of_the_penalty_and_adds_to_what_is_there():
    penalty = EWC(strength=3.0, mode="separate")
    model, _ = three_tasks(penalty)
    parameters = list(model.parameters())
    expected = torch.autograd.grad(penalty.penalty(model), parameters)
    parameters[0].grad = torch.ones_like(parameters[0])
    penalty.gradient_(model)
    torch.testing.assert_close(parameters[0].grad, expected[0] + 1)
    torch.testing.assert_close([p.grad for p in parameters[1:]], list(expected[1:]))
    model.zero_grad()
    parameters[1].requires_grad_(False)
    penalty.gradient_(model, only=parameters[:2])
    assert parameters[0].grad is not None and all(p.grad is None for p in parameters[1:])


def test_nothing_to_keep_is_no_penalty():
    model = mlp()
    assert EWC().penalty(model) == 0
    EWC().gradient_(model)
    assert all(p.grad is None for p in model.parameters())


def test_state_survives_safetensors_and_goes_on_alike():
    penalty = EWC(strength=3.0, mode="separate")
    model, _ = three_tasks(penalty)
    again = EWC(strength=3.0, mode="separate")
    again.load_state_dict(load(save(penalty.state_dict())))
    assert again.tasks == 3 and again.penalty(model).item() == pytest.approx(penalty.penalty(model).item())
    for each in (penalty, again):
        each.consolidate(model, torch.ones(2, 3, dtype=torch.float64))
    nudged(model, 9)
    assert again.penalty(model).item() == pytest.approx(penalty.penalty(model).item())
    with pytest.raises(ValueError, match="missing constant"):
        again.load_state_dict({"importance.0.weight": torch.ones(1)})
    with pytest.raises(ValueError, match=r"unexpected path.0.weight"):
        again.load_state_dict({**penalty.state_dict(), "path.0.weight": torch.ones(1)})


def test_a_changed_module_is_named():
    penalty = EWC()
    penalty.consolidate(mlp(), torch.randn(4, 3, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"'2.weight' has shape \(4, 5\), remembered \(3, 5\)"):
        penalty.penalty(mlp(outputs=4))
    with pytest.raises(ValueError, match=r"has no parameter '0.weight' \(nearest: '0.0.weight'\)"):
        penalty.gradient_(nn.Sequential(mlp()))
    with pytest.raises(ValueError, match="no parameter 'head'"):
        penalty.add_task(mlp(), {"head": torch.ones(1)})


def test_new_parameters_are_free_and_join_at_the_next_task():
    penalty = EWC(mode="separate")
    penalty.consolidate(mlp()[:1], torch.randn(4, 3, dtype=torch.float64))
    model = mlp()
    assert penalty.penalty(model) == 0
    penalty.consolidate(model, torch.randn(4, 3, dtype=torch.float64))
    assert "2.weight" in penalty.anchor


def test_ewc_forgets_less_than_fine_tuning():
    """The old person shows feature 1 alone; the new one shows both, and needs their sum to be 0: (1, -1) suits both."""
    spread = 0.05 * torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
    old, new = (torch.tensor([1.0, 0.0]) + spread, 1.0), (torch.tensor([1.0, 1.0]) + spread, 0.0)

    def fit(model, task, penalty=None):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
        for _ in range(300):
            optimizer.zero_grad()
            (0.5 * (model(task[0]) - task[1]).square().mean()).backward()
            if penalty is not None:
                penalty.gradient_(model)
            optimizer.step()

    def error(model, task):
        return float((model(task[0]) - task[1]).square().mean().detach())

    errors = {}
    for name, penalty in (("fine-tuning", None), ("ewc", EWC(likelihood="gaussian"))):
        model = nn.Linear(2, 1, bias=False)
        nn.init.zeros_(model.weight)
        fit(model, old)
        assert error(model, old) < 0.01
        if penalty is not None:
            penalty.consolidate(model, old[0])
        fit(model, new, penalty)
        errors[name] = error(model, old), error(model, new)
    assert errors["fine-tuning"][0] > 0.2 and errors["ewc"][0] < 0.02, errors
    assert errors["ewc"][1] < 0.02, "and it has learnt the new one"


def test_what_is_remembered_in_a_validation_hook_can_be_used_afterwards():
    model, penalty = mlp(), EWC(decay=0.5)
    with torch.inference_mode():
        penalty.consolidate(model, torch.randn(4, 3, dtype=torch.float64))
    penalty.consolidate(model, torch.randn(4, 3, dtype=torch.float64))
    nudged(model, 0)
    penalty.penalty(model).backward()
    assert model[0].weight.grad.abs().sum() > 0
