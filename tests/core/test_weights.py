import json
import os
import pickle

import pytest
import torch
from torch import nn

from lit_faces.core.weights import (
    load_checkpoint,
    load_into,
    load_state,
    load_weights,
    plain_weights,
    save_weights,
    training_state,
)


def network(width: int = 4) -> nn.Module:
    torch.manual_seed(width)
    return nn.Sequential(nn.Linear(3, width), nn.ReLU(), nn.Linear(width, 2))


class Bomb:
    """Unpickling it creates a file: proof that code ran."""

    def __init__(self, path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_weights_and_card_come_back_exactly(tmp_path):
    state = {"a": torch.randn(3, 4), "b.c": torch.tensor([1, 2], dtype=torch.int64), "h": torch.randn(2).half()}
    card = {"what": "judge", "icc": {"AU06": 0.81}, "command": ["python", "-m", "lit_faces.fit"], "ünïcode": None}
    path = tmp_path / "deep" / "folder" / "w.safetensors"
    save_weights(path, state, card)
    loaded, found = load_weights(path)
    assert found == card
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[k], state[k]) and loaded[k].dtype == state[k].dtype for k in state)


def test_shared_transposed_and_trainable_tensors_can_be_saved(tmp_path):
    base = torch.randn(4, 6, requires_grad=True)
    save_weights(tmp_path / "w.safetensors", {"a": base, "same": base, "t": base.T, "part": base[1:3]}, {})
    loaded, _ = load_weights(tmp_path / "w.safetensors")
    assert (
        torch.equal(loaded["t"], base.T)
        and torch.equal(loaded["part"], base[1:3])
        and torch.equal(loaded["same"], base)
    )


def test_saving_leaves_no_other_file_and_keeps_the_old_one_when_it_fails(tmp_path, monkeypatch):
    path = tmp_path / "w.safetensors"
    save_weights(path, {"a": torch.ones(2)}, {"version": 1})

    def full_disk(handle):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="no space"):
        save_weights(path, {"a": torch.zeros(2)}, {"version": 2})
    assert load_weights(path)[1] == {"version": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]


def test_only_tensors_and_json_are_accepted(tmp_path):
    with pytest.raises(TypeError, match="'epoch': expected a tensor, got int"):
        save_weights(tmp_path / "w.safetensors", {"epoch": 3}, {})
    with pytest.raises(TypeError, match="strings, numbers, lists and dicts"):
        save_weights(tmp_path / "w.safetensors", {"a": torch.ones(1)}, {"path": tmp_path})
    assert list(tmp_path.iterdir()) == []


def test_a_plain_safetensors_file_has_an_empty_card(tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.ones(1)}, tmp_path / "w.safetensors")
    assert load_weights(tmp_path / "w.safetensors")[1] == {}


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_truncated_weights_are_named(tmp_path, share):
    path = tmp_path / "w.safetensors"
    save_weights(path, network().state_dict(), {"a": 1})
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ValueError, match=r"w\.safetensors: .*(copy|download)"):
        load_weights(path)


def test_a_missing_file_lists_what_is_there(tmp_path):
    (tmp_path / "judge.safetensors").write_bytes(b"x")
    with pytest.raises(FileNotFoundError, match=r"base\.safetensors: no such weights file \(.*judge\.safetensors"):
        load_weights(tmp_path / "base.safetensors")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_checkpoint(tmp_path / "runs" / "last.ckpt")


def test_a_torch_checkpoint_is_no_weight_file(tmp_path):
    torch.save(network().state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="a torch checkpoint, not safetensors"):
        load_weights(tmp_path / "w.safetensors")


def test_load_into_fills_the_module_and_returns_the_card(tmp_path):
    save_weights(tmp_path / "w.safetensors", network(4).state_dict(), {"width": 4})
    twin = network(4)
    nn.init.zeros_(twin[0].weight)
    assert load_into(twin, tmp_path / "w.safetensors") == {"width": 4}
    assert torch.equal(twin[0].weight, network(4)[0].weight)


