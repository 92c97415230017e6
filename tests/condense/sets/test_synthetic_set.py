"""The class, its HDF5 file, and docs/format.md, whose examples run here."""

from __future__ import annotations

import dataclasses
import re
import resource
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from buffers.expert_file import Trajectory, write_expert
from condense.data import load_data, pack
from condense.data.info import DataInfo
from condense.data.preprocessing import None_, Normalization, Preprocessing, Whitening
from condense.labels import LogitLabels, ProbabilityLabels
from condense.runtime.errors import CondenseError
from condense.runtime.hdf5.reader import Contents, read_contents
from condense.runtime.hdf5.writer import write_contents
from condense.sets.description import describe_set
from condense.sets.synthetic_set import SyntheticSet

CLASSES = ("cat", "dog", "épée")
SHAPE = (3, 4, 6)
KIND, SCHEMA = "condense synthetic set", 2
FORMAT_PAGE = Path(__file__).parents[3] / "docs" / "format.md"


def whitening() -> Whitening:
    size = 3 * 4 * 6
    root = torch.randn(size, size, generator=torch.Generator().manual_seed(1)) / 10
    return Whitening(torch.rand(size, generator=torch.Generator().manual_seed(2)), root @ root.T + torch.eye(size))


PREPROCESSINGS = {
    "none": None_(),
    "normalize": Normalization((0.4, 0.5, 0.6), (0.2, 0.25, 0.3)),
    "zca": whitening(),
}


def data_info(preprocessing: Preprocessing = PREPROCESSINGS["normalize"], **changes: Any) -> DataInfo:
    info = DataInfo("pets", CLASSES, SHAPE, True, "ab" * 16, preprocessing)
    return dataclasses.replace(info, **changes)


def images(dtype: torch.dtype, count: int = 6) -> torch.Tensor:
    draws = torch.Generator().manual_seed(0)
    if dtype == torch.uint8:
        return torch.randint(0, 256, (count, *SHAPE), dtype=dtype, generator=draws)
    return torch.randn(count, *SHAPE, generator=draws)


def make_set(dtype: torch.dtype = torch.float32, **changes: Any) -> SyntheticSet:
    arguments: dict[str, Any] = {
        "stored": images(dtype),
        "stored_labels": torch.tensor([0, 0, 1, 1, 2, 2]),
        "info": data_info(),
        "learned_lr": 0.0123,
        "mirrored": True,
        "augmentation": {"operations": ("flip", "crop"), "align_corners": False},
        "protocol": "desk",
        "provenance": {
            "configuration": {"method": "dm", "seed": 0, "settings": {"image_lr": 1.0}},
            "command": "condense",
        },
        "metrics": {"loss": torch.tensor([0.5, float("nan"), 0.25], dtype=torch.float64)},
    }
    return SyntheticSet(**{**arguments, **changes})


def soft(kind: str) -> dict[str, Any]:
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(3)) * 3
    classes = torch.tensor([0, 0, 1, 1, 2, 2])
    soft = LogitLabels(logits, classes, 2.5) if kind == "logits" else ProbabilityLabels(logits.softmax(1), classes, 2.5)
    return {"stored_labels": soft}


def assert_same(left: SyntheticSet, right: SyntheticSet) -> None:
    for name in ("stored", "labels", "targets"):
        mine, other = getattr(left, name), getattr(right, name)
        assert (mine is None) == (other is None)
        if mine is not None:
            assert mine.dtype == other.dtype
            assert torch.equal(mine, other)
    assert left.stored_labels.attributes == right.stored_labels.attributes
    for name in ("label_kind", "learned_lr", "mirrored", "augmentation", "protocol", "provenance"):
        assert getattr(left, name) == getattr(right, name), name
    assert left.info.preprocessing.equals(right.info.preprocessing)
    assert dataclasses.replace(left.info, preprocessing=None_()) == dataclasses.replace(
        right.info, preprocessing=None_()
    )
    assert left.metrics.keys() == right.metrics.keys()
    for name, series in left.metrics.items():
        assert series.numpy().tobytes() == right.metrics[name].numpy().tobytes()


def refusal(path: Path) -> str:
    with pytest.raises(CondenseError) as caught:
        SyntheticSet.load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message
    return message


# The set


