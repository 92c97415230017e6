"""What the machine can do and whether it is free: peak of matrix products, load of others, memory of a call."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch

from condense.runtime.processor import busy_seconds

_BUSY = 0.1  # of all cores, by other processes


_CPU = torch.device("cpu")


def finish(device: torch.device) -> None:
    """Wait until a GPU has done what it was given; the processor always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matmul_peak(dtype: torch.dtype, device: torch.device = _CPU, size: int = 2048, repeats: int = 5) -> float:
    """Operations per second of a square matrix product, the best of some."""
    draws = torch.Generator().manual_seed(0)
    left, right = (torch.randn(size, size, generator=draws).to(device, dtype) for _ in range(2))
    best = float("inf")
    for _ in range(repeats + 1):
        finish(device)
        started = time.perf_counter()
        left @ right
        finish(device)
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


class Load:
    """How much of the processors other processes take, from when this is made to when it is asked."""

    def __init__(self) -> None:
        self._start = self._read()

    def others(self) -> float:
        """The part of all cores, 0 to 1, that others used."""
        busy, passed, own = (after - before for before, after in zip(self._start, self._read()))
        return max(0.0, (busy - own) / (passed * (os.cpu_count() or 1))) if passed > 0 else 0.0

    @staticmethod
    def _read() -> tuple[float, float, float]:
        """Seconds that all cores were busy, that passed, and that this process used."""
        return busy_seconds(), time.perf_counter(), time.process_time()


def busy_notice(load: float) -> str | None:
    """A sentence for a machine on which times mean little; None for a quiet one."""
    if load < _BUSY:
        return None
    return f"the machine is busy: other processes take {100 * load:.0f} % of its processors, so times are not reliable"


def memory_growth(call: Callable[[], object], device: torch.device = _CPU) -> int | None:
    """Bytes by which memory rises above its start during a call: of a GPU, or resident in this process.

    None off Linux.
    """
    if device.type == "cuda":
        finish(device)
        torch.cuda.reset_peak_memory_stats(device)
        start = torch.cuda.memory_allocated(device)
        call()
        finish(device)
        return max(0, torch.cuda.max_memory_allocated(device) - start)
    if platform.system() != "Linux":
        return None
    gc.collect()  # what earlier calls left lying about would hide what this one takes
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # sets the peak to what is resident now
    except OSError:
        return None
    start = _status("VmRSS")
    call()
    return max(0, _status("VmHWM") - start)


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))
