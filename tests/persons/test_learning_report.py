"""What a photo gives without learning, and its share of the gain."""

import math

import numpy as np
import pytest
import torch

from lit_faces.core.facs import AU_INDEX, AU_KEYS, NUM_AUS
from lit_faces.core.sample import FaceBatch, FaceSample, collate
from lit_faces.persons.learning_report import best_untrained, report, untrained_figures, verdict
from lit_faces.persons.zero import Evidence, Slopes, Zero


def faces() -> FaceBatch:
    samples = []
    for level in torch.linspace(0, 3, 8):
        truth = torch.full((NUM_AUS,), float("nan"))
        truth[AU_INDEX[4]] = level
        samples.append(FaceSample(torch.zeros(3, 8, 8, dtype=torch.uint8), au_intensity=truth))
    return collate(samples)


def test_the_share_of_the_zero_in_the_gain() -> None:
    test = faces()
    truth = test.au_intensity.nan_to_num(0.0)
    zero = Zero.of(("AU04",), Slopes(("AU04",), np.array([1.0]))).pooled(Evidence(np.array([0.75]), "a"))
    found = untrained_figures(test, "zero", zero.apply(truth + 1.0, AU_KEYS), truth + 1.0, truth + 0.0)
    assert found["person/zero/mae/AU04"] == pytest.approx(0.25) and math.isnan(found["person/zero/mae/AU06"])
    assert found["person/zero/share/mae"] == pytest.approx(0.75)
    nothing = untrained_figures(test, "reference", truth + 0.5, truth + 1.0, truth + 2.0)
    assert math.isnan(nothing["person/reference/share/mae"]) and nothing["person/reference/mae/mean"] == 0.5
    assert best_untrained({}) is None and best_untrained({"person/zero/icc/mean": math.nan}) is None
    both = {"person/zero/icc/mean": 0.3, "person/reference/icc/mean": 0.4}
    assert best_untrained(both) == ("reference", 0.4)


def test_the_report_says_it_where_there_is_a_zero() -> None:
    names = [f"{group}/{when}/{figure}/{key}" for group in ("person", "generic") for when in ("before", "after")
             for figure in ("icc", "mae") for key in (*AU_KEYS, "mean")]  # fmt: skip
    figures: dict = dict.fromkeys(names, 0.5) | {
        "run/person": "anna", "run/method": "ewc_replay", "run/frames": 3, "run/test_is": "her faces",
        "run/seconds": 1.0, "run/seconds/preparing": 0.1, "run/seconds/learning": 0.5, "run/learnt": ["anna"],
    }  # fmt: skip
    assert "zero alone" not in report(figures)
    figures |= {"person/zero/icc/mean": 0.41, "person/zero/mae/mean": 0.3, "person/zero/share/icc": 0.62,
                "person/zero/share/mae": float("nan")}  # fmt: skip
    assert (
        "The zero alone, nothing learnt: ICC 0.41, MAE 0.30; that is 62 % of the gain in ICC and - of that in MAE."
        in report(figures)
    )


def test_a_photo_that_reads_as_well_alone_is_said_to_be_enough() -> None:
    figures = {"person/after/icc/mean": 0.67, "person/zero/icc/mean": 0.60, "person/reference/icc/mean": 0.68}
    assert verdict(figures).startswith(
        "Learning did not help here: mean ICC 0.67 after it, 0.68 without (beside the photo"
    )
    figures |= {"person/after/mae/mean": 0.29, "person/reference/mae/mean": 0.34, "person/zero/mae/mean": 0.32}
    said = verdict(figures)
    assert said.startswith("Learning lowered the mean error from 0.32") and "ICC is 0.67 after it, 0.68 without" in said
    for worse in ({"person/after/mae/mean": 0.33}, {"person/zero/mae/mean": 0.2}, {"person/after/icc/mean": 0.40}):
        assert "did not help" in verdict({**figures, **worse})
    assert verdict({**figures, "person/after/icc/mean": 0.70}) == verdict({"person/after/icc/mean": None}) == ""
