"""Published folds and counts, against FACTS.md and against one another."""

import os
import re
from pathlib import Path

import numpy as np
import pytest

from data_modules.folds import (
    BAD_FRAMES,
    DISFA_ROWS,
    FOLD_NAMES,
    PARTS,
    PUBLISHED,
    Split,
    hold_out,
    leave_one_out,
    part_of,
    random_parts,
)
from data_modules.reader import Clip, not_coded
from data_modules.verify import causes, compare, table
from lit_faces.core.facs import AU_INDEX

SHARED = Path(os.environ.get("LIT_FACES_SHARED") or Path(__file__).resolve().parents[3] / "shared" / "data")
FACTS = SHARED.parent / "FACTS.md"


@pytest.fixture(scope="module")
def facts() -> str:
    if not FACTS.is_file():
        pytest.skip(f"no {FACTS}")
    return FACTS.read_text()


def test_parts_are_those_of_the_facts(facts: str) -> None:
    for name, first in (("disfa", "D1.7"), ("bp4d", "D2.6")):
        section = facts[facts.index(first) :]
        for number in (1, 2, 3):
            line = re.search(rf"^part{number}(?: \(\d+\))?: (.*)$", section, re.MULTILINE)
            assert line and tuple(line[1].split()) == PARTS[name][number - 1]


def test_counts_are_those_of_the_facts(facts: str) -> None:
    for name, title in (("disfa", "DISFA (AU 1,2,4,6,9,12,25,26)"), ("bp4d", "BP4D (AU 1,2,4,6,7,10")):
        section = facts[facts.index(title) :]
        frames = re.search(r"frames ([\d,]+) / ([\d,]+) / ([\d,]+) =", section)
        assert frames and tuple(int(f.replace(",", "")) for f in frames.groups()) == PUBLISHED[name].frames
        rows = re.findall(r"^\| (part|1|2|3|all) \|(.*)\|$", section, re.MULTILINE)[:5]
        cells = [[int(cell) for cell in row.split("|")] for _, row in rows]
        assert cells[0] == list(PUBLISHED[name].positives)
        for number in (1, 2, 3):
            assert cells[number] == [counts[number - 1] for counts in PUBLISHED[name].positives.values()]
        assert cells[4] == [sum(counts) for counts in PUBLISHED[name].positives.values()], "the sums of the facts"


def test_bad_frames_are_those_of_the_facts(facts: str) -> None:
    total = {name: sum(b - a + 1 for spans in ranges.values() for a, b in spans) for name, ranges in BAD_FRAMES.items()}
    assert total == {"disfa": 4670, "bp4d": 271}
    section = facts[facts.index("D1.6") : facts.index("D1.7")]
    for person, spans in BAD_FRAMES["disfa"].items():
        told = re.search(rf"{person} ([\d–, ]+)", section)
        assert told
        assert tuple(tuple(map(int, span.split("–"))) for span in told[1].strip(" ,").split(", ")) == spans


def test_parts_and_counts_agree_with_one_another() -> None:
    assert len(DISFA_ROWS) == 27 and sum(DISFA_ROWS.values()) == sum(PUBLISHED["disfa"].frames) == 130_814
    for number, people in enumerate(PARTS["disfa"]):
        assert sum(DISFA_ROWS[name] for name in people) == PUBLISHED["disfa"].frames[number]
    for name, counts in (("disfa", (9, 9, 9)), ("bp4d", (14, 14, 13))):
        assert tuple(map(len, PARTS[name])) == counts
        assert len({person for part in PARTS[name] for person in part}) == sum(counts)
    lost = [0, 0, 0]
    for person, spans in BAD_FRAMES["disfa"].items():
        lost[part_of(f"disfa:{person}") - 1] += sum(b - a + 1 for a, b in spans)
    kept = tuple(frames - gone for frames, gone in zip(PUBLISHED["disfa"].frames, lost))
    assert kept == PUBLISHED["disfa"].subset[1]
    lost = [0, 0, 0]
    for clip, spans in BAD_FRAMES["bp4d"].items():
        lost[part_of(f"bp4d:{clip[:4]}") - 1] += sum(b - a + 1 for a, b in spans)
    assert tuple(f - g for f, g in zip(PUBLISHED["bp4d"].frames, lost)) == PUBLISHED["bp4d"].subset[1]


