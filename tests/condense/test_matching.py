"""The distances against naive loops."""

import torch

from condense.matching import (
    class_means,
    match_gradients,
    match_gradients_cosine,
    match_gradients_squared,
    match_means,
)


def test_class_means_against_a_loop():
    draws = torch.Generator().manual_seed(1)
    features = torch.randn(20, 7, generator=draws, dtype=torch.float64)
    labels = torch.randint(4, (20,), generator=draws)
    means = class_means(features, labels, 5)
    for label in range(4):
        rows = [features[i] for i in range(20) if labels[i] == label]
        torch.testing.assert_close(means[label], sum(rows) / len(rows))
    assert not means[4].any()


def test_match_means_against_a_loop_and_its_gradient():
    draws = torch.Generator().manual_seed(2)
    real = torch.randn(3, 5, generator=draws, dtype=torch.float64)
    synthetic = torch.randn(3, 5, generator=draws, dtype=torch.float64, requires_grad=True)
    expected = sum((real[c, d] - synthetic[c, d]).item() ** 2 for c in range(3) for d in range(5))
    loss = match_means(real, synthetic)
    assert abs(loss.item() - expected) < 1e-12
    (gradient,) = torch.autograd.grad(loss, [synthetic])
    torch.testing.assert_close(gradient, -2 * (real - synthetic.detach()))


def test_no_distance_between_equal_batches_in_any_order():
    features = torch.randn(12, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    labels = torch.arange(3).repeat_interleave(4)
    order = torch.cat([group[torch.tensor([2, 0, 3, 1])] for group in torch.arange(12).split(4)])
    distance = match_means(class_means(features, labels, 3), class_means(features[order], labels, 3))
    assert distance.item() < 1e-28


def gradients(seed: int) -> dict[str, torch.Tensor]:
    draws = torch.Generator().manual_seed(seed)
    shapes = {"convolution": (4, 3, 2, 2), "bias": (4,), "linear": (5, 7), "layer norm": (4, 3, 3)}
    return {name: torch.randn(shape, generator=draws, dtype=torch.float64) for name, shape in shapes.items()}


def test_gradient_distance_against_a_loop_over_rows():
    real, synthetic = gradients(4), gradients(5)
    expected = 0.0
    for name in ("convolution", "linear", "layer norm"):
        for a, b in zip(real[name], synthetic[name], strict=True):
            a, b = a.flatten().tolist(), b.flatten().tolist()
            product = sum(x * y for x, y in zip(a, b, strict=True))
            lengths = sum(x * x for x in a) ** 0.5 * sum(y * y for y in b) ** 0.5
            expected += 1 - product / (lengths + 1e-6)
    assert abs(match_gradients(real, synthetic).item() - expected) < 1e-12


def test_gradient_distance_of_equal_and_opposite_gradients():
    real = gradients(6)
    rows = 4 + 5 + 4
    assert abs(match_gradients(real, real).item()) < 1e-5
    assert abs(match_gradients(real, {name: -value for name, value in real.items()}).item() - 2 * rows) < 1e-5


def test_whole_gradient_distances_against_sums():
    real, synthetic = gradients(7), gradients(8)
    a, b = (torch.cat([value.flatten() for value in values.values()]) for values in (real, synthetic))
    reordered = dict(reversed(synthetic.items()))
    assert abs(match_gradients_squared(real, reordered).item() - sum(((a - b) ** 2).tolist())) < 1e-10
    cosine = (a @ b / (a.norm() * b.norm())).item()
    assert abs(match_gradients_cosine(real, reordered).item() - (1 - cosine)) < 1e-6
