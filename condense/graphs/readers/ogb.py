"""The raw files of the Open Graph Benchmark (Hu et al., NeurIPS 2020): CSV in gzip, with a split by scaffold.

OGB's own package does not work with today's torch, and looks for updates when it is imported.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from condense.graphs.readers.files import Files
from condense.graphs.readers.raw import RawGraphs, checked_parts
from condense.runtime.errors import CondenseError

COUNTS = "raw/num-node-list.csv.gz"
_SPLITS = ("train", "valid", "test")


def read_ogb(files: Files) -> RawGraphs:
    """Read `raw/*.csv.gz` and the only split of `split/*/`.

    Each edge stands there in one direction, and gets the other. A set with one binary label is measured by ROC-AUC.
    Raises `CondenseError` for files that do not fit together, for several tasks and for regression.
    """
    found = files.one(COUNTS)
    assert found is not None, "a source is of this form because it has one"
    root = found.removesuffix(COUNTS)
    name = root.rstrip("/").split("/")[-1] or files.path.name.split(".")[0]
    node_counts = files.integers(found, 1)[:, 0]
    edge_counts = files.integers(f"{root}raw/num-edge-list.csv.gz", 1)[:, 0]
    labels = files.reals(f"{root}raw/graph-label.csv.gz")
    if labels.shape[1] > 1:
        raise CondenseError(f"{name} has {labels.shape[1]} tasks; only sets with one class for each graph are read")
    edges = files.integers(f"{root}raw/edge.csv.gz", 2).T
    _check_counts(name, node_counts, edge_counts, edges, labels)
    both, order = _both_directions(edges, edge_counts)
    columns, edge_labels = f"{root}raw/node-feat.csv.gz", f"{root}raw/edge-feat.csv.gz"
    attributes = files.integers(columns) if columns in files.names else None
    if attributes is not None and len(attributes) != node_counts.sum():
        raise CondenseError(f"{name} has {node_counts.sum()} nodes but features of {len(attributes)}; get it again")
    return RawGraphs(
        name=name,
        node_counts=node_counts,
        edge_counts=2 * edge_counts,
        edges=both,
        targets=labels[:, 0],
        columns=attributes,
        edge_labels=_edge_labels(files, edge_labels, order, name),
        parts=_parts(files, root, len(node_counts), name),
        metric="roc-auc" if len(np.unique(labels)) == 2 else "accuracy",
    )


def _check_counts(
    name: str, node_counts: np.ndarray, edge_counts: np.ndarray, edges: np.ndarray, labels: np.ndarray
) -> None:
    if not len(node_counts) == len(edge_counts) == len(labels):
        raise CondenseError(
            f"{name} has numbers of nodes of {len(node_counts)} graphs, of edges of {len(edge_counts)} and labels of "
            f"{len(labels)}; get it again"
        )
    if node_counts.min() < 1 or edge_counts.min() < 0 or edge_counts.max() > edges.shape[1]:
        raise CondenseError(f"{name} has graphs without nodes, or with more edges than there are; get it again")
    if edge_counts.sum() != edges.shape[1]:
        raise CondenseError(f"{name} has {edges.shape[1]} edges but counts {edge_counts.sum()}; get it again")


def _both_directions(edges: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each graph's edges, then the same ones turned round; and of which edge each one is a copy."""
    owner = np.repeat(np.arange(len(counts)), counts)
    copies = np.concatenate([np.arange(edges.shape[1])] * 2)
    order = np.argsort(np.concatenate([owner, owner]), kind="stable")
    return np.concatenate([edges, edges[::-1]], 1)[:, order], copies[order]


def _edge_labels(files: Files, path: str, order: np.ndarray, name: str) -> np.ndarray | None:
    """One label for each distinct row of edge features, counted from 0."""
    if path not in files.names:
        return None
    rows = files.integers(path)
    if 2 * len(rows) != len(order):
        raise CondenseError(f"{name} has {len(order) // 2} edges but features of {len(rows)}; get it again")
    numbers: np.ndarray = np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1)
    ordered: np.ndarray = numbers[order]
    return ordered


def _parts(files: Files, root: str, count: int, name: str) -> tuple[Tensor, Tensor, Tensor] | None:
    """The split, if there is one."""
    kinds = sorted({file.split("/")[-2] for file in files.names if file.startswith(f"{root}split/")})
    if not kinds:
        return None
    if len(kinds) > 1:
        raise CondenseError(f"{name} has several splits ({', '.join(kinds)}); keep one folder of split/")
    paths = [f"{root}split/{kinds[0]}/{part}.csv.gz" for part in _SPLITS]
    return checked_parts([files.integers(path, 1)[:, 0] for path in paths], count, name)
