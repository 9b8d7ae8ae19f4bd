"""Claims on photo heads: real skin stays, the person stays, and what is asked is what others read.

    python -m benchmarks.photohead template --faces FACES_CCBY [--folds 0 1] --out smile.safetensors
    python -m benchmarks.photohead sweep --faces FACES_CCBY --folds 2 --out DIR [--generator packaged]
    python -m benchmarks.photohead quality --faces FACES_CCBY --folds 2 [--generator packaged]
    python -m benchmarks.photohead smiles --faces FACES_CCBY --folds 2 --out DIR
    python -m benchmarks.photohead strip --photo PHOTO [--personal DIR] --out strip.jpg
    python -m benchmarks.photohead scans --ict PATH --people 6 [--generator packaged]
    READERS/bin/python readers.py --csv DIR/readers.csv DIR
    python -m benchmarks.photohead score DIR

``template`` measures the smile that the package ships (``lit_faces/photohead/smile.py``); ``--folds`` leaves people out,
and ``--smile`` takes such a template in the other commands. ``sweep`` asks single Action Units, ``score`` compares what
was asked with what outside readers read, within person. ``quality``: gradient energy of the face (hull of the 68 points)
as a share of the photo's, dlib identity distance, landmark error, seconds a picture. ``smiles``: from the neutral photo
to the smile; is it nearer to the real smile than the neutral was? ``scans``: scanned heads as photographs, so that the
truth is known: mean grey-level difference in the face. Definitions: docs/photohead.md.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from lit_faces.core.facs import AU_INDEX, NUM_AUS
from lit_faces.core.fields import field, read_json
from lit_faces.core.landmarks import FaceAnalyser
from lit_faces.core.photos import load_photo, source_from_photo
from lit_faces.core.weights import save_weights
from lit_faces.fitting.landmark_model import LandmarkModel
from lit_faces.fitting.retarget import fit_photo, retarget
from lit_faces.photohead import smile
from lit_faces.photohead.head import PhotoHead

SWEPT = (1, 2, 4, 5, 6, 9, 12, 15, 17, 25, 26, 27, 43)
GRADES = (1, 2, 3, 4, 5)
_SCANNED = (4, 6, 12, 17, 26, 27, 43)
_STRENGTHS = ((2.0, 1.5, 1.5), (3.0, 2.0, 2.5), (3.5, 2.5, 3.0))  # AU12, AU6, AU25 of `smiles`
#: AUs that come with another by nature, and OpenFace's AUs of which they are left out.
_PARTNERS = {6: {"12"}, 12: {"06"}, 25: {"26"}, 26: {"25"}, 27: {"25", "26"}, 43: {"45"}}
_OTHERS = ("01", "02", "04", "05", "06", "07", "09", "10", "12", "14", "15", "17", "20", "23", "25", "26", "45")

Picture = NDArray[np.uint8]


@dataclass
class Face:
    """One open person's photograph."""

    subject: str
    path: Path | None
    photo: Picture
    crop: tuple[float, float, float]
    head: PhotoHead


def au_of(**levels: float) -> Tensor:
    """(19,) of ``au12=3.0`` and so on."""
    out = torch.zeros(NUM_AUS)
    for name, value in levels.items():
        out[AU_INDEX[int(name.removeprefix("au"))]] = value
    return out


