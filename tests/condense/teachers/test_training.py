"""Training teachers: bits that depend on nothing but the request, kills, workers, and other requests."""

from __future__ import annotations

import dataclasses
import json
import math
import signal
import time
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import condense
from condense.augmentation.views import ViewRule, draw_views, see
from condense.data import RealData
from condense.networks import build_network
from condense.runtime.errors import CondenseError
from condense.runtime.executors import InProcess
from condense.runtime.seeds import derive_seed, generator
from condense.runtime.subprocesses import Subprocesses
from condense.teachers import Teacher
from condense.teachers.job import held_out_part
from condense.teachers.output import partial_path
from condense.teachers.rule import TeacherRule
from condense.teachers.training import threads_begun_with, train_teacher, train_teachers

NET = "convnet-d2-w4-bn"
RULE = TeacherRule(epochs=3, lr=0.05, batch_size=32)
FILE = f"{NET}-s0.safetensors"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.safetensors"))}


# What is trained


def test_a_teacher_lies_beside_its_account_and_equal_calls_give_equal_bytes(data: RealData, tmp_path: Path) -> None:
    for name in ("first", "second"):
        made = train_teachers(data, NET, tmp_path / name, rule=RULE)
        assert (len(made.teachers), made.found, made.failed) == (1, (), {})
    assert contents(tmp_path / "first") == contents(tmp_path / "second")
    assert sorted(path.name for path in (tmp_path / "first").iterdir()) == [f"{NET}-s0.json", FILE]
    account = json.loads((tmp_path / "first" / f"{NET}-s0.json").read_text())
    assert account["epochs"] == 3
    assert account["seconds"] > 0
    assert {"hardware", "versions", "commit"} <= account.keys()
    (teacher,) = made.teachers
    manifest = teacher.manifest
    assert manifest.training == {
        "epochs": 3,
        "lr": 0.05,
        "batch_size": 32,
        "weight_decay": 5e-4,
        "augmentation": "crop-flip",
        "holdout": 0.1,
        "optimizer": "sgd",
        "momentum": 0.9,
        "schedule": "cosine",
        "images": 81,
        "mirror": False,
        "device": "cpu",
        "compile": "off",
        "threads": torch.get_num_threads(),
    }
    assert (manifest.data, manifest.fingerprint, manifest.seed) == ("noise", data.fingerprint, 0)
    assert manifest.held_out is not None
    assert manifest.held_out.images == 9


def test_a_teacher_in_memory_is_the_one_that_is_stored(data: RealData, tmp_path: Path) -> None:
    options = {"epochs": 2, "lr": 0.05, "batch_size": 32, "seed": 4}
    alone, stored = train_teacher(data, NET, **options), train_teacher(data, NET, tmp_path, **options)
    assert stored.path == tmp_path / f"{NET}-s4.safetensors"
    assert alone.path is None
    assert (alone.hash, alone.manifest) == (stored.hash, stored.manifest)
    assert train_teacher(data, NET, **options | {"seed": 5}).hash != alone.hash


