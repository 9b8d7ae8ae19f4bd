import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from lit_faces.continual import per_sample, products
from lit_faces.continual.per_sample import squared_gradients


class Residual(nn.Module):
    """In-place everything, a grouped and a strided convolution, every norm."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular", bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.depth = nn.Conv2d(4, 8, 3, stride=2, padding=2, dilation=2, groups=2)
        self.group = nn.GroupNorm(2, 8)
        self.same = nn.Conv2d(8, 8, 1)
        self.flat = nn.BatchNorm1d(8)
        self.last = nn.Linear(8, 3)

    def forward(self, x):
        x = F.relu(self.norm(self.stem(x)), inplace=True)
        x = self.group(self.depth(x)).relu_()
        y = self.same(x)
        y += x
        return self.last(self.flat(y.relu_().mean((2, 3))))


class Tokens(nn.Module):
    """Linear layers on sequences, layer norms, and a token and a scale that no product covers."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(5))
        self.norm = nn.LayerNorm(5)
        self.mix = nn.Linear(5, 5)
        self.scale = nn.Parameter(torch.randn(5))
        self.over = nn.LayerNorm((2, 5))
        self.last = nn.Linear(10, 2, bias=False)

    def forward(self, x):
        return self.last(self.over(self.mix(self.norm(x + self.token)) * self.scale).flatten(1))


class Tied(nn.Module):
    """A weight used twice, one used transposed, one not at all, and one that is sent through a view first."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.turned, self.once = nn.Linear(3, 3), nn.Linear(3, 3, bias=False), nn.Linear(3, 2)
        self.unused, self.borrower = nn.Linear(3, 3), nn.Linear(3, 3)
        self.borrower.bias = self.twice.bias  # a weight of its own, and a bias of others

    def forward(self, x):
        x = self.borrower(x)
        x = self.twice(self.twice(x).tanh()) @ self.turned.weight.T.contiguous()
        return self.once(x)


class SequenceFirst(nn.Module):
    """Batches lie along the second dimension inside, and there are as many steps as samples in the test."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.last = nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, x):
        return self.last(self.inner(x.transpose(0, 1)).tanh().sum(0))


def filled(model, seed=0):
    """Random parameters and running statistics, in training mode."""
    generator = torch.Generator().manual_seed(seed)
    for tensor in (*model.parameters(), *(b for b in model.buffers() if b.is_floating_point())):
        tensor.data = torch.empty_like(tensor).uniform_(0.2, 1.0, generator=generator)
        if tensor.requires_grad:
            tensor.data *= torch.where(torch.rand(tensor.shape, generator=generator) < 0.5, -1.0, 1.0)
    return model.train()


def every_output(outputs):
    return torch.ones_like(outputs).diag_embed().transpose(0, 1)


def by_loop(model, x):
    """The definition: one sample, one output, one backward pass at a time."""
    model = model.eval()
    parameters = dict(model.named_parameters())
    sums = {name: torch.zeros_like(p) for name, p in parameters.items()}
    for sample in x:
        for k in range(model(sample[None]).shape[1]):
            grads = torch.autograd.grad(model(sample[None])[0, k], list(parameters.values()), allow_unused=True)
            for name, grad in zip(parameters, grads):
                sums[name] += 0 if grad is None else grad.square()
    model.train()
    return sums


def layered_names(model, x):
    with per_sample.evaluating(model):
        plan = per_sample._plan(model, dict(model.named_parameters()), x)
    return plan.layered, plan.others


@pytest.fixture
def only_torch_func(monkeypatch):
    """Nothing is covered by products."""
    monkeypatch.setattr(products, "READERS", {})


MODELS = {
    "residual": (Residual, (3, 6, 5)),
    "tokens": (Tokens, (2, 5)),
    "tied": (Tied, (3,)),
    "sequence first": (SequenceFirst, (7, 3)),
}


@pytest.mark.parametrize("name", MODELS)
def test_squares_are_those_of_a_loop_over_samples_and_outputs(name):
    build, shape = MODELS[name]
    model, x = filled(build().double()), torch.randn(7, *shape, dtype=torch.float64)
    expected = by_loop(model, x)
    for batch_size in (1, 3, 7, 100):
        torch.testing.assert_close(squared_gradients(model, x, every_output, batch_size=batch_size), expected)


