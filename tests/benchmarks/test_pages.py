"""The tables of README and `docs/results.md` say what the committed records say."""

import json
from pathlib import Path
from statistics import fmean, stdev

import pytest

from benchmarks.pages import PAGES, ROOT, name_of, with_tables, write_pages
from condense.runtime.errors import CondenseError

RESULTS = """\
data,ipc,method,details,protocol,mean,std,images,stored_images,bytes,iterations,making_seconds,expert_seconds,made_on
fashion-mnist,1,random,,desk,0.509,0.078,10,10,7920,,0.001,,old
fashion-mnist,1,idm (1 iterations),"recipe desk, image_lr 1e-06, 1 iterations",desk,0.6,0.01,40,10,31448,1,1.2,,old
fashion-mnist,1,idm (revision 2),"revision 2, recipe desk, 3 minutes",desk,0.7541,0.0062,40,10,31448,1210,180.6,,old
fashion-mnist,1,dm (flip_closure True),"recipe desk, flip_closure True, 3 minutes",desk,0.7,,10,10,31440,648,180.1,,old
fashion-mnist,1,dm,"recipe desk, 3 minutes",desk,0.72,0.002,10,10,31440,666,180.1,,old
cifar10,10,dm,"recipe desk, 8 minutes",desk,0.45,0.01,100,100,1229600,7400,480,,new
cifar10,10,dc,"recipe desk, 8 minutes",desk,0.4,0.01,100,100,1229600,1200,480,,old
cifar10,10,random,,desk,0.3,0.01,100,100,308000,,0,,new
"""
TWO_COLUMNS = """\
data,ipc,method,details,protocol,mean,std,images,stored_images,bytes,iterations,making_seconds,expert_seconds,made_on
cifar10,1,mtt,"recipe desk, gradient frozen, 2 sgd experts of 6 epochs",desk,0.3,0.01,10,10,99,20,300,1234.5,old
cifar10,1,mtt,"recipe desk, gradient frozen, 2 sgd experts of 6 epochs",desk-static,0.4,0.01,10,10,99,20,300,1234.5,old
cifar10,1,random,,desk,0.35,0.02,10,10,88,,0,,old
"""


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for name, text in (("grid", RESULTS), ("two", TWO_COLUMNS)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.csv").write_text(text, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_committed_pages_show_what_was_measured(page: Path):
    text = page.read_text(encoding="utf-8")
    assert "<!-- table: " in text
    assert with_tables(text, ROOT / "benchmarks" / "results") == text


def test_costs_of_one_size_stand_beside_its_accuracies(results: Path):
    page = "Before.\n\n<!-- table: cost grid fashion-mnist 1 -->\n| old |\n| --- |\n| 99 |\n\nAfter.\n"
    assert with_tables(page, results) == (
        "Before.\n\n<!-- table: cost grid fashion-mnist 1 -->\n"
        "| method | accuracy, % | iterations | images | bytes | seconds to make |\n"
        "| --- | --- | --- | --- | --- | --- |\n"
        "| idm | 75.4 ± 0.6 | 1,210 | 40 from 10 | 31,448 | 181 |\n"
        "| dm | 72.0 ± 0.2 | 666 | 10 | 31,440 | 180 |\n"
        "| dm, flip closure | 70.0 | 648 | 10 | 31,440 | 180 |\n"
        "| mosaics of real images, not learned | 60.0 ± 1.0 | 1 | 40 from 10 | 31,448 | 1 |\n"
        "| random | 50.9 ± 7.8 |  | 10 | 7,920 | 0 |\n"
        "\nAfter.\n"
    )


def test_every_column_of_a_grid_is_shown(results: Path):
    assert with_tables("<!-- table: cost two cifar10 1 -->\n", results).splitlines()[1:] == [
        "| method | desk, % | desk-static, % | iterations | images | bytes | seconds to make | experts, seconds |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        "| mtt, frozen | 30.0 ± 1.0 | 40.0 ± 1.0 | 20 | 10 | 99 | 300 | 1,234 |",
        "| random | 35.0 ± 2.0 |  |  | 10 | 88 | 0 |  |",
    ]


def test_trainings_without_a_set_stand_beside_all_data_at_every_length(tmp_path: Path):
    text = "method,protocol,mean,std,choosing_seconds,unique_images\n"
    for method, scores, choosing, images in (
        ("rs2", (0.80, 0.90), "0.0", (1200, 5400)),
        ("pruned (choice herding)", (0.81, 0.85), "135.2", (540, 540)),
        ("all data", (0.82, 0.91), "", (5400, 5400)),
    ):
        for protocol, mean, seen in zip(('"fraction, 1,600 updates"', "fraction"), scores, images):
            text += f"{method},{protocol},{mean},,{choosing},{seen}\n"
    (tmp_path / "clock").mkdir()
    (tmp_path / "clock" / "training.csv").write_text(text, encoding="utf-8")
    assert with_tables("<!-- table: trainings clock -->\n", tmp_path).splitlines()[1:] == [
        "| training | 1,600 updates | 800 updates | choosing, s | different images |",
        "| --- | --- | --- | --- | --- |",
        "| rs2 | 80.0 | 90.0 | 0 | 1,200 to 5,400 |",
        "| pruned (choice herding) | 81.0 | 85.0 | 135 | 540 |",
        "| all data | 82.0 | 91.0 | 0 | 5,400 |",
    ]


def test_machines_are_told_where_minutes_were_those_of_different_ones(results: Path):
    assert with_tables("<!-- table: cost grid cifar10 10 -->\n", results).splitlines()[1:] == [
        "| method | accuracy, % | iterations | images | bytes | seconds to make | on |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| dm | 45.0 ± 1.0 | 7,400 | 100 | 1,229,600 | 480 | new |",
        "| dc | 40.0 ± 1.0 | 1,200 | 100 | 1,229,600 | 480 | old |",
        "| random | 30.0 ± 1.0 |  | 100 | 308,000 | 0 | new |",
    ]


def test_sizes_stand_side_by_side_without_rows_of_special_options(results: Path):
    assert with_tables("<!-- table: sizes grid -->\n", results).splitlines()[1:] == [
        "| method | Fashion-MNIST, 1 | CIFAR-10, 10 |",
        "| --- | --- | --- |",
        "| dc |  | 40.0 ± 1.0 |",
        "| random | 50.9 ± 7.8 | 30.0 ± 1.0 |",
        "| dm | 72.0 ± 0.2 | 45.0 ± 1.0 |",
        "| mosaics of real images, not learned | 60.0 ± 1.0 |  |",
        "| idm | 75.4 ± 0.6 |  |",
    ]


def test_iterations_that_data_and_size_tell_are_not_part_of_a_name():
    details = "revision 4, recipe desk, gradient frozen, 746 iterations"
    line = {"method": "mtt (gradient frozen)", "details": details, "iterations": "746"}
    assert name_of(line) == "mtt, frozen"
    assert name_of(line | {"method": "mtt (gradient frozen, given iterations)"}) == "mtt, frozen, 746 iterations"


def test_a_table_of_columns_keeps_the_labels_apart_and_the_order_of_the_grid(tmp_path: Path):
    head = RESULTS.splitlines()[0].replace("protocol,", "protocol,labels,")
    lines = [
        'cifar10,10,random,,desk-soft,"views, T 20 of small",0.3,0.01,100,100,908000,,0,,',
        'cifar10,10,random,,desk-soft,"online, T 20 of small",0.4,0.01,100,100,1308000,,0,,',
        "cifar10,10,random,,desk,,0.2,,100,100,308000,,0,,",
        'cifar10,10,sre2l (a),"recipe plusplus, layout mixed, teacher small",desk,,0.5,,100,100,308000,500,90,,',
    ]
    (tmp_path / "grid").mkdir()
    (tmp_path / "grid" / "results.csv").write_text("\n".join([head, *lines]) + "\n", encoding="utf-8")
    written = with_tables("<!-- table: columns grid cifar10 10 -->\n", tmp_path)
    assert "desk-soft (views, T 20 of small) | desk-soft (online, T 20 of small) | desk |" in written
    assert "| random | 30.0 ± 1.0 | 40.0 ± 1.0 | 20.0 |  | 100 | 308,000 | 0 |" in written
    assert "| sre2l, SRe2L++ |  |  | 50.0 | 500 | 100 | 308,000 | 90 |" in written
    lengthwise = with_tables("<!-- table: labels grid cifar10 10 -->\n", tmp_path)
    assert "| views, T 20 of small | desk-soft | 30.0 ± 1.0 | 908,000 |" in lengthwise
    assert "| class indices | desk | 20.0 | 308,000 |" in lengthwise


def test_pages_are_written_again_in_place(results: Path):
    page = results / "page.md"
    page.write_text("<!-- table: sizes grid -->\n\nText stays.\n", encoding="utf-8")
    write_pages([page], results)
    written = page.read_text(encoding="utf-8")
    assert "| idm | 75.4 ± 0.6 |" in written
    assert written.endswith("|\n\nText stays.\n")
    write_pages([page], results)
    assert page.read_text(encoding="utf-8") == written


@pytest.mark.parametrize(
    ("words", "said"), [("shapes grid", "'shapes'; there are cost, sizes"), ("sizes nowhere", "nowhere, which has no")]
)
def test_a_table_that_nobody_can_make_is_an_error(results: Path, words: str, said: str):
    with pytest.raises(CondenseError, match=said):
        with_tables(f"<!-- table: {words} -->\n", results)


def test_parts_of_the_data_stand_beside_random_ones(tmp_path: Path):
    """Signs only where the interval of the difference leaves out zero: not for one network, not for wide spreads."""

    def score(method: str, fraction: float, *sets: list[float], protocol: str = "fraction") -> dict[str, object]:
        values = [value for each in sets for value in each]
        return {
            "data": "cifar10",
            "method": method,
            "fraction": fraction,
            "protocol": protocol,
            "mean": fmean(values),
            "std": stdev(values) if len(values) > 1 else None,
            "accuracies": list(sets),
        }

    scores = [
        score("random", 0.01, [0.40, 0.42], [0.41, 0.43]),
        score("random", 0.1, [0.60]),
        score("good", 0.01, [0.50, 0.51]),
        score("good", 0.1, [0.70]),
        score("good", 0.01, [0.2], protocol="fraction-weighted"),
        score("wild", 0.01, [0.20, 0.70]),
        score("wild", 0.1, [0.90]),
        score("bad", 0.01, [0.20, 0.21]),
        score("bad", 0.1, [0.10]),
        score("random", 0.01, [0.9]) | {"data": "other"},
    ]
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "results.json").write_text(json.dumps({"scores": scores}), encoding="utf-8")
    assert with_tables("<!-- table: fractions parts cifar10 -->\n", tmp_path).splitlines()[1:] == [
        "| method | 1 % | 10 % | 1 %, fraction-weighted |",
        "| --- | --- | --- | --- |",
        "| wild | 45.0 ± 35.4 | 90.0 |  |",
        "| good | 50.5 ± 0.7 ▲ | 70.0 | 20.0 |",
        "| random | 41.5 ± 1.3 | 60.0 |  |",
        "| bad | 20.5 ± 0.7 ▼ | 10.0 |  |",
    ]
