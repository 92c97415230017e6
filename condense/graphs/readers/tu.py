"""The text files of TU Dortmund's collection (Morris et al., 2020): NAME_A.txt, NAME_graph_indicator.txt and more."""

from __future__ import annotations

import numpy as np

from condense.graphs.readers.files import Files
from condense.graphs.readers.raw import MOST_GRAPHS, RawGraphs, local_edges
from condense.runtime.errors import CondenseError

INDICATOR = "_graph_indicator.txt"


def read_tu(files: Files) -> RawGraphs:
    """Read the raw files; node labels come before attributes.

    Raises `CondenseError` for files that do not fit together.
    """
    found = files.one(INDICATOR)
    assert found is not None, "a source is of this form because it has one"
    stem = found.removesuffix(INDICATOR)
    name = stem.split("/")[-1]

    def path(ending: str) -> str | None:
        file = f"{stem}_{ending}.txt"
        return file if file in files.names else None

    adjacency, labels = path("A"), path("graph_labels")
    if adjacency is None or labels is None:
        lacking = "edges, " + f"{name}_A.txt" if adjacency is None else "labels, " + f"{name}_graph_labels.txt"
        raise CondenseError(f"{name} has no {lacking}; only graphs with classes are condensed")
    node_counts = _node_counts(files.integers(found, 1)[:, 0], name)
    edges, edge_counts, order = local_edges(files.integers(adjacency, 2).T - 1, node_counts, name)
    nodes, labelled, edge_labels = int(node_counts.sum()), path("node_labels"), path("edge_labels")
    columns = None if labelled is None else _rows(files.integers(labelled), nodes, "node labels", name)
    attributed = path("node_attributes") if columns is None else None
    features = None if attributed is None else _rows(files.reals(attributed), nodes, "node attributes", name)
    notes: tuple[str, ...] = ()
    if columns is not None and path("node_attributes"):
        notes = (f"nodes of {name} have labels and attributes; labels are used",)
    return RawGraphs(
        name=name,
        node_counts=node_counts,
        edge_counts=edge_counts,
        edges=edges,
        targets=_rows(files.integers(labels, 1), len(node_counts), "graph labels", name)[:, 0],
        columns=columns,
        features=None if features is None else features.astype(np.float32),
        edge_labels=None if edge_labels is None else _edge_labels(files.integers(edge_labels, 1)[:, 0], order, name),
        notes=notes,
    )


def _node_counts(indicator: np.ndarray, name: str) -> np.ndarray:
    """Nodes of each graph, of the graph of each node, counted from 1 and ascending."""
    if indicator[0] != 1 or not np.isin(np.diff(indicator), (0, 1)).all() or indicator[-1] > MOST_GRAPHS:
        row = int((~np.isin(np.diff(indicator), (0, 1))).argmax()) + 1 if indicator[0] == 1 else 0
        raise CondenseError(
            f"line {row + 1} of {name}{INDICATOR} names graph {indicator[row]}: graphs are counted from 1, one after "
            "the other, and have nodes"
        )
    return np.bincount(indicator - 1)


def _rows(values: np.ndarray, count: int, what: str, name: str) -> np.ndarray:
    if len(values) != count:
        raise CondenseError(f"{name} has {len(values)} lines of {what}, and {count} are needed; get its files again")
    return values


def _edge_labels(labels: np.ndarray, order: np.ndarray, name: str) -> np.ndarray:
    """In the order of the edges, counted from 0."""
    _rows(labels[:, None], len(order), "edge labels", name)
    return np.unique(labels[order], return_inverse=True)[1].reshape(-1)
