"""Gradient matching as a method: its loop, its networks, its recipes, and that it learns."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import condense
from condense.data import TrainingData
from condense.making import Job
from condense.networks import build_network
from condense.recipes import load_recipe
from condense.runtime.seeds import derive_seed
from condense.synthesizers.gradient_matching import GradientMatching, SiameseGradientMatching

QUICK = {"network": "convnet-d1-w4", "real_batch": 4}


@pytest.fixture(scope="module")
def digits():
    return condense.load_data("digits")


def synthesizer(data: TrainingData, kind=GradientMatching, **settings) -> GradientMatching:
    job = Job(data, 1, 0, torch.device("cpu"))
    return kind(job, kind.Settings(**QUICK | settings))


def network_values(made: GradientMatching) -> torch.Tensor:
    return torch.cat([value.detach().flatten() for value in made.network.parameters()])


def test_a_network_lives_for_so_many_matches_and_is_trained_between_them(digits):
    made = synthesizer(digits.train, matching_steps=3, inner_epochs=2, iterations=6)
    values = []
    for iteration in range(6):
        made.step(iteration)
        values.append(network_values(made))
    fresh = [
        torch.cat(
            [
                value.detach().flatten()
                for value in build_network("convnet-d1-w4", (1, 8, 8), 10, derive_seed(0, "network", k)).parameters()
            ]
        )
        for k in range(2)
    ]
    assert not torch.equal(values[0], fresh[0])  # trained after the first match
    assert not torch.equal(values[0], values[1])
    assert torch.equal(values[1], values[2])  # after the last match it is not worth it
    assert not torch.equal(values[2], values[3])
    made.step(6)  # a third network; of its own
    second = synthesizer(digits.train, matching_steps=1, iterations=2)
    second.step(1)
    assert torch.equal(network_values(second), fresh[1])


def test_noise_and_no_augmentation_for_dc_real_images_and_augmentation_for_dsa(digits):
    plain = synthesizer(digits.train)
    assert plain.augmentation is None
    assert abs(plain.images.std().item() - 1) < 0.1
    siamese = synthesizer(digits.train, SiameseGradientMatching)
    assert siamese.augmentation is not None
    pixels = digits.train.images(torch.arange(len(digits.train)))
    assert all((pixels == image).flatten(1).all(1).any() for image in siamese.images.detach())


@pytest.mark.parametrize("distance", ["rows", "mse", "cos"])
def test_the_distance_falls_on_the_same_network_and_images(digits, distance: str):
    """Plain descent: every update with the draws of iteration 0."""
    made = synthesizer(digits.train, distance=distance, image_lr=0.05 if distance == "rows" else 1.0, real_batch=32)
    losses = [made.step(0)["loss"] for _ in range(12)]
    assert losses[-1] < 0.95 * losses[0]


def test_batch_norm_keeps_the_statistics_of_real_images_during_a_match(digits):
    made = synthesizer(digits.train, network="convnet-d1-w4-bn")
    before = [norm.running_mean.clone() for norm in made.norms]
    made.step(0)
    assert all(not norm.training for norm in made.norms)
    assert not torch.equal(before[0], made.norms[0].running_mean)


def test_published_loops_by_images_per_class():
    loops = {}
    for ipc in (1, 9, 10, 20, 50):
        settings = load_recipe("dc", None).settings_for("cifar10", ipc)
        loops[ipc] = settings["matching_steps"], settings["inner_epochs"], settings["iterations"]
    assert loops == {
        1: (1, 1, 1000),
        9: (1, 1, 1000),
        10: (10, 50, 10000),
        20: (20, 25, 20000),
        50: (50, 10, 50000),
    }
    assert load_recipe("dsa", None).settings_for("cifar10", 1)["initialization"] == "real"


def test_dsa_beats_random_on_digits(digits, gain_over_random, tmp_path: Path):
    made = condense.distill(
        "dsa", digits, 1, network="convnet-w8", real_batch=32, iterations=50, image_lr=0.5, out=tmp_path / "set.h5"
    )
    assert gain_over_random(made, digits) > 0.03


def test_dc_lowers_its_loss_and_beats_random_on_digits(digits, gain_over_random):
    """From noise."""
    options = {"network": "convnet-w8", "real_batch": 32}
    made = condense.distill("dc", digits, 1, iterations=60, image_lr=2.0, **options)
    start = condense.distill("dc", digits, 1, iterations=1, image_lr=1e-12, **options)
    assert ((made.stored - start.stored).flatten(1).abs().amax(1) > 0.1).all()
    loss = made.metrics["loss"]
    assert loss[-5:].mean() < 0.9 * loss[:5].mean()
    assert gain_over_random(made, digits) > 0.03
