"""What is checked of a prepared set before its values are used."""

import json
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lit_faces.core import shards
from lit_faces.core.rows import SCHEMA, read_arrow
from lit_faces.core.shards import ShardSet, shard_state
from tests.fuzz.kinds import prepared


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    return prepared(tmp_path / "set")


def rewrite(folder: Path, **columns: object) -> None:
    """Another index, whole by itself, in a set that was prepared before manifests knew its digest."""
    table = pa.ipc.open_file(pa.BufferReader((folder / "index.arrow").read_bytes())).read_all()
    for name, values in columns.items():
        place = table.schema.get_field_index(name)
        table = table.set_column(place, SCHEMA.field(name), pa.array(values, SCHEMA.field(name).type))
    (folder / "index.arrow").write_bytes(shards._arrow(table))
    forget_digest(folder)


def forget_digest(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["index"]
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_a_changed_index_is_told_before_it_is_parsed(faces: Path) -> None:
    ShardSet(faces)
    data = bytearray((faces / "index.arrow").read_bytes())
    data[len(data) // 2] ^= 1
    (faces / "index.arrow").write_bytes(data)
    with pytest.raises(ValueError, match=r"index\.arrow: damaged: not what manifest\.json says"):
        ShardSet(faces)


def test_sets_of_before_are_read(faces: Path) -> None:
    forget_digest(faces)
    assert len(ShardSet(faces)) == 6


@pytest.mark.parametrize(
    ("column", "values", "words"),
    [
        ("shard", [0, 0, 0, 1, 1, 2], "row 5: shard"),
        ("shard", [0, 0, -1, 1, 1, 1], "row 2: shard"),
        ("offset", [512, 2**62, 512, 512, 512, 512], "row 1: offset"),
        ("offset", [-1] * 6, "row 0: offset"),
        ("length", [1, 1, 1, 2**31 - 1, 1, 1], "row 3: offset"),
        ("emotion", [0, 1, 2, 3, 4, 99], "row 5: emotion"),
        ("au_intensity", [[0.0] * 19] * 5 + [[5.5] * 19], "row 5: au_intensity"),
        ("au_occurrence", [[0.5] * 19] * 6, "row 0: au_occurrence"),
        ("landmarks", [[np.inf] * 136] * 6, "row 0: landmarks"),
        ("pose", [[400.0, 0.0, 0.0]] * 6, "row 0: pose"),
        ("subject", ["a", "b", None, "c", "d", "e"], "values of subject are missing"),
    ],
)
def test_rows_that_cannot_be_are_named(faces: Path, column: str, values: list, words: str) -> None:
    rewrite(faces, **{column: values})
    with pytest.raises(ValueError, match=rf"index\.arrow: damaged.*{words}"):
        ShardSet(faces)


def test_another_table_is_no_index(tmp_path: Path) -> None:
    (tmp_path / "x.arrow").write_bytes(shards._arrow(pa.table({"key": ["a"]})))
    with pytest.raises(ValueError, match="not the columns of a prepared set"):
        read_arrow(tmp_path / "x.arrow")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"size": "128"}, "size: expected a whole number"),
        ({"faces": -1}, "faces: expected a whole number, 0 or more"),
        ({"faces": 7}, "another number of rows"),
        ({"shards": {}}, "shards: expected a list"),
        ({"shards": [{"name": "../../etc/passwd"}]}, "name: expected shard-00000"),
        ({"index": {"bytes": 1, "sha256": "x"}}, "sha256: expected 64"),
        ({"layout": 99}, "layout 99"),
    ],
)
def test_manifests_are_checked_by_field(faces: Path, change: dict, words: str) -> None:
    path = faces / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ValueError, match=rf"manifest\.json.*{words}"):
        ShardSet(faces)


def test_a_shard_that_says_nonsense_of_itself_is_made_again(faces: Path) -> None:
    assert shard_state(faces, 0) is not None
    table = read_arrow(faces / "shard-00000.arrow")
    for about in (b"{}", b"[]", b'{"bytes": "x", "sha256": "y", "failures": []}', b"\xff"):
        (faces / "shard-00000.arrow").write_bytes(shards._arrow(table.replace_schema_metadata({"lit_faces": about})))
        assert shard_state(faces, 0) is None


def test_loaders_do_not_check_the_same_file_again(faces: Path, monkeypatch) -> None:
    copy = pickle.dumps(ShardSet(faces))
    monkeypatch.setattr(ShardSet, "_check_digest", lambda *_: pytest.fail("read twice"))
    assert len(pickle.loads(copy)) == 6
