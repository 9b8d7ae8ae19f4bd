"""A person's commands are killed, told to stop, started twice on one place: what is there in the end is whole.

``LIT_FACES_KILLS=10`` kills each command ten times.
"""

import json
import os
import random
import re
import signal
import time
from pathlib import Path

import pytest

from tests.small_person import SmallPerson, ended, kill, run, start, wait_for

KILLS = int(os.environ.get("LIT_FACES_KILLS", "2"))


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> SmallPerson:
    return SmallPerson.write(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def whole(small, tmp_path_factory):
    """Uninterrupted runs by verb: where, and how long they took."""
    root = tmp_path_factory.mktemp("whole")
    done = {}

    def of(verb: str) -> tuple[Path, float]:
        if verb not in done:
            if not done:
                run(verb, ["--help"])  # the server imports everything before the clock runs
            began = time.monotonic()
            assert run(verb, getattr(small, verb)(root / verb)) == 0
            done[verb] = root / verb, time.monotonic() - began
        return done[verb]

    return of


def content(folder: Path) -> dict[str, object]:
    """Every file that is not hidden, without what says how long it took; pages by their being there."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if not path.is_file() or any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        if path.name == "results.json":
            figures = json.loads(path.read_text())
            found[name] = {key: value for key, value in figures.items() if not key.startswith("run/seconds")}
        elif path.name == "report.md":
            found[name] = re.sub(r"Took .*?\. ", "", path.read_text())
        else:
            found[name] = "" if path.suffix == ".html" else path.read_bytes()
    return found


@pytest.mark.parametrize("number", range(KILLS))
@pytest.mark.parametrize("verb", ["adapt", "personalise"])
def test_a_killed_command_ends_as_an_uninterrupted_one(verb, number, small, whole, tmp_path):
    reference, seconds = whole(verb)
    words = getattr(small, verb)(tmp_path / "out")
    process = start(verb, words)
    process.join(random.Random(f"{verb} {number}").uniform(0.3, 1.0) * seconds)
    kill(process, signal.SIGKILL)
    ended(process)
    assert run(verb, words) == 0
    assert content(tmp_path / "out") == content(reference)
    assert run(verb, words) == 0, "what is done is found done"


@pytest.mark.parametrize("verb", ["generate", "adapt"])
def test_two_on_one_place_never_mix(verb, small, whole, tmp_path):
    out = tmp_path / "out"
    both = [start(verb, getattr(small, verb)(out, "--seed", seed)) for seed in ("0", "1")]
    codes = [ended(process) for process in both]
    assert sorted(codes) == [0, 2], codes
    if codes[0] == 0:
        assert content(out) == content(whole(verb)[0])
    else:
        assert run(verb, getattr(small, verb)(tmp_path / "alone", "--seed", "1")) == 0
        assert content(out) == content(tmp_path / "alone")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_adapting_obeys_a_signal(number, small, tmp_path):
    out = tmp_path / "out"
    process = start("personalise", small.personalise(out, "--steps", "100000"))
    wait_for((out / "detector" / ".work").exists, process)
    time.sleep(1.0)  # it learns now
    began = time.monotonic()
    kill(process, number)
    assert ended(process) == 128 + number and time.monotonic() - began < within_s()
    assert not (out / "detector" / "made_of.json").exists()


def test_processes_of_a_set_end_with_their_command(small, tmp_path):
    out = tmp_path / "out"
    process = start("generate", small.generate(out, "--n", "200", "--jobs", "2"))
    wait_for(lambda: len(children(process.pid)) >= 2, process)
    theirs = children(process.pid)
    began = time.monotonic()
    kill(process, signal.SIGTERM)
    assert ended(process) == 143 and time.monotonic() - began < within_s()
    time.sleep(0.2)
    assert not [pid for pid in theirs if Path(f"/proc/{pid}").exists() and "spawn_main" in command(pid)]


def within_s() -> float:
    """Three seconds; more where the machine has more to do than it can."""
    return 3 * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def children(pid: int | None) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""
