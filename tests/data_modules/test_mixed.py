"""Renders, folders and photographs in one batch."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from data_modules.mixed import FolderShare, MixedFaces
from data_modules.rendered import RenderedFaces
from data_modules.smiles import Smiles
from lit_faces.core.facs import AU_INDEX
from lit_faces.core.orders import OrderedFaces
from tests.data_modules.test_rendered import FakeRenderer
from tests.fake import faces_ccby
from tests.fake.faces import save

RENDERER = f"{FakeRenderer.__module__}.{FakeRenderer.__qualname__}"


def rendered(**options) -> RenderedFaces:
    asked = {"train_subjects": 6, "val_subjects": 2, "test_subjects": 1, "frames": 2, "eval_frames": 2, "batch_size": 4}
    return RenderedFaces(mode="frames", size=64, renderer=RENDERER, **{**asked, **options})


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("faces_ccby")
    faces_ccby.write(root)
    return str(root)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("drawn")
    lines = ["file,subject,fold,au6,au7,emotion"]
    for number in range(5):
        save(root / f"{number}.png", torch.full((96, 96, 3), 40 * number, dtype=torch.uint8).numpy())
        lines.append(f"{number}.png,p{number},{number % 3},{number},1,neutral")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root


def module(photographs: str, drawn: Path, **options) -> MixedFaces:
    folder = FolderShare(str(drawn), faces=3, masked_aus=[7])
    mixed = MixedFaces(rendered(), [folder], Smiles(photographs, neutrals=2, pairs=1), **options)
    mixed.prepare_data()
    mixed.setup("fit")
    return mixed


def test_a_batch_holds_all_three_and_orders_count_its_rows(photographs: str, drawn: Path) -> None:
    batches = list(module(photographs, drawn).train_dataloader())
    assert len(batches) == 3
    for batch in batches:
        assert isinstance(batch, OrderedFaces) and len(batch) == 2 + 2 + 3 + 4
        faces, orders = batch.faces, batch.orders
        assert faces.source == ["photograph"] * 4 + ["labelled"] * 3 + ["rendered"] * 4
        assert faces.subject[orders.lower[0]] == faces.subject[orders.higher[0]]
        assert faces.au_intensity[4:7, AU_INDEX[6]].isfinite().all()
        assert faces.au_intensity[4:7, AU_INDEX[7]].isnan().all(), "masked"
    rows = [name for batch in batches for name in batch.faces.subject[7:]]
    assert len(set(rows)) == 6, "every rendered person comes"


def test_the_same_seed_gives_the_same_stream_and_another_epoch_another(photographs: str, drawn: Path) -> None:
    one, two = module(photographs, drawn), module(photographs, drawn)
    for a, b in zip(one.train_dataloader(), two.train_dataloader()):
        assert torch.equal(a.faces.image, b.faces.image)
    assert one.train_set is not None
    now, later = one.train_set.__getitems__([0, 1]), one.train_set.__getitems__([12, 13])
    assert torch.equal(now.faces.image[-2:], later.faces.image[-2:])
    assert not torch.equal(now.faces.image[:-2], later.faces.image[:-2])


def test_a_fold_is_left_out_of_photographs_and_folders(photographs: str, drawn: Path) -> None:
    mixed = module(photographs, drawn, held_out_part=1)
    seen = {name for index in range(40) for name in mixed.train_set.__getitems__([index]).faces.subject}
    assert {"london:001", "canada:095m", "p1", "p2", "p4"} <= seen
    assert not seen & {"london:025", "canada:003f", "p0", "p3"}


def test_a_folder_without_folds_cannot_leave_one_out(photographs: str, drawn: Path, tmp_path: Path) -> None:
    save(tmp_path / "1.png", torch.zeros(96, 96, 3, dtype=torch.uint8).numpy())
    (tmp_path / "labels.csv").write_text("file,au6\n1.png,2\n")
    with pytest.raises(ValueError, match=r"no fold of '' in labels\.csv or people\.csv"):
        FolderShare(str(tmp_path)).read(64, without_fold=1)


def test_folds_of_people_stand_beside_the_labels(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / f"{number}.png", torch.zeros(96, 96, 3, dtype=torch.uint8).numpy())
    rows = "".join(f"{number}.png,photo:p{number},2\n" for number in range(3))
    (tmp_path / "labels.csv").write_text(f"file,subject,au6\n{rows}")
    (tmp_path / "people.csv").write_text("subject,age,fold\np0,20,0\np1,30,1\np2,40,1\n")
    assert FolderShare(str(tmp_path)).read(64, without_fold=1).subject == ["photo:p0"]
    assert len(FolderShare(str(tmp_path)).read(64)) == 3
    assert len(FolderShare(str(tmp_path), invented=True).read(64, without_fold=1)) == 3  # of people who do not exist


def test_people_are_chosen_and_tested_on_renders_alone(photographs: str, drawn: Path) -> None:
    mixed = module(photographs, drawn)
    assert {name for batch in mixed.val_dataloader() for name in batch.source} == {"rendered"}
    mixed.trainer = SimpleNamespace(global_rank=0, world_size=1, state=SimpleNamespace(fn=None), is_global_zero=True)
    mixed.setup("test")
    assert len(mixed.test_dataloader()) == 1


def test_pairs_of_renders_are_refused() -> None:
    with pytest.raises(ValueError, match="mode 'frames'"):
        MixedFaces(RenderedFaces(mode="pairs"))
    with pytest.raises(ValueError, match="held_out_part: expected 1, 2, 3 or null, got 0"):
        MixedFaces(rendered(), held_out_part=0)


def test_the_card_will_say_what_was_seen(photographs: str, drawn: Path) -> None:
    renders, crops, people, fold = module(photographs, drawn, held_out_part=1).seen()
    assert renders["what"] == "rendered faces" and (renders["faces"], renders["people"]) == (12, 6)
    assert crops == {"what": "labelled crops", "faces": 3, "people": 3}
    assert (people["faces"], people["people"], people["set"]) == (3, 2, "faces_ccby")
    assert "CC BY 4.0" in people["licence"] and fold == {"what": "fold left out", "fold": 0}
