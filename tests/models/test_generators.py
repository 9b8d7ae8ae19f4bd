import pytest
import torch

from lit_faces.core.facs import AU_INDEX, NUM_AUS
from lit_faces.models.conditioning import Condition
from lit_faces.models.generators.au_vector import AUVectorGenerator
from lit_faces.models.generators.fused import FusedGenerator
from lit_faces.models.generators.landmark_only import LandmarkOnlyGenerator
from lit_faces.models.generators.templates import AUTemplates
from lit_faces.models.generators.warp_only import WarpOnlyGenerator
from lit_faces.models.warping import canonical_face, landmark_flow, regular_grid, warp

SIZE = 64
ALL = [FusedGenerator, LandmarkOnlyGenerator, AUVectorGenerator, WarpOnlyGenerator]


def request(batch=2, au=6, intensity=5.0, shift=2.0, source_known=True):
    """A request for one AU, with the mouth moved by ``shift`` px."""
    face = ((canonical_face() + 1) * SIZE / 2 - 0.5).expand(batch, -1, -1).clone()
    target = face.clone()
    target[:, 48:68, 1] += shift
    source_au = torch.zeros(batch, NUM_AUS) if source_known else torch.full((batch, NUM_AUS), float("nan"))
    target_au = torch.zeros(batch, NUM_AUS)
    target_au[:, AU_INDEX[au]] = intensity
    return Condition(face, target, source_au, target_au)


