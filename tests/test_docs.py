"""The tutorial's commands, and the code of the how-tos, run word for word; only numbers are smaller."""

import argparse
import importlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lit_faces.cli import VERBS
from lit_faces.runs.options import NAMES

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
#: What CI changes: fewer pictures, fewer attempts, no wait.
SMALLER = {
    "--n 300": "--n 12 --attempts 1 --max-leak 5 --jobs 2 --focus none",
    "--n 40": "--n 12",
    "--n 20 --drive": "--n 3 --attempts 1 --max-leak 5 --focus none --drive",
    "lit_faces.adapt --": "lit_faces.adapt --steps 3 --held-out 0.3 --",
    "experiments/smoke.yaml": "experiments/smoke.yaml --trainer.max_epochs 1 --data.pairs_per_epoch 16 --wandb disabled",
}


def blocks(page: Path, language: str) -> list[tuple[str, str]]:
    """Title and text of the code blocks of a language."""
    found = re.findall(rf'^```{language}(?: title="([^"]+)")?\n(.*?)^```', page.read_text(), flags=re.S | re.M)
    return [(title, text.strip()) for title, text in found]


def smaller(command: str) -> str:
    for words, fewer in SMALLER.items():
        command = command.replace(words, fewer)
    if "lit_faces.personalise" in command:
        command += " --steps 3"
    return command


def run(command: str, where: Path) -> str:
    """Run it as typed in the checkout; its output."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{where / 'bin'}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-euc", command], cwd=where, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder that looks like the checkout to a command."""
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").write_text(f'#!/bin/sh\nexec {sys.executable} -W ignore "$@"\n')
    (tmp_path / "bin" / "python").chmod(0o755)
    return tmp_path


@pytest.mark.slow
def test_every_command_of_the_tutorial_runs(checkout: Path) -> None:
    commands = [text for _, text in blocks(DOCS / "tutorial.md", "bash")]
    verbs = {verb for command in commands for verb in re.findall(r"lit_faces\.(\w+)", command)}
    assert {"render", "evaluate", "generate", "adapt", "personalise", "report", "fit"} <= verbs
    for command in commands:
        run("\n".join(smaller(line) for line in command.splitlines()), checkout)
    for made in ("anna_before/table.md", "anna_set/report.html", "anna_detector/detector.safetensors",
                 "anna_all/report.html", "ben_all/detector/memory.safetensors", "anna_acts/driven.webm",
                 "compared.html"):  # fmt: skip
        assert (checkout / made).stat().st_size > 0, made


@pytest.mark.slow
def test_the_new_generator_trains(checkout: Path) -> None:
    page = DOCS / "howto" / "new_generator.md"
    for title, text in blocks(page, "python") + blocks(page, "yaml"):
        (checkout / title).write_text(text + "\n")
    for _, command in blocks(page, "bash"):
        run(smaller(command), checkout)
    (made,) = (checkout / "runs" / "painter").iterdir()
    assert (made / "generator.safetensors").is_file() and list((made / "panels").glob("test-*.png"))


SETS = """
from pathlib import Path
from lit_faces.rendering.renderer import FaceRenderer
from lit_faces.rendering.sets import write_folder
from lit_faces.tasks.au_detector import AUDetector
AUDetector('aligned_face_small', size=32).export_weights('small.safetensors')
for name, seed, count, each in (('anna', 1, 10, 10), ('ben', 200, 10, 10), ('crowd', 300, 12, 2), ('strangers', 400, 12, 2)):
    write_folder(FaceRenderer(32, seed=seed), Path(name), count, frames_per_subject=each, progress=False)
"""


