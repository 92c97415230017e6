"""The examples of docs/data.md are run as they stand, one after the other, on data as they tell of."""

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from condense.cli.main import main
from condense.data import load_data
from condense.data.imagenet_subsets import IMAGENET_SUBSETS

GUIDE = (Path(__file__).parents[1] / "docs" / "data.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"<!-- test -->\n```(\w+)\n(.*?)```", GUIDE, re.DOTALL)


def write(root: Path, names: Sequence[str]) -> None:
    draws = np.random.default_rng(0)
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = draws.integers(0, 256, (20 + number % 3, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / name, format="PNG")


@pytest.fixture
def own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with everything that the guide speaks of, as the current one."""
    monkeypatch.chdir(tmp_path)
    parts = [(split, name) for split in ("train", "test") for name in ("cat", "dog")]
    write(tmp_path, [f"photos/{split}/{name}/{number}.png" for split, name in parts for number in range(3)])
    write(tmp_path, [f"damaged/{name}/{number}.png" for name in ("cat", "dog") for number in range(6)])
    (tmp_path / "damaged/cat/3.png").write_bytes(b"no image")
    rows = [("0001.jpg", "cat", "train"), ("rainy/0002.jpg", "dog", "test")]
    rows += [("0003.jpg", "dog", "train"), ("rainy/0004.jpg", "cat", "test")]
    write(tmp_path / "pictures", [name for name, _, _ in rows])
    (tmp_path / "labels.csv").write_text("\n".join(map(",".join, [("file_name", "label", "split"), *rows])))
    classes = list(IMAGENET_SUBSETS["imagefruit"])
    for split in ("train", "val"):
        write(tmp_path, [f"imagenet/{split}/{name}/1.JPEG" for name in [*classes, "n01440764"]])
    for name in classes[:3]:
        for place in (f"train/{name}/images/{name}_0.JPEG", f"val/images/{name}.JPEG", f"test/images/{name}.JPEG"):
            path = tmp_path / "tiny-imagenet-200" / place
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (64, 64), (len(place), 0, 0)).save(path)
    lines = [f"{name}.JPEG\t{name}\t0\t0\t9\t9" for name in classes[:3]]
    (tmp_path / "tiny-imagenet-200/val/val_annotations.txt").write_text("\n".join(lines))
    (tmp_path / "classes.txt").write_text("3\n8\n")
    for number in range(10):
        path = tmp_path / "scans" / ("ill" if number % 2 else "well") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((9, 9), 400 * number, np.uint16)).save(path)
    return tmp_path


def test_every_example_works_as_written(own_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for language, text in EXAMPLES:
        if language == "python":
            run = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
            assert run.returncode == 0, run.stderr
            continue
        for line in text.strip().splitlines():
            words = line.split()
            assert words[0] == "condense"
            assert main(words[1:]) == 0, capsys.readouterr().err
    packed = {path.stem: load_data(path) for path in own_data.glob("*.h5")}
    assert packed["dogs-and-cats"].classes == ("dog", "cat")
    assert packed["some-digits"].classes == ("3", "8")
    assert packed["imagefruit"].classes == tuple(IMAGENET_SUBSETS["imagefruit"])
    assert len(packed["tiny"].test) == 3
    assert packed["all"].classes == packed["split"].classes == ("cat", "dog")
    assert packed["pictures"].test.class_counts() == (1, 1)
    assert packed["shapes"].classes == ("bright", "dark")
    assert len(packed["repaired"].train) + len(packed["repaired"].test) == 11
    assert packed["scans"].image_shape == (1, 9, 9)


def test_the_guide_tells_of_every_option_that_decides_what_is_read() -> None:
    from condense.data.reading import READING_OPTIONS
    from condense.runtime.validation import option_name

    for name in READING_OPTIONS:
        assert f"`{option_name(name)}" in GUIDE or f"{option_name(name)} " in GUIDE
