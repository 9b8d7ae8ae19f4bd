import pytest
import torch
from torch import nn

from lit_faces.losses.reconstruction import feature_distance, flow_smoothness, gradient_pyramid, weighted_l1


def test_weighted_l1_is_a_weighted_mean():
    image, target = torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)
    image[..., 0, 0] = 1.0
    weight = torch.tensor([[3.0, 1.0], [0.0, 0.0]])[None, None]
    assert weighted_l1(image, target) == pytest.approx(0.25)
    assert weighted_l1(image, target, weight) == pytest.approx(0.75)
    assert weighted_l1(image, target, torch.full((1, 1, 2, 2), 5.0)) == pytest.approx(0.25)
    assert weighted_l1(image, target, torch.zeros(1, 1, 2, 2)) == 0


def test_gradient_pyramid_ignores_brightness_and_sees_edges():
    image = torch.rand(1, 3, 16, 16)
    assert gradient_pyramid(image + 0.3, image) == pytest.approx(0.0, abs=1e-6)
    flat, striped = torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16)
    striped[..., ::2] = 1.0
    only_fine = gradient_pyramid(striped, flat, levels=1)
    assert only_fine == pytest.approx(1.0)
    assert gradient_pyramid(striped, flat, levels=2) == pytest.approx(0.5)  # the stripes vanish an octave lower
    weight = torch.zeros(1, 1, 16, 16)
    assert gradient_pyramid(striped, flat, weight) == 0


def test_smooth_flows_cost_nothing():
    assert flow_smoothness(torch.full((1, 8, 8, 2), 0.3)) == 0
    steps = torch.zeros(1, 8, 8, 2)
    steps[:, :, ::2, 0] = 2 / 8  # one cell
    assert flow_smoothness(steps) == pytest.approx(0.5)


def test_feature_distance_of_a_given_network():
    network = nn.Flatten()
    a = torch.rand(2, 3, 4, 4) + 0.1
    assert feature_distance(network, a, a * 3) == pytest.approx(0.0, abs=1e-6)
    assert feature_distance(network, a, -a) == pytest.approx(2.0, abs=1e-6)
