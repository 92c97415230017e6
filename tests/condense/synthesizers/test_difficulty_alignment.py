"""DATM against a naive reference: images and labels asked one by one, autograd through every inner step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

import condense
from buffers import ExpertBuffer, ExpertRule, record_experts
from buffers.index import read_description, write_description
from buffers.store import Trajectory, write_expert
from condense.augmentation.dsa import Augmentation, augment, draw_per_image
from condense.cli.main import main
from condense.data import RealData
from condense.data.budget import Budget
from condense.evaluation import PROTOCOLS
from condense.evaluation.training_set import training_set
from condense.labels import LogitLabels
from condense.methods.interface import Job
from condense.networks import build_network
from condense.runtime.errors import CondenseError
from condense.runtime.seeds import generator
from condense.sets.synthetic_set import SyntheticSet
from condense.synthesizers.chosen_images import chosen_images
from condense.synthesizers.difficulty_alignment import DifficultyAlignment, open_to
from condense.synthesizers.expert_opinions import ExpertOpinions

CPU = torch.device("cpu")
NET, EPOCHS = "convnet-d2-w4-in", 4
QUICK = {
    "network": NET,
    "inner_steps": 4,
    "span": 2,
    "min_start": 0,
    "max_start": 3,
    "inner_lr": 0.05,
    "inner_lr_lr": 1e-4,
    "image_lr": 20.0,
    "label_lr": 50.0,
    "synthetic_batch": None,
    "skip_above": 1e9,
    "initialization": "correct",
}
PARTLY, ONE, NONE = 3, 7, 5  # classes of which expert 0 knows two images, expert 1 alone some, and no expert any


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CONDENSE_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def digits() -> RealData:
    return condense.load_data("digits")


@pytest.fixture(scope="module")
def buffer(digits, tmp_path_factory) -> ExpertBuffer:
    folder = tmp_path_factory.mktemp("recorded")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONDENSE_CACHE", str(folder / "cache"))
        record_experts(digits, NET, 2, EPOCHS, folder / "experts", rule=ExpertRule(lr=0.05, batch_size=64))
    return ExpertBuffer.open(folder / "experts")


@pytest.fixture(scope="module")
def biased(digits, buffer, tmp_path_factory) -> ExpertBuffer:
    """The same experts, whose last epochs are made to know less by the biases of their classifiers."""
    folder = tmp_path_factory.mktemp("biased")
    write_description(folder, read_description(buffer.folder))
    assert buffer.layout.shapes[-1] == (10,)
    for expert in range(2):
        rows = torch.stack([row(buffer, expert, epoch) for epoch in range(EPOCHS + 1)]).float()
        for label in (NONE, ONE) if expert == 0 else (NONE,):
            rows[-1, label - 10] -= 1e3
        if expert == 0:
            members = digits.train.class_indices(PARTLY)
            logits = logits_of(rows[-1], digits.train.images(members))
            others = logits.clone()
            others[:, PARTLY] = -torch.inf
            margins = (logits[:, PARTLY] - others.amax(1)).sort(descending=True).values
            rows[-1, PARTLY - 10] -= margins[1:3].mean().item()  # between the second and the third
        write_expert(
            folder / f"expert-{expert:04d}.h5", Trajectory(rows, torch.zeros(EPOCHS + 1, 0), (), 0.0), "float32"
        )
    return ExpertBuffer.open(folder)


def row(buffer: ExpertBuffer, expert: int, epoch: int) -> Tensor:
    with h5py.File(buffer.folder / f"expert-{expert:04d}.h5") as file:
        return torch.from_numpy(file["snapshots"][epoch].astype(np.float64))


def logits_of(vector: Tensor, images: Tensor) -> Tensor:
    network = build_network(NET, (1, 8, 8), 10, seed=5).double().eval()
    torch.nn.utils.vector_to_parameters(vector.double(), network.parameters())
    with torch.no_grad():
        return network(images.double())


def synthesizer(data: RealData, buffer: ExpertBuffer, ipc: int = 1, **settings) -> DifficultyAlignment:
    job = Job(data.train, Budget(ipc=ipc), 0, CPU, buffer=buffer)
    return DifficultyAlignment(job, DifficultyAlignment.Settings(**QUICK | settings))


# --- the window


@pytest.mark.parametrize(("first", "last", "growth"), [(10, 20, 1000), (20, 40, 2000), (1, 3, 4), (5, 5, 7), (2, 9, 3)])
def test_starts_open_from_the_first_to_the_last_epoch_and_stay(first: int, last: int, growth: int):
    found = [open_to(iteration, first, last, growth) for iteration in range(3 * growth)]
    expected = [min(last, first + int((last - first) * iteration / growth)) for iteration in range(3 * growth)]
    assert found == expected
    assert (found[0], found[growth], found[-1]) == (first, last, last)
    assert growth == 1 or first == last or found[growth - 1] < last


def test_the_growth_can_be_a_part_of_the_run():
    """Of 300 updates a tenth; what is given in updates stays."""
    settings = DifficultyAlignment.Settings
    assert settings(growth=0.1).for_length(300).growth == 30
    assert settings(growth=0.1).for_length(3).growth == 1
    assert settings(growth=1000).for_length(300).growth == 1000


@pytest.mark.parametrize(("growth", "found"), [(0.5, 2), (0.1, 1), (7, 7)])
def test_a_run_has_its_growth_in_updates(digits, buffer, growth: float, found: int):
    made = condense.distill("datm", digits, 1, buffer=buffer, iterations=4, **QUICK | {"growth": growth})
    assert made.provenance["configuration"]["settings"]["growth"] == found


def test_starts_are_drawn_from_the_window_of_the_iteration(digits, buffer):
    made = synthesizer(digits, buffer, first_max_start=1, max_start=3, growth=20)
    seen = {}
    for iteration in range(60):
        end = min(3, 1 + 2 * iteration // 20)
        draws = generator(0, "expert", iteration)
        expert, epoch = (int(torch.randint(count, (1,), generator=draws)) for count in (2, end))
        window = made.window(iteration)
        assert (window.expert, window.epoch) == (expert, epoch)
        assert torch.equal(window.start.double(), row(buffer, expert, epoch))
        assert torch.equal(window.target.double(), row(buffer, expert, epoch + 2))
        seen.setdefault(end, set()).add(epoch)
    assert seen == {1: {0}, 2: {0, 1}, 3: {0, 1, 2}}


def test_without_a_first_window_all_starts_are_open_and_early_ones_can_be_left_out(digits, buffer):
    everything = synthesizer(digits, buffer)
    assert {everything.window(iteration).epoch for iteration in range(30)} == {0, 1, 2}
    late = synthesizer(digits, buffer, min_start=1)
    assert {late.window(iteration).epoch for iteration in range(30)} == {1, 2}
    closed = synthesizer(digits, buffer, min_start=2, first_max_start=1, growth=1000)
    assert {closed.window(iteration).epoch for iteration in range(5)} == {2}


def test_a_first_window_beyond_the_last_start_does_not_close_later(digits, buffer):
    """Whether it is refused or taken for the last start, it must not shrink below `max_start`."""
    try:
        made = synthesizer(digits, buffer, first_max_start=9, max_start=3, growth=2)
    except (CondenseError, ValueError):
        return
    assert {made.window(iteration).epoch for iteration in range(50, 80)} == {0, 1, 2}


# --- what images and labels start from


def naive_choice(data: RealData, buffer: ExpertBuffer, label: int, ipc: int) -> tuple[list[int], list[int]]:
    """Indices, and the expert of each (-1 for none): in one random order, first of expert 0, then of the next one."""
    members = data.train.class_indices(label)
    order = members[torch.randperm(len(members), generator=generator(0, "initial images", label))].tolist()
    chosen, by = [], []
    for expert in range(2):
        right = logits_of(row(buffer, expert, EPOCHS), data.train.images(torch.tensor(order))).argmax(1) == label
        for index, known in zip(order, right.tolist()):
            if known and index not in chosen and len(chosen) < ipc:
                chosen.append(index)
                by.append(expert)
    for index in order:
        if index not in chosen and len(chosen) < ipc:
            chosen.append(index)
            by.append(-1)
    return chosen, by


@pytest.mark.parametrize("ipc", [1, 4])
def test_images_start_from_real_ones_that_experts_know(digits, biased, ipc: int):
    made = synthesizer(digits, biased, ipc)
    images = made.images.detach().split(ipc)
    kinds = set()
    for label in range(10):
        chosen, by = naive_choice(digits, biased, label, ipc)
        assert torch.equal(images[label], digits.train.images(torch.tensor(chosen))), label
        assert digits.train.labels[chosen].tolist() == [label] * ipc
        kinds.add((label, tuple(by)))
    found = dict(kinds)
    assert set(found[NONE]) == {-1}
    assert set(found[ONE]) == {1}
    if ipc == 4:
        assert found[PARTLY] == (0, 0, 1, 1)
    assert (0,) * ipc in found.values()


def test_other_starts_are_those_of_every_method(digits, biased):
    made = condense.distill("datm", digits, 2, buffer=biased, iterations=1, **QUICK | _STILL)
    real = condense.distill(
        "datm", digits, 2, buffer=biased, iterations=1, **QUICK | _STILL | {"initialization": "real"}
    )
    plain = condense.distill(
        "mtt", digits, 2, buffer=biased, iterations=1, network=NET, max_start=2, inner_steps=1, image_lr=1e-12
    )
    torch.testing.assert_close(real.stored, plain.stored)
    assert not torch.equal(made.stored, real.stored)


_STILL = {"image_lr": 1e-12, "label_lr": 0.0, "inner_lr_lr": 0.0}


@pytest.mark.parametrize("ipc", [1, 4])
def test_labels_start_as_the_average_of_the_experts_that_are_right(digits, biased, ipc: int):
    made = synthesizer(digits, biased, ipc)
    counts = set()
    for number, image in enumerate(made.images.detach()):
        label = number // ipc
        said = [logits_of(row(biased, expert, EPOCHS), image[None])[0] for expert in range(2)]
        right = [logits for logits in said if int(logits.argmax()) == label]
        counts.add(len(right))
        expected = torch.stack(right or said).mean(0)
        torch.testing.assert_close(made.label_logits[number].double(), expected, rtol=1e-4, atol=1e-3)
    assert counts == {0, 1, 2}
    assert torch.isfinite(made.label_logits).all()


def test_images_drawn_anyhow_have_the_logits_of_one_expert(digits, biased):
    made = synthesizer(digits, biased, 2, initialization="real")
    expected = logits_of(row(biased, 0, EPOCHS), made.images.detach())
    torch.testing.assert_close(made.label_logits.double(), expected, rtol=1e-4, atol=1e-3)


def test_labels_and_starts_can_be_those_of_an_earlier_epoch(digits, buffer, biased):
    """The last epochs of the biased experts alone differ from those of the others."""
    options = {"label_epoch": EPOCHS - 1}
    early, same = synthesizer(digits, biased, 4, **options), synthesizer(digits, buffer, 4, **options)
    assert torch.equal(early.images, same.images)
    assert torch.equal(early.label_logits, same.label_logits)
    assert not torch.equal(early.images, synthesizer(digits, biased, 4).images)
    for number, image in enumerate(early.images.detach()[::9]):
        said = [logits_of(row(buffer, expert, EPOCHS - 1), image[None])[0] for expert in range(2)]
        right = [logits for logits in said if int(logits.argmax()) == 9 * number // 4]
        torch.testing.assert_close(
            early.label_logits[9 * number].double(), torch.stack(right or said).mean(0), rtol=1e-4, atol=1e-3
        )


@pytest.fixture(scope="module")
def others(digits, tmp_path_factory) -> ExpertBuffer:
    """Experts of another network with BatchNorm, which are fewer and shorter."""
    folder = tmp_path_factory.mktemp("others")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONDENSE_CACHE", str(folder / "cache"))
        record_experts(digits, "convnet-d1-w8-bn", 1, 2, folder / "experts", rule=ExpertRule(lr=0.05, batch_size=64))
    return ExpertBuffer.open(folder / "experts")


def test_labels_and_starts_can_be_those_of_other_experts(digits, buffer, others):
    options = QUICK | {"iterations": 1, "image_lr": 1e-12, "label_lr": 0.0}
    made = condense.distill("datm", digits, 3, buffer=buffer, label_buffer=others, **options)
    network = build_network(others.network, (1, 8, 8), 10, seed=3)
    state = others.layout.unflatten(others.snapshot(0, 2)) | others.statistics(0, 2)
    network.load_state_dict(state, strict=False)
    network.eval()
    with torch.no_grad():
        said = network(made.stored)
    torch.testing.assert_close(made.targets, said, rtol=1e-3, atol=1e-3)
    assert torch.equal(said.argmax(1), made.labels)  # images that it knows
    configuration = made.provenance["configuration"]
    assert configuration["experts"] == buffer.identity
    assert configuration["label experts"] == others.identity
    assert "--label-buffer label-experts" in made.provenance["command"]


def test_other_experts_must_know_the_data_and_have_the_epoch(digits, buffer, others):
    plain = condense.load_data("digits", normalization="none")
    options = {"iterations": 1} | QUICK
    with pytest.raises(CondenseError, match=r"--label-epoch 3 is after .* from 0 to 2"):
        condense.distill("datm", digits, 1, buffer=buffer, label_buffer=others, label_epoch=3, **options)
    with pytest.raises(CondenseError, match=f"--label-epoch {EPOCHS + 1} is after"):
        condense.distill("datm", digits, 1, buffer=buffer, label_epoch=EPOCHS + 1, **options)
    with pytest.raises(CondenseError, match="another preprocessing"):
        condense.distill("datm", plain, 1, buffer=buffer, label_buffer=others, **options)
    with pytest.raises(CondenseError, match="mtt takes no labels from other experts: leave --label-buffer out"):
        condense.distill("mtt", digits, 1, buffer=buffer, label_buffer=others, iterations=1)


def test_the_command_takes_other_experts(digits, buffer, others, tmp_path: Path, capsys):
    words = ["distill", "datm", "--data", "digits", "--ipc", 1, "--iterations", 1, "--inner-steps", 2]
    words += ["--max-start", 1, "--buffer", buffer.folder, "--label-buffer", others.folder, "--out", tmp_path / "a.h5"]
    assert main([str(word) for word in words]) == 0
    made = SyntheticSet.load(tmp_path / "a.h5")
    assert made.provenance["configuration"]["label experts"] == others.identity
    words[1] = "mtt"
    assert main([str(word) for word in words]) == 2
    assert "unknown option --label-buffer" in capsys.readouterr().err


def test_a_class_with_too_few_images_starts_several_from_one(digits, buffer):
    few = digits.train.subset(torch.cat([digits.train.class_indices(label)[:3] for label in range(10)]))
    job = Job(few, Budget(ipc=5), 0, CPU, buffer=buffer)
    images = chosen_images("correct", job, ExpertOpinions(buffer, few.info, CPU)).view(10, 5, -1)
    for label, chosen in enumerate(images):
        own = few.images(few.class_indices(label)).flatten(1)
        places = [(own == image).all(1).nonzero().item() for image in chosen]
        assert sorted(places[:3]) == [0, 1, 2]
        assert places[3:] == places[:2]


# --- learning


def naive_view(iteration: int) -> Callable[[Tensor, int], Tensor]:
    strategy = Augmentation.dsa(mirror=False, align_corners=True)

    def see(images: Tensor, step: int) -> Tensor:
        draws = draw_per_image(strategy, (1, 8, 8), len(images), generator(0, "augmentation", iteration, step))
        return augment(strategy, images, draws)

    return see


class Reference:
    """Images, labels and learning rate in float64, with torch's optimiser."""

    def __init__(self, made: DifficultyAlignment, buffer: ExpertBuffer) -> None:
        self.buffer, self.settings = buffer, made.settings
        self.network = build_network(NET, (1, 8, 8), 10, seed=7).double().train()
        self.images = made.images.detach().double().requires_grad_()
        self.logits = made.label_logits.detach().double().requires_grad_()
        self.rate = torch.tensor(made.settings.inner_lr, dtype=torch.float64, requires_grad=True)
        self.leaves = [self.images, self.rate, self.logits]
        self.start = [leaf.detach().clone() for leaf in self.leaves]
        self.optimizer = torch.optim.SGD(
            [
                {"params": [self.images], "lr": made.settings.image_lr, "momentum": 0.5},
                {"params": [self.rate], "lr": made.settings.inner_lr_lr, "momentum": 0.5},
                {"params": [self.logits], "lr": made.settings.label_lr, "momentum": 0.9},
            ]
        )

    def loss(self, iteration: int) -> Tensor:
        settings = self.settings
        draws = generator(0, "expert", iteration)
        expert, epoch = (int(torch.randint(count, (1,), generator=draws)) for count in (2, settings.max_start))
        start, target = (row(self.buffer, expert, epoch + later) for later in (0, settings.span))
        theta, see = start.clone().requires_grad_(), naive_view(iteration)
        queue, batches, size = [], generator(0, "inner batches", iteration), settings.synthetic_batch
        if settings.flip_closure:
            size = (size or len(self.images)) // 2
        for step in range(settings.inner_steps):
            if size is None:
                rows = torch.arange(len(self.images))
            else:
                queue = queue or list(torch.randperm(len(self.images), generator=batches).split(size))
                rows = queue.pop()
            batch, labels = self.images[rows], self.logits[rows]
            if settings.flip_closure:
                batch, labels = torch.cat([batch, batch.flip(3)]), torch.cat([labels, labels])
            parameters, done = {}, 0
            for name, value in self.network.named_parameters():
                parameters[name] = theta[done : done + value.numel()].reshape(value.shape)
                done += value.numel()
            said = functional_call(self.network, parameters, (see(batch, step),))
            inner = -(labels.softmax(1) * said.log_softmax(1)).sum() / len(labels)
            (gradient,) = torch.autograd.grad(inner, theta, create_graph=True)
            theta = theta - self.rate * gradient
        return (theta - target).square().sum() / (start - target).square().sum()

    def step(self, iteration: int) -> float:
        loss = self.loss(iteration)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def check(self, made: DifficultyAlignment) -> None:
        found = made.images.detach(), made.inner_lr, made.label_logits
        for before, now, value, least in zip(self.start, self.leaves, found, (1e-2, 1e-5, 1e-2)):
            moved = now.detach() - before
            assert moved.abs().max() > least
            assert (value.detach().double() - before - moved).norm() < 5e-3 * moved.norm()


