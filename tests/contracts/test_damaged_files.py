"""Every format under a few hundred seeded mutations: a file reads back equal or is refused in one line.

The mutations flip, cut, move and repeat bytes, and, with knowledge of the format, remove, replace and redirect objects.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from benchmarks.measure.faults.mutate import _HDF5, mutate
from buffers.index import BufferDescription, write_preprocessing
from buffers.rules import ExpertRule
from buffers.store import ExpertBuffer, Trajectory, expert_path, list_experts, write_expert
from buffers.summary import accuracy_table, describe_buffer
from condense.data import RealData, load_data, pack
from condense.data.info import DataInfo
from condense.data.preprocessing import Normalization
from condense.labels import LogitLabels
from condense.methods.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from condense.networks import build_network
from condense.recipes import load_recipe
from condense.runtime.errors import CondenseError
from condense.runtime.tensor_files import load_if_whole, save_tensors
from condense.sets.synthetic_set import SyntheticSet
from condense.teachers import Teacher
from condense.teachers.description import describe_teacher
from condense.teachers.importing import import_teacher
from condense.teachers.training import train_teacher


@dataclass(frozen=True)
class Format:
    """How a good file comes about, what is read of it, and whether it vouches for that by checksums."""

    make: Callable[[Path], Path]
    read: Callable[[Path], Any]
    vouched: bool
    kind: str
    count: int = 200


INFO = DataInfo("noise", ("a", "ü", "c"), (1, 5, 4), False, "ab" * 16, Normalization((0.5,), (0.25,)))
CONFIGURATION = {"settings": {"image_lr": 1.5}, "plan": {"device": "cpu"}}


def arrays() -> dict[str, np.ndarray]:
    draws, labels = np.random.default_rng(0), np.arange(30) % 3
    images = draws.integers(0, 256, (30, 5, 4), dtype=np.uint8)
    return {"train_images": images, "train_labels": labels, "test_images": images[:6], "test_labels": labels[:6]}


def make_npz(folder: Path) -> Path:
    np.savez(folder / "noise.npz", classes=np.array(INFO.classes), **arrays())
    return folder / "noise.npz"


def make_packed(folder: Path) -> Path:
    return pack(load_data(make_npz(folder)), folder / "packed.h5")


def make_packed_before(folder: Path) -> Path:
    """The form of earlier versions, which vouches for nothing."""
    with h5py.File(folder / "before.h5", "w") as file:
        for name, array in arrays().items():
            file[name] = array
        file.create_dataset("classes", data=list(INFO.classes), dtype=h5py.string_dtype())
        file.attrs["name"], file.attrs["mirror"] = "noise", False
        group = file.create_group("preprocessing")
        group.attrs["kind"], group["mean"], group["std"] = "normalize", [0.5], [0.25]
    return folder / "before.h5"


def everything(data: RealData) -> Any:
    splits = [
        (split.pixels(torch.arange(len(split))).tolist(), split.labels.tolist()) for split in (data.train, data.test)
    ]
    return splits, data.name, data.classes, data.mirror, data.info.identity


def read_data(path: Path) -> Any:
    return everything(load_data(path))


def read_streamed(path: Path) -> Any:
    return everything(load_data(path, memory_limit=10))


def make_set(folder: Path) -> Path:
    draws = torch.Generator().manual_seed(0)
    made = SyntheticSet(
        stored=torch.randn(6, 1, 5, 4, generator=draws),
        stored_labels=LogitLabels(torch.randn(6, 3, generator=draws), torch.arange(6) % 3),
        info=INFO,
        weights=torch.rand(6, generator=draws),
        source_indices=torch.arange(6) * 5,
        scores=torch.rand(6, generator=draws).double(),
        learned_lr=0.01,
        augmentation={"operations": ["flip"]},
        provenance={"configuration": {"method": "dm", "settings": {"image_lr": 1.0}}},
        metrics={"loss": torch.arange(3, dtype=torch.float64)},
    )
    made.save(folder / "set.h5")
    return folder / "set.h5"


def read_set(path: Path) -> Any:
    made = SyntheticSet.load(path)
    tensors = (made.stored, made.labels, made.targets, made.images, made.metrics["loss"])
    tensors = (*tensors, made.weights, made.source_indices, made.scores, made.probabilities)
    return [None if tensor is None else tensor.tolist() for tensor in tensors], made.describe()


TRAJECTORY = Trajectory(
    torch.randn(4, 35, generator=torch.Generator().manual_seed(0)),
    torch.rand(4, 4, generator=torch.Generator().manual_seed(1)),
    (0.1, 0.2, 0.3, 0.4),
    1.5,
    {"hardware": {"processor": "x", "threads": 1}},
)


def make_expert(folder: Path) -> Path:
    described = {"network": "convnet-d1-w4-bn", "data": "noise", "fingerprint": INFO.fingerprint, "identity": "0" * 32}
    shapes = {"parameters": (("weight", (6, 5)), ("bias", (5,))), "statistics": (("mean", (4,)),)}
    description = BufferDescription(
        image_shape=INFO.image_shape,
        classes=INFO.classes,
        preprocessing="normalize",
        mirror=False,
        rule=ExpertRule(),
        epochs=3,
        seed=0,
        versions={"condense": "1"},
        **described,
        **shapes,
    )
    write_preprocessing(folder, INFO.preprocessing)
    write_expert(expert_path(folder, 0), TRAJECTORY, "float32")
    list_experts(folder, description)
    return expert_path(folder, 0)


def make_expert_before(folder: Path) -> Path:
    """The form of earlier versions: chunks with a checksum of HDF5, and nothing for the rest."""
    path = make_expert(folder)
    with h5py.File(path, "w") as file:
        for name in ("snapshots", "statistics"):
            rows = getattr(TRAJECTORY, name).numpy()
            file.create_dataset(name, data=rows, chunks=(1, rows.shape[1]), fletcher32=True, track_times=False)
        file.create_dataset("accuracies", data=np.array(TRAJECTORY.accuracies))
        file.attrs["digest"], file.attrs["seconds"] = TRAJECTORY.digest, TRAJECTORY.seconds
        file.attrs["made_with"] = json.dumps(TRAJECTORY.made_with)
    return path


def read_expert(path: Path) -> Any:
    buffer = ExpertBuffer.open(path.parent)
    snapshots = [snapshot.tolist() for snapshot in buffer.snapshots(0, 3, 0, 1, 2)]
    statistics = [buffer.statistics(0, epoch)["mean"].tolist() for epoch in range(4)]
    facts = buffer.digest(0), buffer.accuracies(0), buffer.seconds(0), buffer.made_with(0), buffer.identity
    described = describe_buffer(buffer)
    del described["bytes"]  # those of the file: some may follow its end
    return snapshots, statistics, facts, described, accuracy_table(buffer)


def make_index(folder: Path) -> Path:
    return make_expert(folder).with_name("buffer.json")


def make_numbers(folder: Path) -> Path:
    return make_expert(folder).with_name("preprocessing.safetensors")


def read_numbers(path: Path) -> Any:
    return ExpertBuffer.open(path.parent).check_matches("convnet-d1-w4-bn", INFO)


def make_checkpoint(folder: Path) -> Path:
    state = {"images": torch.linspace(0, 1, 40), "half": torch.ones(3, dtype=torch.bfloat16), "count": torch.tensor(3)}
    metrics = {"loss": torch.tensor([2.0, 1.0], dtype=torch.float64)}
    save_checkpoint(folder / "checkpoint.safetensors", Checkpoint(2, 0.5, state, metrics), CONFIGURATION)
    return folder / "checkpoint.safetensors"


def read_checkpoint(path: Path) -> Any:
    found = load_checkpoint(path, CONFIGURATION)
    tensors = found.state | found.metrics
    return found.iteration, found.seconds, {name: (tensor.dtype, tensor.tolist()) for name, tensor in tensors.items()}


def make_cached(folder: Path) -> Path:
    save_tensors(folder / "cached.safetensors", {"features": torch.linspace(0, 1, 60)}, {"seconds": "1.5"})
    return folder / "cached.safetensors"


def read_cached(path: Path) -> Any:
    """A damaged file is made again."""
    tensors, facts = load_if_whole(path) or ({"features": torch.linspace(0, 1, 60)}, {"seconds": "1.5"})
    return {name: tensor.tolist() for name, tensor in tensors.items()}, facts


def make_recipe(folder: Path) -> Path:
    text = "method: dm\nsettings: {image_lr: 0.5}\ncases:\n  - {data: [digits], settings: {image_lr: 2e-1}}\n"
    (folder / "mine.yaml").write_text(text, encoding="utf-8")
    return folder / "mine.yaml"


def make_table(folder: Path) -> Path:
    """Beside the folder of the images that it labels."""
    (folder / "photos").mkdir()
    rows = ["file_name,label,split"]
    for number in range(8):
        rows.append(f"{number}.png,{('cat', 'dog')[number % 2]},{('train', 'test')[number // 4]}")
        Image.new("L", (4, 4), number).save(folder / "photos" / f"{number}.png")
    (folder / "labels.csv").write_text("\n".join(rows), encoding="utf-8")
    return folder / "labels.csv"


def read_table(path: Path) -> str:
    return load_data(path.parent / "photos", labels=path).fingerprint


def read_recipe(path: Path) -> Any:
    return load_recipe("dm", str(path)).settings_for("digits", 1)


def make_teacher(folder: Path) -> Path:
    teacher = train_teacher(load_data(make_npz(folder)), "mlp", epochs=1, lr=0.01, batch_size=8)
    teacher.save(folder / "teacher.safetensors")
    return folder / "teacher.safetensors"


def read_teacher(path: Path) -> Any:
    teacher = Teacher.open(path)
    return teacher.manifest, teacher.hash, describe_teacher(teacher)


def make_state(folder: Path) -> Path:
    """What other programs keep of a network."""
    save_file(build_network("mlp", (1, 5, 4), 3, seed=0).state_dict(), folder / "state.safetensors")
    return folder / "state.safetensors"


def make_pickled_state(folder: Path) -> Path:
    torch.save({"state_dict": build_network("mlp", (1, 5, 4), 3, seed=0).state_dict()}, folder / "state.pth")
    return folder / "state.pth"


def read_state(path: Path) -> Any:
    return import_teacher(path, "mlp", "mnist", classes=INFO.classes, image_shape=(1, 5, 4)).hash


FORMATS = {
    "synthetic set": Format(make_set, read_set, True, "hdf5"),
    "packed data": Format(make_packed, read_data, True, "hdf5"),
    "packed data, streamed": Format(make_packed, read_streamed, True, "hdf5", 200),
    "packed data of earlier versions": Format(make_packed_before, read_data, False, "hdf5", 200),
    "arrays": Format(make_npz, read_data, True, "bytes", 200),
    "table of labels": Format(make_table, read_table, False, "bytes", 200),
    "expert": Format(make_expert, read_expert, True, "hdf5"),
    "expert of earlier versions": Format(make_expert_before, read_expert, False, "hdf5", 200),
    "index of experts": Format(make_index, read_expert, False, "json"),
    "preprocessing of experts": Format(make_numbers, read_numbers, True, "safetensors"),
    "checkpoint": Format(make_checkpoint, read_checkpoint, True, "safetensors"),
    "cache": Format(make_cached, read_cached, True, "safetensors"),
    "teacher": Format(make_teacher, read_teacher, True, "safetensors"),
    "state of a network": Format(make_state, read_state, False, "safetensors"),
    "state of a network, pickled": Format(make_pickled_state, read_state, False, "bytes", 200),
    "recipe": Format(make_recipe, read_recipe, False, "yaml", 60),
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_damaged_file_is_equal_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("CONDENSE_CACHE", str(tmp_path / "cache"))
    tried = FORMATS[name]
    (tmp_path / "files").mkdir()
    path = tried.make(tmp_path / "files")
    good, content = tried.read(path), path.read_bytes()
    refused, seen = 0, set()
    for number in range(tried.count):
        path.unlink()
        path.write_bytes(content)
        how = mutate(path, tried.kind, random.Random(f"{name} {number}"))
        if how.startswith("hdf5: thousands of groups"):  # the same in any place, and slow: once is enough
            monkeypatch.delitem(_HDF5, "thousands of groups beside")
        damaged = hashlib.sha256(path.read_bytes()).digest()
        if damaged in seen:
            continue
        seen.add(damaged)
        read, message = outcome(tried, path, f"{number}: {how}")
        assert message is not None or read == good or not tried.vouched, (number, how)
        refused += message is not None
    assert refused > 0 or name == "cache"


def outcome(tried: Format, path: Path, how: str) -> tuple[Any, str | None]:
    """What is read of the file, or the line in which it is refused."""
    try:
        return tried.read(path), None
    except CondenseError as error:
        message = str(error)
        assert message.isprintable(), how
        return None, message
    except Exception as error:
        raise AssertionError(how) from error
