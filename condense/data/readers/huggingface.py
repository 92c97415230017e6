"""Image classification sets of the Hugging Face hub, by the package `datasets` (an extra)."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

from PIL import Image

from condense._version import DISTRIBUTION
from condense.data.images.formats import formats
from condense.data.raw import RawData, reason
from condense.data.readers.datasets import read_datasets
from condense.data.readers.folders.splits import TEST_NAMES
from condense.data.readers.items import BrokenImageError
from condense.data.reading import Reading
from condense.runtime.errors import CondenseError
from condense.runtime.limits import refuse_limits


class _Items:
    """The items of a hub split as (image, label) pairs; images are opened here, so that their headers can be seen."""

    def __init__(self, split: Any, image: str, label: str) -> None:
        import datasets

        self._split = split.cast_column(image, datasets.Image(decode=False))
        self._image, self._label = image, label
        self.classes = list(split.features[label].names)

    def __len__(self) -> int:
        return len(self._split)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        item = self._split[index]
        file = item[self._image]
        try:
            image = Image.open(io.BytesIO(file["bytes"]) if file["bytes"] else file["path"], formats=formats())
        except Exception as error:  # Pillow raises anything on damaged files
            refuse_limits(error)
            raise BrokenImageError(f"image {index} of the hub's set cannot be read: {reason(error)}") from error
        return image, item[self._label]


def read_huggingface(name: str, reading: Reading) -> RawData:
    """Read the hub's data set `name`: its first image column and its first class column.

    The training split is `train`; the test split is the first of `test`, `validation` and their like that has labels,
    or it is made. Without `reading.download` only the local cache of `datasets` is used. Raises `CondenseError` if the
    package is missing, if the set is not there, or if it is not a classification set.
    """
    splits = _load(name, download=reading.download)
    if "train" not in splits:
        raise CondenseError(f"hf:{name} has no split called train (it has: {', '.join(splits)}); condense needs one")
    image, label, notes = _columns(name, splits["train"].features)
    tests = [split for split in TEST_NAMES if split in splits]
    unlabelled = [split for split in tests if not _has_labels(splits[split], label)]
    notes += tuple(f"the split {split} of hf:{name} is not used: its images have no labels" for split in unlabelled)
    test_name = next((split for split in tests if split not in unlabelled), None)
    if test_name not in (None, "test"):
        notes += (f"the split {test_name} of hf:{name} is the test split",)
    train = _Items(splits["train"], image, label)
    test = None if test_name is None else _Items(splits[test_name], image, label)
    return read_datasets(train, test, reading, name=name.rsplit("/", 1)[-1], notes=notes)


def _has_labels(split: Any, label: str) -> bool:
    """Whether any image of a hub split has a class; those of test splits are often -1 for all."""
    return label in split.features and any(value is not None and value >= 0 for value in split.unique(label))


def _load(name: str, *, download: bool) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise CondenseError(
            f"hf:{name} needs the package datasets; install it with pip install '{DISTRIBUTION}[huggingface]'"
        ) from error
    try:
        with nullcontext() if download else _offline(datasets):
            return datasets.load_dataset(name)
    except Exception as error:  # the hub's client raises anything from ConnectionError to its own types
        way_out = "check the name and the network" if download else "give --download to fetch it"
        raise CondenseError(f"cannot load hf:{name}: {reason(error)}; {way_out}") from error


@contextmanager
def _offline(datasets: Any) -> Iterator[None]:
    """Keep `datasets` from the network: it has no argument for it, only variables that it reads when it is imported."""
    import huggingface_hub

    switches = [
        (module, switch)
        for module in (datasets.config, huggingface_hub.constants)
        for switch in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")
        if hasattr(module, switch)
    ]
    before = [getattr(module, switch) for module, switch in switches]
    try:
        for module, switch in switches:
            setattr(module, switch, True)
        yield
    finally:
        for (module, switch), value in zip(switches, before):
            setattr(module, switch, value)


def _columns(name: str, features: Mapping[str, Any]) -> tuple[str, str, tuple[str, ...]]:
    """The names of the image and of the class column, and a note where there are several."""
    import datasets

    images = [key for key, kind in features.items() if isinstance(kind, datasets.Image)]
    labels = [key for key, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    if not images or not labels:
        raise CondenseError(
            f"hf:{name} has no column of {'class labels' if images else 'images'} (it has: {_described(features)}); "
            f"{_way_out(features)}"
        )
    notes = [
        f"hf:{name} has several columns of {kind} ({', '.join(keys)}); {keys[0]} is used"
        for kind, keys in (("images", images), ("class labels", labels))
        if len(keys) > 1
    ]
    return images[0], labels[0], tuple(notes)


def _described(features: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}: {getattr(kind, 'dtype', type(kind).__name__)}" for key, kind in features.items())


def _way_out(features: Mapping[str, Any]) -> str:
    """What to do about columns of other kinds."""
    numbers = [key for key, kind in features.items() if str(getattr(kind, "dtype", "")).startswith(("int", "uint"))]
    texts = [key for key, kind in features.items() if getattr(kind, "dtype", "") == "string"]
    if numbers or texts:
        column = (numbers or texts)[0]
        return (
            f"if {column} tells the class, make it one with class_encode_column({column!r}) of the package datasets, "
            "save the set with to_parquet in a folder, and give hf:FOLDER"
        )
    return "condense needs an image classification set"
