"""Tables, CSV and plot, from records whose numbers are made up."""

from __future__ import annotations

import csv
import io
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from benchmarks import minutes
from benchmarks.plot import draw
from benchmarks.records import Parts, Record, read_record, write_record
from benchmarks.report import comma_separated, markdown, write_report
from benchmarks.table import as_dicts, build_table
from condense.runtime.errors import CondenseError


@pytest.fixture
def record(make_record: Callable[..., Record]) -> Callable[..., Record]:
    """One of two networks; `dm` reaches 500 iterations and more."""

    def made(
        method: str | None = "dm",
        *,
        ipc: int | None = 1,
        seed: int = 0,
        accuracies: tuple[float, ...] = (0.5, 0.6),
        balanced: bool = True,
        iterations: int | None = None,
        minutes: float | None = None,
        revision: int = 1,
        **given: Any,
    ) -> Record:
        return make_record(
            method,
            accuracies,
            ipc=ipc,
            seed=seed,
            asked={"balanced": balanced, "iterations": iterations, "minutes": minutes, "revision": revision},
            made_with=False,
            stored_images=None,
            label_source=None,
            diverged=[index for index, accuracy in enumerate(accuracies) if accuracy < 0.15],
            iterations=500 + seed if method == "dm" else None,
            seconds=Parts(making=2.0 + seed, evaluating=3.0) if method else Parts(evaluating=9.0),
            peak_memory=Parts(making=1e9, evaluating=2e9),
            **given,
        )

    return made


def test_a_cell_is_the_mean_and_sample_deviation_of_all_networks_on_all_sets(record):
    sets = [(0.50, 0.53, 0.56), (0.60, 0.62, 0.64), (0.41, 0.46, 0.48)]
    records = [record(seed=seed, accuracies=accuracies) for seed, accuracies in enumerate(sets)]
    (line,) = csv.DictReader(io.StringIO(comma_separated(as_dicts(build_table(records)))))
    everything = [accuracy for accuracies in sets for accuracy in accuracies]
    assert float(line["mean"]) == pytest.approx(statistics.mean(everything))
    assert float(line["std"]) == pytest.approx(statistics.stdev(everything))
    between_networks = statistics.mean(statistics.variance(accuracies) for accuracies in sets)
    between_sets = statistics.variance(statistics.mean(accuracies) for accuracies in sets) - between_networks / 3
    assert float(line["std_between_networks"]) == pytest.approx(between_networks**0.5)
    assert float(line["std_between_sets"]) == pytest.approx(between_sets**0.5)
    assert (line["sets"], line["networks"], line["iterations"], line["bytes"]) == ("3", "3", "500-502", "2640")
    assert float(line["making_seconds"]) == pytest.approx(3.0)

    assert line["expert_seconds"] == ""

    text = markdown(build_table(records), records)
    shown = f"{100 * statistics.mean(everything):.1f} ± {100 * statistics.stdev(everything):.1f} (3 x 3)"
    assert f"| digits | 1 | dm | {shown} | 3.0 | 10 | 2,640 | 500-502 |" in text
    assert "| between sets | between networks |" in text
    assert "in brackets" not in text
    assert f"{100 * between_sets**0.5:.2f} | {100 * between_networks**0.5:.2f} |" in text


def test_the_seconds_of_shared_experts_stand_beside_those_of_the_set(record):
    records = [record(seed=seed).model_copy(update={"expert_seconds": 1200.0}) for seed in range(2)]
    (line,) = csv.DictReader(io.StringIO(comma_separated(as_dicts(build_table(records)))))
    assert float(line["expert_seconds"]) == 1200
    text = markdown(build_table(records), records)
    assert "| 2.5 (1,200.0) |" in text
    assert "in brackets: all of them, one after the other" in text


def test_columns_are_headed_by_protocol_and_hash_and_never_averaged(record):
    records = [
        record(accuracies=(0.2, 0.3)),
        record(accuracies=(0.8, 0.9), protocol="dc", protocol_hash="b" * 12),
        record("random", accuracies=(0.1, 0.12)),
        record("random", protocol="dc", protocol_hash="b" * 12, failed=True),
        record("herding", accuracies=(0.3, 0.4)),
    ]
    text = markdown(build_table(records), records)
    assert (
        "| data | ipc | method | desk aaaaaaaaaaaa convnet | dc bbbbbbbbbbbb convnet | seconds | images | bytes "
        "| iterations |" in text
    )
    assert "| digits | 1 | dm | 25.0 ± 7.1 (1 x 2) | 85.0 ± 7.1 (1 x 2) | 2.0 |" in text
    assert "| digits | 1 | random | 11.0 ± 1.4 (1 x 2) | failed |" in text
    assert "| digits | 1 | herding | 35.0 ± 7.1 (1 x 2) |  |" in text  # still to be measured
    assert "- diverged or near chance: digits, 1 per class, random, seed 0, desk convnet: 10.0 %, 12.0 %" in text


def test_decoded_and_stored_images_are_both_shown(record):
    decoded = record().model_copy(update={"images": 40, "stored_images": 10})
    assert "| 2.0 | 40 of 10 stored | 2,640 |" in markdown(build_table([decoded]), [decoded])
    assert next(csv.DictReader(io.StringIO(comma_separated(as_dicts(build_table([decoded]))))))["stored_images"] == "10"


