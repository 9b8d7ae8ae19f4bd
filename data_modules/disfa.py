"""DISFA (Mavadati et al. 2013): 27 people, 12 AUs graded 0..5 in every frame of a video, two cameras.

::

    DISFA/
      Videos_LeftCamera/LeftVideoSN001_comp.avi      (Video_RightCamera/RightVideoSN001_Comp.avi)
      ActionUnit_Labels/SN001/SN001_au1.txt          rows frame,intensity; frames count from 1
      Landmark_Points/SN001/tmp_frame_lm/SN001_0000_lm.mat    or l00001_lm.mat, 66 points
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_modules.folds import BAD_FRAMES
from data_modules.reader import Clip, Floats, Reader, option, spread_landmarks, tabulate
from lit_faces.core.facs import occurrence


@dataclass
class DISFA(Reader):
    """Reader of DISFA.

    Args:
        root: folder that holds the unpacked archives.
        camera: whose videos. The literature uses the left one; the shipped landmarks belong to it.
        bad_frames: ``keep``, or ``drop`` the 4,670 frames where the shipped landmarks failed (as JAA-Net does).
        threshold: least intensity that counts as present.
    """

    name = "disfa"
    title = "DISFA"
    aus = (1, 2, 4, 5, 6, 9, 12, 15, 17, 20, 25, 26)
    has_landmarks = True

    camera: str = option("left", "whose videos; papers use the left one", ("left", "right"))
    bad_frames: str = option("keep", "drop the 4,670 frames where the shipped landmarks failed", ("keep", "drop"))
    threshold: float = option(2.0, "least intensity that counts as present")

    def clips(self) -> list[Clip]:
        """One clip a person; frame f is picture f - 1 of the video."""
        labels = self.need("ActionUnit_Labels folder", "ActionUnit_Labels.zip", self.folders(r"action_?unit_?labels?"))
        people = {folder.name.upper(): self._innermost(folder) for folder in self.folders(r"SN\d{3}", labels, depth=2)}
        videos = self._videos()
        if not people:
            raise FileNotFoundError(f"DISFA: no SNxxx folder in {labels}; unpack ActionUnit_Labels.zip there")
        for name in sorted(set(videos) - set(people)):
            self.report(videos[name], f"no labels for {name}: unpack them into {self.relative(labels)}", clip=name)
        self.choose(f"camera: {self.camera}; occurrence: intensity >= {self.threshold:g}; label frame f = picture f-1")
        self.choose(f"bad_frames: {self.bad_frames} the frames where the shipped landmarks failed")
        clips = [self._clip(name, people[name], videos.get(name)) for name in sorted(people)]
        return [clip for clip in clips if clip is not None]

    def _videos(self) -> dict[str, Path]:
        side = self.camera.capitalize()
        found: dict[str, Path] = {}
        for folder in self.folders(rf"videos?_?{side}_?camera"):
            for match, path in self.files(folder, rf"{side}Video(SN\d{{3}})_comp\.avi"):
                found.setdefault(match[1].upper(), path)
        return found

    def _clip(self, name: str, folder: Path, video: Path | None) -> Clip | None:
        files = {int(match[1]): path for match, path in self.files(folder, rf"{name}_au0?(\d+)\.txt")}
        grades = {}
        for au in self.aus:
            path = files.get(au, folder / f"{name}_au{au}.txt")
            grades[au] = self.graded(path, name)
        frames = sorted(set().union(*(by_frame for by_frame in grades.values())))
        frames = [frame for frame in frames if frame >= 1]
        for au in self.aus:
            lost = sorted(set(frames) - set(grades[au]))
            if lost and au in files:
                self.report(files[au], f"AU{au} is not coded in {len(lost)} frames that others code", 0, name, lost)
        if not frames:
            return None
        if video is None:
            side = self.camera.capitalize()
            expected = self.root / f"Videos_{side}Camera" / f"{side}Video{name}_comp.avi"
            self.report(
                expected, f"no video for {name}: unpack Videos_{side}Camera.zip, or pass the other --camera",
                0, name, frames,
            )  # fmt: skip
            return None
        intensity = tabulate(grades, frames)
        clip = Clip(
            key=name,
            subject=f"disfa:{name}",
            frames=np.array(frames),
            container=video,
            positions=np.array(frames) - 1,
            au_intensity=intensity,
            au_occurrence=occurrence(intensity, self.threshold),
        )
        if self.bad_frames == "drop":
            bad = BAD_FRAMES["disfa"].get(name, ())
            clip = clip.select(np.array([not any(a <= f <= b for a, b in bad) for f in frames], dtype=bool))
        return clip

    def own_landmarks(self, clip: Clip) -> Floats:
        """66 points of the left camera; Matlab's pixels count from 1."""
        from scipy.io import loadmat

        if self.camera != "left":
            raise ValueError("DISFA's landmarks belong to the left camera: leave --landmarks dlib for the right one")
        points = np.full((len(clip), 68, 2), np.nan, dtype=np.float32)
        row_of = {int(frame): row for row, frame in enumerate(clip.frames)}
        for folder in self.folders(clip.key, self.need("Landmark_Points folder", "Landmark_Points.zip",
                                                       self.folders(r"landmark_?points?")), depth=2):  # fmt: skip
            for inner in [folder, *self.folders(r"tmp_frame_lm", folder, depth=2)]:
                for match, path in self.files(inner, rf"(?:{clip.key}_(\d+)|l0?(\d{{4}}))_lm\.mat"):
                    # two families: SN001_0000 counts from 0, l00001 from 1
                    row = row_of.get(int(match[1]) + 1 if match[1] else int(match[2]))
                    if row is None:
                        continue
                    try:
                        points[row] = spread_landmarks(np.asarray(loadmat(path)["pts"], dtype=np.float32), 66) - 1
                    except Exception as error:  # scipy raises many kinds on damaged files
                        self.report(path, f"landmarks cannot be read ({error})", 0, clip.key, [clip.frames[row]])
        return points


READER = DISFA
