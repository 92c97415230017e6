"""Sets of graphs, their bytes, their file, and the example of docs/format.md."""

from __future__ import annotations

import dataclasses
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from condense.graphs.data import load_graphs
from condense.graphs.file import GRAPHS, NODES
from condense.graphs.graphs import Graphs
from condense.graphs.methods.budget import GraphBudget
from condense.graphs.methods.interface import GraphJob
from condense.graphs.methods.mirage import Mirage, MirageSettings
from condense.graphs.real import GraphInfo, RealGraphs, RealNodeGraph
from condense.graphs.sets import GraphSet, NodeGraphSet
from condense.runtime.errors import CondenseError
from condense.runtime.hdf5.reader import Contents, read_contents
from condense.runtime.hdf5.writer import write_contents

FORMAT_PAGE = Path(__file__).parents[3] / "docs" / "format.md"
INFO = GraphInfo("town", ("a", "b"), 3, "ab" * 16)


def chosen(data: RealGraphs) -> GraphSet:
    indices = torch.tensor([3, 0, 5])
    return GraphSet(
        graphs=data.train.graphs.at(indices),
        labels=data.train.labels[indices],
        info=data.info,
        weights=torch.tensor([1.0, 0.3, 2.0]),
        source_indices=indices,
        provenance={"configuration": {"method": "random", "seed": 0, "settings": {}}},
    )


def forest(data: RealGraphs) -> GraphSet:
    pytest.importorskip("mlxtend")
    settings = MirageSettings(hops=2, support=0.3, degree="label", edge_labels=True)
    made = Mirage.make(GraphJob(data=data.train, budget=GraphBudget()), settings).made
    assert isinstance(made, GraphSet)
    return made


def learned(data: RealGraphs) -> GraphSet:
    draws = torch.Generator().manual_seed(0)
    features = torch.randn(5, 4, generator=draws)
    graphs = Graphs(
        torch.tensor([0, 2, 5]), torch.tensor([0, 1, 3]), torch.tensor([[0, 1, 2], [1, 0, 0]]), None, features
    )
    info = dataclasses.replace(INFO, features=4, directed=True)
    return GraphSet(graphs=graphs, labels=torch.tensor([[0.25, 0.75], [1.0, 0.0]]), info=info, readout="sum")


MAKERS = {"chosen": chosen, "forest": forest, "learned": learned}


def town(weighted: bool = False, count: int = 6) -> NodeGraphSet:
    pairs = torch.triu_indices(count, count, 1)
    edges = torch.cat([pairs, pairs.flip(0)], 1)
    values = torch.rand(pairs.shape[1], generator=torch.Generator().manual_seed(1))
    return NodeGraphSet(
        features=torch.randn(count, 3, generator=torch.Generator().manual_seed(0)),
        labels=torch.arange(count) % 2,
        info=INFO,
        edges=edges,
        edge_weights=torch.cat([values, values]) if weighted else None,
        weights=torch.rand(count, generator=torch.Generator().manual_seed(2)),
    )


def same(left: Any, right: Any) -> None:
    """Every field, to the bit."""
    for entry in dataclasses.fields(left):
        mine, other = getattr(left, entry.name), getattr(right, entry.name)
        if dataclasses.is_dataclass(mine):
            same(mine, other)
        elif isinstance(mine, torch.Tensor):
            assert mine.dtype == other.dtype
            assert mine.numpy().tobytes() == other.numpy().tobytes(), entry.name
            assert mine.shape == other.shape
        else:
            assert mine == other, entry.name


def refusal(kind: type[GraphSet] | type[NodeGraphSet], path: Path) -> str:
    with pytest.raises(CondenseError) as caught:
        kind.load(path)
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", MAKERS)
def test_a_graph_set_comes_back_to_the_bit(data: RealGraphs, tmp_path: Path, kind: str) -> None:
    made = MAKERS[kind](data)
    made.save(tmp_path / "one.h5")
    back = GraphSet.load(tmp_path / "one.h5")
    same(made, back)
    back.save(tmp_path / "two.h5")
    assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "two.h5").read_bytes()
    assert made.bytes == back.bytes


@pytest.mark.parametrize("weighted", [False, True])
def test_a_node_graph_comes_back_to_the_bit(tmp_path: Path, weighted: bool) -> None:
    town(weighted).save(tmp_path / "one.h5")
    back = NodeGraphSet.load(tmp_path / "one.h5")
    same(town(weighted), back)
    with h5py.File(tmp_path / "one.h5") as file:
        assert ("triangle" in file) == weighted  # all pairs with a weight each: the triangle is smaller


