"""The example of docs/graphs.md is run as it stands, and its tables are those of the registry."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from condense.cli.main import main
from condense.graphs.opening import load_graph_set
from condense.graphs.sets import GraphSet
from condense.methods.registry import graph_methods

GUIDE = (Path(__file__).parents[1] / "docs" / "graphs.md").read_text(encoding="utf-8")


def write_pets(folder: Path) -> None:
    """TU files of thirty graphs: rings of four nodes, and paths of which every third has one node more."""
    lines: dict[str, list[str]] = {"A": [], "graph_indicator": [], "graph_labels": [], "node_labels": []}
    for number in range(30):
        first, labels = len(lines["node_labels"]) + 1, ["0", "1", "0", str(number % 3)]
        pairs = [(0, 1), (1, 2), (2, 3)] + ([(0, 3)] if number % 2 else [])
        if number % 6 == 0:
            labels, pairs = [*labels, "1"], [*pairs, (3, 4)]
        lines["A"] += [f"{first + a}, {first + b}" for c, d in pairs for a, b in ((c, d), (d, c))]
        lines["graph_indicator"] += [str(number + 1)] * len(labels)
        lines["graph_labels"].append(str(number % 2))
        lines["node_labels"] += labels
    (folder / "PETS").mkdir()
    for key, content in lines.items():
        (folder / "PETS" / f"PETS_{key}.txt").write_text("\n".join(content) + "\n")


def test_the_example_works_as_written(run_examples: Callable[[str], str], tmp_path: Path) -> None:
    write_pets(tmp_path)
    assert "bytes for 10 graphs" in run_examples("docs/graphs.md")
    assert len(load_graph_set(tmp_path / "pets.h5")) == 10


def test_every_method_for_graphs_and_nodes_is_in_a_table() -> None:
    for section, modality in (("Methods for graphs", "graphs"), ("Methods for nodes of one graph", "nodes")):
        (text,) = re.findall(rf"^## {section}\n(.*?)^## ", GUIDE, re.MULTILINE | re.DOTALL)
        table = "\n".join(line for line in text.splitlines() if line.startswith("|"))
        assert set(graph_methods(modality).names()) <= set(re.findall(r"`([\w-]+)`", table))


def test_a_package_adds_its_method_by_the_lines_of_the_guide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = (text for text in re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL) if "class Largest" in text)
    (named,) = re.findall(r"```toml\n(.*?)```", GUIDE, re.DOTALL)
    (group,), (line,) = re.findall(r'entry-points."([\w.]+)"', named), re.findall(r"^largest = .*", named, re.MULTILINE)
    (tmp_path / "largest.py").write_text(code)
    described = tmp_path / "largest-1.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: largest\nVersion: 1\n")
    (described / "entry_points.txt").write_text(f"[{group}]\n{line.replace(chr(34), '')}\n")
    write_pets(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    graph_methods.cache_clear()
    try:
        assert main(["distill", "largest", "--data", "PETS", "--ipc", "1", "--out", "l.h5"]) == 0, (
            capsys.readouterr().err
        )
    finally:
        graph_methods.cache_clear()
    made = load_graph_set(tmp_path / "l.h5")
    assert isinstance(made, GraphSet)
    assert made.graphs.node_counts.tolist() == [5, 4]
