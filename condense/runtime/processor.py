"""What the processor is and what it runs natively."""

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


@functools.cache
def _fields() -> dict[str, str]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}