@pytest.mark.parametrize("name", MODELS)
def test_torch_func_gives_the_same(name, only_torch_func):
    build, shape = MODELS[name]
    model, x = filled(build().double()), torch.randn(7, *shape, dtype=torch.float64)
    assert layered_names(model, x)[0] == set()
    torch.testing.assert_close(squared_gradients(model, x, every_output, batch_size=4), by_loop(model, x))


def test_products_cover_what_they_can_and_nothing_else():
    x = torch.randn(4, 3, 6, 5)
    assert layered_names(filled(Residual()), x) == ({name for name, _ in Residual().named_parameters()}, set())
    layered, others = layered_names(filled(Tokens()), torch.randn(4, 2, 5))
    assert others == {"token", "scale"}
    assert "mix.weight" in layered and "over.bias" in layered
    layered, others = layered_names(filled(Tied()), torch.randn(4, 3))
    assert layered == {"once.weight", "once.bias", "borrower.weight"} and others == {
        "twice.weight",
        "twice.bias",
        "turned.weight",
    }
    assert layered_names(filled(SequenceFirst()), torch.randn(4, 4, 3))[1] == {"inner.weight", "inner.bias"}


@pytest.mark.filterwarnings("ignore:.*performance drop.*")
@pytest.mark.parametrize("name", ["resnet10t", "mobilenetv3_small_050", "vit_tiny_patch16_224"])
def test_timm_models_agree_with_torch_func(name, monkeypatch):
    torch.manual_seed(0)
    size = {"img_size": 32} if "vit" in name else {}
    kwargs = {"embed_dim": 24, "num_heads": 2, "depth": 2} if "vit" in name else {}
    model = timm.create_model(name, num_classes=3, **size, **kwargs).double()
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    found = squared_gradients(model, x, every_output)
    layered, others = layered_names(model, x)
    assert len(layered) > 10 * len(others)
    monkeypatch.setattr(products, "READERS", {})
    torch.testing.assert_close(found, squared_gradients(model, x, every_output))


def test_channels_last_and_inference_mode_make_no_difference():
    model, x = filled(Residual()), torch.randn(5, 3, 6, 5)
    expected = squared_gradients(model, x, every_output)
    model = model.to(memory_format=torch.channels_last)
    with torch.inference_mode():
        inside = x.clone()
        found = squared_gradients(model, inside.contiguous(memory_format=torch.channels_last), every_output)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("with_torch_func", [False, True])
def test_a_model_that_asks_for_channels_last_works(with_torch_func, monkeypatch):
    class Asking(Residual):
        def forward(self, x):
            x = x.contiguous(memory_format=torch.channels_last)
            return super().forward(x.to(memory_format=torch.channels_last))

    x = torch.randn(5, 3, 6, 5)
    expected = squared_gradients(filled(Residual()), x, every_output)
    if with_torch_func:
        monkeypatch.setattr(products, "READERS", {})
    model = filled(Asking()).to(memory_format=torch.channels_last)
    torch.testing.assert_close(squared_gradients(model, x, every_output), expected)


def test_a_compiled_model_runs_uncompiled():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    x = torch.randn(5, 3)
    expected = squared_gradients(model, x, every_output)
    model.compile(backend=lambda graph, inputs: pytest.fail("compiled"))
    torch.testing.assert_close(squared_gradients(model, x, every_output), expected)


def test_the_model_is_left_as_it_was():
    model = filled(Residual())
    model.norm.eval()
    model.stem.weight.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = squared_gradients(model, torch.randn(5, 3, 6, 5), every_output)
    assert "stem.weight" not in found and "norm.weight" in found
    assert model.training and not model.norm.training and model.group.training
    assert all(p.grad is None for p in model.parameters())
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


def test_half_precision_is_summed_in_float32():
    model = nn.Linear(300, 1).bfloat16()
    found = squared_gradients(model, torch.ones(1000, 300, dtype=torch.bfloat16), every_output)
    assert found["weight"].dtype == torch.float32 and found["weight"].eq(1000).all()


