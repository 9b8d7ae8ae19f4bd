"""Contact sheets to look at: identities x AUs, sweeps of one AU from 0 to 5, poses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lit_faces.core.facs import AU_INDEX, NUM_AUS
from lit_faces.core.files import replacing
from lit_faces.rendering.renderer import FaceRenderer

POSES = ((-40.0, 0.0), (-20.0, 0.0), (0.0, 0.0), (20.0, 0.0), (40.0, 0.0), (0.0, -18.0), (0.0, 18.0))
SHEET_AUS = (0, 1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 24, 25, 26, 27, 43)


def save_grid(
    images: Tensor, columns: int, path: Path, row_titles: list[str], column_titles: list[str], marks: Any = None
) -> Path:
    """Write uint8 pictures (N, 3, S, S) as a grid with titles, as PNG; ``marks`` are its text chunks."""
    from PIL import Image, ImageDraw

    size, left, top = images.shape[-1], 70, 18
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (left + columns * size, top + rows * size), "white")
    draw = ImageDraw.Draw(sheet)
    for k, image in enumerate(images):
        r, c = divmod(k, columns)
        sheet.paste(
            Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy())),
            (left + c * size, top + r * size),
        )
    for c, title in enumerate(column_titles):
        draw.text((left + c * size + 4, 3), title, fill="black")
    for r, title in enumerate(row_titles):
        draw.text((3, top + r * size + size // 2 - 5), title, fill="black")
    with replacing(path) as temporary:
        sheet.save(temporary, "PNG", pnginfo=marks)
    return path


def _same(renderer: FaceRenderer, subjects: list[int], au: Tensor, pose: Tensor) -> Tensor:
    who = torch.tensor(subjects)
    return renderer.render(who, torch.zeros_like(who), au=au, pose=pose).image


def identity_sheet(renderer: FaceRenderer, path: Path, people: int = 6) -> Path:
    """People (rows) x neutral and every AU at intensity 5 (columns)."""
    au = torch.zeros(len(SHEET_AUS), NUM_AUS)
    for row, number in enumerate(SHEET_AUS):
        if number:
            au[row, AU_INDEX[number]] = 5.0
    count = len(SHEET_AUS)
    subjects = [p for p in range(people) for _ in range(count)]
    images = _same(renderer, subjects, au.repeat(people, 1), torch.zeros(people * count, 3))
    return save_grid(
        images,
        count,
        path,
        [f"{renderer.head.name} {p}" for p in range(people)],
        ["neutral", *(f"AU{n}" for n in SHEET_AUS[1:])],
    )


def sweep_sheet(
    renderer: FaceRenderer, path: Path, numbers: tuple[int, ...] = (6, 17, 12, 4, 1, 15), people: int = 2
) -> Path:
    """One AU from 0 to 5 (columns) for some AUs and people (rows)."""
    steps = torch.linspace(0, 5, 6)
    au, subjects, titles = [], [], []
    for number in numbers:
        for person in range(people):
            block = torch.zeros(len(steps), NUM_AUS)
            block[:, AU_INDEX[number]] = steps
            au.append(block)
            subjects += [person] * len(steps)
            titles.append(f"AU{number} p{person}")
    images = _same(renderer, subjects, torch.cat(au), torch.zeros(len(subjects), 3))
    return save_grid(images, len(steps), path, titles, [f"{float(s):g}" for s in steps])


def pose_sheet(renderer: FaceRenderer, path: Path, people: int = 6) -> Path:
    """People (rows) x poses (columns), as sampled otherwise."""
    pose = torch.tensor([(yaw, pitch, 0.0) for yaw, pitch in POSES])
    subjects = [p for p in range(people) for _ in POSES]
    images = _same(renderer, subjects, torch.zeros(len(subjects), NUM_AUS), pose.repeat(people, 1))
    return save_grid(
        images,
        len(POSES),
        path,
        [f"{renderer.head.name} {p}" for p in range(people)],
        [f"yaw {y:g} pitch {p:g}" for y, p in POSES],
    )


def crowd_sheet(renderer: FaceRenderer, path: Path, people: int = 60) -> Path:
    """Different people as a training set shows them."""
    who = torch.arange(people)
    return save_grid(renderer.render(who, who).image, 10, path, [], [])
