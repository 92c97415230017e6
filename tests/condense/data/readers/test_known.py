from __future__ import annotations

import bz2
import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from condense.data import load_data
from condense.data.readers.idx import read_idx
from condense.runtime.errors import CondenseError

DEBIAN = Path("/usr/share/datasets/fashion-mnist")


def write_idx(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def write_mnist(root: Path, name: str = "MNIST") -> dict[str, np.ndarray]:
    """A tiny set in the layout that torchvision keeps below a root."""
    draws = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 20), ("t10k", 10)):
        arrays[part] = draws.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        write_idx(root / name / "raw" / f"{part}-images-idx3-ubyte", arrays[part])
        write_idx(root / name / "raw" / f"{part}-labels-idx1-ubyte", (np.arange(count) % 10).astype(np.uint8))
    return arrays


def test_digits() -> None:
    data = load_data("digits")
    assert (len(data.train), len(data.test)) == (1438, 359)
    assert data.notes == ()
    assert data.classes == tuple("0123456789")
    assert data.image_shape == (1, 8, 8)
    assert not data.mirror
    assert min(data.train.class_counts()) > 130
    assert set(data.test.class_counts()) <= {35, 36, 37}
    originals = load_digits()
    counts = np.bincount(originals.target)
    assert [sum(pair) for pair in zip(data.train.class_counts(), data.test.class_counts())] == counts.tolist()


def test_digits_hold_every_image_once() -> None:
    data = load_data("digits")
    parts = [split.pixels(torch.arange(len(split))) for split in (data.train, data.test)]
    mine = torch.cat(parts)[:, 0].double() * (16 / 255)
    assert sorted(mine.round().flatten(1).tolist()) == sorted(load_digits().images.reshape(1797, 64).tolist())
    assert parts[0].max() == 255
    assert parts[0].min() == 0


def test_digits_are_the_same_every_time() -> None:
    # Stored sets name this fingerprint: it must not change between versions.
    assert load_data("digits").fingerprint == load_data("Digits").fingerprint == DIGITS


DIGITS = "af7cd6e9f628ea07f668abb13172f4ae"


def test_torchvision_below_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = write_mnist(tmp_path)
    data = load_data("mnist", data_root=tmp_path)
    assert data.classes[3] == "3 - three"
    assert not data.mirror
    assert data.preprocessing.to_arrays()["mean"].tolist() == [0.1307]
    assert np.array_equal(data.train.pixels(torch.arange(20))[:, 0], arrays["train"])
    assert np.array_equal(data.test.pixels(torch.arange(10))[:, 0], arrays["t10k"])
    monkeypatch.setenv("CONDENSE_DATA", str(tmp_path))
    assert load_data("MNIST").fingerprint == data.fingerprint
    assert load_data("mnist", normalization="computed").preprocessing.kind == "normalize"
    assert load_data("mnist", image_size=14).image_shape == (1, 14, 14)


def test_torchvision_below_a_folder_of_the_name(tmp_path: Path) -> None:
    write_mnist(tmp_path / "kmnist", "KMNIST")
    data = load_data("kmnist", data_root=tmp_path)
    assert data.name == "kmnist"
    assert len(data.train) == 20
    assert data.preprocessing.to_arrays()["mean"].tolist() != [0.1307]  # no published constants: computed


def test_a_name_wins_over_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "digits").mkdir()
    monkeypatch.chdir(tmp_path)
    assert len(load_data("digits").train) == 1438
    with pytest.raises(CondenseError, match="no image files"):
        load_data("./digits")