def test_two_hashes_in_one_column_are_refused(record, tmp_path: Path):
    records = [record(), record("random", protocol_hash="b" * 12)]
    with pytest.raises(CondenseError, match=f"mix protocol hashes {'a' * 12} and {'b' * 12}"):
        write_report(records, tmp_path)
    assert not list(tmp_path.iterdir())


def test_full_data_is_a_reference_line_and_never_a_row(record):
    records = [record(), record(None, accuracies=(0.97,), protocol_hash="d" * 12)]
    table = build_table(records)
    assert "full" not in comma_separated(as_dicts(table))
    text = markdown(table, records)
    assert "Reference, not comparable with the rows:" in text
    assert "- digits, all 10 training images, protocol full (dddddddddddd) beside desk convnet: 97.0 %, 9 s" in text
    assert not any(line.startswith("|") and "full" in line for line in text.splitlines())


def test_a_method_that_occurs_twice_is_told_apart_by_its_details(record):
    records = [record(), record(options={"image_lr": 3.0}), record("random", options={"a": "b"})]
    assert [row.method for row in build_table(records).rows] == ["dm", "dm (image_lr 3.0)", "random"]


def test_revisions_of_a_method_are_in_different_rows(record):
    def rows(*revisions: int) -> list[str]:
        return [row.method for row in build_table([record(revision=revision) for revision in revisions]).rows]

    assert rows(1, 2) == ["dm", "dm (revision 2)"]
    assert rows(2, 3) == ["dm (revision 2)", "dm (revision 3)"]
    assert rows(2, 2) == ["dm"]


def test_names_leave_out_what_entries_share_and_a_budget_that_goes_with_the_size(record):
    records = [
        record(options={"image_lr": rate, "network": "mlp"}, ipc=ipc, minutes=3 * ipc)
        for ipc in (1, 10)
        for rate in (1.0, 2.0)
    ]
    assert [row.method for row in build_table(records).rows] == ["dm (image_lr 1.0)", "dm (image_lr 2.0)"] * 2
    longer = [record(minutes=1), record(minutes=2)]
    assert [row.method for row in build_table(longer).rows] == ["dm (1 minutes)", "dm (2 minutes)"]
    start = [record(options={"image_lr": 1e-6}, ipc=ipc, iterations=1) for ipc in (1, 10)]
    sized = [record(ipc=1, minutes=3), record(ipc=10, minutes=8)]
    names = [(row.size.ipc, row.method) for row in build_table(start + sized).rows]
    assert names == [(ipc, name) for name in ("dm (image_lr 1e-06, 1 iterations)", "dm") for ipc in (1, 10)]
    counted = [record(ipc=1, iterations=20), record(ipc=10, iterations=30)]
    names = [(row.size.ipc, row.method) for row in build_table(sized + counted).rows]
    assert names == [(ipc, f"dm (given {budget})") for budget in ("minutes", "iterations") for ipc in (1, 10)]


def test_names_leave_out_a_budget_that_goes_with_data_and_size(record):
    sized = {("digits", 1): 746, ("digits", 10): 1074, ("mnist", 1): 798, ("mnist", 10): 1106}
    records = [record("idm", data=data, ipc=ipc, iterations=count) for (data, ipc), count in sized.items()]
    start = [record("idm", data=data, ipc=ipc, iterations=1, options={"image_lr": 1e-6}) for data, ipc in sized]
    names = [(row.data, row.size.ipc, row.method) for row in build_table(records + start).rows]
    assert names == [(*place, name) for name in ("idm", "idm (image_lr 1e-06, 1 iterations)") for place in sized]
    assert {row.method for row in build_table([*records, record("idm", iterations=9)]).rows} == {
        f"idm ({count} iterations)" for count in (*sized.values(), 9)
    }


def test_rows_of_equal_minutes_on_different_machines_are_named(record):
    def on(processor: str, method: str, ipc: int, minutes: float | None = 3) -> Record:
        hardware = {"processor": processor, "cores": 2, "threads": 2, "memory_gb": 8.0, "gpu": None}
        return record(method, ipc=ipc, minutes=minutes).model_copy(update={"made_with": {"hardware": hardware}})

    same = [on("abacus", method, 10) for method in ("dm", "dc")] + [on("loom", "random", 10, minutes=None)]
    assert "Minutes were not" not in markdown(build_table(same), same)
    mixed = [*same, on("abacus", "dm", 1), on("loom", "dc", 1), on("loom", "dsa", 1)]
    text = markdown(build_table(mixed), mixed)
    assert "Minutes were not those of one machine:\n\n- digits, 1 per class, abacus: dm\n" in text
    assert "- digits, 1 per class, loom: dc, dsa\n" in text
    assert "10 per class, abacus" not in text


def test_failures_and_circumstances_are_listed(record):
    records = [record(), record(seed=1, failed=True)]
    text = markdown(build_table(records), records)
    assert "- failed: digits, 1 per class, dm, seed 1, desk convnet: it broke" in text
    assert "(1 x 2)" in text
    assert "abacus, 2 cores" in text
    assert "- commit: c0ffee" in text
    assert "- computed: 2026-01-02" in text


