"""The ConvNet of FRePo and RCIG against plain code of its layers, and flax's initial values."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from scipy.stats import kstest, truncnorm
from torch import Tensor, nn

from condense.networks import build_network
from condense.runtime.seeds import generator

RGB, DIGITS = (3, 32, 32), (1, 28, 28)


def naive_features(network: nn.Module, images: Tensor, norm: str, softplus: bool) -> Tensor:
    """In evaluation mode, after FRePo's text: norms at the entrance of all blocks but the first."""
    state = network.state_dict()
    maps = images
    for block in range(3):
        if block and norm == "bn":
            kept = [state[f"features.{block}.norm.running_{name}"] for name in ("mean", "var")]
            maps = (maps - kept[0][:, None, None]) / (kept[1][:, None, None] + 1e-5).sqrt()
        if block and norm == "in":
            variance, mean = torch.var_mean(maps, (2, 3), correction=0, keepdim=True)
            maps = (maps - mean) / (variance + 1e-5).sqrt()
        padding = 3 if block == 0 and images.shape[1:] == DIGITS else 1
        weights = (state[f"features.{block}.convolution.{name}"] for name in ("weight", "bias"))
        maps = F.conv2d(maps, *weights, padding=padding)
        maps = torch.log1p(torch.exp(60 * maps)) / 60 if softplus else maps.clamp(min=0)
        maps = maps.unfold(2, 2, 2).unfold(3, 2, 2).mean((4, 5))
    return maps.flatten(1)


@pytest.mark.parametrize("shape", [RGB, DIGITS])
@pytest.mark.parametrize("softplus", [False, True])
@pytest.mark.parametrize("norm", ["nonorm", "bn", "in"])
def test_features_are_those_of_plain_layers(norm: str, softplus: bool, shape: tuple[int, int, int]):
    name = f"conv-w4-{norm}-softplus" if softplus else f"conv-w4-{norm}"
    network = build_network(name, shape, 10, seed=1).double()
    images = torch.randn(3, *shape, generator=generator(0, "images"), dtype=torch.float64)
    if norm == "bn":
        network.train()(images)  # moves the statistics
    network.eval()
    with torch.no_grad():
        found, expected = network.embed(images), naive_features(network, images, norm, softplus)
        assert found.shape == (3, 4 * 4 * 16)
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)
        maps, features = network.activations(images)
    assert torch.equal(features, found)
    assert [tuple(each.shape[1:]) for each in maps] == [(4, 32, 32), (8, 16, 16), (16, 8, 8)]


def test_batch_norm_keeps_nine_tenths_of_the_latest_batch():
    network = build_network("conv-w4-bn", RGB, 10, seed=1).train()
    images = torch.randn(5, *RGB, generator=generator(0, "images")) + 1
    with torch.no_grad():
        seen = network.features[0](images)
        network(images)
    kept = network.features[1].norm
    torch.testing.assert_close(kept.running_mean, 0.9 * seen.mean((0, 2, 3)))
    torch.testing.assert_close(kept.running_var, 0.9 * seen.var((0, 2, 3)) + 0.1)


@pytest.mark.parametrize("layer", ["features.1.convolution", "features.2.convolution", "classifier"])
def test_weights_are_cut_off_normal_with_a_variance_of_one_over_fan_in(layer: str):
    parts = [build_network("conv-w16", RGB, 10, seed=seed).get_submodule(layer) for seed in range(4)]
    fan_in = parts[0].weight[0].numel()
    values = torch.cat([part.weight.detach().flatten() for part in parts])
    assert values.var().item() * fan_in == pytest.approx(1, abs=0.03)
    whole = truncnorm(-2, 2)
    assert kstest(values.numpy() * fan_in**0.5 * whole.std(), whole.cdf).pvalue > 1e-3
    assert all(not part.bias.any() for part in parts)
