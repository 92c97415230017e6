"""The examples of docs/recovery.md are run as they stand, one after the other, in one folder."""

from pathlib import Path

from condense.labels.kinds import HardLabels
from condense.methods.registry import methods
from condense.sets.synthetic_set import SyntheticSet

GUIDE = (Path(__file__).parents[1] / "docs" / "recovery.md").read_text(encoding="utf-8")


def test_every_example_works_as_written(run_examples, tmp_path: Path) -> None:
    said = run_examples("docs/recovery.md")
    assert "(0.80" in said
    assert "(0.66" in said
    sets = {path.stem: SyntheticSet.load(path) for path in tmp_path.glob("*.h5")}
    assert sets["labelled"].stored_labels.kind == "views"
    assert isinstance(sets["voted"].stored_labels, HardLabels)
    assert len(sets["interpolated"].stored) == 10  # a place of every class
    assert len(sets["interpolated"]) == 30  # an image as it is, and with the compensators of two teachers


def test_the_guide_tells_of_every_method_that_asks_teachers() -> None:
    for method in methods():
        if method.teacher:
            assert f"| `{method.name}` |" in GUIDE
