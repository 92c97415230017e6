"""FRePo against naive code of one update and of its pool, in float64 where torch's own modules compute."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import condense
from condense.data import RealData
from condense.data.budget import Budget
from condense.labels import HardLabels, RegressionLabels
from condense.methods.interface import Job
from condense.networks import Network, build_network
from condense.runtime.errors import CondenseError
from condense.runtime.seeds import derive_seed, generator
from condense.synthesizers.feature_regression import FeatureRegression
from condense.training.rule import cosine_rate

CPU = torch.device("cpu")
QUICK = {"network": "conv-d2-w4-nonorm", "real_batch": 20, "image_lr": 0.01, "iterations": 10, "ridge": 1e-3}


def made(data: RealData, ipc: int = 2, **settings) -> FeatureRegression:
    values = FeatureRegression.Settings(**QUICK | settings)
    return FeatureRegression(Job(data.train, Budget(ipc=ipc), 0, CPU), values.for_length(values.iterations))


def naive_decode(images: Tensor) -> Tensor:
    tiles = [images[:, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] for row in (0, 1) for column in (0, 1)]
    return torch.cat([F.interpolate(tile, size=(8, 8), mode="bilinear") for tile in tiles])


def naive_loss(
    network: Network, images: Tensor, labels: Tensor, real: Tensor, classes: Tensor, flips: bool, factor: int
) -> Tensor:
    """Of section 2.1 of the paper's released code, in float64 and by a plain inverse."""
    learned = labels
    if factor == 2:
        images, labels = naive_decode(images), labels.repeat(4, 1)
    if flips:
        images, labels = torch.cat([images, images.flip(3)]), torch.cat([labels, labels])
    phi, phi_t = network.embed(images), network.embed(real).detach()
    gram = phi @ phi.T
    regular = gram + 1e-3 * gram.diagonal().sum() / len(gram) * torch.eye(len(gram), dtype=gram.dtype)
    said = phi_t @ phi.T @ torch.linalg.inv(regular) @ labels
    wanted = torch.eye(3, dtype=torch.float64)[classes] - 1 / 3
    ordered = learned.sort(1).values
    margin = -torch.minimum(ordered[:, -1] - ordered[:, -2], torch.tensor(1 / 3, dtype=torch.float64)).mean()
    return (0.5 * ((said - wanted) ** 2).sum(1)).mean() + margin


@pytest.mark.parametrize("network", ["conv-d2-w4-nonorm", "conv-d2-w4-bn", "convnet-d2-w4-in"])
@pytest.mark.parametrize(("flips", "factor"), [(False, 1), (None, 1), (True, 2)])
def test_an_update_goes_down_the_gradient_of_the_naive_loss(data, network: str, flips: bool | None, factor: int):
    """A first step of LAMB is x - lr |x| / |s| s, with s = g / (|g| + 1e-6) element by element."""
    start = "real" if factor == 1 else "tiles"
    method = made(data, network=network, flips=flips, factor=factor, initialization=start, networks=1)
    images, labels = method.images.detach().clone(), method.label_values.detach().clone()
    same = copy.deepcopy(method.pool.members[0].network).double().eval()
    method.step(0)
    _, features, wanted = method._real
    rows = [  # the real batch by its features: which images are in it
        (same.embed(data.train.images(torch.arange(60)).double()) - row).norm(dim=1).argmin().item() for row in features
    ]
    assert len(set(rows)) == 20
    classes = data.train.labels[rows]
    assert torch.equal(wanted.argmax(1), classes)
    leaves = [images.double().requires_grad_(), labels.double().requires_grad_()]
    real = data.train.images(torch.tensor(rows)).double()
    loss = naive_loss(same, *leaves, real, classes, flips is not False, factor)
    for before, after, slope in zip(
        (images, labels), (method.images, method.label_values), torch.autograd.grad(loss, leaves)
    ):
        update = slope / (slope.abs() + 1e-6)
        expected = -0.01 * before.norm() / update.norm() * update
        moved = (after.detach() - before).double()
        assert (moved - expected).norm() < 2e-3 * expected.norm()


