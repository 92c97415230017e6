"""Stored images that are too many for memory: read from files, by rows, where a tensor would hold all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from condense.data.real import Split
from condense.runtime.errors import CondenseError
from condense.runtime.hdf5.reader import Rows

_PIECE_BYTES = 2**20
LARGE = 2**26  # bytes of images from which a set leaves them in files


class StoredRows:
    """Images [N, C, H, W] in files, which stand for a tensor of them where single rows, or pieces, will do.

    `read` gives the rows of a list of indices; `dtype` is torch's.
    """

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype, read: Callable[[Sequence[int]], np.ndarray]) -> None:
        self.shape, self.dtype, self._read = torch.Size(shape), dtype, read

    @classmethod
    def of(cls, rows: Rows) -> StoredRows:
        """Those of one array of a file."""
        return cls(rows.shape, _torch_type(rows.dtype), lambda indices: np.stack(rows.each(*indices)))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int | slice | Tensor) -> Tensor:
        """The images at an index, in a slice or at indices int64 [n] (or where bool [N] is true), in memory."""
        if isinstance(index, int):
            if not -len(self) <= index < len(self):
                raise IndexError(index)
            return self._rows([index % len(self)])[0]
        chosen = torch.arange(len(self))[index].tolist()
        return self._rows(chosen) if chosen else torch.empty((0, *self.shape[1:]), dtype=self.dtype)

    def _rows(self, indices: Sequence[int]) -> Tensor:
        return torch.from_numpy(self._read(indices))

    def numel(self) -> int:
        """Numbers in all images."""
        return self.shape.numel()

    def element_size(self) -> int:
        """Bytes of each."""
        return self.dtype.itemsize

    def is_floating_point(self) -> bool:
        """Whether they are floats."""
        return self.dtype.is_floating_point

    def whole(self) -> Tensor:
        """All of them in memory."""
        return self[:]

    def pieces(self) -> Iterator[np.ndarray]:
        """All images in order, about a MiB at a time."""
        step = max(1, _PIECE_BYTES // max(1, math.prod(self.shape[1:]) * self.element_size()))
        for start in range(0, len(self), step):
            yield self._read(range(start, min(start + step, len(self))))


Images = Tensor | StoredRows


def gathered(files: Sequence[Rows], places: Sequence[tuple[int, int]]) -> StoredRows:
    """Images of several files as one array: `places` tells the file and the row of each."""
    shape = (len(places), *files[0].shape[1:])

    def read(indices: Sequence[int]) -> np.ndarray:
        rows = np.empty((len(indices), *shape[1:]), files[0].dtype)
        for target, index in enumerate(indices):
            file, row = places[index]
            rows[target] = files[file].read((row, row + 1))[0]
        return rows

    return StoredRows(shape, _torch_type(files[0].dtype), read)


def _torch_type(dtype: np.dtype) -> torch.dtype:
    """Raises `CondenseError` for texts, and numbers that torch does not have."""
    try:
        return torch.from_numpy(np.empty(0, dtype)).dtype
    except (TypeError, ValueError) as error:
        raise CondenseError(f"its images are {dtype}; make it again") from error


def real_images(split: Split, rows: Tensor) -> Images:
    """The pixels of some images of real data (int64 [n]); where these are many, they are read when they are wanted."""
    shape = torch.Size((len(rows), *split.info.image_shape))
    if shape.numel() <= LARGE:
        return split.pixels(rows)
    return StoredRows(shape, torch.uint8, lambda indices: split.pixels(rows[list(indices)]).numpy())


def in_memory(images: Images) -> Tensor:
    """The images as a tensor."""
    return images if isinstance(images, Tensor) else images.whole()
