"""How many nodes of each class a size asks for, of one graph."""

from __future__ import annotations

from condense.graphs.methods.budget import GraphBudget
from condense.graphs.real import TrainingNodes
from condense.runtime.errors import CondenseError


def check_size(data: TrainingNodes, budget: GraphBudget) -> None:
    """Raise `CondenseError` unless there is a size that gives every class a node; bytes are only known when made."""
    if not budget.given:
        raise CondenseError(
            f"no size is given: say how many nodes of {data.info.name} per class (--ipc), which part of all its nodes "
            "(--fraction), or how many bytes (--bytes)"
        )
    if budget.bytes is None:
        node_counts(data, budget)


def node_counts(data: TrainingNodes, budget: GraphBudget) -> list[int]:
    """How many nodes of each class, at most as many as are of known class; a fraction is that of all nodes."""
    return budget.counts(data.class_counts(), len(data.features))
