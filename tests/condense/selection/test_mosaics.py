"""Prune, combine, augment: which images come together, how they are laid, and whole sets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

import condense
from condense.data.budget import Budget
from condense.methods.interface import Job
from condense.methods.registry import methods
from condense.runtime.errors import CondenseError
from condense.selection.area_under_margin import area_under_margin
from condense.selection.evidence import EarlyEvidenceSettings, Evidence
from condense.selection.forgetting import forgetting_events
from condense.selection.mosaics import combined
from condense.sets.synthetic_set import SyntheticSet

QUICK = {"network": "convnet-d1-w8", "epochs": 2}


@pytest.fixture(scope="module")
def digits():
    return condense.load_data("digits")


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _one_training(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The networks of all tests are trained once."""
    monkeypatch.setenv("CONDENSE_CACHE", str(cache))


def pixels(*shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))


def smaller(channel: Tensor, height: int, width: int) -> np.ndarray:
    """By Pillow, whose bilinear filter is as wide as the scale asks for."""
    picture = Image.fromarray(channel.numpy().astype(np.float32), mode="F")
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))


def test_mosaics_of_random_images_are_decoded_to_them(digits):
    """What a set with a decoder is compared with: as many bytes, nothing learned."""
    made = condense.distill("random", digits, 2, seed=3, factor=2)
    drawn = condense.distill("random", digits, 8, seed=3)
    assert made.stored.shape == (20, 1, 8, 8)
    assert (made.stored.dtype, len(made), made.source_indices) == (torch.float32, 80, None)
    assert made.labels.tolist() == list(np.repeat(np.arange(10), 2)) * 4
    sources = drawn.source_indices.view(20, 4)
    small = F.interpolate(digits.train.images(sources.flatten()), (4, 4), mode="bilinear").view(20, 4, 1, 4, 4)
    expected = torch.cat([torch.cat([small[:, 0], small[:, 1]], 3), torch.cat([small[:, 2], small[:, 3]], 3)], 2)
    torch.testing.assert_close(made.stored, expected)


@pytest.mark.parametrize(
    ("ipc", "options", "message"),
    [
        (50, {"factor": 2}, "50 mosaics of 2 x 2 take 200 images, and class .* has 1[0-9]+; give fewer"),
        (1, {"factor": 2, "balanced": False}, "a mosaic is of one class"),
        (1, {"factor": 1}, "--factor 1"),
    ],
)
def test_random_mosaics_that_cannot_be_made_are_refused(digits, ipc: int, options: dict, message: str):
    with pytest.raises(CondenseError, match=message):
        condense.distill("random", digits, ipc, **options)


@pytest.mark.parametrize(("height", "width", "factor"), [(8, 8, 2), (12, 8, 2), (18, 12, 3)])
def test_cells_are_the_images_made_smaller_row_by_row(height: int, width: int, factor: int):
    images = pixels(factor**2, 3, height, width)
    found = combined(images, factor)
    assert found.shape == (3, height, width)
    assert found.dtype == torch.uint8
    rows, columns = height // factor, width // factor
    for cell in range(factor**2):
        top, left = cell // factor * rows, cell % factor * columns
        for channel in range(3):
            part = found[channel, top : top + rows, left : left + columns].float().numpy()
            assert np.abs(part - smaller(images[cell, channel], rows, columns)).max() <= 0.51  # rounded


