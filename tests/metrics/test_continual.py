import json
import math

import numpy as np
import pytest

from lit_faces.metrics.continual import FIGURES, GENERIC, START, ResultMatrix

NAN = math.nan


def docstring_example() -> ResultMatrix:
    """The matrix at the top of the module."""
    rows = {
        START: [0.50, 0.40, 0.60, 0.55],
        "a": [0.80, 0.42, 0.61, 0.53],
        "b": [0.70, 0.75, 0.60, 0.50],
        "c": [0.65, 0.70, 0.85, 0.49],
    }
    return filled(["a", "b", "c"], rows)


def filled(people: list[str], rows: dict[str, list[float]]) -> ResultMatrix:
    results = ResultMatrix(people)
    for row, scores in rows.items():
        for column, score in zip((*people, GENERIC), scores):
            results[row, column] = score
    return results


def test_known_answers():
    results = docstring_example()
    assert results.plasticity() == pytest.approx((0.30 + 0.35 + 0.25) / 3)
    assert results.learning_accuracy() == pytest.approx(0.8)
    assert results.average() == pytest.approx((0.65 + 0.70 + 0.85) / 3)
    assert results.backward_transfer() == pytest.approx(((0.65 - 0.80) + (0.70 - 0.75)) / 2)
    assert results.forward_transfer() == pytest.approx(((0.42 - 0.40) + (0.60 - 0.60)) / 2)
    assert results.forgetting("max") == results.forgetting("learnt") == pytest.approx(0.1)
    assert results.generic_drop() == pytest.approx(0.06)


def test_figures_are_the_published_formulas():
    """Sums written as in Lopez-Paz & Ranzato 2017 and Chaudhry et al. 2018, on random scores."""
    count = 6
    scores = np.random.default_rng(0).normal(size=(count + 1, count + 1))  # negative ones, too
    people = [f"p{i}" for i in range(count)]
    results = filled(people, dict(zip([*people, START], scores.tolist())))
    a, b = scores[:count, :count], scores[count, :count]
    final = count - 1
    assert results.average() == pytest.approx(sum(a[final, i] for i in range(count)) / count)
    assert results.backward_transfer() == pytest.approx(
        sum(a[final, i] - a[i, i] for i in range(count - 1)) / (count - 1)
    )
    assert results.forward_transfer() == pytest.approx(sum(a[i - 1, i] - b[i] for i in range(1, count)) / (count - 1))
    assert results.forgetting() == pytest.approx(
        sum(max(a[k, j] for k in range(count - 1)) - a[final, j] for j in range(count - 1)) / (count - 1)
    )
    assert results.forgetting("learnt") == pytest.approx(-results.backward_transfer())
    assert results.forgetting("max") >= results.forgetting("learnt")
    assert results.plasticity() == pytest.approx(np.mean([a[i, i] - b[i] for i in range(count)]))
    assert results.generic_drop() == pytest.approx(scores[count, count] - scores[final, count])


def test_the_two_forgettings_differ_where_a_person_got_better_before_being_learnt_or_later():
    results = docstring_example()
    results["a", "b"] = 0.9  # b was read best before b was learnt
    assert results.forgetting("max") == pytest.approx((0.15 + 0.20) / 2)
    assert results.forgetting("learnt") == pytest.approx(0.1)
    results["c", "a"], results["c", "b"] = 0.95, 0.95
    assert results.forgetting("max") < 0, "getting better is a negative forgetting"
    with pytest.raises(ValueError, match="'max' or 'learnt'"):
        results.forgetting("mean")


def test_undefined_scores_are_left_out_and_never_padded_with_0():
    results = docstring_example()
    expected = results.summary()
    negative = docstring_example()
    negative.values -= 2.0  # an ICC can be negative: differences stay, a padded 0 would be the maximum
    negative["a", "b"] = negative["a", "c"] = NAN
    found = negative.summary()
    same = ("plasticity", "backward_transfer", "forgetting_max", "forgetting_learnt", "generic_drop")
    assert [found[name] for name in same] == pytest.approx([expected[name] for name in same])
    results["b", "b"] = NAN  # this person's ICC was undefined when just learnt
    assert results.plasticity() == pytest.approx((0.30 + 0.25) / 2)
    assert results.backward_transfer() == pytest.approx(-0.15)
    assert results.forgetting("max") == pytest.approx((0.15 + (0.42 - 0.70)) / 2)
    results["c", "a"] = results["c", "b"] = NAN
    assert math.isnan(results.backward_transfer()) and math.isnan(results.forgetting())


def test_figures_do_not_change_the_matrix():
    results = docstring_example()
    before = results.values.copy()
    results.summary()
    results.plot(relative=True)
    assert np.array_equal(results.values, before)


