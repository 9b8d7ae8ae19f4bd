"""Claim: rendered people rest as people do. Brows, lids and eyes beside real neutral faces, and what outside readers see.

    python -m benchmarks.rest --faces ../shared/data/faces_ccby [--people 200] [--pictures OUT]
    python -m benchmarks.rest --faces ../shared/data/faces_ccby --readings NEUTRALS.csv RENDERS.csv

The first form prints the geometry: hand-placed points of the real faces (folds 0 and 1 set the renderer's constants, fold
2 checks them) beside the same measures of rendered people, taken from the head itself, not from pictures.  All are % of
the distance between the outer eye corners, heights over the line of these corners (the hand-placed inner corner is the
tip of the caruncle, which the rendered eye does not have), mean of both sides; "sd" is over people.
With ``--pictures`` it writes the neutrals' and as many rendered people's pictures apart, frontal to within a few degrees,
for readers in an environment of their own (``readers.py --csv OUT.csv FOLDER``), and adds what dlib's landmarks say of
both.  The second form prints the readers' tables: grades of OpenFace, 0..1 of MediaPipe.

Real faces: Face Research Lab London Set and Canadian set, L. DeBruine & B. Jones, CC BY 4.0.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from lit_faces.core.facs import NUM_AUS
from lit_faces.core.landmarks import FaceAnalyser
from lit_faces.rendering import skin
from lit_faces.rendering.parametric import ParametricHead
from lit_faces.rendering.renderer import FaceRenderer
from lit_faces.rendering.sampler import sample_people

SEED = 41_000  # nobody of any training, validation or test set
ROWS, COLUMNS = 289, 193
#: Hand-placed points, picture's left (the subject's right) and right: corners, lids, iris, brow from its inner end.
SIDES = (
    dict(outer=18, inner=22, upper=(22, 21, 20, 19, 18), lower=(22, 30, 29, 28, 18), pupil=0,
         brow_top=(76, 75, 74, 73, 72, 71), brow_bottom=(76, 84, 83, 71)),
    dict(outer=27, inner=23, upper=(23, 24, 25, 26, 27), lower=(23, 31, 32, 33, 27), pupil=1,
         brow_top=(77, 78, 79, 80, 81, 82), brow_bottom=(77, 85, 86, 82)),
)  # fmt: skip
#: Where the brow is measured, % of the outer-eye distance from the midline: over the inner corner, the middle, the outer.
PLACES = {"inner": 20.0, "middle": 35.0, "outer": 50.0}
LID_PLACES = (30.0, 42.0)
READ = ("01", "02", "04", "05", "45")


@dataclass
class Side:
    """One side of a face, % of the outer-eye distance: x away from the midline, y above the outer corners."""

    brow_top: Callable[[float], float]
    brow_bottom: Callable[[float], float]
    upper: Callable[[float], float]
    lower: Callable[[float], float]
    pupil: float
    inner: float

    def measures(self) -> dict[str, float]:
        """Every row of the table."""
        out = {}
        for name, x in PLACES.items():
            top, bottom = self.brow_top(x), self.brow_bottom(x)
            out[
                f"brow, middle of it, over the {name} corner" if name != "middle" else "brow, middle of it, mid-eye"
            ] = 0.5 * (top + bottom)
            if name != "inner":
                out[f"brow's thickness, {'mid-eye' if name == 'middle' else 'outer corner'}"] = top - bottom
        upper, lower = (float(np.mean([lid(x) for x in LID_PLACES])) for lid in (self.upper, self.lower))
        out.update({"upper lid": upper, "lower lid": lower, "opening of the lids": upper - lower})
        out.update({"upper lid over the pupil": upper - self.pupil, "inner corner": self.inner})
        return out


def line(points: np.ndarray) -> Callable[[float], float]:
    """The polyline through points (N, 2) as a function of x."""
    ordered = points[points[:, 0].argsort()]
    return lambda x: float(np.interp(x, ordered[:, 0], ordered[:, 1]))


def arc(points: np.ndarray) -> Callable[[float], float]:
    """The parabola through the three points in the middle of a lid, (5, 2)."""
    fit = np.polynomial.Polynomial.fit(points[1:4, 0], points[1:4, 1], 2)
    return lambda x: float(fit(x))


def eye_frame(points: np.ndarray, right: int, left: int) -> np.ndarray:
    """Points (N, 2), y down, in % of the outer-eye distance about the middle of the outer corners, y up."""
    along = points[left] - points[right]
    across = np.array([along[1], -along[0]])
    centred = points - 0.5 * (points[left] + points[right])
    return 100 * np.stack([centred @ along, centred @ across], 1) / (along @ along)


def hand_measures(points: np.ndarray) -> dict[str, float]:
    """The measures of a real face from its 189 points (189, 2)."""
    placed = eye_frame(points, 18, 27)
    sides = []
    for sign, side in zip((-1.0, 1.0), SIDES, strict=True):
        own = placed * [sign, 1.0]
        take = {name: own[list(value)] for name, value in side.items() if isinstance(value, tuple)}
        sides.append(
            Side(
                line(take["brow_top"]), line(take["brow_bottom"]), arc(take["upper"]), arc(take["lower"]),
                own[side["pupil"], 1], own[side["inner"], 1],
            ).measures()
        )  # fmt: skip
    return {name: 0.5 * (sides[0][name] + sides[1][name]) for name in sides[0]}


def brow_edges(x: np.ndarray, y: np.ndarray, distance: np.ndarray, at: float) -> tuple[float, float]:
    """Upper and lower edge of the brow above ``at``: positions and signed distance on the grid (R, C) of one side."""
    row = int(np.unravel_index(distance.argmax(), distance.shape)[0])
    column = int(np.abs(x[row] - at).argmin())
    height, inside = y[:, column], distance[:, column]
    best = int(inside.argmax())
    if inside[best] <= 0:
        return float("nan"), float("nan")
    edges = []
    for step in (-1, 1):  # rows run downwards
        k = best
        while inside[k + step] > 0:
            k += step
        t = inside[k] / (inside[k] - inside[k + step])
        edges.append(float(height[k] + t * (height[k + step] - height[k])))
    return edges[0], edges[1]


def rendered_measures(count: int) -> list[dict[str, float]]:
    """The measures of ``count`` rendered people, read off their heads as seen from far in front."""
    head, basis, still = ParametricHead(ROWS, COLUMNS), skin.build_basis(ROWS, COLUMNS), torch.zeros(1, NUM_AUS)
    out = []
    for number in tqdm(range(count), desc="rendered people"):
        people = sample_people(SEED, torch.tensor([number]))
        pose = head.pose(people.shape, still, still)
        marks = pose.landmarks[0, :, :2].double().numpy()
        none = people.wrinkle * 0
        texture = skin.compose(basis, {**people.skin, "wrinkles_right": none, "wrinkles_left": none})
        brow = texture[0, skin.CHANNEL["brow"]].reshape(ROWS, COLUMNS).double().numpy()
        grid = pose.vertices[0, :, :2].double().numpy()
        everything = np.concatenate([marks, pose.eyes[0, :, :2].double().numpy(), grid]) * [1.0, -1.0]
        placed = eye_frame(everything, 36, 45)
        marks, eyes, grid = placed[:68], placed[68:70], placed[70:].reshape(ROWS, COLUMNS, 2)
        sides = [_rendered_side(marks, eyes[k], grid, brow, k).measures() for k in (0, 1)]
        out.append({name: 0.5 * (sides[0][name] + sides[1][name]) for name in sides[0]})
    return out


def _rendered_side(marks: np.ndarray, eye: np.ndarray, grid: np.ndarray, brow: np.ndarray, left: int) -> Side:
    lids = ((39, 38, 37, 36), (39, 40, 41, 36)) if not left else ((42, 43, 44, 45), (42, 47, 46, 45))
    sign = 1.0 if left else -1.0
    own = marks * [sign, 1.0]
    half = slice(COLUMNS // 2, None) if left else slice(COLUMNS // 2, None, -1)
    x, y, distance = grid[:, half, 0] * sign, grid[:, half, 1], brow[:, half]

    def edge(which: int) -> Callable[[float], float]:
        return lambda at: brow_edges(x, y, distance, at)[which]

    upper, lower = (line(own[list(points)]) for points in lids)
    return Side(edge(0), edge(1), upper, lower, float(eye[1]), float(own[lids[0][0], 1]))


def dlib_measures(pictures: Iterable[Path], analyser: FaceAnalyser) -> list[dict[str, float]]:
    """The same question put to a landmarker: brow and lids from dlib's points, pictures without a face left out."""
    out = []
    for path in tqdm(list(pictures), desc="dlib"):
        marks = analyser.landmarks(np.array(Image.open(path).convert("RGB"))).astype(float)
        if np.isfinite(marks).all():
            placed = eye_frame(marks, 36, 45)[:, 1]
            zero = placed[[39, 42]].mean()
            lids = placed[[37, 38, 43, 44]].mean(), placed[[40, 41, 46, 47]].mean()
            out.append(
                {
                    "dlib: inner brow": placed[[21, 22]].mean() - zero,
                    "dlib: middle of the brow": placed[[19, 24]].mean() - zero,
                    "dlib: opening of the lids": lids[0] - lids[1],
                }
            )
    return out


