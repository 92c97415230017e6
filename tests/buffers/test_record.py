"""Recording experts: bits that depend on nothing but the request, kills, buffers of another kind."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import condense
from buffers import ExpertBuffer, ExpertRule, record_experts
from buffers.experts import ExpertJob
from buffers.steps import adaptive_ascent, flat_direction, image_gradient_penalty
from condense.data import RealData, TestData, TrainingData, pack
from condense.networks import build_network
from condense.runtime.errors import CondenseError
from condense.runtime.executors import InProcess, Ray
from condense.runtime.locks import only_one
from condense.runtime.seeds import derive_seed
from condense.runtime.subprocesses import Subprocesses

NET = "convnet-d2-w4"


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CONDENSE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Noise, but quickly trained on."""
    draws = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("data") / "noise.npz"
    labels = np.arange(60) % 3
    images = draws.integers(0, 256, (60, 8, 8), dtype=np.uint8)
    np.savez(path, train_images=images, train_labels=labels, test_images=images[:9], test_labels=labels[:9])
    return condense.load_data(path)


def contents(folder: Path) -> list[bytes]:
    """The vectors of every expert, without the seconds beside them."""
    buffer = ExpertBuffer.open(folder)
    return [
        torch.stack([buffer.snapshot(expert, epoch) for epoch in range(buffer.epochs + 1)]).numpy().tobytes()
        for expert in range(buffer.experts)
    ]


def test_experts_of_data_that_is_read_from_disk_are_the_same(data, tmp_path: Path):
    streamed = condense.load_data(pack(data, tmp_path / "noise.h5"), memory_limit=0)
    record_experts(data, NET, 1, 1, tmp_path / "usual")
    record_experts(streamed, NET, 1, 1, tmp_path / "streamed")
    assert contents(tmp_path / "usual") == contents(tmp_path / "streamed")


def test_experts_differ_start_at_their_initialisation_and_move(data, tmp_path: Path):
    found = record_experts(data, NET, experts=2, epochs=2, out=tmp_path / "experts")
    assert (found.finished, found.failed) == (2, {})
    buffer = ExpertBuffer.open(tmp_path / "experts")
    assert (buffer.experts, buffer.epochs) == (2, 2)
    network = build_network(NET, (1, 8, 8), 3, derive_seed(0, "expert network", 1))
    assert torch.equal(buffer.snapshot(1, 0), torch.cat([value.detach().flatten() for value in network.parameters()]))
    rows = [buffer.snapshot(expert, epoch) for expert in range(2) for epoch in range(3)]
    assert all(not torch.equal(rows[i], rows[j]) for i in range(6) for j in range(i))  # no snapshot is an alias
    assert len(buffer.accuracies(0)) == 3
    assert buffer.layout.size == len(rows[0]) == sum(value.numel() for value in network.parameters())
    assert not list((tmp_path / "experts").glob("*.partial"))


def test_what_a_kill_left_beside_a_finished_expert_goes(data, tmp_path: Path):
    out = tmp_path / "experts"
    for _ in range(2):
        record_experts(data, NET, experts=1, epochs=1, out=out)
        left = out / "expert-0000.partial"
        assert not left.exists()
        left.mkdir()
        (left / "epoch-0000.safetensors").touch()
    record_experts(data, NET, experts=1, epochs=1, out=out)
    assert not left.exists()


def test_a_second_recording_in_the_same_folder_is_refused_and_undoes_nothing(data, tmp_path: Path):
    """As after a lost connection: the first one is still there."""
    out = tmp_path / "experts"
    record_experts(data, NET, experts=1, epochs=1, out=out)
    before = contents(out)
    with only_one(out, "recording"), pytest.raises(CondenseError, match=r"another recording is running in .*experts"):
        record_experts(data, NET, experts=2, epochs=1, out=out)
    assert contents(out) == before
    assert record_experts(data, NET, experts=2, epochs=1, out=out).finished == 2
    assert contents(out)[:1] == before


