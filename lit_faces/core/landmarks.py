"""FaceAnalyser: dlib's face detector, 68-point predictor and face embedding behind one interface.

The geometry of the 68 points (order, mirror, distances, crop) is :mod:`lit_faces.core.alignment`; its names can be
imported from here.

The two weight files come with the pip package ``face_recognition_models`` and are read as plain files; the package
itself is never imported (it needs ``pkg_resources``, which new setuptools no longer has).

**Licence.** The 68-point predictor was trained on iBUG 300-W, whose terms exclude commercial use: so does every result
that needs it.  The detector and the embedding network are free of that limit (Boost licence and public domain).
"""

from __future__ import annotations

import importlib.util
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lit_faces.core.alignment import (
    MIRROR,
    NUM_LANDMARKS,
    align_crop,
    crop_frame,
    inner_eye_distance,
    mirror_landmarks,
    outer_eye_distance,
    warp_crop,
)
from lit_faces.core.predictor import BatchedPredictor

__all__ = [
    "EMBEDDING_SIZE",
    "MIRROR",
    "NUM_LANDMARKS",
    "Box",
    "FaceAnalyser",
    "align_crop",
    "centred_box",
    "crop_frame",
    "find_model_file",
    "inner_eye_distance",
    "mirror_landmarks",
    "outer_eye_distance",
    "warp_crop",
]

_log = logging.getLogger(__name__)

EMBEDDING_SIZE = 128
PREDICTOR_FILE = "shape_predictor_68_face_landmarks.dat"
EMBEDDING_FILE = "dlib_face_recognition_resnet_model_v1.dat"

_DETECT_LONGEST = 1600  # pixels; larger pictures are searched at this size
_BORDER = 0.3  # replicated border of the second attempt, as a share of the longer side
_BOX_PIXELS = 400  # dlib rounds landmarks to pixels: enlarge the face to this width, so that rounding costs < 0.3 %
_WINDOW = 2.2  # part of the picture that the predictor and the embedding see, in box widths


@dataclass(frozen=True)
class Box:
    """Where a face is: first and last column and row inside the box, pixels (may leave the picture); dlib's score.

    A score above 1 is sure, below about 0.35 it is often a false alarm.
    """

    left: int
    top: int
    right: int
    bottom: int
    score: float = 0.0

    @property
    def width(self) -> int:
        """Pixels."""
        return self.right - self.left + 1

    @property
    def height(self) -> int:
        """Pixels."""
        return self.bottom - self.top + 1

    def scaled(self, factor: float) -> Box:
        """The box in a picture ``factor`` times as large."""
        left, top = round(self.left * factor), round(self.top * factor)
        right, bottom = round((self.right + 1) * factor) - 1, round((self.bottom + 1) * factor) - 1
        return Box(left, top, right, bottom, self.score)


def centred_box(height: int, width: int) -> Box:
    """Where dlib would see the face of an aligned crop (mean over photographs), for crops where it sees none."""
    side = min(height, width)
    left, top = (width - 1) / 2 - 0.33 * side, (height - 1) / 2 - 0.345 * side
    return Box(round(left), round(top), round(left + 0.665 * side), round(top + 0.665 * side))


def find_model_file(name: str, folder: Path | str | None = None) -> Path:
    """Path of a dlib weight file.

    Args:
        name: file name.
        folder: where to look; None means the package ``face_recognition_models``.

    Raises:
        FileNotFoundError: neither the package nor the file is there.
    """
    if folder is None:
        spec = importlib.util.find_spec("face_recognition_models")
        locations = list(spec.submodule_search_locations or []) if spec else []
        if not locations:
            raise FileNotFoundError(
                f"dlib's weight file {name} comes with the package face_recognition_models, which is not installed: "
                "pip install face_recognition_models==0.3.0"
            )
        folder = Path(locations[0]) / "models"
    path = Path(folder) / name
    if not path.is_file():
        raise FileNotFoundError(
            f"dlib's weight file {name} is not in {folder}: "
            "pip install --force-reinstall --no-deps face_recognition_models==0.3.0"
        )
    return path


def _import_dlib() -> Any:
    try:
        import dlib
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("dlib is not installed: pip install dlib-bin (a wheel) or dlib (compiles)") from error
    return dlib


def _check_image(image: np.ndarray, grey: bool = False) -> None:
    right = isinstance(image, np.ndarray) and image.dtype == np.uint8
    if not right or not (image.ndim == 2 if grey and image.ndim < 3 else image.ndim == 3 and image.shape[2] == 3):
        found = f"{image.dtype} {tuple(image.shape)}" if hasattr(image, "dtype") else type(image).__name__
        raise ValueError(f"image: expected a uint8 array (H, W, 3), RGB, got {found}")


