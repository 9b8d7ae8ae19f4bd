"""Generative replay: one picture a person, shown anew by the packaged generator."""

import pytest
import torch

from lit_faces.core.facs import NUM_AUS
from lit_faces.fitting.landmark_model import LandmarkModel
from lit_faces.persons.generative_replay import GenerativeMemory, shown_anew
from lit_faces.persons.generators import load_generator
from lit_faces.persons.plan import balanced
from lit_faces.rendering.renderer import FaceRenderer


def test_pictures_of_one_photo_show_what_the_plan_asks():
    photo = FaceRenderer(128, seed=88).render(torch.tensor([3]), torch.tensor([0]), au=torch.zeros(1, NUM_AUS))
    generator, model, plan = load_generator(), LandmarkModel(), balanced(9, seed=1)
    made, again = (shown_anew(generator, model, photo, plan, slots) for slots in ([4, 7, 2], [7]))
    assert made.image.shape == (3, 3, 128, 128) and made.subject == photo.subject * 3
    assert made.source == ["generated/fused"] * 3 and made.frame.tolist() == [4, 7, 2]
    assert torch.equal(made.au_intensity, plan.ask([4, 7, 2])[1])
    assert float((made.image[0].float() - made.image[1].float()).abs().mean()) > 1
    torch.testing.assert_close(made.image[1].float(), again.image[0].float(), atol=1.0, rtol=0)  # alone as in company
    with pytest.raises(ValueError, match="expected one face"):
        shown_anew(generator, model, made, plan, [0])


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