def rows_of(faces: Path, folds: list[int], emotion: str) -> list[dict[str, str]]:
    """Rows of the folder's labels."""
    with (faces / "labels.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if int(row["fold"]) in folds and row["emotion"] == emotion]


def load_face(path: Path, subject: str, size: int, rests: bool, template: smile.Smile | None) -> Face:
    """A photograph as a head."""
    model = LandmarkModel()
    sample = source_from_photo(path, size, analyser=_analyser())
    fit = fit_photo(model, sample.landmarks, size, torch.zeros(NUM_AUS) if rests else None)
    cx, cy, side = sample.provenance["crop"]
    seed = int(sample.provenance["sha256"][:8], 16)
    photo = load_photo(path)
    head = PhotoHead(photo, (cx, cy, side), fit, model, size, seed=seed, smile=template)
    return Face(subject, path, photo, (cx, cy, side), head)


_ANALYSERS: list[FaceAnalyser] = []


def _analyser() -> FaceAnalyser:
    if not _ANALYSERS:
        _ANALYSERS.append(FaceAnalyser())
    return _ANALYSERS[0]


def resting(args: argparse.Namespace) -> Iterator[Face]:
    """The neutrals of the asked folds, or any photographs; those that no head can be made of are named."""
    template = smile.load(args.smile) if args.smile else None
    for path in tqdm(args.photos, unit="photo"):
        try:
            yield load_face(path, path.stem, args.size, False, template)
        except ValueError as error:
            tqdm.write(f"left out: {error}")
    if args.photos:
        return
    for row in tqdm(rows_of(args.faces, args.folds, "neutral")[: args.people], unit="person"):
        yield load_face(args.faces / row["file"], row["subject"], args.size, True, template)


def painter(args: argparse.Namespace, face: Face) -> Callable[[Tensor, Tensor], tuple[Picture, Tensor]]:
    """Pictures and landmarks for (au, pose), of the photo head or of a learnt generator."""
    if args.generator == "photohead":

        def drawn(au: Tensor, pose: Tensor) -> tuple[Picture, Tensor]:
            made = face.head.render(au, pose=pose)
            return made.image, torch.from_numpy(made.landmarks)

        return drawn
    from lit_faces.core.sample import FaceSample, collate, to_uint8
    from lit_faces.persons.generators import load_generator

    generator, model, size = load_generator(args.generator), LandmarkModel(), 128
    points = torch.from_numpy((face.head.landmarks_xy + 0.5) * (size / face.head.inner) - 0.5).float()
    crop = torch.from_numpy(shrunk(face, size)).permute(2, 0, 1).contiguous()
    batch = collate([FaceSample(crop, points, torch.zeros(NUM_AUS), pose=face.head.fit.pose)])
    fit = fit_photo(model, points, size, torch.zeros(NUM_AUS))

    def made(au: Tensor, pose: Tensor) -> tuple[Picture, Tensor]:
        wanted = retarget(model, fit, pose[None], au[None])
        with torch.inference_mode():
            image = to_uint8(generator.reenact(batch, wanted, au[None]).image)[0]
        return image.permute(1, 2, 0).cpu().numpy(), wanted[0]

    return made


def write(path: Path, image: Picture) -> None:
    """A PNG."""
    from PIL import Image

    Image.fromarray(image).save(path)


# -- what is asked -----------------------------------------------------------------------------------------------------


def template(args: argparse.Namespace) -> None:
    """Measure the smile template."""
    nothing = smile.Smile(*(np.zeros((smile.ROWS, smile.COLUMNS), np.float32),) * 2)
    rest = {row["subject"]: row["file"] for row in rows_of(args.faces, args.folds, "neutral")}
    pairs = []
    for row in tqdm(rows_of(args.faces, args.folds, "happiness"), unit="pair"):
        files = (rest[row["subject"]], True), (row["file"], False)
        pair = [load_face(args.faces / f, row["subject"], 256, rests, nothing).head for f, rests in files]
        pairs.append((pair[0], pair[1]))
    found = smile.measure(pairs)
    card = {
        "kind": smile.KIND,
        "command": f"python -m benchmarks.photohead template --folds {' '.join(map(str, args.folds))}",
        "people": len(pairs),
        "attribution": "Face Research Lab London Set, L. DeBruine & B. Jones, CC BY 4.0, altered",
    }
    save_weights(args.out, {k: torch.from_numpy(v).half() for k, v in vars(found).items()}, card)
    print(
        f"{args.out}: {len(pairs)} pairs; cheek {found.cheek.min():.2f}, mouth {found.mouth.min():.2f} at its darkest"
    )


def sweep(args: argparse.Namespace) -> None:
    """Single Action Units, a picture a grade."""
    args.out.mkdir(parents=True, exist_ok=True)
    asked = []
    for face in resting(args):
        draw = painter(args, face)
        for number, grade in [(0, 0), *((n, g) for n in SWEPT for g in GRADES)]:
            au = au_of(**{f"au{number}": grade}) if number else torch.zeros(NUM_AUS)
            name = f"{face.subject}_au{number:02d}_{grade}.png"
            write(args.out / name, draw(au, face.head.fit.pose)[0])
            asked.append([name, face.subject, number, grade])
    with (args.out / "asked.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file", "subject", "au", "grade"], *asked])
    print(f"{len(asked)} pictures in {args.out}; now the readers: readers.py --csv {args.out}/readers.csv {args.out}")


