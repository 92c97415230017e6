"""MTT, TESLA and FTD against a naive reference: autograd through every inner step, torch's optimiser, rows of HDF5."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

import condense
from buffers import ExpertBuffer, ExpertRule, expert_rule, record_experts
from condense.augmentation.dsa import Augmentation, augment, draw_per_image
from condense.cli.main import main
from condense.compute import precision
from condense.data import RealData
from condense.data.budget import Budget
from condense.methods import loop
from condense.methods.interface import Job
from condense.methods.missing_experts import how_to_record
from condense.methods.registry import methods
from condense.methods.request import Request, resolve_settings
from condense.networks import build_network
from condense.runtime.errors import CondenseError
from condense.runtime.registry import load_object
from condense.runtime.seeds import generator
from condense.sets.synthetic_set import SyntheticSet
from condense.synthesizers import trajectory_matching
from condense.synthesizers.assigned_labels import SoftLabelTrajectoryMatching
from condense.synthesizers.difficulty_alignment import DifficultyAlignment
from condense.synthesizers.trajectory_matching import FlatTrajectoryMatching, TrajectoryMatching, minibatches
from condense.unroll import TrajectoryGradient, trajectory_gradient

CPU = torch.device("cpu")
NET, BATCH_NORM = "convnet-d2-w4-in", "convnet-d2-w4-bn"
EPOCHS = 4
RULE = ExpertRule(lr=0.05, batch_size=64)
WINDOW = {"span": 2, "max_start": 3, "min_start": 0}
QUICK = WINDOW | {"inner_steps": 5, "inner_lr": 0.05, "inner_lr_lr": 1e-4, "image_lr": 20.0, "synthetic_batch": None}


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CONDENSE_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def digits() -> RealData:
    return condense.load_data("digits")


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> RealData:
    """Noise in 12 classes."""
    draws = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("data") / "many.npz"
    labels = np.arange(96) % 12
    images = draws.integers(0, 256, (96, 8, 8), dtype=np.uint8)
    np.savez(path, train_images=images, train_labels=labels, test_images=images[:12], test_labels=labels[:12])
    return condense.load_data(path)


def recorded(data: RealData, network: str, folder: Path, experts: int = 2, epochs: int = EPOCHS) -> ExpertBuffer:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONDENSE_CACHE", str(folder / "cache"))
        record_experts(data, network, experts, epochs, folder / "experts", rule=RULE)
    return ExpertBuffer.open(folder / "experts")


@pytest.fixture(scope="module")
def buffer(digits, tmp_path_factory) -> ExpertBuffer:
    return recorded(digits, NET, tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="module")
def buffer_of_many(many, tmp_path_factory) -> ExpertBuffer:
    return recorded(many, BATCH_NORM, tmp_path_factory.mktemp("many"))


@pytest.fixture(scope="module")
def good_buffer(digits, tmp_path_factory) -> ExpertBuffer:
    """Experts that are worth following."""
    return recorded(digits, "convnet-w16", tmp_path_factory.mktemp("good"), experts=3, epochs=6)


def synthesizer(
    data: RealData, buffer: ExpertBuffer, ipc: int = 1, kind: type = TrajectoryMatching, **settings
) -> TrajectoryMatching:
    job = Job(data.train, Budget(ipc=ipc), 0, CPU, buffer=buffer)
    return kind(job, kind.Settings(**{"network": buffer.network} | QUICK | settings))


def row(buffer: ExpertBuffer, expert: int, epoch: int, name: str = "snapshots") -> Tensor:
    with h5py.File(buffer.folder / f"expert-{expert:04d}.h5") as file:
        return torch.from_numpy(file[name][epoch].astype(np.float64))


def drawn(buffer: ExpertBuffer, iteration: int, max_start: int = 3) -> tuple[int, int]:
    """Uniform over experts, then over epochs below `max_start`."""
    draws = generator(0, "expert", iteration)
    expert = torch.randint(len(list(buffer.folder.glob("*.h5"))), (1,), generator=draws)
    return int(expert), int(torch.randint(max_start, (1,), generator=draws))


def pieces(network: nn.Module, vector: Tensor) -> dict[str, Tensor]:
    """A flat vector as the parameters of a network, one after the other."""
    found, done = {}, 0
    for name, value in network.named_parameters():
        found[name] = vector[done : done + value.numel()].reshape(value.shape)
        done += value.numel()
    assert done == len(vector)
    return found


def naive_batches(count: int, size: int | None, steps: int, iteration: int) -> list[Tensor]:
    """Chunks of a permutation, taken from its end; a new permutation when none is left."""
    if size is None:
        return [torch.arange(count)] * steps
    draws, chunks, found = generator(0, "inner batches", iteration), [], []
    for _ in range(steps):
        if not chunks:
            chunks = list(torch.randperm(count, generator=draws).split(size))
        found.append(chunks.pop())
    return found


def naive_view(data: RealData, iteration: int, name: str = "dsa") -> Callable[[Tensor, int], Tensor]:
    """DSA whose draws depend on the step alone."""
    strategy = Augmentation.named(name, mirror=data.mirror, align_corners=True)
    if strategy is None:
        return lambda images, step: images

    def see(images: Tensor, step: int) -> Tensor:
        draws = draw_per_image(strategy, data.image_shape, len(images), generator(0, "augmentation", iteration, step))
        return augment(strategy, images, draws)

    return see


def naive_loss(
    network: nn.Module,
    start: Tensor,
    target: Tensor,
    images: Tensor,
    labels: Tensor,
    rate: Tensor,
    batches: list[Tensor],
    see: Callable[[Tensor, int], Tensor],
    *,
    frozen: bool = False,
    closed: bool = False,
    truncate: int | None = None,
) -> Tensor:
    """L with the whole training behind it; `frozen` cuts the weights, not the gradients, out of the graph.

    With `closed` every batch has its mirror images too; `truncate` is how many gradients at the end are no numbers.
    """
    theta = start.clone().requires_grad_()
    for step, rows in enumerate(batches):
        at = theta.detach().requires_grad_() if frozen else theta
        batch, aims = images[rows], labels[rows]
        if closed:
            batch, aims = torch.cat([batch, batch.flip(3)]), torch.cat([aims, aims])
        logits = functional_call(network, pieces(network, at), (see(batch, step),))
        if labels.is_floating_point():
            inner = -(aims.softmax(1) * logits.log_softmax(1)).sum() / len(aims)
        else:
            inner = F.cross_entropy(logits, aims)
        (gradient,) = torch.autograd.grad(inner, at, create_graph=True)
        if truncate is not None and step < len(batches) - truncate:
            gradient = gradient.detach()
        theta = theta - rate * gradient
    return (theta - target).square().sum() / (start - target).square().sum()


def naive_logits(buffer: ExpertBuffer, data: RealData, images: Tensor, expert: int, epoch: int) -> Tensor:
    """A network with the parameters and statistics of an expert, in evaluation mode."""
    network = build_network(buffer.network, data.image_shape, len(data.classes), seed=5).double()
    torch.nn.utils.vector_to_parameters(row(buffer, expert, epoch), network.parameters())
    statistics, done = row(buffer, expert, epoch, "statistics"), 0
    for value in network.buffers():
        if value.is_floating_point():
            value.copy_(statistics[done : done + value.numel()])
            done += value.numel()
    assert done == len(statistics)
    with torch.no_grad():
        return network.eval()(images.double())


class Reference:
    """The outer loop in float64, from the images that a synthesizer starts with."""

    def __init__(self, made: TrajectoryMatching, data: RealData, buffer: ExpertBuffer) -> None:
        self.data, self.buffer, self.settings = data, buffer, made.settings
        self.network = build_network(buffer.network, data.image_shape, len(data.classes), seed=7).double().train()
        self.images = made.images.detach().double().requires_grad_()
        self.rate = torch.tensor(made.settings.inner_lr, dtype=torch.float64, requires_grad=True)
        groups = [
            {"params": [self.images], "lr": made.settings.image_lr},
            {"params": [self.rate], "lr": made.settings.inner_lr_lr},
        ]
        self.optimizer = torch.optim.SGD(groups, momentum=0.5)
        self.start = self.images.detach().clone()
        self.labels = torch.arange(len(data.classes)).repeat_interleave(made.job.ipc)

    def step(self, iteration: int, *, assigned: bool = False) -> float:
        settings, count = self.settings, len(self.images)
        expert, epoch = drawn(self.buffer, iteration, settings.max_start)
        labels = self.labels
        if assigned:
            end = epoch + settings.span
            labels = naive_logits(self.buffer, self.data, self.images.detach(), expert, end)
        size = settings.synthetic_batch
        if settings.flip_closure:
            size = (size or count) // 2
        loss = naive_loss(
            self.network,
            row(self.buffer, expert, epoch),
            row(self.buffer, expert, epoch + settings.span),
            self.images,
            labels,
            self.rate,
            naive_batches(count, size, settings.inner_steps, iteration),
            naive_view(self.data, iteration, settings.augmentation),
            frozen=settings.gradient == "frozen",
            closed=settings.flip_closure,
            truncate=settings.truncate,
        )
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def check(self, made: TrajectoryMatching) -> None:
        """That the synthesizer has moved as this has, by far more than rounding."""
        moved = self.images.detach() - self.start
        assert moved.abs().max() > 1e-2
        found = made.images.detach().double() - self.start
        assert (found - moved).norm() < 1e-3 * moved.norm()
        assert abs(self.rate.item() - self.settings.inner_lr) > 1e-5
        assert made.inner_lr.item() - self.settings.inner_lr == pytest.approx(
            self.rate.item() - self.settings.inner_lr, rel=5e-3
        )


@pytest.mark.parametrize(
    ("ipc", "batch", "mode"), [(1, None, "adjoint"), (2, 7, "adjoint"), (2, 7, "unrolled"), (2, 7, "frozen")]
)
def test_two_iterations_against_autograd_through_every_step(digits, buffer, ipc: int, batch: int | None, mode: str):
    made = synthesizer(digits, buffer, ipc, synthetic_batch=batch, gradient=mode)
    reference = Reference(made, digits, buffer)
    for iteration in range(2):
        rate = reference.rate.item()
        expected = reference.step(iteration)
        found = made.step(iteration)
        assert found["loss"] == pytest.approx(expected, rel=1e-4)
        assert found["inner_lr"] == pytest.approx(rate, rel=1e-4)
        assert (found["clamped"], found["skipped"]) == (0, 0)
    reference.check(made)


def check_two_iterations(digits, buffer, kind: type, ipc: int, **settings):
    made = synthesizer(digits, buffer, ipc, kind, **settings)
    reference = Reference(made, digits, buffer)
    for iteration in range(2):
        expected = reference.step(iteration)
        assert made.advance(iteration)["loss"] == pytest.approx(expected, rel=1e-4)
    reference.check(made)
    return made


@pytest.mark.parametrize("mode", ["adjoint", "unrolled", "frozen"])
@pytest.mark.parametrize(
    ("kind", "ipc", "batch", "augmentation"),
    [
        (TrajectoryMatching, 1, None, "dsa"),  # half of all, then the other half
        (TrajectoryMatching, 2, 7, "dsa-flip-first"),
        (TrajectoryMatching, 2, 40, "none"),  # half of it is all
        (FlatTrajectoryMatching, 2, 9, "dsa"),
    ],
)
def test_a_flip_closure_halves_the_batch_and_adds_mirror_images(
    digits, buffer, kind: type, ipc: int, batch: int | None, augmentation: str, mode: str
):
    check_two_iterations(
        digits, buffer, kind, ipc, synthetic_batch=batch, augmentation=augmentation, gradient=mode, flip_closure=True
    )


@pytest.mark.parametrize("mode", ["adjoint", "unrolled", "frozen"])
@pytest.mark.parametrize("truncate", [2, 5, 8])
def test_only_the_last_steps_are_differentiated_if_asked(digits, buffer, mode: str, truncate: int):
    check_two_iterations(digits, buffer, TrajectoryMatching, 2, synthetic_batch=7, gradient=mode, truncate=truncate)


def test_work_is_counted_with_mirror_images_and_without_steps_that_are_left_out(digits, buffer):
    def counted(**settings):
        given = TrajectoryMatching.Settings(network=NET, inner_steps=20, **settings)
        return [
            (work.kind, work.batch, work.times) for work in TrajectoryMatching.work(digits.train, Budget(ipc=2), given)
        ]

    assert counted() == [("gradient", 20, 20), ("mixed product", 20, 20)]
    assert counted(flip_closure=True) == counted()
    assert counted(flip_closure=True, synthetic_batch=9) == [("gradient", 8, 20), ("mixed product", 8, 20)]
    assert counted(flip_closure=True, synthetic_batch=99)[0] == ("gradient", 40, 20)
    assert counted(truncate=8, gradient="frozen") == [("gradient", 20, 20), ("image product", 20, 8)]
    assert counted(truncate=80) == counted()


def test_digits_are_warned_of_a_flip_closure(digits, buffer, capsys):
    condense.distill("mtt", digits, 1, buffer=buffer, iterations=1, flip_closure=True, **QUICK)
    assert capsys.readouterr().err.count("to learn beside them may harm") == 1


def test_augmentation_is_that_of_the_line_of_work_and_can_be_left_out(digits, buffer):
    made = synthesizer(digits, buffer)
    assert made.augmentation == Augmentation.dsa(mirror=False, align_corners=True)
    see, images = made.augment(3, None), made.images.detach()
    assert torch.equal(see(images, 2), see(images, 2))  # draws are made once
    assert not torch.equal(see(images, 2), see(images, 3))
    assert not torch.equal(see(images, 2), made.augment(4, None)(images, 2))
    assert synthesizer(digits, buffer, augmentation="none").augment(0, None) is None


def test_batches_are_passes_over_all_images_with_the_small_one_first():
    found = minibatches(20, 7, 8, torch.Generator().manual_seed(0))
    assert [len(batch) for batch in found] == [6, 7, 7, 6, 7, 7, 6, 7]
    first, second = torch.cat(found[:3]), torch.cat(found[3:6])
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(20))
    assert not torch.equal(first, second)


def test_the_window_is_read_from_the_buffer(digits, buffer):
    made = synthesizer(digits, buffer)
    seen = set()
    for iteration in range(40):
        window = made.window(iteration)
        assert (window.expert, window.epoch) == drawn(buffer, iteration)
        assert torch.equal(window.start.double(), row(buffer, window.expert, window.epoch))
        assert torch.equal(window.target.double(), row(buffer, window.expert, window.epoch + 2))
        seen.add((window.expert, window.epoch))
    assert seen == {(expert, epoch) for expert in range(2) for epoch in range(3)}  # max_start itself never is one
    late = synthesizer(digits, buffer, min_start=2)
    assert {late.window(iteration).epoch for iteration in range(20)} == {2}


def moves(made: TrajectoryMatching) -> tuple[Tensor, float]:
    start = made.images.detach().clone()
    made.step(0)
    return made.images.detach() - start, made.inner_lr.item() - made.settings.inner_lr


@pytest.mark.parametrize("steps", [1, 6])
def test_adjoint_is_unrolled_and_frozen_is_not_beyond_one_step(digits, buffer, steps: int):
    found = {
        mode: moves(synthesizer(digits, buffer, gradient=mode, inner_steps=steps))
        for mode in ("adjoint", "unrolled", "frozen")
    }
    images, rate = found["unrolled"]
    assert (found["adjoint"][0] - images).norm() < 1e-3 * images.norm()
    assert found["adjoint"][1] == pytest.approx(rate, rel=1e-2)
    apart = ((found["frozen"][0] - images).norm() / images.norm()).item()
    if steps == 1:
        assert apart < 1e-3
        assert found["frozen"][1] == pytest.approx(rate, rel=1e-2)
    else:
        assert 0.02 < apart < 1


def test_the_published_defaults():
    mtt, tesla, ftd = (
        kind.Settings() for kind in (TrajectoryMatching, SoftLabelTrajectoryMatching, FlatTrajectoryMatching)
    )
    assert (mtt.iterations, mtt.inner_steps, mtt.span, mtt.max_start, mtt.image_lr) == (5000, 50, 2, 2, 100)
    assert (mtt.inner_lr_lr, mtt.inner_lr, mtt.synthetic_batch, mtt.image_momentum) == (1e-7, 0.01, None, 0.5)
    assert (mtt.gradient, mtt.initialization, mtt.image_average) == ("adjoint", "real", None)
    assert (tesla.iterations, tesla.inner_steps, tesla.max_start, tesla.inner_lr_lr) == (10_000, 50, 5, 1e-7)
    assert (tesla.image_lr, tesla.gradient) == (500, "frozen")  # half of what the published gradient needs
    assert ftd.model_dump() == mtt.model_dump() | {"image_average": 0.9999}


def test_the_learning_rate_is_clamped_on_both_sides_and_that_is_counted(digits, buffer, capsys):
    def found(gradient: float) -> TrajectoryGradient:
        zero = torch.zeros(10, 1, 8, 8)
        return TrajectoryGradient(torch.tensor(0.5), zero, None, torch.tensor(gradient), torch.zeros(1))

    for most, gradient, end, clamped in (
        (None, 1e6, 1e-6, True),
        (None, -1e6, 1.0, True),
        (None, 100.0, 0.04, False),
        (None, -9000.0, 0.95, False),  # 19 times where it began: a bound of the start would hold back published recipes
        (0.2, -9000.0, 0.2, True),
        (3.0, -9500.0, 1.0, False),
        (3.0, -1e6, 3.0, True),
    ):
        made = synthesizer(digits, buffer, inner_lr_most=most)  # starts at 0.05 and moves 1e-4 times the gradient
        assert made.apply(found(gradient)) is clamped
        assert made.inner_lr.item() == pytest.approx(end, rel=1e-5)
    options = {"buffer": buffer, "iterations": 3} | QUICK
    wild = condense.distill("mtt", digits, 1, **options | {"inner_lr_lr": 1e6})
    assert wild.metrics["clamped"].tolist() == [1, 2, 3]
    assert wild.describe()["recorded clamped"] == "3 values, 3 at the end"
    assert wild.learned_lr == pytest.approx(1e-6) or wild.learned_lr == pytest.approx(1.0)
    assert "clamped in 3 of 3 updates, to stay from 1e-06 to 1;" in capsys.readouterr().err
    still = condense.distill("mtt", digits, 1, **options | {"inner_lr_lr": 0})
    assert still.metrics["clamped"].tolist() == [0, 0, 0]
    assert still.learned_lr == pytest.approx(0.05)
    assert "clamped" not in capsys.readouterr().err


@pytest.mark.parametrize("method", ["mtt", "tesla", "ftd", "datm", "ast"])
def test_every_method_with_a_learned_rate_says_when_it_was_clamped(digits, buffer, method: str, capsys):
    options = QUICK | {"inner_lr_lr": 1e6, "inner_lr_most": 0.06}
    if method == "datm":
        options["skip_above"] = 1e9
    made = condense.distill(method, digits, 1, buffer=buffer, iterations=2, **options)
    assert made.learned_lr == pytest.approx(1e-6) or made.learned_lr == pytest.approx(0.06)
    assert "clamped in 2 of 2 updates, to stay from 1e-06 to 0.06;" in capsys.readouterr().err


def test_a_rate_that_begins_above_its_bound_is_refused(digits, buffer):
    for options in ({"inner_lr": 1.5}, {"inner_lr_most": 0.04}):
        with pytest.raises(CondenseError, match="begins above its bound, inner_lr_most"):
            condense.distill("mtt", digits, 1, buffer=buffer, iterations=1, **QUICK | options)


def without_target(made: TrajectoryMatching, iterations: range) -> None:
    """From now on the targets of these iterations are no numbers."""
    window = made.window

    def broken(iteration: int):
        found = window(iteration)
        nothing = torch.full_like(found.target, torch.nan)
        return dataclasses.replace(found, target=nothing) if iteration in iterations else found

    made.window = broken


@pytest.mark.parametrize("kind", [TrajectoryMatching, DifficultyAlignment])
def test_an_update_that_is_not_finite_is_passed_over(digits, buffer, kind: type):
    made, whole = (synthesizer(digits, buffer, kind=kind) for _ in range(2))
    without_target(made, range(2))
    record = loop.run(made, Job(digits.train, Budget(ipc=1), 0, CPU, buffer=buffer, iterations=2))
    assert record.metrics["loss"].isnan().all()
    assert record.metrics["skipped"].tolist() == [1, 2]
    assert torch.equal(made.images, whole.images)
    assert made.inner_lr == whole.inner_lr
    assert made.step(2) == whole.step(2) | {"skipped": 2}
    assert torch.equal(made.images, whole.images)


def test_a_training_that_keeps_diverging_ends_the_run_also_where_it_goes_on(digits, buffer):
    made, resumed = (synthesizer(digits, buffer) for _ in range(2))
    without_target(made, range(30))
    for iteration in range(15):
        made.step(iteration)
    resumed.load_state(made.state())
    without_target(resumed, range(30))
    for iteration in range(15, 19):
        resumed.step(iteration)
    with pytest.raises(CondenseError, match=r"diverged in 20 updates in a row, until iteration 19.*smaller --inner-lr"):
        resumed.step(19)


def test_clamps_are_counted_over_the_whole_run_also_where_it_goes_on(digits, buffer):
    """The last value is what a progress bar and `condense show` tell."""
    made, again = (synthesizer(digits, buffer, inner_lr_lr=1e6) for _ in range(2))
    assert [made.step(iteration)["clamped"] for iteration in range(3)] == [1, 2, 3]
    for iteration in range(2):
        again.step(iteration)
    resumed = synthesizer(digits, buffer, inner_lr_lr=1e6)
    resumed.load_state({name: value.clone() for name, value in again.state().items()})
    assert resumed.step(2)["clamped"] == 3


def test_the_learned_learning_rate_is_in_the_file(digits, buffer, tmp_path: Path):
    out = tmp_path / "set.h5"
    made = condense.distill("mtt", digits, 1, buffer=buffer, iterations=3, out=out, **QUICK)
    assert made.metrics["inner_lr"][0] == pytest.approx(0.05)
    assert made.learned_lr != pytest.approx(0.05, rel=1e-4)
    assert SyntheticSet.load(out).learned_lr == made.learned_lr
    assert (made.label_kind, made.targets) == ("hard", None)


# --- TESLA


@pytest.mark.parametrize("asked", [None, "hard"])
def test_up_to_ten_classes_have_hard_labels(digits, buffer, asked: str | None):
    made = synthesizer(digits, buffer, 2, SoftLabelTrajectoryMatching, labels=asked)
    assert not made.assigned
    assert made.targets(made.window(0)).tolist() == torch.arange(10).repeat_interleave(2).tolist()
    assert made.settings.gradient == "frozen"
    stored = condense.distill("tesla", digits, 1, buffer=buffer, iterations=1, labels=asked, **QUICK)
    assert (stored.label_kind, stored.targets) == ("hard", None)


def test_more_classes_have_labels_that_the_target_assigns_in_every_iteration(many, buffer_of_many):
    """One expert of the two, and one epoch of the three, in each iteration; statistics of BatchNorm go with it."""
    made = synthesizer(many, buffer_of_many, 2, SoftLabelTrajectoryMatching, synthetic_batch=9)
    assert made.assigned
    reference = Reference(made, many, buffer_of_many)
    assigned, windows = [], set()
    for iteration in range(3):
        window = made.window(iteration)
        windows.add((window.expert, window.epoch))
        found = made.targets(window)
        expected = naive_logits(
            buffer_of_many, many, made.images.detach(), window.expert, window.epoch + made.settings.span
        )
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)
        assert not found.requires_grad
        assigned.append(found)
        assert made.step(iteration)["loss"] == pytest.approx(reference.step(iteration, assigned=True), rel=1e-3)
    assert len(windows) > 1
    assert (assigned[0] - assigned[1]).abs().max() > 1e-3
    reference.check(made)


def test_assigned_labels_can_be_asked_for_with_few_classes(digits, buffer):
    made = synthesizer(digits, buffer, kind=SoftLabelTrajectoryMatching, labels="assigned")
    reference = Reference(made, digits, buffer)
    assert made.step(0)["loss"] == pytest.approx(reference.step(0, assigned=True), rel=1e-4)
    reference.check(made)


def test_images_that_their_expert_sees_as_another_class_are_counted(many, buffer_of_many):
    """First real images, then one and the same for all classes, which is at home in one of twelve at most."""
    made = synthesizer(many, buffer_of_many, 2, SoftLabelTrajectoryMatching)
    window = made.window(0)
    seen = naive_logits(buffer_of_many, many, made.images.detach(), window.expert, window.epoch + 2).argmax(1)
    expected = (seen == made.labels).double().mean().item()
    assert 0 < expected < 1
    assert made.step(0)["in_class"] == expected
    with torch.no_grad():
        made.images.copy_(made.images[seen == made.labels][:1].expand_as(made.images))
    assert made.step(1)["in_class"] in (0, 1 / 12)


def test_labels_of_the_set_come_from_the_first_expert_at_its_end(many, buffer_of_many, tmp_path: Path):
    """60 images: more than are asked at once."""
    out = tmp_path / "set.h5"
    made = condense.distill("tesla", many, 5, buffer=buffer_of_many, iterations=2, out=out, **QUICK)
    assert (made.label_kind, made.protocol) == ("logits", "mtt-soft")
    expected = naive_logits(buffer_of_many, many, made.stored, 0, EPOCHS)
    torch.testing.assert_close(made.targets.double(), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(made.probabilities.double(), expected.softmax(1), rtol=1e-4, atol=1e-5)
    assert made.labels.tolist() == torch.arange(12).repeat_interleave(5).tolist()
    assert torch.equal(SyntheticSet.load(out).targets, made.targets)
    expert, epoch = drawn(buffer_of_many, 1)
    last = naive_logits(buffer_of_many, many, made.stored, expert, epoch + 2)
    assert (last - made.targets).abs().max() > 1e-3
    hard = condense.distill("tesla", many, 1, buffer=buffer_of_many, iterations=1, labels="hard", **QUICK)
    assert (hard.label_kind, hard.protocol) == ("hard", "mtt")


# --- FTD


def test_ftd_stores_the_average_of_the_images_and_the_last_learning_rate(digits, buffer):
    plain = synthesizer(digits, buffer)
    average = plain.images.detach().clone()
    for iteration in range(3):
        plain.step(iteration)
        average = 0.5 * average + 0.5 * plain.images.detach()
    made = condense.distill("ftd", digits, 1, buffer=buffer, iterations=3, image_average=0.5, **QUICK)
    torch.testing.assert_close(made.stored, average, rtol=1e-4, atol=1e-5)
    assert (made.stored - plain.images.detach()).abs().max() > 1e-2
    assert made.learned_lr == pytest.approx(plain.inner_lr.item(), rel=1e-6)


def test_an_average_that_is_asked_for_replaces_that_of_the_recipe(digits, buffer):
    """Whichever of its two ways is used, and in a file where none is, two at once are refused."""
    by_run = {"image_average": None, "image_average_left": 0.5}
    by_update = {"image_average": 0.5, "image_average_left": None}
    none = {"image_average": None, "image_average_left": None}
    for asked, recipe, expected in (
        ({"image_average_left": 0.5}, None, by_run),
        ({"image_average_left": 0.5}, "desk", by_run),
        ({"image_average": 0.5}, "desk", by_update),
        ({"image_average": 0.5, "image_average_left": None}, "desk", by_update),
        ({"image_average": None}, "desk", none),
        ({"image_average_left": None}, "desk", none),
    ):
        found = resolve_settings(Request.of("ftd", Budget(ipc=1), asked, recipe=recipe), digits.info).model_dump()
        assert {name: found[name] for name in expected} == expected
    with pytest.raises(CondenseError, match="image_average and image_average_left say the same in two ways"):
        resolve_settings(
            Request.of("ftd", Budget(ipc=1), {"image_average": 0.5, "image_average_left": 0.5}), digits.info
        )
    made = condense.distill("ftd", digits, 1, buffer=buffer, iterations=2, image_average_left=0.25, **QUICK)
    assert made.provenance["configuration"]["settings"]["image_average"] == 0.5


def test_minutes_of_unrolled_gradients_are_spread_over_a_run_too(digits, buffer):
    """Although no rate of the engine tells how many updates they hold."""
    options = QUICK | {"minutes": 60, "iterations": 2, "gradient": "unrolled", "image_average_left": 0.25}
    made = condense.distill("ftd", digits, 1, buffer=buffer, **options)
    assert made.provenance["configuration"]["settings"]["image_average"] == pytest.approx(0.5)


def test_an_unfinished_run_of_another_method_is_refused_in_words(digits, buffer, tmp_path: Path, monkeypatch):
    out = tmp_path / "set.h5"
    with monkeypatch.context() as patch:
        patch.setattr(TrajectoryMatching, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            condense.distill("mtt", digits, 1, buffer=buffer, out=out, iterations=3, **QUICK)
    with pytest.raises(CondenseError, match=r"unfinished run with .*; give the same options, or --no-resume"):
        condense.distill("datm", digits, 1, buffer=buffer, out=out, iterations=3, growth=0.5, **QUICK)


def interrupted(synthesizer: TrajectoryMatching, iteration: int) -> dict[str, float]:
    raise KeyboardInterrupt


def test_the_usual_average_of_ftd_hardly_leaves_the_start(digits, buffer):
    """0.9999 without bias correction: after 3 updates of the images, 0.9997 of them are what they were."""
    made = synthesizer(digits, buffer, kind=FlatTrajectoryMatching)
    start = made.images.detach().clone()
    for iteration in range(3):
        made.advance(iteration)
    moved, stored = (images.detach() - start for images in (made.images, made.stored()))
    assert 0 < stored.norm() < 4e-4 * moved.norm()


# --- images that experts choose


@pytest.mark.parametrize("name", ["correct", "representative"])
def test_every_method_can_start_from_images_that_experts_choose(digits, buffer, name: str):
    """The same ones, whatever the method; those that represent a class and those that experts know differ."""
    kinds = [load_object(methods().find(method).target) for method in ("mtt", "tesla", "ftd", "datm", "ast")]
    starts = [synthesizer(digits, buffer, 3, kind, initialization=name).images.detach() for kind in kinds]
    assert all(torch.equal(start, starts[0]) for start in starts)
    real = {image.numpy().tobytes() for image in digits.train.images(torch.arange(len(digits.train)))}
    assert {image.numpy().tobytes() for image in starts[0]} <= real
    plain = synthesizer(digits, buffer, 3, initialization="real").images.detach()
    assert not torch.equal(starts[0], plain)
    if name == "correct":
        labels = torch.arange(10).repeat_interleave(3)
        known, usual = (
            (naive_logits(buffer, digits, each, 0, EPOCHS).argmax(1) == labels).sum() for each in (starts[0], plain)
        )
        assert known > usual


def test_methods_without_experts_refuse_such_starts(digits):
    for name in ("correct", "representative"):
        with pytest.raises(CondenseError, match=f"--initialization {name} asks experts, and this method has none"):
            condense.distill("dm", digits, 1, network=NET, initialization=name)


# --- going on, and what is refused


@pytest.mark.parametrize("kind", [TrajectoryMatching, SoftLabelTrajectoryMatching, FlatTrajectoryMatching])
def test_going_on_is_exact_with_the_momentum_of_the_learning_rate(digits, buffer, kind: type):
    def fresh() -> TrajectoryMatching:
        return synthesizer(digits, buffer, 2, kind, synthetic_batch=7)

    made, again, forgetful = fresh(), fresh(), fresh()
    for iteration in range(2):
        made.advance(iteration)
    state = {name: value.clone() for name, value in made.state().items()}
    assert "inner_lr" in state
    again.load_state({name: value.clone() for name, value in state.items()})
    forgetful.load_state({name: value.clone() for name, value in state.items() if not name.startswith("optimizer.1.")})
    metrics = [each.advance(2) for each in (made, again, forgetful)]
    assert metrics[0] == metrics[1]
    assert made.state().keys() == again.state().keys()
    for name, value in made.state().items():
        assert torch.equal(value, again.state()[name]), name
    assert torch.equal(made.stored(), again.stored())
    assert forgetful.inner_lr != made.inner_lr


@pytest.mark.parametrize(
    ("method", "kind"), [("mtt", "sgd"), ("tesla", "sgd"), ("ftd", "flat"), ("datm", "flat"), ("ast", "smooth")]
)
@pytest.mark.parametrize("options", [{}, {"network": "convnet-d1-w8-in", "max_start": 9, "span": 3, "min_start": 0}])
def test_without_experts_the_error_says_how_to_record_them_and_what_it_costs(
    digits, tmp_path: Path, method: str, kind: str, options: dict
):
    """Those that this very request needs."""
    with pytest.raises(CondenseError, match="needs experts") as error:
        condense.distill(method, digits, 1, out=tmp_path / "set.h5", **options)
    message = str(error.value)
    settings = resolve_settings(Request.of(method, Budget(ipc=1), options), digits.info)
    window, published = settings.max_start - 1 + settings.span, {"datm": 100, "ast": 50}.get(method, 0)
    epochs = max(window, published)
    special = " --radius 0.01 --ascent-weight 0.3" if kind == "flat" else ""
    data = "--data digits --image-size 8x8 --normalization computed --no-mirror"
    asked = f"--net {settings.network} --experts 10 --epochs {epochs} --optimizer {kind}{special}"
    assert f"`condense experts {data} {asked} --out experts`" in message
    assert "--buffer experts" in message
    size = sum(value.numel() for value in build_network(settings.network, (1, 8, 8), 10, seed=0).parameters())
    for experts, words in ((1, "each takes about"), (10, "all 10")):
        assert f"{words} {4 * size * (epochs + 1) * experts / 1e6:,.1f} MB" in message
    assert "\n" not in message
    assert list(tmp_path.iterdir()) == []


def test_recording_costs_more_for_other_kinds_of_experts():
    """Two gradients a step for flat ones, and about three times the work for smooth ones."""

    def seconds(kind: str) -> int:
        entry = dataclasses.replace(methods().find("mtt"), experts=kind)
        message = how_to_record(entry, condense.load_data("digits").info, 300_000, TrajectoryMatching.Settings(), {})
        return int(re.search(r"each takes about .* of disk and ([0-9]+) s, all 10 ", message)[1])

    assert seconds("flat") == pytest.approx(2 * seconds("sgd"), abs=2)
    assert seconds("smooth") == pytest.approx(3 * seconds("sgd"), abs=3)
    assert seconds("sgd") > 5


@pytest.mark.parametrize(
    ("name", "ipc", "weight"), [("cifar10", 10, "0.3"), ("cifar10", 50, "1"), ("cifar100", 1, "1")]
)
def test_ftd_asks_for_the_experts_and_images_of_its_paper(tmp_path: Path, name: str, ipc: int, weight: str, capsys):
    """Alpha is 0.3 for CIFAR-10 at 1 and 10 images and 1 otherwise; images are whitened."""
    labels = np.arange(200) % 2
    images = np.random.default_rng(0).integers(0, 256, (200, 8, 8), dtype=np.uint8)
    path = tmp_path / f"{name}.npz"
    np.savez(path, train_images=images, train_labels=labels, test_images=images[:6], test_labels=labels[:6])
    with pytest.raises(CondenseError, match="needs experts") as error:
        condense.distill("ftd", condense.load_data(path), ipc)
    assert capsys.readouterr().err == ""  # the command says it
    assert "and give --normalization zca --buffer experts" in str(error.value)
    words = shlex.split(str(error.value).split("`")[1])
    assert words[words.index("--normalization") + 1] == "zca"
    assert words[words.index("--optimizer") + 1] == "flat"
    assert words[words.index("--ascent-weight") + 1] == weight


@pytest.mark.parametrize("method", ["ftd", "datm"])
def test_flat_experts_of_another_alpha_are_noted(digits, tmp_path: Path, method: str, capsys):
    rule = expert_rule("flat", ascent_weight=1.0, batch_size=512)
    record_experts(digits, NET, 1, 2, tmp_path / "experts", rule=rule)
    capsys.readouterr()
    experts = ExpertBuffer.open(tmp_path / "experts")
    options = QUICK | {"max_start": 1, "span": 1, "inner_steps": 2}
    condense.distill(method, digits, 1, buffer=experts, iterations=1, **options)
    said = capsys.readouterr().err
    assert "for experts with --ascent-weight 0.3, these have 1.0" in said
    assert "--radius" not in said


def test_the_command_that_records_experts_gives_those_that_are_accepted(many, tmp_path: Path, capsys):
    """With the data's normalisation and mirroring; where it lies only its user knows."""
    source = tmp_path / "photos.npz"
    labels = np.arange(24) % 3
    images = np.random.default_rng(0).integers(0, 256, (24, 8, 8), dtype=np.uint8)
    np.savez(source, train_images=images, train_labels=labels, test_images=images[:6], test_labels=labels[:6])
    usual = ["--data", source, "--image-size", "12x8", "--normalization", "none", "--mirror"]
    asked = ["distill", "mtt", *usual, "--network", NET, "--ipc", 1, "--max-start", 1, "--span", 1]
    asked += ["--iterations", 1, "--inner-steps", 2, "--out", tmp_path / "set.h5"]
    assert main([str(word) for word in asked]) == 2
    message = capsys.readouterr().err
    assert "(as --data give the path of photos)" in message
    words = shlex.split(message.split("`")[1])
    for name, value in (("--data", source), ("--experts", 1), ("--out", tmp_path / "experts")):
        words[words.index(name) + 1] = str(value)
    assert main(words[1:]) == 0
    assert main([str(word) for word in [*asked, "--buffer", tmp_path / "experts"]]) == 0


