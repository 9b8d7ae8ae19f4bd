"""Photo heads as makers of a person's set: sizes, sources, refusals, and what is said of each picture."""

import io
import json
from dataclasses import replace

import pytest
import torch
from PIL import Image

from lit_faces.core.alignment import outer_eye_distance
from lit_faces.core.facs import AU_INDEX, NUM_AUS
from lit_faces.core.labelled import read_labelled
from lit_faces.core.landmarks import FaceAnalyser
from lit_faces.core.shards import ShardSet
from lit_faces.core.shipped import PHOTO_HEAD
from lit_faces.core.video import write_video
from lit_faces.fitting.landmark_model import LandmarkModel
from lit_faces.persons.generation import SetOptions
from lit_faces.persons.maker import SetMaker, Settings
from lit_faces.persons.painters import PhotoPainter, enlarged
from lit_faces.persons.plan import balanced
from lit_faces.persons.sets import write_set
from lit_faces.persons.source import read_source, source_of_faces
from lit_faces.rendering.renderer import FaceRenderer


class Strangers(FaceAnalyser):
    """Rendered people are nearer each other than photographs are: here all are strangers."""

    def batch_embeddings(self, images, landmarks=None):
        return torch.eye(len(images), 128)


def nothing(images):
    return torch.zeros(len(images), NUM_AUS)


@pytest.fixture(scope="module")
def model():
    return LandmarkModel()


@pytest.fixture(scope="module")
def renderer():
    return FaceRenderer(128, seed=91)


@pytest.fixture(scope="module")
def source(model, renderer):
    one = torch.tensor([2])
    photo = renderer.render(one, 0 * one, au=torch.zeros(1, NUM_AUS), pose=torch.zeros(1, 3))
    found = source_of_faces(photo, model, nothing, "neutral", "anna", "0" * 64)
    return replace(found, name="anna")


def test_a_set_of_256_pixels_is_read_at_any_size_and_says_what_is_guessed(tmp_path, source):
    plan, settings = balanced(5, seed=2), Settings(PHOTO_HEAD, verify=False)
    attempts = write_set(tmp_path, source, plan, settings)
    shards = ShardSet(tmp_path)
    assert shards.manifest["size"] == 256 and shards.manifest["settings"]["generator"] == PHOTO_HEAD
    small, large = read_labelled(tmp_path, 128), read_labelled(tmp_path, 256)
    assert small.image.shape == (5, 3, 128, 128) and large.image.shape == (5, 3, 256, 256)
    torch.testing.assert_close((large.landmarks + 0.5) / 2, small.landmarks + 0.5)
    assert set(large.source) == {f"generated/{PHOTO_HEAD}"}
    for row, attempt in enumerate(attempts):
        with Image.open(io.BytesIO(shards.picture(row))) as picture:
            about = json.loads(picture.text["lit_faces"])
        assert about["uncertain"] == attempt.uncertain and about["generator"] == PHOTO_HEAD and about["generated"]
        opened = max(attempt.asked[AU_INDEX[n]] for n in (25, 26, 27)) >= 1
        assert ("teeth and tongue" in attempt.uncertain) == opened
    assert "uncertain" in (tmp_path / "attempts.csv").read_text().splitlines()[0].split(",")
    found = FaceAnalyser().batch_landmarks(large.image)
    error = (found - large.landmarks).norm(dim=2).mean(1) / outer_eye_distance(large.landmarks)
    assert float(error.nanmedian()) < 0.07


def test_the_judge_sees_pictures_as_large_as_it_knows_them(source):
    sizes = []

    def judge(images):
        sizes.append(images.shape[-1])
        return nothing(images)

    maker = SetMaker(source, balanced(2, seed=2), Settings(PHOTO_HEAD, attempts=1), judge=judge)
    attempts, _, rejected = maker.make([0, 1])
    assert set(sizes) == {128} and len(attempts) == 2
    assert all(image.shape == (3, 256, 256) for _, _, image in rejected)


def test_each_picture_is_made_of_the_source_that_is_turned_most_alike(source, renderer, model):
    one, turned = torch.tensor([2]), torch.tensor([[22.0, 0.0, 0.0]])
    side = renderer.render(one, 1 + 0 * one, 0 * one, torch.zeros(1, NUM_AUS), turned)
    other = source_of_faces(side, model, nothing, "neutral", "anna")
    faces = replace(source.faces, image=torch.cat([source.faces.image, other.faces.image]))
    both = replace(source, faces=faces, fits=source.fits + other.fits, originals=source.originals + other.originals)
    painter = PhotoPainter(both, model, 128)
    pose, still = torch.tensor([[0.0, 0, 0], [20.0, 0, 0], [55.0, 0, 0], [80.0, 0, 0]]), torch.zeros(4, NUM_AUS)
    made = painter.paint(pose, still)
    assert made.source.tolist() == [0, 1, 1, 1]
    assert made.refused[:2] == ["", ""] and made.refused[3].startswith("turned ")
    assert made.uncertain[1] == "" and "hidden skin" in made.uncertain[2]
    lone = painter.landmarks(1, pose[1:2], still[1:2])
    torch.testing.assert_close(lone, made.landmarks[1:2])


