"""IDM against a naive reference: class means by hand, torch's optimisers, and the queue step by step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import condense
from condense.augmentation.dsa import augment
from condense.data import TrainingData
from condense.data.budget import Budget
from condense.methods.interface import Job
from condense.networks import Network, build_network
from condense.runtime.seeds import derive_seed
from condense.synthesizers.improved_distribution_matching import ImprovedDistributionMatching, Tally

CPU = torch.device("cpu")
QUICK = {"network": "convnet-d2-w4-in", "real_batch": 5, "network_batch": 8, "network_steps": 2}


@pytest.fixture(scope="module")
def digits():
    return condense.load_data("digits")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """45 images in three classes of different brightness: less than a usual batch."""
    draws = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("data") / "small.npz"
    labels = np.arange(45) % 3
    images = (draws.integers(0, 128, (45, 8, 8)) + 50 * labels[:, None, None]).astype(np.uint8)
    np.savez(path, train_images=images, train_labels=labels, test_images=images[:9], test_labels=labels[:9])
    return condense.load_data(path)


def synthesizer(data: TrainingData, ipc: int = 1, **settings) -> ImprovedDistributionMatching:
    values = ImprovedDistributionMatching.Settings(**QUICK | settings)
    return ImprovedDistributionMatching(Job(data, Budget(ipc=ipc), 0, CPU), values)


def fresh_network(number: int, network: str = QUICK["network"], classes: int = 10) -> Network:
    return build_network(network, (1, 8, 8), classes, derive_seed(0, "network", number))


def values_of(network: Network) -> Tensor:
    return torch.cat([value.detach().flatten() for value in network.parameters()])


def naive_decode(images: Tensor) -> Tensor:
    tiles = [images[:, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] for row in (0, 1) for column in (0, 1)]
    return torch.cat([F.interpolate(tile, size=(8, 8), mode="bilinear") for tile in tiles])


def percents(made: ImprovedDistributionMatching) -> list[float]:
    return [tally.percent for tally in made.tallies]


class Reference:
    """The images and their optimiser; a step in a given network with a given weight of the classification."""

    def __init__(self, made: ImprovedDistributionMatching, images: Tensor, momentum: Tensor | None = None) -> None:
        self.made, self.images = made, images.clone().requires_grad_()
        self.optimizer = torch.optim.SGD([self.images], lr=0.2, momentum=0.5)
        if momentum is not None:
            self.optimizer.state[self.images]["momentum_buffer"] = momentum.clone()

    def step(self, iteration: int, network: Network, weight: float, ipc: int) -> tuple[float, float]:
        """L_c = |mean f(real) - mean f(synthetic)|^2 + weight CE, one step for each class."""
        network.eval()
        draws, matched, classified = self.made.class_draws(iteration), 0.0, 0.0
        for label in range(10):
            row = draws.expand(torch.tensor([label]))
            real = self.made.data.images(self.made.real_batch(iteration, label))
            decoded = naive_decode(self.images[label * ipc : (label + 1) * ipc])
            if self.made.settings.flip_closure:
                decoded = torch.cat([decoded, decoded.flip(3)])
            real, seen = (augment(self.made.augmentation, images, row) for images in (real, decoded))
            difference = network.features(real).flatten(1).mean(0).detach() - network.features(seen).flatten(1).mean(0)
            entropy = -network(seen).log_softmax(1)[:, label].mean()
            loss = (difference**2).sum() + weight * entropy
            self.optimizer.zero_grad()
            (self.images.grad,) = torch.autograd.grad(loss, self.images)
            self.optimizer.step()
            matched, classified = matched + (difference**2).sum().item(), classified + entropy.item() / 10
        return matched, classified


@pytest.mark.parametrize(
    ("network", "closure"), [("convnet-d2-w4-in", False), ("convnet-d2-w4-bn", False), ("convnet-d2-w4-in", True)]
)
def test_iterations_against_a_naive_reference(digits, network: str, closure: bool):
    """In one network of the queue, which differ in weight: the reference has to agree for exactly one of them."""
    settings = {"network": network, "flip_closure": closure}
    made = synthesizer(digits.train, 2, classification_weight=0.02, networks_trained=2, **settings)
    made.step(0)
    places = set()
    for iteration in (1, 2):
        made.tallies = [Tally(1, 10), Tally(4, 10), Tally(6, 10), Tally(9, 10)]
        images, networks = made.images.detach().clone(), []
        momentum = made.optimizer.state[made.images]["momentum_buffer"]
        references = [Reference(made, images, momentum) for _ in range(4)]
        for inner in made.queue.members:
            networks.append(build_network(network, (1, 8, 8), 10, 0))
            networks[-1].load_state_dict(inner.network.state_dict())
        expected = [
            reference.step(iteration, each, 0.02 * percent, 2)
            for reference, each, percent in zip(references, networks, (10, 40, 60, 90))
        ]
        found = made.step(iteration)
        agree = [
            place
            for place in range(4)
            if found["loss"] == pytest.approx(expected[place][0], rel=1e-3)
            and found["classification"] == pytest.approx(expected[place][1], rel=1e-3)
        ]
        assert len(agree) == 1
        moved = made.images.detach() - images
        torch.testing.assert_close(moved, references[agree[0]].images.detach() - images, rtol=1e-3, atol=1e-5)
        places.add(agree[0])
    assert len(places) == 2  # drawn anew


def test_the_classification_weighs_as_much_as_the_network_is_accurate(digits):
    """With accuracy zero there is only matching; w a counts as a product."""

    def moved(weight: float, right: int) -> Tensor:
        made = synthesizer(digits.train, classification_weight=weight, networks_trained=0)
        made.tallies = [Tally(right, 100)] * 3
        start = made.images.detach().clone()
        made.step(1)
        return made.images.detach() - start

    plain = moved(0.0, 50)
    assert torch.equal(moved(0.5, 0), plain)
    torch.testing.assert_close(moved(0.5, 20), moved(0.1, 100), rtol=1e-4, atol=1e-6)
    once, twice = moved(0.5, 10) - plain, moved(0.5, 20) - plain
    assert once.norm() > 0.01
    torch.testing.assert_close(twice[0], 2 * once[0], rtol=1e-2, atol=1e-4)


def plainly_trained(count: int, lr: float) -> list[tuple[Network, torch.optim.Optimizer]]:
    """The first networks of a queue for three classes, each with torch's optimiser."""
    networks = [fresh_network(number, classes=3) for number in range(count)]
    return [
        (network, torch.optim.SGD(network.parameters(), lr=lr, momentum=0.9, weight_decay=5e-4)) for network in networks
    ]


