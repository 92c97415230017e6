"""Synthetic sets in forms that other programs read: folders of PNG, plain tensors, Hugging Face data sets."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from condense._version import DISTRIBUTION
from condense.data.preprocessing import Preprocessing
from condense.runtime.errors import CondenseError, unknown_name
from condense.runtime.files import atomic_write, half_done
from condense.runtime.inputs import read_json
from condense.runtime.locks import only_writer
from condense.sets.content import SetContent
from condense.sets.pictures import to_picture

FORMAT = "condense export"  # what an export calls itself, under `format`
METADATA = "metadata.json"
PREPROCESSING = "preprocessing.npz"  # in both kinds of folders
TARGETS = "targets.npy"

_README = """{images} synthetic images that stand for the training set of {data}.

Each class folder holds PNG files. For this, the preprocessing was undone, values were clipped to [0, 1] and pixels were
ROUNDED TO 8 BITS: a network trained on these files sees slightly other images than one trained on the original .h5.
Folders sort in label order, so label 0 is the first folder (metadata.json lists them). The number in a file's name is
the image's row in the set{rows}.

metadata.json says how the set was made and how it wants to be trained on; preprocessing.npz, if there, holds the arrays
of the preprocessing that was undone, in units of pixels in [0, 1].
"""


def export_set(synthetic: SetContent, path: str | Path, to: str, *, overwrite: bool = False) -> None:
    """Write `synthetic` to `path` in the form `to`, one of `EXPORTS`, atomically.

    Raises `CondenseError` for an unknown form, a form whose package is missing, and a `path` that exists, unless
    `overwrite` is true and it is a file (for `torch`) or an earlier export (for the folders).
    """
    if to not in EXPORTS:
        raise unknown_name("export form", to, EXPORTS)
    path = Path(path)
    _check_free(path, overwrite)
    with only_writer(path, "export"):
        _check_free(path, overwrite)  # somebody may just have finished it
        EXPORTS[to](synthetic, path)


def _check_free(path: Path, overwrite: bool) -> None:
    if os.path.lexists(path) and not overwrite:
        raise CondenseError(f"--out {path} exists already; give --overwrite to replace it, or another name")


def _to_torch(synthetic: SetContent, path: Path) -> None:
    if path.is_dir():
        raise CondenseError(f"--out {path} is a folder; give the name of a file, for example {path / 'set.pt'}")
    preprocessing = synthetic.info.preprocessing
    arrays = preprocessing.to_arrays().items()
    content: dict[str, Any] = _targets(synthetic) | {
        **metadata(synthetic),
        "images": synthetic.images,
        "labels": synthetic.training_labels.classes,
        "preprocessing": {"kind": preprocessing.kind, **{name: torch.from_numpy(array) for name, array in arrays}},
    }
    content |= synthetic.of_training_images()
    # torch writes the name of a path into the file, but not that of an open file
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        torch.save(content, file)


def _to_folder(synthetic: SetContent, path: Path) -> None:
    targets = _targets(synthetic)
    with _new_folder(path) as folder:
        names = folder_names(synthetic.info.classes)
        for name in names:
            (folder / name).mkdir()
        for row, (image, label) in enumerate(zip(synthetic.plain_images, synthetic.labels.tolist())):
            to_picture(image).save(folder / names[label] / f"{row:05d}.png")
        _write_preprocessing(folder, synthetic.info.preprocessing)
        for values in targets.values():
            np.save(folder / TARGETS, values.numpy())
        for name, values in synthetic.of_training_images().items():
            np.save(folder / f"{name}.npy", values.numpy())
        _write_metadata(folder, {**metadata(synthetic), "folders": names})
        rows = ", and in the labels of targets.npy [images, numbers]" if targets else ""
        rows += "".join(f", and in {name}.npy [images]" for name in synthetic.of_training_images())
        readme = _README.format(images=len(synthetic), data=synthetic.info.name, rows=rows)
        (folder / "README.txt").write_text(readme, encoding="utf-8")


def _to_huggingface(synthetic: SetContent, path: Path) -> None:
    try:
        import datasets
    except ImportError as error:
        raise CondenseError(
            "--to huggingface needs the package datasets, which is not installed; "
            f"pip install '{DISTRIBUTION}[huggingface]', or give --to folder or --to torch"
        ) from error
    info, targets = synthetic.info, _targets(synthetic)
    features = {
        "image": datasets.Image(),
        "pixel_values": datasets.Array3D(shape=info.image_shape, dtype="float32"),
        "label": datasets.ClassLabel(names=list(info.classes)),
    }
    columns: dict[str, Any] = {
        "image": [to_picture(image) for image in synthetic.plain_images],
        "pixel_values": synthetic.images.numpy(),
        "label": synthetic.labels.tolist(),
    }
    for values in targets.values():
        features["target"] = datasets.Sequence(datasets.Value("float32"), length=values.shape[1])
        columns["target"] = values.tolist()
    for name, values in synthetic.of_training_images().items():
        features[name] = datasets.Value(str(values.dtype).removeprefix("torch."))
        columns[name] = values.tolist()
    with _new_folder(path) as folder:
        datasets.Dataset.from_dict(columns, features=datasets.Features(features)).save_to_disk(folder)
        _write_preprocessing(folder, info.preprocessing)
        _write_metadata(folder, metadata(synthetic))


EXPORTS: dict[str, Callable[[SetContent, Path], None]] = {
    "folder": _to_folder,
    "torch": _to_torch,
    "huggingface": _to_huggingface,
}


def metadata(synthetic: SetContent) -> dict[str, Any]:
    """What an export says of the set beside its arrays: JSON-able."""
    info, decoder = synthetic.info, synthetic.decoder
    return {
        "format": FORMAT,
        "data": info.name,
        "classes": list(info.classes),
        "image_shape": list(info.image_shape),
        "mirror": info.mirror,
        "fingerprint": info.fingerprint,
        "preprocessing": info.preprocessing.kind,
        "label_kind": synthetic.label_kind,
        **synthetic.stored_labels.attributes,
        "learned_lr": synthetic.learned_lr,
        "mirrored": synthetic.mirrored,
        "augmentation": synthetic.augmentation,
        "protocol": synthetic.protocol,
        "provenance": synthetic.provenance,
        "decoder": None if decoder is None else {"kind": decoder.kind, **decoder.attributes},
        "of_images": list(synthetic.of_training_images()),
    }


def _targets(synthetic: SetContent) -> dict[str, Tensor]:
    """What networks are trained on beside class indices, as it is stored: `targets` float32 [M, K], or nothing."""
    if not synthetic.training_labels.arrays and synthetic.training_labels.soft_per is None:
        return {}
    if synthetic.targets is None:
        raise CondenseError(
            f"its labels ({synthetic.label_kind}) are not one row an image, which no other form holds; keep the .h5"
        )
    return {"targets": synthetic.targets}


def folder_names(classes: tuple[str, ...]) -> list[str]:
    """Names of class folders whose sorted order is the label order, as loaders of image folders assume.

    The names of the classes where they sort that way, else each with its label before it.

    >>> folder_names(("cat", "dog"))
    ['cat', 'dog']
    >>> folder_names(("T-shirt/top", "Trouser", "Pullover"))
    ['0_T-shirt_top', '1_Trouser', '2_Pullover']
    """
    names = [re.sub(r"[^\w+ -]+", "_", name)[:80].strip() for name in classes]
    if all(names) and names == sorted(set(names)):
        return names
    digits = len(str(len(classes) - 1))
    return [f"{label:0{digits}}_{name}" for label, name in enumerate(names)]


def _write_preprocessing(folder: Path, preprocessing: Preprocessing) -> None:
    arrays = preprocessing.to_arrays()
    if arrays:
        np.savez(folder / PREPROCESSING, **arrays)  # type: ignore[arg-type]


def _write_metadata(folder: Path, content: dict[str, Any]) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False)
    (folder / METADATA).write_text(text + "\n", encoding="utf-8")


@contextmanager
def _new_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path` that takes its place when the block ends well.

    Only an earlier export is ever replaced; killed between two renames, it is in a hidden folder beside. Raises
    `CondenseError` for anything else at `path` and where the operating system refuses.
    """
    if os.path.lexists(path) and not _is_export(path):
        raise CondenseError(f"--out {path} is no earlier export, so it is not replaced; give another name")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with half_done(path) as holder:
            folder = holder / "new"
            folder.mkdir()
            yield folder
            if path.exists():
                path.rename(holder / "old")
            folder.rename(path)
    except OSError as error:
        raise CondenseError(f"cannot write {path}: {error.strerror or error}; choose another place") from error


def _is_export(path: Path) -> bool:
    try:
        return bool(read_json(path / METADATA, "an export")["format"] == FORMAT)
    except (CondenseError, KeyError, TypeError, IndexError):
        return False
