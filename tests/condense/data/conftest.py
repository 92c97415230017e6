"""Image trees and arrays that the tests of `condense.data` read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Tree = Callable[..., Path]


def _write(root: Path, counts: Mapping[str, int], size: tuple[int, int], mode: str, suffix: str, seed: int) -> Path:
    draws = np.random.default_rng(seed)
    shape = size if mode == "L" else (*size, 3)
    for folder, count in counts.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            image = Image.fromarray(draws.integers(0, 256, shape, dtype=np.uint8))
            image.save(root / folder / f"{number:03d}{suffix}", quality=95)
    return root


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Writes `counts` = {folder: images} of random images below tmp_path/pets and returns that folder."""

    def write(
        counts: Mapping[str, int],
        size: tuple[int, int] = (6, 5),
        mode: str = "RGB",
        suffix: str = ".png",
        seed: int = 0,
    ) -> Path:
        return _write(tmp_path / "pets", counts, size, mode, suffix, seed)

    return write


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    """The arrays of a valid grayscale data set: 3 classes, 12 + 6 images of 5 x 4."""
    draws = np.random.default_rng(0)
    return {
        "train_images": draws.integers(0, 256, (12, 5, 4), dtype=np.uint8),
        "train_labels": np.arange(12) % 3,
        "test_images": draws.integers(0, 256, (6, 5, 4), dtype=np.uint8),
        "test_labels": np.arange(6) % 3,
    }
