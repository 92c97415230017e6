"""What a GPU must do as processors do it; skipped where there is none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import condense
from buffers import ExpertBuffer, record_experts
from condense.compute.engine import Engine
from condense.compute.plan import Plan
from condense.methods.registry import methods
from condense.networks import build_network
from condense.runtime.registry import load_object
from condense.unroll import trajectory_gradient

HERE = torch.cuda.is_available()
gpu = [pytest.mark.gpu, pytest.mark.skipif(not HERE, reason="no GPU is here")]
ROOT = Path(__file__).parents[2]
EXACT = {"precision": "float32", "compile": "off"}
QUICK = {
    "network": "convnet-d2-w8",
    "features": "random",
    "real_batch": 8,
    "iterations": 3,
    "networks": 1,
    "network_epochs": 1,
    "network_images": 16,
    "network_steps": 1,
    "network_batch": 16,
    "frequencies": 32,
    "inner_steps": 4,
    "max_start": 2,
    "span": 1,
    "skip_above": 1e9,
}


@pytest.mark.skipif(HERE, reason="a GPU is here")
def test_the_script_says_that_there_is_no_gpu_and_ends_well(tmp_path: Path):
    ended = subprocess.run(
        ["bash", ROOT / "benchmarks" / "gpu.sh", tmp_path / "out"], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (0, "no GPU is here: nothing to check\n")
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    draws = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("data") / "own.npz"
    labels = np.arange(90) % 3
    images = (draws.integers(0, 128, (90, 16, 16)) + 60 * labels[:, None, None]).astype(np.uint8)
    np.savez(path, train_images=images, train_labels=labels, test_images=images[:30], test_labels=labels[:30])
    return condense.load_data(path)


@pytest.fixture(scope="module")
def buffer(data, tmp_path_factory) -> ExpertBuffer:
    folder = tmp_path_factory.mktemp("experts") / "buffer"
    record_experts(data, "convnet-d2-w8", experts=2, epochs=2, out=folder, device="cuda")
    return ExpertBuffer.open(folder)


def near(left: torch.Tensor, right: torch.Tensor, share: float) -> bool:
    return bool((left.cpu() - right.cpu()).norm() <= share * right.cpu().norm())


class TestOnAGpu:
    pytestmark = gpu

    def test_the_engine_gives_the_same_features_and_gradients(self):
        results = []
        for name in ("cpu", "cuda"):
            network = build_network("convnet-d2-w8", (1, 16, 16), 3, seed=0).to(name)
            engine = Engine(network, Plan(device=name))
            parameters = {key: value.detach() for key, value in network.named_parameters()}
            images = torch.linspace(-1, 1, 12 * 256).view(12, 1, 16, 16).to(name).requires_grad_()
            features = engine.features(parameters, images)
            (gradient,) = torch.autograd.grad(features.square().sum(), images)
            results.append((features.detach(), gradient))
        assert near(results[1][0], results[0][0], 1e-3)
        assert near(results[1][1], results[0][1], 1e-2)

    @pytest.mark.parametrize("mode", ["adjoint", "unrolled", "frozen"])
    def test_trajectories_have_the_same_gradient(self, mode: str):
        found = []
        for name in ("cpu", "cuda"):
            network = build_network("convnet-d2-w8", (1, 16, 16), 3, seed=0).to(name, torch.float64)
            size = sum(value.numel() for value in network.parameters())
            start, target = (torch.randn(size, generator=torch.Generator().manual_seed(n)) / 10 for n in (1, 2))
            images = torch.linspace(-1, 1, 6 * 256, dtype=torch.float64).view(6, 1, 16, 16)
            labels = torch.arange(6) % 3
            inputs = [value.to(name, torch.float64) for value in (start, target, images)]
            found.append(trajectory_gradient(network, *inputs, labels.to(name), 0.01, steps=3, mode=mode))
        assert near(found[1].images, found[0].images, 1e-6)
        assert near(found[1].inner_lr, found[0].inner_lr, 1e-6)

    @pytest.mark.parametrize("method", methods().names())
    def test_every_method_makes_nearly_the_set_of_the_processor(self, method: str, data, buffer):
        entry = methods().find(method)
        fields = load_object(entry.target).Settings.model_fields
        options = {name: value for name, value in QUICK.items() if name in fields}
        if entry.experts:
            options["buffer"] = buffer
        sets = [condense.distill(method, data, 2, device=name, **EXACT, **options) for name in ("cpu", "cuda")]
        assert near(sets[1].stored.float(), sets[0].stored.float(), 0.05)

    def test_a_killed_run_goes_on_to_nearly_the_same_set(self, tmp_path: Path):
        line = "distill dm --data digits --ipc 2 --network convnet-d2-w8 --real-batch 8 --iterations 600 --device cuda"
        command = [
            sys.executable,
            "-m",
            "condense",
            *line.split(),
            "--precision",
            "float32",
            "--compile",
            "off",
            "--out",
        ]
        subprocess.run([*command, tmp_path / "whole.h5"], check=True, cwd=ROOT)
        killed = subprocess.Popen([*command, tmp_path / "killed.h5"], cwd=ROOT)
        while not (tmp_path / "killed.h5.checkpoint.safetensors").exists():
            assert killed.poll() is None
        killed.kill()
        killed.wait()
        ended = subprocess.run([*command, tmp_path / "killed.h5"], capture_output=True, text=True, check=True, cwd=ROOT)
        assert "going on at iteration" in ended.stderr
        whole, again = (condense.SyntheticSet.load(tmp_path / f"{name}.h5") for name in ("whole", "killed"))
        assert whole.provenance["configuration"]["plan"]["device"] == "cuda"
        assert near(again.stored, whole.stored, 0.05)

    @pytest.mark.parametrize("precision", ["float32", "bfloat16"])
    @pytest.mark.parametrize("compile", ["off", "on"])
    def test_a_run_ends_in_every_plan(self, precision: str, compile: str, data):
        made = condense.distill(
            "dm", data, 2, iterations=3, network="convnet-d2-w8", real_batch=8, device="cuda",
            precision=precision, compile=compile,
        )  # fmt: skip
        assert torch.isfinite(made.stored).all()

    def test_evaluation_is_as_good_as_on_the_processor(self, data):
        made = condense.distill("random", data, 5)
        scores = [condense.evaluate(made, data, protocol="demo", runs=2, device=name).mean for name in ("cpu", "cuda")]
        assert scores[1] == pytest.approx(scores[0], abs=0.1)
        assert scores[1] > 0.6
