"""The examples of docs/labels.md are run as they stand, and it tells of every kind of label and every codec."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from condense.cli.main import main
from condense.labels.codecs import CODECS
from condense.sets.synthetic_set import SyntheticSet
from condense.teachers.label_settings import LABELS

GUIDE = (Path(__file__).parents[1] / "docs" / "labels.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"<!-- test -->\n```(\w+)\n(.*?)```", GUIDE, re.DOTALL)


def test_every_example_works_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    said = ""
    for language, text in EXAMPLES:
        if language == "python":  # in a process of its own: its workers import what it defines
            run = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
            said += run.stdout
            continue
        for line in text.strip().splitlines():
            assert main(line.split()[1:]) == 0, capsys.readouterr().err
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