def test_experts_of_another_kind_are_refused_with_what_differs(digits, many, buffer, tmp_path: Path):
    plain = condense.load_data("digits", normalization="none")
    for data, changes, message in (
        (digits, {"network": "convnet-d2-w8-in"}, "another network .*give --network convnet-d2-w4-in"),
        (many, {}, "another classes .*give the data of the experts"),
        (digits.holdout(0.5), {}, "another fingerprint"),
        (plain, {}, "another preprocessing .*give the --normalization of the experts"),
        (digits, {"max_start": 9}, "need experts of 10 epochs, these have 4"),
        (digits, {"span": 3}, "need experts of 5 epochs, these have 4"),
        (digits, {"min_start": 3}, "make no window"),
    ):
        for method in ("mtt", "tesla", "ftd", "datm", "ast"):
            with pytest.raises(CondenseError, match=message) as error:
                condense.distill(
                    method, data, 1, out=tmp_path / "set.h5", buffer=buffer, iterations=1, **QUICK | changes
                )
            assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("method", ["mtt", "tesla", "ftd", "datm", "ast"])
def test_experts_of_another_training_are_used_with_a_word_and_recorded(digits, buffer, method: str, capsys):
    """These are plain ones."""
    made = condense.distill(method, digits, 1, buffer=buffer, iterations=1, **QUICK)
    notes = [line for line in capsys.readouterr().err.splitlines() if "is published with" in line]
    kind = methods().find(method).experts
    expected = [] if kind == "sgd" else [f"note: {method} is published with {kind} experts, these are sgd ones"]
    assert notes == expected
    assert made.provenance["configuration"]["kind of experts"] == "sgd"