def test_what_cannot_be_shown_is_not_kept(source, model):
    plan = balanced(1, seed=1)
    plan.pose[0], plan.pose_slack = torch.tensor([70.0, 0.0, 0.0]), (0.0, 0.0, 0.0)
    attempts, kept, _ = SetMaker(source, plan, Settings(PHOTO_HEAD, verify=False)).make([0])
    assert not kept and "that cheek is not in it" in attempts[0].reason


def test_closed_eyes_and_dark_glasses_are_refused(source, model):
    asleep = replace(source.fits[0], au=torch.zeros(NUM_AUS).index_fill(0, torch.tensor(AU_INDEX[43]), 5.0))
    with pytest.raises(ValueError, match="anna: the eyes are closed in every source picture"):
        PhotoPainter(replace(source, fits=[asleep]), model, 128)
    worn = source.faces.image.clone()
    for first in (36, 42):
        x, y = source.faces.landmarks[0, first : first + 6].mean(0).round().int().tolist()
        worn[0, :, y - 9 : y + 15, x - 16 : x + 16] = 15
    with pytest.raises(ValueError, match="anna: the eyes are covered"):
        PhotoPainter(replace(source, faces=replace(source.faces, image=worn)), model, 128)


def test_sizes_that_cannot_be_are_refused_and_small_faces_are_said(source):
    with pytest.raises(ValueError, match="--size: expected 128 to 512 pixels, got 64"):
        SetOptions(size=64)
    with pytest.raises(ValueError, match="--size: a learnt generator makes pictures of 128 pixels, got 256"):
        SetOptions(generator="packaged", size=256)
    assert SetOptions().settings.attempts == 3 and SetOptions(generator="packaged").settings.attempts == 8
    assert SetOptions().settings.pixels(source) == 256 and Settings().pixels(source) == 128
    assert enlarged(source, 128) == [] and "only 128 px" in enlarged(source, 256)[0]


def test_a_folder_of_photos_is_one_person(tmp_path, renderer, model):
    big = FaceRenderer(160, seed=91)
    who, pose = torch.tensor([2, 2]), torch.tensor([[0.0, 0, 0], [16.0, 0, 0]])
    faces = big.render(who, torch.arange(2), 0 * who, torch.zeros(2, NUM_AUS), pose).image.float()
    wide = torch.nn.functional.pad(faces, (40, 40, 40, 40), mode="replicate").to(torch.uint8)
    folder = tmp_path / "anna"
    folder.mkdir()
    for name, image in zip(("a.png", "b.png"), wide, strict=True):
        Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()).save(folder / name)
    Image.new("RGB", (100, 100)).save(folder / "wall.png")
    analyser = FaceAnalyser()
    found = read_source(folder, 128, model, nothing, au="neutral", analyser=analyser)
    assert found.kind == "photos" and found.name == "anna" and len(found.fits) == 2
    assert abs(float(found.fits[0].pose[0] - found.fits[1].pose[0])) > 10
    assert "2 of 3 photos" in found.notes[0] and found.notes[2].startswith("left out: photo 3: no face found")
    assert not any("png" in note for note in found.notes)  # they go into the manifest
    assert found.notes[-1].startswith("few pictures can be used (2)")
    assert [one.image.shape[0] > 128 for one in found.originals] == [True, True]
    strangers = Strangers()
    with pytest.raises(ValueError, match=r"a\.png and b\.png show different people \(distance 1\.41"):
        read_source(folder, 128, model, nothing, au="neutral", analyser=strangers)
    with pytest.raises(ValueError, match="no photo in this folder can be used"):
        read_source(tmp_path, 128, model, nothing, analyser=analyser)
    clip = write_video(tmp_path / "c.webm", wide.repeat(2, 1, 1, 1), 10.0)
    both = read_source(folder / "a.png", 128, model, nothing, au="neutral", analyser=analyser, more=[clip])
    assert both.kind == "photos and clips" and both.name == "a" and both.files == (folder / "a.png", clip)
    assert both.notes[0].startswith("1 of 1 photos and 1 of 1 clips were used (5 pictures for the identity); sources: ")
    assert [one.image.shape[0] > 128 for one in both.originals] == [True] * len(both.fits)
