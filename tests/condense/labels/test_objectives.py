"""Losses by name against torch's own and against formulas written out; and what does not go together."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from condense.labels.objectives import LOSSES, Objective
from condense.runtime.errors import CondenseError

CLASSES = torch.tensor([2, 0, 1, 1, 4])


def logits(seed: int) -> Tensor:
    return 5 * torch.randn(5, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def loss_of(objective: Objective, outputs: Tensor, teacher: Tensor) -> Tensor:
    targets = objective.targets(teacher, CLASSES)
    return targets.loss(outputs, targets.values, targets.weights)


@pytest.mark.parametrize("temperature", [1.0, 4.0, 30.0])
@pytest.mark.parametrize("scaled", [False, True])
def test_kl_is_that_of_torch_at_one_temperature_for_both(temperature: float, scaled: bool) -> None:
    outputs, teacher = logits(0), logits(1)
    found = loss_of(Objective("kl-t2" if scaled else "kl", temperature), outputs, teacher)
    theirs = nn.KLDivLoss(reduction="batchmean")
    expected = theirs((outputs / temperature).log_softmax(1), (teacher / temperature).softmax(1))
    torch.testing.assert_close(found, expected * (temperature**2 if scaled else 1))


def test_the_gradient_of_scaled_kl_has_one_size_for_every_temperature() -> None:
    """At a high temperature it is that of the mean squared difference of centred logits, 1 / K of it."""
    outputs, teacher = logits(0).requires_grad_(), logits(1)
    (slope,) = torch.autograd.grad(loss_of(Objective("kl-t2", 1e6), outputs, teacher), outputs)
    centred = outputs.detach() - teacher
    centred = centred - centred.mean(1, keepdim=True)
    torch.testing.assert_close(slope, centred / 5 / 5, rtol=1e-3, atol=1e-5)


def test_cross_entropy_has_a_temperature_for_the_teacher_only() -> None:
    outputs, teacher = logits(0), logits(1)
    expected = -((teacher / 4).softmax(1) * outputs.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(loss_of(Objective("cross-entropy", 4.0), outputs, teacher), expected)


@pytest.mark.parametrize("weight", [0.0, 0.15])
def test_mse_is_a_mean_over_logits_with_the_class_beside_it(weight: float) -> None:
    outputs, teacher = logits(0), logits(1)
    expected = sum((outputs[n, k] - teacher[n, k]) ** 2 for n in range(5) for k in range(5)) / 25
    expected = expected + weight * nn.CrossEntropyLoss()(outputs, CLASSES)
    torch.testing.assert_close(loss_of(Objective("mse", class_weight=weight), outputs, teacher), expected)


def test_images_without_class_have_an_error_of_their_logits() -> None:
    outputs, teacher = logits(0), logits(1)
    targets = Objective("mse").targets(teacher, None)
    torch.testing.assert_close(targets.loss(outputs, targets.values), (outputs - teacher).square().mean())
    with pytest.raises(CondenseError, match=r"class weight 0.1 needs the class of each image"):
        Objective("mse", class_weight=0.1).targets(teacher, None)


@pytest.mark.parametrize("loss", LOSSES)
def test_weights_make_a_weighted_mean(loss: str) -> None:
    objective, weights = Objective(loss), torch.tensor([0.0, 2.0, 1.0, 0.0, 5.0], dtype=torch.float64)
    outputs, teacher = logits(0), logits(1)
    targets = objective.targets(teacher, CLASSES, weights)
    each = [targets.loss(outputs[n : n + 1], targets.values[n : n + 1]) for n in range(5)]
    expected = sum(weight * value for weight, value in zip(weights, each)) / weights.sum()
    torch.testing.assert_close(targets.loss(outputs, targets.values, targets.weights), expected)


@pytest.mark.parametrize("loss", LOSSES)
def test_equal_objectives_have_one_loss_for_what_is_compiled_by_it(loss: str) -> None:
    temperature = 1.0 if loss == "mse" else 20.0
    first, second = (Objective(loss, temperature).function for _ in range(2))
    assert first == second
    assert hash(first) == hash(second)


@pytest.mark.parametrize("loss", LOSSES)
def test_files_say_all_of_it(loss: str) -> None:
    for objective in (Objective(loss), *([Objective(loss, class_weight=0.5)] if loss == "mse" else [])):
        for default in (None, "kl"):
            facts = objective.attributes(default)
            assert Objective.from_attributes(facts, objective.temperature, default) == objective
    assert Objective("kl").attributes("kl") == {}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Objective("kld"), "unknown loss of soft labels 'kld'.*did you mean kl"),
        (lambda: Objective("kl", 0.0), "temperature 0.0 must be a positive number"),
        (lambda: Objective("kl", float("inf")), "temperature inf must be a positive number"),
        (lambda: Objective("mse", 20.0), "temperature 20: the loss mse has none; leave it out, or give kl"),
        (lambda: Objective("kl", 20.0, 0.1), "class weight 0.1 belongs to the loss mse, not to kl"),
        (lambda: Objective("mse", 1.0, -1.0), "class weight -1.0 must be a number from 0 on"),
        (lambda: Objective.from_attributes({}, 1.0), "do not tell their loss"),
        (lambda: Objective.from_attributes({"loss": "mse", "class_weight": "x"}, 1.0), "do not tell their loss"),
    ],
)
def test_what_does_not_go_together_is_refused(make, message: str) -> None:
    with pytest.raises(CondenseError, match=message):
        make()
