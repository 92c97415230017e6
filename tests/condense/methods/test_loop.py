"""The loop: budgets, guards, Ctrl-C, checkpoints; and real processes that are really killed."""

import json
import math
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import condense
from buffers import record_experts
from condense.cli.main import main
from condense.data.budget import Budget
from condense.methods import checkpoints, loop
from condense.methods.checkpoints import checkpoint_path, load_checkpoint, read_header
from condense.methods.interface import Job
from condense.methods.pace import Pace
from condense.runtime.errors import CondenseError
from condense.runtime.tensor_files import load_tensors, save_tensors
from condense.sets.synthetic_set import SyntheticSet
from condense.synthesizers.distribution_matching import DistributionMatching

SETTINGS = {"network": "convnet-d1-w8", "real_batch": 16}


@pytest.fixture(scope="module")
def digits():
    return condense.load_data("digits")


class Counting:
    """A synthesizer whose state is a number, and that can be told to misbehave."""

    rate = "image_lr"

    def __init__(self, *, broken_at: int = -1, seconds: float = 0.0, skips: bool = False) -> None:
        self.skips = skips
        self.value = torch.zeros(1)
        self.broken_at, self.seconds = broken_at, seconds

    def advance(self, iteration: int) -> dict[str, float]:
        time.sleep(self.seconds)
        self.value += iteration + 1
        return {"loss": float("nan") if iteration == self.broken_at else 1.0 / (iteration + 1)}

    def results(self) -> dict[str, torch.Tensor]:
        return {"value": self.value}

    def state(self) -> dict[str, torch.Tensor]:
        return self.results()

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        self.value = state["value"]


def job(digits, **changes) -> Job:
    return Job(digits.train, Budget(ipc=1), 0, torch.device("cpu"), **changes)


def test_iterations_end_a_run_and_every_metric_is_recorded(digits):
    synthesizer = Counting()
    record = loop.run(synthesizer, job(digits, iterations=5))
    assert record.iterations == 5
    assert synthesizer.value.item() == 1 + 2 + 3 + 4 + 5
    assert record.metrics["loss"].tolist() == [1 / 1, 1 / 2, 1 / 3, 1 / 4, 1 / 5]


def test_minutes_end_a_run_after_at_least_one_update(digits):
    assert loop.run(Counting(seconds=0.05), job(digits, minutes=0.2 / 60)).iterations in range(2, 6)
    assert loop.run(Counting(), job(digits, minutes=1e-9)).iterations == 1
    assert loop.run(Counting(), job(digits, iterations=3, minutes=10)).iterations == 3


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_good_state(digits, tmp_path: Path):
    path = tmp_path / "c.safetensors"
    with pytest.raises(CondenseError, match=r"loss is no longer finite at iteration 3.*smaller image_lr"):
        loop.run(Counting(broken_at=3), job(digits, iterations=9, checkpoint=path))
    assert load_checkpoint(path, {}).iteration <= 3


def test_a_method_that_passes_over_such_updates_goes_on_while_its_state_is_finite(digits):
    synthesizer = Counting(broken_at=1, skips=True)
    record = loop.run(synthesizer, job(digits, iterations=4))
    assert record.metrics["loss"].isnan().tolist() == [False, True, False, False]
    synthesizer.value += float("inf")
    with pytest.raises(CondenseError, match="value is no longer finite at iteration 0"):
        loop.run(synthesizer, job(digits, iterations=1))


def test_the_rest_of_the_state_is_guarded_where_it_is_saved(digits, tmp_path: Path, monkeypatch):
    """A broken queue does not end the run at once, but it never gets into a checkpoint."""

    class Queueing(Counting):
        looked = 0

        def state(self) -> dict[str, torch.Tensor]:
            self.looked += 1
            queue = torch.full((3,), float("nan") if self.value > 3 else 1.0)
            return super().state() | {"queue": queue}

    monkeypatch.setattr(checkpoints, "MOST_SECONDS_LOST", 1e9)
    path = tmp_path / "c.safetensors"
    synthesizer = Queueing()
    with pytest.raises(CondenseError, match="queue is no longer finite at iteration 9"):
        loop.run(synthesizer, job(digits, iterations=9, checkpoint=path))
    assert synthesizer.looked == 2  # before the first update and after the last one
    assert load_checkpoint(path, {}).iteration == 0
    monkeypatch.setattr(checkpoints, "MOST_SECONDS_LOST", 0.0)
    monkeypatch.setattr(checkpoints, "LARGEST_COST", 1e9)
    with pytest.raises(CondenseError, match="queue is no longer finite at iteration 3"):
        loop.run(Queueing(), job(digits, iterations=9, checkpoint=path))
    assert load_checkpoint(path, {}).iteration == 2
    monkeypatch.setattr(checkpoints, "MOST_SECONDS_LOST", 1e9)
    with pytest.raises(CondenseError, match="queue is no longer finite at iteration 9"):
        loop.run(Queueing(), job(digits, iterations=9))  # nor does a run end well that saves nothing


