"""The figures on real people, flat by name, and the page that shows them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.open_faces import STAYS
from benchmarks.real_clips import ClipReading
from benchmarks.real_figures import (
    GRADE,
    MOVES,
    Floats,
    RealTable,
    auc_of_smiles,
    cheek_beside_smile,
    clip_agreement,
    column,
    confusion,
    false_at_rest,
    groups,
    order_within,
    pearson,
    shift,
)
from lit_faces.core.facs import AU_KEYS
from lit_faces.metrics.bootstrap import Interval

OURS, ZEROED, MEDIAPIPE, OPENFACE = "ours", "ours, own zero", "MediaPipe", "OpenFace"
BESIDE = "ours, beside own photo"  # of detectors with a reference head
_SMILE = ("AU06", "AU12", "AU25")
#: AUs on which the outside readers can be trusted on clips.
TRUSTED = ("AU01", "AU02", "AU05", "AU06", "AU09", "AU10", "AU12", "AU17", "AU25", "AU26", "AU43")
_SMALL_GROUP, _LARGE_GROUP = 7, 20  # people: fewer are not judged; from the second on a share counts


def figures_of(tables: Mapping[str, RealTable], named: Sequence[str], resamples: int) -> dict[str, Any]:
    """What is counted on the open faces.

    Args:
        tables: by reader; :data:`OURS` and the outside ones, :data:`ZEROED` and :data:`BESIDE` where there are such.
        named: the expression that our detector names on each picture.
        resamples: of the bootstrap over people.
    """
    figures: dict[str, Any] = {}
    for reader, table in tables.items():
        if reader not in (ZEROED, BESIDE):  # the resting photo is what they were made of
            figures |= _at_rest(reader, table, resamples)
            figures |= _told_apart(reader, table, resamples)
        figures |= _within(reader, table, resamples)
        figures |= _on_smiles(reader, table)
    for reader in (OURS, OPENFACE):
        found = cheek_beside_smile(tables[reader], tables[OPENFACE], tables[MEDIAPIPE], resamples)
        figures |= {f"{reader}/cheek/{name}": _said(one) for name, one in found.items()}
    if any(named):
        figures["expression"] = confusion(named, tables[OURS])
    return figures


def _said(interval: Interval, **more: Any) -> dict[str, Any]:
    return {"value": float(interval.estimate), "low": float(interval.low), "high": float(interval.high), **more}


def _at_rest(reader: str, table: RealTable, resamples: int) -> dict[str, Any]:
    figures = {}
    kinds = [("false", False)] + ([("called", True)] if table.present is not None else [])
    for name, rows in groups(table):
        for kind, present in kinds:
            if not (rows & table.neutral).any():
                continue
            counts, people, share = false_at_rest(table, rows, present, resamples)
            for k, key in enumerate(AU_KEYS):
                figures[f"{reader}/{kind}/{key}/{name}"] = _said(column(share, key), count=int(counts[k]), of=people)
    return figures


def _told_apart(reader: str, table: RealTable, resamples: int) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    everybody = np.ones(len(table.subject), dtype=bool)
    for name, rows, keys in (
        ("", everybody, AU_KEYS), ("/men", table.gender == "male", _SMILE), ("/women", table.gender == "female", _SMILE)
    ):  # fmt: skip
        found = auc_of_smiles(table, rows, resamples=resamples, keys=keys)
        figures |= {f"{reader}/auc/{key}{name}": _said(column(found, key)) for key in keys}
    parted = auc_of_smiles(table, smiles=table.parted, resamples=resamples, keys=("AU25",))
    strong = auc_of_smiles(table, smiles=table.strong, resamples=resamples, keys=_SMILE)
    figures[f"{reader}/auc_parted/AU25"] = _said(column(parted, "AU25"))
    figures |= {f"{reader}/auc_strong/{key}": _said(column(strong, key)) for key in _SMILE}
    return figures


def _within(reader: str, table: RealTable, resamples: int) -> dict[str, Any]:
    counts, people, share = order_within(table, resamples)
    moved = shift(table, resamples)
    figures: dict[str, Any] = {}
    for k, key in enumerate(AU_KEYS):
        figures[f"{reader}/order/{key}"] = _said(column(share, key), count=float(counts[k]), of=people)
        figures |= {f"{reader}/shift/{name}/{key}": _said(column(one, key)) for name, one in moved.items()}
    return figures


def _on_smiles(reader: str, table: RealTable) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    smiles, twelve, lips = ~table.neutral, AU_KEYS.index("AU12"), AU_KEYS.index("AU25")
    for key in AU_KEYS:
        values = table.grade[smiles, AU_KEYS.index(key)]
        figures[f"{reader}/smiles/{key}"] = {
            "count": int((values >= GRADE).sum()), "of": int((~np.isnan(values)).sum()), "mean": _mean(values),
        }  # fmt: skip
    strong, closed = table.grade[table.strong, twelve], table.grade[smiles & ~table.parted, lips]
    figures[f"{reader}/strong/AU12"] = {"mean": _mean(strong), "of": len(strong)}
    figures[f"{reader}/closed_lips/AU25"] = {"count": int((closed < GRADE).sum()), "of": len(closed)}
    if table.present is not None:
        for name, rows in (("strong", table.strong), ("smiles", smiles)):
            called = table.present[rows, twelve]
            figures[f"{reader}/called_on_{name}/AU12"] = {"count": int(called.sum()), "of": len(called)}
    return figures


def _mean(values: Floats) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan


def studio_figures(table: RealTable, moved: Mapping[str, Floats]) -> dict[str, Any]:
    """How readings change on other backgrounds and in other light: mean change and size of it, grades, and AUCs."""
    figures: dict[str, Any] = {}
    before = auc_of_smiles(table, resamples=1, keys=_SMILE).estimate
    for name, grade in moved.items():
        change, other = grade - table.grade, auc_of_smiles(table.of(grade), resamples=1, keys=_SMILE).estimate
        for k, key in enumerate(AU_KEYS):
            figures[f"studio/{name}/change/{key}"] = float(change[:, k].mean())
            figures[f"studio/{name}/size/{key}"] = float(np.abs(change[:, k]).mean())
        for key in _SMILE:
            k = AU_KEYS.index(key)
            figures[f"studio/{name}/auc/{key}"] = float(other[k] - before[k])
    return figures


def clip_figures(clips: Sequence[ClipReading], resamples: int) -> dict[str, Any]:
    """Correlation over frames: ours with OpenFace, and the two outside readers with each other."""
    figures: dict[str, Any] = {}
    for clip in clips:
        ours, moves = clip_agreement(clip.ours, clip.openface, clip.openface_grade, resamples)
        theirs, _ = clip_agreement(clip.mediapipe, clip.openface, clip.openface_grade, resamples)
        figures[f"clip/{clip.name}/frames"] = len(clip.ours)
        for k, key in enumerate(AU_KEYS):
            figures[f"clip/{clip.name}/ours/{key}"] = _said(column(ours, key), moves=bool(moves[k]))
            figures[f"clip/{clip.name}/readers/{key}"] = _said(column(theirs, key), moves=bool(moves[k]))
        kept = [k for k, key in enumerate(AU_KEYS) if key in TRUSTED and moves[k]]
        pairs = {"ours": clip.ours, "readers": clip.mediapipe}
        if clip.beside is not None:
            pairs["beside"] = clip.beside
        for name, values in pairs.items():
            r = [pearson(values[:, k], clip.openface[:, k]) for k in kept]
            figures[f"clip/{clip.name}/{name}/mean"] = float(np.nanmean(r)) if kept else math.nan
    return figures


# -- the page ---------------------------------------------------------------------------------------------------------


def markdown(figures: Mapping[str, Any]) -> str:
    """The page: what is wanted and what is found, then the tables."""
    people, pictures = figures["run/people"], figures["run/pictures"]
    folds = figures["run/fold_detectors"]
    who = f"three detectors refitted without the tested fold ({', '.join(folds)})" if folds else (
        f"`{figures['run/detector']}`"
    )  # fmt: skip
    lines = [
        f"{people} people, {pictures} photographs ({figures['run/lost']} without a found face), read by {who}. Intervals: "
        f"95 %, bootstrap over people ({figures['run/resamples']} resamples). MediaPipe's grades are its blendshapes "
        "times five; its AU6 is the log of cheekSquint and has no grade.",
        "",
        *_wanted(figures),
        "",
        "False readings at rest (grade 1 or more), smiles told from rest (AUC), and people whose smile is above their own rest:",
        "",
        *_per_au(figures),
        "",
        "Smiles of people, of AUs that stay: read at grade 1 or more, and shift (mean size of smile less rest, grades):",
        "",
        *_stays(figures),
        "",
        *_expressions(figures),
        *_studios(figures),
        *_clips(figures),
        "*Face Research Lab London Set, L. DeBruine & B. Jones, CC BY 4.0, altered.*",
    ]
    return "\n".join(lines) + "\n"


def _number(value: float | None, digits: int = 2) -> str:
    if value is None or not math.isfinite(value):
        return "-"
    return f"{value:.{digits}f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.{digits}f}"


def _cell(said: Mapping[str, Any], digits: int = 2) -> str:
    if not math.isfinite(said["value"]):
        return "-"
    return f"{_number(said['value'], digits)} ({_number(said['low'], digits)} to {_number(said['high'], digits)})"


def _share(said: Mapping[str, Any]) -> str:
    return "-" if not math.isfinite(said["value"]) else f"{100 * said['value']:.0f} %"


def _worst(figures: Mapping[str, Any], kind: str, key: str) -> tuple[str, Mapping[str, Any]] | None:
    """The judged group in which most people are misread."""
    start = f"{OURS}/{kind}/{key}/"
    found = {name.removeprefix(start): one for name, one in figures.items() if name.startswith(start)}
    judged = {name: one for name, one in found.items() if name != "all" and one["of"] >= _SMALL_GROUP}
    return max(judged.items(), key=lambda item: item[1]["value"], default=None)


def _too_many(kind: str, figures: Mapping[str, Any]) -> list[str]:
    """AUs and groups in which more people are misread than wanted."""
    start, wrong = f"{OURS}/{kind}/", []
    for name, one in figures.items():
        if name.startswith(start):
            key, group = name.removeprefix(start).split("/", 1)
            most = 3 if group == "all" else 1 if one["of"] < _LARGE_GROUP else math.floor(0.1 * one["of"])
            if one["of"] >= _SMALL_GROUP and one["count"] > most:
                wrong.append(f"{key} {group} {one['count']} of {one['of']}")
    return wrong


def _wanted(figures: Mapping[str, Any]) -> list[str]:
    rows = ["| wanted | found | |", "|---|---|---|"]
    for what, found, met in _checks(figures):
        rows.append(f"| {what} | {found} | {'met' if met else '**not met**'} |")
    return rows


def _checks(figures: Mapping[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """What is asked of a detector on real people: in words, what was found, whether that is enough."""
    for kind, what in (("false", "read at grade 1 or more"), ("called", "called present")):
        wrong = _too_many(kind, figures)
        more = f" and {len(wrong) - 6} more" if len(wrong) > 6 else ""
        yield (
            f"neutrals {what}: at most 3 for every AU; 1 in groups of 7 to 19 people, 10 % in larger ones",
            ", ".join(wrong[:6]) + more if wrong else "nowhere more",
            not wrong,
        )
    for key, group, least in (("AU12", "", 0.975), ("AU12", "/men", 0.95)):
        said = figures[f"{OURS}/auc/{key}{group}"]
        yield f"AUC {key}{group.replace('/', ', ')} ≥ {least}", _cell(said, 3), said["value"] >= least
    best = max(figures[f"{reader}/auc/AU06"]["value"] for reader in (MEDIAPIPE, OPENFACE))
    said = figures[f"{OURS}/auc/AU06"]
    yield f"AUC AU06 ≥ the better outside reader's ({_number(best, 3)})", _cell(said, 3), said["value"] >= best
    said = figures[f"{OURS}/auc_parted/AU25"]
    yield "AUC AU25, parted smiles, ≥ 0.95", _cell(said, 3), said["value"] >= 0.95
    yield _counted(figures, f"{OURS}/closed_lips/AU25", "AU25 below 1 on closed-lip smiles ≥ 90 %", 0.9)
    mean = figures[f"{OURS}/strong/AU12"]["mean"]
    yield "AU12 of strong smiles 2.5 to 3.5 grades", _number(mean), 2.5 <= mean <= 3.5
    yield _counted(figures, f"{OURS}/called_on_strong/AU12", "AU12 called present on strong smiles ≥ 95 %", 0.95)
    said = figures[f"{OURS}/cheek/partial_r"]
    yield "r of AU6 with OpenFace's, AU12 held fixed, ≥ 0.3", _cell(said), said["value"] >= 0.3
    said = figures[f"{ZEROED}/order/AU12"]
    yield (
        "with own zero: smile above rest in AU12, all but one",
        f"{said['count']:g} of {said['of']}",
        said["count"] >= said["of"] - 1,
    )
    wrong = [f"{key} {figures[f'{ZEROED}/smiles/{key}']['count']}" for key in STAYS
             if figures[f"{ZEROED}/smiles/{key}"]["count"] > 1]  # fmt: skip
    yield (
        "with own zero: AUs that stay read ≥ 1 on at most one smile each",
        ", ".join(wrong) or "nowhere more",
        not wrong,
    )
    yield from _more_checks(figures)


def _counted(figures: Mapping[str, Any], name: str, what: str, least: float) -> tuple[str, str, bool]:
    said = figures[name]
    return what, f"{said['count']} of {said['of']}", said["count"] >= least * said["of"]


def _more_checks(figures: Mapping[str, Any]) -> Iterator[tuple[str, str, bool]]:
    for what, right, least in (
        ("neutral", "neutral", 0.95),
        ("strong smile", "happiness", 0.95),
        ("smile", "happiness", 0.8),
    ):
        if counts := figures.get("expression", {}).get(what):
            found, all_of_them = counts.get(right, 0), sum(counts.values())
            yield f"a {what} named {right} ≥ {least:.0%}", f"{found} of {all_of_them}", found >= least * all_of_them
    changes = {name: value for name, value in figures.items() if name.startswith("studio/")}
    if changes:
        worst, most = max(
            ((name, abs(value)) for name, value in changes.items() if "/change/" in name), key=lambda one: one[1]
        )
        yield "other rooms: mean change ≤ 0.2 grades", f"{_number(most)} ({_tail(worst)})", most <= 0.2
        worst, most = max(
            ((name, abs(value)) for name, value in changes.items() if "/auc/" in name), key=lambda one: one[1]
        )
        yield "other rooms: AUC within 0.01", f"{_number(most, 3)} ({_tail(worst)})", most <= 0.01
    medians = {name: value for name, value in figures.items() if name.startswith("median/")}
    if medians:
        worst, most = max(medians.items(), key=lambda one: one[1])
        yield "clips and photos: resting median of every AU ≤ 0.3", f"{_number(most)} ({_tail(worst)})", most <= 0.3
    for name, value in figures.items():
        if name.startswith("clip/") and name.endswith("/ours/mean"):
            readers = figures[name.replace("/ours/", "/readers/")]
            clip = name.split("/")[1]
            yield f"{clip}: mean r with OpenFace ≥ 0.55", f"{_number(value)} (readers with each other {_number(readers)})", value >= 0.55  # fmt: skip


def _tail(name: str) -> str:
    parts = name.split("/")
    return f"{parts[-1]}, {parts[1]}"


def _per_au(figures: Mapping[str, Any]) -> list[str]:
    rows = [
        "| AU | rest ≥ 1: ours | called | worst group | MediaPipe | OpenFace | AUC: ours | MediaPipe | OpenFace | order: ours | OpenFace |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for key in AU_KEYS:
        worst = _worst(figures, "false", key)
        group = "-" if worst is None or not worst[1]["count"] else f"{worst[0]} {_share(worst[1])}"
        cells = [_share(figures[f"{reader}/{kind}/{key}/all"]) for reader, kind in
                 ((OURS, "false"), (OURS, "called"))]  # fmt: skip
        cells += [group, *(_share(figures[f"{reader}/false/{key}/all"]) for reader in (MEDIAPIPE, OPENFACE))]
        cells += [_cell(figures[f"{reader}/auc/{key}"]) for reader in (OURS, MEDIAPIPE, OPENFACE)]
        cells += [_share(figures[f"{reader}/order/{key}"]) for reader in (OURS, OPENFACE)]
        rows.append(f"| {key} | " + " | ".join(cells) + " |")
    return rows


def _stays(figures: Mapping[str, Any]) -> list[str]:
    readers = [one for one in (OURS, ZEROED, BESIDE, MEDIAPIPE, OPENFACE) if f"{one}/smiles/{STAYS[0]}" in figures]
    rows = [
        f"| AU | {' | '.join(f'≥ 1: {reader}' for reader in readers)} | "
        f"{' | '.join(f'shift: {reader}' for reader in readers)} | r of the two photos |",
        "|---" * (2 * len(readers) + 2) + "|",
    ]
    for key in STAYS:
        counts = [figures[f"{reader}/smiles/{key}"] for reader in readers]
        cells = [f"{one['count']} of {one['of']}" if one["of"] else "-" for one in counts]
        cells += [_cell(figures[f"{reader}/shift/size/{key}"]) for reader in readers]
        rows.append(f"| {key} | " + " | ".join([*cells, _cell(figures[f"{OURS}/shift/r/{key}"])]) + " |")
    return rows


def _expressions(figures: Mapping[str, Any]) -> list[str]:
    counts = figures.get("expression")
    if not counts:
        return []
    said = [
        f"{what}: " + ", ".join(f"{name} {count}" for name, count in found.items()) for what, found in counts.items()
    ]
    return [f"Expressions as named: {'; '.join(said)}.", ""]


def _studios(figures: Mapping[str, Any]) -> list[str]:
    names = list(dict.fromkeys(name.split("/")[1] for name in figures if name.startswith("studio/")))
    if not names:
        return []
    rows = ["Other backgrounds and light, the same people:", "", "| | largest mean change, grades | AUC AU06 | AU12 | AU25 |", "|---|---|---|---|---|"]  # fmt: skip
    for name in names:
        changes = {key: figures[f"studio/{name}/change/{key}"] for key in AU_KEYS}
        key = max(changes, key=lambda one: abs(changes[one]))
        aucs = [f"{figures[f'studio/{name}/auc/{smile}']:+.3f}" for smile in _SMILE]
        rows.append(f"| {name} | {changes[key]:+.2f} ({key}) | {' | '.join(aucs)} |")
    return [*rows, ""]


def _clips(figures: Mapping[str, Any]) -> list[str]:
    names = list(dict.fromkeys(name.split("/")[1] for name in figures if name.startswith("clip/")))
    if not names:
        return []
    head = " | ".join(f"{name}: ours | readers" for name in names)
    rows = [
        f"Clips: r over frames with OpenFace's raw reading, and MediaPipe's with it; AUs that OpenFace sees move by more than {MOVES} grades:",
        "", f"| AU | {head} |", "|---" * (1 + 2 * len(names)) + "|",
    ]  # fmt: skip
    for key in AU_KEYS:
        pairs = [(figures[f"clip/{name}/ours/{key}"], figures[f"clip/{name}/readers/{key}"]) for name in names]
        if any(ours["moves"] for ours, _ in pairs):
            cells = [_cell(one) if ours["moves"] else "-" for ours, theirs in pairs for one in (ours, theirs)]
            rows.append(f"| {key} | " + " | ".join(cells) + " |")
    means = [_number(figures[f"clip/{name}/{who}/mean"]) for name in names for who in ("ours", "readers")]
    rows.append(f"| mean of {len(TRUSTED)} AUs, those that move | {' | '.join(means)} |")
    beside = [
        f"{name} {_number(figures[f'clip/{name}/beside/mean'])}"
        for name in names
        if f"clip/{name}/beside/mean" in figures
    ]
    said = [f"Beside each clip's two most resting frames, the mean is: {', '.join(beside)}.", ""] if beside else []
    return [*rows, "", *said]
