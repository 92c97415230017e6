"""Patches: the crop that teachers find easiest, ranks, and how mosaics are laid."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import condense
from condense.augmentation.views import square_crop
from condense.data.sampling import sample
from condense.runtime.seeds import generator
from condense.synthesizers.recovery import patches
from condense.synthesizers.recovery.patches import (
    Patch,
    chosen_patches,
    class_losses,
    cut,
    mosaic,
    of_difficulty,
)

HERE = torch.device("cpu")


def naive_ranking(job, label: int, images: int, crops: int, size: tuple[int, int]) -> list[tuple[int, tuple, float]]:
    """(training index, box, loss) of the best crop of each image, the easiest first."""
    height, width = job.data.info.image_shape[1:]
    found = []
    for index in sample(job.data.class_indices(label), images, generator(job.seed, "patch images", label)).tolist():
        image = job.data.pixels(torch.tensor([index])).float() / 255
        candidates = []
        for number in range(crops):
            box = square_crop(job.data.info.image_shape, 0.08, job.seed, "patch", index, number)
            top, left, rows, columns = box
            part = image[:, :, top : top + rows, left : left + columns]
            part = F.interpolate(part, size, mode="bilinear", antialias=True, align_corners=False)
            loss = 0.0
            for weight, member in zip(job.teacher.weights, job.teacher.members):
                canvas = torch.tensor(member.manifest.mean).view(1, -1, 1, 1).repeat(1, 1, height, width)
                down, right = (height - size[0]) // 2, (width - size[1]) // 2
                canvas[:, :, down : down + size[0], right : right + size[1]] = part
                logits = member.classifier(HERE)(canvas)[0]
                loss += weight * (logits.logsumexp(0) - logits[label]).item()
            candidates.append((index, box, loss))
        found.append(min(candidates, key=lambda each: each[2]))
    return sorted(found, key=lambda each: each[2])


@pytest.mark.parametrize("size", [(12, 8), (6, 4)])
def test_every_image_gives_its_easiest_crop_and_the_easiest_are_taken(size: tuple[int, int], data_of, job_of):
    job = job_of(data_of(), "convnet-d2-w4-bn", "convnet-d1-w3-bn", weights=(0.7, 0.3))
    naive = naive_ranking(job, 1, images=6, crops=4, size=size)
    found = chosen_patches(job, 1, count=4, difficulty="easy", images=6, crops=4, size=size)
    assert [(patch.index, patch.box) for patch in found] == [(index, box) for index, box, _ in naive[:4]]
    assert [patch.loss for patch in found] == pytest.approx([loss for *_, loss in naive[:4]], rel=1e-4)


def test_ranked_patches_are_taken_from_the_end_that_is_asked_for():
    ranked = [Patch(index, (0, 0, 1, 1), float(index)) for index in range(7)]

    def taken(count: int, difficulty: str) -> list[int]:
        return [patch.index for patch in of_difficulty(ranked, count, difficulty)]

    assert taken(3, "easy") == [0, 1, 2]
    assert taken(3, "hard") == [6, 5, 4]
    assert sorted(taken(3, "medium")) == [2, 3, 4]
    assert sorted(taken(7, "medium")) == list(range(7))
    for difficulty in ("easy", "medium", "hard"):
        assert taken(9, difficulty)[:7] == taken(7, difficulty)
        assert taken(9, difficulty)[7:] == taken(2, difficulty)
        assert all(taken(7, difficulty)[:count] == taken(count, difficulty) for count in range(1, 7))


def naive_mosaic(cells: Tensor, height: int, width: int) -> Tensor:
    """Cells row by row, the first rows and columns of them a pixel larger where the sides cannot be divided."""
    factor = round(len(cells) ** 0.5)
    image = torch.full((cells.shape[1], height, width), torch.nan)
    heights = [height // factor + (row < height % factor) for row in range(factor)]
    widths = [width // factor + (column < width % factor) for column in range(factor)]
    for number, cell in enumerate(cells):
        row, column = divmod(number, factor)
        top, left = sum(heights[:row]), sum(widths[:column])
        for down in range(heights[row]):
            for right in range(widths[column]):
                from_row, from_column = down * cell.shape[1] // heights[row], right * cell.shape[2] // widths[column]
                image[:, top + down, left + right] = cell[:, from_row, from_column]
    return image


@pytest.mark.parametrize(("height", "width", "factor"), [(12, 8, 1), (12, 8, 2), (17, 16, 2), (20, 11, 3), (16, 16, 5)])
def test_cells_are_laid_row_by_row(height: int, width: int, factor: int):
    cells = torch.rand(factor**2, 3, height // factor, width // factor)
    assert torch.equal(mosaic(cells, (3, height, width)), naive_mosaic(cells, height, width))


def test_cell_k_of_image_i_is_patch_k_times_ipc_plus_i(data_of, job_of):
    data = data_of(each=10)
    job = job_of(data, ipc=2)
    made = condense.distill("rded", data, 2, factor=2, patch_images=10, patch_crops=3, teacher=job.teacher)
    for label in range(3):
        ranked = naive_ranking(job, label, images=10, crops=3, size=(6, 4))
        for place in range(2):
            cells = [cut(data.train, [ranked[cell * 2 + place][:2]], (6, 4))[0] for cell in range(4)]
            expected = (naive_mosaic(torch.stack(cells), 12, 8) * 255).round()
            assert torch.equal(made.stored[2 * label + place].float(), expected)


def test_a_class_of_few_images_gives_them_again(data_of, job_of):
    data = data_of(each=2)
    made = condense.distill("rded", data, 5, patch_images=10, teacher=job_of(data).teacher)
    first = made.stored.view(3, 5, *data.image_shape)
    assert torch.equal(first[:, :2], first[:, 2:4])
    assert torch.equal(first[:, 0], first[:, 4])


def test_as_many_images_are_looked_at_as_patches_are_needed(data_of, job_of):
    data = data_of(each=10)
    made = condense.distill("rded", data, 8, patch_images=2, teacher=job_of(data).teacher)
    images = made.stored.view(3, 8, -1)
    assert all(len(images[label].unique(dim=0)) == 8 for label in range(3))


def test_the_mean_colour_is_around_a_patch(data_of, job_of, monkeypatch):
    job, asked, seen = job_of(data_of()), patches.shared_objective, []

    class Looking:
        def __init__(self, objective):
            self.objective = objective

        def classifier(self, pixels):
            seen.append(pixels)
            return self.objective.classifier(pixels)

    monkeypatch.setattr(patches, "shared_objective", lambda *given, **named: Looking(asked(*given, **named)))
    class_losses(job, torch.ones(2, 3, 7, 4), 0)
    (laid,) = seen
    assert (laid[:, :, 2:9, 2:6] == 1).all()
    assert laid.sum().item() == pytest.approx(2 * 3 * (7 * 4 + 0.3 * (12 * 8 - 7 * 4)), rel=1e-5)


def test_patches_are_remembered_no_longer_than_the_data(data_of, untrained_teacher, tmp_path):
    source = data_of()
    pixels = source.train.pixels(torch.arange(30)).permute(0, 2, 3, 1).numpy()
    labels = source.train.labels.numpy()
    np.savez(tmp_path / "own.npz", train_images=pixels, train_labels=labels, test_images=pixels, test_labels=labels)
    data = condense.load_data(tmp_path / "own.npz")
    teacher = untrained_teacher(data.info, "convnet-d2-w4-bn")
    for method in ("rded", "nrr-dd"):
        options = {"iterations": 1} if method == "nrr-dd" else {}
        condense.distill(method, data, 1, teacher=teacher, patch_images=2, patch_crops=1, **options)
    gone = weakref.ref(data.train)
    del data
    gc.collect()
    assert gone() is None


def test_choices_do_not_depend_on_the_machine(data_of, job_of):
    data = data_of()
    made = condense.distill("rded", data, 1, patch_images=2, patch_crops=2, teacher=job_of(data).teacher)
    assert made.provenance["configuration"]["plan"]["precision"] == "float32"