@pytest.mark.parametrize("first", [True, False])
def test_a_folder_that_is_removed_ends_the_recording(data, tmp_path: Path, first: bool):
    """Whether training has made it again or not: no expert that is lost counts as recorded."""
    out = tmp_path / "experts"

    class Removing:
        threads = 1

        def run(self, function, jobs):
            for number, outcome in enumerate(InProcess().run(function, jobs)):
                if number == (0 if first else 1):
                    shutil.rmtree(out)
                yield outcome

    with pytest.raises(CondenseError, match="experts was removed or replaced while a recording was running in it"):
        record_experts(data, NET, experts=2, epochs=1, out=out, executor=Removing())
    shutil.rmtree(out, ignore_errors=True)
    assert record_experts(data, NET, experts=2, epochs=1, out=out).finished == 2


def test_an_expert_that_is_removed_on_the_way_is_missed(data, tmp_path: Path):
    out = tmp_path / "experts"

    class Removing:
        threads = 1

        def run(self, function, jobs):
            for outcome in InProcess().run(function, jobs):
                (out / "expert-0000.h5").unlink(missing_ok=True)
                yield outcome

    with pytest.raises(CondenseError, match=r"expert 0 was removed from .*experts while others were recorded"):
        record_experts(data, NET, experts=2, epochs=1, out=out, executor=Removing())
    assert record_experts(data, NET, experts=2, epochs=1, out=out).finished == 2


def test_what_is_half_done_in_the_folder_of_a_killed_recording_goes(data, tmp_path: Path):
    out = tmp_path / "experts"
    out.mkdir()
    for name in (".expert-0000.h5.abcdefg1.tmp", ".buffer.json.abcdefg1.tmp", ".notes.abcdefg1.tmp", ".lock"):
        (out / name).touch()
    record_experts(data, NET, experts=1, epochs=1, out=out)
    assert {path.name for path in out.iterdir() if path.name.startswith(".")} == {".notes.abcdefg1.tmp"}


