"""How crops become smaller."""

import math

import pytest

from condense.augmentation.jitter import draw_jitter
from condense.methods.slices.layouts import slices_of
from condense.synthesizers.recovery import base
from condense.synthesizers.recovery.curriculum import Curriculum, CurriculumSettings, least_area


def expected(schedule: str, milestone: float, update: int, updates: int) -> float:
    if update >= milestone * updates:
        return 0.08
    if schedule == "step":
        return 1.0
    part = update / (milestone * updates)
    return 0.08 + 0.92 * ((1 + math.cos(math.pi * part)) / 2 if schedule == "cosine" else 1 - part)


@pytest.mark.parametrize("schedule", ["cosine", "linear", "step"])
@pytest.mark.parametrize("milestone", [1.0, 0.5])
def test_the_smallest_crop_of_every_update(schedule: str, milestone: float, data_of, job_of):
    settings = CurriculumSettings(iterations=10, schedule=schedule, milestone=milestone)
    method = Curriculum(job_of(data_of()), settings, slices_of("ipc-index", 3, 1, 3)[0])
    found = [method.least_area(update) for update in range(10)]
    assert found == pytest.approx([expected(schedule, milestone, update, 10) for update in range(10)])
    assert found[0] == 1
    assert found == sorted(found, reverse=True)
    assert least_area(0.08, schedule, 1.0) == 0.08


def test_no_crops_have_no_curriculum(data_of, job_of):
    method = Curriculum(job_of(data_of()), CurriculumSettings(crop=None), slices_of("ipc-index", 3, 1, 3)[0])
    assert method.least_area(0) is None


def test_it_begins_with_whole_images(data_of, job_of, monkeypatch):
    boxes = []

    def drawn(*arguments, **options):
        draw = draw_jitter(*arguments, **options)
        boxes.append(draw.box)
        return draw

    monkeypatch.setattr(base, "draw_jitter", drawn)
    data = data_of((3, 12, 12))
    method = Curriculum(job_of(data), CurriculumSettings(iterations=100), slices_of("ipc-index", 3, 1, 3)[0])
    for update in (0, *range(90, 100)):
        method.shown(method.images, update)
    assert boxes[0] == (0, 0, 12, 12)
    assert min(rows * columns for _, _, rows, columns in boxes[1:]) < 72