def picture(batch=2):
    return torch.rand(batch, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1


def stir(network):
    """Weights as after some training: nothing is zero any more."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return network


def make(kind):
    return kind(width=8) if kind is not WarpOnlyGenerator else kind(width=8, motion_width=16)


@pytest.mark.parametrize("kind", ALL)
def test_every_generator_answers_the_same_call(kind):
    output = stir(make(kind))(picture(), request())
    assert output.image.shape == (2, 3, SIZE, SIZE)
    assert output.image.dtype == torch.float32
    assert torch.isfinite(output.image).all()
    for mask in (output.keep, output.attention):
        if mask is not None:
            assert mask.shape == (2, 1, SIZE, SIZE) and mask.min() >= 0 and mask.max() <= 1
    output.image.abs().mean().backward()


@pytest.mark.parametrize("kind", [FusedGenerator, LandmarkOnlyGenerator, WarpOnlyGenerator])
def test_step_zero_equals_the_spline_warp(kind):
    condition, source = request(), picture()
    flow, _ = landmark_flow(condition.source_landmarks, condition.target_landmarks, SIZE, 32)
    assert torch.allclose(make(kind)(source, condition).image, warp(source, flow), atol=2e-3)


def test_a_request_for_what_is_there_returns_the_source_whatever_the_weights():
    condition, source = request(intensity=0.0, shift=0.0), picture()
    for kind in (FusedGenerator, WarpOnlyGenerator):
        output = stir(make(kind))(source, condition)
        assert torch.allclose(output.image, source, atol=1e-5)
        assert output.keep is not None and output.keep.min() == 1


def test_an_au_alters_only_its_place():
    output = stir(make(FusedGenerator))(picture(), request(au=17, shift=0.0))
    change = (output.image - picture()).abs().amax(1)[0]
    assert change[50:62, 26:38].max() > 0.02  # the chin
    assert change[:20].max() < 1e-3  # forehead and hair


def test_unknown_source_aus_are_an_absolute_request():
    network = stir(make(FusedGenerator))
    known, unknown = network(picture(), request()), network(picture(), request(source_known=False))
    assert torch.isfinite(unknown.image).all()
    assert unknown.gate.mean() > known.gate.mean()  # any AU may have to go


def test_the_baselines_do_not_see_what_they_must_not():
    landmarks = stir(make(LandmarkOnlyGenerator))
    assert torch.equal(landmarks(picture(), request(au=6)).image, landmarks(picture(), request(au=17)).image)
    vector = stir(make(AUVectorGenerator))
    assert torch.equal(vector(picture(), request(shift=0.0)).image, vector(picture(), request(shift=4.0)).image)


def test_landmarks_that_nobody_found_do_not_break_the_picture():
    condition = request()
    condition.source_landmarks[0] = float("nan")
    condition.target_landmarks[1, :30] = float("nan")
    for kind in ALL:
        assert torch.isfinite(stir(make(kind))(picture(), condition).image).all()


@pytest.mark.parametrize("kind", [FusedGenerator, LandmarkOnlyGenerator, AUVectorGenerator])
def test_a_mask_that_was_driven_to_an_end_still_learns(kind):
    network = make(kind)
    heads = network.heads if kind is AUVectorGenerator else network.body.appearance.heads
    with torch.no_grad():
        heads.bias[:3] = 0.5  # there is something to mask
        heads.bias[3 if kind is AUVectorGenerator else 6] = -30.0
    output = network(picture(), request())
    assert output.attention.max() > 1e-3
    output.image.mean().backward()
    assert heads.bias.grad.abs().min() > 1e-6


@pytest.mark.parametrize("size", [64, 128, 256])
def test_sizes(size):
    condition = request(batch=1)
    scale = size / SIZE
    condition.source_landmarks = (condition.source_landmarks + 0.5) * scale - 0.5
    condition.target_landmarks = (condition.target_landmarks + 0.5) * scale - 0.5
    output = make(FusedGenerator)(torch.zeros(1, 3, size, size), condition)
    assert output.image.shape[-1] == size
    assert output.flow.shape[1] == (64 if size == 256 else 32)


def test_bfloat16_keeps_the_geometry():
    network, condition = make(FusedGenerator), request()
    exact = network(picture(), condition)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = network(picture(), condition)
    assert rounded.image.dtype == torch.float32
    assert torch.allclose(exact.image, rounded.image, atol=1e-5)


def test_sizes_of_the_networks_compare():
    count = {
        kind.name: sum(p.numel() for name, p in kind().named_parameters() if not name.startswith("templates."))
        for kind in ALL
    }  # the templates are a look-up table
    assert min(count.values()) > 300_000 and max(count.values()) < 650_000


def templates(channels=6):
    made = AUTemplates(channels, cells=32, coarse=8)
    with torch.no_grad():
        made.fine.normal_(generator=torch.Generator().manual_seed(0))
    return made


def centred(size=16, batch=2):
    """Mean-face coordinates of a face that is the mean face."""
    return regular_grid(size).expand(batch, -1, -1, -1)


def test_templates_are_linear_in_the_request_and_silent_without_one():
    made, face = templates(), centred()
    nothing = made(request(intensity=0.0), face, SIZE)
    assert nothing.shape == (2, 6, SIZE, SIZE) and nothing.abs().max() == 0
    some, more = (made(request(intensity=i), face, SIZE) for i in (2.0, 4.0))
    assert some.abs().max() > 0 and torch.allclose(2 * some, more, atol=1e-5)
    both = request(intensity=2.0)
    both.target_au[:, AU_INDEX[17]] = 4.0
    assert torch.allclose(made(both, face, SIZE), some + made(request(au=17, intensity=4.0), face, SIZE), atol=1e-5)


def test_templates_of_a_symmetric_face_are_symmetric_or_change_their_sign():
    mixed = templates()(request(), centred(), SIZE)
    assert torch.allclose(mixed[:, :4], mixed[:, :4].flip(-1), atol=1e-5)
    assert torch.allclose(mixed[:, 4:], -mixed[:, 4:].flip(-1), atol=1e-5)


def test_templates_follow_the_face():
    made, face = templates(), centred(batch=1)
    moved = made(request(batch=1), face - torch.tensor([0.25, 0.0]), SIZE)  # the face stands 8 pixels to the right
    assert torch.allclose(moved[..., 16:56], made(request(batch=1), face, SIZE)[..., 8:48], atol=1e-4)


def test_templates_that_cannot_be_mirrored_are_refused():
    with pytest.raises(ValueError, match="must be even"):
        AUTemplates(4, cells=31)
