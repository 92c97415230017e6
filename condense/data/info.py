"""What a file must remember of a data set to be used without it."""

from __future__ import annotations

from dataclasses import dataclass

from condense.data.preprocessing import Preprocessing


@dataclass(frozen=True)
class DataInfo:
    """Name, classes, image shape and preprocessing of a data set.

    `name` is a base name, never a path. `classes` are in label order. `image_shape` is (C, H, W) with C 1 or 3.
    `mirror` says whether a mirrored image still belongs to its class (true for photographs, false for digits).
    `fingerprint` is the hex digest of `condense.data.survey`: equal fingerprints mean equal classes, pixels and
    labels in both splits.
    """

    name: str
    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]
    mirror: bool
    fingerprint: str
    preprocessing: Preprocessing
