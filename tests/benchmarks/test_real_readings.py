"""Who reads whom: nobody is read by a detector, or zeroed with slopes, that has seen them."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks.open_faces import OpenFaces
from benchmarks.real import BEGIN, END, between_marks, read_by, table_of, with_own_zero
from data_modules.portraits import Portrait
from lit_faces.core.facs import AU_INDEX, NUM_AUS
from lit_faces.models.detector import Reading
from lit_faces.models.warping import canonical_face


class Constant:
    """A detector that reads one grade everywhere."""

    def __init__(self, grade: float) -> None:
        self.grade = grade

    def predict(self, images: torch.Tensor) -> Reading:
        return Reading(torch.full((len(images), NUM_AUS), self.grade), None, torch.eye(8)[[1] * len(images)])

    def occurs(self, reading: Reading) -> torch.Tensor:
        return (reading.intensity >= 2).float()


def faces(people: int = 12) -> OpenFaces:
    portraits = [
        Portrait(Path(f"p{n}_{emotion}.jpg"), f"london:{n:03d}", emotion, gender="male", fold=n % 3)
        for n in range(people)
        for emotion in ("neutral", "happiness")
    ]
    count = len(portraits)
    marks = (32 + 20 * canonical_face()).expand(count, -1, -1)
    return OpenFaces(portraits, torch.zeros(count, 3, 64, 64, dtype=torch.uint8), marks, [])


def test_each_person_is_read_by_the_detector_of_their_fold() -> None:
    found = faces()
    folds = np.array([one.fold for one in found.portraits])
    ours = read_by([Constant(1.0), Constant(2.0), Constant(3.0)], folds, found.image)
    assert (ours.grade[:, 0] == folds + 1).all() and (ours.present[:, 0] == (folds > 0)).all()
    assert set(ours.named) == {"happiness"}
    assert (read_by([Constant(4.0)], folds, found.image).grade == 4.0).all()


def test_the_own_zero_takes_off_what_both_photos_share() -> None:
    found = faces(24)
    folds = np.array([one.fold for one in found.portraits])
    own = np.repeat(np.random.default_rng(0).uniform(0, 3, 24), 2)
    grade = np.zeros((len(own), NUM_AUS))
    grade[:, AU_INDEX[4]] = own  # the same in both photos: all of it is the person
    table = table_of(found, SimpleNamespace(grade=grade, present=grade, named=[]))
    zeroed = with_own_zero(table, found, folds)
    assert np.abs(zeroed.grade).max() < 0.05
    grade = grade.copy()
    grade[1::2, AU_INDEX[4]] = np.random.default_rng(1).permutation(own[1::2])  # one photo says nothing of the other
    table = table_of(found, SimpleNamespace(grade=grade, present=grade, named=[]))
    left = with_own_zero(table, found, folds).grade[1::2, AU_INDEX[4]]
    assert left.mean() > 0.6 * own.mean()


def test_a_page_is_brought_up_to_date_between_its_marks() -> None:
    text = f"# Results\n{BEGIN}\nold\n{END}\n## Rendered\n"
    once = between_marks(text, "new\n")
    assert "old" not in once and once.startswith("# Results\n") and once.endswith("## Rendered\n")
    assert between_marks(once, "new\n") == once
    with pytest.raises(ValueError, match="real: begin"):
        between_marks("# Results\n", "new")
