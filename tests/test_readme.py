"""The README's two commands stand there to be copied, its files exist, and CI runs what it says."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CI = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
SETUP = "python3 -m venv .venv && . .venv/bin/activate && pip install -r requirements.txt"
MAIN_JOB = f"{SETUP} && python -m lit_faces.fit experiments/au6_17.yaml"
TESTS = f"{SETUP} -e '.[test]' && python -m pytest -n 2"


def blocks() -> list[str]:
    return [block.strip() for block in re.findall(r"^```bash\n(.*?)^```", README, flags=re.S | re.M)]


def test_two_commands_of_one_line_each() -> None:
    assert [block for block in blocks() if "venv" in block] == [MAIN_JOB, TESTS]


def test_ci_runs_the_test_command_word_for_word() -> None:
    (extraction,) = [line for line in CI.splitlines() if line.startswith("command=")]
    shell = ["bash", "-euc", f'{extraction}\nprintf %s "$command"']
    found = subprocess.run(shell, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert found == TESTS
    assert 'bash -c "$command"' in CI


def test_ci_is_a_runnable_script() -> None:
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111
    subprocess.run(["bash", "-n", str(ROOT / ".ci" / "run")], check=True)


def test_named_experiments_exist_and_all_are_named() -> None:
    named = set(re.findall(r"`(?:experiments/)?(\w+\.yaml)`", README))
    named |= set(re.findall(r"experiments/(\w+\.yaml)", README))
    assert named - {"config.yaml"} == {path.name for path in (ROOT / "experiments").glob("*.yaml")}


def test_pictures_and_links_exist() -> None:
    links = [link for link in re.findall(r"\]\(([^)#\s]+)", README) if "://" not in link]
    assert [link for link in links if not (ROOT / link).exists()] == []