def test_the_plot_has_a_bar_for_every_score_with_its_deviation(record):
    accuracies = (0.5, 0.6)
    records = [record(method, ipc=ipc, accuracies=accuracies) for method in ("random", "dm") for ipc in (1, 10)]
    records.append(record(None, accuracies=(0.97,), protocol_hash="d" * 12))
    (axes,) = draw(build_table(records)).axes
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([55.0] * 4)
    whiskers = [
        segment
        for bars in axes.containers
        if hasattr(bars, "errorbar")
        for segment in bars.errorbar[2][0].get_segments()
    ]
    assert [segment[1, 0] - segment[0, 0] for segment in whiskers] == pytest.approx(
        [200 * statistics.stdev(accuracies)] * 4
    )
    assert [text.get_text() for text in axes.get_yticklabels()] == ["random", "dm"]
    assert 97.0 in [line.get_xdata()[0] for line in axes.lines]


def test_the_report_is_written_in_all_its_forms(record, tmp_path: Path):
    records = [record(), record("random"), record(None, accuracies=(0.97,), protocol_hash="d" * 12)]
    write_report(records, tmp_path)
    content = json.loads((tmp_path / "results.json").read_text())
    assert [line["accuracies"] for line in content["scores"]] == [[[0.5, 0.6]], [[0.5, 0.6]]]
    assert content["full"][0]["mean"] == 0.97
    with Image.open(tmp_path / "results.png") as image:
        assert min(image.size) > 300
    before = (tmp_path / "results.svg").read_bytes()
    write_report(records, tmp_path)
    assert (tmp_path / "results.svg").read_bytes() == before


def test_methods_with_several_times_have_accuracy_against_minutes(record, tmp_path: Path):
    """With a line for each, however it was set up, and the front of them; a size with one time has no panel."""
    records = [
        record("dm", minutes=3.0, accuracies=(0.5, 0.5)),
        record("dm", minutes=8.0, accuracies=(0.6, 0.6)),
        record("dsa", minutes=3.0, accuracies=(0.7, 0.7), options={"factor": 2}),
        record("dsa", minutes=3.0, accuracies=(0.4, 0.4)),
        record("random", accuracies=(0.2, 0.2)),
        record("dm", minutes=3.0, ipc=10),
    ]
    (axes,) = minutes.draw(build_table(records)).axes
    assert axes.get_title() == "digits, 1 per class: desk (aaaaaaaaaaaa), convnet"
    shown = {bars.get_label(): bars.lines[0].get_xydata().tolist() for bars in axes.containers}
    assert shown == {
        "dm": [[3, 50], [8, 60]],
        "dsa (factor 2)": [[3, 70]],
        "dsa": [[3, 40]],
        minutes.FRONT: [[3, 70], [8, 70]],
    }
    write_report(records, tmp_path)
    assert Image.open(tmp_path / "minutes.png").size[0] > 500
    assert minutes.draw(build_table(records[2:])) is None
    write_report(records[2:], tmp_path)
    assert not list(tmp_path.glob("minutes.*"))  # of the earlier report


def test_only_failures_still_make_a_report(record, tmp_path: Path):
    write_report([record(failed=True)], tmp_path)
    assert "it broke" in (tmp_path / "results.md").read_text()
    assert (tmp_path / "results.csv").read_text() == ""


def test_records_survive_their_file_and_damage_is_named(record, tmp_path: Path):
    path = tmp_path / "cell.json"
    assert read_record(path) is None
    write_record(path, record())
    assert read_record(path) == record()
    path.write_text(path.read_text()[:50])
    with pytest.raises(CondenseError, match=r"cell\.json is no record of this version .*; remove it"):
        read_record(path)


SIZES: list[dict[str, Any]] = [{"ipc": 1}, {"ipc": None, "fraction": 0.01}, {"ipc": None, "fraction": 0.05}]


def test_sizes_of_any_class_and_of_every_class_are_one_size(record):
    records = [record("random", balanced=balanced, **size) for size in SIZES for balanced in (True, False)]
    table = build_table(records)
    assert len({row.size for row in table.rows}) == 3
    assert {row.method for row in table.rows} == {"random", "random (of any class)"}
    (axes,) = draw(table).axes
    assert [bars.get_label() for bars in axes.containers if hasattr(bars, "patches")] == [
        "1 % of the training images",
        "5 % of the training images",
        "1 image per class",
    ]
    text = markdown(table, records)
    assert "| data | ipc or fraction | method |" in text
    assert "| digits | 1 % | random (of any class) |" in text
    assert "| data | ipc | method |" in markdown(build_table(records[:2]), records[:2])


def test_the_legend_fits_into_the_plot(record):
    records = [record("random", **size) for size in SIZES]
    figure = draw(build_table(records))
    figure.draw_without_rendering()
    (legend,) = figure.legends
    box, whole = legend.get_window_extent(), figure.bbox
    assert whole.x0 <= box.x0 < box.x1 <= whole.x1
