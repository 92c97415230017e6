"""What accuracies say beside one another: gains, gaps, the robust scores of DD-Ranking, ranks with their intervals.

All accuracies are fractions. Differences are of means over all networks on all sets, with Welch's 95 % interval where
both sides have two values or more: a difference is claimed only where the interval leaves out zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np

from benchmarks.table import Column, Row, Score, Table
from condense.evaluation.protocols import Protocol
from condense.evaluation.statistics import Difference, welch_difference
from condense.runtime.seeds import derive_seed

DRAWS = 2000  # of a bootstrap


def squashed(value: float) -> float:
    """A difference of fractions, from -1 to 1, brought into 0 to 1: (e^value - 1/e) / (e - 1/e).

    As DD-Ranking's scores are defined, whose code gives it percentages instead.

    >>> [round(squashed(value), 4) for value in (-1, -0.1, 0, 0.1, 1)]
    [0.0, 0.2285, 0.2689, 0.3137, 1.0]
    """
    return (math.exp(value) - math.exp(-1)) / (math.e - math.exp(-1))


def label_robust_score(gain: float, hard_label_gap: float, weight: float = 0.5) -> float:
    """DD-Ranking's LRS: of the gain over random images under the method's own labels, and the gap under hard ones.

    `hard_label_gap` is that of all real data to the set, both with class indices. The rate of random images is not
    searched here, as DD-Ranking does on test images.

    >>> round(label_robust_score(gain=0.2, hard_label_gap=0.4), 4)
    0.2285
    """
    return squashed(weight * gain - (1 - weight) * hard_label_gap)


def augmentation_robust_score(gain_with: float, gain_without: float, weight: float = 0.5) -> float:
    """DD-Ranking's ARS: of the gains over random images with and without augmentation in training.

    >>> round(augmentation_robust_score(0.2, 0.0), 4)
    0.3137
    """
    return squashed(weight * gain_with + (1 - weight) * gain_without)


def recovery_ratio(accuracy: float, full: float) -> float:
    """The part of the accuracy of all real data that a set reaches.

    >>> round(recovery_ratio(0.45, 0.9), 2)
    0.5
    """
    return accuracy / full


def rank_intervals(
    accuracies: Mapping[str, Sequence[float]], *, seed: int = 0, confidence: float = 0.95
) -> dict[str, tuple[float, int, int]]:
    """Mean rank and the ends of its bootstrap interval, by name; rank 1 is the best, equal means share the better one.

    Each of 2,000 draws takes as many accuracies of each, with replacement, and ranks their means. One accuracy alone
    does not vary, so that its interval says nothing of its own chance.

    >>> rank_intervals({"a": [0.8, 0.82], "b": [0.5, 0.52], "c": [0.81, 0.8]})["b"]
    (3.0, 3, 3)
    """
    draws = np.random.default_rng(derive_seed(seed, "rank intervals"))
    means = np.stack([draws.choice(values, (DRAWS, len(values))).mean(1) for values in accuracies.values()])  # (n, R)
    ranks = 1 + (means[None] > means[:, None]).sum(1)
    ends = np.quantile(ranks, [(1 - confidence) / 2, (1 + confidence) / 2], axis=1, method="nearest")
    return {name: (fmean(row), int(low), int(high)) for name, row, low, high in zip(accuracies, ranks.tolist(), *ends)}


@dataclass(frozen=True)
class RowScores:
    """What a set is worth in one column, beside others of its data and size; None where a cell for it is missing.

    Args:
        gain: over random images in the same column.
        matched_gain: over what costs as much without learning: mosaics of random images for sets that store mosaics of
            as many, else random images under the same labels.
        hard_label_gap: how much better all real data is, both with class indices and the same network.
        recovery: the part of the accuracy of all real data in the same column.
        label_robust: see `label_robust_score`; for columns with soft labels, of the gap in the column of class indices.
        augmentation_robust: see `augmentation_robust_score`; where a column of the same rule but for its augmentation
            is there.
        other_networks: mean accuracy, and the worst, in the networks of the same protocol beside that of this column.
        gain_per_kilobyte: of the whole set, labels and decoder included.
        seconds: until one network is trained: making, experts and evidence included.
    """

    gain: Difference | None = None
    matched_gain: Difference | None = None
    hard_label_gap: float | None = None
    recovery: float | None = None
    label_robust: float | None = None
    augmentation_robust: float | None = None
    other_networks: tuple[float, float] | None = None
    gain_per_kilobyte: float | None = None
    seconds: float | None = None


def row_scores(table: Table, row: Row, column: Column) -> RowScores:
    """The scores of a row in a column, from the cells that are there."""
    score, gain = table.scores[row, column], _gain(table, row, column, _is_random)
    tiles = _tiles(score)
    matched = gain if tiles == 1 else _gain(table, row, column, lambda other: _is_mosaic_of_random(other, tiles))
    full, hard = table.full.get((row.data, replace(column, labels=""))), _hard_column(table, row, column)
    gap = None if hard is None else _hard_label_gap(table, row, hard)
    size = score.records[0].bytes
    return RowScores(
        gain=gain,
        matched_gain=matched,
        hard_label_gap=gap,
        recovery=None if full is None or not full.mean else recovery_ratio(score.spread.mean, full.mean),
        label_robust=None if gain is None or gap is None else label_robust_score(gain.mean, gap),
        augmentation_robust=_augmentation_robust(table, row, column, gain),
        other_networks=_other_networks(table, row, column),
        gain_per_kilobyte=None if gain is None or not size else gain.mean / (size / 1000),
        seconds=_seconds(score),
    )


def difference(first: Sequence[float], second: Sequence[float]) -> Difference:
    """Of the means, with Welch's interval; without one, from minus to plus infinity, where a side has one value."""
    if min(len(first), len(second)) > 1:
        return welch_difference(first, second)
    return Difference(fmean(first) - fmean(second), -math.inf, math.inf)


