"""The training loop against a loop written from the published description, with the optimiser by hand."""

import copy
import math
from dataclasses import replace
from itertools import chain

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import condense
from condense.augmentation.dsa import Augmentation, augment, draw_per_image
from condense.labels import HardLabels, ProbabilityLabels, RegressionLabels, in_memory
from condense.labels.combined import Weighted
from condense.networks import build_network
from condense.runtime.errors import CondenseError
from condense.runtime.seeds import generator
from condense.training.loop import Diverged, Step, descend, train_network
from condense.training.prediction import accuracy, predict
from condense.training.presentation import Labelled
from condense.training.rule import TrainingRule
from condense.training.sources import Tensors

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def digits():
    return condense.load_data("digits")


@pytest.fixture(scope="module")
def source(digits):
    """26 images: three full batches of 8 and one of 2."""
    indices = torch.arange(26)
    return in_memory(digits.train.images(indices), HardLabels(digits.train.labels[indices]), digits.info)


def network(seed: int = 0, name: str = "convnet-d2-w4-in"):
    return build_network(name, (1, 8, 8), 10, seed)


def rule(**changes) -> TrainingRule:
    return TrainingRule(**{"lr": 0.05, "weight_decay": 5e-4, "batch_size": 8, "epochs": 4} | changes)


def trained(source, rule: TrainingRule, seed: int = 7) -> Tensor:
    return weights(train_network(network(), source, rule, seed=seed, device=CPU))


def weights(trained_network) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in trained_network.parameters()])


def naive_batches(source, epoch: int, seed: int, dsa: bool):
    order = torch.randperm(len(source), generator=generator(seed, "order", epoch)).tolist()
    for number, start in enumerate(range(0, len(order), 8)):
        chosen = order[start : start + 8]
        images = torch.stack([source.base.values[index] for index in chosen])
        if dsa:
            strategy = Augmentation.dsa(mirror=source.info.mirror)
            source_of_draws = generator(seed, "augmentation", epoch, number)
            images = augment(strategy, images, draw_per_image(strategy, (1, 8, 8), len(chosen), source_of_draws))
        yield images, source.labels.indices[chosen]


def naive_sgd(source, learning_rates, restart_before=(), dsa=False, momentum=0.9, decay=5e-4, seed=7) -> Tensor:
    """v = momentum v + (gradient + decay weight); weight -= lr v; v starts again before the epochs named."""
    net = network()
    parameters = list(net.parameters())
    velocity = [torch.zeros_like(parameter) for parameter in parameters]
    for epoch, lr in enumerate(learning_rates):
        if epoch in restart_before:
            velocity = [torch.zeros_like(parameter) for parameter in parameters]
        for images, labels in naive_batches(source, epoch, seed, dsa):
            logits = net(images)
            loss = -sum(logits[row].log_softmax(0)[label] for row, label in enumerate(labels)) / len(labels)
            gradients = torch.autograd.grad(loss, parameters)
            with torch.no_grad():
                for parameter, v, gradient in zip(parameters, velocity, gradients):
                    v.mul_(momentum).add_(gradient + decay * parameter)
                    parameter.sub_(lr * v)
    return weights(net)


def close(first: Tensor, second: Tensor) -> bool:
    return torch.allclose(first, second, rtol=1e-3, atol=1e-5)


def published_learning_rates(lr: float, epochs: int) -> tuple[list[float], list[int]]:
    """The published loop: epochs 0..E; after epoch E // 2 + 1 the rate falls and the optimiser is made anew."""
    used, restarts = [], []
    for epoch in range(epochs + 1):
        used.append(lr)
        if epoch == epochs // 2 + 1:
            lr *= 0.1
            restarts.append(epoch + 1)
    return used, restarts


def test_the_drop_is_the_published_one(source):
    dropping = rule(schedule="drop", extra_epoch=True, restart_optimizer=True)
    rates, restarts = published_learning_rates(0.05, 4)
    assert len(rates) == 5
    assert restarts == [4]
    assert close(trained(source, dropping), naive_sgd(source, rates, restarts))


