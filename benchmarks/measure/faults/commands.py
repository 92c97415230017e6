"""Small commands that write: what they need, what they leave behind, and how that is compared."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.measure.faults.workers import End, run_command
from buffers import ExpertBuffer

_MATCHING = "--network convnet-d2-w8 --real-batch 32 --precision float32 --compile off --threads 1"
_TRAJECTORY = "--max-start 2 --span 1 --inner-steps 4 --iterations 40 --compile off --threads 1"
_GRID = """\
data: [digits]
ipc: [1]
methods: [{name: random}, {name: dm, iterations: 20, options: {network: convnet-d2-w8, real_batch: 16}}]
columns: [{protocol: demo, nets: [mlp]}]
network_seeds: 1
"""
_OF_THIS_RUN = {"seconds", "peak_memory", "date", "resumed_at", "expert_seconds"}  # keys of JSON with times in it
CACHE = "cache"


@dataclass(frozen=True)
class Command:
    """A command line that writes into the current folder, where `prepare` has put what it reads."""

    name: str
    line: str
    prepare: Callable[[Path], None] = lambda folder: None
    overwrites: bool = False  # whether it takes --overwrite

    @property
    def words(self) -> list[str]:
        """The line, split."""
        return self.line.split()


def _distill(method: str, options: str, *, needs_experts: bool = False) -> Command:
    line = f"distill {method} --data digits --ipc 2 --out set.h5 {options}"
    return Command(method, line, _record_experts if needs_experts else lambda folder: None, overwrites=True)


def _record_experts(folder: Path) -> None:
    _must_end_well(run_command(EXPERTS.words, folder, most_seconds=300))


def _must_end_well(end: End) -> None:
    if end.code != 0:
        raise RuntimeError(f"the preparation failed: {end.errors}")


def _write_grid(folder: Path) -> None:
    (folder / "grid.yaml").write_text(_GRID, encoding="utf-8")


def _write_arrays(folder: Path) -> None:
    draws = np.random.default_rng(0)
    images = draws.integers(0, 256, (6000, 32, 32, 3), np.uint8)
    labels = np.arange(6000) % 10
    np.savez(folder / "own.npz", train_images=images, train_labels=labels, test_images=images, test_labels=labels)


def prepared_set(folder: Path) -> None:
    """A small synthetic set, and the same images as a file of the DC lineage."""
    _must_end_well(run_command(RANDOM.words, folder, most_seconds=300))
    torch.save({"data": [[torch.zeros(10, 1, 8, 8), torch.arange(10)]]}, folder / "res.pt")


RANDOM = Command("random", "distill random --data digits --ipc 1 --out random.h5", overwrites=True)
EXPERTS = Command(
    "experts", "experts --data digits --net convnet-d2-w8 --experts 2 --epochs 3 --out experts --compile off"
)
COMMANDS = (
    _distill("dm", f"--iterations 80 {_MATCHING}"),
    _distill("idm", f"--iterations 30 --queue-interval 5 --network-steps 2 --network-batch 32 {_MATCHING}"),
    _distill("ncfm", f"--iterations 20 --networks 1 --network-epochs 1 --frequencies 64 {_MATCHING}"),
    _distill("mtt", f"--buffer experts {_TRAJECTORY}", needs_experts=True),
    _distill("datm", f"--buffer experts --first-max-start 1 {_TRAJECTORY}", needs_experts=True),
    EXPERTS,
    Command("benchmark", "benchmark grid.yaml --out results", _write_grid),
    Command("pack", "pack own.npz --out packed.h5", _write_arrays, overwrites=True),
)


def contents(folder: Path) -> dict[str, Any]:
    """What is in each file below `folder`, by relative path: digests, and JSON without what differs from run to run."""
    return {
        str(path.relative_to(folder)): _content(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and CACHE not in path.relative_to(folder).parts
    }


def left_in_cache(folder: Path) -> list[str]:
    """Temporary files in the cache folder."""
    return [path.name for path in (folder / CACHE).rglob("*") if path.name.endswith(".tmp")]


def _content(path: Path) -> Any:
    if path.suffix == ".json" and path.name != "results.json":
        return _lasting(json.loads(path.read_text(encoding="utf-8")))
    if path.name.startswith("expert-"):
        buffer = ExpertBuffer.open(path.parent)
        number = buffer.files.index(path)
        return [buffer.digest(number), buffer.accuracies(number)]
    if path.name.startswith("results."):
        return "a report, with times"
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()


def _lasting(content: Any) -> Any:
    if isinstance(content, dict):
        return {name: _lasting(value) for name, value in content.items() if name not in _OF_THIS_RUN}
    return [_lasting(value) for value in content] if isinstance(content, list) else content
