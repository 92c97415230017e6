"""Files of `torch.save` from elsewhere: read without running anything, and without believing what they declare."""

from __future__ import annotations

import re
import warnings
import zipfile
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from condense.runtime.errors import CondenseError
from condense.runtime.limits import refuse_limits
from condense.runtime.numpy_files import array_tensor

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_NUMBERS = ("?", *(f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)), "f2", "f4", "f8")  # of numpy
_INTEGERS = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def load_torch_file(path: Path, forms: str) -> Any:
    """The content of a `.pt` file, if it is made of tensors, arrays and numbers of numpy, text and plain containers.

    Its tensors are as the file declares them, and arrays are `PickledArray`: look at each through `plain_tensor` before
    anything else is done with it.

    Raises `CondenseError` for every other file, and for one that unpacks to more than its own size; `forms` says what
    to give instead.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise CondenseError(f"{path} is no regular file; give {forms}")
    try:
        file = path.open("rb")
    except OSError as error:
        raise CondenseError(f"cannot read {path}: {error.strerror or error}; give {forms}") from error
    with file, torch.serialization.safe_globals(_numpy_globals()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about the make of the file
        try:
            _check_size(file)
            return torch.load(file, map_location="cpu", weights_only=True)
        except CondenseError as error:
            raise CondenseError(f"{path} {error}; give {forms}") from error
        except Exception as error:  # over foreign bytes the unpickler raises nearly anything
            refuse_limits(error)
            if _is_of_pickle(file):
                raise CondenseError(
                    f"{path} is of pickle alone, and reading it could run code; where you trust it, load it with "
                    "pickle and store what is in it with torch.save"
                ) from error
            refused = re.search(r"GLOBAL (\S+)", str(error))
            if refused is None:
                raise CondenseError(f"{path} is damaged or no file of torch.save; give {forms}") from error
            raise CondenseError(
                f"{path} is refused because reading it could run code ({refused[1]!r}); give one of plain tensors"
            ) from error


def _is_of_pickle(file: IO[bytes]) -> bool:
    """Whether tensors were pickled without `torch.save`: each is then a call that reads bytes, which is not allowed."""
    file.seek(0)
    return b"_load_from_bytes" in file.read(4096)


def _check_size(file: IO[bytes]) -> None:
    """Refuse an archive whose parts are together larger than it is: torch compresses nothing."""
    size = file.seek(0, 2)
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            declared = sum(part.file_size for part in archive.infolist())
        if declared > size:
            raise CondenseError(f"declares {declared:,} bytes in a file of {size:,}")
    file.seek(0)


class PickledArray:
    """An array of numpy in a file of `torch.save`, read in the place of numpy's own class.

    What a file declares of it is compared with the bytes that are there. `tensor` is None where it does not fit them,
    and for arrays of anything but real numbers.
    """

    tensor: Tensor | None = None

    def __setstate__(self, state: tuple[int, tuple[int, ...], np.dtype, bool, bytes]) -> None:
        _, shape, declared, by_column, data = state
        dtype = np.dtype(declared.str)  # without fields and whatever else a file can put into one
        if isinstance(data, bytes | bytearray):
            array = np.frombuffer(bytearray(data), dtype).reshape(shape, order="F" if by_column else "C")
            with suppress(CondenseError):
                self.tensor = array_tensor(array) if array.shape == shape else None  # numpy reshapes to negative sizes


def _array_to_fill(*_: Any) -> PickledArray:
    """In the place of numpy's function that makes an array of a class and shape; the state that follows has all."""
    return PickledArray()


def _numpy_globals() -> list[Any]:
    """What arrays, and accuracies beside tensors, need of numpy, under the names of numpy 1 and 2."""
    major = int(np.__version__.split(".")[0])
    scalar = import_module("numpy._core.multiarray" if major >= 2 else "numpy.core.multiarray").scalar
    modules = ("numpy.core.multiarray", "numpy._core.multiarray")
    functions = [(scalar, f"{name}.scalar") for name in modules]
    functions += [(_array_to_fill, f"{name}._reconstruct") for name in modules]
    return [*functions, (PickledArray, "numpy.ndarray"), np.dtype, *(type(np.dtype(kind)) for kind in _NUMBERS)]


def plain_tensor(value: Any) -> Tensor:
    """`value` as an ordinary tensor of real numbers that are all in memory, without gradient or attributes.

    Raises `CondenseError` with what it is instead, such as "no tensor" or "a sparse tensor".
    """
    if isinstance(value, PickledArray):
        value = value.tensor
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