@pytest.mark.parametrize("wrong", ["no restart", "one epoch less", "dropped an epoch earlier"])
def test_the_comparison_would_notice_another_schedule(source, wrong: str):
    rates, restarts = published_learning_rates(0.05, 4)
    if wrong == "no restart":
        restarts = []
    elif wrong == "one epoch less":
        rates = rates[:-1]
    else:
        rates, restarts = [0.05, 0.05, 0.05, 0.005, 0.005], [3]
    dropping = rule(schedule="drop", extra_epoch=True, restart_optimizer=True)
    assert not close(trained(source, dropping), naive_sgd(source, rates, restarts))


def test_the_drop_without_restart_keeps_momentum(source):
    rates, _ = published_learning_rates(0.05, 4)
    assert close(trained(source, rule(schedule="drop", extra_epoch=True)), naive_sgd(source, rates))


@pytest.mark.parametrize("epochs", [1, 2, 3, 100, 300, 1000])
def test_which_epoch_runs_at_which_rate(epochs: int):
    published = rule(lr=0.01, epochs=epochs, schedule="drop", extra_epoch=True, restart_optimizer=True)
    rates, restarts = published_learning_rates(0.01, epochs)
    assert [published.learning_rate(epoch) for epoch in range(published.epochs_run(26))] == pytest.approx(rates)
    begun = [epoch for epoch in range(published.epochs_run(26)) if published.restarts(epoch)]
    assert begun == [0, *(epoch for epoch in restarts if epoch <= epochs)]


def test_cosine_and_constant(source):
    cosine = [0.05 * 0.5 * (1 + math.cos(math.pi * epoch / 4)) for epoch in range(4)]
    assert close(trained(source, rule(schedule="cosine")), naive_sgd(source, cosine))
    assert close(trained(source, rule()), naive_sgd(source, [0.05] * 4))


