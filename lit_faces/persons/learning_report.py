"""What learning a person changed, for the person and for strangers: figures, a table, plots."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from lit_faces.core.facs import AU_KEYS
from lit_faces.core.files import replace_file
from lit_faces.core.sample import FaceBatch
from lit_faces.metrics.detector import scores
from lit_faces.reports.page import Page
from lit_faces.reports.pictures import save_figure

AFTER = "person/after/icc/mean"
_ALIKE = 0.03  # mean ICC: where more is lost, a lower error does not make up for it
#: What a photo gives without any learning, by the name of its figures (``person/zero/icc/mean``), in words.
UNTRAINED = {"zero": "the zero alone", "reference": "beside the photo alone"}


def figures_of(
    test: FaceBatch, generic: FaceBatch, before: Mapping[str, Tensor], after: Mapping[str, Tensor]
) -> dict[str, Any]:
    """ICC(3,1) and MAE by AU, ``GROUP/WHEN/icc/AU06``.

    Args:
        test: the person's faces.
        generic: strangers.
        before: readings of ``person`` and ``generic``, float (n, 19).
        after: likewise.
    """
    figures: dict[str, Any] = {}
    for group, faces in (("person", test), ("generic", generic)):
        for when, readings in (("before", before), ("after", after)):
            icc, error = scores(faces.au_intensity, readings[group])
            for key, one, other in zip(AU_KEYS, icc, error):
                figures[f"{group}/{when}/icc/{key}"], figures[f"{group}/{when}/mae/{key}"] = float(one), float(other)
            for figure, values in (("icc", icc), ("mae", error)):
                known = values[values == values]
                figures[f"{group}/{when}/{figure}/mean"] = float(known.mean()) if len(known) else float("nan")
    return figures


def untrained_figures(test: FaceBatch, name: str, readings: Tensor, before: Tensor, after: Tensor) -> dict[str, Any]:
    """What a photo gives without any learning, ``person/zero/icc/AU06``, and its share of the gain.

    Args:
        test: the person's faces.
        name: of :data:`UNTRAINED`.
        readings: what is read so, float (n, 19).
        before: by the detector that is adapted, alone, float (n, 19).
        after: by the adapted one, float (n, 19).

    Returns:
        ICC and MAE by AU and in the mean; ``person/zero/share/icc`` and ``.../mae``: its gain over that of learning,
        NaN where nothing was gained.
    """
    figures: dict[str, Any] = {}
    found = {"before": before, name: readings, "after": after}
    each = {when: dict(zip(("icc", "mae"), scores(test.au_intensity, one))) for when, one in found.items()}
    for figure in ("icc", "mae"):
        values = each[name][figure]
        figures |= {f"person/{name}/{figure}/{key}": float(value) for key, value in zip(AU_KEYS, values)}
        means = {when: _known_mean(one[figure]) for when, one in each.items()}
        figures[f"person/{name}/{figure}/mean"] = means[name]
        gained = means["after"] - means["before"]
        better = gained > 0 if figure == "icc" else gained < 0
        figures[f"person/{name}/share/{figure}"] = (means[name] - means["before"]) / gained if better else float("nan")
    return figures


def best_untrained(figures: Mapping[str, Any]) -> tuple[str, float] | None:
    """Which of :data:`UNTRAINED` reads the person best, and its mean ICC; None where nothing is known."""
    known = {name: figures.get(f"person/{name}/icc/mean") for name in UNTRAINED}
    found = {name: value for name, value in known.items() if value is not None and value == value}
    return max(found.items(), key=lambda pair: pair[1]) if found else None


def verdict(figures: Mapping[str, Any]) -> str:
    """A sentence where the photo alone reaches the mean ICC of what was learnt; else nothing."""
    after, untrained = figures.get(AFTER), best_untrained(figures)  # null where too little is known
    if after is None or untrained is None or not after < untrained[1]:
        return ""
    name, value = untrained
    error = figures.get("person/after/mae/mean")
    errors = [figures.get(f"person/{one}/mae/mean") for one in UNTRAINED]
    lowest = min((one for one in errors if one is not None and one == one), default=None)
    if error is not None and lowest is not None and error < lowest and value - after < _ALIKE:
        return (
            f"Learning lowered the mean error from {lowest:.2f}, the least without it, to {error:.2f} grades; mean "
            f"ICC is {after:.2f} after it, {value:.2f} without ({UNTRAINED[name]})."
        )
    return (
        f"Learning did not help here: mean ICC {after:.2f} after it, {value:.2f} without ({UNTRAINED[name]}), which "
        "`python -m lit_faces.calibrate` sets in seconds."
    )


def _known_mean(values: np.ndarray) -> float:
    known = values[values == values]
    return float(known.mean()) if len(known) else float("nan")


def write_learning_report(
    out: Path, figures: Mapping[str, Any], test: FaceBatch, before: Tensor, after: Tensor
) -> None:
    """Write report.md, before_after.png and calibration.png.

    Args:
        out: folder.
        figures: of :func:`figures_of`, and what was done (``run/...``).
        test: the person's faces.
        before: readings on them, float (n, 19).
        after: likewise.
    """
    replace_file(out / "report.md", report(figures).encode())
    _bars(figures, out)
    _calibration(test, before, after, "asked for" if _is_generated(figures) else "in the labels", out)


def report(figures: Mapping[str, Any]) -> str:
    """Markdown: what changed by AU, for the person and for strangers, and what it cost."""
    lines = [
        f"# {figures['run/person']}: {figures['run/method']} on {figures['run/frames']} faces", "",
        f"Tested on {figures['run/test_is']}; strangers are people whom nobody learnt. Took "
        f"{figures['run/seconds']:.0f} s: preparing {figures['run/seconds/preparing']:.0f} s, learning "
        f"{figures['run/seconds/learning']:.0f} s. People learnt so far: {', '.join(figures['run/learnt'])}.", "",
        "| AU | ICC(3,1) before | after | MAE before | after | strangers: ICC before | after |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for key in (*AU_KEYS, "mean"):
        names = [f"{g}/{w}/{f}/{key}" for g, f in (("person", "icc"), ("person", "mae")) for w in ("before", "after")]
        names += [f"generic/{when}/icc/{key}" for when in ("before", "after")]
        lines.append("| " + " | ".join([key, *(_cell(figures[name]) for name in names)]) + " |")
    return "\n".join([*lines, *_untrained_lines(figures)]) + "\n"


def _untrained_lines(figures: Mapping[str, Any]) -> list[str]:
    """What the person's photo gave alone, where it was tried."""
    lines = []
    for name, words in UNTRAINED.items():
        if f"person/{name}/icc/mean" in figures:
            icc, mae, *shares = (
                figures[f"person/{name}/{what}"] for what in ("icc/mean", "mae/mean", "share/icc", "share/mae")
            )
            lines += [
                "",
                f"{words.capitalize()}, nothing learnt: ICC {_cell(icc)}, MAE {_cell(mae)}; that is "
                f"{_percent(shares[0])} of the gain in ICC and {_percent(shares[1])} of that in MAE.",
            ]
    return lines


