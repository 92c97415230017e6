"""What tests of several methods share."""

from __future__ import annotations

import numpy as np
import pytest

import condense
from condense.data import RealData


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> RealData:
    """Sixty images in three classes of different brightness, which may be mirrored."""
    draws, labels = np.random.default_rng(0), np.arange(60) % 3
    path = tmp_path_factory.mktemp("data") / "small.npz"
    images = (draws.integers(0, 128, (60, 8, 8)) + 50 * labels[:, None, None]).astype(np.uint8)
    np.savez(path, train_images=images, train_labels=labels, test_images=images[:9], test_labels=labels[:9])
    return condense.load_data(path, mirror=True)
