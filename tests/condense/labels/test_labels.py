"""Labels: what each kind trains on, by hand; what does not fit; and that nothing outside of them knows the kinds."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch
from torch import Tensor

import condense
from condense.labels import (
    HardLabels,
    InterpolatedLabels,
    Labels,
    LogitLabels,
    ProbabilityLabels,
    RegressionLabels,
    SmoothedLabels,
    SubclassLabels,
    centred_one_hot,
    in_memory,
    labels_from_arrays,
)
from condense.labels.combined import Switched, Weighted
from condense.labels.registry import KINDS
from condense.networks import build_network
from condense.runtime.errors import CondenseError
from condense.training.loop import train_network
from condense.training.rule import TrainingRule

CLASSES = torch.tensor([2, 0, 1, 1])


def random_rows(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


OF_EACH_KIND: dict[str, Labels] = {
    "hard": HardLabels(CLASSES),
    "probabilities": ProbabilityLabels(random_rows(4, 3).softmax(1), CLASSES, 4.0),
    "logits": LogitLabels(random_rows(4, 3), CLASSES, 4.0),
    "interpolated": InterpolatedLabels(random_rows(4, 3), CLASSES, 4.0),
    "regression": RegressionLabels(random_rows(4, 7), CLASSES),
    "smoothed": SmoothedLabels(CLASSES, 0.25, 3),
    "subclasses": SubclassLabels(random_rows(4, 6), CLASSES, 2, 4.0),
}
OUTPUTS = {"regression": 7, "subclasses": 6}  # of networks that are trained on them; else 3
OF_VIEWS = {"views", "online", "projector"}  # test_views.py and test_projector.py have these


def naive_loss(kind: str, labels: Labels, outputs: Tensor) -> float:
    """Image by image, with the formulas of the field."""
    losses = []
    for row, output in enumerate(outputs.double()):
        log_softmax = output - output.exp().sum().log()
        if kind == "hard":
            losses.append(-log_softmax[CLASSES[row]])
        elif kind == "regression":
            losses.append(sum((output[k] - labels.rows[row, k].double()) ** 2 for k in range(7)) / 2)
        elif kind == "smoothed":
            losses.append(-sum((0.75 * (k == CLASSES[row]) + 0.25 / 3) * log_softmax[k] for k in range(3)))
        else:
            rows = labels.rows[row].double()
            target = rows if kind == "probabilities" else (rows / 4).exp() / (rows / 4).exp().sum()
            if kind in ("interpolated", "subclasses"):
                log_softmax = output / 4 - (output / 4).exp().sum().log() - target.log()
            losses.append(-sum(target[k] * log_softmax[k] for k in range(len(target))))
    return float(sum(losses) / len(losses))


def test_there_is_an_example_of_every_kind() -> None:
    assert OF_EACH_KIND.keys() | OF_VIEWS == KINDS.keys()


@pytest.mark.parametrize("kind", OF_EACH_KIND)
def test_the_loss_is_that_of_the_kind(kind: str) -> None:
    labels = OF_EACH_KIND[kind]
    targets = labels.for_batch(0, torch.arange(4))
    outputs = random_rows(4, OUTPUTS.get(kind, 3), seed=1)
    assert targets.loss(outputs, targets.values).item() == pytest.approx(naive_loss(kind, labels, outputs), rel=1e-6)
    one = labels.at(torch.tensor([3])).for_batch(5, torch.tensor([0]))
    assert torch.equal(one.values[0], labels.for_batch(5, torch.tensor([3])).values[0])


@pytest.mark.parametrize("kind", OF_EACH_KIND)
def test_labels_are_what_files_hold_of_them(kind: str) -> None:
    labels = OF_EACH_KIND[kind]
    again = labels_from_arrays(labels.kind, labels.arrays, labels.attributes, labels.classes)
    everything = torch.arange(4)
    assert type(again) is type(labels)
    assert torch.equal(again.for_batch(0, everything).values, labels.for_batch(0, everything).values)
    width = 0 if kind in ("hard", "smoothed") else OUTPUTS.get(kind, 3)
    assert labels.bytes == again.bytes == 4 * (8 + 4 * width)
    assert labels.describe()


def test_weights_make_a_weighted_mean() -> None:
    outputs, weights = random_rows(4, 3, seed=1), torch.tensor([1.0, 0.0, 2.0, 5.0])
    for kind in ("hard", "probabilities"):
        targets = Weighted(OF_EACH_KIND[kind], weights).for_batch(0, torch.arange(4))
        alone = [OF_EACH_KIND[kind].at(torch.tensor([row])).for_batch(0, torch.tensor([0])).values for row in range(4)]
        each = [targets.loss(outputs[row : row + 1], values).item() for row, values in enumerate(alone)]
        expected = sum(w * loss for w, loss in zip(weights.tolist(), each)) / 8
        assert targets.loss(outputs, targets.values, targets.weights).item() == pytest.approx(expected, rel=1e-6)


def test_images_of_weight_zero_do_not_count() -> None:
    """A training with them equals, batch by batch, one whose batches lack them."""
    data = condense.load_data("digits")
    images, labels = data.train.images(torch.arange(8)), HardLabels(data.train.labels[:8])
    rule = TrainingRule(lr=0.1, batch_size=8, epochs=3)

    def trained(count: int, weights: Tensor) -> Tensor:
        network = build_network("mlp", (1, 8, 8), 10, 0)
        source = in_memory(images[:count], Weighted(labels, weights), data.info)
        train_network(network, source, rule, seed=0, device=torch.device("cpu"))
        return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])

    some = torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0])
    torch.testing.assert_close(trained(8, some), trained(4, torch.ones(4)))
    assert not torch.allclose(trained(8, torch.ones(8)), trained(4, torch.ones(4)))


@pytest.mark.parametrize("kind", OF_EACH_KIND)
def test_a_batch_without_weight_teaches_nothing(kind: str) -> None:
    outputs = random_rows(4, OUTPUTS.get(kind, 3), seed=1).requires_grad_()
    targets = Weighted(OF_EACH_KIND[kind], torch.zeros(4)).for_batch(0, torch.arange(4))
    loss = targets.loss(outputs, targets.values, targets.weights)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(outputs.grad, torch.zeros_like(outputs))


def test_labels_can_change_with_the_epoch() -> None:
    switched = Switched(OF_EACH_KIND["logits"], OF_EACH_KIND["hard"], 2)
    kinds = [switched.for_batch(epoch, torch.arange(4)).values.is_floating_point() for epoch in range(4)]
    assert kinds == [True, True, False, False]


def test_values_to_be_predicted_are_no_distribution_and_no_class() -> None:
    labels = RegressionLabels(random_rows(4, 3))
    assert labels.probabilities is None
    assert labels.classes is None
    assert torch.equal(labels.values, random_rows(4, 3))
    assert OF_EACH_KIND["logits"].values is None


def test_class_indices_as_values_have_mean_zero() -> None:
    values = centred_one_hot(CLASSES, 3).values
    torch.testing.assert_close(values.sum(1), torch.zeros(4))
    assert torch.equal(values.argmax(1), CLASSES)
    torch.testing.assert_close(values.max(1).values, torch.full((4,), 2 / 3))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: HardLabels(torch.zeros(3)), "class indices must be int64 of 1 dimension.*float32"),
        (lambda: HardLabels(torch.zeros(3, 1, dtype=torch.int64)), r"of shape \[3, 1\]"),
        (lambda: LogitLabels(torch.zeros(3)), "soft labels must be float32 of 2 dimension"),
        (lambda: LogitLabels(torch.zeros(3, 2).double()), "not float64"),
        (lambda: LogitLabels(torch.full((3, 2), torch.inf)), "not finite"),
        (lambda: LogitLabels(torch.zeros(3, 2), CLASSES), "3 soft labels but 4 class indices"),
        (lambda: LogitLabels(torch.zeros(3, 2), temperature=0.0), "temperature 0.0 must be a positive number"),
        (lambda: LogitLabels(torch.zeros(3, 2), temperature=float("nan")), "temperature nan"),
        (lambda: ProbabilityLabels(torch.full((3, 2), 0.6)), "no probabilities.*are they logits"),
        (lambda: ProbabilityLabels(torch.tensor([[1.5, -0.5]])), "no probabilities"),
        (lambda: RegressionLabels(torch.full((3, 2), torch.nan)), "regression labels hold values that are not finite"),
        (lambda: LogitLabels(torch.zeros(4, 2)).check(4, 3), "2 numbers for an image, for 3 classes"),
        (lambda: HardLabels(CLASSES).check(5, 3), "5 images need as many labels, not 4"),
        (lambda: HardLabels(CLASSES).check(4, 2), "labels run from 0 to 2 but 2 classes allow 0 to 1"),
        (lambda: RegressionLabels(torch.zeros(3, 0)), "regression labels have no number for an image"),
        (lambda: LogitLabels(torch.ones(3, 2), temperature=1e-300), "temperature 1e-300 is too low for the logits"),
        (lambda: LogitLabels(torch.zeros(3, 2), temperature=1e-300), "temperature 1e-300 is too low for the logits"),
        (lambda: labels_from_arrays("hard", {"values": torch.zeros(4, 3)}, {}, CLASSES), "hard, which have no values"),
        (
            lambda: labels_from_arrays("regression", {"values": torch.zeros(4, 3), "a": CLASSES}, {}, CLASSES),
            "regression, which have no a",
        ),
        (lambda: labels_from_arrays("seen", {}, {}, CLASSES), "'seen', which this condense does not know; upgrade"),
        (lambda: labels_from_arrays("hard", {}, {}, None), "no class index for each image"),
        (lambda: labels_from_arrays("logits", {}, {}, CLASSES), "lack values"),
        (lambda: labels_from_arrays("logits", {"values": torch.zeros(4, 3)}, {}, CLASSES), "lack the number temp"),
        (lambda: labels_from_arrays("logits", {"values": torch.zeros(4, 3)}, {"temperature": True}, None), "lack the"),
    ],
)
def test_what_is_no_label_is_refused(make, message: str) -> None:
    with pytest.raises(CondenseError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_nothing_outside_of_labels_names_the_kinds() -> None:
    """But those who make labels, lists of what methods make, and records of what trained networks say of images."""
    root = Path(condense.__file__).parent
    makers = {"LogitLabels", "ProbabilityLabels", "RegressionLabels"}
    users = {
        str(file.relative_to(root))
        for file in root.rglob("*.py")
        if file.parent != root / "labels"
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Name) and node.id in makers)
        or (isinstance(node, ast.Constant) and node.value in ("probabilities", "logits"))
    }
    makers_of_labels = {
        "sets/imported_labels.py",
        "synthesizers/assigned_labels.py",
        "synthesizers/difficulty_alignment.py",
        "synthesizers/pooled_regression.py",
        "teachers/labelling.py",
        "evaluation/teacher_labels.py",
    }
    assert users == makers_of_labels | {"evaluation/training_set.py", "training/records.py"}