@pytest.mark.parametrize("kind", PREPROCESSINGS)
def test_pixels_are_preprocessed_and_learned_images_are_not(kind: str) -> None:
    info = data_info(PREPROCESSINGS[kind])
    chosen, learned = make_set(torch.uint8, info=info), make_set(info=info)
    plain = chosen.stored.numpy() / 255
    expected = {
        "none": lambda: plain,
        "normalize": lambda: (
            (plain - np.array([0.4, 0.5, 0.6])[:, None, None]) / np.array([0.2, 0.25, 0.3])[:, None, None]
        ),
        "zca": lambda: ((plain.reshape(6, -1) - whitening().mean.numpy()) @ whitening().matrix.numpy()).reshape(
            6, *SHAPE
        ),
    }[kind]()
    assert chosen.images.dtype == torch.float32
    np.testing.assert_allclose(chosen.images.numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(chosen.plain_images.numpy(), plain, atol=1e-7)
    assert torch.equal(learned.images, learned.stored)
    np.testing.assert_allclose(
        info.preprocessing.apply(learned.plain_images).numpy(), learned.stored.numpy(), atol=1e-4
    )


def test_it_feeds_an_ordinary_training_loop() -> None:
    for synthetic in (make_set(torch.uint8), make_set(**soft("logits"))):
        batches = list(DataLoader(synthetic, batch_size=4, num_workers=1))
        inputs, labels = (torch.cat(parts) for parts in zip(*batches))
        assert torch.allclose(inputs, synthetic.images)
        assert torch.equal(labels, synthetic.labels if synthetic.targets is None else synthetic.probabilities)
        assert torch.isfinite(torch.nn.functional.cross_entropy(torch.zeros(6, 3), labels))


def test_soft_labels_become_probabilities_at_their_temperature() -> None:
    logits = make_set(**soft("logits"))
    rows = np.exp(logits.targets.numpy() / 2.5)
    np.testing.assert_allclose(logits.probabilities.numpy(), rows / rows.sum(1, keepdims=True), rtol=1e-5)
    probabilities = make_set(**soft("probabilities"))
    assert torch.equal(probabilities.probabilities, probabilities.targets)
    assert make_set().probabilities is None


def test_counts_and_bytes() -> None:
    assert make_set().ipc == 2
    uneven = make_set(stored_labels=torch.tensor([0, 0, 0, 0, 2, 2]))
    assert uneven.ipc is None
    assert uneven.class_counts == (4, 0, 2)
    pixels = 6 * 3 * 4 * 6
    assert make_set().bytes == 4 * pixels + 8 * 6
    assert make_set(torch.uint8, **soft("logits")).bytes == pixels + 8 * 6 + 4 * 6 * 3


def test_a_set_is_a_copy() -> None:
    learned = images(torch.float32).requires_grad_()
    synthetic = make_set(stored=learned)
    with torch.no_grad():
        learned.zero_()
    assert synthetic.stored.abs().sum() > 0
    assert not synthetic.stored.requires_grad


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"stored": images(torch.float32).double()}, "not float64"),
        ({"stored": images(torch.float32)[:, :1]}, r"\[6, 1, 4, 6\]"),
        ({"stored": images(torch.float32)[:0], "stored_labels": torch.zeros(0, dtype=torch.int64)}, "N > 0"),
        ({"stored": images(torch.float32).log()}, "of 6 images hold values that are not finite"),
        ({"stored_labels": torch.tensor([0, 0, 1, 1, 2])}, "as many labels, not 5"),
        ({"stored_labels": torch.zeros(6)}, "int64 of 1 dimension"),
        ({"stored_labels": torch.tensor([0, 0, 1, 1, 2, 3])}, "from 0 to 3"),
        ({"stored_labels": torch.tensor([-1, 0, 1, 1, 2, 2])}, "from -1 to 2"),
        ({"stored_labels": LogitLabels(torch.zeros(6, 4))}, "4 numbers for an image, for 3 classes"),
        ({"stored_labels": LogitLabels(torch.zeros(5, 3))}, "as many labels, not 5"),
        ({"learned_lr": -0.01}, "learned_lr -0.01"),
        ({"provenance": {"path": Path("x")}}, "JSON"),
        ({"metrics": {"loss/a": torch.zeros(2)}}, "loss/a"),
        ({"metrics": {"loss": torch.zeros(2, 2)}}, r"\[2, 2\]"),
    ],
)
def test_what_does_not_fit_together_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(CondenseError, match=said) as caught:
        make_set(**changes)
    assert "\n" not in str(caught.value)


