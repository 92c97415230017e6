"""Refinement moves only what the teachers do not look at."""

from __future__ import annotations

import pytest
import torch

import condense
from condense.methods.slices.layouts import slices_of
from condense.networks.class_activation import class_activation, last_maps
from condense.synthesizers.recovery.region_refinement import RefinementSettings, RegionRefinement

SETTINGS = RefinementSettings(iterations=4, patch_images=4, patch_crops=3, crop=None, critical=0.4)


@pytest.fixture
def method(data_of, job_of) -> RegionRefinement:
    job = job_of(data_of((3, 16, 12)), "convnet-d2-w4-bn", "convnet-d1-w4-bn", ipc=2, weights=(0.6, 0.4))
    return RegionRefinement(job, SETTINGS, slices_of("ipc-index", 3, 2, 3)[0])


def test_the_mask_is_what_the_mean_activation_leaves(method: RegionRefinement):
    pixels, total = method.pixels(method.images.detach()), torch.zeros(3, 16, 12)
    for weight, member in zip((0.6, 0.4), method.job.teacher.members):
        network = member.classifier(torch.device("cpu"))
        total += weight * class_activation(network, pixels, torch.arange(3), last_maps(network, (3, 16, 12)))
    torch.testing.assert_close(method.mask, (0.4 - total).clamp_min(0)[:, None])
    assert 0 < (method.mask == 0).float().mean() < 1


def test_where_the_teachers_look_pixels_stay_bit_for_bit(method: RegionRefinement):
    start, frozen = method.images.detach().clone(), (method.mask == 0).expand(-1, 3, -1, -1)
    for update in range(4):
        method.advance(update)
    images = method.images.detach()
    assert torch.equal(images[frozen], start[frozen])
    assert (images[~frozen] != start[~frozen]).float().mean() > 0.9


def test_an_update_is_the_share_of_adams_that_the_mask_says(method: RegionRefinement):
    before = method.images.detach().clone()
    method.advance(0)
    moved = (method.images.detach() - before).abs()
    rate = SETTINGS.image_lr  # the first update of Adam is the rate for every pixel, whatever its gradient
    expected = rate * method.mask.expand_as(moved)
    inside = method.pixels(before)
    free = (inside > 0.02) & (inside < 0.98)
    torch.testing.assert_close(moved[free], expected[free], atol=1e-4, rtol=1e-2)


def test_one_image_a_class_and_mosaics(data_of, job_of):
    data = data_of((1, 16, 12))
    options = {"iterations": 2, "patch_images": 4, "patch_crops": 2, "teacher": job_of(data).teacher}
    for factor in (1, 2):
        made = condense.distill("nrr-dd", data, 1, factor=factor, **options)
        assert made.stored.shape == (3, 1, 16, 12)
