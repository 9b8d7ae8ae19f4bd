"""lit-faces VERB: every command, its help on one screen, and what is mistyped."""

import contextlib
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from lit_faces import __version__, cli

ROOT = Path(__file__).resolve().parents[1]


def test_every_command_is_a_verb():
    commands = {p.stem for p in (ROOT / "lit_faces").glob("*.py") if "def main(" in p.read_text()} - {"cli"}
    assert commands == set(cli.VERBS)
    assert "lit-faces = lit_faces.cli:main" in (ROOT / "setup.cfg").read_text()


def test_what_there_is(capsys):
    assert cli.main(["--help"]) == 0 and cli.main(["--version"]) == 0
    said = capsys.readouterr().out
    assert __version__ in said and all(verb in said for verb in cli.VERBS)
    assert cli.main([]) == 2
    assert cli.main(["personalize"]) == 2
    assert "no verb 'personalize'; did you mean personalise?" in capsys.readouterr().err


@pytest.mark.parametrize("verb", cli.VERBS)
def test_help_fits_a_screen_and_has_an_example(verb, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    with contextlib.suppress(SystemExit):
        cli.main([verb, "--help"])
    said = capsys.readouterr().out
    assert len(said.splitlines()) <= 50 and f"{verb} " in said and "example" in said


def test_verbs_pass_their_arguments_on(monkeypatch):
    seen = []
    monkeypatch.setattr(importlib.import_module("lit_faces.render"), "main", lambda argv: seen.append(argv))
    assert cli.main(["render", "set", "--n", "3"]) == 0 and seen == [["set", "--n", "3"]]


def test_the_list_of_verbs_needs_no_torch():
    code = "import sys; from lit_faces import cli; cli.main(['--help']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True).returncode == 0


def test_a_shell_completes_verbs_and_options(capsys) -> None:
    pytest.importorskip("shtab")
    assert cli.main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0
    line = 'COMP_WORDS=({words}); COMP_CWORD={last}; _shtab_lit_faces; echo "${{COMPREPLY[@]}}"'
    for words, expected in (("lit-faces gen", "generate"), ("lit-faces adapt --mem", "--memory")):
        typed = script + "\n" + line.format(words=words, last=len(words.split()) - 1)
        done = subprocess.run(["bash", "-c", typed], capture_output=True, text=True)
        assert expected in done.stdout.split(), (words, done.stdout, done.stderr)
    assert cli.main(["completion", "cmd"]) == 2 and "bash, zsh" in capsys.readouterr().err