def test_one_person_and_nobody():
    results = ResultMatrix(["a"])
    assert all(math.isnan(value) for value in results.summary().values())
    results["start", "a"], results["start", GENERIC] = 0.2, 0.5
    assert results.final_row() == -1 and math.isnan(results.plasticity()) and math.isnan(results.generic_drop())
    results["a", "a"] = 0.6
    assert results.plasticity() == pytest.approx(0.4) and results.average() == 0.6
    assert math.isnan(results.backward_transfer()) and math.isnan(results.forward_transfer())
    assert math.isnan(results.forgetting()) and math.isnan(results.generic_drop())


def test_a_sequence_that_goes_on_counts_the_people_learnt_so_far():
    results = docstring_example()
    results.values[2] = NAN  # c is not learnt yet
    results["b", "b"] = 0.75
    assert results.final_row() == 1
    assert results.plasticity() == pytest.approx((0.30 + 0.35) / 2)
    assert results.backward_transfer() == pytest.approx(-0.1) and results.generic_drop() == pytest.approx(0.05)
    whole = docstring_example()
    for name in FIGURES:
        assert whole.per_person(after="b")[name] == pytest.approx(results.per_person()[name], nan_ok=True)
    assert whole.summary(after=1) == pytest.approx(results.summary())
    assert math.isnan(whole.summary(after=START)["plasticity"]) and whole.generic_drop(after=-1) == 0


def test_per_person_values_are_what_the_means_are_of():
    results = docstring_example()
    values = results.per_person()
    assert list(values) == list(FIGURES)
    assert values["plasticity"] == pytest.approx([0.3, 0.35, 0.25])
    assert values["backward_transfer"] == pytest.approx([-0.15, -0.05, NAN], nan_ok=True)
    assert values["forward_transfer"] == pytest.approx([NAN, 0.02, 0.0], nan_ok=True)


def test_people_go_by_name_or_number():
    results = docstring_example()
    assert results[-1, 0] == results[START, "a"] == 0.5
    assert results[2, 1] == results["c", "b"] == 0.7
    assert results["b", GENERIC] == 0.5
    for key, message in (((3, 0), "-1 \\(start\\) to 2, got 3"), ((0, -1), "0 to 2"), ((-2, 0), "got -2")):
        with pytest.raises(IndexError, match=message):
            results[key]
    with pytest.raises(KeyError, match="no person 'd'"):
        results["d", 0]
    with pytest.raises(ValueError, match="NaN where it is undefined, got inf"):
        results[0, 0] = math.inf


@pytest.mark.parametrize(("people", "named"), [([], "none"), (["a", "b", "a"], "a"), (["a", "start"], "a, start")])
def test_names_must_differ(people, named):
    with pytest.raises(ValueError, match=f"got {named}$"):
        ResultMatrix(people)


def test_a_file_gives_the_same_matrix(tmp_path):
    results = docstring_example()
    results["a", "c"] = NAN
    results.save(tmp_path / "r.json")
    document = json.loads((tmp_path / "r.json").read_text())
    assert document["rows"]["a"] == [0.8, 0.42, None, 0.53] and document["columns"] == ["a", "b", "c", GENERIC]
    loaded = ResultMatrix.load(tmp_path / "r.json")
    assert np.array_equal(loaded.values, results.values, equal_nan=True)
    assert loaded.people == results.people and loaded.score == "icc"
    (tmp_path / "other.json").write_text('{"people": ["a"]}')
    with pytest.raises(ValueError, match=r"score is missing"):
        ResultMatrix.load(tmp_path / "other.json")
    document["rows"]["a"].pop()
    (tmp_path / "short.json").write_text(json.dumps(document))
    with pytest.raises(ValueError, match=r"rows of 4 scores, got \[3, 4\]"):
        ResultMatrix.load(tmp_path / "short.json")


@pytest.mark.parametrize("relative", [False, True])
def test_the_heat_map_has_start_on_top_and_generic_on_the_right(tmp_path, relative):
    results = docstring_example()
    results["a", "c"] = NAN
    figure = results.plot(tmp_path / "r.png", relative)
    assert (tmp_path / "r.png").read_bytes()[:4] == b"\x89PNG"
    axes = figure.axes[0]
    shown = axes.images[0].get_array()
    assert [label.get_text() for label in axes.get_yticklabels()] == [START, "a", "b", "c"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b", "c", GENERIC]
    assert shown[1, 0] == pytest.approx(0.3 if relative else 0.8) and shown.mask[1, 2] and shown.mask.sum() == 1
    assert ResultMatrix(["a"]).plot(relative=relative) is not None, "empty"
