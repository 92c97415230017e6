"""Data that travels to workers as a packed file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from condense.data import RealData, load_data
from condense.data.packing import pack
from condense.data.travelling import PackedData, read_once


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RealData:
    monkeypatch.setenv("CONDENSE_CACHE", str(tmp_path / "cache"))
    draws, labels = np.random.default_rng(0), np.repeat(np.arange(3), 4)
    images = draws.integers(0, 256, (2, 12, 8, 8), dtype=np.uint8)
    path = tmp_path / "noise.npz"
    np.savez(path, train_images=images[0], test_images=images[1], train_labels=labels, test_labels=labels)
    return load_data(path)


def whole(data: RealData) -> RealData:
    return data


def half(data: RealData) -> RealData:
    return data.holdout(0.5)


@pytest.mark.parametrize("part", [whole, half])
@pytest.mark.parametrize("streamed", [False, True])
def test_workers_read_data_from_disk_where_the_run_does(
    part: Callable[[RealData], RealData], streamed: bool, data: RealData, tmp_path: Path
):
    if streamed:
        data = load_data(pack(data, tmp_path / "noise.h5"), memory_limit=100)
    data = part(data)
    packed = PackedData.of(data)
    assert Path(packed.path).is_absolute()
    found = read_once(packed)
    assert [split.source.streamed for split in (found.train, found.test)] == [streamed] * 2
    every = torch.arange(len(data.train))
    assert torch.equal(found.train.images(every), data.train.images(every))
    assert torch.equal(found.test.labels, data.test.labels)


def test_data_is_packed_once_and_again_where_the_file_is_damaged(data: RealData):
    packed = PackedData.of(data)
    content, written = Path(packed.path).read_bytes(), Path(packed.path).stat().st_mtime_ns
    assert PackedData.of(data) == packed
    assert Path(packed.path).stat().st_mtime_ns == written
    Path(packed.path).write_bytes(content[: len(content) // 2])
    assert PackedData.of(data) == packed
    assert Path(packed.path).read_bytes() == content
