"""Grids: what is read from YAML, and that every wrong grid is one clear line before any work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.grid import MethodEntry, load_grid, parse_grid
from benchmarks.jobs import make_set
from benchmarks.plan import plan, read_data
from benchmarks.records import read_record, read_records, set_path
from condense.data import load_data
from condense.methods.distill import distill
from condense.methods.registry import methods
from condense.runtime.errors import CondenseError
from condense.runtime.registry import load_object
from condense.sets.synthetic_set import SyntheticSet

GRIDS = Path(__file__).parents[2] / "benchmarks" / "grids"
RESULTS = GRIDS.with_name("results")
SMALL = {"data": ["digits"], "ipc": [1], "methods": [{"name": "random"}], "columns": [{"protocol": "demo"}]}


def test_a_grid_is_read_with_counts_lists_and_yaml_numbers(tmp_path: Path):
    path = tmp_path / "grid.yaml"
    path.write_text(
        """
        data: [digits, {name: digits, image_size: [16, 12], normalization: none}]
        ipc: [1, 10]
        methods:
          - {name: random, set_seeds: 2}
          - {name: dm, set_seeds: [4], iterations: 7, options: {image_lr: 1e-4, augmentation: none}}
        columns: [{protocol: demo, nets: [convnet, mlp]}]
        network_seeds: 2
        """,
        encoding="utf-8",
    )
    grid = load_grid(path)
    assert [method.set_seeds for method in grid.methods] == [(0, 1), (4,)]
    assert grid.methods[1].options == {"image_lr": 1e-4, "augmentation": "none"}
    assert grid.data[1].image_size == (16, 12)
    assert grid.network_seeds == 2
    assert not grid.full


def test_a_pool_is_a_column_for_each_of_its_networks():
    grid = parse_grid(SMALL | {"columns": [{"protocol": "demo", "nets": ["mlp", "pool-w"]}]}, "grid")
    assert grid.columns[0].nets == ["mlp", "convnet-w32", "convnet-w64", "convnet-w128", "convnet-w256"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colums": []}, "unknown option colums .* did you mean columns"),
        ({"ipc": 1}, "ipc 1: should be a valid list"),
        ({"ipc": [0]}, r"ipc.0 0: should be greater than or equal to 1"),
        ({"ipc": [True]}, "ipc.0 True"),
        ({"ipc": []}, "a grid needs sizes of sets"),
        ({"ipc": [3, 3]}, "ipc: 3 is given twice"),
        ({"fraction": [0.5, 0.5]}, "fraction: 0.5 is given twice"),
        ({"fraction": [0]}, "fraction.0 0: should be greater than 0"),
        ({"fraction": [1.5]}, "fraction.0 1.5: should be less than or equal to 1"),
        ({"data": []}, "data: .* at least 1 item"),
        ({"data": ["digits", {"name": "digits"}]}, "data: digits is given twice"),
        ({"data": [{"name": "digits", "image_size": [8]}]}, "data.0: image_size: must be a number of pixels"),
        ({"methods": ["random"]}, "methods.0 'random': must be a mapping with the fields name, recipe"),
        ({"methods": [{"name": "random", "seeds": 3}]}, "methods.0: unknown option seeds .* did you mean set_seeds"),
        ({"methods": [{"name": "random", "set_seeds": 0}]}, "methods.0: set_seeds 0: must be how many seeds"),
        ({"methods": [{"name": "random", "set_seeds": [1, 1]}]}, "methods.0: set_seeds: must be how many seeds"),
        ({"methods": [{"name": "dm", "iterations": -1}]}, "methods.0: iterations -1"),
        ({"methods": [{"name": "dm", "iterations": {1: 2.5}}]}, "methods.0: iterations: must be a whole number"),
        ({"methods": [{"name": "dm", "iterations": True}]}, "methods.0: iterations True: must be a whole number"),
        ({"methods": [{"name": "dm", "minutes": 0}]}, "methods.0: minutes 0: must be greater than 0"),
        ({"methods": [{"name": "dm", "minutes": {}}]}, "methods.0: minutes: must be greater than 0"),
        ({"methods": [{"name": "dm", "minutes": {1: -1}}]}, "methods.0: minutes: must be greater than 0"),
        ({"methods": [{"name": "dm", "minutes": {"one": 1}}]}, "methods.0: minutes: must be given for numbers"),
        (
            {"methods": [{"name": "dm", "options": {"iterations": 5}}]},
            "methods.0: .*iterations .* give it beside options",
        ),
        ({"methods": [{"name": "dm", "options": {"recipe": "desk"}}]}, "methods.0: .*recipe .* give it beside options"),
        (
            {"methods": [{"name": "mtt", "experts": {"options": {"optimizer": "flat"}}}]},
            "methods.0: .*optimizer .* give it beside options",
        ),
        ({"data": [{"name": "digits", "holdout": 1}]}, "data.0: holdout"),
        ({"methods": [{"name": "dm", "data": []}]}, "methods.0: data: .* at least 1 item"),
        (
            {"methods": [{"name": "dm", "ipc": [10]}]},
            r"methods.0: ipc: 10 is none of the grid's \(\[1\]\)",
        ),
        (
            {"methods": [{"name": "dm", "data": ["digts"]}]},
            r"methods.0: data: digts is none .*\(digits\); did you mean",
        ),
        ({"columns": [{"protocol": "demo", "nets": []}]}, "columns.0: nets: .* at least 1 item"),
        ({"columns": [{"protocol": "demo", "nets": ["pool-x"]}]}, "columns.0: nets: unknown pool of networks 'pool-x'"),
        ({"columns": [{"protocol": "demo"}, {"protocol": "demo"}]}, "columns: demo with convnet is given twice"),
        ({"network_seeds": 10**12}, "network_seeds 1000000000000: must be how many seeds, from 1 to 1000"),
        ({"full": "on"}, "full 'on'"),
    ],
)
def test_a_wrong_grid_is_refused_with_its_place(change: dict[str, Any], message: str):
    with pytest.raises(CondenseError, match=rf"^g\.yaml: {message}") as caught:
        parse_grid(SMALL | change, "g.yaml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": ["digts"]}, "data.0: .*digts.*digits"),
        ({"ipc": [1000]}, r"methods.0: --ipc 1000 is more than the \d+ training images"),
        ({"methods": [{"name": "idc", "options": {"factor": 7}}]}, "methods.0: images of 8x8 cannot be cut into 7 x 7"),
        ({"methods": [{"name": "datadam", "options": {"network": "convnet-d1"}}]}, "methods.0: .* depth of at least 2"),
        ({"methods": [{"name": "herdin"}]}, "methods.0: unknown method 'herdin' .* did you mean herding"),
        ({"methods": [{"name": "random", "iterations": 3}]}, "methods.0: random makes its set in one go"),
        ({"methods": [{"name": "dm", "recipe": "dsk"}]}, "methods.0: unknown recipe of dm 'dsk' .* did you mean desk"),
        ({"methods": [{"name": "dm", "options": {"image_rl": 1}}]}, "methods.0: dm: unknown option --image-rl"),
        ({"methods": [{"name": "dm", "options": {"image_lr": -1}}]}, "methods.0: dm: --image-lr -1"),
        ({"methods": [{"name": "dm", "options": {"ipc": 2}}]}, "methods.0: .*ipc .* give it beside options"),
        (
            {"methods": [{"name": "dm", "options": {"network": "convent"}}]},
            "methods.0: unknown network 'convent' .*convnet",
        ),
        ({"columns": [{"protocol": "dmo"}]}, "columns.0: unknown protocol 'dmo' .* did you mean demo"),
        ({"columns": [{"protocol": "full"}]}, "columns.0: protocol full .* give `full: true` instead"),
        ({"columns": [{"protocol": "demo", "nets": ["convnt"]}]}, "columns.0: unknown network 'convnt' .* convnet"),
        ({"columns": [{"protocol": "demo", "nets": ["lenet"]}]}, "columns.0: .*lenet"),
        (
            {"methods": [{"name": "dm", "iterations": 3}, {"name": "distribution-matching", "iterations": 3}]},
            "two cells are both called",
        ),
    ],
)
def test_names_and_settings_are_looked_up_before_any_work(change: dict[str, Any], message: str):
    with pytest.raises(CondenseError, match=rf"^g\.yaml: {message}") as caught:
        plan(parse_grid(SMALL | change, "g.yaml"), "g.yaml")
    assert "\n" not in str(caught.value)


def test_no_mapping_and_no_file_are_refused(tmp_path: Path):
    path = tmp_path / "grid.yaml"
    with pytest.raises(CondenseError, match="cannot read"):
        load_grid(path)
    path.write_text("- digits", encoding="utf-8")
    with pytest.raises(CondenseError, match=r"^grid.yaml must be a mapping with the fields data, ipc"):
        load_grid(path)


def test_cells_cover_the_grid_with_the_full_data_last():
    content = SMALL | {
        "ipc": [1, 2],
        "methods": [{"name": "random", "set_seeds": 2}, {"name": "dm", "iterations": 5}],
        "columns": [{"protocol": "demo", "nets": ["convnet", "mlp"]}, {"protocol": "desk"}],
        "full": True,
    }
    cells = [work.cell for work in plan(parse_grid(content, "g"), "g")]
    assert len(cells) == 2 * 3 * 3 + 3
    assert [cell.made is None for cell in cells] == [False] * 18 + [True] * 3
    assert len({cell.key for cell in cells}) == len({cell.file_name for cell in cells}) == len(cells)
    assert len({cell.set_name for cell in cells if cell.made}) == 6
    assert cells[0].column.network == "convnet-d2-w32-in"
    assert cells[1].column.network == "mlp"
    assert cells[0].network_seeds == 3
    assert [cell.column.beside for cell in cells[-3:]] == ["demo", "demo", "desk"]


def test_an_entry_can_be_for_some_of_the_data_only(tmp_path: Path):
    images, labels = np.zeros((6, 8, 8), np.uint8), np.arange(6) % 2
    np.savez(tmp_path / "own.npz", train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    content = SMALL | {
        "data": ["digits", str(tmp_path / "own.npz")],
        "methods": [{"name": "random"}, {"name": "dm", "iterations": 5, "data": ["own"]}],
    }
    cells = [work.cell for work in plan(parse_grid(content, "g"), "g")]
    assert [(cell.data.name, cell.made.method) for cell in cells] == [
        ("digits", "random"),
        ("own", "random"),
        ("own", "dm"),
    ]
    alone = plan(parse_grid(content | {"methods": [{"name": "dm", "iterations": 5}]}, "g"), "g")
    assert cells[2].key == alone[1].cell.key


def test_an_entry_can_be_for_some_of_the_sizes_only():
    methods = [{"name": "random"}, {"name": "dm", "iterations": 5, "ipc": [10]}]
    cells = [work.cell for work in plan(parse_grid(SMALL | {"ipc": [1, 10], "methods": methods}, "g"), "g")]
    assert {(cell.made.method, cell.made.ipc) for cell in cells} == {("random", 1), ("random", 10), ("dm", 10)}


def test_keys_depend_on_what_decides_a_score_and_on_nothing_else():
    def key(**change: Any) -> str:
        return plan(parse_grid(SMALL | change, "g"), "g")[0].cell.key

    assert key() == key(ipc=[1, 2]) == key(methods=[{"name": "random", "set_seeds": 4}, {"name": "herding"}])
    others = [
        key(ipc=[2]),
        key(data=[{"name": "digits", "image_size": 12}]),
        key(methods=[{"name": "random", "set_seeds": [1]}]),
        key(methods=[{"name": "dm", "iterations": 3}]),
        key(methods=[{"name": "dm", "iterations": 4}]),
        key(methods=[{"name": "dm", "minutes": 4}]),
        key(columns=[{"protocol": "dc"}]),
        key(columns=[{"protocol": "demo", "nets": ["mlp"]}]),
        key(network_seeds=2),
        key(network_seeds=[0, 1]),
    ]
    assert len({key(), *others}) == len(others) + 1


def test_a_recipe_file_is_known_by_its_content_and_not_by_its_path(tmp_path: Path):
    def planned(folder: str, iterations: int) -> Any:
        path = tmp_path / folder / "mine.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(
            f"{{method: dm, summary: s, source: t, settings: {{iterations: {iterations}}}}}", encoding="utf-8"
        )
        return plan(parse_grid(SMALL | {"methods": [{"name": "dm", "recipe": str(path)}]}, "g"), "g")[0].cell

    first, elsewhere, changed = planned("a", 5), planned("b", 5), planned("a", 6)
    assert first.key == elsewhere.key != changed.key
    assert str(tmp_path) not in first.model_dump_json()


@pytest.mark.parametrize("said_by", ["grid", "recipe"])
def test_a_set_to_start_from_is_known_by_its_content_and_not_by_its_path(tmp_path: Path, said_by: str):
    """And found again by the process that makes the set."""
    data = load_data("digits")

    def planned(folder: str, seed: int) -> Any:
        path = tmp_path / folder / "start.h5"
        path.parent.mkdir(exist_ok=True)
        distill("random", data, ipc=1, seed=seed).save(path)
        method = {"name": "dm", "iterations": 1, "options": {"network": "convnet-w8", "initialization": str(path)}}
        if said_by == "recipe":
            (tmp_path / "mine.yaml").write_text(json.dumps({"method": "dm", "settings": method.pop("options")}))
            method["recipe"] = str(tmp_path / "mine.yaml")
        columns = [{"protocol": "demo", "nets": ["mlp"]}]
        return plan(parse_grid(SMALL | {"methods": [method], "columns": columns, "network_seeds": 1}, "g"), "g")[0]

    first, elsewhere, changed = planned("a", 0), planned("b", 0), planned("b", 1)
    assert first.cell.key == elsewhere.cell.key != changed.cell.key
    assert first.cell.set_name == elsewhere.cell.set_name != changed.cell.set_name
    assert str(tmp_path) not in first.cell.model_dump_json()
    make_set(first, tmp_path, progress=False)
    made = SyntheticSet.load(set_path(first.cell, tmp_path))
    assert made.provenance["configuration"]["initial images"] == first.cell.made.initial_images
    with pytest.raises(CondenseError, match=r"start\.h5 has changed since the benchmark started"):
        make_set(elsewhere, tmp_path, progress=False)


def test_the_committed_records_keep_their_keys():
    paths = sorted(GRIDS.with_name("results").glob("*/cells/*.json"))
    assert len(paths) > 200
    for path in paths:
        record = read_record(path)
        assert record is not None
        assert (record.configuration.key, record.configuration.file_name) == (record.key, path.name)


@pytest.mark.parametrize("path", sorted(GRIDS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_grids_that_come_with_condense_are_valid(path: Path):
    grid = load_grid(path)
    if all(entry.name == "digits" for entry in grid.data):
        assert plan(grid, path.name)


def test_settings_that_are_off_do_not_count_in_the_identity():
    cell = plan(parse_grid(SMALL | {"methods": [{"name": "dm"}]}, "g"), "g")[0].cell
    assert cell.made is not None
    assert cell.made.settings["flip_closure"] is False

    def with_settings(settings):
        return cell.model_copy(update={"made": cell.made.model_copy(update={"settings": settings})})

    fewer = {name: value for name, value in cell.made.settings.items() if name != "flip_closure"}
    assert with_settings(fewer).key == cell.key
    assert with_settings(fewer).set_name == cell.set_name
    closed = with_settings(cell.made.settings | {"flip_closure": True})
    assert closed.key != cell.key
    assert closed.set_name != cell.set_name


@pytest.mark.parametrize("method", ["mtt", "ftd", "datm"])
def test_settings_that_came_later_change_no_cell_that_was_measured(method: str):
    """Those of records, completed by what the method has today."""
    model = load_object(methods().find(method).target).Settings
    records = [
        record
        for folder in sorted(RESULTS.glob("trajectory-*/"))
        for record in read_records(folder)
        if record.configuration.made is not None and record.configuration.made.method == method
    ]
    assert records
    for record in records:
        made = record.configuration.made
        assert made.revision == methods().find(method).revision
        complete = model(**made.settings).model_dump(mode="json")
        assert "truncate" in complete.keys() - made.settings.keys()
        cell = record.configuration.model_copy(update={"made": made.model_copy(update={"settings": complete})})
        assert cell.key == record.key


def test_a_plan_counts_only_where_one_is_asked_for():
    methods = [{"name": "dm"}, {"name": "dm", "compile": "on", "precision": "float32"}]
    cells = [work.cell for work in plan(parse_grid(SMALL | {"methods": methods}, "g"), "g")]
    assert "plan" not in cells[0].model_dump()["made"]
    assert cells[-1].made.plan == {"compile": "on", "precision": "float32"}
    assert cells[-1].made.label == "dm (precision float32, compile on)"
    assert len({cell.key for cell in cells}) == len(cells)


@pytest.mark.parametrize("budget", ["iterations", "minutes"])
def test_a_budget_may_depend_on_the_number_of_images(budget):
    grid = {"data": ["digits"], "ipc": [1, 10], "columns": [{"protocol": "demo"}]}
    bounded = grid | {"methods": [{"name": "dm", budget: {1: 3, 10: 8}}]}
    cells = plan(parse_grid(bounded, "g.yaml"), "g.yaml")
    assert [getattr(work.cell.made, budget) for work in cells] == [3, 8]
    with pytest.raises(
        CondenseError, match=rf"{budget} are given for \[1\] .* not for a fraction; give one number for all"
    ):
        MethodEntry(name="dm", **{budget: {1: 3}}).length_at(None)
    with pytest.raises(CondenseError, match=rf"{budget} are given for \[1\] images per class, not for 10"):
        plan(parse_grid(grid | {"methods": [{"name": "dm", budget: {1: 3}}]}, "g.yaml"), "g.yaml")


def test_data_is_read_with_the_options_of_load_data(tmp_path: Path):
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "shapes.npz", images=images, labels=np.repeat(["disc", "ring", "star", "box"], 10))
    entries = [{"name": str(tmp_path / "shapes.npz"), "classes": classes} for classes in (["star", "disc"], "box,ring")]
    jobs = plan(parse_grid(SMALL | {"data": [*entries, str(tmp_path / "shapes.npz")]}, "g.yaml"), "g.yaml")
    assert [job.cell.data.classes for job in jobs] == [("star", "disc"), ("box", "ring"), None]
    assert [job.cell.data.label for job in jobs] == ["shapes (star, disc)", "shapes (box, ring)", "shapes"]
    assert read_data(jobs[0].source).classes == ("star", "disc")
    assert "classes" not in jobs[2].cell.data.model_dump()  # so that older cells keep their identity


def test_a_holdout_is_scored_on_training_images_only():
    content = {
        "data": ["digits", {"name": "digits", "holdout": 0.25}],
        "ipc": [1],
        "methods": [{"name": "random"}],
        "columns": [{"protocol": "demo"}],
    }
    usual, tuning = (work.cell for work in plan(parse_grid(content, "g.yaml"), "g.yaml"))
    assert usual.data.fingerprint != tuning.data.fingerprint
    assert tuning.data.label == "digits (25% of the training images held out)"
    assert "holdout" not in usual.data.model_dump()  # so that older cells keep their identity
    data = read_data(plan(parse_grid(content, "g.yaml"), "g.yaml")[1].source)
    assert len(data.train) + len(data.test) == 1438


def planned(**method: Any) -> Any:
    """The first set of a grid with this method."""
    return plan(parse_grid(SMALL | {"methods": [method]}, "g.yaml"), "g.yaml")[0].cell.made


def test_experts_are_asked_for_where_a_method_needs_them_and_nowhere_else():
    made = planned(name="mtt", recipe="desk", experts={"experts": 2, "epochs": 6, "net": "convnet-w8"})
    assert made.settings["network"] == "convnet-d2-w8-in"
    assert made.label == "mtt (recipe desk, 2 sgd experts of 6 epochs)"
    assert "experts" not in planned(name="random").model_dump()  # so that older cells keep their identity
    with pytest.raises(CondenseError, match="mtt needs experts: give them"):
        planned(name="mtt")
    with pytest.raises(CondenseError, match="dm uses no experts: leave them out"):
        planned(name="dm", experts={})
    with pytest.raises(CondenseError, match="experts of 4 epochs are too short for mtt, which needs 5"):
        planned(name="mtt", recipe="desk", experts={"epochs": 4}, options={"max_start": 4})


def test_experts_of_a_grid_can_be_trained_otherwise_than_usual():
    flat = {"experts": 2, "epochs": 6, "net": "convnet-w8", "optimizer": "flat"}
    usual, other = (
        planned(name="ftd", recipe="desk", experts=flat | changes)
        for changes in ({}, {"options": {"ascent_weight": 1}})
    )
    assert "options" not in usual.experts  # so that older cells keep their identity
    assert other.label == "ftd (recipe desk, 2 flat experts of 6 epochs, ascent_weight 1)"
    with pytest.raises(CondenseError, match="--ascent-weight is a value of flat experts"):
        planned(name="mtt", experts={"options": {"ascent_weight": 1}})
