"""A user's own graphs: edges and nodes in CSV files with a header, and graphs in a third one where there are many.

    edges.csv    source,target[,label]
    nodes.csv    node,class[,split][,features ...]        one graph whose nodes have classes
    nodes.csv    node,graph[,label][,features ...]        many graphs, with
    graphs.csv   graph,class[,split]

Names of nodes, graphs and classes are any texts; features are numbers; a split is train, validation or test. Edges have
no direction.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

import numpy as np

from condense.graphs.readers.files import Files
from condense.graphs.readers.raw import RawGraphs, RawNodes, classes_of, local_edges, parts_of_words
from condense.runtime.errors import CondenseError

_MOST_ROWS = 5_000_000


def read_tables(files: Files) -> RawGraphs | RawNodes:
    """Read `edges.csv`, `nodes.csv` and, where there is one, `graphs.csv`.

    Raises `CondenseError` that names the file, and the line where it is one.
    """
    folder = (files.one("nodes.csv") or "").removesuffix("nodes.csv")
    nodes = _Table(files, f"{folder}nodes.csv", ("node",))
    edges = _Table(files, f"{folder}edges.csv", ("source", "target"))
    ends = np.array([nodes.places("node", edges.column(end), edges) for end in ("source", "target")]).reshape(2, -1)
    name = files.path.stem
    if f"{folder}graphs.csv" in files.names:
        return _many(name, nodes, edges, ends, _Table(files, f"{folder}graphs.csv", ("graph", "class")))
    words = nodes.column("class")
    labelled = np.flatnonzero([bool(word) for word in words])
    labels = np.full(len(words), -1, np.int64)
    known, classes = classes_of(np.array(words)[labelled], name, "labelled nodes")
    labels[labelled] = known.numpy()
    return RawNodes(
        name=name,
        features=nodes.numbers(("node", "class", "split")),
        edges=ends,
        labels=labels,
        classes=classes,
        parts=parts_of_words(nodes.column("split"), name) if "split" in nodes.header else None,
    )


def _many(name: str, nodes: _Table, edges: _Table, ends: np.ndarray, graphs: _Table) -> RawGraphs:
    owners = np.array(graphs.places("graph", nodes.column("graph"), nodes))
    order = np.argsort(owners, kind="stable")  # nodes of one graph beside each other
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    counts = np.bincount(owners, minlength=len(graphs.rows))
    both = np.concatenate([place[ends], place[ends][::-1]], 1)
    local, edge_counts, edge_order = local_edges(both, counts, name)
    labels = None
    if "label" in edges.header:
        numbers = np.unique(edges.column("label"), return_inverse=True)[1]
        labels = np.concatenate([numbers, numbers])[edge_order]
    columns = np.unique(nodes.column("label"), return_inverse=True)[1][order] if "label" in nodes.header else None
    features = nodes.numbers(("node", "graph", "label")) if columns is None else None
    return RawGraphs(
        name=name,
        node_counts=counts,
        edge_counts=edge_counts,
        edges=local,
        targets=np.array(graphs.column("class")),
        columns=None if columns is None else columns[:, None],
        features=None if features is None else features[order],
        edge_labels=labels,
        parts=parts_of_words(graphs.column("split"), name) if "split" in graphs.header else None,
    )


class _Table:
    """A CSV file: its header and rows of as many texts."""

    def __init__(self, files: Files, path: str, needed: Sequence[str]) -> None:
        self.path = f"{path} of {files.label}"
        if path not in files.names:
            raise CondenseError(f"{files.label} has no {path}; give edges.csv and nodes.csv, and graphs.csv for many")
        try:
            rows = list(csv.reader(io.StringIO(files.read(path).decode("utf-8-sig")), strict=True))
        except (csv.Error, UnicodeDecodeError) as error:
            raise CondenseError(f"{self.path} is no CSV in UTF-8 ({error}); write it again") from error
        self.header, self.rows = (rows[0], [row for row in rows[1:] if row]) if rows else ([], [])
        lacking = [name for name in needed if name not in self.header]
        if lacking or len(set(self.header)) < len(self.header):
            raise CondenseError(
                f"{self.path} has the columns {', '.join(self.header)[:200] or '(none)'}; it needs "
                f"{', '.join(needed)}, and each name once"
            )
        if not len(self.rows) <= _MOST_ROWS:
            raise CondenseError(f"{self.path} has {len(self.rows):,} rows, and at most {_MOST_ROWS:,} are read")
        short = next((line for line, row in enumerate(self.rows) if len(row) != len(self.header)), None)
        if short is not None:
            raise CondenseError(
                f"row {short + 1} of {self.path} has {len(self.rows[short])} columns, not {len(self.header)}"
            )

    def column(self, name: str) -> list[str]:
        """The texts of a column."""
        if name not in self.header:
            raise CondenseError(f"{self.path} has no column {name!r}; give one")
        place = self.header.index(name)
        return [row[place].strip() for row in self.rows]

    def places(self, name: str, texts: Sequence[str], of: _Table) -> list[int]:
        """In which row of this table each text of another stands."""
        own = self.column(name)
        where = {text: row for row, text in enumerate(own)}
        if len(where) < len(own):
            twice = next(text for row, text in enumerate(own) if where[text] != row)
            raise CondenseError(f"{self.path} has {name} {twice[:40]!r} twice; each stands there once")
        unknown = next((row for row, text in enumerate(texts) if text not in where), None)
        if unknown is not None:
            raise CondenseError(
                f"row {unknown + 1} of {of.path} names {texts[unknown][:40]!r}, which is no {name} of {self.path}"
            )
        return [where[text] for text in texts]

    def numbers(self, others: Sequence[str]) -> np.ndarray | None:
        """Every other column as float32 [rows, F]; None where there is none."""
        places = [place for place, name in enumerate(self.header) if name not in others]
        if not places:
            return None
        try:
            return np.array([[float(row[place]) for place in places] for row in self.rows], np.float32)
        except ValueError as error:
            raise CondenseError(f"{self.path} has a feature that is no number ({error}); correct it") from error
