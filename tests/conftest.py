"""Tests run two at a time, each on one thread: on small shapes more threads only wait for each other."""

import os

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported; the processes that tests start inherit it


@pytest.fixture(scope="session")
def gain_over_random():
    """How much of the test images networks get right more when trained on a set than on as many random real images."""
    import condense

    scores: dict[tuple[str, int], float] = {}  # of random images, by data and images per class

    def score(synthetic, data) -> float:
        return condense.evaluate(synthetic, data, runs=2, protocol="demo").mean

    def gain(made, data) -> float:
        key = data.fingerprint, made.ipc
        if key not in scores:
            scores[key] = score(condense.distill("random", data, made.ipc), data)
        return score(made, data) - scores[key]

    return gain
