"""``photo:DIR``: a folder of photographs as people of the renderer."""

import csv
from functools import lru_cache

import pytest
import torch
from PIL import Image

from lit_faces import render
from lit_faces.core.facs import AU_INDEX, NUM_AUS
from lit_faces.core.labelled import read_labelled
from lit_faces.rendering.renderer import FaceRenderer


@lru_cache(maxsize=1)
def camera():
    return FaceRenderer(160, seed=71)


def save(path, subject, **levels):
    """A photograph: a rendered face with space around it."""
    au = torch.zeros(1, NUM_AUS)
    for name, level in levels.items():
        au[0, AU_INDEX[int(name[2:])]] = level
    who = torch.tensor([subject])
    face = camera().render(who, 0 * who, 0 * who, au, torch.zeros(1, 3)).image.float()
    wide = torch.nn.functional.pad(face, (40, 40, 40, 40), mode="replicate")[0].to(torch.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(wide.permute(1, 2, 0).contiguous().numpy()).save(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """anna.png, and ben with a photo that smiles; a table that says more of both is written by a test."""
    where = tmp_path_factory.mktemp("people")
    save(where / "anna.png", 1)
    save(where / "ben" / "a.png", 2)
    save(where / "ben" / "smile.png", 2, AU12=4.5, AU6=4.0, AU25=3.0)
    (where / "notes.txt").write_text("no photograph")
    return where


@pytest.fixture(scope="module")
def renderer(folder):
    return FaceRenderer(64, seed=3, head=f"photo:{folder}")


def test_people_are_files_and_folders_and_smiles_are_left_out(renderer):
    people = renderer.head.people
    assert [person.name for person in people] == ["anna", "ben"]
    assert [portrait.path.name for portrait in people[1].portraits] == ["a.png"]


def test_pictures_have_exact_labels_and_do_not_depend_on_the_batch(renderer):
    who, frame = torch.tensor([0, 1, 2]), torch.tensor([5, 6, 7])
    asked = torch.full((3, NUM_AUS), float("nan"))
    asked[:, AU_INDEX[12]] = 3.0
    faces = renderer.render(who, frame, au=asked)
    assert faces.subject == ["photo:anna", "photo:ben", "photo:anna"] and set(faces.source) == {"rendered/photo"}
    assert (faces.au_intensity[:, AU_INDEX[12]] == 3.0).all() and faces.au_intensity.isfinite().all()
    assert faces.image.shape == (3, 3, 64, 64) and faces.landmarks.isfinite().all()
    alone = renderer.render(who[1:2], frame[1:2], au=asked[1:2])
    assert torch.equal(alone.image[0], faces.image[1]) and torch.equal(alone.landmarks[0], faces.landmarks[1])
    assert not torch.equal(faces.image[0], faces.image[2])  # the same person in another picture


def test_scenes_differ_and_a_scene_stays(renderer):
    who, still, pose = torch.zeros(3, dtype=torch.int64), torch.zeros(3, NUM_AUS), torch.zeros(3, 3)
    image = renderer.render(who, who, torch.tensor([1, 1, 2]), still, pose).image.float()
    assert torch.equal(image[0], image[1])
    assert (image[0] - image[2]).abs().mean() > 3


def test_turns_beyond_what_the_photo_shows_are_held_and_labelled_as_drawn(renderer):
    far = torch.tensor([[60.0, 0.0, 0.0]])
    made = renderer.render(torch.tensor([0]), torch.tensor([0]), au=torch.zeros(1, NUM_AUS), pose=far)
    own = renderer.head.people[0].portraits[0].face.pose
    assert made.pose[0, 0] == pytest.approx(float(own[0]) + 25.0, abs=1e-3)


def test_people_of_another_split_are_other_people(renderer):
    with pytest.raises(ValueError, match="are one split; person 1000000 is asked of another"):
        renderer.render(torch.tensor([1_000_000]), torch.tensor([0]))


def test_the_command_writes_a_set_with_its_people(tmp_path, folder, capsys):
    where = tmp_path / "photos"
    for name, subject in (("a.png", "anna"), ("b.png", "ben")):
        where.mkdir(exist_ok=True)
        (where / name).write_bytes((folder / ("anna.png" if subject == "anna" else "ben/smile.png")).read_bytes())
    rows = [["file", "subject", "emotion", "fold", "au12", "au6", "au25"]]
    rows += [["a.png", "anna", "neutral", "0", "", "", ""], ["b.png", "ben", "happiness", "2", "4.5", "4", "3"]]
    (where / "labels.csv").write_text("\n".join(",".join(row) for row in rows) + "\n")
    words = ["set", "--head", f"photo:{where}", "--n", "4", "--frames-per-subject", "2", "--size", "64"]
    assert render.main([*words, "--out", str(tmp_path / "set")]) == 0
    made = read_labelled(tmp_path / "set", 64)
    assert len(made) == 4 and made.subject == ["photo:anna", "photo:anna", "photo:ben", "photo:ben"]
    with (tmp_path / "set" / "people.csv").open() as handle:
        people = list(csv.DictReader(handle))
    assert [(row["subject"], row["photographs"], row["fold"]) for row in people] == [
        ("photo:anna", "a.png", "0"), ("photo:ben", "b.png", "2")
    ]  # fmt: skip
    (where / "labels.csv").write_text("\n".join(",".join(row) for row in rows[:2]) + "\n")
    assert render.main([*words, "--out", str(tmp_path / "set")]) == 2  # other people: another set
    assert "begun with head" in capsys.readouterr().err


def test_a_folder_without_a_face_and_no_folder_are_said(tmp_path, capsys):
    Image.new("RGB", (200, 200), (120, 120, 120)).save(tmp_path / "wall.png")
    for head, message in (
        (f"photo:{tmp_path}", "no photograph can be used; "),
        (f"photo:{tmp_path / 'gone'}", "no such folder"),
        (f"photo:{tmp_path / 'wall.png'}", "not a folder"),
        ("photo:", "unknown head"),
        ("foto:x", "'photo:PATH' (a folder of photographs"),
    ):
        assert render.main(["set", "--head", head, "--n", "1", "--out", str(tmp_path / "out")]) == 2
        assert message in capsys.readouterr().err
