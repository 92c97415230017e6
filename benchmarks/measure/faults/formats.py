"""The formats that condense reads: for each a small good input, and what a reader makes of it as one digest."""

from __future__ import annotations

import gzip
import hashlib
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from PIL import Image

from benchmarks.grid import load_grid
from benchmarks.records import read_record
from buffers import ExpertBuffer, record_experts
from condense import SyntheticSet, distill, load_data
from condense.data import RealData
from condense.data.packing import pack
from condense.labels import LogitLabels
from condense.methods.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from condense.recipes import load_recipe
from condense.runtime.tensor_files import load_if_whole, save_tensors
from condense.sets.importing import import_synthetic

MEMORY_LIMIT = 64 * 2**20  # bytes of decoded pixels that data may have
_CONFIGURATION = {"method": "dm", "settings": {"image_lr": 1.0}}


@dataclass(frozen=True)
class Format:
    """`make` writes a good input into a folder and returns the file to damage; `read` digests what is read there.

    `vouched` says whether the file vouches for its contents: then a reading that differs is a fault.
    """

    name: str
    make: Callable[[Path], Path]
    read: Callable[[Path], str]
    vouched: bool
    kind: str  # bytes, hdf5, json, yaml or safetensors: how it is damaged


def digest(*parts: Any) -> str:
    """A digest of arrays, tensors and anything that prints the same when it is the same."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        array = part.numpy() if isinstance(part, torch.Tensor) else part
        digest.update(
            f"{array.dtype} {array.shape}".encode() + array.tobytes()
            if isinstance(array, np.ndarray)
            else json.dumps(part, sort_keys=True, default=str).encode()
        )
    return digest.hexdigest()


def _digest_of_data(data: RealData) -> str:
    parts = [
        part for split in (data.train, data.test) for part in (split.pixels(torch.arange(len(split))), split.labels)
    ]
    return digest(*parts, list(data.classes), data.name, data.mirror, data.info.identity)


def _read_data(path: Path, **options: Any) -> str:
    return _digest_of_data(load_data(path, memory_limit=MEMORY_LIMIT, **options))


def _arrays() -> dict[str, np.ndarray]:
    draws = np.random.default_rng(0)
    images, labels = draws.integers(0, 256, (24, 8, 8), np.uint8), np.arange(24) % 3
    return {"train_images": images, "train_labels": labels, "test_images": images[:9], "test_labels": labels[:9]}


def _make_npz(folder: Path) -> Path:
    arrays: dict[str, Any] = _arrays()
    np.savez(folder / "own.npz", **arrays)
    return folder / "own.npz"


def _make_plain_h5(folder: Path) -> Path:
    with h5py.File(folder / "own.h5", "w") as file:
        for name, array in _arrays().items():
            file[name] = array
    return folder / "own.h5"


def _make_packed(folder: Path) -> Path:
    return pack(load_data(_make_npz(folder)), folder / "packed.h5")


def _make_set(folder: Path) -> Path:
    data = load_data(_make_npz(folder))
    options: dict[str, Any] = {"network": "convnet-d2-w4", "real_batch": 4, "factor": 2, "queue": 3}
    made = distill("idm", data, 1, iterations=2, compile="off", network_batch=8, network_steps=1, **options)
    made.save(folder / "set.h5")
    return folder / "set.h5"


def _make_soft_set(folder: Path) -> Path:
    """With all that there can be of each image beside its class."""
    draws = torch.Generator().manual_seed(0)
    SyntheticSet(
        stored=torch.randn(6, 1, 8, 8, generator=draws),
        stored_labels=LogitLabels(torch.randn(6, 3, generator=draws), torch.arange(6) % 3, 4.0),
        info=load_data(_make_npz(folder)).info,
        weights=torch.rand(6, generator=draws),
        source_indices=torch.arange(6) * 4,
        scores=torch.rand(6, generator=draws).double(),
        learned_lr=0.01,
        augmentation={"operations": ["flip"]},
        protocol="datm-soft",
    ).save(folder / "soft.h5")
    return folder / "soft.h5"


def _read_set(path: Path) -> str:
    made = SyntheticSet.load(path)
    rest = [made.provenance, made.label_kind, made.learned_lr, made.info.identity, list(made.info.classes)]
    rest += [made.stored_labels.attributes, made.augmentation, made.protocol, sorted(made.of_training_images())]
    targets = [made.targets] if made.targets is not None else []
    of_images = [*targets, *made.of_training_images().values()]
    return digest(made.stored, made.labels, made.images, *made.metrics.values(), *of_images, *rest)


def _make_experts(folder: Path) -> Path:
    data = load_data(_make_npz(folder), normalization="zca")
    record_experts(data, "convnet-d2-w4", experts=1, epochs=2, out=folder / "experts", progress=False)
    return folder / "experts" / "expert-0000.h5"


def _make_index(folder: Path) -> Path:
    return _make_experts(folder).with_name("buffer.json")


def _make_numbers(folder: Path) -> Path:
    """With the index of experts whose data was whitened elsewhere: then the numbers are read and compared."""
    index = _make_index(folder)
    content = json.loads(index.read_text(encoding="utf-8"))
    index.write_text(json.dumps(content | {"identity": "that of another processor"}), encoding="utf-8")
    return index.with_name("preprocessing.safetensors")


def _read_experts(path: Path) -> str:
    buffer = ExpertBuffer.open(path.parent)
    data = load_data(path.parents[1] / "own.npz", normalization="zca")
    buffer.check_matches("convnet-d2-w4-in", data.info)
    vectors = [buffer.snapshot(0, epoch) for epoch in range(buffer.epochs + 1)]
    facts = [buffer.accuracies(0), buffer.digest(0), buffer.identity, buffer.network, buffer.training]
    return digest(*vectors, *facts)


def _make_checkpoint(folder: Path) -> Path:
    state = {"images": torch.linspace(0, 1, 60), "counts": torch.arange(3)}
    metrics = {"loss": torch.tensor([2.0, 1.0], dtype=torch.float64)}
    save_checkpoint(folder / "checkpoint.safetensors", Checkpoint(2, 0.5, state, metrics), _CONFIGURATION)
    return folder / "checkpoint.safetensors"


def _read_checkpoint(path: Path) -> str:
    found = load_checkpoint(path, _CONFIGURATION)
    return digest(found.iteration, *found.state.values(), *found.metrics.values(), *found.state, *found.metrics)


def _make_cached(folder: Path) -> Path:
    save_tensors(folder / "cached.safetensors", {"features": torch.linspace(0, 1, 60)}, {"seconds": "1.5"})
    return folder / "cached.safetensors"


def _read_cached(path: Path) -> str:
    """A damaged cache is no error: it is made again, which is as good as equal."""
    found = load_if_whole(path)
    if found is None:
        return digest(torch.linspace(0, 1, 60), {"seconds": "1.5"})
    return digest(found[0]["features"], dict(found[1]))


def _make_folder_of(suffix: str, **options: Any) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        draws = np.random.default_rng(0)
        for split in ("train", "test"):
            for label in ("cat", "dog"):
                (folder / "photos" / split / label).mkdir(parents=True)
                for number in range(2):
                    picture = Image.fromarray(draws.integers(0, 256, (8, 8, 3), np.uint8))
                    picture.save(folder / "photos" / split / label / f"{number}{suffix}", **options)
        return folder / "photos" / "train" / "cat" / f"0{suffix}"

    return make


def _read_folder(path: Path) -> str:
    return _read_data(path.parents[2], image_size=8)


def _make_idx(folder: Path) -> Path:
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    draws = np.random.default_rng(0)
    for split in ("train", "t10k"):
        images, labels = draws.integers(0, 256, (20, 28, 28), np.uint8), (np.arange(20) % 10).astype(np.uint8)
        head = struct.pack(">IIII", 0x803, *images.shape)
        (raw / f"{split}-images-idx3-ubyte").write_bytes(head + images.tobytes())
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, len(labels)) + labels.tobytes())
        with gzip.open(raw / f"{split}-images-idx3-ubyte.gz", "wb") as file:
            file.write(head + images.tobytes())
    return raw / "train-images-idx3-ubyte"


def _read_idx(path: Path) -> str:
    return _digest_of_data(load_data("mnist", data_root=path.parents[2], memory_limit=MEMORY_LIMIT))


def _make_reference_file(folder: Path) -> Path:
    _make_npz(folder)
    images, labels = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(3)
    torch.save({"data": [[images, labels]], "accs_all_exps": {}}, folder / "res.pt")
    return folder / "res.pt"


def _read_reference_file(path: Path) -> str:
    found = import_synthetic(path, load_data(path.parent / "own.npz").info)
    return digest(found.stored, found.labels)


def _make_recipe(folder: Path) -> Path:
    text = (
        "method: dm\nsummary: mine\nsource: me\nsettings: {image_lr: 0.5, iterations: 20}\n"
        "cases:\n  - data: [digits]\n    ipc_from: 10\n    settings: {image_lr: 2e-1}\n"
    )
    (folder / "mine.yaml").write_text(text, encoding="utf-8")
    return folder / "mine.yaml"


def _read_recipe(path: Path) -> str:
    return digest(load_recipe("dm", str(path)).model_dump())


def _make_grid(folder: Path) -> Path:
    text = (
        "data: [digits, {name: photos/, image_size: 64}]\nipc: [1, 10]\n"
        "methods:\n  - {name: random, set_seeds: 5}\n  - {name: dm, recipe: desk, iterations: 500}\n"
        "columns:\n  - {protocol: desk, nets: [convnet, resnet18]}\nfull: true\n"
    )
    (folder / "grid.yaml").write_text(text, encoding="utf-8")
    return folder / "grid.yaml"


def _read_grid(path: Path) -> str:
    return digest(load_grid(path).model_dump())


def _make_record(folder: Path) -> Path:
    cells = Path(__file__).parents[2] / "results" / "fashion-mnist-desk" / "cells"
    path = folder / "record.json"
    path.write_bytes(sorted(cells.glob("*.json"))[0].read_bytes())
    return path


def _read_record(path: Path) -> str:
    found = read_record(path)
    return digest(None if found is None else found.model_dump(mode="json"))


FORMATS = (
    Format("synthetic set", _make_set, _read_set, True, "hdf5"),
    Format("set with soft labels", _make_soft_set, _read_set, True, "hdf5"),
    Format("expert", _make_experts, _read_experts, True, "hdf5"),
    Format("packed data", _make_packed, _read_data, True, "hdf5"),
    Format("checkpoint", _make_checkpoint, _read_checkpoint, True, "safetensors"),
    Format("cache", _make_cached, _read_cached, True, "safetensors"),
    Format("preprocessing of experts", _make_numbers, _read_experts, True, "safetensors"),
    Format("index of experts", _make_index, _read_experts, False, "json"),
    Format("arrays in .h5", _make_plain_h5, _read_data, False, "hdf5"),
    Format("arrays in .npz", _make_npz, _read_data, False, "bytes"),
    Format("folder of .png", _make_folder_of(".png"), _read_folder, False, "bytes"),
    Format("folder of .jpg", _make_folder_of(".jpg"), _read_folder, False, "bytes"),
    Format("folder of .tif", _make_folder_of(".tif"), _read_folder, False, "bytes"),
    Format("folder of .webp", _make_folder_of(".webp", lossless=True), _read_folder, False, "bytes"),
    Format("folder of .gif", _make_folder_of(".gif"), _read_folder, False, "bytes"),
    Format("IDX files", _make_idx, _read_idx, False, "bytes"),
    Format("reference .pt", _make_reference_file, _read_reference_file, False, "bytes"),
    Format("recipe", _make_recipe, _read_recipe, False, "yaml"),
    Format("grid", _make_grid, _read_grid, False, "yaml"),
    Format("record", _make_record, _read_record, False, "json"),
)
