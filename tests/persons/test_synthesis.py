"""Labelled pictures from one photo: the plan, and what the packaged generator makes of it."""

import pytest
import torch

from lit_faces.core.facs import AU_INDEX, NUM_AUS
from lit_faces.persons.landmark_model import LandmarkModel
from lit_faces.persons.synthesis import GenerativeMemory, load_generator, sample_plan, synthesise
from lit_faces.rendering.renderer import FaceRenderer


def test_the_plan_covers_every_au_and_can_be_repeated():
    pose, au = sample_plan(400, 3)
    again, _ = sample_plan(400, 3)
    assert torch.equal(pose, again) and not torch.equal(pose, sample_plan(400, 4)[0])
    assert au.shape == (400, NUM_AUS) and float(au.min()) == 0 and float(au.max()) <= 5
    active = (au > 0.3).sum(0)
    assert int(active.min()) >= 20
    assert int((au.sum(1) == 0).sum()) > 20  # neutral ones
    assert float(pose[:, 0].abs().max()) <= 22
    closed = (au[:, AU_INDEX[25]] > 0.3) & (au[:, AU_INDEX[24]] > 0)
    assert not bool(closed.any())  # lips cannot be pressed and parted


def test_pictures_of_one_photo_show_what_was_asked():
    photo = FaceRenderer(128, seed=88).render(torch.tensor([3]), torch.tensor([0]), au=torch.zeros(1, NUM_AUS))
    made = synthesise(load_generator(), LandmarkModel(), photo, 6, seed=1)
    again = synthesise(load_generator(), LandmarkModel(), photo, 3, seed=1)
    assert made.image.shape == (6, 3, 128, 128) and made.subject == photo.subject * 6
    assert made.source[0] == "generated/fused"
    assert float((made.image[0].float() - made.image[1].float()).abs().mean()) > 1
    assert len(again) == 3
    with pytest.raises(ValueError, match="expected one face"):
        synthesise(load_generator(), LandmarkModel(), made, 2, 0)


def test_generative_replay_keeps_one_picture_a_person_and_shows_them_anew():
    who = torch.tensor([1, 1, 2])
    au = torch.full((3, NUM_AUS), float("nan"))
    au[0] = 0.0
    faces = FaceRenderer(128, seed=88).render(who, torch.arange(3), au=au)
    memory = GenerativeMemory(people=5, pool=4)
    memory.add(faces)
    kept = memory.photos.faces()
    memory.add(faces.select(torch.tensor([2])))  # came alone: half of what is shown
    assert len(memory.learnt) == 1
    assert len(memory) == 3 and float(kept.au_intensity[0].sum()) == 0  # the neutral one of the first
    stored, plain = memory.tensors()
    again = GenerativeMemory.from_tensors(stored, plain)
    shown = [m.sample(6, torch.Generator().manual_seed(3)) for m in (memory, again)]
    assert torch.equal(shown[0].image, shown[1].image) and shown[0].subject == shown[1].subject
    assert set(shown[0].subject) <= set(faces.subject) and shown[0].source[0] == "generated/fused"
    assert memory.forget(faces.subject[0]) == 1 and len(memory) == 2
    faces.landmarks[:] = float("nan")
    with pytest.raises(ValueError, match="landmarks"):
        memory.add(faces)
    with pytest.raises(ValueError, match="empty"):
        GenerativeMemory().sample(2, torch.Generator())
