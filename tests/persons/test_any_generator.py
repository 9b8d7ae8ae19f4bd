"""Any generator from its weight file: the card says what to build, and nothing else is called."""

import importlib
import pkgutil
import sys

import pytest
import torch

from lit_faces.core.facs import NUM_AUS
from lit_faces.core.weights import load_weights, save_weights
from lit_faces.fitting.landmark_model import LandmarkModel
from lit_faces.models import generators
from lit_faces.models.generators.au_vector import AUVectorGenerator
from lit_faces.models.generators.base import Generator, specification
from lit_faces.models.generators.fused import FusedGenerator
from lit_faces.models.generators.landmark_only import LandmarkOnlyGenerator
from lit_faces.models.generators.warp_only import WarpOnlyGenerator
from lit_faces.persons.generators import load_generator
from lit_faces.persons.maker import SetMaker, Settings
from lit_faces.persons.plan import balanced
from lit_faces.persons.source import source_of_faces
from lit_faces.rendering.renderer import FaceRenderer
from lit_faces.tasks.reenactment import ReenactmentGAN

SMALL = [
    FusedGenerator(8, condition_width=8, templates=2, template_cells=24),
    LandmarkOnlyGenerator(8, condition_width=8),
    AUVectorGenerator(width=8, depth=1),
    WarpOnlyGenerator(8, 8, motion_width=8),
]


def exported(generator, path):
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return ReenactmentGAN(generator, init="scratch", critic=None, judge=None).export_weights(path)


def test_all_shipped_generators_are_tried_here():
    for module in pkgutil.iter_modules(generators.__path__):
        importlib.import_module(f"{generators.__name__}.{module.name}")
    shipped = {cls for cls in Generator.__subclasses__() if cls.__module__.startswith(generators.__name__)}
    assert shipped == {type(generator) for generator in SMALL}


@pytest.fixture(scope="module")
def source():
    photo = FaceRenderer(64, seed=91).render(torch.tensor([2]), torch.tensor([0]), au=torch.zeros(1, NUM_AUS))
    return source_of_faces(photo, LandmarkModel(), lambda images: torch.zeros(len(images), NUM_AUS), "neutral", "anna")


@pytest.mark.parametrize("generator", SMALL, ids=lambda generator: generator.name)
def test_its_file_is_enough_to_make_a_persons_set(generator, source, tmp_path):
    path = exported(generator, tmp_path / "g.safetensors")
    found = load_generator(path)
    assert type(found.generator) is type(generator) and found.generator.arguments == generator.arguments
    assert all(torch.equal(a, b) for a, b in zip(found.ema.state_dict().values(), generator.state_dict().values()))
    maker = SetMaker(source, balanced(3), Settings(generator=str(path), verify=False))
    attempts, kept, _ = maker.make([0, 1, 2])
    assert len(maker.batch(attempts, kept)) == 3
    if generator.name != "au_vector":  # which is told of AUs alone, and the first slot may be any
        assert not torch.equal(kept[0], kept[1])


def test_files_without_a_class_are_the_fused_generator(tmp_path):
    assert isinstance(load_generator().generator, FusedGenerator)
    state, card = load_weights(exported(FusedGenerator(), tmp_path / "g.safetensors"))
    del card["network"]
    save_weights(tmp_path / "old.safetensors", state, card)
    assert load_generator(tmp_path / "old.safetensors").generator.arguments == FusedGenerator().arguments


FUSED = "lit_faces.models.generators.fused.FusedGenerator"
MODULE = """
from pathlib import Path
from torch import nn
class Trap(nn.Module):
    def __init__(self, **words):
        Path(__file__).with_name("sprung").touch()
"""


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({"class_path": "traps.Trap", "init_args": {}}, "expected a Generator"),
        ({"class_path": "subprocess.Popen", "init_args": {"args": ["touch", "sprung"]}}, "refused"),
        ({"class_path": "torch.nn.Linear", "init_args": {"in_features": 1, "out_features": 1}}, "expected a Generator"),
        ({"class_path": "lit_faces.models.generators.base.Generator", "init_args": {}}, "unexpected, the first"),
        ({"class_path": "nobodys_module.Painter", "init_args": {}}, "no module 'nobodys_module'.*PYTHONPATH"),
        ({"class_path": f"{FUSED}o", "init_args": {}}, "did you mean"),
        ({"class_path": FUSED, "init_args": {"wide": 3}}, "cannot be built.*wide"),
        ({"class_path": FUSED, "init_args": {"width": "x"}}, "cannot be built"),
        ({"class_path": FUSED, "init_args": {"width": 10**15}}, "cannot be built"),
        ({"class_path": FUSED, "init_args": {"width": 6}}, "of another shape"),
        ({"class_path": FUSED}, "init_args is missing"),
        ({"class_path": 3, "init_args": {}}, "class_path: expected text"),
        ({"class_path": "Popen", "init_args": {}}, "dotted path of a Generator"),
        ({"class_path": "a b.c", "init_args": {}}, "no dotted path"),
        (["x"], "network: expected named values"),
    ],
)  # fmt: skip
def test_a_card_that_names_something_else_is_refused_and_nothing_is_called(network, message, tmp_path, monkeypatch):
    (tmp_path / "traps.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    state, card = load_weights(exported(FusedGenerator(8, condition_width=8), tmp_path / "g.safetensors"))
    save_weights(tmp_path / "bad.safetensors", state, {**card, "network": network})
    with pytest.raises(ValueError, match=rf"(?s)bad\.safetensors.*({message})"):
        load_generator(tmp_path / "bad.safetensors")
    assert not (tmp_path / "sprung").exists()
    sys.modules.pop("traps", None)


def test_weights_of_another_kind_are_named(tmp_path):
    save_weights(tmp_path / "x.safetensors", {"a": torch.zeros(1)}, {"kind": "au_detector"})
    with pytest.raises(ValueError, match=r"x\.safetensors: expected the weights of a generator, found 'au_detector'"):
        load_generator(tmp_path / "x.safetensors")


class Open(Generator):
    """Takes whatever words come."""

    def __init__(self, width: int = 2, **more: object) -> None:
        super().__init__()
        self.layer = torch.nn.Conv2d(3, width, 1)


def test_a_generator_remembers_its_arguments_and_says_which_cannot_travel():
    made = Open(width=3, style="soft")
    assert specification(made) == {"class_path": f"{__name__}.Open", "init_args": {"width": 3, "style": "soft"}}
    assert made.name == "Open" and specification(Open())["init_args"] == {"width": 2}
    with pytest.raises(ValueError, match="the argument style is a Linear"):
        ReenactmentGAN(Open(style=torch.nn.Linear(1, 1)), critic=None, judge=None)
    with pytest.raises(ValueError, match=r"expected a child of lit_faces\.models\.generators\.base\.Generator"):
        ReenactmentGAN(torch.nn.Linear(1, 1), critic=None, judge=None)
    with pytest.raises(NotImplementedError, match="no forward"):
        made(torch.zeros(1, 3, 8, 8), None)
