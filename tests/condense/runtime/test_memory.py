"""Freed memory stays in the process, unless the user has other ideas."""

import platform
import subprocess
import sys

import pytest

from condense.runtime import memory

FAULTS = """
import resource
from condense.runtime.memory import keep_freed_memory
{call}
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
size = 48 * 2**20
b"1" * size
before = faults()
for _ in range(10):
    b"1" * size
print(faults() - before)
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
