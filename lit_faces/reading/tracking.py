"""Faces followed from frame to frame: detection, which is dear, takes place only where following needs it.

==========================  ===========================================================================================
when                        what
==========================  ===========================================================================================
every frame                 landmarks from those of the last frame (:mod:`lit_faces.reading.refining`)
every few frames, on doubt  dlib's detector on the small part of the picture around the face: still a face?
landmarks are vague         the detector on the same part, and landmarks anew from what it finds
every half second, a cut    the detector on the whole picture: somebody new?
two faces that overlap      each is looked at in every frame; once apart, embeddings say who is who
==========================  ===========================================================================================

A face that comes in is therefore seen half a second later at most, one that goes is given up after a few frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lit_faces.core.clips import CUT, colour_histogram, correlation, overlap
from lit_faces.core.landmarks import Box, FaceAnalyser
from lit_faces.core.photos import SURE_SCORE
from lit_faces.reading.people import People
from lit_faces.reading.refining import Window, box_corners, box_of, corners_of, follow, frame_of, refine

_EMPTY_S = 0.1  # seconds between detections where there is no face
_THOROUGH = 6  # each so many detections on the whole picture look for small faces too
_SMALL = 800  # pixels: the others look at the picture in this size; small ones are doubled to find faces from 40 px
_LOOK_EVERY = 6  # frames between looks at a face that is followed
_FACE_PIXELS, _FACE_LARGEST = 90, 110  # width of the face in the part that is looked at: dlib's detector knows 80
_VAGUE = 0.007  # spread of landmarks of a face that is followed, from which it is detected anew; whole faces: 0.002
_JUMP, _GROWTH = 0.12, 1.25  # of a face between frames, in units of its crop: beyond it, doubt
_TOUCH, _SAME = 0.1, 0.55  # overlap of two boxes: they cross; they are one face
_MATCH = 0.3  # overlap of a detection with a face that is followed
_LEAST = 24.0  # pixels, side of the crop: smaller faces are not followed


@dataclass(eq=False)
class Track:
    """A face that is followed.

    Attributes:
        person: number in :class:`People`.
        points: landmarks in the last frame, float32 (68, 2).
        score: of dlib's detector, when it last looked.
        looked: frames since then.
        crossing: whether the face overlaps another one, so that who it is must be asked again.
        vague: whether the landmarks depend on where they were looked for (a hand before the mouth, a fast move).
    """

    person: int
    points: NDArray[np.float32]
    score: float
    looked: int = 0
    crossing: bool = False
    vague: bool = False

    @property
    def box(self) -> Box:
        """As dlib's detector would frame it."""
        return box_of(self.points, self.score)