def test_it_only_matches_data_of_the_same_kind() -> None:
    synthetic = make_set()
    assert synthetic.check_matches(data_info()) is None
    assert synthetic.check_matches(data_info(None_(), mirror=False)) is None
    warning = synthetic.check_matches(data_info(fingerprint="cd" * 16))
    assert warning is not None
    assert "cdcd" in warning
    for changes, said in (
        ({"classes": ("cat", "dog")}, "3 classes but other has 2"),
        ({"classes": ("dog", "cat", "épée")}, "another order of classes.*label 0 is 'cat' in the set and 'dog'"),
        ({"classes": ("cat", "cow", "épée")}, "other classes.*label 1 is 'dog' in the set and 'cow'"),
        ({"image_shape": (3, 6, 4)}, r"\[3, 4, 6\] but other has \[3, 6, 4\]"),
    ):
        with pytest.raises(CondenseError, match=said):
            synthetic.check_matches(data_info(name="other", **changes))


def test_description_says_what_it_is_and_how_it_was_made() -> None:
    rows = make_set(**soft("logits")).describe()
    text = "\n".join(f"{name}: {value}" for name, value in rows.items())
    for fact in ("pets", "cat, dog", "6 of 3x4x6, 2 per class", "normalize", "mean 0.4", "logits, temperature 2.5"):
        assert fact in text
    for fact in ("0.0123", "flip crop", "desk", "method dm", "configuration.settings: image_lr 1.0", "3 values"):
        assert fact in text
    assert (
        "4 of 3x4x6, 0 to 3 per class"
        in make_set(stored=images(torch.float32)[:4], stored_labels=torch.tensor([0, 0, 0, 2])).describe()["images"]
    )
    assert all(isinstance(value, str) for value in rows.values())


# The file


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
@pytest.mark.parametrize("kind", PREPROCESSINGS)
@pytest.mark.parametrize("labels", ["hard", "probabilities", "logits"])
def test_a_loaded_set_is_the_saved_one(tmp_path: Path, dtype: torch.dtype, kind: str, labels: str) -> None:
    saved = make_set(dtype, info=data_info(PREPROCESSINGS[kind]), **({} if labels == "hard" else soft(labels)))
    saved.save(tmp_path / "set.h5")
    assert_same(SyntheticSet.load(tmp_path / "set.h5"), saved)


def test_a_set_with_nothing_optional_and_one_with_thousands_of_classes(tmp_path: Path) -> None:
    bare = SyntheticSet(
        stored=images(torch.uint8),
        stored_labels=torch.zeros(6, dtype=torch.int64),
        info=data_info(),
        metrics={"loss": torch.zeros(0)},
    )
    bare.save(tmp_path / "bare.h5")
    assert_same(SyntheticSet.load(tmp_path / "bare.h5"), bare)
    many = make_set(info=data_info(classes=tuple(f"class number {i}" for i in range(12_000))))
    many.save(tmp_path / "many.h5")  # HDF5's older formats stop at 64 KiB of attributes
    assert SyntheticSet.load(tmp_path / "many.h5").info.classes == many.info.classes


def test_equal_sets_give_equal_bytes(tmp_path: Path) -> None:
    make_set(**soft("logits")).save(tmp_path / "first.h5")
    time.sleep(1.1)  # HDF5 counts time in seconds
    make_set(**soft("logits")).save(tmp_path / "second name.h5")
    SyntheticSet.load(tmp_path / "first.h5").save(tmp_path / "third.h5")
    first = (tmp_path / "first.h5").read_bytes()
    assert first == (tmp_path / "second name.h5").read_bytes()
    assert first == (tmp_path / "third.h5").read_bytes()


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "set.h5"
    make_set().save(path)
    before = path.read_bytes()
    large = make_set(stored=torch.zeros(6000, *SHAPE), stored_labels=torch.zeros(6000, dtype=torch.int64))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # as on a full disk
    try:
        with pytest.raises(CondenseError, match="cannot write") as caught:
            large.save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_cannot_be_written_to(tmp_path: Path) -> None:
    with pytest.raises(CondenseError, match="folder"):
        make_set().save(tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file"),
        ("folder", "directory"),
        (b"", "not an HDF5 file"),
        (b"PK\x03\x04 text", "not an HDF5 file"),
    ],
)
def test_what_is_no_hdf5_file_is_refused(tmp_path: Path, content: bytes | str | None, said: str) -> None:
    path = tmp_path / "set.h5"
    if content == "folder":
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    assert said in refusal(path)


