"""Claims about person sets: whose landmarks, how balanced, what the judge can tell, and how it goes with real photographs.

    python -m benchmarks.person_sets --retarget 60 [--ict PATH]    NME of retargeted landmarks over a pose x AU grid
    python -m benchmarks.person_sets --balance 10 [--n 500]        cells after verification, ICC asked to achieved
    python -m benchmarks.person_sets --sources 150                 AUs of the source: detector, and with its prior
    python -m benchmarks.person_sets --tolerances 100              the judge's error on true pictures (JUDGE_ERROR)
    python -m benchmarks.person_sets --photos FOLDER [--out DIR]   identity distance and NME by photograph, with sheets

Everybody is rendered anew, with seeds that nothing was trained or chosen on, but for ``--sources`` and ``--tolerances``,
which are where the constants of the package come from.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lit_faces.core.alignment import outer_eye_distance
from lit_faces.core.facs import AU_INDEX, AU_KEYS, AUS, NUM_AUS
from lit_faces.core.landmarks import FaceAnalyser
from lit_faces.core.sample import FaceBatch
from lit_faces.fitting.landmark_model import LandmarkModel
from lit_faces.fitting.retarget import fit_photo, retarget
from lit_faces.persons.intensities import likely_intensities, seen_in_landmarks
from lit_faces.persons.maker import Attempt, SetMaker, Settings
from lit_faces.persons.plan import balanced, make_plan
from lit_faces.persons.report import BALANCE, agreement, contact_sheet, summarise
from lit_faces.persons.source import read_source, source_of_faces
from lit_faces.rendering.renderer import FaceRenderer
from lit_faces.tasks.au_detector import load_detector

RETARGET_SEED, BALANCE_SEED, SOURCE_SEED, TOLERANCE_SEED = 47_001, 47_002, 31_337, 66_001
COPIED = "another person's landmarks, same pose and AUs"
YAWS, PITCHES = (-25.0, 0.0, 25.0), (-10.0, 10.0)


def grid(person: int, renderer: FaceRenderer) -> FaceBatch:
    """A neutral frontal photo, then each AU at 2.5 and 5 in turn over six poses, all in one framing."""
    pose, au = [torch.zeros(3)], [torch.zeros(NUM_AUS)]
    for k, (column, level) in enumerate((c, v) for c in range(NUM_AUS) for v in (2.5, 5.0)):
        pose.append(torch.tensor([YAWS[k % 3], PITCHES[k // 3 % 2], 0.0]))
        au.append(torch.zeros(NUM_AUS))
        au[-1][column] = level
    count = len(pose)
    still = torch.zeros(count, dtype=torch.int64)
    return renderer.render(still + person, torch.arange(count), still, torch.stack(au), torch.stack(pose))


def nme(found: Tensor, truth: Tensor) -> Tensor:
    """Mean distance over the true outer-eye distance, (B,), after both were put at the same place and size.

    The camera of the true pictures is unknown to a model that sees one photo, so place and size are no part of the claim.
    """
    found, truth = (points - points.mean(1, keepdim=True) for points in (found, truth))
    found = found * (truth.norm(dim=(1, 2)) / found.norm(dim=(1, 2)))[:, None, None]
    return (found - truth).norm(dim=2).mean(1) / outer_eye_distance(truth)


def retargeting(people: int, head: str) -> None:
    """Own landmarks re-posed, against landmarks of another person in the very pose and expression."""
    torch.set_num_threads(1)
    renderer, model, analyser = FaceRenderer(128, RETARGET_SEED, head), LandmarkModel(), FaceAnalyser()
    sets = [grid(person, renderer) for person in range(people)]
    rows: dict[str, list[Tensor]] = {}
    fits: dict[str, list[float]] = {}
    seen = [analyser.batch_landmarks(faces.image) for faces in sets]
    for number, faces in enumerate(sets):
        truth, other = faces.landmarks[1:], sets[(number + 1) % people].landmarks[1:]
        au = faces.au_intensity[1:].nan_to_num(0.0)
        rows.setdefault(COPIED, []).append(nme(other, truth))
        rows.setdefault("the same, as dlib finds them", []).append(nme(seen[(number + 1) % people][1:], truth))
        own, stranger = seen[number][1:], seen[(number + 1) % people][1:]
        rows.setdefault("the same, against dlib's landmarks of the true pictures", []).append(nme(stranger, own))
        for name, points in (("true", faces.landmarks[0]), ("dlib's", seen[number][0])):
            if not bool(points.isfinite().all()):
                continue
            fit = fit_photo(model, points, 128, torch.zeros(NUM_AUS))
            fits.setdefault(name, []).append(fit.error)
            found = retarget(model, fit, faces.pose[1:], au)
            rows.setdefault(f"retargeted from the {name} landmarks of one photo", []).append(nme(found, truth))
            if name == "dlib's":
                rows.setdefault("the same, against dlib's landmarks of the true pictures ", []).append(nme(found, own))
            fit.correction = torch.zeros_like(fit.correction)
            plain = retarget(model, fit, faces.pose[1:], au)
            rows.setdefault(f"the same, without what the model cannot explain ({name})", []).append(nme(plain, truth))
    print(f"{head.split(':')[0]}: {people} people, {len(sets[0]) - 1} pictures each; NME over the outer-eye distance")
    for name, errors in fits.items():
        print(f"  fit to the {name} landmarks: mean {100 * np.mean(errors):.2f} %, worst {100 * np.max(errors):.2f} %")
    base = float(torch.cat(rows[COPIED]).mean())
    for name, found in rows.items():
        values = torch.cat(found)
        values = values[values.isfinite()]  # dlib finds no face in some
        by_person = torch.stack([person.nanmean() for person in found])
        print(
            f"  {name:62} mean {100 * float(values.mean()):5.2f} %  95 % of pictures below "
            f"{100 * float(values.quantile(0.95)):5.2f} %  worst person {100 * float(by_person.max()):5.2f} %  "
            f"factor {base / float(values.mean()):.1f}"
        )


def balance(people: int, n: int, attempts: int) -> None:
    """Cells after verification, and agreement of asked and achieved."""
    torch.set_num_threads(1)
    renderer, analyser = FaceRenderer(128, BALANCE_SEED), FaceAnalyser()
    model, detector, judge = LandmarkModel(), load_detector("generic"), load_detector("packaged")
    every: list[Attempt] = []
    filled: dict[str, list[float]] = {}
    short = cells = 0
    began = time.monotonic()
    for person in range(people):
        photo = renderer.render(torch.tensor([person]), torch.tensor([0]), au=torch.zeros(1, NUM_AUS))
        photo.landmarks = analyser.batch_landmarks(photo.image)
        try:
            source = source_of_faces(photo, model, detector.predict_au, "auto", f"person {person}")
        except ValueError as error:
            print(error)
            continue
        plan = balanced(n, seed=person)
        settings = Settings(attempts=attempts)
        found = SetMaker(source, plan, settings, judge=judge.predict_au, analyser=analyser).make(list(range(n)))[0]
        figures = summarise(plan, found)
        every += found
        short, cells = short + len(figures.short), cells + len(figures.cells)
        for name, planned, got in figures.cells:
            filled.setdefault(name, []).append(got / planned)
        print(
            f"person {person}: {figures.kept} of {n} kept, {len(found)} asked for, {len(figures.short)} of "
            f"{len(figures.cells)} cells short by more than {BALANCE:.0%}: {', '.join(figures.short) or '-'}", flush=True,
        )  # fmt: skip
    kept = [a for a in every if a.kept]
    first = [a for a in every if a.attempt == 0]
    print(
        f"\nkept {len(kept)} of {len(every)} pictures ({len(kept) / len(every):.0%}); {time.monotonic() - began:.0f} s"
    )
    print(f"kept of the first attempts: {sum(a.kept for a in first) / len(first):.0%}")
    print(f"cells within {BALANCE:.0%}: {cells - short} of {cells} ({1 - short / cells:.1%})")
    worst = sorted(filled.items(), key=lambda item: np.mean(item[1]))[:8]
    print("emptiest cells, mean over people: " + ", ".join(f"{name} {np.mean(v):.2f}" for name, v in worst))
    before, after = agreement(first), agreement(kept)
    print(f"{'AU':6}{'ICC before':>12}{'ICC kept':>12}")
    for key in AU_KEYS:
        print(f"{key:6}{before[key]:12.2f}{after[key]:12.2f}")
    print(f"{'mean':6}{np.nanmean(list(before.values())):12.2f}{np.nanmean(list(after.values())):12.2f}")


def sources(people: int) -> None:
    """AUs of a photo: readings of the detector as they are, and with the prior."""
    renderer, model, analyser = FaceRenderer(128, SOURCE_SEED), LandmarkModel(), FaceAnalyser()
    who, frame = torch.arange(2 * people) % people + 100, torch.arange(2 * people) // people
    au = torch.full((2 * people, NUM_AUS), float("nan"))
    au[frame == 0] = 0.0
    faces = renderer.render(who, frame, torch.zeros_like(who), au)
    landmarks = analyser.batch_landmarks(faces.image)
    good = landmarks.isfinite().flatten(1).all(1)
    faces, landmarks = faces.select(good), landmarks[good]
    read = load_detector("generic").predict_au(faces.image)
    fits = [fit_photo(model, points, 128) for points in landmarks]
    likely, neutral = likely_intensities(seen_in_landmarks(read, landmarks, fits))
    truth = faces.au_intensity
    rest = (truth == 0).all(1)
    absent = [float(read[truth[:, k] == 0, k].square().mean().sqrt()) for k in range(NUM_AUS)]
    print("root mean square reading where an AU is absent: " + ", ".join(f"{v:.2f}" for v in absent))
    print(f"neutral photos called neutral: {float((neutral[rest] > 0.5).float().mean()):.1%}")
    for name, values in (("detector", read), ("with the prior", likely)):
        error = (values - truth).abs()
        print(
            f"{name:16} MAE on neutral photos {float(error[rest].mean()):.3f} (AU6 {float(error[rest, AU_INDEX[6]].mean()):.2f}), "
            f"on others {float(error[~rest].mean()):.3f} (AU6 {float(error[~rest, AU_INDEX[6]].mean()):.2f})"
        )


def tolerances(people: int) -> None:
    """80 % quantile of the judge's error, less its reading of the neutral source, on true pictures of balanced plans."""
    frames = 12
    renderer, judge = FaceRenderer(128, TOLERANCE_SEED), load_detector("packaged")
    plan = balanced(people * frames, seed=5)
    order = torch.randperm(len(plan), generator=torch.Generator().manual_seed(1)).tolist()
    pose, au = plan.ask(order)
    lead, who = plan.lead[order], torch.arange(people).repeat_interleave(frames)
    still = torch.zeros(len(who), dtype=torch.int64)
    first = torch.arange(people)
    rest = renderer.render(first, 0 * first, 0 * first, torch.zeros(people, NUM_AUS), torch.zeros(people, 3))
    true = renderer.render(who, torch.arange(len(who)) % frames + 1, still, au, pose)
    found = (judge.predict_au(true.image) - judge.predict_au(rest.image)[who]).clamp(0, 5)
    error = (found - au).abs()
    for column, number in enumerate(AUS):
        own = lead == column
        print(f"{number}: {float(error[own, column].quantile(0.8)):.1f}  ({int(own.sum())} pictures)")
    off = (au == 0).float()
    leak = (found * off).sum(1) / off.sum(1)
    print(f"leak: 95 % below {float(leak.quantile(0.95)):.2f}, 99 % below {float(leak.quantile(0.99)):.2f}")


