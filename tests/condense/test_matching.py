"""The distances against naive loops."""

import torch

from condense.matching import class_means, match_means


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