class FaceTracker:
    """Follow all faces of a video.

    Args:
        detect_every_s: seconds between detections on the whole picture; 0 detects in every frame.
        analyser: dlib's models.
    """

    def __init__(self, detect_every_s: float = 0.5, analyser: FaceAnalyser | None = None) -> None:
        self.detect_every_s = detect_every_s
        self.analyser = FaceAnalyser() if analyser is None else analyser
        self.people = People()
        self.tracks: list[Track] = []
        self._histogram: NDArray[np.floating] | None = None
        self._detected_at = -np.inf
        self._detections = 0

    def see(self, picture: NDArray[np.uint8], seconds: float) -> list[Track]:
        """The faces of the next frame, by person.

        Args:
            picture: uint8 (H, W, 3), RGB.
            seconds: when it is shown.
        """
        cut = self._is_cut(picture)
        if cut:
            self.tracks = []
        if self.detect_every_s > 0:
            self.tracks = [track for track in self.tracks if self._follow(track, picture)]
            self._one_each()
        pause = self.detect_every_s if self.tracks else min(_EMPTY_S, self.detect_every_s)
        if cut or seconds - self._detected_at >= pause - 1e-6:
            self._detect(picture, seconds)
        else:
            for track in self.tracks:
                if track.vague:
                    self._find_again(track, picture)
        self.tracks = [track for track in self.tracks if not track.vague or self._look(track, picture)]
        self._untangle(picture)
        return sorted(self.tracks, key=lambda track: track.person)

    def lose(self) -> None:
        """A frame could not be decoded: what follows may be elsewhere."""
        self._detected_at = -np.inf

    # -- following ---------------------------------------------------------------------------------------------------

    def _follow(self, track: Track, picture: NDArray[np.uint8]) -> bool:
        """Move a track on; False where the face is lost."""
        before = frame_of(track.points)
        points, spread = follow(picture, track.points, self.analyser.points_at_once)
        after = frame_of(points)
        track.looked += 1
        height, width = picture.shape[:2]
        if not (after[2] >= _LEAST and 0 <= after[0] < width and 0 <= after[1] < height):
            return False
        jump = np.hypot(after[0] - before[0], after[1] - before[1]) / before[2]
        growth = max(after[2] / before[2], before[2] / after[2])
        track.points, track.vague = points, spread > _VAGUE
        if jump > _JUMP or growth > _GROWTH or track.crossing or track.looked >= _LOOK_EVERY:
            return self._look(track, picture)
        return True

    def _look(self, track: Track, picture: NDArray[np.uint8]) -> bool:
        """Ask the detector whether there is a face where the track is; follow what it sees."""
        corners = box_corners(track.points)
        window = Window(picture, corners, _FACE_PIXELS, _FACE_LARGEST, grey=False)
        seen = []
        for box in self.analyser.detect(window.image, 0, retry=False):
            found = window.outside(np.array([[box.left, box.top], [box.right, box.bottom]], float))
            place = _box(found, box.score)
            if box.score >= 0.0 and overlap(place, track.box) > _MATCH:
                seen.append((overlap(place, track.box), box.score, found))
        track.looked = 0
        if not seen:
            return False
        shared, score, found = max(seen, key=lambda one: one[0])
        track.score = score
        if shared < 0.5 or track.vague:  # the face has slipped
            self._place(track, picture, found)
        return True

    def _find_again(self, track: Track, picture: NDArray[np.uint8]) -> None:
        """Detect a face of vague landmarks anew; the part of the picture around it is enough."""
        window = Window(picture, box_corners(track.points), _FACE_PIXELS, _FACE_LARGEST)
        for box in self.analyser.detect(window.image, 0, retry=False):
            corners = window.outside(corners_of(box))
            if box.score >= SURE_SCORE and overlap(_box(corners, box.score), track.box) > _MATCH:  # nobody beside it
                track.score, track.looked = box.score, 0
                self._place(track, picture, corners)
                return

    def _place(self, track: Track, picture: NDArray[np.uint8], corners: NDArray[np.float64]) -> None:
        """Landmarks from a box, whatever they were before."""
        track.points = refine(picture, corners, self.analyser.points_at_once)
        track.vague = False

    def _one_each(self) -> None:
        """Of tracks that have come to lie on one face, the surer one stays."""
        kept: list[Track] = []
        for track in sorted(self.tracks, key=lambda one: -one.score):
            others = [overlap(track.box, other.box) for other in kept]
            if max(others, default=0.0) < _SAME:
                kept.append(track)
            else:
                kept[int(np.argmax(others))].crossing = True  # whose face it is must be asked
        self.tracks = kept

    def _untangle(self, picture: NDArray[np.uint8]) -> None:
        """Faces that crossed and are apart again: who is who?"""
        touching = [any(overlap(a.box, b.box) > _TOUCH for b in self.tracks if b is not a) for a in self.tracks]
        apart = [track for track, now in zip(self.tracks, touching) if track.crossing and not now]
        for track, now in zip(self.tracks, touching):
            track.crossing = track.crossing or now
        if not apart:
            return
        taken = {track.person for track in self.tracks if track not in apart}
        faces = [self.analyser.embedding(picture, track.points) for track in apart]
        nearest = [min(self.people.distances(face), default=np.inf) for face in faces]
        for number in np.argsort(nearest).tolist():  # the surest first
            apart[number].person = self.people.recognise(faces[number], taken)
            apart[number].crossing = False
            taken.add(apart[number].person)

    # -- detecting ---------------------------------------------------------------------------------------------------

    def _is_cut(self, picture: NDArray[np.uint8]) -> bool:
        histogram = colour_histogram(picture)
        before, self._histogram = self._histogram, histogram
        return before is not None and correlation(before, histogram) < CUT

    def _detect(self, picture: NDArray[np.uint8], seconds: float) -> None:
        """Look at the whole picture: confirm who is followed, welcome who is new."""
        self._detected_at = seconds
        thorough = self._detections % _THOROUGH == 0
        self._detections += 1
        free = self._meet(picture, self._thoroughly(picture) if thorough else self._quickly(picture))
        if self.detect_every_s == 0:
            self.tracks = [track for track in self.tracks if track not in free]

    def _meet(self, picture: NDArray[np.uint8], boxes: list[Box]) -> list[Track]:
        """Tracks and detections: who is where they were, who is new. Returns the tracks that were not detected."""
        boxes = [box for box in boxes if box.score >= SURE_SCORE]
        free = list(self.tracks)
        for box in boxes:
            same = max(free, key=lambda track: overlap(track.box, box), default=None)
            if same is not None and overlap(same.box, box) > _MATCH:
                free.remove(same)
                same.score, same.looked = box.score, 0
                if same.vague or self.detect_every_s == 0:
                    self._place(same, picture, corners_of(box))
            elif not any(overlap(track.box, box) > _MATCH for track in self.tracks):
                self._welcome(picture, box)
        return free

    def _thoroughly(self, picture: NDArray[np.uint8]) -> list[Box]:
        return self.analyser.detect(picture, 1 if max(picture.shape) <= _SMALL else 0)

    def _quickly(self, picture: NDArray[np.uint8]) -> list[Box]:
        """In grey, which takes two thirds of the time and frames known faces alike; faint ones are seen less."""
        import cv2

        scale = min(1.0, _SMALL / max(picture.shape))
        small: Any = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        if scale < 1:
            small = cv2.resize(small, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        return [box.scaled(1 / scale) for box in self.analyser.detect(small, 0, retry=False)]

    def _welcome(self, picture: NDArray[np.uint8], box: Box) -> None:
        points = refine(picture, corners_of(box), self.analyser.points_at_once)
        if frame_of(points)[2] < _LEAST:
            return
        face = self.analyser.embedding(picture, points)
        person = self.people.recognise(face, {track.person for track in self.tracks})
        self.tracks.append(Track(person, points, box.score))

    # -- going on later ----------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """All that :meth:`restore` needs to go on as if nothing had been; JSON."""
        return {
            "people": self.people.state(),
            "tracks": [{**vars(track), "points": track.points.tolist()} for track in self.tracks],
            "histogram": None if self._histogram is None else self._histogram.tolist(),
            "detected_at": None if np.isinf(self._detected_at) else self._detected_at,
            "detections": self._detections,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where another tracker stood."""
        self.people.restore(state["people"])
        self.tracks = [Track(**{**one, "points": np.array(one["points"], np.float32)}) for one in state["tracks"]]
        histogram, detected = state["histogram"], state["detected_at"]
        self._histogram = None if histogram is None else np.array(histogram)
        self._detected_at = -np.inf if detected is None else detected
        self._detections = state["detections"]


def _box(corners: NDArray[np.float64], score: float) -> Box:
    (left, top), (right, bottom) = np.rint(corners).astype(int).tolist()
    return Box(left, top, right, bottom, score)
