"""The manifest of a teacher: what its file says that it is and where it comes from."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, PositiveInt

from condense.runtime.validation import Closed

SCHEMA = 1


class Measured(Closed):
    """An accuracy, a fraction, and the images that it was measured on."""

    accuracy: float = Field(ge=0, le=1)
    images: int = Field(ge=1)


class Manifest(Closed):
    """What a teacher is and where it comes from.

    `held_out` are training images that it was not trained on: what may decide anything about it. `test` are the test
    images of its data, which may not. Either is None where nobody measured it, as for most imported networks.
    `batch_norm` says in which mode accuracies were measured and labels are made unless somebody asks for another one:
    `running` statistics, or `none` where the network has no BatchNorm.
    """

    format: Literal["condense teacher"] = "condense teacher"
    schema_version: int = Field(default=SCHEMA, strict=True)
    network: str = Field(description="full name")
    image_shape: tuple[PositiveInt, PositiveInt, PositiveInt]
    classes: tuple[str, ...] = Field(min_length=2)
    mean: tuple[float, ...] = Field(description="of its normalisation, a channel each, in units of [0, 1] pixels")
    std: tuple[float, ...]
    batch_norm: Literal["running", "none"]
    origin: Literal["trained", "imported"]
    data: str | None = Field(default=None, description="base name of the data that it was trained on, if known")
    fingerprint: str | None = None
    held_out: Measured | None = None
    test: Measured | None = None
    training: dict[str, Any] = Field(default_factory=dict, description="its rule, if known")
    seed: int | None = None
    source: str | None = Field(default=None, description="base name of the file that it was imported from")
    versions: dict[str, str] = Field(default_factory=dict)