def torch_rates(epochs: int, milestones: list[int], factor: float) -> list[float]:
    """What the published code gets of torch: a scheduler that is stepped after every epoch."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.01)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, factor)
    rates = []
    for _ in range(epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize(
    ("schedule", "factor", "parts", "fewest"),
    [("two-drops", 0.2, [(2, 3), (5, 6)], 2), ("fifths", 0.5, [(part, 5) for part in range(1, 5)], 5)],
)
def test_drops_come_in_the_epochs_of_the_published_code(
    schedule: str, factor: float, parts: list[tuple[int, int]], fewest: int
):
    for epochs in (*range(fewest, 62), 300, 1000, 2000):  # most are multiples of neither 5 nor 6
        milestones = [count * epochs // whole for count, whole in parts]
        ours = rule(lr=0.01, epochs=epochs, schedule=schedule)
        rates = [ours.learning_rate(epoch) for epoch in range(ours.epochs_run(26))]
        assert rates == pytest.approx(torch_rates(epochs, milestones, factor), rel=1e-12)


@pytest.mark.parametrize("schedule", ["two-drops", "fifths"])
@pytest.mark.parametrize("epochs", [1, 2, 3, 4])
def test_the_first_epoch_is_at_the_full_rate(schedule: str, epochs: int):
    assert rule(lr=0.01, epochs=epochs, schedule=schedule).learning_rate(0) == 0.01


@pytest.mark.parametrize("mirror", [False, True])
def test_augmentation_is_drawn_for_every_batch_and_flips_as_the_data_allows(source, mirror: bool):
    source = replace(source, info=replace(source.info, mirror=mirror))
    ours = trained(source, rule(augmentation="dsa"))
    assert close(ours, naive_sgd(source, [0.05] * 4, dsa=True))
    assert not close(ours, naive_sgd(source, [0.05] * 4))


def test_align_corners_reaches_the_augmentation(source):
    assert not torch.equal(
        trained(source, rule(augmentation="dsa")), trained(source, rule(augmentation="dsa", align_corners=True))
    )


def test_adamw_against_torch(source):
    net = network()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01, weight_decay=0.1)
    for epoch in range(4):
        for images, labels in naive_batches(source, epoch, 7, dsa=False):
            optimizer.zero_grad()
            F.nll_loss(net(images).log_softmax(1), labels).backward()
            optimizer.step()
    assert close(trained(source, rule(optimizer="adamw", lr=0.01, weight_decay=0.1)), weights(net))


def test_norms_and_biases_do_not_decay_where_a_rule_says_so(source):
    net = network()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01, weight_decay=0.0)
    for epoch in range(4):
        for images, labels in naive_batches(source, epoch, 7, dsa=False):
            optimizer.zero_grad()
            F.nll_loss(net(images).log_softmax(1), labels).backward()
            with torch.no_grad():  # decoupled decay, by hand
                for module in net.modules():
                    if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
                        module.weight *= 1 - 0.01 * 0.1
            optimizer.step()
    decayed = rule(optimizer="adamw", lr=0.01, weight_decay=0.1, decayed="weights")
    assert close(trained(source, decayed), weights(net))
    assert not close(trained(source, decayed.model_copy(update={"decayed": "all"})), weights(net))


@pytest.mark.parametrize(("updates", "more"), [(10, None), (3, (25, 11)), (12, (26, 99))])
def test_a_training_of_updates_against_a_loop(source, updates: int, more: tuple[int, int] | None):
    """26 images in batches of 8, 8, 8 and 2 until so many updates are made; torch's Adam, at a rate for each."""
    counted = rule(optimizer="adam", lr=0.01, weight_decay=0.0, epochs=None, updates=updates, more_updates=more)
    counted = counted.model_copy(update={"warmup": 4, "schedule": "cosine", "last_rate": 0.1})
    length = updates if more is None or more[0] >= 26 else more[1]
    net = network()
    optimizer = torch.optim.Adam(net.parameters())
    batches = chain(*(naive_batches(source, epoch, 7, dsa=False) for epoch in range(9)))
    for update, (images, labels) in zip(range(length), batches):
        part = (update - 4) / (length - 4)
        cosine = 0.001 + 0.009 * (1 + math.cos(math.pi * part)) / 2
        optimizer.param_groups[0]["lr"] = 0.01 * update / 4 if update < 4 else cosine
        optimizer.zero_grad()
        F.cross_entropy(net(images), labels).backward()
        optimizer.step()
    assert counted.epochs_run(26) == math.ceil(length / 4)
    assert close(trained(source, counted), weights(net))


def test_values_are_predicted_by_their_squared_error(source):
    values = torch.randn(26, 10, generator=torch.Generator().manual_seed(0))
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    for epoch in range(2):
        order = torch.randperm(26, generator=generator(7, "order", epoch))
        for chosen in order.split(8):
            loss = ((net(source.base.values[chosen]) - values[chosen]) ** 2).sum() / 2 / len(chosen)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert close(trained(replace(source, labels=RegressionLabels(values)), rule(epochs=2)), weights(net))


def test_a_step_knows_its_epoch_and_images(source):
    seen = []

    def noted(step: Step) -> Tensor:
        assert torch.equal(step.batch.plain, source.base.values[step.batch.ids])
        seen.append((step.batch.epoch, step.batch.ids.tolist()))
        return descend(step)

    train_network(network(), source, rule(epochs=2, augmentation="dsa"), seed=7, device=CPU, update=noted)
    for epoch in range(2):
        ids = [row for number, rows in seen for row in rows if number == epoch]
        assert ids == torch.randperm(26, generator=generator(7, "order", epoch)).tolist()


