"""What a prepared set holds, to read and to look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

_SHOWN = 8  # problems on the screen; failures.csv has all
_SHEET = (8, 4)  # faces, columns x rows


def au_table(out: Path) -> str:
    """Coded and positive faces of every AU, and expressions, of a prepared set."""
    import numpy as np

    from lit_faces.core.facs import AU_KEYS, EMOTIONS
    from lit_faces.core.shards import ShardSet

    shards = ShardSet(out)
    rows = []
    for key, present, grade in zip(AU_KEYS, shards.au_occurrence.T, shards.au_intensity.T):
        coded = int(np.isfinite(present).sum())
        if coded:
            rows.append(f"{key:10}{coded:>10,}{int(np.nansum(present)):>10,}{int(np.isfinite(grade).sum()):>10,}")
    for index, name in enumerate(EMOTIONS):
        if count := int((shards.emotion == index).sum()):
            rows.append(f"{name:10}{count:>10,}")
    return "\n".join([f"{'':10}{'coded':>10}{'present':>10}{'graded':>10}", *rows]) if rows else "no labels"


def sheet(out: Path, seed: int = 0) -> Path:
    """``sheet.png``: faces drawn at random, with landmarks, AUs and who they are. Look at it."""
    import numpy as np
    from PIL import Image, ImageDraw

    from lit_faces.core.facs import AUS, EMOTIONS
    from lit_faces.core.shards import ShardSet
    from lit_faces.reports.pictures import cell_size, paste, save_png, write

    shards = ShardSet(out)
    count = min(len(shards), _SHEET[0] * _SHEET[1])
    rows = np.sort(np.random.default_rng(seed).choice(len(shards), count, replace=False))
    faces = shards.gather(rows)
    cell, text = cell_size(faces.image.shape[-1]), 34
    picture = Image.new("RGB", (_SHEET[0] * cell, -(-count // _SHEET[0]) * (cell + text)), "white")
    draw = ImageDraw.Draw(picture)
    scale = cell / faces.image.shape[-1]
    for place in range(count):
        x, y = place % _SHEET[0] * cell, place // _SHEET[0] * (cell + text)
        paste(picture, faces.image[place], x, y, cell)
        for px, py in ((faces.landmarks[place] + 0.5) * scale).nan_to_num(-9).tolist():
            if px > 0:
                draw.point([(x + px + dx, y + py + dy) for dx in (0, 1) for dy in (0, 1)], fill="cyan")
        grades, present = faces.au_intensity[place].tolist(), faces.au_occurrence[place].tolist()
        labels = [f"{au}:{g:g}" if g == g else str(au) for au, g, p in zip(AUS, grades, present) if g > 0 or p == 1]
        emotion = int(faces.emotion[place])
        write(draw, x + 2, y + cell, f"{faces.subject[place].partition(':')[2]} {int(faces.frame[place])}", cell - 4)
        write(draw, x + 2, y + cell + 16, " ".join([*([EMOTIONS[emotion]] if emotion >= 0 else []), *labels]), cell - 4)
    return save_png(picture, out / "sheet.png")


def problem_lines(problems: Sequence[Any]) -> str:
    """The first problems of a preparation, one a line, and how many more there are."""
    lines = []
    for problem in problems[:_SHOWN]:
        line = f", line {problem.line}" if problem.line else ""
        frames = f" (frames {problem.frames})" if problem.frames else ""
        lines.append(f"problem: {problem.file}{line}: {problem.reason}{frames}"[:300])
    more = len(problems) - _SHOWN
    return "\n".join([*lines, *([f"... and {more} more problems"] if more > 0 else [])]) or "no problems"
