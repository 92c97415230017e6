"""Grids over graphs: their cells are made and scored like those of images, and their sizes are bytes as well."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cells import DataDescription
from benchmarks.grid import DataEntry, parse_grid
from benchmarks.harness import run_grid
from benchmarks.page.details import commands
from benchmarks.plan import plan
from benchmarks.records import read_records
from condense.graphs import protocols
from condense.runtime.errors import CondenseError
from condense.runtime.executors import in_process

GRAPHS = [([label] + [0] * 4, [(0, 1), (1, 2), (2, 3), (3, 4)], label) for label in (0, 1)] * 15


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """TU files of thirty paths; the first node tells the class."""
    folder = tmp_path_factory.mktemp("data") / "PETS"
    folder.mkdir()
    edges, labels = [], []
    for number, (nodes, pairs, _) in enumerate(GRAPHS):
        edges += [f"{5 * number + a + 1}, {5 * number + b + 1}" for c, d in pairs for a, b in ((c, d), (d, c))]
        labels += [str(label) for label in nodes]
    lines = {
        "A": edges,
        "graph_indicator": [str(number + 1) for number, (nodes, _, _) in enumerate(GRAPHS) for _ in nodes],
        "graph_labels": [str(target) for _, _, target in GRAPHS],
        "node_labels": labels,
    }
    for key, content in lines.items():
        (folder / f"PETS_{key}.txt").write_text("\n".join(content) + "\n")
    return folder


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protocols of few epochs, which cells name as usual."""
    entries = tuple(each.model_copy(update={"epochs": 3, "width": 8}) for each in protocols.PROTOCOLS)
    monkeypatch.setattr(protocols.PROTOCOLS, "_entries", entries)


def grid(data: Any, **changes: Any) -> dict[str, Any]:
    content = {
        "data": [data],
        "ipc": [2],
        "methods": [{"name": "random", "set_seeds": 2}],
        "columns": [{"protocol": "graph-desk", "nets": ["gin"]}],
        "network_seeds": 1,
    }
    return content | changes


def test_a_grid_makes_scores_and_reports(pets: Path, tmp_path: Path) -> None:
    content = grid(str(pets), bytes=[200], full=True)
    records = run_grid(parse_grid(content, "grid"), tmp_path, origin="grid", executor=in_process, progress=False)
    assert [record.status for record in records] == ["done"] * 5
    sized = {str(record.configuration.made.size) for record in records if record.configuration.made}
    assert sized == {"2 per class", "200 bytes"}
    of_bytes = [record for record in records if record.configuration.made and record.configuration.made.bytes]
    assert all((record.bytes or 0) <= 200 < (record.dense_bytes or 0) for record in of_bytes)
    assert {record.metric for record in records} == {"accuracy"}
    assert {record.real for record in records} == {24}
    text = (tmp_path / "results.md").read_text()
    assert "| data | size | method |" in text
    assert "of the real ones" in text
    assert "all 24 training graphs" in text
    assert (tmp_path / "report" / "index.html").stat().st_size > 10_000
    kept = read_records(tmp_path)
    assert {record.key for record in kept} == {record.key for record in records}
    assert all(record.class_accuracies.keys() == {"0", "1"} for record in kept)
    first = next(record for record in kept if record.configuration.made)
    made, scored = commands(first)
    assert made.startswith("condense distill random --data PETS")
    assert "--nets gin --runs 1" in scored


def test_the_page_shows_drawings_and_curves(pets: Path, tmp_path: Path) -> None:
    pytest.importorskip("networkx")
    methods = [{"name": "random"}, {"name": "doscond", "iterations": 2}]
    run_grid(parse_grid(grid(str(pets), methods=methods), "grid"), tmp_path, origin="g", executor=in_process)
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    content = json.loads(page.split('id="content">', 1)[1].split("</script>", 1)[0])
    shown = {gallery["title"].split()[0]: gallery for gallery in content["galleries"]}
    assert shown.keys() == {"random", "doscond"}
    assert all((each["names"], each["sprite"]["counts"]) == (["0", "1"], [2, 2]) for each in shown.values())
    (record,) = (each for each in read_records(tmp_path) if each.curves)
    assert {len(values) for values in record.curves.values()} == {2}
    assert [path for path in (tmp_path / "pictures").iterdir() if "random" in path.name] == []  # of real graphs
    assert len([*(tmp_path / "pictures").iterdir()]) == 1


