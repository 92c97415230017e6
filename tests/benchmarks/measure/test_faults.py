"""A small part of what `python -m benchmarks.measure.faults` tries, each in processes of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.measure.faults.workers import End

ROOT = Path(__file__).parents[3]


def faults(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.measure.faults", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300, check=False)


def run_here(code: str) -> str:
    """What a new Python prints: forking wants a process in which torch has not started threads yet."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300, check=True).stdout


def test_killed_commands_end_as_if_nothing_had_happened(tmp_path: Path):
    out = tmp_path / "kills.json"
    ended = faults("kills", "--out", str(out), "--count", "2", "--seed", "5")
    assert ended.returncode == 0, ended.stderr
    found = json.loads(out.read_text())
    assert found["summary"]["kills"] >= 2
    assert found["summary"]["not as if nothing had happened"] == 0, found["trials"]


def test_damaged_files_are_read_as_they_were_or_refused_in_one_sentence_and_a_run_goes_on(tmp_path: Path):
    out = tmp_path / "mutations.json"
    assert faults("mutations", "--out", str(out), "--count", "25", "--seed", "5").returncode == 0
    half = json.loads(out.read_text())
    ended = faults("mutations", "--out", str(out), "--count", "50", "--seed", "5")
    assert ended.returncode == 0, ended.stderr
    found = json.loads(out.read_text())
    assert (half["batches"], found["batches"]) == (1, 2)
    assert [sum(counts.values()) for counts in found["outcomes"].values()] == [25, 25]
    assert found["faults"] == []


@pytest.mark.parametrize("name", ["random", "pack"])
def test_a_full_disk_is_one_sentence_and_the_command_goes_on_when_there_is_room(name: str):
    code = f"""
import json
from benchmarks.measure.faults import limits
reason = limits.why_no_disks()
(command,) = [each for each in limits.WRITING if each.name == {name!r}]
trials = [] if reason else [limits.full_disk(command, free) for free in (0, 8)]
print(json.dumps([reason, [limits.went_well(trial) for trial in trials], trials]))
"""
    reason, well, trials = json.loads(run_here(code))
    if reason:
        pytest.skip(reason)
    assert well == [True, True], trials


def test_few_open_files_and_little_memory_are_one_sentence():
    code = """
import json
from benchmarks.measure.faults import limits
(command,) = [each for each in limits.WRITING if each.name == "random"]
trials = [limits.little(command, "open files", 8), limits.little(command, "memory", 0)]
print(json.dumps([[limits.went_well(trial) for trial in trials], trials]))
"""
    well, trials = json.loads(run_here(code))
    assert well == [True, True], trials


def test_results_of_another_seed_are_not_mixed(tmp_path: Path):
    out = tmp_path / "kills.json"
    out.write_text(json.dumps({"settings": {"what": "kills", "seed": 1}}))
    ended = faults("kills", "--out", str(out), "--count", "1")
    assert (ended.returncode, len(ended.stderr.splitlines())) == (2, 1)


@pytest.mark.parametrize(
    ("code", "said", "well"),
    [
        (2, "note: a\ncondense: cannot write a.h5\n", True),
        (2, "benchmark  1/2  0:00:16 left\ndigits, 1 per class, dm, demo mlp: 82.2 %\ncondense: no space\n", True),
        (2, "distilling \u2501 20/20 loss 3.1 0:00:00 left\ncondense: no space\n", True),
        (2, "condense: a\ncondense: b\n", False),
        (2, "Traceback (most recent call last):\nOSError\n", False),
        (1, "expert 0 failed: no space\nexpert 1 failed: no space\n", True),
        (1, "failed: digits, dm: no space\n1 of 2 cells failed; the same command tries them again\n", True),
        (1, "expert 0 failed: no space\nTraceback\n", False),
        (1, "", False),
        (70, "condense: a\n", False),
    ],
)
def test_what_counts_as_one_sentence(code: int, said: str, well: bool) -> None:
    assert End(code, 1.0, said).in_one_line == well
