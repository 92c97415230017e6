"""Named tensors with some facts in one safetensors file, old or new and never half."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from condense.runtime.files import atomic_write


def save_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> None:
    """Write the tensors, wherever they are, and the facts, atomically."""
    on_processor = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_write(path) as temporary:
        save_file(on_processor, temporary, metadata=dict(facts))


def load_facts(path: Path) -> dict[str, str]:
    """The facts alone, without reading a tensor; raises `SafetensorError` for another kind of file."""
    # for torch the file would be opened twice by its name, and may have been replaced by another in between
    with safe_open(path, framework="np") as file:
        return file.metadata() or {}


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors, on the processor, and the facts; raises `SafetensorError` for another kind of file."""
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118 (no mapping)


def load_if_whole(path: Path) -> tuple[dict[str, Tensor], dict[str, str]] | None:
    """The tensors and facts; None where there is no file, or a damaged one that is better made again."""
    try:
        return load_tensors(path)
    except (FileNotFoundError, SafetensorError):
        return None
