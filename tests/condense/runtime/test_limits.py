"""Limits of the system: each ends a command in one line, and those of containers count as memory."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

import condense
from condense.cli.main import main
from condense.runtime import limits, memory, provenance
from condense.runtime.executors import InProcess
from condense.runtime.limits import container_limit, container_memory, limit_reached

CPU = torch.device("cpu")


def limited(kind: int, amount: int, *words: object) -> subprocess.CompletedProcess[str]:
    """`condense WORDS` in a process with this limit."""
    return subprocess.run(
        [sys.executable, "-m", "condense", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=partial(resource.setrlimit, kind, (amount, amount)),
    )


def in_one_line(end: subprocess.CompletedProcess[str]) -> bool:
    lines = [line for line in end.stderr.splitlines() if not line.startswith(("note:", "benchmark "))]  # its bar
    return end.returncode == 2 and len(lines) == 1 and lines[0].startswith("condense: ")


@pytest.mark.parametrize("mebibytes", [200, 2900])
def test_too_little_address_space_ends_in_one_line(digits_file: Path, tmp_path: Path, mebibytes: int):
    """Whether libraries cannot be loaded, or C++ would end the process: which of both depends on torch's build."""
    words = ["distill", "random", "--data", digits_file, "--ipc", 1, "--out", tmp_path / "set.h5"]
    end = limited(resource.RLIMIT_AS, mebibytes * 2**20, *words)
    assert in_one_line(end) or (mebibytes > 200 and end.returncode == 0), end.stderr
    if mebibytes == 200:
        assert "too small for torch; raise it" in end.stderr
    assert limited(resource.RLIMIT_AS, mebibytes * 2**20, "methods").returncode == 0


