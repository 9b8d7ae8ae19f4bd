"""A registry of people: comes back as it was, forgets for good, survives a kill, and says what is wrong in a sentence."""

import copy
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from lit_faces.core.facs import AU_INDEX
from lit_faces.models.adapters import Delta, detector_code
from lit_faces.models.reference import References
from lit_faces.people import main
from lit_faces.persons.enrolment import entry_of
from lit_faces.persons.gate import Gate
from lit_faces.persons.registry import INDEX, Entry, Registry
from lit_faces.persons.zero import Evidence, Slopes, Zero
from lit_faces.tasks.au_detector import AUDetector

ZERO = Zero.of(("AU06", "AU17"), Slopes((), np.array([]), 0.5)).pooled(Evidence(np.array([2.0, 1.0]), "0f" * 8))


@pytest.fixture(scope="module")
def detector():
    torch.manual_seed(0)
    return AUDetector("aligned_face_small", size=32).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def code(detector):
    return detector_code(detector)


def face(number, size=1.0):
    found = np.random.default_rng(number).normal(size=128).astype(np.float32)
    return found / np.linalg.norm(found) * size


def delta_of(detector, seed):
    delta = Delta.fresh(detector, rank=1)
    draws = torch.Generator().manual_seed(seed)
    for one in [*delta.up.values(), *delta.shift.values()]:
        one.data.normal_(0.0, 0.3, generator=draws)
    return delta


@pytest.fixture
def registry(tmp_path, detector, code):
    made = Registry.create(tmp_path / "people", code)
    made.add("anna", Entry(delta_of(detector, 1), ZERO, face(1)))
    made.add("ben", Entry(None, ZERO, face(2)))
    made.add("Zoë Müller", Entry(delta_of(detector, 3)))
    return made


def files(registry):
    return sorted(path.name for path in (registry.folder / "people").iterdir())


def test_people_come_back_as_they_were(registry, code, detector):
    again = Registry(registry.folder, code)
    assert again.names == ["anna", "ben", "Zoë Müller"] and len(again) == 3 and "ben" in again
    anna, ben, zoe = (again.get(name) for name in again.names)
    for name, change in delta_of(detector, 1).changes().items():
        torch.testing.assert_close(anna.delta.changes()[name], change, atol=2e-3, rtol=2e-3)
    np.testing.assert_array_equal(anna.face, face(1))
    np.testing.assert_allclose(ben.zero.offset, ZERO.offset, atol=1e-3)
    assert ben.delta is None and zoe.face is None and zoe.zero is None


def test_references_come_back_and_are_looked_at(registry, code):
    looked_at = References(torch.randn(2, 960), torch.rand(2, 19) * 5)
    registry.add("carl", Entry(face=face(21), references=looked_at))
    found = Registry(registry.folder, code).get("carl")
    assert found.delta is None
    torch.testing.assert_close(found.references.features, looked_at.features, atol=2e-3, rtol=2e-3)
    torch.testing.assert_close(found.references.intensity, looked_at.intensity, atol=2e-3, rtol=2e-3)


def test_who_is_near_is_known_and_nobody_else(registry):
    near = face(2) + face(9, 0.3)
    assert registry.recognise(near) == "ben"
    assert registry.recognise(face(7)) is None
    assert registry.recognise(np.full(128, np.nan, np.float32)) is None
    assert np.isinf(registry.distances(face(1))[2])  # only named


def test_what_is_removed_is_gone_for_good(registry, code):
    before = b"".join(path.read_bytes() for path in registry.folder.rglob("*") if path.is_file())
    assert b"anna" in before and face(1).tobytes() in before
    registry.remove("anna")
    after = b"".join(path.read_bytes() for path in registry.folder.rglob("*") if path.is_file())
    assert b"anna" not in after and face(1).tobytes() not in after
    again = Registry(registry.folder, code)
    assert again.names == ["ben", "Zoë Müller"] and len(files(again)) == 2
    assert again.recognise(face(2)) == "ben" and again.recognise(face(1)) is None
    with pytest.raises(ValueError, match="nobody called 'anna'"):
        again.remove("anna")


def test_a_name_is_one_person(registry, detector):
    with pytest.raises(ValueError, match="is in it already"):
        registry.add("ben", Entry(face=face(5)))
    registry.add("ben", Entry(face=face(5)), overwrite=True)
    assert registry.names == ["anna", "Zoë Müller", "ben"] and len(files(registry)) == 3
    assert registry.recognise(face(5)) == "ben" and registry.recognise(face(2)) is None


