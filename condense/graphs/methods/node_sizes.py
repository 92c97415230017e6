"""How many nodes of each class a size asks for, of one graph."""

from __future__ import annotations

from collections.abc import Sequence

from condense.graphs.methods.budget import GraphBudget
from condense.graphs.real import TrainingNodes


def check_size(data: TrainingNodes, budget: GraphBudget) -> None:
    """Raise `CondenseError` unless there is a size that gives every class a node; bytes are only known when made."""
    budget.check_given()
    if budget.bytes is None:
        node_counts(data, budget, data.class_counts())


def node_counts(data: TrainingNodes, budget: GraphBudget, there: Sequence[int]) -> list[int]:
    """How many nodes of each class, at most as many as are there; a fraction is that of all nodes of the graph."""
    return budget.shares(there, len(data.features))