def test_fold_names_of_papers() -> None:
    assert FOLD_NAMES["ME-GraphAU"] == tuple(f"fold{4 - part}" for part in (1, 2, 3))
    assert FOLD_NAMES["FG-Net"] == tuple(str(part - 1) for part in (1, 2, 3))
    assert FOLD_NAMES["LibreFace"] == tuple(str(3 - part) for part in (1, 2, 3))
    assert FOLD_NAMES["JAA-Net"][2] == "combine_1_2", "trains parts 1 and 2, tests part 3"


@pytest.mark.parametrize("part", [1, 2, 3])
@pytest.mark.parametrize("name", ["disfa", "bp4d"])
def test_the_held_out_part_is_tested_and_nobody_else(name: str, part: int) -> None:
    everybody = [f"{name}:{person}" for people in PARTS[name] for person in people]
    split = hold_out(everybody, part, val_share=0.2, seed=1)
    assert split.test == {f"{name}:{person}" for person in PARTS[name][part - 1]}
    assert split.train | split.val | split.test == set(everybody)
    assert len(split.val) == round(0.2 * (len(everybody) - len(split.test)))
    assert split == hold_out(reversed(everybody), part, val_share=0.2, seed=1), "the order of files plays no part"
    assert hold_out(everybody, part, 0.2, seed=2).test == split.test


def test_people_without_published_parts_get_seeded_ones() -> None:
    names = [f"own:{i}" for i in range(20)]
    parts = random_parts(names, seed=3)
    assert sorted(list(parts.values()).count(k) for k in (1, 2, 3)) == [6, 7, 7]
    tested = [hold_out(names, part, seed=3).test for part in (1, 2, 3)]
    assert set().union(*tested) == set(names) and sum(map(len, tested)) == 20


def test_leave_one_out() -> None:
    names = [f"disfa:{person}" for people in PARTS["disfa"] for person in people]
    split = leave_one_out(names, "SN010")
    assert split.test == {"disfa:SN010"} and len(split.val) == round(0.2 * 26)
    assert leave_one_out(names, "disfa:SN010") == split
    with pytest.raises(ValueError, match="'SN0' is not one of"):
        leave_one_out(names, "SN0")


@pytest.mark.parametrize(("part", "share", "says"), [(0, 0.2, "held_out_part"), (1, 1.0, "val_share")])
def test_what_cannot_be_is_refused(part: int, share: float, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        hold_out(["a:1", "a:2", "a:3"], part, share)
    with pytest.raises(ValueError, match="in two groups"):
        Split(frozenset("a"), frozenset(), frozenset("a"))


def whole_disfa() -> list[Clip]:
    """27 people with exactly the published counts."""
    clips = []
    for part, people in enumerate(PARTS["disfa"]):
        sizes = [DISFA_ROWS[person] for person in people]
        grades = not_coded(sum(sizes))
        for au, counts in PUBLISHED["disfa"].positives.items():
            grades[:, AU_INDEX[au]] = 0
            grades[: counts[part], AU_INDEX[au]] = 2
        first = 0
        for person, size in zip(people, sizes):
            own = grades[first : first + size]
            first += size
            clips.append(
                Clip(person, f"disfa:{person}", np.arange(1, size + 1), container=FACTS,
                     positions=np.arange(size), au_intensity=own)
            )  # fmt: skip
    return clips


def test_a_whole_copy_is_the_published_one_and_others_say_why_not() -> None:
    clips = whole_disfa()
    assert not any(line.differs for line in compare("disfa", clips))
    assert "all 30 figures" in table("disfa", clips)
    said = table("disfa", clips[1:])
    assert "1 of 27 people are not there: SN002" in said
    cut = [clips[0].select(slice(0, 4000)), *clips[1:]]
    assert "SN002 has 4000 rows of 4845" in table("disfa", cut)
    for clip in clips:
        clip.au_intensity[clip.au_intensity == 0] = 2.0
    assert any("all positives exceed" in cause for cause in causes("disfa", clips, compare("disfa", clips)))
    assert table("folder", clips).startswith("folder: no published counts")


def test_the_copy_without_bad_frames_is_recognised() -> None:
    clips = []
    for clip in whole_disfa():
        bad = BAD_FRAMES["disfa"].get(clip.key, ())
        clips.append(clip.select(np.array([not any(a <= f <= b for a, b in bad) for f in clip.frames])))
    assert "the frames are exactly JAA-Net's" in table("disfa", clips)


def test_other_sets_have_totals() -> None:
    clip = Clip("train", "rafdb:*", np.arange(12_271), pictures=[FACTS] * 12_271, split="train")
    assert "1 of 2 figures" in table("rafdb", [clip]) and "frames test" in table("rafdb", [clip])
