"""Teachers of grids: which votes and labels a cell has, and that they are made by the grid's own command."""

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

import condense
from benchmarks.cells import Cell
from benchmarks.described import LabelDescription
from benchmarks.grid import parse_grid
from benchmarks.harness import run_grid
from benchmarks.plan import plan
from benchmarks.records import read_records
from condense.runtime.errors import CondenseError
from condense.runtime.executors import here
from condense.teachers.label_settings import LabelSettings


def grid(data: Path, **changes):
    content = {
        "data": [{"name": str(data)}],
        "ipc": [2],
        "teachers": {"small": {"net": "convnet-d2-w4-bn", "training": {"epochs": 1, "lr": 0.02}}},
        "methods": [{"name": "random"}, {"name": "rded", "teacher": "small", "options": {"patch_images": 4}}],
        "columns": [
            {"protocol": "demo", "nets": ["mlp"]},
            {
                "protocol": "desk-soft-static",
                "nets": ["mlp"],
                "labels": {"labels": "static", "teacher": "small"},
                "methods": ["random"],
            },
        ],
        "network_seeds": 1,
    }
    return parse_grid(content | changes, "grid.yaml")


def test_teachers_are_trained_once_and_label_the_sets_of_a_column(digits_file: Path, tmp_path: Path):
    wanted = grid(digits_file)
    records = run_grid(wanted, tmp_path, origin="grid.yaml", executor=here, progress=False)
    assert [record.status for record in records] == ["done"] * 3
    labelled = next(record for record in records if record.configuration.column.labels is not None)
    assert labelled.configuration.made.method == "random"
    assert labelled.label_source.startswith("own: one soft label per image (logits, kl, temperature 20")
    assert labelled.seconds.labelling is not None
    assert labelled.bytes > next(record for record in records if record is not labelled).bytes
    teachers = list((tmp_path / "teachers").glob("*/*.safetensors"))
    assert len(teachers) == 1
    assert condense.Teacher.open(teachers[0]).manifest.held_out is not None
    again = {record.key: record for record in read_records(tmp_path)}
    assert {record.key for record in records} == again.keys()
    table = (tmp_path / "results.md").read_text()
    assert "(static, T 20, kl of small)" in table
    private = digits_file.parent.name
    assert not any(private in path.read_text() for path in (tmp_path / "cells").iterdir())


def test_a_cell_knows_its_teachers_and_its_labels_and_others_are_as_before(digits_file: Path):
    cells = [job.cell for job in plan(grid(digits_file), "grid.yaml")]
    other = {"small": {"net": "convnet-d2-w4-bn", "training": {"epochs": 2, "lr": 0.02}}}
    changed = [job.cell for job in plan(grid(digits_file, teachers=other), "grid.yaml")]
    assert [a.key == b.key for a, b in zip(cells, changed)] == [True, False, False]
    assert [cell.column.label_words for cell in cells] == ["", "static, T 20, kl of small", ""]
    plain = cells[0].model_dump(mode="json")
    assert "teachers" not in plain["made"]
    assert "labels" not in plain["column"]
    assert Cell.model_validate(cells[2].model_dump(mode="json")) == cells[2]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"teachers": {}}, "teacher 'small' is none of the grid's"),
        ({"methods": [{"name": "rded"}]}, "rded needs teacher: give it as `teacher`"),
        ({"methods": [{"name": "random", "teacher": "small"}]}, "random asks no teacher: leave it out"),
        ({"columns": [{"protocol": "desk-soft"}]}, "trains on labels of views, which no set has by itself"),
        (
            {"columns": [{"protocol": "desk-soft", "labels": {"labels": "views", "teacher": "smal"}}]},
            "did you mean small",
        ),
        ({"teachers": {"small": {"net": "convnet-bn", "file": "a.pt"}}}, "needs the normalization"),
        ({"teachers": {"small": {"net": "convnet-bn", "normalization": "mnist"}}}, "leave normalization out"),
        (
            {"teachers": {"small": {"net": "mlp", "file": "a.pt", "normalization": "mnist", "seed": 1}}},
            "leave seed and training out",
        ),
        ({"methods": [{"name": "rded", "teacher": {"small": 0}}]}, "several names with positive weights"),
        ({"methods": [{"name": "rded", "teacher": {"small": float("inf")}}]}, "with positive weights"),
        ({"methods": [{"name": "rded", "teacher": {}}]}, "must be a teacher's name"),
        (
            {"columns": [{"protocol": "desk-soft-hard", "labels": {"labels": "hard", "teacher": "small"}}]},
            "follow from classes, and no teacher is asked",
        ),
    ],
)
def test_wrong_teachers_are_refused_before_any_work(digits_file: Path, changes, sentence: str):
    with pytest.raises(CondenseError, match=sentence):
        plan(grid(digits_file, **changes), "grid.yaml")


