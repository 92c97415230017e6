"""Where things are kept that can be made again, on machines where homes are odd."""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from condense.runtime import places

UNUSABLE = ["/proc/nothing", "/dev/null", "FILE/home"]


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """No place that another test has found, and a folder for temporary files that is this test's."""
    for function in (places._usual_place, places._own_temporary_folder):
        function.cache_clear()
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    for name in ("CONDENSE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    yield
    for function in (places._usual_place, places._own_temporary_folder):
        function.cache_clear()


def own(tmp_path: Path) -> Path:
    return tmp_path / "tmp" / f"condense-{os.getuid()}"


def home(name: str, tmp_path: Path) -> str:
    (tmp_path / "file").touch()
    return name.replace("FILE", str(tmp_path / "file"))


def test_the_usual_place_is_below_the_home_and_is_not_made(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert places.cache_directory() == tmp_path / "home" / ".cache" / "condense"
    assert {path.name for path in tmp_path.iterdir()} == {"tmp"}
    monkeypatch.setenv("CONDENSE_CACHE", "mine")
    assert places.cache_directory() == Path("mine")


@pytest.mark.skipif(sys.platform != "linux", reason="a convention of Linux desktops")
def test_a_place_for_all_caches_is_respected(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    assert places.cache_directory() == tmp_path / "caches" / "condense"


@pytest.mark.parametrize("name", UNUSABLE)
def test_without_a_home_that_can_be_written_it_is_a_private_folder(monkeypatch, tmp_path: Path, name: str):
    monkeypatch.setenv("HOME", home(name, tmp_path))
    assert places.cache_directory() == own(tmp_path)
    assert stat.S_IMODE(own(tmp_path).stat().st_mode) == 0o700


def test_a_home_that_nobody_knows(monkeypatch, tmp_path: Path):
    def unknown(number: int) -> None:
        raise KeyError(number)

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert places.cache_directory() == own(tmp_path)


@pytest.mark.parametrize("kind", ["open to all", "a link", "a file"])
def test_a_folder_that_others_may_have_prepared_is_not_trusted(monkeypatch, tmp_path: Path, kind: str):
    """What is compiled is kept there, and run."""
    monkeypatch.setenv("HOME", "/dev/null")
    if kind == "open to all":
        own(tmp_path).mkdir()
        own(tmp_path).chmod(0o777)
    elif kind == "a link":
        (tmp_path / "other").mkdir(mode=0o700)
        own(tmp_path).symlink_to(tmp_path / "other")
    else:
        own(tmp_path).touch()
    place = places.cache_directory()
    assert place != own(tmp_path)
    assert place.parent == tmp_path / "tmp"
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert places.cache_directory() == place


def test_where_nothing_can_be_written_nothing_is_kept(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("HOME", "/dev/null")
    monkeypatch.setattr(tempfile, "tempdir", "/proc/nothing")
    assert not places.can_be_written(places.cache_directory())


def run(words: list[str], folder: Path, name: str) -> subprocess.CompletedProcess[str]:
    set_by_condense = ("CONDENSE_CACHE", "XDG_CACHE_HOME", "HOME", "TORCHINDUCTOR_CACHE_DIR", "MPLCONFIGDIR")
    environment = {key: value for key, value in os.environ.items() if key not in set_by_condense}
    environment |= {"TMPDIR": str(folder / "tmp")} | ({} if name == "unset" else {"HOME": home(name, folder)})
    command = [sys.executable, "-m", "condense", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=folder)


@pytest.mark.parametrize("name", UNUSABLE)
def test_commands_work_without_a_home(digits_file: Path, tmp_path: Path, name: str):
    """They train networks first, measure rates, compile, pack data for experts and draw."""
    small = ["--net", "convnet-d1-w4", "--experts", "1", "--epochs", "1"]
    for words in (
        ["distill", "herding", "--data", str(digits_file), "--ipc", "1", "--network", "convnet-d1-w4", "--out", "s.h5"],
        ["experts", "--data", str(digits_file), *small, "--compile", "on", "--out", "experts"],
        ["show", "experts", "--png", "e.png"],
    )[: None if name == UNUSABLE[0] else 1]:
        end = run(words, tmp_path, name)
        assert end.returncode == 0, end.stderr
        assert end.stderr == ""
    assert (own(tmp_path) / "features").is_dir()
    if name == UNUSABLE[0]:
        assert {path.name for path in own(tmp_path).iterdir()} >= {"features", "packed", "compiled", "matplotlib"}
