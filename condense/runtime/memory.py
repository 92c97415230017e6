"""Memory: kept by the C library between two uses, measured, and named in errors."""

from __future__ import annotations

import ctypes
import functools
import gc
import os
import platform
import resource
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch

from condense.runtime.errors import CondenseError
from condense.runtime.limits import container_memory, memory_ran_out

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # mallopt's names for them in glibc's malloc.h
_USER_SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


@functools.cache
def keep_freed_memory() -> bool:
    """Let this process keep the memory of freed tensors for the next ones; True if that was done.

    Left alone, glibc asks the system for every tensor above 32 MB and gives it back when it is freed, so each training
    step pays for tens of thousands of page faults. Measured on two busy cores (torch 2.14, glibc 2.36, the best step of
    each of three runs): a ConvNet step (depth 3, 100 images of 1x28x28) takes 0.12-0.16 s instead of 0.15-0.20 s
    at width 64, 0.29-0.41 s instead of 0.46-0.58 s at width 128. Splitting the batch and channels-last gain nothing
    beside it. The price is memory that lies idle: at most 1.8 GB instead of 1.4 GB in a training at width 128 with
    batches of 256.

    Does nothing without glibc (as with musl), or if the environment sets one of glibc's own variables for this.
    """
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in _USER_SETTINGS):
        return False
    library = ctypes.CDLL(None)
    return bool(library.mallopt(_MMAP_MAX, 0)) and bool(library.mallopt(_TRIM_THRESHOLD, -1))


def give_back_memory() -> None:
    """Give memory that is freed back to the system, where a run goes on to something that has no use for it.

    What is kept for the next tensors lies between small objects that live on, and where these differ from part to part
    of a long run, each part takes new memory beside what lies idle. Does nothing without glibc.
    """
    if platform.libc_ver()[0] == "glibc":
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)


@contextmanager
def memory_errors_named() -> Iterator[None]:
    """Turn what torch raises when memory runs out into one line that names the options that help."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not memory_ran_out(error):
            raise
        raise CondenseError(
            "memory ran out; give a smaller --micro-batch, where the method has them a smaller --real-batch, another "
            "--gradient than unrolled or a larger --store-every; --dry-run tells what fits"
        ) from error


def available_memory(device: torch.device) -> int:
    """Bytes that can be taken on the device without swapping, within the limits of container and process."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = [int(psutil.virtual_memory().available)]
    container = container_memory()
    if container is not None:
        free.append(container)
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        free.append(max(0, limit - int(psutil.Process().memory_info().vms)))
    return min(free)