def test_held_out_images_are_the_same_for_all_and_nobody_is_trained_on_them(
    data: RealData, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, held_out = held_out_part(data.train, 0.2)
    assert held_out is not None
    assert (kept.class_counts(), held_out.class_counts()) == ((24,) * 3, (6,) * 3)
    images = [[part.pixels(torch.tensor([number])).numpy().tobytes() for number in range(len(part))]
              for part in (kept, held_out)]  # fmt: skip
    assert not set(images[0]) & set(images[1])
    seen: set[bytes] = set()
    usual = condense.data.TrainingData.images

    def watched(self: condense.data.TrainingData, indices: torch.Tensor) -> torch.Tensor:
        if len(self) == len(kept):
            seen.update(image.numpy().tobytes() for image in self.pixels(indices))
        return usual(self, indices)

    monkeypatch.setattr(condense.data.TrainingData, "images", watched)
    for seed in (0, 1):
        train_teacher(data, NET, epochs=1, lr=0.01, batch_size=32, holdout=0.2, seed=seed)
    assert seen == set(images[0])


def test_without_a_holdout_all_images_are_trained_on(data: RealData) -> None:
    manifest = train_teacher(data, NET, epochs=1, lr=0.01, holdout=0).manifest
    assert manifest.held_out is None
    assert manifest.training["images"] == 90
    assert manifest.test is not None


def test_two_epochs_against_plain_code(data: RealData) -> None:
    """SGD, the cosine and the views written out; flips do not keep the class of these images."""
    rule = TeacherRule(epochs=2, lr=0.1, batch_size=30, holdout=0, weight_decay=0.01)
    found = train_teacher(data, NET, **rule.model_dump())
    network = build_network(NET, (1, 8, 8), 3, derive_seed(0, "teacher network")).train()
    images, labels = data.train.images(torch.arange(90)), data.train.labels
    velocity = [torch.zeros_like(value) for value in network.parameters()]
    for epoch in range(2):
        seed = derive_seed(0, "teacher training", epoch)
        rate = 0.1 * (1 + math.cos(math.pi * epoch / 2)) / 2
        for ids in torch.randperm(90, generator=generator(seed, "order", 0)).split(30):
            shown = see(images[ids], draw_views(ViewRule(flip=False), (1, 8, 8), seed, 0, ids))
            loss = F.cross_entropy(network(shown), labels[ids])
            gradients = torch.autograd.grad(loss, list(network.parameters()))
            with torch.no_grad():
                for value, speed, gradient in zip(network.parameters(), velocity, gradients):
                    speed.mul_(0.9).add_(gradient + 0.01 * value)
                    value.sub_(rate * speed)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(found.state[name], value, atol=1e-5, rtol=1e-4)


def test_a_teacher_learns(data: RealData) -> None:
    manifest = train_teacher(data, NET, epochs=8, lr=0.1, batch_size=16).manifest
    assert manifest.held_out is not None
    assert manifest.held_out.accuracy > 0.7


@pytest.mark.parametrize("augmentation", ["none", "resized-crop-flip"])
def test_other_augmentations_give_other_teachers(data: RealData, augmentation: str) -> None:
    options = {"epochs": 1, "lr": 0.05, "batch_size": 32}
    other = train_teacher(data, NET, augmentation=augmentation, **options)
    assert other.hash != train_teacher(data, NET, **options).hash


def test_a_network_of_the_users_is_a_teacher_in_this_process(data: RealData, tmp_path: Path) -> None:
    def small(image_shape: tuple[int, int, int], classes: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(image_shape), classes))

    teacher = train_teacher(data, small, tmp_path, epochs=1, lr=0.01)
    assert teacher.manifest.network.startswith("small.")
    assert Teacher.open(tmp_path).hash == teacher.hash
    with pytest.raises(CondenseError, match="a network object is in this process only"):
        train_teachers(data, small, tmp_path, executor=Subprocesses())


# Kills