def test_adam_moves_by_the_same_gradient(data):
    lamb, adam = made(data), made(data, image_optimizer="adam", image_lr=0.03)
    before = adam.images.detach().clone()
    for method in (lamb, adam):
        method.step(0)
    torch.testing.assert_close(adam.images.grad, lamb.images.grad)
    slope = adam.images.grad
    torch.testing.assert_close(
        adam.images.detach() - before, -0.03 * slope / (slope.abs() + 1e-8), rtol=1e-3, atol=1e-6
    )


def test_metrics_are_those_of_the_loss(data):
    method = made(data, flips=False, networks=1)
    images, labels = method.images.detach().clone(), method.label_values.detach().clone()
    same = copy.deepcopy(method.pool.members[0].network).double()
    found = method.step(0)
    _, features, wanted = method._real
    phi = same.embed(images.double())
    gram = phi @ phi.T
    regular = gram + 1e-3 * gram.diagonal().sum() / 6 * torch.eye(6, dtype=torch.float64)
    said = features @ phi.T @ torch.linalg.solve(regular, labels.double())
    assert found["loss"] == pytest.approx(0.5 * ((said - wanted) ** 2).sum(1).mean().item(), rel=1e-5)
    assert found["accuracy"] == (said.argmax(1) == wanted.argmax(1)).double().mean().item()
    assert found["margin"] == pytest.approx(1 / 3)


def test_labels_that_are_of_two_classes_at_once_are_driven_apart(data):
    """By the margin, which at the first labels is at its bound: of nothing else does the largest label move up."""
    method = made(data, networks=1, flips=False)
    with torch.no_grad():
        method.label_values.copy_(torch.tensor([0.3, 0.25, -0.55]).expand(6, 3))
    images, labels = (value.detach().double().requires_grad_() for value in (method.images, method.label_values))
    same = copy.deepcopy(method.pool.members[0].network).double()
    method.step(0)
    _, features, wanted = method._real
    phi = same.embed(images)
    gram = phi @ phi.T
    regular = gram + 1e-3 * gram.diagonal().sum() / 6 * torch.eye(6, dtype=torch.float64)
    loss = 0.5 * ((features @ phi.T @ torch.linalg.solve(regular, labels) - wanted) ** 2).sum(1).mean()
    (slope,) = torch.autograd.grad(loss, labels)
    margin = torch.tensor([-1.0, 1.0, 0.0], dtype=torch.float64) / 6
    torch.testing.assert_close(method.label_values.grad.double(), slope + margin, rtol=1e-3, atol=1e-5)


def test_large_sets_train_a_network_on_other_images_each_time(data):
    """Each batch is drawn anew, without replacement, with the labels of its images."""
    method = made(data, ipc=4, networks=1, network_batch=5, network_lr=0.003, labels="hard", flips=False)
    seen = []
    for iteration in range(4):
        before = copy.deepcopy(method.pool.members[0])
        method.step(iteration)
        images, labels, after = method.images.detach(), method.label_values, parameters(method)[0]
        draws = generator(0, "inner images", iteration)
        rows = torch.randperm(12, generator=draws)[:5]
        network = before.network.train()
        before.optimizer.zero_grad()
        (0.5 * ((network(images[rows]) - labels[rows]) ** 2).sum(1)).mean().backward()
        before.optimizer.step()
        torch.testing.assert_close(after, _flat(network), rtol=1e-3, atol=1e-5)
        seen.append(tuple(sorted(rows.tolist())))
    assert len(set(seen)) == 4


def test_labels_begin_centred_and_scaled_by_the_number_of_classes(data):
    values = made(data).label_values.detach()
    expected = (torch.eye(3) - 1 / 3).repeat_interleave(2, 0) / math.sqrt(3 / 10)
    torch.testing.assert_close(values, expected)


def test_hard_labels_stay_as_they_are_and_images_move_as_without_a_margin(data):
    hard, learned = made(data, labels="hard"), made(data)
    before = hard.label_values.clone()
    for method in (hard, learned):
        method.step(0)
    assert torch.equal(hard.label_values, before)
    assert torch.equal(hard.images, learned.images)
    assert not torch.equal(learned.label_values, before)
    assert "labels" not in hard.learned()
    kept = learned.learned()["labels"]
    assert isinstance(kept, RegressionLabels)
    assert torch.equal(kept.values, learned.label_values)
    assert torch.equal(kept.classes, hard.labels)


