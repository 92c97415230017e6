"""The commands that measure trajectories and buffers, on small shapes and in real processes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import reading, trajectories
from condense.networks import build_network


def test_memory_of_the_adjoint_grows_by_checkpoints_only_but_that_of_unrolling_by_steps():
    asked = [("unrolled", 4), ("unrolled", 16), ("adjoint", 10), ("adjoint", 80)]
    points = [trajectories.in_a_process("convnet-w16", way, steps, 10) for way, steps in asked]
    many = trajectories.in_a_process("convnet-w16", "adjoint", 16, 300)
    memory = {(point["way"], point["steps"]): point["memory"] for point in points}
    if None in memory.values():
        pytest.skip("this system does not tell the memory of a process")
    assert memory["unrolled", 16] > 2 * memory["unrolled", 4]
    a_step = (memory["unrolled", 16] - memory["unrolled", 4]) / 12
    parameters = build_network("convnet-w16", (3, 32, 32), 10, seed=0).parameters()
    checkpoints = 70 * 4 * sum(value.numel() for value in parameters)
    assert memory["adjoint", 80] - memory["adjoint", 10] < checkpoints + a_step, "not even one of 70 steps is kept"
    assert memory["adjoint", 80] < memory["unrolled", 16] / 2
    assert many["memory"] < memory["unrolled", 16] / 2, "images of 300 classes, but no more of them in a step"
    assert all(point["seconds_per_step"] > 0 for point in points)


def test_errors_are_those_of_other_gradients_against_the_exact_one():
    short, _ = trajectories.errors("convnet-d2-w4", 2)
    longer, half = trajectories.errors("convnet-d2-w4", 6)
    assert 0 < short["images"] < longer["images"] < 1
    assert 0 < half["images"] < 1


def test_pairs_are_read_from_a_buffer_that_is_removed_again(tmp_path: Path):
    out = tmp_path / "found.json"
    words = ["--experts", "3", "--epochs", "5", "--network", "convnet-w8", "--pairs", "4"]
    assert reading.main([*words, "--folder", str(tmp_path), "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert found["bytes"] > 3 * 6 * 4 * 1000
    assert found["median_from_disk"] > 0
    assert list(tmp_path.iterdir()) == [out]