def test_a_missing_set_says_where_it_looked(tmp_path: Path) -> None:
    places = rf"in {tmp_path}, {tmp_path}/cifar10;"
    with pytest.raises(CondenseError, match=places + r" give --download .* --data-root \(or \$CONDENSE_DATA\)"):
        load_data("cifar10", data_root=tmp_path)
    for name in ("mnist", "kmnist", "usps", "svhn", "cifar100", "stl10"):
        with pytest.raises(CondenseError, match=f"{name} is not, or not complete, in"):
            load_data(name, data_root=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_set(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    (tmp_path / "MNIST/raw/train-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03")
    with pytest.raises(CondenseError, match=r"torchvision cannot read mnist .* --download") as raised:
        load_data("mnist", data_root=tmp_path)
    assert "\n" not in str(raised.value)


def test_a_download_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CondenseError, match=r"torchvision cannot download mnist to .*file"):
        load_data("mnist", data_root=tmp_path / "file", download=True)


def test_usps(tmp_path: Path) -> None:
    values = np.linspace(-1, 1, 256)
    line = " ".join(f"{position + 1}:{value:.6f}" for position, value in enumerate(values))
    for name, count in (("usps.bz2", 20), ("usps.t.bz2", 10)):
        lines = "".join(f"{number % 10 + 1} {line}\n" for number in range(count))
        (tmp_path / name).write_bytes(bz2.compress(lines.encode()))
    data = load_data("usps", data_root=tmp_path)
    assert data.classes == tuple("0123456789")
    assert data.train.labels.tolist() == list(range(10)) * 2
    pixels = data.test.pixels(torch.tensor([3]))
    assert pixels.shape == (1, 1, 16, 16)
    assert (pixels.flatten().int() - torch.arange(256)).abs().max() <= 1


@pytest.mark.parametrize("name", ["cifer10", "minst"])
def test_near_names(name: str) -> None:
    with pytest.raises(CondenseError, match=f"unknown data set '{name}'.*did you mean (cifar10|mnist)"):
        load_data(name)


def test_paths_that_do_not_exist(tmp_path: Path) -> None:
    for source in (tmp_path / "nothing", f"{tmp_path}/nothing", "nothing.npz"):
        with pytest.raises(CondenseError, match=r"nothing(\.npz)? does not exist"):
            load_data(source)
    (tmp_path / "data.csv").write_text("1,2")
    with pytest.raises(CondenseError, match=r"data.csv is neither a folder nor an .npz or .h5 file"):
        load_data(tmp_path / "data.csv")


def test_image_size_must_be_positive() -> None:
    with pytest.raises(CondenseError, match="--image-size 0x0 must be at least 1x1"):
        load_data("digits", image_size=0)


def test_the_hub_needs_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(CondenseError, match=r"hf:mnist needs the package datasets; install it with pip install"):
        load_data("hf:mnist")


def test_a_local_set_of_the_hub_format(tree, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    pytest.importorskip("datasets", reason="the extra huggingface is not installed")
    root = tree({"train/cat": 4, "train/dog": 4, "test/cat": 2, "test/dog": 2})
    assert load_data(f"hf:{root}", download=True).fingerprint == load_data(root).fingerprint


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_files(tmp_path: Path, suffix: str) -> None:
    array = np.random.default_rng(0).integers(0, 256, (3, 4, 5), dtype=np.uint8)
    path = write_idx(tmp_path / f"images-idx3-ubyte{suffix}", array)
    assert np.array_equal(read_idx(path), array)
    content = path.read_bytes()
    for damaged in (b"", content[:-7], b"\0\1" + content[2:]):
        path.write_bytes(damaged)
        with pytest.raises(CondenseError, match="images-idx3-ubyte"):
            read_idx(path)


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed")
def test_fashion_mnist_of_debian(tmp_path: Path) -> None:
    data = load_data("fashion-mnist", data_root=tmp_path, normalization="computed")
    assert data.train.class_counts() == (6000,) * 10
    assert data.test.class_counts() == (1000,) * 10
    assert data.classes[0] == "T-shirt/top"
    assert data.mirror
    computed = data.preprocessing.to_arrays()
    np.testing.assert_allclose([computed["mean"][0], computed["std"][0]], [0.2861, 0.3530], atol=1e-4)
