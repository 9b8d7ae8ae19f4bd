"""Bring your own detector: any network or function that gives AUs, read as ours is.

::

    my.module.Net{"weights": "net.safetensors", "aus": [1, 2, 4], "size": 224}   an nn.Module, a LightningModule
    timm:resnet18{"weights": "net.safetensors", "aus": [6, 12, 17]}              a timm model, one output an AU
    my.module.read{"most": 1.0}                                                  a function: picture -> {"AU06": 0.3}
    my.module.Reader{"init": {"model": "face.task"}, "most": 1.0}                a class, whose objects are called so

=========  =========================================================================================================
argument   meaning
=========  =========================================================================================================
weights    state dict: safetensors, or a checkpoint (which cannot run code); a network without keeps its own
aus        AUs of the outputs, in order; of a function that gives names not needed
size       side of the aligned crops, pixels (224)
most       what the reader says of an AU at full strength; readings are scaled so that it becomes 5 (5)
logits     outputs are logits: their sigmoid is read, 1 being full strength
mean, std  of a network's normalisation, three numbers each for RGB in 0..1 (ImageNet's)
init       arguments of the class
=========  =========================================================================================================

Which class is called is said on the command line alone, never by a file: what stands in a card or a zero cannot run.
AUs that a detector does not have are NaN, as everywhere: not read.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from lit_faces.core.classes import find_object
from lit_faces.core.facs import AU_INDEX, AU_KEYS, MAX_INTENSITY, NUM_AUS, OCCURRENCE_THRESHOLD
from lit_faces.core.geometry import mirror_images, resize_images
from lit_faces.core.shipped import weights_code
from lit_faces.core.weights import load_checkpoint, load_state, load_weights, plain_weights
from lit_faces.core.words import UsageError, suggestion
from lit_faces.models.detector import Reading, load_network

#: What ``--detector`` takes, where a detector of one's own will do.
OWN_HELP = "; or your own: my.module.Net{...}, timm:NAME{...}"
_ARGUMENTS = ("weights", "aus", "size", "most", "logits", "mean", "std", "init")
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_FILES = (".safetensors", ".ckpt", ".pt", ".pth")
_DOTTED = re.compile(r"(timm:[\w.]+|[A-Za-z_]\w*(\.[A-Za-z_]\w*)+)\s*(\{.*\})?", re.DOTALL)
_AU = re.compile(r"au0*(\d{1,2})", re.ASCII | re.IGNORECASE)


class FaceReader(Protocol):
    """What reading needs of a detector: ours, or a :class:`BlackBox`."""

    @property
    def size(self) -> int:
        """Side of the crops, pixels."""
        ...

    def predict(self, images: Tensor) -> Reading:
        """Pictures uint8 (B, 3, H, W) to what is read, on the CPU."""
        ...

    def predict_au(self, images: Tensor, batch_size: int = 64, mirror: bool = False) -> Tensor:
        """The same, intensities alone: float32 (B, 19), 0..5, NaN = not read."""
        ...

    def occurs(self, reading: Reading) -> Tensor:
        """Occurrence 0/1, float32 (B, 19)."""
        ...

    def to(self, device: Any) -> Any:
        """Move to a device."""
        ...


@dataclass(frozen=True)
class Words:
    """A detector of one's own, as it was typed.

    Attributes:
        path: dotted path, or ``timm:NAME``.
        weights: file, or None.
        aus: numbers of the outputs; empty: the outputs have names.
        size: side of the crops, pixels.
        most: an AU at full strength.
        logits: whether outputs are logits.
        mean, std: of the normalisation, RGB in 0..1.
        init: arguments of the class.
    """

    path: str
    weights: Path | None = None
    aus: tuple[int, ...] = ()
    size: int = 224
    most: float = MAX_INTENSITY
    logits: bool = False
    mean: tuple[float, ...] = _IMAGENET[0]
    std: tuple[float, ...] = _IMAGENET[1]
    init: Mapping[str, Any] | None = None

    @classmethod
    def parse(cls, word: str, where: str = "--detector") -> Words:
        """From what was typed.

        Raises:
            UsageError: arguments that are no JSON object, or one that is not known or cannot be.
        """
        path, brace, rest = word.partition("{")
        try:
            given = json.loads(brace + rest) if brace else {}
        except (json.JSONDecodeError, RecursionError) as error:
            raise UsageError(f"{where}: {word}: arguments behind a class path are a JSON object: {error}") from error
        for name in given:
            if name not in _ARGUMENTS:
                raise UsageError(f"{where}: {path} has no argument {name!r}{suggestion(name, _ARGUMENTS)}")
        try:
            return cls(path.strip(), **{name: _READ[name](value) for name, value in given.items()})
        except (TypeError, ValueError) as error:
            raise UsageError(f"{where}: {word}: {error}") from error

    @property
    def code(self) -> str:
        """Its path and a digest of everything that it depends on and that is known here."""
        facts = {**vars(self), "weights": None, "init": dict(self.init or {})}
        content = b"" if self.weights is None else _existing(self.weights).read_bytes()
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode() + content)
        return f"{self.path.rpartition('.')[2]}-{digest.hexdigest()[:12]}"


def _whole(low: int, high: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"size: expected a whole number from {low} to {high}, got {value!r}")
        return value

    return read


def _number_of(value: Any) -> int:
    match = re.fullmatch(r"(au)?0*(\d{1,2})", str(value), re.IGNORECASE)
    number = int(match[2]) if match and not isinstance(value, bool | float) else -1
    if number not in AU_INDEX:
        raise ValueError(f"aus: {value!r} is none of {', '.join(map(str, AU_INDEX))}")
    return number


def _aus(value: Any) -> tuple[int, ...]:
    found = tuple(map(_number_of, value)) if isinstance(value, list) else ()
    if not found or len(set(found)) < len(found):
        raise ValueError(f"aus: expected a list of AUs, each once, got {value!r}")
    return found


def _most(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e6:
        raise ValueError(f"most: expected a number above 0, got {value!r}")
    return float(value)


def _three(value: Any) -> tuple[float, ...]:
    if not isinstance(value, list) or len(value) != 3 or not all(isinstance(one, int | float) for one in value):
        raise ValueError(f"mean, std: expected three numbers each, got {value!r}")
    return tuple(map(float, value))


def _is_a(kind: type, words: str) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if not isinstance(value, kind):
            raise ValueError(f"{words}, got {value!r}")
        return Path(str(value)) if kind is str else value

    return read


_READ: dict[str, Callable[[Any], Any]] = {
    "weights": _is_a(str, "weights: expected a file"),
    "aus": _aus,
    "size": _whole(16, 1024),
    "most": _most,
    "logits": _is_a(bool, "logits: expected true or false"),
    "mean": _three,
    "std": _three,
    "init": _is_a(dict, "init: expected named arguments"),
}


def is_own(word: Path | str) -> bool:
    """Whether a word of ``--detector`` is a class path; files and the shipped words are not."""
    text = str(word)
    dotted = _DOTTED.fullmatch(text) is not None and not text.endswith(_FILES)
    return dotted and ("{" in text or not Path(text).exists())  # arguments may be longer than a file's name can be


def open_detector(word: Path | str, where: str = "--detector") -> FaceReader:
    """What ``--detector`` names: weights, a personal folder, a shipped word, or a class path of one's own.

    Args:
        word: as typed on the command line, never out of a file.
        where: what messages begin with.

    Raises:
        FileNotFoundError, ValueError: nothing of that name, or weights that do not fit.
        UsageError: a class path that leads nowhere, or arguments that it refuses.
    """
    return _black_box(Words.parse(str(word), where), where) if is_own(word) else load_network(word)


def code_of(word: Path | str) -> str:
    """What results call the detector of a word; never a path of the disk."""
    return Words.parse(str(word)).code if is_own(word) else weights_code("detector", word)


class BlackBox:
    """A network or a function that reads AUs, behind the interface of our detector.

    Args:
        read: crops uint8 (B, 3, S, S) to readings (B, 19), 0..5, NaN = not read.
        size: side of the crops, pixels.
        name: for messages.
        network: what moves to a device, if anything does.
    """

    def __init__(
        self, read: Callable[[Tensor], Tensor], size: int, name: str, network: nn.Module | None = None
    ) -> None:
        self._read, self.size, self.name, self._network = read, size, name, network

    def to(self, device: Any) -> BlackBox:
        """Move the network, where there is one."""
        if self._network is not None:
            self._network.to(device)
        return self

    @torch.no_grad()
    def predict(self, images: Tensor, batch_size: int = 64) -> Reading:
        """Pictures uint8 (B, 3, H, W) to what is read; a black box says neither occurrence nor expression."""
        parts = [torch.zeros(0, NUM_AUS)]
        for chunk in images.split(batch_size):
            small = resize_images(chunk.float(), self.size, self.size).round().clamp(0, 255).to(torch.uint8)
            parts.append(self._read(small).float().cpu())
        return Reading(torch.cat(parts))

    def predict_au(self, images: Tensor, batch_size: int = 64, mirror: bool = False) -> Tensor:
        """Intensities float32 (B, 19), 0..5; NaN = not read."""
        found = self.predict(images, batch_size).intensity
        return 0.5 * (found + self.predict(mirror_images(images), batch_size).intensity) if mirror else found

    def occurs(self, reading: Reading) -> Tensor:
        """Grade 2 and above, as DISFA counts; NaN where nothing is read."""
        known = reading.intensity.isfinite()
        return torch.where(known, (reading.intensity >= OCCURRENCE_THRESHOLD).float(), torch.nan)


def _black_box(words: Words, where: str) -> BlackBox:
    name = words.path
    if name.startswith("timm:"):
        return _of_network(_timm(words, where), words, where)
    found = find_object(name, where, "a network, or a function that reads a picture")
    if inspect.isclass(found):
        made = _made(found, words, where)
        if isinstance(made, nn.Module):
            return _of_network(made, words, where)
        found = made
    elif words.init and callable(found):
        found = functools.partial(found, **words.init)
    if not callable(found):
        raise UsageError(f"{where}: {name}: expected a network, or something that can be called with a picture")
    if words.weights is not None:
        raise UsageError(f"{where}: {name}: is no network, and has no place for weights: give them in init")
    return BlackBox(functools.partial(_read_one_by_one, found, words, where), words.size, name)


def _made(cls: type, words: Words, where: str) -> Any:
    try:
        return cls(**(words.init or {}))
    except Exception as error:  # a class of the user's: it may fail in any way
        raise UsageError(f"{where}: {words.path}: making it failed: {type(error).__name__}: {error}") from error


def _timm(words: Words, where: str) -> nn.Module:
    import timm

    name = words.path.removeprefix("timm:")
    if not timm.is_model(name):
        raise UsageError(f"{where}: timm knows no model {name!r}{suggestion(name, timm.list_models())}")
    if not words.aus:
        raise UsageError(f'{where}: {words.path}: say which AUs its outputs are: {{"aus": [1, 2, 4]}}')
    return timm.create_model(name, pretrained=False, num_classes=len(words.aus), **(words.init or {}))


def _of_network(network: nn.Module, words: Words, where: str) -> BlackBox:
    if words.weights is not None:
        path = _existing(words.weights)
        state = load_weights(path)[0] if path.suffix == ".safetensors" else load_checkpoint(path)
        load_state(network, plain_weights(state, path, list(network.state_dict()))[0], str(path))
    network.eval().requires_grad_(False)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (words.mean, words.std))

    def read(images: Tensor) -> Tensor:
        device = next((one.device for one in network.parameters()), torch.device("cpu"))
        given = network(((images.float() / 255 - mean) / std).to(device))
        return _by_au(given[0] if isinstance(given, tuple) else given, len(images), words, where)

    return BlackBox(read, words.size, words.path, network)


def _read_one_by_one(reader: Callable[[Any], Any], words: Words, where: str, images: Tensor) -> Tensor:
    """Pictures uint8 (B, 3, S, S), given one by one as arrays (S, S, 3)."""
    pictures = [np.ascontiguousarray(one) for one in images.permute(0, 2, 3, 1).cpu().numpy()]
    rows = []
    for picture in pictures:
        given = reader(picture)
        if isinstance(given, Mapping):
            given = {name: torch.as_tensor([float(value)]) for name, value in given.items()}
        elif isinstance(given, Sequence | np.ndarray | Tensor):
            given = torch.as_tensor(np.asarray(given, np.float64))[None]
        rows.append(_by_au(given, 1, words, where))
    return torch.cat(rows)


def _by_au(given: Any, count: int, words: Words, where: str) -> Tensor:
    """What a reader gave, as (B, 19), 0..5, NaN = not read.

    Raises:
        UsageError: no AU in it, or another shape than the arguments say.
    """
    out = torch.full((count, NUM_AUS), float("nan"), dtype=torch.float32)
    if isinstance(given, Mapping):
        columns = {int(match[1]): given[name] for name in given if (match := _AU.fullmatch(str(name)))}
        columns = {number: value for number, value in columns.items() if number in AU_INDEX}
        if not columns:
            raise UsageError(
                f"{where}: {words.path}: gave {', '.join(map(str, list(given)[:5])) or 'nothing'}; expected names such "
                f"as {AU_KEYS[0]}"
            )
    elif isinstance(given, Tensor) and given.ndim == 2 and given.shape == (count, len(words.aus)):
        columns = {number: given[:, place] for place, number in enumerate(words.aus)}
    else:
        found = f"{tuple(given.shape)}" if isinstance(given, Tensor) else type(given).__name__
        raise UsageError(
            f"{where}: {words.path}: gave {found} of {count} pictures; expected values by AU name, or ({count}, "
            f"{len(words.aus)}) for the AUs that `aus` names"
        )
    for number, value in columns.items():
        column = torch.as_tensor(value).detach().float().cpu().reshape(-1)
        if len(column) != count:
            raise UsageError(f"{where}: {words.path}: AU{number:02d} has {len(column)} values for {count} pictures")
        out[:, AU_INDEX[number]] = column.sigmoid() * words.most if words.logits else column
    return (out * (MAX_INTENSITY / words.most)).clamp(0.0, MAX_INTENSITY)


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such weights file")
    return path
