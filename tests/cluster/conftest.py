"""One cluster for all tests of this folder."""

from collections.abc import Iterator

import pytest

from tests.cluster.loopback import Cluster, missing


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes on the loopback interface; skipped where SLURM is not installed."""
    if reason := missing():
        pytest.skip(reason)
    made = Cluster(tmp_path_factory.mktemp("slurm"))
    yield made
    made.stop()
