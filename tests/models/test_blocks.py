import pytest
import torch
from torch.nn import functional

from lit_faces.models.blocks import (
    SLOPE,
    MapModulatedBlock,
    VectorModulatedBlock,
    activate,
    conv,
    join,
    layout,
    upsample,
)


def test_activation_is_a_leaky_relu_with_second_derivatives():
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.equal(activate(x), functional.leaky_relu(x, SLOPE))
    assert torch.autograd.gradcheck(activate, x)
    assert torch.autograd.gradgradcheck(lambda y: activate(y).square(), x)


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_gradients_come_in_the_layout_of_the_input(memory_format):
    x = torch.randn(2, 3, 4, 5).contiguous(memory_format=memory_format).requires_grad_()
    other = torch.channels_last if memory_format == torch.contiguous_format else torch.contiguous_format
    (gradient,) = torch.autograd.grad(activate(x), x, torch.ones(2, 3, 4, 5).contiguous(memory_format=other))
    assert gradient.stride() == x.stride() and layout(gradient) == memory_format


def test_joining_before_upsampling_gives_the_same():
    layer = conv(7, 5, 1)
    torch.nn.init.normal_(layer.bias)
    coarse, fine = torch.randn(2, 4, 8, 8), torch.randn(2, 3, 16, 16)
    wanted = layer(torch.cat([upsample(coarse, 16), fine], 1))
    assert torch.allclose(join(layer, coarse, fine), wanted, atol=1e-5)


def test_blocks_listen_to_their_condition():
    x = torch.randn(2, 4, 8, 8)
    maps = MapModulatedBlock(4, 3)
    assert not torch.equal(maps(x, torch.zeros(2, 3, 8, 8)), maps(x, torch.ones(2, 3, 8, 8)))
    vector = VectorModulatedBlock(4, 3)
    assert not torch.equal(vector(x, torch.zeros(2, 3)), vector(x, torch.ones(2, 3)))