def score(args: argparse.Namespace) -> None:
    """What readers read of a sweep, within person."""
    with (args.out / "readers.csv").open(newline="") as file:
        read = {Path(row["file"]).name: row for row in csv.DictReader(file)}
    with (args.out / "asked.csv").open(newline="") as file:
        asked = list(csv.DictReader(file))
    print(
        "| AU | OpenFace r | slope | raw slope | MediaPipe r | slope | others | worst |\n|---|---|---|---|---|---|---|---|"
    )
    for number in sorted({int(row["au"]) for row in asked} - {0}):
        rows = [row for row in asked if int(row["au"]) in (0, number)]
        grade = np.array([float(row["grade"]) for row in rows])
        who = np.array([row["subject"] for row in rows])
        of = "45" if number == 43 else f"{number:02d}"
        columns = (f"of_AU{of}", f"of_AU{of}_raw", "mp_cheek_log" if number == 6 else f"mp_AU{number:02d}")
        found = [within(grade, column(read, rows, c), who) for c in columns]
        others = {}
        for other in _OTHERS:
            if other != of and other not in _PARTNERS.get(number, ()):
                value = column(read, rows, f"of_AU{other}")
                change = [
                    value[(who == s) & (grade >= 4)].mean() - value[(who == s) & (grade == 0)].mean() for s in set(who)
                ]
                others[other] = float(np.mean(np.abs(change)))
        worst = max(others, key=others.__getitem__)
        print(
            f"| {number} | {found[0][0]:.2f} | {found[0][1]:.2f} | {found[1][1]:.2f} | {found[2][0]:.2f} | "
            f"{found[2][1]:.3f} | {np.mean(list(others.values())):.2f} | {worst}: {others[worst]:.2f} |"
        )


def column(read: dict[str, dict[str, str]], rows: list[dict[str, str]], name: str) -> NDArray[np.float64]:
    """A column of the readers for the pictures of ``rows``; NaN where the reader has none."""
    return np.array([float(read[row["file"]].get(name) or "nan") for row in rows])


def within(asked: NDArray[np.float64], read: NDArray[np.float64], who: NDArray[np.str_]) -> tuple[float, float]:
    """Correlation and least-squares slope of ``read`` on ``asked``, both centred per person, then pooled."""
    known = np.isfinite(read)
    if known.sum() < 3:
        return float("nan"), float("nan")
    x, y = asked[known].astype(float), read[known].astype(float)
    for subject in set(who[known]):
        mine = who[known] == subject
        x[mine] -= x[mine].mean()
        y[mine] -= y[mine].mean()
    return float(np.corrcoef(x, y)[0, 1]), float(x @ y / (x @ x))


# -- what stays --------------------------------------------------------------------------------------------------------


def energy(image: Picture, points: NDArray[np.float32]) -> float:
    """Mean absolute gradient of luma in the hull of the 68 points."""
    import cv2

    luma = image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    hull = np.zeros(luma.shape, np.uint8)
    cv2.fillConvexPoly(hull, cv2.convexHull(points.round().astype(np.int32)), 1)
    dx, dy = (np.abs(np.diff(luma, axis=a, append=luma[[-1]] if a == 0 else luma[:, [-1]])) for a in (1, 0))
    return float((dx + dy)[hull > 0].mean())