def test_cells_that_are_there_are_kept(pets: Path, tmp_path: Path) -> None:
    parsed = parse_grid(grid(str(pets)), "grid")
    run_grid(parsed, tmp_path, origin="grid", executor=in_process, progress=False)
    dates = {path: path.stat().st_mtime_ns for path in (tmp_path / "cells").iterdir()}
    run_grid(parsed, tmp_path, origin="grid", executor=in_process, progress=False)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cells").iterdir()} == dates


def test_a_method_may_find_its_size_and_is_made_once(pets: Path) -> None:
    pytest.importorskip("mlxtend")
    methods = [{"name": "random"}, {"name": "mirage", "sized": False, "options": {"support": 0.5}}]
    jobs = plan(parse_grid(grid(str(pets), ipc=[1, 2], methods=methods), "grid"), "grid")
    assert [job.cell.made.method for job in jobs if job.cell.made] == ["random", "random", "mirage"]
    assert "its own" in {job.cell.made.size.short for job in jobs if job.cell.made}


def test_data_go_by_the_folder_of_an_archive() -> None:
    assert [DataEntry(name=name).base_name for name in ("a/ogb.tar#ogbg_molbace", "b/MUTAG.zip", "cora.npz")] == [
        *("ogbg_molbace", "MUTAG", "cora")
    ]


def test_validation_is_another_cell(pets: Path) -> None:
    tuned, scored = (
        plan(parse_grid(grid({"name": str(pets), "validation": choice}), "grid"), "grid")[0].cell
        for choice in (True, False)
    )
    assert tuned.key != scored.key
    assert tuned.data.label == "PETS (validation)"


def test_descriptions_of_images_are_as_they_were() -> None:
    described = DataDescription(
        name="digits", fingerprint="0", image_shape=(1, 8, 8), mirror=False, preprocessing="none", image_size=None
    )
    assert list(described.model_dump()) == [
        *("name", "fingerprint", "image_shape", "mirror", "preprocessing", "image_size", "normalization")
    ]
    graphs = DataDescription(name="PETS", fingerprint="0", modality="graphs")
    assert json.loads(graphs.model_dump_json()) == {"name": "PETS", "fingerprint": "0", "modality": "graphs"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data": [{"name": "digits", "fold": 2}]}, "leave fold out"),
        ({"bytes": [100]}, "never bytes"),
        ({"methods": [{"name": "random", "sized": False}]}, "each method has one"),
    ],
)
def test_what_is_for_graphs_is_refused_for_images(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(CondenseError, match=said):
        plan(parse_grid(grid("digits", columns=[{"protocol": "desk"}]) | changes, "grid"), "grid")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"columns": [{"protocol": "node-desk"}]}, "is for nodes"),
        ({"columns": [{"protocol": "desk"}]}, "unknown graph protocol"),
        ({"columns": [{"protocol": "graph-desk", "updates": 3}]}, "are for images"),
        ({"methods": [{"name": "dm"}]}, "dm is for images"),
        ({"methods": [{"name": "random", "precision": "float32"}]}, "precision is for images"),
        ({"methods": [{"name": "random", "iterations": 3}]}, "in one go"),
        ({"data": [{"name": "PETS", "image_size": 8}]}, "leave image_size out"),
        ({"bytes": [3, 3]}, "given twice"),
    ],
)
def test_what_is_wrong_is_said_before_any_work(pets: Path, changes: dict[str, Any], said: str) -> None:
    content = grid(str(pets)) | changes
    for entry in content["data"]:
        if isinstance(entry, dict):
            entry["name"] = str(pets)
    with pytest.raises(CondenseError, match=said):
        plan(parse_grid(content, "grid"), "grid")
