import pytest
import torch

from lit_faces.core.facs import NUM_AUS
from lit_faces.models.conditioning import Condition
from lit_faces.models.discriminators import MultiScaleDiscriminator, patch_centres
from lit_faces.models.warping import canonical_face

SIZE = 64


def condition(batch=2):
    face = ((canonical_face() + 1) * SIZE / 2 - 0.5).expand(batch, -1, -1).clone()
    au = torch.rand(batch, NUM_AUS, generator=torch.Generator().manual_seed(0)) * 5
    return Condition(face, face, au, au)


def test_verdicts_and_their_split():
    network = MultiScaleDiscriminator(width=8).eval()
    asked = condition()
    prepared = network.prepare(asked, SIZE)
    images = torch.rand(4, 3, SIZE, SIZE) * 2 - 1
    both = network(images, prepared.twice())
    assert both.au.shape == (4, NUM_AUS) and both.au.min() >= 0 and both.au.max() <= 5
    assert [len(x) for x in both.logits] == [4, 12]
    real, fake = both.split(2)
    alone = network(images[2:], prepared)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(fake.logits, alone.logits))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(fake.features, alone.features))
    assert torch.allclose(fake.au, alone.au, atol=1e-5)
    assert len(real.au) == 2


def test_patches_are_native_pixels_around_cheeks_and_chin():
    network = MultiScaleDiscriminator(width=8)
    asked = condition(1)
    grids = network.prepare(asked, SIZE).grids
    assert grids.shape == (1, 3, 16, 16, 2)
    image = torch.rand(1, 3, SIZE, SIZE)
    crop = torch.nn.functional.grid_sample(image, grids[:, 0], align_corners=False)
    x, y = patch_centres(asked.target_landmarks, SIZE)[0, 0].round().long().tolist()
    assert torch.allclose(crop, image[..., y - 8 : y + 8, x - 8 : x + 8], atol=1e-4)
    centres = patch_centres(asked.target_landmarks, SIZE)[0]
    assert centres[0, 0] < centres[2, 0] < centres[1, 0] and centres[2, 1] > centres[0, 1]


def test_unknown_landmarks_fall_back_on_the_mean_face():
    centres = patch_centres(torch.full((1, 68, 2), float("nan")), SIZE)
    assert torch.isfinite(centres).all()


@pytest.mark.parametrize("patches", [True, False])
def test_gradients_reach_the_picture(patches):
    network = MultiScaleDiscriminator(width=8, patches=patches)
    image = torch.zeros(2, 3, SIZE, SIZE, requires_grad=True)
    verdict = network(image, network.prepare(condition(), SIZE))
    (sum(x.mean() for x in verdict.logits) + verdict.au.mean()).backward()
    assert torch.isfinite(image.grad).all() and image.grad.abs().max() > 0


def test_the_request_matters():
    network = MultiScaleDiscriminator(width=8).eval()
    image, asked = torch.zeros(2, 3, SIZE, SIZE), condition()
    before = network(image, network.prepare(asked, SIZE)).logits
    asked.target_au = 5 - asked.target_au
    after = network(image, network.prepare(asked, SIZE)).logits
    assert all((a - b).abs().max() > 1e-5 for a, b in zip(before, after))
