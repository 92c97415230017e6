"""`torch.compile` for pure functions: once for each shape, kept between runs, and eager where nothing compiles."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import shutil
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch.autograd import forward_ad

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
    limit = "recompile_limit" if hasattr(torch._dynamo.config, "recompile_limit") else "cache_size_limit"  # torch 2.6
    setattr(torch._dynamo.config, limit, max(_SHAPES, getattr(torch._dynamo.config, limit)))
    fast = torch.compile(function, dynamic=False)
    broken = False

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        nonlocal broken
        if not broken:
            depth = torch._C._functorch.get_dynamic_layer_stack_depth()
            try:
                return fast(*arguments)
            except torch._dynamo.exc.TorchDynamoException as error:
                broken = True
                _leave_transforms(depth)
                say(f"compilation failed ({_first_line(error)}); going on without it")
        return function(*arguments)

    return call  # type: ignore[return-value]


def _leave_transforms(depth: int) -> None:
    """Leave the function transforms beyond `depth` that a failed compilation entered: torch does not, and then refuses
    forward-mode derivatives for the rest of the process."""
    torch._C._functorch.pop_dynamic_layer_stack_and_undo_to_depth(depth)
    if forward_ad._current_level < 0:  # nobody outside is within one
        with contextlib.suppress(RuntimeError):  # nor was the compiler
            torch._C._exit_dual_level(level=0)


def _first_line(error: Exception) -> str:
    lines = [*str(error).strip().splitlines(), ""]
    first = f"{lines[0]} {lines[1]}" if lines[0].endswith(":") else lines[0]
    return first.strip() or type(error).__name__