def test_other_hdf5_files_are_refused(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.h5"
    with h5py.File(foreign, "w") as file:
        file["images"] = np.zeros(3)
    assert "another program" in refusal(foreign)
    buffer = tmp_path / "buffer.h5"
    write_contents(buffer, Contents({}, {}), kind="condense expert buffer", schema=SCHEMA)
    assert "is a condense expert buffer; give a condense synthetic set" in refusal(buffer)


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "set.h5"
    make_set().save(path)
    with h5py.File(path, "r+") as file:
        file.attrs["schema"] = SCHEMA + 1
    assert f"schema {SCHEMA + 1} but this condense reads up to {SCHEMA}; upgrade" in refusal(path)


def test_an_unknown_decoder_and_missing_parts_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "set.h5"
    make_set().save(path)
    contents = read_contents(path, kind=KIND, schema=SCHEMA)
    unknown = {**contents.attributes, "images": {"space": "tiles"}}
    write_contents(path, Contents(contents.arrays, unknown), kind=KIND, schema=SCHEMA)
    assert "'tiles'" in refusal(path)
    without = {name: array for name, array in contents.arrays.items() if name != "labels"}
    attributes = {name: values for name, values in contents.attributes.items() if name != "labels"}
    write_contents(path, Contents(without, attributes), kind=KIND, schema=SCHEMA)
    assert "no class index for each image" in refusal(path)
    broken = {**contents.arrays, "labels": contents.arrays["labels"] + 9}
    write_contents(path, Contents(broken, contents.attributes), kind=KIND, schema=SCHEMA)
    assert "labels run from 9 to 11" in refusal(path)


FORGED: dict[str, tuple[str, dict[str, Any]]] = {  # attributes of other types than they are written with
    "a kind of labels": ("targets", {"kind": 3}),
    "an unknown kind of labels": ("targets", {"kind": "soft"}),
    "a kind that lacks its values": ("targets", {"kind": "regression"}),
    "no kind of labels": ("targets", {"kind": None}),
    "a rate in words": ("/", {"learned_lr": "fast"}),
    "mirror images that are a number": ("/", {"mirrored": 1}),
    "provenance that is no JSON": ("/", {"provenance": "{"}),
    "provenance that is a list": ("/", {"provenance": "[1]"}),
    "provenance that is nested": ("/", {"provenance": '{"a": ' * 2000 + "1" + "}" * 2000}),
    "provenance that is a number": ("/", {"provenance": 5}),
    "an augmentation that is a list": ("/", {"augmentation": "[1]"}),
    "a protocol that is a number": ("/", {"protocol": 5}),
    "no space": ("images", {"space": None}),
    "a space that is a list": ("images", {"space": ["unit"]}),
    "one class": ("data", {"classes": "cat"}),
    "classes that are numbers": ("data", {"classes": [1, 2, 3]}),
    "a shape of one number": ("data", {"image_shape": 5}),
    "a shape of four": ("data", {"image_shape": [3, 4, 6, 1]}),
    "a negative shape": ("data", {"image_shape": [3, -4, 6]}),
    "a huge shape": ("data", {"image_shape": [2**40, 2**40, 2**40]}),
    "a mirror that is a number": ("data", {"mirror": 2}),
    "a name that is a number": ("data", {"name": 7}),
    "a preprocessing that is a number": ("preprocessing", {"kind": 7}),
    "a preprocessing without its numbers": ("preprocessing", {"kind": "zca"}),
    "a decoder without a factor": ("decoder", {"kind": "tiles"}),
    "a decoder with a factor in words": ("decoder", {"kind": "tiles", "factor": "two"}),
    "a decoder with a huge factor": ("decoder", {"kind": "tiles", "factor": 2**40}),
    "a decoder with as many factors": ("decoder", {"kind": "multi-tiles", "factor": 2**40}),
    "a decoder without its factors": ("decoder", {"kind": "bound-tiles", "factor": 2}),
    "a decoder with one for its factors": ("decoder", {"kind": "bound-tiles", "factor": 2, "factors": 2}),
    "a decoder with factors of nothing": ("decoder", {"kind": "bound-tiles", "factor": 2, "factors": [0, 2]}),
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_attributes_are_refused(tmp_path: Path, name: str) -> None:
    """Whoever forges them can write a checksum that fits."""
    path, (place, changes) = tmp_path / "set.h5", FORGED[name]
    make_set().save(path)
    contents = read_contents(path, kind=KIND, schema=SCHEMA)
    forged = contents.attributes.get(place, {}) | changes
    forged = {name: value for name, value in forged.items() if value is not None}
    write_contents(path, Contents(contents.arrays, contents.attributes | {place: forged}), kind=KIND, schema=SCHEMA)
    refusal(path)


FORGED_ARRAYS: dict[str, Any] = {
    "images": [np.zeros((6, 3, 4, 6)), np.array([b"a"] * 6), np.zeros((0, 3, 4, 6), np.float32), np.float32(1)],
    "labels": [np.zeros(6), np.zeros((6, 1), np.int64), np.array(0), np.arange(6, dtype=np.uint64)],
    "preprocessing/mean": [np.array([b"a"] * 3), np.zeros(2), np.array([np.nan] * 3), np.zeros((3, 3))],
    "preprocessing/std": [np.zeros(3), np.array(1.0), np.array([True] * 3)],
    "metrics/loss": [np.array([b"a"]), np.zeros((2, 2))],
}


@pytest.mark.parametrize(
    ("name", "array"), [(name, array) for name, arrays in FORGED_ARRAYS.items() for array in arrays]
)
def test_forged_arrays_are_refused(tmp_path: Path, name: str, array: np.ndarray) -> None:
    path = tmp_path / "set.h5"
    make_set().save(path)
    contents = read_contents(path, kind=KIND, schema=SCHEMA)
    forged = Contents(contents.arrays | {name: np.asarray(array)}, contents.attributes)
    write_contents(path, forged, kind=KIND, schema=SCHEMA)
    refusal(path)


def test_a_small_file_that_declares_a_large_set_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "set.h5"
    make_set().save(path)
    with h5py.File(path, "r+") as file:
        attributes = dict(file["images"].attrs)
        del file["images"]
        shape = (2**31 // 72, 3, 4, 6)
        file.create_dataset("images", shape, "u1", chunks=(1000, 3, 4, 6), compression="gzip")
        file["images"].attrs.update(attributes)
    assert path.stat().st_size < 20_000
    assert "declares more of images than it has stored" in refusal(path)


@pytest.mark.parametrize("part", [0.01, 0.3, 0.6, 0.9, 0.999])
def test_a_truncated_file_is_refused(tmp_path: Path, part: float) -> None:
    path = tmp_path / "set.h5"
    make_set().save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: max(9, int(part * len(whole)))])
    assert "damaged or cut short" in refusal(path)


def _set_pixel(file: h5py.File) -> None:
    file["images"][0, 0, 0, 0] += 1


def _reshape(file: h5py.File) -> None:
    checksum, values = file["labels"].attrs["checksum"], file["labels"][:]
    del file["labels"]
    file["labels"] = values.reshape(2, 3)
    file["labels"].attrs["checksum"] = checksum


def _drop(file: h5py.File) -> None:
    del file["metrics/loss"]


def _add(file: h5py.File) -> None:
    file["targets/values"] = np.zeros((6, 3), np.float32)


def _reorder_classes(file: h5py.File) -> None:
    file["data"].attrs["classes"] = ["dog", "cat", "épée"]


def _change_std(file: h5py.File) -> None:
    file["preprocessing/std"][0] = 1.0


def _forget_checksum(file: h5py.File) -> None:
    del file["images"].attrs["checksum"]


def _change_rate(file: h5py.File) -> None:
    file.attrs["learned_lr"] = 1.0


@pytest.mark.parametrize(
    "alter",
    [_set_pixel, _reshape, _drop, _add, _reorder_classes, _change_std, _forget_checksum, _change_rate],
    ids=lambda alter: alter.__name__.strip("_"),
)
def test_an_altered_file_is_refused(tmp_path: Path, alter: Any) -> None:
    path = tmp_path / "set.h5"
    make_set().save(path)
    with h5py.File(path, "r+") as file:
        alter(file)
    assert "was altered" in refusal(path)


def test_no_flipped_bit_gets_through(tmp_path: Path) -> None:
    path = tmp_path / "set.h5"
    saved = make_set()
    saved.save(path)
    whole = path.read_bytes()
    messages = []
    for position in torch.randint(len(whole), (200,), generator=torch.Generator().manual_seed(4)).tolist():
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x10]) + whole[position + 1 :])
        try:
            loaded = SyntheticSet.load(path)
        except CondenseError as error:
            messages.append(str(error))
        else:  # a byte that HDF5 does not use
            assert_same(loaded, saved)
    assert len(messages) > 50
    assert not any("\n" in message for message in messages)


