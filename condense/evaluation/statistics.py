"""Mean and deviation of accuracies, and where the deviation comes from. Standard deviations are sample ones (n - 1)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance

from condense.runtime.errors import CondenseError


def deviation(values: Sequence[float]) -> float | None:
    """The sample standard deviation; None for fewer than two values, of which nothing can be said.

    >>> deviation([0.5, 0.7, 0.9]), deviation([0.5])
    (0.2, None)
    """
    return math.sqrt(variance(values)) if len(values) > 1 else None


def complete_mean(values: Sequence[float | None]) -> float | None:
    """The mean; None where one of the values is not known.

    >>> complete_mean([0.5, 0.75]), complete_mean([0.5, None])
    (0.625, None)
    """
    known = [value for value in values if value is not None]
    return fmean(known) if len(known) == len(values) else None


@dataclass(frozen=True)
class Spread:
    """Mean and deviations of accuracies of several networks on each of several sets.

    `std` is over all of them. The other two are the components of a one-way random-effects model: what another draw of
    the set changes, and what another initialisation of the network changes. A component is None where there are too few
    sets or networks to tell, and 0 where the estimated variance is negative.
    """

    mean: float
    std: float | None
    std_between_sets: float | None
    std_between_networks: float | None


def spread(accuracies: Sequence[Sequence[float]]) -> Spread:
    """Grand mean and deviations of `accuracies[set][network]`.

    The variance between networks is the mean over sets of the variance within a set; the variance between sets is that
    of the sets' means, less the networks' share of it, variance between networks / K.

    Raises `CondenseError` unless every set has the same number K > 0 of networks.

    >>> spread([[0.25, 0.75], [0.75, 0.25]])
    Spread(mean=0.5, std=0.28867513459481287, std_between_sets=0.0, std_between_networks=0.3535533905932738)
    """
    counts = {len(of_set) for of_set in accuracies}
    if len(counts) != 1 or counts == {0}:
        raise CondenseError(
            f"every set needs the same number of networks, not {[len(of_set) for of_set in accuracies]}; train the rest"
        )
    count = counts.pop()
    values = [value for of_set in accuracies for value in of_set]
    within = fmean(variance(of_set) for of_set in accuracies) if count > 1 else None
    between = None
    if within is not None and len(accuracies) > 1:
        between = max(0.0, variance([fmean(of_set) for of_set in accuracies]) - within / count)
    return Spread(fmean(values), deviation(values), _root(between), _root(within))


def _root(value: float | None) -> float | None:
    return None if value is None else math.sqrt(value)


@dataclass(frozen=True)
class Difference:
    """`mean` of the first less that of the second, and the ends of its confidence interval."""

    mean: float
    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out zero: only then is one of the two better."""
        return self.low > 0 or self.high < 0


def welch_difference(first: Sequence[float], second: Sequence[float], confidence: float = 0.95) -> Difference:
    """How much better `first` is than `second`, by Welch's t interval (samples of different variance and size).

    Without any deviation in either sample the interval is the difference itself.

    Raises `CondenseError` if a sample has fewer than two values or `confidence` is not between 0 and 1.

    >>> difference = welch_difference([0.80, 0.82, 0.81], [0.70, 0.73, 0.74])
    >>> round(difference.low, 3), round(difference.high, 3), difference.is_clear
    (0.043, 0.13, True)
    """
    if min(len(first), len(second)) < 2 or not 0 < confidence < 1:
        raise CondenseError(
            f"an interval at confidence {confidence} of {len(first)} and {len(second)} values cannot be computed; give "
            "at least 2 values each and a confidence between 0 and 1"
        )
    from scipy.stats import ttest_ind

    mean = fmean(first) - fmean(second)
    if not variance(first) and not variance(second):
        return Difference(mean, mean, mean)
    low, high = ttest_ind(first, second, equal_var=False).confidence_interval(confidence)
    return Difference(mean, float(low), float(high))


_BY_CHANCE = 0.001  # that a network which knows nothing passes for one that has learned


def better_than_chance(right: int, answered: Sequence[int], belong: Sequence[int]) -> bool:
    """Whether so many `right` answers say that a network has learned anything, by a one-sided binomial test.

    `answered` counts the answers for each class, `belong` the images of each class. Answers that have nothing to do
    with the images are right for a fraction sum_k answered_k belong_k / N^2 of all N: for the share of the largest
    class if that is always the answer, for 1 / K where K classes are equally large, whatever the answers.

    >>> better_than_chance(72, [50, 50], [50, 50]), better_than_chance(60, [50, 50], [50, 50])
    (True, False)
    >>> better_than_chance(90, [100, 0], [90, 10])
    False
    """
    from scipy.special import bdtrc  # scipy.stats, whose test is the same, takes long to import for every evaluation

    total = sum(belong)
    chance = sum(a * b for a, b in zip(answered, belong)) / total**2
    return right > 0 and float(bdtrc(right - 1, total, min(chance, 1.0))) < _BY_CHANCE
