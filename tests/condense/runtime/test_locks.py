"""Outputs: one process at a time for each, nothing of killed ones stays, and nothing but files is written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import torch

from condense.cli.main import main
from condense.runtime.errors import CondenseError
from condense.runtime.files import atomic_write, half_done, write_json
from condense.runtime.locks import only_one, only_writer

CHOICE = ["distill", "random", "--ipc", "1"]

WRITING = """
import sys, time
from pathlib import Path
from condense.runtime.files import atomic_write
with atomic_write(Path(sys.argv[1])) as temporary:
    temporary.write_text("new, but only ha")
    print("half done", flush=True)
    time.sleep(600)
"""


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@contextmanager
def by_somebody_else(claim) -> Iterator[None]:
    """Enter `claim` in another thread, which is as good as another process, for the time of the block."""
    entered, over = threading.Event(), threading.Event()

    def hold() -> None:
        with claim:
            entered.set()
            over.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert entered.wait(60)
        yield
    finally:
        over.set()
        thread.join()


def refused(capsys: pytest.CaptureFixture, *words: object) -> str:
    """The one line with which `condense WORDS` is refused."""
    capsys.readouterr()
    assert main([str(word) for word in words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    return line


@pytest.fixture(scope="module")
def made(digits_file: Path, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("made") / "set.h5"
    assert main([*CHOICE, "--data", str(digits_file), "--out", str(out)]) == 0
    torch.save({"data": [[torch.zeros(10, 1, 8, 8), torch.arange(10)]]}, out.with_name("res_set.pt"))
    return out


@pytest.fixture
def commands(made: Path, digits_file: Path, tmp_path: Path) -> dict[str, tuple[Path, list[object]]]:
    """For each command that writes a file or a folder of its own: what it writes, and its words."""
    data, res = ["--data", digits_file], made.with_name("res_set.pt")
    out = {name: tmp_path / name for name in ("new.h5", "p.h5", "i.h5", "r.json", "s.png", "x.pt", "folder")}
    words = {
        "new.h5": [*CHOICE, *data, "--out"],
        "p.h5": ["pack", digits_file, "--out"],
        "i.h5": ["import", res, *data, "--normalization", "none", "--out"],
        "r.json": ["evaluate", made, *data, "--protocol", "demo", "--nets", "mlp", "--runs", 1, "--json"],
        "s.png": ["show", made, "--png"],
        "x.pt": ["export", made, "--to", "torch", "--out"],
        "folder": ["export", made, "--to", "folder", "--out"],
    }
    return {name: (out[name], [*words[name], out[name]]) for name in out}


WRITTEN = ["new.h5", "p.h5", "i.h5", "r.json", "s.png", "x.pt", "folder"]


@pytest.mark.parametrize("name", WRITTEN)
def test_an_output_has_one_writer_at_a_time(capsys, commands, name: str, tmp_path: Path):
    out, words = commands[name]
    with by_somebody_else(only_writer(out, "run")):
        assert "another" in refused(capsys, *words)
        assert not out.exists()
    assert main([str(word) for word in words]) == 0
    assert names(tmp_path) == {name, *(["new.json"] if name == "new.h5" else [])}


@pytest.mark.parametrize("name", WRITTEN)
def test_nothing_of_a_killed_writer_stays(commands, name: str, tmp_path: Path):
    """What it had half done of this output goes, and its lock; what is of others stays, or of somebody who is alive."""
    out, words = commands[name]
    (tmp_path / f".{name}.lock").touch()
    of_the_dead = tmp_path / f".{name}.abcdefg1.tmp"
    of_the_dead.mkdir()
    (of_the_dead / name).write_text("half")
    others = [f".{name}.x.abcdefg1.tmp", f".{name}.abcdef.tmp", f"{name}.abcdefg1.tmp", ".other.abcdefg1.tmp"]
    for other in others:
        (tmp_path / other).touch()
    with half_done(out) as of_the_living:
        assert main([str(word) for word in words]) == 0
        assert of_the_living.is_dir()
    assert names(tmp_path) == {name, *others, *(["new.json"] if name == "new.h5" else [])}


def test_a_process_that_is_killed_while_it_writes_leaves_the_old_file_and_the_next_write_tidies_up(tmp_path: Path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITING, str(path)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [writer.stdout.readline() for writer in writers] == ["half done\n"] * 2
    assert len(names(tmp_path)) == 3
    writers[0].kill()
    writers[0].communicate()
    assert path.read_text() == "old"
    write_json(path, 1)
    assert path.read_text() == "1\n"
    assert len(names(tmp_path)) == 2  # what the living one writes stays
    writers[1].kill()
    writers[1].communicate()
    write_json(path, 2)
    assert names(tmp_path) == {"file.txt"}


def test_the_second_run_with_one_output_is_refused_and_the_first_goes_on(
    capsys, digits_file: Path, tmp_path: Path, forked
):
    out, unfinished = tmp_path / "set.h5", tmp_path / "set.h5.checkpoint.safetensors"
    words = ["distill", "dm", "--data", digits_file, "--ipc", 1, "--network", "convnet-d1-w8", "--real-batch", 8]
    words = [str(word) for word in [*words, "--out", out]]
    command = "import sys; from condense.cli.main import main; sys.exit(main(sys.argv[1:]))"
    first = forked(command, *words, "--iterations", 100000)
    while not unfinished.exists():
        assert first.process.is_alive()
    line = refused(capsys, *words, "--iterations", 1)
    assert line == f"condense: another run is writing --out {out}; wait for it or give another name"
    assert "another run" in refused(capsys, *words, "--iterations", 1, "--overwrite", "--no-resume")
    assert unfinished.exists()
    first.signal(signal.SIGKILL)
    assert first.ended() == -signal.SIGKILL
    assert main([*words, "--iterations", "1", "--no-resume"]) == 0
    assert names(tmp_path) == {"set.h5", "set.json"}


def test_the_owner_of_an_output_may_claim_it_again_and_gives_it_up_once(tmp_path: Path):
    path = tmp_path / "file.txt"
    with only_writer(path, "run"):
        with only_writer(path, "run"):
            assert names(tmp_path) == {".file.txt.lock"}
        with pytest.raises(CondenseError, match="another run"), by_somebody_else_at_once(only_writer(path, "run")):
            pass
    assert names(tmp_path) == set()


@contextmanager
def by_somebody_else_at_once(claim) -> Iterator[None]:
    """Enter and leave `claim` in another thread; raises what it raises."""
    raised: list[BaseException] = []

    def enter() -> None:
        try:
            with claim:
                pass
        except CondenseError as error:
            raised.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]
    yield


def test_a_lock_that_somebody_removes_and_takes_again_is_left_alone(tmp_path: Path):
    folder, lock = tmp_path / "experts", tmp_path / "experts" / ".lock"
    with ExitStack() as second:
        with only_one(folder, "recording") as claim:
            claim.check()
            lock.unlink()
            folder.rmdir()
            with pytest.raises(CondenseError, match="was removed or replaced while a recording was running in it"):
                claim.check()
            second.enter_context(only_one(folder, "recording"))
        assert lock.exists()  # that of the second one
    assert not lock.exists()


@pytest.mark.parametrize("name", ["new.h5", "p.h5", "i.h5", "r.json", "s.png", "x.pt"])
@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_what_is_no_file_is_not_replaced(capsys, commands, name: str, kind: str, tmp_path: Path):
    out, words = commands[name]
    os.mkfifo(out) if kind == "pipe" else out.mkdir()
    before = out.stat().st_mode
    more = [] if name.endswith(("json", "png")) else ["--overwrite"]
    line = refused(capsys, *words, *more)
    assert f"{out} is {'no regular file' if kind == 'pipe' else 'a folder'}; give the name of a file" in line
    assert out.stat().st_mode == before
    assert names(tmp_path) == {name}


def test_a_pipe_is_written_by_nobody_who_asks_python(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CondenseError, match="pipe is no regular file"), atomic_write(tmp_path / "pipe"):
        pass


@pytest.mark.parametrize(
    "words",
    [
        ["show", "PIPE.h5"],
        ["evaluate", "PIPE.h5", "--data", "digits"],
        ["export", "PIPE.h5", "--to", "torch", "--out", "x.pt"],
        ["import", "PIPE.pt", "--data", "digits", "--out", "i.h5"],
        ["benchmark", "PIPE.yaml", "--out", "folder"],
        ["distill", "dm", "--data", "digits", "--ipc", "1", "--recipe", "PIPE.yaml", "--out", "d.h5"],
        ["distill", "dm", "--data", "PIPE.npz", "--ipc", "1", "--out", "d.h5"],
        ["distill", "dm", "--data", "PIPE.h5", "--ipc", "1", "--out", "d.h5"],
        [
            "distill",
            "dm",
            "--data",
            "digits",
            "--ipc",
            "1",
            "--initialization",
            "PIPE.h5",
            "--compile",
            "off",
            "--out",
            "d.h5",
        ],
    ],
)
def test_a_pipe_is_read_by_nobody(capsys, tmp_path: Path, monkeypatch, words: list[str]):
    monkeypatch.chdir(tmp_path)
    (name,) = [word for word in words if word.startswith("PIPE")]
    os.mkfifo(name)
    assert name in refused(capsys, *words)
    assert names(tmp_path) == {name}