def write_pictures(out: Path, count: int) -> list[Path]:
    """Rendered people at rest, 256 px, turned by a few degrees at most."""
    out.mkdir(parents=True, exist_ok=True)
    pose = torch.randn(count, 3, generator=torch.Generator().manual_seed(1)) * torch.tensor([3.0, 3.0, 2.0])
    who = torch.arange(count)
    batch = FaceRenderer(256, SEED).render(who, who, au=torch.zeros(count, NUM_AUS), pose=pose)
    paths = [out / f"person_{number:04d}.png" for number in range(count)]
    for path, image in zip(paths, batch.image, strict=True):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    return paths


def table(columns: dict[str, list[dict[str, float]]]) -> None:
    """Mean and spread of every measure, a column a group of faces."""
    names = list(next(iter(columns.values()))[0])
    width = max(map(len, names))
    print(f"{'':{width}}" + "".join(f"{f'{title} ({len(rows)})':>22}" for title, rows in columns.items()))
    for name in names:
        values = (np.array([row[name] for row in rows]) for rows in columns.values())
        print(f"{name:{width}}" + "".join(f"{f'{np.nanmean(v):.2f}  sd {np.nanstd(v):.2f}':>22}" for v in values))


def folds(faces: Path) -> dict[str, int]:
    """Fold of every neutral picture by its file name without folder."""
    with (faces / "labels.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["emotion"] == "neutral"]
    return {Path(row["file"]).name: int(row["fold"]) for row in rows}


def geometry(faces: Path, count: int, pictures: Path | None) -> None:
    """Print hand-placed points beside rendered heads."""
    fold = folds(faces)
    with (faces / "points189.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))[1:]
    points = {Path(row[0]).name: np.array(row[1:], dtype=float).reshape(-1, 2) for row in rows}
    real = {"folds 0, 1": (0, 1), "fold 2": (2,)}
    hand = {t: [hand_measures(p) for name, p in points.items() if fold[name] in which] for t, which in real.items()}
    table({**hand, "rendered": rendered_measures(count)})
    if pictures:
        analyser = FaceAnalyser()
        seen = {
            t: dlib_measures((faces / "images" / n for n in points if fold[n] in which), analyser)
            for t, which in real.items()
        }
        table({**seen, "rendered": dlib_measures(write_pictures(pictures, count), analyser)})


def readings(faces: Path, neutrals: Path, renders: Path) -> None:
    """Print what outside readers see at rest."""
    fold, groups = folds(faces), {"folds 0, 1": (0, 1), "fold 2": (2,)}
    tables = []
    for path in (neutrals, renders):
        with path.open(encoding="utf-8", newline="") as file:
            tables.append(list(csv.DictReader(file)))
    names = [f"{reader}_AU{number}" for reader in ("of", "mp") for number in READ]
    real = {t: [r for r in tables[0] if fold.get(Path(r["file"]).name, -1) in which] for t, which in groups.items()}
    columns = {**real, "all neutrals": [row for rows in real.values() for row in rows], "rendered": tables[1]}
    table({title: [{name: float(row[name]) for name in names} for row in rows] for title, rows in columns.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=Path, required=True, help="folder of labels.csv, points189.csv and images/")
    parser.add_argument("--people", type=int, default=200, help="rendered people")
    parser.add_argument("--pictures", type=Path, help="write their pictures here, and ask dlib as well")
    parser.add_argument("--readings", type=Path, nargs=2, metavar=("NEUTRALS", "RENDERS"), help="tables of the readers")
    args = parser.parse_args()
    if args.readings:
        readings(args.faces, *args.readings)
    else:
        geometry(args.faces, args.people, args.pictures)


if __name__ == "__main__":
    main()
