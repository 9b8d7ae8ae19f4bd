"""The figures on real people, on made-up tables whose answers are known."""

import math

import numpy as np
import pytest

from benchmarks.outside import OutsideTable
from benchmarks.real_figures import (
    RealTable,
    auc_of_smiles,
    cheek_beside_smile,
    clip_agreement,
    column,
    confusion,
    false_at_rest,
    groups,
    order_within,
    partial_r,
    pearson,
    residual,
    shift,
)
from benchmarks.real_report import OPENFACE, OURS, ZEROED, figures_of, markdown
from lit_faces.core.facs import AU_INDEX, AU_KEYS, NUM_AUS

PEOPLE = 20
AU6, AU12, AU4 = AU_INDEX[6], AU_INDEX[12], AU_INDEX[4]


def table(rest: dict[int, np.ndarray] | None = None, smile: dict[int, np.ndarray] | None = None) -> RealTable:
    """Twenty people at rest, then smiling; readings by AU number, 0 elsewhere."""
    grade = np.zeros((2 * PEOPLE, NUM_AUS))
    for rows, given in ((slice(0, PEOPLE), rest), (slice(PEOPLE, None), smile)):
        for au, values in (given or {}).items():
            grade[rows, AU_INDEX[au]] = values
    who = np.arange(PEOPLE)
    neutral = np.arange(2 * PEOPLE) < PEOPLE
    return RealTable(
        subject=np.array([f"p{number:02d}" for number in [*who, *who]]),
        neutral=neutral,
        strong=~neutral & np.tile(who % 2 == 0, 2),
        parted=~neutral & np.tile(who % 4 == 0, 2),
        gender=np.tile(np.where(who < 8, "male", "female"), 2),
        ethnicity=np.tile(np.where(who < 5, "black", ""), 2),
        age=np.tile(np.where(who < 10, 20.0, 40.0), 2),
        grade=grade,
        score=grade,
        present=(grade >= 2).astype(float),
    )


def steps(first: float, last: float) -> np.ndarray:
    return np.linspace(first, last, PEOPLE)


def test_false_readings_are_counted_by_group() -> None:
    wrong = np.where(np.arange(PEOPLE) < 6, 1.5, 0.99)
    made = table(rest={4: wrong}, smile={4: np.full(PEOPLE, 5.0)})
    by_group = {name: false_at_rest(made, rows, resamples=200) for name, rows in groups(made)}
    counted = {name: (int(counts[AU4]), people) for name, (counts, people, _) in by_group.items()}
    assert counted == {
        "all": (6, 20), "female": (0, 12), "male": (6, 8), "black": (5, 5), "below 25": (6, 10), "25 to 34": (0, 0),
        "35 and above": (0, 10),
    }  # fmt: skip
    share = column(by_group["all"][2], "AU04")
    assert share.estimate == pytest.approx(0.3) and 0.05 < share.low < 0.3 < share.high < 0.55
    assert false_at_rest(made, np.ones(40, bool), present=True, resamples=50)[0].sum() == 0


def test_an_au_that_a_reader_has_not_is_never_false() -> None:
    made = table(rest={4: np.full(PEOPLE, np.nan)})
    counts, _, share = false_at_rest(made, np.ones(40, bool), resamples=50)
    assert counts[AU4] == 0 and math.isnan(column(share, "AU04").estimate)


def test_auc_and_order_are_different_questions() -> None:
    """Every smile is above its own rest, and hardly any above all others' rest."""
    rest = steps(0.0, 3.0)
    made = table(rest={12: rest}, smile={12: rest + 0.1})
    counts, people, share = order_within(made, resamples=100)
    assert (counts[AU12], people) == (20, 20) and column(share, "AU12").estimate == 1.0
    auc = column(auc_of_smiles(made, resamples=200), "AU12")
    wins = np.mean([[b > a for a in rest] for b in rest + 0.1])
    assert auc.estimate == pytest.approx(wins) and auc.low < 0.65
    assert counts[AU4] == 10 and column(auc_of_smiles(made, resamples=50), "AU04").estimate == 0.5


def test_auc_of_a_part_of_the_smiles_and_people() -> None:
    smile = np.where(np.arange(PEOPLE) % 4 == 0, 3.0, -1.0)  # parted ones only
    made = table(smile={25: smile})
    assert column(auc_of_smiles(made, smiles=made.parted, resamples=50), "AU25").estimate == 1.0
    assert column(auc_of_smiles(made, resamples=50), "AU25").estimate == pytest.approx(0.25)
    men = auc_of_smiles(made, made.gender == "male", resamples=50)
    assert column(men, "AU25").estimate == pytest.approx(0.25)


def test_shift_between_the_two_photos() -> None:
    rest = steps(1.0, 2.0)
    found = shift(table(rest={4: rest}, smile={4: rest - 0.5}), resamples=100)
    assert column(found["mean"], "AU04").estimate == pytest.approx(-0.5)
    assert column(found["size"], "AU04").estimate == pytest.approx(0.5)
    assert column(found["r"], "AU04").estimate == pytest.approx(1.0)
    assert math.isnan(column(found["r"], "AU09").estimate)


