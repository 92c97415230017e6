"""`load_data`: the one way from what a user names to `RealData`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from condense.data.catalogue import DATA_SETS, find_data_set
from condense.data.class_choice import chosen_classes, select_classes
from condense.data.fitting import choose_preprocessing
from condense.data.images.window import Window
from condense.data.info import DataInfo
from condense.data.raw import RawData, without_labels
from condense.data.readers.arrays import read_h5, read_npz
from condense.data.readers.datasets import read_datasets
from condense.data.readers.folders.folder import read_folder
from condense.data.readers.huggingface import read_huggingface
from condense.data.readers.imagenet import read_imagenet_subset
from condense.data.readers.known import read_known
from condense.data.reading import NO_LABELS, Reading
from condense.data.real import RealData, TestData, TrainingData
from condense.data.remembering import surveys_of
from condense.data.sources import LatePixels, ResizedPixels, TensorPixels
from condense.data.survey import fingerprint
from condense.runtime.errors import CondenseError, near_names
from condense.runtime.places import cache_directory

_IMBALANCE = 3.0  # above this ratio of the largest to the smallest class, people should know
_HUB = "hf:"
_ARRAY_SUFFIXES = (".npz", ".h5", ".hdf5")

Source = str | Path | Dataset[Any] | tuple[Dataset[Any], Dataset[Any]]


def load_data(
    source: Source,
    *,
    image_size: int | tuple[int, int] | None = None,
    normalization: str | None = None,
    mirror: bool | None = None,
    memory_limit: int = 4 * 2**30,
    data_root: str | Path | None = None,
    download: bool = False,
    group_by_folder: bool = False,
    labels: str | Path | None = None,
    classes: str | Path | Sequence[str] | None = None,
    skip_broken: bool = False,
    window: tuple[float, float] | None = None,
) -> RealData:
    """Load a data set by name, path or object.

    Args:
        source: a name of `condense data` (`digits`, `cifar10`, ...), `hf:NAME`, the path of a tree of class folders, of
            an `.npz` or of an `.h5`, a torch Dataset of (image, label) or of mappings that have both, or a pair of them
            (train, test). A name wins over a folder of that name here; write `./cifar10` for the folder.
        image_size: side, or (height, width), to which every image is cut and resized; needed where sizes differ.
        normalization: `computed` on the training pixels, `zca`, `none`, or a set with published constants; by default
            the published constants of a known set, what a packed file was packed with, else `computed`.
        mirror: whether a mirrored image keeps its class; by default known for named and packed sets, else true for
            RGB and false for grayscale images.
        memory_limit: bytes of decoded pixels that may live in memory; larger folders and `.h5` files are read from
            disk on demand.
        data_root: where torchvision's sets are, by default `$CONDENSE_DATA` or else a folder of condense's cache.
        download: whether a missing set may be fetched.
        group_by_folder: for class folders without a test split: the one that is made takes whole sub-folders of the
            class folders (clips, bursts, patients), so that their images are not on both sides.
        labels: for a folder of images: a table (CSV) of file names and labels, and perhaps of splits. For any data
            "none": images without labels, for which folders, arrays and Datasets need none (a table of that name is
            `./none`). Most methods need them, and say so.
        classes: those to read, in the order of their labels: names, a text with commas, a file with one a line, or a
            subset of ImageNet, such as `imagefruit`, of classes that are called by WordNet numbers.
        skip_broken: leave out images that cannot be decoded, as if they were not there; `RealData.left_out` has them.
        window: (low, high): the values that become black and white, of images with one channel of more than 8 bits.

    Raises:
        CondenseError: the source is unknown, missing, damaged or no classification set; the message says the way out.

    >>> data = load_data("digits")
    >>> data.image_shape, len(data.train), len(data.test)
    ((1, 8, 8), 1438, 359)
    """
    reading = Reading(
        data_root=Path(data_root or os.environ.get("CONDENSE_DATA") or cache_directory() / "data").expanduser(),
        image_size=_check_size(image_size),
        memory_limit=memory_limit,
        download=download,
        group_by_folder=group_by_folder,
        labels=None if labels is None or str(labels) == NO_LABELS else Path(labels).expanduser(),
        unlabelled=str(labels) == NO_LABELS,
        classes=None if classes is None else chosen_classes(classes),
        skip_broken=skip_broken,
        window=None if window is None else Window(*window),
    )
    _check_fits(source, reading)
    raw = _read(source, reading)
    raw = without_labels(raw) if reading.unlabelled else select_classes(raw, reading.classes)
    raw = _resize(raw, reading.image_size)
    data = _prepare(
        _place(raw, memory_limit), normalization, mirror, memory_limit, f"{reading.window} {reading.unlabelled}"
    )
    return replace(data, reading_options=reading.recorded(left_out=bool(raw.left_out)), left_out=raw.left_out)


def _check_size(image_size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    if image_size is None:
        return None
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    if height < 1 or width < 1:
        raise CondenseError(f"--image-size {height}x{width} must be at least 1x1, for example 32")
    return height, width


def _check_fits(source: Source, reading: Reading) -> None:
    """Raise `CondenseError` for options that such a source has no use for."""
    if reading.unlabelled and (reading.classes is not None or reading.group_by_folder):
        raise CondenseError("--labels none leaves no classes: leave --classes and --group-by-folder out")
    if reading.group_by_folder and not _is_folder(source):
        raise CondenseError("--group-by-folder is for a path of class folders; leave it out")
    if reading.labels is not None and not _is_folder(source):
        raise CondenseError("--labels is for the path of a folder of images; leave it out")
    if reading.window is not None and isinstance(source, str) and find_data_set(source) is not None:
        raise CondenseError(f"--window is for values of more than 8 bits, and {source} has 8: leave it out")


def _is_folder(source: Source) -> bool:
    named = isinstance(source, str) and (source.startswith(_HUB) or find_data_set(source) is not None)
    return isinstance(source, str | Path) and not named and os.path.isdir(Path(source).expanduser())  # noqa: PTH112


def _read(source: Source, reading: Reading) -> RawData:
    if isinstance(source, tuple | list):
        if len(source) != 2:
            raise CondenseError(f"{len(source)} data sets were given; give one torch Dataset or a pair (train, test)")
        train, test = source
        return read_datasets(train, test, reading)
    if not isinstance(source, str | Path):
        return read_datasets(source, None, reading)
    if isinstance(source, str):
        if source.startswith(_HUB):
            return read_huggingface(source.removeprefix(_HUB), reading)
        entry = find_data_set(source)
        if entry is not None:
            return read_imagenet_subset(entry, reading) if entry.imagenet_classes else read_known(entry, reading)
    return _read_path(source, reading)


def _read_path(source: str | Path, reading: Reading) -> RawData:
    path = Path(source).expanduser()
    if _is_folder(source):
        return read_folder(path, reading)
    suffix = path.suffix.lower()
    if suffix not in _ARRAY_SUFFIXES or not os.path.isfile(path):  # noqa: PTH113 (takes names that are too long)
        raise _no_data(source)
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise CondenseError(
            f"cannot read {path}: {error.strerror}; allow yourself to read it, for example with chmod u+r"
        ) from error
    return read_npz(path, reading) if suffix == ".npz" else read_h5(path, reading)


def _no_data(source: str | Path) -> CondenseError:
    try:
        Path(source).expanduser().stat()
    except PermissionError as error:
        return CondenseError(
            f"cannot look at {source}: {error.strerror}; allow yourself to enter the folders above it, for example "
            "with chmod u+x"
        )
    except (OSError, ValueError):  # absent, or no name that a file can have
        pass
    else:
        return CondenseError(
            f"{source} is neither a folder nor an .npz or .h5 file; data comes as one of these or by name"
        )
    if isinstance(source, Path) or os.sep in source or Path(source).suffix:
        return CondenseError(f"{source} does not exist; give a folder, an .npz or .h5 file, or a name of condense data")
    names = DATA_SETS.names()
    return CondenseError(
        f"unknown data set {source!r}, and no folder or file of that name (known: {', '.join(names)})"
        f"{near_names(source, names)}"
    )


def _resize(raw: RawData, size: tuple[int, int] | None) -> RawData:
    """Bring both splits to one shape: `size`, or the one they have."""
    if size is not None:
        train, test = (
            part if part.image_shape[1:] == size else ResizedPixels(part, *size) for part in (raw.train, raw.test)
        )
        same = train is raw.train and test is raw.test
        raw = replace(raw, train=train, test=test, surveys=raw.surveys if same else None)
    if raw.train.image_shape != raw.test.image_shape:
        raise CondenseError(
            f"{raw.name} has training images of (C, H, W) {raw.train.image_shape} but test images of "
            f"{raw.test.image_shape}; make them alike, or give --image-size if only the sizes differ"
        )
    return raw


def _place(raw: RawData, memory_limit: int) -> RawData:
    """Have the pixels in memory from their first use on, if they fit."""
    size = raw.train.decoded_bytes + raw.test.decoded_bytes
    if size <= memory_limit or isinstance(raw.train, TensorPixels):
        train, test = (part if isinstance(part, TensorPixels) else LatePixels(part) for part in (raw.train, raw.test))
        return replace(raw, train=train, test=test)
    note = (
        f"{raw.name} takes {size / 1e6:,.1f} MB decoded, more than the memory limit of {memory_limit / 1e6:,.1f} MB, "
        "so images are decoded whenever they are needed"
    )
    return replace(raw, notes=(*raw.notes, note))


def _prepare(raw: RawData, normalization: str | None, mirror: bool | None, memory_limit: int, values: str) -> RealData:
    """`values` says how values of files became pixels."""
    surveys = surveys_of(raw, values)
    if raw.surveys is None:  # else each image that is read is verified
        for part, surveyed in zip((raw.train, raw.test), surveys):
            if isinstance(part, LatePixels) and part.in_files:
                part.digest = surveyed.digest
    shape = raw.train.image_shape
    classes = raw.classes or ()
    known_mirror = raw.mirror if raw.mirror is not None else shape[0] == 3
    info = DataInfo(
        name=raw.name,
        classes=classes,
        image_shape=shape,
        mirror=known_mirror if mirror is None else mirror,
        fingerprint=fingerprint(classes, shape, (surveys[0], raw.train_labels), (surveys[1], raw.test_labels)),
        preprocessing=choose_preprocessing(normalization, raw.preprocessing, raw.train, surveys[0], memory_limit),
    )
    labels = (None, None) if raw.classes is None else (raw.train_labels, raw.test_labels)
    train, test = TrainingData(raw.train, labels[0], info), TestData(raw.test, labels[1], info)
    notes = _notes_on_classes(train, test) if train.labelled else ()
    return RealData(info, train, test, (*raw.notes, *notes))


def _notes_on_classes(train: TrainingData, test: TestData) -> tuple[str, ...]:
    notes = []
    classes, counts = train.info.classes, train.class_counts()
    largest, smallest = max(counts), min(counts)
    if largest > _IMBALANCE * smallest:
        notes.append(
            f"classes are unbalanced: {classes[counts.index(largest)]!r} has {largest} training images, "
            f"{classes[counts.index(smallest)]!r} has {smallest}"
        )
    missing = [name for name, count in zip(classes, test.class_counts()) if count == 0]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        notes.append(f"{len(missing)} class(es) have no test image: {', '.join(missing[:5])}{more}")
    return tuple(notes)
