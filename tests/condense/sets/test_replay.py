"""Replay: what DataLoaders with workers see is what trainings see and what was labelled, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

import condense
from condense.data import RealData
from condense.runtime.errors import CondenseError
from condense.sets.synthetic_set import SyntheticSet
from condense.teachers import Committee
from condense.training.loop import Step, descend, train_network
from condense.training.rule import TrainingRule

CPU = torch.device("cpu")

EPOCHS = 5


@pytest.fixture(scope="module")
def digits() -> RealData:
    return condense.load_data("digits", mirror=True)


@pytest.fixture(scope="module")
def images(digits: RealData) -> SyntheticSet:
    rows = torch.arange(22)
    return SyntheticSet(stored=digits.train.pixels(rows), stored_labels=digits.train.labels[rows], info=digits.info)


MODES: dict[str, dict[str, Any]] = {
    "padded": {"views": 3},
    "resized": {"views": 3, "crop": "resized", "least": 0.3, "loss": "mse"},
    "cutmix": {"views": 3, "mix": "cutmix", "batch_size": 8},
    "halves": {"views": 3, "mix": "mixup", "batch_size": 9, "teacher_bn": "batch", "bn_groups": 2},
}


def seen_in_training(made: SyntheticSet, batch_size: int) -> list[list[tuple[Tensor, Tensor]]]:
    """Images and targets of every batch of every epoch."""
    found: list[list[tuple[Tensor, Tensor]]] = [[] for _ in range(EPOCHS)]

    def update(step: Step) -> Tensor:
        found[step.batch.epoch].append((step.batch.images, step.batch.targets.values))
        return descend(step)

    source = made.training_labels.source(None, made.plain, made.info)
    rule = TrainingRule(lr=0.01, batch_size=batch_size, epochs=EPOCHS)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    train_network(network, source, rule, seed=0, device=torch.device("cpu"), update=update)
    return found


@pytest.mark.parametrize("name", MODES)
def test_loaders_see_what_trainings_see(images, untrained_teacher, tmp_path: Path, name: str) -> None:
    """With workers that persist and without; views of later epochs are those of the first ones again."""
    settings, teacher = MODES[name], untrained_teacher(images.info)
    made = condense.relabel(images, teacher, "views", out=tmp_path / "set.h5", **settings)
    size = settings.get("batch_size")
    expected = seen_in_training(made, size or 6)
    for workers in (0, 2):
        dataset, sampler = made.replay()
        assert dataset.by_batch == (size is not None)
        loader = DataLoader(
            dataset,
            batch_size=None if dataset.by_batch else 6,
            sampler=sampler,
            num_workers=workers,
            persistent_workers=workers > 0,
        )
        for epoch in range(EPOCHS):
            batches = list(loader)
            assert len(batches) == len(expected[epoch]) == len(loader)
            for (seen, targets), (image, target) in zip(batches, expected[epoch]):
                assert torch.equal(seen, image)
                assert torch.equal(targets, target)
    outputs = torch.randn(len(targets), 10, generator=torch.Generator().manual_seed(0))
    assert torch.equal(dataset.loss(outputs, targets), made.training_labels.objective.function(outputs, targets))


def test_views_without_a_label_do_not_count(images, untrained_teacher) -> None:
    """As in the trainings of an evaluation."""
    settings = {"views": 3, "temperature": 1.0, "calibrate": 0.1, "unreliable": "discarded"}
    made = condense.relabel(images, untrained_teacher(images.info), "views", **settings)
    dataset, _ = made.replay()
    seen, targets = map(torch.stack, zip(*(dataset[1, number] for number in range(22))))
    lost = targets.isnan().all(1)
    assert 0 < lost.sum() < 22
    source = made.training_labels.source(None, made.plain, made.info)
    batch = source.presented(TrainingRule(lr=0.1, batch_size=22, epochs=2), 0, CPU).batch(1, 0, torch.arange(22))
    outputs = torch.randn(22, 10, generator=torch.Generator().manual_seed(0), requires_grad=True)
    expected = batch.targets.loss(outputs, batch.targets.values, batch.targets.weights)
    torch.testing.assert_close(dataset.loss(outputs, targets), expected)
    (gradient,) = torch.autograd.grad(dataset.loss(outputs, targets), outputs)
    assert torch.equal(gradient[lost], torch.zeros_like(gradient[lost]))
    assert dataset.loss(outputs[lost], targets[lost]) == 0
    assert seen.shape == (22, *images.info.image_shape)


def test_the_batch_size_of_a_loader_makes_no_difference(images, untrained_teacher) -> None:
    made = condense.relabel(images, untrained_teacher(images.info), "views", views=2)
    found = []
    for size, workers in ((1, 0), (7, 2)):
        dataset, sampler = made.replay(seed=3)
        loader = DataLoader(dataset, batch_size=size, sampler=sampler, num_workers=workers)
        found.append([torch.cat(column) for column in zip(*(batch for _ in range(3) for batch in loader))])
    for one, other in zip(*found):
        assert len(one) == 3 * 22
        assert torch.equal(one, other)


def test_a_sampler_goes_on_with_the_epoch_it_is_told(images, untrained_teacher) -> None:
    made = condense.relabel(images, untrained_teacher(images.info), "views", views=8)
    _, sampler = made.replay()
    epochs = [list(sampler) for _ in range(4)]
    assert [keys[0][0] for keys in epochs] == [0, 1, 2, 3]
    assert all(sorted(number for _, number in keys) == list(range(22)) for keys in epochs)
    assert epochs[0] != [(0, number) for _, number in epochs[1]]
    _, resumed = made.replay(epoch=2)
    assert list(resumed) == epochs[2]
    resumed.set_epoch(1)
    assert list(resumed) == epochs[1]
    cut_short = iter(resumed)  # epoch 2, of which somebody sees one image only
    next(cut_short)
    assert list(resumed) == epochs[3]


def test_online_labels_are_those_that_are_stored(images, untrained_teacher) -> None:
    teacher = untrained_teacher(images.info)
    stored, online = (condense.relabel(images, teacher, kind, views=3) for kind in ("views", "online"))
    first, _ = stored.replay()
    second, _ = online.replay(teacher=Committee.of(teacher))
    for key in ((0, 3), (2, 21), (4, 0)):
        assert torch.equal(first[key][0], second[key][0])
        torch.testing.assert_close(first[key][1], second[key][1], rtol=2**-10, atol=1e-4)
    with pytest.raises(CondenseError, match="give it as --teacher"):
        online.replay()


def test_what_cannot_be_replayed_is_refused(images, untrained_teacher) -> None:
    with pytest.raises(CondenseError, match="labels of the kind hard are of images as they are"):
        images.replay()
    made = condense.relabel(images, untrained_teacher(images.info), "views", views=2)
    dataset, _ = made.replay()
    with pytest.raises(CondenseError, match="give the sampler that came with them"):
        dataset[3]
    with pytest.raises(CondenseError, match="belong to views and not to images as they are"):
        made[0]
