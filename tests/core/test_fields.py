"""Fields of files: one message that names file, field, what was expected and what was found."""

import json

import numpy as np
import pytest

from lit_faces.core.fields import field, read_json, read_npz

CARD = {
    "size": 128,
    "scale": 1,
    "names": ["a", "b"],
    "on": True,
    "far": float("nan"),
    "many": 10**400,
    "inner": {"x": 1.5},
}


def test_values_come_back_as_their_kind() -> None:
    assert field(CARD, "size", int, "f", minimum=16, maximum=1024) == 128
    scale = field(CARD, "scale", float, "f")
    assert scale == 1.0 and type(scale) is float
    assert field(CARD, "names", list, "f", of=str) == ["a", "b"]
    assert field(CARD, "nothing", int, "f", default=3) == 3
    assert field(CARD, "inner", dict, "f", of=float) == {"x": 1.5}


@pytest.mark.parametrize(
    ("name", "kind", "options", "words"),
    [
        ("gone", int, {}, "gone is missing: expected a whole number"),
        ("size", str, {}, "size: expected text, found 128"),
        ("size", int, {"minimum": 200}, "expected a whole number, 200 or more, found 128"),
        ("size", int, {"minimum": 1, "maximum": 64}, "1..64, found 128"),
        ("on", int, {}, "expected a whole number, found True"),
        ("far", float, {}, "expected a number, found nan"),
        ("names", list, {"of": int}, "found 'a' among them"),
        ("names", list, {"maximum": 1}, "found a list of 2"),
        ("size", int, {"choices": (1, 2)}, "one of 1, 2"),
        ("many", float, {}, "very many digits"),
    ],
)
def test_a_wrong_one_is_named(name, kind, options, words) -> None:
    with pytest.raises(ValueError, match=r"^FILE: ") as caught:
        field(CARD, name, kind, "FILE", **options)
    assert words in str(caught.value) and len(str(caught.value)) < 200


def test_json_that_cannot_be_is_named(tmp_path) -> None:
    for name, data in (
        ("deep", b"[" * 100_000), ("list", b"[]"), ("long", b'{"a": ' + b"9" * 5000 + b"}"), ("cut", b'{"a'), ("raw", b"\xff"),
    ):  # fmt: skip
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=name):
            read_json(tmp_path / name)
    (tmp_path / "good").write_text(json.dumps({"a": None}))
    assert read_json(tmp_path / "good") == {"a": None}


def test_arrays_that_cannot_be_are_named(tmp_path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=np.arange(4))
    data = path.read_bytes()
    assert read_npz(path)["x"].tolist() == [0, 1, 2, 3]
    np.savez(path, x=np.array([{}], dtype=object))
    pickled = path.read_bytes()
    for bad in (data[:80], data[80:], b"", b"PK\x03\x04", data.replace(b"descr", b"dexcr"), pickled):
        path.write_bytes(bad)
        with pytest.raises(ValueError, match=r"a\.npz: damaged"):
            read_npz(path)
