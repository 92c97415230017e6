"""Every form that graphs come in, and what is refused of it."""

from __future__ import annotations

import gzip
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from condense.graphs.alphabet import alphabet_of
from condense.graphs.data import load_graphs
from condense.graphs.graphs import Graphs
from condense.graphs.readers import files as files_module
from condense.graphs.real import RealGraphs, RealNodeGraph, TrainingGraphs
from condense.runtime.errors import CondenseError


def refusal(source: Any, **options: Any) -> str:
    with pytest.raises(CondenseError) as caught:
        load_graphs(source, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def zipped(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in folder.rglob("*"):
            if file.is_file():
                archive.write(file, f"{folder.name}/{file.relative_to(folder)}")
    return path


def copied(folder: Path, to: Path, **changes: str) -> Path:
    """The TU files with other lines in some of them; an empty text takes a file away."""
    to.mkdir()
    for file in folder.iterdir():
        key = file.stem.removeprefix("PETS_")
        if changes.get(key) != "":
            (to / file.name).write_text(changes.get(key, file.read_text()))
    return to


# TU


def test_tu_files_are_split_by_what_graphs_hold(data: RealGraphs) -> None:
    assert data.classes == ("-1", "1")
    assert [len(part) for part in (data.train, data.validation, data.test)] == [32, 4, 4]
    assert data.train.class_counts() == (16, 16)
    assert data.info.features == 3
    assert not data.info.directed
    assert isinstance(data.train, TrainingGraphs)


def test_the_split_does_not_follow_the_order(
    data: RealGraphs, tmp_path: Path, written: Any, reversed_pets: Any
) -> None:
    again = load_graphs(written(tmp_path / "PETS", reversed_pets))
    assert isinstance(again, RealGraphs)

    def content(part: Any) -> set[bytes]:
        rows = (part.graphs.at(torch.tensor([index])) for index in range(len(part)))
        return {row.node_labels.numpy().tobytes() + row.edges.numpy().tobytes() for row in rows}

    assert content(again.test) == content(data.test)
    assert again.fingerprint != data.fingerprint  # another order is another data set


def test_a_zip_and_a_name_give_the_same(folder: Path, data: RealGraphs, tmp_path: Path) -> None:
    zipped(folder, tmp_path / "PETS.zip")
    assert load_graphs(tmp_path / "PETS.zip").fingerprint == data.fingerprint
    assert load_graphs("PETS", data_root=tmp_path).fingerprint == data.fingerprint
    assert "did you mean PETS" in refusal("PETZ", data_root=tmp_path)


def test_a_tar_names_its_folder(folder: Path, data: RealGraphs, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "all.tar", "w") as archive:
        archive.add(folder, "PETS")
        archive.add(folder, "OTHERS")
    assert load_graphs(f"{tmp_path / 'all.tar'}#PETS").fingerprint == data.fingerprint
    assert "several data sets" in refusal(tmp_path / "all.tar")
    assert "no folder 'CATS'" in refusal(f"{tmp_path / 'all.tar'}#CATS")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"graph_labels": ""}, "has no labels"),
        ({"graph_labels": "1\n" * 40}, "have one class"),
        ({"graph_labels": "1\n" * 39}, "39 lines"),
        ({"graph_labels": "\n".join(map(str, range(40)))}, "40 labels"),
        ({"A": "1, 2\n2, 100000\n"}, "name nodes from 0 to 99999"),
        ({"A": "1, 2\n0, 1\n"}, "name nodes from -1"),
        ({"A": "1, 40\n"}, "joins graphs"),
        ({"A": "1, 2, 3\n"}, "3 numbers a line"),
        ({"A": "1, pickle\n"}, "no table of whole numbers"),
        ({"A": "1, 99999999999999999999999\n"}, "no table of whole numbers"),
        ({"graph_indicator": "1\n5\n"}, "names graph 5"),
        ({"node_labels": "0\n"}, "1 lines of node labels"),
    ],
)
def test_tu_files_that_do_not_fit_are_refused(folder: Path, tmp_path: Path, changes: dict[str, str], said: str) -> None:
    assert said in refusal(copied(folder, tmp_path / "BAD", **changes))


