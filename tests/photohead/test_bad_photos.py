"""Photographs that are not from a photographer's studio: the right head, or one clear sentence."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from lit_faces.core.facs import NUM_AUS
from lit_faces.core.landmarks import FaceAnalyser
from lit_faces.core.pictures import load_picture
from lit_faces.fitting.landmark_model import LandmarkModel
from lit_faces.persons.painters import PhotoPainter, enlarged
from lit_faces.persons.source import read_source

SHARED = Path(os.environ.get("LIT_FACES_SHARED", Path(__file__).resolve().parents[3] / "shared" / "data"))
FACES = SHARED / "faces_ccby" / "images"
real = pytest.mark.skipif(not FACES.is_dir(), reason=f"no photographs in {FACES}")


@pytest.fixture(scope="module")
def tools():
    return LandmarkModel(), FaceAnalyser()


@pytest.fixture(scope="module")
def portrait(tools):
    """A photograph and its landmarks."""
    picture = load_picture(FACES / "l014_neutral.jpg")
    return picture, tools[1].landmarks(picture)


def painter(path, tools):
    model, analyser = tools
    source = read_source(
        path, 128, model, lambda images: torch.zeros(len(images), NUM_AUS), au="neutral", analyser=analyser
    )
    return PhotoPainter(source, model, 256)


def drawn_on(portrait, draw):
    image = Image.fromarray(portrait[0])
    draw(ImageDraw.Draw(image), portrait[1])
    return image


def glasses(draw, points):
    width = float(np.linalg.norm(points[45] - points[36]))
    for first, last in ((36, 39), (42, 45)):
        x, y = (points[first] + points[last]) / 2
        draw.ellipse((x - 0.28 * width, y - 0.22 * width, x + 0.28 * width, y + 0.25 * width), fill=(12, 12, 14))


def hand(draw, points):
    width = float(np.linalg.norm(points[45] - points[36]))
    for finger in range(5):
        x = points[2, 0] - 20 + 0.33 * finger * width
        place = (x, points[33, 1] - 10, x + 0.32 * width, points[8, 1] + 60)
        draw.rounded_rectangle(place, 30, fill=(205 - 6 * finger, 160, 130))


def hat(draw, points):
    draw.rectangle((points[0, 0] - 60, 0, points[16, 0] + 60, points[19, 1] - 30), fill=(40, 60, 120))
    draw.rectangle((points[0, 0] - 140, points[19, 1] - 60, points[16, 0] + 140, points[19, 1] - 20), fill=(30, 45, 95))


@real
@pytest.mark.parametrize(
    ("draw", "message"), [(glasses, "the eyes are covered"), (hand, "covered, blurred or turned away|no face found")]
)
def test_covered_faces_are_refused(draw, message, portrait, tools, tmp_path):
    drawn_on(portrait, draw).save(tmp_path / "anna.png")
    with pytest.raises(ValueError, match=f"anna.*({message})"):
        painter(tmp_path / "anna.png", tools)


@real
@pytest.mark.parametrize("kind", ["hat", "grey", "huge"])
def test_hats_grey_and_huge_photos_give_the_photo_back(kind, portrait, tools, tmp_path):
    image = drawn_on(portrait, hat) if kind == "hat" else Image.fromarray(portrait[0])
    image = image.convert("L") if kind == "grey" else image
    image = image.resize((5500, round(5500 * image.height / image.width))) if kind == "huge" else image
    image.save(tmp_path / "anna.jpg", quality=95)
    made = painter(tmp_path / "anna.jpg", tools)
    source = made.source
    own = made.paint(source.fits[0].pose[None], source.fits[0].au[None])
    small = torch.nn.functional.interpolate(own.images.float(), (128, 128), mode="bilinear", antialias=True)
    assert float((small - source.faces.image.float()).abs().mean()) < 2.0
    assert own.uncertain == [""] and own.refused == [""] and not enlarged(source, 256)


@real
def test_two_faces_and_small_ones(portrait, tools, tmp_path):
    picture, points = portrait
    Image.fromarray(np.concatenate([picture, picture], 1)).save(tmp_path / "two.png")
    with pytest.raises(ValueError, match=r"two\.png: 2 faces found, one expected; .* --face NUMBER"):
        painter(tmp_path / "two.png", tools)
    for pixels, refused in ((40, False), (24, True)):  # from ear to ear; a crop is about 1.7 times as large
        factor = pixels / float(np.ptp(points[:, 0]))
        side = [round(n * factor) for n in picture.shape[1::-1]]
        Image.fromarray(picture).resize(side, Image.Resampling.BOX).save(tmp_path / "far.png")
        if refused:
            with pytest.raises(ValueError, match=r"far\.png: .*(px|no face found)"):
                painter(tmp_path / "far.png", tools)
        else:
            assert "pictures of 256 px are soft" in enlarged(painter(tmp_path / "far.png", tools).source, 256)[0]


def test_a_childs_drawing_is_no_face(tools, tmp_path):
    image = Image.new("RGB", (600, 600), "white")
    draw = ImageDraw.Draw(image)
    draw.ellipse((120, 80, 480, 540), outline="black", width=6)
    for x in (220, 380):
        draw.ellipse((x - 22, 220, x + 22, 264), outline="black", width=5)
    draw.arc((200, 330, 400, 450), 20, 160, fill="red", width=6)
    draw.line((300, 270, 285, 350, 310, 350), fill="black", width=5)
    image.save(tmp_path / "mum.png")
    with pytest.raises(ValueError, match=r"mum\.png: .*(covered, blurred or turned away|no face found|do not fit)"):
        painter(tmp_path / "mum.png", tools)
