"""Photographs at rest and smiling as training data: what is certain is a label, the rest is not coded."""

from pathlib import Path

import numpy as np
import pytest
import torch

from data_modules.backdrops import backdrops, person_mask, swap_backdrops
from data_modules.portraits import Portrait
from data_modules.smiles import STAY, Smiles, SmilingPeople, certain_labels, known_of
from lit_faces.core.facs import AU_INDEX, AUS, EMOTION_INDEX, index_of
from tests.conftest import make_faces
from tests.fake import faces_ccby

MASKED = [6, 7, 10, 12, 14, 20, 23, 24, 26]


def portrait(emotion: str, parted: bool | None = False, smile: float = 0.0) -> Portrait:
    return Portrait(Path("x.jpg"), "london:001", emotion, lips_parted=parted, mp_smile=smile)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("faces_ccby")
    faces_ccby.write(root)
    return root


@pytest.fixture(scope="module")
def everybody(folder: Path) -> SmilingPeople:
    return SmilingPeople(Smiles(str(folder), neutrals=5, pairs=2), 64)


def test_a_neutral_is_nothing_at_all() -> None:
    assert certain_labels(portrait("neutral")).eq(0).all()
    parted = certain_labels(portrait("neutral", parted=True))
    assert [AUS[i] for i in parted.isnan().nonzero().flatten().tolist()] == [25, 26]


def test_a_smile_has_no_grade_of_what_it_moves() -> None:
    grades = certain_labels(portrait("happiness", smile=0.9))
    assert grades[index_of(STAY)].eq(0).all() and grades[AU_INDEX[25]] == 0
    assert grades[index_of(MASKED)].isnan().all()
    assert len(STAY) + len(MASKED) + 1 == len(AUS), "every AU has its place"
    for parted in (True, None):
        assert certain_labels(portrait("happiness", parted=parted))[AU_INDEX[25]].isnan()


def test_what_is_known_of_two_photographs_beside_each_other() -> None:
    settings = Smiles("x", strong=(2.5, 3.5), weak=(1.0, 2.0), cheeks=(0.5, 3.0), parted=1.5)
    least, most = known_of(portrait("neutral"), portrait("happiness", True, 0.8), settings)
    expected = {12: (2.5, 3.5), 6: (0.5, 3.0), 25: (1.5, 5.0)}
    assert {n: (float(least[AU_INDEX[n]]), float(most[AU_INDEX[n]])) for n in expected} == expected
    assert int(least.isfinite().sum()) == 3 == int(most.isfinite().sum())
    weak = known_of(portrait("neutral", True), portrait("happiness", True, 0.3), settings)[0]
    assert weak[AU_INDEX[12]] == 1.0 and int(weak.isfinite().sum()) == 1  # lips were parted before
    alone, most = known_of(portrait("neutral"), portrait("happiness", False, 0.8), Smiles("x", cheeks=None))
    assert alone[AU_INDEX[6]].isnan()
    assert alone[AU_INDEX[25]] == 0 and most[AU_INDEX[25]] < 1, "lips that stay together"


def test_photographs_become_labelled_crops(everybody: SmilingPeople) -> None:
    faces = everybody.faces
    assert len(everybody) == 6 and faces.image.shape == (6, 3, 64, 64)
    assert faces.subject == ["canada:003f", "canada:095m", "london:001", "london:001", "london:025", "london:025"]
    assert faces.emotion.tolist() == [EMOTION_INDEX[e] for e in ["neutral"] * 3 + ["happiness", "neutral", "happiness"]]
    strong, weak = faces.au_occurrence[3], faces.au_occurrence[5]
    assert strong[AU_INDEX[12]] == 1 and strong[AU_INDEX[25]] == 1 and strong[AU_INDEX[1]] == 0
    assert weak[AU_INDEX[12]].isnan() and weak[AU_INDEX[25]] == 0