def test_a_recipe_says_where_experts_are_not_those_that_its_values_are_for(digits, buffer, tmp_path: Path, capsys):
    recipe = tmp_path / "own.yaml"
    for experts, notes in (
        (
            {"epochs": 9, "lr": 0.05},
            [f"note: the recipe's values are for experts with --epochs 9, these have {EPOCHS}"],
        ),
        ({"epochs": EPOCHS, "lr": 0.02}, ["note: the recipe's values are for experts with --lr 0.02, these have 0.05"]),
        ({"epochs": EPOCHS}, []),
    ):
        recipe.write_text(json.dumps({"method": "mtt", "experts": experts}))
        condense.distill("mtt", digits, 1, buffer=buffer, recipe=str(recipe), iterations=1, **QUICK)
        assert [line for line in capsys.readouterr().err.splitlines() if "recipe's" in line] == notes


def test_methods_without_experts_refuse_them(digits, buffer, tmp_path: Path):
    for method in ("dm", "random"):
        with pytest.raises(CondenseError, match=rf"{method} uses no experts: leave --buffer out"):
            condense.distill(method, digits, 1, out=tmp_path / "set.h5", buffer=buffer)
    assert list(tmp_path.iterdir()) == []


def test_inner_steps_compute_in_float32_even_where_bfloat16_is_native(digits, buffer, monkeypatch):
    monkeypatch.setattr(precision, "processor_flags", lambda: frozenset({"avx512_bf16"}))

    def planned(method: str, **options) -> str:
        made = condense.distill(method, digits, 1, iterations=1, **options)
        return made.provenance["configuration"]["plan"]["precision"]

    assert planned("dm", network=NET, real_batch=4) == "bfloat16"
    for method in ("mtt", "tesla", "ftd", "datm", "ast"):
        assert planned(method, buffer=buffer, **QUICK) == "float32"
    assert planned("mtt", buffer=buffer, precision="bfloat16", **QUICK) == "bfloat16"