def test_a_damaged_epoch_of_an_unfinished_expert_is_trained_again(data, tmp_path: Path, monkeypatch):
    import buffers.experts as module

    record_experts(data, NET, 1, 2, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(module, "_whole", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            record_experts(data, NET, 1, 2, tmp_path / "experts")
    epoch = tmp_path / "experts" / "expert-0000.partial" / "epoch-0001.safetensors"
    epoch.write_bytes(epoch.read_bytes()[:100])
    record_experts(data, NET, 1, 2, tmp_path / "experts")
    assert contents(tmp_path / "experts") == contents(tmp_path / "whole")


def _interrupted(*_arguments):
    raise KeyboardInterrupt


@pytest.mark.parametrize("optimizer", ["sgd", "flat", "smooth"])
def test_recording_in_pieces_equals_recording_at_once(data, tmp_path: Path, optimizer, monkeypatch):
    record_experts(data, NET, 2, 4, tmp_path / "whole", optimizer=optimizer)
    import condense.training.epochs as module

    usual, calls = module.train_network, []

    def stop_in_the_sixth_epoch(*arguments, **options):
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return usual(*arguments, **options)

    monkeypatch.setattr(module, "train_network", stop_in_the_sixth_epoch)
    with pytest.raises(KeyboardInterrupt):
        record_experts(data, NET, 1 + 1, 4, tmp_path / "pieces", optimizer=optimizer)
    assert [path.name for path in sorted((tmp_path / "pieces").glob("expert-*"))] == [
        "expert-0000.h5",
        "expert-0001.partial",
    ]
    monkeypatch.setattr(module, "train_network", usual)
    record_experts(data, NET, 2, 4, tmp_path / "pieces", optimizer=optimizer)
    assert contents(tmp_path / "pieces") == contents(tmp_path / "whole")


def test_more_experts_leave_the_first_ones_as_they_are(data, tmp_path: Path):
    record_experts(data, NET, 1, 1, tmp_path / "experts")
    first = (tmp_path / "experts" / "expert-0000.h5").read_bytes()
    record_experts(data, NET, 3, 1, tmp_path / "experts")
    assert ExpertBuffer.open(tmp_path / "experts").experts == 3
    assert (tmp_path / "experts" / "expert-0000.h5").read_bytes() == first


def test_another_request_in_the_same_folder_names_the_field(data, tmp_path: Path):
    record_experts(data, NET, 1, 1, tmp_path / "experts")
    for message, change in {
        "another epochs": {"epochs": 2},
        "another network": {"network": "convnet-d2-w8"},
        "another rule": {"optimizer": "flat"},
        "another seed": {"seed": 1},
        "another dtype": {"dtype": "float16"},
        "another compile": {"compile": "on"},
    }.items():
        with pytest.raises(CondenseError, match=message):
            record_experts(
                **{"data": data, "network": NET, "experts": 1, "epochs": 1, "out": tmp_path / "experts"} | change
            )
    with pytest.raises(CondenseError, match="give at least 1"):
        record_experts(data, NET, 0, 1, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_experts_of_a_subset_are_trained_on_it(data, tmp_path: Path):
    """Not on the whole, which was packed before; and they are not added to those of the whole."""
    small = dataclasses.replace(data, train=data.train.subset(torch.arange(30)))
    record_experts(data, NET, 1, 1, tmp_path / "whole")
    record_experts(small, NET, 1, 1, tmp_path / "small")
    images, labels = small.train.pixels(torch.arange(30))[:, 0].numpy(), small.train.labels.numpy()
    test = data.test.pixels(torch.arange(9))[:, 0].numpy(), data.test.labels.numpy()
    np.savez(tmp_path / "alone.npz", train_images=images, train_labels=labels, test_images=test[0], test_labels=test[1])
    alone = condense.load_data(tmp_path / "alone.npz")
    info = dataclasses.replace(alone.info, preprocessing=data.preprocessing)
    alone = RealData(
        info,
        TrainingData(alone.train.source, alone.train.labels, info),
        TestData(alone.test.source, alone.test.labels, info),
    )
    record_experts(alone, NET, 1, 1, tmp_path / "alone")
    assert contents(tmp_path / "small") == contents(tmp_path / "alone") != contents(tmp_path / "whole")
    with pytest.raises(CondenseError, match="another fingerprint"):
        record_experts(small, NET, 2, 1, tmp_path / "whole")
    with pytest.raises(CondenseError, match="another fingerprint"):
        condense.distill("mtt", small, ipc=1, buffer=ExpertBuffer.open(tmp_path / "whole"), max_start=1, span=1)


def test_a_compiled_recording_goes_on_compiled_and_gives_nearly_the_same(data, tmp_path: Path):
    record_experts(data, NET, 1, 1, tmp_path / "plain")
    record_experts(data, NET, 1, 1, tmp_path / "compiled", compile="on")
    record_experts(data, NET, 2, 1, tmp_path / "compiled")
    plain, compiled = ExpertBuffer.open(tmp_path / "plain"), ExpertBuffer.open(tmp_path / "compiled")
    assert (plain.description.compile, compiled.description.compile) == ("off", "on")
    assert torch.allclose(plain.snapshot(0, 1), compiled.snapshot(0, 1), atol=1e-5)


def test_a_buffer_keeps_its_kind_of_device_and_workers_train_on_processors(data, tmp_path: Path):
    out = tmp_path / "experts"
    with pytest.raises(CondenseError, match="device 'cuda:99' cannot be used here"):
        record_experts(data, NET, 1, 1, out, device="cuda:99")
    with pytest.raises(CondenseError, match="workers train on processors, not on cuda"):
        record_experts(data, NET, 1, 1, out, device="cuda", executor=Ray(workers=1))
    assert not out.exists()
    record_experts(data, NET, 1, 1, out, device="cpu")
    index = out / "buffer.json"
    assert '"device": "cpu"' in index.read_text()
    index.write_text(index.read_text().replace('"device": "cpu"', '"device": "cuda"'))
    with pytest.raises(CondenseError, match=r"another device .cuda, not cpu"):
        record_experts(data, NET, 2, 1, out, device="cpu")


def test_a_killed_recording_goes_on_to_the_same_bits(tmp_path: Path, forked):
    code = (
        "import sys, condense; from buffers import record_experts; "
        "record_experts(condense.load_data('digits'), 'convnet-d2-w8', 1, 8, sys.argv[1])"
    )
    out = tmp_path / "experts"
    recording = forked(code, out)
    while not (out / "expert-0000.partial" / "epoch-0002.safetensors").exists():
        assert recording.process.is_alive()
        time.sleep(0.01)
    recording.signal(signal.SIGKILL)
    assert recording.ended() == -signal.SIGKILL
    assert not (out / "expert-0000.h5").exists()
    assert forked(code, out).ended() == 0
    record_experts(condense.load_data("digits"), "convnet-d2-w8", 1, 8, tmp_path / "whole")
    assert contents(out) == contents(tmp_path / "whole")


def test_processes_record_the_same_bits_two_at_a_time(data, tmp_path: Path):
    record_experts(data, NET, 3, 2, tmp_path / "here", executor=InProcess(threads=1))
    record_experts(data, NET, 3, 2, tmp_path / "there", executor=Subprocesses(workers=2, threads=1))
    assert contents(tmp_path / "there") == contents(tmp_path / "here")


def test_workers_record_the_same_bits_though_one_is_killed_in_the_middle_of_an_expert(data, tmp_path: Path):
    """Expert 1 loses its worker between two steps of its third epoch, and goes on from the second on another one."""
    pytest.importorskip("ray", reason="needs the extra ray")
    attempts = {}

    class Deadly:
        threads = 1

        def run(self, function, jobs):
            for outcome in Ray(workers=2, threads=1).run(_train_and_die_once, jobs):
                attempts[outcome.job.number] = outcome.attempts
                yield outcome

    rule = ExpertRule(batch_size=16)
    record_experts(data, NET, 3, 4, tmp_path / "here", rule=rule, executor=InProcess(threads=1))
    found = record_experts(data, NET, 3, 4, tmp_path / "there", rule=rule, executor=Deadly())
    assert (found.finished, found.failed) == (3, {})
    assert attempts == {0: 1, 1: 2, 2: 1}
    assert (tmp_path / "there" / "killed after").read_text() == "epoch-0002.safetensors, 2 steps"
    assert contents(tmp_path / "there") == contents(tmp_path / "here")
    record_experts(data, NET, 3, 4, tmp_path / "alive", rule=rule, executor=Ray(workers=2, threads=1))
    assert contents(tmp_path / "alive") == contents(tmp_path / "here")


def test_a_cluster_with_too_few_processors_is_refused_before_any_work():
    ray = pytest.importorskip("ray", reason="needs the extra ray")
    ray.init(num_cpus=1, log_to_driver=False)
    try:
        assert list(Ray(threads=1).run(_train_and_die_once, [])) == []
        with pytest.raises(CondenseError, match=r"--threads 4 is more than .* give at most 1"):
            list(Ray(threads=4).run(_train_and_die_once, []))
    finally:
        ray.shutdown()


def _train_and_die_once(job: ExpertJob):
    import buffers.experts as module

    partial = Path(job.partial)
    marker = partial.parent / "killed after"
    usual = module.epoch_update

    def deadly(rule: ExpertRule, epoch: int, epochs: int):
        update, steps = usual(rule, epoch, epochs), []

        def step(what):
            if len(steps) == 2 and (job.number, epoch) == (1, 2) and not marker.exists():
                marker.write_text(f"{max(path.name for path in partial.iterdir())}, {len(steps)} steps")
                os.kill(os.getpid(), signal.SIGKILL)
            steps.append(1)
            return update(what)

        return step

    module.epoch_update = deadly
    try:
        return module.train_expert(job)
    finally:
        module.epoch_update = usual


def test_workers_in_another_folder_train_in_that_of_the_buffer(data, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONDENSE_CACHE", "cache")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    class Elsewhere:
        threads = 1

        def run(self, function, jobs):
            for job in jobs:
                with monkeypatch.context() as there:
                    there.chdir(elsewhere)
                    (outcome,) = InProcess().run(function, [job])
                assert not list(elsewhere.iterdir())
                yield outcome

    found = record_experts(data, NET, 2, 1, "experts", executor=Elsewhere())
    assert (found.folder, found.failed) == (Path("experts"), {})
    assert ExpertBuffer.open("experts").experts == 2


def test_an_expert_that_fails_twice_is_reported_and_the_others_go_on(data, tmp_path: Path):
    tried: list[int] = []

    class Failing:
        threads = 1

        def run(self, function, jobs):
            def unlucky(job: ExpertJob):
                tried.append(job.number)
                if job.number == 1 or (job.number == 2 and tried.count(2) == 1):
                    raise ValueError("no luck")
                return function(job)

            return InProcess().run(unlucky, jobs)

    found = record_experts(data, NET, 3, 1, tmp_path / "experts", executor=Failing())
    assert found.finished == 2
    assert found.failed == {1: "ValueError: no luck"}
    assert tried == [0, 1, 1, 2, 2]
    assert ExpertBuffer.open(tmp_path / "experts").experts == 2


def test_a_job_that_raises_on_a_worker_is_tried_twice(tmp_path: Path):
    pytest.importorskip("ray", reason="needs the extra ray")
    jobs = [str(tmp_path / name) for name in ("once", "always")]
    found = {Path(outcome.job).name: outcome for outcome in Ray(workers=1).run(_raise_at_first, jobs)}
    assert (found["once"].value, found["once"].attempts) == ("done", 2)
    assert (found["always"].error, found["always"].attempts) == ("ValueError: no luck", 2)


def _raise_at_first(path: str) -> str:
    """Raises when it is called for the first time, and always for `always`."""
    if Path(path).exists() and not path.endswith("always"):
        return "done"
    Path(path).touch()
    raise ValueError("no luck")


def test_experts_of_one_buffer_are_trained_with_the_same_threads(data, tmp_path: Path):
    record_experts(data, NET, 1, 1, tmp_path / "experts", executor=InProcess(threads=1))
    with pytest.raises(CondenseError, match=r"experts with another threads \(1, not 2\)"):
        record_experts(data, NET, 2, 1, tmp_path / "experts", executor=InProcess(threads=2))
    assert record_experts(data, NET, 2, 1, tmp_path / "experts", executor=InProcess(threads=1)).finished == 2


def test_the_flat_step_against_its_formulas():
    draws = torch.Generator().manual_seed(0)
    weights, gradient, perturbed = (
        {
            name: torch.randn(*shape, generator=draws, dtype=torch.float64)
            for name, shape in (("a", (3, 2)), ("b", (4,)))
        }
        for _ in range(3)
    )
    w, g, p = (torch.cat([value.flatten() for value in values.values()]) for values in (weights, gradient, perturbed))
    ascent = adaptive_ascent(weights, gradient, 0.01)
    torch.testing.assert_close(
        torch.cat([value.flatten() for value in ascent.values()]), 0.01 * w**2 * g / ((w.abs() * g).norm() + 1e-12)
    )
    found = torch.cat([value.flatten() for value in flat_direction(gradient, perturbed, 0.3).values()])
    across = g - (g @ p) / (p @ p) * p
    torch.testing.assert_close(found, p - 0.3 * across)
    assert abs(float(across @ p)) < 1e-12


def test_the_penalty_against_a_loop_over_pixels():
    network = build_network(NET, (3, 8, 8), 3, seed=0).double()
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = image_gradient_penalty(network, dict(network.named_parameters()), images)
    leaf = images.clone().requires_grad_()
    (jacobian,) = torch.autograd.grad(network(leaf).sum(), leaf)
    expected = sum(
        (jacobian[n, :, i, j].norm().item() - 1) ** 2 for n in range(2) for i in range(8) for j in range(8)
    ) / (2 * 64)
    assert found.item() == pytest.approx(expected)
    gradients = torch.autograd.grad(found, list(network.parameters()), allow_unused=True)
    assert any(value is not None and value.abs().sum() > 0 for value in gradients)


def test_a_flat_epoch_against_plain_code(data, tmp_path: Path):
    """One batch, no augmentation: one step of GSAM written out."""
    rule = ExpertRule(optimizer="flat", augmentation=None, batch_size=60, radius=0.05, ascent_weight=0.5)
    record_experts(data, NET, 1, 1, tmp_path / "experts", rule=rule)
    buffer = ExpertBuffer.open(tmp_path / "experts")
    network = build_network(NET, (1, 8, 8), 3, derive_seed(0, "expert network", 0))
    images, labels = data.train.images(torch.arange(60)), data.train.labels

    def gradient() -> torch.Tensor:
        grads = torch.autograd.grad(F.cross_entropy(network(images), labels), list(network.parameters()))
        return torch.cat([value.flatten() for value in grads])

    def set_to(vector: torch.Tensor) -> None:
        torch.nn.utils.vector_to_parameters(vector, network.parameters())

    w = torch.nn.utils.parameters_to_vector(network.parameters()).detach()
    g = gradient()
    set_to(w + 0.05 * w**2 * g / (w.abs() * g).norm())
    p = gradient()
    expected = w - 0.01 * (p - 0.5 * (g - (g @ p) / (p @ p) * p))
    torch.testing.assert_close(buffer.snapshot(0, 1), expected, atol=1e-5, rtol=1e-4)
