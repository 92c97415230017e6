"""Dataset quantization: bins against the algorithm as it is released, shares, patches, and whole sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import condense
from condense.data.budget import Budget
from condense.methods.interface import Job
from condense.methods.registry import methods
from condense.networks.class_activation import class_activation, last_maps
from condense.runtime.errors import CondenseError
from condense.runtime.seeds import generator
from condense.selection.evidence import Evidence
from condense.selection.last_layer import LastLayerGradients
from condense.selection.quantization import (
    QuantizationSettings,
    graph_cut_bins,
    kept_count,
    most_activated,
    shares_of_bins,
)
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
    """The network of all tests is trained once."""
    monkeypatch.setenv("CONDENSE_CACHE", str(cache))


def gradients_of(rows: int, seed: int = 0, classes: int = 3, columns: int = 4) -> LastLayerGradients:
    """Of images of the first class, in a network that is not sure of it."""
    draws = generator(seed, "gradients")
    logits = torch.randn(rows, classes, generator=draws, dtype=torch.float64)
    errors = torch.softmax(logits, 1) - F.one_hot(torch.zeros(rows, dtype=torch.int64), classes)
    return LastLayerGradients(errors, torch.randn(rows, columns, generator=draws, dtype=torch.float64))


def kernel_of(gradients: LastLayerGradients) -> np.ndarray:
    """1/2 + 1/2 cos of whole gradients, [n, n]."""
    ones = torch.ones(len(gradients), 1, dtype=torch.float64)
    whole = gradients.errors[:, :, None] * torch.cat([gradients.features, ones], 1)[:, None]  # (n, K, D + 1)
    units = F.normalize(whole.flatten(1), dim=1)
    return (0.5 + 0.5 * units @ units.T).numpy()


def naive_bins(kernel: np.ndarray, bins: int, *, sums_of_all: bool = False) -> list[list[int]]:
    """The released algorithm: with every choice all gains are summed anew over the rows that are left in the pool.

    With `sums_of_all` similarities are summed over all rows instead, whatever is in the pool.
    """
    pool, found = list(range(len(kernel))), []
    sizes = [len(part) for part in np.array_split(np.arange(len(kernel)), bins)]
    for size in sizes[:-1]:
        chosen: list[int] = []
        for _ in range(size):
            best, most = -1, -np.inf
            for row in pool:
                if row in chosen:
                    continue
                others = range(len(kernel)) if sums_of_all else pool
                gain = sum(kernel[other, row] for other in others) - 2 * sum(kernel[other, row] for other in chosen)
                if gain > most + 1e-12:
                    best, most = row, gain
            chosen.append(best)
        found.append(chosen)
        pool = [row for row in pool if row not in chosen]
    return [*found, pool]


@pytest.mark.parametrize(("rows", "bins"), [(24, 4), (25, 4), (31, 7), (9, 1)])
def test_bins_against_the_released_algorithm(rows: int, bins: int):
    gradients = gradients_of(rows)
    found = [each.tolist() for each in graph_cut_bins(gradients, bins)]
    assert found == naive_bins(kernel_of(gradients), bins)
    assert sorted(row for each in found for row in each) == list(range(rows))
    sizes = [len(each) for each in found]
    assert max(sizes) - min(sizes) <= 1


def test_similarities_are_summed_over_what_is_left():
    gradients = gradients_of(40)
    found = [set(each.tolist()) for each in graph_cut_bins(gradients, 5)]
    other = [set(each) for each in naive_bins(kernel_of(gradients), 5, sums_of_all=True)]
    assert found[0] == other[0]
    assert found[1:] != other[1:]


def test_more_bins_than_images_are_as_many_as_images():
    assert [len(each) for each in graph_cut_bins(gradients_of(3), 10)] == [1, 1, 1]


def test_every_bin_gives_its_share_and_they_sum_to_what_was_asked_for():
    for rows in (10, 37, 53):
        sizes = [len(part) for part in np.array_split(np.arange(rows), 10)]
        for count in range(1, rows + 1):
            shares = shares_of_bins(count, sizes)
            assert sum(shares) == count
            for share, size in zip(shares, sizes, strict=True):
                assert abs(share - count * size / rows) < 1
                assert 0 <= share <= size
    assert shares_of_bins(30, [10] * 10) == (3,) * 10  # where shares are whole, they are these
    assert shares_of_bins(125, [100] * 10) == (13,) * 5 + (12,) * 5


def test_the_first_bins_alone_are_less_diverse_than_a_share_of_all():
    """The point of drawing from every bin: a fifth of a cloud that is dense in the middle, by two bins and by all."""
    draws = generator(0, "cloud")
    away = 5 * torch.rand(200, 1, generator=draws, dtype=torch.float64) ** 2
    features = 3 + away * torch.randn(200, 6, generator=draws, dtype=torch.float64)
    gradients = LastLayerGradients(torch.tensor([[-1.0, 1.0]], dtype=torch.float64).expand(200, -1), features)
    kernel = torch.from_numpy(kernel_of(gradients))
    bins = graph_cut_bins(gradients, 10)
    typical = [kernel[rows].mean().item() for rows in bins]  # how like all others the images of each bin are
    assert typical == sorted(typical, reverse=True)
    first = torch.cat(bins[:2])
    for seed in range(5):
        shares = torch.cat([rows[torch.randperm(20, generator=generator(seed, "draw"))[:4]] for rows in bins])
        assert len(shares) == len(first)
        assert kernel[shares][:, shares].mean() < kernel[first][:, first].mean() - 0.05
        nearest_first, nearest_share = (kernel[:, rows].max(1).values for rows in (first, shares))
        assert nearest_share.mean() > nearest_first.mean()
        assert nearest_share.min() > nearest_first.min()


def test_of_patches_the_whole_part_is_kept_and_at_least_one():
    assert [kept_count(196, dropped) for dropped in (0.0, 0.2, 0.5, 0.75)] == [196, 156, 98, 49]
    assert [kept_count(10, tenths / 10) for tenths in range(10)] == list(range(10, 0, -1))
    assert kept_count(2, 0.99) == 1


@pytest.mark.parametrize(("height", "width", "side"), [(8, 8, 2), (7, 11, 3), (5, 9, 4)])
def test_the_patches_of_the_highest_mean_activation_are_kept(height: int, width: int, side: int):
    activation = torch.rand(4, height, width, generator=generator(0, "activation"))
    down, across = -(-height // side), -(-width // side)
    for count in (1, down * across // 2, down * across):
        kept = most_activated(activation, side, count, torch.rand(4, down * across, generator=generator(0, "ties")))
        for image in range(4):
            means = [
                activation[image, row * side : (row + 1) * side, column * side : (column + 1) * side].mean().item()
                for row in range(down)
                for column in range(across)
            ]
            expected = sorted(range(len(means)), key=means.__getitem__, reverse=True)[:count]
            assert kept[image].nonzero().flatten().tolist() == sorted(expected)


def test_of_equal_patches_no_place_is_preferred():
    flat = torch.zeros(400, 8, 8)
    flat[:, 6:, 6:] = 1.0  # the last patch of 16 is looked at
    chances = torch.rand(400, 16, generator=generator(0, "ties"))
    kept = most_activated(flat, 2, 6, chances).float().mean(0)
    assert kept[15] == 1
    assert (kept[:15] - 5 / 15).abs().max() < 0.12
    assert torch.equal(*(most_activated(flat, 2, 6, chances) for _ in range(2)))


def test_it_draws_the_same_share_of_each_bin_of_each_class(digits):
    made = condense.distill("dq", digits, ipc=10, bins=5, **QUICK)
    assert made.decoder is None
    assert torch.equal(made.stored, digits.train.pixels(made.source_indices))
    assert torch.equal(digits.train.labels[made.source_indices], made.labels)
    assert made.labels.tolist() == [label for label in range(10) for _ in range(10)]
    assert len(made.source_indices.unique()) == 100
    assert made.scores.view(10, 10).tolist() == [[1, 1, 2, 2, 3, 3, 4, 4, 5, 5]] * 10
    job = Job(digits.train, Budget(ipc=10), 0, torch.device("cpu"))
    evidence = Evidence(job, QuantizationSettings(**QUICK))
    for label in (0, 7):
        members = digits.train.class_indices(label)
        errors = evidence.probabilities()[members].double() - F.one_hot(torch.tensor(label), 10)
        bins = graph_cut_bins(LastLayerGradients(errors, evidence.features()[members].double()), 5)
        for place, index in enumerate(made.source_indices.view(10, 10)[label].tolist()):
            assert index in members[bins[place // 2]].tolist()


def test_other_seeds_draw_other_images_and_the_same_seed_the_same(digits, tmp_path: Path):
    options = QUICK | {"dropped": 0.25}
    for name in ("one", "two"):
        condense.distill("dq", digits, ipc=4, out=tmp_path / f"{name}.h5", **options)
    assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "two.h5").read_bytes()
    one, other = (condense.distill("dq", digits, ipc=4, seed=seed, **QUICK).source_indices for seed in (0, 1))
    assert not torch.equal(one, other)
    assert not methods().find("dataset-quantization").nested


def test_shares_of_classes_and_of_all_images(digits):
    of_classes = condense.distill("dq", digits, fraction=0.05, **QUICK)
    assert len(of_classes) == round(0.05 * len(digits.train)) == len(of_classes.source_indices.unique())
    of_all = condense.distill("dq", digits, fraction=0.05, balanced=False, **QUICK)
    assert len(of_all) == len(of_classes)
    assert of_all.scores.unique().tolist() == list(range(1, 11))
    assert torch.equal(digits.train.labels[of_all.source_indices], of_all.labels)


def test_what_is_dropped_is_where_the_network_does_not_look(digits, tmp_path: Path):
    out = tmp_path / "set.h5"
    made = condense.distill("dq", digits, ipc=3, dropped=0.25, out=out, **QUICK)
    whole = condense.distill("dq", digits, ipc=3, **QUICK)
    assert torch.equal(made.source_indices, whole.source_indices)
    assert made.stored.shape == (30, 12, 1, 2, 2)
    assert made.bytes < whole.bytes
    job = Job(digits.train, Budget(ipc=3), 0, torch.device("cpu"))
    network = Evidence(job, QuantizationSettings(**QUICK)).network
    preprocessed = digits.train.images(made.source_indices)
    activation = class_activation(network, preprocessed, made.labels, last_maps(network, (1, 8, 8)))
    means = F.avg_pool2d(activation[:, None], 2).flatten(1)  # (30, 16)
    kept = made.decoder.kept
    for image in range(30):
        assert means[image][kept[image]].min() >= means[image][~kept[image]].max()
    large = kept.view(30, 1, 4, 4).repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.equal(made.images[large], whole.images[large])
    assert made.images[~large].abs().max() < 1e-6
    read = SyntheticSet.load(out)
    assert torch.equal(read.images, made.images)
    assert "not by the paper's masked autoencoder" in read.describe()["images"]
    result = condense.evaluate(read, digits, nets=["mlp"], protocol="demo", runs=1).results[0]
    assert result.bytes == made.bytes
    assert result.accuracies[0] > 0.2


def test_the_usual_patch_is_an_eighth_of_an_image(digits):
    made = condense.distill("dq", digits, ipc=1, dropped=0.5, patch=3, **QUICK)
    assert made.decoder.patch == 3
    assert made.stored.shape == (10, 4, 1, 3, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dropped": 1.0}, r"--dropped 1\.0: should be less than or equal to 0\.99"),
        ({"dropped": -0.1}, "--dropped -0.1: should be greater than or equal to 0"),
        ({"bins": 0}, "--bins 0: should be greater than or equal to 1"),
        ({"trainings": 2}, "unknown option --trainings"),
        ({"dropped": 0.1, "patch": 5}, "stores 3 of 4 patches of 5x5 of images of 8x8, 76 bytes .* an image has 64"),
        ({"dropped": 0.1, "patch": 1}, "stores 57 of 64 patches of 1x1 of images of 8x8, 65 bytes"),
        ({"dropped": 0.5, "patch": 9}, "another --patch"),
        ({"patch": 2}, "--patch 2 is of patches that are dropped: give --dropped, too"),
        ({"dropped": 0.5, "network": "mlp"}, "has no maps to see where it looks; give a convolutional network"),
    ],
)
def test_what_cannot_be_done_is_refused_before_a_network_is_trained(
    digits, options: dict, message: str, tmp_path: Path, monkeypatch
):
    monkeypatch.setenv("CONDENSE_CACHE", str(tmp_path / "cache"))
    with pytest.raises(CondenseError, match=message):
        condense.distill("dq", digits, ipc=1, **QUICK | options)
    assert not (tmp_path / "cache").exists()