def test_two_who_enrol_from_old_copies_are_both_there(registry, code):
    first, second = Registry(registry.folder, code), Registry(registry.folder, code)
    first.add("carl", Entry(face=face(11)))
    second.add("dora", Entry(face=face(12)))
    assert {"carl", "dora"} < set(Registry(registry.folder, code).names)


@pytest.mark.parametrize("name", ["", " anna", "a\nb", "x" * 101])
def test_names_that_cannot_be_are_refused(registry, name):
    with pytest.raises(ValueError, match="1 to 100 characters"):
        registry.add(name, Entry())


def test_foreign_things_are_refused(registry, tmp_path, detector):
    other = copy.deepcopy(detector)
    other.head.linear.bias.data += 1.0
    with pytest.raises(ValueError, match="were learnt on the detector"):
        Registry(registry.folder, detector_code(other))
    with pytest.raises(ValueError, match="cannot be enrolled beside"):
        registry.add("eve", Entry(delta_of(other, 1)))
    with pytest.raises(ValueError, match="128 finite numbers"):
        registry.add("eve", Entry(face=np.zeros(3, np.float32)))
    assert "eve" not in Registry(registry.folder)
    with pytest.raises(FileNotFoundError, match="no registry of people"):
        Registry(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    with pytest.raises(ValueError, match="holds other files"):
        Registry.create(tmp_path / "full", "x")


@pytest.mark.parametrize("damage", ["cut", "swapped", "person"])
def test_damage_is_one_sentence(registry, detector, damage, capsys, tmp_path):
    if damage == "cut":
        path = registry.folder / INDEX
        path.write_bytes(path.read_bytes()[:200])
    elif damage == "swapped":
        detector.export_weights(registry.folder / INDEX)
    else:
        path = next((registry.folder / "people").iterdir())
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert main([str(registry.folder)]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and str(registry.folder) in said[0] and "Traceback" not in said[0]


KILLED = """
import sys, numpy as np
from lit_faces.persons.registry import Entry, Registry
registry = Registry(sys.argv[1])
print("ready", flush=True)
number = 0
while True:
    registry.add(f"p{number}", Entry(face=np.full(128, number, np.float32)))
    if number % 2:
        registry.remove(f"p{number - 1}")
    number += 1
"""


def test_a_killed_process_leaves_a_whole_registry(registry, code):
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(registry.folder)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert process.stdout.readline() == b"ready\n"
    time.sleep(0.25)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    again = Registry(registry.folder, code)
    assert again.names[:3] == registry.names and all(again.get(name) for name in again.names)
    again.add("last", Entry(face=face(40)))  # the lock is free, and what was half done is swept
    assert len(files(again)) == len(again)


def test_what_was_half_written_goes_and_what_is_not_ours_stays(registry):
    place = registry.folder / "people"
    for name in (
        ".0123456789abcdef.safetensors.iyxxaj6s",
        "0123456789abcdef.safetensors",
        ".notes",
        "notes.safetensors",
    ):
        (place / name).write_bytes(b"half")
    registry.add("last", Entry(face=face(40)))
    there = {path.name for path in place.iterdir()}
    assert {".notes", "notes.safetensors"} <= there and len(there) == len(registry) + 2


def test_a_thousand_people_are_cheap_to_open(tmp_path, code):
    made = Registry.create(tmp_path / "people", code)
    with made._writing() as index:
        index.keys = {f"person {k}": f"{k:016x}" for k in range(1000)}
        index.faces = np.stack([face(k) for k in range(1000)])
    began = time.perf_counter()
    again = Registry(tmp_path / "people", code)
    opened = time.perf_counter() - began
    began = time.perf_counter()
    assert again.recognise(face(700)) == "person 700"
    assert opened < 0.5 and time.perf_counter() - began < 0.05


# -- the gate ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def images():
    return torch.randint(0, 256, (6, 3, 32, 32), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)


def test_strangers_read_as_ever_to_the_last_bit(registry, detector, images):
    gate = Gate(detector, registry, recognise=True)
    before = detector.predict(images)
    assert torch.equal(gate.predict_as(images, [""] * 6).intensity, before.intensity)
    known = gate.predict_as(images, ["anna"] * 6).intensity
    assert not torch.equal(known, before.intensity)
    mixed = gate.predict_as(images, ["anna", "", "Zoë Müller", "", "anna", "ben"]).intensity
    torch.testing.assert_close(mixed[[0, 4]], known[[0, 4]])
    torch.testing.assert_close(mixed[[1, 3, 5]], before.intensity[[1, 3, 5]])
    assert torch.equal(detector.predict(images).intensity, before.intensity)  # nothing is left of anybody


def test_people_after_others_read_as_they_did_first(registry, detector, images):
    """Backward transfer is 0: whoever came later changes nothing for who was there, to the last bit."""
    first = Gate(detector, registry, "anna").predict_as(images, ["anna"] * 6).intensity
    for number in range(4):
        registry.add(f"later {number}", Entry(delta_of(detector, 10 + number), face=face(30 + number)))
    gate = Gate(detector, registry, recognise=True)
    gate.predict_as(images, ["later 0", "later 1", "later 2", "later 3", "ben", ""])
    assert torch.equal(gate.predict_as(images, ["anna"] * 6).intensity, first)


def test_a_track_is_asked_once(registry, detector):
    gate, asked = Gate(detector, registry, recognise=True), []

    def look():
        asked.append(1)
        return face(2)

    assert [gate.who(4, look) for _ in range(3)] == ["ben"] * 3 and len(asked) == 1
    other = Gate(detector, registry, recognise=True)
    other.restore(gate.state())
    assert other.who(4, look) == "ben" and len(asked) == 1
    only = Gate(detector, registry, "anna", recognise=True)
    assert only.who(1, look) == "" and only.name_of(lambda: face(1)) == "anna"


def test_the_zero_serves_where_no_delta_does(registry, detector):
    gate = Gate(detector, registry, recognise=True)
    assert gate.zero_of("anna") is None and gate.zero_of("") is None
    assert gate.zero_of("ben")[AU_INDEX[6]] == pytest.approx(1.0)


def test_a_gate_must_know_whom_to_look_for(registry, detector):
    with pytest.raises(ValueError, match="--person NAME or --recognise"):
        Gate(detector, registry)
    with pytest.raises(ValueError, match="nobody called 'ana'; did you mean anna"):
        Gate(detector, registry, "ana")
    with pytest.raises(ValueError, match="no embedding"):
        Gate(detector, registry, "Zoë Müller", recognise=True)


# -- the command ------------------------------------------------------------------------------------------------------


def test_the_command_enrols_lists_and_forgets(tmp_path, detector, capsys):
    weights = detector.export_weights(tmp_path / "d.safetensors")
    delta_of(detector, 5).save(tmp_path / "anna" / "delta.safetensors")
    ZERO.save(tmp_path / "anna")
    people = str(tmp_path / "people")
    assert main([people, "--add", "anna", "--from", str(tmp_path / "anna"), "--detector", str(weights)]) == 0
    assert main([people]) == 0
    assert "anna: delta, zero\n1 people" in capsys.readouterr().out
    assert main([people, "--add", "ben", "--detector", str(weights)]) == 2
    assert main([people, "--remove", "anna"]) == 0
    assert main([people]) == 0
    assert "0 people" in capsys.readouterr().out.splitlines()[-1]


def test_whom_the_detector_looked_at_before_is_forgotten_by_a_gate(tmp_path) -> None:
    torch.manual_seed(0)
    made = AUDetector("aligned_face_small", size=32, reference_head=True).eval().requires_grad_(False)
    torch.nn.init.normal_(made.reference.shift.weight, std=0.2)
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    alone = made.predict(images).intensity
    kept = Registry.create(tmp_path / "people", detector_code(made))
    kept.add("anna", Entry(Delta.fresh(made, rank=1)))
    made.set_references(made.make_references(images[:1]))
    assert torch.equal(Gate(made, kept, "anna").predict_as(images, ["anna", "anna"]).intensity, alone)


def test_a_zero_of_another_reader_is_not_enrolled(tmp_path) -> None:
    Zero.of(("AU06",), Slopes((), np.array([]), 0.5), "OpenFace").save(tmp_path)
    with pytest.raises(ValueError, match="another detector"):
        entry_of(tmp_path, None, "")