def _percent(value: float | None) -> str:
    return "-" if value is None or value != value else f"{100 * value:.0f} %"


def add_to_page(page: Page, folder: Path, figures: Mapping[str, Any]) -> None:
    """What a person's page says of the detector.

    Args:
        page: of :func:`lit_faces.persons.report.write_report`.
        folder: of the detector.
        figures: of its results.json, and ``run/seconds`` of the whole.
    """
    page.heading("The detector")
    tried = [(words, f"person/{name}") for name, words in UNTRAINED.items() if f"person/{name}/icc/mean" in figures]
    when = (("before", "person/before"), *tried, ("after", "person/after"))
    page.facts([(f"MAE on the person, {word}", _cell(figures.get(f"{name}/mae/mean"))) for word, name in when])
    page.facts([(f"ICC on the person, {word}", _cell(figures.get(f"{name}/icc/mean"))) for word, name in when])
    page.facts(
        [
            ("MAE on strangers, before", _cell(figures.get("generic/before/mae/mean"))),
            ("MAE on strangers, after", _cell(figures.get("generic/after/mae/mean"))),
            ("share of the zero in the gain of MAE", _percent(figures.get("person/zero/share/mae"))),
            ("seconds in all", f"{figures['run/seconds']:.0f}"),
        ]
    )
    page.text(f"{_rests_on(figures)} MAE: mean absolute error, grades, less is better; ICC(3,1): agreement, 1 is all.")
    if said := verdict(figures):
        page.text(said, note=True)
    if _is_generated(figures):
        page.text(
            "Their labels are what was asked of the generator, not what somebody saw: they show that learning worked, "
            "not how well real pictures are read. Give labelled real faces with --test to know.",
            note=True,
        )
    page.picture(
        folder / "before_after.png", "Before and after, by AU; crosses are strangers, who must not be forgotten."
    )
    page.picture(folder / "calibration.png", "What is read at each intensity of the labels, before and after.")


