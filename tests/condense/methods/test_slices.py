"""Runs in slices: how sets are cut, what survives a kill, where slices may be made, and that nothing is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import condense
from condense.data import RealData
from condense.data.budget import Budget
from condense.methods.estimate import estimate
from condense.methods.prepared import Prepared
from condense.methods.request import Request
from condense.methods.slices import sliced, storing
from condense.methods.slices.layouts import Layout, slices_of
from condense.methods.slices.sliced import class_major
from condense.methods.slices.storing import SliceJob, SliceResult, run_slices
from condense.runtime.errors import CondenseError
from condense.runtime.executors import Executor, InProcess, Ray, in_process
from condense.runtime.subprocesses import Subprocesses
from condense.sets.large import StoredRows
from condense.synthesizers.recovery.squeeze_recover import SqueezeRecover
from condense.teachers import Committee, Teacher

ROOT = Path(__file__).parents[3]
OPTIONS: dict[str, Any] = {"iterations": 3, "slice_size": 2, "compile": "off", "threads": 1}


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONDENSE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path, labels = tmp_path_factory.mktemp("data") / "noise.npz", np.arange(12) % 3
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8), dtype=np.uint8)
    np.savez(path, train_images=images, train_labels=labels, test_images=images[:3], test_labels=labels[:3])
    return path


@pytest.fixture(scope="module")
def data(file: Path) -> RealData:
    return condense.load_data(file)


@pytest.fixture(scope="module")
def teacher(data: RealData, untrained_teacher: Callable[..., Teacher], tmp_path_factory) -> Teacher:
    made = untrained_teacher(data.info, "convnet-d1-w4-bn")
    return made.save(tmp_path_factory.mktemp("teacher") / "teacher.safetensors")


@pytest.fixture(scope="module")
def whole(data: RealData, teacher: Teacher, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of the run that nothing happens to: two images of each of three classes in four slices."""
    out = tmp_path_factory.mktemp("whole") / "set.h5"
    condense.distill("sre2l", data, 2, teacher=teacher, out=out, **OPTIONS)
    assert sorted(path.name for path in out.parent.iterdir()) == ["set.h5", "set.json"]
    return out.read_bytes()


# How a set is cut


@pytest.mark.parametrize("layout", ["ipc-index", "mixed", "per-class"])
@pytest.mark.parametrize(("classes", "ipc", "size"), [(3, 2, 2), (10, 10, 100), (7, 5, 3), (1, 1, 1), (5, 1, 100)])
def test_slices_have_every_image_once(layout: Layout, classes: int, ipc: int, size: int):
    parts = slices_of(layout, classes, ipc, size)
    images = [pair for part in parts for pair in zip(part.labels.tolist(), part.places.tolist())]
    assert sorted(images) == [(label, place) for label in range(classes) for place in range(ipc)]
    assert [part.number for part in parts] == list(range(len(parts)))
    assert all(1 <= len(part) <= size for part in parts)
    if layout == "per-class":
        assert all(len(part.labels.unique()) == 1 for part in parts)
    if layout == "ipc-index":
        assert all(len(part.places.unique()) == 1 and len(part.labels.unique()) == len(part) for part in parts)
    if layout == "mixed":
        assert all(len(part) == size for part in parts[:-1])


def test_slices_of_fewer_images_are_the_first_of_more():
    few, many = (slices_of("ipc-index", 7, ipc, 3) for ipc in (2, 5))
    for one, other in zip(few, many):
        assert torch.equal(one.labels, other.labels)
        assert torch.equal(one.places, other.places)


