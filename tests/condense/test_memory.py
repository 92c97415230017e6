"""Freed memory stays in the process, unless the user has other ideas."""

import platform
import subprocess
import sys

import pytest

from condense.runtime import memory

FAULTS = """
import resource, torch
from condense.runtime.memory import keep_freed_memory
{call}
for _ in range(10):
    torch.ones(12 * 2**20)  # 48 MB; the first few find no place that was freed
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(12 * 2**20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told what to do")
def test_freed_memory_is_used_again():
    kept, returned = (
        int(subprocess.run([sys.executable, "-c", FAULTS.format(call=call)], capture_output=True, check=True).stdout)
        for call in ("assert keep_freed_memory()", "")
    )
    assert kept < returned / 5


def test_the_environment_wins(monkeypatch):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "131072")
    assert memory.keep_freed_memory.__wrapped__() is False