def test_degrees_stand_for_nodes_without_labels(folder: Path, tmp_path: Path, capsys: Any) -> None:
    bare = copied(folder, tmp_path / "BARE", node_labels="")
    found = load_graphs(bare)
    assert "their degree is used" in capsys.readouterr().err
    assert isinstance(found, RealGraphs)
    labels = found.train.graphs.node_labels
    assert labels is not None
    assert torch.equal(labels.unique(), found.train.graphs.degrees.unique() - 1)  # 1 and 2 neighbours
    assert load_graphs(bare, degrees="log2").info.features == 2


def test_features_that_are_not_finite_are_refused(folder: Path, tmp_path: Path) -> None:
    nodes = len((folder / "PETS_graph_indicator.txt").read_text().splitlines())
    bad = copied(folder, tmp_path / "BAD", node_labels="")
    (bad / "PETS_node_attributes.txt").write_text("0.5, 1\n" * (nodes - 1) + "nan, 1\n")
    assert "not finite" in refusal(bad)
    (bad / "PETS_node_attributes.txt").write_text("0.5, 1\n" * nodes)
    found = load_graphs(bad)
    assert isinstance(found, RealGraphs)
    assert found.train.graphs.features is not None
    assert found.info.features == 2


# Archives


def test_no_more_is_unpacked_than_is_read(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_module, "MOST_BYTES", 1000)
    bomb = copied(folder, tmp_path / "BOMB", A="1, 2\n" * 10_000)
    assert "more than 1,000 bytes" in refusal(zipped(bomb, tmp_path / "BOMB.zip"))
    assert "more than 1,000 bytes" in refusal(bomb)


def test_what_leads_out_of_an_archive_is_not_there(folder: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "out.zip", "w") as archive:
        archive.writestr("../PETS_graph_indicator.txt", "1\n")
    assert "no folder" in refusal(tmp_path / "out.zip")
    with tarfile.open(tmp_path / "link.tar", "w") as archive:
        link = tarfile.TarInfo("PETS_graph_indicator.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    assert "no folder" in refusal(tmp_path / "link.tar")


def test_damage_and_pickles_are_refused(tmp_path: Path) -> None:
    for name, said in (
        ("a.zip", "damaged"),
        ("a.tar", "damaged"),
        ("a.pt", "pickle"),
        ("a.npz", "damaged"),
        ("a.txt", "no data set"),
    ):
        (tmp_path / name).write_bytes(b"\x80\x04 nothing of the kind")
        assert said in refusal(tmp_path / name)


# GIN's text form


def gin_text(count: int = 20) -> str:
    graphs = [f"3 {number % 2}\n{number % 3} 1 1\n0 2 0 2\n1 1 1" for number in range(count)]
    return "\n".join([str(count), *graphs]) + "\n"


def test_gin_text_has_folds(tmp_path: Path) -> None:
    folder = tmp_path / "DD"
    (folder / "10fold_idx").mkdir(parents=True)
    (folder / "DD.txt").write_text(gin_text())
    (folder / "10fold_idx" / "test_idx-2.txt").write_text("0\n1\n4\n5\n")
    found = load_graphs(folder, fold=2)
    assert isinstance(found, RealGraphs)
    assert [len(part) for part in (found.train, found.validation, found.test)] == [14, 2, 4]
    assert found.test.labels.tolist() == [0, 1, 0, 1]
    assert found.test.graphs.at(torch.tensor([0])).edges.tolist() == [[0, 1, 1, 2], [1, 0, 2, 1]]
    assert "no fold 1" in refusal(folder)


@pytest.mark.parametrize(
    "text", ["", "5\n", "999999999999\n1 1\n", "1\n3 0\n0 5 1\n", "1\n2 0\n0 -4\n1 1\n", "1\na b\n"]
)
def test_gin_text_of_another_form_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "X").mkdir()
    (tmp_path / "X" / "X.txt").write_text(text)
    assert "X.txt" in refusal(tmp_path / "X")


