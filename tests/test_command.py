"""What every command does around its work: names, exit codes, signals that nothing swallows."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lit_faces import cli
from lit_faces.command import Terminated, program, run_command
from lit_faces.core.signals import SIGNALS, obeying_signals

ROOT = Path(__file__).resolve().parents[1]
LIVE = """
import os, sys, threading, time
from lit_faces.command import run_command
from lit_faces.core.signals import SIGNALS
def work():
    {guard}
    print("at work", flush=True)
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            time.sleep(20)
        except BaseException:
            {swallow}
    return 0
sys.exit(run_command("python -m lit_faces.thing", work, "go on with this"))
"""


def ask(number: int):
    return lambda: os.kill(os.getpid(), number)


@pytest.mark.parametrize(("number", "code", "words"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "told to stop")])  # fmt: skip
def test_a_signal_ends_a_command_with_its_code_and_how_to_go_on(number, code, words, capsys) -> None:
    before = signal.getsignal(number)
    assert run_command("prog", ask(number), "do that") == code
    assert capsys.readouterr().err.strip() == f"prog: {words}; do that"
    assert signal.getsignal(number) is before, "handlers are put back"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_work_that_swallows_a_signal_cannot_hide_it(number) -> None:
    def work() -> None:
        try:
            os.kill(os.getpid(), number)
        except BaseException as error:
            raise RuntimeError("made of it") from error

    assert run_command("prog", work) == 128 + number

    def swallows() -> int:
        with contextlib.suppress(BaseException):
            os.kill(os.getpid(), number)
        return 0

    assert run_command("prog", swallows) == 128 + number


@pytest.mark.parametrize(("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_a_library_that_exits_in_its_own_way_is_overruled(number, raised) -> None:

    def library(made_of_it: BaseException | None) -> None:
        with obeying_signals(), SIGNALS.inside_library():
            try:
                os.kill(os.getpid(), number)
            except (KeyboardInterrupt, SystemExit):
                if made_of_it is not None:
                    raise made_of_it from None

    for made_of_it in (SystemExit(1), RuntimeError("teardown"), None):
        with pytest.raises(raised):
            library(made_of_it)


def test_a_guarded_signal_waits_to_be_asked_for() -> None:
    reached: list[str] = []

    def work() -> None:
        SIGNALS.guarded = True
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)  # again: it is on its way
        reached.append("end of the batch")
        SIGNALS.obey()
        reached.append("never")

    assert run_command("prog", work) == 143
    assert reached == ["end of the batch"] and not SIGNALS.listening


def live(number: int, swallow: str, guard: str = "pass", twice: bool = False) -> tuple[int, str, float]:
    """Code, error output and seconds of a process that swallows a signal."""
    code = LIVE.format(swallow=swallow, guard=guard)
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "at work\n"
    start = time.monotonic()
    process.send_signal(number)
    if twice:
        time.sleep(0.3)
        process.send_signal(number)
    said = process.communicate(timeout=20)[1]
    return process.returncode, said, time.monotonic() - start


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_does_not_leave_is_made_to_within_three_seconds(number) -> None:
    code, said, seconds = live(number, "pass")
    assert code == 128 + number and "go on with this" in said and seconds < 3.0


def test_a_second_interrupt_ends_at_once() -> None:
    code, said, seconds = live(signal.SIGINT, "pass", "SIGNALS.guarded = True", twice=True)
    assert code == 130 and "go on with this" in said and seconds < 1.5


def test_commands_name_themselves_as_they_were_called(capsys, tmp_path, monkeypatch) -> None:
    assert program("fit") == "python -m lit_faces.fit"
    monkeypatch.chdir(tmp_path)
    assert cli.main(["fit", "nowhere.yaml"]) == 2
    assert capsys.readouterr().err.startswith("lit-faces fit: error: nowhere.yaml")
    assert program("fit") == "python -m lit_faces.fit"


def test_lit_faces_finds_the_users_own_modules(tmp_path) -> None:
    (tmp_path / "mine.py").write_text("VALUE = 7\n")
    code = (
        "import sys; sys.path[:] = [p for p in sys.path if p]; sys.argv = ['lit-faces'];"
        "from lit_faces import cli, render; render.main = lambda argv: __import__('mine').VALUE;"
        "sys.exit(cli.main(['render', 'set']))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 7