class FaceAnalyser:
    """Find faces, their 68 landmarks and their 128-d embedding in pictures.

    Nothing is loaded before it is needed (detector 0.1 s, predictor 0.7 s, embedding 0.2 s; for videos the predictor
    in another form, 4 s once a machine).  Loaded models do not travel with pickle and deepcopy; the copy loads its own.

    Args:
        folder: folder with the two weight files; None means the package ``face_recognition_models``.
    """

    def __init__(self, folder: Path | str | None = None) -> None:
        self.folder = None if folder is None else Path(folder)
        self._models: dict[str, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "_models": {}}

    def _model(self, name: str) -> Any:
        """``detector``, ``predictor``, ``batched`` or ``embedding``, loaded once."""
        if name not in self._models:
            dlib = _import_dlib()
            if name == "detector":
                self._models[name] = dlib.get_frontal_face_detector()
            elif name == "batched":
                try:
                    self._models[name] = BatchedPredictor.load(find_model_file(PREDICTOR_FILE, self.folder))
                except ValueError as error:  # trees of another depth: dlib itself reads them
                    self._model("predictor")
                    _log.warning("%s: box by box, then, which takes several times as long", error)
                    self._models[name] = self.points_in
            elif name == "predictor":
                self._models[name] = dlib.shape_predictor(str(find_model_file(PREDICTOR_FILE, self.folder)))
            else:
                self._models[name] = dlib.face_recognition_model_v1(str(find_model_file(EMBEDDING_FILE, self.folder)))
        return self._models[name]

    def detect(self, image: np.ndarray, upsample: int = 1, retry: bool = True) -> list[Box]:
        """Frontal faces, best score first.

        Where none is found, the picture is searched again with a replicated border: on tight crops that lifts the
        found share from 98.7 to 99.3 % (537 photographs).  Pictures longer than 1600 px are searched at that size.

        Args:
            image: uint8 (H, W, 3), RGB, or (H, W), grey, which takes two thirds of the time.
            upsample: how often to double the picture first: 0 finds faces from 80 px, 1 from 40 px.
            retry: search again with a border where none is found.

        Raises:
            ValueError: the image's type or shape is another.
        """
        _check_image(image, grey=True)
        longest = max(image.shape[:2])
        scale = min(1.0, _DETECT_LONGEST / longest)
        small = image if scale == 1.0 else _resize(image, scale)
        boxes = self._run_detector(small, upsample)
        if not boxes and retry:
            pad = round(_BORDER * max(small.shape[:2]))
            padded = np.pad(small, ((pad, pad), (pad, pad), (0, 0))[: small.ndim], mode="edge")
            boxes = self._run_detector(padded, upsample, offset=pad)
        return boxes if scale == 1.0 else [box.scaled(1 / scale) for box in boxes]

    def _run_detector(self, image: np.ndarray, upsample: int, offset: int = 0) -> list[Box]:
        found, scores, _ = self._model("detector").run(np.ascontiguousarray(image), upsample, 0.0)
        boxes = [
            Box(r.left() - offset, r.top() - offset, r.right() - offset, r.bottom() - offset, float(score))
            for r, score in zip(found, scores)
        ]
        return sorted(boxes, key=lambda box: -box.score)

    def landmarks(self, image: np.ndarray, box: Box | None = None) -> np.ndarray:
        """The 68 landmarks of one face.

        Args:
            image: uint8 (H, W, 3), RGB.
            box: which face; None means the one with the best score.

        Returns:
            float32 (68, 2), pixels of ``image``; all NaN when no face is found.

        Raises:
            ValueError: the image's type or shape is another.
        """
        _check_image(image)
        if box is None:
            boxes = self.detect(image)
            if not boxes:
                return np.full((NUM_LANDMARKS, 2), np.nan, dtype=np.float32)
            box = boxes[0]
        dlib = _import_dlib()
        window, scale, origin = _face_window(image, box)
        corners = [(np.array(c) - origin) * scale for c in ((box.left, box.top), (box.right, box.bottom))]
        place = dlib.rectangle(*(round(v) for corner in corners for v in corner))
        shape = self._model("predictor")(window, place)
        points = np.array([(p.x, p.y) for p in shape.parts()], dtype=np.float64)
        return (points / scale + origin).astype(np.float32)

    def points_in(self, window: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """The 68 landmarks of the face in each box, in a window as it is: nothing is enlarged (dlib rounds to pixels).

        Args:
            window: uint8 (H, W), grey.
            boxes: float (n, 2, 2), left and top, right and bottom of the face as dlib's detector frames it, pixels.

        Returns:
            float64 (n, 68, 2), pixels of ``window``.
        """
        dlib, predictor = _import_dlib(), self._model("predictor")
        places = [[round(float(value)) for value in box.ravel()] for box in boxes]
        shapes = [predictor(window, dlib.rectangle(*place)) for place in places]
        points = [[(p.x, p.y) for p in shape.parts()] for shape in shapes]
        return np.array(points, dtype=np.float64).reshape(-1, NUM_LANDMARKS, 2)

    def points_at_once(self, window: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """As :meth:`points_in`, several times as fast and not rounded: :mod:`lit_faces.core.predictor`.

        Args:
            window: uint8 (H, W), grey.
            boxes: float (n, 2, 2), pixels.

        Returns:
            float64 (n, 68, 2), pixels of ``window``.
        """
        found: np.ndarray = self._model("batched")(window, boxes)
        return found

    def embedding(self, image: np.ndarray, landmarks: np.ndarray | None = None) -> np.ndarray:
        """The 128-d face embedding of dlib; the Euclidean distance of two says how alike two people are.

        On photographs the same person is .40 +- .09 apart and different people .82 +- .10 (usual limit 0.6).  On
        rendered faces people are closer: choose the threshold with :func:`lit_faces.metrics.identity.choose_threshold`.

        Args:
            image: uint8 (H, W, 3), RGB.
            landmarks: float (68, 2), pixels of ``image``, NaN rows allowed only all together; None means find them.

        Returns:
            float32 (128,); all NaN when there is no face, or when any landmark is NaN.

        Raises:
            ValueError: the image's type or shape is another.
        """
        _check_image(image)
        points = self.landmarks(image) if landmarks is None else np.asarray(landmarks, dtype=np.float64)
        if not np.isfinite(points).all():
            return np.full(EMBEDDING_SIZE, np.nan, dtype=np.float32)
        dlib = _import_dlib()
        low, high = points.min(0), points.max(0)
        around = Box(*(round(float(v)) for v in (*low, *high)))
        window, scale, origin = _face_window(image, around)
        inside = np.rint((points - origin) * scale).astype(int)
        corners = (int(v) for v in (*inside.min(0), *inside.max(0)))
        shape = dlib.full_object_detection(dlib.rectangle(*corners), [dlib.point(int(x), int(y)) for x, y in inside])
        return np.array(self._model("embedding").compute_face_descriptor(window, shape), dtype=np.float32)

    def batch_landmarks(self, images: Tensor) -> Tensor:
        """Landmarks of the best face of each picture: uint8 (B, 3, H, W) to float32 (B, 68, 2); NaN where none is."""
        found = [self.landmarks(image) for image in _to_arrays(images)]
        return torch.from_numpy(np.stack(found)) if found else torch.empty(0, NUM_LANDMARKS, 2)

    def batch_embeddings(self, images: Tensor, landmarks: Tensor | None = None) -> Tensor:
        """Embeddings of a batch: uint8 (B, 3, H, W) to float32 (B, 128), NaN where no face is found.

        Args:
            images: uint8 (B, 3, H, W), RGB.
            landmarks: float (B, 68, 2), pixels; None means find them.
        """
        points = [None] * len(images) if landmarks is None else list(landmarks.detach().cpu().numpy())
        found = [self.embedding(image, p) for image, p in zip(_to_arrays(images), points)]
        return torch.from_numpy(np.stack(found)) if found else torch.empty(0, EMBEDDING_SIZE)


def _to_arrays(images: Tensor) -> list[np.ndarray]:
    """Pictures as arrays uint8 (H, W, 3)."""
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"images: expected uint8 (B, 3, H, W), got {images.dtype} {tuple(images.shape)}")
    return [np.ascontiguousarray(image) for image in images.permute(0, 2, 3, 1).cpu().numpy()]


def _resize(image: np.ndarray, scale: float) -> np.ndarray:
    """The whole picture, smaller."""
    from PIL import Image

    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0))


def _face_window(image: np.ndarray, box: Box) -> tuple[np.ndarray, float, np.ndarray]:
    """The face with a margin, border replicated, enlarged so that the box is at least 400 px wide.

    Returns:
        Window uint8 (S, S, 3); scale; origin (2,): point p of the picture is at ``(p - origin) * scale`` in the window.
    """
    extent = max(box.width, box.height, 2)
    side = _WINDOW * extent
    size = round(side * max(1.0, _BOX_PIXELS / extent))
    scale = size / side
    cx, cy = 0.5 * (box.left + box.right), 0.5 * (box.top + box.bottom)
    if size == round(side):  # large enough as it is: whole pixels are cut out, nothing is resampled
        scale, side = 1.0, float(size)
        cx, cy = (round(c - side / 2 + 0.5) + side / 2 - 0.5 for c in (cx, cy))
    window = warp_crop(image, cx, cy, side, size)
    return window, scale, np.array([cx, cy]) - (size - 1) / 2 / scale
