"""Tests run two at a time, each on one thread: on small shapes more threads only wait for each other."""

import gc
import multiprocessing
import os
import re
from pathlib import Path

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy and torch are imported; the processes that tests start inherit it


def pytest_collection_finish() -> None:
    """What was imported stays: runs in slices collect garbage after each, which need not go through all of it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def digits_file(tmp_path_factory) -> Path:
    """A file of digits: quicker to start with than scikit-learn, which every process would have to import.

    It lies in a folder `private`, a name that must not get into any record.
    """
    import numpy as np
    import torch

    import condense

    data = condense.load_data("digits")
    path = tmp_path_factory.mktemp("private") / "digits.npz"
    arrays = {}
    for name, split in (("train", data.train), ("test", data.test)):
        arrays[f"{name}_images"] = split.pixels(torch.arange(len(split)))[:, 0].numpy()
        arrays[f"{name}_labels"] = split.labels.numpy()
    np.savez(path, **arrays)
    return path


@pytest.fixture(scope="session")
def gain_over_random():
    """How much of the test images networks get right more when trained on a set than on as many random real images."""
    import condense

    scores: dict[tuple[str, int], float] = {}  # of random images, by data and images per class

    def score(synthetic, data) -> float:
        return condense.evaluate(synthetic, data, runs=2, protocol="demo").mean

    def gain(made, data) -> float:
        key = data.fingerprint, made.ipc
        if key not in scores:
            scores[key] = score(condense.distill("random", data, made.ipc), data)
        return score(made, data) - scores[key]

    return gain


class Forked:
    """A Python process that runs `code`, as `python -c CODE WORDS` would, forked from one that has imported torch.

    It is a real process with its own memory, which can be signalled and killed; only seconds of imports are saved. It
    gets a Ctrl-C as at a terminal, the environment of now, and what it prints goes to files in `folder`.
    """

    def __init__(self, code: str, words: list[str], folder: Path) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(
            ["condense.cli.main", "condense.synthesizers.base", "condense.evaluation.scoring"]
        )
        self.printed, self._errors = folder / ".printed", folder / ".errors"
        before = f"""
import os, signal, sys
os.environ.clear()
os.environ.update({dict(os.environ)!r})
os.chdir({str(Path.cwd())!r})
sys.argv = ["-c", *{words!r}]
for number, name in ((1, {str(self.printed)!r}), (2, {str(self._errors)!r})):
    os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
signal.signal(signal.SIGINT, signal.default_int_handler)
"""
        self.process = context.Process(target=exec, args=(before + code, {"__name__": "__main__"}))
        self.process.start()

    @property
    def errors(self) -> str:
        """What it has written to standard error."""
        return self._errors.read_text(encoding="utf-8") if self._errors.exists() else ""

    def signal(self, number: int) -> None:
        """Send it this signal."""
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def ended(self, seconds: float = 300) -> int:
        """Wait for its end; its exit code, negative for a signal."""
        self.process.join(seconds)
        assert self.process.exitcode is not None, "it does not end"
        return self.process.exitcode


@pytest.fixture
def forked(tmp_path_factory: pytest.TempPathFactory):
    """Starts processes, see `Forked`, and ends those that a test leaves."""
    begun: list[Forked] = []

    def start(code: str, *words: object) -> Forked:
        begun.append(Forked(code, [str(word) for word in words], tmp_path_factory.mktemp("process")))
        return begun[-1]

    yield start
    for each in begun:
        each.process.kill()
        each.process.join()


@pytest.fixture
def loss_left(tmp_path: Path):
    """What is left of the loss that a method starts from: of a set that it made, in networks that it did not meet."""
    import condense

    def left(made, data, **options) -> float:
        method = made.provenance["configuration"]["method"]
        made.save(tmp_path / "made.h5")
        still = {"iterations": 2, "image_lr": 1e-12, "seed": 1}
        ends, starts = (
            condense.distill(method, data, made.ipc, **options | start | still).metrics["loss"].mean().item()
            for start in ({"initialization": str(tmp_path / "made.h5")}, {})
        )
        return ends / starts

    return left


@pytest.fixture(scope="session")
def processes_with():
    """The processes, but for this one, whose environment has this variable with this value."""

    def found(name: str, value: object) -> list[int]:
        processes = []
        for process in Path("/proc").iterdir():
            if process.name.isdigit() and int(process.name) != os.getpid():
                try:
                    variables = (process / "environ").read_bytes().decode(errors="replace")
                except OSError:
                    continue
                if f"{name}={value}\0" in variables:
                    processes.append(int(process.name))
        return processes

    return found


@pytest.fixture(scope="session")
def untrained_teacher():
    """Makes a teacher of data that `info` describes which has learned nothing: what it says is as good as any."""

    def made(info, network: str = "convnet-w8-bn", seed: int = 0, **changes):
        import torch

        from condense.networks import build_network
        from condense.networks.names import canonical_name
        from condense.teachers import Teacher
        from condense.teachers.manifest import Manifest
        from condense.teachers.teacher import batch_norm_of

        name = canonical_name(network, info.image_shape)
        about = {
            "network": name,
            "image_shape": info.image_shape,
            "classes": info.classes,
            "mean": (0.3,) * info.image_shape[0],
            "std": (0.35,) * info.image_shape[0],
            "batch_norm": batch_norm_of(name, info.image_shape, len(info.classes)),
            "origin": "trained",
            "fingerprint": info.fingerprint,
        }
        state = build_network(name, info.image_shape, len(info.classes), seed).state_dict()
        draws = torch.Generator().manual_seed(seed)
        for key, value in state.items():  # as if it had seen images, and for logits of some size
            if key.endswith("running_mean"):
                state[key] = torch.randn(value.shape, generator=draws) * 0.3
            elif key.endswith("running_var"):
                state[key] = torch.rand(value.shape, generator=draws) + 0.5
        return Teacher(Manifest(**about | changes), state)

    return made


@pytest.fixture
def run_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs the examples of a page as they stand, one after the other, in one new folder; gives what they printed."""
    from condense.cli.main import main

    def run(page: str) -> str:
        text = (Path(__file__).parents[1] / page).read_text(encoding="utf-8")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("CONDENSE_CACHE", str(tmp_path / "cache"))
        for language, example in re.findall(r"<!-- test -->\n```(\w+)\n(.*?)```", text, re.DOTALL):
            if language == "python":
                exec(compile(example, page, "exec"), {"__name__": "example"})
                continue
            for line in example.replace("\\\n", " ").strip().splitlines():
                words = line.split()
                assert words[0] == "condense"
                assert main(words[1:]) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    return run
