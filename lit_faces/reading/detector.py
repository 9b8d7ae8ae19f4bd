"""A detector that takes what you have: a file, an array, a tensor, a list of them; finds, aligns and reads the faces.

::

    detector = lit_faces.load("generic")
    found = detector("photo.jpg")
    found.intensity["AU12"], found.to_frame()
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_faces.core.devices import device_of
from lit_faces.core.facs import AU_KEYS, EMOTIONS, au_numbers
from lit_faces.core.landmarks import FaceAnalyser
from lit_faces.core.pictures import load_picture
from lit_faces.models.detector import DetectorNetwork
from lit_faces.persons.readers import person_detector
from lit_faces.reading.network import CropReader
from lit_faces.reading.pipeline import Part, Patch, photo_part, read_parts, read_video
from lit_faces.reading.rows import FaceRow, columns, typed_cells
from lit_faces.reading.sources import find_jobs, video_shots
from lit_faces.reading.tracking import FaceTracker
from lit_faces.reading.zero import zero_of_file
from lit_faces.tasks.black_box import BlackBox, FaceReader

if TYPE_CHECKING:
    import pandas

#: What is read: a path of a photo, video or folder; uint8 (H, W, 3) or (N, H, W, 3) arrays, (3, H, W) or (N, 3, H, W)
#: tensors; a list of these.
Picture = str | Path | np.ndarray | Tensor


class ByName(dict[str, Any]):
    """Values by name; ``AU6``, ``au06`` and ``6`` mean ``AU06``.

    Raises:
        KeyError: no such name; says which there are.
    """

    def __missing__(self, key: Any) -> Any:
        try:
            name = f"AU{au_numbers(str(key))[0]:02d}"
        except ValueError:
            name = ""
        if name not in self:
            raise KeyError(f"{key}: not among {', '.join(self)}")
        return self[name]


class Readings(Sequence[FaceRow]):
    """What was read: one row a frame and face, in order.

    Args:
        rows: see :class:`lit_faces.reading.rows.FaceRow`.
        how: how the faces were found.
    """

    def __init__(self, rows: Sequence[FaceRow], how: str) -> None:
        self.rows, self.how = list(rows), how

    @property
    def faces(self) -> list[FaceRow]:
        """The rows that have a face."""
        return [row for row in self.rows if row.success]

    @property
    def intensity(self) -> dict[str, Any]:
        """Intensities 0..5 by AU (``AU06``): a float where one face was read, else float32 (n,) over the rows."""
        return self._by_name(AU_KEYS, "intensity")

    @property
    def present(self) -> dict[str, Any]:
        """Occurrence 0 or 1 by AU, as :attr:`intensity`; NaN where no face was found."""
        return self._by_name(AU_KEYS, "present")

    @property
    def expression(self) -> dict[str, Any]:
        """Probabilities by expression, as :attr:`intensity`."""
        return self._by_name(EMOTIONS, "expression")

    def _by_name(self, names: Sequence[str], what: str) -> dict[str, Any]:
        values = np.array([getattr(row, what) for row in self.rows]).reshape(len(self.rows), len(names))
        if len(self.rows) == 1:
            return ByName((name, float(values[0, number])) for number, name in enumerate(names))
        return ByName((name, values[:, number]) for number, name in enumerate(names))

    def to_frame(self, landmarks: bool = False) -> pandas.DataFrame:
        """A pandas table with the columns of ``predict``'s CSV.

        Args:
            landmarks: the 68 landmarks too.

        Raises:
            ModuleNotFoundError: pandas is not installed.
        """
        try:
            import pandas
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError("to_frame() needs pandas: pip install pandas") from error
        return pandas.DataFrame([typed_cells(row, landmarks) for row in self.rows], columns=columns(landmarks))

    def __getitem__(self, place: Any) -> Any:
        return self.rows[place] if isinstance(place, int) else Readings(self.rows[place], self.how)

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        shown = ""
        if len(self.rows) == 1 and self.faces:
            strongest = sorted(self.intensity.items(), key=lambda one: -one[1])[:4]
            shown = ": " + ", ".join(f"{name} {value:.1f}" for name, value in strongest)
        return f"<{len(self.rows)} rows, {len(self.faces)} with a face ({self.how}){shown}>"


class Detector:
    """A detector, and all that it takes to get from a picture to its faces.

    Args:
        detector: ``generic``, a personal folder, weights, a class path of your own (:mod:`lit_faces.tasks.black_box`),
            or a detector that is made already.
        accelerator: ``auto``, ``cpu`` or ``gpu``.

    Raises:
        FileNotFoundError, ValueError: no such detector.
    """

    def __init__(
        self, detector: str | Path | DetectorNetwork | BlackBox = "generic", accelerator: str = "auto"
    ) -> None:
        made = isinstance(detector, DetectorNetwork | BlackBox)
        if not made and not isinstance(detector, str | Path):
            kind = type(detector).__name__
            raise TypeError(f"detector: expected 'generic', a folder or a file of weights, got {kind}")
        self.network: FaceReader = (
            detector if isinstance(detector, DetectorNetwork | BlackBox) else person_detector(detector)
        )
        self.network.to(device_of(accelerator))
        self.name = type(detector).__name__ if made else str(detector)
        self.analyser = FaceAnalyser()
        self._reader = CropReader(self.network, compiled=False)

    def __call__(self, what: Picture | Sequence[Picture]) -> Readings:
        """Find, align and read all faces.

        Args:
            what: see :data:`Picture`, or a list of these. Videos are tracked: an id stays with a person. For crops
                that are aligned already use :meth:`crops`.

        Raises:
            FileNotFoundError, OSError: no such file.
            ValueError: an unreadable file; an array that is no uint8 RGB picture.
        """
        several: Sequence[Any] = what if isinstance(what, list | tuple) else [what]
        rows = [row for one in several for row in self._rows(one)]
        return Readings(rows, "detected and aligned by dlib's 68 points")

    def crops(self, crops: Tensor | np.ndarray) -> Readings:
        """Read crops that are aligned as :func:`lit_faces.core.alignment.align_crop` does; nothing is looked for.

        Args:
            crops: uint8, a tensor (3, S, S) or (N, 3, S, S), or an array (S, S, 3) or (N, S, S, 3); RGB.

        Raises:
            ValueError: another type or shape.
        """
        pictures = [torch.from_numpy(one).permute(2, 0, 1) for one in _pictures(crops)]
        parts = []
        for number, crop in enumerate(pictures):
            row = FaceRow("", number, 0.0, crop.shape[2], crop.shape[1], 0, float("inf"))
            parts.append(Part(number, 0.0, [row], faces=[Patch(crop)]))
        for part in parts:
            read_parts([part], self._reader)
        return Readings([row for part in parts for row in part.rows], "aligned crops, as they were given")

    def _rows(self, what: Picture) -> list[FaceRow]:
        if not isinstance(what, str | Path):
            parts = [self._part(one, "", number) for number, one in enumerate(_pictures(what))]
            return [row for part in parts for row in part.rows]
        rows: list[FaceRow] = []
        for job in find_jobs([str(what)]):
            if job.kind == "camera":
                raise ValueError(f"{what}: a camera has no end; use `python -m lit_faces.predict {what} --out aus.csv`")
            if job.kind == "video":
                shots, name = video_shots(job.paths[0]), job.paths[0].name
                tracker = FaceTracker(analyser=self.analyser)
                rows += [row for part in read_video(shots, name, self.network, tracker) for row in part.rows]
            for path in job.paths if job.kind == "photos" else ():
                rows += self._part(load_picture(path), path.name, 0).rows
        return rows

    def _part(self, picture: np.ndarray, name: str, number: int) -> Part:
        part = photo_part(picture, name, number, self.network, self.analyser)
        read_parts([part], self._reader)
        for row in part.rows:
            row.frame = number
        return part


def read_zero(
    word: str, detector: FaceReader, analyser: FaceAnalyser
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None] | None:
    """What ``--zero`` names: the zero float32 (19,), and of a photo the face's embedding; None for none and auto.

    Raises:
        FileNotFoundError, OSError: no such file.
        ValueError: a photo without a face or with several; a file that holds no zero.
    """
    if word in ("none", "auto"):
        return None
    path = Path(word)
    if path.suffix.lower() == ".json":
        return zero_of_file(path), None
    picture = load_picture(path)
    part = photo_part(picture, path.name, 0, detector, analyser)
    faces = [row for row in read_parts([part], CropReader(detector, compiled=False))[0].rows if row.success]
    if len(faces) != 1:
        raise ValueError(f"--zero {path}: {len(faces) or 'no'} faces found, one resting face is needed; crop it")
    return faces[0].intensity, analyser.embedding(picture, faces[0].landmarks)


def resting_zero(word: str, detector: FaceReader) -> NDArray[np.float32] | None:
    """The zero alone; raises as :func:`read_zero`."""
    found = None if word == "none" else read_zero(word, detector, FaceAnalyser())
    return None if found is None else found[0]


def _pictures(what: np.ndarray | Tensor) -> list[np.ndarray]:
    """Pictures uint8 (H, W, 3) of an array or a tensor.

    Raises:
        ValueError: another type or shape; says what was found.
    """
    if isinstance(what, Tensor):
        values, wanted = what.detach().cpu(), "a uint8 tensor (3, H, W) or (N, 3, H, W)"
        right = values.dtype == torch.uint8 and values.ndim in (3, 4) and values.shape[-3] == 3
        array = values.movedim(-3, -1).numpy() if right else values.numpy()
    else:
        array, wanted = np.asarray(what), "a uint8 array (H, W, 3) or (N, H, W, 3)"
        right = array.dtype == np.uint8 and array.ndim in (3, 4) and array.shape[-1] == 3
    if not right:
        raise ValueError(f"picture: expected {wanted}, RGB, got {array.dtype} {tuple(np.shape(what))}")
    return [np.ascontiguousarray(one) for one in (array[None] if array.ndim == 3 else array)]
