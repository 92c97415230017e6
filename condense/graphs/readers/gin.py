"""The one text file that GIN reads (Xu et al., ICLR 2019, released code), with its ten folds."""

from __future__ import annotations

import warnings

import numpy as np

from condense.graphs.readers.files import Files
from condense.graphs.readers.raw import MOST_GRAPHS, RawGraphs, checked_parts
from condense.runtime.errors import CondenseError

_FOLDS = "10fold_idx/test_idx-"


def text_file(files: Files) -> str | None:
    """The path of `NAME/NAME.txt`, or of the only text file at the top; None where it is not this form."""
    texts = [name for name in files.names if name.endswith(".txt") and "10fold_idx" not in name]
    named = [name for name in texts if name.split("/")[-2:-1] == [name.split("/")[-1].removesuffix(".txt")]]
    found = named or (texts if len(texts) == 1 else [])
    return found[0] if len(found) == 1 else None


def read_gin(files: Files, path: str, fold: int) -> RawGraphs:
    """Read the graphs: their number; then of each `nodes label`, and of each node `tag k neighbour_1 .. neighbour_k`.

    Where folds lie beside them, the test part is that of `fold`, and no graph is for validation. Raises `CondenseError`
    for what is not of this form.
    """
    name = path.split("/")[-1].removesuffix(".txt")
    node_counts, edge_counts, targets, tags, edges = _walk(_tokens(files.read(path), name), name)
    notes: tuple[str, ...] = ()
    parts = None
    if any(_FOLDS in file for file in files.names):
        tests = [file for file in files.names if file.endswith(f"{_FOLDS}{fold}.txt")]
        if not tests:
            raise CondenseError(f"{name} has no fold {fold}; give one that it has, usually 1 to 10")
        test = files.integers(tests[0], 1)[:, 0]
        parts = checked_parts([np.setdiff1d(np.arange(len(targets)), test), test[:0], test], len(targets), name)
        notes = (f"the test part of {name} is its fold {fold}",)
    return RawGraphs(
        name=name,
        node_counts=node_counts,
        edge_counts=edge_counts,
        edges=edges,
        targets=targets,
        columns=tags[:, None] if len(np.unique(tags)) > 1 else None,  # one tag says that there is none
        parts=parts,
        notes=notes,
    )


def _tokens(content: bytes, name: str) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return np.fromstring(content, np.int64, sep=" ")
    except (ValueError, DeprecationWarning) as error:
        raise CondenseError(f"{name}.txt holds something else than whole numbers; nodes have tags only") from error


def _walk(tokens: np.ndarray, name: str) -> tuple[np.ndarray, ...]:
    """Node counts, edge counts and labels of graphs; tags of nodes; edges [2, E] from neighbours to nodes."""
    broken = CondenseError(f"{name}.txt is cut short or of another form; it begins with its number of graphs")
    if not len(tokens) or not 0 < tokens[0] <= min(MOST_GRAPHS, len(tokens) // 2):
        raise broken
    place, count = 1, int(tokens[0])
    sizes, targets, edge_counts = (np.zeros(count, np.int64) for _ in range(3))
    heads: list[int] = []  # where each node's line begins
    for graph in range(count):
        if place + 2 > len(tokens):
            raise broken
        sizes[graph], targets[graph] = tokens[place], tokens[place + 1]
        place += 2
        for _ in range(int(sizes[graph])):
            if place + 2 > len(tokens) or tokens[place + 1] < 0:
                raise broken
            heads.append(place)
            neighbours = int(tokens[place + 1])
            edge_counts[graph] += neighbours
            place += 2 + neighbours
    if place != len(tokens):
        raise broken
    starts = np.array(heads, np.int64)
    degrees = tokens[starts + 1]
    local = np.concatenate([np.arange(size) for size in sizes]) if len(sizes) else starts
    within = np.arange(int(degrees.sum())) - np.repeat(np.cumsum(degrees) - degrees, degrees)
    sources = tokens[np.repeat(starts + 2, degrees) + within]
    return sizes, edge_counts, targets, tokens[starts], np.stack([sources, np.repeat(local, degrees)])
