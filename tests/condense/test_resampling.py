from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from condense.resampling import sample_bilinear


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture
def grid() -> Tensor:
    positions = torch.rand(2, 5, 4, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return positions * 3 - 1.5  # some lie outside


@pytest.mark.parametrize("align_corners", [False, True])
def test_values_and_gradient_equal_torch(images: Tensor, grid: Tensor, align_corners: bool) -> None:
    images.requires_grad_()
    expected = F.grid_sample(images, grid, align_corners=align_corners)
    sampled = sample_bilinear(images, grid, align_corners)
    weights = torch.linspace(-1, 1, expected.numel(), dtype=torch.float64).view_as(expected)
    assert torch.equal(sampled, expected)
    assert torch.equal(
        *(torch.autograd.grad(result, images, weights, retain_graph=True)[0] for result in (sampled, expected))
    )


@pytest.mark.parametrize("align_corners", [False, True])
def test_all_derivatives(images: Tensor, grid: Tensor, align_corners: bool) -> None:
    images.requires_grad_()

    def sample(images: Tensor) -> Tensor:
        return sample_bilinear(images, grid, align_corners).sin()

    assert gradcheck(sample, images, check_forward_ad=True)
    assert gradgradcheck(sample, images)


def test_forward_over_reverse_equals_double_backward(images: Tensor, grid: Tensor) -> None:
    weights = torch.ones_like(images)

    def loss(images: Tensor, weights: Tensor) -> Tensor:
        return (sample_bilinear(images, grid, False) * weights).sin().sum()

    for argument, at in ((0, images), (1, weights)):
        direction = torch.linspace(-1, 1, images.numel(), dtype=torch.float64).view_as(images)

        def gradient(value: Tensor, argument: int = argument) -> Tensor:
            arguments = [images, weights]
            arguments[argument] = value
            return torch.func.grad(loss)(*arguments)

        _, forward = torch.func.jvp(gradient, (at,), (direction,))
        _, pullback = torch.func.vjp(gradient, at)
        probe = torch.cos(torch.arange(images.numel(), dtype=torch.float64)).view_as(images)
        assert torch.allclose((forward * probe).sum(), (pullback(probe)[0] * direction).sum(), rtol=1e-12)


def test_vmap_equals_loop(images: Tensor, grid: Tensor) -> None:
    stack = torch.stack([images, 2 * images, images.flip(-1)])
    batched = torch.func.vmap(lambda images: sample_bilinear(images, grid, False))(stack)
    assert torch.allclose(batched, torch.stack([sample_bilinear(images, grid, False) for images in stack]))
