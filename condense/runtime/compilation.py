"""`torch.compile` for pure functions: once for each shape, kept between runs, and eager where nothing compiles."""

from __future__ import annotations

import functools
import logging
import os
import shutil
from collections.abc import Callable
from typing import Any, TypeVar

import torch

from condense.runtime.progress import say

Function = TypeVar("Function", bound=Callable[..., Any])

_SHAPES = 64  # torch gives up on a function after 8 shapes or networks, but a process may evaluate many


def compiler_available(device: torch.device) -> bool:
    """Whether this machine can build code for the device: a C++ compiler for the processor, triton for a GPU."""
    if device.type == "cuda":
        from torch.utils._triton import has_triton

        return has_triton()
    return shutil.which(os.environ.get("CXX", "g++")) is not None or shutil.which("clang++") is not None


def compiled(function: Function) -> Function:
    """`function`, compiled for each combination of shapes when it is first called with it.

    Networks that it closes over are read as structure: their parameters must be arguments. If the compiler fails, the
    function runs uncompiled from then on, and one line on standard error says so.
    """
    if not torch.cuda.is_available():  # where CUDA's tools are installed without a GPU, this logger says so every time
        logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    torch._dynamo.config.recompile_limit = max(_SHAPES, torch._dynamo.config.recompile_limit)
    fast = torch.compile(function, dynamic=False)
    broken = False

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        nonlocal broken
        if not broken:
            try:
                return fast(*arguments)
            except torch._dynamo.exc.TorchDynamoException as error:
                broken = True
                say(f"compilation failed ({_first_line(error)}); going on without it")
        return function(*arguments)

    return call  # type: ignore[return-value]


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
