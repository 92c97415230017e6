"""Gradient matching as a method: its loop, its networks, its recipes, and that it learns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import condense
from condense.augmentation.dsa import Augmentation, augment, draw_per_class, draw_per_image
from condense.data import TrainingData
from condense.data.budget import Budget
from condense.data.sampling import sample
from condense.methods.interface import Job
from condense.networks import build_network
from condense.recipes import load_recipe
from condense.runtime.seeds import derive_seed, generator
from condense.synthesizers.gradient_matching import GradientMatching, SiameseGradientMatching

QUICK = {"network": "convnet-d1-w4", "real_batch": 4}


@pytest.fixture(scope="module")
def digits():
    return condense.load_data("digits")


def synthesizer(data: TrainingData, kind=GradientMatching, **settings) -> GradientMatching:
    job = Job(data, Budget(ipc=1), 0, torch.device("cpu"))
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


class Reference:
    """A run written out: layers of the network one by one, gradients differentiated twice, every SGD by hand.

    `parameters` are a convnet's: of each block weight and bias of convolution and norm, at the end those of the
    classifier. Networks, batches and augmentations are drawn by the generators that the method uses.
    """

    def __init__(self, made: GradientMatching) -> None:
        settings = made.settings
        self.data, self.ipc, self.labels = made.data, made.job.ipc, made.labels
        self.name, self.distance, self.closure = settings.network, settings.distance, settings.flip_closure
        self.strategy = None if settings.augmentation == "none" else Augmentation.dsa(mirror=True)
        self.images = made.images.detach().clone().requires_grad_()
        self.velocity = torch.zeros_like(self.images)
        self.parameters: list[Tensor] = []
        self.statistics: list[tuple[Tensor, Tensor]] = []  # of BatchNorm: mean and variance, block by block

    def step(self, iteration: int) -> float:
        """One update of the images; the second match in a network is its last."""
        number, match = divmod(iteration, 2)
        if match == 0:
            self.begin(number)
        if self.statistics:
            chosen = [self.drawn("statistics", 16, iteration, label) for label in range(3)]
            self.logits(self.data.images(torch.cat(chosen)), training=True)
        total = sum(self.class_distance(iteration, label) for label in range(3))
        (gradient,) = torch.autograd.grad(total, self.images)
        self.velocity = 0.5 * self.velocity + gradient
        self.images = (self.images - 0.1 * self.velocity).detach().requires_grad_()
        if match == 0:
            self.train(iteration)
        return total.item()

    def begin(self, number: int) -> None:
        """The random network of this number; BatchNorm starts without statistics."""
        fresh = build_network(self.name, (3, 8, 12), 3, derive_seed(0, "network", number))
        self.parameters = [value.detach().clone().requires_grad_() for value in fresh.parameters()]
        if self.name.endswith("bn"):
            self.statistics = [(torch.zeros(4), torch.ones(4)) for _ in range(2)]

    def logits(self, images: Tensor, *, training: bool = False) -> Tensor:
        """Two blocks of convolution, norm, rectifier and pooling, then the classifier."""
        for block in range(2):
            weight, bias, gain, offset = self.parameters[4 * block : 4 * block + 4]
            images = F.conv2d(images, weight, bias, padding=1)
            if self.statistics:
                images = F.batch_norm(images, *self.statistics[block], gain, offset, training=training)
            else:
                centred = images - images.mean((2, 3), keepdim=True)
                spread = (centred.square().mean((2, 3), keepdim=True) + 1e-5).sqrt()
                images = gain.view(-1, 1, 1) * centred / spread + offset.view(-1, 1, 1)
            images = F.avg_pool2d(images.clamp(min=0), 2)
        return images.flatten(1) @ self.parameters[-2].T + self.parameters[-1]

    def gradient(self, images: Tensor, labels: Tensor, **options: bool) -> tuple[Tensor, ...]:
        """Of the mean cross-entropy, differentiable once more."""
        logits = self.logits(images, **options)
        loss = -logits.log_softmax(1).gather(1, labels[:, None]).mean()
        return torch.autograd.grad(loss, self.parameters, create_graph=True)

    def class_distance(self, iteration: int, label: int) -> Tensor:
        """Between the gradients of one class, both seen through the one draw of the class."""
        real = self.data.images(self.drawn("real batch", 5, iteration, label))
        synthetic = self.closed(self.images[label * self.ipc : (label + 1) * self.ipc])
        if self.strategy is not None:
            draws = draw_per_class(self.strategy, (3, 8, 12), 3, generator(0, "augmentation", iteration))
            row = draws.expand(torch.tensor([label]))
            real, synthetic = (augment(self.strategy, images, row) for images in (real, synthetic))
        gradients = [self.gradient(images, torch.full((len(images),), label)) for images in (real, synthetic)]
        pairs = [(left.detach(), right) for left, right in zip(*gradients)]
        if self.distance == "mse":
            return sum(((left - right) ** 2).sum() for left, right in pairs)
        rows = [row for left, right in pairs if left.dim() > 1 for row in zip(left.flatten(1), right.flatten(1))]
        assert len(rows) == 4 + 4 + 3
        return sum(1 - (left @ right) / (left.norm() * right.norm() + 1e-6) for left, right in rows)

    def train(self, iteration: int) -> None:
        """Three epochs on the synthetic images as they are now, in batches of 256, each augmented image by image."""
        images, labels = self.closed(self.images.detach()), self.labels.repeat(2 if self.closure else 1)
        seed = derive_seed(0, "inner training", iteration)
        for epoch in range(3):
            order = torch.randperm(len(images), generator=generator(seed, "order", epoch))
            for number, rows in enumerate(order.split(256)):
                batch = images[rows]
                if self.strategy is not None:
                    draws = generator(seed, "augmentation", epoch, number)
                    batch = augment(self.strategy, batch, draw_per_image(self.strategy, (3, 8, 12), len(rows), draws))
                gradient = self.gradient(batch, labels[rows], training=True)
                moved = [value - 0.1 * change for value, change in zip(self.parameters, gradient)]
                self.parameters = [value.detach().requires_grad_() for value in moved]

    def closed(self, images: Tensor) -> Tensor:
        """With their mirror images, if these are asked for."""
        return torch.cat([images, images.flip(3)]) if self.closure else images

    def drawn(self, purpose: str, count: int, iteration: int, label: int) -> Tensor:
        """So many real images of a class."""
        return sample(self.data.class_indices(label), count, generator(0, purpose, iteration, label))


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """60 images in three classes of different brightness, in colour and not square, that may be mirrored."""
    draws = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("data") / "photographs.npz"
    labels = np.arange(60) % 3
    images = (draws.integers(0, 128, (60, 8, 12, 3)) + 50 * labels[:, None, None, None]).astype(np.uint8)
    np.savez(path, train_images=images, train_labels=labels, test_images=images[:9], test_labels=labels[:9])
    return condense.load_data(path)


@pytest.mark.parametrize(
    ("kind", "ipc", "changes"),
    [
        (GradientMatching, 2, {}),
        (GradientMatching, 2, {"distance": "mse"}),
        (GradientMatching, 2, {"network": "convnet-d2-w4-bn"}),
        (GradientMatching, 2, {"flip_closure": True}),
        (GradientMatching, 90, {}),  # more than one batch in an inner epoch
        (SiameseGradientMatching, 2, {}),
        (SiameseGradientMatching, 2, {"network": "convnet-d2-w4-bn"}),
        (SiameseGradientMatching, 2, {"flip_closure": True}),
        (SiameseGradientMatching, 90, {"initialization": "noise"}),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else str(value),
)
def test_whole_updates_against_a_naive_reference(photographs, kind: type, ipc: int, changes: dict):
    """Two networks of two matches each: images, losses, and networks after their training."""
    settings = {"network": "convnet-d2-w4-in", "real_batch": 5, "matching_steps": 2, "inner_epochs": 3}
    job = Job(photographs.train, Budget(ipc=ipc), 0, torch.device("cpu"))
    made = kind(job, kind.Settings(**settings | {"image_lr": 0.1, "network_lr": 0.1} | changes))
    reference = Reference(made)
    assert reference.closure is False or 2 * len(made.labels) <= 256  # the order in a closed batch is nobody's choice
    start = made.images.detach().clone()
    for iteration in range(4):
        assert made.step(iteration)["loss"] == pytest.approx(reference.step(iteration), rel=1e-4)
        moved, wanted = made.images.detach() - start, reference.images.detach() - start
        assert (moved - wanted).norm() < 1e-3 * wanted.norm()
        for found, value in zip(made.network.parameters(), reference.parameters, strict=True):
            torch.testing.assert_close(found.detach(), value.detach(), rtol=1e-3, atol=1e-5)
        for norm, statistics in zip(made.norms, reference.statistics, strict=True):
            torch.testing.assert_close((norm.running_mean, norm.running_var), statistics, rtol=1e-3, atol=1e-5)


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


def test_dsa_lowers_its_loss_and_beats_random_on_digits(digits, gain_over_random, loss_left, tmp_path: Path):
    options = {"network": "convnet-w8", "real_batch": 32}
    made = condense.distill("dsa", digits, 1, iterations=50, image_lr=0.5, out=tmp_path / "set.h5", **options)
    assert loss_left(made, digits, **options) < 0.95
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
