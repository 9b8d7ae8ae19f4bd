"""Classes that a file names: nothing is called, nothing of Python's own library is imported for it."""

import sys
from pathlib import Path
from typing import Protocol

import pytest
from torch import nn

from lit_faces.arguments import check_keys, read_experiment
from lit_faces.core.classes import bases_of, find_class, hints_of
from lit_faces.core.words import UsageError


class Walker(Protocol):
    @property
    def name(self) -> str: ...

    def walk(self, far: int) -> None: ...


class Dog:
    name = "Rex"

    def walk(self, far: int) -> None: ...


class Stone:
    name = "Rock"


def test_a_class_of_the_right_kind_is_found() -> None:
    assert find_class("torch.nn.Linear", "x", nn.Module) is nn.Linear
    assert find_class(f"{__name__}.Dog", "x", Walker) is Dog
    assert find_class("Linear", "x", nn.Module) is None  # short names are jsonargparse's


@pytest.mark.parametrize(
    ("path", "base", "words"),
    [
        ("subprocess.Popen", nn.Module, "a Module is expected here"),
        ("this.c", nn.Module, "refused"),
        ("pip.__main__.main", nn.Module, "refused"),
        ("torch.nn.Parameter", nn.Module, "expected a Module"),
        ("torch.hub.load", nn.Module, "expected a class, found a function"),
        ("torch.nn.Linnear", nn.Module, "did you mean torch.nn.Linear"),
        ("torch.nnn.Linear", nn.Module, "did you mean torch.nn?"),
        ("torch..Linear", nn.Module, "no dotted path"),
        ("torch.nn.Linear; import os", nn.Module, "no dotted path"),
        (f"{__name__}.Stone", Walker, "it has no walk"),
        (7, nn.Module, "found int"),
    ],
)
def test_another_one_is_refused_by_name(path: object, base: type, words: str) -> None:
    with pytest.raises(UsageError, match="FILE: key") as caught:
        find_class(path, "FILE: key", base)  # type: ignore[arg-type]
    assert words in str(caught.value)
    assert "this" not in sys.modules, "importing it prints a poem"


def test_a_module_that_fails_when_it_is_imported_is_named(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "ends_python.py").write_text("raise SystemExit(3)\n")
    (tmp_path / "needs_more.py").write_text("import nothing_like_this\n")
    with pytest.raises(UsageError, match="importing ends_python failed: SystemExit"):
        find_class("ends_python.A", "FILE", nn.Module)
    with pytest.raises(UsageError, match="needs the module 'nothing_like_this'"):
        find_class("needs_more.A", "FILE", nn.Module)


def test_bases_are_found_in_unions_and_lists() -> None:
    assert bases_of(list[nn.Module] | nn.Linear | None) == (nn.Module, nn.Linear)
    assert bases_of(dict[str, int] | str | None) == ()


PLACES = {
    "model": "model: {class_path: CLASS, init_args: {args: [touch, MARK]}}",
    "short": "model: CLASS",
    "data": "data: {class_path: CLASS, init_args: {args: [touch, MARK]}}",
    "nested": "model: {class_path: lit_faces.tasks.reenactment.ReenactmentGAN, init_args: {generator: {class_path: CLASS}}}",
    "nested short": "model: {class_path: lit_faces.tasks.reenactment.ReenactmentGAN, init_args: {discriminator: CLASS}}",
    "callbacks": "trainer: {callbacks: [{class_path: CLASS, init_args: {args: [touch, MARK]}}]}",
    "logger": "trainer: {logger: {class_path: CLASS, init_args: {args: [touch, MARK]}}}",
    "strategy": "trainer: {strategy: {class_path: CLASS}}",
    "plugins": "trainer: {plugins: [{class_path: CLASS}]}",
    "callback of a callback": "trainer: {callbacks: [{class_path: pytorch_lightning.callbacks.Timer, init_args: {duration: {class_path: CLASS}}}]}",
}  # fmt: skip


def hints() -> dict:
    from pytorch_lightning import LightningDataModule, LightningModule, Trainer

    found = {f"trainer.{name}": hint for name, hint in hints_of(Trainer).items()}
    return {"model": LightningModule, "data": LightningDataModule, **found}


@pytest.mark.parametrize("cls", ["subprocess.Popen", "torch.nn.Parameter"])
@pytest.mark.parametrize("place", [name for name in PLACES if name != "callback of a callback"])
def test_every_place_of_an_experiment_is_checked(place: str, cls: str, tmp_path: Path) -> None:
    file, mark = tmp_path / "x.yaml", tmp_path / "RAN"
    file.write_text(PLACES[place].replace("CLASS", cls).replace("MARK", str(mark)))
    groups = {"model": None, "data": None, "trainer": {"callbacks", "logger", "strategy", "plugins"}}
    with pytest.raises(UsageError, match=r"x\.yaml: .*(expected|refused)"):
        check_keys(read_experiment(file), groups, str(file), hints())
    assert not mark.exists()


@pytest.mark.parametrize(
    "options",
    [
        ["--model", "subprocess.Popen"],
        ["--model.class_path=subprocess.Popen"],
        ["--model={class_path: subprocess.Popen, init_args: {args: [touch, MARK]}}"],
        ["--trainer.callbacks=subprocess.Popen", "--trainer.callbacks.args=[touch, MARK]"],
        ["--trainer.callbacks+={class_path: subprocess.Popen, init_args: {args: [touch, MARK]}}"],
        ["--trainer.logger", "{class_path: subprocess.Popen, init_args: {args: [touch, MARK]}}"],
        ["--model.help=subprocess.Popen"],
        ["--model", "other.yaml"],
        ["--config", "whole.yaml"],
    ],
)
def test_options_start_nothing_either(options: list[str], tmp_path: Path, monkeypatch, capsys) -> None:
    from lit_faces.fit import main
    from tests.fuzz.kinds import yamls

    mark = tmp_path / "RAN"
    monkeypatch.chdir(tmp_path)
    good = yamls(tmp_path).files[0]
    evil = f"{{class_path: subprocess.Popen, init_args: {{args: [touch, {mark}]}}}}"
    (tmp_path / "other.yaml").write_text(evil)
    (tmp_path / "whole.yaml").write_text(f"model: {evil}\n")
    assert main([str(good), "--dry_run", *(option.replace("MARK", str(mark)) for option in options)]) == 2
    error = capsys.readouterr().err
    assert not mark.exists() and "Popen" in error and len(error.splitlines()) == 1, error


def test_plain_data_is_not_imported(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("seed_everything: {class_path: antigravity.x}\n")
    check_keys(read_experiment(file), {"seed_everything": None}, str(file), {})
    assert "antigravity" not in sys.modules
