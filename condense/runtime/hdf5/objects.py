"""HDF5 files of unknown origin: what is in them is looked at before it is followed.

HDF5 follows links and storage into other files, pipes and itself, allocates whatever size a file declares, and hands
out memory that nobody wrote where stored chunks are too short. Here only hard links are followed, only to groups and to
datasets of plain numbers and texts whose bytes lie in the file itself and can hold what is declared.
"""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import h5py
import numpy as np

from condense.runtime.errors import CondenseError
from condense.runtime.hdf5.heaps import check_heaps
from condense.runtime.inputs import regular_file
from condense.runtime.limits import refuse_limits

Item: TypeAlias = h5py.Group | h5py.Dataset
Version = tuple[int, int, int]  # inode, bytes and time in nanoseconds: another one is another content

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_MOST_OBJECTS = 10_000
_MOST_ATTRIBUTES = 1_000  # of one object
_DEEPEST = 16  # groups within each other
_LARGEST_CHUNK = 256 * 2**20  # bytes
_MOST_TEXT = 2**30  # bytes of texts in one attribute, if each of them were as long as the file
_KINDS = "biufS"  # of numpy's dtypes: booleans, numbers, texts of fixed length
_GZIP, _SHUFFLE, _FLETCHER, _LZF = h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32, 32000
_FILTERS = (_GZIP, _SHUFFLE, _FLETCHER, _LZF)
_MOST_EXPANSION = 1_100  # gzip makes at most 1,032 bytes of one


@contextmanager
def open_hdf5(path: Path, wanted: str, way_out: str) -> Iterator[Hdf5File]:
    """Open an ordinary file for reading; `wanted` says what to give instead, `way_out` what to do with a damaged one.

    Raises `CondenseError` in one line for what cannot be read, and for whatever goes wrong in the block.
    """
    facts = regular_file(path, wanted)
    try:
        with path.open("rb") as file:
            start = file.read(len(_SIGNATURE))
    except OSError as error:
        raise CondenseError(f"cannot read {path}: {error.strerror or error}; give {wanted}") from error
    if start != _SIGNATURE:
        raise CondenseError(f"{path} is not an HDF5 file; give {wanted}")
    try:
        with h5py.File(path, "r") as opened:
            yield Hdf5File(opened, path, version_of(facts))
    except CondenseError:
        raise
    except Exception as error:  # over damaged bytes HDF5 and h5py raise nearly anything
        refuse_limits(error)
        raise CondenseError(f"{path} is damaged or cut short; {way_out}") from error