def test_a_benchmark_that_may_write_nothing_ends_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """As on a full disk, where even the smallest of its files has no room."""
    grid, out = tmp_path / "grid.yaml", tmp_path / "out"
    grid.write_text("{data: [digits], ipc: [1], methods: [{name: random}], columns: [{protocol: demo, nets: [mlp]}]}")
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, usual[1]))
    try:
        code = main(["benchmark", str(grid), "--out", str(out)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("note:")]
    assert code == 2
    assert len(lines) == 1, lines
    assert lines[0].startswith(f"condense: cannot write {out}")


_STARVED = """
import os, resource, sys
import torch
from condense.cli.main import main

pages = int(open("/proc/self/statm").read().split()[0])
most = pages * resource.getpagesize() + 64 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (most, most))
sys.exit(main(sys.argv[1:]))
"""


def test_a_library_that_asks_for_memory_without_end_does_not_hang_a_command(tmp_path: Path):
    """Torch is there, and scipy's OpenBLAS, which the digits need, cannot have the memory of its threads."""
    words = ["distill", "random", "--data", "digits", "--ipc", "1", "--out", str(tmp_path / "set.h5")]
    end = subprocess.run(
        [sys.executable, "-c", _STARVED, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "16"},
    )
    assert in_one_line(end), (end.returncode, end.stderr[-2000:])
    assert "too small" in end.stderr or "memory ran out" in end.stderr
    assert list(tmp_path.iterdir()) == []


def test_memory_that_runs_out_in_a_command_ends_in_one_line(digits_file: Path, tmp_path: Path):
    """Images that need more than the limit leaves."""
    words = ["distill", "dm", "--data", digits_file, "--ipc", 1, "--image-size", 2000, "--out", tmp_path / "set.h5"]
    room = 6 * 2**30  # for torch, not for 1,438 images of 4 MB
    end = limited(resource.RLIMIT_AS, room, *words, "--memory-limit", "100GB")
    assert in_one_line(end), end.stderr[-2000:]
    assert "memory ran out" in end.stderr
    assert not (tmp_path / "set.h5").exists()


@pytest.mark.parametrize("files", [5, 16])
def test_few_open_files_end_in_one_line_or_are_enough(digits_file: Path, tmp_path: Path, files: int):
    """The benchmark talks to processes of its own, and needs the most."""
    grid = tmp_path / "grid.yaml"
    grid.write_text(
        f"{{data: [{digits_file}], ipc: [1], methods: [{{name: random}}], columns: [{{protocol: demo, nets: [mlp]}}]}}"
    )
    end = limited(resource.RLIMIT_NOFILE, files, "benchmark", grid, "--out", tmp_path / "out")
    assert in_one_line(end) or end.returncode == 0, end.stderr[-2000:]
    assert end.returncode == 0 or files < 16


RAISED = {
    "memory": MemoryError(),
    "torch": RuntimeError("[enforce fail at alloc_cpu.cpp:121] data. DefaultCPUAllocator: can't allocate memory"),
    "not enough": RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes."),
    "c++": RuntimeError("std::bad_alloc"),
    "system": OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
    "library": ImportError("libtorch_cpu.so: failed to map segment from shared object"),
    "files": OSError(errno.EMFILE, os.strerror(errno.EMFILE)),
    "library and files": ImportError("libtorch.so: cannot open shared object file: Too many open files"),
    "threads": RuntimeError("can't start new thread"),
}


@pytest.mark.parametrize("name", RAISED)
@pytest.mark.parametrize("around", [None, RuntimeError("something went wrong")])
def test_every_form_of_a_limit_is_one_line(name: str, around: Exception | None, capsys, monkeypatch):
    def run(words: list[str]) -> int:
        if around is None:
            raise RAISED[name]
        raise around from RAISED[name]

    monkeypatch.setattr(sys.modules["condense.cli.main"], "load_object", lambda target: run)
    assert main(["show", "set.h5"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "raise" in line
    (outcome,) = InProcess(attempts=1).run(run, [[]])
    assert outcome.error == line.removeprefix("condense: ")
    assert capsys.readouterr().err == ""


def test_other_errors_are_not_taken_for_limits(monkeypatch):
    for error in (
        RuntimeError("shapes do not fit"),
        ImportError("no module"),
        OSError(errno.EIO, "broken"),
        KeyError(),
    ):
        assert limit_reached(error) is None

    def run(words: list[str]) -> int:
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(sys.modules["condense.cli.main"], "load_object", lambda target: run)
    with pytest.raises(RuntimeError, match="do not fit"):
        main(["show", "set.h5"])


def groups(root: Path, membership: str, files: dict[str, object]) -> Path:
    """A file system with control groups."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(membership)
    for name, content in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(content))
    return root


def test_the_limit_of_a_group_of_version_2_counts(tmp_path: Path):
    """Or that of a group above it; files in memory can be dropped."""
    files = {
        "a/b/memory.max": "max",
        "a/b/memory.current": 1000,
        "a/memory.max": 10_000,
        "a/memory.current": 4000,
        "a/memory.stat": "anon 2500\ninactive_file 1500\nactive_file 7",
    }
    root = groups(tmp_path, "0::/a/b\n", files)
    assert (container_limit(root), container_memory(root)) == (10_000, 7500)
    (root / "sys/fs/cgroup/a/b/memory.max").write_text("1200")
    assert (container_limit(root), container_memory(root)) == (1200, 200)
    (root / "sys/fs/cgroup/a/b/memory.current").write_text("1300")
    assert container_memory(root) == 0


@pytest.mark.parametrize("mounted", ["docker/x/", ""])
def test_the_limit_of_a_group_of_version_1_counts(tmp_path: Path, mounted: str):
    """In a container, whose group may be mounted as the root of all."""
    files = {
        f"memory/{mounted}memory.limit_in_bytes": 5000,
        f"memory/{mounted}memory.usage_in_bytes": 3000,
        f"memory/{mounted}memory.stat": "inactive_file 1\ntotal_inactive_file 600\n",
    }
    root = groups(tmp_path, "5:cpu,cpuacct:/docker/x\n4:memory:/docker/x\n0::/\n", files)
    assert (container_limit(root), container_memory(root)) == (5000, 2600)


def test_without_a_limit_nothing_is_limited(tmp_path: Path):
    none = {"memory/memory.limit_in_bytes": 9223372036854771712, "memory/memory.usage_in_bytes": 5}
    for root, membership, files in (
        (tmp_path / "1", "4:memory:/\n", none),
        (tmp_path / "2", "0::/a\n", {"a/memory.max": "max", "a/memory.current": 5}),
        (tmp_path / "3", "0::/gone\n", {}),
    ):
        assert container_limit(groups(root, membership, files)) is None
    assert container_memory(tmp_path / "not linux") is None


def test_the_memory_of_a_container_is_what_plans_and_records_see(monkeypatch):
    free = memory.available_memory(CPU)
    assert free > 10**7
    monkeypatch.setattr(memory, "container_memory", lambda: 12345)
    assert memory.available_memory(CPU) == 12345
    monkeypatch.setattr(provenance, "container_limit", lambda: 3 * 10**9)
    assert provenance.hardware()["memory_gb"] == 3.0


@pytest.fixture
def little_room() -> Iterator[int]:
    """A limit of address space a gigabyte above what this process has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    usual = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**30, usual[1]))
    yield 2**30
    resource.setrlimit(resource.RLIMIT_AS, usual)


def test_the_limit_of_a_process_is_seen(little_room: int):
    assert memory.available_memory(CPU) <= little_room


def test_a_limit_with_room_for_torch_is_no_reason_to_refuse(little_room: int, monkeypatch):
    limits.check_address_space()
    monkeypatch.setattr(limits, "_libraries_work", lambda: False)
    with pytest.raises(condense.CondenseError, match=r"too small for torch; raise it"):
        limits.check_address_space()
