"""Where pixels come from: a tensor in memory, image files or an HDF5 file, behind one interface."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from condense.data.decoding import ImageShape, decode_file, quiet_pillow, resize
from condense.data.unreadable import Problem, unreadable_files
from condense.runtime.errors import CondenseError

_CHUNK_BYTES = 16 * 2**20


class PixelSource(ABC):
    """N images of one shape, read by index as uint8."""

    image_shape: ImageShape

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, indices: Tensor) -> Tensor:
        """The images at `indices` (int64 [n], any order, repeats allowed), uint8 [n, C, H, W]."""

    @property
    def decoded_bytes(self) -> int:
        """What all images take in memory."""
        return len(self) * math.prod(self.image_shape)

    def chunks(self) -> Iterator[Tensor]:
        """All images in their order, in pieces of about 16 MB."""
        step = max(1, _CHUNK_BYTES // math.prod(self.image_shape))
        for start in range(0, len(self), step):
            yield self.read(torch.arange(start, min(start + step, len(self))))

    def in_memory(self) -> TensorPixels:
        """The same images in one tensor."""
        pixels = torch.empty(len(self), *self.image_shape, dtype=torch.uint8)
        filled = 0
        for chunk in self.chunks():
            pixels[filled : filled + len(chunk)] = chunk
            filled += len(chunk)
        return TensorPixels(pixels)


class TensorPixels(PixelSource):
    """Images that live in memory, uint8 [N, C, H, W]."""

    def __init__(self, pixels: Tensor) -> None:
        self._pixels = pixels.contiguous()
        channels, height, width = pixels.shape[1:]
        self.image_shape = (channels, height, width)

    def __len__(self) -> int:
        return len(self._pixels)

    def read(self, indices: Tensor) -> Tensor:
        """A copy of the images at `indices`."""
        return self._pixels[indices]

    def in_memory(self) -> TensorPixels:
        """This source itself."""
        return self


class SubsetPixels(PixelSource):
    """Some images of another source, in the order of `indices`."""

    def __init__(self, source: PixelSource, indices: Tensor) -> None:
        self._source, self._indices = source, indices
        self.image_shape = source.image_shape

    def __len__(self) -> int:
        return len(self._indices)

    def read(self, indices: Tensor) -> Tensor:
        """The images at these positions of the subset."""
        return self._source.read(self._indices[indices])


class ResizedPixels(PixelSource):
    """Another source, with every image resized when it is read."""

    def __init__(self, source: PixelSource, height: int, width: int) -> None:
        self._source = source
        self.image_shape = (source.image_shape[0], height, width)

    def __len__(self) -> int:
        return len(self._source)

    def read(self, indices: Tensor) -> Tensor:
        """Read, cut to the new aspect and resize."""
        return resize(self._source.read(indices), *self.image_shape[1:])


class FilePixels(PixelSource):
    """Image files, decoded by `threads` threads when they are read; `names` are relative to `root`."""

    def __init__(self, root: Path, names: Sequence[str], image_shape: ImageShape, threads: int = 1) -> None:
        self._root, self._names, self._threads = root.absolute(), names, threads
        self.image_shape = image_shape

    def __len__(self) -> int:
        return len(self._names)

    def read(self, indices: Tensor) -> Tensor:
        """Decode these files.

        Raises `CondenseError` if one cannot be decoded; it then names every file of the source that cannot.
        """
        pixels = np.empty((len(indices), *self.image_shape), np.uint8)
        names = [self._names[index] for index in indices.tolist()]
        with quiet_pillow():
            for position, image in enumerate(self._decode(names)):
                if isinstance(image, str):
                    raise self.unreadable({names[position]: image})
                pixels[position] = image
        return torch.from_numpy(pixels)

    def _decode(self, names: Sequence[str]) -> Iterator[np.ndarray | Problem]:
        if self._threads == 1:
            yield from (decode_file(self._root / name, self.image_shape) for name in names)
            return
        with ThreadPoolExecutor(self._threads) as pool:
            yield from pool.map(lambda name: decode_file(self._root / name, self.image_shape), names)

    def unreadable(self, problems: Mapping[str, Problem]) -> CondenseError:
        """The error that lists these files and all others that cannot be decoded to their end; decodes all of them."""
        with quiet_pillow():
            images = zip(self._names, self._decode(self._names))
            problems = {name: image for name, image in images if isinstance(image, str)} | dict(problems)
        return unreadable_files(self._root, len(self._names), problems)


class Hdf5Pixels(PixelSource):
    """A dataset (N, H, W) or (N, H, W, C), uint8, in an HDF5 file; rows are read from disk on demand."""

    def __init__(self, path: Path, key: str) -> None:
        self._path, self._key = path.absolute(), key
        with h5py.File(path) as file:
            count, height, width, *channels = file[key].shape
        self._count = count
        self.image_shape = (channels[0] if channels else 1, height, width)

    def __len__(self) -> int:
        return self._count

    def read(self, indices: Tensor) -> Tensor:
        """Read each row once, neighbours together, in the order of the file.

        Raises `CondenseError` where the file is damaged.
        """
        if len(indices) == 0:
            return torch.empty(0, *self.image_shape, dtype=torch.uint8)
        rows, positions = indices.unique(return_inverse=True)  # ascending
        starts = (rows.diff() != 1).nonzero().flatten() + 1
        runs = [(int(run[0]), int(run[-1]) + 1) for run in rows.tensor_split(starts)]
        try:
            with h5py.File(self._path) as file:
                images = np.concatenate([file[self._key][start:stop] for start, stop in runs])
        except OSError as error:
            raise CondenseError(f"cannot read {self._key} from {self._path}: {error}; pack the data again") from error
        return channels_first(images)[positions]


def channels_first(images: np.ndarray) -> Tensor:
    """Images (N, H, W) or (N, H, W, C) as a contiguous tensor [N, C, H, W]."""
    tensor = torch.from_numpy(images)
    return (tensor[:, None] if tensor.ndim == 3 else tensor.permute(0, 3, 1, 2)).contiguous()
