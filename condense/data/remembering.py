"""What reading all images of a data set gave, kept in the cache folder, so that the next command need not read them.

It is found again for the same files, by path, size, time and inode of each, under the same code and libraries. Where
the cache cannot be read or written, everything is read again.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from condense.data.images.unreadable import PROBLEMS, Problem
from condense.data.raw import RawData
from condense.data.survey import Survey, survey
from condense.runtime.errors import CondenseError
from condense.runtime.files import cached_file
from condense.runtime.tensor_files import load_if_whole, save_tensors

Arrays = dict[str, np.ndarray]

_SPLITS = ("train", "test")
_LIBRARIES = ("numpy", "pillow", "torch", "torchvision", "scikit-learn")  # those that decode


def surveys_of(raw: RawData, values: str = "") -> tuple[Survey, Survey]:
    """The surveys of training and test images: those that the source vouches for, remembered ones, or new ones.

    `values` says how values of files became pixels, where somebody decided that.
    """
    if raw.surveys is not None:
        return raw.surveys

    def compute() -> Arrays:
        arrays = {}
        for part, source in zip(_SPLITS, (raw.train, raw.test)):
            surveyed = survey(source)
            arrays[f"{part}_digest"] = np.frombuffer(surveyed.digest, np.uint8).copy()
            arrays[f"{part}_histogram"] = surveyed.histogram
        return arrays

    arrays = _remembered("survey", raw.files, f"{raw.train.arrangement}; {raw.test.arrangement}; {values}", compute)
    train, test = (Survey(arrays[f"{part}_digest"].tobytes(), arrays[f"{part}_histogram"]) for part in _SPLITS)
    return train, test


def remembered_keys(files: Sequence[Path], compute: Callable[[], list[bytes]]) -> list[bytes]:
    """The keys of 16 bytes, one an image, by which the images of `files` are split; see `condense.data.splitting`."""

    def as_array() -> Arrays:
        return {"keys": np.frombuffer(b"".join(compute()), np.uint8).reshape(-1, 16).copy()}

    return [key.tobytes() for key in _remembered("keys", files, "", as_array)["keys"]]


def remembered_problems(
    root: Path, names: Sequence[str], limit: str, compute: Callable[[], dict[str, Problem]]
) -> dict[str, Problem]:
    """Those of the files `names` below `root` that cannot be decoded under this `limit`; `compute` tries them all."""

    kinds: tuple[Problem | None, ...] = (None, *PROBLEMS)

    def as_array() -> Arrays:
        problems = compute()
        return {"kinds": np.array([kinds.index(problems.get(name)) for name in names], np.uint8)}

    arrays = _remembered("problems", [root / name for name in names], limit, as_array)
    by_name = zip(names, (kinds[number] for number in arrays["kinds"].tolist()))
    return {name: problem for name, problem in by_name if problem is not None}


def _remembered(kind: str, files: Sequence[Path], arrangement: str, compute: Callable[[], Arrays]) -> Arrays:
    """What `compute` gives, which depends on these files and on how they are arranged; none: on more than files."""
    state = _state_of(files)
    if state is None:
        return compute()
    kept = cached_file("read", kind, state, arrangement, _revision())
    known = load_if_whole(kept)
    if known is not None:
        return {name: values.numpy() for name, values in known[0].items()}
    arrays = compute()
    if _state_of(files) == state:  # else they were changed in between
        with suppress(CondenseError):  # it can be made again
            save_tensors(kept, {name: torch.from_numpy(values) for name, values in arrays.items()}, {})
    return arrays


def _state_of(files: Sequence[Path]) -> str | None:
    """A digest of what the system says of the files; None for no files, and where one of them is gone."""
    digest = hashlib.blake2b(digest_size=16)
    try:
        for path in files:
            facts = path.stat()
            digest.update(f"{facts.st_size} {facts.st_mtime_ns} {facts.st_ino} ".encode())
            digest.update(os.fsencode(path.absolute()) + b"\0")
    except OSError:
        return None
    return digest.hexdigest() if files else None


@functools.cache
def _revision() -> str:
    """A digest of the code that reads data and of the versions of the libraries that decode it."""
    digest = hashlib.blake2b(" ".join(map(version, _LIBRARIES)).encode(), digest_size=16)
    for module in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(module.read_bytes())
    return digest.hexdigest()