# OGB


def ogb_folder(folder: Path, labels: str = "0\n1\n" * 5, **changes: str) -> Path:
    files = {
        "raw/num-node-list": "3\n" * 10,
        "raw/num-edge-list": "2\n" * 10,
        "raw/edge": "0,1\n1,2\n" * 10,
        "raw/node-feat": "6,0\n7,1\n6,1\n" * 9 + "6,0\n9,1\n6,1\n",
        "raw/edge-feat": "0,1\n2,0\n" * 10,
        "raw/graph-label": labels,
        "split/scaffold/train": "0\n1\n2\n3\n4\n5\n",
        "split/scaffold/valid": "6\n7\n",
        "split/scaffold/test": "8\n9\n",
    } | {key.replace("__", "/").replace("_", "-"): value for key, value in changes.items()}
    for name, text in files.items():
        if not text:
            continue
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.csv.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
    return folder


def test_ogb_files(tmp_path: Path) -> None:
    found = load_graphs(ogb_folder(tmp_path / "ogbg_molpet"))
    assert isinstance(found, RealGraphs)
    assert found.info.metric == "roc-auc"
    assert [len(part) for part in (found.train, found.validation, found.test)] == [6, 2, 2]
    assert found.train.graphs.at(torch.tensor([0])).edges.tolist() == [[0, 1, 1, 2], [1, 0, 2, 1]]
    assert found.info.features == 4  # 6 and 7, 0 and 1
    alphabet, labels = found.info.alphabet, found.test.graphs.node_labels
    assert alphabet is not None
    assert labels is not None
    assert alphabet.table[labels[4]].tolist() == [0, 0, 0, 1]  # atom 9 occurs in no training graph


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"labels": "0.5\n1\n" * 5}, "regression"),
        ({"labels": "nan\n1\n" * 5}, "not a number"),
        ({"labels": "0,1\n" * 10}, "2 tasks"),
        ({"raw__num_node_list": "3\n" * 9}, "numbers of nodes of 9"),
        ({"raw__num_edge_list": "2\n" * 9 + "99\n"}, "more edges"),
        ({"raw__num_node_list": "3\n" * 9 + "99999999999\n"}, "nodes"),
        ({"raw__num_node_list": "3\n" * 9 + "99999999999\n", "raw__node_feat": ""}, "too much to read"),
        ({"raw__edge": "0,1\n1,7\n" * 10}, "joins nodes"),
        ({"split__scaffold__test": "8\n0\n"}, "twice"),
        ({"split__scaffold__test": "8\n77\n"}, "of 10"),
    ],
)
def test_ogb_files_that_do_not_fit_are_refused(tmp_path: Path, changes: dict[str, str], said: str) -> None:
    assert said in refusal(ogb_folder(tmp_path / "ogbg_bad", **changes))


# One graph with classes of nodes


def node_arrays(**changes: Any) -> dict[str, Any]:
    arrays: dict[str, Any] = {
        "attr_data": np.ones(6, np.float32),
        "attr_indices": np.array([0, 1, 2, 0, 1, 3], np.int32),
        "attr_indptr": np.arange(7),
        "attr_shape": np.array([6, 4]),
        "edges": np.array([[0, 1], [1, 2], [3, 4], [4, 5]]),
        "labels": np.array([0, 1, 0, 1, -1, 1], np.int8),
        "idx_train": np.array([0, 1]),
        "idx_val": np.array([2]),
        "idx_test": np.array([3, 5]),
    }
    return arrays | changes


def stored(path: Path, **changes: Any) -> Path:
    np.savez(path, **node_arrays(**changes))
    return path


