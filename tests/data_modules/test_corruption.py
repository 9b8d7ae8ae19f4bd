"""Random damage to the look-alikes: whatever changes is reported with its file; nothing stops a reader.

120 damages in the suite; ``LIT_FACES_CORRUPTIONS=1000`` for more.
"""

import hashlib
import importlib
import os
import random
import shutil
from pathlib import Path

import pytest

from tests.fake import look_alike, look_alikes

COUNT = int(os.environ.get("LIT_FACES_CORRUPTIONS", "120"))
SETS = tuple(look_alikes())
KINDS = ("cut", "empty", "garbage", "missing", "folder", "text", "line", "cell")
TEXTS = (".txt", ".csv")
#: An empty FACS file of UNBC is a neutral frame, and files of CK+ and UNBC list what is present: fewer lines are fewer
#: AUs. Nothing in those sets tells such a file from a whole one.
UNTOLD = {("unbc", "_facs.txt"), ("ck_plus", "_facs.txt")}
#: Files that the originals have for some recordings only.
OPTIONAL = {("ck_plus", "_emotion.txt"), ("affwild2", ".txt")}


def damage(path: Path, kind: str, chance: random.Random) -> None:
    """Break a file; the copy holds hard links, so a new file takes its place."""
    data = path.read_bytes()
    path.unlink()
    if kind == "missing":
        return
    if kind == "folder":
        path.mkdir()
        return
    if kind == "cut":
        data = data[: chance.randrange(len(data))]
    elif kind == "empty":
        data = b""
    elif kind == "garbage":
        data = chance.randbytes(300)
    elif kind == "text":
        data = b"<html>404 not found</html>\n"
    else:
        lines = data.split(b"\n")
        number = chance.choice([i for i, line in enumerate(lines) if line.strip()])
        if kind == "line":
            lines[number] = b"#!? damaged ;;"
        else:
            place = chance.randrange(len(lines[number]))
            lines[number] = lines[number][:place] + b"x" + lines[number][place + 1 :]
        data = b"\n".join(lines)
    path.write_bytes(data)


def look(name: str, root: Path):
    """Everything that a reader says: (clip, frame) -> labels and picture; and its problems."""
    reader = importlib.import_module(f"data_modules.{name}").READER(root)
    said, problems = {}, []
    try:
        clips = reader.clips()
    except FileNotFoundError as error:  # the one file that the whole set hangs on
        return {}, [str(error)]
    for clip in clips:
        for row, picture, problem in reader.pictures(clip):
            if problem is not None:
                problems.append(f"{problem.file}: {problem.reason}")
            shown = None if picture is None else hashlib.md5(picture.tobytes()).hexdigest()
            labels = clip.au_intensity[row].tobytes(), clip.au_occurrence[row].tobytes(), int(clip.emotion[row])
            said[clip.subject, int(clip.frames[row]), clip.split, clip.key] = labels, shown
    return said, problems + [f"{p.file}: {p.reason}" for p in reader.problems] + list(reader.choices)


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory):
    made = {}
    for name in SETS:
        root = tmp_path_factory.mktemp(name)
        look_alike(name).write(root)
        made[name] = root, look(name, root)
    return made


@pytest.mark.parametrize("name", SETS)
def test_nothing_is_lost_silently(originals, name: str, tmp_path: Path) -> None:
    root, (before, known) = originals[name]
    files = sorted(p.relative_to(root) for p in root.rglob("*") if p.is_file() and not p.name.startswith("."))
    chance = random.Random(f"{name} {COUNT}")
    harmless = 0
    for number in range(max(1, COUNT // len(SETS))):
        file = chance.choice(files)
        kinds = [kind for kind in KINDS if file.suffix.lower() in TEXTS or kind not in ("line", "cell")]
        kind = chance.choice(kinds)
        if kind in ("cut", "empty", "line") and any(name == n and str(file).endswith(end) for n, end in UNTOLD):
            kind = "garbage"
        if kind == "missing" and any(name == n and str(file).endswith(end) for n, end in OPTIONAL):
            kind = "garbage"
        if (root / file).stat().st_size == 0:
            kind = "garbage"
        copy = tmp_path / str(number)
        shutil.copytree(root, copy, copy_function=os.link)
        damage(copy / file, kind, chance)
        after, problems = look(name, copy)
        if after == before:
            harmless += 1
        else:
            new = [problem for problem in problems if problem not in known]
            stem = file.name.rpartition(".")[0]
            near = [
                p for p in new if file.name in p or stem in p or file.parent.name in p or file.parent.parent.name in p
            ]
            lost = [key for key in before if after.get(key) != before[key]]
            assert near or (new and not after), f"{kind} of {file}: {len(lost)} samples changed, problems: {new[:3]}"
        shutil.rmtree(copy)
    assert harmless < max(1, COUNT // len(SETS)), "no damage had an effect: the test tests nothing"