def test_partial_correlation_takes_out_what_is_common() -> None:
    chance = np.random.default_rng(0)
    common, cheek = chance.normal(size=(2, 5000))
    one, other = common + 0.5 * cheek, 2 * common + 0.5 * cheek
    only = common + 0.0 * cheek
    assert pearson(one, other) > 0.9
    assert partial_r(one, other, common[:, None]) == pytest.approx(1.0)
    noise = chance.normal(size=5000)
    assert abs(partial_r(only + 0.3 * noise, other, common[:, None])) < 0.05
    assert abs(np.dot(residual(one, common[:, None]), common)) < 1e-6
    assert math.isnan(partial_r(one[:4], other[:4], common[:4, None]))


def test_a_second_name_of_au12_is_found_out() -> None:
    chance = np.random.default_rng(1)
    smile, cheek = chance.normal(2.0, 0.5, PEOPLE), chance.normal(1.0, 0.5, PEOPLE)
    honest = table(smile={12: smile, 6: cheek + 0.3 * smile})
    echo = table(smile={12: smile, 6: smile})
    outside = table(smile={12: smile, 6: cheek + 0.5 * smile + 1e-3 * chance.normal(size=PEOPLE)})
    other = table(smile={12: smile + 0.1 * chance.normal(size=PEOPLE)})
    found = cheek_beside_smile(honest, outside, other, resamples=100)
    assert found["partial_r"].estimate > 0.99
    false = cheek_beside_smile(echo, outside, other, resamples=100)
    assert not abs(false["partial_r"].estimate) > 0.3  # NaN: nothing of it is left
    assert false["auc"].estimate == pytest.approx(0.5, abs=0.2) and found["auc"].estimate != false["auc"].estimate


def test_only_what_moves_in_a_clip_is_compared() -> None:
    time = np.linspace(0, 6.3, 120)
    reference = np.stack([np.sin(time), 0.1 * np.sin(time), np.sin(time)], 1)
    ours = np.stack([2 * np.sin(time) + 1, np.sin(time), -np.sin(time)], 1)
    found, moves = clip_agreement(ours, reference, reference.clip(0, 5), resamples=50)
    np.testing.assert_allclose(found.estimate, [1.0, 1.0, -1.0])
    assert moves.tolist() == [True, False, True]


def test_the_confusion_of_expressions() -> None:
    named = ["neutral"] * 15 + ["anger"] * 5 + ["happiness", "contempt"] * 10
    counts = confusion(named, table())
    assert counts == {
        "neutral": {"neutral": 15, "anger": 5},
        "smile": {"contempt": 10, "happiness": 10},
        "strong smile": {"happiness": 10},
    }


def test_outside_tables_by_file_and_frame(tmp_path) -> None:
    path = tmp_path / "readers.csv"
    path.write_text(
        "file,of_AU12,of_AU12_raw,of_AU45,of_AU45_raw,mp_AU12,mp_AU06,mp_cheek_log\n"
        "/x/images/l001_neutral.jpg,0.0,-0.4,5.2,5.2,0.1,0.000001,-13.8\n/x/clip.mp4#0,nan,nan,nan,nan,nan,nan,nan\n"
    )
    found = OutsideTable.read([path])
    names = ["l001_neutral.jpg", "clip.mp4#0", "nobody.jpg"]
    openface, mediapipe = found.openface(names), found.mediapipe(names)
    assert openface.score[0, AU12] == -0.4 and openface.grade[0, AU12] == 0.0
    assert openface.grade[0, AU_INDEX[43]] == 5.0 and np.isnan(openface.grade[0, AU_INDEX[24]])
    assert mediapipe.grade[0, AU12] == 0.5 and mediapipe.score[0, AU6] == -13.8 and np.isnan(mediapipe.grade[0, AU6])
    assert np.isnan(openface.grade[1:]).all() and found.frames("clip.mp4") == 1
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"other\.csv: expected a table of readers"):
        OutsideTable.read([tmp_path / "other.csv"])


def test_the_page_says_what_is_met() -> None:
    perfect = table(smile={12: steps(2.6, 3.4), 6: steps(1.0, 2.0), 25: np.where(np.arange(PEOPLE) % 4 == 0, 2.0, 0.0)})
    bad = table(rest={4: np.full(PEOPLE, 2.0)}, smile={4: np.full(PEOPLE, 2.0), 12: steps(0.0, 1.0)})
    about = {"run/people": 20, "run/pictures": 40, "run/lost": 0, "run/resamples": 20, "run/detector": "x",
             "run/fold_detectors": []}  # fmt: skip

    def page(ours: RealTable) -> tuple[dict, str]:
        readers = {OURS: ours, ZEROED: ours, "MediaPipe": perfect, OPENFACE: perfect}
        names = ["neutral"] * PEOPLE + ["happiness"] * PEOPLE
        figures = figures_of(readers, names, 20) | about
        return figures, markdown(figures)

    figures, text = page(perfect)
    assert figures["ours/auc/AU12"]["value"] == 1.0 and figures["ours/false/AU04/all"]["count"] == 0
    assert "| AUC AU12 ≥ 0.975 | 1.000 (1.000 to 1.000) | met |" in text
    assert "nowhere more | met |" in text and "20 of 20" in text
    figures, text = page(bad)
    assert figures["ours/false/AU04/male"]["count"] == 8
    assert "AU04 all 20 of 20" in text and "| AU04 | 100 % | 100 % |" in text
    assert "AU04 20 | **not met** |" in text
    assert text.count(" | ") > 100 and all(key in text for key in AU_KEYS)
