"""`Teacher`: a trained network in one safetensors file whose metadata say what it is, its manifest."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from condense.data.info import DataInfo
from condense.networks import build_network
from condense.networks.build import blank_state
from condense.networks.layers import batch_norms
from condense.runtime.errors import CondenseError
from condense.runtime.inputs import parse_json
from condense.runtime.tensor_files import load_tensors, save_tensors
from condense.runtime.validation import validated
from condense.teachers.classifier import Normalize, PixelClassifier, Voters
from condense.teachers.manifest import SCHEMA, Manifest
from condense.teachers.projector import Projector

SUFFIX = ".safetensors"


@dataclass(frozen=True, eq=False)
class Teacher:
    """A trained network: its manifest and its `state`, parameters and statistics by the names of `build_network`.

    `path` is the file that it is kept in; None for one that is in memory only. Raises `CondenseError` where the state
    is not that of the network, or is not finite.
    """

    manifest: Manifest
    state: Mapping[str, Tensor]
    path: Path | None = None

    def __post_init__(self) -> None:
        manifest = self.manifest
        if len(manifest.mean) != manifest.image_shape[0] or len(manifest.std) != manifest.image_shape[0]:
            raise CondenseError(
                f"a teacher of {manifest.image_shape[0]}-channel images needs as many numbers for its normalisation, "
                f"not {len(manifest.mean)} and {len(manifest.std)}"
            )
        if not all(map(math.isfinite, (*manifest.mean, *manifest.std))) or min(manifest.std) <= 0:
            raise CondenseError(
                f"a teacher's normalisation has mean {manifest.mean} and std {manifest.std}; give finite numbers, and "
                "a positive std"
            )
        wanted = blank_state(manifest.network, manifest.image_shape, len(manifest.classes))
        for name, value in wanted.items():
            there = self.state.get(name)
            if there is None or (there.shape, there.dtype) != (value.shape, value.dtype):
                raise CondenseError(f"{manifest.network} needs {name} as {_form(value)}, there is {_form(there)}")
            if not torch.isfinite(self.state[name]).all():
                raise CondenseError(f"the teacher's {name} holds values that are not finite: its training diverged")
        if self.state.keys() - wanted.keys():
            raise CondenseError(f"{manifest.network} has no {min(self.state.keys() - wanted.keys())}")

    @classmethod
    def open(cls, path: str | Path) -> Teacher:
        """The teacher in a file, or in a folder that holds one.

        Raises `CondenseError` for anything else, and for a folder of several, naming them.
        """
        path = Path(path)
        files = teacher_files(path)
        if len(files) > 1:
            raise CondenseError(
                f"{path} has {len(files)} teachers; give one of {', '.join(each.name for each in files)}"
            )
        tensors, facts = load_tensors(files[0])
        try:
            content = parse_json(facts["condense"])
            stored: dict[str, Any] = content if isinstance(content, dict) else {}
            version = stored.get("schema_version")
            if type(version) is int and version > SCHEMA:  # which may have fields that are unknown here
                raise CondenseError(f"has schema {version}, later than {SCHEMA}; upgrade condense")
            return cls(validated(Manifest, stored), tensors, files[0])
        except (KeyError, ValueError) as error:  # a CondenseError is a ValueError
            raise CondenseError(f"{files[0]} is no teacher of condense ({error}); give one, or import it") from error

    def save(self, path: str | Path) -> Teacher:
        """Write the file, atomically; the same teacher gives the same bytes. Returns it as it is kept there."""
        path = Path(path)
        save_tensors(path, self.state, {"condense": json.dumps(self.manifest.model_dump(mode="json"), sort_keys=True)})
        return Teacher(self.manifest, self.state, path)

    @cached_property
    def hash(self) -> str:
        """16 hex digits of all that decides what it says of an image: network, normalisation, values."""
        manifest = self.manifest
        head = [manifest.network, manifest.image_shape, manifest.classes, manifest.mean, manifest.std]
        digest = hashlib.blake2b(json.dumps(head).encode(), digest_size=8)
        for name, value in sorted(self.state.items()):
            if value.is_floating_point():
                digest.update(name.encode() + value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    @property
    def bytes(self) -> int:
        """What its values cost to keep."""
        return sum(value.numel() * value.element_size() for value in self.state.values() if value.is_floating_point())

    @property
    def name(self) -> str:
        """For people: its network and the beginning of its hash."""
        return f"{self.manifest.network} {self.hash[:8]}"

    def classifier(self, device: torch.device) -> PixelClassifier:
        """A new copy of it on a device: a frozen classifier of pixels in [0, 1]."""
        manifest = self.manifest
        network = build_network(manifest.network, manifest.image_shape, len(manifest.classes), seed=0)
        network.load_state_dict(dict(self.state))
        return PixelClassifier(Normalize(manifest.mean, manifest.std), network).to(device)

    def adapted(self, values: Tensor, rank: int, outputs: int) -> Projector:
        """A projector on it, of these values."""
        return Projector(self, rank, outputs, values)

    def classifiers(self, device: torch.device) -> Voters:
        """It alone, as those of a committee."""
        return Voters((self.classifier(device),), (1.0,))

    def check_matches(self, info: DataInfo) -> str | None:
        """Make sure that it knows such images; a sentence for the user where it was trained on others of the kind.

        Raises `CondenseError` for other classes, another order of classes and another image shape.
        """
        manifest, what = self.manifest, f"teacher {self.path.name if self.path else self.name}"
        if manifest.image_shape != info.image_shape:
            raise CondenseError(
                f"{what} is for images of shape {list(manifest.image_shape)} but {info.name} has "
                f"{list(info.image_shape)}; give a teacher of such images, or another --image-size"
            )
        if manifest.classes != info.classes:
            order = sorted(manifest.classes) == sorted(info.classes)
            shown = f"{len(manifest.classes)} classes ({', '.join(manifest.classes[:3])}, ...)"
            raise CondenseError(
                f"{what} knows {'the classes in another order' if order else 'other classes'}: {shown}, and "
                f"{info.name} has {len(info.classes)} ({', '.join(info.classes[:3])}, ...); give a teacher of this data"
            )
        if manifest.fingerprint not in (None, info.fingerprint):
            return (
                f"{what} was trained on {manifest.data} with fingerprint {str(manifest.fingerprint)[:12]}, not on this"
            )
        return None

    @property
    def has_statistics(self) -> bool:
        """Whether it has BatchNorm, whose running statistics images can be matched with."""
        return self.manifest.batch_norm == "running"


def _form(value: Tensor | None) -> str:
    return "nothing" if value is None else f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"


def batch_norm_of(network: str, image_shape: tuple[int, int, int], classes: int) -> Literal["running", "none"]:
    """What a manifest says of a network."""
    return "running" if batch_norms(build_network(network, image_shape, classes, seed=0)) else "none"


def teacher_files(path: Path) -> list[Path]:
    """The file itself, or those of teachers in a folder, by name; raises `CondenseError` where there is none."""
    if not path.is_dir():
        if not path.exists():
            raise CondenseError(f"{path} is no teacher: there is no such file or folder; condense teachers makes one")
        return [path]
    files = sorted(each for each in path.glob(f"*{SUFFIX}") if not each.name.endswith(f".partial{SUFFIX}"))
    if not files:
        raise CondenseError(f"{path} has no teacher (*{SUFFIX}); condense teachers makes one")
    return files
