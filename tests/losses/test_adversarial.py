import pytest
import torch

from lit_faces.losses.adversarial import feature_matching, hinge_discriminator, hinge_generator, r1_penalty


def test_hinge_of_four_numbers():
    real, fake = [torch.tensor([2.0, 0.5])], [torch.tensor([-2.0, 0.5])]
    assert hinge_discriminator(real, fake) == pytest.approx(0.25 + 0.75)
    assert hinge_generator(fake) == pytest.approx(0.75)


def test_scales_weigh_alike_whatever_their_size():
    real = [torch.zeros(1, 1, 8, 8), torch.full((1, 1, 2, 2), 1.0)]
    fake = [torch.full((1, 1, 8, 8), -1.0), torch.full((1, 1, 2, 2), -1.0)]
    assert hinge_discriminator(real, fake) == pytest.approx(0.5)


def test_r1_of_a_linear_critic_is_its_squared_norm():
    weight = torch.tensor([[1.0, 2.0, 2.0]])
    image = torch.randn(5, 3, requires_grad=True)
    penalty = r1_penalty([image @ weight.T], image)
    assert penalty == pytest.approx(9.0, rel=1e-5)


def test_feature_matching_is_zero_for_equal_and_blind_to_scale():
    real = torch.randn(2, 4, 3, 3)
    fake = torch.randn(2, 4, 3, 3, requires_grad=True)
    assert feature_matching([real], [real]) == 0
    scaled, plain = feature_matching([real * 7], [fake * 7]), feature_matching([real], [fake])
    assert scaled.item() == pytest.approx(plain.item(), rel=1e-5)
    wanted = real.clone().requires_grad_()
    feature_matching([wanted], [fake]).backward()
    assert wanted.grad is None and fake.grad is not None
