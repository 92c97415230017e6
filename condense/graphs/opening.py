"""Files of condensed graphs, whatever their kind."""

from __future__ import annotations

from pathlib import Path

from condense.graphs.file import GRAPHS, NODES
from condense.graphs.sets import GraphSet, NodeGraphSet
from condense.runtime.errors import CondenseError
from condense.runtime.hdf5.reader import kind_of


def holds_graphs(path: Path) -> bool:
    """Whether the file at `path` is a set of graphs, or a graph of nodes, by what it calls itself."""
    return kind_of(path) in (GRAPHS, NODES)


def load_graph_set(path: str | Path) -> GraphSet | NodeGraphSet:
    """The set in a file, verified; raises `CondenseError` for a file that is no whole set of graphs."""
    kind = kind_of(Path(path))
    if kind == NODES:
        return NodeGraphSet.load(path)
    if kind not in (GRAPHS, None):
        raise CondenseError(f"{path} is a {kind}; give a {GRAPHS} or a {NODES}")
    return GraphSet.load(path)  # which says what is wrong with a file of no kind