def test_bytes_are_those_of_the_arrays_in_the_file(data: RealGraphs, tmp_path: Path) -> None:
    for number, made in enumerate([chosen(data), learned(data), town(), town(True)]):
        path = tmp_path / f"{number}.h5"
        made.save(path)
        with h5py.File(path) as file:
            sizes = {
                name: item.size * item.dtype.itemsize for name, item in file.items() if isinstance(item, h5py.Dataset)
            }
            assert made.bytes == int(file.attrs["bytes"])
        assert made.bytes == sum(size for name, size in sizes.items() if name not in ("source", "index"))


def test_a_real_graph_is_counted_exactly(data: RealGraphs) -> None:
    made = GraphSet(graphs=data.train.graphs.at(torch.tensor([0])), labels=data.train.labels[:1], info=data.info)
    nodes, edges = made.graphs.nodes, made.graphs.edges.shape[1]
    # node labels, both ends of every undirected edge and edge labels in one byte each, pointers, the class
    assert made.bytes == nodes + 2 * (edges // 2) + edges // 2 + 4 + 1
    assert made.dense_bytes == 4 * (3 * nodes + 2 * edges)


def test_cora_takes_128_kilobytes(shared: Path) -> None:
    found = load_graphs(shared / "planetoid" / "cora.npz")
    assert isinstance(found, RealNodeGraph)
    labels = torch.arange(2708) % 7  # as large as the real ones
    whole = NodeGraphSet(features=found.features, labels=labels, info=found.info, edges=found.edges)
    assert whole.bytes == 2 * 49_216 + 2 * 2709 + 2 * 2 * 5278 + 2708 == 127_670


def test_rounding_halves_features(data: RealGraphs) -> None:
    made = town()
    assert made.bytes - made.rounded().bytes == 2 * made.features.numel()
    assert learned(data).rounded().graphs.features is not None
    with pytest.raises(CondenseError, match="65,504"):
        dataclasses.replace(made, features=made.features * 1e6).rounded()


def test_minus_zero_is_kept(tmp_path: Path) -> None:
    features = torch.tensor([[-0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    made = NodeGraphSet(features=features, labels=torch.tensor([0, 1]), info=INFO)
    made.save(tmp_path / "zero.h5")
    same(made, NodeGraphSet.load(tmp_path / "zero.h5"))


def test_other_data_does_not_fit(data: RealGraphs) -> None:
    made = chosen(data)
    assert made.check_matches(data.info) is None
    assert "another split" in str(made.check_matches(dataclasses.replace(data.info, fingerprint="cd" * 16)))
    with pytest.raises(CondenseError, match="other names"):
        made.check_matches(dataclasses.replace(data.info, classes=("x", "y")))


def test_edges_in_one_direction_are_refused_where_there_is_none(data: RealGraphs) -> None:
    made = learned(data)
    with pytest.raises(CondenseError, match="add the other"):
        dataclasses.replace(made, info=dataclasses.replace(made.info, directed=False))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"labels": torch.tensor([0, 1, 2])}, "2 classes"),
        ({"labels": torch.tensor([0, 1])}, "labels are"),
        ({"weights": torch.tensor([1.0, -1.0, 1.0])}, "negative"),
        ({"weights": torch.zeros(3)}, "every weight is zero"),
        ({"hops": 2}, "both roots and hops"),
        ({"degrees": torch.tensor([1])}, "degrees are"),
        ({"provenance": {"path": Path("x")}}, "JSON"),
    ],
)
def test_what_does_not_fit_together_is_refused(data: RealGraphs, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(CondenseError, match=said):
        dataclasses.replace(chosen(data), **changes)


# Forged files: checksums are right, contents are not


@pytest.mark.parametrize(
    ("kind", "changes", "said"),
    [
        ("chosen", {"node_ptr": np.array([0, 9, 4, 16], np.uint8)}, "node_ptr"),
        ("chosen", {"node_ptr": np.array([0, 2**40], np.int64)}, "node_ptr"),
        ("chosen", {"edge_ptr": np.array([0, 1, 2, 2**31], np.uint32)}, "edge_ptr"),
        ("chosen", {"edges": "beyond"}, "joins nodes"),
        ("chosen", {"node_label": "beyond"}, "training part"),
        ("chosen", {"y": np.array([0, 1, 7], np.uint8)}, "2 classes"),
        ("chosen", {"y": None}, "lacks 'y'"),
        ("chosen", {"weight": np.array([1, np.inf, 1], np.float32)}, "not finite"),
        ("chosen", {"weight": np.array([b"a", b"b", b"c"])}, "not real numbers"),
        ("forest", {"parent": "beyond"}, "come later"),
        ("forest", {"parent": np.zeros(3, np.uint8)}, "has 3 nodes"),
        ("forest", {"degree": np.zeros(3, np.uint8)}, "degrees are"),
        ("learned", {"x": np.full((5, 4), np.nan, np.float32)}, "not finite"),
    ],
)
def test_forged_graph_sets_are_refused(
    data: RealGraphs, tmp_path: Path, kind: str, changes: dict[str, Any], said: str
) -> None:
    path = tmp_path / "forged.h5"
    MAKERS[kind](data).save(path)
    forge(path, GRAPHS, changes)
    assert said in refusal(GraphSet, path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"edges": np.array([[1], [0]], np.uint8)}, "smaller first"),
        ({"edges": np.array([[0], [9]], np.uint8)}, "pairs of 6"),
        ({"triangle": np.ones(3, np.float32)}, "3 numbers for 6 nodes"),
        ({"x": None, "x_ptr": np.array([0, 2**60], np.int64), "x_columns": np.zeros(1, np.uint8)}, "do not fit"),
        ({"x": np.zeros((6, 9), np.uint8)}, "float32"),
    ],
)
def test_forged_node_graphs_are_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    path = tmp_path / "forged.h5"
    town().save(path)
    forge(path, NODES, changes)
    assert said in refusal(NodeGraphSet, path)