def test_a_draw_orders_each_smile_above_the_rest_of_its_person(everybody: SmilingPeople) -> None:
    batch = everybody.draw(generator())
    faces, orders = batch.faces, batch.orders
    assert len(faces) == 2 * 2 + 5 and len(orders) == 2
    for low, high in zip(orders.lower.tolist(), orders.higher.tolist()):
        assert faces.subject[low] == faces.subject[high]
        assert (faces.emotion[low], faces.emotion[high]) == (EMOTION_INDEX["neutral"], EMOTION_INDEX["happiness"])
        assert faces.au_intensity[low].nan_to_num(0).eq(0).all()
    assert orders.least[:, AU_INDEX[12]].sort().values.tolist() == pytest.approx([0.9, 2.2])
    assert faces.emotion[4:].eq(EMOTION_INDEX["neutral"]).all()
    assert len(set(faces.subject[4:8])) == 4, "nobody twice before all"
    assert torch.equal(faces.image, everybody.draw(generator()).faces.image)


def test_nobody_of_the_fold_that_is_left_out_is_seen(folder: Path, everybody: SmilingPeople) -> None:
    kept = SmilingPeople(Smiles(str(folder), swap=False), 64, without_fold=0)
    assert set(kept.faces.subject) == {"london:001", "canada:095m"} and len(kept.both) == 1
    with pytest.raises(ValueError, match=r"nobody of .* is in fold 7"):
        SmilingPeople(Smiles(str(folder)), 64, without_fold=7)


def test_a_set_without_smiles_gives_resting_faces_alone(folder: Path) -> None:
    people = SmilingPeople(Smiles(str(folder), neutrals=3, pairs=0, swap=False), 64)
    batch = people.draw(generator())
    assert len(batch.faces) == 3 and len(batch.orders) == 0


@pytest.mark.parametrize("reader", ["disfa", "os.path", "rendered"])
def test_readers_without_portraits_are_refused(reader: str) -> None:
    with pytest.raises(ValueError, match="gives no portraits"):
        SmilingPeople(Smiles("x", reader=reader), 64)


@pytest.mark.parametrize("options", [{"pairs": -1}, {"strong": (3.0, 2.0)}, {"cheeks": (1.0, 6.0)}])
def test_settings_that_cannot_be_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        Smiles("x", **options)


def test_the_backdrop_is_swapped_and_the_face_stays(everybody: SmilingPeople) -> None:
    faces, whole = everybody.faces, torch.ones(6, 1, 64, 64)
    assert torch.equal(swap_backdrops(faces, whole, generator()), faces.image)
    mask = whole.clone()
    mask[..., :20] = 0
    swapped = swap_backdrops(faces, mask, generator(1))
    assert torch.equal(swapped[..., 20:], faces.image[..., 20:])
    changed = (swapped[..., :20] != faces.image[..., :20]).flatten(1).any(1)
    assert int(changed.sum()) > 0, "most get another backdrop"


def test_the_person_is_found_before_a_plain_backdrop() -> None:
    faces = make_faces(1, 0, size=128)
    y, x = torch.meshgrid(torch.arange(128), torch.arange(128), indexing="ij")
    person = ((((x - 63.5) / 52) ** 2 + ((y - 50.0) / 80) ** 2) < 1).numpy()  # the top of a head is outside
    grain = torch.randint(-6, 7, (128, 128, 3), generator=generator()).numpy()
    picture = (np.where(person[..., None], (150, 95, 70), 215) + grain).astype(np.uint8)
    mask = person_mask(picture, faces.landmarks[0].numpy())
    assert ((mask > 0.5) == person).mean() > 0.97 and mask.min() >= 0 and mask.max() <= 1


def test_backdrops_differ_and_can_be_pictures_out_of_focus() -> None:
    plain = backdrops(6, 48, generator())
    assert plain.shape == (6, 3, 48, 48) and plain.min() >= 0 and plain.max() <= 255
    assert plain.mean((1, 2, 3)).std() > 5
    behind = torch.zeros(6, 3, 48, 48, dtype=torch.uint8)
    assert (backdrops(6, 48, generator(), behind).flatten(1).max(1).values == 0).any()
