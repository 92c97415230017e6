"""Real data once decoded, in one HDF5 file that is read fast and can be larger than memory; see `docs/format.md`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from condense.data.real import RealData, Split
from condense.data.survey import Surveyor
from condense.runtime.hdf5.reader import Contents
from condense.runtime.hdf5.writer import Pieces, fixed_length, write_contents

KIND = "condense packed data"
SCHEMA = 1


def pack(data: RealData, path: str | Path) -> Path:
    """Write both splits of `data` to the `.h5` file `path`, atomically, and return the path.

    The file holds `train_images` and `test_images` (N, H, W) or (N, H, W, 3) uint8, `train_labels` and `test_labels`
    int64 (N,), `classes`, the name, the mirror property and the preprocessing, and the survey of both splits.
    `load_data` reads it back with the same fingerprint. Images pass through memory in pieces of about 16 MB. Raises
    `CondenseError` where the file cannot be written.
    """
    splits: dict[str, Split] = {"train": data.train, "test": data.test}
    arrays = {"classes": fixed_length(list(data.classes))}
    rows = {}
    for name, split in splits.items():
        surveyor, digest = Surveyor(data.image_shape[0]), np.zeros(16, np.uint8)
        arrays |= {f"{name}_labels": split.labels.numpy()}
        arrays |= {f"survey/{name}_digest": digest, f"survey/{name}_histogram": surveyor.histogram}
        rows[f"{name}_images"] = _images(split, surveyor, digest)
    arrays |= {f"preprocessing/{key}": array for key, array in data.preprocessing.to_arrays().items()}
    attributes: dict[str, dict[str, Any]] = {
        "/": {"name": data.name, "mirror": data.mirror},
        "preprocessing": {"kind": data.preprocessing.kind},
    }
    write_contents(path, Contents(arrays, attributes), kind=KIND, schema=SCHEMA, rows=rows)
    return Path(path)


def _images(split: Split, surveyor: Surveyor, digest: np.ndarray) -> Pieces:
    """The images of a split; what they are surveyed to is complete when they have all been taken."""
    channels, height, width = split.source.image_shape
    shape = (height, width) if channels == 1 else (height, width, channels)

    def pieces() -> Iterator[np.ndarray]:
        for chunk in split.source.chunks():
            surveyor.add(chunk)
            yield chunk.permute(0, 2, 3, 1).numpy().reshape(-1, *shape)
        digest[:] = np.frombuffer(surveyor.digest, np.uint8)

    return Pieces((len(split), *shape), np.dtype(np.uint8), pieces())