@pytest.mark.parametrize("mode", ["adjoint", "unrolled"])
@pytest.mark.parametrize(("ipc", "batch"), [(1, None), (2, 7)])
def test_images_labels_and_rate_against_autograd_through_every_step(digits, buffer, ipc: int, batch, mode: str):
    made = synthesizer(digits, buffer, ipc, synthetic_batch=batch, gradient=mode)
    reference = Reference(made, buffer)
    for iteration in range(3):
        assert made.step(iteration)["loss"] == pytest.approx(reference.step(iteration), rel=1e-4)
    reference.check(made)


@pytest.mark.parametrize("mode", ["adjoint", "unrolled"])
def test_mirror_images_have_the_soft_labels_of_their_images(digits, buffer, mode: str):
    made = synthesizer(digits, buffer, 2, synthetic_batch=7, gradient=mode, flip_closure=True)
    reference = Reference(made, buffer)
    for iteration in range(3):
        assert made.step(iteration)["loss"] == pytest.approx(reference.step(iteration), rel=1e-4)
    reference.check(made)


def test_an_iteration_with_too_large_a_loss_changes_nothing_and_is_counted(digits, buffer):
    """Nor does it count for momentum: what follows is as if it had not been."""
    made = synthesizer(digits, buffer)
    reference = Reference(made, buffer)
    assert made.step(0)["skipped"] == 0
    reference.step(0)
    before = {name: value.clone() for name, value in made.state().items()}
    loss = reference.loss(1).item()
    usual, made.settings = made.settings, made.settings.model_copy(update={"skip_above": 0.999 * loss})
    found = made.step(1)
    assert (found["skipped"], found["clamped"]) == (1, 0)
    assert found["loss"] == pytest.approx(loss, rel=1e-4)
    assert {"images", "inner_lr", "label_logits"} < before.keys()
    after = made.state()
    assert after.pop("counts").tolist() == [0, 1, 0]
    for name, value in after.items():
        assert torch.equal(value, before[name]), name
    made.settings = usual.model_copy(update={"skip_above": 1.001 * reference.loss(2).item()})
    assert made.step(2)["skipped"] == 1
    reference.step(2)
    reference.check(made)


