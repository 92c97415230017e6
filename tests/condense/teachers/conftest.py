"""Data that is quickly trained on, and a small teacher of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import condense
from condense.data import RealData
from condense.teachers import Teacher
from condense.teachers.training import train_teacher

NET = "convnet-d2-w4-bn"


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDENSE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> RealData:
    """Noise around an image of each of three classes, 8x8 pixels of one channel."""
    path = tmp_path_factory.mktemp("data") / "noise.npz"
    draws = np.random.default_rng(0)
    labels = np.arange(90) % 3
    images = draws.integers(0, 128, (90, 8, 8)) + 127 * draws.integers(0, 2, (3, 8, 8))[labels]
    images = images.astype(np.uint8)
    np.savez(path, train_images=images, train_labels=labels, test_images=images[:9], test_labels=labels[:9])
    return condense.load_data(path)


@pytest.fixture(scope="session")
def teacher(data: RealData) -> Teacher:
    return train_teacher(data, NET, epochs=1, lr=0.01, batch_size=32)
