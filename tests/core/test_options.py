"""An option stands in one place: its dataclass; the command line is built from it."""

import argparse
from dataclasses import dataclass
from pathlib import Path

import pytest

from lit_faces.core.options import above_zero, add_options, at_least, check_out, one_of, option, read_options


@dataclass(frozen=True)
class Bread:
    flour: Path
    loaves: int = option(2, "how many")
    salt: float = option(0.5, "50 % is much")
    name: str | None = option(None, "of the baker")
    plain: bool = option(True, "with seeds", flag="--seeds")
    hot: bool = option(False, "straight from the oven")
    kinds: tuple[int, ...] = option((6, 17), "numbers", read=lambda text: tuple(map(int, text.split(","))))

    def __post_init__(self):
        at_least("loaves", self.loaves, 1)


@dataclass(frozen=True)
class Tea:
    loaves: int = option(9, "not this one")
    sugar: Path | None = option(None, "where", metavar="BOX")


def parsed(*words):
    parser = argparse.ArgumentParser()
    add_options(parser, Bread, Tea)
    return vars(parser.parse_args(words)), parser.format_help()


def test_defaults_are_the_fields():
    typed, text = parsed()
    assert read_options(Bread, typed, flour=Path("f")) == Bread(Path("f")) and read_options(Tea, typed).loaves == 2
    assert "how many (default: 2)" in text and "not this one" not in text and "50 % is much (default: 0.5)" in text
    assert "--sugar BOX" in text and "(default: 6,17)" in text


def test_what_is_typed_has_the_type_of_the_field():
    typed, _ = parsed(
        "--loaves", "3", "--salt", "1", "--name", "x", "--seeds", "--hot", "--kinds", "1,2", "--sugar", "b"
    )
    assert read_options(Bread, typed, flour=Path("f")) == Bread(Path("f"), 3, 1.0, "x", False, True, (1, 2))
    assert read_options(Tea, typed) == Tea(3, Path("b"))


def test_what_cannot_be_is_refused_by_the_class():
    typed, _ = parsed("--loaves", "0")
    with pytest.raises(ValueError, match="--loaves: expected 1 or more, got 0"):
        read_options(Bread, typed, flour=Path("f"))
    for value in (True, 1.5, "3"):
        with pytest.raises(ValueError, match="--loaves"):
            Bread(Path("f"), loaves=value)
    for value in (0, float("nan"), float("inf"), True):
        with pytest.raises(ValueError, match="--max-salt: expected a number above 0"):
            above_zero("max_salt", value)
    with pytest.raises(ValueError, match="--kind: expected one of rye, wheat, got 'oat'"):
        one_of("kind", "oat", ("rye", "wheat"))


def test_a_place_that_cannot_be_written_to_is_named_and_nothing_is_made(tmp_path, monkeypatch):
    check_out(tmp_path / "a" / "b")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match=r"--out .*file/x: .*file is no folder"):
        check_out(tmp_path / "file" / "x")
    monkeypatch.setattr("os.access", lambda path, mode: False)  # of root's tests, too
    with pytest.raises(PermissionError, match="cannot be written to"):
        check_out(tmp_path / "a" / "b")
