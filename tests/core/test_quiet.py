"""What libraries say of themselves stays off the screen; everything else gets through."""

import logging
import os
import warnings

import pytest
import torch

from lit_faces.core.quiet import quiet_descriptor, quiet_libraries
from lit_faces.core.video import write_video

NOISE = "Found 116 module(s) in eval mode at the start of training. This may lead to unexpected behavior."
TIP = "💡 Tip: For seamless cloud logging, try installing something"


@pytest.fixture
def said(monkeypatch):
    """What is heard after quiet_libraries, of warnings and of Lightning's logger."""

    def listen(debug: bool) -> list[str]:
        monkeypatch.delenv("LIT_FACES_DEBUG", raising=False)
        if debug:
            monkeypatch.setenv("LIT_FACES_DEBUG", "1")
        logger = logging.getLogger("pytorch_lightning.utilities.rank_zero")
        monkeypatch.setattr(logger, "filters", [])
        level = logger.level
        logger.setLevel(logging.INFO)  # a short fit before may have silenced it
        heard: list[str] = []
        handler = logging.Handler()
        handler.emit = lambda record: heard.append(record.getMessage())  # type: ignore[method-assign]
        monkeypatch.setattr(logger, "handlers", [handler])
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            quiet_libraries()
            quiet_libraries()
            for words in (NOISE, "your data are wrong"):
                warnings.warn(words, stacklevel=1)
            for words in (TIP, "GPU available: False"):
                logger.info(words)
        logger.setLevel(level)
        assert len(logger.filters) <= 1
        return [str(warning.message) for warning in caught] + heard

    return listen


def test_noise_is_dropped_and_nothing_else(said):
    assert said(debug=False) == ["your data are wrong", "GPU available: False"]


def test_debugging_hears_all(said):
    assert said(debug=True) == [NOISE, "your data are wrong", TIP, "GPU available: False"]


def test_a_video_is_written_without_a_word(tmp_path, capfd):
    write_video(tmp_path / "clip.webm", torch.zeros(4, 3, 32, 32, dtype=torch.uint8), 25.0)
    os.write(2, b"after")
    assert capfd.readouterr().err == "after"


def test_the_descriptor_comes_back_after_an_error(capfd):
    def fails() -> None:
        with quiet_descriptor():
            os.write(2, b"from C")
            raise OSError("no")

    with pytest.raises(OSError, match="no"):
        fails()
    os.write(2, b"ours")
    assert capfd.readouterr().err == "ours"