def quality(args: argparse.Namespace) -> None:
    """Gradient energy, identity, landmarks and time."""
    single = [au_of(**{f"au{n}": g}) for n in SWEPT for g in (3, 4, 5)]
    pitch_roll = slice(1, 3)
    groups: dict[str, list[tuple[float, float, float]]] = {}
    seconds, fits = [], []
    for face in resting(args):
        start = time.perf_counter()
        if face.path is not None:
            load_face(face.path, face.subject, args.size, not args.photos, face.head.smile)
        fits.append(time.perf_counter() - start)
        draw, own = painter(args, face), face.head.fit.pose
        plain = draw(torch.zeros(NUM_AUS), own)[0]
        photo = shrunk(face, plain.shape[0])
        before = _analyser().embedding(photo)
        asks = [("AUs", au, own) for au in single[:: args.every]]
        for yaw in (-25, -15, 15, 25):
            asks.append((f"yaw {abs(yaw)}", torch.zeros(NUM_AUS), torch.cat([own[:1] + yaw, own[pitch_roll]])))
        for name, au, pose in asks:
            start = time.perf_counter()
            image, points = draw(au, pose)
            seconds.append(time.perf_counter() - start)
            scale = face.head.size / image.shape[0]
            reference = energy(photo, face.head.landmarks_of(torch.zeros(19), torch.zeros(19), own) / scale)
            groups.setdefault(name, []).append((
                energy(image, points.numpy()) / reference, *faithful(image, points.numpy(), before),
            ))  # fmt: skip
    print("| | gradient energy, median | identity distance, median | NME, mean | no face |\n|---|---|---|---|---|")
    for name, values in groups.items():
        share, distance, nme = np.array(values).T
        print(
            f"| {name} | {np.median(share):.2f} | {np.nanmedian(distance):.3f} | {np.nanmean(nme):.4f} | "
            f"{int(np.isnan(nme).sum())} of {len(nme)} |"
        )
    print(
        f"seconds a picture {np.median(seconds):.3f}, to load and fit {np.median(fits):.2f}; {torch.get_num_threads()} thread(s)"
    )


def shrunk(face: Face, size: int) -> Picture:
    """The photo's own crop at ``size`` pixels, area average."""
    import cv2

    exact = np.clip(face.head.exact + 0.5, 0, 255).astype(np.uint8)
    return exact if len(exact) == size else np.asarray(cv2.resize(exact, (size, size), interpolation=cv2.INTER_AREA))


def faithful(image: Picture, points: NDArray[np.float32], before: NDArray[np.float64]) -> tuple[float, float]:
    """Identity distance (dlib) to the photo, and landmark error as a share of the outer-eye distance; NaN: no face."""
    found = _analyser().landmarks(image)
    eyes = float(np.linalg.norm(points[36] - points[45]))
    distance = float(np.linalg.norm(_analyser().embedding(image, found) - before))
    return distance, float(np.linalg.norm(found - points, axis=1)[17:].mean()) / eyes


# -- from a neutral photo to the smile ---------------------------------------------------------------------------------


