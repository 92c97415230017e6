"""What teachers are asked: against loops over layers, channels and pixels in float64."""

from __future__ import annotations

import gc
import math
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condense import load_data
from condense.compute.plan import Plan
from condense.compute.precision import DTYPES
from condense.matching import match_statistics
from condense.networks.build import build_network
from condense.runtime.seeds import generator
from condense.synthesizers.recovery.objective import TeacherObjective, shared_objective
from condense.teachers.classifier import Normalize, PixelClassifier

HERE = torch.device("cpu")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=generator(seed, "numbers"), dtype=torch.float64)


def statistics_by_loops(
    maps: list[Tensor], kept: list[tuple[Tensor, Tensor]], first_weight: float, variance_weight: float
) -> float:
    """sum_l w_l (|m_l - M_l| + v |V_l - s_l|), one number after the other."""
    total = 0.0
    for layer, (seen, (means, variances)) in enumerate(zip(maps, kept)):
        squares_of_means, squares_of_variances = 0.0, 0.0
        for channel in range(seen.shape[1]):
            values = [float(value) for value in seen[:, channel].detach().flatten()]
            mean = sum(values) / len(values)
            variance = sum((value - mean) ** 2 for value in values) / len(values)
            squares_of_means += (mean - float(means[channel])) ** 2
            squares_of_variances += (variance - float(variances[channel])) ** 2
        distance = math.sqrt(squares_of_means) + variance_weight * math.sqrt(squares_of_variances)
        total += distance * (first_weight if layer == 0 else 1.0)
    return total


@pytest.mark.parametrize("variance_weight", [1.0, 11.0])
@pytest.mark.parametrize("first_weight", [10.0, 1.0])
def test_the_distance_of_statistics(first_weight: float, variance_weight: float):
    maps = [normal(4, 3, 5, 2, seed=seed) * (seed + 1) for seed in range(3)]
    kept = [(normal(3, seed=10 + seed), normal(3, seed=20 + seed).abs()) for seed in range(3)]
    moments = [(seen.mean((0, 2, 3)), seen.var((0, 2, 3), correction=0)) for seen in maps]
    found = match_statistics(moments, kept, first_weight=first_weight, variance_weight=variance_weight)
    assert found.item() == pytest.approx(statistics_by_loops(maps, kept, first_weight, variance_weight), rel=1e-12)


def test_one_layer_alone_counts_ten_times():
    one, zero = torch.ones(4), torch.zeros(4)
    assert match_statistics([(one, zero)], [(zero, zero)]).item() == 20.0


def double_classifier(seed: int = 0) -> PixelClassifier:
    network = build_network("convnet-d2-w4-bn", (3, 8, 12), 3, seed).double()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.copy_(normal(layer.num_features, seed=seed + 1))
            layer.running_var.copy_(normal(layer.num_features, seed=seed + 2).abs() + 0.5)
    return PixelClassifier(Normalize((0.4, 0.5, 0.6), (0.2, 0.3, 0.4)).double(), network)


def test_both_terms_and_their_gradient_are_those_of_hooks_and_loops(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(DTYPES, "float32", torch.float64)
    classifier, pixels = double_classifier(), normal(5, 3, 8, 12).sigmoid().requires_grad_()
    labels = torch.tensor([0, 2, 1, 1, 0])
    objective = TeacherObjective(classifier, (3, 8, 12), Plan(), variance_weight=2.0)
    classes, statistics = objective(pixels, labels)

    layers = [part for part in classifier.modules() if isinstance(part, nn.BatchNorm2d)]
    seen: list[Tensor] = []
    hooks = [layer.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0])) for layer in layers]
    mean, std = torch.tensor([0.4, 0.5, 0.6]).double(), torch.tensor([0.2, 0.3, 0.4]).double()
    logits = classifier.network((pixels - mean.view(3, 1, 1)) / std.view(3, 1, 1))
    for hook in hooks:
        hook.remove()
    kept = [(layer.running_mean, layer.running_var) for layer in layers]
    assert statistics.item() == pytest.approx(
        statistics_by_loops(seen, kept, 10.0, 2.0), rel=1e-6
    )  # constants in float32
    assert classes.item() == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-6)

    direction = normal(*pixels.shape, seed=9)
    slope = (torch.autograd.grad(classes + 0.1 * statistics, pixels)[0] * direction).sum().item()
    step = 1e-5
    ahead, back = (
        sum(w * t for w, t in zip((1, 0.1), objective(pixels + s * direction, labels))) for s in (step, -step)
    )
    assert slope == pytest.approx((ahead - back).item() / (2 * step), rel=1e-4)


def test_real_images_are_near_what_the_training_kept_and_noise_is_not():
    network = build_network("convnet-d2-w8-bn", (1, 8, 8), 10, seed=0)
    data = load_data("digits").train
    pixels = data.pixels(torch.arange(512)).float() / 255
    classifier = PixelClassifier(Normalize((0.3,), (0.4,)), network)
    network.train()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None  # all of them count alike
    for batch in pixels.split(64):
        classifier(batch)
    classifier.eval()
    objective = TeacherObjective(classifier, (1, 8, 8), Plan())
    real = objective(pixels[:256], torch.zeros(256, dtype=torch.int64))[1]
    noise = objective(0.3 + 0.4 * normal(256, 1, 8, 8).float(), torch.zeros(256, dtype=torch.int64))[1]
    assert real < 0.1 * noise
    assert real < 1


def test_slices_share_an_objective_for_as_long_as_its_teacher_is_there(data_of, untrained_teacher):
    teacher = untrained_teacher(data_of().info, "convnet-d2-w4-bn")
    asked = shared_objective(teacher, HERE, Plan())
    assert shared_objective(teacher, HERE, Plan()) is asked
    others = [
        shared_objective(teacher, HERE, Plan(), statistics=False),
        shared_objective(teacher, HERE, Plan(), variance_weight=2.0),
        shared_objective(teacher, HERE, Plan(precision="bfloat16")),
    ]
    assert len({id(each) for each in [asked, *others]}) == 4
    gone = weakref.ref(asked)
    del asked, others, teacher
    gc.collect()
    assert gone() is None


def test_without_statistics_any_network_will_do(data_of, untrained_teacher):
    info = data_of().info
    teacher = untrained_teacher(info, "convnet-d2-w4-in")
    objective = TeacherObjective(teacher.classifier(HERE), info.image_shape, Plan(), statistics=False)
    classes, statistics = objective(torch.rand(2, *info.image_shape), torch.tensor([0, 1]))
    assert classes > 0
    assert statistics == 0
