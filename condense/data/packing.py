"""Real data once decoded, in one HDF5 file that is read fast and can be larger than memory."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from condense.data.real import RealData, Split
from condense.runtime.files import atomic_write


def pack(data: RealData, path: str | Path) -> Path:
    """Write both splits of `data` to the `.h5` file `path`, atomically, and return the path.

    The file holds `train_images` and `test_images` (N, H, W) or (N, H, W, 3) uint8, `train_labels` and `test_labels`
    int64 (N,), `classes`, and the name, the mirror property and the preprocessing. `load_data` reads it back with the
    same fingerprint. Images pass through memory in pieces of about 16 MB. Raises `CondenseError` where the file cannot
    be written.
    """
    with atomic_write(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["name"] = data.name
        file.attrs["mirror"] = data.mirror
        file.create_dataset("classes", data=list(data.classes), dtype=h5py.string_dtype())
        _write_split(file, "train", data.train)
        _write_split(file, "test", data.test)
        preprocessing = file.create_group("preprocessing")
        preprocessing.attrs["kind"] = data.preprocessing.kind
        for key, array in data.preprocessing.to_arrays().items():
            preprocessing[key] = array
    return Path(path)


def _write_split(file: h5py.File, name: str, split: Split) -> None:
    channels, height, width = split.source.image_shape
    shape = (len(split), height, width) if channels == 1 else (len(split), height, width, channels)
    # Contiguous and uncompressed: one image is then one read, at any place in the file.
    images = file.create_dataset(f"{name}_images", shape, np.uint8)
    filled = 0
    for chunk in split.source.chunks():
        images[filled : filled + len(chunk)] = chunk.permute(0, 2, 3, 1).numpy().reshape(-1, *shape[1:])
        filled += len(chunk)
    file[f"{name}_labels"] = split.labels.numpy()
