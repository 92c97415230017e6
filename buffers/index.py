"""What a buffer is of: the JSON beside its experts, and the numbers of the preprocessing they were trained under."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from pydantic import Field

from buffers.rules import ExpertRule
from condense.data.info import DataInfo
from condense.data.preprocessing import Preprocessing, preprocessing_from_arrays
from condense.networks.layout import Layout
from condense.runtime.errors import CondenseError
from condense.runtime.files import write_json
from condense.runtime.inputs import read_json
from condense.runtime.tensor_files import load_tensors, save_tensors
from condense.runtime.validation import Closed, validated

INDEX, PREPROCESSING = "buffer.json", "preprocessing.safetensors"
SCHEMA = 1


class ExpertFacts(Closed):
    """A finished expert, for those who read the JSON only: methods go by its own file."""

    accuracies: tuple[float, ...] | None = Field(description="on test images after each epoch, fractions, if known")
    seconds: float | None = Field(description="that its training took, if known")
    digest: str = Field(description="of its parameters and statistics")


class BufferDescription(Closed):
    """What a buffer is of: everything that must agree before its experts can be used, and how they were trained."""

    format: Literal["condense expert buffer"] = "condense expert buffer"
    schema_version: int = Field(default=SCHEMA, strict=True)
    network: str = Field(description="full name")
    image_shape: tuple[int, int, int]
    classes: tuple[str, ...]
    parameters: tuple[tuple[str, tuple[int, ...]], ...] = Field(
        description="name and shape, in the order of a snapshot"
    )
    statistics: tuple[tuple[str, tuple[int, ...]], ...] = Field(description="those of BatchNorm, in their order")
    data: str = Field(description="base name of the real data")
    fingerprint: str
    preprocessing: str = Field(description="its kind")
    identity: str = Field(description="digest of fingerprint, mirroring and preprocessing")
    mirror: bool
    rule: ExpertRule
    epochs: int = Field(ge=1)
    dtype: Literal["float32", "float16"] = "float32"
    seed: int = Field(ge=0)
    device: str = Field(default="cpu", description="kind of device that they are trained on")
    compile: Literal["on", "off"] = Field(default="off", description="was the training step compiled")
    threads: int | None = Field(default=None, ge=1, description="processor threads of each training, if known")
    origin: Literal["recorded", "imported"] = Field(
        default="recorded", description="imported: of the training only its kind is known"
    )
    versions: dict[str, str]
    experts: dict[int, ExpertFacts] = Field(default_factory=dict, description="those that are finished, by number")

    @property
    def layout(self) -> Layout:
        """Where each parameter lies in a snapshot."""
        return _layout(self.parameters)

    @property
    def statistics_layout(self) -> Layout:
        """Where each statistic of BatchNorm lies."""
        return _layout(self.statistics)


def _layout(entries: tuple[tuple[str, tuple[int, ...]], ...]) -> Layout:
    return Layout(tuple(name for name, _ in entries), tuple(shape for _, shape in entries))


def read_description(folder: Path) -> BufferDescription:
    """What the buffer in `folder` is of; raises `CondenseError` if there is none."""
    path = folder / INDEX
    if not path.exists():
        raise CondenseError(f"{folder} is no expert buffer (it has no {INDEX}); record one with `condense experts`")
    content = read_json(path, "a buffer whose index is whole, or record the experts again")
    content = content if isinstance(content, dict) else {}
    schema = content.get("schema_version", SCHEMA)
    if isinstance(schema, int) and schema > SCHEMA:
        raise CondenseError(f"{folder} has schema {schema}, newer than {SCHEMA}; upgrade condense")
    return validated(BufferDescription, content, origin=f"{path}: ")


def write_description(folder: Path, description: BufferDescription) -> None:
    """Write the JSON, atomically."""
    write_json(folder / INDEX, description.model_dump(mode="json"))


def write_preprocessing(folder: Path, preprocessing: Preprocessing) -> None:
    """Write its numbers, atomically."""
    arrays = preprocessing.to_arrays()
    save_tensors(folder / PREPROCESSING, {name: torch.from_numpy(array) for name, array in arrays.items()}, {})


def preprocessed_alike(folder: Path, description: BufferDescription, info: DataInfo) -> bool:
    """Whether data is preprocessed as that of the experts, up to the rounding of fits on different processors.

    Raises `CondenseError` if the numbers in `folder` are damaged. Buffers of earlier versions have none: then only
    equal bits are alike.
    """
    path = folder / PREPROCESSING
    if info.identity == description.identity or not path.exists():
        return info.identity == description.identity
    numbers, _ = load_tensors(path, verified=False)  # those of earlier versions have no checksum
    try:
        arrays = {name: values.numpy() for name, values in numbers.items()}
    except TypeError as error:  # numbers that numpy does not have
        raise CondenseError(f"{path} is damaged; copy it again, or record the experts again") from error
    return preprocessing_from_arrays(description.preprocessing, arrays).equals(info.preprocessing)