class Watched(Tensors):
    """Remembers which images were asked for together."""

    def images(self, indices: Tensor) -> Tensor:
        self.__dict__.setdefault("asked", []).append(indices.tolist())
        return super().images(indices)


def test_every_epoch_sees_every_image_once_in_its_own_order(source):
    watched = Watched(source.base.values)
    trained(Labelled(watched, source.labels, source.info), rule(epochs=3))
    assert [len(batch) for batch in watched.asked] == [8, 8, 8, 2] * 3
    orders = [list(chain(*watched.asked[start : start + 4])) for start in (0, 4, 8)]
    assert all(sorted(order) == list(range(26)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3


def test_equal_arguments_give_equal_networks(source):
    augmented = rule(augmentation="dsa")
    assert torch.equal(trained(source, augmented), trained(source, augmented))
    assert not close(trained(source, augmented), trained(source, augmented, seed=8))


def test_global_random_state_is_left_alone(source):
    before = torch.random.get_rng_state()
    trained(source, rule(augmentation="dsa"))
    assert torch.equal(before, torch.random.get_rng_state())


def test_one_hot_labels_train_as_class_indices_do(source):
    soft = replace(source, labels=ProbabilityLabels(F.one_hot(source.labels.indices, 10).float()))
    assert torch.allclose(trained(soft, rule()), trained(source, rule()), atol=1e-6)


def test_soft_labels_weigh_the_classes(source):
    soft = torch.rand(26, 10, generator=torch.Generator().manual_seed(0)).softmax(1)
    one_step = rule(epochs=1, batch_size=26, momentum=0.0, weight_decay=0.0)
    net = network()
    loss = 0
    for row, logits in enumerate(net(source.base.values)):
        loss = loss - sum(soft[row, k] * logits.log_softmax(0)[k] for k in range(10)) / 26
    gradients = torch.autograd.grad(loss, list(net.parameters()))
    expected = weights(net) - 0.05 * torch.cat([gradient.flatten() for gradient in gradients])
    assert torch.allclose(trained(replace(source, labels=ProbabilityLabels(soft)), one_step), expected, atol=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
def test_mixup_takes_images_and_labels_in_one_share(weighted: bool):
    """Pixels tell how much of which image there is, and so what the label has to be."""
    info = condense.load_data("digits").info
    images, weights = torch.eye(10).view(10, 1, 1, 10).expand(10, 1, 8, 10).contiguous(), torch.arange(1.0, 11.0)
    labels = HardLabels(torch.arange(10))
    source = in_memory(images, Weighted(labels, weights) if weighted else labels, info)
    presented = source.presented(rule(mixup=0.8, augmentation=None), 0, CPU)
    shares = set()
    for epoch in range(4):
        batch = presented.batch(epoch, 0, torch.arange(10))
        parts = batch.images[:, 0, 0]  # how much of each image
        if weighted:
            torch.testing.assert_close(batch.targets.weights, parts @ weights)
            parts = parts * weights / (parts @ weights)[:, None]
        torch.testing.assert_close(batch.targets.values, parts)
        shares |= {round(share, 4) for share in batch.images[:, 0, 0].diagonal().tolist() if share < 1}
    assert len(shares) == 4  # one for each batch


def test_divergence_is_an_error_that_names_the_epoch(digits, source):
    net = network()
    with pytest.raises(Diverged, match=r"diverged in epoch \d of 4 at learning rate 1e\+30"):
        train_network(net, source, rule(lr=1e30), seed=0, device=CPU)
    assert not net.training
    assert accuracy(net, digits.train.subset(torch.arange(26)), CPU) == 0.0


def test_networks_come_back_in_evaluation_mode(source):
    net = train_network(network(name="convnet-d2-w4-bn"), source, rule(epochs=1), seed=0, device=CPU)
    assert not any(module.training for module in net.modules())


@pytest.mark.parametrize("count", [9, 17])
def test_batch_norm_takes_a_single_image_that_is_left_over_into_the_batch_before(digits, count: int):
    """By a loop with torch's own layers; maps of the last block have one value an image, which torch would refuse."""
    indices = torch.arange(count)
    source = in_memory(digits.train.images(indices), HardLabels(digits.train.labels[indices]), digits.info)
    found = network(name="convnet-d3-w4-bn")
    expected = copy.deepcopy(found)
    optimizer = torch.optim.SGD(expected.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    train_network(found, source, rule(epochs=1), seed=7, device=CPU)
    order = torch.randperm(count, generator=generator(7, "order", 0))
    last = count - 9
    for batch in (*order[:last].split(8), order[last:]):
        optimizer.zero_grad()
        F.cross_entropy(expected.train()(source.base.images(batch)), source.labels.indices[batch]).backward()
        optimizer.step()
    torch.testing.assert_close(weights(found), weights(expected), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("count", "batch_size"), [(1, 8), (26, 1)])
def test_batch_norm_needs_two_images_at_once(digits, count: int, batch_size: int):
    indices = torch.arange(count)
    source = in_memory(digits.train.images(indices), HardLabels(digits.train.labels[indices]), digits.info)
    message = f"BatchNorm in convnet-d2-w4-bn needs at least 2 images .*there are {count} in batches of {batch_size}"
    with pytest.raises(CondenseError, match=message):
        train_network(network(name="convnet-d2-w4-bn"), source, rule(batch_size=batch_size), seed=0, device=CPU)
    train_network(network(), source, rule(batch_size=batch_size, epochs=1), seed=0, device=CPU)


def test_predictions_are_those_of_one_forward(digits):
    net = network(name="convnet-d2-w4-bn").train()
    logits = predict(net, digits.test, CPU)
    assert len(digits.test) > 256  # more than one batch
    assert torch.allclose(logits, net(digits.test.images(torch.arange(len(digits.test)))), atol=1e-5)
    right = sum(int(row.argmax()) == label for row, label in zip(logits, digits.test.labels.tolist()))
    assert accuracy(net, digits.test, CPU) == pytest.approx(right / len(digits.test))
    assert not logits.requires_grad
    (logits * torch.ones(10, requires_grad=True)).sum().backward()  # an inference tensor would refuse


def test_rules_refuse_what_makes_no_sense():
    for wrong in ({"lr": 0}, {"momentum": 1.0}, {"batch_size": 0}, {"epochs": 0}, {"schedule": "step"}, {"decay": 1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            rule(**wrong)


def test_each_part_of_a_mixed_image_counts_as_the_image_that_it_is_of() -> None:
    """The loss of a batch is the mean over all parts, each with the weight of its image and its share of the area."""
    info = condense.load_data("digits").info
    images, labels = torch.zeros(6, 1, 8, 8), torch.tensor([0, 1, 2, 3, 4, 5])
    images += torch.arange(6.0).view(6, 1, 1, 1)  # so that pixels tell whose they are
    weights = torch.tensor([0.0, 1.0, 2.0, 0.0, 5.0, 1.0])
    outputs = torch.randn(6, 10, generator=torch.Generator().manual_seed(0))
    losses = -outputs.log_softmax(1)
    rule = TrainingRule(lr=0.1, batch_size=6, epochs=1, cutmix=1.0)
    source = in_memory(images, Weighted(HardLabels(labels), weights), info)
    presented, mixed = source.presented(rule, 0, torch.device("cpu")), 0
    for epoch in range(4):
        batch = presented.batch(epoch, 0, torch.arange(6))
        owners = batch.images.flatten(1).long()  # (N, pixels)
        mixed += int((owners != torch.arange(6)[:, None]).any())
        total = sum(weights[owners[row]] @ losses[row, labels[owners[row]]] for row in range(6))
        targets = batch.targets
        found = targets.loss(outputs, targets.values, targets.weights)
        torch.testing.assert_close(found, total / weights[owners].sum())
    assert mixed > 1