def test_an_npz_is_one_graph(tmp_path: Path) -> None:
    found = load_graphs(stored(tmp_path / "town.npz"))
    assert isinstance(found, RealNodeGraph)
    assert found.features.shape == (6, 4)
    assert found.features.sum(1).tolist() == [1] * 6
    assert found.edges.shape == (2, 8)
    assert found.train.labels.tolist() == [0, 1]
    assert found.test.labels.tolist() == [1, 1]
    assert not hasattr(found.train, "test")
    inductive = load_graphs(tmp_path / "town.npz", setting="inductive")
    assert isinstance(inductive, RealNodeGraph)
    assert inductive.train.features.shape == (2, 4)
    assert inductive.train.edges.tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"labels": np.array([None] * 6, object)}, "Python objects"),
        ({"attr_shape": np.array([6, 10**12])}, "attr_shape"),
        ({"attr_indices": np.array([0, 1, 2, 0, 1, 4])}, "do not fit"),
        ({"attr_indptr": np.array([0, 5, 2, 3, 4, 5, 6])}, "do not fit"),
        ({"attr_data": np.array([1, 1, np.nan, 1, 1, 1])}, "not finite"),
        ({"edges": np.array([[0, 9]])}, "joins nodes"),
        ({"edges": np.array([0, 1])}, "[E, 2]"),
        ({"labels": np.array([0, 0, 0, 0, 0, 0])}, "two or more"),
        ({"labels": np.array([0, 0, 0, 0, 0, 10**9])}, "two or more"),
        ({"idx_test": np.array([4])}, "has no class"),
        ({"idx_test": np.array([0])}, "twice"),
    ],
)
def test_an_npz_that_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    assert said in refusal(stored(tmp_path / "bad.npz", **changes))


# A user's tables


def test_tables_of_one_graph_and_of_many(tmp_path: Path) -> None:
    one = tmp_path / "one"
    one.mkdir()
    (one / "edges.csv").write_text("source,target\nann,bob\nbob,cy\n")
    (one / "nodes.csv").write_text(
        "node,class,split,age\nann,cat,train,1\nbob,dog,train,2.5\ncy,cat,validation,3\ndi,dog,test,4\n"
    )
    found = load_graphs(one)
    assert isinstance(found, RealNodeGraph)
    assert found.classes == ("cat", "dog")
    assert found.features.flatten().tolist() == [1, 2.5, 3, 4]
    assert found.edges.tolist() == [[0, 1, 1, 2], [1, 0, 2, 1]]
    many = tmp_path / "many"
    many.mkdir()
    rows = [f"{graph}{node},{graph},{'ab'[node % 2]}" for node in range(3) for graph in range(20)]  # mixed up
    (many / "nodes.csv").write_text("\n".join(["node,graph,label", *rows]))
    (many / "edges.csv").write_text("\n".join(["source,target", *(f"{graph}0,{graph}1" for graph in range(20))]))
    (many / "graphs.csv").write_text("\n".join(["graph,class", *(f"{graph},{'xy'[graph % 2]}" for graph in range(20))]))
    several = load_graphs(many)
    assert isinstance(several, RealGraphs)
    assert len(several.train) == 16
    assert several.train.graphs.at(torch.tensor([0])).edges.tolist() == [[0, 1], [1, 0]]
    (many / "edges.csv").write_text("source,target\n00,11\n")
    assert "joins graphs" in refusal(many)
    (many / "edges.csv").write_text("source,target\n00,zoe\n")
    assert "'zoe'" in refusal(many)
    (many / "edges.csv").write_text("source,target\n00\n")
    assert "1 columns" in refusal(many)


# torch_geometric


