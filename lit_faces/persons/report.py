"""What became of a person's set: figures, plots, sheets and one HTML page."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lit_faces.core.facs import AU_INDEX, AU_KEYS, AUS
from lit_faces.core.pictures import load_picture
from lit_faces.core.provenance import statement, text_chunks
from lit_faces.core.shards import ShardSet
from lit_faces.metrics.icc import icc
from lit_faces.persons.maker import Attempt
from lit_faces.persons.plan import Plan
from lit_faces.persons.source import PersonSource
from lit_faces.persons.verify import JUDGE_ERROR, UNVERIFIABLE
from lit_faces.reports.page import Page
from lit_faces.reports.pictures import save_figure, save_png

BALANCE = 0.2  # a cell may have so many pictures fewer than planned
_SHEET_COLUMNS = 9
_SHOWN_REJECTED = 24
_LOOKED_AT = 1_000  # pictures that the contact sheet chooses from, about


@dataclass
class Figures:
    """Of one set.

    Attributes:
        kept, slots, attempts: pictures kept, planned, and asked for in all.
        icc_kept, icc_first: ICC(3,1) of asked and achieved by AU key: over what was kept, and over all first attempts.
        leak: mean achieved intensity of AUs that were not asked, over what was kept.
        nme, distance: of kept pictures.
        reasons: why pictures were rejected.
        cells: (what, planned, filled) for AUs by intensity and for sides.
    """

    kept: int
    slots: int
    attempts: int
    icc_kept: dict[str, float]
    icc_first: dict[str, float]
    leak: float
    nme: np.ndarray
    distance: np.ndarray
    reasons: Counter[str]
    cells: list[tuple[str, int, int]]
    short: list[str] = field(default_factory=list)

    def flat(self) -> dict[str, Any]:
        """Under flat names, for results.json."""
        result: dict[str, Any] = {
            "set/kept": self.kept, "set/slots": self.slots, "set/attempts": self.attempts,
            "set/kept_share": self.kept / max(self.attempts, 1), "set/leak": self.leak,
            "set/cells_short": len(self.short), "set/cells": len(self.cells),
        }  # fmt: skip
        for name, values in (("nme", self.nme), ("identity_distance", self.distance)):
            if len(values):
                result[f"set/{name}/median"], result[f"set/{name}/q95"] = (
                    float(np.quantile(values, share)) for share in (0.5, 0.95)
                )
        for when, icc_of in (("kept", self.icc_kept), ("first", self.icc_first)):
            result.update({f"set/icc_{when}/{key}": value for key, value in icc_of.items()})
        result.update({f"set/rejected/{reason}": count for reason, count in self.reasons.items()})
        return result


def summarise(plan: Plan, attempts: list[Attempt]) -> Figures:
    """Figures of a set from all attempts."""
    good = [attempt for attempt in attempts if attempt.kept]
    filled = {attempt.slot for attempt in good}
    asked: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for slot, cell in enumerate(plan.cell):
        for name in cell.rsplit(", ", 1):
            asked[name][0] += 1
            asked[name][1] += slot in filled
    cells = [(name, planned, got) for name, (planned, got) in asked.items()]
    return Figures(
        kept=len(good),
        slots=len(plan),
        attempts=len(attempts),
        icc_kept=agreement(good),
        icc_first=agreement([attempt for attempt in attempts if attempt.attempt == 0]),
        leak=_leak(good),
        nme=np.array([a.nme for a in good if a.nme == a.nme]),
        distance=np.array([a.distance for a in good if a.distance == a.distance]),
        reasons=Counter(short_reason(a.reason) for a in attempts if a.reason),
        cells=cells,
        short=[name for name, planned, got in cells if got < (1 - BALANCE) * planned],
    )


def short_reason(reason: str) -> str:
    """``AU06: asked 4.5, achieved 1.0`` -> ``AU06``; the others without their numbers."""
    if reason.startswith("AU"):
        return reason.split(":")[0]
    return " ".join(
        word for word in reason.split(" (")[0].split() if not word[0].isdigit() and word not in ("%", "of", "grades")
    )


def agreement(attempts: list[Attempt]) -> dict[str, float]:
    """ICC(3,1) of asked and achieved by AU key; NaN where an AU never varies."""
    if len(attempts) < 3:
        return {key: float("nan") for key in AU_KEYS}
    asked, achieved = (torch.tensor([getattr(a, name) for a in attempts]) for name in ("asked", "achieved"))
    found = {}
    for column, key in enumerate(AU_KEYS):
        pair = torch.stack([asked[:, column], achieved[:, column]], 1)
        found[key] = float(icc(pair)) if float(pair[:, 0].std()) > 0 else float("nan")
    return found


def _leak(attempts: list[Attempt]) -> float:
    if not attempts:
        return float("nan")
    asked, achieved = (torch.tensor([getattr(a, name) for a in attempts]) for name in ("asked", "achieved"))
    return float(achieved[asked == 0].mean())


def write_report(
    out: Path,
    source: PersonSource,
    plan: Plan,
    attempts: list[Attempt],
    page_path: Path | None = None,
    first: Callable[[Page], None] | None = None,
    following: Sequence[str] = (),
) -> tuple[Figures, Path]:
    """Write the pictures and the page of a set.

    Args:
        out: folder of the set.
        source: the person.
        plan: what was asked.
        attempts: of :func:`lit_faces.persons.sets.write_set`.
        page_path: of the page; ``out/report.html`` by default.
        first: writes what the page begins with, after its title; it shows the source.
        following: the commands that the page ends with.

    Returns:
        The figures, and the page's path.
    """
    figures = summarise(plan, attempts)
    shards = ShardSet(out)
    rows = np.arange(0, len(shards), max(1, len(shards) // _LOOKED_AT))
    faces = shards.gather(rows).image if len(shards) else torch.zeros(0, 3, 128, 128, dtype=torch.uint8)
    cells = [shards.words["clip"][code] for code in shards.clip[rows]]
    what = f"{figures.kept} generated pictures" if first is None else "personal detector"
    page = Page(f"{source.name}: {what}")
    if first is not None:
        first(page)
        page.heading("The generated set, in short")
    page.facts(
        [
            ("pictures kept of planned", f"{figures.kept} of {figures.slots}"),
            ("kept of all asked for", f"{figures.kept / max(figures.attempts, 1):.0%}"),
            ("AU6 / AU17, ICC asked to achieved", f"{figures.icc_kept['AU06']:.2f} / {figures.icc_kept['AU17']:.2f}"),
            ("leak, grades", f"{figures.leak:.2f}"),
            ("identity distance, median", f"{_median(figures.distance):.2f}"),
            ("NME, median", f"{100 * _median(figures.nme):.1f} %"),
        ]
    )
    page.text(
        "Generated faces of a real person's photo are biometric data: use them with that person's consent only, and "
        "mark them as generated. Every PNG says so in its text chunks. "
        f"{statement(source.sha256).capitalize()}.",
        note=True,
    )
    page.heading("Source")
    sheet = save_png(source_sheet(source), out / "source.png")
    if first is None:
        page.picture(sheet, "Source pictures; green: landmarks found, after the fit.")
    for note in [*source.notes, *plan.notes]:
        page.text(note)
    page.heading("The set")
    if len(faces):
        page.picture(
            save_png(contact_sheet(source, faces, cells), out / "contact.png", text_chunks(source.sha256)),
            "What was kept, a row an AU or emotion; left, front and right for each intensity.",
        )
    if any(attempt.nme == attempt.nme for attempt in attempts):
        _verification(page, out, figures, attempts, source.sha256)
    if figures.short:
        page.text(
            f"{len(figures.short)} cells have more than {BALANCE:.0%} fewer pictures than planned: "
            f"{', '.join(figures.short)}. "
            "The generator could not show them, or the judge could not see them; more --attempts may help.",
            note=True,
        )
    page.heading("Balance")
    bad = [row for row, cell in enumerate(figures.cells) if cell[0] in figures.short]
    page.table(("cell", "planned", "kept"), figures.cells, bad)
    if following:
        page.heading("Next")
        page.commands(following)
    return figures, page.write(page_path or out / "report.html")


def _median(values: np.ndarray) -> float:
    return float(np.median(values)) if len(values) else float("nan")


def _verification(page: Page, out: Path, figures: Figures, attempts: list[Attempt], sha256: str) -> None:
    page.heading("Verification")
    page.text(
        "Read by a judge that was trained on other people and is never a loss, less what it reads too much in the "
        "source. What was kept was chosen by this judge, so its agreement with the kept pictures flatters; the column "
        "'before' is over all first attempts."
    )
    rows = []
    for number, key in zip(AUS, AU_KEYS):
        error = JUDGE_ERROR[number]
        told = "not verifiable" if error > UNVERIFIABLE else f"{error:.1f}"
        rows.append(
            (key, _cell(figures.icc_first[key]), _cell(figures.icc_kept[key]), told, figures.reasons.get(key, 0))
        )
    page.table(("AU", "ICC(3,1) before", "ICC(3,1) kept", "tolerance, grades", "rejected for it"), rows)
    other = [(reason, count) for reason, count in figures.reasons.items() if reason not in AU_KEYS]
    if other:
        page.table(("rejected for", "pictures"), other)
    page.picture(asked_achieved(attempts, out / "asked_achieved.png"), "Asked against achieved; grey: rejected.")
    page.picture(
        co_activation(attempts, out / "leak.png"),
        "What the judge reads (columns) where one AU was asked (rows), kept pictures.",
    )
    page.picture(distances(attempts, out / "distances.png"), "Landmark error and identity distance of what was made.")
    rejected = sorted((out / "rejected").glob("*.png"))[:_SHOWN_REJECTED]
    if rejected:
        why = {(a.slot, a.attempt): a.reason for a in attempts}
        sheet = rejected_sheet(rejected, why)
        page.picture(save_png(sheet, out / "rejected.png", text_chunks(sha256)), "Some rejected pictures, and why.")


def _cell(value: float) -> str:
    return "-" if value != value else f"{value:.2f}"


def source_sheet(source: PersonSource, cell: int = 256) -> Any:
    """The source pictures with their landmarks."""
    from PIL import Image, ImageDraw

    sheet = Image.new("RGB", (cell * len(source.fits), cell), "white")
    for number, (image, fit) in enumerate(zip(source.faces.image, source.fits)):
        picture = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()).resize(
            (cell, cell), Image.Resampling.BICUBIC
        )
        draw = ImageDraw.Draw(picture)
        scale = cell / image.shape[-1]
        for (x, y), wrong in zip(((fit.landmarks + 0.5) * scale).tolist(), fit.wrong.tolist()):
            draw.ellipse((x - 2, y - 2, x + 2, y + 2), fill="#d03030" if wrong else "#30c040")
        sheet.paste(picture, (number * cell, 0))
    return sheet


def contact_sheet(source: PersonSource, faces: Tensor, cells: list[str], cell: int = 88, rows: int = 28) -> Any:
    """Kept pictures by what they show: a row for each AU, emotion or kind, first the source."""
    from PIL import Image, ImageDraw, ImageFont

    groups: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for number, word in enumerate(cells):
        groups[word.split(" ")[0].split("=")[0].rstrip(",")].append((word, number))
    order = {"low": 0, "middle": 1, "high": 2}
    names = sorted(groups, key=lambda name: (AU_INDEX.get(int(name[2:]), 99) if name[2:].isdigit() else 100, name))[
        :rows
    ]
    left, top = 84, 20
    sheet = Image.new("RGB", (left + cell * (_SHEET_COLUMNS + 1), top + cell * len(names)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    draw.text((left + 4, 4), "source", fill="black", font=font)
    for row, name in enumerate(names):
        y = top + row * cell
        draw.text((4, y + cell // 2 - 6), name, fill="black", font=font)
        _put(sheet, source.faces.image[0], left, y, cell)
        shown = sorted(groups[name], key=lambda item: (order.get(item[0].split(",")[0].split(" ")[-1], 3), item[1]))
        step = max(1.0, len(shown) / _SHEET_COLUMNS)
        for column in range(min(_SHEET_COLUMNS, len(shown))):
            word, number = shown[int(column * step)]
            x = left + (column + 1) * cell
            _put(sheet, faces[number], x, y, cell)
            level = word.split(",")[0].removeprefix(name).strip()
            draw.text((x + 3, y + cell - 15), level, fill="white", font=font, stroke_width=1, stroke_fill="black")
    return sheet


def _put(sheet: Any, image: Tensor, x: int, y: int, cell: int) -> None:
    from PIL import Image

    picture = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    sheet.paste(picture.resize((cell, cell), Image.Resampling.BICUBIC), (x, y))


def rejected_sheet(paths: list[Path], why: dict[tuple[int, int], str], columns: int = 8, cell: int = 128) -> Any:
    """Rejected pictures with their reasons."""
    import textwrap

    from PIL import Image, ImageDraw, ImageFont

    lines = -(-len(paths) // columns)
    sheet = Image.new("RGB", (columns * cell, lines * (cell + 44)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for number, path in enumerate(paths):
        row, column = divmod(number, columns)
        x, y = column * cell, row * (cell + 44)
        sheet.paste(Image.fromarray(load_picture(path)).resize((cell, cell)), (x, y))
        slot, _, attempt = path.stem.partition("-")
        reason = why.get((int(slot), int(attempt)), "")
        draw.text((x + 2, y + cell + 2), "\n".join(textwrap.wrap(reason, 20)[:3]), fill="black", font=font)
    return sheet


def asked_achieved(attempts: list[Attempt], path: Path) -> Path:
    """Scatter by AU."""
    from matplotlib.figure import Figure

    asked, achieved = (np.array([getattr(a, name) for a in attempts]) for name in ("asked", "achieved"))
    kept = np.array([a.kept for a in attempts], dtype=bool)
    icc_of = agreement([a for a in attempts if a.kept])
    figure = Figure(figsize=(11, 9), layout="constrained")
    grid = figure.subplots(4, 5, sharex=True, sharey=True)
    for axes, (column, key) in zip(grid.flat, enumerate(AU_KEYS)):
        axes.plot([0, 5], [0, 5], color="grey", linewidth=0.7)
        axes.scatter(asked[~kept, column], achieved[~kept, column], s=5, color="#c8ccd2", linewidths=0)
        axes.scatter(asked[kept, column], achieved[kept, column], s=7, color="#3a6ea5", linewidths=0)
        axes.set_title(f"{key}  ICC {_cell(icc_of[key])}", fontsize=9)
    for axes in list(grid.flat)[len(AU_KEYS) :]:
        axes.set_axis_off()
    figure.supxlabel("asked")
    figure.supylabel("achieved, as the judge reads it")
    return save_figure(figure, path)


def co_activation(attempts: list[Attempt], path: Path) -> Path:
    """Heat map: which AUs are read where one was asked at 2 or more."""
    from matplotlib.figure import Figure

    good = [a for a in attempts if a.kept] or attempts
    asked, achieved = (np.array([getattr(a, name) for a in good]) for name in ("asked", "achieved"))
    table = np.full((len(AU_KEYS), len(AU_KEYS)), np.nan)
    for row in range(len(AU_KEYS)):
        shown = asked[:, row] >= 2.0
        for column in range(len(AU_KEYS)):
            chosen = shown & ((asked[:, column] == 0) | (row == column))
            if chosen.any():
                table[row, column] = achieved[chosen, column].mean()
    figure = Figure(figsize=(8, 7), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(table, vmin=0, vmax=4, cmap="viridis")
    axes.set_xticks(range(len(AU_KEYS)), AU_KEYS, rotation=90, fontsize=8)
    axes.set_yticks(range(len(AU_KEYS)), AU_KEYS, fontsize=8)
    axes.set_xlabel("read, where it was not asked (diagonal: where it was)")
    axes.set_ylabel("asked at 2 or more")
    figure.colorbar(image, label="mean intensity read")
    return save_figure(figure, path)


def distances(attempts: list[Attempt], path: Path) -> Path:
    """Histograms of NME and identity distance."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, name, scale, label in (
        (left, "nme", 100, "NME, % of the outer-eye distance"),
        (right, "distance", 1, "identity distance from the source"),
    ):
        values = {kept: [scale * getattr(a, name) for a in attempts if a.kept == kept] for kept in (True, False)}
        known = {kept: [v for v in found if v == v] for kept, found in values.items()}
        if any(known.values()):
            axes.hist(
                [known[True], known[False]],
                bins=24,
                stacked=True,
                color=["#3a6ea5", "#c8ccd2"],
                label=["kept", "rejected"],
            )
        axes.set_xlabel(label)
        axes.legend(fontsize=8)
    return save_figure(figure, path)
