"""In which precision networks compute: float32, or bfloat16 where the machine runs it natively.

Only what happens inside a network is meant: parameters and images are cast by hand on the way in, since autocast does
not work under `torch.func`. Losses, distances, sums over images and the images themselves stay in float32.
"""

from __future__ import annotations

from typing import Literal

import torch

from condense.runtime.processor import processor_flags

Precision = Literal["float32", "bfloat16"]

DTYPES: dict[str, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}

_NATIVE_FLAGS = {"amx_bf16", "avx512_bf16", "bf16"}  # the last one is ARM's


def native_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for bfloat16; without them it is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(_NATIVE_FLAGS & processor_flags())


def choose_precision(asked: Literal["auto", "float32", "bfloat16"], device: torch.device) -> Precision:
    """`auto` takes bfloat16 where it is native, else float32."""
    if asked != "auto":
        return asked
    return "bfloat16" if native_bfloat16(device) else "float32"
