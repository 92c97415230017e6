"""The demo: what it writes, and what it refuses to overwrite."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from benchmarks import demo
from condense.runtime.errors import CondenseError
from condense.runtime.locks import only_one
from condense.sets.synthetic_set import SyntheticSet

TINY = """
data: [digits]
ipc: [1, 2]
methods: [{name: random, set_seeds: 2}, {name: dm, iterations: 2, options: {network: convnet-w8-in}}]
columns: [{protocol: demo, nets: [mlp]}]
network_seeds: 1
"""


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A smaller grid for the demo, and its folder."""
    grid = tmp_path / "tiny.yaml"
    grid.write_text(TINY, encoding="utf-8")
    monkeypatch.setattr(demo, "GRID", grid)
    return tmp_path / "demo"


def test_the_demo_writes_sets_pictures_plot_and_results_and_replaces_its_own(
    small: Path, capsys: pytest.CaptureFixture[str]
):
    assert demo.run_demo(small, progress=False) == 0
    sets = sorted((small / "sets").glob("*.h5"))
    assert len(sets) == 6
    assert {SyntheticSet.load(path).ipc for path in sets} == {1, 2}
    assert sorted(path.stem for path in (small / "images").iterdir()) == [path.stem for path in sets]
    for path in (small / "images").iterdir():
        with Image.open(path) as image:
            assert image.format == "PNG"
    assert {"results.json", "results.csv", "results.md", "results.png", "results.svg"} <= {
        path.name for path in small.iterdir()
    }
    printed = capsys.readouterr().out
    assert "random" in printed
    assert "±" in printed
    assert printed.splitlines()[-1].endswith(str(small / "report" / "index.html"))
    assert "Pictures" in (small / "report" / "index.html").read_text(encoding="utf-8")

    assert demo.run_demo(small, progress=False) == 0
    (small / "notes.txt").write_text("mine")
    with pytest.raises(CondenseError, match=r"holds files that are not of a demo \(notes.txt\)"):
        demo.run_demo(small, progress=False)
    assert sorted((small / "sets").glob("*.h5")) == sets


def test_a_demo_has_its_folder_for_itself(small: Path):
    with only_one(small, "demo"):
        before = sorted(small.rglob("*"))
        with pytest.raises(CondenseError, match="another demo is running in"):
            demo.run_demo(small, progress=False)
        assert sorted(small.rglob("*")) == before
    assert demo.run_demo(small, progress=False) == 0
    (small / ".lock").touch()  # of one that was killed
    for half_done in ("cells/.digits-1.json.abcdefg1.tmp/digits-1.json", ".results.csv.abcdefg1.tmp/results.csv"):
        (small / half_done).parent.mkdir()
        (small / half_done).touch()
    assert demo.run_demo(small, progress=False) == 0
    assert not [path for path in small.rglob("*") if path.name == ".lock" or path.suffix == ".tmp"]


def test_foreign_folders_are_refused_and_kept(tmp_path: Path):
    (tmp_path / "cells").mkdir()
    mine = tmp_path / "cells" / "digits-1.json"
    mine.write_text("{}")
    with pytest.raises(CondenseError, match="not of a demo"):
        demo.run_demo(tmp_path)
    assert mine.read_text() == "{}"
    with pytest.raises(CondenseError, match="is a file"):
        demo.run_demo(mine)
