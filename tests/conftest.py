"""What all tests share: few threads, no network, no cache of the user's, and where the real data may be."""

import os
from pathlib import Path

os.environ["WANDB_MODE"] = "offline"
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # before the first import of albumentations, or it calls home
# before torch, and for the commands that tests start: as many threads as are left where tests run side by side (pytest -n)
os.environ["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS") or str(
    max(1, min(2, os.cpu_count() or 1) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
)

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from lit_faces.core.facs import NUM_AUS
from lit_faces.core.sample import FaceBatch
from lit_faces.models.warping import canonical_face

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """A file's tests stay together: they share what its fixtures have made."""
    from xdist.scheduler import LoadFileScheduling

    config.option.loadscopereorder = False  # in the order below
    return LoadFileScheduling(config, log)


def pytest_collection_modifyitems(items):
    """Where tests run side by side, the files that take minutes come first, or one process ends long after the other."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        long = ["test_docs.py", "test_slurm.py", "test_generate.py", "test_fit.py", "test_study.py", "test_ddp.py"]
        items.sort(key=lambda item: long.index(item.path.name) if item.path.name in long else len(long))


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory):
    """Rendered faces of the tests go to a folder that lives as long as the session."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIT_FACES_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with real photographs and the packed ICT head, which no package contains."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("LIT_FACES_SHARED") or default)
    if not folder.is_dir():
        pytest.skip(f"no shared data at {folder} (set LIT_FACES_SHARED)")
    return folder


SIZE = 32


def make_faces(batch: int, seed: int, size: int = SIZE) -> FaceBatch:
    """Random pictures with landmarks near the mean face; every second AU is not coded."""
    generator = torch.Generator().manual_seed(seed)
    landmarks = ((canonical_face() + 1) * size / 2 - 0.5).expand(batch, -1, -1)
    landmarks = landmarks + torch.randn(batch, 68, 2, generator=generator) * 0.3
    au = torch.rand(batch, NUM_AUS, generator=generator) * 5
    au[:, 1::2] = float("nan")
    return FaceBatch(
        image=torch.randint(0, 256, (batch, 3, size, size), generator=generator, dtype=torch.uint8),
        landmarks=landmarks,
        au_intensity=au,
        au_occurrence=(au >= 2).float() + (au - au),
        emotion=torch.full((batch,), -1),
        pose=torch.zeros(batch, 3),
        subject=[f"s{seed}:{i}" for i in range(batch)],
        source=["test"] * batch,
        frame=torch.arange(batch) + 100 * seed,
    )


class Pairs(Dataset):
    def __init__(self, batches: int, pairs: bool = True) -> None:
        self.batches, self.pairs = batches, pairs

    def __len__(self) -> int:
        return self.batches

    def __getitem__(self, index: int):
        if not self.pairs:
            return make_faces(4, index)
        return {"source": make_faces(2, index), "target": make_faces(2, index + 1000)}


@pytest.fixture
def faces():
    return make_faces


@pytest.fixture
def pair_loader():
    return lambda batches=6: DataLoader(Pairs(batches), batch_size=None)


@pytest.fixture
def frame_loader():
    return lambda batches=6: DataLoader(Pairs(batches, pairs=False), batch_size=None)
