"""YAML is measured before it is built."""

import time
from pathlib import Path

import pytest

from lit_faces.core.words import UsageError
from lit_faces.core.yamls import MOST_DEPTH, parse_yaml, read_yaml

LAUGH = "a: &a [x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefghij", "bcdefghijk")
)


def test_numbers_dates_and_anchors_are_as_people_mean_them() -> None:
    text = "a: 1e-3\nb: 2020-01-01\nc: &c {x: 1}\nd: {<<: *c, y: 2}\ne: [*c, .5, -1.5, 7, true, null, ~]\n"
    assert parse_yaml(text, "f") == {
        "a": 0.001, "b": "2020-01-01", "c": {"x": 1}, "d": {"x": 1, "y": 2},
        "e": [{"x": 1}, 0.5, -1.5, 7, True, None, None],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (LAUGH, "aliases written out"),
        (f"a: '{LAUGH[3:60]}'\nb: \"&a [{'*a, ' * 5}*a]\"", "inside itself"),
        ("a: &a [*a]", "inside itself"),
        ("a: " + "[" * 3000, "nesting depth"),
        ("a: " + "[" * 300, f"{MOST_DEPTH} levels"),
        ("".join(f"{' ' * n}a:\n" for n in range(300)), "levels"),
        ("a: 1\nb: 2\na: 3", "line 3: not valid YAML: key 'a' stands twice"),
        ("a: !!python/object/apply:os.system [x]", "no tags"),
        ("a: !!str 1", "no tags"),
        ("1: a", "key 1 is no text"),
        ("? [a, b]\n: c", "is no text"),
        ("a: " + "9" * 5000, "not valid YAML"),
        ("a: 'x", "line"),
        ("x" * 300_000, "at most 200,000"),
    ],
)
def test_what_is_beyond_the_bounds_is_refused_at_once(text: str, words: str) -> None:
    began = time.monotonic()
    with pytest.raises(UsageError, match=r"^FILE") as caught:
        parse_yaml(text, "FILE")
    assert words in str(caught.value) and time.monotonic() - began < 3


def test_files_that_are_no_mappings_of_text_are_named(tmp_path: Path) -> None:
    for name, data in (("list", b"[1]"), ("latin", b"a: \xe9"), ("nul", b"a: \x00"), ("empty", b"")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UsageError, match=name):
            read_yaml(tmp_path / name)
    with pytest.raises(UsageError, match="not a regular file"):
        read_yaml(tmp_path)
    (tmp_path / "bom").write_bytes(b"\xef\xbb\xbfa: 1")
    assert read_yaml(tmp_path / "bom") == {"a": 1}