# docs/format.md


def page_examples() -> list[str]:
    of_images, _ = FORMAT_PAGE.read_text(encoding="utf-8").split("\n# Condensed graphs\n")
    return re.findall(r"```python\n(.*?)```", of_images, re.DOTALL)


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
@pytest.mark.parametrize("kind", PREPROCESSINGS)
def test_the_examples_of_the_page_read_a_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    synthetic = make_set(dtype, info=data_info(PREPROCESSINGS[kind]))
    synthetic.save("set.h5")
    reading, verifying, _ = page_examples()
    names: dict[str, Any] = {}
    exec(reading, names)
    np.testing.assert_allclose(names["images"], synthetic.images.numpy(), atol=1e-5)
    assert names["images"].dtype == np.float32
    assert names["labels"].tolist() == synthetic.labels.tolist()
    assert tuple(names["classes"]) == CLASSES
    assert names["provenance"] == synthetic.provenance
    exec(verifying, {})
    with h5py.File("set.h5") as file:
        assert all(file[name].chunks for name in ("images", "labels", "metrics/loss"))
    with h5py.File("set.h5", "r+") as file:
        file["labels"][0] = 1
    with pytest.raises(AssertionError):
        exec(verifying, {})


def test_the_example_for_large_arrays_verifies_packed_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pack(load_data("digits"), "packed.h5")
    *_, by_rows = page_examples()
    exec(by_rows, {})
    with h5py.File("packed.h5", "r+") as file:
        file["train_images"][7, 0, 0] += 1
    with pytest.raises(AssertionError):
        exec(by_rows, {})


