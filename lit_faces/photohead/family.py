"""``photo:DIR``: the head family whose people are photographs.

The renderer draws Action Units, poses and scenes as for every family; the picture is the photograph's own, asked for
them (:class:`lit_faces.photohead.head.PhotoHead`). Real skin, brows and beards come with exact truth.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_faces.core.facs import MAX_INTENSITY, NUM_AUS
from lit_faces.fitting.landmark_model import LandmarkModel
from lit_faces.photohead.head import PhotoHead
from lit_faces.photohead.people import Person, Portrait, digest, read_people
from lit_faces.photohead.scenes import Scene, relit
from lit_faces.rendering import post
from lit_faces.rendering.random import key, uniform
from lit_faces.rendering.sampler import Frames, People, Scenes

Floats = NDArray[np.float32]

SPLIT = 1_000_000  # people from here on are of another split (data_modules/rendered.py)
_REACH = (25.0, 18.0, 15.0)  # degrees of yaw, pitch and roll beside the photo's own: beyond, hidden skin is guessed
_KEPT = 12  # heads in memory, about 40 MB each at 256 px
_SCENE = 0x5CE  # stream of random numbers
_OWN_ROOM = 0.35  # share of scenes that keep the photo's background
_LAMP = 0.55  # of the light, at most, that another lamp gives
_TINT, _EXPOSURE = 0.12, 0.35  # spread of colour and of brightness (natural logarithm)


class PhotoFamily:
    """People of a folder of photographs, as :class:`lit_faces.rendering.heads.Painter`.

    Args:
        path: the folder, see :mod:`lit_faces.photohead.people`.
        size: side of the pictures, pixels.
        device: not used: photographs are drawn on the processor.

    Raises:
        FileNotFoundError, NotADirectoryError, ValueError: no folder with a photograph that can be used.
    """

    name, prefix = "photo", "photo:"
    coded = torch.ones(NUM_AUS, dtype=torch.bool)

    def __init__(self, path: str, size: int, device: torch.device) -> None:
        self.size = size
        self.people: tuple[Person, ...] = read_people(Path(path).expanduser().resolve())
        self.model = LandmarkModel()
        self.made_of = f"photo:{digest(self.people)}"
        self._heads: OrderedDict[str, PhotoHead] = OrderedDict()
        self._lock = threading.Lock()

    def names(self, subjects: Tensor) -> list[str]:
        """Names of subject numbers (B,).

        Raises:
            ValueError: a number of another split.
        """
        return [self.person(number).name for number in subjects.tolist()]

    def person(self, number: int) -> Person:
        """Who has a number; further numbers are the same people in other pictures."""
        if not 0 <= number < SPLIT:
            raise ValueError(
                f"the {len(self.people)} people of a folder of photographs are one split; person {number} is asked of "
                "another: give validation and test other data"
            )
        return self.people[number % len(self.people)]

    def source_of(self, subject: int, pose: Tensor) -> str:
        """SHA-256 of the photograph that a subject in a pose (3,) is made from."""
        return self.person(subject).nearest(pose).sha256

    def table(self) -> tuple[tuple[str, ...], list[dict[str, str]]]:
        """Columns and rows on the people: subject, photographs, and what a table beside them said."""
        extra = dict.fromkeys(column for person in self.people for column in person.about)
        rows = [
            {
                "subject": f"{self.prefix}{one.name}",
                "photographs": ";".join(p.path.name for p in one.portraits),
                **one.about,
            }
            for one in self.people
        ]
        return ("subject", "photographs", *extra), rows

    def paint(self, subjects: Tensor, people: People, scenes: Scenes, frames: Frames) -> tuple[Tensor, Tensor, Frames]:
        """Pictures uint8 (B, 3, S, S), landmarks (B, 68, 2), and the frames as they were drawn."""
        images, landmarks, poses, gazes = [], [], [], []
        for row, number in enumerate(subjects.tolist()):
            person, asked = self.person(number), frames.pose[row].cpu()
            portrait = person.nearest(asked)
            pose = self._within_reach(asked, portrait)
            head = self._head(portrait)
            spread = people.asymmetry[row].cpu()
            au = frames.au[row].cpu()
            right, left = ((au * (1 + sign * spread)).clamp(0, MAX_INTENSITY) for sign in (1, -1))
            own, wanted = head.gaze, frames.gaze[row].tolist()
            turn = (wanted[0] - own[0], wanted[1] - own[1])
            made = head.render(right, left, pose, turn, self._scene(head, scenes, frames, row))
            images.append(torch.from_numpy(made.image))
            landmarks.append(torch.from_numpy(made.landmarks))
            poses.append(pose)
            gazes.append(torch.tensor([own[0] + made.gaze[0], own[1] + made.gaze[1]]))
        taken = self._taken(torch.stack(images).permute(0, 3, 1, 2), frames)
        return taken, torch.stack(landmarks), replace(frames, pose=torch.stack(poses), gaze=torch.stack(gazes))

    @staticmethod
    def _within_reach(pose: Tensor, portrait: Portrait) -> Tensor:
        reach, own = torch.tensor(_REACH), portrait.face.pose
        return torch.minimum(torch.maximum(pose, own - reach), own + reach)

    def _head(self, portrait: Portrait) -> PhotoHead:
        """The head of a portrait; the last few are kept."""
        from lit_faces.core.pictures import load_picture

        with self._lock:
            if portrait.sha256 in self._heads:
                self._heads.move_to_end(portrait.sha256)
                return self._heads[portrait.sha256]
        seed = int(portrait.sha256[:8], 16)
        made = PhotoHead(load_picture(portrait.path), portrait.crop, portrait.face, self.model, self.size, seed=seed)
        with self._lock:
            self._heads[portrait.sha256] = made
            while len(self._heads) > _KEPT:
                self._heads.popitem(last=False)
        return made

    def _scene(self, head: PhotoHead, scenes: Scenes, frames: Frames, row: int) -> Scene:
        """Light and room of one picture; the lamp is the scene's key light."""
        chance = uniform(_keys(scenes, row), 2)[0]
        direction = scenes.light[row].cpu().numpy().astype(np.float32)
        soft = float(scenes.sky[row].mean() / (scenes.sky[row].mean() + scenes.key[row].mean()))
        light = relit(head.light, direction, soft, _LAMP * float(chance[0]))
        if float(chance[1]) < _OWN_ROOM:
            return Scene(light)
        room = post.tone(
            post.background(scenes.background[row : row + 1], 128),
            scenes.exposure[row : row + 1],
            scenes.contrast[row : row + 1],
        )
        return Scene(light, (room[0].permute(1, 2, 0) * 255.0).cpu().numpy().astype(np.float32))

    def _taken(self, images: Tensor, frames: Frames) -> Tensor:
        """Colour of the light, exposure and the camera's own faults."""
        draw = uniform(frames.noise_key.cpu(), 4)
        gain = torch.exp(_TINT * (2 * draw[:, :3] - 1) + _EXPOSURE * (2 * draw[:, 3:] - 1))
        light = (images.float() / 255.0) ** 2.2 * gain[:, :, None, None]
        shown = light.clamp(0, 1) ** (1 / 2.2)
        cpu = (frames.blur.cpu() * 0.6, frames.noise.cpu(), frames.quality.cpu(), frames.noise_key.cpu())
        return post.sensor(shown, *cpu)


def _keys(scenes: Scenes, row: int) -> Tensor:
    """One key (1,) that follows from the scene alone."""
    bits = scenes.light[row, :1].cpu().view(torch.int32).long()
    return key(0, _SCENE, bits)
