"""`load_graphs`: the one way from what a user names to `RealGraphs` or `RealNodeGraph`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from condense.graphs.preparing import Degrees, real_graphs, real_node_graph
from condense.graphs.readers import gin, ogb, pyg, tu
from condense.graphs.readers.files import Files
from condense.graphs.readers.node_npz import read_node_npz
from condense.graphs.readers.raw import RawGraphs, RawNodes
from condense.graphs.readers.tables import read_tables
from condense.graphs.real import RealGraphs, RealNodeGraph, Setting
from condense.runtime.errors import CondenseError, near_names
from condense.runtime.numpy_files import NpzFile
from condense.runtime.places import cache_directory

_PICKLES = (".pt", ".pth", ".pkl", ".pickle")
_SUFFIXES = ("", ".zip", ".npz", ".tar")


def load_graphs(
    source: str | Path | Sequence[Any] | Any,
    *,
    data_root: str | Path | None = None,
    fold: int = 1,
    degrees: Degrees = "exact",
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
    usual = {"fold": 1, "degrees": "exact", "setting": "transductive"}
    given = {"fold": fold, "degrees": degrees, "setting": setting}
    options = {name: value for name, value in given.items() if value != usual[name]}
    if isinstance(raw, RawNodes):
        return replace(real_node_graph(raw, degrees, setting), reading_options=options)
    return replace(real_graphs(raw, degrees), reading_options=options)


def modality_of(source: str, data_root: str | Path | None = None) -> Literal["graphs", "nodes"] | None:
    """What there is at a source: many graphs, or one graph whose nodes have classes; None for all that is no graph.

    Only names of files, or of arrays, are looked at.
    """
    text, _, part = source.partition("#")
    try:
        path = _found(text, data_root)
        if path.suffix.lower() == ".npz":
            return "nodes" if "edges" in NpzFile(path, "an .npz").names else None
        files = Files(path, part)
        if files.one("nodes.csv"):
            return "graphs" if files.one("graphs.csv") else "nodes"
        many = files.one(tu.INDICATOR) or files.one(ogb.COUNTS) or gin.text_file(files)
        return "graphs" if many else None
    except CondenseError:
        return None


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
