"""How different classes look in a mirror, against the definition and on classes where the answer is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import condense
from benchmarks.measure.mirroring import asymmetry, main


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Noise whose left half is brighter in the first class; the second has every image with its mirror image."""
    draws = np.random.default_rng(0)
    images = draws.integers(0, 100, (40, 6, 8), dtype=np.uint8)
    images[:20, :, :4] += 100
    images[30:] = images[20:30, :, ::-1]
    labels = np.arange(40) // 20
    np.savez(tmp_path / "two.npz", train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    return tmp_path / "two.npz"


def test_it_is_the_squared_distance_of_the_mean_from_its_mirror_image_in_parts_of_the_variance(path: Path):
    train = condense.load_data(path).train
    images = train.images(train.class_indices(0)).double().numpy()
    mean = images.mean(0)
    expected = ((mean - mean[:, :, ::-1]) ** 2).sum() / np.mean([((image - mean) ** 2).sum() for image in images])
    assert asymmetry(train, 0) == pytest.approx(expected)
    assert asymmetry(train, 0) > 1
    assert asymmetry(train, 1) < 1e-9


def test_the_command_names_the_classes(path: Path, tmp_path: Path, capsys):
    assert main(["--data", str(path), "--out", str(tmp_path / "found.json")]) == 0
    assert capsys.readouterr().out.startswith("two: 0 ")
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["asymmetry"]["two"].keys() == {"0", "1"}
    assert str(tmp_path) not in json.dumps(found)
