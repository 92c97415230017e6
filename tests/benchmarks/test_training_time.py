"""Training-time baselines in grids: they are trained without a set, timed, and reported apart from sets."""

import csv
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.grid import parse_grid
from benchmarks.harness import run_grid
from benchmarks.plan import plan
from benchmarks.records import read_records
from benchmarks.report import write_report
from condense.runtime.errors import CondenseError
from condense.runtime.executors import here

SMALL = {"network": "convnet-d1-w4", "epochs": 1, "trainings": 1}


def grid(data: Path, **changes):
    content = {
        "data": [{"name": str(data), "holdout": 0.2}],
        "fraction": [0.1],
        "methods": [
            {"name": "random"},
            {"name": "rs2", "options": {"variant": "stratified"}, "set_seeds": 2},
            {"name": "pruned", "options": {"choice": "el2n-hard", "choice_options": SMALL}},
            {"name": "kd-pruned", "teacher": "small"},
        ],
        "teachers": {"small": {"net": "convnet-d2-w4-bn", "training": {"epochs": 1, "lr": 0.02}}},
        "columns": [{"protocol": "fraction", "nets": ["mlp"], "updates": updates} for updates in (3, 9)],
        "network_seeds": 1,
        "full": True,
    }
    return parse_grid(content | changes, "grid.yaml")


