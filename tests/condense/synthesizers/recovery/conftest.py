"""Noise to recover from, and the jobs of a recovery by teachers that have learned nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import condense
from condense.data import RealData
from condense.data.budget import Budget
from condense.methods.interface import Job
from condense.teachers import Committee, Teacher

Shape = tuple[int, int, int]


@pytest.fixture(scope="session")
def data_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., RealData]:
    """Makes noise of a shape in some classes, ten images of each unless told otherwise."""
    made: dict[tuple[Any, ...], RealData] = {}

    def of(shape: Shape = (3, 12, 8), classes: int = 3, each: int = 10, *, mirror: bool = True) -> RealData:
        key = (shape, classes, each, mirror)
        if key not in made:
            draws, labels = np.random.default_rng(0), np.arange(classes * each) % classes
            images = draws.integers(0, 256, (classes * each, *shape), dtype=np.uint8)
            images = images[:, 0] if shape[0] == 1 else images.transpose(0, 2, 3, 1)
            path = tmp_path_factory.mktemp("data") / "noise.npz"
            parts = {"train_images": images, "train_labels": labels}
            np.savez(path, **parts, test_images=images[:classes], test_labels=labels[:classes])
            made[key] = condense.load_data(path, mirror=mirror)
        return made[key]

    return of


@pytest.fixture(scope="session")
def job_of(untrained_teacher: Callable[..., Teacher]) -> Callable[..., Job]:
    """Makes the job of a recovery from data, by untrained networks."""

    def of(data: RealData, *networks: str, ipc: int = 1, weights: tuple[float, ...] = (), **fields: Any) -> Job:
        names = networks or ("convnet-d2-w4-bn",)
        members = tuple(untrained_teacher(data.info, name, seed) for seed, name in enumerate(names))
        here = torch.device("cpu")
        return Job(data.train, Budget(ipc=ipc), 0, here, teacher=Committee(members, weights), **fields)

    return of


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDENSE_CACHE", str(tmp_path / "cache"))