def test_images_that_stop_being_finite_stop_the_run(digits):
    with pytest.raises(CondenseError, match=r"no longer finite at iteration \d+: the run diverged"):
        condense.distill("dm", digits, ipc=1, iterations=30, image_lr=1e30, **SETTINGS)


def test_ctrl_c_saves_first_and_the_run_goes_on_exactly(digits, tmp_path: Path):
    class Impatient(Counting):
        def advance(self, iteration: int) -> dict[str, float]:
            if iteration == 4 and not path.with_suffix(".asked").exists():
                path.with_suffix(".asked").touch()
                os.kill(os.getpid(), signal.SIGINT)
            return super().advance(iteration)

    path = tmp_path / "c.safetensors"
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        loop.run(Impatient(), job(digits, iterations=9, checkpoint=path))
    assert signal.getsignal(signal.SIGINT) is before
    assert read_header(path)["iteration"] == 5
    synthesizer = Impatient()
    record = loop.run(synthesizer, job(digits, iterations=9, checkpoint=path))
    assert record.resumed_at == 5
    assert synthesizer.value.item() == sum(range(1, 10))
    assert len(record.metrics["loss"]) == 9


def test_saving_is_often_enough_and_seldom_enough(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: clock[0])

    def steps_until_due(timer: checkpoints.CheckpointTimer, seconds: float) -> int:
        for count in range(1, 10_000):
            clock[0] += seconds
            if timer.due():
                return count
        return 0

    timer = checkpoints.CheckpointTimer()
    assert 9 <= steps_until_due(timer, 1.0) <= 10  # loses at most ten seconds
    timer.saved(clock[0])
    assert steps_until_due(timer, 60.0) == 1  # or one update, where that takes longer
    started = clock[0]
    clock[0] += 2.0  # saving is slow: at most 5 % of the time
    timer.saved(started)
    assert steps_until_due(timer, 1.0) >= 40


def test_a_checkpoint_of_another_configuration_names_the_field(digits, tmp_path: Path):
    out = tmp_path / "set.h5"
    path = checkpoint_path(out)
    loop.run(Counting(), job(digits, iterations=1, checkpoint=path, configuration={"settings": {"image_lr": 1.0}}))
    with pytest.raises(CondenseError, match=r"settings.image_lr 1.0, now it is 2.0.*--no-resume"):
        load_checkpoint(path, {"settings": {"image_lr": 2.0}})
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CondenseError, match=r"damaged or not a checkpoint.*--no-resume"):
        condense.distill("dm", digits, ipc=1, out=out, iterations=1, **SETTINGS)
    condense.distill("dm", digits, ipc=1, out=out, iterations=1, resume=False, **SETTINGS)
    assert not path.exists()


def unfinished(digits, out: Path, monkeypatch) -> bytes:
    """The checkpoint of a run that was interrupted after two updates."""
    with monkeypatch.context() as patch:
        patch.setattr(DistributionMatching, "step", interrupted_at(2, DistributionMatching.step))
        with pytest.raises(KeyboardInterrupt):
            condense.distill("dm", digits, ipc=1, out=out, iterations=4, **SETTINGS)
    return checkpoint_path(out).read_bytes()


