"""Where pixels come from: a tensor in memory, image files or an HDF5 file, behind one interface."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from condense.data.images.decoding import ImageShape, decode_file, quiet_pillow, resize
from condense.data.images.unreadable import Problem, unreadable_files
from condense.data.images.window import Window
from condense.runtime.errors import CondenseError
from condense.runtime.hdf5.reader import Rows
from condense.runtime.places import cache_directory

_CHUNK_BYTES = 16 * 2**20


class PixelSource(ABC):
    """N images of one shape, read by index as uint8."""

    image_shape: ImageShape
    in_files = False  # whether images come from files that may change before they are read
    streamed = True  # whether images are read or made anew whenever they are needed, and take no memory otherwise

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, indices: Tensor) -> Tensor:
        """The images at `indices` (int64 [n], any order, repeats allowed), uint8 [n, C, H, W]."""

    @property
    def arrangement(self) -> str:
        """Which images of the files that they come from are here, in which order and how large."""
        return f"{type(self).__name__} {len(self)} {self.image_shape}"

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

    streamed = False

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


class LatePixels(TensorPixels):
    """The images of another source, which get into memory when one of them is first read.

    `digest` is that of all their bytes, where they were surveyed at another time; None to believe what is read.
    """

    digest: bytes | None = None

    def __init__(self, source: PixelSource) -> None:
        self._source: PixelSource | None = source  # until then
        self._length, self._arrangement = len(source), source.arrangement
        self.image_shape, self.in_files = source.image_shape, source.in_files

    def __len__(self) -> int:
        return self._length

    @property
    def arrangement(self) -> str:
        """That of the other source."""
        return self._arrangement

    @cached_property
    def _pixels(self) -> Tensor:  # type: ignore[override]
        assert self._source is not None, "it is given up once it is read"
        pixels = self._source.in_memory()._pixels
        if self.digest is not None and hashlib.blake2b(pixels.numpy().data, digest_size=16).digest() != self.digest:
            raise CondenseError(
                f"images have changed since {len(self):,} of them were first read; remove {cache_directory() / 'read'} "
                "and start again"
            )
        self._source = None
        return pixels


class SubsetPixels(PixelSource):
    """Some images of another source, in the order of `indices`."""

    def __init__(self, source: PixelSource, indices: Tensor) -> None:
        self._source, self._indices = source, indices
        self.image_shape, self.in_files, self.streamed = source.image_shape, source.in_files, source.streamed

    def __len__(self) -> int:
        return len(self._indices)

    @property
    def arrangement(self) -> str:
        """That of the other source, and the indices."""
        indices = hashlib.blake2b(self._indices.contiguous().numpy().data, digest_size=16).hexdigest()
        return f"{indices} of {self._source.arrangement}"

    def read(self, indices: Tensor) -> Tensor:
        """The images at these positions of the subset."""
        return self._source.read(self._indices[indices])


class ResizedPixels(PixelSource):
    """Another source, with every image resized when it is read."""

    def __init__(self, source: PixelSource, height: int, width: int) -> None:
        self._source, self.in_files = source, source.in_files
        self.image_shape = (source.image_shape[0], height, width)

    def __len__(self) -> int:
        return len(self._source)

    @property
    def arrangement(self) -> str:
        """That of the other source, and the size."""
        return f"{self.image_shape} from {self._source.arrangement}"

    def read(self, indices: Tensor) -> Tensor:
        """Read, cut to the new aspect and resize."""
        return resize(self._source.read(indices), *self.image_shape[1:])


class FilePixels(PixelSource):
    """Image files, decoded by `threads` threads when they are read; `names` are relative to `root`.

    With a `window`, files with one channel of more than 8 bits.
    """

    in_files = True

    def __init__(
        self,
        root: Path,
        names: Sequence[str],
        image_shape: ImageShape,
        threads: int = 1,
        window: Window | None = None,
    ) -> None:
        self._root, self._names, self._threads, self._window = root.absolute(), names, threads, window
        self.image_shape = image_shape

    def __len__(self) -> int:
        return len(self._names)

    @property
    def arrangement(self) -> str:
        """The names of the files in their order, the size, and the window."""
        names = "\0".join(self._names).encode(errors="surrogateescape")
        return f"{hashlib.blake2b(names, digest_size=16).hexdigest()} {self.image_shape} {self._window}"

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
            yield from map(self._decode_one, names)
            return
        with ThreadPoolExecutor(self._threads) as pool:
            yield from pool.map(self._decode_one, names)

    def _decode_one(self, name: str) -> np.ndarray | Problem:
        return decode_file(self._root / name, self.image_shape, self._window)

    def problems(self) -> dict[str, Problem]:
        """The files that cannot be decoded to their end; decodes all of them."""
        with quiet_pillow():
            images = zip(self._names, self._decode(self._names))
            return {name: image for name, image in images if isinstance(image, str)}

    def unreadable(self, problems: Mapping[str, Problem]) -> CondenseError:
        """The error that lists these files and all others that cannot be decoded to their end; decodes all of them."""
        return unreadable_files(self._root, len(self._names), self.problems() | dict(problems))


class Hdf5Pixels(PixelSource):
    """Images (N, H, W) or (N, H, W, C), uint8, in an HDF5 file; rows are read from disk on demand.

    Those of another type or order are made so by `convert`, and are of `image_shape` then.
    """

    in_files = True

    def __init__(
        self,
        rows: Rows,
        image_shape: ImageShape | None = None,
        convert: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> None:
        self._rows, self._convert = rows, convert
        _, height, width, *channels = rows.shape
        self.image_shape = image_shape or (channels[0] if channels else 1, height, width)

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, indices: Tensor) -> Tensor:
        """Read each row once, neighbours together, in the order of the file.

        Raises `CondenseError` where the file is damaged, gone or another one than it was.
        """
        if len(indices) == 0:
            return torch.empty(0, *self.image_shape, dtype=torch.uint8)
        rows, positions = indices.unique(return_inverse=True)  # ascending
        starts = (rows.diff() != 1).nonzero().flatten() + 1
        spans = [(int(run[0]), int(run[-1]) + 1) for run in rows.tensor_split(starts)]
        images = self._rows.read(*spans)
        return channels_first(images if self._convert is None else self._convert(images))[positions]


def channels_first(images: np.ndarray) -> Tensor:
    """Images (N, H, W) or (N, H, W, C) as a contiguous tensor [N, C, H, W]."""
    tensor = torch.from_numpy(images)
    return (tensor[:, None] if tensor.ndim == 3 else tensor.permute(0, 3, 1, 2)).contiguous()
