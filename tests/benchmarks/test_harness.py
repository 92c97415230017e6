"""The harness with real processes: records, kill and restart, failures, Ctrl-C."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import benchmarks
import condense
from benchmarks.grid import load_grid, parse_grid
from benchmarks.harness import _by_experts, exit_code, run_grid
from benchmarks.pictures import shown_rows, sprite
from benchmarks.plan import plan, read_data
from benchmarks.records import Record, picture_path, read_records, set_path
from benchmarks.table import as_dicts, build_table
from condense.data.preprocessing import Normalization
from condense.methods.checkpoints import Checkpoint, checkpoint_path, save_checkpoint
from condense.runtime.errors import CondenseError
from condense.runtime.executors import Ray, here
from condense.runtime.tensor_files import load_tensors
from condense.runtime.validation import validated
from condense.sets.pictures import brought_into_range
from condense.sets.synthetic_set import SyntheticSet

ROOT = Path(__file__).parents[2]
SMALL: dict[str, Any] = {
    "ipc": [1],
    "methods": [{"name": "random"}, {"name": "dm", "iterations": 3, "options": {"network": "convnet-w8-in"}}],
    "columns": [{"protocol": "demo", "nets": ["mlp"]}],
    "network_seeds": 2,
}
ENDLESS = {"name": "dm", "options": {"network": "convnet-w8-in"}}
DIVERGES = {"name": "dm", "iterations": 5, "options": {"network": "convnet-w8-in", "image_lr": 1e38}}

MARK = "BENCHMARK_UNDER_TEST"


class Counted:
    """Does the work here and remembers what was asked for."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def run(self, function: Any, jobs: list[Any]) -> Iterator[Any]:
        self.calls.append(function.func.__name__)
        yield from here.run(function, jobs)


def start(grid: Path, out: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "condense", "benchmark", str(grid), "--out", str(out)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
        env=os.environ | {MARK: str(out)},
        # a suite that runs in the background may have inherited that Ctrl-C is ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_until(condition: Callable[[], Any], seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.02)


def small(data: Path, **change: Any) -> dict[str, Any]:
    return SMALL | {"data": [str(data)]} | change


def write_grid(path: Path, data: Path, **change: Any) -> Path:
    path.write_text(json.dumps(small(data, **change)), encoding="utf-8")
    return path


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (folder / "cells").iterdir()}


@pytest.fixture(scope="module")
def finished(
    digits_file: Path, tmp_path_factory: pytest.TempPathFactory, processes_with
) -> tuple[Path, Path, dict[str, str]]:
    """A benchmark that was killed after its first record and started again: grid, folder, records before the kill."""
    base = tmp_path_factory.mktemp("benchmark")
    grid, out = write_grid(base / "grid.yaml", digits_file), base / "out"
    process = start(grid, out)
    wait_until(lambda: process.poll() is not None or list((out / "cells").glob("*.json")))
    process.kill()
    process.communicate()
    before = contents(out)
    wait_until(lambda: not processes_with(MARK, out))
    assert benchmarks.run(grid, out, progress=False) == 0
    return grid, out, before


def test_a_killed_benchmark_goes_on_with_the_missing_cells(finished: tuple[Path, Path, dict[str, str]]):
    _, out, before = finished
    assert len(before) == 1
    after = contents(out)
    assert len(after) == 2
    assert before.items() <= after.items()
    assert "| digits | 1 | random |" in (out / "results.md").read_text()
    assert {path.name for path in out.iterdir()} == {"cells", "choices", "pictures", "report", "sets"} | {
        f"results.{ending}" for ending in ("md", "csv", "json", "png", "svg")
    }


def test_which_real_images_were_chosen_is_kept(finished: tuple[Path, Path, dict[str, str]]):
    _, out, _ = finished
    (choice,) = (out / "choices").iterdir()  # of random: dm learns its images
    tensors, facts = load_tensors(choice)
    made = SyntheticSet.load(out / "sets" / f"{choice.stem}.h5")
    assert tensors["indices"].tolist() == made.source_indices.tolist()
    assert tensors.keys() == {"indices"}
    assert facts["fingerprint"] == made.info.fingerprint


