"""Clips: who is in them, cuts, and every way a video can be unusable."""

import numpy as np
import pytest
import torch

from lit_faces.core.clips import count_frames, faces_of_clip, is_clip, read_frames, write_video
from lit_faces.core.facs import NUM_AUS
from lit_faces.core.landmarks import FaceAnalyser
from lit_faces.rendering.renderer import FaceRenderer


@pytest.fixture(scope="module")
def analyser():
    return FaceAnalyser()


@pytest.fixture(scope="module")
def people():
    """Two people who turn their heads: uint8 (2, 6, 3, 192, 192) each in one light."""
    renderer = FaceRenderer(192, seed=21)
    yaw = torch.linspace(-12, 12, 6)
    pose = torch.stack([yaw, 0 * yaw, 0 * yaw], 1)
    frames = []
    for subject in (3, 4):  # as different as rendered people come: embeddings 0.67 apart
        who = torch.full((6,), subject)
        frames.append(renderer.render(who, torch.arange(6), 0 * who, torch.zeros(6, NUM_AUS), pose).image)
    return torch.stack(frames)


def padded(frames, left=40, right=40):
    return torch.nn.functional.pad(frames.float(), (left, right, 40, 40), mode="replicate").to(torch.uint8)


def test_a_clip_of_one_person(tmp_path, people, analyser):
    path = write_video(tmp_path / "anna.webm", padded(people[0]), 10.0)
    assert is_clip(path) and not is_clip("anna.jpg") and count_frames(path) == (6, 10.0)
    found = faces_of_clip(path, 128, analyser=analyser)
    assert len(found.samples) == 6 and found.people == 1 and found.cuts == [] and found.rate == 10.0
    assert [sample.frame for sample in found.samples] == list(range(6))
    assert found.samples[0].image.shape == (3, 128, 128) and found.samples[0].provenance["clip"] == "anna.webm"
    middle = found.samples[3].landmarks
    assert bool(middle.isfinite().all()) and 30 < float(middle.mean()) < 100
    assert len(faces_of_clip(path, 64, limit=3, analyser=analyser).samples) == 3
    assert len(faces_of_clip(path, 64, limit=4, every=1, analyser=analyser).samples) == 4


def test_two_people_are_told_apart_and_one_must_be_chosen(tmp_path, people, analyser):
    both = torch.cat([padded(people[0]), padded(people[1])], 3)
    path = write_video(tmp_path / "two.webm", both, 10.0)
    with pytest.raises(ValueError, match=r"two\.webm: 2 people.*--face NUMBER: person 0: 6 of 6.*; person 1: 6 of 6"):
        faces_of_clip(path, 64, analyser=analyser)
    one, other = (faces_of_clip(path, 64, person=k, analyser=analyser).samples[0].image for k in (0, 1))
    assert float((one.float() - other.float()).abs().mean()) > 5
    with pytest.raises(ValueError, match="no person 2"):
        faces_of_clip(path, 64, person=2, analyser=analyser)


def test_a_cut_to_somebody_else_at_the_same_place_is_seen(tmp_path, people, analyser):
    room = torch.nn.functional.pad(people[1], (40, 40, 40, 40), value=230)  # the same place in another room
    path = write_video(tmp_path / "cut.webm", torch.cat([padded(people[0]), room]), 10.0)
    with pytest.raises(ValueError, match="2 people in the clip"):
        faces_of_clip(path, 64, analyser=analyser)
    found = faces_of_clip(path, 64, person=0, analyser=analyser)
    assert found.cuts == [6] and len(found.samples) == 6


def test_one_frame_is_enough(tmp_path, people, analyser):
    path = write_video(tmp_path / "one.webm", padded(people[0][2:3]), 10.0)
    assert len(faces_of_clip(path, 64, analyser=analyser).samples) == 1


def test_unusable_clips(tmp_path, people, analyser):
    (tmp_path / "anna.mp4").write_bytes(b"no video at all, only words" * 50)
    with pytest.raises(FileNotFoundError, match=r"no such clip; did you mean .*anna\.mp4"):
        faces_of_clip(tmp_path / "ana.mp4", 64, analyser=analyser)
    with pytest.raises(ValueError, match=r"anna\.mp4: no decoder .*ffmpeg -i anna\.mp4"):
        faces_of_clip(tmp_path / "anna.mp4", 64, analyser=analyser)
    (tmp_path / "none.mp4").write_bytes(b"")
    with pytest.raises(ValueError, match="empty"):
        faces_of_clip(tmp_path / "none.mp4", 64, analyser=analyser)
    with pytest.raises(IsADirectoryError, match="expected a clip"):
        faces_of_clip(tmp_path, 64, analyser=analyser)
    wall = write_video(tmp_path / "wall.webm", torch.full((5, 3, 128, 128), 90, dtype=torch.uint8), 10.0)
    with pytest.raises(ValueError, match="no face found in 5 frames"):
        faces_of_clip(wall, 64, analyser=analyser)
    small = torch.nn.functional.interpolate(padded(people[0]).float(), scale_factor=0.3).to(torch.uint8)[..., :80, :80]
    path = write_video(tmp_path / "far.webm", torch.nn.functional.pad(small, (60, 60, 60, 60), value=99), 10.0)
    with pytest.raises(ValueError, match=r"under 64 px|no face found"):
        faces_of_clip(path, 64, analyser=analyser)


def test_frames_come_back_as_they_were_written(tmp_path):
    frames = torch.stack([torch.full((3, 64, 96), value, dtype=torch.uint8) for value in (20, 120, 220)])
    frames[:, 0, :, 48:] = 255
    path = write_video(tmp_path / "a.webm", frames, 5.0)
    found = list(read_frames(path))
    assert [number for number, _, _ in found] == [0, 1, 2] and [s for _, s, _ in found] == pytest.approx([0, 0.2, 0.4])
    for (_, _, picture), frame in zip(found, frames):
        assert picture.shape == (64, 96, 3) and picture.dtype == np.uint8
        assert np.abs(picture[8:-8, 8:40].astype(int) - frame.permute(1, 2, 0)[8:-8, 8:40].numpy()).max() < 12
    assert [number for number, _, _ in read_frames(path, 2)] == [0, 2]
