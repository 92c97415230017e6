"""The examples of docs/labels.md are run as they stand, and it tells of every kind of label and every codec."""

import re
from pathlib import Path

from condense.labels.codecs import CODECS
from condense.sets.synthetic_set import SyntheticSet
from condense.teachers.label_settings import LABELS

GUIDE = (Path(__file__).parents[1] / "docs" / "labels.md").read_text(encoding="utf-8")


def test_every_example_works_as_written(run_examples, tmp_path: Path) -> None:
    said = run_examples("docs/labels.md")
    accuracy = re.search(r"(\d+)% of the test images", said)
    assert accuracy is not None
    assert int(accuracy[1]) > 80
    labels = SyntheticSet.load(tmp_path / "reinforced.h5").stored_labels
    assert 1 <= labels.bytes / (1438 * (10 * 20 + 8)) < 1.01


def test_it_tells_of_every_kind_of_label_and_of_every_codec() -> None:
    for labels in LABELS:
        assert f"| `{labels}` |" in GUIDE
    for codec in CODECS:
        assert f"`{codec.replace('K', '5')}`" in GUIDE or f"--codec {codec.replace('K', '5')}`" in GUIDE
