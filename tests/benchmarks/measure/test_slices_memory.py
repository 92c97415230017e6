"""The command that measures the memory of sets made in slices, on small ones and in real processes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks.measure import slices
from condense.runtime.errors import CondenseError


def test_all_points_are_measured_in_processes_of_their_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(slices, "_WAYS", ("sre2l",))
    words = ["--fewer", "4", "--more", "6", "--side", "16", "--slice-size", "2", "--network", "convnet-d1-w2-bn"]
    assert slices.main([*words, "--out", str(tmp_path / "found.json")]) == 0
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    points = [(point["method"], point["classes"], point["slices"]) for point in found["points"]]
    assert points == [("sre2l", 4, 2), ("sre2l", 6, 3)]
    for point in found["points"]:
        assert point["bytes"] == point["classes"] * (3 * 16 * 16 + 8)
        assert point["seconds"] > 0
        assert point["growth"] is None or 0 <= point["growth"] <= point["peak_memory"]
    assert found["settings"]["slice_size"] == 2
    assert {"hardware", "versions", "commit", "large"} <= found.keys()
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 4
    assert shown[2].startswith("| sre2l | 4 | 2 | 0 MB |")


def test_noise_needs_no_teacher():
    options = slices.SlicesOptions(fewer=3, side=8, slice_size=2, method="noise")
    found = slices.measure(options)
    assert (found["method"], found["classes"], found["slices"]) == ("noise", 3, 2)


def test_real_images_are_made_when_they_are_read():
    data = slices.generated_data(10**6, 8)
    assert len(data.train) == 10**6
    once, again = (data.train.pixels(torch.tensor(indices)) for indices in ([5, 999_999], [999_999]))
    assert torch.equal(once[1:], again)
    assert not torch.equal(once[0], once[1])


def test_a_wrong_request_is_an_error():
    with pytest.raises(CondenseError, match="--method 'dm'"):
        slices.main(["--method", "dm"])