def test_the_page_names_everything_in_packed_data_and_experts(tmp_path: Path) -> None:
    page = FORMAT_PAGE.read_text(encoding="utf-8")
    pack(load_data("digits"), tmp_path / "packed.h5")
    write_expert(tmp_path / "expert.h5", Trajectory(torch.ones(2, 3), torch.ones(2, 1), (0.1, 0.2), 1.0), "float16")
    for name in ("packed.h5", "expert.h5"):
        with h5py.File(tmp_path / name) as file:
            names: list[str] = []
            file.visit(names.append)
            datasets = [name for name in names if isinstance(file[name], h5py.Dataset)]
            attributes = list(file.attrs)
        assert all(f"`{name}`" in page for name in [*datasets, *attributes])


def test_the_page_names_everything_in_a_file(tmp_path: Path) -> None:
    page = FORMAT_PAGE.read_text(encoding="utf-8")
    for kind, preprocessing in PREPROCESSINGS.items():
        make_set(info=data_info(preprocessing), **soft("logits")).save(tmp_path / f"{kind}.h5")
        contents = read_contents(tmp_path / f"{kind}.h5", kind=KIND, schema=SCHEMA)
        for path, attributes in contents.attributes.items():
            assert path == "/" or f"`{path.replace('loss', 'NAME')}`" in page, path
            assert all(f"`{name}`" in page for name in attributes), attributes
        for array in contents.arrays.values():
            assert array.dtype.name in page


def test_the_numbers_of_a_whitening_are_told_beside_the_bytes() -> None:
    """A matrix and a mean here; the means and deviations of channels are not worth a word."""
    kinds = ("zca", "normalize")
    whitened, plain = (describe_set(make_set(info=data_info(PREPROCESSINGS[kind])))["bytes"] for kind in kinds)
    more = 4 * 72 * (72 + 1)
    assert whitened.endswith(f"; the preprocessing has {more:,} more, the same for all sets of this data")
    assert plain == f"{make_set().bytes:,}"
