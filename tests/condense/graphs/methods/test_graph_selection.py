"""Choices of real graphs: beginnings of larger ones, within their budget, refused where they choose nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from condense.graphs.methods.budget import GraphBudget, shared
from condense.graphs.real import RealGraphs
from condense.graphs.sets import GraphSet
from condense.runtime.errors import CondenseError

MadeBy = Callable[..., GraphSet]


@pytest.mark.parametrize("method", ["random", "herding", "k-center"])
def test_a_smaller_choice_is_the_beginning_of_a_larger_one(data: RealGraphs, method: str, made_by: MadeBy) -> None:
    small, large = (made_by(method, data.train, ipc=count) for count in (2, 4))
    assert small.class_counts == (2, 2)
    sources = large.source_indices
    assert small.source_indices is not None
    assert sources is not None
    assert small.source_indices.tolist() == [*sources[:2].tolist(), *sources[4:6].tolist()]
    assert torch.equal(data.train.labels[sources], large.labels)
    again = made_by(method, data.train, ipc=4)
    assert again.source_indices is not None
    assert torch.equal(again.source_indices, sources)


def test_budgets(data: RealGraphs, made_by: MadeBy) -> None:
    for budget in (60, 150):
        made = made_by("random", data.train, bytes=budget)
        assert made.bytes <= budget
        assert abs(made.class_counts[0] - made.class_counts[1]) <= 1
    assert made_by("random", data.train, fraction=0.25).class_counts == (4, 4)
    assert made_by("herding", data.train, ipc=1, embedding="log-probabilities")
    assert made_by("random", data.train, ipc=10**6).class_counts == data.train.class_counts()
    assert shared(20, [10, 30]) == [5, 15]
    assert shared(4, [10, 35]) == [1, 3]
    assert shared(50, [10, 35]) == [10, 35]
    assert shared(90, [10, 35], learned=True) == [20, 70]
    assert GraphBudget(ipc=7).shares([3, 9], learned=True) == [7, 7]


@pytest.mark.parametrize(
    ("method", "options", "said"),
    [
        ("herd", {"ipc": 1}, "did you mean herding"),
        ("random", {}, "needs a size"),
        ("random", {"ipc": 1, "bytes": 9}, "two kinds|one of them"),
        ("random", {"bytes": 3}, "each class takes"),
        ("random", {"fraction": 2.0}, "fraction"),
        ("random", {"fraction": 0.01}, "less than one of each"),
        ("random", {"ipc": 0}, "ipc"),
        ("herding", {"ipc": 1, "net": "gim"}, "did you mean gin"),
        ("herding", {"ipc": 1, "embedding": "none"}, "embedding"),
    ],
)
def test_wrong_budgets_are_refused(
    data: RealGraphs, method: str, options: dict[str, Any], said: str, made_by: MadeBy
) -> None:
    with pytest.raises(CondenseError, match=said):
        made_by(method, data.train, **options)
