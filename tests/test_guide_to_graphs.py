"""The example of docs/graphs.md is run as it stands, and its tables are those of the registry."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from condense.graphs.opening import load_graph_set
from condense.methods.registry import graph_methods

GUIDE = (Path(__file__).parents[1] / "docs" / "graphs.md").read_text(encoding="utf-8")


def test_the_example_works_as_written(run_examples: Callable[[str], str], tmp_path: Path) -> None:
    lines: dict[str, list[str]] = {"A": [], "graph_indicator": [], "graph_labels": [], "node_labels": []}
    for number in range(30):
        pairs = [(0, 1), (1, 2), (2, 3)] + ([(0, 3)] if number % 2 else [])
        lines["A"] += [f"{4 * number + a + 1}, {4 * number + b + 1}" for c, d in pairs for a, b in ((c, d), (d, c))]
        lines["graph_indicator"] += [str(number + 1)] * 4
        lines["graph_labels"].append(str(number % 2))
        lines["node_labels"] += ["0", "1", "0", str(number % 3)]
    (tmp_path / "PETS").mkdir()
    for key, content in lines.items():
        (tmp_path / "PETS" / f"PETS_{key}.txt").write_text("\n".join(content) + "\n")
    assert "bytes for 10 graphs" in run_examples("docs/graphs.md")
    assert len(load_graph_set(tmp_path / "pets.h5")) == 10


def test_every_method_for_graphs_and_nodes_is_in_a_table() -> None:
    for section, modality in (("Methods for graphs", "graphs"), ("Methods for nodes of one graph", "nodes")):
        (text,) = re.findall(rf"^## {section}\n(.*?)^## ", GUIDE, re.MULTILINE | re.DOTALL)
        table = "\n".join(line for line in text.splitlines() if line.startswith("|"))
        assert set(graph_methods(modality).names()) <= set(re.findall(r"`([\w-]+)`", table))
