"""Labels of two distances: what is stored of a mixed view, and what a network is trained by."""

from pathlib import Path

import pytest
import torch

import condense
from condense.labels.showing import Place
from condense.sets.synthetic_set import SyntheticSet
from condense.training.rule import TrainingRule

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def labelled(untrained_teacher):
    data = condense.load_data("digits")
    return condense.distill("random", data, 2), untrained_teacher(data.info, "convnet-d2-w8-bn")


@pytest.mark.parametrize("mix", [{}, {"mix": "cutmix", "batch_size": 8}, {"mix": "mixup", "batch_size": 8}])
def test_against_the_definition_image_by_image(labelled, mix: dict, tmp_path: Path):
    images, teacher = labelled
    out = tmp_path / "set.h5"
    condense.relabel(images, teacher, "views", views=3, codec="distance", distance_weight=0.5, out=out, **mix)
    labels = SyntheticSet.load(out).stored_labels
    assert labels.bytes == 3 * 20 * 2 * 2 + 20 * 8
    assert "in distance (class and 0.5 distances from two classes" in labels.describe()
    showing, voter = labels.showing, teacher.classifier(CPU)
    rule = TrainingRule(lr=0.1, batch_size=8, epochs=3)
    shown = labels.source(None, images.plain, images.info).presented(rule, 0, CPU)
    outputs = torch.randn(8, 10, generator=torch.Generator().manual_seed(0))
    for number, ids in enumerate(shown.batches(1) or torch.arange(20).split(8)):
        batch, place = shown.batch(1, number, ids), Place.of(1, number, ids)
        partners, shares = partners_of(showing, place, ids, images)
        said = torch.log_softmax(voter(showing.shown(images.pixels_at(ids), place, ids)), 1)
        losses = []
        for row, index in enumerate(ids.tolist()):
            first, second = int(images.labels[index]), int(images.labels[ids[partners[row]]])
            mine = -torch.log_softmax(outputs[row], 0)
            apart = (mine[first] + said[row, first]).abs() + (mine[second] + said[row, second]).abs()
            losses.append(shares * mine[first] + (1 - shares) * mine[second] + 0.5 * apart)
        found = batch.targets.loss(outputs[: len(ids)], batch.targets.values)
        torch.testing.assert_close(found, torch.stack(losses).mean(), atol=5e-3, rtol=0)


def partners_of(showing, place: Place, ids: torch.Tensor, images: SyntheticSet) -> tuple[list[int], float]:
    """Which row each is mixed with, and the share that an image keeps: from images that have a colour each."""
    if showing.mix == "none":
        return list(range(len(ids))), 1.0
    colours = torch.arange(len(ids), dtype=torch.float64).add(1).exp()  # no two sums of shares are alike
    seen = showing.mixed(colours.view(-1, 1, 1, 1).expand(-1, 1, 8, 8), place).mean((2, 3))[:, 0]
    for row in range(len(ids)):
        for partner in range(len(ids)):
            if partner == row:
                continue
            share = float((seen[row] - colours[partner]) / (colours[row] - colours[partner]))
            if not -1e-9 <= share <= 1 + 1e-9:
                continue
            others = [match(seen[k], colours, k, share) for k in range(len(ids))]
            if all(other is not None for other in others):
                return others, share
    raise AssertionError("nothing fits")


def match(value: torch.Tensor, colours: torch.Tensor, row: int, share: float) -> int | None:
    for partner in range(len(colours)):
        if abs(float(share * colours[row] + (1 - share) * colours[partner] - value)) < 1e-6 * float(value):
            return partner
    return None