def test_another_architecture_is_named_by_key_and_shape(tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights(path, network(8).state_dict(), {})
    module = network(4)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    with pytest.raises(ValueError, match=r"another architecture.*0\.weight \(file \(8, 3\), Sequential \(4, 3\)\)"):
        load_into(module, path)
    deeper = nn.Sequential(*network(8), nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"2 missing, the first is 3\.weight"):
        load_into(deeper, path)
    with pytest.raises(ValueError, match=r"2 unexpected, the first is 2\.(weight|bias)"):
        load_into(network(8)[:2], path)
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items()), "left as it was"


def test_loose_loading_takes_what_fits_but_never_nothing(tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights(path, network(8).state_dict(), {})
    deeper = nn.Sequential(*network(8), nn.Linear(2, 2))
    nn.init.zeros_(deeper[0].weight)
    load_into(deeper, path, strict=False)
    assert torch.equal(deeper[0].weight, network(8)[0].weight)
    with pytest.raises(ValueError, match="of another shape"):
        load_into(network(4), path, strict=False)
    with pytest.raises(ValueError, match="no name in common"):
        load_state(nn.ModuleDict({"x": nn.Linear(2, 2)}), {"y": torch.ones(1)}, "y.ckpt", strict=False)


def test_a_plain_checkpoint_is_read(tmp_path):
    checkpoint = {"state_dict": network().state_dict(), "epoch": 3, "hyper_parameters": {"lr": 1e-3, "aus": [6, 17]}}
    torch.save(checkpoint, tmp_path / "last.ckpt")
    loaded = load_checkpoint(tmp_path / "last.ckpt")
    assert loaded["epoch"] == 3 and loaded["hyper_parameters"] == {"lr": 1e-3, "aus": [6, 17]}
    assert torch.equal(loaded["state_dict"]["0.weight"], network()[0].weight)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_bomb_is_refused_and_does_not_go_off(tmp_path, zipped):
    crater, path = tmp_path / "crater", tmp_path / "bomb.ckpt"
    torch.save({"state_dict": {}, "bomb": Bomb(crater)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"bomb\.ckpt: refused: .*posix\.mkdir.*run any code"):
        load_checkpoint(path)
    assert not crater.exists()
    torch.load(path, weights_only=False)
    assert crater.exists(), "the bomb is real"


def test_a_bare_pickle_bomb_is_refused_too(tmp_path):
    crater, path = tmp_path / "crater", tmp_path / "bomb.ckpt"
    path.write_bytes(pickle.dumps(Bomb(crater)))
    with pytest.raises(ValueError, match=r"bomb\.ckpt: "):
        load_checkpoint(path)
    with pytest.raises(ValueError, match=r"bomb\.ckpt: "):
        load_weights(path)
    assert not crater.exists()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.98])
def test_a_truncated_checkpoint_is_named(tmp_path, share):
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": {"a": torch.randn(1000)}}, path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ValueError, match=r"last\.ckpt: .*(truncated|empty).*copy it again"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "content", [b"hello, world", json.dumps({"a": 1}).encode(), bytes(300), b"\x89PNG\r\n\x1a\n" + bytes(90)]
)
def test_files_that_are_no_checkpoint_are_named(tmp_path, content):
    path = tmp_path / "photo.ckpt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"photo\.ckpt: not a checkpoint"):
        load_checkpoint(path)


def test_a_checkpoint_must_be_a_dict(tmp_path):
    torch.save([torch.ones(2)], tmp_path / "list.ckpt")
    with pytest.raises(ValueError, match=r"list\.ckpt: not a checkpoint: expected a dict .* found list"):
        load_checkpoint(tmp_path / "list.ckpt")


WANTED = {"a.weight", "b.bias"}