@pytest.mark.parametrize(
    ("asked", "refusal"),
    [
        ({"precision": "bfloat16"}, "unrolled computes in float32 only; leave --precision bfloat16 out"),
        ({"store_every": 2}, "unrolled keeps every step; leave --store-every out"),
    ],
)
def test_unrolled_refuses_what_it_cannot_do(digits, buffer, asked: dict, refusal: str):
    with pytest.raises(CondenseError, match=refusal):
        condense.distill("mtt", digits, 1, buffer=buffer, iterations=1, gradient="unrolled", **asked, **QUICK)


@pytest.mark.parametrize(("method", "momentum"), [("mtt", {}), ("ast", {"inner_momentum": 0.9})])
def test_parameters_that_are_not_kept_change_nothing(digits, buffer, method: str, momentum: dict, monkeypatch):
    options = {"buffer": buffer, "iterations": 2, **momentum, **QUICK}
    usual = condense.distill(method, digits, 1, **options)
    asked: list[int] = []

    def noted(*given, store_every: int, **more) -> TrajectoryGradient:
        asked.append(store_every)
        return trajectory_gradient(*given, store_every=store_every, **more)

    monkeypatch.setattr(trajectory_matching, "trajectory_gradient", noted)
    sparse = condense.distill(method, digits, 1, store_every=3, **options)
    assert asked == [3, 3]
    assert torch.equal(sparse.stored, usual.stored)
    assert sparse.learned_lr == usual.learned_lr