def _gain(table: Table, row: Row, column: Column, is_baseline: Callable[[Score], bool]) -> Difference | None:
    """Over the baseline of the same data, size and column; None where there is none."""
    for other in table.rows:
        found = table.scores.get((other, column))
        if (other.data, other.size) == (row.data, row.size) and found is not None and is_baseline(found):
            return difference(table.scores[row, column].accuracies, found.accuracies)
    return None


def _is_random(score: Score) -> bool:
    made = score.records[0].configuration.made
    return made is not None and made.method == "random" and made.settings.get("factor") is None


def _is_mosaic_of_random(score: Score, tiles: float) -> bool:
    made = score.records[0].configuration.made
    return made is not None and made.method == "random" and _tiles(score) == tiles


def _tiles(score: Score) -> float:
    """How many training images each stored one gives."""
    record = score.records[0]
    return (record.images or 0) / (record.stored_images or record.images or 1)


def _rule(score: Score) -> Protocol | None:
    """By which its networks were trained; None where these are of graphs."""
    rule = score.records[0].configuration.column.rule
    return rule if isinstance(rule, Protocol) else None


def _is_hard(rule: Protocol | None) -> bool:
    return rule is None or rule.labels == "hard"


def _hard_column(table: Table, row: Row, column: Column) -> Column | None:
    """A column of class indices with this network that the row is in; this one, if it is one."""
    for other in [column, *table.columns]:
        score = table.scores.get((row, other))
        if other.net == column.net and score is not None and _is_hard(_rule(score)):
            return other
    return None


def _hard_label_gap(table: Table, row: Row, hard: Column) -> float | None:
    full = table.full.get((row.data, replace(hard, labels="")))
    return None if full is None or full.mean is None else full.mean - table.scores[row, hard].spread.mean


def _augmentation_robust(table: Table, row: Row, column: Column, gain: Difference | None) -> float | None:
    """With the column of the same rule that has no augmentation, for a column that has one."""
    rule = _rule(table.scores[row, column])
    if gain is None or rule is None or rule.rule.augmentation is None:
        return None
    bare = rule.model_copy(update={"rule": rule.rule.model_copy(update={"augmentation": None})}).hash
    for other in table.columns:
        if other.net == column.net and table.hashes[other] == bare and (row, other) in table.scores:
            without = _gain(table, row, other, _is_random)
            return None if without is None else augmentation_robust_score(gain.mean, without.mean)
    return None


def _other_networks(table: Table, row: Row, column: Column) -> tuple[float, float] | None:
    """Mean and worst accuracy in other networks under the same protocol and labels."""
    means = [
        score.spread.mean
        for (place, other), score in table.scores.items()
        if place == row and other != column and replace(other, net=column.net) == column
    ]
    return (fmean(means), min(means)) if means else None


def _seconds(score: Score) -> float | None:
    """Making a set, experts included, and training one network on it."""
    record, making = score.records[0], score.making_seconds
    training = record.seconds.training
    if making is None or training is None:
        return None
    return making + (score.expert_seconds or 0.0) + training / len(record.accuracies)
