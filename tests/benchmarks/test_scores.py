"""Scores of rows, from records whose numbers are made up."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_ind

from benchmarks.records import Parts, Record
from benchmarks.scores import RowScores, label_robust_score, rank_intervals, row_scores, squashed
from benchmarks.table import Column, Table, build_table
from condense.evaluation.protocols import PROTOCOLS


@pytest.fixture
def record(make_record: Callable[..., Record]) -> Callable[..., Record]:
    """Of a set of ten stored images and 20,000 bytes, or of all data."""

    def made(
        method: str | None,
        accuracies: tuple[float, ...],
        *,
        protocol: str = "desk",
        net: str = "convnet",
        tiles: int = 1,
        settings: dict[str, Any] | None = None,
        seconds: Parts = Parts(),  # noqa: B008  (it cannot be changed)
        expert_seconds: float | None = None,
    ) -> Record:
        return make_record(
            method,
            accuracies,
            protocol=protocol,
            protocol_hash=PROTOCOLS.find(protocol).hash,
            net=net,
            network=f"{net}-d2",
            settings=settings,
            options=settings,
            made_with=False,
            images=10 * tiles,
            stored_images=10,
            bytes=20_000,
            seconds=seconds,
            expert_seconds=expert_seconds,
        )

    return made


def scores_of(table: Table, method: str, protocol: str = "desk", net: str = "convnet") -> RowScores:
    (row,) = [row for row in table.rows if row.method == method]
    return row_scores(table, row, Column(protocol, net))


def test_a_gain_is_over_random_images_of_the_same_column(record):
    dm, random = (0.5, 0.52, 0.51), (0.3, 0.34, 0.29)
    table = build_table([record("dm", dm), record("random", random), record("random", (0.9, 0.9), protocol="dsa")])
    gain = scores_of(table, "dm").gain
    low, high = ttest_ind(dm, random, equal_var=False).confidence_interval()
    assert (gain.mean, gain.low, gain.high) == pytest.approx((np.mean(dm) - np.mean(random), low, high))
    assert gain.is_clear
    assert scores_of(table, "dm").gain_per_kilobyte == pytest.approx(gain.mean / 20)
    assert scores_of(table, "random").gain.mean == 0
    alone = build_table([record("dm", dm)])
    assert scores_of(alone, "dm") == RowScores()
    single = scores_of(build_table([record("dm", (0.5,)), record("random", random)]), "dm").gain
    assert (single.low, single.high, single.is_clear) == (-math.inf, math.inf, False)


def test_sets_of_mosaics_are_matched_with_mosaics_of_random_images(record):
    records = [
        record("idm", (0.6, 0.6), tiles=4),
        record("dm", (0.5, 0.5)),
        record("random", (0.3, 0.3)),
        record("random", (0.45, 0.45), tiles=4, settings={"factor": 2}),
        record("random", (0.1, 0.1), tiles=9, settings={"factor": 3}),
        record("rded", (0.2, 0.2), tiles=4),
    ]
    table = build_table(records)
    assert scores_of(table, "idm").gain.mean == pytest.approx(0.3)
    assert scores_of(table, "idm").matched_gain.mean == pytest.approx(0.15)
    assert scores_of(table, "dm").matched_gain.mean == pytest.approx(0.2)
    assert scores_of(build_table(records[:3]), "idm").matched_gain is None


def test_robust_scores_take_the_gap_under_class_indices(record):
    soft = {"protocol": "desk-soft", "net": "convnet-w64-bn"}
    hard = {"protocol": "desk-soft-hard", "net": "convnet-w64-bn"}
    records = [
        record("dm", (0.5, 0.5), **hard),
        record("dm", (0.7, 0.7), **soft),
        record("random", (0.4, 0.4), **soft),
        record(None, (0.9,), **hard),
    ]
    table = build_table(records)
    found = scores_of(table, "dm", **soft)
    assert found.hard_label_gap == pytest.approx(0.4)
    assert found.label_robust == pytest.approx(label_robust_score(0.3, 0.4))
    assert found.recovery is None  # all data under the soft rule is another line
    assert scores_of(table, "dm", **hard).recovery == pytest.approx(0.5 / 0.9)
    assert scores_of(build_table(records[1:]), "dm", **soft).label_robust is None


def test_the_augmentation_robust_score_needs_a_column_without_augmentation(record, monkeypatch: pytest.MonkeyPatch):
    dsa = PROTOCOLS.find("dsa")
    bare = dsa.model_copy(update={"name": "bare", "rule": dsa.rule.model_copy(update={"augmentation": None})})
    monkeypatch.setattr(type(PROTOCOLS), "find", lambda self, name: {"dsa": dsa, "bare": bare}[name])
    records = [
        record("dm", (0.6, 0.6), protocol="dsa"),
        record("random", (0.4, 0.4), protocol="dsa"),
        record("dm", (0.5, 0.5), protocol="bare"),
        record("random", (0.5, 0.5), protocol="bare"),
    ]
    found = scores_of(build_table(records), "dm", "dsa")
    assert found.augmentation_robust == pytest.approx(squashed(0.1))
    assert scores_of(build_table(records), "dm", "bare").augmentation_robust is None
    assert scores_of(build_table(records[:2]), "dm", "dsa").augmentation_robust is None


def test_other_networks_are_those_of_the_same_protocol(record):
    records = [
        record("dm", (0.6, 0.6)),
        record("dm", (0.5, 0.3), net="alexnet"),
        record("dm", (0.2, 0.2), net="vgg11"),
        record("dm", (0.9, 0.9), protocol="dsa", net="vgg11"),
    ]
    assert scores_of(build_table(records), "dm").other_networks == pytest.approx((0.3, 0.2))
    assert scores_of(build_table(records[:1]), "dm").other_networks is None


def test_seconds_are_of_making_experts_and_training_one_network(record):
    timed = record("mtt", (0.5, 0.5), seconds=Parts(making=60.0, evaluating=50.0, training=40.0), expert_seconds=100.0)
    assert scores_of(build_table([timed]), "mtt").seconds == pytest.approx(60 + 100 + 20)


def test_scores_of_dd_ranking_are_of_fractions():
    values = [squashed(value) for value in np.linspace(-1, 1, 9)]
    assert (values[0], values[4], values[-1]) == pytest.approx((0, 0.26894, 1), abs=1e-5)
    assert all(one < other for one, other in pairwise(values))


def test_ranks_vary_as_accuracies_overlap():
    draws = np.random.default_rng(0)
    accuracies = {
        "best": list(0.9 + 0.001 * draws.normal(size=5)),
        "one": list(0.7 + 0.05 * draws.normal(size=5)),
        "another": list(0.7 + 0.05 * draws.normal(size=5)),
        "worst": [0.1],
    }
    found = rank_intervals(accuracies)
    assert found["best"] == (1.0, 1, 1)
    assert found["worst"] == (4.0, 4, 4)
    assert found["one"][0] + found["another"][0] == pytest.approx(5.0)
    assert found["one"][1:] == (2, 3)
    assert rank_intervals(accuracies) == found
    assert rank_intervals({"a": [0.5, 0.5], "b": [0.5, 0.5], "c": [0.1, 0.2]})["b"] == (1.0, 1, 1)