def test_samples_that_are_not_independent_are_refused():
    class Centred(nn.Module):
        def __init__(self):
            super().__init__()
            self.last = nn.Linear(3, 2)

        def forward(self, x):
            return self.last(x - x.mean(0))

    x = torch.randn(4, 3)
    with pytest.raises(ValueError, match="depend on what else is in the batch"):
        squared_gradients(Centred(), x, every_output)
    with pytest.raises(ValueError, match=r"^1: BatchNorm with track_running_stats=False"):
        squared_gradients(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2, track_running_stats=False)), x, every_output)


@pytest.mark.filterwarnings("ignore:.*taken one by one.*")
@pytest.mark.parametrize("other", ["again", "another"])
@pytest.mark.parametrize("batch_size", [1, 3, 4])
def test_ways_that_depend_on_the_data_are_gone_sample_by_sample(other, batch_size):
    class Routed(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x):
            if x.sum() > 0:
                return self.a(x)
            return self.a(self.a(x)) if other == "again" else self.a(self.b(x))

    model, x = filled(Routed().double()), torch.cat([torch.rand(4, 3), -torch.rand(4, 3)]).double()
    found = squared_gradients(model, x, every_output, batch_size=batch_size)
    torch.testing.assert_close(found, by_loop(model, x))


class Scaled(torch.autograd.Function):
    """x * scale, by a function that vmap knows nothing of."""

    @staticmethod
    def forward(ctx, x, scale):
        ctx.save_for_backward(x, scale)
        return x * scale

    @staticmethod
    def backward(ctx, grad):
        x, scale = ctx.saved_tensors
        return grad * scale, (grad * x).sum(tuple(range(x.ndim - 1)))


class Layer(nn.Module):
    """A layer with one parameter, used as the function says."""

    def __init__(self, use):
        super().__init__()
        self.scale, self.use = nn.Parameter(torch.rand(6) + 0.5), use

    def forward(self, x):
        return self.use(x, self.scale)


class Recurrent(nn.Module):
    def __init__(self, kind, **options):
        super().__init__()
        self.inner = kind(6, 6, batch_first=True, **options)

    def forward(self, x):
        return self.inner(x[:, None] * torch.arange(1, 4).to(x)[:, None])[0].sum(1)[:, :6]


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.MultiheadAttention(6, 2, dropout=0.5, batch_first=True)

    def forward(self, x):
        x = x[:, None] * torch.arange(1, 4).to(x)[:, None]
        return self.inner(x, x, x)[0].mean(1)


