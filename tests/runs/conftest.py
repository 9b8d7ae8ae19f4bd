"""A folder with the toy experiment, where the commands are typed."""

from pathlib import Path

import pytest

from tests.runs.toy import EXPERIMENT


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The experiment file; the working folder is its own."""
    monkeypatch.chdir(tmp_path)
    for name in ("LOCAL_RANK", "LIT_FACES_RUN"):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "toy.yaml"
    file.write_text(EXPERIMENT)
    return file
