"""Two real processes (gloo), of which one has no batch: nobody waits for ever, and both know the same afterwards."""

import os
import subprocess
import sys
from pathlib import Path

from lit_faces.core.ranks import interleave

ROOT = Path(__file__).resolve().parents[2]
START = """
import sys, warnings
from datetime import timedelta
import torch
from torch import nn
warnings.simplefilter("ignore")
rank = int(sys.argv[1])
torch.set_num_threads(1)
torch.distributed.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2,
                                     timeout=timedelta(seconds=30))
"""


END = """
torch.distributed.barrier()
torch.distributed.destroy_process_group()
"""


def on_two_ranks(code: str, folder: Path) -> None:
    """Run code with ``rank`` 0 and 1 in two processes; they must end well, and soon."""
    (folder / "job.py").write_text(START + code + END)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(folder / "job.py")]
    jobs = [
        subprocess.Popen([*command, str(rank), str(folder / "meet")], env=environment, cwd=folder, text=True,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for rank in range(2)
    ]  # fmt: skip
    try:
        said = [job.communicate(timeout=120)[0] for job in jobs]
    finally:
        for job in jobs:
            job.kill()
    assert [job.returncode for job in jobs] == [0, 0], "\n".join(said)


def test_ewc_keeps_the_mean_over_the_samples_of_all_ranks(tmp_path):
    on_two_ranks(
        """
from lit_faces.continual.ewc import EWC, fisher_diagonal

torch.manual_seed(0)
net, x = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), torch.randn(7, 3)
y = (torch.rand(7, 2) > 0.5).float()
for kind in ("exact", "empirical"):
    whole = fisher_diagonal(net, x, kind=kind, targets=y)
    for first in (0, 2, 7):  # rank 1 has all, most, none
        mine = slice(0, first) if rank == 0 else slice(first, 7)
        ewc = EWC(kind=kind, batch_size=2)
        ewc.consolidate(net, x[mine], y[mine])
        torch.testing.assert_close(ewc.importance, whole)

# who fails says so to the other, and neither waits
bad = x if rank == 0 else x[:, :2]
try:
    EWC().consolidate(net, bad)
except RuntimeError as error:
    assert ("rank 1 could not find its Fisher information" in str(error)) == (rank == 0), error
else:
    raise SystemExit("no error")
try:
    EWC().consolidate(net, x[:0])
except ValueError as error:
    assert "at least one sample on some rank" in str(error)
else:
    raise SystemExit("no error")
""",
        tmp_path,
    )


def test_metrics_memories_and_calibration_go_without_a_rank_that_saw_nothing(tmp_path):
    on_two_ranks(
        """
from types import SimpleNamespace
from lit_faces.callbacks.replay import ReplayCallback
from lit_faces.continual.replay import ReplayMemory
from lit_faces.core.sample import FaceBatch
from lit_faces.metrics.classification import AUC
from lit_faces.metrics.icc import StreamingICC
from lit_faces.metrics.image_quality import ImageQuality
from lit_faces.metrics.landmark_error import LandmarkNME
from lit_faces.tasks.au_detector import AUDetector

draws = torch.Generator().manual_seed(0)
found = torch.rand(5, 68, 2, generator=draws) * 64
quality, error, auc, icc = ImageQuality("dlib"), LandmarkNME(), AUC(1), StreamingICC(1)
labels, scores = (torch.arange(6.0) % 2)[:, None], torch.rand(6, 1, generator=draws)
if rank == 0:
    features = torch.randn(9, 128, generator=draws)
    quality.update_features(real=features, fake=features + 0.1)
    error.update(found + 1, found)
    auc.update(labels, scores)
    icc.update(labels, scores)
values = {**quality.compute(), **error.compute(), "auc": auc.compute(), "icc": icc.compute()}
everybody = [None, None]
torch.distributed.all_gather_object(everybody, {k: float(v) for k, v in values.items()})
assert everybody[0].keys() == everybody[1].keys() and any(name.startswith("fid_n9") for name in everybody[0])
assert all(a == b for a, b in zip(everybody[0].values(), everybody[1].values())), everybody
assert everybody[0]["nme"] == everybody[0]["nme"] and 0 <= everybody[0]["auc"] <= 1

memory = ReplayMemory(4, "reservoir")
if rank == 0:
    memory.add({"x": torch.arange(3.0)[:, None]})
state = ReplayCallback(memory).state_dict()
assert len(state["memories"]) == 2
for world in (1, 2, 3):
    callback = ReplayCallback(ReplayMemory(4, "reservoir"))
    callback.load_state_dict(state)
    callback.setup(SimpleNamespace(world_size=world, global_rank=rank if world > 1 else 0), None, "fit")
    assert len(callback.memory) == (3 if world != 2 or rank == 0 else 0)

detector = AUDetector("aligned_face_small", size=32, calibrate=True)
detector._trainer = SimpleNamespace(state=SimpleNamespace(fn="fit"), sanity_checking=False)
detector.log_dict = detector.log = lambda *args, **kwargs: None
if rank == 0:
    read = torch.rand(30, 19, generator=draws) * 5
    detector._seen_in_validation.append(torch.stack([read, read / 2, read, (read > 2).float()]))
detector.on_validation_epoch_end()
lines = [None, None]
torch.distributed.all_gather_object(lines, detector.calibration.state_dict())
assert all(torch.equal(lines[0][name], lines[1][name]) for name in lines[0])
fresh = AUDetector("aligned_face_small", size=32).calibration.state_dict()
assert any(not torch.equal(lines[1][name], fresh[name]) for name in fresh)
""",
        tmp_path,
    )


def test_rows_dealt_out_come_back_in_order():
    rows = list(range(11))
    for world in (1, 2, 3, 4):
        assert interleave([rows[rank::world] for rank in range(world)]) == rows
