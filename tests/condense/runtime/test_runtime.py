"""Seeds, files, registries and one-line validation."""

import errno
import os
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
import torch
from pydantic import Field

import condense
from condense._version import DISTRIBUTION
from condense.cli.main import main
from condense.data.budget import Budget
from condense.methods.estimate import estimate
from condense.methods.method import Method
from condense.methods.request import Request
from condense.runtime import provenance
from condense.runtime.device import choose_device, set_threads
from condense.runtime.errors import CondenseError
from condense.runtime.files import atomic_write, check_output, write_json
from condense.runtime.provenance import commit, hardware, versions
from condense.runtime.registry import Registry, load_object
from condense.runtime.seeds import derive_seed, generator
from condense.runtime.tensor_files import load_facts, save_tensors
from condense.runtime.validation import Closed, option_name, validated


def test_seeds_depend_on_every_argument_and_nothing_else():
    seeds = {derive_seed(s, p, *i) for s in (0, 1) for p in ("a", "b") for i in ((), (0,), (1,), (0, 1), ("0",))}
    assert len(seeds) == 2 * 2 * 5
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_seeds_are_the_same_in_another_process():
    code = "from condense.runtime.seeds import derive_seed; print(derive_seed(3, 'network', 7, 'x'))"
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert int(printed.stdout) == derive_seed(3, "network", 7, "x")


REPLACING = """
import sys, torch
from pathlib import Path
from condense.runtime.tensor_files import save_tensors
path, size = Path(sys.argv[1]), 0
while True:
    save_tensors(path, {"values": torch.zeros(1 + size)}, {"size": str(size)})
    size = 5000 - size
"""


def test_facts_can_be_read_while_another_process_replaces_the_file(tmp_path: Path):
    path = tmp_path / "file.safetensors"
    save_tensors(path, {"values": torch.zeros(1)}, {"size": "0"})
    process = subprocess.Popen([sys.executable, "-c", REPLACING, str(path)])
    try:
        found: set[str] = set()
        deadline = time.monotonic() + 60
        while len(found) < 2 and time.monotonic() < deadline:
            found |= {load_facts(path)["size"] for _ in range(2000)}
        assert found == {"0", "5000"}
    finally:
        process.kill()
        process.wait()


def test_drawing_leaves_the_global_generator_alone():
    before = torch.random.get_rng_state()
    torch.rand(10, generator=generator(0, "test"))
    assert torch.equal(before, torch.random.get_rng_state())


def write(path: Path, error: Exception) -> None:
    """Begin to write `path`, and fail half way."""
    with atomic_write(path) as temporary:
        temporary.write_text("new, but only ha")
        raise error


def test_a_failed_write_leaves_the_old_file_and_no_temporary(tmp_path: Path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="half way"):
        write(path, RuntimeError("half way"))
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.txt"]


def test_a_full_disk_is_reported_in_one_line(tmp_path: Path):
    with pytest.raises(CondenseError, match="No space left on device") as caught:
        write(tmp_path / "x", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_written_files_have_the_permissions_of_ordinary_files(tmp_path: Path):
    (tmp_path / "plain").write_text("")
    write_json(tmp_path / "ours.json", {"ä": 1})
    assert (tmp_path / "ours.json").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_outputs_are_checked_before_work(tmp_path: Path):
    finished = tmp_path / "set.h5"
    finished.write_text("")

    def check(path: Path, *, overwrite: bool = False) -> Path:
        return check_output(path, suffix=".h5", overwrite=overwrite)

    with pytest.raises(CondenseError, match="--overwrite"):
        check(finished)
    assert check(finished, overwrite=True) == finished
    with pytest.raises(CondenseError, match="is a folder"):
        check(tmp_path, overwrite=True)
    with pytest.raises(CondenseError, match=r"must end in \.h5, for example .*set\.h5"):
        check(tmp_path / "set.json")
    with pytest.raises(CondenseError, match="cannot write"):
        check(finished / "inside a file" / "set.h5")
    assert check(tmp_path / "new" / "set.h5").parent.is_dir()


def test_registry_finds_aliases_and_suggests_near_names():
    registry = Registry(
        "method", [Method("dm", "m:C", "", "", aliases=("distribution-matching",)), Method("idm", "m:C", "", "")]
    )
    assert registry.find("Distribution_Matching").name == "dm"
    with pytest.raises(CondenseError, match=r"unknown method 'dmm' \(known: dm, idm\); did you mean"):
        registry.find("dmm")
    assert load_object("pathlib:Path") is Path


def test_registered_names_may_have_capitals():
    registry = Registry("method", [Method("MyMethod", "m:C", "", "", aliases=("My_Own", "dm2"))])
    for name in ("MyMethod", "mymethod", "MYMETHOD", "my-own", "My_Own", "DM2"):
        assert registry.find(name).name == "MyMethod"
    with pytest.raises(CondenseError, match=r"unknown method 'MyMethid' \(known: MyMethod\); did you mean MyMethod"):
        registry.find("MyMethid")


class Settings(Closed):
    image_lr: float = Field(1.0, gt=0)
    batch: int = 3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"image_l": 1}, r"unknown option --image-l \(known: --image-lr, --batch\); did you mean --image-lr\?"),
        ({"image_lr": -1}, r"--image-lr -1: should be greater than 0"),
        ({"batch": "many"}, r"--batch 'many': should be a valid integer"),
    ],
)
def test_validation_failures_are_one_line_with_the_way_out(values: dict, message: str):
    with pytest.raises(CondenseError, match=message) as caught:
        validated(Settings, values, spell=option_name)
    assert "\n" not in str(caught.value)


