"""Following faces: who is who over crossings, cuts and absences, and how little is detected."""

import clips
import numpy as np
import pytest

from lit_faces.core.landmarks import FaceAnalyser
from lit_faces.reading import tracking
from lit_faces.reading.refining import Followed, Window, corners_of, follow, frame_of, refine
from lit_faces.reading.sources import video_shots
from lit_faces.reading.tracking import FaceTracker


def seen(path, tracker):
    """Person and x of the face, of each frame."""
    found = []
    for shot in video_shots(path):
        tracks = tracker.see(shot.picture, shot.seconds)
        found.append({track.person: frame_of(track.points)[0] for track in tracks})
    return found


@pytest.fixture(scope="module")
def followed(story, analyser):
    return seen(story[0], FaceTracker(analyser=analyser))


def test_people_who_cross_keep_their_ids(followed):
    assert sorted(followed[0]) == [0, 1] and sorted(followed[15]) == [0, 1]
    first = min(followed[0], key=followed[0].get)
    assert followed[15][first] > followed[15][1 - first] + 100, "who was left is right, and has kept the id"


def test_a_cut_an_empty_stretch_and_a_return(followed):
    left = min(followed[0], key=followed[0].get)
    assert all(list(frame) == [1 - left] for frame in followed[16:22]), "after the cut the person in front alone"
    assert all(frame == {} for frame in followed[22:30])
    assert all(list(frame) == [left] for frame in followed[31:36]), "who comes back has the old id"


def test_detection_takes_place_only_where_it_is_needed(people, analyser, tmp_path):
    class Counting(FaceAnalyser):
        whole, parts = 0, 0

        def detect(self, image, upsample=1, retry=True):
            whole = image.shape[:2] == (clips.HIGH, clips.WIDE)
            self.whole, self.parts = self.whole + whole, self.parts + (not whole)
            return super().detect(image, upsample, retry)

    frames = [clips.stage([(people[0, k % 6], 100 + k)]) for k in range(8)]
    path = clips.write(tmp_path / "one.webm", frames, 8.0)
    counting = Counting()
    assert all(list(frame) == [0] for frame in seen(path, FaceTracker(analyser=counting)))
    assert counting.whole == 2, "at the start and after half a second"
    every = Counting()
    assert len(seen(path, FaceTracker(0.0, every))) == every.whole == 8


def test_a_tracker_goes_on_as_if_nothing_had_been(story, analyser, followed):
    import json

    tracker = FaceTracker(analyser=analyser)
    found = []
    for shot in video_shots(story[0]):
        if shot.number in (5, 12, 25):
            state = json.loads(json.dumps(tracker.state()))
            tracker = FaceTracker(analyser=analyser)
            tracker.restore(state)
        found.append({t.person: frame_of(t.points)[0] for t in tracker.see(shot.picture, shot.seconds)})
    assert found == followed


def test_followed_and_detected_landmarks_agree(people, analyser):
    before, after = clips.stage([(people[0, 0], 150)]), clips.stage([(people[0, 1], 156)])
    last = refine(before, corners_of(analyser.detect(before)[0]), analyser.points_at_once)
    followed = follow(after, last, analyser.points_at_once).points
    detected = refine(after, corners_of(analyser.detect(after)[0]), analyser.points_at_once)
    side = frame_of(detected)[2]
    assert np.abs(followed - detected).mean() < 0.01 * side
    assert frame_of(followed)[0] - frame_of(last)[0] == pytest.approx(6, abs=2.0)


def test_a_face_whose_landmarks_are_vague_is_detected_anew(people, monkeypatch):
    class Counting(FaceAnalyser):
        whole, parts = 0, 0

        def detect(self, image, upsample=1, retry=True):
            whole = image.shape[:2] == (clips.HIGH, clips.WIDE)
            self.whole, self.parts = self.whole + whole, self.parts + (not whole)
            return super().detect(image, upsample, retry)

    def vaguely(picture, points, finder):
        return Followed(points + 3, 0.05)

    monkeypatch.setattr(tracking, "follow", vaguely)
    analyser = Counting()
    tracker = FaceTracker(analyser=analyser)
    for number in range(3):
        (track,) = tracker.see(clips.stage([(people[0, 0], 100 + number)]), number / 25)
        assert track.person == 0 and not track.vague
        assert abs(frame_of(track.points)[0] - (100 + number + clips.SIDE / 2)) < 8, "where the detector sees it"
    assert (analyser.whole, analyser.parts) == (1, 2), "the part of the picture around the face is enough"


@pytest.mark.parametrize("grey", [True, False])
@pytest.mark.parametrize(("width", "largest"), [(60.0, None), (260.0, None), (1500.0, None), (700.0, 110)])
def test_a_window_says_where_its_pixels_are(width, largest, grey):
    """Two ramps, right and down, half of the window outside: points go there and back, and pixels are where they say."""
    across, down = np.meshgrid(np.arange(2000) / 8, np.arange(1800) / 8)
    for ramp, axis in ((across, 0), (down, 1)):
        picture = np.repeat(np.floor(ramp).astype(np.uint8)[..., None], 3, 2)
        for middle in ((900.0, 850.0), (1900.0, 100.0)):
            corners = np.array(middle) + np.array([[-0.5], [0.5]]) * width
            window = Window(picture, corners, *((90, largest) if largest else ()), grey=grey)
            if largest is None:
                assert 300 <= width * window.scale <= 900
            else:
                assert width * window.scale == pytest.approx(largest, rel=0.02)
            np.testing.assert_allclose(window.outside(window.inside(corners)), corners)
            place = np.arange(len(window.image), dtype=float)
            there = window.outside(np.stack([place, place], 1))[:, axis].clip(0, (2000, 1800)[axis] - 1)
            line = window.image[len(place) // 2] if axis == 0 else window.image[:, len(place) // 2]
            seen = line.reshape(len(place), -1)[:, 0].astype(float) * 8 + 3.5
            assert np.abs(seen - there).max() < 5 + 2 / window.scale
            inside = (there > 0) & (there < (2000, 1800)[axis] - 1)
            assert abs((seen - there)[inside].mean()) < 1.0