def photographs(folder: Path, n: int, out: Path | None) -> None:
    """A set from each photograph and clip of a folder."""
    torch.set_num_threads(1)
    model, analyser = LandmarkModel(), FaceAnalyser()
    detector, judge = load_detector("generic"), load_detector("packaged")
    print(
        "| source | fit | neutral | identity, first attempts: median, 95 % | below 0.6 | NME: median, 95 % | kept | leak |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    for path in sorted(p for p in folder.iterdir() if p.suffix in (".jpg", ".png", ".mp4")):
        try:
            source = read_source(path, 128, model, detector.predict_au, analyser=analyser)
        except ValueError as error:
            print(f"| {path.name} | refused: {error} |")
            continue
        plan = make_plan("balanced", n, seed=1)
        maker = SetMaker(source, plan, Settings(attempts=3), judge=judge.predict_au, analyser=analyser)
        attempts, kept, _ = maker.make(list(range(n)))
        first = [a for a in attempts if a.attempt == 0]
        pose, au = plan.ask(range(n))
        images = maker.painter.paint(pose, au).images
        found = analyser.batch_embeddings(images)
        own = analyser.batch_embeddings(source.faces.image, source.faces.landmarks).mean(0)
        distance = (found - own).norm(dim=1).numpy()
        error = np.array([a.nme for a in first])
        good = [a for a in attempts if a.kept]
        print(
            f"| {path.name} | {100 * source.fits[0].error:.1f} % | {source.neutral:.2f} | {np.nanmedian(distance):.2f}, "
            f"{np.nanquantile(distance, 0.95):.2f} | {np.mean(distance < 0.6):.0%} | {100 * np.nanmedian(error):.1f} %, "
            f"{100 * np.nanquantile(error, 0.95):.1f} % | {len(good)} of {n} | {summarise(plan, attempts).leak:.2f} |", flush=True,
        )  # fmt: skip
        if out is not None:
            slots = sorted(kept)
            out.mkdir(parents=True, exist_ok=True)
            sheet = contact_sheet(
                source, torch.stack([kept[slot] for slot in slots]), [plan.cell[slot] for slot in slots]
            )
            sheet.save(out / f"{path.stem}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--retarget", type=int)
    parser.add_argument("--ict", help="ICT-FaceKit: a checkout or its packed npz")
    parser.add_argument("--balance", type=int)
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--attempts", type=int, default=8)
    parser.add_argument("--sources", type=int)
    parser.add_argument("--tolerances", type=int)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.retarget:
        for head in ["parametric", *([f"ict:{args.ict}"] if args.ict else [])]:
            retargeting(args.retarget, head)
    if args.sources:
        sources(args.sources)
    if args.tolerances:
        tolerances(args.tolerances)
    if args.balance:
        balance(args.balance, args.n, args.attempts)
    if args.photos:
        photographs(args.photos, args.n, args.out)


if __name__ == "__main__":
    main()