def shown(path: Path) -> np.ndarray:
    """The grey tiles of a sprite of one image of each of ten classes."""
    with Image.open(path) as picture:
        assert picture.format == "WEBP"
        assert picture.size == (8, 80)
        return np.asarray(picture.convert("L")).reshape(10, 8, 8) / 255


def test_every_set_has_a_picture_and_one_of_the_nearest_real_images(
    finished: tuple[Path, Path, dict[str, str]], digits_file: Path
):
    _, out, _ = finished
    sets = {path.stem for path in (out / "sets").glob("*.h5")}
    assert {path.stem for path in (out / "pictures").iterdir()} == sets | {f"{name}-nearest" for name in sets}
    train = condense.load_data(digits_file).train
    for text in contents(out).values():
        record = validated(Record, json.loads(text))
        made = SyntheticSet.load(set_path(record.configuration, out))
        images = made.plain_images.clamp(0, 1)
        expected = brought_into_range(made.plain_images)[:, 0].numpy()
        assert abs(shown(picture_path(record.configuration, out)) - expected).mean() < 0.06
        for label, (index, distance) in enumerate(record.nearest):
            assert train.labels[index] == label
            every = train.pixels(train.class_indices(label)).float() / 255
            distances = ((every - images[label]) ** 2).mean((1, 2, 3)).sqrt()
            assert distance == pytest.approx(distances.min().item(), abs=1e-6)
        nearest = train.pixels(torch.tensor([index for index, _ in record.nearest]))[:, 0].numpy() / 255
        assert abs(shown(picture_path(record.configuration, out, nearest=True)) - nearest).mean() < 0.06
        if record.configuration.made.method == "random":
            assert [index for index, _ in record.nearest] == made.source_indices.tolist()