def _rests_on(figures: Mapping[str, Any]) -> str:
    """How many AUs and frames the figures are of."""
    aus, varying = (
        sum(_cell(figures.get(f"person/before/{name}/{key}")) != "-" for key in AU_KEYS) for name in ("mae", "icc")
    )
    return (
        f"On the person: {figures['run/test_is']}; MAE over {aus} AUs, ICC over the {varying} that vary there, "
        f"{figures['run/test_frames']} frames."
    )


def _is_generated(figures: Mapping[str, Any]) -> bool:
    """Whether the labels are what was asked of a generator."""
    return "generated" in str(figures["run/test_is"])


def _cell(value: float | None) -> str:
    return "-" if value is None or value != value else f"{value:.2f}"


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _bars(figures: Mapping[str, Any], out: Path) -> Path:
    """MAE and ICC by AU, before and after, of the person; a cross marks strangers."""
    from matplotlib.figure import Figure

    keys = [key for key in AU_KEYS if _cell(figures[f"person/before/mae/{key}"]) != "-"]
    figure = Figure(figsize=(10, 6), layout="constrained")
    for axes, measure, label in zip(
        figure.subplots(2, 1, sharex=True), ("mae", "icc"), ("MAE, down is better", "ICC(3,1), up is better")
    ):
        places = np.arange(len(keys))
        for shift, when, colour in ((-0.2, "before", "#a0a8b4"), (0.2, "after", "#4878a8")):
            values = [_number(figures[f"person/{when}/{measure}/{key}"]) for key in keys]
            strangers = [_number(figures[f"generic/{when}/{measure}/{key}"]) for key in keys]
            axes.bar(places + shift, values, 0.38, color=colour, label=f"the person, {when}")
            axes.scatter(
                places + shift, strangers, marker="x", s=18, color="black", label="strangers" if shift < 0 else None
            )
        axes.set_ylabel(label)
        axes.set_xticks(places, keys, rotation=60)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper center", fontsize=8, ncols=3)
    return save_figure(figure, out / "before_after.png")


def _calibration(test: FaceBatch, before: Tensor, after: Tensor, labels: str, out: Path) -> Path:
    """What is read at each labelled intensity, before and after; AUs without a label have no plot."""
    from matplotlib.figure import Figure

    keys = [key for key, known in zip(AU_KEYS, test.au_intensity.isfinite().any(0)) if known] or list(AU_KEYS[:1])
    columns = min(5, len(keys))
    rows = -(-len(keys) // columns)
    figure = Figure(figsize=(2.2 * columns, 2.2 * rows + 0.3), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes, key in zip(grid.flat, keys):
        column = AU_KEYS.index(key)
        truth = test.au_intensity[:, column].numpy()
        axes.plot([0, 5], [0, 5], color="grey", linewidth=0.7)
        axes.scatter(truth, before[:, column].numpy(), s=7, color="#a0a8b4", label="before")
        axes.scatter(truth, after[:, column].numpy(), s=7, color="#4878a8", label="after")
        axes.set_title(key, fontsize=9)
    for axes in list(grid.flat)[len(keys) :]:
        axes.set_axis_off()
    grid.flat[0].legend(fontsize=7)
    figure.supxlabel(f"intensity {labels}")
    figure.supylabel("read")
    return save_figure(figure, out / "calibration.png")
