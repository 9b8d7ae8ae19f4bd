"""Clips: who is in them, cuts, and every way a video can be unusable."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from lit_faces.core.clips import faces_of_clip, is_clip, read_frames, spread
from lit_faces.core.facs import NUM_AUS
from lit_faces.core.landmarks import FaceAnalyser
from lit_faces.core.video import write_video
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
    assert is_clip(path) and not is_clip("anna.jpg")
    found = faces_of_clip(path, 128, analyser=analyser)
    assert len(found.samples) == 6 and found.people == 1 and found.cuts == [] and found.notes == []
    assert found.rate == pytest.approx(10.0) and found.duration == pytest.approx(0.6)
    assert [sample.frame for sample in found.samples] == list(range(6))
    assert found.samples[0].image.shape == (3, 128, 128) and found.samples[0].provenance["clip"] == "anna.webm"
    middle = found.samples[3].landmarks
    assert bool(middle.isfinite().all()) and 30 < float(middle.mean()) < 100
    assert [sample.frame for sample in faces_of_clip(path, 64, limit=3, analyser=analyser).samples] == [0, 2, 5]
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


def test_a_frame_without_a_face_is_a_row(tmp_path, people, analyser):
    frames = padded(people[0])
    frames[2] = 90
    path = write_video(tmp_path / "gap.webm", frames, [0.0, 0.1, 0.3, 0.9, 1.0, 1.5], end=2.0)
    found = faces_of_clip(path, 64, analyser=analyser)
    assert [look.sample for look in found.looks] == [0, 1, None, 2, 3, 4] and found.sampled == 6
    assert [look.seconds for look in found.looks] == pytest.approx([0.0, 0.1, 0.3, 0.9, 1.0, 1.5])
    assert found.seconds == pytest.approx([0.0, 0.1, 0.9, 1.0, 1.5]) and found.duration == pytest.approx(2.0)
    made = torch.arange(5, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 64, 64)
    rows = found.beside(made)
    assert rows.shape == (6, 3, 64, 128) and rows[:, 0, 0, 64].tolist() == [0, 1, 1, 2, 3, 4]
    assert torch.equal(rows[3, :, :, :64], found.samples[2].image)
    assert float((rows[2, :, 32, :64].float() - 90).abs().max()) < 6  # the wall that was seen


def test_the_whole_clip_is_looked_at_whatever_its_header_says(tmp_path, people, analyser):
    path = tmp_path / "webcam.mkv"
    faces = padded(people[0]).permute(0, 2, 3, 1).contiguous().numpy()
    with av.open(str(path), "w") as box:
        stream = box.add_stream("mjpeg", rate=1000)  # as webcams say
        stream.height, stream.width = faces.shape[1:3]
        stream.pix_fmt = "yuvj420p"
        for number in range(60):
            frame = av.VideoFrame.from_ndarray(faces[number % 6], format="rgb24")
            frame.pts, frame.time_base = 33 * number, Fraction(1, 1000)
            box.mux(stream.encode(frame))
        box.mux(stream.encode())
    found = faces_of_clip(path, 64, limit=5, analyser=analyser)
    assert found.sampled == 5 and found.seconds[-1] == pytest.approx(59 * 0.033, abs=1e-3)
    assert found.rate == pytest.approx(1 / 0.033, rel=1e-3) and found.duration == pytest.approx(60 * 0.033, abs=0.04)


def test_half_a_clip_is_no_clip(tmp_path, people, analyser):
    path = write_video(tmp_path / "a.webm", padded(people[0]), 10.0)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=r"a\.webm: the clip is cut short .*ffmpeg -i a\.webm -c copy a_part\.webm"):
        faces_of_clip(path, 64, analyser=analyser)


def test_samples_are_spread_over_the_time_of_a_clip():
    even = [k / 25 for k in range(100)]
    assert spread(even, 4) == [0.0, 1.32, 2.64, 3.96] and spread(even, 100) == even and spread(even[:3], 9) == even[:3]
    varied = [k / 30 for k in range(30)] + [1 + k / 5 for k in range(30)]
    few = spread(varied, 8)
    assert len(few) == 8 and np.abs(np.diff(few) - varied[-1] / 7).max() < 0.2  # the longest step of the clip
    for limit in (1, 2, 20, 48, 59):
        many = spread(varied, limit)
        assert len(set(many)) == limit and many == sorted(many) and set(many) <= set(varied)
        assert limit == 1 or (many[0], many[-1]) == (varied[0], varied[-1])


def test_names_that_decoders_take_for_something_else(tmp_path, monkeypatch):
    first = write_video(tmp_path / "a.webm", torch.zeros(3, 3, 32, 32, dtype=torch.uint8), 10.0)
    monkeypatch.chdir(tmp_path)
    for name in ("10:30.webm", "http:a.webm", "a%03d.webm", "concat:a|b.webm", "-i.webm", "file:a.webm"):
        Path(name).write_bytes(first.read_bytes())
        assert len(list(read_frames(name))) == 3, name
