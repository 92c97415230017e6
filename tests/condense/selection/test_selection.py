"""Selection rules against brute force and on data where the right answer is known."""

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import sklearn.cluster
import torch

import condense
from condense.data.budget import Budget
from condense.data.real import RealData, TestData, TrainingData
from condense.data.sources import SubsetPixels
from condense.methods.interface import Job
from condense.runtime.errors import CondenseError
from condense.selection.features import FeatureSettings, training_features
from condense.selection.herding import herd
from condense.selection.k_center import spread
from condense.selection.kmeans import nearest_to_centres


@pytest.fixture(scope="module")
def digits():
    return condense.load_data("digits")


def cloud(rows: int, columns: int = 4, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def naive_herding(features: torch.Tensor, count: int) -> list[int]:
    """The definition: each choice makes the mean of the chosen rows as near to the mean of all as it can be."""
    mean = features.double().mean(0)
    chosen: list[int] = []
    for _ in range(count):
        candidates = [row for row in range(len(features)) if row not in chosen]
        errors = [(features.double()[[*chosen, row]].mean(0) - mean).norm().item() for row in candidates]
        chosen.append(candidates[errors.index(min(errors))])
    return chosen


def test_herding_against_its_definition():
    features = cloud(30)
    assert herd(features, 8).tolist() == naive_herding(features, 8)


def test_herding_keeps_the_mean_better_than_random_subsets():
    features = cloud(200, 6)
    mean = features.mean(0)
    ours = (features[herd(features, 10)].mean(0) - mean).norm()
    others = [(features[cloud(200, 1, seed)[:, 0].argsort()[:10]].mean(0) - mean).norm() for seed in range(20)]
    assert ours < min(others)


def naive_spread(features: torch.Tensor, count: int, first: int) -> list[int]:
    chosen = [first]
    while len(chosen) < count:
        rest = [row for row in range(len(features)) if row not in chosen]
        nearest = [min((features[row] - features[c]).norm().item() for c in chosen) for row in rest]
        chosen.append(rest[nearest.index(max(nearest))])
    return chosen


def test_k_center_against_its_definition_and_its_guarantee():
    features = cloud(25, 3)
    chosen = spread(features, 5, first=7)
    assert chosen.tolist() == naive_spread(features, 5, 7)
    points = features[:9]

    def radius(centres):
        return torch.cdist(points, points[list(centres)]).min(1).values.max().item()

    best = min(radius(centres) for centres in itertools.combinations(range(9), 3))
    assert radius(spread(points, 3, first=0).tolist()) <= 2 * best  # the greedy algorithm is a 2-approximation


def test_k_center_takes_no_row_twice_even_among_duplicates():
    assert sorted(spread(torch.zeros(5, 2), 5, first=3).tolist()) == [0, 1, 2, 3, 4]


def test_kmeans_finds_one_image_in_each_group_and_the_largest_group_first():
    centres = torch.tensor([[0.0, 0.0], [50.0, 0.0], [0.0, 50.0]])
    groups = torch.tensor([0] * 5 + [1] * 20 + [2] * 10)
    features = centres[groups] + cloud(35, 2)
    chosen = nearest_to_centres(features, 3, seed=0)
    assert groups[chosen].tolist() == [1, 2, 0]
    for row, group in zip(chosen.tolist(), [1, 2, 0], strict=True):
        members = (groups == group).nonzero()[:, 0]
        distances = (features[members] - features[members].mean(0)).norm(dim=1)
        assert row == members[distances.argmin()]


def test_kmeans_takes_no_row_twice(recwarn):
    features = torch.cat([torch.zeros(3, 2), torch.ones(3, 2)])
    assert len(set(nearest_to_centres(features, 5, seed=0).tolist())) == 5
    assert not recwarn.list  # scikit-learn warns of fewer different rows than centres, in several lines


def test_kmeans_starts_once_where_most_clusters_are_single_rows(monkeypatch):
    starts, original = [], sklearn.cluster.KMeans

    def clustering(**settings):
        starts.append(settings["n_init"])
        return original(**settings)

    monkeypatch.setattr(sklearn.cluster, "KMeans", clustering)
    features = cloud(20, 2)
    assert sorted(nearest_to_centres(features, 20, seed=0).tolist()) == list(range(20))
    for count in (10, 11):
        nearest_to_centres(features, count, seed=0)
    assert starts == [1, 10, 1]


@pytest.mark.parametrize("method", ["random", "herding", "k-center", "kmeans"])
def test_chosen_images_are_real_balanced_and_never_twice(digits, method: str, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("CONDENSE_CACHE", str(tmp_path))
    options = {} if method == "random" else {"features": "pixels"}
    synthetic = condense.distill(method, digits, ipc=5, seed=2, **options)
    assert synthetic.stored.dtype == torch.uint8
    assert synthetic.labels.tolist() == [label for label in range(10) for _ in range(5)]
    every = {bytes(image.numpy().tobytes()) for image in digits.train.pixels(torch.arange(len(digits.train)))}
    chosen = [bytes(image.numpy().tobytes()) for image in synthetic.stored]
    assert set(chosen) <= every
    assert len(set(chosen)) == 50


def test_random_draws_differ_by_seed_and_repeat_by_seed(digits):
    first, again, other = (condense.distill("random", digits, ipc=3, seed=seed).stored for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_smaller_sets_of_greedy_methods_are_the_beginning_of_larger_ones(digits):
    for method in ("herding", "k-center"):
        small = condense.distill(method, digits, ipc=2, features="pixels").stored.view(10, 2, -1)
        large = condense.distill(method, digits, ipc=6, features="pixels").stored.view(10, 6, -1)
        assert torch.equal(small, large[:, :2])


SELECTIONS = ["random", "herding", "k-center", "kmeans"]


def uneven_part(data):
    """100 images: 46 zeros, 31 ones, 20 twos and 3 threes."""
    sizes = {0: 46, 1: 31, 2: 20, 3: 3}
    rows = torch.cat([data.train.class_indices(label)[:count] for label, count in sizes.items()])
    info = replace(data.info, classes=("0", "1", "2", "3"))
    train = TrainingData(SubsetPixels(data.train.source, rows), data.train.labels[rows], info)
    few = torch.arange(len(data.test))[data.test.labels < 4]
    test = TestData(SubsetPixels(data.test.source, few), data.test.labels[few], info)
    return RealData(info, train, test)


@pytest.mark.parametrize("method", SELECTIONS)
def test_a_fraction_is_shared_among_the_classes(digits, method: str, tmp_path: Path, capsys):
    """13 % of 46, 31, 20 and 3 images: 5.98, 4.03, 2.6 and 0.39, which sum to 13."""
    options = {} if method == "random" else {"features": "pixels"}
    data, out = uneven_part(digits), tmp_path / "set.h5"
    made = condense.distill(method, data, fraction=0.13, out=out, **options)
    assert made.class_counts == (6, 4, 3, 0)
    assert "13 % of the training images gives no image of 1 of 4 classes, '3' for one" in capsys.readouterr().err
    assert made.labels.tolist() == [0] * 6 + [1] * 4 + [2] * 3
    configuration = made.provenance["configuration"]
    assert configuration["fraction"] == 0.13
    assert configuration.keys().isdisjoint({"ipc", "balanced"})
    assert "--fraction 0.13" in made.provenance["command"]
    read = condense.SyntheticSet.load(out)
    assert torch.equal(data.train.pixels(read.source_indices), read.stored)
    assert len(read.source_indices.unique()) == 13


@pytest.mark.parametrize("method", SELECTIONS)
def test_a_choice_from_all_classes_at_once(digits, method: str):
    options = {} if method == "random" else {"features": "pixels"}
    data = uneven_part(digits)
    of_all = condense.distill(method, data, fraction=0.13, balanced=False, **options)
    assert len(of_all.source_indices.unique()) == len(of_all) == 13
    assert torch.equal(of_all.labels, data.train.labels[of_all.source_indices])
    assert "--fraction 0.13 --no-balanced" in of_all.provenance["command"]
    as_many = condense.distill(method, data, ipc=3, balanced=False, **options)
    assert len(as_many) == 12
    features = data.train.images(torch.arange(100)).flatten(1)
    by_rule = {
        "herding": lambda: herd(features, 12),
        "k-center": lambda: spread(features, 12, int((features - features.mean(0)).square().sum(1).argmin())),
    }
    if method in by_rule:
        assert torch.equal(as_many.source_indices, by_rule[method]())
        assert as_many.labels.tolist() != sorted(as_many.labels.tolist())  # in order of choice


def test_all_images_are_a_fraction_too(digits):
    data = uneven_part(digits)
    assert condense.distill("random", data, fraction=1.0).class_counts == (46, 31, 20, 3)
    with pytest.raises(CondenseError, match="124 images are more than the 100 training images"):
        condense.distill("random", data, ipc=31, balanced=False)


def test_more_images_than_a_class_has_are_refused(digits):
    smallest = min(digits.train.class_counts())
    with pytest.raises(
        CondenseError, match=f"--ipc {smallest + 1} is more than the {smallest} training images of class"
    ):
        condense.distill("random", digits, ipc=smallest + 1)
    assert len(condense.distill("random", digits, ipc=smallest)) == 10 * smallest


def test_trained_features_are_kept_by_fingerprint_and_seed(digits, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("CONDENSE_CACHE", str(tmp_path))
    settings = FeatureSettings(network="convnet-d1-w8")

    def features(seed: int) -> torch.Tensor:
        return training_features(Job(digits.train, Budget(ipc=1), seed, torch.device("cpu")), settings)[0]

    first = features(0)
    assert first.shape == (len(digits.train), 8 * 4 * 4)
    (kept,) = (tmp_path / "features").iterdir()
    made = kept.stat().st_mtime_ns
    assert torch.equal(features(0), first)
    assert kept.stat().st_mtime_ns == made
    assert training_features(Job(digits.train, Budget(ipc=1), 0, torch.device("cpu")), settings)[1] > 0  # what it saved
    assert not torch.equal(features(1), first)
    assert len(list((tmp_path / "features").iterdir())) == 2
    kept.write_bytes(kept.read_bytes()[:1000])  # damaged: made again
    assert torch.equal(features(0), first)
    assert kept.stat().st_size > 1000


def test_trained_features_separate_the_classes_better_than_pixels(digits, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("CONDENSE_CACHE", str(tmp_path))
    job = Job(digits.train, Budget(ipc=1), 0, torch.device("cpu"))
    labels = digits.train.labels

    def separation(kind: str) -> float:
        features = training_features(job, FeatureSettings(features=kind, network="convnet-d2-w16"))[0]
        means = torch.stack([features[labels == label].mean(0) for label in range(10)])
        within = (features - means[labels]).square().sum(1).mean()
        return (torch.pdist(means).square().mean() / within).item()

    assert separation("trained") > 1.5 * separation("pixels")


def test_features_of_the_whole_are_not_taken_for_those_of_a_subset(digits, tmp_path: Path, monkeypatch):
    """After a choice from all images, one from the last hundred is what it is where nothing was chosen before."""
    small = replace(digits, train=digits.train.subset(torch.arange(len(digits.train) - 100, len(digits.train))))

    def chosen(cache: str, *sets: condense.RealData) -> torch.Tensor:
        monkeypatch.setenv("CONDENSE_CACHE", str(tmp_path / cache))
        return [condense.distill("herding", data, ipc=1, network="convnet-d1-w8").stored for data in sets][-1]

    assert torch.equal(chosen("used", digits, small), chosen("new", small))


def test_many_images_are_stored_without_all_being_in_memory(digits, tmp_path: Path, monkeypatch):
    small = condense.distill("random", digits, 4, out=tmp_path / "small.h5")
    monkeypatch.setattr("condense.sets.large.LARGE", 100)
    condense.distill("random", digits, 4, out=tmp_path / "large.h5")
    large = condense.SyntheticSet.load(tmp_path / "large.h5")
    assert torch.equal(large.stored[:], small.stored)
    assert torch.equal(large.labels, small.labels)
    assert torch.equal(large.source_indices, small.source_indices)


def test_a_set_that_does_not_tell_how_it_was_made_has_no_configuration(digits):
    made = condense.distill("random", digits, 1)
    assert made.configuration["method"] == "random"
    for broken in (3, None, {"settings": 4}, ["method"]):
        assert replace(made, provenance={"configuration": broken}).configuration == {}
    assert replace(made, provenance={}).configuration == {}