@pytest.mark.parametrize("layout", ["ipc-index", "mixed", "per-class"])
@pytest.mark.parametrize("large", [True, False])
def test_images_come_class_by_class_from_any_slices(layout: Layout, large: bool, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(sliced, "LARGE", 0 if large else 2**28)
    parts = slices_of(layout, 3, 4, 5)
    stored = run_slices(len(parts), partial(numbered, layout), tmp_path, None, keeps=True, progress=False)
    images = class_major([each.rows["images"] for each in stored], parts, keeps=True)
    assert isinstance(images, StoredRows) == large
    expected = torch.tensor([10 * label + place for label in range(3) for place in range(4)])
    assert images[:].flatten().tolist() == expected.tolist()
    assert isinstance(class_major([each.rows["images"] for each in stored], parts, keeps=False), Tensor)


def numbered(layout: Layout, asked: SliceJob) -> SliceResult:
    """A slice whose images say what they are."""
    part = slices_of(layout, 3, 4, 5)[asked.number]
    images = (10 * part.labels + part.places).to(torch.uint8).view(-1, 1, 1, 1)
    return SliceResult({"images": images}, {"loss": torch.tensor([float(asked.number)])}, 0.5)


def test_metrics_are_means_over_slices(tmp_path: Path):
    stored = run_slices(3, partial(numbered, "ipc-index"), tmp_path, None, keeps=False, progress=False)
    assert storing.mean_metrics(stored)["loss"].tolist() == [1.0]
    assert sum(each.seconds for each in stored) == 1.5


# What survives

KILLED = """
import os, sys
import condense
from condense.methods import checkpoints, output
from condense.methods.slices import storing
from condense.synthesizers.recovery.squeeze_recover import SqueezeRecover

data, teacher, out, place, signal, options = sys.argv[1:]
checkpoints.MOST_SECONDS_LOST, checkpoints.LARGEST_COST = 0.0, 1e9
calls = 0

def stops(function, at, before):
    def call(*arguments, **named):
        global calls
        calls += 1
        if before and calls == at:
            os.kill(os.getpid(), int(signal))
        value = function(*arguments, **named)
        if not before and calls == at:
            os.kill(os.getpid(), int(signal))
        return value
    return call

if place == "within a slice":
    SqueezeRecover.step = stops(SqueezeRecover.step, 5, before=True)
elif place == "before a slice is stored":
    storing._store = stops(storing._store, 2, before=True)
elif place == "after a slice is stored":
    storing._store = stops(storing._store, 2, before=False)
else:
    output.write_json = stops(output.write_json, 1, before=True)
condense.distill("sre2l", condense.load_data(data), 2, teacher=teacher, out=out, **eval(options))
"""
PLACES = {
    "within a slice": (1, "going on at iteration 1"),
    "before a slice is stored": (1, "going on at iteration 3"),
    "after a slice is stored": (2, ""),
    "after the set is stored": (4, ""),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_killed_run_goes_on_to_the_same_bytes(place: str, file, data, teacher, whole, tmp_path: Path, capsys, forked):
    out = tmp_path / "set.h5"
    stopped = forked(KILLED, file, teacher.path, out, place, int(signal.SIGKILL), repr(OPTIONS))
    assert stopped.ended() == -signal.SIGKILL
    finished, said = PLACES[place]
    assert len([*storing.slices_path(out).glob("*.h5")]) == finished
    condense.distill("sre2l", data, 2, teacher=teacher, out=out, **OPTIONS)
    shown = capsys.readouterr().err
    assert f"going on: {finished} of 4 slices are there" in shown
    assert said in shown
    assert out.read_bytes() == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set.h5", "set.json"]


def test_ctrl_c_saves_the_update_and_ends(file, data, teacher, whole, tmp_path: Path, capsys, forked):
    out = tmp_path / "set.h5"
    stopped = forked(KILLED, file, teacher.path, out, "within a slice", int(signal.SIGINT), repr(OPTIONS))
    assert stopped.ended() != 0
    assert "KeyboardInterrupt" in stopped.errors
    condense.distill("sre2l", data, 2, teacher=teacher, out=out, **OPTIONS)
    assert "going on at iteration 2" in capsys.readouterr().err
    assert out.read_bytes() == whole


@pytest.fixture
def half(data: RealData, teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that stopped in its third slice."""
    step, out = SqueezeRecover.step, tmp_path / "set.h5"

    def stop(self, iteration: int):
        if (self.slice.number, iteration) == (2, 1):
            raise InterruptedError
        return step(self, iteration)

    with monkeypatch.context() as patch:
        patch.setattr(SqueezeRecover, "step", stop)
        with pytest.raises(InterruptedError):
            condense.distill("sre2l", data, 2, teacher=teacher, out=out, **OPTIONS)
    assert [*storing.slices_path(out).glob("slice-0000[01].h5")] != []
    return out


@pytest.mark.parametrize("damage", ["cut short", "altered", "of another kind", "empty"])
def test_damaged_slices_are_made_again(damage: str, half: Path, data, teacher, whole, capsys):
    path = storing.slices_path(half) / "slice-00000.h5"
    content = path.read_bytes()
    middle = content.rfind((storing._open(path).rows["images"].read((0, 1)))[0].tobytes())
    changed = {
        "cut short": content[: len(content) // 2],
        "altered": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        "of another kind": (storing.slices_path(half) / "slice-00001.h5").read_bytes()[:-1],
        "empty": b"",
    }[damage]
    path.write_bytes(changed)
    condense.distill("sre2l", data, 2, teacher=teacher, out=half, **OPTIONS)
    assert "going on: 1 of 4 slices are there" in capsys.readouterr().err
    assert half.read_bytes() == whole


def test_other_settings_are_refused_and_no_resume_begins_again(half: Path, data, teacher, whole, capsys):
    with pytest.raises(CondenseError, match=r"settings\.image_lr 0\.25, now it is 0\.5; give the same options"):
        condense.distill("sre2l", data, 2, teacher=teacher, out=half, image_lr=0.5, **OPTIONS)
    condense.distill("sre2l", data, 2, teacher=teacher, out=half, resume=False, **OPTIONS)
    assert "going on" not in capsys.readouterr().err
    assert half.read_bytes() == whole
    assert not storing.slices_path(half).exists()


def test_slices_without_the_checkpoint_of_their_run_count_for_nothing(half: Path, data, teacher, whole, capsys):
    half.with_name("set.h5.checkpoint.safetensors").unlink()
    condense.distill("sre2l", data, 2, teacher=teacher, out=half, **OPTIONS)
    assert "going on" not in capsys.readouterr().err
    assert half.read_bytes() == whole


def test_what_else_is_in_the_folder_stays(data, teacher, tmp_path: Path):
    out = tmp_path / "set.h5"
    mine = storing.slices_path(out) / "thesis.tex"
    mine.parent.mkdir()
    mine.write_text("of somebody")
    condense.distill("sre2l", data, 1, teacher=teacher, out=out, **OPTIONS)
    assert [path.name for path in mine.parent.iterdir()] == ["thesis.tex"]


def test_without_an_output_nothing_is_left(data, teacher, whole, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    made = condense.distill("sre2l", data, 2, teacher=teacher, **OPTIONS)
    assert [*tmp_path.iterdir()] == []
    made.save(tmp_path / "set.h5")
    assert (tmp_path / "set.h5").read_bytes() == whole


def test_a_failing_slice_ends_the_run_and_others_stay(data, teacher, whole, tmp_path: Path, monkeypatch, capsys):
    """Here at once; on an executor when the others are made."""
    step, out = SqueezeRecover.step, tmp_path / "set.h5"

    def fail(self, iteration: int):
        if self.slice.number == 1:
            raise CondenseError("no luck")
        return step(self, iteration)

    for executor, stored, error in (
        (None, ["slice-00000.h5"], "^no luck$"),
        (
            InProcess(1, attempts=1),
            ["slice-00000.h5", "slice-00002.h5", "slice-00003.h5"],
            "^slice 1: no luck; 3 of 4 slices are stored, and the same command goes on$",
        ),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(SqueezeRecover, "step", fail)
            with pytest.raises(CondenseError, match=error):
                condense.distill("sre2l", data, 2, teacher=teacher, out=out, executor=executor, **OPTIONS)
        assert sorted(path.name for path in storing.slices_path(out).glob("*.h5")) == stored
    condense.distill("sre2l", data, 2, teacher=teacher, out=out, **OPTIONS)
    assert "going on: 3 of 4 slices are there" in capsys.readouterr().err
    assert out.read_bytes() == whole


# Where slices are made


@pytest.mark.parametrize(
    "executor", [in_process, Subprocesses(workers=2), Ray(workers=2)], ids=["here", "processes", "ray"]
)
def test_executors_give_the_same_bytes(executor: Executor, data, teacher, tmp_path: Path, monkeypatch):
    """Also where the output is named from the folder that this process is in, and threads are left to the executor."""
    options = OPTIONS | {"slice_size": 3}
    expected = condense.distill("sre2l", data, 2, teacher=teacher, **options)
    monkeypatch.chdir(tmp_path)
    threads = OPTIONS["threads"] if executor.threads is None else None
    given = options | {"threads": threads}
    condense.distill("sre2l", data, 2, teacher=teacher, out="set.h5", executor=executor, **given)
    expected.save("expected.h5")
    assert Path("set.h5").read_bytes() == Path("expected.h5").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["expected.h5", "set.h5", "set.json"]


def test_slices_have_the_threads_of_the_plan_wherever_they_are_made(data, teacher, tmp_path: Path, monkeypatch):
    seen: list[int] = []
    step = SqueezeRecover.step

    def look(self, iteration: int):
        seen.append(torch.get_num_threads())
        return step(self, iteration)

    monkeypatch.setattr(SqueezeRecover, "step", look)
    before = torch.get_num_threads()
    for executor, threads, expected in ((None, 3, 3), (InProcess(1), None, 1), (InProcess(1), 2, 2)):
        options = OPTIONS | {"threads": threads}
        made = condense.distill("sre2l", data, 1, teacher=teacher, executor=executor, **options)
        assert set(seen) == {expected}
        assert made.provenance["configuration"]["plan"]["threads"] == expected
        seen.clear()
    assert torch.get_num_threads() == before


def test_teachers_that_are_in_no_file_cannot_travel(data, untrained_teacher):
    teacher = untrained_teacher(data.info, "convnet-d1-w4-bn")
    with pytest.raises(CondenseError, match="is in this process only, not in those of workers; store it in a file"):
        condense.distill("sre2l", data, 1, teacher=teacher, executor=Subprocesses(workers=2), **OPTIONS)


def test_a_teacher_that_changes_while_slices_are_made_is_not_used(data, untrained_teacher, tmp_path: Path):
    first, second = (untrained_teacher(data.info, "convnet-d1-w4-bn", seed=seed) for seed in (1, 2))
    teacher = Committee.open(first.save(tmp_path / "teacher.safetensors").path)
    second.save(tmp_path / "teacher.safetensors")
    with pytest.raises(CondenseError, match="has changed since the run began; start it again"):
        condense.distill("sre2l", data, 1, teacher=teacher, executor=Subprocesses(workers=1), **OPTIONS)


def test_an_estimate_for_workers_packs_no_data(data, teacher, monkeypatch):
    monkeypatch.setattr("condense.methods.prepared.PackedData", None)
    settings = {name: value for name, value in OPTIONS.items() if name not in Request.model_fields}
    asked = {name: value for name, value in OPTIONS.items() if name in Request.model_fields}
    assert estimate(
        Request.of("sre2l", Budget(ipc=1), settings, workers=2, **asked), data, teacher=Committee.of(teacher)
    )


def test_workers_are_for_slices_on_processors(data, teacher):
    with pytest.raises(CondenseError, match="random does not work in slices, which workers could share"):
        condense.distill("random", data, 1, executor=Subprocesses())
    with pytest.raises(CondenseError, match="workers train on processors, not on cuda:0"):
        condense.distill("sre2l", data, 1, teacher=teacher, executor=Subprocesses(), device="cuda:0", **OPTIONS)


@pytest.mark.parametrize("option", ["minutes", "keep_every"])
def test_what_a_slice_cannot_share_is_refused(option: str, data, teacher, tmp_path: Path):
    with pytest.raises(CondenseError, match=f"leave --{option.replace('_', '-')} out"):
        condense.distill("sre2l", data, 1, teacher=teacher, out=tmp_path / "set.h5", **OPTIONS | {option: 1})


def test_an_estimate_is_of_all_slices_and_writes_nothing(data, teacher, tmp_path: Path):
    settings = {"slice_size": 2}
    request = Request.of("sre2l", Budget(ipc=2), settings, iterations=7, out=tmp_path / "set.h5", compile="off")
    found = estimate(request, data, teacher=Committee((teacher,)))
    assert (found.iterations, found.largest_micro_batch) == (7, None)
    job = Prepared.of(request, data, None, None, Committee((teacher,))).job(found.plan)
    paces = [SqueezeRecover.pace(job, SqueezeRecover.Settings(slice_size=size)) for size in (1, 100)]
    assert paces[0].seconds_per_iteration > paces[1].seconds_per_iteration, "six slices, not two"
    assert [*tmp_path.iterdir()] == []


# Memory

MEASURED = """
import json, sys
from benchmarks.measure import slices
from condense.methods.slices import sliced
from condense.sets import file
sliced.LARGE = file.LARGE = 2**20
print(json.dumps([slices.measure(slices.SlicesOptions(**options)) for options in json.loads(sys.argv[1])]))
"""


@pytest.mark.parametrize(("method", "few", "many"), [("noise", 40, 140), ("sre2l", 20, 80)])
def test_memory_does_not_follow_the_number_of_classes(method: str, few: int, many: int):
    """Where freed memory goes back to the system at once, so that a peak is what was needed at that time."""
    common = {"side": 224, "slice_size": 5, "method": method, "network": "convnet-d6-w2-bn", "iterations": 1}
    asked = json.dumps([common | {"fewer": count} for count in (few, many)])
    at_once = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    ended = subprocess.run(
        [sys.executable, "-c", MEASURED, asked],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | at_once,
    )
    first, second = json.loads(ended.stdout.splitlines()[-1])
    if first["growth"] is None:
        pytest.skip("this system does not tell the memory of a process")
    assert second["bytes"] - first["bytes"] == (many - few) * (3 * 224 * 224 + 8)
    assert second["peak_memory"] - first["peak_memory"] < (second["bytes"] - first["bytes"]) / 4