def test_accuracies_are_those_of_all_trainings_in_a_window(small):
    """Percent of the images before each step, over all steps since the window began."""
    settings = {"network_batch": 45, "network_lr": 0.1, "networks_trained": 4, "network_steps": 2}
    made = synthesizer(small.train, accuracy_window=3, **settings)
    assert percents(made) == [0.0, 0.0, 0.0]
    images, labels = small.train.images(torch.arange(45)), small.train.labels
    networks = plainly_trained(4, lr=0.1)
    seen: list[list[float]] = []
    for iteration in range(8):
        if iteration % 3 == 0:
            seen = [[], [], [], []]
        for (network, optimizer), percentages in zip(networks, seen):
            for _ in range(2):
                logits = network(images)
                right = sum(int(row.argmax()) == int(label) for row, label in zip(logits, labels))
                percentages.append(100 * right / 45)
                optimizer.zero_grad()
                F.cross_entropy(logits, labels).backward()
                optimizer.step()
        made.step(iteration)
        assert percents(made) == pytest.approx([sum(each) / len(each) for each in seen])
    assert max(percents(made)) > 50


def test_a_network_that_was_not_trained_in_a_window_weighs_nothing(small):
    """Of the 0.9 and more of its accuracies that a queue would keep for ever, a window forgets those of others."""
    made = synthesizer(small.train, accuracy_window=2, networks_trained=1, network_batch=45, network_steps=1)
    for iteration in range(8):
        made.step(iteration)
        trained = sum(tally.seen > 0 for tally in made.tallies)
        assert trained == 1 if iteration % 2 == 0 else 1 <= trained <= 2
        assert sum(tally.seen for tally in made.tallies) == 45 * (1 + iteration % 2)


def test_no_accuracy_is_looked_at_where_it_weighs_nothing(small):
    made = synthesizer(small.train, networks_trained=3, network_steps=1, network_batch=45, classification_weight=0.0)
    made.step(0)
    made.step(1)
    assert percents(made) == [0.0, 0.0, 0.0, 0.0]