class Shared(nn.Module):
    """One weight in two layers, and once more by a function that nobody sees."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
        self.second.weight = self.first.weight

    def forward(self, x):
        return Scaled.apply(self.second(self.first(x).tanh()), self.first.bias)


class Counting(nn.Linear):
    """Counts its calls in a buffer, and works on its input in place."""

    def __init__(self):
        super().__init__(6, 6)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return super().forward(x.mul_(2.0))


def image(*layers):
    return nn.Sequential(nn.Unflatten(1, (6, 1, 1)), *layers, nn.Flatten())


LAYERS = {
    "prelu": lambda: nn.PReLU(6),
    "one prelu for all": lambda: nn.PReLU(),
    "prelu of images": lambda: image(nn.PReLU(6)),
    "gru": lambda: Recurrent(nn.GRU),
    "lstm": lambda: Recurrent(nn.LSTM, bidirectional=True, num_layers=2),
    "rnn": lambda: Recurrent(nn.RNN),
    "attention": Attention,
    "transformer": lambda: nn.Sequential(nn.Unflatten(1, (1, 6)), nn.TransformerEncoderLayer(6, 2, 8, batch_first=True), nn.Flatten()),
    "batch norm": lambda: nn.BatchNorm1d(6),
    "group norm": lambda: image(nn.GroupNorm(2, 6)),
    "instance norm": lambda: nn.Sequential(nn.Unflatten(1, (2, 3)), nn.InstanceNorm1d(2, affine=True), nn.Flatten()),
    "weight norm": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(6, 6)),
    "spectral norm": lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(6, 6)),
    "in place": lambda: nn.Sequential(nn.ReLU(inplace=True), nn.Linear(6, 6), nn.ReLU(inplace=True), nn.Dropout(0.5, inplace=True)),
    "transposed convolution": lambda: image(nn.ConvTranspose2d(6, 6, 1)),
    "bilinear": lambda: Layer(lambda x, w: nn.functional.bilinear(x, x, w.expand(6, 6, 6))),
    "item": lambda: Layer(lambda x, w: x * w + w.mean().item()),
    "item of the data": lambda: Layer(lambda x, w: x * w if x.ndim and w.sum().item() > 0 else x),
    "custom function": lambda: Layer(Scaled.apply),
    "numpy": lambda: Layer(lambda x, w: x * w * float(w.detach().numpy().max())),
    "shared": Shared,
    "counting": Counting,
    "embedding": lambda: nn.Sequential(Layer(lambda x, w: (x > 0).long()), nn.Embedding(2, 1), nn.Flatten()),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*taken one by one.*")
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_every_kind_of_layer_has_the_squares_of_the_loop(name, frozen):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(6, 6), LAYERS[name](), nn.Linear(6, 2)).double().train()
    if frozen:  # all but the layer
        model[0].requires_grad_(False)
        model[2].requires_grad_(False)
    x = torch.randn(7, 6, dtype=torch.float64)
    kept, buffers = x.clone(), [buffer.clone() for buffer in model.buffers()]
    found = squared_gradients(model, x, every_output, batch_size=4)
    assert torch.equal(x, kept) and all(torch.equal(a, b) for a, b in zip(buffers, model.buffers()))
    assert found.keys() == {name for name, p in model.named_parameters() if p.requires_grad}
    right = {}
    for key, parameter in model.eval().named_parameters():
        if parameter.requires_grad:
            total = torch.zeros_like(parameter)
            for one in x:
                for k in range(2):
                    (grad,) = torch.autograd.grad(model(one[None].clone())[0, k], parameter, allow_unused=True)
                    total += 0 if grad is None else grad.square()
            right[key] = total
    torch.testing.assert_close(found, right)


def test_what_goes_one_by_one_is_said_once_and_why():
    model, x = filled(nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 2))), torch.randn(9, 6)
    plain = squared_gradients(model, x, every_output)
    model[0].weight.register_hook(lambda gradient: 2 * gradient)  # products know nothing of it
    with pytest.warns(UserWarning, match="Sequential: gradients of single samples") as told:
        found = squared_gradients(model, x, every_output, batch_size=2)
    torch.testing.assert_close(found, {**plain, "0.weight": 4 * plain["0.weight"]})
    assert len(told) == 1
    assert "0.weight: computed for a whole batch, they differ from those of single samples" in str(told[0].message)
    with pytest.warns(UserWarning, match="1.inner.weight_ih_l0.*: vmap refuses them"):
        squared_gradients(nn.Sequential(nn.Linear(6, 6), Recurrent(nn.GRU)), x, every_output)


def test_nothing_is_said_of_layers_that_are_right(recwarn):
    squared_gradients(filled(Tokens()), torch.randn(7, 2, 5), every_output)
    assert not recwarn.list


def test_wrong_arguments_are_named():
    x = torch.randn(4, 3)
    with pytest.raises(ValueError, match="no parameter is trainable"):
        squared_gradients(nn.Linear(3, 2).requires_grad_(False), x, every_output)
    with pytest.raises(ValueError, match="at least one sample"):
        squared_gradients(nn.Linear(3, 2), x[:0], every_output)
    with pytest.raises(ValueError, match="batch_size: expected at least 1, got 0"):
        squared_gradients(nn.Linear(3, 2), x, every_output, batch_size=0)
    with pytest.raises(ValueError, match=r"outputs \(n, K\), n = 1, got \(1,\)"):
        squared_gradients(nn.Sequential(nn.Linear(3, 1), nn.Flatten(0)), x, every_output)
    with pytest.raises(ValueError, match=r"one row an input, 4, got \(3, 2\)"):
        squared_gradients(nn.Linear(3, 2), x, lambda z, t: (z - t)[None], (torch.zeros(3, 2),))
