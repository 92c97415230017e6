"""Sets of graphs as a user makes, shows and scores them: files, accounts, commands, and what is refused."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch

from condense.cli.main import main
from condense.graphs import distill_graphs, load_graphs
from condense.graphs.data import modality_of
from condense.graphs.drawing import _strongest, tree_places
from condense.graphs.opening import holds_graphs, load_graph_set
from condense.graphs.real import GraphInfo, RealGraphs
from condense.graphs.sets import GraphSet, NodeGraphSet
from condense.graphs.storing import sorted_edges
from condense.methods.checkpoints import Checkpoint, checkpoint_path, save_checkpoint
from condense.runtime.errors import CondenseError


@pytest.fixture(scope="module")
def village(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One graph of two groups, as an .npz."""
    draws = np.random.default_rng(0)
    labels = np.repeat([0, 1], 30)
    pairs = [(a, b) for a in range(60) for b in range(a) if draws.random() < (0.15 if labels[a] == labels[b] else 0.01)]
    path = tmp_path_factory.mktemp("nodes") / "village.npz"
    np.savez(path, features=draws.normal(size=(60, 4)).astype(np.float32), edges=np.array(pairs), labels=labels)
    return path


def test_the_same_request_gives_the_same_file_and_its_command_makes_it_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = load_graphs(folder)
    made = distill_graphs("random", data, ipc=3, seed=5, out=tmp_path / "a.h5")
    assert isinstance(made, GraphSet)
    command = shlex.split(made.provenance["command"])
    monkeypatch.setenv("CONDENSE_DATA", str(folder.parent))
    monkeypatch.chdir(tmp_path)
    assert main(command[1:]) == 0
    assert "6 graphs" in capsys.readouterr().out
    assert (tmp_path / "set.h5").read_bytes() == (tmp_path / "a.h5").read_bytes()
    account = json.loads((tmp_path / "a.json").read_text())
    assert account["bytes"] == made.bytes
    assert account["seconds"] >= 0
    assert not checkpoint_path(tmp_path / "a.h5").exists()


def test_a_finished_set_and_foreign_files_are_not_replaced(folder: Path, tmp_path: Path) -> None:
    data, out = load_graphs(folder), tmp_path / "a.h5"
    distill_graphs("random", data, ipc=1, out=out)
    with pytest.raises(CondenseError, match="overwrite"):
        distill_graphs("random", data, ipc=2, out=out)
    assert len(distill_graphs("random", data, ipc=2, out=out, overwrite=True)) == 4
    other = tmp_path / "notes.h5"
    other.write_text("mine")
    with pytest.raises(CondenseError, match="not replaced"):
        distill_graphs("random", data, ipc=2, out=other, overwrite=True)


def test_an_unfinished_run_of_another_configuration_is_said(folder: Path, tmp_path: Path) -> None:
    data, out = load_graphs(folder), tmp_path / "a.h5"
    save_checkpoint(checkpoint_path(out), Checkpoint(0, 0.0, {}, {}), {"method": "herding"})
    with pytest.raises(CondenseError, match="unfinished run"):
        distill_graphs("random", data, ipc=1, out=out)
    assert len(distill_graphs("random", data, ipc=1, out=out, resume=False)) == 2


def test_commands_make_show_and_score_a_set(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("mlxtend")
    out, picture, page, report = (str(tmp_path / name) for name in ("m.h5", "m.png", "m.html", "scores.json"))
    assert main(["distill", "mirage", "--data", str(folder), "--support", "0.3", "--hops", "1", "--out", out]) == 0
    assert main(["show", out, "--png", picture, "--html", page]) == 0
    shown = capsys.readouterr().out
    assert "forests of trees of 1 hops" in shown
    assert Path(picture).read_bytes()[:4] == b"\x89PNG"
    assert "data:image/webp" in Path(page).read_text(encoding="utf-8")
    assert main(["evaluate", out, "--data", str(folder), "--nets", "gin", "--runs", "1", "--json", report]) == 0
    (result,) = json.loads(Path(report).read_text())
    assert result["network"] == "gin"
    assert result["protocol"] == "graph-desk"
    assert "gin: " in capsys.readouterr().out
    assert holds_graphs(Path(out))
    assert isinstance(load_graph_set(out), GraphSet)


def test_a_picture_of_many_weighted_edges_has_the_strongest() -> None:
    complete = torch.combinations(torch.arange(12)).T  # (2, 66)
    weights = torch.rand(66, generator=torch.Generator().manual_seed(0))
    edges, both = sorted_edges(complete, weights)
    info = GraphInfo(name="village", classes=("a", "b"), features=2, fingerprint="0")
    made = NodeGraphSet(
        features=torch.rand(12, 2), labels=torch.arange(12) % 2, info=info, edges=edges, edge_weights=both
    )
    shown, heaviest = _strongest(made)
    assert sorted(heaviest.tolist()) == sorted(weights.tolist())[-36:]
    assert sorted(shown.T.tolist()) == sorted(complete[:, weights.topk(36).indices].T.tolist())
    few = NodeGraphSet(features=torch.rand(12, 2), labels=torch.arange(12) % 2, info=info, edges=edges)
    assert _strongest(few)[0].shape == (2, 66)  # without weights all are alike


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["distill", "mirage", "--data", "FOLDER", "--ipc", "3", "--out", "x.h5"], "instead of 3 per class"),
        (["distill", "mirage", "--data", "VILLAGE", "--out", "x.h5"], "mirage is for graphs, and village has one"),
        (["distill", "mirage", "--data", "FOLDER", "--out", "x.h5", "--hops", "9"], "--hops"),
        (["distill", "mirage", "--data", "FOLDER", "--out", "x.h5", "--minutes", "1"], "leave --minutes out"),
        (["distill", "random", "--data", "FOLDER", "--out", "x.h5"], "needs a size"),
        (["distill", "random", "--data", "FOLDER", "--out", "x.h5", "--ipc", "1", "--hops", "1"], "unknown option"),
        (["distill", "herding", "--data", "FOLDER", "--out", "x.h5", "--ipc", "1", "--recipe", "desk"], "for images"),
    ],
)
def test_wrong_words_are_one_line(
    words: list[str], said: str, folder: Path, village: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [{"FOLDER": str(folder), "VILLAGE": str(village)}.get(word, word) for word in words]
    assert main(given) == 2
    printed = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("note:")]
    assert len(printed) == 1
    assert said in printed[0]


def test_data_decide_between_methods_of_one_name(folder: Path, village: Path, tmp_path: Path) -> None:
    assert modality_of(str(folder)) == "graphs"
    assert modality_of(str(village)) == "nodes"
    assert modality_of(folder.name, folder.parent) == "graphs"
    assert modality_of(str(tmp_path)) is None
    assert modality_of("digits") is None


def test_trees_stand_below_their_roots_and_beside_each_other() -> None:
    roots = np.array([True, True, False, False, False])
    places = tree_places([0, 0, 1], roots)
    assert places[:, 1].tolist() == [0, 0, -1, -1, -1]
    assert places[0, 0] == places[[2, 3], 0].mean()
    assert places[1, 0] == places[4, 0]
    assert len(set(places[2:, 0].tolist())) == 3


def test_validation_graphs_reach_methods_and_test_graphs_do_not(data: RealGraphs) -> None:
    made = distill_graphs("random", data, fraction=0.5)
    assert isinstance(made, GraphSet)
    assert made.source_indices is not None
    assert int(made.source_indices.max()) < len(data.train)
    assert torch.equal(made.labels, data.train.labels[made.source_indices])
