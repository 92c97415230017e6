"""`load_graphs`: the one way from what a user names to `RealGraphs` or `RealNodeGraph`."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from condense.data.splitting import stratified_split
from condense.graphs.alphabet import Alphabet, alphabet_of, binned_degrees
from condense.graphs.graphs import Graphs, clean, from_counts
from condense.graphs.readers import gin, ogb, pyg, tu
from condense.graphs.readers.files import Files
from condense.graphs.readers.node_npz import read_node_npz
from condense.graphs.readers.raw import RawGraphs, RawNodes, classes_of
from condense.graphs.readers.tables import read_tables
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
from condense.runtime.errors import CondenseError, near_names
from condense.runtime.places import cache_directory
from condense.runtime.progress import say

_PICKLES = (".pt", ".pth", ".pkl", ".pickle")
_SUFFIXES = ("", ".zip", ".npz", ".tar")
_MOST_NODES = 100_000_000
_MOST_FEATURES = 2**28  # numbers that are made of degrees: 1 GB
_HELD_OUT = 0.1  # of every class, for the test part and then for validation
Parts = tuple[Tensor, Tensor, Tensor]


def load_graphs(
    source: str | Path | Sequence[Any] | Any,
    *,
    data_root: str | Path | None = None,
    fold: int = 1,
    degrees: Literal["exact", "log2"] = "exact",
    setting: Setting = "transductive",
) -> RealGraphs | RealNodeGraph:
    """Load graphs with a class each, or one graph whose nodes have classes.

    Args:
        source: the path of a folder or zip of TU text files, of GIN's text file, of OGB's raw files or of the user's
            own tables (`condense.graphs.readers.tables`); `FILE.tar#FOLDER` for one of several in an archive; an
            `.npz` (`condense.graphs.readers.node_npz`); the name of such a thing under `data_root`; a `Data` of
            torch_geometric, or a sequence of them.
        data_root: where names are looked for, by default `$CONDENSE_DATA` or else a folder of condense's cache.
        fold: which of the folds that lie beside GIN's text file is the test part.
        degrees: where nodes have neither labels nor features, their degree stands for them, as it is or in bins that
            double (for social graphs, in which hardly two nodes have the same neighbourhood).
        setting: for one graph, whether training sees the features and edges of all nodes or of training nodes only.

    A split that comes with the data is taken; otherwise it is stratified, 80/10/10, by what the graphs hold.

    Raises:
        CondenseError: the source is unknown, missing, damaged, a pickle, or has no classes; it says the way out.
    """
    raw = _read(source, data_root, fold)
    if isinstance(raw, RawNodes):
        return _node_graph(raw, degrees, setting)
    return _graphs(raw, degrees)


def _read(source: Any, data_root: str | Path | None, fold: int) -> RawGraphs | RawNodes:
    if not isinstance(source, str | Path):
        return _read_objects([source] if pyg.is_data(source) else list(source) if hasattr(source, "__len__") else [])
    text, _, part = str(source).partition("#")
    path = _found(text, data_root)
    if path.suffix.lower() in _PICKLES:
        raise CondenseError(
            f"{path} is a pickle, which can run anything when read; give the raw text files, an .npz, or the Data "
            "object itself"
        )
    if path.suffix.lower() == ".npz":
        return read_node_npz(path)
    files = Files(path, part)
    if files.one(tu.INDICATOR):
        return tu.read_tu(files)
    if files.one(ogb.COUNTS):
        return ogb.read_ogb(files)
    if files.one("nodes.csv"):
        return read_tables(files)
    text_file = gin.text_file(files)
    if text_file is not None:
        return gin.read_gin(files, text_file, fold)
    raise CondenseError(
        f"{source} has none of the forms that are known: NAME{tu.INDICATOR} (TU), NAME/NAME.txt (GIN), {ogb.COUNTS} "
        "(OGB), nodes.csv and edges.csv"
    )


def _read_objects(items: Sequence[Any]) -> RawGraphs | RawNodes:
    """One graph whose nodes have classes, which data sets of one graph hold as well; else many graphs."""
    if len(items) == 1 and pyg.is_data(items[0]):
        return pyg.read_pyg_nodes(items[0])
    return pyg.read_pyg_graphs(items)


def _found(text: str, data_root: str | Path | None) -> Path:
    """The path that is meant: as given, or under `data_root`."""
    root = Path(data_root or os.environ.get("CONDENSE_DATA") or cache_directory() / "data").expanduser()
    given = Path(text).expanduser()
    for place in (given, *(root / f"{text}{suffix}" for suffix in _SUFFIXES)):
        try:
            if text and place.exists():
                return place
        except (OSError, ValueError):  # no name that a file can have, or a folder that may not be entered
            continue
    there = [path.stem for path in root.iterdir()] if root.is_dir() else []
    raise CondenseError(
        f"no graphs {text!r}, neither here nor in {root}; give a folder, a .zip, a .tar#FOLDER or an .npz"
        f"{near_names(text, there)}"
    )


def _graphs(raw: RawGraphs, degrees: Literal["exact", "log2"]) -> RealGraphs:
    if not len(raw.node_counts):
        raise CondenseError(f"{raw.name} has no graphs; give some")
    if max(int(raw.node_counts.max()), int(raw.node_counts.sum())) > _MOST_NODES:
        raise CondenseError(f"{raw.name} declares more than {_MOST_NODES:,} nodes, which is too much to read")
    labels, classes = classes_of(raw.targets, raw.name)
    bare = Graphs(
        from_counts(torch.from_numpy(raw.node_counts)),
        from_counts(torch.from_numpy(raw.edge_counts)),
        torch.from_numpy(raw.edges),
        torch.zeros(int(raw.node_counts.sum()), dtype=torch.int64),
        edge_labels=None if raw.edge_labels is None else torch.from_numpy(raw.edge_labels),
    )
    bare, dropped = clean(bare)
    notes = raw.notes if not dropped else (*raw.notes, f"{dropped} loops and repeated edges of {raw.name} are left out")
    columns = raw.columns
    if columns is None and raw.features is None:
        found = bare.degrees if degrees == "exact" else binned_degrees(bare.degrees)
        columns = found.numpy()[:, None]
        notes = (*notes, f"nodes of {raw.name} have neither labels nor features: their degree is used")
    described = replace(bare, node_labels=None, features=torch.from_numpy(raw.features)) if columns is None else bare
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
    train, validation, test = (
        kind(described.at(part), labels[part], info)
        for kind, part in zip((TrainingGraphs, ValidationGraphs, TestGraphs), parts)
    )
    assert isinstance(train, TrainingGraphs)
    assert isinstance(validation, ValidationGraphs)
    assert isinstance(test, TestGraphs)
    return RealGraphs(info, train, validation, test, notes)


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


def _node_graph(raw: RawNodes, degrees: Literal["exact", "log2"], setting: Setting) -> RealNodeGraph:
    count = len(raw.labels)
    one = Graphs(
        torch.tensor([0, count]),
        torch.tensor([0, raw.edges.shape[1]]),
        torch.from_numpy(np.ascontiguousarray(raw.edges)),
        torch.zeros(count, dtype=torch.int64),
    )
    both = replace(one, edges=torch.cat([one.edges, one.edges.flip(0)], 1), edge_ptr=2 * one.edge_ptr)
    edges = clean(both)[0].edges
    labels = torch.from_numpy(raw.labels)
    if not len(raw.classes) > 1 or not -1 <= int(labels.min()) <= int(labels.max()) < len(raw.classes):
        raise CondenseError(f"{raw.name} has classes {labels.unique()[:8].tolist()}; two or more are needed, from 0 on")
    notes, features = raw.notes, raw.features
    if features is None:
        found = torch.bincount(edges[1], minlength=count)
        columns = (found if degrees == "exact" else binned_degrees(found)).numpy()[:, None]
        ids, alphabet = alphabet_of(columns, np.ones(count, bool))
        if count * alphabet.features > _MOST_FEATURES:
            raise CondenseError(
                f"{count:,} nodes of {raw.name} have {alphabet.features:,} different degrees, too many to be "
                "features; give degrees=log2, or features"
            )
        features = alphabet.table[ids].numpy()
        notes = (*notes, f"nodes of {raw.name} have no features: their degree is used")
    replace(one, node_labels=None, features=torch.from_numpy(features))  # raises where a feature is not finite
    x = torch.from_numpy(features)
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


def _node_parts(raw: RawNodes, labels: Tensor, features: Tensor) -> Parts:
    """Indices of nodes with a class."""
    known = (labels >= 0).nonzero().flatten()
    if raw.parts is not None:
        without = [int(part[labels[part] < 0][0]) for part in raw.parts if (labels[part] < 0).any()]
        if without:
            raise CondenseError(f"node {without[0]} of {raw.name} is in its split but has no class; leave it out")
    keys = [hashlib.blake2b(row.tobytes() + index.to_bytes(8, "big"), digest_size=16).digest()
            for index, row in enumerate(features.numpy())]  # fmt: skip
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
