"""Statistics against numpy, scipy and data whose components are known."""

import random

import numpy as np
import pytest
from scipy.stats import binomtest, ttest_ind

from condense.evaluation.statistics import better_than_chance, deviation, spread, welch_difference
from condense.runtime.errors import CondenseError


def drawn(sets: int, networks: int, between: float, within: float, seed: int = 0) -> list[list[float]]:
    draws = random.Random(seed)
    return [
        [mean + draws.gauss(0, within) for _ in range(networks)]
        for mean in [0.7 + draws.gauss(0, between) for _ in range(sets)]
    ]


def test_deviation_is_the_sample_one():
    values = [0.61, 0.64, 0.60, 0.7]
    assert deviation(values) == pytest.approx(np.std(values, ddof=1))
    assert deviation(values) != pytest.approx(np.std(values))
    assert deviation([0.5]) is None


def test_components_against_the_formula():
    table = np.array(drawn(5, 4, between=0.03, within=0.02))
    found = spread(table.tolist())
    within = table.var(axis=1, ddof=1).mean()
    assert found.mean == pytest.approx(table.mean())
    assert found.std == pytest.approx(table.std(ddof=1))
    assert found.std_between_networks == pytest.approx(within**0.5)
    assert found.std_between_sets == pytest.approx((table.mean(axis=1).var(ddof=1) - within / 4) ** 0.5)


def test_components_of_known_data_are_found():
    found = spread(drawn(2000, 5, between=0.03, within=0.02))
    assert found.std_between_sets == pytest.approx(0.03, rel=0.05)
    assert found.std_between_networks == pytest.approx(0.02, rel=0.05)


def test_a_negative_estimate_is_zero():
    assert spread([[0.1, 0.9], [0.9, 0.1]]).std_between_sets == 0.0


def test_what_cannot_be_told_is_none():
    single = spread([[0.5]])
    assert (single.mean, single.std, single.std_between_sets, single.std_between_networks) == (0.5, None, None, None)
    one_set = spread([[0.5, 0.6]])
    assert one_set.std_between_sets is None
    assert one_set.std == one_set.std_between_networks
    one_network = spread([[0.5], [0.6]])
    assert one_network.std is not None
    assert (one_network.std_between_sets, one_network.std_between_networks) == (None, None)


@pytest.mark.parametrize("wrong", [[], [[]], [[0.1, 0.2], [0.3]]])
def test_ragged_tables_are_refused(wrong):
    with pytest.raises(CondenseError, match="same number of networks"):
        spread(wrong)


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_welch_against_scipy(confidence: float):
    (first,), (second,) = drawn(1, 5, 0, 0.01), drawn(1, 9, 0, 0.04, seed=1)
    interval = ttest_ind(first, second, equal_var=False).confidence_interval(confidence)
    found = welch_difference(first, second, confidence)
    assert found.mean == pytest.approx(np.mean(first) - np.mean(second))
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def test_only_an_interval_without_zero_is_clear():
    assert welch_difference([0.80, 0.81, 0.82], [0.70, 0.71, 0.72]).is_clear
    assert welch_difference([0.70, 0.71, 0.72], [0.80, 0.81, 0.82]).is_clear
    assert not welch_difference([0.80, 0.70, 0.75], [0.72, 0.78, 0.71]).is_clear


def test_no_deviation_at_all():
    found = welch_difference([0.5, 0.5], [0.25, 0.25])
    assert (found.mean, found.low, found.high) == (0.25, 0.25, 0.25)


@pytest.mark.parametrize(("first", "confidence"), [([0.5], 0.95), ([0.5, 0.6], 95)])
def test_intervals_need_two_values_and_a_confidence(first: list[float], confidence: float):
    with pytest.raises(CondenseError, match="at least 2 values"):
        welch_difference(first, [0.1, 0.2], confidence)


@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_what_is_better_than_chance_against_scipy(classes: int):
    """On equally large classes, whatever the answers are: 72 % of two classes is much, of 100 images or of 10,000."""
    images = 100 * classes
    equally = [100] * classes
    one_sided = [0, *([1] * (classes - 2)), images - (classes - 2)]
    for right in (0, 100, images // classes + 3, int(0.72 * images), images):
        expected = binomtest(right, images, 1 / classes, alternative="greater").pvalue < 0.001
        assert better_than_chance(right, equally, equally) == expected
        assert better_than_chance(right, one_sided, equally) == expected
    assert better_than_chance(int(0.72 * images), equally, equally)


@pytest.mark.parametrize("shares", [[0.5, 0.5], [0.9, 0.1], [0.1] * 10, [0.55, 0.2, 0.2, 0.05]])
def test_who_knows_nothing_seldom_passes(shares: list[float]):
    """Answers that are drawn without a look at the images, of which the majority or all are of one class."""
    draws = np.random.default_rng(0)
    passed = 0
    for _ in range(2000):
        labels, answers = (draws.choice(len(shares), 300, p=shares) for _ in range(2))
        counts = [np.bincount(values, minlength=len(shares)).tolist() for values in (answers, labels)]
        passed += better_than_chance(int((labels == answers).sum()), *counts)
    assert passed <= 8
    always = [300, *([0] * (len(shares) - 1))]
    assert not better_than_chance(counts[1][0], always, counts[1])
    assert better_than_chance(300, counts[1], counts[1])