def forge(path: Path, kind: str, changes: dict[str, Any], attributes: dict[str, Any] | None = None) -> None:
    contents = read_contents(path, kind=kind, schema=1)
    arrays = dict(contents.arrays)
    for name, value in changes.items():
        if value is None:
            del arrays[name]
        elif isinstance(value, str):
            arrays[name] = np.full_like(arrays[name], 200)
        else:
            arrays[name] = value
    roots = {name: value for name, value in contents.attributes["/"].items() if name not in ("format", "schema")}
    changed = {**contents.attributes, "/": roots}
    changed["data"] = {**contents.attributes["data"], **(attributes or {})}
    write_contents(path, Contents(arrays, changed), kind=kind, schema=1)


def test_declared_sizes_are_not_believed(data: RealGraphs, tmp_path: Path) -> None:
    chosen(data).save(tmp_path / "labels.h5")
    forge(tmp_path / "labels.h5", GRAPHS, {}, {"features": 10**9})
    assert "at most 8,192" in refusal(GraphSet, tmp_path / "labels.h5")
    town().save(tmp_path / "rows.h5")
    rows = {"x": None, "x_ptr": np.zeros(7, np.uint8), "x_columns": np.zeros(0, np.uint8)}
    forge(tmp_path / "rows.h5", NODES, rows, {"features": 10**12})
    assert "at most" in refusal(NodeGraphSet, tmp_path / "rows.h5")


def test_damage_and_other_files_are_refused(data: RealGraphs, tmp_path: Path) -> None:
    path = tmp_path / "set.h5"
    chosen(data).save(path)
    assert "give a condense node graph" in refusal(NodeGraphSet, path)
    content = bytearray(path.read_bytes())
    for place in range(0, len(content), 97):
        damaged = bytearray(content)
        damaged[place] ^= 0xFF
        (tmp_path / "damaged.h5").write_bytes(damaged)
        with suppress(CondenseError):  # either it is refused, or nothing that counts was hit
            same(chosen(data), GraphSet.load(tmp_path / "damaged.h5"))
    path.write_bytes(content[: len(content) // 2])
    refusal(GraphSet, path)


# docs/format.md


@pytest.mark.parametrize("kind", MAKERS)
def test_the_example_of_the_page_reads_graphs(
    data: RealGraphs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    section = FORMAT_PAGE.read_text(encoding="utf-8").split("\n# Condensed graphs\n")[1]
    (example,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    made = MAKERS[kind](data)
    made.save("graphs.h5")
    names: dict[str, Any] = {}
    exec(compile(example, str(FORMAT_PAGE), "exec"), names)
    assert len(names["graphs"]) == len(made)
    for index, (x, edges, label) in enumerate(names["graphs"]):
        graph = made.graphs.at(torch.tensor([index]))
        alphabet = made.info.alphabet
        expected = graph.features if alphabet is None else alphabet.table[graph.node_labels]
        np.testing.assert_array_equal(x, expected)
        assert set(map(tuple, edges.T.tolist())) == set(map(tuple, graph.edges.T.tolist()))
        np.testing.assert_array_equal(label, made.labels[index])