@pytest.mark.parametrize(("labels", "kind"), [("learned", RegressionLabels), ("hard", HardLabels)])
def test_sets_have_the_labels_that_were_learned(data, labels: str, kind: type):
    made = condense.distill("frepo", data, 1, labels=labels, **QUICK | {"iterations": 2})
    assert type(made.stored_labels) is kind


def parameters(method: FeatureRegression) -> list[Tensor]:
    return [
        torch.cat([value.detach().flatten() for value in inner.network.state_dict().values()]).clone()
        for inner in method.pool.members
    ]


def test_networks_are_trained_on_the_moved_images_by_adam(data):
    """One update of torch's Adam on the squared error, in training mode, and of no other network."""
    method = made(data, network="conv-d2-w4-bn", networks=3, flips=True, network_lr=0.003)
    before = [copy.deepcopy(inner.network) for inner in method.pool.members]
    method.step(0)
    changed = [not torch.equal(*pair) for pair in zip(parameters(method), map(_flat, before))]
    assert sum(changed) == 1
    network = before[changed.index(True)].train()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.003)
    said = network(method.images.detach())
    (0.5 * ((said - method.label_values.detach()) ** 2).sum(1)).mean().backward()
    optimizer.step()
    torch.testing.assert_close(parameters(method)[changed.index(True)], _flat(network), rtol=1e-4, atol=1e-6)


def _flat(network: Network) -> Tensor:
    return torch.cat([value.detach().flatten() for value in network.state_dict().values()])


def test_networks_grow_old_and_are_replaced(data):
    """A counter that is above T makes the next turn a replacement, in which nothing is trained; others count one."""
    method = made(data, networks=3, network_updates=4)
    assert method.ages == [0, 1, 2]
    counters, resets, begun = [0, 1, 2], 0, 3
    seen: set[int] = set()
    for iteration in range(120):
        before = parameters(method)
        method.step(iteration)
        changed = [place for place, (one, other) in enumerate(zip(before, parameters(method))) if not one.equal(other)]
        (place,) = changed
        if counters[place] > 4:
            fresh = build_network("conv-d2-w4-nonorm", (1, 8, 8), 3, derive_seed(0, "network", begun))
            assert torch.equal(parameters(method)[place], _flat(fresh))
            assert not method.pool.members[place].optimizer.state
            counters[place], resets, begun = 0, resets + 1, begun + 1
        else:
            counters[place] += 1
        assert method.ages == counters
        seen.add(counters[place])
    assert seen == {0, 1, 2, 3, 4, 5}
    assert method.pool.begun == 3 + resets
    assert resets > 12


def test_several_updates_share_a_batch_and_a_network(data):
    method = made(data, networks=2, updates_per_batch=3)
    for iteration in range(9):
        before, ages = parameters(method), list(method.ages)
        method.step(iteration)
        assert method._real[0] == iteration // 3
        trained = sum(not one.equal(other) for one, other in zip(before, parameters(method)))
        assert trained == sum(method.ages) - sum(ages) == (iteration % 3 == 2)


def test_gradients_go_through_some_rows_only(data):
    """The others stand in the kernel; without mirror images and mosaics their pixels stay."""
    method = made(data, ipc=4, flips=False, gradient_rows=5, networks=1)
    images, labels = method.images.detach().clone(), method.label_values.detach().clone()
    same = copy.deepcopy(method.pool.members[0].network).double()
    found = method.step(0)
    moved = (method.images.detach() != images).flatten(1).any(1)
    assert moved.sum() == 5
    _, features, wanted = method._real
    leaf = images.double().requires_grad_()
    phi = same.embed(torch.where(moved[:, None, None, None], leaf, leaf.detach()))
    gram = phi @ phi.T
    regular = gram + 1e-3 * gram.diagonal().sum() / 12 * torch.eye(12, dtype=torch.float64)
    loss = 0.5 * ((features @ phi.T @ torch.linalg.solve(regular, labels.double()) - wanted) ** 2).sum(1).mean()
    assert found["loss"] == pytest.approx(loss.item(), rel=1e-5)
    (slope,) = torch.autograd.grad(loss, leaf)
    update = slope / (slope.abs() + 1e-6)
    expected = -0.01 * images.norm() / update.norm() * update
    assert (method.images.detach() - images - expected).norm() < 5e-3 * expected.norm()
    second = made(data, ipc=4, flips=False, gradient_rows=5, networks=1)
    second.step(1)
    assert not torch.equal((second.images.detach() != images).flatten(1).any(1), moved)