def test_the_first_experts_alone_are_matched_and_are_the_run_of_a_smaller_buffer(digits, buffer, tmp_path: Path):
    part = buffer.first(1)
    assert part.identity != buffer.identity
    assert {part.draw(0, iteration, 3)[0] for iteration in range(30)} == {0}
    shutil.copytree(buffer.folder, tmp_path / "smaller")
    (tmp_path / "smaller" / "expert-0001.h5").unlink()
    smaller = ExpertBuffer.open(tmp_path / "smaller")
    assert smaller.identity == part.identity
    options = {"iterations": 2} | QUICK
    few = condense.distill("mtt", digits, 1, buffer=buffer, max_experts=1, **options)
    alone = condense.distill("mtt", digits, 1, buffer=smaller, **options)
    assert torch.equal(few.stored, alone.stored)
    configurations = [made.provenance["configuration"] for made in (few, alone)]
    assert len({configuration["experts"] for configuration in configurations}) == 1
    assert [configuration["settings"]["max_experts"] for configuration in configurations] == [1, None]
    assert "--max-experts 1" in few.provenance["command"]
    with pytest.raises(CondenseError, match="has 2 experts and --max-experts 3 asks for more"):
        condense.distill("mtt", digits, 1, buffer=buffer, max_experts=3, **options)
    with pytest.raises(CondenseError, match=r"--experts 3 .*, all 3 "):
        condense.distill("mtt", digits, 1, max_experts=3, **options)


