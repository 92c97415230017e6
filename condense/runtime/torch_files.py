"""Files of `torch.save` from elsewhere: read without running anything, and without believing what they declare."""

from __future__ import annotations

import re
import warnings
import zipfile
from importlib import import_module
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from condense.runtime.errors import CondenseError

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_INTEGERS = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def load_torch_file(path: Path, forms: str) -> Any:
    """The content of a `.pt` file, if it is made of tensors, numbers, text and plain containers.

    Its tensors are as the file declares them: look at each through `plain_tensor` before anything else is done with it.

    Raises `CondenseError` for every other file, and for one that unpacks to more than its own size; `forms` says what
    to give instead.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise CondenseError(f"{path} is no regular file; give {forms}")
    try:
        file = path.open("rb")
    except OSError as error:
        raise CondenseError(f"cannot read {path}: {error.strerror or error}; give {forms}") from error
    with file, torch.serialization.safe_globals(_numpy_scalars()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about the make of the file
        try:
            _check_size(file)
            return torch.load(file, map_location="cpu", weights_only=True)
        except CondenseError as error:
            raise CondenseError(f"{path} {error}; give {forms}") from error
        except Exception as error:  # over foreign bytes the unpickler raises nearly anything
            refused = re.search(r"GLOBAL (\S+)", str(error))
            if refused is None:
                raise CondenseError(f"{path} is damaged or no file of torch.save; give {forms}") from error
            raise CondenseError(
                f"{path} is refused because reading it could run code ({refused[1]!r}); give one of plain tensors"
            ) from error


def _check_size(file: IO[bytes]) -> None:
    """Refuse an archive whose parts are together larger than it is: torch compresses nothing."""
    size = file.seek(0, 2)
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            declared = sum(part.file_size for part in archive.infolist())
        if declared > size:
            raise CondenseError(f"declares {declared:,} bytes in a file of {size:,}")
    file.seek(0)


def _numpy_scalars() -> list[Any]:
    """What accuracies beside the tensors need: numpy's numbers, under the names of numpy 1 and 2."""
    major = int(np.__version__.split(".")[0])
    scalar = import_module("numpy._core.multiarray" if major >= 2 else "numpy.core.multiarray").scalar
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    return [*((scalar, name) for name in names), np.dtype, *(type(np.dtype(kind)) for kind in ("f4", "f8", "i8"))]


def plain_tensor(value: Any) -> Tensor:
    """`value` as an ordinary tensor of real numbers that are all in memory, without gradient or attributes.

    Raises `CondenseError` with what it is instead, such as "no tensor" or "a sparse tensor".
    """
    if not isinstance(value, Tensor):
        raise CondenseError("no tensor")
    for refused, words in (
        (value.is_nested, "a nested tensor"),
        (value.is_meta, "a tensor without numbers (of the meta device)"),
        (value.layout is not torch.strided, "a sparse tensor"),
        (value.dtype not in _FLOATS + _INTEGERS, f"a tensor of {value.dtype}"),
    ):
        if refused:
            raise CondenseError(words)
    # methods of the class: a file can put anything into the attributes of a Parameter
    count, stored = Tensor.numel(value), Tensor.untyped_storage(value).nbytes() // Tensor.element_size(value)
    if count > stored:
        raise CondenseError(f"a tensor of {count:,} numbers of which the file has {stored:,}")
    return Tensor.as_subclass(Tensor.detach(value), Tensor).resolve_neg()
