"""What every reader of a public data set shares: clips with their labels, problems, and files as people unzip them.

A reader indexes a copy on disk and joins labels with pictures *by frame number*. What is broken is reported as a
:class:`Problem` and never stops it; what the originals leave open is an option, and the choice is logged.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lit_faces.core.csv_files import physical_lines, to_number
from lit_faces.core.facs import AU_INDEX, NUM_AUS
from lit_faces.core.pictures import PictureError, load_picture
from lit_faces.core.video import frames_of

Floats = NDArray[np.float32]
#: Codes that public sets use for "not coded"; they become NaN.
NOT_CODED = (9.0, 999.0, -1.0)
_MOST = 1e9  # no frame, grade or pixel is beyond it
PICTURES = r"\.(?:jpe?g|png|bmp|tiff?|webp)"


@dataclass(frozen=True)
class Problem:
    """Something that cannot be read.

    Attributes:
        file: which, relative to the root.
        reason: what is wrong, and what to do where that is known.
        line: of the file, 0 when it is no matter of a line.
        clip: clip that suffers.
        frames: frames of it that are lost, as text; empty when none is.
    """

    file: str
    reason: str
    line: int = 0
    clip: str = ""
    frames: str = ""


@dataclass
class Clip:
    """Frames of one person in one recording, with labels; the pictures are still on disk.

    Attributes:
        key: name of the recording, for example ``F001_T1``; unique in the set.
        subject: who, with the set's name: ``disfa:SN001``. Two sets with the same people use the same name.
        frames: int64 (n,), the set's own frame numbers.
        pictures: a file a frame; empty when the frames are in ``container``.
        container: a video (or a table that holds the pixels).
        positions: int64 (n,), where each frame is in the container.
        au_intensity: float32 (n, 19), 0..5, NaN = not coded.
        au_occurrence: float32 (n, 19), 0 or 1, NaN = not coded.
        emotion: int64 (n,), index into ``EMOTIONS``, -1 = not coded.
        boxes: float32 (n, 4), left, top, right, bottom of the face where the set says it; NaN otherwise.
        landmarks: float32 (n, 68, 2), the set's own, pixels of the picture, where the label file holds them.
        pose: float32 (n, 3), yaw, pitch, roll in degrees, where the set knows it.
        split: the set's own split: ``train``, ``val``, ``test`` or empty.
    """

    key: str
    subject: str
    frames: NDArray[np.int64]
    pictures: list[Path] = field(default_factory=list)
    container: Path | None = None
    positions: NDArray[np.int64] | None = None
    au_intensity: Floats | None = None
    au_occurrence: Floats | None = None
    emotion: NDArray[np.int64] | None = None
    boxes: Floats | None = None
    landmarks: Floats | None = None
    pose: Floats | None = None
    split: str = ""

    def __post_init__(self) -> None:
        self.frames = np.asarray(self.frames, dtype=np.int64)
        n = len(self.frames)
        if self.au_intensity is None:
            self.au_intensity = not_coded(n)
        if self.au_occurrence is None:
            self.au_occurrence = not_coded(n)
        if self.emotion is None:
            self.emotion = np.full(n, -1, dtype=np.int64)
        for name, found, expected in (
            ("au_intensity", self.au_intensity.shape, (n, NUM_AUS)),
            ("au_occurrence", self.au_occurrence.shape, (n, NUM_AUS)),
            ("emotion", self.emotion.shape, (n,)),
            ("pictures", (len(self.pictures),), (n,) if self.container is None else (0,)),
        ):
            if found != expected:
                raise ValueError(f"{self.key}: {name}: expected shape {expected}, got {found}")

    def __len__(self) -> int:
        return len(self.frames)

    def select(self, rows: NDArray[np.int64] | slice) -> Clip:
        """The frames at ``rows``."""
        picked = np.arange(len(self))[rows]
        arrays: dict[str, Any] = {
            name: None if getattr(self, name) is None else getattr(self, name)[picked]
            for name in (
                "frames",
                "positions",
                "au_intensity",
                "au_occurrence",
                "emotion",
                "boxes",
                "landmarks",
                "pose",
            )
        }
        return replace(self, pictures=[self.pictures[i] for i in picked] if self.pictures else [], **arrays)


def in_groups(clip: Clip, most: int = 1000) -> list[Clip]:
    """A set of single pictures as clips of at most ``most``, keys ``KEY_0000`` and so on."""
    return [
        replace(clip.select(slice(first, first + most)), key=f"{clip.key}_{first // most:04d}")
        for first in range(0, len(clip), most)
    ]


def not_coded(n: int) -> Floats:
    """NaN, float32 (n, 19)."""
    return np.full((n, NUM_AUS), np.nan, dtype=np.float32)


def frame_ranges(frames: Iterable[int]) -> str:
    """``[1, 2, 3, 7]`` as ``1-3 7``."""
    spans: list[list[int]] = []
    for number in sorted({int(frame) for frame in frames}):
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return " ".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)


def option(default: Any, help: str, choices: Sequence[Any] = ()) -> Any:
    """A field of a reader that the command line shows."""
    return field(default=default, metadata={"help": help, "choices": tuple(choices)})


@dataclass
class Reader:
    """Base of all readers; a subclass finds its clips.

    Args:
        root: the unzipped copy.

    Raises:
        FileNotFoundError: ``root`` is no folder.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    #: AUs that the set codes (of our vocabulary).
    aus: ClassVar[tuple[int, ...]] = ()
    #: Pictures show one face and hardly more: where none is found they are kept whole.
    cropped: ClassVar[bool] = False
    #: Pictures are our own crops already, with their landmarks.
    aligned: ClassVar[bool] = False
    #: The set ships landmarks that :meth:`own_landmarks` reads.
    has_landmarks: ClassVar[bool] = False

    root: Path

    def __post_init__(self) -> None:
        self.root = Path(self.root).expanduser()
        self.problems: list[Problem] = []
        self.choices: dict[str, None] = {}
        self._children: dict[Path, list[Path]] = {}  # a big set takes seconds to list
        for item in self.options():
            allowed, value = item.metadata["choices"], getattr(self, item.name)
            if allowed and value not in allowed:
                raise ValueError(f"{self.name}: {item.name}: expected one of {', '.join(allowed)}, got {value!r}")
        if not self.root.is_dir():
            hint = "it is a file; unpack it and give the folder" if self.root.exists() else "no such folder"
            raise FileNotFoundError(f"{self.root}: {hint} (--root is the folder where {self.title} was unpacked)")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "problems": [], "_children": {}}  # what is sent to a process with every unit

    @classmethod
    def options(cls) -> list[Any]:
        """The dataclass fields that are options of the command line."""
        return [item for item in fields(cls) if "help" in item.metadata]

    def clips(self) -> list[Clip]:
        """All recordings with labels and pictures, in a fixed order; fills ``problems`` and ``choices``.

        Raises:
            FileNotFoundError: the layout is not there at all; says what was looked for and what to unpack.
        """
        raise NotImplementedError

    def pictures(self, clip: Clip) -> Iterator[tuple[int, NDArray[np.uint8] | None, Problem | None]]:
        """Row, picture uint8 (H, W, 3) RGB or None, and what was wrong; every row once, in order."""
        if clip.container is not None:
            yield from self._of_video(clip)
            return
        for row, path in enumerate(clip.pictures):
            picture, reason = read_picture(path)
            yield row, picture, None if picture is not None else self.problem(path, reason, clip, clip.frames[[row]])

    def own_landmarks(self, clip: Clip) -> Floats:
        """The set's own landmarks in the 68-point order, float32 (n, 68, 2), pixels; NaN = missing."""
        if clip.landmarks is None:
            raise ValueError(f"{self.title} has no landmarks of its own: leave --landmarks dlib")
        return clip.landmarks

    def _of_video(self, clip: Clip) -> Iterator[tuple[int, NDArray[np.uint8] | None, Problem | None]]:
        """Decode in sequence: inter-coded videos (Cinepak) seek to wrong frames."""
        assert clip.container is not None and clip.positions is not None
        path = clip.container
        row, count, why = 0, 0, ""  # the next row to give, and frames up to the last good one
        lost: list[int] = []  # frames that cannot be decoded: in the middle, or the end of what is cut short
        try:
            for frame in frames_of(path, whole=False):
                if frame.lost:
                    lost.append(frame.number)
                    continue
                count = frame.number + 1
                while row < len(clip) and clip.positions[row] in lost:
                    reason = f"frame {clip.positions[row]} of the video cannot be decoded"
                    yield row, None, self.problem(path, reason, clip, clip.frames[[row]])
                    row += 1
                lost.clear()
                while row < len(clip) and clip.positions[row] == frame.number:
                    yield row, frame.picture(), None
                    row += 1
                if row == len(clip):
                    return
        except FileNotFoundError:
            why = "the video is missing"
        except (OSError, ValueError) as error:
            why = "" if count else str(error).removeprefix(f"{path}: ")
        if row < len(clip):
            why = why or f"the video ends after {count} frames: cut short, copy it again"
            yield row, None, self.problem(path, why, clip, clip.frames[row:])
        for later in range(row + 1, len(clip)):
            yield later, None, None  # said already

    def problem(self, path: Path, reason: str, clip: Clip | None = None, frames: Iterable[int] = ()) -> Problem:
        """A problem with a file of this set."""
        return Problem(self.relative(path), reason, clip=clip.key if clip else "", frames=frame_ranges(frames))

    def report(self, path: Path, reason: str, line: int = 0, clip: str = "", frames: Iterable[int] = ()) -> None:
        """Remember a problem."""
        self.problems.append(Problem(self.relative(path), reason, line, clip, frame_ranges(frames)))

    def choose(self, text: str) -> None:
        """Remember a choice that the set's documents leave open, to be logged once."""
        self.choices[text] = None

    def relative(self, path: Path) -> str:
        """The path as seen from the root."""
        try:
            return str(path.relative_to(self.root))
        except ValueError:
            return str(path)

    # -- finding ------------------------------------------------------------------------------------------------------

    def folders(self, pattern: str, under: Path | None = None, depth: int = 4) -> list[Path]:
        """Folders whose name matches, whatever the case; nested unzips (``X/X``) give the inner one."""
        rule, found, level = re.compile(pattern, re.IGNORECASE), [], [under or self.root]
        for _ in range(depth):
            below = []
            for folder in level:
                for child in self.children(folder):
                    if rule.fullmatch(child.name):
                        found.append(self._innermost(child))
                    else:
                        below.append(child)
            level = below
        return found

    def _innermost(self, folder: Path) -> Path:
        while True:
            same = [child for child in self.children(folder) if child.name.lower() == folder.name.lower()]
            if not same:
                return folder
            folder = same[0]

    def children(self, folder: Path) -> list[Path]:
        """Sub-folders by name, listed once; without those that only Mac archives have."""
        if folder not in self._children:
            found = [e for e in self._entries(folder) if e.is_dir() and not e.name.startswith((".", "__MACOSX"))]
            self._children[folder] = [Path(entry.path) for entry in found]
        return self._children[folder]

    def files(self, folder: Path, pattern: str) -> list[tuple[re.Match[str], Path]]:
        """Files of a folder whose whole name matches, whatever the case, by name."""
        rule = re.compile(pattern, re.IGNORECASE)
        pairs = ((rule.fullmatch(e.name), Path(e.path)) for e in self._entries(folder) if not e.name.startswith("._"))
        return [(match, path) for match, path in pairs if match]

    def _entries(self, folder: Path) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(folder) as entries:
                return sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            self.report(folder, f"cannot be listed ({error.strerror})")
            return []

    def need(self, what: str, unpack: str, found: Sequence[Path]) -> Path:
        """The first of ``found``.

        Raises:
            FileNotFoundError: there is none.
        """
        if not found:
            raise FileNotFoundError(f"{self.title}: no {what} under {self.root}; unpack {unpack} there")
        if len(found) > 1:
            self.choose(f"{what}: {self.relative(found[0])} taken, {self.relative(found[1])} left")
        return found[0]

    # -- text files ---------------------------------------------------------------------------------------------------

    def lines(self, path: Path, clip: str = "") -> list[str] | None:
        """Lines of a text file; None (and a problem) when it cannot be read."""
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            self.report(path, "the file is missing", clip=clip)
            return None
        except OSError as error:
            self.report(path, f"cannot be read ({error.strerror})", clip=clip)
            return None
        return physical_lines(data.decode("utf-8-sig", errors="replace"))

    def rows(self, path: Path, width: int, expected: str, clip: str = "", header: int = 0, empty: bool = False) -> Any:
        """Rows of ``width`` numbers between commas or blanks; bad lines are reported and left out.

        Returns:
            A list of (line number, numbers); None when the file cannot be read, or is empty and may not be.
        """
        lines = self.lines(path, clip)
        if lines is None:
            return None
        rows, bad = [], []
        for number, line in enumerate(lines, 1):
            cells = line.replace(",", " ").split()
            if number <= header or not cells:
                continue
            try:
                values = [to_number(cell) for cell in cells[:width]]
                if len(values) < width or not all(abs(value) <= _MOST for value in values):  # NaN is refused too
                    raise ValueError
            except ValueError:
                bad.append((number, line))
                continue
            rows.append((number, values))
        if bad:
            more = f" (and {len(bad) - 1} more lines)" if len(bad) > 1 else ""
            self.report(path, f"expected {expected}, found {bad[0][1][:40]!r}{more}", bad[0][0], clip)
        if not rows and not bad and not empty:
            self.report(path, "the file is empty", clip=clip)
        return rows

    def graded(
        self, path: Path, clip: str = "", codes: Sequence[float] = NOT_CODED, rows: Any = None
    ) -> dict[int, float]:
        """``frame,intensity`` rows as frame -> 0..5; not-coded frames are NaN; what cannot be is reported."""
        rows = self.rows(path, 2, "frame,intensity", clip) if rows is None else rows
        grades: dict[int, float] = {}
        wrong: list[tuple[int, float, float]] = []
        for line, (frame, value) in rows or []:
            if frame != int(frame) or not 0 <= frame < 2**31 or (value not in codes and not 0 <= value <= 5):
                wrong.append((line, frame, value))
            elif int(frame) in grades:
                self.report(path, f"frame {int(frame)} stands twice; the first counts", line, clip)
            else:
                grades[int(frame)] = float("nan") if value in codes else value
        if wrong:
            line, frame, value = wrong[0]
            more = f" (and {len(wrong) - 1} more lines)" if len(wrong) > 1 else ""
            self.report(path, f"expected a frame and 0..5, found {frame:g} and {value:g}{more}; not coded", line, clip)
        return grades