@pytest.mark.parametrize("method", ["mtt", "tesla", "datm", "ast"])
def test_labels_and_starts_come_from_the_first_experts_too(digits, buffer, method: str, monkeypatch):
    asked: set[int] = set()
    snapshots = ExpertBuffer.snapshots

    def noted(self, expert: int, *epochs: int):
        asked.add(expert)
        return snapshots(self, expert, *epochs)

    monkeypatch.setattr(ExpertBuffer, "snapshots", noted)
    options = QUICK | ({"labels": "assigned"} if method == "tesla" else {}) | {"initialization": "correct"}
    condense.distill(method, digits, 2, buffer=buffer, iterations=4, max_experts=1, **options)
    assert asked == {0}


def test_other_experts_are_another_run(digits, buffer, tmp_path: Path):
    """What the buffer holds is part of what decides the set."""
    record_experts(digits, NET, 1, EPOCHS, tmp_path / "other", rule=RULE, seed=1)
    other = ExpertBuffer.open(tmp_path / "other")
    made = [condense.distill("mtt", digits, 1, buffer=each, iterations=1, **QUICK) for each in (buffer, other)]
    assert len({each.provenance["configuration"]["experts"] for each in made}) == 2
    assert "--buffer" in made[0].provenance["command"]
    assert not torch.equal(made[0].stored, made[1].stored)


