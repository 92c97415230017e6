"""How experts are trained, against plain code, and what the command line makes and says of them."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import condense
from buffers import ExpertBuffer, ExpertRule, expert_rule, record_experts
from buffers.experts import ExpertJob, train_expert
from condense.cli.main import main
from condense.data import RealData, pack
from condense.data.travelling import PackedData
from condense.networks import build_network
from condense.runtime.errors import CondenseError
from condense.runtime.seeds import derive_seed
from condense.sets.synthetic_set import SyntheticSet

NET, BATCH_NORM = "convnet-d2-w4-in", "convnet-d2-w4-bn"


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CONDENSE_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    """Noise, but quickly trained on."""
    draws = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("data") / "noise.npz"
    labels = np.arange(36) % 3
    images = draws.integers(0, 256, (36, 8, 8), dtype=np.uint8)
    np.savez(path, train_images=images, train_labels=labels, test_images=images[:9], test_labels=labels[:9])
    return path


@pytest.fixture(scope="module")
def data(file) -> RealData:
    return condense.load_data(file)


def whole_batch(data: RealData) -> tuple[Tensor, Tensor]:
    return data.train.images(torch.arange(len(data.train))).double(), data.train.labels


def vector_of(network: torch.nn.Module) -> Tensor:
    return torch.cat([value.detach().flatten() for value in network.parameters()])


# --- smooth experts


def test_the_published_rules():
    smooth, flat, plain = (expert_rule(name) for name in ("smooth", "flat", "sgd"))
    assert (smooth.lr, smooth.momentum, smooth.weight_decay) == (0.003, 0.9, 1e-3)
    assert (smooth.drop, smooth.resolved(50).clipped_epochs, smooth.penalty) == (0.6, 10, 2.0)
    assert (flat.radius, flat.ascent_weight) == (0.01, 0.3)
    for rule in (flat, plain):
        assert (rule.lr, rule.momentum, rule.weight_decay, rule.drop) == (0.01, 0, 0, 1)
    assert {rule.batch_size for rule in (smooth, flat, plain)} == {256}
    assert {rule.augmentation for rule in (smooth, flat, plain)} == {"dsa"}


@pytest.mark.parametrize(("epochs", "clipped"), [(50, 10), (8, 2), (5, 1), (1, 0)])
def test_smooth_experts_clip_the_loss_in_a_fifth_of_their_epochs(epochs: int, clipped: int):
    """However few these are, the last ones learn with the whole loss."""
    assert expert_rule("smooth").resolved(epochs).clipped_epochs == clipped
    assert expert_rule("smooth", clipped_epochs=4).resolved(epochs).clipped_epochs == 4
    assert expert_rule("flat").resolved(epochs) == expert_rule("flat")


def test_short_smooth_experts_learn_with_the_whole_loss_and_say_since_when(data, tmp_path: Path):
    usual = expert_rule("smooth", lr=0.05, batch_size=36, augmentation=None)
    for folder, changes in (("usual", {}), ("same", {"clipped_epochs": 1}), ("other", {"clipped_epochs": 10})):
        record_experts(data, NET, 1, 4, tmp_path / folder, rule=usual.model_copy(update=changes))
    found = {name: ExpertBuffer.open(tmp_path / name) for name in ("usual", "same", "other")}
    assert found["usual"].description.rule.clipped_epochs == 1
    assert torch.equal(found["usual"].snapshot(0, 4), found["same"].snapshot(0, 4))
    assert not torch.equal(found["usual"].snapshot(0, 4), found["other"].snapshot(0, 4))
    record_experts(data, NET, 2, 4, tmp_path / "usual", rule=usual)  # goes on
    with pytest.raises(CondenseError, match="another rule: clipped epochs"):
        record_experts(data, NET, 2, 4, tmp_path / "usual", rule=usual.model_copy(update={"clipped_epochs": 2}))


def naive_smooth(
    data: RealData,
    epochs: int,
    penalty: float,
    weight_of: Callable[[int], float],
    last_before_drop: int,
    *,
    restart: bool = True,
) -> list[Tensor]:
    """Every epoch one step on all images, which are not augmented; parameters before the first and after each."""
    network = build_network(NET, (1, 8, 8), 3, derive_seed(0, "expert network", 0)).double().train()
    images, labels = whole_batch(data)
    rate, rows = 0.05, [vector_of(network)]
    optimizer = torch.optim.SGD(network.parameters(), lr=rate, momentum=0.9, weight_decay=1e-3)
    for epoch in range(epochs):
        leaf = images.clone().requires_grad_()
        loss = weight_of(epoch) * F.cross_entropy(network(images), labels)
        (jacobian,) = torch.autograd.grad(network(leaf).sum(), leaf, create_graph=True)
        loss = loss + penalty * (jacobian.square().sum(1).sqrt() - 1).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rows.append(vector_of(network))
        if epoch == last_before_drop:
            rate *= 0.6
            if restart:
                optimizer = torch.optim.SGD(network.parameters(), lr=rate, momentum=0.9, weight_decay=1e-3)
            optimizer.param_groups[0]["lr"] = rate
    return rows


def clipped(epoch: int) -> float:
    return 0.5 + 0.05 * epoch if epoch <= 9 else 1.0


@pytest.mark.parametrize("penalty", [0.0, 2.0])
def test_smooth_experts_against_plain_code(data, tmp_path: Path, penalty: float):
    """12 epochs: the loss has its full weight from epoch 10 on, and the rate drops after the one of index 7."""
    rule = expert_rule("smooth").model_copy(
        update={"lr": 0.05, "batch_size": 36, "augmentation": None, "penalty": penalty, "clipped_epochs": 10}
    )
    record_experts(data, NET, 1, 12, tmp_path / "experts", rule=rule)
    buffer = ExpertBuffer.open(tmp_path / "experts")
    found = [buffer.snapshot(0, epoch).double() for epoch in range(13)]
    expected = naive_smooth(data, 12, penalty, clipped, 12 // 2 + 1)
    scale = (expected[-1] - expected[0]).norm()
    assert scale > 0.05
    for epoch in range(13):
        assert (found[epoch] - expected[epoch]).norm() < 2e-3 * scale, epoch
    for other in (  # each difference shows
        naive_smooth(data, 12, penalty, lambda epoch: 1.0, 7),
        naive_smooth(data, 12, penalty, lambda epoch: min(1, 0.55 + 0.05 * epoch), 7),
        naive_smooth(data, 12, penalty, clipped, 6),
        naive_smooth(data, 12, penalty, clipped, 8),
        naive_smooth(data, 12, penalty, clipped, 7, restart=False),
    ):
        assert (found[-1] - other[-1]).norm() > 4e-3 * scale


def test_an_expert_that_was_stopped_anywhere_goes_on_to_the_same_bits(data, tmp_path: Path):
    """Before the drop, at it and after it: momentum is there or not, as it was."""
    packed = PackedData(str(pack(data, tmp_path / "noise.h5")), streamed=False)
    rule = ExpertRule(optimizer="smooth", lr=0.05, momentum=0.9, drop=0.5, batch_size=16, clipped_epochs=3)

    def job(folder: str) -> ExpertJob:
        return ExpertJob(packed, BATCH_NORM, rule, epochs=5, seed=0, number=0, partial=str(tmp_path / folder))

    whole = train_expert(job("whole"))
    stored = sorted((tmp_path / "whole").iterdir())
    assert len(stored) == 6
    assert whole.snapshots.shape[0] == whole.statistics.shape[0] == len(whole.accuracies) == 6
    for done in range(1, 6):
        folder = tmp_path / f"after-{done}"
        folder.mkdir()
        for path in stored[:done]:
            shutil.copy(path, folder)
        again = train_expert(job(folder.name))
        assert torch.equal(again.snapshots, whole.snapshots), done
        assert torch.equal(again.statistics, whole.statistics), done
        assert again.accuracies == whole.accuracies


# --- flat experts


def test_flat_steps_move_statistics_in_the_first_pass_only(data, tmp_path: Path):
    """One step of GSAM on all images, written out for a network with BatchNorm."""
    rule = ExpertRule(optimizer="flat", lr=0.1, augmentation=None, batch_size=36, radius=0.5, ascent_weight=0.7)
    record_experts(data, BATCH_NORM, 1, 1, tmp_path / "experts", rule=rule)
    buffer = ExpertBuffer.open(tmp_path / "experts")
    network = build_network(BATCH_NORM, (1, 8, 8), 3, derive_seed(0, "expert network", 0)).double().train()
    images, labels = whole_batch(data)

    def gradient() -> Tensor:
        parts = torch.autograd.grad(F.cross_entropy(network(images), labels), list(network.parameters()))
        return torch.cat([part.flatten() for part in parts])

    def statistics() -> dict[str, Tensor]:
        return {name: value.clone() for name, value in network.named_buffers() if value.is_floating_point()}

    before = statistics()
    for name, value in buffer.statistics(0, 0).items():
        torch.testing.assert_close(value.double(), before[name])
    weights = vector_of(network)
    first = gradient()
    once = statistics()
    ascent = 0.5 * weights.square() * first / ((weights.abs() * first).norm() + 1e-12)
    torch.nn.utils.vector_to_parameters(weights + ascent, network.parameters())
    second = gradient()
    twice = statistics()
    across = first - (first @ second) / (second @ second) * second
    expected = weights - 0.1 * (second - 0.7 * across)
    found = buffer.snapshot(0, 1).double()
    assert (found - expected).norm() < 1e-3 * (expected - weights).norm()
    assert (second - first).norm() > 0.01 * first.norm()
    assert buffer.statistics(0, 1).keys() == once.keys()
    for name, value in buffer.statistics(0, 1).items():
        torch.testing.assert_close(value.double(), once[name], rtol=1e-4, atol=1e-6)
    assert any((once[name] - twice[name]).abs().max() > 1e-2 for name in once)


def test_the_penalty_of_smooth_steps_moves_no_statistics(data, tmp_path: Path):
    rule = ExpertRule(optimizer="smooth", lr=0.1, augmentation=None, batch_size=36, penalty=2.0)
    record_experts(data, BATCH_NORM, 1, 1, tmp_path / "experts", rule=rule)
    found = ExpertBuffer.open(tmp_path / "experts").statistics(0, 1)
    network = build_network(BATCH_NORM, (1, 8, 8), 3, derive_seed(0, "expert network", 0)).double().train()
    network(whole_batch(data)[0])
    once = {name: value for name, value in network.named_buffers() if value.is_floating_point()}
    assert found.keys() == once.keys()
    for name, value in found.items():
        torch.testing.assert_close(value.double(), once[name], rtol=1e-4, atol=1e-6)


def test_flat_steps_keep_the_momentum_and_decay_of_their_optimiser(data, tmp_path: Path):
    rule = ExpertRule(
        optimizer="flat", lr=0.1, momentum=0.5, weight_decay=0.1, augmentation=None, batch_size=36, radius=1e-6,
        ascent_weight=0.0,
    )  # fmt: skip
    record_experts(data, NET, 1, 3, tmp_path / "experts", rule=rule)
    buffer = ExpertBuffer.open(tmp_path / "experts")
    network = build_network(NET, (1, 8, 8), 3, derive_seed(0, "expert network", 0)).double().train()
    images, labels = whole_batch(data)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.5, weight_decay=0.1)
    start = vector_of(network)
    for epoch in range(1, 4):
        optimizer.zero_grad()
        F.cross_entropy(network(images), labels).backward()
        optimizer.step()
        moved = vector_of(network) - start
        assert (buffer.snapshot(0, epoch).double() - start - moved).norm() < 1e-3 * moved.norm()


# --- the command line


def run(capsys: pytest.CaptureFixture, *words: object) -> tuple[int, list[str], list[str]]:
    """Exit code and the lines of output and errors, without notes."""
    capsys.readouterr()
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    errors = [line for line in captured.err.splitlines() if not line.startswith("note: ")]
    return code, captured.out.splitlines(), errors


def refused(capsys: pytest.CaptureFixture, *words: object) -> str:
    code, out, errors = run(capsys, *words)
    assert (code, out, len(errors)) == (2, [], 1)
    return errors[0]


@pytest.fixture(scope="module")
def folder(file, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("recorded") / "experts"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONDENSE_CACHE", str(tmp_path_factory.mktemp("cache")))
        words = ["--net", NET, "--experts", "2", "--epochs", "3", "--seed", "4", "--threads", "1"]
        assert main(["experts", "--data", str(file), "--out", str(out), *words]) == 0
    return out


def test_experts_are_recorded_continued_and_added_to(file, tmp_path: Path, capsys):
    out = tmp_path / "experts"
    words = ["experts", "--data", file, "--net", "convnet-d1-w4", "--epochs", 1, "--out", out]
    for experts, threads in ((1, ["--threads", 1]), (1, []), (3, [])):
        code, lines, errors = run(capsys, *words, "--experts", experts, *threads)
        assert (code, errors) == (0, [])
        buffer = ExpertBuffer.open(out)
        assert (buffer.experts, buffer.epochs, buffer.network) == (experts, 1, "convnet-d1-w4-in")
        assert lines == [f"{out}: {experts} experts of 1 epochs, {buffer.bytes / 1e6:,.1f} MB"]
    assert (buffer.description.rule, buffer.description.threads) == (ExpertRule(), 1)  # as it began
    files = ["buffer.json", *(f"expert-000{k}.h5" for k in range(3)), "preprocessing.safetensors"]
    assert sorted(path.name for path in out.iterdir()) == files


@pytest.mark.parametrize("optimizer", ["flat", "smooth"])
def test_the_kind_and_the_type_of_experts_are_options(file, tmp_path: Path, capsys, optimizer: str):
    out = tmp_path / "experts"
    words = ["--net", NET, "--experts", 1, "--epochs", 1, "--optimizer", optimizer, "--dtype", "float16"]
    assert run(capsys, "experts", "--data", file, "--out", out, *words)[0] == 0
    description = ExpertBuffer.open(out).description
    assert (description.rule, description.dtype) == (expert_rule(optimizer).resolved(1), "float16")
    with h5py.File(out / "expert-0000.h5") as stored:
        assert stored["snapshots"].dtype == np.float16


def test_values_of_the_rule_are_options_over_the_published_ones(file, tmp_path: Path, capsys):
    """FTD has alpha 1 for larger sets than CIFAR-10 at ten images per class."""
    usual = ["experts", "--data", file, "--net", NET, "--experts", 1, "--epochs", 1]
    for number, (words, expected) in enumerate(
        [
            (["--optimizer", "flat", "--ascent-weight", 1], expert_rule("flat", ascent_weight=1.0)),
            (["--optimizer", "flat", "--radius", 0.05, "--lr", 0.02], expert_rule("flat", radius=0.05, lr=0.02)),
            (["--augmentation", "none", "--batch-size", 8], expert_rule("sgd", augmentation=None, batch_size=8)),
            (
                ["--optimizer", "smooth", "--momentum", 0.5, "--clipped-epochs", 3],
                expert_rule("smooth", momentum=0.5, clipped_epochs=3),
            ),
        ]
    ):
        out = tmp_path / str(number)
        assert run(capsys, *usual, *words, "--out", out)[0] == 0
        assert ExpertBuffer.open(out).description.rule == expected
    for words, message in (
        (["--ascent-weight", 1], "--ascent-weight is a value of flat experts, and these are sgd"),
        (["--optimizer", "flat", "--penalty", 1], "--penalty is a value of smooth experts, and these are flat"),
        (["--lr", 0], "--lr '0': should be greater than 0"),
        (["--ascent-wait", 1], "did you mean --ascent-weight"),
    ):
        assert message in refused(capsys, *usual, *words, "--out", tmp_path / "no")
        assert not (tmp_path / "no").exists()


def test_show_tells_the_values_that_matter_for_the_kind(file, tmp_path: Path, capsys):
    for optimizer, there, absent in (("sgd", "lr 0.01", "radius"), ("flat", "radius 0.01", "penalty")):
        out = tmp_path / optimizer
        words = ["--net", NET, "--experts", 1, "--epochs", 1, "--optimizer", optimizer]
        assert run(capsys, "experts", "--data", file, "--out", out, *words)[0] == 0
        _, lines, _ = run(capsys, "show", out)
        (line,) = [line for line in lines if line.startswith("training ") and "optimizer" in line]
        assert there in line
        assert absent not in line


def test_an_expert_that_fails_is_named_and_the_others_are_kept(file, tmp_path: Path, capsys):
    """A file lies where the training of expert 1 wants its folder."""
    out = tmp_path / "experts"
    out.mkdir()
    (out / "expert-0001.partial").write_text("in the way")
    words = ["--net", NET, "--experts", 3, "--epochs", 1, "--threads", 1]
    code, lines, errors = run(capsys, "experts", "--data", file, "--out", out, *words)
    assert code == 1
    assert len(errors) == 1
    assert errors[0].startswith("expert 1 failed: ")
    assert len(lines) == 1
    assert "2 experts of 1 epochs" in lines[0]
    (out / "expert-0001.partial").unlink()
    assert run(capsys, "experts", "--data", file, "--out", out, *words)[0] == 0
    assert ExpertBuffer.open(out).experts == 3


def test_wrong_requests_for_experts_are_refused_in_one_line(file, folder: Path, tmp_path: Path, capsys):
    usual = {"--data": file, "--net": NET, "--experts": 1, "--epochs": 3, "--seed": 4, "--out": folder}
    elsewhere = tmp_path / "experts"
    for changes, message in (
        ({"--experts": 0, "--out": elsewhere}, "--experts"),
        ({"--epochs": 0, "--out": elsewhere}, "--epochs"),
        ({"--net": "convnot", "--out": elsewhere}, "convnot"),
        ({"--optimizer": "adam", "--out": elsewhere}, "--optimizer"),
        ({"--data": "nowhere", "--out": elsewhere}, "nowhere"),
        ({"--workers": 1, "--ray": "here", "--out": elsewhere}, "give one of them"),
        ({"--net": "convnet-d1-w4"}, "another network"),
        ({"--epochs": 2}, "another epochs"),
        ({"--seed": 5}, "another seed"),
        ({"--optimizer": "flat"}, "another rule"),
        ({"--normalization": "none"}, "another preprocessing"),
    ):
        before = sorted((path.name, path.stat().st_mtime_ns) for path in folder.iterdir())
        words = [word for pair in (usual | changes).items() for word in pair]
        assert message in refused(capsys, "experts", *words)
        assert not elsewhere.exists()
        assert sorted((path.name, path.stat().st_mtime_ns) for path in folder.iterdir()) == before


def test_an_out_that_cannot_be_a_folder_is_refused_before_data_is_read(file, tmp_path: Path, capsys):
    """`nowhere` is no data, and the error is not about it."""
    (tmp_path / "taken").write_text("somebody's")
    words = ["experts", "--data", "nowhere", "--net", NET, "--experts", 1, "--epochs", 1, "--out"]
    for out in (tmp_path / "taken", tmp_path / "taken" / "below"):
        assert refused(capsys, *words, out).endswith(
            f"cannot be a folder, because {tmp_path / 'taken'} is a file; give another name"
        )
        with pytest.raises(CondenseError, match="is a file; give another name"):
            record_experts(condense.load_data(file), NET, 1, 1, out)
    assert (tmp_path / "taken").read_text() == "somebody's"
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_ray_is_looked_for_before_data_is_read(tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch):
    words = ["experts", "--data", "nowhere", "--net", NET, "--experts", 1, "--epochs", 1, "--out", tmp_path / "no"]
    ray = pytest.importorskip("ray", reason="needs the extra ray")

    def refuse(**options) -> None:
        raise ConnectionError("nobody\nis there")

    monkeypatch.setattr(ray, "init", refuse)
    assert "no Ray cluster answers at '127.0.0.1:1' (ConnectionError: nobody is there)" in refused(
        capsys, *words, "--ray", "127.0.0.1:1"
    )
    assert "nowhere" in refused(capsys, *words, "--workers", 2)  # a cluster of our own is not started for nothing
    monkeypatch.setitem(sys.modules, "ray", None)
    for where in (["--workers", 2], ["--ray", "127.0.0.1:1"]):
        assert "workers need the package ray" in refused(capsys, *words, *where)


def test_show_tells_what_experts_are_and_draws_them(folder: Path, tmp_path: Path, capsys):
    picture = tmp_path / "experts.png"
    code, lines, errors = run(capsys, "show", folder, "--png", picture)
    assert (code, errors) == (0, [])
    buffer = ExpertBuffer.open(folder)
    rows = {line.split("  ")[0].strip(): line.split("  ", 1)[1].strip() for line in lines if "  " in line.strip()}
    assert rows["experts"] == f"2 of {NET}, {buffer.layout.size:,} parameters, stored as float32"
    assert rows["epochs"].startswith("3;")
    assert rows["seed"] == "4"
    assert "noise of 1x8x8, 3 classes" in rows["real data"]
    assert "optimizer sgd" in rows["training"]
    made = [buffer.made_with(expert) for expert in range(2)]
    assert made[0] == made[1]
    assert made[0].keys() == {"hardware", "versions", "commit"}
    assert rows["trained on"] == f"{made[0]['hardware']['processor']}, threads {made[0]['hardware']['threads']}"
    assert int(rows["bytes"].replace(",", "")) == sum(path.stat().st_size for path in folder.glob("*.h5"))
    table = lines[lines.index("") + 1 :]
    assert len(table) == 1 + 4
    for epoch, line in enumerate(table[1:]):
        values = [buffer.accuracies(expert)[epoch] for expert in range(2)]
        number, *shown = line.split()
        assert int(number) == epoch
        assert shown == [f"{value:.1%}" for value in (sum(values) / 2, min(values), max(values))]
    assert picture.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert str(folder.parent) not in "\n".join(lines)


def test_show_without_a_picture_writes_nothing(folder: Path, capsys):
    before = sorted(folder.iterdir())
    assert run(capsys, "show", folder)[0] == 0
    assert sorted(folder.iterdir()) == before


def test_folders_without_experts_are_refused_in_one_line(folder: Path, tmp_path: Path, capsys):
    assert "is no expert buffer" in refused(capsys, "show", tmp_path)
    shutil.copy(folder / "buffer.json", tmp_path)
    assert "no finished expert" in refused(capsys, "show", tmp_path)
    (tmp_path / "expert-0000.h5").write_bytes(b"nothing")
    assert "damaged" in refused(capsys, "show", tmp_path, "--png", tmp_path / "experts.png")
    assert not (tmp_path / "experts.png").exists()


def test_distilling_from_experts_on_the_command_line(file, folder: Path, tmp_path: Path, capsys):
    out = tmp_path / "set.h5"
    usual = ["--data", file, "--ipc", 1, "--out", out]
    quick = ["--iterations", 2, "--inner-steps", 2, "--max-start", 2, "--span", 2]
    code, lines, errors = run(capsys, "distill", "mtt", *usual, *quick, "--buffer", folder, "--dry-run")
    assert (code, errors) == (0, [])
    assert any(line.startswith("one iteration") for line in lines)
    assert list(tmp_path.iterdir()) == []
    code, lines, errors = run(capsys, "distill", "mtt", *usual, *quick, "--buffer", folder)
    assert (code, errors) == (0, [])
    assert "3 images (1 per class)" in lines[0]
    made = SyntheticSet.load(out)
    assert made.provenance["configuration"]["settings"]["network"] == NET
    assert made.learned_lr is not None
    trained = sum(ExpertBuffer.open(folder).seconds(expert) for expert in range(2))
    assert json.loads(out.with_suffix(".json").read_text())["expert_seconds"] == pytest.approx(trained, abs=1e-3)
    out.unlink()
    out.with_suffix(".json").unlink()
    for words, message in (
        (["mtt", *usual, *quick], "condense experts"),
        (["mtt", *usual, *quick, "--buffer", tmp_path / "none"], "is no expert buffer"),
        (["mtt", *usual, *quick, "--buffer", folder, "--max-start", 7], "these have 3"),
        (["mtt", *usual, *quick, "--buffer", folder, "--network", "convnet-d1-w4"], "another network"),
        (["mtt", *usual, *quick, "--buffer", folder, "--normalization", "none"], "another preprocessing"),
        (["dm", *usual, "--buffer", folder], "--buffer"),
    ):
        assert message in refused(capsys, "distill", *words)
        assert list(tmp_path.iterdir()) == []


def test_snapshots_of_an_expert_are_apart(folder: Path):
    """Every epoch moves the network, and copies are stored, not the network itself."""
    buffer = ExpertBuffer.open(folder)
    for expert in range(2):
        rows = [buffer.snapshot(expert, epoch) for epoch in range(4)]
        assert all((after - before).norm() > 1e-4 for before, after in pairwise(rows))
