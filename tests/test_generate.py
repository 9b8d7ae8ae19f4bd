"""python -m lit_faces.generate and python -m lit_faces.personalise, from photo to detector, and bad input."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lit_faces import generate, personalise
from lit_faces.core.facs import NUM_AUS
from lit_faces.core.labelled import read_labelled
from lit_faces.core.video import timeline, write_video
from lit_faces.rendering.renderer import FaceRenderer


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """anna.png; two.png with two faces; wall.png without; far.png with a tiny one; clip.webm of a turning head."""
    folder = tmp_path_factory.mktemp("photos")
    renderer = FaceRenderer(192, seed=71)
    yaw = torch.tensor([0.0, 0.0, -10.0, 10.0])
    who = torch.tensor([1, 2, 1, 1])
    pose = torch.stack([yaw, 0 * yaw, 0 * yaw], 1)
    images = renderer.render(who, torch.arange(4), 0 * who, torch.zeros(4, NUM_AUS), pose).image
    wide = torch.nn.functional.pad(images.float(), (48, 48, 48, 48), mode="replicate").to(torch.uint8)
    pictures = [np.ascontiguousarray(image.permute(1, 2, 0).numpy()) for image in wide]
    Image.fromarray(pictures[0]).save(folder / "anna.png")
    Image.fromarray(np.concatenate(pictures[:2], 1)).save(folder / "two.png")
    Image.fromarray(np.full((200, 200, 3), 120, np.uint8)).save(folder / "wall.png")
    Image.fromarray(pictures[0]).resize((80, 80)).save(folder / "far.png")
    write_video(folder / "clip.webm", wide[[0, 2, 3, 0, 2]], 10.0)
    (folder / "broken.mp4").write_bytes(b"RIFF nothing" * 100)
    return folder


def run(*words):
    return generate.main([str(word) for word in words])


def test_a_photo_becomes_a_set_and_goes_on(photos, tmp_path, capsys):
    words = (photos / "anna.png", "--out", tmp_path / "set", "--n", 10, "--attempts", 2, "--jobs", 1, "--seed", 3)
    assert run(*words) == 0
    said = capsys.readouterr().out
    assert "AUs of the source" in said and "of 10 pictures kept" in said and "report.html" in said
    results = json.loads((tmp_path / "set" / "results.json").read_text())
    faces = read_labelled(tmp_path / "set", 128)
    assert results["set/kept"] == len(faces) > 4 and set(faces.subject) == {"anna"}
    assert results["set/identity_distance/median"] < 0.5 and results["run/seed"] == 3
    assert (tmp_path / "set" / "contact.png").is_file()
    before = (tmp_path / "set" / "shard-00000.tar").stat().st_mtime_ns
    assert run(*words) == 0 and (tmp_path / "set" / "shard-00000.tar").stat().st_mtime_ns == before
    assert run(*words[:-1], 4) == 2 and "choose another --out, or --overwrite" in capsys.readouterr().err
    assert run(*words[:-1], 4, "--overwrite", "--no-verify") == 0
    assert len(read_labelled(tmp_path / "set", 128)) == 10


def test_a_clip_drives_and_is_a_source(photos, tmp_path, capsys):
    clip = photos / "clip.webm"
    words = (clip, "--out", tmp_path, "--n", 3, "--attempts", 1, "--jobs", 1, "--plan", "prototypes", "--drive", clip)
    assert run(*words, "--max-leak", 5) == 0
    said = capsys.readouterr().out
    assert "5 of 5 frames" in said and "driven.webm" in said
    assert (tmp_path / "driven.png").stat().st_size > 10_000 and (tmp_path / "driven.webm").stat().st_size > 1_000
    assert timeline(tmp_path / "driven.webm") == timeline(clip)  # as many frames, each as long


def test_the_plan_alone(photos, tmp_path, capsys):
    assert run(photos / "anna.png", "--out", tmp_path / "x", "--plan-only", "--n", 57) == 0
    said = capsys.readouterr().out
    assert "balanced plan, 57 pictures" in said and "AU06" in said and not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("nobody.png", (), "no such photo"),
        ("wall.png", (), "no face found"),
        ("two.png", (), "2 faces found, one expected; crop the photo or choose one: face=0 at x"),
        ("two.png", ("--face", "5"), "face=5 does not exist"),
        ("far.png", (), "px|no face found|covered, blurred"),
        ("broken.mp4", (), "no decoder"),
        ("anna.png", ("--plan", "blanced"), "--plan: expected one of balanced"),
        ("anna.png", ("--n", "0"), "--n: expected 1 or more"),
        ("anna.png", ("--attempts", "0"), "--attempts: expected 1 or more"),
        ("anna.png", ("--labels", "seen"), "--labels: expected one of asked"),
        ("anna.png", ("--source-au", "smile"), "--source-au: cannot read 'smile'"),
        ("anna.png", ("--focus", "six"), "--focus: cannot read 'six'"),
        ("anna.png", ("--focus", "7"), "--focus: AU7 cannot be verified"),
        ("anna.png", ("--max-nme", "0"), "--max-nme: expected a number above 0"),
        ("anna.png", ("--generator", "no.safetensors"), "no.safetensors"),
        ("anna.png", ("--judge", "no.safetensors"), "no.safetensors"),
        ("anna.png", ("--drive", "no.mp4"), "no such clip"),
        ("anna.png", ("--drive", "anna.png"), "no such clip|no decoder|no face"),
        ("anna.png", ("--prior", "x"), "--prior belongs to --plan natural"),
        ("anna.png", ("--jobs", "0"), "--jobs: expected 1 or more"),
    ],
)
def test_bad_input_is_one_clear_line_and_writes_nothing(photos, tmp_path, capsys, name, words, message):
    import re

    assert run(photos / name, "--out", tmp_path / "set", "--n", "2", "--jobs", "1", *words) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("python -m lit_faces.generate: ") and re.search(message, said)
    assert not list((tmp_path / "set").glob("shard-*")) if (tmp_path / "set").exists() else True


def test_weights_of_something_else_are_refused(photos, tmp_path, capsys):
    from lit_faces.core.shipped import WEIGHTS

    words = (photos / "anna.png", "--out", tmp_path / "set", "--n", 2, "--jobs", 1)
    assert run(*words, "--generator", WEIGHTS / "detector.safetensors") == 2
    assert "detector.safetensors" in capsys.readouterr().err
    assert run(*words, "--judge", WEIGHTS / "base_fused.safetensors") == 2
    assert "base_fused.safetensors" in capsys.readouterr().err


def test_from_one_photo_to_a_detector_in_one_command(photos, tmp_path, capsys):
    words = [str(photos / "anna.png"), "--out", str(tmp_path / "anna"), "--n", "12", "--attempts", "2", "--steps", "2"]
    words += ["--jobs", "1", "--capacity", "40"]
    assert personalise.main(words) == 0
    said = capsys.readouterr().out
    assert "detector.safetensors" in said and "report.html" in said
    assert all(Path(line).exists() for line in said.splitlines() if line.startswith(str(tmp_path)))
    results = json.loads((tmp_path / "anna" / "results.json").read_text())
    assert results["set/slots"] == 12 and results["run/learnt"] == ["anna"] and "person/after/icc/mean" in results
    text = (tmp_path / "anna" / "report.html").read_text()
    assert "says nothing of new pictures" in text and text.count("data:image/png") >= 7
    assert (tmp_path / "anna" / "detector" / "detector.safetensors").is_file()
    stamp = (tmp_path / "anna" / "detector" / "detector.safetensors").stat().st_mtime_ns
    assert personalise.main(words) == 0 and "is there already" in capsys.readouterr().out
    assert (tmp_path / "anna" / "detector" / "detector.safetensors").stat().st_mtime_ns == stamp
    assert personalise.main([*words, "--seed", "5"]) == 2
    assert "choose another --out, or --overwrite" in capsys.readouterr().err
    assert personalise.main([*words[:2], str(tmp_path / "b"), "--method", "magic"]) == 2
    assert "--method: unknown method magic" in capsys.readouterr().err and not (tmp_path / "b").exists()
