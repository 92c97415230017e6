"""Bars within bars, lines above them, and a terminal that is lent to another process."""

import subprocess
import sys

import pytest

from condense.runtime.progress import progress_bar, say, terminal_released


def test_a_bar_within_a_bar_shares_its_display_and_vanishes(capsys: pytest.CaptureFixture[str]):
    with progress_bar("outer", 2, enabled=True) as outer:
        with progress_bar("inner", 3, enabled=True) as inner:
            inner.update(3, {"loss": 0.25})
        outer.update(2)
    shown = capsys.readouterr().err
    assert "outer" in shown
    assert "2/2" in shown
    assert "inner" not in shown
    with progress_bar("alone", 60, enabled=True, unit="s") as alone:
        alone.update(30, {"loss": 0.25})
    shown = capsys.readouterr().err
    assert "30/60 s" in shown
    assert "loss 0.25" in shown


@pytest.mark.parametrize(("columns", "shown"), [(80, ["loss"]), (100, ["loss", "inner_lr", "clamped"])])
def test_a_narrow_terminal_shows_the_first_metrics_and_everything_else(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int, shown: list[str]
):
    monkeypatch.setenv("COLUMNS", str(columns))
    metrics = {"loss": 0.91234, "inner_lr": 0.020031, "clamped": 0, "skipped": 0, "gradient": 0.01234}
    with progress_bar("distilling", 300, enabled=True) as bar:
        bar.update(100, metrics)
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("distilling ━")
    assert "100/300" in line
    assert "left" in line
    assert "…" not in line
    assert [name for name in metrics if name in line] == shown


def test_a_silent_bar_prints_nothing_and_hides_no_other(capsys: pytest.CaptureFixture[str]):
    with progress_bar("silent", 2, enabled=False) as silent:
        silent.update(1, {"loss": 1.0})
        with progress_bar("heard", 1, enabled=True) as heard:
            heard.update(1)
    shown = capsys.readouterr().err
    assert "heard" in shown
    assert "silent" not in shown


def test_lines_are_printed_with_and_without_a_bar(capsys: pytest.CaptureFixture[str]):
    say("before [bold]")
    with progress_bar("bar", 1, enabled=True):
        say("during [bold]")
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["before [bold]", "during [bold]"]


def test_another_process_gets_the_terminal_and_the_bar_comes_back(capfd: pytest.CaptureFixture[str]):
    with progress_bar("bar", 2, enabled=True) as bar:
        with terminal_released():
            subprocess.run([sys.executable, "-c", "import sys; print('other', file=sys.stderr)"], check=True)
        bar.update(2)
    shown = capfd.readouterr().err
    assert shown.index("0/2") < shown.index("other") < shown.index("2/2")


def test_the_display_is_given_up_after_an_error(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(KeyboardInterrupt), progress_bar("broken", 1, enabled=True):
        raise KeyboardInterrupt
    say("after")
    assert capsys.readouterr().err.endswith("after\n")
