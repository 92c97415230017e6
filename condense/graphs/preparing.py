"""From what a reader found to real data: labels of nodes, classes, splits by content, and what is to be said."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from condense.data.splitting import stratified_split
from condense.graphs.alphabet import Alphabet, alphabet_of, binned_degrees
from condense.graphs.graphs import Graphs, clean, from_counts
from condense.graphs.readers.raw import RawGraphs, RawNodes, classes_of
from condense.graphs.real import (
    GraphInfo,
    HeldOutNodes,
    RealGraphs,
    RealNodeGraph,
    Setting,
    TestGraphs,
    TrainingGraphs,
    TrainingNodes,
    ValidationGraphs,
)
from condense.runtime.errors import CondenseError
from condense.runtime.progress import say

Degrees = Literal["exact", "log2"]
Parts = tuple[Tensor, Tensor, Tensor]
_HELD_OUT = 0.1  # of every class, for the test part and then for validation
_MOST_NODES = 100_000_000
_MOST_FEATURES = 2**28  # numbers that are made of degrees: 1 GB


def real_graphs(raw: RawGraphs, degrees: Degrees) -> RealGraphs:
    """Graphs with their labels, split; notes are said. Raises `CondenseError` for what cannot be one data set."""
    bare, columns, notes = _settled(raw, degrees)
    labels, classes = classes_of(raw.targets, raw.name)
    described = bare
    if columns is None and raw.features is not None:
        described = replace(bare, node_labels=None, features=torch.from_numpy(raw.features))
    parts = _parts(raw.parts, labels, _keys(described, columns))
    alphabet = None
    if columns is not None:
        is_training = torch.zeros(len(labels), dtype=torch.bool)
        is_training[parts[0]] = True
        ids, alphabet = alphabet_of(columns, is_training[bare.graph_of_node].numpy())
        described = replace(bare, node_labels=ids)
    info = _info(raw, classes, described, labels, parts, alphabet)
    _check_classes(labels[parts[0]], info)
    _say(notes)
    graphs = [described.at(part) for part in parts]
    return RealGraphs(
        info,
        TrainingGraphs(graphs[0], labels[parts[0]], info),
        ValidationGraphs(graphs[1], labels[parts[1]], info),
        TestGraphs(graphs[2], labels[parts[2]], info),
        notes,
    )


def _settled(raw: RawGraphs, degrees: Degrees) -> tuple[Graphs, np.ndarray | None, tuple[str, ...]]:
    """The graphs with nodes that are all alike, whole numbers that describe each of them, and what is to be said."""
    if not len(raw.node_counts):
        raise CondenseError(f"{raw.name} has no graphs; give some")
    if max(int(raw.node_counts.max()), int(raw.node_counts.sum())) > _MOST_NODES:
        raise CondenseError(f"{raw.name} declares more than {_MOST_NODES:,} nodes, which is too much to read")
    bare, dropped = clean(
        Graphs(
            from_counts(torch.from_numpy(raw.node_counts)),
            from_counts(torch.from_numpy(raw.edge_counts)),
            torch.from_numpy(raw.edges),
            torch.zeros(int(raw.node_counts.sum()), dtype=torch.int64),
            edge_labels=None if raw.edge_labels is None else torch.from_numpy(raw.edge_labels),
        )
    )
    notes = raw.notes if not dropped else (*raw.notes, f"{dropped} loops and repeated edges of {raw.name} are left out")
    if raw.columns is not None or raw.features is not None:
        return bare, raw.columns, notes
    found = bare.degrees if degrees == "exact" else binned_degrees(bare.degrees)
    notes = (*notes, f"nodes of {raw.name} have neither labels nor features: their degree is used")
    return bare, found.numpy()[:, None], notes


def _info(
    raw: RawGraphs,
    classes: tuple[str, ...],
    graphs: Graphs,
    labels: Tensor,
    parts: Parts,
    alphabet: Alphabet | None,
) -> GraphInfo:
    features = 0 if graphs.features is None else int(graphs.features.shape[1])
    table = () if alphabet is None else (alphabet.table,)
    return GraphInfo(
        name=raw.name,
        classes=classes,
        features=features if alphabet is None else alphabet.features,
        fingerprint=_fingerprint(classes, *_tensors(graphs), labels, *parts, *table),
        metric=raw.metric,
        directed=not graphs.is_symmetric(),
        alphabet=alphabet,
    )


def _tensors(graphs: Graphs) -> list[Tensor]:
    given = (graphs.node_labels, graphs.features, graphs.edge_labels)
    return [graphs.node_ptr, graphs.edge_ptr, graphs.edges, *(each for each in given if each is not None)]


def _keys(graphs: Graphs, columns: np.ndarray | None) -> list[bytes]:
    """A digest of what each graph holds, to split by."""
    nodes, edges = graphs.node_ptr.tolist(), graphs.edge_ptr.tolist()
    described = columns if columns is not None else graphs.features.numpy() if graphs.features is not None else None
    assert described is not None, "nodes have columns or features"
    pairs = graphs.edges.T.contiguous().numpy()
    labels = None if graphs.edge_labels is None else graphs.edge_labels.numpy()
    keys = []
    for graph in range(len(graphs)):
        digest = hashlib.blake2b(described[nodes[graph] : nodes[graph + 1]].tobytes(), digest_size=16)
        digest.update(pairs[edges[graph] : edges[graph + 1]].tobytes())
        if labels is not None:
            digest.update(labels[edges[graph] : edges[graph + 1]].tobytes())
        keys.append(digest.digest())
    return keys


def _parts(given: Parts | None, labels: Tensor, keys: Sequence[bytes]) -> Parts:
    """The split that is given, else a tenth of each class for the test part; and as much for validation, if none is."""
    if given is None:
        rest, test = stratified_split(labels, keys, _HELD_OUT)
        share = _HELD_OUT / (1 - _HELD_OUT)
    else:
        rest, validation, test = given
        if len(validation):
            return given
        share = _HELD_OUT
    kept, held_out = stratified_split(labels[rest], [keys[index] for index in rest.tolist()], share)
    return rest[kept], rest[held_out], test


def _fingerprint(classes: Sequence[str], *tensors: Tensor) -> str:
    digest = hashlib.blake2b("\0".join(classes).encode(), digest_size=16)
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _check_classes(labels: Tensor, info: GraphInfo) -> None:
    counts = torch.bincount(labels, minlength=len(info.classes))
    if (counts == 0).any():
        label = int((counts == 0).int().argmax())
        raise CondenseError(
            f"class {info.classes[label]!r} of {info.name} has nothing in the training part; give another split, or "
            "leave the class out"
        )


def _say(notes: Sequence[str]) -> None:
    for note in notes:
        say(f"note: {note}")


def real_node_graph(raw: RawNodes, degrees: Degrees, setting: Setting) -> RealNodeGraph:
    """One graph with its three sets of nodes; notes are said. Raises `CondenseError` for what cannot be one."""
    labels = torch.from_numpy(raw.labels)
    if not len(raw.classes) > 1 or not -1 <= int(labels.min()) <= int(labels.max()) < len(raw.classes):
        raise CondenseError(f"{raw.name} has classes {labels.unique()[:8].tolist()}; two or more are needed, from 0 on")
    edges = _both_directions(raw)
    notes = raw.notes
    if raw.features is None:
        x = _degree_features(torch.bincount(edges[1], minlength=len(labels)), degrees, raw.name)
        notes = (*notes, f"nodes of {raw.name} have no features: their degree is used")
    else:
        x = torch.from_numpy(raw.features)
        if not x.isfinite().all():
            row = int((~x.isfinite()).any(1).int().argmax())
            raise CondenseError(f"the features of node {row} are not finite; correct or leave out what holds them")
    parts = _node_parts(raw, labels, x)
    info = GraphInfo(
        name=raw.name,
        classes=raw.classes,
        features=int(x.shape[1]),
        fingerprint=_fingerprint(raw.classes, x, edges, labels, *parts),
        metric="macro-f1" if _skewed(labels[parts[2]]) else "accuracy",
        normalize_rows=bool((x >= 0).all() and (x == x.floor()).all()),
    )
    _check_classes(labels[parts[0]], info)
    if setting == "transductive":
        notes = (*notes, f"training on {raw.name} sees the features and edges of test nodes, never their classes")
    _say(notes)
    validation, test = (HeldOutNodes(part, labels[part]) for part in parts[1:])
    train = _training(x, edges, labels, parts[0], info, setting)
    return RealNodeGraph(info, x, edges, train, validation, test, setting, notes)


def _both_directions(raw: RawNodes) -> Tensor:
    """The edges in both directions and in order, int64 [2, E]; raises for nodes that are not there."""
    count = len(raw.labels)
    once = torch.from_numpy(np.ascontiguousarray(raw.edges))
    pointers = torch.tensor([0, 2 * once.shape[1]])
    alike = torch.zeros(count, dtype=torch.int64)
    return clean(Graphs(torch.tensor([0, count]), pointers, torch.cat([once, once.flip(0)], 1), alike))[0].edges


def _degree_features(found: Tensor, degrees: Degrees, name: str) -> Tensor:
    """One-hot degrees, float32 [n, F]; of one graph, so that no degree is new in a test."""
    columns = (found if degrees == "exact" else binned_degrees(found)).numpy()[:, None]
    ids, alphabet = alphabet_of(columns, np.ones(len(found), bool))
    if len(found) * alphabet.features > _MOST_FEATURES:
        raise CondenseError(
            f"{len(found):,} nodes of {name} have {alphabet.features:,} different degrees, too many to be features; "
            "give degrees=log2, or features"
        )
    return alphabet.table[ids]


def _node_parts(raw: RawNodes, labels: Tensor, features: Tensor) -> Parts:
    """Indices of nodes with a class."""
    known = (labels >= 0).nonzero().flatten()
    if raw.parts is not None:
        without = [int(part[labels[part] < 0][0]) for part in raw.parts if (labels[part] < 0).any()]
        if without:
            raise CondenseError(f"node {without[0]} of {raw.name} is in its split but has no class; leave it out")
    keys = [
        hashlib.blake2b(row.tobytes() + index.to_bytes(8, "big"), digest_size=16).digest()
        for index, row in enumerate(features.numpy())
    ]
    if raw.parts is not None:
        return _parts(raw.parts, labels, keys)
    train, validation, test = _parts(None, labels[known], [keys[index] for index in known.tolist()])
    return known[train], known[validation], known[test]


def _training(
    features: Tensor, edges: Tensor, labels: Tensor, indices: Tensor, info: GraphInfo, setting: Setting
) -> TrainingNodes:
    if setting == "transductive":
        return TrainingNodes(features, edges, indices, labels[indices], torch.arange(len(features)), info)
    place = torch.full((len(features),), -1)
    place[indices] = torch.arange(len(indices))
    inside = place[edges]
    inside = inside[:, (inside >= 0).all(0)]
    return TrainingNodes(features[indices], inside, torch.arange(len(indices)), labels[indices], indices, info)


def _skewed(labels: Tensor, most: float = 10.0) -> bool:
    """Whether the largest class has more than `most` times the nodes of the smallest that is there."""
    counts = torch.bincount(labels)
    counts = counts[counts > 0]
    return bool(counts.max() > most * counts.min())
