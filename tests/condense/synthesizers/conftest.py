"""What tests of several methods share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import condense
from condense.data import RealData
from condense.evaluation.protocols import PROTOCOLS
from condense.sets.synthetic_set import SyntheticSet


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> RealData:
    """Sixty images in three classes of different brightness, which may be mirrored."""
    draws, labels = np.random.default_rng(0), np.arange(60) % 3
    path = tmp_path_factory.mktemp("data") / "small.npz"
    images = (draws.integers(0, 128, (60, 8, 8)) + 50 * labels[:, None, None]).astype(np.uint8)
    np.savez(path, train_images=images, train_labels=labels, test_images=images[:9], test_labels=labels[:9])
    return condense.load_data(path, mirror=True)


@pytest.fixture(scope="session")
def regression_gain() -> Callable[[SyntheticSet, RealData], float]:
    """How much more small networks get right than on random images, by 150 fast updates of the regression protocol."""
    protocol = PROTOCOLS.find("desk-regression")
    rule = protocol.rule.model_copy(update={"lr": 3e-3, "updates": 150, "more_updates": None, "warmup": 75})
    short = protocol.model_copy(update={"name": "short-regression", "rule": rule})

    def score(made: SyntheticSet, data: RealData) -> float:
        return condense.evaluate(made, data, nets=("convnet-w16",), runs=2, protocol=short).results[0].mean

    return lambda made, data: score(made, data) - score(condense.distill("random", data, made.ipc), data)