def smiles(args: argparse.Namespace) -> None:
    """The smile of each person from the neutral photo, beside the real one."""
    args.out.mkdir(parents=True, exist_ok=True)
    real = {row["subject"]: row["file"] for row in rows_of(args.faces, args.folds, "happiness")}
    lines: list[tuple[str, str, float, float]] = []
    for face in resting(args):
        if face.subject not in real:
            continue
        target = load_face(args.faces / real[face.subject], face.subject, args.size, False, face.head.smile)
        goal, wanted = shrunk(target, args.size), target.head.landmarks_xy * (args.size / target.head.inner)
        draw = painter(args, face)
        made = {"neutral": draw(torch.zeros(NUM_AUS), face.head.fit.pose)}
        for k, (twelve, six, parted) in enumerate(_STRENGTHS):
            made[f"smile{k}"] = draw(au_of(au12=twelve, au6=six, au25=parted), face.head.fit.pose)
        write(args.out / f"{face.subject}_real.png", goal)
        for name, (image, points) in made.items():
            write(args.out / f"{face.subject}_{name}.png", image)
            apart = float(np.linalg.norm(_analyser().embedding(image) - _analyser().embedding(goal)))
            lines.append((face.subject, name, round(hull_l1(image, points.numpy(), goal, wanted), 3), round(apart, 3)))
    with (args.out / "distances.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["subject", "picture", "l1", "identity"], *lines])
    names = [f"smile{k}" for k in range(len(_STRENGTHS))]
    table = {(s, n): v for s, n, v, _ in lines}
    people = sorted({s for s, *_ in lines})
    for name, strength in zip(names, _STRENGTHS, strict=True):
        nearer = [table[s, name] < table[s, "neutral"] for s in people]
        mean = np.mean([table[s, name] for s in people]), np.mean([table[s, "neutral"] for s in people])
        apart = [np.nanmedian([v for _, n, _, v in lines if n == one]) for one in (name, "neutral")]
        print(
            f"AU12, 6, 25 at {strength}: L1 {mean[0]:.2f} (neutral {mean[1]:.2f}); nearer: {sum(nearer)} of {len(people)}; "
            f"identity distance to the real smile, median {apart[0]:.3f} (neutral {apart[1]:.3f})"
        )


def hull_l1(image: Picture, points: NDArray[np.float32], goal: Picture, wanted: NDArray[np.float32]) -> float:
    """Mean grey-level difference in the hull, after the picture is moved onto the goal's eyes and nose (similarity)."""
    import cv2

    rigid = [27, 28, 29, 30, 36, 39, 42, 45]
    move, _ = cv2.estimateAffinePartial2D(points[rigid], wanted[rigid].astype(np.float32))
    moved = cv2.warpAffine(image, move, goal.shape[1::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    hull = np.zeros(goal.shape[:2], np.uint8)
    cv2.fillConvexPoly(hull, cv2.convexHull(wanted.round().astype(np.int32)), 1)
    a, b = moved.astype(np.float32), goal.astype(np.float32)
    a *= b[hull > 0].mean() / max(a[hull > 0].mean(), 1e-6)  # exposure of the two photographs
    return float(np.abs(a - b).mean(-1)[hull > 0].mean())


def strip(args: argparse.Namespace) -> None:
    """README's strip: one photograph, asked for AUs, each with a word under it; then a person before and after."""
    from PIL import Image, ImageDraw

    face = load_face(args.photo, args.photo.stem, args.size, False, None)
    own, side, label = face.head.fit.pose, args.size, 26
    asks = [
        ("AU6: 2", au_of(au6=2)), ("AU6: 5", au_of(au6=5)), ("AU17: 2", au_of(au17=2)), ("AU17: 4", au_of(au17=4)),
        ("at rest", au_of()), ("AU12: 2", au_of(au12=2)), ("AU12: 4", au_of(au12=4)),
        ("AU6 + 12 + 25", au_of(au6=3, au12=4, au25=3)),
    ]  # fmt: skip
    tiles = [("the photo", shrunk(face, side))]
    tiles += [(name, face.head.render(au, pose=own).image) for name, au in asks]
    if args.personal is not None:
        tiles.append(("somebody else, one photo", _before_and_after(args.personal, side)))
    columns = 5
    out = Image.new("RGB", (side * columns, (side + label) * -(-len(tiles) // columns)), "white")
    pen = ImageDraw.Draw(out)
    for k, (name, picture) in enumerate(tiles):
        x, y = side * (k % columns), (side + label) * (k // columns)
        out.paste(Image.fromarray(picture), (x, y))
        pen.text((x + 8, y + side + 3), name, fill="black", font_size=17)
    out.save(args.out, quality=88)


def _before_and_after(folder: Path, side: int) -> Picture:
    """Mean error of a personal detector on the person's true frames: of the generic one, beside the photo, learnt."""
    import io

    from matplotlib.figure import Figure
    from PIL import Image

    advice = "run personalise --test with a detector that looks at the photo"
    found = read_json(folder / "results.json", advice)
    kinds = {"generic": "before", "beside\nthe photo": "reference", "learnt": "after"}
    where = folder / "results.json"
    errors = [field(found, f"person/{kind}/mae/mean", float, f"{where} ({advice})") for kind in kinds.values()]
    figure = Figure(figsize=(side / 100, side / 100), dpi=100, layout="constrained")
    axes = figure.subplots()
    bars = axes.bar(list(kinds), errors, color=["0.7", "0.5", "tab:blue"])
    axes.bar_label(bars, [f"{error:.2f}" for error in errors], fontsize=12)
    person = field(found, "run/person", str, where)
    axes.set_title(f"{person.title()}'s detector:\nmean error, grades", fontsize=12)
    axes.set_yticks([])
    axes.set_ylim(0, 1.2 * max(errors))
    axes.spines[["top", "right", "left"]].set_visible(False)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return np.asarray(Image.open(file).convert("RGB").resize((side, side)))


# -- scanned heads as photographs --------------------------------------------------------------------------------------


def scans(args: argparse.Namespace) -> None:
    """Neutral pictures of scanned heads as photographs; the truth is the scan's own picture of what was asked."""
    from lit_faces.rendering.renderer import FaceRenderer

    renderer = FaceRenderer(args.size, 9001, f"ict:{args.ict}", yaw_limit=5.0)
    asks: dict[str, tuple[Tensor, float]] = {f"AU{n}": (au_of(**{f"au{n}": 4.0}), 0.0) for n in _SCANNED}
    asks |= {f"yaw {yaw:+d}": (torch.zeros(NUM_AUS), float(yaw)) for yaw in (-25, -15, 15, 25)}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in asks}
    for subject in tqdm(range(args.people), unit="person"):
        who, turned = torch.full((len(asks) + 1,), subject), torch.zeros(len(asks) + 1, 3)
        turned[1:, 0] = torch.tensor([yaw for _, yaw in asks.values()])
        au = torch.stack([torch.zeros(NUM_AUS), *(level for level, _ in asks.values())])
        truth = renderer.render(who, torch.zeros_like(who), torch.zeros_like(who), au=au, pose=turned)
        pictures = truth.image.permute(0, 2, 3, 1).numpy()
        face = head_of_crop(pictures[0], truth.landmarks[0], f"scan{subject}")
        draw = painter(args, face)
        for k, (name, (level, yaw)) in enumerate(asks.items(), 1):
            pose = face.head.fit.pose + torch.tensor([yaw, 0.0, 0.0])
            image, points = draw(level, pose)
            if len(image) != args.size:
                points = (points + 0.5) * (args.size / len(image)) - 0.5
                image = enlarged(image, args.size)
            wanted = truth.landmarks[k].numpy()
            unchanged = hull_l1(pictures[0], truth.landmarks[0].numpy(), pictures[k], wanted)
            found[name].append((hull_l1(image, points.numpy(), pictures[k], wanted), unchanged))
    print("| asked | L1 in the face | of the unchanged photo |\n|---|---|---|")
    for name, values in found.items():
        print(f"| {name} | {np.mean([v[0] for v in values]):.2f} | {np.mean([v[1] for v in values]):.2f} |")


def head_of_crop(picture: Picture, landmarks: Tensor, subject: str) -> Face:
    """An aligned crop as the photograph itself."""
    model, size = LandmarkModel(), picture.shape[0]
    fit = fit_photo(model, landmarks, size, torch.zeros(NUM_AUS))
    crop = ((size - 1) / 2, (size - 1) / 2, float(size))
    head = PhotoHead(picture, crop, fit, model, size)
    return Face(subject, None, picture, crop, head)


def enlarged(picture: Picture, size: int) -> Picture:
    """A picture at another size."""
    import cv2

    return np.asarray(cv2.resize(picture, (size, size), interpolation=cv2.INTER_CUBIC))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("template", "sweep", "score", "quality", "smiles", "scans", "strip"))
    parser.add_argument("out", nargs="?", type=Path)
    parser.add_argument("--out", dest="out", type=Path, default=argparse.SUPPRESS)
    parser.add_argument("--faces", type=Path, help="the folder faces_ccby")
    parser.add_argument("--photo", type=Path, help="strip: a photograph")
    parser.add_argument("--personal", type=Path, help="strip: folder of personalise --test, for before and after")
    parser.add_argument("--photos", type=Path, nargs="+", default=[], help="any photographs instead of --faces")
    parser.add_argument("--ict", type=Path, help="ICT-FaceKit: a checkout or its packed npz")
    parser.add_argument("--folds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--people", type=int, default=1000)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--every", type=int, default=1, help="quality: every n-th of the single AUs")
    parser.add_argument("--generator", default="photohead")
    parser.add_argument("--smile", type=Path, help="a template without some folds")
    args = parser.parse_args()
    torch.set_num_threads(1)
    commands = {
        "template": template,
        "sweep": sweep,
        "score": score,
        "quality": quality,
        "smiles": smiles,
        "scans": scans,
        "strip": strip,
    }
    commands[args.what](args)


if __name__ == "__main__":
    main()