def read_picture(path: Path) -> tuple[NDArray[np.uint8] | None, str]:
    """A picture uint8 (H, W, 3) RGB by :func:`lit_faces.core.pictures.load_picture`, or None and the reason."""
    try:
        return load_picture(path), ""
    except FileNotFoundError:
        return None, "the picture is missing"
    except PictureError as error:
        return None, error.reason
    except (OSError, ValueError) as error:
        return None, str(error).removeprefix(f"{path}: ")


def tabulate(grades: dict[int, dict[int, float]], frames: Sequence[int]) -> Floats:
    """AU -> frame -> grade as float32 (n, 19) for ``frames``; NaN where nothing is said."""
    table = not_coded(len(frames))
    row_of = {frame: row for row, frame in enumerate(frames)}
    for au, by_frame in grades.items():
        for frame, value in by_frame.items():
            if frame in row_of:
                table[row_of[frame], AU_INDEX[au]] = value
    return table


def spread_landmarks(points: Floats, count: int) -> Floats:
    """66 or 49 points in the 68-point order, float32 (68, 2); points that are not there are NaN.

    66: without the inner mouth corners (60 and 64); 49: without the jaw either.

    Raises:
        ValueError: not (count, 2).
    """
    if points.shape != (count, 2):
        raise ValueError(f"expected {count}x2 points, found {'x'.join(map(str, points.shape))}")
    if count == 68:
        return points.astype(np.float32)
    inner = [*range(48, 60), 61, 62, 63, 65, 66, 67]
    order = {66: [*range(48), *inner], 49: [*range(17, 48), *inner]}[count]
    out = np.full((68, 2), np.nan, dtype=np.float32)
    out[order] = points
    return out
