"""What a file must remember of a data set to be used without it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from condense.data.preprocessing import Preprocessing


@dataclass(frozen=True)
class DataInfo:
    """Name, classes, image shape and preprocessing of a data set.

    `name` is a base name, never a path. `classes` are in label order. `image_shape` is (C, H, W) with C 1 or 3.
    `mirror` says whether a mirrored image still belongs to its class (true for photographs, false for digits).
    `fingerprint` is the hex digest of `condense.data.survey`: equal fingerprints mean equal classes, pixels and
    labels in both splits. That of a subset is a digest of what it is a part of and of which part it is.
    """

    name: str
    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]
    mirror: bool
    fingerprint: str
    preprocessing: Preprocessing

    @property
    def identity(self) -> str:
        """Hex digest of all that decides what a network sees: the fingerprint, mirroring and preprocessing."""
        digest = hashlib.blake2b(f"{self.fingerprint} {self.mirror} {self.preprocessing.kind}".encode(), digest_size=16)
        for key, array in sorted(self.preprocessing.to_arrays().items()):
            digest.update(key.encode() + array.tobytes())
        return digest.hexdigest()
