"""Rendered faces on disk: written once, chunk by chunk, read as memory maps.

One folder holds one *plan* (who is rendered, how often, by which renderer with which options). Its name is a hash of
the plan, so that other options never meet old pictures. Rendering goes on in ``HASH.partial``; a killed run continues
at the next chunk; the folder gets its name when it is complete, so that a half-written set is never read. The room on
the disk is taken before the first face is rendered, and rows are written, never mapped, so that a full disk is an error
at the start and not a bus error at the end. Reading maps the files, and needs neither lock nor write access.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from lit_faces.core.classes import find_class
from lit_faces.core.facs import NUM_AUS
from lit_faces.core.fields import field, read_json
from lit_faces.core.files import locked, replace_file, reserve
from lit_faces.core.sample import FaceBatch
from lit_faces.core.words import UsageError
from lit_faces.rendering.heads import Renderer

LAYOUT = 3  # of the files below
CHUNK = 64  # faces of one render call
NEUTRAL_POSE = (6.0, 4.0, 3.0)  # standard deviations of yaw, pitch, roll of a neutral frame, degrees


@dataclass(frozen=True)
class RenderPlan:
    """Who is rendered, and how.

    Rows are ordered by subject, then scene, then frame. The first frame of a scene is neutral (all AUs 0, small pose)
    when ``neutral_first`` is set.

    Attributes:
        renderer: class path of the renderer.
        options: its arguments (size, seed, head, ...), plain data.
        version: the renderer's RENDER_VERSION.
        first_subject: index of the first person.
        subjects: number of people.
        scenes: scenes (light, background, camera) of each person.
        frames: frames (AUs, pose, gaze) of each scene.
        neutral_first: whether the first frame of a scene is neutral.
        poses: distinct poses (and gazes) of each scene, dealt to its frames in turn; 0 gives every frame its own.
    """

    renderer: str
    options: dict[str, Any]
    version: str
    first_subject: int
    subjects: int
    scenes: int
    frames: int
    neutral_first: bool
    poses: int = 0

    def __len__(self) -> int:
        return self.subjects * self.scenes * self.frames

    @property
    def key(self) -> str:
        """16 hex digits that no other plan has."""
        text = json.dumps({"layout": LAYOUT, **asdict(self)}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def indices(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Subject, scene and frame of rows, int64 (B,) each; frame numbers are unique within a subject."""
        per_subject = self.scenes * self.frames
        within = rows % per_subject
        return rows // per_subject + self.first_subject, within // self.frames, within

    def arrays(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Shape and dtype of every stored array."""
        n, size = len(self), int(self.options["size"])
        return {
            "image": ((n, 3, size, size), "uint8"),
            "landmarks": ((n, 68, 2), "float32"),
            "au_intensity": ((n, NUM_AUS), "float32"),
            "au_occurrence": ((n, NUM_AUS), "float32"),
            "emotion": ((n,), "int64"),
            "pose": ((n, 3), "float32"),
        }

    @property
    def nbytes(self) -> int:
        """Size on disk, bytes."""
        return sum(_nbytes(shape, dtype) for shape, dtype in self.arrays().values())


def _nbytes(shape: tuple[int, ...], dtype: str) -> int:
    return int(np.prod(shape)) * np.dtype(dtype).itemsize


def _header(shape: tuple[int, ...], dtype: str) -> bytes:
    """What a ``.npy`` file of this shape begins with."""
    content = io.BytesIO()
    about = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(content, about)
    return content.getvalue()


def _damage(file: Path, shape: tuple[int, ...], dtype: str) -> str:
    """Why a file cannot be mapped as this array; nothing when it can."""
    if not file.is_file():
        return "is missing"
    with file.open("rb") as handle:
        try:
            np.lib.format.read_magic(handle)
            found_shape, fortran, found_dtype = np.lib.format.read_array_header_1_0(handle)
        except ValueError as error:
            return f"not an array ({error})"
        expected = handle.tell() + _nbytes(shape, dtype)
    if (found_shape, fortran, found_dtype) != (shape, False, np.dtype(dtype)):
        return f"expected {dtype} {shape}, found {found_dtype} {found_shape}"
    found = file.stat().st_size
    return f"expected {expected} bytes, found {found}" if found < expected else ""


def load_class(path: str) -> Any:
    """The renderer at a dotted path.

    Raises:
        UsageError: no such module or class, or no renderer.
    """
    found = find_class(path, "renderer", Renderer)
    if found is None:
        raise UsageError(f"renderer: expected a dotted path such as lit_faces.rendering.renderer.FaceRenderer: {path}")
    return found


def renderer_version(path: str) -> str:
    """RENDER_VERSION of the module of a renderer class."""
    return str(getattr(importlib.import_module(load_class(path).__module__), "RENDER_VERSION", "0"))


class RenderedCache:
    """Read access to a complete cache folder.

    Raises:
        ValueError: a file is missing or has another size than the plan says.
    """

    def __init__(self, folder: Path, plan: RenderPlan) -> None:
        self.folder, self.plan = folder, plan
        self._arrays: dict[str, NDArray[Any]] | None = None
        for name, (shape, dtype) in plan.arrays().items():
            file = folder / f"{name}.npy"
            if what := _damage(file, shape, dtype):
                raise ValueError(
                    f"{file}: {what}: damaged; delete the folder {folder} and run again, it will be rendered anew"
                )

    def __len__(self) -> int:
        return len(self.plan)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_arrays": None}  # workers map the files themselves

    def gather(self, rows: Tensor) -> FaceBatch:
        """The faces of ``rows``, int64 (B,), as one batch."""
        if self._arrays is None:
            self._arrays = {name: np.load(self.folder / f"{name}.npy", mmap_mode="r") for name in self.plan.arrays()}
        index = rows.numpy()
        tensors = {name: torch.from_numpy(np.ascontiguousarray(array[index])) for name, array in self._arrays.items()}
        subject, _, frame = self.plan.indices(rows)
        seed = self.plan.options.get("seed", 0)
        names = [f"render{seed}:{s:06d}" for s in subject.tolist()]
        return FaceBatch(**tensors, subject=names, source=["rendered"] * len(names), frame=frame)


def ensure_rendered(plan: RenderPlan, cache_dir: Path, device: str = "cpu") -> RenderedCache:
    """Render what is missing, then open the cache.

    Raises:
        OSError: the disk is too small, or the place cannot be written to.
        ValueError: the cache is damaged, or the renderer's path or options are wrong.
    """
    folder = cache_dir / "rendered" / plan.key
    if not folder.is_dir():
        with locked(folder.parent, "rendering faces", wait=True, name=f"{folder.name}.lock"):
            if not folder.is_dir():  # another process may have finished it meanwhile
                _render(plan, folder, device)
    return RenderedCache(folder, plan)


class _Rows:
    """The arrays of a cache while they are filled: whole files from the start, written row by row.

    Args:
        folder: where they lie.
        plan: what they hold.

    Raises:
        OSError: there is no room for all of it; names the file.
    """

    def __init__(self, folder: Path, plan: RenderPlan) -> None:
        self._files: dict[str, tuple[int, int, int]] = {}  # descriptor, where row 0 begins, bytes of a row
        self._dtypes = {name: np.dtype(dtype) for name, (_, dtype) in plan.arrays().items()}
        try:
            for name, (shape, dtype) in plan.arrays().items():
                file, head = folder / f"{name}.npy", _header(shape, dtype)
                reserve(file, len(head) + _nbytes(shape, dtype))
                handle = os.open(file, os.O_RDWR)
                self._files[name] = handle, len(head), _nbytes(shape[1:], dtype)
                _write_all(handle, head, 0)
                os.ftruncate(handle, len(head) + _nbytes(shape, dtype))
        except BaseException:
            self.close()
            raise

    def write(self, rows: Tensor, batch: FaceBatch) -> None:
        """Put faces into ``rows``, int64 (B,)."""
        for name, (handle, start, width) in self._files.items():
            values = np.ascontiguousarray(getattr(batch, name).cpu().numpy(), self._dtypes[name])
            for row, value in zip(rows.tolist(), values):
                _write_all(handle, value.tobytes(), start + row * width)

    def flush(self) -> None:
        """To the disk."""
        for handle, _, _ in self._files.values():
            os.fsync(handle)

    def close(self) -> None:
        """Let go of the files."""
        while self._files:
            os.close(self._files.popitem()[1][0])


def _write_all(handle: int, data: bytes, place: int) -> None:
    while data:
        written = os.pwrite(handle, data, place)
        data, place = data[written:], place + written


def _render(plan: RenderPlan, folder: Path, device: str) -> None:
    partial = folder.with_suffix(".partial")
    partial.mkdir(exist_ok=True)
    progress = partial / "progress.json"
    done = _done(progress, partial, plan)
    free = shutil.disk_usage(partial).free
    if done == 0 and free < plan.nbytes * 1.05 and not any(partial.glob("*.npy")):
        raise OSError(
            f"{partial.parent}: {len(plan):,} faces need {plan.nbytes / 2**30:.1f} GiB, {free / 2**30:.1f} are free: "
            "choose another folder with --data.init_args.cache_dir or LIT_FACES_CACHE, or render fewer"
        )
    renderer = load_class(plan.renderer)(**plan.options, device=device)
    bar = tqdm(total=len(plan), initial=done, unit="face", desc="rendering faces", mininterval=0.5, dynamic_ncols=True)
    last_saved = time.monotonic()
    with contextlib.closing(_Rows(partial, plan)) as arrays, bar, torch.no_grad():
        for start in range(done, len(plan), CHUNK):
            rows = torch.arange(start, min(start + CHUNK, len(plan)))
            for part, batch in _render_chunk(renderer, plan, rows):
                arrays.write(part, batch)
            bar.update(len(rows))
            if time.monotonic() - last_saved > 5:
                _save_progress(arrays, progress, int(rows[-1]) + 1)
                last_saved = time.monotonic()
        _save_progress(arrays, progress, len(plan))
    replace_file(partial / "plan.json", json.dumps(asdict(plan), indent=1).encode())
    os.replace(partial, folder)


def _done(progress: Path, partial: Path, plan: RenderPlan) -> int:
    """Rows that a killed run has finished; 0 where its files are not what they were, and then they are made anew."""
    whole = all(
        (partial / f"{name}.npy").is_file()
        and (partial / f"{name}.npy").stat().st_size == len(_header(*kind)) + _nbytes(*kind)
        for name, kind in plan.arrays().items()
    )
    try:
        done = field(read_json(progress), "done", int, progress, minimum=0, maximum=len(plan))
    except (OSError, ValueError):
        return 0
    return done if whole else 0


def _save_progress(arrays: _Rows, file: Path, done: int) -> None:
    """Pictures first, then the count: a kill between the two renders a chunk twice, never skips one."""
    arrays.flush()
    replace_file(file, json.dumps({"done": done}).encode())


def _render_chunk(renderer: Any, plan: RenderPlan, rows: Tensor) -> Iterator[tuple[Tensor, FaceBatch]]:
    """Neutral first frames and all others, each with its rows."""
    _, _, frame = plan.indices(rows)
    neutral = (frame % plan.frames == 0) & plan.neutral_first
    for part, is_neutral in ((rows[~neutral], False), (rows[neutral], True)):
        if len(part) == 0:
            continue
        subject, scene, frame = plan.indices(part)
        asked: dict[str, Tensor] = {}
        if is_neutral:
            asked = {"au": torch.zeros(len(part), NUM_AUS), "pose": _neutral_pose(plan, subject, frame)}
        elif plan.poses:
            within = frame % plan.frames
            asked = {"posed_as": frame - within + within % plan.poses}
            if plan.neutral_first:  # the first pose is the neutral frame's
                first = (within % plan.poses == 0)[:, None]
                pose = _neutral_pose(plan, subject, asked["posed_as"])
                asked["pose"] = torch.where(first, pose, torch.full_like(pose, torch.nan))
        yield part, renderer.render(subject, frame, scene, **asked)


def _neutral_pose(plan: RenderPlan, subject: Tensor, frame: Tensor) -> Tensor:
    """Small head poses, float32 (B, 3) degrees, from (seed, subject, frame) alone."""
    from lit_faces.core.seeding import generator_for

    seed = int(plan.options.get("seed", 0))
    draws = [
        torch.randn(3, generator=generator_for(seed, 0x9E07, s, f)).clamp(-2, 2)
        for s, f in zip(subject.tolist(), frame.tolist())
    ]
    return torch.stack(draws) * torch.tensor(NEUTRAL_POSE)
