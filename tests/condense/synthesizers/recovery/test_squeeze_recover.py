"""Recovery itself: against a loop in normalised space, from every start, by every network that keeps statistics."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import condense
from condense.augmentation.jitter import draw_jitter
from condense.data.budget import Budget
from condense.methods.interface import Job
from condense.methods.slices.layouts import Slice
from condense.runtime.errors import CondenseError
from condense.runtime.seeds import generator
from condense.synthesizers.recovery import base
from condense.synthesizers.recovery.base import RecoverySettings
from condense.synthesizers.recovery.squeeze_recover import SqueezeRecover
from condense.synthesizers.recovery.starts import real_indices, starting_pixels
from condense.teachers import Committee, Teacher

ONE_OF_EACH = Slice(4, torch.arange(3), torch.zeros(3, dtype=torch.int64))


def naive_loss(teacher: Teacher, normalized: Tensor, labels: Tensor, weight: float) -> Tensor:
    """Cross-entropy + weight * (10 R_0 + R_1 + ...), by hooks on a network that gets normalised images."""
    network = teacher.classifier(torch.device("cpu")).network
    distances: list[Tensor] = []

    def look(layer: Any, inputs: tuple[Tensor, ...]) -> None:
        seen = inputs[0].transpose(0, 1).flatten(1)  # (channels, images and pixels)
        mean, variance = seen.mean(1), seen.var(1, correction=0)
        distances.append((mean - layer.running_mean).norm() + (variance - layer.running_var).norm())

    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.register_forward_pre_hook(look)
    return F.cross_entropy(network(normalized), labels) + weight * (10 * distances[0] + sum(distances[1:]))


def naive_recovery(start: Tensor, teacher: Teacher, labels: Tensor, draws: list[Any], settings: Any) -> list[Tensor]:
    """Images after each update: SRe2L as its code does it, in units of the teacher's normalisation."""
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (teacher.manifest.mean, teacher.manifest.std))
    images, first, second, passed = start.clone(), torch.zeros_like(start), torch.zeros_like(start), []
    for update, draw in enumerate(draws):
        seen = images.clone().requires_grad_()
        shown = seen
        if draw.box is not None:
            top, left, rows, columns = draw.box
            part = shown[:, :, top : top + rows, left : left + columns]
            shown = F.interpolate(part, images.shape[2:], mode="bilinear", align_corners=False)
        shown = shown.flip(3) if draw.flip else shown
        shown = shown.roll(draw.shift[0], 2).roll(draw.shift[1], 3)
        loss = naive_loss(teacher, shown, labels, settings.statistics_weight)
        (gradient,) = torch.autograd.grad(loss, seen)
        first, second = 0.5 * first + 0.5 * gradient, 0.9 * second + 0.1 * gradient**2
        rate = settings.image_lr * (1 + math.cos(math.pi * update / len(draws))) / 2
        moved = (first / (1 - 0.5 ** (update + 1))) / ((second / (1 - 0.9 ** (update + 1))).sqrt() + 1e-8)
        images = images - rate * moved
        images = torch.maximum(torch.minimum(images, (1 - mean) / std), -mean / std)
        passed.append(images)
    return passed


@pytest.mark.parametrize("crop", [None, 0.3])
def test_updates_are_those_of_the_plain_loop_in_normalised_space(crop: float | None, data_of, job_of):
    job = job_of(data_of())
    settings = RecoverySettings(iterations=6, crop=crop, statistics_weight=0.1)
    recovery = SqueezeRecover(job, settings, ONE_OF_EACH)
    draws = [
        draw_jitter((3, 12, 8), least=crop, flip=True, shift=1, seed=0, purpose="recovery jitter", indices=(4, update))
        for update in range(6)
    ]
    assert any(draw.shift != (0, 0) for draw in draws)
    start = torch.randn(3, 3, 12, 8, generator=generator(0, "recovery noise", 4))
    torch.testing.assert_close(recovery.images.detach(), start, atol=1e-5, rtol=0)
    for update, expected in enumerate(naive_recovery(start, job.teacher.members[0], torch.arange(3), draws, settings)):
        recovery.advance(update)
        torch.testing.assert_close(recovery.images.detach(), expected, atol=2e-4, rtol=0)
        pixels = recovery.pixels(recovery.images.detach())
        assert pixels.min() > -1e-6
        assert pixels.max() < 1 + 1e-6


