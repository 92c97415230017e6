"""The generator is an MLP on pairs of features, whichever way it is computed."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from condense.graphs.methods.adjacency import AdjacencyGenerator, build_adjacency_generator


def features(nodes: int, inputs: int = 7) -> Tensor:
    return torch.rand(nodes, inputs, generator=torch.Generator().manual_seed(nodes), dtype=torch.float64)


def moved(generator: AdjacencyGenerator) -> AdjacencyGenerator:
    """The same in float64, with norms that are not as they begin."""
    draws = torch.Generator().manual_seed(1)
    generator.double()
    with torch.no_grad():
        for norm in (generator.first_norm, generator.second_norm):
            for value in (norm.weight, norm.bias):
                value += 0.3 * torch.randn(value.shape, generator=draws, dtype=value.dtype)
    return generator


def pair_by_pair(generator: AdjacencyGenerator, x: Tensor) -> Tensor:
    """All pairs as rows [n * n, 2 F], through the layers as they stand, and every weight by itself."""
    nodes = len(x)
    hidden = torch.stack([torch.cat([x[i], x[j]]) for i in range(nodes) for j in range(nodes)])
    biases = (torch.full((128,), 0.7, dtype=x.dtype), torch.full((128,), -2.0, dtype=x.dtype))  # norms take them away
    layers = (generator.first, generator.second), (generator.first_norm, generator.second_norm)
    for layer, norm, bias in zip(*layers, biases):
        hidden = layer(hidden) + bias
        hidden = F.batch_norm(hidden, None, None, norm.weight, norm.bias, training=True, eps=norm.eps).relu()
    scores = generator.last(hidden).flatten().tolist()
    weights = torch.zeros(nodes, nodes, dtype=x.dtype)
    for i in range(nodes):
        for j in range(nodes):
            mean = torch.tensor((scores[i * nodes + j] + scores[j * nodes + i]) / 2, dtype=x.dtype)
            weights[i, j] = 0.0 if i == j else torch.sigmoid(mean)
    return weights


def test_it_is_the_mlp_on_all_pairs() -> None:
    generator = moved(build_adjacency_generator(7, seed=3))
    for nodes in (2, 5, 9):
        x = features(nodes)
        torch.testing.assert_close(generator(x), pair_by_pair(generator, x), rtol=0, atol=1e-12)


def test_its_gradients_are_those_of_finite_differences() -> None:
    generator = moved(build_adjacency_generator(3, seed=0))
    x = features(4, 3).requires_grad_()
    draws = torch.Generator().manual_seed(2)
    wanted = torch.rand(4, 4, generator=draws, dtype=torch.float64)

    def value() -> Tensor:
        return (generator(x) * wanted).sum()

    values = [x, *generator.parameters()]
    for value_of, gradient in zip(values, torch.autograd.grad(value(), values)):
        direction = torch.randn(value_of.shape, generator=draws, dtype=torch.float64)
        with torch.no_grad():
            value_of += 1e-6 * direction
            above = value()
            value_of -= 2e-6 * direction
            below = value()
            value_of += 1e-6 * direction
        torch.testing.assert_close((gradient * direction).sum(), (above - below) / 2e-6, rtol=1e-5, atol=1e-8)


def test_it_is_symmetric_without_loops_and_follows_its_seed() -> None:
    x = features(6).float()
    weights = build_adjacency_generator(7, seed=0)(x)
    assert torch.equal(weights.diagonal(), torch.zeros(6))
    torch.testing.assert_close(weights, weights.T)
    off = weights[~torch.eye(6, dtype=torch.bool)]
    assert ((off > 0) & (off < 1)).all()
    assert torch.equal(weights, build_adjacency_generator(7, seed=0)(x))
    assert not torch.equal(weights, build_adjacency_generator(7, seed=1)(x))