@pytest.mark.parametrize(("height", "width", "factor"), [(7, 11, 2), (8, 8, 3), (28, 32, 5)])
def test_sides_that_cannot_be_divided_are_filled_all_the_same(height: int, width: int, factor: int):
    values = torch.arange(factor**2, dtype=torch.uint8) * 9 + 3
    found = combined(values.view(-1, 1, 1, 1).expand(-1, 1, height, width), factor)
    heights, widths = (
        [side // factor + (number < side % factor) for number in range(factor)] for side in (height, width)
    )
    expected = values.view(factor, factor).repeat_interleave(torch.tensor(heights), 0)
    assert torch.equal(found[0], expected.repeat_interleave(torch.tensor(widths), 1))


def scores_of(digits, score: str) -> Tensor:
    """How easy each training image is, by its definition."""
    settings = EarlyEvidenceSettings(**QUICK)
    evidence = Evidence(Job(digits.train, Budget(ipc=1), 0, torch.device("cpu")), settings)
    records = [evidence.training(each) for each in range(3)]
    if score == "aum":
        return torch.stack([area_under_margin(each.logits, evidence.labels) for each in records]).mean(0).double()
    if score == "forgetting":
        return -torch.stack([forgetting_events(each.correct(evidence.labels)) for each in records]).double().mean(0)
    right = torch.nn.functional.one_hot(evidence.labels, 10)
    return -torch.stack([(each.logits[-1].softmax(1) - right).norm(dim=1) for each in records]).mean(0).double()


@pytest.mark.parametrize("score", ["el2n-easy", "aum", "forgetting"])
def test_the_easiest_images_of_a_class_fill_its_first_mosaics(digits, score: str, tmp_path: Path):
    out = tmp_path / "set.h5"
    made = condense.distill("pca", digits, ipc=3, score=score, out=out, **QUICK)
    sources = torch.tensor(json.loads(out.with_suffix(".json").read_text())["sources"])
    assert sources.shape == (30, 4)
    assert len(sources.unique()) == 120
    easiness = scores_of(digits, score)
    for label in range(10):
        own = sources[3 * label : 3 * label + 3].flatten()
        assert (digits.train.labels[own] == label).all()
        best = easiness[digits.train.class_indices(label)].sort(descending=True).values[:12]
        torch.testing.assert_close(easiness[own], best)
    torch.testing.assert_close(made.scores, easiness[sources].mean(1))
    for mosaic, row in zip(made.stored, sources, strict=True):
        assert torch.equal(mosaic, combined(digits.train.pixels(row), 2))


def test_the_first_mosaics_of_a_class_are_the_choice_for_fewer(digits):
    few, many = (condense.distill("pca", digits, ipc=count, **QUICK) for count in (2, 5))
    assert torch.equal(many.first(2).stored, few.stored)
    assert methods().find("prune-combine-augment").nested


def test_a_set_of_mosaics_is_one_of_images(digits, tmp_path: Path):
    made = condense.distill("pca", digits, ipc=2, out=tmp_path / "set.h5", **QUICK)
    read = SyntheticSet.load(tmp_path / "set.h5")
    assert torch.equal(read.stored, made.stored)
    assert read.stored.shape == (20, 1, 8, 8)
    assert read.stored.dtype == torch.uint8
    assert read.labels.tolist() == [label for label in range(10) for _ in range(2)]
    assert (read.decoder, read.source_indices, read.label_kind) == (None, None, "hard")
    assert read.protocol == "rethink-hard"
    assert read.bytes == condense.distill("random", digits, ipc=2).bytes
    result = condense.evaluate(read, digits, nets=["mlp"], protocol="demo", runs=1).results[0]
    assert (result.images, result.stored_images) == (20, 20)


def test_random_ones_need_no_network(digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CONDENSE_CACHE", str(tmp_path / "none"))
    made, again, other = (condense.distill("pca", digits, ipc=3, score="random", seed=seed) for seed in (0, 0, 1))
    assert torch.equal(made.stored, again.stored)
    assert not torch.equal(made.stored, other.stored)
    assert made.scores is None
    assert not (tmp_path / "none").exists()


def test_a_fraction_counts_mosaics_of_each_class(digits):
    made = condense.distill("pca", digits, fraction=0.05, score="random")
    assert made.class_counts == Budget(fraction=0.05).counts(digits.train.class_counts())
    assert len(made) == round(0.05 * len(digits.train))


@pytest.mark.parametrize(
    ("size", "options", "message"),
    [
        (
            {"ipc": 40},
            {},
            r"40 mosaics of 2 x 2 take 160 images, and class .*smaller --factor",
        ),
        ({"fraction": 0.3}, {}, "mosaics of 2 x 2 take"),
        ({"fraction": 0.1, "balanced": False}, {}, "a mosaic is of one class: leave --no-balanced out"),
        ({"ipc": 1}, {"factor": 5}, "--factor 5 leaves less than two pixels of images of 8x8; give a smaller one"),
        ({"ipc": 1}, {"factor": 1}, "--factor 1: should be greater than or equal to 2"),
        ({"ipc": 1}, {"score": "el2n-hard"}, "--score 'el2n-hard': should be "),
    ],
)
def test_what_cannot_be_done_is_refused(digits, size: dict, options: dict, message: str):
    with pytest.raises(CondenseError, match=message):
        condense.distill("pca", digits, **size, **options)
