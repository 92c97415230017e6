"""What a result was made with: package versions, hardware, commit, peak memory."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from condense._version import __version__
from condense.runtime.limits import container_limit
from condense.runtime.processor import processor_description

_PACKAGES = ("torch", "torchvision", "kornia", "numpy", "scikit-learn", "h5py")


def versions() -> dict[str, str]:
    """Versions of condense, Python and the packages that can change a number."""
    return {
        "condense": __version__,
        "python": platform.python_version(),
        **{package: metadata.version(package) for package in _PACKAGES},
    }


def hardware() -> dict[str, Any]:
    """The processor, its cores, the memory in GB (that of the container, if less), and the GPU if there is one."""
    import torch

    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": processor_description(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "memory_gb": round(min(physical, container_limit() or physical) / 1e9, 1),
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
    }


def commit() -> str | None:
    """The git commit of the source tree that is running, with `+changes` if files differ; None outside a checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():  # git itself would find the project of whoever installed condense below it
        return None
    try:
        revision = _git(root, "rev-parse", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return revision + ("+changes" if changed else "")


def circumstances() -> dict[str, Any]:
    """What belongs beside every number and artifact: machine, packages, commit."""
    return {"hardware": hardware(), "versions": versions(), "commit": commit()}


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(root), *arguments], check=True, capture_output=True, text=True, timeout=10
    ).stdout.strip()


def peak_memory() -> int:
    """The largest resident size of this process so far, in bytes."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):  # not Linux, where what follows counts the process that started this one as well
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
