"""No picture is read as an aligned crop unless it is one: landmarks say so, the table's own or dlib's.

=====================================  ================================================================================
the picture                            what is done
=====================================  ================================================================================
the table has its landmarks            they say whether it is aligned; if not, they align it
a face is found, framed as our crops   read as it is
a face is found, framed otherwise      cropped and aligned
several faces                          the surest, unless two are sure: then refused
no face is found                       read as it is where it is square and the set's other pictures are aligned crops
                                       (a covered face, a hard pose); refused otherwise
=====================================  ================================================================================
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_faces.core.alignment import align_crop, crop_frame
from lit_faces.core.landmarks import FaceAnalyser

_OFF, _FACTOR = 0.2, 1.35  # of a crop: its centre's distance and its size, from those that the landmarks ask for
_SURE = 0.8  # dlib's score from which a second face makes the picture nobody's
_MOST = 0.5  # share of a set's unaligned pictures, from which one without a face is not taken for a crop


def is_aligned(landmarks: NDArray[np.floating], width: int, height: int) -> bool:
    """Whether a picture is framed as :func:`lit_faces.core.alignment.align_crop` frames faces, about.

    Args:
        landmarks: (68, 2), pixels of the picture.
        width: pixels.
        height: pixels.
    """
    x, y, side = (float(value) for value in crop_frame(np.asarray(landmarks, np.float64)))
    if not math.isfinite(x + y + side) or side <= 0 or max(width, height) > 1.1 * min(width, height):
        return False
    off = math.hypot(x - (width - 1) / 2, y - (height - 1) / 2) / side
    return off <= _OFF and 1 / _FACTOR <= side / max(width, height) <= _FACTOR


@dataclass
class Aligner:
    """Aligns the pictures of a set, one after the other, and remembers what was done.

    Attributes:
        kept: pictures that were aligned as they are.
        cropped: pictures whose face was cut out.
        unseen: where no face was found, in words; read as they are.
    """

    kept: int = 0
    cropped: int = 0
    unseen: list[str] = field(default_factory=list)
    _analyser: FaceAnalyser = field(default_factory=FaceAnalyser)

    def align(self, image: Tensor, landmarks: Tensor, where: str) -> tuple[Tensor, Tensor]:
        """A picture that is an aligned crop, of its own size or larger, and its landmarks.

        Args:
            image: uint8 (3, H, W).
            landmarks: float32 (68, 2) as the table has them, or NaN.
            where: for messages: the table's line.

        Raises:
            ValueError: no face in a picture that is no crop, or several.
        """
        height, width = image.shape[1:]
        known = bool(landmarks[:60].isfinite().all())
        points = landmarks.numpy() if known else self._find(image, where)
        if points is None:
            if width != height:
                raise ValueError(
                    f"{where}: no face found in {width}x{height} px, so it cannot be aligned; drop the line, or give "
                    "the 68 landmarks (x0, y0 ... x67, y67)"
                )
            self.unseen.append(where)
            return image, landmarks
        if is_aligned(points, width, height):
            self.kept += 1
            return image, landmarks
        self.cropped += 1
        side = max(32, round(float(crop_frame(np.asarray(points, np.float64))[2])))
        crop, moved = align_crop(image, points, min(side, 512))
        return crop, moved if known else torch.full_like(landmarks, float("nan"))

    def check(self, path: object) -> list[str]:
        """What a user should know, once all pictures are read.

        Raises:
            ValueError: a picture without a face in a set of whole pictures.
        """
        notes = []
        if self.unseen and self.cropped > _MOST * (self.kept + self.cropped):
            raise ValueError(
                f"{self.unseen[0]}: no face found, so it cannot be aligned as the set's others were; drop the line"
                + (f" (and {len(self.unseen) - 1} more)" if len(self.unseen) > 1 else "")
            )
        if self.cropped:
            total = self.kept + self.cropped + len(self.unseen)
            notes.append(
                f"{self.cropped:,} of {total:,} pictures were no aligned crops: the face was found and cut out"
            )
        if self.unseen:
            notes.append(f"{len(self.unseen):,} pictures without a face that is found were taken for aligned crops")
        return notes

    def _find(self, image: Tensor, where: str) -> NDArray[np.float32] | None:
        picture = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
        boxes = self._analyser.detect(picture, 0) or self._analyser.detect(picture)
        if not boxes:
            return None
        if len(boxes) > 1 and boxes[1].score >= _SURE:
            raise ValueError(
                f"{where}: {sum(box.score >= _SURE for box in boxes)} faces in one picture; crop it to the one that "
                "the labels are of, or give its 68 landmarks"
            )
        return self._analyser.landmarks(picture, boxes[0])
