"""Data sets that are found by name: scikit-learn's digits, torchvision's sets, and IDX files of Linux packages."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from condense.data.catalogue import KnownSet
from condense.data.preprocessing import Normalization
from condense.data.raw import RawData, reason, split_off_test
from condense.data.readers.idx import read_idx
from condense.data.reading import Reading
from condense.data.remembering import remembered_keys
from condense.data.sources import TensorPixels, channels_first
from condense.data.splitting import content_keys
from condense.runtime.errors import CondenseError
from condense.runtime.registry import load_object


def read_known(entry: KnownSet, reading: Reading) -> RawData:
    """Read a set of the catalogue; torchvision's are looked for in `reading.data_root` and its folder NAME.

    Raises `CondenseError` if it is not there and may not be downloaded, or if the download fails.
    """
    raw: RawData = load_object(entry.target)(entry, reading)
    return raw


def read_digits(entry: KnownSet, reading: Reading) -> RawData:
    """The 8x8 digits inside scikit-learn, their 17 grey levels spread over 0..255; needs neither folder nor network.

    They have no official test split: 20 % of every class become one, chosen by content.
    """
    import sklearn.datasets

    digits = sklearn.datasets.load_digits()
    files = (Path(sklearn.datasets.__file__).parent / "data" / "digits.csv.gz",)
    pixels = TensorPixels(channels_first(np.round(digits.images * (255 / 16)).astype(np.uint8)))
    labels = torch.from_numpy(digits.target.astype(np.int64))
    classes = tuple(str(name) for name in digits.target_names)
    keys = remembered_keys(files, lambda: content_keys(pixels))
    return replace(split_off_test(entry.name, classes, pixels, labels, keys, mirror=entry.mirror), files=files)


def read_torchvision(entry: KnownSet, reading: Reading) -> RawData:
    """A set of `torchvision.datasets`, or the same set as IDX files in a folder of the system."""
    data_root = reading.data_root
    dataset_class = load_object(f"torchvision.datasets:{entry.torchvision}")
    places = [data_root, data_root / entry.name]
    for place in places:
        found = _open(dataset_class, entry, place)
        if found is not None:
            return _from_torchvision(entry, place, *found)
    if entry.system_folder:
        places.append(Path(entry.system_folder))
        if places[-1].is_dir():
            return _from_idx(entry, places[-1], tuple(dataset_class.classes))
    if reading.download:
        return _from_torchvision(entry, data_root, *_download(dataset_class, entry, data_root))
    raise CondenseError(
        f"{entry.name} is not, or not complete, in {', '.join(map(str, places))}; give --download to fetch it into the "
        "first, or the --data-root (or $CONDENSE_DATA) under which torchvision has put it"
    )


def _open(dataset_class: Any, entry: KnownSet, root: Path) -> tuple[Any, Any] | None:
    """torchvision's two splits below `root`; None if they are not there."""
    try:
        return _splits(dataset_class, entry, root, download=False)
    except (RuntimeError, FileNotFoundError, NotADirectoryError):  # how torchvision says that files are missing
        return None
    except Exception as error:  # its readers raise anything on damaged files
        raise CondenseError(
            f"torchvision cannot read {entry.name} in {root} ({reason(error)}); delete its files and give --download"
        ) from error


def _download(dataset_class: Any, entry: KnownSet, root: Path) -> tuple[Any, Any]:
    try:
        return _splits(dataset_class, entry, root, download=True)
    except Exception as error:  # of the network, of the disk, or of torchvision
        raise CondenseError(
            f"torchvision cannot download {entry.name} to {root} ({reason(error)}); check the network and the folder"
        ) from error


def _splits(dataset_class: Any, entry: KnownSet, root: Path, *, download: bool) -> tuple[Any, Any]:
    train = dataset_class(str(root), download=download, **entry.train_arguments)
    return train, dataset_class(str(root), download=download, **entry.test_arguments)


def _from_torchvision(entry: KnownSet, root: Path, train: Any, test: Any) -> RawData:
    train_labels, test_labels = (
        torch.as_tensor(np.asarray(split.labels if hasattr(split, "labels") else split.targets), dtype=torch.int64)
        for split in (train, test)
    )
    names = getattr(train, "classes", None) or range(int(train_labels.max()) + 1)
    classes = tuple(str(name) for name in names)
    files = tuple(sorted(path for path in root.glob(entry.files) if path.is_file()))
    return _raw(entry, classes, _pixels(train.data), train_labels, _pixels(test.data), test_labels, files)


def _pixels(data: Any) -> Tensor:
    """What torchvision keeps in `.data`, (N, H, W), (N, H, W, 3) or (N, 3, H, W), as [N, C, H, W]."""
    array = np.ascontiguousarray(data)
    return torch.from_numpy(array) if array.ndim == 4 and array.shape[1] == 3 else channels_first(array)


def _from_idx(entry: KnownSet, folder: Path, classes: tuple[str, ...]) -> RawData:
    files = tuple(
        folder / f"{part}-{content}-ubyte.gz"
        for part in ("train", "t10k")
        for content in ("images-idx3", "labels-idx1")
    )
    train, train_labels, test, test_labels = map(read_idx, files)
    return _raw(
        entry,
        classes,
        channels_first(train),
        torch.from_numpy(train_labels).to(torch.int64),
        channels_first(test),
        torch.from_numpy(test_labels).to(torch.int64),
        files,
    )


def _raw(
    entry: KnownSet,
    classes: tuple[str, ...],
    train: Tensor,
    train_labels: Tensor,
    test: Tensor,
    test_labels: Tensor,
    files: tuple[Path, ...],
) -> RawData:
    constants = entry.constants
    return RawData(
        entry.name,
        classes,
        TensorPixels(train),
        train_labels,
        TensorPixels(test),
        test_labels,
        mirror=entry.mirror,
        preprocessing=Normalization(constants.mean, constants.std) if constants else None,
        files=files,
    )
