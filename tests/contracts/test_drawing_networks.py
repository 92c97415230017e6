"""Every method that learns images in networks, in one with dropout: killed or not, one seed gives one set.

Teachers are asked in evaluation mode, in which nothing is drawn.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import condense
from buffers import ExpertBuffer, record_experts
from condense.methods.registry import methods
from condense.networks.layers import InstanceNorm
from condense.runtime.errors import CondenseError
from condense.runtime.global_draws import global_generators, global_states
from condense.runtime.registry import load_object

MAKERS = {name: load_object(methods().find(name).target) for name in methods().names()}
LEARNED = [name for name, maker in MAKERS.items() if hasattr(maker, "step") and not methods().find(name).teacher]
QUICK = {"real_batch": 4, "iterations": 3, "networks": 2, "network_epochs": 1, "network_images": 8, "network_steps": 1}
QUICK |= {"network_batch": 8, "frequencies": 8, "inner_steps": 3, "max_start": 2, "span": 1, "skip_above": 1e9}
QUICK |= {"matching_steps": 2, "inner_epochs": 1}


def dropping(image_shape: tuple[int, int, int], classes: int) -> nn.Module:
    block = [nn.Conv2d(image_shape[0], 4, 3, padding=1), InstanceNorm(4), nn.ReLU(), nn.Dropout(0.5), nn.AvgPool2d(2)]
    return nn.Sequential(*block, nn.Flatten(), nn.Linear(4 * (image_shape[1] // 2) * (image_shape[2] // 2), classes))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    draws = np.random.default_rng(0)
    labels = np.arange(30) % 3
    images = draws.integers(0, 256, (30, 8, 8), dtype=np.uint8)
    path = tmp_path_factory.mktemp("data") / "noise.npz"
    np.savez(path, train_images=images, train_labels=labels, test_images=images[:9], test_labels=labels[:9])
    return condense.load_data(path)


def buffer_of(data, folder: Path, optimizer: str = "sgd") -> ExpertBuffer:
    record_experts(data, dropping, experts=2, epochs=3, out=folder, optimizer=optimizer)
    return ExpertBuffer.open(folder)


@pytest.fixture(scope="module")
def buffer(data, tmp_path_factory) -> ExpertBuffer:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONDENSE_CACHE", str(tmp_path_factory.mktemp("cache")))
        return buffer_of(data, tmp_path_factory.mktemp("experts") / "buffer")


@pytest.mark.parametrize("method", LEARNED)
def test_sets_depend_on_the_seed_alone(method: str, data, buffer, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("CONDENSE_CACHE", str(tmp_path / "cache"))
    maker = load_object(methods().find(method).target)
    options = {name: value for name, value in QUICK.items() if name in maker.Settings.model_fields}
    options |= {"buffer": buffer, "network": dropping} if methods().find(method).experts else {"network": dropping}
    before = global_states()
    if method == "datadam":  # which reads maps after activations
        with pytest.raises(CondenseError, match="has no maps to be read; give a convnet"):
            condense.distill(method, data, ipc=1, **options)
        return
    condense.distill(method, data, ipc=1, out=tmp_path / "whole.h5", **options)
    step = maker.step

    def stop_halfway(self, iteration: int):
        if iteration == 1:
            raise InterruptedError
        return step(self, iteration)

    monkeypatch.setattr("condense.methods.checkpoints.MOST_SECONDS_LOST", 0.0)
    monkeypatch.setattr("condense.methods.checkpoints.LARGEST_COST", 1e9)
    monkeypatch.setattr(maker, "step", stop_halfway)
    with pytest.raises(InterruptedError):
        condense.distill(method, data, ipc=1, out=tmp_path / "pieces.h5", **options)
    monkeypatch.setattr(maker, "step", step)
    with global_generators(99):  # whose state does not matter
        condense.distill(method, data, ipc=1, out=tmp_path / "pieces.h5", **options)
    assert (tmp_path / "pieces.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()
    assert global_states() == before


@pytest.mark.parametrize("method", ["herding", "kmeans"])
def test_selections_by_their_features_too(method: str, data, tmp_path: Path, monkeypatch):
    chosen = []
    for attempt in ("one", "two"):
        monkeypatch.setenv("CONDENSE_CACHE", str(tmp_path / attempt))
        chosen.append(condense.distill(method, data, ipc=1, network=dropping, features="trained").stored)
    assert torch.equal(*chosen)


@pytest.mark.parametrize("kind", ["sgd", "flat", "smooth"])
def test_experts_depend_on_the_seed_alone(kind: str, data, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("CONDENSE_CACHE", str(tmp_path / "cache"))
    before = global_states()
    vectors = [buffer_of(data, tmp_path / name, kind).snapshot(1, 3) for name in ("one", "two")]
    assert torch.equal(*vectors)
    assert global_states() == before
    with pytest.raises(CondenseError, match="draws random numbers while it is trained"):
        record_experts(data, dropping, experts=1, epochs=1, out=tmp_path / "fast", compile="on")
