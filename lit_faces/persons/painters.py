"""Who makes the pictures: a learnt generator, or the photograph itself as a head.

Both are asked the same way, for poses and Action Units, and say of each picture where its landmarks are, which source
it was made from, and what in it is a guess.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from lit_faces.core.originals import original_of_crop
from lit_faces.core.sample import FaceBatch, to_uint8
from lit_faces.core.shipped import PHOTO_HEAD
from lit_faces.fitting.landmark_model import LandmarkModel
from lit_faces.fitting.retarget import FittedFace, retarget
from lit_faces.persons.generators import load_generator
from lit_faces.persons.source import PersonSource
from lit_faces.photohead.head import PhotoHead
from lit_faces.photohead.honesty import MOST_PITCH, MOST_YAW, eyes_are_closed, eyes_are_covered, turned_too_far
from lit_faces.tasks.reenactment import ReenactmentGAN

SIZES = (128, 512)  # pixels: side of the pictures of a photo head
PHOTO_SIZE, NETWORK_SIZE = 256, 128  # pixels, where nothing is asked
_LEAST_PIXELS = 0.7  # of the photo to a pixel of the picture, from which it looks sharp
_BATCH = 20


@dataclass
class Painted:
    """B pictures.

    Attributes:
        images: uint8 (B, 3, S, S).
        landmarks: float32 (B, 68, 2), pixels, as asked.
        source: int64 (B,), which source each was made from.
        refused: why a picture cannot be what was asked; empty where it can.
        uncertain: what in each is a guess, or nothing.
    """

    images: Tensor
    landmarks: Tensor
    source: Tensor
    refused: list[str]
    uncertain: list[str]


class Painter(Protocol):
    """Makes pictures of one person."""

    def paint(self, pose: Tensor, au: Tensor) -> Painted:
        """Pictures for poses (B, 3) in degrees and intensities (B, 19), 0..5."""

    def landmarks(self, source: int, pose: Tensor, au: Tensor) -> Tensor:
        """Landmarks (B, 68, 2) of what :meth:`paint` makes of a source."""

    def act(self, pose: Tensor, au: Tensor, landmarks: Tensor) -> Tensor:
        """Frames uint8 (T, 3, S, S) of the first source, acting."""


def enlarged(source: PersonSource, size: int) -> list[str]:
    """A sentence where the pictures have more pixels than the photo gives."""
    side = min(original.crop[2] for original in source.originals) if source.originals else size
    if side >= _LEAST_PIXELS * size:
        return []
    return [
        f"the face is only {side:.0f} px large in the source: pictures of {size} px are soft; --size 128 is smaller"
    ]


def painter_of(
    source: PersonSource, generator: str | ReenactmentGAN, model: LandmarkModel, size: int, device: str = "cpu"
) -> Painter:
    """The painter of a person.

    Args:
        source: the person.
        generator: ``photohead``, weights of a generator or a word for them, or one that is loaded.
        model: the landmark model.
        size: side of the pictures, pixels.
        device: where a generator runs.

    Raises:
        ValueError: a photo that cannot be a head; says why.
    """
    if generator == PHOTO_HEAD:
        return PhotoPainter(source, model, size)
    network = load_generator(generator) if isinstance(generator, str) else generator
    return NetworkPainter(source, network.to(device), model)


class NetworkPainter:
    """A learnt generator.

    Args:
        source: the person.
        generator: of :func:`lit_faces.persons.generators.load_generator`.
        model: the landmark model.
    """

    def __init__(self, source: PersonSource, generator: ReenactmentGAN, model: LandmarkModel) -> None:
        self.source, self.generator, self.model = source, generator, model

    def paint(self, pose: Tensor, au: Tensor) -> Painted:
        """See :class:`Painter`."""
        nothing = [""] * len(pose)
        return Painted(*picture(self.generator, self.model, self.source, pose, au), nothing, list(nothing))

    def landmarks(self, source: int, pose: Tensor, au: Tensor) -> Tensor:
        """See :class:`Painter`."""
        return retarget(self.model, self.source.fits[source], pose, au)

    def act(self, pose: Tensor, au: Tensor, landmarks: Tensor) -> Tensor:
        """See :class:`Painter`."""
        first = self.source.faces.select(torch.zeros(len(au), dtype=torch.int64))
        return render(self.generator, first, landmarks, au)


class PhotoPainter:
    """The photographs themselves; each picture is made from the one whose pose is nearest.

    Args:
        source: the person.
        model: the landmark model.
        size: side of the pictures, pixels.

    Raises:
        ValueError: no source shows an open eye, or shows enough skin.
    """

    def __init__(self, source: PersonSource, model: LandmarkModel, size: int) -> None:
        check_eyes(source)
        self.source, self.model, self.size = source, model, size
        self.originals = source.originals or [original_of_crop(image) for image in source.faces.image]
        self._heads: dict[int, PhotoHead] = {}

    def _head(self, number: int) -> PhotoHead:
        if number not in self._heads:
            original, seed = self.originals[number], int(self.source.sha256[:8] or "0", 16)
            try:
                self._heads[number] = PhotoHead(
                    original.image, original.crop, self.source.fits[number], self.model, self.size, seed=seed
                )
            except ValueError as error:
                raise ValueError(
                    f"{self.source.name}: {error}; use a photo of the whole face from the front"
                ) from error
        return self._heads[number]

    def paint(self, pose: Tensor, au: Tensor) -> Painted:
        """See :class:`Painter`."""
        nearest = self.source.nearest(pose)
        images, landmarks, refused, uncertain = [], [], [], []
        for k, number in enumerate(nearest.tolist()):
            made = self._head(number).render(au[k], pose=pose[k])
            images.append(torch.from_numpy(made.image).permute(2, 0, 1))
            landmarks.append(torch.from_numpy(made.landmarks))
            refused.append(turned_too_far(pose[k], self.source.fits[number].pose))
            uncertain.append("; ".join(made.uncertain))
        return Painted(torch.stack(images), torch.stack(landmarks), nearest, refused, uncertain)

    def landmarks(self, source: int, pose: Tensor, au: Tensor) -> Tensor:
        """See :class:`Painter`."""
        head = self._head(source)
        return torch.stack([torch.from_numpy(head.landmarks_of(a, a, p)) for a, p in zip(au, pose, strict=True)])

    def act(self, pose: Tensor, au: Tensor, landmarks: Tensor) -> Tensor:
        """See :class:`Painter`; turns beyond what the photo can show are held at their limit."""
        own, most = self.source.fits[0].pose, torch.tensor([MOST_YAW, MOST_PITCH, 180.0])
        held = torch.minimum(torch.maximum(pose, own - most), own + most)
        head = self._head(0)
        frames = [head.render(a, pose=p).image for a, p in zip(au, held, strict=True)]
        return torch.stack([torch.from_numpy(frame).permute(2, 0, 1) for frame in frames])


def check_eyes(source: PersonSource) -> None:
    """A photo head cannot open eyes, nor take off dark glasses.

    Raises:
        ValueError: no source shows open eyes.
    """
    if all(eyes_are_covered(*pair) for pair in zip(source.faces.image, source.faces.landmarks, strict=True)):
        raise ValueError(
            f"{source.name}: the eyes are covered (dark glasses?), so that nothing of their expression can be shown; "
            "use a photo without"
        )
    if eyes_are_closed(source.fits):
        raise ValueError(
            f"{source.name}: the eyes are closed in every source picture, and open eyes would be invented; use a photo "
            "with open eyes, or --generator packaged"
        )


# -- a learnt generator ------------------------------------------------------------------------------------------------


@torch.inference_mode()
def picture(
    generator: ReenactmentGAN, model: LandmarkModel, source: PersonSource, pose: Tensor, au: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures of a person in other poses with other AUs.

    Args:
        generator: of :func:`lit_faces.persons.generators.load_generator`.
        model: the landmark model.
        source: the person; each picture is made from the source whose pose is nearest.
        pose: float (B, 3), degrees.
        au: float (B, 19), 0..5.

    Returns:
        Pictures uint8 (B, 3, S, S), the landmarks that were asked (B, 68, 2), and which source was used (B,).
    """
    nearest = source.nearest(pose)
    landmarks = torch.empty(len(pose), 68, 2)
    for number in nearest.unique().tolist():
        rows = (nearest == number).nonzero()[:, 0]
        landmarks[rows] = retarget(model, source.fits[number], pose[rows], au[rows])
    return render(generator, source.faces.select(nearest), landmarks, au), landmarks, nearest


@torch.inference_mode()
def render(generator: ReenactmentGAN, faces: FaceBatch, landmarks: Tensor, au: Tensor) -> Tensor:
    """Pictures uint8 (B, 3, S, S) of faces (B,) as asked, a few at a time."""
    made = []
    for start in range(0, len(au), _BATCH):
        pick = slice(start, start + _BATCH)
        made.append(to_uint8(generator.reenact(faces.select(pick), landmarks[pick], au[pick]).image).cpu())
    return torch.cat(made)


def drive_pictures(
    painter: Painter, source: PersonSource, driver: list[FittedFace], au: Tensor, smooth: float = 1.0
) -> Tensor:
    """The person acting like somebody else: uint8 (T, 3, S, S).

    Args:
        painter: see :func:`painter_of`.
        source: whose face.
        driver: fitted frames of the acting person, in order.
        au: float (T, 19), the driver's intensities.
        smooth: filter over time, frames.
    """
    from lit_faces.fitting.retarget import drive

    pose, level, landmarks = drive(LandmarkModel(), source.fits[0], driver, au, smooth)
    return painter.act(pose, level, landmarks)
