"""How a run is planned: counted work, measured rates, and what is asked for explicitly."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.func import jvp

import condense
from condense.compute import compilation, precision
from condense.compute.compilation import compiled, compiler_available
from condense.compute.costs import Workload, activation_bytes, forward_operations, largest_micro_batch
from condense.compute.plan import MICRO_BATCH, Plan
from condense.compute.planning import choose_plan
from condense.compute.precision import choose_precision, native_bfloat16
from condense.compute.rates import Rate, Rates, measured_rate
from condense.data.budget import Budget
from condense.methods.estimate import estimate
from condense.methods.request import Request
from condense.runtime import memory
from condense.runtime.errors import CondenseError
from condense.runtime.memory import memory_errors_named
from condense.sets.synthetic_set import SyntheticSet

CPU = torch.device("cpu")
SHAPE = (3, 32, 32)
WORK = Workload("features", "convnet-d3-w128-in", SHAPE, 10, batch=2560)


class KnownRates(Rates):
    """Rates as a table instead of measurements; what was asked for is kept."""

    def __init__(self, plain: dict[int, float], fast: float, preparation: float) -> None:
        self.plain, self.fast, self.preparation = plain, fast, preparation
        self.asked: list[str] = []

    def find(self, work: str, measure: object) -> Rate:
        self.asked.append(work)
        plan = json.loads(work[work.index("{") :])
        if plan["compile"] == "on":
            return Rate(per_image=self.fast, preparation=self.preparation)
        return Rate(per_image=self.plain[plan["micro_batch"]], preparation=0)


PLAIN = {8: 5e-3, 16: 2e-3, 32: 3e-3, 64: 4e-3, 128: 5e-3}


def plan(iterations: int | None = 1000, rates: Rates | None = None, **asked) -> Plan:
    rates = rates or KnownRates(PLAIN, fast=1e-3, preparation=100.0)
    return choose_plan([WORK], iterations, device=CPU, threads=2, rates=rates, precision="float32", **asked)


def test_operations_are_those_of_the_published_networks():
    assert round(forward_operations("convnet-d3-w128-in", (1, 28, 28), 10) / 1e6, 1) == 96.8
    assert round(forward_operations("convnet-d4-w128-in", (3, 64, 64), 200) / 1e6, 1) == 425.5
    assert WORK.operations == 2560 * forward_operations("convnet-d3-w128-in", SHAPE, 10)


def test_little_work_is_not_measured():
    rates = KnownRates(PLAIN, fast=1e-3, preparation=1.0)
    found = choose_plan([WORK], 2, device=CPU, threads=2, rates=rates, precision="float32")
    assert found == Plan(device="cpu", threads=2, micro_batch=MICRO_BATCH, compile="off")
    assert rates.asked == []


def test_much_work_gets_the_fastest_micro_batch_and_compilation_that_pays():
    # 1,000 iterations take 5,120 s plainly and half of that compiled, which costs 100 s
    assert plan() == Plan(device="cpu", threads=2, micro_batch=16, compile="on")


def test_of_sizes_that_differ_by_noise_the_largest_is_taken():
    rates = KnownRates({8: 4.0e-3, 16: 4.6e-3, 32: 4.2e-3, 64: 4.9e-3, 128: 5.1e-3}, fast=1e-3, preparation=1.0)
    assert plan(rates=rates).micro_batch == 64


def test_compilation_that_does_not_pay_is_left_out():
    slow = KnownRates(PLAIN, fast=1.9e-3, preparation=300.0)  # saves 256 s
    assert plan(rates=slow).compile == "off"
    assert plan(rates=KnownRates(PLAIN, fast=1.9e-3, preparation=200.0)).compile == "on"


def test_a_short_time_limit_counts_as_little_work():
    assert plan(seconds=150.0).compile == "off"  # half of it could be saved, for 100 s
    assert plan(seconds=250.0).compile == "on"
    assert plan(iterations=None, seconds=250.0).compile == "on"
    rates = KnownRates(PLAIN, fast=1e-3, preparation=1.0)
    assert plan(iterations=None, seconds=59.0, rates=rates).micro_batch == MICRO_BATCH
    assert rates.asked == []  # over in a minute, whatever is chosen


def test_networks_that_are_trained_first_count():
    training = Workload("training", "convnet-d3-w128-in", SHAPE, 10, batch=256, times=400)

    def compiled_with(once: list[Workload], iterations: int | None = 20, seconds: float | None = None) -> str:
        rates = KnownRates(PLAIN | {256: 2e-3}, fast=1e-3, preparation=100.0)
        return choose_plan(
            [WORK],
            iterations,
            once=once,
            device=CPU,
            threads=2,
            rates=rates,
            precision="float32",
            micro_batch=16,
            seconds=seconds,
        ).compile

    assert compiled_with([]) == "off"  # 20 iterations save 20 x 2.56 s, for 100 s
    assert compiled_with([training]) == "off"  # and a training of 102,400 images 102.4 s, for another 100 s
    assert compiled_with([replace(training, times=1000)]) == "on"  # 307 s saved
    # of 700 s the training takes 205, and the rest saves half of it
    assert compiled_with([training], iterations=None, seconds=700.0) == "on"
    assert compiled_with([training], iterations=None, seconds=206.0) == "off"


def test_a_choice_of_real_images_is_planned_by_the_network_that_it_trains():
    training = Workload("training", "convnet-d3-w128-in", SHAPE, 10, batch=256, times=1000)
    for fast, expected in ((1e-3, "on"), (1.9e-3, "off")):  # saves 256 s or 25.6 s, for 100 s
        rates = KnownRates({256: 2e-3}, fast=fast, preparation=100.0)
        found = choose_plan([], None, once=[training], device=CPU, threads=2, rates=rates, precision="float32")
        assert found.compile == expected


@pytest.mark.parametrize("seconds", [60.0, 600.0])
def test_a_training_before_work_that_nobody_plans_may_end_by_the_clock(seconds: float):
    """A method of another package that uses no engine, and starts from images that a trained network chooses."""
    training = Workload("training", "convnet-d3-w128-in", SHAPE, 10, batch=256, times=1000)
    for fast, expected in ((1e-3, "on"), (1.9e-3, "off")):  # saves 256 s or 25.6 s, for 100 s
        rates = KnownRates({256: 2e-3}, fast=fast, preparation=100.0)
        asked = {"once": [training], "device": CPU, "threads": 2, "rates": rates, "precision": "float32"}
        assert choose_plan([], None, seconds=seconds, **asked).compile == expected


def test_rates_of_a_gpu_are_not_those_of_another(monkeypatch):
    """Nor those of the processor beside it, whose keys are what they were."""
    monkeypatch.setattr("condense.compute.costs.available_memory", lambda device: 10**12)
    names = {"cuda:0": "GPU of one kind", "cuda:1": "GPU of another kind"}
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: names[str(device)])
    asked: dict[str, list[str]] = {}
    for name in ("cpu", *names):
        rates = KnownRates(PLAIN, fast=1e-3, preparation=100.0)
        device = torch.device(name)
        choose_plan([WORK], 1000, device=device, threads=2, rates=rates, precision="float32", compile="off")
        asked[name] = rates.asked
    assert all(names["cuda:0"] in key for key in asked["cuda:0"])
    assert all(names["cuda:1"] in key for key in asked["cuda:1"])
    assert not any("GPU" in key for key in asked["cpu"])
    assert asked["cpu"][0].startswith("engine ")


def test_what_is_asked_for_is_taken():
    assert plan(compile="off").compile == "off"
    assert plan(iterations=1, compile="on").compile == "on"
    assert plan(micro_batch=64) == Plan(device="cpu", threads=2, micro_batch=64, compile="on")


def test_without_a_compiler_one_line_says_so(monkeypatch, capsys):
    monkeypatch.setattr("condense.compute.planning.compiler_available", lambda device: False)
    assert plan(compile="on").compile == "off"
    captured = capsys.readouterr().err
    assert captured.count("\n") == 1
    assert "no compiler was found" in captured


def test_no_compiler_on_the_path_is_no_compiler(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert not compiler_available(CPU)


def test_a_failing_compiler_leaves_the_plain_function(monkeypatch, capsys):
    def broken(function, dynamic):
        def call(*arguments):
            raise torch._dynamo.exc.TorchDynamoException("no good")

        return call

    monkeypatch.setattr(compilation.torch, "compile", broken)
    double = compiled(lambda x: 2 * x)
    assert [double(1), double(2)] == [2, 4]
    assert capsys.readouterr().err == "compilation failed (no good); going on without it\n"


def test_a_compiler_that_fails_within_a_derivative_leaves_derivatives_usable(capsys):
    """Where it fails, the compiler is within forward-mode derivatives, and torch refuses to begin nested ones."""
    traced = []

    @torch.library.custom_op("condense_tests::traced_once", mutates_args=())
    def traced_once(values: torch.Tensor) -> torch.Tensor:
        return values.clone()

    @traced_once.register_fake
    def _(values: torch.Tensor) -> torch.Tensor:
        traced.append(values)
        if len(traced) > 1:  # dynamo is done, and the compiler behind it runs the derivative on symbols
            raise RuntimeError("not twice")
        return torch.empty_like(values)

    def square(values: torch.Tensor) -> torch.Tensor:
        traced_once(torch.ones(2))
        return values.square()

    def slope(values: torch.Tensor) -> torch.Tensor:
        return jvp(square, (values,), (torch.ones_like(values),))[1]

    fast = compiled(slope)
    for _ in range(2):
        assert fast(torch.tensor([3.0, 4.0])).tolist() == [6.0, 8.0]
    message = "compilation failed (backend='inductor' raised: RuntimeError: not twice); going on without it\n"
    assert capsys.readouterr().err.endswith(message)


def test_rates_are_measured_once_and_kept(tmp_path: Path):
    calls = []

    def measure() -> Rate:
        calls.append(1)
        return Rate(per_image=0.5, preparation=2.0)

    for _ in range(2):
        assert Rates(tmp_path / "rates.json").find("work", measure) == Rate(per_image=0.5, preparation=2.0)
    assert len(calls) == 1
    (tmp_path / "rates.json").write_text("{ damaged")
    assert Rates(tmp_path / "rates.json").find("work", measure).per_image == 0.5
    assert len(calls) == 2


def test_rates_serve_where_nothing_can_be_kept():
    rate = Rate(per_image=0.5, preparation=2.0)
    assert Rates(Path("/proc/no folder/rates.json")).find("work", lambda: rate) == rate


def test_rates_that_other_work_disturbed_are_not_kept(tmp_path: Path, monkeypatch):
    """Real processes take every processor while this one measures; a rate of an empty machine would be believed."""
    matrix = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    found: list[Rate] = []

    def measure() -> Rate:
        found.append(measured_rate(lambda: matrix @ matrix, 4, CPU))
        return found[-1]

    endless = [sys.executable, "-c", "print('busy', flush=True)\nwhile True: pass"]
    hogs = [subprocess.Popen(endless, stdout=subprocess.PIPE) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        assert [hog.stdout.readline() for hog in hogs] == [b"busy\n"] * len(hogs)
        rates = [Rates(tmp_path / "rates.json").find("work", measure) for _ in range(2)]
        monkeypatch.setattr("condense.compute.rates._BELIEVED_FOR", 0.0)
        later = Rates(tmp_path / "rates.json").find("work", measure)
    finally:
        for hog in hogs:
            hog.kill()
            hog.communicate()
    assert rates == 2 * found[:1]  # measured once for a plan
    assert later == found[1]
    assert found[0].disturbed
    assert not (tmp_path / "rates.json").exists()


def test_a_disturbed_measurement_is_repeated_for_as_long_as_its_preparation_took(monkeypatch):
    calls: list[int] = []

    def run() -> None:
        time.sleep(0.001 if calls else 2.0)
        calls.append(1)

    def rate_if_other_work_ends_after(seconds: float) -> Rate:
        calls.clear()
        end = time.perf_counter() + seconds
        monkeypatch.setattr("condense.compute.rates.busy_seconds", lambda: 100 * min(time.perf_counter(), end))
        return measured_rate(run, 4, CPU)

    assert not rate_if_other_work_ends_after(2.3).disturbed
    assert rate_if_other_work_ends_after(60).disturbed


def test_the_first_call_is_preparation():
    """What happens once is not part of the rate."""
    calls: list[int] = []

    def run() -> None:
        time.sleep(0.001 if calls else 0.3)
        calls.append(1)

    rate = measured_rate(run, 4, CPU)
    assert rate.preparation > 0.25
    assert len(calls) >= 4
    assert 4 * rate.per_image < 0.25


def test_rates_of_every_kind_of_work_can_be_measured(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("condense.compute.rates.busy_seconds", lambda: 0.0)  # other tests run beside this one
    rates = Rates(tmp_path / "rates.json")
    for kind in ("features", "feature gradient", "gradient", "mixed product", "image product"):
        work = Workload(kind, "convnet-d1-w4-in", (1, 8, 8), 3, batch=9)
        found = choose_plan([work], 10**9, device=CPU, threads=1, rates=rates, precision="float32", compile="off")
        assert found.micro_batch in (8, 16)
    training = Workload("training", "convnet-d1-w4-in", (1, 8, 8), 3, batch=9)
    choose_plan([training], 10**9, device=CPU, threads=1, rates=rates, precision="float32")
    stored = json.loads((tmp_path / "rates.json").read_text())
    sizes = sorted(json.loads(key[key.index("{") :])["micro_batch"] for key in stored)
    assert sizes == [5] * 5 + [9] * 7  # 9 images in two parts or one; a training step, plain and compiled, in one
    assert all(entry["per_image"] > 0 for entry in stored.values())


def test_training_does_not_decide_the_micro_batch():
    rates = KnownRates(PLAIN | {256: 1e-3}, fast=1e-3, preparation=100.0)
    training = Workload("training", "convnet-d3-w128-in", SHAPE, 10, batch=256, times=100)
    assert training.operations > WORK.operations
    found = choose_plan([WORK, training], 1000, device=CPU, threads=2, rates=rates, precision="float32")
    assert found.micro_batch == 16


def test_the_rate_of_a_batch_is_that_of_its_equal_parts():
    rates = KnownRates(dict.fromkeys((8, 13, 25, 50), 1e-3), fast=1e-3, preparation=1.0)
    work = Workload("features", "convnet-d3-w128-in", SHAPE, 10, batch=50)
    choose_plan([work], 10**6, device=CPU, threads=2, rates=rates, precision="float32", compile="off")
    sizes = [json.loads(key[key.index("{") :])["micro_batch"] for key in rates.asked]
    assert sizes == [8, 13, 25, 50]  # 50 images in parts of at most 8, 16, 32 and 64: 7, 4, 2 and 1 of them


def test_micro_batches_stay_within_half_of_the_free_memory(monkeypatch):
    needed = activation_bytes(WORK.network, SHAPE, 10)
    # convolution inputs and outputs, norms and activations of three blocks of 128 channels, the first of 32x32 pixels
    assert 3 * 128 * 32 * 32 * 4 < needed < 12 * 128 * 32 * 32 * 4
    monkeypatch.setattr("condense.compute.costs.available_memory", lambda device: 2 * 10 * needed)
    assert largest_micro_batch([WORK], CPU) == 10
    rates = KnownRates({8: 3e-3} | dict.fromkeys((16, 32, 64, 128), 1e-3), fast=1.0, preparation=1.0)
    assert plan(rates=rates).micro_batch == 8


@pytest.mark.parametrize(
    ("flags", "native"), [({"avx2", "avx512f"}, False), ({"amx_bf16"}, True), ({"avx512_bf16"}, True)]
)
def test_bfloat16_only_where_it_is_native(monkeypatch, flags: set[str], native: bool):
    monkeypatch.setattr(precision, "processor_flags", lambda: frozenset(flags))
    assert native_bfloat16(CPU) == native
    assert choose_precision("auto", CPU) == ("bfloat16" if native else "float32")
    assert choose_precision("bfloat16", CPU) == "bfloat16"


def test_memory_errors_name_the_option_that_helps():
    with pytest.raises(CondenseError, match="--micro-batch"), memory_errors_named():
        torch.empty(2**52)
    with pytest.raises(RuntimeError, match="something else"), memory_errors_named():
        raise RuntimeError("something else")
    assert memory.available_memory(CPU) > 10**7


QUICK = {"network": "convnet-d1-w4", "real_batch": 4}


@pytest.fixture(scope="module")
def digits():
    return condense.load_data("digits")


def test_the_plan_is_stored_with_the_set_and_in_its_command(digits, tmp_path: Path):
    made = condense.distill("dm", digits, 1, iterations=2, micro_batch=3, precision="bfloat16", **QUICK)
    recorded = made.provenance["configuration"]["plan"]
    assert recorded == {
        "device": "cpu",
        "threads": torch.get_num_threads(),
        "precision": "bfloat16",
        "compile": "off",
        "micro_batch": 3,
    }
    assert "--precision bfloat16 --compile off --micro-batch 3" in made.provenance["command"]


def test_a_continued_run_keeps_its_plan(digits, tmp_path: Path, monkeypatch):
    from condense.synthesizers.distribution_matching import DistributionMatching

    out, step = tmp_path / "set.h5", DistributionMatching.step

    def stop(self, iteration: int):
        raise InterruptedError

    monkeypatch.setattr(DistributionMatching, "step", stop)
    with pytest.raises(InterruptedError):
        condense.distill("dm", digits, 1, iterations=2, micro_batch=3, out=out, **QUICK)
    monkeypatch.setattr(DistributionMatching, "step", step)
    with pytest.raises(CondenseError, match=r"plan.micro_batch 3, now it is 5"):
        condense.distill("dm", digits, 1, iterations=2, micro_batch=5, out=out, **QUICK)
    condense.distill("dm", digits, 1, iterations=2, out=out, **QUICK)
    assert SyntheticSet.load(out).provenance["configuration"]["plan"]["micro_batch"] == 3


def test_wrong_plans_are_refused(digits):
    with pytest.raises(CondenseError, match="--precision 'int8'"):
        condense.distill("dm", digits, 1, precision="int8", **QUICK)
    with pytest.raises(CondenseError, match="--micro-batch 0"):
        condense.distill("dm", digits, 1, micro_batch=0, **QUICK)


def test_an_estimate_from_real_updates(digits):
    found = estimate(Request.of("dm", Budget(ipc=1), QUICK, iterations=1000), digits)
    assert found.iterations == 1000
    assert found.seconds == pytest.approx(found.preparation + 1000 * found.seconds_per_iteration)
    assert found.largest_micro_batch > 1
    assert found.peak_memory > 10**7
    assert any(line.startswith("1,000 iterations") for line in found.lines())
    in_time = estimate(Request.of("dm", Budget(ipc=1), QUICK, minutes=1.0), digits)
    assert in_time.iterations == int((60 - in_time.preparation) / in_time.seconds_per_iteration)


def test_an_estimate_of_a_choice_has_no_iterations(digits):
    found = estimate(Request.of("random", Budget(ipc=1)), digits)
    assert found.seconds is None
    assert "chosen in one go" in found.lines()[-1]


def test_a_dry_run_prints_and_writes_nothing(tmp_path: Path, capsys):
    from condense.cli import main

    words = ["distill", "dm", "--data", "digits", "--ipc", "1", "--out", str(tmp_path / "new" / "set.h5"), "--dry-run"]
    assert main([*words, "--network", "convnet-d1-w4", "--iterations", "3"]) == 0
    printed = capsys.readouterr().out
    assert "peak memory" in printed
    assert "3 iterations" in printed
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("start", ["tiles", "kmeans"])
def test_an_estimate_trains_no_network_and_counts_the_training(digits, tmp_path: Path, monkeypatch, start: str):
    monkeypatch.setenv("CONDENSE_CACHE", str(tmp_path))
    monkeypatch.setattr("condense.compute.rates.busy_seconds", lambda: 0.0)  # other tests run beside this one
    quick = {"network": "convnet-d2-w4", "real_batch": 4, "frequencies": 8, "initialization": start}
    asked = (
        Request.of("ncfm", Budget(ipc=1), {"networks": 2, "network_epochs": n, **quick}, iterations=2)
        for n in (1, 5000)
    )
    short, long = (estimate(request, digits) for request in asked)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "compiled") == ["rates.json"]
    assert long.preparation > short.preparation + 100 * long.seconds_per_iteration
    assert any(line.startswith("preparation") for line in long.lines())


def test_what_was_compiled_is_kept_in_the_cache_folder(tmp_path: Path):
    code = "import condense, torch, os; import torch._inductor.codecache; print(os.environ['TORCHINDUCTOR_CACHE_DIR'])"
    environment = {name: value for name, value in os.environ.items() if name != "TORCHINDUCTOR_CACHE_DIR"}
    for given, expected in (({}, tmp_path / "compiled"), ({"TORCHINDUCTOR_CACHE_DIR": "/mine"}, "/mine")):
        run = subprocess.run(
            [sys.executable, "-c", code],
            env=environment | {"CONDENSE_CACHE": str(tmp_path)} | given,
            capture_output=True,
            text=True,
            check=True,
        )
        assert run.stdout.strip() == str(expected)
