"""The commands that measure trajectories and buffers, on small shapes and in real processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.measure import reading, trajectories
from condense.data import load_data
from condense.networks import build_network


def test_memory_of_the_adjoint_grows_by_checkpoints_only_but_that_of_unrolling_by_steps():
    asked = [("unrolled", 4), ("unrolled", 16), ("adjoint", 4), ("adjoint", 16)]
    points = [trajectories.in_a_process("convnet-w16", way, steps, 10) for way, steps in asked]
    many = trajectories.in_a_process("convnet-w16", "adjoint", 4, 300)
    memory = {(point["way"], point["steps"]): point["memory"] for point in points}
    if None in memory.values():
        pytest.skip("this system does not tell the memory of a process")
    assert memory["unrolled", 16] > 2 * memory["unrolled", 4]
    a_step = (memory["unrolled", 16] - memory["unrolled", 4]) / 12
    parameters = build_network("convnet-w16", (3, 32, 32), 10, seed=0).parameters()
    checkpoints = 12 * 4 * sum(value.numel() for value in parameters)
    assert memory["adjoint", 16] - memory["adjoint", 4] < checkpoints + a_step, "not even one of 12 steps is kept"
    assert memory["adjoint", 16] < memory["unrolled", 16] / 2
    assert many["memory"] < memory["unrolled", 16] / 2, "images of 300 classes, but no more of them in a step"
    assert all(point["seconds_per_step"] > 0 for point in points)


def test_errors_are_those_of_other_gradients_on_epochs_of_experts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Frozen: more of them with longer steps and with more steps, none in one step; bfloat16 only rounds."""
    monkeypatch.setenv("CONDENSE_CACHE", str(tmp_path))
    problems = trajectories.expert_problems("convnet-d2-w4", load_data("digits"))
    assert len(problems) == 4
    for first, second in (problems[:2], problems[2:]):
        assert torch.equal(first.target, second.start)
    assert not torch.equal(problems[0].start, problems[2].start)
    assert problems[0].images.shape == (50, 1, 8, 8)

    def found(steps: int, inner_lr: float) -> list[dict[str, Any]]:
        lines = trajectories.errors(problems, steps, inner_lr)
        assert [(line["way"], line["steps"], line["inner_lr"]) for line in lines] == [
            ("frozen", steps, inner_lr),
            ("adjoint bfloat16", steps, inner_lr),
        ]
        assert all(
            0 <= part["mean"] <= part["largest"] for line in lines for part in (line["images"], line["learning_rate"])
        )
        return lines

    (once, _), (short, _), (longer, _), (faster, half) = found(1, 0.01), found(2, 0.01), found(6, 0.01), found(6, 0.05)
    assert once["images"]["largest"] < 1e-4
    assert once["images"]["largest"] < short["images"]["mean"]
    assert short["images"]["mean"] < longer["images"]["mean"] < faster["images"]["mean"] < 1
    assert half["images"]["mean"] > 1e-3
    point = {"memory": 2_000_000, "seconds_per_step": 0.004, "steps": 5, "classes": 10}
    text = trajectories.table({"points": [point | {"way": "frozen"}], "classes": [], "errors": [longer, half]})
    assert "| 5 | 2 MB, 4 ms |" in text
    assert f"| frozen | 0.01 | 6 | {longer['images']['mean']:.2%} (up to {longer['images']['largest']:.2%}) |" in text
    assert text.count("| adjoint bfloat16 | 0.05 | 6 |") == 1


def test_pairs_are_read_from_a_buffer_that_is_removed_again(tmp_path: Path):
    out = tmp_path / "found.json"
    words = ["--experts", "3", "--epochs", "5", "--network", "convnet-w8", "--pairs", "4"]
    assert reading.main([*words, "--folder", str(tmp_path), "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert found["bytes"] > 3 * 6 * 4 * 1000
    assert found["median_from_disk"] > 0
    assert list(tmp_path.iterdir()) == [out]
