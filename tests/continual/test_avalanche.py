"""Avalanche's EWC importances against ours of the same definition; the benchmark extra installs it."""

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from lit_faces.continual.ewc import fisher_diagonal

plugins = pytest.importorskip("avalanche.training.plugins", reason="pip install -e '.[benchmark]' for avalanche-lib")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("batch", [1, 4])
def test_empirical_with_single_samples_and_batched_with_batches(batch: int) -> None:
    draws = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).eval()
    x, y = torch.randn(16, 5, generator=draws), (torch.rand(16, 3, generator=draws) < 0.4).float()
    loss = nn.BCEWithLogitsLoss(reduction="sum" if batch == 1 else "mean")
    data = TensorDataset(x, y, torch.zeros(16))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    plugin = plugins.EWCPlugin(ewc_lambda=1.0)
    torch.manual_seed(0)  # it shuffles nothing, but asks for a loader
    found = plugin.compute_importances(model, loss, optimizer, data, torch.device("cpu"), batch, num_workers=0)
    kind = "empirical" if batch == 1 else "batched"
    ours = fisher_diagonal(model, x, "bernoulli", kind, y, batch_size=batch)
    scale = 1.0 if batch == 1 else 3.0**2  # its mean is over outputs too
    for name, value in ours.items():
        torch.testing.assert_close(scale * found[name].data, value, rtol=1e-4, atol=1e-7)
