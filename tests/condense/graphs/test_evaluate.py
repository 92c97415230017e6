"""Protocols, evaluation and choices: deterministic, paired, honest about what was measured."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from condense.graphs.data import load_graphs
from condense.graphs.evaluate import as_set, evaluate_graphs, measured
from condense.graphs.protocols import PROTOCOLS, GraphProtocol
from condense.graphs.real import RealGraphs, RealNodeGraph
from condense.graphs.sets import GraphSet, NodeGraphSet
from condense.graphs.training import weighted_loss
from condense.runtime.errors import CondenseError

MadeBy = Callable[..., GraphSet]
QUICK = PROTOCOLS.find("graph-desk").model_copy(update={"name": "quick", "epochs": 30, "lr": 0.01, "batch_size": 16})
QUICK_NODES = PROTOCOLS.find("node-desk").model_copy(update={"name": "quick", "epochs": 40, "width": 16})


def test_protocols_are_frozen() -> None:
    """Whoever changes a rule must know that old accuracies are of another one."""
    assert {entry.name: entry.hash for entry in PROTOCOLS} == {
        "graph-desk": "b2eff4332bb9",
        "node-desk": "2e3b5f9275e4",
    }
    desk = PROTOCOLS.find("graph-desk")
    assert desk.model_copy(update={"name": "x", "runs": 1, "nets": ("gin",), "summary": ""}).hash == desk.hash
    for change in ({"epochs": 1}, {"lr": 1.0}, {"width": 8}, {"layers": 1}, {"dropout": 0.1}, {"batch_size": None}):
        assert desk.model_copy(update=change).hash != desk.hash
    with pytest.raises(ValueError, match="frozen"):
        desk.epochs = 1  # type: ignore[misc]


def test_protocols_are_listed_without_torch() -> None:
    code = "import sys, condense.graphs.protocols; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("given", ["all", "few", "forest"])
def test_networks_learn_and_follow_their_seed(data: RealGraphs, given: str, made_by: MadeBy) -> None:
    pytest.importorskip("mlxtend")
    trained = {
        "all": lambda: data.train,
        "few": lambda: made_by("random", data.train, ipc=5),
        "forest": lambda: made_by("mirage", data.train, hops=2, support=0.2),
    }[given]()
    found = evaluate_graphs(trained, data, nets=["gin"], runs=2, protocol=QUICK)
    again = evaluate_graphs(trained, data, nets=["gin"], runs=2, protocol=QUICK)
    (result,) = found.results
    assert result.values == again.results[0].values == result.accuracies
    assert result.layers == (2 if given == "forest" else 3)
    assert result.bytes == as_set(trained).bytes
    assert result.dense_bytes > result.bytes
    assert result.metric == "accuracy"
    assert result.diverged == ()
    assert result.mean >= 0.5
    assert result.as_dict()["values"] == list(result.values)
    assert "gin: " in str(result)


@pytest.mark.parametrize("net", PROTOCOLS.find("graph-desk").nets)
def test_every_network_learns_what_it_has_seen(data: RealGraphs, net: str) -> None:
    seen = dataclasses.replace(data, validation=type(data.validation)(data.train.graphs, data.train.labels, data.info))
    longer = QUICK.model_copy(update={"epochs": 60})
    (result,) = evaluate_graphs(data.train, seen, nets=[net], runs=1, protocol=longer, part="validation").results
    assert result.mean > 0.75


def test_order_of_networks_and_number_of_runs_change_nothing(data: RealGraphs) -> None:
    both = evaluate_graphs(data.train, data, nets=["gcn", "gin"], runs=2, protocol=QUICK).results
    (alone,) = evaluate_graphs(data.train, data, nets=["gin"], runs=1, protocol=QUICK).results
    assert both[1].values[:1] == alone.values


def test_weights_count_as_copies_do() -> None:
    logits, labels = torch.randn(3, 2), torch.tensor([0, 1, 1])
    weighted = weighted_loss(logits, labels, torch.tensor([2.0, 1.0, 0.0]))
    rows = torch.tensor([0, 0, 1])
    torch.testing.assert_close(weighted, torch.nn.functional.cross_entropy(logits[rows], labels[rows]))


def test_a_forest_without_degrees_says_so_of_gcn(data: RealGraphs, made_by: MadeBy) -> None:
    pytest.importorskip("mlxtend")
    made = made_by("mirage", data.train, hops=1, support=0.5)
    found = evaluate_graphs(made, data, nets=["gcn", "gin"], runs=1, protocol=QUICK)
    assert [note.split()[0] for note in found.notes] == ["gcn"]
    exact = made_by("mirage", data.train, hops=1, support=0.5, degree="label")
    assert evaluate_graphs(exact, data, nets=["gcn"], runs=1, protocol=QUICK).notes == ()


def test_metrics() -> None:
    logits = torch.tensor([[0.0, 1.0], [0.0, 3.0], [0.0, 2.0], [0.0, 0.5]])
    labels = torch.tensor([0, 1, 1, 0])
    assert measured(logits, labels, "accuracy") == 0.5
    assert measured(logits, labels, "roc-auc") == 1.0
    assert measured(logits.flip(1), labels, "roc-auc") == 0.0
    assert measured(logits, labels, "macro-f1") == pytest.approx(1 / 3)
    assert measured(logits * torch.nan, labels, "accuracy") == 0.0
    assert measured(logits * torch.nan, labels, "roc-auc") == 0.5


# Choices


# Nodes


@pytest.fixture(scope="module")
def village(tmp_path_factory: pytest.TempPathFactory) -> RealNodeGraph:
    """Two groups of thirty, joined within; a feature that tells them apart a little."""
    draws = np.random.default_rng(0)
    labels = np.repeat([0, 1], 30)
    pairs = [(a, b) for a in range(60) for b in range(a) if draws.random() < (0.15 if labels[a] == labels[b] else 0.01)]
    features = draws.normal(size=(60, 4)) + labels[:, None]
    path = tmp_path_factory.mktemp("nodes") / "village.npz"
    order = draws.permutation(60)
    np.savez(
        path,
        features=features.astype(np.float32),
        edges=np.array(pairs),
        labels=labels,
        idx_train=order[:20],
        idx_val=order[20:30],
        idx_test=order[30:],
    )
    found = load_graphs(path)
    assert isinstance(found, RealNodeGraph)
    return found


@pytest.mark.parametrize("net", ["gcn", "sgc", "sage", "gat", "appnp", "mlp"])
def test_nodes_are_learned(village: RealNodeGraph, net: str) -> None:
    found, again = (evaluate_graphs(village.train, village, nets=[net], runs=2, protocol=QUICK_NODES) for _ in range(2))
    assert found.results[0].mean > 0.6
    assert found.results[0].values == again.results[0].values


def test_a_node_graph_is_evaluated_on_the_whole_graph(village: RealNodeGraph) -> None:
    part = village.train.indices
    made = NodeGraphSet(
        features=village.features[part],
        labels=village.train.labels,
        info=village.info,
        indices=part,
        normalize_rows=village.info.normalize_rows,
    )
    (result,) = evaluate_graphs(made, village, nets=["gcn"], runs=1, protocol=QUICK_NODES).results
    assert result.mean > 0.6
    assert result.graphs == 20


# What does not fit


def test_what_does_not_fit_is_refused(data: RealGraphs, village: RealNodeGraph, made_by: MadeBy) -> None:
    for given, real, options, said in (
        (data.train, village, {}, "one graph"),
        (village.train, data, {}, "many graphs"),
        (data.train, data, {"protocol": "node-desk"}, "graph-desk"),
        (data.train, data, {"protocol": "desk"}, "unknown graph protocol"),
        (data.train, data, {"nets": ["appnp"]}, "unknown graph network"),
        (data.train, data, {"runs": 0}, "at least one run"),
    ):
        with pytest.raises(CondenseError, match=said):
            evaluate_graphs(given, real, **options)
    other = dataclasses.replace(data, info=dataclasses.replace(data.info, fingerprint="other"))
    with pytest.raises(CondenseError, match="another data set"):
        evaluate_graphs(data.train, other)
    note = evaluate_graphs(made_by("random", data.train, ipc=2), other, nets=["gin"], runs=1, protocol=QUICK)
    assert "another split" in note.notes[0]


def test_mutag_is_above_chance(shared: Path, made_by: MadeBy) -> None:
    pytest.importorskip("mlxtend")
    found = load_graphs(shared / "MUTAG.zip")
    assert isinstance(found, RealGraphs)
    made = made_by("mirage", found.train, hops=2, support=0.2, largest=2)
    quick = GraphProtocol(**PROTOCOLS.find("graph-desk").model_dump() | {"epochs": 60, "lr": 0.005})
    (result,) = evaluate_graphs(made, found, nets=["gin"], runs=1, protocol=quick).results
    assert result.mean > 0.7
    assert isinstance(made, GraphSet)
