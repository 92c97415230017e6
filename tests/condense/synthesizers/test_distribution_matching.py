"""Distribution matching as a method: whole updates against a naive reference, and that it learns."""

from __future__ import annotations

import pytest
import torch

import condense
from condense.augmentation.dsa import Augmentation, augment, draw_per_class
from condense.data.budget import Budget
from condense.data.sampling import sample
from condense.methods.interface import Job
from condense.networks import build_network
from condense.runtime.seeds import derive_seed, generator
from condense.synthesizers.distribution_matching import DistributionMatching


@pytest.fixture(scope="module")
def digits():
    return condense.load_data("digits")


def synthesizer(digits, ipc: int, **settings) -> DistributionMatching:
    quick = {"network": "convnet-d2-w4-in", "real_batch": 5}
    job = Job(digits.train, Budget(ipc=ipc), 0, torch.device("cpu"))
    return DistributionMatching(job, DistributionMatching.Settings(**quick | settings))


@pytest.mark.parametrize("network", ["convnet-d2-w4-in", "convnet-d2-w4-bn"])
def test_whole_updates_against_a_naive_reference(digits, network: str):
    """A new network in each; with BatchNorm the images of all classes go through it together."""
    made = synthesizer(digits, 2, network=network, image_lr=0.5, image_momentum=0.5)
    images = made.images.detach().clone().requires_grad_()
    start, velocity = images.detach().clone(), torch.zeros_like(images)
    strategy, shape = Augmentation.dsa(mirror=False), (1, 8, 8)
    for iteration in range(3):
        plain = build_network(network, shape, 10, derive_seed(0, "network", iteration))
        draws = draw_per_class(strategy, shape, 10, generator(0, "augmentation", iteration))
        indices = [
            sample(digits.train.class_indices(label), 5, generator(0, "real batch", iteration, label))
            for label in range(10)
        ]
        seen = []
        for batch, count in ((digits.train.images(torch.cat(indices)), 5), (images, 2)):
            rows = draws.expand(torch.arange(10).repeat_interleave(count))
            seen.append(plain.features(augment(strategy, batch, rows)).flatten(1).view(10, count, -1))
        loss = torch.zeros(())
        for label in range(10):
            difference = sum(seen[0][label]).detach() / 5 - sum(seen[1][label]) / 2
            loss = loss + (difference**2).sum()
        (gradient,) = torch.autograd.grad(loss, images)
        velocity = 0.5 * velocity + gradient
        images = (images - 0.5 * velocity).detach().requires_grad_()
        assert made.step(iteration)["loss"] == pytest.approx(loss.item(), rel=1e-4)
        moved, wanted = made.images.detach() - start, images.detach() - start
        assert (moved - wanted).norm() < 1e-3 * wanted.norm()


def test_the_distance_falls_on_the_same_network_and_images(digits):
    """Plain descent: every update with the draws of iteration 0."""
    made = synthesizer(digits, 1, real_batch=32)
    losses = [made.step(0)["loss"] for _ in range(12)]
    assert losses[-1] < 0.5 * losses[0]


def test_the_loss_falls_and_the_set_beats_random_on_digits(digits, gain_over_random):
    options = {"network": "convnet-w16", "real_batch": 32, "image_lr": 1.0}
    made = condense.distill("dm", digits, 1, iterations=100, **options)
    start = condense.distill("dm", digits, 1, iterations=1, **options | {"image_lr": 1e-12})
    assert ((made.stored - start.stored).flatten(1).abs().amax(1) > 0.1).all()
    loss = made.metrics["loss"]
    assert loss[-10:].mean() < 0.8 * loss[:10].mean()
    assert gain_over_random(made, digits) > 0.05


def test_batch_norm_is_used_with_a_word(digits, capsys):
    options = {"iterations": 1, "real_batch": 4}
    condense.distill("dm", digits, 1, network="convnet-d1-w4-bn", **options)
    assert "note: convnet-d1-w4-bn has BatchNorm" in capsys.readouterr().err
    condense.distill("dm", digits, 1, network="convnet-d1-w4-in", **options)
    assert "BatchNorm" not in capsys.readouterr().err
