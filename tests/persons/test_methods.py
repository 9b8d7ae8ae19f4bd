"""A way of learning is a class in any file: found by its path, checked before it is called, kept by its card."""

import copy

import pytest
import torch
import yaml

from lit_faces.continual.penalties import QuadraticPenalty
from lit_faces.core.words import UsageError
from lit_faces.persons.learner import PersonalLearner
from lit_faces.persons.methods import METHODS, find_method, folder_name, method_words
from lit_faces.persons.recipes import Recipe
from lit_faces.studies.description import Study
from lit_faces.tasks.au_detector import AUDetector

pytestmark = pytest.mark.filterwarnings("ignore")
MINE = """
import torch
from lit_faces.continual.penalties import QuadraticPenalty
from lit_faces.core.words import UsageError
from lit_faces.persons.methods import Method

CALLED = []


class Size(QuadraticPenalty):
    def __init__(self, strength=1.0, least=0.1):
        super().__init__(strength)
        self.least = least

    def consolidate(self, module, inputs=None, targets=None, mask=None):
        CALLED.append((inputs.shape[1:], targets.shape[1:]))
        self.add_task(module, {n: p.detach().abs() + self.least for n, p in module.named_parameters()})


class SizeReplay(Method):
    def __init__(self, strength=1.0):
        super().__init__(penalty=lambda recipe: Size(strength), replay=True)


class Trap:
    def __init__(self):
        raise SystemExit("called")
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    (tmp_path / "my_own_method.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    import my_own_method

    yield my_own_method
    del my_own_method.CALLED[:]


@pytest.fixture(scope="module")
def detector():
    torch.manual_seed(0)
    return AUDetector("aligned_face_small", size=32).eval().requires_grad_(False)


@pytest.mark.parametrize(
    "words", ["my_own_method.Size", 'my_own_method.Size{"strength": 50.0}', "my_own_method.SizeReplay"]
)
def test_a_class_of_ones_own_learns_and_goes_on_from_its_card(words, mine, detector, faces, tmp_path):
    def learner():
        recipe = Recipe(steps=2, batch_size=4, lr=1e-3, precision="32-true")
        return PersonalLearner(copy.deepcopy(detector), words, recipe, capacity=8, fisher_samples=2)

    first = learner()
    first.start(faces(6, 90))
    assert mine.CALLED == [((3, 32, 32), (19,))]
    first.learn("anna", faces(4, 1))
    assert len(mine.CALLED) == 2 and isinstance(first.penalty, mine.Size)
    assert (first.memory is None) == ("Replay" not in words)
    assert first.penalty.strength == (50.0 if "50" in words else 1.0)
    first.save(tmp_path / "memory.safetensors")
    second = learner()
    assert second.load(tmp_path / "memory.safetensors")["method"] == words
    for one in (first, second):
        one.learn("ben", faces(4, 2))
    assert torch.equal(first.predict(faces(3, 5).image), second.predict(faces(3, 5).image))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("ewc_repaly", "unknown method ewc_repaly; did you mean ewc_replay"),
        (
            "my_own_method.Trap",
            "my_own_method.Trap: expected a Method or a QuadraticPenalty; it is none",
        ),
        ("os.system", "os.system: refused: a Method or a QuadraticPenalty is expected here"),
        ("my_own_method.Sise", "no 'Sise' in module 'my_own_method'; did you mean my_own_method.Size"),
        ("my_own_methot.Size", "no module 'my_own_methot'"),
        ('my_own_method.Size{"strenght": 1}', "has no argument 'strenght'; did you mean strength"),
        ('my_own_method.Size{"strength": -1}', "expected a number >= 0, got -1"),
        ('my_own_method.Size{"strength": ', "arguments behind a class path are a JSON object"),
        ("lit_faces.continual.penalties.QuadraticPenalty", "has no consolidate of its own"),
    ],
)
def test_what_is_no_method_is_refused_before_it_is_called(words, message, mine):
    with pytest.raises(UsageError, match=message) as told:
        find_method(words, "--method")
    assert str(told.value).startswith("--method: ")


def test_a_study_compares_it_in_folders_of_its_own(mine, tmp_path):
    content = yaml.safe_load(
        """
        single:
        - {methods: [ewc, my_own_method.Size, {class_path: my_own_method.Size, init_args: {strength: 2.0}}], k: [1]}
        """
    )
    study = Study.read(content, "study.yaml")
    keys = [cell.key for cell in study.cells()]
    assert keys[:2] == ["single-ewc-k1-real-s0", "single-my_own_method.Size-k1-real-s0"]
    assert len(set(keys)) == 3
    for key in keys:
        (tmp_path / key).mkdir()
    content["single"][0]["methods"] = ["my_own_method.Trap"]
    with pytest.raises(UsageError, match=r"study.yaml: single\[0\]: methods: my_own_method.Trap: expected a Method"):
        Study.read(content, "study.yaml")


def test_words_of_a_method():
    assert all(folder_name(name) == name for name in METHODS)
    assert method_words({"class_path": "a.B"}) == "a.B"
    ugly = folder_name('a.B{"x": "../../etc"}')
    assert "/" not in ugly and not ugly.startswith(".") and ugly != folder_name('a.B{"x": "..-..-etc"}')
    assert len(folder_name("a." * 300 + "B")) < 100
    with pytest.raises(UsageError, match="expected a name, a class path"):
        method_words(3)


def test_a_penalty_must_say_how():
    with pytest.raises(NotImplementedError, match="consolidate must say"):
        QuadraticPenalty().consolidate(torch.nn.Linear(1, 1))
