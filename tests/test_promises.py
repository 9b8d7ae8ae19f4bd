"""Promises to a newcomer: what a data set or a generator of one's own takes. Every file that it takes is written here.

The files lie in ``tmp_path``; the checkout is not touched, so what is written is all that had to be opened:

    data set    reader and look-alike           2 files; the tests of all readers find them
    generator   its file and its YAML           2 files; `fit`, `generate`, `personalise` and `study` take it
"""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import data_modules
import tests.fake
from lit_faces import fit, generate, personalise, prepare, study
from lit_faces.core.facs import AU_INDEX, NUM_AUS
from lit_faces.core.labelled import read_labelled
from lit_faces.core.weights import load_weights
from lit_faces.persons.generators import load_generator
from lit_faces.rendering.renderer import FaceRenderer
from lit_faces.tasks.au_detector import AUDetector
from tests.fake.faces import check
from tests.test_docs import DOCS, blocks

READER = """
from dataclasses import dataclass
import numpy as np
from data_modules.reader import Clip, Reader, not_coded, option
from lit_faces.core.facs import AU_INDEX

@dataclass
class Zoo(Reader):
    name = "zoo"
    title = "The Zoo data set"
    aus = (12,)
    cropped = True
    threshold: float = option(2.0, "grade from which an AU occurs")

    def clips(self):
        rows = [line.split() for line in self.lines(self.need("table", "zoo.zip", sorted(self.root.glob("zoo.txt"))))]
        clips = []
        for person in dict.fromkeys(row[0] for row in rows):
            own = [row for row in rows if row[0] == person]
            grade, present = not_coded(len(own)), not_coded(len(own))
            grade[:, AU_INDEX[12]] = [float(row[2]) for row in own]
            present[:, AU_INDEX[12]] = grade[:, AU_INDEX[12]] >= self.threshold
            frames = np.array([int(row[1]) for row in own])
            pictures = [self.root / f"{person}_{row[1]}.png" for row in own]
            clips.append(Clip(person, f"zoo:{person}", frames, pictures, au_intensity=grade, au_occurrence=present))
        return clips

READER = Zoo
"""
LOOK_ALIKE = """
from lit_faces.core.facs import AU_INDEX
from tests.fake.faces import Expected, people, save, table, text

def write(root, seed=0):
    faces = people(2, 2, seed)
    lines, out = [], []
    for number, name in enumerate(("ape", "bear")):
        grade, present = table(2, (12,)), table(2, (12,))
        grade[1, AU_INDEX[12]], present[1, AU_INDEX[12]] = 3, 1
        for frame in range(2):
            save(root / f"{name}_{frame}.png", faces.image[2 * number + frame].permute(1, 2, 0).numpy())
            lines.append(f"{name} {frame} {3 * frame}")
        out.append(Expected(name, f"zoo:{name}", [0, 1], grade, present))
    text(root / "zoo.txt", "\\n".join(lines))
    return out
"""


