"""Claim: the Fisher information of single samples, 5 times faster than a loop over them (small conv net, one CPU thread).

    python -m benchmarks.fisher [--models small medium detector] [--samples N] [--repeats 5] [--threads 1] [--device cuda]

Same model, same data, one run, taken in turns. Prints milliseconds a sample and the ratio to the loop, as the median and
range over repeats, and how far the results are apart. ``exact`` is a backward pass for each of the 19 outputs, ``empirical``
one at the given labels, which is what Avalanche's EWCPlugin computes with batches of one (``pip install avalanche-lib``;
with larger batches it squares batch means, another quantity: no comparison of speed is fair there).

Every way does the same arithmetic, so what there is to win is overhead and idle hardware: a small net on one CPU thread or
any net on a GPU wins much, a net that keeps the thread busy with one picture about twofold.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from functools import partial
from unittest import mock

import torch
import torch.nn.functional as functional
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from lit_faces.continual import products
from lit_faces.continual.ewc import Kind, fisher_diagonal
from lit_faces.core.memory import keep_freed_memory
from lit_faces.models.backbones import build_backbone

OUTPUTS = 19
Fisher = dict[str, Tensor]


def conv_net(widths: tuple[int, ...], strides: tuple[int, ...]) -> nn.Module:
    """Convolution, BatchNorm, ReLU a width; global average; 19 logits."""
    layers: list[nn.Module] = []
    before = 3
    for width, stride in zip(widths, strides, strict=True):
        layers += [nn.Conv2d(before, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        before = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, OUTPUTS))


def detector() -> nn.Module:
    """The project's small backbone."""
    backbone, width = build_backbone("aligned_face_small")
    return nn.Sequential(backbone, nn.Linear(width, OUTPUTS))


#: title, model, pixels, samples
MODELS: dict[str, tuple[str, Callable[[], nn.Module], int, int]] = {
    "small": ("3 conv-BN-ReLU of stride 2, widths 8-16-32", lambda: conv_net((8, 16, 32), (2, 2, 2)), 32, 128),
    "medium": ("3 conv-BN-ReLU of stride 1-2-2, widths 16-32-64", lambda: conv_net((16, 32, 64), (1, 2, 2)), 32, 32),
    "detector": ("aligned_face_small", detector, 64, 16),
}


def loop(model: nn.Module, x: Tensor, y: Tensor, kind: Kind) -> Fisher:
    """What one writes by hand: one sample, one output, one backward pass."""
    fisher = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for sample, label in zip(x, y):
        logits = model(sample[None])[0]
        if kind == "empirical":
            losses = [functional.binary_cross_entropy_with_logits(logits, label, reduction="sum")]
            weights = [1.0]
        else:
            p = logits.detach().sigmoid()
            losses, weights = list(logits), (p * (1 - p)).tolist()
        for number, (loss, weight) in enumerate(zip(losses, weights), 1):
            model.zero_grad()
            loss.backward(retain_graph=number < len(losses))
            for name, p in model.named_parameters():
                if p.grad is not None:
                    fisher[name] += weight * p.grad**2 / len(x)
    model.zero_grad()
    return fisher


def ours(model: nn.Module, x: Tensor, y: Tensor, kind: Kind) -> Fisher:
    return fisher_diagonal(model, x, "bernoulli", kind, y)


def torch_func(model: nn.Module, x: Tensor, y: Tensor, kind: Kind) -> Fisher:
    """Ours, with every layer left to torch.func."""
    with mock.patch.object(products, "READERS", {}):
        return ours(model, x, y, kind)


def avalanche(model: nn.Module, x: Tensor, y: Tensor, kind: Kind) -> Fisher:
    """Avalanche's plugin on batches of one."""
    from avalanche.training.plugins import EWCPlugin

    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    data = TensorDataset(x, y, torch.zeros(len(x)))
    loss = nn.BCEWithLogitsLoss(reduction="sum")
    found = EWCPlugin(ewc_lambda=1.0).compute_importances(model, loss, optimizer, data, x.device, 1, num_workers=0)
    return {name: importance.data for name, importance in found.items()}


def timed(run: Callable[[], Fisher], device: str) -> tuple[float, Fisher]:
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    found = run()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start, found


def compare(name: str, kind: Kind, ways: dict[str, Callable[..., Fisher]], args: argparse.Namespace) -> float:
    """Print the table of one model and kind; the median ratio of ours."""
    title, build, size, samples = MODELS[name]
    samples = args.samples or samples
    torch.manual_seed(0)
    model = build().to(args.device)
    model(torch.randn(32, 3, size, size, device=args.device))  # statistics for BatchNorm
    model.eval()
    x = torch.randn(samples, 3, size, size, device=args.device)
    y = (torch.rand(samples, OUTPUTS, device=args.device) < 0.3).float()
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    results: dict[str, Fisher] = {}
    for compute in ways.values():
        compute(copy.deepcopy(model), x[:4], y[:4], kind)
    for _ in range(args.repeats):
        for way, compute in ways.items():
            model.eval()  # Avalanche leaves it in training mode
            once, results[way] = timed(partial(compute, model, x, y, kind), args.device)
            seconds[way].append(once)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"\n{name}: {title}, {size} px, {parameters:,} parameters, {samples} samples; {kind}")
    print(f"{'':<20}{'ms/sample':>10}{'times the loop':>24}{'difference':>12}")
    largest = max(float(value.max()) for value in results["loop"].values())
    medians = {}
    for way, spent in seconds.items():
        ratios = torch.tensor(seconds["loop"]) / torch.tensor(spent)
        apart = max(float((results[way][k] - v).abs().max()) for k, v in results["loop"].items()) / largest
        medians[way] = float(ratios.median())
        spread = f"{medians[way]:.2f} ({float(ratios.min()):.2f} to {float(ratios.max()):.2f})"
        print(f"{way:<20}{1e3 * sorted(spent)[len(spent) // 2] / samples:10.3f}{spread:>24}{apart:12.0e}", flush=True)
    return medians["ours"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--samples", type=int, help="of each model; otherwise as many as take a second or two")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    ways: dict[str, Callable[..., Fisher]] = {"loop": loop, "ours": ours, "torch.func alone": torch_func}
    try:
        import avalanche as _  # noqa: F401

        plugin = {"Avalanche, batch 1": avalanche}
    except ImportError as error:
        plugin = {}
        print(f"Avalanche is absent ({error}): pip install avalanche-lib to compare with its EWCPlugin")
    where = torch.cuda.get_device_name() if args.device == "cuda" else f"{args.threads} CPU thread(s)"
    print(f"{where}; {args.repeats} repeats; torch {torch.__version__}")
    ratios = {}
    for name in args.models:
        ratios[name, "exact"] = compare(name, "exact", ways, args)
        ratios[name, "empirical"] = compare(name, "empirical", ways | plugin, args)
    print("\nours against the loop: " + ", ".join(f"{n} {k} {r:.1f}x" for (n, k), r in ratios.items()))


if __name__ == "__main__":
    main()
