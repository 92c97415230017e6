"""Named tensors with some facts in one safetensors file, old or new and never half, that tells whether it is whole.

Two entries stand beside the facts: `tensors`, a digest of names, dtypes, shapes and bytes of the tensors, and
`checksum`, a digest of all other entries; hex digits of 16-byte blake2b.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from condense.runtime.errors import CondenseError
from condense.runtime.files import atomic_write
from condense.runtime.inputs import regular_file
from condense.runtime.limits import refuse_limits

_WANTED = "a file of tensors (.safetensors)"


def save_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> None:
    """Write the tensors, wherever they are, and the facts, atomically; raises `CondenseError` where that fails."""
    on_processor = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = dict(facts) | {"tensors": _digest_of_tensors(on_processor)}
    metadata["checksum"] = _digest_of_facts(metadata)
    with atomic_write(path) as temporary:
        try:
            save_file(on_processor, temporary, metadata=metadata)
            _sort_facts(temporary)
        except SafetensorError as error:  # its own error for what the operating system refuses: no space left, say
            number = re.search(r"(?:os error|code:) (\d+)", str(error))
            raise OSError(number and int(number[1]), os.strerror(int(number[1])) if number else str(error)) from error


def _sort_facts(path: Path) -> None:
    """Bring the facts of a file into one order, so that equal content is equal bytes: safetensors has none.

    The header, JSON after its length in 8 bytes, stays as long as it is.
    """
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        assert len(text) <= length, "the same JSON in another order"
        file.seek(8)
        file.write(text.ljust(length))


def load_facts(path: Path) -> dict[str, str]:
    """The facts alone, verified, without reading a tensor; raises `CondenseError` for a damaged or foreign file."""
    regular_file(path, _WANTED)
    try:
        # for torch the file would be opened twice by its name, and may have been replaced by another in between
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
    except Exception as error:  # safetensors' own, and those of the system
        refuse_limits(error)
        raise _damaged(path, str(error)) from error
    _check_facts(path, metadata)
    return _without_digests(metadata)


def load_tensors(path: Path, *, verified: bool = True) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors, on the processor, and the facts; raises `CondenseError` for a damaged or foreign file.

    With `verified` false, files of earlier versions, which have no checksum, are read as well.
    """
    regular_file(path, _WANTED)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except Exception as error:
        refuse_limits(error)
        raise _damaged(path, str(error)) from error
    if verified or "checksum" in metadata:
        _check_facts(path, metadata)
        if metadata["tensors"] != _digest_of_tensors(tensors):
            raise _damaged(path, "its tensors do not fit their checksum")
    return tensors, _without_digests(metadata)


def load_if_whole(path: Path) -> tuple[dict[str, Tensor], dict[str, str]] | None:
    """The tensors and facts; None where there is no file, or a damaged one that is better made again."""
    try:
        return load_tensors(path)
    except CondenseError:
        return None


def _check_facts(path: Path, metadata: Mapping[str, str]) -> None:
    checked = {name: value for name, value in metadata.items() if name != "checksum"}
    if "tensors" not in checked or metadata.get("checksum") != _digest_of_facts(checked):
        raise _damaged(path, "it does not fit its checksum" if "checksum" in metadata else "it has no checksum")


def _without_digests(metadata: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in metadata.items() if name not in ("tensors", "checksum")}


def _digest_of_facts(facts: Mapping[str, str]) -> str:
    return hashlib.blake2b(json.dumps(dict(facts), sort_keys=True).encode(), digest_size=16).hexdigest()


def _digest_of_tensors(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)};".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _damaged(path: Path, reason: str) -> CondenseError:
    return CondenseError(f"{path} is damaged ({' '.join(reason.split())}); copy it again, or make it again")