def test_skipped_iterations_are_counted_in_the_set(digits, buffer, capsys):
    made = condense.distill("datm", digits, 1, buffer=buffer, iterations=3, **QUICK | {"skip_above": 1e-6})
    assert made.metrics["skipped"].tolist() == [1, 2, 3]
    assert "note: 3 updates changed nothing, most with a loss above --skip-above 1e-06" in capsys.readouterr().err
    condense.distill("datm", digits, 1, buffer=buffer, iterations=2, **QUICK)
    assert "changed nothing" not in capsys.readouterr().err
    assert made.describe()["recorded skipped"] == "3 values, 3 at the end"
    assert (made.metrics["loss"] > 1e-6).all()
    assert made.learned_lr == pytest.approx(0.05)
    start = synthesizer(digits, buffer)
    assert torch.equal(made.stored, start.images.detach())
    assert torch.equal(made.targets, start.label_logits)
    assert DifficultyAlignment.Settings().skip_above == 1.1


# --- what becomes of the labels


def test_labels_are_stored_as_logits_and_used_where_a_protocol_asks_for_soft_labels(digits, buffer, tmp_path: Path):
    out = tmp_path / "set.h5"
    condense.distill("datm", digits, 2, buffer=buffer, iterations=2, out=out, **QUICK)
    made = SyntheticSet.load(out)
    again = synthesizer(digits, buffer, 2)
    for iteration in range(2):
        again.step(iteration)
    assert made.label_kind == "logits"
    assert torch.equal(made.targets, again.label_logits)
    assert made.stored_labels.classes.tolist() == torch.arange(10).repeat_interleave(2).tolist()
    assert ((made.targets < 0) | (made.targets > 1)).any()  # no probabilities
    expected = made.targets.exp() / made.targets.exp().sum(1, keepdim=True)
    for name in ("desk-static", "datm-soft"):
        labelled = training_set(made, digits.train, PROTOCOLS.find(name), device=CPU)
        torch.testing.assert_close(labelled.source.labels.probabilities, expected)
        assert labelled.label_source == "own logits"
        assert labelled.learned_lr == made.learned_lr
    hard = training_set(made, digits.train, PROTOCOLS.find("desk"), device=CPU)
    assert torch.equal(hard.source.labels.indices, made.labels)
    assert made.bytes >= made.stored.numel() * 4 + made.targets.numel() * 4


