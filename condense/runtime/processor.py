"""What the processor is, what it runs natively, and how busy it is."""

from __future__ import annotations

import functools
import platform
from pathlib import Path


@functools.cache
def processor_name() -> str:
    """The model, as the system calls it."""
    fields = _fields()
    return fields.get("model name") or platform.processor() or platform.machine()


@functools.cache
def processor_flags() -> frozenset[str]:
    """Names of the instruction sets, as Linux calls them; empty where it cannot be known."""
    fields = _fields()
    return frozenset((fields.get("flags") or fields.get("Features") or "").split())


def processor_description() -> str:
    """The model, with the instruction sets that decide how fast it is: machines of one model can differ in these."""
    special = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in processor_flags()]
    return f"{processor_name()} ({', '.join(special)})" if special else processor_name()


def busy_seconds() -> float:
    """Seconds that processors of this machine were not idle, all together, since it started."""
    import psutil

    times = psutil.cpu_times()._asdict()
    return float(sum(times.get(name, 0.0) for name in ("user", "nice", "system", "irq", "softirq", "steal")))


@functools.cache
def _fields() -> dict[str, str]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}