@pytest.mark.parametrize(
    ("wrap", "stripped"),
    [
        (lambda state: state, ""),
        (lambda state: {"state_dict": state}, ""),
        (lambda state: {"model": state, "epoch": 3}, ""),
        (lambda state: {"state_dict": {f"module.{k}": v for k, v in state.items()}}, "module."),
        (lambda state: {"state_dict": {f"_orig_mod.{k}": v for k, v in state.items()}}, "_orig_mod."),
        (lambda state: {f"module._orig_mod.{k}": v for k, v in state.items()}, "module._orig_mod."),
        (lambda state: {"state_dict": {f"model.{k}": v for k, v in state.items()}}, "model."),
        (lambda state: {k.replace(".", "._orig_mod."): v for k, v in state.items()}, "_orig_mod."),
    ],
)
def test_weights_of_others_are_understood(tmp_path, wrap, stripped):
    state = {"a.weight": torch.ones(2, 2), "b.bias": torch.zeros(2)}
    torch.save(wrap(state), tmp_path / "w.pt")
    found, said = plain_weights(load_checkpoint(tmp_path / "w.pt"), tmp_path / "w.pt", WANTED)
    assert found.keys() == WANTED and said == stripped


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, {"state_dict": {}}, {"state_dict": {"a": 1}}])
def test_a_checkpoint_without_weights_says_what_it_holds(tmp_path, content):
    with pytest.raises(ValueError, match=r"w\.pt: holds no weights: expected a state_dict"):
        plain_weights(content, tmp_path / "w.pt", WANTED)


TRAINING = {
    "state_dict": {"a": torch.ones(1)},
    "loops": {"fit_loop": {"epoch_loop.batch_progress": {"total": {"ready": 7}}}},
    "optimizer_states": [],
    "epoch": 0,
    "global_step": 7,
}


def test_a_training_goes_on_from_its_batches_only():
    assert training_state(TRAINING, "x.ckpt") == 7
    with pytest.raises(ValueError, match=r"x\.ckpt: there is no training state in it .*--test_only.*--model\.init"):
        training_state({"state_dict": {}}, "x.ckpt")
    for wrong in ({}, {"fit_loop": 3}, {"fit_loop": {"epoch_loop.batch_progress": {"total": {"ready": -1}}}}):
        with pytest.raises(ValueError, match=r"x\.ckpt: "):
            training_state({**TRAINING, "loops": wrong}, "x.ckpt")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused_by_name(tmp_path, bad):
    state = dict(network().state_dict())
    state["2.bias"] = torch.tensor([0.0, bad])
    save_weights(tmp_path / "w.safetensors", state, {})
    target, before = network(), network().state_dict()
    with pytest.raises(ValueError, match=r"w\.safetensors: 2\.bias holds values that are no finite numbers"):
        load_into(target, tmp_path / "w.safetensors")
    assert all(torch.equal(value, before[name]) for name, value in target.state_dict().items())


def header(text: bytes, length: int | None = None) -> bytes:
    return (len(text) if length is None else length).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    "data",
    [
        header(b"{}", 2**63 - 1),
        header(b"{}", 10**8),
        header(b"[" * 10_000),
        header(b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,4]}}') + bytes(4),
        header(b'{"a":{"dtype":"F64","shape":[1],"data_offsets":[0,4]}}') + bytes(4),
        header(b'{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}}') + bytes(4),
        header(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}') + bytes(4),
        header(b'{"a":{"dtype":"X9","shape":[1],"data_offsets":[0,4]}}') + bytes(4),
        header(b'{"__metadata__":{"card":"[1]"}}'),
        header(b'{"__metadata__":{"card":"{"}}'),
    ],
)
def test_headers_that_lie_are_refused(tmp_path, data):
    (tmp_path / "w.safetensors").write_bytes(data)
    with pytest.raises(ValueError, match=r"w\.safetensors"):
        load_weights(tmp_path / "w.safetensors")