class Inner(Closed):
    colour: str = ""
    size: int = 1


class Middle(Closed):
    parts: dict[str, Inner] = Field(default_factory=dict)
    one: Inner | None = None


class Outer(Closed):
    cases: list[Middle] = Field(default_factory=list)
    settings: Settings = Settings()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cases": [{}, {"sice": 1}]}, r"cases.1.sice \(known: parts, one\)$"),
        ({"cases": [{"one": {"sice": 1}}]}, r"cases.0.one.sice \(known: colour, size\); did you mean size\?"),
        ({"cases": [{"parts": {"cases": {"colur": 1}}}]}, r"colur \(known: colour, size\); did you mean colour\?"),
        ({"settings": {"image-lr": 1}}, r"settings.image-lr \(known: image_lr, batch\); did you mean image_lr\?"),
        ({"case": []}, r"unknown option case \(known: cases, settings\); did you mean cases\?"),
    ],
)
def test_an_unknown_field_is_compared_with_those_around_it(values: dict, message: str):
    with pytest.raises(CondenseError, match=message):
        validated(Outer, values)


def test_devices_and_threads():
    assert choose_device("cpu").type == "cpu"
    with pytest.raises(CondenseError, match="give auto, cpu or cuda:N"):
        choose_device("tpu3")
    with pytest.raises(CondenseError, match="at least 1"):
        set_threads(0)


@pytest.mark.parametrize("calls", ["distill", "estimate", "refused", "evaluate", "experts"])
def test_no_call_leaves_the_process_with_other_threads(calls: str, digits_file: Path, tmp_path: Path):
    data = condense.load_data(digits_file)
    made = tmp_path / "set.h5"
    condense.distill("random", data, 1, out=made)
    quick = {"iterations": 1, "network": "convnet-d1-w4", "real_batch": 4}
    usual = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        if calls == "distill":
            set_of_one_thread = condense.distill("dm", data, 1, threads=1, **quick)
            assert set_of_one_thread.provenance["configuration"]["plan"]["threads"] == 1
        elif calls == "estimate":
            assert estimate(Request.of("dm", Budget(ipc=1), quick, threads=2), data).plan.threads == 2
        elif calls == "refused":
            with pytest.raises(CondenseError, match="exists already"):
                condense.distill("dm", data, 1, threads=1, out=made, **quick)
            with pytest.raises(CondenseError, match="no longer finite"):
                condense.distill("dm", data, 1, threads=1, image_lr=1e38, **quick | {"iterations": 20})
        elif calls == "evaluate":
            words = ["evaluate", made, "--data", digits_file, "--protocol", "demo", "--nets", "mlp", "--threads", 2]
            assert main([str(word) for word in words]) == 0
        else:
            words = ["experts", "--data", digits_file, "--net", "convnet-d1-w4", "--experts", 1, "--epochs", 1]
            assert main([str(word) for word in [*words, "--threads", 2, "--out", tmp_path / "experts"]]) == 0
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(usual)


def test_pip_is_told_the_name_of_the_distribution():
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["name"] == DISTRIBUTION
    assert project["scripts"] == {"condense": "condense.cli:main"}


def test_provenance_names_what_can_change_a_number():
    assert {"condense", "python", "torch"} <= versions().keys()
    assert hardware()["cores"] >= 1


def test_the_peak_of_memory_grows_with_what_is_used_and_stays():
    code = (
        "from condense.runtime.provenance import peak_memory\n"
        "start = peak_memory()\n"
        "ballast = b'x' * 200_000_000\n"
        "full = peak_memory()\n"
        "del ballast\n"
        "print(start, full, peak_memory())"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    start, full, after = map(int, printed.split())
    assert 5_000_000 < start < 200_000_000
    assert 190_000_000 < full - start < 250_000_000
    assert full - 2_000_000 < after < full + 10_000_000  # the system counts in pages that it has collected


def test_an_installed_package_is_not_taken_for_the_project_around_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def git(*words: str) -> None:
        named = ["-c", "user.name=someone", "-c", "user.email=someone@example.org"]
        subprocess.run(["git", "-C", str(tmp_path), *named, *words], check=True, capture_output=True)

    git("init")
    git("commit", "--allow-empty", "-m", "of another project")
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "condense" / "runtime" / "provenance.py"))
    checkout = commit()
    assert checkout is not None
    assert len(checkout) == 40
    monkeypatch.setattr(
        provenance, "__file__", str(tmp_path / "lib" / "site-packages" / "condense" / "runtime" / "provenance.py")
    )
    assert commit() is None


def test_a_git_that_does_not_answer_costs_no_result(monkeypatch: pytest.MonkeyPatch):
    def slow(*words: object, **options: object) -> None:
        raise subprocess.TimeoutExpired("git", 10)

    monkeypatch.setattr(provenance.subprocess, "run", slow)
    assert commit() is None