def test_the_rate_falls_along_a_cosine_over_the_whole_run(data):
    method, rates = made(data, iterations=8, last_rate=0.2), []
    for iteration in range(10):
        before = method.images.detach().clone()
        method.step(iteration)
        rates.append(((method.images.detach() - before).norm() / before.norm()).item())
    expected = [0.01 * (0.2 + 0.8 * 0.5 * (1 + math.cos(math.pi * min(step, 8) / 8))) for step in range(10)]
    assert rates == pytest.approx(expected, rel=1e-3)
    assert cosine_rate(0.01, 0.2, 1) == pytest.approx(0.002)


@pytest.mark.parametrize(("given", "updates"), [(1.0, 40), (0.5, 20), (100, 100)])
def test_the_fall_of_the_rate_is_given_for_the_run_or_in_updates(given: float, updates: int):
    assert FeatureRegression.Settings(rate_updates=given).for_length(40).rate_updates == updates


@pytest.mark.parametrize(
    "settings", [{"image_average": 0.9}, {"updates_per_batch": 3, "gradient_rows": 3}, {"labels": "hard"}]
)
def test_a_run_goes_on_to_the_same_bits(data, settings: dict):
    """Through replacements, between two updates that share a batch, and with BatchNorm and Adam in the pool."""
    options = {"network": "conv-d2-w4-bn", "networks": 2, "network_updates": 3} | settings
    for stop in (1, 5, 11):
        whole, first = made(data, **options), made(data, **options)
        expected = [whole.advance(iteration) for iteration in range(14)]
        for iteration in range(stop):
            first.advance(iteration)
        state = {name: value.clone() for name, value in first.state().items()}
        second = made(data, **options)
        second.load_state(state)
        assert [second.advance(iteration) for iteration in range(stop, 14)] == expected[stop:]
        left, right = whole.state(), second.state()
        assert left.keys() == right.keys()
        assert all(torch.equal(value, right[name]) for name, value in left.items())


def test_a_pool_that_is_larger_than_memory_is_refused_before_the_run(data, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("condense.synthesizers.pooled_regression.available_memory", lambda device: 10**6)
    parameters = sum(value.numel() for value in build_network("conv-d2-w4-nonorm", (1, 8, 8), 3, seed=0).parameters())
    most = 10**6 // (12 * parameters)
    condense.distill("frepo", data, 1, **QUICK | {"networks": most, "iterations": 1})
    refused = "conv-d2-w4-nonorm takes 0.00[0-9]* GB of memory, and 0.001 GB are free; give fewer --networks"
    with pytest.raises(CondenseError, match=refused):
        condense.distill("frepo", data, 1, **QUICK | {"networks": most + 1, "iterations": 1})


def test_images_that_are_alike_take_a_larger_ridge_which_is_said(data, capsys: pytest.CaptureFixture[str]):
    method = made(data, ridge=1e-18, flips=False)
    with torch.no_grad():
        method.images[1] = method.images[0]
    method.step(0)
    assert method.most_tenfold > 0
    (remark,) = method.remarks(1)
    assert f"10^{method.most_tenfold} times as large: some images are alike; give a larger --ridge" in remark


def test_it_is_right_about_more_real_images_and_trains_networks_better_than_random_images(regression_gain):
    digits = condense.load_data("digits")
    options = {"network": "conv-w8-nonorm", "image_lr": 0.01, "real_batch": 256}
    found = condense.distill("frepo", digits, 1, iterations=100, **options)
    right = found.metrics["accuracy"]
    assert right[-25:].mean() > right[:25].mean() + 0.1
    assert regression_gain(found, digits) > 0.1