class Hdf5File:
    """An open file of this version; names are paths from its root (`metrics/loss`; `/` is the root)."""

    def __init__(self, file: h5py.File, path: Path, version: Version) -> None:
        self._root, self.path, self.version = file["/"], path, version
        _, self.size, _ = version
        self._heaps_checked = False

    def names(self) -> list[str]:
        """The names in the root, whatever they are links to."""
        return sorted(name.decode() for name in _links(self._root))

    def walk(self) -> Iterator[tuple[str, Item]]:
        """Every object with its path, the root first.

        Raises `CondenseError` for more than 10,000 objects, groups nested too deeply, and an object of two names.
        """
        waiting: list[tuple[str, Item]] = [("/", self._root)]
        addresses = {_address(self._root)}
        while waiting:
            name, item = waiting.pop()
            yield name, item
            for link in _links(item) if isinstance(item, h5py.Group) else ():
                below = link.decode() if name == "/" else f"{name}/{link.decode()}"
                entry = self._follow(item, link, below)
                if _address(entry) in addresses:
                    raise self._refusal(f"has {below} by another name too")
                if len(addresses) == _MOST_OBJECTS or below.count("/") == _DEEPEST:
                    raise self._refusal(f"has more than {_MOST_OBJECTS:,} objects, or {_DEEPEST} groups in each other")
                addresses.add(_address(entry))
                waiting.append((below, entry))

    def item(self, name: str) -> Item | None:
        """The object of that name, reached by hard links only; None if there is none."""
        item: Item = self._root
        for part in name.strip("/").split("/") if name != "/" else ():
            if isinstance(item, h5py.Dataset) or not item.id.links.exists(part.encode()):
                return None
            item = self._follow(item, part.encode(), name)
        return item

    def dataset(self, name: str) -> h5py.Dataset:
        """The dataset of that name; raises `CondenseError` if there is none."""
        item = self.item(name)
        if not isinstance(item, h5py.Dataset):
            raise self._refusal(f"lacks {name}" if item is None else f"has a group for {name}")
        return item

    def seen_before(self, name: str) -> h5py.Dataset:
        """A dataset that this version of the file was found to have when it was opened at an earlier time."""
        return self._root[name]

    def array(self, name: str, memory_limit: int = 0) -> np.ndarray:
        """A whole dataset; one that takes more bytes than the file must not take more than `memory_limit`."""
        dataset, most = self.dataset(name), max(memory_limit, self.size)
        if is_text(dataset.dtype):
            return np.array(list(self._texts(dataset)), object)
        if dataset.nbytes > most:
            raise self._refusal(f"declares {dataset.nbytes:,} bytes for {name}, and at most {most:,} are read")
        check_chunks(dataset)
        return np.asarray(dataset[()])

    def _texts(self, dataset: h5py.Dataset) -> Iterator[str]:
        """One text after the other: several may be the same bytes of the file, so that they have more in all."""
        self._check_heaps()
        total = 0
        for index in np.ndindex(dataset.shape):
            text = dataset.asstr(errors="surrogateescape")[index]
            total += len(text)
            if total > self.size:
                raise self._refusal(f"has more text in {dataset.name} than bytes")
            yield text

    def attributes(self, item: Item) -> dict[str, Any]:
        """All attributes of an object as plain Python values."""
        return {name: self.attribute(item, name) for name in self._attribute_names(item)}

    def attribute(self, item: Item, name: str, default: Any = None) -> Any:
        """One attribute: a text, a number, a boolean or lists of these; `default` if it is not there."""
        if not h5py.h5a.exists(item.id, name.encode()):
            return default
        attribute = h5py.h5a.open(item.id, name.encode())
        texts = is_text(attribute.dtype)
        if texts:
            self._check_heaps()
        if attribute.get_space().get_simple_extent_type() == h5py.h5s.NULL or not (texts or _is_plain(attribute.dtype)):
            raise self._refusal(f"has an attribute {name} that is neither numbers nor text")
        count = math.prod(attribute.shape)
        if count * attribute.dtype.itemsize > self.size or (texts and (count - 1) * self.size > _MOST_TEXT):
            raise self._refusal(f"declares more for its attribute {name} than it can hold")
        return plain_value(item.attrs[name])

    def _check_heaps(self) -> None:
        if not self._heaps_checked:
            check_heaps(self.path, self.size)
            self._heaps_checked = True

    def _attribute_names(self, item: Item) -> list[str]:
        if h5py.h5a.get_num_attrs(item.id) > _MOST_ATTRIBUTES:
            raise self._refusal(f"has more than {_MOST_ATTRIBUTES:,} attributes")
        return list(item.attrs)

    def _follow(self, group: h5py.Group, link: bytes, name: str) -> Item:
        """What a hard link leads to: a group or a dataset that can be read."""
        if group.id.links.get_info(link).type != h5py.h5l.TYPE_HARD:
            raise self._refusal(f"has a link for {name} that leads elsewhere, and only hard links are followed")
        opened = h5py.h5o.open(group.id, link)
        if isinstance(opened, h5py.h5g.GroupID):
            return h5py.Group(opened)
        if not isinstance(opened, h5py.h5d.DatasetID):
            raise self._refusal(f"has {name}, which is neither a group nor a dataset")
        self._check_storage(opened, name)
        return h5py.Dataset(opened)

    def _check_storage(self, dataset: h5py.h5d.DatasetID, name: str) -> None:
        """Raise `CondenseError` unless the bytes of a dataset lie in this file and can hold what it declares."""
        plan = dataset.get_create_plist()
        layout = plan.get_layout()
        if layout not in (h5py.h5d.COMPACT, h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED) or plan.get_external_count():
            raise self._refusal(f"keeps {name} in other files or datasets")
        if not (_is_plain(dataset.dtype) or is_text(dataset.dtype)):
            raise self._refusal(f"has {name}, which is neither numbers nor text")
        if dataset.get_space().get_simple_extent_type() == h5py.h5s.NULL:
            raise self._refusal(f"has nothing in {name}")
        declared, stored = math.prod(dataset.shape) * dataset.dtype.itemsize, dataset.get_storage_size()
        end, most = 0, stored
        if layout == h5py.h5d.CHUNKED and declared:
            filters = _filters(plan)
            self._check_chunks(dataset, name, plan.get_chunk(), filters)
            most *= _MOST_EXPANSION if {_GZIP, _LZF} & filters.keys() else 1
        elif layout == h5py.h5d.CONTIGUOUS and declared and stored:
            end = dataset.get_offset() + declared
        if stored > self.size or end > self.size or declared > most:
            raise self._refusal(f"declares {declared:,} bytes for {name}, which its {stored:,} stored ones cannot hold")

    def _check_chunks(
        self, dataset: h5py.h5d.DatasetID, name: str, chunk: tuple[int, ...], filters: dict[int, tuple[int, ...]]
    ) -> None:
        """Raise `CondenseError` unless all chunks are stored, are small enough to be read, and have known filters."""
        if not filters.keys() <= set(_FILTERS) or {_GZIP, _LZF} <= filters.keys():
            raise self._refusal(f"has {name} compressed in a way that is not read; use gzip, or no compression")
        size = math.prod(chunk) * dataset.dtype.itemsize
        if size > _LARGEST_CHUNK or (_LZF in filters and filters[_LZF][2:3] != (size,)):
            raise self._refusal(
                f"has {name} in chunks of {size:,} bytes, and at most {_LARGEST_CHUNK:,} are read at once"
            )
        if dataset.get_num_chunks() != math.prod(-(-side // step) for side, step in zip(dataset.shape, chunk)):
            raise self._refusal(f"declares more of {name} than it has stored")

    def _refusal(self, what: str) -> CondenseError:
        return CondenseError(f"{self.path} {what}; copy it again, or make a new one")


def version_of(facts: os.stat_result) -> Version:
    """What changes when a file is replaced or written to."""
    return facts.st_ino, facts.st_size, facts.st_mtime_ns


def is_text(dtype: np.dtype) -> bool:
    """Whether values are texts of variable length."""
    text = h5py.check_string_dtype(dtype)
    return text is not None and text.length is None


def check_chunks(dataset: h5py.Dataset, start: int = 0, stop: int | None = None) -> None:
    """Raise `ValueError` unless each chunk of these rows is as long as it should be once it is unpacked.

    HDF5 unpacks to any length, and reads beyond the end of what is too short.
    """
    if dataset.chunks is None or not dataset.size:
        return
    size = math.prod(dataset.chunks) * dataset.dtype.itemsize
    filters = _filters(dataset.id.get_create_plist())
    if not filters:
        return  # then nothing else says how long a chunk is
    for place in dataset.iter_chunks((slice(start, stop), *[slice(None)] * (dataset.ndim - 1))):
        corner = tuple(part.start // step * step for part, step in zip(place, dataset.chunks))
        skipped, content = dataset.id.read_direct_chunk(corner)
        used = [name for index, name in enumerate(filters) if not skipped >> index & 1]
        if _GZIP in used:
            length = len(zlib.decompressobj().decompress(content, size + 1))
        elif _LZF in used:
            continue  # its filter makes neither more nor less
        else:
            length = len(content) - (4 if _FLETCHER in used else 0)
        if length != size:
            raise ValueError(f"a chunk of {length} bytes instead of {size}")


def _filters(plan: h5py.h5p.PropDCID) -> dict[int, tuple[int, ...]]:
    """The filters of a dataset with their parameters, in the order of writing."""
    entries = [plan.get_filter(index) for index in range(plan.get_nfilters())]
    if len({entry[0] for entry in entries}) < len(entries):
        raise ValueError("a filter is used twice")
    return {entry[0]: tuple(entry[2]) for entry in entries}


def _links(group: h5py.Group) -> list[bytes]:
    if len(group.id) > _MOST_OBJECTS:
        raise ValueError("too many objects in a group")
    return list(group.id)


def _address(item: Item) -> int:
    return int(h5py.h5o.get_info(item.id).addr)


def _is_plain(dtype: np.dtype) -> bool:
    return dtype.kind in _KINDS and dtype.subdtype is None


def plain_value(value: Any) -> Any:
    """An attribute's value as plain Python: texts, numbers, booleans, lists."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list):
        return [plain_value(entry) for entry in value]
    return value.decode() if isinstance(value, bytes) else value
