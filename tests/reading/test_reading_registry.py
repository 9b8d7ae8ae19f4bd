"""`predict --registry`: who is known is read as their own, everybody else as ever; once a track, and after a kill."""

import csv
import json

import clips
import numpy as np
import pytest
import torch

from lit_faces.core.facs import AU_KEYS
from lit_faces.models.adapters import Delta, detector_code
from lit_faces.persons.registry import Entry, Registry
from lit_faces.persons.zero import Evidence, Slopes, Zero
from lit_faces.predict import main
from lit_faces.reading import pipeline
from lit_faces.tasks.au_detector import AUDetector

FRAMES = 3


@pytest.fixture(scope="module")
def clip(people, tmp_path_factory):
    """Two people side by side, still."""
    frames = [clips.stage([(people[0, k % 2], 40), (people[1, k % 2], 290)]) for k in range(FRAMES)]
    return clips.write(tmp_path_factory.mktemp("clip") / "two.webm", frames, [0.1 * k for k in range(FRAMES)])


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    made = AUDetector("aligned_face_small", size=32, export=False).eval()
    return made.export_weights(tmp_path_factory.mktemp("weights") / "small.safetensors")


@pytest.fixture(scope="module")
def registry(people, analyser, weights, tmp_path_factory):
    """Anna is person 0 and has a delta; ben is nobody in the clip; zoe, person 1, has a zero and no face."""
    from lit_faces.tasks.au_detector import load_detector

    detector = load_detector(weights)
    delta = Delta.fresh(detector)
    delta.shift["head/linear/bias"].data += 1.0
    made = Registry.create(tmp_path_factory.mktemp("registry") / "people", detector_code(detector))
    picture = clips.stage([(people[0, 0], 40)])
    rest = Zero.of(AU_KEYS, Slopes((), np.array([]), 1.0)).pooled(Evidence(np.full(len(AU_KEYS), 0.5), "ab" * 8))
    made.add("anna", Entry(delta, None, analyser.embedding(picture)))
    made.add("ben", Entry(face=np.full(128, 0.5, np.float32)))
    made.add("zoe", Entry(zero=rest))
    return made.folder


def read(clip, weights, out, *more):
    assert main([str(clip), "--detector", str(weights), "--out", str(out), *more]) == 0
    with out.open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    found = np.array([[float(row[key]) for key in AU_KEYS] for row in rows])
    left = np.array([float(row["crop_x"]) < clips.WIDE / 2 for row in rows])
    return found[left], found[~left], json.loads(out.with_suffix(".json").read_text())


@pytest.fixture(scope="module")
def as_ever(clip, weights, tmp_path_factory):
    return read(clip, weights, tmp_path_factory.mktemp("plain") / "aus.csv")


@pytest.fixture(scope="module")
def recognised(clip, weights, registry, tmp_path_factory):
    out = tmp_path_factory.mktemp("known") / "aus.csv"
    return read(clip, weights, out, "--registry", str(registry), "--recognise")


def test_who_is_recognised_is_read_as_their_own_and_strangers_as_ever(recognised, as_ever):
    anna, other, said = recognised
    assert len(anna) == len(other) == FRAMES
    assert (anna > as_ever[0] + 0.2).all()
    np.testing.assert_array_equal(other, as_ever[1])
    assert any("is anna; 1 read as anybody" in note for note in said["notes"])
    assert said["about"]["registry"]["recognise"] and said["zero"]["kind"] == "registry"


def test_a_name_is_taken_at_its_word_and_a_zero_taken_off(clip, weights, registry, as_ever, tmp_path):
    both = read(clip, weights, tmp_path / "aus.csv", "--registry", str(registry), "--person", "zoe")
    for found, before in zip(both[:2], as_ever[:2]):
        np.testing.assert_allclose(found, (before - 0.5).clip(0), atol=2e-3)
    assert any("--recognise tells them apart" in note for note in both[2]["notes"])


def test_a_killed_run_knows_people_as_before(clip, weights, registry, recognised, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "_SNAPSHOT", 1)
    asked = ["--registry", str(registry), "--recognise", "--batch", "1"]
    real = pipeline.read_parts

    def stops(parts, detector):
        if any(part.number >= 2 for part in parts):
            raise ValueError("stop")
        return real(parts, detector)

    monkeypatch.setattr(pipeline, "read_parts", stops)
    out = tmp_path / "aus.csv"
    assert main([str(clip), "--detector", str(weights), "--out", str(out), *asked]) == 2
    assert json.loads((tmp_path / "aus.partial.json").read_text())["state"]["known"]
    monkeypatch.setattr(pipeline, "read_parts", real)
    again = read(clip, weights, out, *asked)
    for found, expected in zip(again[:2], recognised[:2]):
        np.testing.assert_allclose(found, expected, atol=1.1e-3)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--person", "anna"], "add --registry"),
        (["--registry", "R"], "--person NAME or --recognise"),
        (["--registry", "R", "--person", "ana"], "did you mean anna"),
        (["--registry", "R", "--recognise", "--zero", "auto"], "leave --zero or --registry out"),
        (["--registry", "R", "--recognise", "--detector", "generic"], "were learnt on the detector"),
        (["--registry", "missing", "--recognise"], "no registry of people"),
        (["--registry", "R", "--recognise", "--detector", "a.b.Net"], "our detector"),
    ],
)
def test_what_cannot_be_is_one_sentence(words, said, clip, weights, registry, tmp_path, capsys):
    words = [str(registry) if word == "R" else word for word in words]
    given = words if "--detector" in words else [*words, "--detector", str(weights)]
    assert main([str(clip), "--out", str(tmp_path / "aus.csv"), *given]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and said in lines[0]