def test_bounds_hold_exactly_after_every_update(data_of, job_of):
    recovery = SqueezeRecover(job_of(data_of()), RecoverySettings(iterations=4, image_lr=3.0), ONE_OF_EACH)
    mean, std = recovery.mean, recovery.std
    assert recovery.images.abs().max() > 1 / 0.35  # noise begins beyond them
    for update in range(4):
        recovery.advance(update)
        assert (recovery.images >= -mean / std).all()
        assert (recovery.images <= (1 - mean) / std).all()


@pytest.mark.parametrize("mirror", [True, False])
def test_images_are_mirrored_only_where_that_keeps_their_class(mirror: bool, data_of, job_of, monkeypatch):
    flips = []

    def drawn(*arguments, **options):
        draw = draw_jitter(*arguments, **options)
        flips.append(draw.flip)
        return draw

    monkeypatch.setattr(base, "draw_jitter", drawn)
    recovery = SqueezeRecover(job_of(data_of(mirror=mirror)), RecoverySettings(iterations=20), ONE_OF_EACH)
    for update in range(20):
        recovery.shown(recovery.images, update)
    assert any(flips) == mirror


def test_starts_are_noise_in_units_of_the_teacher_or_real_images_or_parts_of_them(data_of, job_of):
    data = data_of(each=6)
    job, labels = job_of(data, ipc=2), torch.tensor([0, 1, 2, 0])
    part = Slice(0, labels, torch.tensor([0, 0, 0, 1]))
    settings = RecoverySettings(patch_images=4, patch_crops=2)
    noise, real, patches = (starting_pixels(start, job, part, settings) for start in ("noise", "real", "patches"))
    drawn = torch.randn(4, 3, 12, 8, generator=generator(0, "recovery noise", 0))
    torch.testing.assert_close(noise, 0.3 + 0.35 * drawn)  # as the teacher has it, not the data
    for image, label, place in zip(real, labels.tolist(), part.places.tolist()):
        index = int(real_indices(job, label)[place])
        assert int(data.train.labels[index]) == label
        assert torch.equal(image, data.train.pixels(torch.tensor([index]))[0] / 255)
    assert patches.shape == real.shape == (4, 3, 12, 8)
    for start in (real, patches):
        assert start.min() >= 0
        assert start.max() <= 1
    assert not torch.equal(patches[0], patches[3])


@pytest.mark.parametrize("start", ["noise", "real", "patches"])
def test_a_smaller_set_is_the_first_part_of_a_larger_one(start: str, data_of, untrained_teacher):
    data = data_of(each=4)
    options = {"initialization": start, "iterations": 2, "slice_size": 2, "patch_images": 4, "patch_crops": 2}
    teacher = untrained_teacher(data.info, "convnet-d2-w4-bn")
    few, many = (condense.distill("sre2l", data, ipc, teacher=teacher, **options).stored for ipc in (2, 3))
    assert torch.equal(many.view(3, 3, *data.image_shape)[:, :2], few.view(3, 2, *data.image_shape))