def test_a_training_in_pieces_equals_one_without_a_stop(
    data: RealData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import condense.training.epochs as module

    train_teachers(data, NET, tmp_path / "whole", rule=RULE)
    usual, calls = module.train_network, []

    def stop_in_the_third_epoch(*arguments, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return usual(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(module, "train_network", stop_in_the_third_epoch)
        with pytest.raises(KeyboardInterrupt):
            train_teachers(data, NET, tmp_path / "pieces", rule=RULE)
    assert [path.name for path in (tmp_path / "pieces").iterdir()] == [f"{NET}-s0.partial.safetensors"]
    assert threads_begun_with(tmp_path / "pieces") == torch.get_num_threads()
    train_teachers(data, NET, tmp_path / "pieces", rule=RULE)
    assert contents(tmp_path / "pieces") == contents(tmp_path / "whole")


@pytest.mark.parametrize("written", [False, True])
def test_a_kill_before_or_after_the_account_is_made_good(
    data: RealData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: bool
) -> None:
    import condense.teachers.output as module

    usual = module.write_json

    def killed(*arguments, **options):
        if written:
            usual(*arguments)
        raise KeyboardInterrupt

    train_teachers(data, NET, tmp_path / "whole", rule=RULE)
    with monkeypatch.context() as patch:
        patch.setattr(module, "write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            train_teachers(data, NET, tmp_path / "pieces", rule=RULE)
    assert (tmp_path / "pieces" / FILE).exists()
    monkeypatch.setattr("condense.training.epochs.train_network", killed)  # nothing is left to be trained
    made = train_teachers(data, NET, tmp_path / "pieces", rule=RULE)
    assert made.found == ()
    assert contents(tmp_path / "pieces") == contents(tmp_path / "whole")
    assert (tmp_path / "pieces" / f"{NET}-s0.json").exists()


def test_a_damaged_piece_begins_again(data: RealData, tmp_path: Path) -> None:
    train_teachers(data, NET, tmp_path / "whole", rule=RULE)
    partial = tmp_path / "pieces" / f"{NET}-s0.partial.safetensors"
    partial.parent.mkdir()
    partial.write_bytes(b"half of it")
    train_teachers(data, NET, tmp_path / "pieces", rule=RULE)
    assert contents(tmp_path / "pieces") == contents(tmp_path / "whole")


def test_a_killed_process_goes_on_to_the_same_bits(digits_file: Path, tmp_path: Path, forked) -> None:
    code = (
        "import sys, condense; condense.train_teacher("
        "condense.load_data(sys.argv[1]), 'convnet-d2-w8-bn', sys.argv[2], epochs=12, lr=0.05)"
    )
    training = forked(code, digits_file, tmp_path / "killed")
    partial = tmp_path / "killed" / "convnet-d2-w8-bn-s0.partial.safetensors"
    while not partial.exists():
        assert training.process.is_alive()
        time.sleep(0.005)
    training.signal(signal.SIGKILL)
    assert training.ended() == -signal.SIGKILL
    assert partial.exists()
    for name in ("killed", "whole"):
        train_teacher(condense.load_data(digits_file), "convnet-d2-w8-bn", tmp_path / name, epochs=12, lr=0.05)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


# Several, and workers


def test_several_are_those_that_are_trained_one_by_one(data: RealData, tmp_path: Path) -> None:
    nets = [NET, "mlp"]
    together = train_teachers(data, nets, tmp_path / "together", rule=RULE, count=2, seed=1)
    assert [teacher.path.name for teacher in together.teachers if teacher.path] == [
        f"{net}-s{seed}.safetensors" for net in nets for seed in (1, 2)
    ]
    for net in nets:
        for seed in (1, 2):
            train_teacher(data, net, tmp_path / "alone", seed=seed, **RULE.model_dump())
    assert contents(tmp_path / "together") == contents(tmp_path / "alone")
    assert len({teacher.hash for teacher in together.teachers}) == 4


def test_processes_train_the_same_bits_two_at_a_time(data: RealData, tmp_path: Path) -> None:
    """On a subset, which has a fingerprint of its own that a packed file does not know."""
    small = dataclasses.replace(data, train=data.train.subset(torch.arange(45)))
    for name, executor in (("here", InProcess(threads=1)), ("there", Subprocesses(workers=2, threads=1))):
        made = train_teachers(small, NET, tmp_path / name, rule=RULE, count=2, executor=executor)
        assert made.failed == {}
        assert {teacher.manifest.fingerprint for teacher in made.teachers} == {small.fingerprint}
    assert contents(tmp_path / "there") == contents(tmp_path / "here")


def test_one_that_fails_is_listed_and_the_others_go_on(data: RealData, tmp_path: Path) -> None:
    wild = RULE.model_copy(update={"lr": 1e30})
    with pytest.raises(CondenseError, match="diverged"):
        train_teacher(data, NET, **wild.model_dump())

    class Unlucky:
        threads = 1

        def run(self, function, jobs):
            def once(job):
                if job.seed == 1:
                    raise ValueError("no luck")
                return function(job)

            return InProcess(attempts=1).run(once, jobs)

    made = train_teachers(data, NET, tmp_path, rule=RULE, count=3, executor=Unlucky())
    assert made.failed == {tmp_path / f"{NET}-s1.safetensors": "ValueError: no luck"}
    assert [teacher.manifest.seed for teacher in made.teachers] == [0, 2]
    again = train_teachers(data, NET, tmp_path, rule=RULE, count=3, executor=InProcess(threads=1))
    assert [path.name for path in again.found] == [f"{NET}-s{seed}.safetensors" for seed in (0, 2)]
    assert len(again.teachers) == 3


# Other requests


def test_a_finished_teacher_is_not_trained_again(
    data: RealData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train_teachers(data, NET, tmp_path, rule=RULE)
    before = contents(tmp_path)

    def never(*arguments, **options):
        raise AssertionError("it is finished")

    with monkeypatch.context() as patch:
        patch.setattr("condense.training.epochs.train_network", never)
        again = train_teachers(data, NET, tmp_path, rule=RULE, executor=InProcess(threads=1))
    assert again.found == (tmp_path / FILE,)
    assert again.teachers[0].hash == first.teachers[0].hash
    train_teachers(data, NET, tmp_path, rule=RULE, overwrite=True)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("finished", [True, False])
def test_another_request_for_the_same_file_names_what_differs(
    data: RealData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: bool
) -> None:
    train_teachers(data, NET, tmp_path / "other", rule=RULE.model_copy(update={"lr": 0.01}))
    if finished:
        train_teachers(data, NET, tmp_path / "out", rule=RULE)
    else:
        _leave_half_done(data, tmp_path / "out", monkeypatch)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    small = dataclasses.replace(data, train=data.train.subset(torch.arange(60)))
    for message, other, change in (
        ("another epochs .3, not 4", data, {"epochs": 4}),
        ("another lr .0.05, not 0.01", data, {"lr": 0.01}),
        ("another holdout .0.1, not 0.0", data, {"holdout": 0.0}),
        ("another augmentation .crop-flip, not none", data, {"augmentation": "none"}),
        ("another fingerprint", small, {}),
    ):
        with pytest.raises(CondenseError, match=message):
            train_teachers(other, NET, tmp_path / "out", rule=RULE.model_copy(update=change))
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    other_rule = RULE.model_copy(update={"lr": 0.01})
    train_teachers(data, NET, tmp_path / "out", rule=other_rule, overwrite=True)
    assert contents(tmp_path / "out") == contents(tmp_path / "other")


def test_half_a_training_goes_on_with_its_threads_and_compiled_or_not_as_it_began(
    data: RealData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _leave_half_done(data, tmp_path, monkeypatch)
    with pytest.raises(CondenseError, match=r"another threads .1, not 2"):
        train_teachers(data, NET, tmp_path, rule=RULE, executor=InProcess(threads=2))
    with pytest.raises(CondenseError, match=r"another compile .off, not on"):
        train_teachers(data, NET, tmp_path, rule=RULE, executor=InProcess(threads=1), compile="on")
    monkeypatch.setattr("condense.teachers.training._Request._worth_compiling", lambda *_: "on")
    (teacher,) = train_teachers(data, NET, tmp_path, rule=RULE, executor=InProcess(threads=1)).teachers
    assert teacher.manifest.training["compile"] == "off"


def _leave_half_done(data: RealData, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import condense.teachers.job as module

    usual = module._keep

    def keep_and_stop(*arguments):
        usual(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "_keep", keep_and_stop)
        with pytest.raises(KeyboardInterrupt):
            train_teachers(data, NET, out, rule=RULE, executor=InProcess(threads=1))
    assert partial_path(out / FILE).exists()


def test_files_of_the_users_are_not_replaced(data: RealData, tmp_path: Path) -> None:
    account = tmp_path / f"{NET}-s0.json"
    account.write_text("mine")
    with pytest.raises(CondenseError, match=r"s0\.json exists already; give --overwrite"):
        train_teachers(data, NET, tmp_path, rule=RULE)
    account.unlink()
    (tmp_path / FILE).write_text("mine")
    with pytest.raises(CondenseError, match=r"is damaged .*it is not replaced: remove it or give another --out"):
        train_teachers(data, NET, tmp_path, rule=RULE, overwrite=True)
    assert (tmp_path / FILE).read_text() == "mine"


# What cannot be


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "--epochs 0"),
        ({"lr": 0}, "--lr 0"),
        ({"lr": float("inf")}, "--lr inf"),
        ({"batch_size": 0}, "--batch-size 0"),
        ({"weight_decay": -1}, "--weight-decay -1"),
        ({"augmentation": "dsa"}, "--augmentation 'dsa'"),
        ({"holdout": 1}, "--holdout 1"),
        ({"net": "convnt"}, "did you mean convnet"),
        ({"device": "tpu"}, "give auto, cpu or cuda:N"),
    ],
)
def test_values_out_of_range_are_refused(data: RealData, tmp_path: Path, options, message: str) -> None:
    for out in (None, tmp_path / "out"):
        with pytest.raises(CondenseError, match=message):
            train_teacher(**{"data": data, "net": NET, "out": out} | options)
    assert not (tmp_path / "out").exists() or not contents(tmp_path / "out")


def test_data_without_a_normalisation_for_each_channel_is_refused(digits_file: Path) -> None:
    for normalization, kind in (("zca", "whitened"), ("none", "not normalised")):
        other = condense.load_data(digits_file, normalization=normalization)
        with pytest.raises(CondenseError, match=f"digits is {kind}, .*give --normalization computed"):
            train_teacher(other, NET)
    with pytest.raises(CondenseError, match="leave --labels none out"):
        train_teacher(condense.load_data(digits_file, labels="none"), NET)


def test_classes_of_single_images_have_none_to_spare(data: RealData) -> None:
    few = dataclasses.replace(data, train=data.train.subset(torch.arange(3)))
    with pytest.raises(CondenseError, match="single training image, so none can be held out; give --holdout 0"):
        train_teacher(few, NET)
    assert train_teacher(few, NET, holdout=0, epochs=1, lr=0.01).manifest.training["images"] == 3


def test_nothing_asked_for_is_refused(data: RealData, tmp_path: Path) -> None:
    for nets, count in (([], 1), ([NET], 0)):
        with pytest.raises(CondenseError, match="give at least 1 of each"):
            train_teachers(data, nets, tmp_path, count=count)
    with pytest.raises(CondenseError, match="workers train on processors"):
        train_teachers(data, NET, tmp_path, device="cuda", executor=Subprocesses())
