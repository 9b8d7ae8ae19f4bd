import numpy as np

from lit_faces.core.facs import AU_INDEX, AU_KEYS, NUM_AUS
from lit_faces.reading import pages
from lit_faces.reading.pages import Curves, write_plot
from lit_faces.reading.rows import FaceRow


def rows(count: int, moving: tuple[int, ...], away: range = range(0)) -> list[FaceRow]:
    """Frames of one face; AUs that go up from 0 to 4; the face is away in some."""
    found = []
    for number in range(count):
        row = FaceRow("clip.mp4", number, number / 25)
        if number not in away:
            row.person, row.score, row.landmarks = 0, 1.0, np.zeros((68, 2), np.float32)
            row.intensity = np.full(NUM_AUS, 0.1, np.float32)
            row.intensity[list(moving)] = 4 * number / (count - 1)
        found.append(row)
    return found


def drawn(tmp_path, monkeypatch, given: list[FaceRow]) -> tuple[list[str], str]:
    """Names of the AUs that have a curve, and what is written below."""
    seen = []
    monkeypatch.setattr(pages, "save_figure", lambda figure, path, dpi: seen.append(figure) or path)
    write_plot(tmp_path / "aus.png", given, "clip.mp4")
    axes = seen[0].axes
    return [axis.get_ylabel().split("\n")[0] for axis in axes], axes[-1].get_xlabel()


def test_aus_that_rest_are_named_and_not_drawn(tmp_path, monkeypatch):
    moving = (AU_INDEX[6], AU_INDEX[12])
    names, below = drawn(tmp_path, monkeypatch, rows(50, moving))
    assert names == ["AU06", "AU12"]
    assert "at rest all the time" in below and "AU17" in below and "AU12" not in below
    names, below = drawn(tmp_path, monkeypatch, rows(50, ()))
    assert names == list(AU_KEYS) and below == "seconds", "where nothing moves, all are drawn"
    names, below = drawn(tmp_path, monkeypatch, rows(5, (), away=range(5)))
    assert names == list(AU_KEYS), "nor is there anything to leave out where no face is"


def test_curves_keep_their_gaps_and_do_not_grow():
    ((seconds, intensity),) = Curves(rows(40, (0,), away=range(10, 20))).people.values()
    assert len(seconds) == 31 and np.flatnonzero(np.isnan(seconds)).tolist() == [10]
    assert intensity[-1, 0] == 4.0 and np.nanmin(intensity[:, 1]) == np.float32(0.1)
    many = rows(10_000, (0,))
    ((seconds, intensity),) = Curves(many).people.values()
    assert 1500 <= len(seconds) <= 3000 and np.all(np.diff(intensity[:, 0]) > 0)
    assert abs(intensity[:, 0].mean() - 2.0) < 0.01