def test_networks_learn_what_the_soft_labels_say(digits, buffer):
    """Every image is said to be of the next class: so do networks, unless they are told the class index."""
    made = condense.distill("datm", digits, 2, buffer=buffer, iterations=1, **QUICK | _STILL)
    told = replace(made, stored_labels=LogitLabels(8 * F.one_hot((made.labels + 1) % 10, 10).float(), made.labels))
    rule = PROTOCOLS.find("desk-static").rule.model_copy(update={"epochs": 60, "lr": 0.03})
    scores = {}
    for name in ("desk-static", "desk"):
        short = PROTOCOLS.find(name).model_copy(update={"network": "convnet-w16-in", "rule": rule})
        scores[name] = condense.evaluate(told, digits, runs=1, protocol=short).mean
    assert scores["desk-static"] < 0.1
    assert scores["desk"] > 0.4


def test_going_on_is_exact_with_labels_and_their_momentum(digits, buffer):
    def fresh() -> DifficultyAlignment:
        return synthesizer(digits, buffer, 2, synthetic_batch=7, first_max_start=1, growth=3)

    made, again, forgetful = fresh(), fresh(), fresh()
    for iteration in range(2):
        made.advance(iteration)
    state = {name: value.clone() for name, value in made.state().items()}
    again.load_state({name: value.clone() for name, value in state.items()})
    forgetful.load_state({name: value.clone() for name, value in state.items() if not name.startswith("optimizer.2.")})
    for each in (made, again, forgetful):
        each.advance(2)
    assert made.state().keys() == again.state().keys()
    for name, value in made.state().items():
        assert torch.equal(value, again.state()[name]), name
    assert not torch.equal(forgetful.label_logits, made.label_logits)
    assert torch.equal(forgetful.images, made.images)
