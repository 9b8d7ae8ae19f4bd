"""Calibration of one person's readings: exact cases, and shrinkage that pays on simulated people."""

import pytest
import torch

from lit_faces.continual.calibration import (
    PersonCalibration,
    labelled_affine,
    match_moments,
    median_subtraction,
    neutral_statistics,
    neutral_subtraction,
)

NAN = float("nan")


def population(people: int = 200, frames: int = 5, between: float = 0.6, within: float = 0.4, aus: int = 3):
    draws = torch.Generator().manual_seed(0)
    offset = between**0.5 * torch.randn(people, 1, aus, generator=draws)
    readings = 1.0 + offset + within**0.5 * torch.randn(people, frames, aus, generator=draws)
    return readings, offset


def test_variances_between_and_within_people_are_recovered() -> None:
    readings, _ = population(3000)
    subjects = [str(i // 5) for i in range(15_000)]
    mean, between, within = neutral_statistics(readings.reshape(-1, 3), subjects)
    torch.testing.assert_close(mean, torch.ones(3), atol=0.05, rtol=0)
    torch.testing.assert_close(between, torch.full((3,), 0.6), atol=0.06, rtol=0)
    torch.testing.assert_close(within, torch.full((3,), 0.4), atol=0.02, rtol=0)


def test_people_who_do_not_differ_have_no_variance_between() -> None:
    draws = torch.Generator().manual_seed(1)
    _, between, _ = neutral_statistics(torch.randn(400, 2, generator=draws), [str(i // 4) for i in range(400)])
    assert float(between.max()) < 0.1
    assert float(between.min()) >= 0.0


def test_shrinking_the_offset_beats_taking_all_of_it_off_and_none() -> None:
    readings, offset = population()
    mean, between, within = neutral_statistics(readings.reshape(-1, 3), [str(i // 5) for i in range(1000)])
    left = {"none": offset.square().mean(), "all": torch.zeros(()), "some": torch.zeros(())}
    for person, true in zip(readings, offset):
        for name, extra in (("all", ()), ("some", (between, within))):
            fitted = neutral_subtraction(person[:1], mean, *extra)
            left[name] = left[name] + (true[0] + fitted.shift).square().mean() / len(readings)
    assert left["some"] < 0.9 * left["all"]
    assert left["some"] < 0.7 * left["none"]


def test_neutral_subtraction_takes_off_what_is_unusual_and_stays_in_range() -> None:
    fitted = neutral_subtraction(torch.tensor([[2.0, 0.0]]), torch.tensor([0.5, 0.5]))
    torch.testing.assert_close(fitted(torch.tensor([[3.0, 5.0], [1.0, 0.0]])), torch.tensor([[1.5, 5.0], [0.0, 0.5]]))


def test_median_subtraction_uses_the_median() -> None:
    fitted = median_subtraction(torch.tensor([[1.0], [1.2], [5.0]]), torch.tensor([0.2]))
    torch.testing.assert_close(fitted.shift, torch.tensor([-1.0]))


def test_matching_moments_matches_them_in_the_long_run_and_does_nothing_for_one_frame() -> None:
    draws = torch.Generator().manual_seed(2)
    readings = 2.0 + 0.5 * torch.randn(20_000, 1, generator=draws)
    fitted = match_moments(readings, torch.tensor([1.5]), torch.tensor([0.8]))
    moved = fitted.line(readings)
    assert float(moved.mean()) == pytest.approx(1.5, abs=0.01)
    assert float(moved.std()) == pytest.approx(0.8, abs=0.01)
    one = match_moments(readings[:1], torch.tensor([1.5]), torch.tensor([0.8]))
    assert (float(one.scale), float(one.shift)) == (1.0, 0.0)


def test_labelled_line_is_found_from_many_labels_and_the_identity_kept_from_none() -> None:
    draws = torch.Generator().manual_seed(3)
    readings = 5 * torch.rand(5000, 2, generator=draws)
    targets = torch.stack([0.5 * readings[:, 0] + 1.0, torch.full((5000,), NAN)], 1)
    fitted = labelled_affine(readings, targets)
    torch.testing.assert_close(fitted.scale, torch.tensor([0.5, 1.0]), atol=0.01, rtol=0)
    torch.testing.assert_close(fitted.shift, torch.tensor([1.0, 0.0]), atol=0.02, rtol=0)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="neutral frame"):
        neutral_subtraction(torch.zeros(0, 2), torch.zeros(2))
    with pytest.raises(ValueError, match="both variances"):
        neutral_subtraction(torch.zeros(1, 2), torch.zeros(2), torch.zeros(2))
    with pytest.raises(ValueError, match="one subject each"):
        neutral_statistics(torch.zeros(2, 2), ["a"])
    with pytest.raises(ValueError, match="shape"):
        labelled_affine(torch.zeros(2, 2), torch.zeros(2, 3))
    assert len(PersonCalibration().scale) == 19