def test_teachers_of_other_normalisations_are_asked_about_the_same_pixels(data_of, untrained_teacher):
    data = data_of()
    plain = untrained_teacher(data.info, "convnet-d2-w4-bn")
    other = untrained_teacher(data.info, "convnet-d2-w4-bn", 1, mean=(0.5,) * 3, std=(0.1,) * 3)
    committee = Committee((plain, other), (0.75, 0.25))
    job = Job(data.train, Budget(ipc=1), 0, torch.device("cpu"), teacher=committee)
    recovery = SqueezeRecover(job, RecoverySettings(iterations=2), ONE_OF_EACH)
    assert recovery.mean.flatten().tolist() == pytest.approx([0.35] * 3)
    assert recovery.std.flatten().tolist() == pytest.approx([0.2875] * 3)
    pixels = torch.rand(3, 3, 12, 8)
    loss, _ = recovery.loss(pixels)
    parts = [
        weight * naive_loss(member, (pixels - member.manifest.mean[0]) / member.manifest.std[0], torch.arange(3), 0.01)
        for weight, member in zip((0.75, 0.25), (plain, other))
    ]
    assert loss.item() == pytest.approx(sum(parts).item(), rel=1e-4)


NETWORKS = ["convnet-d2-w4-bn", "resnet10-bn", "vgg11-bn", "torchvision:shufflenet_v2_x0_5"]


@pytest.mark.parametrize("network", NETWORKS)
def test_any_network_that_keeps_statistics_can_be_asked(network: str, data_of, untrained_teacher):
    data = data_of((3, 32, 32), classes=2, each=2)
    teacher = untrained_teacher(data.info, network)
    made = condense.distill("sre2l", data, 1, iterations=2, teacher=teacher, compile="off")
    assert made.stored.shape == (2, 3, 32, 32)
    assert (made.metrics["statistics"] > 0).all()


def test_networks_without_statistics_are_refused_unless_these_weigh_nothing(data_of, untrained_teacher):
    data = data_of()
    teacher = untrained_teacher(data.info, "convnet-d2-w4-in")
    for method in ("sre2l", "cda", "dwa", "cv-dd", "infer", "nrr-dd"):
        with pytest.raises(
            CondenseError, match="running statistics of BatchNorm, and teacher convnet-d2-w4-in has none"
        ):
            condense.distill(method, data, 2, iterations=1, teacher=teacher)
        options = {"patch_images": 2, "patch_crops": 1} if method in ("cv-dd", "nrr-dd") else {}
        made = condense.distill(method, data, 2, iterations=1, teacher=teacher, statistics_weight=0, **options)
        assert made.metrics["statistics"].tolist() == [0.0]
    assert len(condense.distill("rded", data, 1, teacher=teacher, patch_images=2, patch_crops=1)) == 3


def test_teachers_of_other_data_are_refused(data_of, untrained_teacher):
    data = data_of()
    for info, what in ((data_of((3, 8, 8)).info, "is for images of shape"), (data_of(classes=4).info, "other classes")):
        with pytest.raises(CondenseError, match=what):
            condense.distill("sre2l", data, 1, iterations=1, teacher=untrained_teacher(info, "convnet-d2-w4-bn"))
    with pytest.raises(CondenseError, match="train one with condense teachers"):
        condense.distill("sre2l", data, 1, iterations=1)


def test_compiled_or_not_and_in_half_precision(data_of, untrained_teacher):
    """Slices compile once between them, and dwa moves the weights of what is compiled."""
    data = data_of((1, 8, 8))
    teacher = untrained_teacher(data.info, "convnet-d1-w4-bn")
    for method in ("sre2l", "dwa"):
        options = {"iterations": 2, "slice_size": 1, "teacher": teacher, "float_pixels": True, "crop": 0.5}
        plain = condense.distill(method, data, 1, compile="off", **options)
        quick = condense.distill(method, data, 1, compile="on", **options)
        torch.testing.assert_close(plain.stored, quick.stored, atol=1e-4, rtol=0)
    half = condense.distill("sre2l", data, 1, compile="off", precision="bfloat16", **options)
    assert half.stored.dtype == torch.float32
    assert half.metrics["loss"][0].item() == pytest.approx(
        condense.distill("sre2l", data, 1, compile="off", **options).metrics["loss"][0].item(), rel=0.02
    )