def test_networks_are_trained_on_real_images_and_keep_their_momentum(small):
    """Batches of all images need no draws: SGD 0.01 with momentum 0.9 and weight decay 5e-4, no augmentation."""
    made = synthesizer(small.train, networks_trained=4, network_steps=1, network_batch=45)
    networks = plainly_trained(4, lr=0.01)
    images, labels = small.train.images(torch.arange(45)), small.train.labels
    for iteration in range(4):
        made.step(iteration)
        for network, optimizer in networks:
            optimizer.zero_grad()
            (-network(images).log_softmax(1)[torch.arange(45), labels].mean()).backward()
            optimizer.step()
    for inner, (network, _) in zip(made.queue.members, networks):
        torch.testing.assert_close(values_of(inner.network), values_of(network), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("batch", [15, 45, 64])
def test_a_training_has_so_many_steps_however_few_images_there_are(small, batch: int):
    made = synthesizer(small.train, networks_trained=1, network_steps=6, network_batch=batch)
    sizes = []
    made.training_engine.network.register_forward_pre_hook(lambda network, inputs: sizes.append(len(inputs[0])))
    made.step(0)
    assert sizes == [min(batch, 45)] * 6


def test_so_many_networks_are_trained_in_an_iteration(digits):
    for count in (0, 1, 2, 3):
        made = synthesizer(digits.train, networks_trained=count)
        made.step(0)
        before = [values_of(inner.network) for inner in made.queue.members]
        made.step(1)
        after = [values_of(inner.network) for inner in made.queue.members]
        assert sum(not torch.equal(*pair) for pair in zip(before, after)) == count
    made = synthesizer(digits.train, networks_trained=1)
    trained = set()
    for iteration in range(1, 9):
        before = [values_of(inner.network) for inner in made.queue.members]
        made.step(iteration)
        pairs = zip(before, made.queue.members)
        trained |= {place for place, (old, inner) in enumerate(pairs) if not torch.equal(old, values_of(inner.network))}
    assert trained == {0, 1, 2}


def test_the_queue_grows_and_then_drops_the_oldest(digits):
    made = synthesizer(digits.train, networks_trained=0, queue=5, queue_interval=2)
    fresh = [values_of(fresh_network(number)) for number in range(9)]
    held = []
    for iteration in range(9):
        made.step(iteration)
        held.append([values_of(inner.network) for inner in made.queue.members])
        assert len(made.tallies) == len(made.queue.members)
    assert [len(networks) for networks in held] == [4, 4, 5, 5, 5, 5, 5, 5, 5]
    for iteration, first in ((0, 0), (2, 0), (4, 1), (6, 2), (8, 3)):
        for place, values in enumerate(held[iteration]):
            assert torch.equal(values, fresh[first + place])


def test_accuracies_stay_with_their_networks(digits):
    made = synthesizer(digits.train, networks_trained=0, queue=3, queue_interval=1)
    made.tallies = [Tally(11, 100), Tally(22, 100), Tally(33, 100)]
    made.step(1)
    made.step(2)
    assert percents(made) == [33.0, 0.0, 0.0]


def test_a_run_goes_on_with_its_queue(digits):
    """From saved tensors alone, the same numbers: networks, their momentum and accuracies."""
    settings = {"queue": 4, "queue_interval": 2, "networks_trained": 2}
    whole = synthesizer(digits.train, **settings)
    for iteration in range(3):
        whole.step(iteration)
    state = {name: value.clone() for name, value in whole.state().items()}
    assert any(".momentum_buffer" in name for name in state if name.startswith("pool."))
    resumed = synthesizer(digits.train, **settings)
    resumed.load_state(state)
    assert len(resumed.queue.members) == 4
    assert resumed.tallies == whole.tallies
    assert any(tally.seen for tally in whole.tallies)
    for iteration in range(3, 7):
        assert whole.step(iteration) == resumed.step(iteration)
    assert torch.equal(whole.images, resumed.images)
    left, right = whole.state(), resumed.state()
    assert left.keys() == right.keys()
    assert all(torch.equal(value, right[name]) for name, value in left.items())


def test_images_are_in_preprocessed_space_and_start_from_halved_real_ones(digits):
    made = synthesizer(digits.train)
    assert made.space.name == "preprocessed"
    for label in range(10):
        real = digits.train.images(digits.train.class_indices(label))
        halved = real.unflatten(2, (4, 2)).unflatten(4, (4, 2)).mean((3, 5))  # bilinear by two: means of 2 x 2 pixels
        tiles = [
            made.images.detach()[label, :, row : row + 4, column : column + 4] for row in (0, 4) for column in (0, 4)
        ]
        found = [(halved - tile).abs().flatten(1).amax(1).argmin().item() for tile in tiles]
        for number, tile in zip(found, tiles):
            torch.testing.assert_close(tile, halved[number])
        assert len(set(found)) == 4


def test_it_lowers_its_loss_and_beats_random_on_digits(digits, gain_over_random, loss_left):
    options = {"network": "convnet-w16", "real_batch": 64, "network_batch": 64, "network_steps": 1}
    options |= {"classification_weight": 0.02, "networks_trained": 1}
    made = condense.distill("idm", digits, 1, iterations=50, image_lr=0.5, **options)
    assert made.stored.shape == (10, 1, 8, 8)
    assert loss_left(made, digits, **options) < 0.95
    assert gain_over_random(made, digits) > 0.03