@pytest.mark.slow
def test_the_new_method_forgets_less(checkout: Path) -> None:
    page = DOCS / "howto" / "new_method.md"
    for title, text in blocks(page, "python") + blocks(page, "yaml"):
        (checkout / title).write_text(text + "\n")
    (_, command), (_, adapting), (_, study) = blocks(page, "bash")
    said = run(command, checkout)
    errors = [tuple(map(float, pair)) for pair in re.findall(r"first task ([\d.]+), on the second ([\d.]+)", said)]
    (free, _), (held, learnt) = errors
    assert held < free / 10 and learnt < 2.5, said
    assert "single-my_method.MAS-k4-real-s0" in run(study.splitlines()[0], checkout)
    sets = f'python -c "{SETS}"'
    run(sets, checkout)
    for line in adapting.splitlines():
        run(line.replace("generic", "small.safetensors") + " --others crowd --generic strangers --steps 2", checkout)
    more = "--detector anna_strong/detector.safetensors --memory anna_strong/memory.safetensors --generic strangers"
    run(f"python -m lit_faces.adapt {more} --person ben --name ben --out ben_detector --steps 2", checkout)
    replay = "--detector small.safetensors --method my_replay.MASReplay --others crowd --generic strangers --steps 2"
    run(f"python -m lit_faces.adapt {replay} --person anna --out anna_replay", checkout)
    assert (checkout / "ben_detector" / "memory.safetensors").is_file()


def test_pages_pictures_and_experiments_that_are_named_exist() -> None:
    nav = set(re.findall(r"[\w/]+\.md", (ROOT / "mkdocs.yml").read_text()))
    pages = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")}
    assert nav == pages
    for page in DOCS.rglob("*.md"):
        text = page.read_text()
        for named in re.findall(r"experiments/(?:slurm/|study/|sweeps/)?\w+\.(?:yaml|sbatch)", text):
            assert (ROOT / named).is_file(), (page, named)
        for picture in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text):
            assert (page.parent / picture).is_file(), (page, picture)


def test_reference_pages_show_modules_that_exist() -> None:
    shown = {page.name: re.findall(r"^::: (\S+)", page.read_text(), re.M) for page in (DOCS / "reference").glob("*.md")}
    assert sum(map(len, shown.values())) > 30
    gone = [name for names in shown.values() for name in names if importlib.util.find_spec(name) is None]
    assert gone == []


def options_of(verb: str) -> set[str]:
    """What a command understands, its own verbs included."""
    if verb == "fit":
        return {f"--{name}" for name in NAMES}
    found, parsers = set(), [importlib.import_module(f"lit_faces.{verb}").build_parser()]
    while parsers:
        for action in parsers.pop()._actions:
            found.update(action.option_strings)
            if isinstance(action, argparse._SubParsersAction):
                parsers += action.choices.values()
    return found


def unknown_words(text: str) -> list[str]:
    """Verbs and options in commands of lit_faces that do not exist."""
    wrong = []
    for verb, rest in re.findall(
        r"(?:python -m lit_faces\.|lit-faces )([a-z]+)([^\n`|;)]*)", text.replace("\\\n", " ")
    ):
        if verb not in VERBS:
            wrong += [verb] if verb != "completion" else []
            continue
        known = options_of(verb)
        for option in re.findall(r"(?<!\S)(--[\w.-]+)", rest):
            of_fit = verb in ("fit", "folds") and (re.match(r"--(model|data|trainer)\.", option) or option[2:] in NAMES)
            wrong += [] if option in known or of_fit else [f"{verb} {option}"]
    return wrong


def test_commands_that_are_named_exist_with_their_options() -> None:
    assert unknown_words("`python -m lit_faces.generate a --nn 3 --out b` lit-faces personalize x") == [
        "generate --nn",
        "personalize",
    ]
    files = [ROOT / "README.md", *DOCS.rglob("*.md"), *(ROOT / "experiments").rglob("*.*")]
    assert {str(file): wrong for file in files if (wrong := unknown_words(file.read_text()))} == {}


@pytest.mark.skipif(shutil.which("mkdocs") is None, reason="no mkdocs here: pip install -e '.[docs]'")
def test_the_configuration_of_the_site_is_read() -> None:
    done = subprocess.run(["mkdocs", "get-deps"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "mkdocs-material" in done.stdout
