"""Attention matching: its maps and its loss against sums written out, and what it refuses."""

from __future__ import annotations

import pytest
import torch

import condense
from condense.augmentation.dsa import augment
from condense.data.budget import Budget
from condense.matching import attention
from condense.methods.interface import Job
from condense.networks import build_network
from condense.runtime.errors import CondenseError
from condense.runtime.seeds import derive_seed
from condense.synthesizers.attention_matching import AttentionMatching

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def digits():
    return condense.load_data("digits")


@pytest.mark.parametrize("power", [1.0, 2.0, 4.0])
def test_attention_against_a_loop(power: float):
    maps = torch.randn(3, 4, 2, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = attention(maps, power)
    assert found.shape == (3, 10)
    for image in range(3):
        row = [sum(abs(maps[image, c, i, j].item()) ** power for c in range(4)) for i in range(2) for j in range(5)]
        length = sum(value**2 for value in row) ** 0.5
        assert found[image].tolist() == pytest.approx([value / length for value in row])


def test_attention_of_nothing_is_zero_and_has_a_finite_gradient():
    maps = torch.zeros(1, 2, 3, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(attention(maps, 1.0).sum(), maps)
    assert torch.isfinite(gradient).all()


def test_activations_are_those_before_pooling():
    network = build_network("convnet-d3-w8-in", (3, 32, 32), 10, seed=0)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    maps, features = network.activations(images)
    assert [tuple(values.shape) for values in maps] == [(2, 8, 32, 32), (2, 8, 16, 16), (2, 8, 8, 8)]
    assert all((values >= 0).all() for values in maps)
    assert torch.equal(features, network.embed(images))


@pytest.mark.parametrize(
    ("network", "layers"), [("convnet-d2-w4-in", None), ("convnet-d2-w4-bn", None), ("convnet-d2-w4-in", 2)]
)
def test_the_loss_against_its_definition_one_class_at_a_time(digits, network: str, layers: int | None):
    settings = AttentionMatching.Settings(network=network, layers=layers, real_batch=5, power=2.0, iterations=1)
    made = AttentionMatching(Job(digits.train, Budget(ipc=2), 0, CPU), settings)
    start = made.images.detach().clone()
    found = made.step(0)["loss"]

    plain = build_network(network, (1, 8, 8), 10, derive_seed(0, "network", 0))
    draws = made.class_draws(0)
    indices = torch.cat([made.real_batch(0, label) for label in range(10)])
    seen = [
        augment(made.augmentation, images, draws.expand(labels))
        for images, labels in ((digits.train.images(indices), digits.train.labels[indices]), (start, made.labels))
    ]
    outputs = [plain.activations(images) for images in seen]
    expected = 0.0
    for label in range(10):
        rows = [slice(5 * label, 5 * label + 5), slice(2 * label, 2 * label + 2)]
        for layer in range(layers or 1):
            means = [attention(maps[layer][row], 2.0).mean(0) for (maps, _), row in zip(outputs, rows, strict=True)]
            expected += 100 * ((means[0] - means[1]) ** 2).sum().item()
        means = [features[row].mean(0) for (_, features), row in zip(outputs, rows, strict=True)]
        expected += 100 * 0.01 * ((means[0] - means[1]) ** 2).sum().item()
    assert found == pytest.approx(expected, rel=1e-4)


def test_networks_without_maps_are_refused(digits):
    with pytest.raises(CondenseError, match="mlp has no maps to be read; give a convnet"):
        condense.distill("datadam", digits, 1, network="mlp", iterations=1)
    with pytest.raises(CondenseError, match="depth of at least 2"):
        condense.distill("datadam", digits, 1, network="convnet-d1", iterations=1)
    with pytest.raises(CondenseError, match="--layers 3: --network convnet-d2-w4-in has 2 activations"):
        condense.distill("datadam", digits, 1, network="convnet-d2-w4", layers=3, iterations=1)


def test_they_are_refused_before_anything_is_trained(digits, tmp_path, monkeypatch):
    monkeypatch.setenv("CONDENSE_CACHE", str(tmp_path))
    with pytest.raises(CondenseError, match="depth of at least 2"):
        condense.distill("datadam", digits, 1, network="convnet-d1-w4", initialization="kmeans", iterations=10**9)
    assert list(tmp_path.iterdir()) == []


def test_a_power_whose_derivative_is_infinite_at_zero_is_refused(digits):
    with pytest.raises(CondenseError, match=r"--power 0.5: should be greater than or equal to 1"):
        condense.distill("datadam", digits, 1, power=0.5, iterations=1)


def test_it_lowers_its_loss_and_beats_random_on_digits(digits, gain_over_random, loss_left):
    options = {"network": "convnet-w16", "real_batch": 32}
    made = condense.distill("datadam", digits, 1, iterations=100, image_lr=0.1, **options)
    assert loss_left(made, digits, **options) < 0.95
    assert gain_over_random(made, digits) > 0.05
