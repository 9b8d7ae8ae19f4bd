"""What all tests share: few threads, no network, no cache of the user's, and where the real data may be."""

import os
from pathlib import Path

os.environ["WANDB_MODE"] = "offline"
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # before the first import of albumentations, or it calls home

import pytest
import torch

torch.set_num_threads(min(2, os.cpu_count() or 1))


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
