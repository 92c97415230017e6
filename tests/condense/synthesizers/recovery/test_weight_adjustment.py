"""Teachers whose weights are moved: how far, which way, and that no slice sees what another one moved."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import condense
from condense.methods.slices.layouts import slices_of
from condense.runtime.errors import CondenseError
from condense.synthesizers.recovery.weight_adjustment import WeightAdjustment, WeightAdjustmentSettings, ascend


def flat(module: nn.Module) -> Tensor:
    return torch.cat([value.detach().flatten() for value in module.parameters()])


@pytest.mark.parametrize("steps", [1, 3, 12])
def test_weights_go_up_the_loss_and_not_beyond_the_radius(steps: int, data_of, untrained_teacher):
    info = data_of().info
    classifier = untrained_teacher(info, "convnet-d2-w4-bn").classifier(torch.device("cpu")).double()
    images, labels = torch.rand(3, *info.image_shape).double(), torch.arange(3)
    plain, before = copy.deepcopy(classifier), flat(classifier)
    ascend(classifier, images, labels, radius=0.3, steps=steps)
    moved = (flat(classifier) - before).norm().item()
    assert 0.28 < moved <= 0.3 + 1e-9
    assert F.cross_entropy(classifier(images), labels) > F.cross_entropy(plain(images), labels) + 0.01
    assert all(torch.equal(one, other) for one, other in zip(classifier.buffers(), plain.buffers()))
    assert not any(value.requires_grad for value in classifier.parameters())

    for value in plain.parameters():  # the equation, step by step, in float64
        value.requires_grad_()
    for _ in range(steps):
        loss = F.cross_entropy(plain(images), labels)
        gradients = torch.autograd.grad(loss, list(plain.parameters()))
        length = sum(float((gradient**2).sum()) for gradient in gradients) ** 0.5
        with torch.no_grad():
            for value, gradient in zip(plain.parameters(), gradients):
                value += 0.3 / steps * gradient / (length + 1e-12)
    torch.testing.assert_close(flat(classifier), flat(plain), atol=1e-12, rtol=0)


def test_every_slice_begins_with_the_pristine_teacher(data_of, job_of):
    job = job_of(data_of(), ipc=2)
    settings = WeightAdjustmentSettings(iterations=2, slice_size=2, radius=0.5)
    parts = slices_of("ipc-index", 3, 2, 2)

    def weights(number: int) -> Tensor:
        return flat(WeightAdjustment(job, settings, parts[number]).objectives[0].classifier)

    alone = weights(3)
    weights(0)
    weights(1)
    assert torch.equal(weights(3), alone)
    assert not torch.equal(weights(2), alone)
    pristine = flat(job.teacher.members[0].classifier(torch.device("cpu")))
    assert (alone - pristine).norm() == pytest.approx(0.5, rel=0.05)


def test_statistics_are_those_of_the_training_and_variances_weigh_more(data_of, job_of):
    job, part = job_of(data_of()), slices_of("ipc-index", 3, 1, 3)[0]
    pixels = torch.rand(3, 3, 12, 8)
    found = []
    for weight in (1.0, 2.0, 3.0):
        settings = WeightAdjustmentSettings(iterations=2, radius=0.0, variance_weight=weight)
        method = WeightAdjustment(job, settings, part)
        found.append(method.objectives[0](pixels, torch.arange(3))[1].item())
    assert found[2] - found[1] == pytest.approx(found[1] - found[0], rel=1e-4)
    assert found[1] > found[0]


def test_it_computes_in_full_precision_only(data_of, untrained_teacher):
    data = data_of()
    teacher = untrained_teacher(data.info, "convnet-d2-w4-bn")
    with pytest.raises(CondenseError, match="dwa computes in float32 only: leave --precision bfloat16 out"):
        condense.distill("dwa", data, 1, iterations=1, teacher=teacher, precision="bfloat16")
