"""What the tests of reading share: made people, and dlib's models."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import clips

from lit_faces.core.landmarks import FaceAnalyser


@pytest.fixture(scope="session")
def people():
    return clips.people()


@pytest.fixture(scope="session")
def analyser():
    return FaceAnalyser()


@pytest.fixture(scope="session")
def story(people, tmp_path_factory):
    """Two who cross; a cut to another room with person 1 alone; nobody; person 0 again. Times that vary."""
    frames = clips.crossing(people)
    frames += [clips.stage([(people[1, 0], 160)], wall=240)] * 6
    frames += [clips.stage([], wall=240)] * 8
    frames += [clips.stage([(people[0, 5], 200)], wall=240)] * 6
    times = [0.05 * k for k in range(20)] + [1.0 + 0.1 * k for k in range(len(frames) - 20)]
    path = clips.write(tmp_path_factory.mktemp("story") / "story.webm", frames, times)
    return path, times
