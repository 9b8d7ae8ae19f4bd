import math
from functools import partial

import numpy as np
import pytest
import torch
import torch.multiprocessing as multiprocessing
from torchmetrics import MetricCollection
from torchmetrics.functional import concordance_corrcoef, mean_absolute_error, mean_squared_error, pearson_corrcoef

from lit_faces.core.facs import AU_INDEX, AU_KEYS
from lit_faces.metrics.agreement import CCC, MAE, MSE, PCC, RMSE, AgreementOverAUs
from lit_faces.metrics.classification import AUC, F1
from lit_faces.metrics.icc import StreamingICC, icc

METRICS = {"pcc": PCC, "ccc": CCC, "mae": MAE, "mse": MSE, "rmse": RMSE}
pytestmark = pytest.mark.filterwarnings("ignore:.*before the ``update``")


def readings(n: int, columns: int = 1, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels 0..5 and noisy, biased readings of them, float64 (n, columns)."""
    generator = torch.Generator().manual_seed(seed)
    labels = 5 * torch.rand(n, columns, generator=generator, dtype=torch.float64)
    return labels, 0.8 * labels + 0.7 + torch.randn(n, columns, generator=generator, dtype=torch.float64)


def by_numpy(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    covariance = ((a - a.mean()) * (b - b.mean())).mean()
    mse = float(((a - b) ** 2).mean())
    return {
        "pcc": float(np.corrcoef(a, b)[0, 1]),
        "ccc": float(2 * covariance / (a.var() + b.var() + (a.mean() - b.mean()) ** 2)),
        "mae": float(np.abs(a - b).mean()),
        "mse": mse,
        "rmse": math.sqrt(mse),
    }


def value(name: str, labels: torch.Tensor, predictions: torch.Tensor) -> list[float]:
    metric = METRICS[name](labels.shape[1])
    metric.update(labels, predictions)
    return metric.compute().reshape(-1).tolist()  # torchmetrics makes a scalar of one column


@pytest.mark.parametrize("name", METRICS)
def test_values_are_those_of_numpy_and_torchmetrics(name):
    labels, predictions = readings(300, 3)
    found = value(name, labels, predictions)
    columns = [(labels[:, c], predictions[:, c]) for c in range(3)]
    assert found == pytest.approx([by_numpy(a.numpy(), b.numpy())[name] for a, b in columns], abs=1e-12)
    theirs = {
        "pcc": pearson_corrcoef,
        "ccc": concordance_corrcoef,
        "mae": mean_absolute_error,
        "mse": mean_squared_error,
        "rmse": partial(mean_squared_error, squared=False),
    }[name]
    # torchmetrics' CCC mixes (n - 1)-variances with the squared difference of means
    assert found == pytest.approx([float(theirs(b, a)) for a, b in columns], abs=5e-3 if name == "ccc" else 1e-9)


@pytest.mark.parametrize("name", METRICS)
def test_frames_that_are_not_coded_are_left_out(name):
    labels, predictions = readings(80, 2)
    holes = labels.clone()
    holes[::3, 1] = math.nan
    broken = predictions.clone()
    broken[1, 0], broken[2, 0] = math.nan, math.inf
    keep = torch.ones(80, dtype=torch.bool)
    keep[1:3] = False
    kept = ~holes[:, 1].isnan()
    expected = [
        value(name, labels[keep, :1], predictions[keep, :1])[0],
        value(name, labels[kept], predictions[kept])[1],
    ]
    assert value(name, holes, broken) == pytest.approx(expected, abs=1e-12)


def test_undefined_is_nan_and_never_0():
    labels = torch.tensor([[2.0, 0.0, math.nan, 1.0], [2.0, 1.0, math.nan, math.nan], [2.0, 4.0, math.nan, math.nan]])
    predictions = torch.tensor([[1.0, 3.0, 1.0, 2.0], [2.0, 3.0, 2.0, 0.0], [4.0, 3.0, 3.0, 0.0]])
    # columns: label constant; prediction constant; nothing coded; one frame coded
    assert value("pcc", labels, predictions) == pytest.approx([math.nan] * 4, nan_ok=True)
    assert value("ccc", labels, predictions) == pytest.approx([math.nan, 0, math.nan, math.nan], nan_ok=True)
    assert value("mae", labels, predictions) == pytest.approx([1, 5 / 3 + 1 / 3, math.nan, 1], nan_ok=True)
    assert value("mse", labels, predictions) == pytest.approx([5 / 3, 14 / 3, math.nan, 1], nan_ok=True)
    for name, metric in METRICS.items():
        assert metric(2).compute().isnan().all(), f"{name} of nothing"
        empty = metric(2)
        empty.update(torch.zeros(0, 2), torch.zeros(0, 2))
        assert empty.compute().isnan().all()


def test_a_constant_is_a_constant_whatever_the_rounding():
    metric = PCC(1)
    for size in (3, 17, 40, 1):
        metric.update(torch.full((size, 1), 0.1), torch.rand(size, 1))
    assert metric.compute().isnan().all()


def test_pcc_is_blind_to_scale_and_ccc_and_icc_are_not():
    labels = readings(50)[0]
    wrong = 0.3 * labels + 4
    assert value("pcc", labels, wrong) == pytest.approx([1])
    assert value("ccc", labels, wrong)[0] < 0.3
    assert value("pcc", labels, -labels) == pytest.approx([-1])
    assert value("ccc", labels - labels.mean(), labels.mean() - labels) == pytest.approx([-1])


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_batches_and_ranks_add_up(name, offset):
    labels, predictions = readings(200, 3)
    labels[:90, 1] = math.nan
    whole, forward, merged = (METRICS[name](3) for _ in range(3))
    whole.update(labels, predictions)
    for rows in (slice(0, 1), slice(1, 64), slice(64, 64), slice(64, 199), slice(199, 200)):
        rank = METRICS[name](3)
        rank.update(labels[rows] + offset, predictions[rows] + offset)
        merged.merge_state(rank)
        forward(labels[rows] + offset, predictions[rows] + offset)
    assert merged.compute().tolist() == pytest.approx(whole.compute().tolist(), abs=1e-9)
    assert forward.compute().tolist() == pytest.approx(whole.compute().tolist(), abs=1e-9)


def test_a_collection_shares_the_moments():
    labels, predictions = readings(60, 2)
    collection = MetricCollection({"icc": StreamingICC(2), **{name: metric(2) for name, metric in METRICS.items()}})
    for part in zip(labels.split(13), predictions.split(13)):
        collection.update(*part)
    assert len(collection.compute_groups) == 1
    found = collection.compute()
    assert found["pcc"].tolist() == pytest.approx(value("pcc", labels, predictions), abs=1e-12)
    assert float(found["icc"][0]) == pytest.approx(icc(torch.stack([labels[:, 0], predictions[:, 0]], 1)), abs=1e-12)


def test_over_aus_all_figures_are_named_and_means_are_over_aus_that_vary():
    labels, predictions = readings(60, 19)
    labels[:, AU_INDEX[43]] = math.nan
    labels[:, AU_INDEX[17]] = 0.0
    metric = AgreementOverAUs()
    metric.update(labels, predictions)
    result = metric.compute()
    assert set(result) == {f"{n}/{k}" for n in ("icc", "pcc", "ccc", "mae", "rmse") for k in (*AU_KEYS, "mean")}
    assert all(result[f"{name}/AU43"].isnan() for name in ("icc", "pcc", "ccc", "mae", "rmse"))
    assert result["icc/AU17"].isnan() and float(result["mae/AU17"]) > 0
    vary = [key for key in AU_KEYS if key not in ("AU17", "AU43")]
    for name in ("icc", "pcc", "ccc", "mae", "rmse"):
        assert float(result[f"{name}/mean"]) == pytest.approx(np.mean([float(result[f"{name}/{k}"]) for k in vary]))
    with pytest.raises(ValueError, match="kind of ICC"):
        AgreementOverAUs("4,1")


def test_shapes_are_named():
    with pytest.raises(ValueError, match=r"expected two \(B, 3\), got \(2, 3\) and \(2, 2\)"):
        MAE(3).update(torch.zeros(2, 3), torch.zeros(2, 2))
    with pytest.raises(ValueError, match=r"expected two \(B, 3\)"):
        MAE(3).update(torch.zeros(2, 2), torch.zeros(2, 2))


def rank_main(rank: int, file: str, queue) -> None:
    """One of three ranks with a third of the rows, or none: metrics as they sync under DDP."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=3)
    labels, predictions = readings(50, 2)
    rows = (slice(0, 11), slice(11, 50), slice(50, 50))[rank]
    values = []
    for metric in (StreamingICC(2), PCC(2), CCC(2), MSE(2), F1(2, 2.5), AUC(2)):
        truth = labels if isinstance(metric, StreamingICC | PCC | CCC | MSE) else (labels > 2).double()
        if rank < 2:
            metric.update(truth[rows], predictions[rows])
        values.append(metric.compute().tolist())
    queue.put(values)
    torch.distributed.destroy_process_group()


def test_three_processes_give_the_values_of_one(tmp_path):
    context = multiprocessing.get_context("fork")  # a spawned process would import torch again
    queue = context.Queue()
    ranks = [
        context.Process(target=rank_main, args=(rank, str(tmp_path / "store"), queue), daemon=True) for rank in range(3)
    ]
    for process in ranks:
        process.start()
    found = [queue.get(timeout=50) for _ in ranks]
    for process in ranks:
        process.join()
    labels, predictions = readings(50, 2)
    for index, metric in enumerate((StreamingICC(2), PCC(2), CCC(2), MSE(2), F1(2, 2.5), AUC(2))):
        metric.update(labels if index < 4 else (labels > 2).double(), predictions)
        for values in found:
            assert values[index] == pytest.approx(metric.compute().tolist(), abs=1e-9)
