"""Image classification sets of the Hugging Face hub, by the package `datasets` (an extra)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from condense.data.datasets import read_datasets
from condense.data.raw import RawData, reason
from condense.runtime.errors import CondenseError

_TEST_SPLITS = ("test", "validation", "val", "valid")


class _Items:
    """The items of a hub split as (image, label) pairs."""

    def __init__(self, split: Any, image: str, label: str) -> None:
        self._split, self._image, self._label = split, image, label
        self.classes = list(split.features[label].names)

    def __len__(self) -> int:
        return len(self._split)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        item = self._split[index]
        return item[self._image], item[self._label]


def read_huggingface(name: str, image_size: tuple[int, int] | None, memory_limit: int, *, download: bool) -> RawData:
    """Read the hub's data set `name`: its first image column and its first class column.

    The training split is `train`; the test split is `test` or else `validation`, or it is made. Without `download` only
    the local cache of `datasets` is used. Raises `CondenseError` if the package is missing, if the set is not there, or
    if it is not a classification set.
    """
    splits = _load(name, download=download)
    if "train" not in splits:
        raise CondenseError(f"hf:{name} has no split called train (it has: {', '.join(splits)}); condense needs one")
    image, label = _columns(name, splits["train"].features)
    test_name = next((split for split in _TEST_SPLITS if split in splits), None)
    train = _Items(splits["train"], image, label)
    test = _Items(splits[test_name], image, label) if test_name else None
    return read_datasets(train, test, image_size, memory_limit, name=name.rsplit("/", 1)[-1])


def _load(name: str, *, download: bool) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise CondenseError(
            f"hf:{name} needs the package datasets; install it with pip install 'condense[huggingface]'"
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


def _columns(name: str, features: Any) -> tuple[str, str]:
    """The names of the image and of the class column."""
    import datasets

    image = next((key for key, kind in features.items() if isinstance(kind, datasets.Image)), None)
    label = next((key for key, kind in features.items() if isinstance(kind, datasets.ClassLabel)), None)
    if image is None or label is None:
        raise CondenseError(
            f"hf:{name} lacks a column of images or of classes (it has: {', '.join(features)}); "
            "condense needs an image classification set"
        )
    return image, label
