"""A person's zero: what is taken off, how photos pool, and the file."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from lit_faces.core.facs import AU_KEYS
from lit_faces.persons.zero import MOST_SOURCES, Evidence, Slopes, Zero, ZeroedReader, fit_slopes

NAMES = ("AU04", "AU06", "jaw")
SLOPES = Slopes(("AU04", "AU06"), np.array([0.5, 1.0]), default=0.2)


def zero_of(*rests) -> Zero:
    zero = Zero.of(NAMES, SLOPES)
    for number, rest in enumerate(rests):
        zero = zero.pooled(Evidence(np.array(rest, dtype=float), f"{number:08d}"))
    return zero


def test_one_photo_is_believed_as_far_as_its_slope() -> None:
    np.testing.assert_allclose(zero_of((2.0, 3.0, 1.0)).offset, [1.0, 3.0, 0.2])
    np.testing.assert_array_equal(zero_of().offset, 0.0)


def test_several_photos_are_believed_more_by_spearman_and_brown() -> None:
    zero = zero_of((2.0, 3.0, 1.0), (4.0, 1.0, 1.0))
    np.testing.assert_allclose(zero.rest, [3.0, 2.0, 1.0])
    np.testing.assert_allclose(zero.offset, [3.0 * 2 / 3, 2.0, 1.0 * 0.4 / 1.2])


def test_what_a_source_does_not_say_stays_as_it_was() -> None:
    zero = zero_of((2.0, 3.0, 1.0), (np.nan, 1.0, np.nan))
    assert zero.looks.tolist() == [1, 2, 1]
    np.testing.assert_allclose(zero.offset, [1.0, 2.0, 0.2])
    np.testing.assert_allclose(zero_of((np.nan, 1.0, 1.0)).offset[0], 0.0)


def test_the_same_photo_twice_is_one_photo() -> None:
    zero = zero_of((2.0, 3.0, 1.0))
    assert zero.pooled(Evidence(np.array([5.0, 5.0, 5.0]), "00000000ffff")) is zero
    many = zero_of(*[(1.0, 1.0, 1.0)] * MOST_SOURCES)
    with pytest.raises(ValueError, match="are pooled already"):
        many.pooled(Evidence(np.ones(3), "another1"))


def test_readings_are_taken_by_name_whatever_their_order_and_reader() -> None:
    zero = zero_of((2.0, 3.0, 1.0))
    table = torch.tensor([[1.0, 4.0, 0.7, 0.5], [0.0, 5.0, 0.7, 5.0]])
    found = zero.apply(table, ("AU06", "AU04", "smile", "jaw"))
    torch.testing.assert_close(found, torch.tensor([[0.0, 3.0, 0.7, 0.3], [0.0, 4.0, 0.7, 4.8]]))
    read = ZeroedReader(lambda images: torch.full((len(images), 3), 4.0), NAMES, zero, most=2.5)
    torch.testing.assert_close(read(torch.zeros(2, 3, 8, 8)), torch.tensor([[2.5, 1.0, 2.5]]).expand(2, 3))
    assert ZeroedReader(read.read, NAMES)(torch.zeros(1, 3, 8, 8)).tolist() == [[4.0, 4.0, 4.0]]
    with pytest.raises(ValueError, match="2 readings, but 3 names"):
        zero.apply(torch.zeros(1, 2), NAMES)


def test_the_file_is_small_and_says_the_same(tmp_path: Path) -> None:
    zero = Zero.of(AU_KEYS, Slopes.shipped(), "9596d320cfd2")
    chance = np.random.default_rng(0)
    for number in range(MOST_SOURCES):
        zero = zero.pooled(Evidence(chance.uniform(0, 5, len(AU_KEYS)), f"{number:08x}"))
    path = zero.save(tmp_path)
    assert path.stat().st_size <= 1024
    again = Zero.load(tmp_path)
    assert (again.names, again.sources, again.reader) == (zero.names, zero.sources, zero.reader)
    np.testing.assert_allclose(again.offset, zero.offset, atol=0.02)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"zero": 7}, "zero: expected"),
        ({"aus": {"AU04": [1, 2]}}, "AU04: expected a list"),
        ({"aus": {"AU04": [1, 2, 1.5]}}, "AU04: slope: expected"),
        ({"aus": {"AU04": [1, -2, 0.5]}}, "AU04: looks: expected"),
        ({"aus": {}}, "aus: expected"),
        ({"sources": [3]}, "sources: expected"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, change: dict, says: str) -> None:
    path = zero_of((1.0, 1.0, 1.0)).save(tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=says) as caught:
        Zero.load(path)
    assert str(path) in str(caught.value)


def people(slope: float, noise: float, moved: float, count: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Two photos of people; the true slope of one on the other is ``slope`` where noise and own spread say so."""
    chance = np.random.default_rng(1)
    own = chance.normal(0.0, 1.0, count) * np.sqrt(slope)
    first, second = (own + chance.normal(0.0, np.sqrt(1 - slope) * noise, count) for _ in range(2))
    return first, second + moved


def test_slopes_of_people_with_known_ones() -> None:
    stays, moves = people(0.7, 1.0, 0.0), people(0.3, 1.0, 2.0)
    resting, other = np.stack([stays[0], moves[0]], 1), np.stack([stays[1], 0.5 * moves[1]], 1)
    found = fit_slopes(("AU04", "AU12"), resting, other)
    np.testing.assert_allclose(found.slope, [0.7, 0.3], atol=0.05)
    assert 0.3 < found.default < 0.7
    assert found.named(("AU12", "jaw")).tolist() == [found.slope[1], found.default]


def test_slopes_of_what_never_varies_are_those_of_all_together() -> None:
    stays = people(0.7, 1.0, 0.0)
    nothing = np.zeros(len(stays[0]))
    found = fit_slopes(("AU04", "AU27"), np.stack([stays[0], nothing], 1), np.stack([stays[1], nothing], 1))
    assert found.slope[1] == pytest.approx(found.default)
    with pytest.raises(ValueError, match="three people"):
        fit_slopes(("AU04",), np.zeros((2, 1)), np.zeros((2, 1)))
    with pytest.raises(ValueError, match="two tables"):
        fit_slopes(("AU04",), np.zeros((5, 1)), np.zeros((4, 1)))


def test_the_shipped_slopes_say_where_they_are_from() -> None:
    slopes = Slopes.shipped()
    assert slopes.names == AU_KEYS and 0 < slopes.default < 1
    from lit_faces.persons.zero import SLOPES_FILE

    content = json.loads(SLOPES_FILE.read_text())
    assert "CC BY 4.0" in content["attribution"] and content["people"] == 51 and "benchmarks.zero" in content["command"]
