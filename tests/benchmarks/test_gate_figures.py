"""What the benchmark of the gate counts, on distances that are known."""

import numpy as np
import pytest

from benchmarks.gate import best_threshold, distances


def test_each_is_compared_with_its_own_and_the_nearest_other():
    enrolled = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
    asked = np.array([[0.5, 0.0], [2.9, 0.0], [0.0, 1.0]])
    own, other, nearest = distances(asked, np.array([0, 1, 2]), enrolled)
    np.testing.assert_allclose(own, [0.5, 0.1, 3.0])
    np.testing.assert_allclose(other, [2.5, 2.9, 1.0])
    assert nearest.tolist() == [True, True, False]


def test_the_threshold_lies_in_the_middle_of_the_gap():
    assert best_threshold(np.array([0.1, 0.3]), np.array([0.5, 0.9])) == pytest.approx(0.4)
    assert best_threshold(np.array([0.1, 0.2, 0.8]), np.array([0.6, 0.7, 0.9])) == pytest.approx(0.4)
