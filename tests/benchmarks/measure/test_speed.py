"""The speed benchmark: both sides of every piece of work compute the same, and the command reports them."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks.measure.machine import Load, busy_notice, matmul_peak, memory_growth
from benchmarks.measure.speed import SpeedOptions, contests

SMALL = {
    "network": "convnet-d1-w8-in",
    "side": 8,
    "classes": 2,
    "ipc": 3,
    "real_batch": 6,
    "steps": 3,
    "compile": "off",
    "precision": "float32",
}


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("CONDENSE_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield {contest.name.split(",")[0]: contest for contest in contests(SpeedOptions(**SMALL))}
    patch.undo()


def assert_near(found: Tensor, expected: Tensor) -> None:
    assert ((found - expected).norm() / expected.norm()).item() < 1e-4


def test_both_dm_steps_give_the_same_gradient(pieces):
    _, expected = pieces["dm step"].baseline()
    assert_near(pieces["dm step"].engine(), torch.cat(expected))


def test_both_matching_steps_give_the_same_gradient(pieces):
    _, expected = pieces["dsa matching step"].baseline()
    assert_near(torch.cat(pieces["dsa matching step"].engine()), torch.cat(expected))


def test_both_trajectories_give_the_same_gradient(pieces):
    expected, found = pieces["trajectory"].baseline(), pieces["trajectory"].engine()
    assert_near(found.images, expected.images)
    assert_near(found.inner_lr, expected.inner_lr)


def test_both_trainings_end_alike(pieces):
    expected, found = pieces["evaluation"].baseline(), pieces["evaluation"].engine()
    for left, right in zip(found.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-6)


def test_the_command_prints_a_table_and_writes_json(tmp_path: Path):
    out = tmp_path / "speed.json"
    options = [f"--{name.replace('_', '-')}={value}" for name, value in (SMALL | {"repeats": 2, "out": out}).items()]
    command = [sys.executable, "-m", "benchmarks.measure.speed", *options]
    environment = {"CONDENSE_CACHE": str(tmp_path), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=Path.cwd())
    assert "| dsa matching step |" in done.stdout
    found = json.loads(out.read_text())
    assert [len(result["engine_seconds"]) for result in found["results"]] == [2, 2, 2, 2]
    for result in found["results"]:
        ratio = result["ratio"]
        assert 0 < ratio["minimum"] <= ratio["median"] <= ratio["maximum"]
    assert found["settings"]["network"] == "convnet-d1-w8-in"
    assert found["hardware"]["cores"] >= 1


def test_an_unknown_option_is_one_line(tmp_path: Path):
    command = [sys.executable, "-m", "benchmarks.measure.speed", "--repeat", "2"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path.cwd(), check=False)
    assert done.returncode == 2
    assert "did you mean --repeats" in done.stderr
    assert done.stderr.count("\n") == 1


def test_memory_growth_sees_what_a_call_takes():
    assert memory_growth(lambda: torch.ones(50_000_000)) == pytest.approx(200e6, rel=0.1)
    assert memory_growth(lambda: None) < 20e6


def test_what_was_left_in_cycles_does_not_hide_what_a_call_takes():
    left: list[object] = [torch.ones(50_000_000)]
    left.append(left)
    del left

    def call() -> None:
        gc.collect()
        torch.ones(50_000_000)

    assert memory_growth(call) == pytest.approx(200e6, rel=0.1)


def test_a_busy_machine_is_noticed():
    load = Load()
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(1.5)
        assert load.others() > 0.1
    finally:
        other.kill()
        other.wait()
    assert "busy" in busy_notice(0.5)
    assert busy_notice(0.01) is None


def test_the_peak_is_a_rate():
    assert 1e8 < matmul_peak(torch.float32, size=256, repeats=2) < 1e15
