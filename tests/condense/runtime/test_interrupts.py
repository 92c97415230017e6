"""Ctrl-C at any time: 130, one line, no traceback, whatever is being imported."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from condense.cli.main import COMMANDS

# Stands for the command `condense`, in a process in which Ctrl-C comes when a module is about to be imported, or in the
# middle of it, and in which whoever asked for the module swallows what it raises, as C++ does.
INTERRUPTED = """
import os, signal, sys, time
module = sys.argv.pop(1)

class CtrlC:
    def find_spec(self, name, path, target=None):
        if name == module:
            try:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.1)
            except BaseException:
                raise ImportError("initialization failed")

sys.meta_path.insert(0, CtrlC())
from condense.cli import main
sys.exit(main())
"""

WORDS = {
    "pack": ["digits", "--out", "p.h5"],
    "import": [__file__, "--data", "digits", "--out", "i.h5"],
    "experts": ["--data", "digits", "--experts", "1", "--epochs", "1", "--out", "experts"],
    "distill": ["random", "--data", "digits", "--ipc", "1", "--out", "set.h5"],
    "evaluate": ["set.h5"],
    "show": ["set.h5"],
    "export": ["set.h5", "--to", "torch", "--out", "x.pt"],
    "benchmark": ["grid.yaml", "--out", "out"],
}


def interrupted(module: str, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    program = folder / "bin" / "condense"
    program.parent.mkdir()
    program.write_text(INTERRUPTED, encoding="utf-8")
    (folder / "cwd").mkdir()
    return subprocess.run(
        [sys.executable, str(program), module, *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder / "cwd",
        # a suite that runs in the background may have inherited that Ctrl-C is ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def check(end: subprocess.CompletedProcess[str], folder: Path) -> None:
    assert (end.returncode, end.stdout) == (130, "")
    assert end.stderr == "condense: interrupted; the same command goes on from what is saved\n"
    assert list((folder / "cwd").iterdir()) == []


@pytest.mark.parametrize("command", [command.name for command in COMMANDS])
def test_every_command_ends_quietly_while_it_is_imported(command: str, tmp_path: Path):
    target = next(entry.target for entry in COMMANDS if entry.name == command)
    check(interrupted(target.partition(":")[0], tmp_path, command, *WORDS.get(command, [])), tmp_path)


@pytest.mark.parametrize("module", ["condense.runtime.places", "condense.cli", "condense.runtime.registry", "pydantic"])
def test_from_the_first_import_on(module: str, tmp_path: Path):
    check(interrupted(module, tmp_path, "methods"), tmp_path)


@pytest.mark.parametrize("module", ["torch", "torch.nn", "numpy", "h5py", "sklearn.datasets"])
def test_in_the_middle_of_a_library(module: str, tmp_path: Path):
    check(interrupted(module, tmp_path, "distill", *WORDS["distill"]), tmp_path)


def test_a_library_that_is_used_elsewhere_leaves_ctrl_c_alone(tmp_path: Path):
    code = "import signal, condense; assert signal.getsignal(signal.SIGINT) is signal.default_int_handler"
    subprocess.run([sys.executable, "-c", code], check=True)
    ignored = subprocess.run(
        [sys.executable, "-m", "condense", "--version"],
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    assert ignored.returncode == 0


def test_a_command_that_works_gets_an_exception(tmp_path: Path):
    """So that what it holds is given up.

    It works in short steps: the signal may reach another thread of the process, and would not end a long wait then.
    """
    code = (
        "import os, signal, sys, time; sys.argv[0] = '/condense'\n"
        "import condense.cli.main as _; module = sys.modules['condense.cli.main']\n"
        "def work(words):\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        for _ in range(6000): time.sleep(0.01)\n"
        "    finally: print('given up', flush=True)\n"
        "module.load_object = lambda target: work\n"
        "sys.exit(module.main(['show', 'set.h5']))"
    )
    end = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ)
    assert (end.returncode, end.stdout) == (130, "given up\n")
    assert end.stderr.startswith("condense: interrupted;")
    assert len(end.stderr.splitlines()) == 1