def test_a_damaged_checkpoint_is_refused_and_never_resumed_from(digits, tmp_path: Path, monkeypatch):
    """One bit anywhere: in the header, in the plan, in the images, in what the optimiser keeps."""
    out = tmp_path / "set.h5"
    content = unfinished(digits, out, monkeypatch)
    for place in range(8, len(content), len(content) // 40):
        checkpoint_path(out).write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(CondenseError, match=r"damaged or not a checkpoint.*--no-resume") as caught:
            condense.distill("dm", digits, ipc=1, out=out, iterations=4, **SETTINGS)
        assert "\n" not in str(caught.value)
    checkpoint_path(out).write_bytes(content)
    resumed = condense.distill("dm", digits, ipc=1, out=out, iterations=4, **SETTINGS)
    assert torch.equal(resumed.stored, condense.distill("dm", digits, ipc=1, iterations=4, **SETTINGS).stored)


def test_a_checkpoint_of_an_earlier_version_is_refused(digits, tmp_path: Path, monkeypatch):
    """It had no checksum, so nobody can tell whether it is whole."""
    out = tmp_path / "set.h5"
    unfinished(digits, out, monkeypatch)
    tensors, facts = load_tensors(checkpoint_path(out))
    before = json.dumps(json.loads(facts["condense"]) | {"format": 1})
    save_file(tensors, checkpoint_path(out), metadata={"condense": before})
    with pytest.raises(CondenseError, match=r"not a checkpoint of this version; start again with --no-resume"):
        condense.distill("dm", digits, ipc=1, out=out, iterations=4, **SETTINGS)


@pytest.mark.parametrize(
    "header",
    [
        [],
        {},
        {"configuration": None},
        {"configuration": {}},
        {"configuration": {"plan": 3}},
        {"iteration": -1},
        {"iteration": "2"},
        {"seconds": None},
        {"format": "2"},
        {"more": 1},
    ],
)
def test_a_forged_header_is_refused(digits, tmp_path: Path, monkeypatch, header: object):
    """Whoever forges it can write a checksum that fits."""
    out = tmp_path / "set.h5"
    unfinished(digits, out, monkeypatch)
    tensors, facts = load_tensors(checkpoint_path(out))
    forged = json.loads(facts["condense"]) | header if header and isinstance(header, dict) else header
    save_tensors(checkpoint_path(out), tensors, {"condense": json.dumps(forged)})
    with pytest.raises(CondenseError, match="--no-resume"):
        condense.distill("dm", digits, ipc=1, out=out, iterations=4, **SETTINGS)


def test_a_forged_state_is_refused(digits, tmp_path: Path, monkeypatch):
    out = tmp_path / "set.h5"
    unfinished(digits, out, monkeypatch)
    tensors, facts = load_tensors(checkpoint_path(out))
    images = next(name for name in tensors if name.startswith("state."))
    for forged in ({}, {name: value for name, value in tensors.items() if name != images}, {"other.a": torch.ones(1)}):
        save_tensors(checkpoint_path(out), forged, facts)
        with pytest.raises(CondenseError, match="--no-resume"):
            condense.distill("dm", digits, ipc=1, out=out, iterations=4, **SETTINGS)


def test_a_run_by_the_clock_is_made_again_by_its_iterations(digits, tmp_path: Path):
    first, second = tmp_path / "first.h5", tmp_path / "second.h5"
    condense.distill("dm", digits, ipc=1, out=first, minutes=0.5 / 60, **SETTINGS)
    reached = json.loads(first.with_suffix(".json").read_text())["iterations"]
    assert reached >= 1
    condense.distill("dm", digits, ipc=1, out=second, iterations=reached, **SETTINGS)
    assert first.read_bytes() == second.read_bytes()


def test_what_is_given_for_the_whole_run_is_spread_over_its_length(digits, tmp_path: Path, monkeypatch, capsys):
    """An average that keeps a quarter of the first images: after 4 updates, or as many as minutes hold of real ones.

    The set records what an update keeps, so the iterations that were reached make it again.
    """
    first, second = tmp_path / "first.h5", tmp_path / "second.h5"
    made = condense.distill("dm", digits, ipc=1, iterations=4, image_average_left=0.25, **SETTINGS)
    plain = condense.distill("dm", digits, ipc=1, iterations=4, image_average=0.25**0.25, **SETTINGS)
    assert torch.equal(made.stored, plain.stored)
    with monkeypatch.context() as patch:  # an update takes far longer than its work in the engine
        patch.setattr(DistributionMatching, "step", slowed(0.1, DistributionMatching.step))
        made = condense.distill("dm", digits, ipc=1, out=first, minutes=0.5 / 60, image_average_left=0.25, **SETTINGS)
    settings = made.provenance["configuration"]["settings"]
    reached, kept = settings["iterations"], settings["image_average"]
    assert settings["image_average_left"] is None
    expected = math.log(0.25) / math.log(kept)
    assert expected == pytest.approx(round(expected))
    assert 1 <= round(expected) <= 5
    assert f"--image-average-left, taken for about {round(expected)} updates" in capsys.readouterr().err
    condense.distill("dm", digits, ipc=1, out=second, iterations=reached, image_average=kept, **SETTINGS)
    assert first.read_bytes() == second.read_bytes()


def test_the_iterations_that_end_a_run_before_its_minutes_are_its_length(digits):
    made = condense.distill("dm", digits, ipc=1, minutes=60, iterations=3, image_average_left=0.25, **SETTINGS)
    assert made.provenance["configuration"]["settings"]["image_average"] == pytest.approx(0.25 ** (1 / 3))


def test_an_unfinished_run_keeps_what_it_spread(digits, tmp_path: Path, monkeypatch):
    """Even if the machine is ten times as fast by now."""
    out = tmp_path / "set.h5"
    options = {"ipc": 1, "out": out, "minutes": 10, "image_average_left": 0.25, **SETTINGS, "iterations": 60}
    monkeypatch.setattr(DistributionMatching, "pace", lambda *asked: Pace(0.0, 12.0))
    with monkeypatch.context() as patch:
        patch.setattr(DistributionMatching, "step", interrupted_at(2, DistributionMatching.step))
        with pytest.raises(KeyboardInterrupt):
            condense.distill("dm", digits, **options)
    begun = read_header(checkpoint_path(out))["configuration"]["settings"]["image_average"]
    monkeypatch.setattr(DistributionMatching, "pace", lambda *asked: Pace(0.0, 1.2))
    with pytest.raises(CondenseError, match=r"for the whole run.image_average_left 0.25, now it is 0.5"):
        condense.distill("dm", digits, **options | {"image_average_left": 0.5})
    made = condense.distill("dm", digits, **options)
    assert made.provenance["configuration"]["settings"]["image_average"] == begun
    assert begun == pytest.approx(0.25 ** (1 / 50))


def slowed(seconds: float, step):
    def stepping(synthesizer, number: int) -> dict[str, float]:
        time.sleep(seconds)
        return step(synthesizer, number)

    return stepping


def test_a_request_that_is_refused_costs_no_unfinished_run(digits, tmp_path: Path, monkeypatch):
    out, step = tmp_path / "set.h5", DistributionMatching.step
    options = SETTINGS | {"iterations": 6, "keep_every": 2}
    monkeypatch.setattr(DistributionMatching, "step", interrupted_at(4, step))
    with pytest.raises(KeyboardInterrupt):
        condense.distill("dm", digits, 1, out=out, **options)
    monkeypatch.setattr(DistributionMatching, "step", step)
    unfinished = checkpoint_path(out).read_bytes()
    with pytest.raises(CondenseError, match="is no part of this run"):
        condense.distill("dm", digits, 1, out=out, resume=False, image_lr=0.5, **options)
    assert checkpoint_path(out).read_bytes() == unfinished
    condense.distill("dm", digits, 1, out=out, **options)
    assert not checkpoint_path(out).exists()


def interrupted_at(iteration: int, step):
    def stepping(synthesizer, number: int) -> dict[str, float]:
        if number == iteration:
            os.kill(os.getpid(), signal.SIGINT)
        return step(synthesizer, number)

    return stepping


COMMAND = """
import sys
from condense.methods import checkpoints
checkpoints.MOST_SECONDS_LOST, checkpoints.LARGEST_COST = 0.02, 1e9  # saved after about every update
from condense.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def words_of(method: str, out: Path, *options: object) -> list[str]:
    """A small `condense distill` whose numbers do not depend on the machine's load."""
    fixed = ["--ipc", 2, "--seed", 5, "--threads", 1, "--precision", "float32", "--compile", "off"]
    return [str(word) for word in ("distill", method, *fixed, *options, "--out", out)]


def kill_at(iteration: int, words: list[str], forked) -> int:
    """Start it, kill it when that many updates are saved, and return how many are."""
    out = Path(words[-1])
    process = forked(COMMAND, *words)
    wait_for_iteration(process, checkpoint_path(out), iteration)
    process.signal(signal.SIGKILL)
    assert process.ended() == -signal.SIGKILL
    assert not out.exists()
    return read_header(checkpoint_path(out))["iteration"]


def wait_for_iteration(process, path: Path, iteration: int) -> None:
    deadline = time.monotonic() + 60
    while not (path.exists() and read_header(path)["iteration"] >= iteration):
        assert process.process.is_alive(), process.errors
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture(scope="module")
def noise(tmp_path_factory) -> Path:
    """Noise in three classes, in a file that other processes can read quickly."""
    draws, labels = np.random.default_rng(0), np.arange(60) % 3
    images = draws.integers(0, 256, (60, 8, 8), dtype=np.uint8)
    path = tmp_path_factory.mktemp("data") / "noise.npz"
    np.savez(path, train_images=images, train_labels=labels, test_images=images[:9], test_labels=labels[:9])
    return path


def test_killed_at_several_moments_the_file_is_bit_for_bit_that_of_an_uninterrupted_run(
    noise: Path, tmp_path: Path, forked, monkeypatch
):
    whole, pieces = tmp_path / "whole.h5", tmp_path / "pieces.h5"
    options = ("--data", noise, "--iterations", 60, "--network", "convnet-d1-w8", "--real-batch", 16)
    assert main(words_of("dm", whole, *options)) == 0
    words = words_of("dm", pieces, *options)
    monkeypatch.setenv("CONDENSE_CACHE", str(tmp_path / ".cache"))
    resumed = [kill_at(moment, words, forked) for moment in (1, 15, 40)]
    process = forked(COMMAND, *words)
    assert process.ended() == 0, process.errors
    errors = process.errors
    assert resumed == sorted(resumed)
    assert resumed[-1] >= 40
    assert f"going on at iteration {resumed[-1]}" in errors
    assert pieces.read_bytes() == whole.read_bytes()
    leftovers = {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")}
    assert leftovers == {"whole.h5", "whole.json", "pieces.h5", "pieces.json"}


# With more state than images: a network that is trained on them, queues, pretrained networks and AdamW, experts.
SMALL = ("--network", "convnet-d1-w4", "--real-batch", 8)
KILLED = {
    "dsa": (*SMALL, "--matching-steps", 4, "--inner-epochs", 2, "--network-lr", 0.1),
    "idm": (*SMALL, "--queue", 4, "--queue-interval", 2, "--network-steps", 2, "--network-batch", 16),
    "ncfm": (*SMALL, "--networks", 2, "--network-epochs", 1, "--frequencies", 16),
    "frepo": (*SMALL, "--networks", 3, "--network-updates", 4, "--updates-per-batch", 2),
    "rcig": (
        *(*SMALL, "--solver", "cg", "--inner-steps", 3),
        *("--networks", 3, "--network-updates", 9, "--most-updates", 4),
    ),
    "mtt": ("--span", 1, "--max-start", 2, "--inner-steps", 4, "--inner-lr", 0.02, "--inner-lr-lr", 1e-5),
    "ftd": (
        *("--span", 1, "--max-start", 2, "--inner-steps", 4, "--inner-lr", 0.02, "--inner-lr-lr", 1e-5),
        *("--flip-closure", "--truncate", 3, "--max-experts", 1, "--synthetic-batch", 4, "--keep-every", 10),
    ),
}


@pytest.mark.parametrize("method", KILLED)
def test_a_killed_run_goes_on_with_all_that_its_method_keeps(
    noise: Path, method: str, tmp_path: Path, monkeypatch, capsys, forked
):
    """In another process, which has nothing but the checkpoint: the file is that of a run that was left alone."""
    options = ("--data", noise, "--iterations", 30, *KILLED[method])
    monkeypatch.setenv("CONDENSE_CACHE", str(tmp_path / "cache"))
    if method in ("mtt", "ftd"):
        record_experts(condense.load_data(noise), "convnet-d1-w4", experts=2, epochs=2, out=tmp_path / "experts")
        options += ("--buffer", tmp_path / "experts")
    words = words_of(method, tmp_path / "pieces.h5", *options)
    resumed = kill_at(6, words, forked)
    assert main(words) == 0
    assert f"going on at iteration {resumed}" in capsys.readouterr().err
    monkeypatch.setenv("CONDENSE_CACHE", str(tmp_path / "another cache"))
    assert main(words_of(method, tmp_path / "whole.h5", *options)) == 0
    stored = sorted(tmp_path.glob("whole*.h5"))
    assert len(stored) == (4 if "--keep-every" in options else 1)
    for path in stored:
        assert path.with_name(path.name.replace("whole", "pieces")).read_bytes() == path.read_bytes()


# --- sets that are kept on the way


def test_nothing_that_is_not_of_the_same_run_is_replaced_by_a_set_on_the_way(digits, tmp_path: Path):
    options = SETTINGS | {"iterations": 4}
    out, other = tmp_path / "set.h5", tmp_path / "set-000002.h5"
    condense.distill("dm", digits, 1, seed=7, out=other, **options)
    before = other.read_bytes()
    with pytest.raises(CondenseError, match=r"set-000002\.h5 is no part of this run; give --overwrite"):
        condense.distill("dm", digits, 1, out=out, keep_every=2, **options)
    assert other.read_bytes() == before
    assert not out.exists()
    condense.distill("dm", digits, 1, out=out, keep_every=2, overwrite=True, **options)
    assert other.read_bytes() != before
    out.unlink()
    out.with_suffix(".json").unlink()
    condense.distill("dm", digits, 1, out=out, keep_every=1, **options)  # those are of this run
    other.write_text("mine", encoding="utf-8")
    with pytest.raises(CondenseError, match=r"set-000002\.h5 is no readable synthetic set"):
        condense.distill("dm", digits, 1, out=out, keep_every=2, overwrite=True, **options)
    assert other.read_text(encoding="utf-8") == "mine"


def test_files_of_other_names_do_not_matter_to_sets_on_the_way(digits, tmp_path: Path):
    for name in ("set-2.h5", "set-000002.json", "other-000002.h5", "set-000002-old.h5"):
        (tmp_path / name).write_text("mine", encoding="utf-8")
    condense.distill("dm", digits, 1, out=tmp_path / "set.h5", keep_every=2, **SETTINGS | {"iterations": 2})
    assert (tmp_path / "set-000002.h5").exists()


def test_a_name_may_have_any_letters(digits, tmp_path: Path):
    condense.distill("dm", digits, 1, out=tmp_path / "set[1]*.h5", keep_every=2, **SETTINGS | {"iterations": 2})
    assert (tmp_path / "set[1]*-000002.h5").exists()


def test_sets_on_the_way_need_a_file_iterations_and_a_number(digits, tmp_path: Path):
    with pytest.raises(CondenseError, match="stores sets beside the finished one; give --out too"):
        condense.distill("dm", digits, 1, keep_every=2, iterations=2, **SETTINGS)
    with pytest.raises(CondenseError, match="random makes its set in one go: leave --keep-every out"):
        condense.distill("random", digits, 1, out=tmp_path / "set.h5", keep_every=2)
    with pytest.raises(CondenseError, match="--keep-every 0: should be greater than or equal to 1"):
        condense.distill("dm", digits, 1, out=tmp_path / "set.h5", keep_every=0, **SETTINGS)
    assert list(tmp_path.iterdir()) == []


def test_a_run_by_the_clock_keeps_sets_too(digits, tmp_path: Path):
    out = tmp_path / "set.h5"
    made = condense.distill("dm", digits, 1, out=out, minutes=0.01, keep_every=1, **SETTINGS)
    count = made.provenance["configuration"]["settings"]["iterations"]
    kept = sorted(tmp_path.glob("set-*.h5"))
    assert [path.name for path in kept] == [f"set-{number:06d}.h5" for number in range(1, count + 1)]
    assert torch.equal(SyntheticSet.load(kept[-1]).stored, made.stored)
    assert SyntheticSet.load(kept[-1]).metrics.keys() == made.metrics.keys()
    assert all(len(series) == 1 for series in SyntheticSet.load(kept[0]).metrics.values())


# --- the end of a run

ENDED_BY = """
import os, signal, sys
from condense.methods import output
def killed(*_arguments):
    os.kill(os.getpid(), signal.SIGKILL)
point = sys.argv.pop(1)
if point == "set":
    output.SyntheticSet.save = killed
elif point == "account":
    output.write_json = killed
elif point == "end":
    unlink = output.Path.unlink
    output.Path.unlink = lambda path, **how: killed() if ".checkpoint." in path.name[-25:] else unlink(path, **how)
from condense.cli.main import main
sys.exit(main(sys.argv[1:]))
"""

ENDING = {
    "dm": ("--iterations", 3, "--network", "convnet-d1-w4", "--real-batch", 8),
    "dm by the clock": ("--minutes", 0.3 / 60, "--network", "convnet-d1-w4", "--real-batch", 8),
    "dm for the whole run": (
        *("--minutes", 0.3 / 60, "--image-average-left", 0.5, "--network", "convnet-d1-w4", "--real-batch", 8),
    ),
    "herding": ("--features", "pixels"),
    "random": (),
}


@pytest.mark.parametrize("point", ["set", "account", "end"])
@pytest.mark.parametrize("run", ENDING)
def test_a_run_that_is_killed_while_it_writes_its_set_goes_on(
    noise: Path, run: str, point: str, tmp_path: Path, forked, monkeypatch
):
    """Before the set, after it, after its account: by the same command, to the same set, with nothing left over."""
    out = tmp_path / "set.h5"
    words = words_of(run.split()[0], out, "--data", noise, *ENDING[run])
    monkeypatch.setenv("CONDENSE_CACHE", str(tmp_path / "cache"))
    assert forked(ENDED_BY, point, *words).ended() == -signal.SIGKILL
    assert checkpoint_path(out).exists()
    before = out.read_bytes() if out.exists() else None
    assert (before is None) == (point == "set")
    if run == "dm":  # what is asked for otherwise is still another run
        assert main([*words, "--image-lr", "0.5"]) == 2
    assert main(words) == 0
    assert before in (None, out.read_bytes())
    assert {path.name for path in tmp_path.iterdir()} - {"cache"} == {"set.h5", "set.json"}
    assert main(words) == 2  # it is finished
    reached = json.loads(out.with_suffix(".json").read_text())["iterations"]
    if run == "dm by the clock":
        assert (
            main(words_of("dm", tmp_path / "again.h5", "--data", noise, "--iterations", reached, *ENDING[run][2:])) == 0
        )
        assert (tmp_path / "again.h5").read_bytes() == out.read_bytes()


def test_a_finished_set_is_not_replaced_by_an_unfinished_run_of_another(noise: Path, tmp_path: Path, capsys, forked):
    """Which was allowed to, by a command with --overwrite that was killed: the next one must allow it again."""
    out = tmp_path / "set.h5"
    assert main(words_of("random", out, "--data", noise)) == 0
    before = out.read_bytes()
    words = words_of("herding", out, "--data", noise, "--features", "pixels")
    assert forked(ENDED_BY, "set", *words, "--overwrite").ended() == -signal.SIGKILL
    assert main(words) == 2
    assert "exists already; give --overwrite" in capsys.readouterr().err
    assert out.read_bytes() == before
    assert main([*words, "--overwrite"]) == 0
    assert out.read_bytes() != before
    assert {path.name for path in tmp_path.iterdir()} == {"set.h5", "set.json"}


def test_a_choice_of_real_images_does_not_end_an_unfinished_run_of_another_method(
    noise: Path, tmp_path: Path, capsys, forked, monkeypatch
):
    out = tmp_path / "set.h5"
    options = ("--data", noise, "--iterations", 1000, "--network", "convnet-d1-w4", "--real-batch", 8)
    monkeypatch.setenv("CONDENSE_CACHE", str(tmp_path / "cache"))
    kill_at(2, words_of("dm", out, *options), forked)
    before = checkpoint_path(out).read_bytes()
    assert main(words_of("random", out, "--data", noise)) == 2
    assert "method 'dm', now it is 'random'" in capsys.readouterr().err
    assert checkpoint_path(out).read_bytes() == before
    assert not out.exists()
    assert main(words_of("random", out, "--data", noise, "--no-resume")) == 0
    assert {path.name for path in tmp_path.iterdir()} - {"cache"} == {"set.h5", "set.json"}
