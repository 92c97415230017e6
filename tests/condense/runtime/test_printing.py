"""Names of classes, data and files may hold anything; what is printed or drawn is always plain text."""

from __future__ import annotations

import ast
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.markdown import markdown_table
from benchmarks.plot import draw
from benchmarks.table import Column, Row, Table
from condense.cli.main import main
from condense.data import load_data
from condense.data.budget import Budget
from condense.runtime.errors import CondenseError
from condense.runtime.progress import answer, progress_bar, say
from condense.sets.pictures import picture_rows

ROOT = Path(__file__).parents[3]
EVIL = "cat\x1b[2J\x1b]0;owned\x07"
REVERSED = "dog\u202egnp"
BROKEN = "line\nbreak\r"
NAMES = (EVIL, REVERSED, BROKEN, "[red]$x_{1", "\x9b31m", "ünïcödé 猫")


def is_plain(printed: str) -> bool:
    return all(line.isprintable() for line in printed.split("\n"))


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Data whose name and classes are full of control characters."""
    draws, labels = np.random.default_rng(0), np.arange(60) % len(NAMES)
    images = draws.integers(0, 256, (60, 8, 8), dtype=np.uint8)
    path = tmp_path_factory.mktemp("data") / "evil\x1b[31m[b]$.npz"
    np.savez(
        path,
        train_images=images,
        train_labels=labels,
        test_images=images[:12],
        test_labels=labels[:12],
        classes=np.array(NAMES),
    )
    return path


@pytest.fixture(scope="module")
def made(data: Path, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("made") / "set\x1b[7m.h5"
    assert main(["distill", "random", "--data", str(data), "--ipc", "1", "--out", str(out)]) == 0
    return out


def test_every_command_prints_plain_text(capsys, data: Path, made: Path, tmp_path: Path):
    out = {name: tmp_path / f"{name}\x1b[5m" for name in ("p.h5", "x.pt", "folder", "experts", "s.png", "e.png")}
    out |= {name: out[name].with_suffix(Path(name).suffix) for name in ("p.h5", "x.pt", "s.png", "e.png")}
    experts = ["--net", "convnet-d1-w4", "--experts", 1, "--epochs", 1, "--compile", "off"]
    for words in (
        ["show", made, "--png", out["s.png"]],
        ["evaluate", made, "--data", data, "--protocol", "demo", "--nets", "mlp", "--runs", 1],
        ["evaluate", made, made, "--data", data, "--protocol", "demo", "--nets", "mlp", "--runs", 1],
        ["export", made, "--to", "torch", "--out", out["x.pt"]],
        ["export", made, "--to", "folder", "--out", out["folder"]],
        ["pack", data, "--out", out["p.h5"]],
        ["experts", "--data", data, *experts, "--out", out["experts"]],
        ["show", out["experts"], "--png", out["e.png"]],
    ):
        assert main([str(word) for word in words]) == 0
        captured = capsys.readouterr()
        assert captured.out
        assert is_plain(captured.out + captured.err)
    assert main(["show", str(made)]) == 0
    assert r"cat\x1b[2J\x1b]0;owned\x07, dog\u202egnp, line\nbreak\r, [red]$x_{1, \x9b31m, ünïcödé 猫" in (
        capsys.readouterr().out
    )


def test_every_error_is_plain_text(capsys, data: Path, made: Path, tmp_path: Path):
    for words in (
        ["show", tmp_path / EVIL],
        ["distill", EVIL],
        ["distill", "dm", "--data", tmp_path / EVIL, "--ipc", 1, "--out", tmp_path / "x.h5"],
        ["distill", "random", "--data", data, "--ipc", 999, "--out", tmp_path / "x.h5"],
        ["distill", "dm", "--data", data, "--ipc", 1, "--network", EVIL, "--out", tmp_path / "x.h5"],
        ["distill", "dm", "--data", data, "--ipc", 1, f"--{EVIL}", 3, "--out", tmp_path / "x.h5"],
        ["evaluate", made, "--data", "digits"],
        ["evaluate", made],
        ["benchmark", tmp_path / f"{REVERSED}.yaml", "--out", tmp_path / "out"],
        [EVIL],
    ):
        assert main([str(word) for word in words]) == 2
        errors = capsys.readouterr().err
        assert is_plain(errors)
        assert len(errors.splitlines()) == 1


def test_the_text_of_an_error_is_plain_for_whoever_catches_it():
    assert str(CondenseError(f"no {EVIL}\n\n  in {BROKEN}")) == (r"no cat\x1b[2J\x1b]0;owned\x07\n\n  in line\nbreak\r")


def test_lines_and_bars_are_plain(capsys, monkeypatch):
    say(EVIL)
    answer(REVERSED, BROKEN)
    with progress_bar(EVIL, 2, enabled=True) as bar:
        bar.update(1, {EVIL: 0.5})
        say(REVERSED)
    printed = capsys.readouterr()
    assert printed.out == "dog\\u202egnp\nline\\nbreak\\r\n"
    assert r"cat\x1b[2J" in printed.err
    assert "\x07" not in printed.err
    assert "\x1b]0;" not in printed.err
    assert "\u202e" not in printed.err
    with progress_bar("[red]plain[/red]", 2, enabled=True):
        pass
    assert "[red]plain[/red]" in capsys.readouterr().err


def test_words_in_other_letters_end_no_run_on_a_terminal_without_them(made: Path):
    command = [sys.executable, "-m", "condense", "show", str(made)]
    shown = subprocess.run(command, capture_output=True, env={"PYTHONIOENCODING": "ascii", "PATH": "/usr/bin:/bin"})
    assert shown.returncode == 0, shown.stderr
    assert rb"\xfcn\xefc\xf6d\xe9 \u732b" in shown.stdout


def test_tables_plots_and_pictures_are_plain(data: Path):
    assert is_plain(markdown_table([EVIL, BROKEN], [[REVERSED, "|"]]))
    rows = [Row(name, Budget(ipc=1), name) for name in NAMES]
    column = Column("demo", "mlp")
    table = Table(rows=rows, columns=[column], hashes={column: "0"})
    buffer = io.BytesIO()
    figure = draw(table)
    figure.savefig(buffer, format="png", dpi=10)  # which reads what is between dollars as mathematics
    words = [text.get_text() for text in figure.findobj() if hasattr(text, "get_text")]
    assert all(map(is_plain, words))
    assert all(any(part in word for word in words) for part in (r"cat\x1b", r"dog\u202e", r"[red]\$x_{1"))
    images = load_data(data).train.images(torch.arange(2))
    assert picture_rows([images for _ in NAMES], names=NAMES).size[1] > 0


def test_everything_that_is_printed_goes_through_one_place():
    """`print` is called there and nowhere else; the demo's console draws a table of digits."""
    for package in ("condense", "buffers", "benchmarks"):
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and file.name != "progress.py":
                    name = ast.unparse(node.func)
                    assert name not in ("print", "sys.stdout.write", "sys.stderr.write"), f"{file}:{node.lineno}"