def test_real_images_without_a_licence_stay_with_the_sets(tmp_path: Path):
    """Those that were chosen, mosaics of them, and the nearest ones; learned images lie with the records."""
    digits = condense.load_data("digits")
    path = tmp_path / "mine.npz"
    images, labels = digits.train.pixels(torch.arange(100))[:, 0].numpy(), digits.train.labels[:100].numpy()
    np.savez(path, train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    learned = {"name": "dm", "iterations": 1, "options": {"network": "convnet-w8-in"}}
    methods = [{"name": "random"}, {"name": "pca", "options": {"factor": 2}}, learned]
    run_grid(parse_grid(small(path, methods=methods), "g"), tmp_path / "out", origin="g", executor=here, progress=False)
    committed = {path.name.split("-")[2] for path in (tmp_path / "out" / "pictures").iterdir()}
    beside = {path.name.split("-")[2] for path in (tmp_path / "out" / "sets").glob("*.webp")}
    assert committed == {"dm"}
    assert beside == {"random", "pca", "dm"}
    assert not list((tmp_path / "out" / "pictures").glob("*-nearest*"))
    assert len(list((tmp_path / "out" / "sets").glob("*-nearest*"))) == 3


def test_large_images_and_many_classes_give_a_small_picture():
    info = condense.load_data("digits").info
    info = replace(
        info,
        classes=tuple(map(str, range(120))),
        image_shape=(3, 128, 64),
        preprocessing=Normalization((0.0,) * 3, (1.0,) * 3),
    )
    images = torch.linspace(0, 1, 240).view(-1, 1, 1, 1).expand(240, 3, 128, 64).contiguous()
    made = SyntheticSet(stored=images, stored_labels=torch.arange(120).repeat_interleave(2), info=info)
    picture = sprite([made.pictures_at(row) for row in shown_rows(made)])
    assert picture.size == (2 * 32, 100 * 64)
    assert picture.getpixel((16, 32)) == (0, 0, 0)
    assert picture.getpixel((48, 99 * 64 + 32))[0] == pytest.approx(255 * 199 / 239, abs=1)


def test_a_record_tells_everything(finished: tuple[Path, Path, dict[str, str]], digits_file: Path):
    _, out, _ = finished
    raw = [json.loads(text) for text in contents(out).values()]
    record = next(record for record in raw if record["configuration"]["made"]["method"] == "dm")
    assert record["status"] == "done"
    assert record["protocol"] == "demo"
    assert record["protocol_hash"] == record["configuration"]["column"]["protocol_hash"]
    assert record["network"] == "mlp"
    assert len(record["accuracies"]) == 2
    assert record["mean"] == pytest.approx(sum(record["accuracies"]) / 2)
    assert record["std"] == pytest.approx(abs(record["accuracies"][0] - record["accuracies"][1]) / 2**0.5)
    assert all(0.05 < accuracy < 1 for accuracy in record["accuracies"])
    assert record["iterations"] == 3
    (path,) = (out / "sets").glob("*-dm-*.h5")
    made = SyntheticSet.load(path)
    assert record["set_digest"] == hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    assert record["notes"] == []
    assert record["curves"] == {name: series.tolist() for name, series in made.metrics.items()}
    assert len(record["curves"]["loss"]) == 3
    counts = condense.load_data(digits_file).test.class_counts()
    right = sum(count * record["class_accuracies"][name] for name, count in zip(made.info.classes, counts))
    assert right / sum(counts) == pytest.approx(record["mean"])
    assert 0 < record["calibration_error"] < 1
    assert record["images"] == 10
    assert record["bytes"] == 10 * (64 * 4 + 8)
    assert all(record[part][work] > 0 for part in ("seconds", "peak_memory") for work in ("making", "evaluating"))
    assert record["configuration"]["made"]["settings"]["network"] == "convnet-w8-in"
    assert {"torch", "condense"} <= record["versions"].keys() == record["made_with"]["versions"].keys()
    assert record["hardware"]["cores"] >= 1
    assert record["date"].startswith("20")
    assert str(out.parent) not in json.dumps(record)
    assert "private" not in json.dumps(record)


def test_untimed_cells_run_on_workers_and_one_of_them_may_die(
    finished: tuple[Path, Path, dict[str, str]], digits_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Two sets at once; the worker of one is killed when it has made it. Accuracies are those of cells alone."""
    pytest.importorskip("ray", reason="needs the extra ray")
    attempts = []

    class Deadly:
        threads = 1

        def run(self, function, jobs):
            for outcome in Ray(workers=2).run(partial(_once_killed, function, str(tmp_path / "killed")), jobs):
                attempts.append(outcome.attempts)
                yield outcome

    methods = [*SMALL["methods"], {"name": "dm", "minutes": 0.01, "options": {"network": "convnet-w8-in"}}]
    monkeypatch.chdir(ROOT)  # where workers find this module
    relative = Path(os.path.relpath(digits_file, ROOT))
    grid = parse_grid(small(relative, methods=methods), "g")
    alone = Counted()
    records = run_grid(grid, tmp_path / "out", origin="g", executor=alone, workers=Deadly(), progress=False)
    assert [record.error for record in records] == [None] * 3
    assert sorted(attempts) == [1, 2]
    assert [record.shared for record in records] == [True, True, False]
    assert alone.calls == ["make_set", "score"]
    expected = {record.key: record for record in read_records(finished[1])}
    for record in records[:2]:
        assert record.accuracies == pytest.approx(expected[record.key].accuracies, abs=0.02)  # of as many threads


def _once_killed(function: Callable[[Any], Any], marker: str, cells: Any) -> Any:
    """Of the set that is learned, the first time, after it was made."""
    import benchmarks.jobs as jobs

    usual = jobs.score

    def deadly(job: Any, folder: Path, *, progress: bool) -> Any:
        if job.cell.made.method == "dm" and not Path(marker).exists():
            Path(marker).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return usual(job, folder, progress=progress)

    jobs.score = deadly
    try:
        return function(cells)
    finally:
        jobs.score = usual


def test_nothing_is_computed_twice_and_a_lost_set_is_made_again_equal(finished: tuple[Path, Path, dict[str, str]]):
    grid, out, _ = finished
    before = contents(out)
    for path in (out / "sets").glob("*-random-*"):
        path.unlink()
    assert benchmarks.run(grid, out, progress=False) == 0
    assert contents(out) == before
    assert not list((out / "sets").glob("*-random-*")), "no cell needed the set"

    (lost,) = [name for name in before if "-random-" in name]
    again = made_again(grid, out, lost)
    assert json.loads(again[lost])["accuracies"] == json.loads(before[lost])["accuracies"]

    (large,) = (out / "sets").glob("*-random-*.h5")  # may be removed to have its space, without what is told of it
    large.unlink()
    again = made_again(grid, out, lost)
    assert json.loads(again[lost])["accuracies"] == json.loads(before[lost])["accuracies"]


def made_again(grid: Path, out: Path, lost: str) -> dict[str, str]:
    """The records after a cell has lost its own; the other set stays as it is."""
    (out / "cells" / lost).unlink()
    kept = {path: path.stat().st_mtime_ns for path in (out / "sets").glob("*-dm-*")}
    run_grid(load_grid(grid), out, origin="g", executor=here, progress=False)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    return contents(out)


def test_cells_of_the_same_experts_are_computed_together():
    def matching(name: str, **experts: Any) -> dict[str, Any]:
        return {"name": name, "recipe": "desk", "experts": {"experts": 1, "epochs": 6} | experts}

    methods = [matching("mtt"), {"name": "random"}, matching("ftd", optimizer="flat")]
    grid = parse_grid(SMALL | {"data": ["digits"], "ipc": [1, 2], "methods": methods}, "g.yaml")
    order = [(work.cell.made.method, work.cell.made.ipc) for work in _by_experts(plan(grid, "g.yaml"))]
    assert order == [("random", 1), ("random", 2), ("mtt", 1), ("mtt", 2), ("ftd", 1), ("ftd", 2)]


def test_a_set_is_shared_by_columns(digits_file: Path, tmp_path: Path):
    columns = [{"protocol": "demo", "nets": ["mlp", "convnet-w8"]}]
    grid = parse_grid(small(digits_file, columns=columns, methods=[{"name": "random"}], network_seeds=1), "g")
    records = run_grid(grid, tmp_path, origin="g", executor=here, progress=False)
    assert [record.network for record in records] == ["mlp", "convnet-d2-w8-in"]
    assert len({record.seconds.making for record in records}) == 1
    assert len(list((tmp_path / "sets").glob("*.h5"))) == 1


def test_fractions_are_an_axis_of_methods_that_choose(digits_file: Path, tmp_path: Path):
    methods = [{"name": "random"}, {"name": "random", "balanced": False}]
    changes = {"fraction": [0.05, 0.1], "methods": methods, "network_seeds": 1}
    grid = parse_grid({k: v for k, v in small(digits_file, **changes).items() if k != "ipc"}, "g")
    records = run_grid(grid, tmp_path, origin="g", executor=here, progress=False)
    total = len(read_data(grid.data[0]).train)
    assert [record.images for record in records] == [round(0.05 * total)] * 2 + [round(0.1 * total)] * 2
    titles = {record.configuration.title for record in records}
    assert any("5 % of the training images, random, seed 0" in title for title in titles)
    assert any("10 % of the training images, of any class" in title for title in titles)
    table = build_table(records)
    assert [(row.size.short, row.method) for row in table.rows] == [
        ("5 %", "random"),
        ("5 %", "random (of any class)"),
        ("10 %", "random"),
        ("10 %", "random (of any class)"),
    ]
    assert {line["fraction"] for line in as_dicts(table)} == {0.05, 0.1}
    wrong = changes | {"data": ["digits"], "methods": [{"name": "dm"}]}
    learned = parse_grid({k: v for k, v in (SMALL | wrong).items() if k != "ipc"}, "g.yaml")
    with pytest.raises(CondenseError, match=r"methods\.0: images that are learned come in whole numbers per class"):
        plan(learned, "g.yaml")


def test_what_a_recipe_says_of_the_data_is_said(digits_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """And by the recipe of the grid, not by the published one."""
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("{method: dm, normalization: none, settings: {network: convnet-w8-in}}", encoding="utf-8")
    methods = [{"name": "dm", "recipe": str(recipe), "iterations": 1}]
    grid = parse_grid(small(digits_file, methods=methods, network_seeds=1), "g")
    (record,) = run_grid(grid, tmp_path / "out", origin="g", executor=here, progress=False)
    assert record.status == "done"
    assert "are for --normalization none, this data has computed" in capsys.readouterr().err


def test_a_failure_is_kept_as_a_record_and_tried_again(
    digits_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    grid = write_grid(tmp_path / "grid.yaml", digits_file, methods=[DIVERGES], network_seeds=1)
    assert benchmarks.run(grid, tmp_path / "out", progress=False) == 1
    (record,) = read_records(tmp_path / "out")
    assert record.status == "failed"
    assert record.error is not None
    assert "no longer finite" in record.error
    assert record.accuracies == ()
    assert "1 of 1 cells failed" in capsys.readouterr().err
    assert "no longer finite" in (tmp_path / "out" / "results.md").read_text()

    counted = Counted()

    content = parse_grid(json.loads(grid.read_text()), "g")
    records = run_grid(content, tmp_path / "out", origin="g", executor=counted, progress=False)
    assert counted.calls == ["make_set"]
    assert exit_code(records) == 1


def test_a_set_that_fails_is_tried_once_for_all_its_columns(digits_file: Path, tmp_path: Path):
    counted = Counted()

    columns = [{"protocol": "demo", "nets": ["mlp", "convnet-w8"]}]
    grid = parse_grid(small(digits_file, columns=columns, methods=[DIVERGES, {"name": "random"}], network_seeds=1), "g")
    records = run_grid(grid, tmp_path, origin="g", executor=counted, progress=False)
    assert [record.status for record in records] == ["failed", "failed", "done", "done"]
    assert counted.calls == ["make_set", "make_set", "score", "score"]


def test_ctrl_c_ends_with_130_and_leaves_no_process_and_no_failure(digits_file: Path, tmp_path: Path, processes_with):
    grid, out = write_grid(tmp_path / "grid.yaml", digits_file, methods=[ENDLESS]), tmp_path / "out"
    process = start(grid, out)
    wait_until(lambda: process.poll() is not None or list((out / "sets").glob("*.checkpoint.*")))
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert not processes_with(MARK, out)
    assert read_records(out) == []


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_experts_are_recorded_in_processes_of_their_own_that_end_with_the_benchmark(
    digits_file: Path, tmp_path: Path, end: signal.Signals, processes_with
):
    workers = min(2, len(os.sched_getaffinity(0)))
    method = {"name": "mtt", "iterations": 1, "experts": {"net": "convnet-w8", "experts": 2, "epochs": 5000}}
    grid, out = write_grid(tmp_path / "grid.yaml", digits_file, methods=[method]), tmp_path / "out"
    process = start(grid, out)
    begun = "experts/*/*.partial/epoch-0001.safetensors"
    wait_until(lambda: process.poll() is not None or len(list(out.glob(begun))) == workers)
    assert len(processes_with(MARK, out)) == 2 + workers  # the benchmark, the making of the set, and these
    process.send_signal(end)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == (130 if end == signal.SIGINT else -end), errors
    assert "Traceback" not in errors
    if end == signal.SIGKILL:
        wait_until(lambda: not processes_with(MARK, out), 20)
    assert not processes_with(MARK, out)
    assert read_records(out) == []


def test_a_process_that_dies_is_a_failure_and_not_the_end(
    digits_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes_with
):
    grid, out = write_grid(tmp_path / "grid.yaml", digits_file, methods=[ENDLESS]), tmp_path / "out"
    monkeypatch.setenv(MARK, str(out))

    def kill() -> None:
        wait_until(lambda: list((out / "sets").glob("*.checkpoint.*")))
        for worker in processes_with(MARK, out):
            os.kill(worker, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    assert benchmarks.run(grid, out, progress=False) == 1
    killer.join()
    (record,) = read_records(out)
    assert record.error is not None
    assert "signal 9" in record.error


def test_two_benchmarks_in_one_folder_are_refused(digits_file: Path, tmp_path: Path):
    grid = parse_grid(small(digits_file, methods=[{"name": "random"}], network_seeds=1), "g")

    class Nested:
        def run(self, function: Callable[[Any], Any], jobs: list[Any]) -> Iterator[Any]:
            with pytest.raises(CondenseError, match="another benchmark is running"):
                run_grid(grid, tmp_path, origin="g", executor=here, progress=False)
            yield from here.run(function, jobs)

    run_grid(grid, tmp_path, origin="g", executor=Nested(), progress=False)


@pytest.mark.parametrize("during", ["make_set", "score"])
@pytest.mark.parametrize("first", [True, False])
def test_a_folder_that_is_removed_ends_the_benchmark(digits_file: Path, tmp_path: Path, during: str, first: bool):
    """Whether its part is made again, by what writes there, or not: no record that is lost counts as done."""
    columns = [{"protocol": "demo", "nets": ["mlp"]}]
    grid = parse_grid(small(digits_file, columns=columns, methods=[{"name": "random"}], network_seeds=1), "g")
    out = tmp_path / "out"

    class Removing:
        def run(self, function: Any, jobs: list[Any]) -> Iterator[Any]:
            outcomes = []
            if function.func.__name__ == during and first:
                shutil.rmtree(out)
            outcomes += here.run(function, jobs)
            if function.func.__name__ == during and not first:
                shutil.rmtree(out)
            yield from outcomes

    with pytest.raises(CondenseError, match=r"out.sets was removed or replaced while a benchmark was running"):
        run_grid(grid, out, origin="g", executor=Removing(), progress=False)
    assert run_grid(grid, out, origin="g", executor=here, progress=False)[0].status == "done"


def test_records_that_are_removed_on_the_way_are_missed(digits_file: Path, tmp_path: Path):
    grid = parse_grid(small(digits_file, ipc=[1, 2], methods=[{"name": "random"}], network_seeds=1), "g")

    class Removing:
        def run(self, function: Any, jobs: list[Any]) -> Iterator[Any]:
            shutil.rmtree(tmp_path / "cells", ignore_errors=True)
            yield from here.run(function, jobs)

    with pytest.raises(CondenseError, match=r"1 of 2 records were removed from .*cells while the benchmark"):
        run_grid(grid, tmp_path, origin="g", executor=Removing(), progress=False)


def test_a_set_whose_run_is_not_finished_is_made_again(digits_file: Path, tmp_path: Path):
    """A kill may come when set and account are there, and the checkpoint still is."""
    grid = parse_grid(small(digits_file, methods=[{"name": "random"}], network_seeds=1), "g")
    run_grid(grid, tmp_path, origin="g", executor=here, progress=False)
    (path,) = (tmp_path / "sets").glob("*.h5")
    configuration = SyntheticSet.load(path).provenance["configuration"]
    save_checkpoint(checkpoint_path(path), Checkpoint(0, 0.0, {}, {}), configuration)
    for record in (tmp_path / "cells").iterdir():
        record.unlink()
    run_grid(grid, tmp_path, origin="g", executor=here, progress=False)
    assert {name.suffix for name in (tmp_path / "sets").iterdir() if name.stem == path.stem} == {".h5", ".json"}
    assert not checkpoint_path(path).exists()


def test_nothing_of_a_killed_benchmark_stays(digits_file: Path, tmp_path: Path):
    grid = parse_grid(small(digits_file, methods=[{"name": "random"}], network_seeds=1), "g")
    left = [tmp_path / ".results.csv.abcdefg1.tmp", tmp_path / "cells" / ".digits-1.json.abcdefg1.tmp"]
    mine = tmp_path / ".notes.abcdefg1.tmp"
    for path in (*left, mine):
        path.mkdir(parents=True)
    run_grid(grid, tmp_path, origin="g", executor=here, progress=False)
    assert [path.exists() for path in (*left, mine)] == [False, False, True]


def test_a_folder_that_is_a_file_is_refused(digits_file: Path, tmp_path: Path):
    path = tmp_path / "out"
    path.write_text("x")
    with pytest.raises(CondenseError, match="cannot write to --out"):
        benchmarks.run(write_grid(tmp_path / "grid.yaml", digits_file), path)
