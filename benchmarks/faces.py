"""Claim: rendered faces are faces, for a judge that never saw them (dlib), and their AUs move like scanned ones.

    python -m benchmarks.faces [--head parametric|ict:PATH] [--scan PATH/au_measurements.csv]

Prints dlib's detection rate, NME of its 68 points against the truth (% of the outer-eye distance), the AUC of its
embedding for same against different people, and per AU the landmarks' displacement and the share of changed pixels.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from lit_faces.core.facs import AUS, NUM_AUS
from lit_faces.core.landmarks import FaceAnalyser
from lit_faces.metrics.identity import choose_threshold
from lit_faces.metrics.landmark_error import nme
from lit_faces.rendering import post
from lit_faces.rendering.renderer import FaceRenderer

SCAN_NAMES = {6: "AU6(cheekSquint)", 26: "AU26(jawOpen.4)", 27: "AU27(jawOpen1)", 43: "AU45(blink)"}


def detection(renderer: FaceRenderer, analyser: FaceAnalyser, count: int) -> None:
    """Detection rate at both pyramid levels and NME."""
    batch = renderer.render(torch.arange(count), torch.arange(count))
    found = {0: 0, 1: 0}
    errors = []
    for image, truth in tqdm(zip(batch.image, batch.landmarks.numpy(), strict=True), total=count, desc="dlib"):
        picture = image.permute(1, 2, 0).contiguous().numpy()
        for level in found:
            boxes = analyser.detect(picture, upsample=level)
            found[level] += bool(boxes)
        if boxes:
            marks = analyser.landmarks(picture, boxes[0])
            errors.append(100 * float(nme(torch.from_numpy(marks)[None], torch.from_numpy(truth)[None])))
    print(f"{count} faces: dlib finds {found[0] / count:.1%} (upsample 0), {found[1] / count:.1%} (upsample 1)")
    print(f"NME of dlib's 68 points: median {np.median(errors):.2f} %, mean {np.mean(errors):.2f} %")


def identity(renderer: FaceRenderer, analyser: FaceAnalyser, people: int, each: int) -> None:
    """AUC of dlib's embedding distance, same against different people."""
    subjects = torch.arange(people).repeat_interleave(each)
    batch = renderer.render(subjects, torch.arange(each).repeat(people))
    embeddings = analyser.batch_embeddings(batch.image)
    vectors = embeddings.numpy()
    distance = np.linalg.norm(vectors[:, None] - vectors[None], axis=-1)
    upper = np.triu_indices(len(vectors), 1)
    distance, same = distance[upper], (subjects[:, None] == subjects[None]).numpy()[upper]
    usable = np.isfinite(distance)
    ours, others = np.sort(distance[usable & same]), np.sort(distance[usable & ~same])
    auc = 1 - np.searchsorted(others, ours).mean() / len(others)
    print(
        f"{people} identities x {each}: same {ours.mean():.2f} +- {ours.std():.2f}, different {others.mean():.2f} +- {others.std():.2f}, AUC {auc:.4f}"
    )
    threshold = choose_threshold(embeddings, batch.subject).threshold
    print(f"threshold of one person, for `identity_threshold` of the experiments: {threshold:.3f}")


def action_units(renderer: FaceRenderer, people: int, scan: Path | None) -> None:
    """Displacement and changed pixels per AU at intensity 5, frontal, without sensor noise."""
    import cv2

    table = {row["au"]: row for row in csv.DictReader(scan.open())} if scan else {}
    au = torch.cat([torch.zeros(1, NUM_AUS), 5 * torch.eye(NUM_AUS)])
    rows = len(au)
    who = torch.arange(people).repeat_interleave(rows)
    keep = post.develop
    post.develop = lambda linear, e, c, b, *_: (post.blur(post.tone(linear, e, c), b) * 255).round().to(torch.uint8)
    try:
        batch = renderer.render(who, who * 0, au=au.repeat(people, 1), pose=torch.zeros(people * rows, 3))
    finally:
        post.develop = keep
    size = renderer.size
    image, marks = batch.image.view(people, rows, 3, size, size).float(), batch.landmarks.view(people, rows, 68, 2)
    eyes = (marks[:, 0, 36] - marks[:, 0, 45]).norm(dim=-1)
    print("AU   moved %  scanned  ratio   pixels %  scanned")
    for index, number in enumerate(AUS):
        moved = float(((marks[:, index + 1] - marks[:, 0]).norm(dim=-1).mean(1) / eyes).mean() * 100)
        shares = []
        for p in range(people):
            mask = np.zeros((size, size), np.uint8)
            cv2.fillConvexPoly(mask, cv2.convexHull(marks[p, 0].numpy().astype(np.int32)), 1)
            changed = (image[p, index + 1] - image[p, 0]).abs().mean(0) > 8
            shares.append(float(changed[torch.from_numpy(mask > 0)].float().mean() * 100))
        row = table.get(SCAN_NAMES.get(number, f"AU{number}"))
        scanned = f"{float(row['lm68']):7.2f} {moved / float(row['lm68']):6.2f}" if row else f"{'-':>7} {'-':>6}"
        print(
            f"{number:<4d} {moved:7.2f}  {scanned}   {np.mean(shares):7.1f}  {float(row['pix8']) if row else float('nan'):7.1f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--head", default="parametric")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--people", type=int, default=100)
    parser.add_argument("--scan", type=Path)
    args = parser.parse_args()
    renderer, analyser = FaceRenderer(args.size, args.seed, args.head), FaceAnalyser()
    detection(renderer, analyser, args.n)
    identity(renderer, analyser, args.people, 4)
    action_units(renderer, 16, args.scan)


if __name__ == "__main__":
    main()