def test_every_setting_of_labels_is_in_the_head_of_their_column() -> None:
    """So that two columns which differ are never called the same."""
    views, other = {"labels": "views", "batch_size": 8, "mix": "cutmix"}, {"labels": "projector"}
    changes = {
        "temperature": 4,
        "loss": "kl-t2",
        "views": 7,
        "pool": 0.5,
        "crop": "resized",
        "shuffle": 2,
        "mix": "mixup",
        "batch_size": 9,
        "teacher_bn": "batch",
        "seed": 1,
        "calibrate": 0.1,
        "codec": "int8",
        "subclasses": 2,
    }
    more = {"rank": 5, "epochs": 1, "image_updates": 9}
    beside = {"least", "class_weight", "bn_groups", "unreliable", "distance_weight"}  # which need another one
    assert changes.keys() | more.keys() | beside | {"labels", "flip"} == LabelSettings.model_fields.keys()
    settings = [views, *(views | {name: value} for name, value in changes.items())]
    settings += [other, *(other | {name: value} for name, value in more.items())]
    settings += [views | {"teacher_bn": "batch", "bn_groups": 2}, views | {"loss": "mse", "temperature": 1}]
    settings += [views | {"loss": "mse", "temperature": 1, "class_weight": 0.5}, views | {"codec": "distance"}]
    settings += [views | {"codec": "distance", "distance_weight": 0.5}, views | {"crop": "resized", "least": 0.5}]
    settings += [views | {"calibrate": 0.1, "unreliable": "discarded"}]
    words = [LabelDescription(settings=LabelSettings.of(each).settled(mirror=True)).words for each in settings]
    assert len(set(words)) == len(words)
    assert words[0] == "views, T 20, kl, mix cutmix, batch size 8"


def test_labels_of_a_projector_in_a_grid(digits_file: Path, tmp_path: Path, untrained_teacher) -> None:
    data = condense.load_data(digits_file)
    path = tmp_path / "shared.safetensors"
    untrained_teacher(replace(data.info, classes=("a", "b")), "convnet-d2-w4-bn").save(path)
    labels = {"labels": "projector", "teacher": "small", "encoder": str(path), "options": {"epochs": 1, "rank": 2}}
    columns = [{"protocol": "desk-soft", "nets": ["mlp"], "labels": labels}]
    columns += [{"protocol": "desk-soft-static", "nets": ["mlp"], "labels": {"labels": "static", "teacher": "small"}}]
    wanted = grid(digits_file, columns=columns, methods=[{"name": "random"}])
    out = tmp_path / "out"
    projected, static = run_grid(wanted, out, origin="grid.yaml", executor=here, progress=False)
    assert projected.status == "done", projected.error
    assert projected.label_source.startswith("own: given in training by a projector of rank 2")
    assert projected.configuration.column.label_words == "projector, T 20, kl, rank 2, epochs 1, on shared of small"
    assert projected.bytes > static.bytes > 0
    assert str(tmp_path) not in next((out / "cells").glob("*desk-soft-mlp*.json")).read_text()
    with Image.open(out / "labels.png") as picture:
        assert min(picture.size) > 300
    untrained_teacher(data.info, "convnet-d2-w4-bn", seed=1).save(path)
    assert plan(wanted, "grid.yaml")[0].cell.key != projected.key
    for wrong in [labels | {"encoder": None}, {"labels": "static", "teacher": "small", "encoder": str(path)}]:
        with pytest.raises(CondenseError, match="an encoder is for labels projector, which need one"):
            plan(grid(digits_file, columns=[{"protocol": "desk-soft", "nets": ["mlp"], "labels": wrong}]), "grid.yaml")
