"""Whole pictures are aligned or refused before a network reads them; crops of ours stay as they are."""

import csv
import logging

import numpy as np
import pytest
import torch
from PIL import Image

from lit_faces.core.facs import AU_INDEX, NUM_AUS
from lit_faces.core.labelled import read_labelled
from lit_faces.core.landmarks import align_crop
from lit_faces.rendering.renderer import FaceRenderer


@pytest.fixture(scope="module")
def faces():
    who = torch.arange(2)
    return FaceRenderer(160, seed=23).render(who + 3, who, 0 * who, torch.zeros(2, NUM_AUS), torch.zeros(2, 3))


def whole(face: torch.Tensor, left: int = 200) -> np.ndarray:
    """A picture of 480x300 px with the face at x."""
    picture = np.full((300, 480, 3), 120, np.uint8)
    picture[80:240, left : left + 160] = face.permute(1, 2, 0).numpy()
    return picture


def write(folder, pictures, **columns):
    folder.mkdir()
    names = [f"{number}.png" for number in range(len(pictures))]
    for name, picture in zip(names, pictures):
        Image.fromarray(picture).save(folder / name)
    with (folder / "labels.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["file", "AU06_c", *columns])
        for number, name in enumerate(names):
            writer.writerow([name, 1, *(values[number] for values in columns.values())])
    return folder


def test_the_face_of_a_whole_picture_is_cut_out_and_said(faces, tmp_path, caplog):
    folder = write(tmp_path / "a", [whole(faces.image[0]), whole(faces.image[1], 20)])
    with caplog.at_level(logging.WARNING):
        found = read_labelled(folder, 128, align=True)
    assert "2 of 2 pictures were no aligned crops" in caplog.text
    for image, face, points in zip(found.image, faces.image, faces.landmarks):
        crop = align_crop(face, points, 128)[0]
        assert float((image.float() - crop.float())[:, 32:96, 32:96].abs().mean()) < 15, "behind the face all differs"
    assert found.au_occurrence[0, AU_INDEX[6]] == 1


def test_crops_stay_as_they_are(faces, tmp_path, caplog):
    crops = [align_crop(i, p, 128)[0].permute(1, 2, 0).numpy() for i, p in zip(faces.image, faces.landmarks)]
    folder = write(tmp_path / "a", crops)
    with caplog.at_level(logging.WARNING):
        found = read_labelled(folder, 128, align=True)
    assert torch.equal(found.image, read_labelled(folder, 128).image) and "aligned" not in caplog.text


def test_the_table_s_landmarks_align(faces, tmp_path):
    points = faces.landmarks[0].numpy() + (200, 80)
    columns = {f"{axis}{k}": [f"{points[k, a]:.2f}"] for k in range(68) for a, axis in enumerate("xy")}
    found = read_labelled(write(tmp_path / "a", [whole(faces.image[0])], **columns), 128, align=True)
    crop, moved = align_crop(faces.image[0], faces.landmarks[0], 128)
    assert float((found.image[0].float() - crop.float()).abs().mean()) < 4
    assert torch.allclose(found.landmarks[0], moved, atol=0.5)


def test_what_cannot_be_aligned_is_refused(faces, tmp_path):
    wall = np.full((200, 300, 3), 90, np.uint8)
    with pytest.raises(ValueError, match=r"labels\.csv, line 3: no face found in 300x200 px"):
        read_labelled(write(tmp_path / "a", [whole(faces.image[0]), wall]), 128, align=True)
    with pytest.raises(ValueError, match=r"line 3: no face found, so it cannot be aligned as the set's others were"):
        read_labelled(write(tmp_path / "b", [whole(faces.image[0]), wall[:, :200]]), 128, align=True)
    both = whole(faces.image[0], 0)
    both[80:240, 300:460] = faces.image[1].permute(1, 2, 0).numpy()
    with pytest.raises(ValueError, match="line 2: 2 faces in one picture"):
        read_labelled(write(tmp_path / "c", [both]), 128, align=True)