@pytest.fixture(scope="module")
def finished(digits_file: Path, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("benchmark")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONDENSE_CACHE", str(tmp_path_factory.mktemp("cache")))
        return folder, run_grid(grid(digits_file), folder, origin="grid.yaml", executor=here, progress=False)


def test_baselines_are_scored_without_a_set(finished):
    folder, records = finished
    assert [record.status for record in records] == ["done"] * 12
    assert {record.key for record in records} == {record.key for record in read_records(folder)}
    assert [path.name.split("-")[2] for path in sorted((folder / "sets").glob("*.h5"))] == ["0"]  # fraction 0.1 random
    by_name = {record.configuration.title: record for record in records}
    (few,) = (record for title, record in by_name.items() if "rs2" in title and "seed 1, fraction, 3 updates" in title)
    assert few.images < few.stored_images < 3 * few.images
    assert few.seconds.making == 0
    assert few.made_with is few.iterations is None
    (chosen,) = (
        record
        for title, record in by_name.items()
        if "pruned (options" not in title and "el2n" in title and "3 updates" in title
    )
    assert chosen.seconds.making > 0
    (helped,) = (record for title, record in by_name.items() if "kd-pruned" in title and "9 updates" in title)
    assert helped.label_source.startswith("class index and, to 0.95, ")
    assert helped.bytes > chosen.bytes
    shorter, longer = (record for record in records if record.configuration.made is None)
    assert (shorter.protocol, longer.protocol) == ("fraction, 3 updates", "fraction, 9 updates")
    assert shorter.protocol_hash == few.protocol_hash != longer.protocol_hash


def test_they_never_stand_beside_sets(finished):
    folder, _ = finished
    with (folder / "results.csv").open() as file:
        assert {line["method"] for line in csv.DictReader(file)} == {"random"}
    with (folder / "training.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["method"] for line in lines[::2]] == ["rs2", "pruned", "kd-pruned", "all data"]
    assert {line["protocol"] for line in lines} == {"fraction, 3 updates", "fraction, 9 updates"}
    assert {line["sets"] for line in lines if line["method"] == "rs2"} == {"2"}
    text = (folder / "results.md").read_text()
    table, rest = text.split("Training-time baselines, for which no set is stored")
    assert "| random |" in table
    assert "rs2" not in table
    assert "| 10 % | rs2 (variant stratified) |" in rest
    assert Image.open(folder / "training.png").size[0] > 500


def test_without_sets_there_is_only_their_table(finished, tmp_path: Path):
    _, records = finished
    write_report([record for record in records if not record.configuration.has_set], tmp_path)
    text = (tmp_path / "results.md").read_text()
    assert text.startswith("Training-time baselines")
    assert "Reference, not comparable" not in text
    assert not (tmp_path / "results.png").exists()


def test_columns_of_other_lengths_are_other_cells(digits_file: Path):
    cells = [job.cell for job in plan(grid(digits_file), "grid.yaml")]
    usual = [{"protocol": "fraction", "nets": ["mlp"]}]
    assert len({cell.key for cell in cells}) == len(cells) == 12
    plain = [job.cell for job in plan(grid(digits_file, columns=usual), "grid.yaml")]
    as_many = [{"protocol": "fraction", "nets": ["mlp"], "updates": 800}]
    assert [job.cell.key for job in plan(grid(digits_file, columns=as_many), "grid.yaml")] == [
        cell.key for cell in plain
    ]
    assert all("updates" not in cell.model_dump(mode="json")["column"] for cell in plain)
    assert plain[-1].column.protocol_hash == plain[0].column.protocol_hash  # of all data, under the same rule


def test_what_chooses_is_part_of_a_cell_by_its_own_name(digits_file: Path):
    def cell(**options):
        entry = {"name": "pruned", "options": options}
        return plan(grid(digits_file, methods=[entry], full=False), "grid.yaml")[0].cell

    chooser = cell(choice="grand").made.settings["chooser"]
    assert (chooser["method"], chooser["revision"]) == ("grand", 1)
    assert chooser["settings"]["epochs"] == 5
    assert cell(choice="gradient-norms").made.settings["chooser"] == chooser
    assert cell(choice="grand", choice_options={"epochs": 2}).key != cell(choice="grand").key


def test_failures_of_baselines_are_told(finished, tmp_path: Path):
    _, records = finished
    (one, *_) = (record for record in records if record.configuration.made and record.configuration.made.is_baseline)
    failed = one.model_copy(update={"status": "failed", "error": "it broke"})
    poor = one.model_copy(update={"diverged": (0,)})
    write_report([failed], tmp_path / "failed")
    write_report([poor], tmp_path / "poor")
    assert ": it broke" in (tmp_path / "failed" / "results.md").read_text()
    assert '"error": "it broke"' in (tmp_path / "failed" / "results.json").read_text()
    text = (tmp_path / "poor" / "results.md").read_text()
    assert "- diverged or near chance:" in text
    assert "- settings: rs2 (variant stratified)" in text


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"methods": [{"name": "rs2", "iterations": 5}]}, "methods.0: rs2 makes no set: leave iterations out"),
        ({"methods": [{"name": "rs2", "recipe": "desk"}]}, "methods.0: rs2 makes no set: leave recipe out"),
        ({"methods": [{"name": "rs2", "options": {"varient": 1}}]}, "rs2: unknown option --varient"),
        ({"methods": [{"name": "rs2", "teacher": "small"}]}, "rs2 asks no teacher: leave it out"),
        ({"methods": [{"name": "kd-pruned"}]}, "kd-pruned needs teacher: give it as `teacher`"),
        ({"methods": [{"name": "rs2"}], "columns": [{"protocol": "desk-static"}]}, "rs2 trains on class indices"),
        (
            {"columns": [{"protocol": "desk-soft-hard", "labels": {"labels": "hard"}}]},
            "rs2 trains on class indices, and the column desk-soft-hard has labels of its own",
        ),
        ({"columns": [{"protocol": "fraction", "methods": ["rs3"]}]}, "columns.0: methods: rs3 is none of the grid's"),
        (
            {"columns": [{"protocol": "desk-regression", "updates": 100}]},
            "100 updates are too few: .* needs 501 or more",
        ),
        ({"columns": [{"protocol": "desk", "updates": 5}]}, "columns.0: protocol desk counts epochs, not updates"),
        ({"columns": [{"protocol": "fraction", "updates": 0}]}, "columns.0: updates 0: should be greater"),
        ({"columns": [{"protocol": "fraction", "updates": 5}] * 2}, "is given twice"),
    ],
)
def test_wrong_grids_are_refused(digits_file: Path, changes: dict, sentence: str):
    with pytest.raises(CondenseError, match=sentence):
        plan(grid(digits_file, **changes), "grid.yaml")
