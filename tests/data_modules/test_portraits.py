"""Sets of posed photographs: what is known of each picture, and that nobody is two people."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from data_modules.faces_ccby import FacesCCBY
from data_modules.folds import PARTS, hold_out, part_of
from data_modules.london import London
from data_modules.portraits import by_person
from lit_faces.core.facs import AU_INDEX
from tests.fake import faces_ccby, london


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    roots = {name: tmp_path_factory.mktemp(name) for name in ("faces_ccby", "london")}
    faces_ccby.write(roots["faces_ccby"])
    london.write(roots["london"])
    return roots


@pytest.fixture
def ccby(originals, tmp_path: Path) -> Path:
    return Path(shutil.copytree(originals["faces_ccby"], tmp_path / "ccby"))


@pytest.fixture
def studio(originals, tmp_path: Path) -> Path:
    return Path(shutil.copytree(originals["london"], tmp_path / "london"))


def said(reader, file: str) -> list[tuple[int, str]]:
    return [(p.line, p.reason) for p in reader.problems if p.file == file]


def test_what_is_known_of_a_picture(ccby: Path) -> None:
    people = by_person(FacesCCBY(ccby).portraits())
    assert [person.subject for person in people] == ["canada:003f", "canada:095m", "london:001", "london:025"]
    first, second = people[2], people[3]
    assert first.smile is not None and first.neutral is not None and people[0].smile is None
    assert (first.smile.age, first.smile.gender, first.smile.ethnicity, first.smile.fold) == (24, "female", "white", 1)
    assert first.smile.lips_parted and not first.neutral.lips_parted
    assert first.smile.strong and not first.neutral.strong
    assert second.smile is not None and second.smile.mp_smile == 0.311 and not second.smile.strong
    assert people[0].any.ethnicity == "" and first.any.neutral


def test_the_same_person_has_one_name_and_one_part(ccby: Path, studio: Path) -> None:
    ours = {p.subject for p in FacesCCBY(ccby).portraits()}
    theirs = {p.subject for p in London(studio).portraits()}
    assert ours & theirs == {"london:001", "london:025"}
    for portrait in FacesCCBY(ccby).portraits():
        assert part_of(portrait.subject) == portrait.fold + 1
    split = hold_out(ours | theirs, part=2)
    assert {"london:001", "canada:095m"} <= split.test and "london:025" not in split.test


def test_a_resting_face_with_open_lips_says_nothing_of_au25(ccby: Path) -> None:
    clips = {clip.subject: clip for clip in FacesCCBY(ccby).clips()}
    assert clips["london:001"].au_intensity[0].max() == 0.0
    assert np.flatnonzero(np.isnan(clips["london:025"].au_intensity[0])).tolist() == [AU_INDEX[25]]
    for clip in FacesCCBY(ccby, neutral="uncoded").clips():
        assert np.isnan(clip.au_intensity).all() and (clip.emotion >= 0).all()


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("images/l001_neutral.jpg,l001,happy,24,female,white,0.008,0,1,0.010", "emotion: expected one of neutral, hap"),
        ("images/l001_neutral.jpg,l002,neutral,24,female,white,0.008,0,1,0.010", "file: expected images/l002_neutral"),
        ("images/l001_neutral.jpg,x1,neutral,24,female,white,0.008,0,1,0.010", "subject: expected one such as l001"),
        ("images/l001_neutral.jpg,l001,neutral,240,female,white,0.008,0,1,0.010", "age: expected 0..120 or nothing"),
        ("images/l001_neutral.jpg,l001,neutral,24,femme,white,0.008,0,1,0.010", "gender: expected one of female, male"),
        ("images/l001_neutral.jpg,l001,neutral,24,female,white,0.008,0,3,0.010", "fold: expected one of 0, 1, 2"),
        ("images/l001_neutral.jpg,l001,neutral,24,female,white,0.008,0,1,10", "mp_smile: expected 0..1 or nothing"),
        ("images/l001_neutral.jpg,l001,neutral,24,female,white,0.008,0,1", "expected 10 cells, found 9"),
        ("images/l001_neutral.jpg,l001,neutral,24,female,white,0.008,0,1,0.010", "london:001, neutral stands twice"),
    ],
)  # fmt: skip
def test_a_broken_line_is_named_and_the_others_are_read(ccby: Path, row: str, says: str) -> None:
    table = ccby / "labels.csv"
    table.write_text(table.read_text() + row + "\n")
    reader = FacesCCBY(ccby)
    assert len(reader.portraits()) == 6
    line, reason = said(reader, "labels.csv")[0]
    assert line == 8 and says in reason


def test_a_person_in_two_folds_is_told(ccby: Path) -> None:
    table = ccby / "labels.csv"
    table.write_text(table.read_text().replace("0.126,1,1,0.643", "0.126,1,2,0.643"))
    reader = FacesCCBY(ccby)
    reader.portraits()
    assert "london:001 is in two folds" in said(reader, "labels.csv")[0][1]


def test_hand_placed_points(ccby: Path, studio: Path) -> None:
    for reader, expected in ((FacesCCBY(ccby), faces_ccby.points()), (London(studio), london.points())):
        person = next(p for p in by_person(reader.portraits()) if p.subject == "london:001")
        assert person.neutral is not None and person.smile is not None
        np.testing.assert_allclose(reader.points(person.neutral), expected, atol=1e-3)
        assert np.isnan(reader.points(person.smile)).all()
    file = studio / "neutral_front/neutral_front/025_03.tem"
    file.write_text("\n".join(file.read_text().splitlines()[:150]))
    reader = London(studio)
    cut = next(p for p in reader.portraits() if p.path.stem == "025_03")
    assert np.isnan(reader.points(cut)).all()
    assert "189 lines" in said(reader, "neutral_front/neutral_front/025_03.tem")[0][1]


def test_the_london_set_tells_what_it_lacks(studio: Path) -> None:
    by_file = {p.path.stem: p for p in London(studio).portraits()}
    assert by_file["025_08"].ethnicity == "black" and np.isnan(by_file["140_03"].age)
    assert by_file["025_08"].lips_parted is None and by_file["025_08"].fold == -1
    (studio / "smiling_front/025_08.jpg").unlink()
    (studio / "london_faces_info.csv").write_text(london.INFO.replace("X140,NA", "X140,young"))
    reader = London(studio)
    assert len(reader.portraits()) == 5
    assert any("no picture of 025, who rests" in reason for _, reason in said(reader, "smiling_front"))
    assert said(reader, "london_faces_info.csv")[0][0] == 4
    shutil.rmtree(studio / "smiling_front")
    reader = London(studio)
    assert {p.emotion for p in reader.portraits()} == {"neutral"}
    assert said(reader, "smiling_front")[0][1].startswith("the folder is missing")


def test_the_layouts_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"labels\.csv"):
        FacesCCBY(tmp_path).clips()
    with pytest.raises(FileNotFoundError, match="neutral_front"):
        London(tmp_path).clips()


def test_the_real_open_faces_and_their_folds(shared_data: Path) -> None:
    reader = FacesCCBY(shared_data / "faces_ccby")
    portraits = reader.portraits()
    assert reader.problems == [] and len(portraits) == 122
    assert (
        sum(p.strong for p in portraits) == 30 and sum(not p.neutral and bool(p.lips_parted) for p in portraits) == 28
    )
    folds = {p.subject: p.fold for p in portraits}
    expected = {f"{name}:{who}" for name in ("london", "canada") for part in PARTS[name] for who in part}
    assert set(folds) == expected and all(part_of(subject) == fold + 1 for subject, fold in folds.items())
    first = next(p for p in portraits if p.neutral)
    assert np.isfinite(reader.points(first)).all()
