"""The examples of docs/selection.md are run as they stand, and its tables are those of the registry."""

import re
from pathlib import Path

from benchmarks.grid import parse_grid
from condense.methods.registry import methods, training_time
from condense.recipes.yaml12 import load_yaml
from condense.runtime.registry import load_object
from condense.selection.base import Selector
from condense.sets.synthetic_set import SyntheticSet

GUIDE = (Path(__file__).parents[1] / "docs" / "selection.md").read_text(encoding="utf-8")


def test_every_example_works_as_written(run_examples, tmp_path: Path) -> None:
    assert "after 144 images a round, 1,438 different ones" in run_examples("docs/selection.md")
    assert len(SyntheticSet.load(tmp_path / "cut.h5")) == 72


def test_its_grid_is_one(tmp_path: Path) -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)
    (tmp_path / "grid.yaml").write_text(text)
    assert len(parse_grid(load_yaml(tmp_path / "grid.yaml"), "grid.yaml").columns) == 2


def test_it_tells_of_every_method_that_chooses_and_whether_it_is_nested() -> None:
    rows = dict(re.findall(r"^\| (`[^|]+`) \| [^|]+ \| (yes|no) \|", GUIDE, re.MULTILINE))
    told = {name: nested == "yes" for names, nested in rows.items() for name in re.findall(r"`([\w-]+)`", names)}
    chosen = [each for each in methods() if issubclass(load_object(each.target), Selector)]
    assert told == {each.name: each.nested for each in chosen}
    for entry in training_time():
        assert f"| `{entry.name}` |" in GUIDE