@pytest.mark.parametrize(
    ("method", "options"),
    [("mtt", {}), ("ftd", {"image_average": None}), ("datm", {"synthetic_batch": None}), ("ast", {})],
)
def test_the_command_in_a_set_makes_it_again(digits, buffer, tmp_path: Path, method: str, options: dict):
    """Also where a setting is none and the recipe has a number."""
    quick = WINDOW | {"inner_steps": 2, "image_lr": 20.0}
    made = condense.distill(method, digits, 2, buffer=buffer, iterations=2, **quick | options)
    words = shlex.split(made.provenance["command"])
    words[words.index("--buffer") + 1], words[words.index("--out") + 1] = str(buffer.folder), str(tmp_path / "set.h5")
    assert main(words[1:]) == 0
    again = SyntheticSet.load(tmp_path / "set.h5")
    assert again.provenance["configuration"]["settings"] == made.provenance["configuration"]["settings"]
    assert torch.equal(again.stored, made.stored)


def test_the_loss_falls_and_the_set_beats_random_on_digits(digits, good_buffer, gain_over_random):
    options = WINDOW | {"inner_steps": 8, "inner_lr": 0.05, "inner_lr_lr": 1e-5, "image_lr": 30.0}
    made = condense.distill("mtt", digits, 1, buffer=good_buffer, iterations=25, **options)
    loss = made.metrics["loss"]
    assert loss[-5:].mean() < 0.9 * loss[:5].mean() < 0.9  # 1 is where the network has not come nearer
    assert gain_over_random(made, digits) > 0.05