def test_objects_of_torch_geometric(data: RealGraphs) -> None:
    loader = pytest.importorskip("torch_geometric.data")
    part = data.train
    items = []
    for index in range(len(part)):
        graph = part.graphs.at(torch.tensor([index]))
        assert graph.node_labels is not None
        x = torch.nn.functional.one_hot(graph.node_labels, 3).float()
        items.append(loader.Data(x=x, edge_index=graph.edges, y=part.labels[index]))
    found = load_graphs(items)
    assert isinstance(found, RealGraphs)
    assert found.info.features == 3
    assert len(found.train) + len(found.validation) + len(found.test) == 32
    one = loader.Data(x=torch.rand(20, 2), edge_index=torch.tensor([[0, 1], [1, 0]]), y=torch.arange(20) % 2)
    assert isinstance(load_graphs(one), RealNodeGraph)
    assert isinstance(load_graphs([one]), RealNodeGraph)
    assert "has no y" in refusal(loader.Data(x=torch.rand(3, 2), edge_index=torch.tensor([[0], [1]])))
    assert "sequence" in refusal([])


def test_our_tu_reader_and_that_of_torch_geometric_agree(shared: Path, tmp_path: Path) -> None:
    reader = pytest.importorskip("torch_geometric.io")
    with zipfile.ZipFile(shared / "MUTAG.zip") as archive:
        archive.extractall(tmp_path)
    theirs, slices, _ = reader.read_tu_data(str(tmp_path / "MUTAG"), "MUTAG")
    from condense.graphs.readers.files import Files
    from condense.graphs.readers.tu import read_tu

    ours = read_tu(Files(shared / "MUTAG.zip"))
    assert ours.node_counts.tolist() == slices["x"].diff().tolist()
    assert ours.edge_counts.tolist() == slices["edge_index"].diff().tolist()
    assert ours.columns is not None
    assert ours.columns[:, 0].tolist() == theirs.x.argmax(1).tolist()


# Real data


@pytest.mark.parametrize(
    ("name", "sizes", "features"),
    [
        ("MUTAG.zip", [151, 19, 18], 7),
        ("ogbg_mol_bace_bbbp_esol_freesolv.tar#ogbg_molbace", [1210, 151, 152], 30),
        ("PROTEINS.zip", [891, 111, 111], 3),
    ],
)
def test_data_sets_of_the_field(shared: Path, name: str, sizes: list[int], features: int) -> None:
    found = load_graphs(f"{shared}/{name}")
    assert isinstance(found, RealGraphs)
    assert [len(part) for part in (found.train, found.validation, found.test)] == sizes
    assert found.info.features == features


def test_cora_is_what_it_is(shared: Path) -> None:
    found = load_graphs(shared / "planetoid" / "cora.npz")
    assert isinstance(found, RealNodeGraph)
    assert found.features.shape == (2708, 1433)
    assert found.edges.shape == (2, 2 * 5278)
    assert (len(found.train.indices), len(found.validation.indices), len(found.test.indices)) == (140, 500, 1000)


# The parts that readers share


def test_labels_come_from_the_training_part_only() -> None:
    columns = np.array([[4, 0], [5, 1], [4, 2], [6, 0]])
    ids, alphabet = alphabet_of(columns, np.array([True, True, False, False]))
    assert alphabet.known == 2
    assert alphabet.table[ids].tolist() == [[1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 0, 0], [0, 0, 1, 0]]


@pytest.mark.parametrize(
    "changes",
    [
        {"node_ptr": torch.tensor([0, 3, 2])},
        {"edge_ptr": torch.tensor([0, 1, 3])},
        {"edges": torch.tensor([[0, 1], [1, 2]])},
        {"node_labels": torch.tensor([0, 1, -1, 0])},
        {"node_labels": None},
        {"features": torch.ones(4, 1)},
    ],
)
def test_graphs_that_do_not_fit_together_are_refused(changes: dict[str, Any]) -> None:
    fitting: dict[str, Any] = {
        "node_ptr": torch.tensor([0, 2, 4]),
        "edge_ptr": torch.tensor([0, 1, 2]),
        "edges": torch.tensor([[0, 1], [1, 0]]),
        "node_labels": torch.tensor([0, 1, 0, 1]),
    }
    Graphs(**fitting)
    with pytest.raises(CondenseError):
        Graphs(**fitting | changes)
