"""Compensators: the gradient of one image that is added to many, budgets, and the set that is made of them."""

from __future__ import annotations

import pytest
import torch

import condense
from condense.methods.slices.layouts import slices_of
from condense.runtime.errors import CondenseError
from condense.sets.synthetic_set import SyntheticSet
from condense.synthesizers.recovery.feature_compensation import (
    CompensationSettings,
    FeatureCompensation,
    places_within,
)
from condense.synthesizers.recovery.starts import real_indices
from condense.teachers import Committee

NETS = ("convnet-d1-w3-bn", "convnet-d1-w4-bn")


def one_update(job, settings) -> list[torch.Tensor]:
    """The gradients that the first update hands to Adam."""
    method = FeatureCompensation(job, settings, slices_of("ipc-index", 3, 1, 3)[0])
    gradients: list[torch.Tensor] = []
    method.descend = lambda iteration, *given: gradients.extend(given)
    method.step(0)
    return gradients


def test_the_gradient_of_a_compensator_is_the_sum_over_the_images_that_it_is_added_to(data_of, job_of):
    job = job_of(data_of(), *NETS, ipc=2)
    settings = CompensationSettings(iterations=3)
    method = FeatureCompensation(job, settings, slices_of("ipc-index", 3, 1, 3)[0])
    for objective, found in zip(method.objectives, one_update(job, settings)):
        sums = method.images.detach().clone().requires_grad_()  # one leaf an image: the compensators are still 0
        classes, statistics = objective(method.pixels(method.shown(sums, 0)), torch.arange(3))
        (each,) = torch.autograd.grad(classes + settings.statistics_weight * statistics, sums)
        assert found.shape == (1, 3, 12, 8)
        torch.testing.assert_close(found, each.sum(0, keepdim=True), atol=1e-6, rtol=1e-4)


def test_parts_of_the_classes_share_a_compensator_and_count_by_their_images(data_of, job_of):
    job = job_of(data_of(), *NETS, ipc=2)
    whole = CompensationSettings(iterations=3, statistics_weight=0)
    together = one_update(job, whole)
    in_parts = one_update(job, whole.model_copy(update={"slice_size": 2}))
    for one, other in zip(together, in_parts):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(
    ("ipc", "classes", "teachers", "places"),
    [
        (10, 10, 4, 7),
        (50, 10, 4, 35),
        (10, 100, 4, 9),
        (50, 100, 4, 48),
        (10, 1000, 3, 9),
        (1, 1000, 3, 0),
        (1, 2, 1, 0),
    ],
)
def test_places_are_as_many_as_the_bytes_have_room_for(ipc: int, classes: int, teachers: int, places: int):
    assert places_within(ipc, classes, teachers) == places
    assert places * (classes + teachers) <= ipc * classes < (places + 1) * (classes + teachers)


def test_a_set_has_real_images_and_their_sums_within_the_bytes_that_were_asked_for(
    data_of, untrained_teacher, tmp_path
):
    data = data_of()
    teacher = Committee(tuple(untrained_teacher(data.info, name) for name in NETS))
    out = tmp_path / "set.h5"
    made = condense.distill("infer", data, 4, iterations=3, teacher=teacher, out=out)
    places = places_within(4, 3, 2)
    assert (made.ipc, len(made.stored), len(made)) == (places, 3 * places, 9 * places)
    assert made.decoder.bytes + made.stored.numel() <= 4 * 3 * data.train.pixels(torch.tensor([0])).numel()
    assert torch.equal(made.stored, data.train.pixels(made.source_indices))
    assert made.labels.tolist() == [label for _ in range(3) for label in (0, 1, 2) for _ in range(places)]
    pixels = made.pixels_at(torch.arange(len(made)))
    levels = (torch.from_numpy(made.decoder.levels).float() - 127.5) * 2 / 255  # (places, 2, C, H, W)
    for number, row in enumerate(made.decoder.rows(len(made.stored)).tolist()):
        clean = made.stored[row].float() / 255
        kind, place = number // len(made.stored), row % places
        expected = clean if kind == 0 else (clean + levels[place, kind - 1]).clamp(0, 1)
        torch.testing.assert_close(pixels[number], expected, atol=1e-5, rtol=0)
    assert torch.equal(SyntheticSet.load(out).images, made.images)


def test_what_is_stored_of_a_compensator_is_nearest_to_what_was_learned(data_of, job_of):
    data = data_of()
    job, settings = job_of(data, NETS[0], ipc=2), CompensationSettings(iterations=4)
    method = FeatureCompensation(job, settings, slices_of("ipc-index", 3, 1, 3)[0])
    for update in range(4):
        method.advance(update)
    arrays = method.result()
    made = condense.distill("infer", data, 2, iterations=4, statistics_weight=1, teacher=job.teacher, compile="off")
    stored = (torch.from_numpy(made.decoder.levels).float() - 127.5) * 2 / 255
    torch.testing.assert_close(stored, arrays["compensators"].clamp(-1, 1), atol=1 / 255 + 1e-6, rtol=0)
    assert arrays["compensators"].abs().max() > 0.05
    indices = [int(real_indices(job, label)[0]) for label in range(3)]
    assert torch.equal(arrays["images"], data.train.pixels(torch.tensor(indices)))


def test_no_room_and_floats_are_refused(data_of, untrained_teacher):
    data = data_of()
    teacher = untrained_teacher(data.info, NETS[0])
    with pytest.raises(CondenseError, match="no room for real images of 3 classes beside 1 compensators; give --ipc 2"):
        condense.distill("infer", data, 1, iterations=1, teacher=teacher)
    with pytest.raises(CondenseError, match="leave --float-pixels out"):
        condense.distill("infer", data, 2, iterations=1, teacher=teacher, float_pixels=True)
