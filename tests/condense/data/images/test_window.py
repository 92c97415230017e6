"""Images of more than 8 bits through a window, from every kind of source."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

import condense
from condense.cli.main import main
from condense.data import load_data, pack
from condense.data.images.window import Window
from condense.runtime.errors import CondenseError

Tree = Callable[..., Path]  # the fixture `tree`

VALUES = np.random.default_rng(0).integers(0, 4096, (8, 6, 5)).astype(np.uint16)
EXPECTED = np.rint(255 * ((VALUES.astype(float) - 500) / 3000).clip(0, 1)).astype(np.uint8)


def save(root: Path, suffix: str, dtype: type = np.uint16, **options: object) -> Path:
    """The first four images as cat, the others as dog, in both splits."""
    for number, values in enumerate(VALUES):
        for split in ("train", "test"):
            folder = root / split / ("cat" if number < 4 else "dog")
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values.astype(dtype)).save(folder / f"{number}{suffix}", **options)
    return root


@pytest.mark.parametrize(
    ("suffix", "dtype"),
    [(".png", np.uint16), (".tif", np.uint16), (".tif", np.int32), (".tif", np.float32), (".jp2", np.uint16)],
)
def test_image_files(tmp_path: Path, suffix: str, dtype: type) -> None:
    data = load_data(save(tmp_path / "scans", suffix, dtype), window=(500, 3500))
    assert data.image_shape == (1, 6, 5)
    assert np.array_equal(data.train.pixels(torch.arange(8))[:, 0], EXPECTED)
    assert data.reading_options == {"window": [500, 3500]}


def test_a_pgm_of_16_bits_keeps_its_values(tmp_path: Path) -> None:
    """Pillow would spread those of another largest value."""
    root = save(tmp_path / "scans", ".pgm", np.int32)
    path = root / "train/cat/0.pgm"
    assert path.read_bytes().split()[3][:5] == b"65535"
    data = load_data(root, window=(500, 3500))
    assert np.array_equal(data.train.pixels(torch.arange(8))[:, 0], EXPECTED)
    path.write_bytes(b"P5 5 6 4095\n" + VALUES[0].astype(">u2").tobytes())
    with pytest.raises(CondenseError, match=r"1 of 16 image files cannot be read with more than 8 bits, .*0.pgm"):
        load_data(root, window=(500, 3500))


def test_signed_values_and_sizes(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for name, value in (("air", -1000), ("bone", 400)):
            (tmp_path / "ct" / split / name).mkdir(parents=True)
            Image.fromarray(np.full((6, 5), value, np.int32)).save(tmp_path / "ct" / split / name / "1.tif")
    data = load_data(tmp_path / "ct", window=(-1000, 400), image_size=3)
    assert data.train.pixels(torch.arange(2)).unique().tolist() == [0, 255]
    assert data.image_shape == (1, 3, 3)


def test_other_windows_are_other_data_and_are_remembered_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDENSE_CACHE", str(tmp_path / "cache"))
    root = save(tmp_path / "scans", ".png")
    np.savez(tmp_path / "scans.npz", images=VALUES, labels=np.arange(8) // 4, classes=np.array(["cat", "dog"]))
    with h5py.File(tmp_path / "scans.h5", "w") as file:
        file["images"], file["labels"] = VALUES, np.arange(8) // 4
    for source in (root, tmp_path / "scans.npz", tmp_path / "scans.h5"):
        prints = [load_data(source, window=window).fingerprint for window in ((500, 3500), (0, 4095), (500, 3500))]
        assert prints[0] == prints[2] != prints[1]
        if source.suffix != ".npz":
            assert load_data(source, window=(0, 4095), memory_limit=200).fingerprint == prints[1]


@pytest.mark.parametrize("window", [(3500, 500), (1, 1), (float("nan"), 1), (0, float("inf"))])
def test_windows_that_are_none(tmp_path: Path, window: tuple[float, float]) -> None:
    with pytest.raises(CondenseError, match="must be two finite values, the lower first, for example 0 4095"):
        load_data(save(tmp_path / "scans", ".png"), window=window)


def test_values_that_are_no_numbers_become_black() -> None:
    assert Window(0, 1).apply(np.array([np.nan, np.inf, -np.inf, 0.5])).tolist() == [0, 255, 0, 128]


def test_images_of_8_bits_and_colours_are_refused(tree: Tree, tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    root = tree({"train/cat": 2, "train/dog": 2, "test/cat": 1, "test/dog": 1})
    with pytest.raises(CondenseError, match=r"6 of 6 image files have 8 bits .* train/cat/000.png, .* leave it out"):
        load_data(root, window=(0, 4095))
    np.savez(tmp_path / "a.npz", **arrays)  # type: ignore[arg-type]
    for source in (tmp_path / "a.npz", pack(load_data(tmp_path / "a.npz"), tmp_path / "a.h5")):
        with pytest.raises(CondenseError, match=r"train_images of .* is uint8, and --window is for values"):
            load_data(source, window=(0, 4095))
    with pytest.raises(CondenseError, match=r"--window is for values of more .*, and digits has 8: leave it out"):
        load_data("digits", window=(0, 15))


def test_items_of_datasets(tmp_path: Path) -> None:
    forms = [[Image.fromarray(v) for v in VALUES], list(VALUES), [torch.from_numpy(v.astype(np.int32)) for v in VALUES]]
    for images in forms:
        items = [(image, number // 4) for number, image in enumerate(images)]
        data = load_data((items, items), window=(500, 3500))  # type: ignore[arg-type]
        assert np.array_equal(data.train.pixels(torch.arange(8))[:, 0], EXPECTED)
    shallow = [(Image.new("L", (5, 6)), 0), (Image.new("L", (5, 6)), 1)]
    with pytest.raises(CondenseError, match="image 0 has 8 bits a channel, and --window is for one channel"):
        load_data((shallow, shallow), window=(0, 9))  # type: ignore[arg-type]
    flat = [(np.zeros((5, 6), np.uint8), 0), (np.zeros((5, 6), np.uint8), 1)]
    with pytest.raises(CondenseError, match=r"image 0 is uint8, and --window is for values of more than"):
        load_data((flat, flat), window=(0, 9))  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_arrays(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"scans{suffix}"
    for dtype in (np.uint16, np.int32, np.float32):
        arrays = {"x_train": VALUES.astype(dtype), "x_test": VALUES.astype(dtype)}
        arrays |= {"y_train": np.arange(8) // 4, "y_test": np.arange(8) // 4}
        if suffix == ".npz":
            np.savez(path, **arrays)  # type: ignore[arg-type]
        else:
            with h5py.File(path, "w") as file:
                file.update(arrays)
        data = load_data(path, window=(500, 3500))
        assert np.array_equal(data.train.pixels(torch.arange(8))[:, 0], EXPECTED)


def test_a_made_test_split_does_not_depend_on_the_window(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=VALUES, labels=np.arange(8) // 4)
    wide, narrow = (load_data(tmp_path / "a.npz", window=window) for window in ((0, 4095), (500, 3500)))
    held_out = [np.rint(255 * (image / 4095)).astype(np.uint8).tobytes() for image in VALUES.astype(float)]
    places = [held_out.index(image.numpy().tobytes()) for image in wide.test.pixels(torch.arange(2))]
    assert np.array_equal(narrow.test.pixels(torch.arange(2))[:, 0], EXPECTED[places])


def test_the_window_is_in_the_command_that_makes_a_set_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = save(tmp_path / "scans", ".png"), tmp_path / "set.h5"
    words = ["--data", str(root), "--ipc", "1", "--out", str(out)]
    assert main(["distill", "random", *words]) == 2
    assert (
        "have more than 8 bits a channel, for example train/cat/0.png; give --window LOW HIGH"
        in capsys.readouterr().err
    )
    assert main(["distill", "random", *words, "--window", "500", "3500"]) == 0
    synthetic = condense.SyntheticSet.load(out)
    assert " --window 500 3500 " in synthetic.provenance["command"]
    again = (
        synthetic.provenance["command"]
        .replace("--data scans", f"--data {root}")
        .replace("set.h5", str(tmp_path / "b.h5"))
    )
    assert main(again.split()[1:]) == 0
    assert (tmp_path / "b.h5").read_bytes() == out.read_bytes()
    for wrong, message in (
        (["a", "1"], "--window.0 'a'"),
        (["-1000"], "expected 2 arguments"),
        (["2", "1"], "lower first"),
    ):
        assert main(["distill", "random", *words, "--overwrite", "--window", *wrong]) == 2
        assert message in capsys.readouterr().err
    packed = tmp_path / "packed.h5"
    assert main(["pack", str(root), "--window", "500", "3500", "--out", str(packed)]) == 0
    assert load_data(packed).fingerprint == load_data(root, window=(500, 3500)).fingerprint
    assert load_data(packed).reading_options == {}