@pytest.fixture
def newcomer(tmp_path, monkeypatch):
    """The newcomer's folder, from where commands are run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def written(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


def test_a_data_set_is_a_reader_and_a_look_alike(newcomer, monkeypatch, capsys):
    for name, content in (("data_modules/zoo.py", READER), ("tests/fake/zoo.py", LOOK_ALIKE)):
        (newcomer / name).parent.mkdir(parents=True, exist_ok=True)
        (newcomer / name).write_text(content)
    assert len(written(newcomer)) == 2
    for package in (data_modules, tests.fake):  # as at the start of Python, with this folder on its path
        folder = newcomer.joinpath(*package.__name__.split("."))
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
    # the tests of all readers look for their sets here
    assert {"zoo"} == set(tests.fake.look_alikes()) - set(monkeypatch_free_names())
    arguments, options = tests.fake.variants()["zoo"]
    expected = tests.fake.look_alike("zoo").write(newcomer / "raw", **arguments)
    check(prepare.reader_class("zoo")(newcomer / "raw", **options).clips(), expected)
    # and so does the command, with the reader's own option
    words = ["--root", str(newcomer / "raw"), "--out", str(newcomer / "zoo"), "--jobs", "1", "--size", "64"]
    assert prepare.main(["zoo", *words, "--threshold", "4"]) == 0
    faces = read_labelled(newcomer / "zoo", 64)
    assert sorted(set(faces.subject)) == ["zoo:ape", "zoo:bear"]
    assert faces.au_intensity[:, AU_INDEX[12]].tolist() == [0, 3, 0, 3]
    assert faces.au_occurrence[:, AU_INDEX[12]].tolist() == [0, 0, 0, 0]
    with pytest.raises(SystemExit):
        prepare.main(["--help"])
    assert "zoo" in capsys.readouterr().out
    assert prepare.main(["zo", *words]) == 2 and "did you mean zoo?" in capsys.readouterr().err


def monkeypatch_free_names() -> set[str]:
    """Look-alikes of the checkout."""
    return {file.stem for file in Path(__file__).with_name("fake").glob("*.py")}


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """anna.png, 192 px and a margin."""
    path = tmp_path_factory.mktemp("photo") / "anna.png"
    image = (
        FaceRenderer(192, seed=71)
        .render(torch.tensor([1]), torch.tensor([0]), torch.tensor([0]), torch.zeros(1, NUM_AUS), torch.zeros(1, 3))
        .image
    )
    wide = torch.nn.functional.pad(image.float(), (48, 48, 48, 48), mode="replicate").to(torch.uint8)
    Image.fromarray(np.ascontiguousarray(wide[0].permute(1, 2, 0).numpy())).save(path)
    return path


SMALL = """
data: {init_args: {train_subjects: 4, val_subjects: 2, test_subjects: 2, frames: 4, eval_frames: 3, batch_size: 4, eval_batch_size: 4, pairs_per_epoch: 8}}
model: {init_args: {judge: null, evaluation_images: 0}}
trainer: {max_epochs: 1, accelerator: cpu, enable_progress_bar: false, enable_model_summary: false}
"""


def test_a_generator_is_its_file_and_its_yaml(newcomer, photo, tmp_path_factory):
    page = DOCS / "howto" / "new_generator.md"
    for title, text in blocks(page, "python") + blocks(page, "yaml"):
        (newcomer / title).write_text(text + "\n")
    assert written(newcomer) == {"my_generator.py", "my_generator.yaml"}
    experiment = Path(__file__).parents[1] / "experiments" / "smoke.yaml"
    (small := tmp_path_factory.mktemp("small") / "small.yaml").write_text(SMALL)  # for the test's sake
    assert fit.main([str(experiment), "my_generator.yaml", str(small), "--name", "painter", "--wandb", "disabled"]) == 0
    (run,) = (newcomer / "runs" / "painter").iterdir()
    weights = run / "generator.safetensors"
    card = load_weights(weights)[1]
    assert card["network"] == {"class_path": "my_generator.Painter", "init_args": {"width": 24}}
    assert type(load_generator(weights).generator).__module__ == "my_generator"

    few = ["--n", "3", "--no-verify", "--jobs", "1", "--generator", str(weights), "--wandb", "disabled"]
    assert generate.main([str(photo), "--out", "anna_set", *few]) == 0
    made = read_labelled(newcomer / "anna_set", 128)
    assert len(made) == 3
    assert personalise.main([str(photo), "--out", "anna", *few, "--steps", "1", "--capacity", "20"]) == 0
    assert (newcomer / "anna" / "detector" / "detector.safetensors").is_file()

    torch.manual_seed(0)
    AUDetector("aligned_face_small", size=32).export_weights(newcomer / "detector.safetensors")
    people = {
        "people": 2, "support": 1, "test": 2, "generic_people": 2, "generic_frames": 1, "others": 4,
        "reference_people": 2, "size": 32,
    }  # fmt: skip
    asked = {
        "detector": "detector.safetensors", "generator": str(weights), "synthetic": 3, "verify": False,
        "people": {"class_path": "data_modules.people.RenderedPeople", "init_args": people},
        "recipe": {"steps": 1, "batch_size": 4, "precision": "32-true"},
        "single": [{"methods": "finetune", "k": 1, "images": "synthetic"}],
    }  # fmt: skip
    (newcomer / "mine.yaml").write_text(yaml.safe_dump(asked))
    assert study.main(["mine.yaml", "--out", "mine", "--jobs", "1", "--wandb", "disabled"]) == 0
    assert json.loads((newcomer / "mine" / "summary.json").read_text())["synthetic/pictures"] == {"000": 3, "001": 3}
