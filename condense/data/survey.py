"""One pass over a split: the digest of its pixels and what normalisation needs; and the fingerprint of a data set.

The fingerprint is a blake2b digest (16 bytes, hex) of the class names, the image shape, and, for the training and then
the test split, the digest of the uint8 pixels [N, C, H, W] in order and the int64 labels. It covers decoded content:
a folder, its packed `.h5`, an `.npz` and a torch Dataset of the same images in the same order have the same one, in
memory or streamed from disk. Resizing changes it; preprocessing, the name and the mirror property do not.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from condense.data.images.decoding import ImageShape
from condense.data.sources import PixelSource


@dataclass(frozen=True, eq=False)
class Survey:
    """`digest` of all pixels; `histogram` int64 [C, 256] counts the pixel values of each channel."""

    digest: bytes
    histogram: np.ndarray


class Surveyor:
    """A survey in the making: it takes the images of a split in their order, and is done when it has had all of them.

    `histogram` int64 [C, 256] grows with every piece.
    """

    def __init__(self, channels: int) -> None:
        self.histogram = np.zeros((channels, 256), np.int64)
        self._digest = hashlib.blake2b(digest_size=16)

    def add(self, images: Tensor) -> None:
        """Take the next images, uint8 [n, C, H, W]."""
        pixels = images.contiguous().numpy()
        self._digest.update(pixels.data)
        for channel, counts in enumerate(self.histogram):
            counts += np.bincount(pixels[:, channel].ravel(), minlength=256)

    @property
    def digest(self) -> bytes:
        """That of all images so far."""
        return self._digest.digest()


def survey(source: PixelSource) -> Survey:
    """Read every image of `source` once."""
    surveyor = Surveyor(source.image_shape[0])
    for chunk in source.chunks():
        surveyor.add(chunk)
    return Survey(surveyor.digest, surveyor.histogram)


def fingerprint(
    classes: tuple[str, ...], image_shape: ImageShape, train: tuple[Survey, Tensor], test: tuple[Survey, Tensor]
) -> str:
    """The fingerprint of a data set, 32 hex digits; `train` and `test` are (survey, labels int64 [N])."""
    header = {"classes": classes, "image_shape": image_shape, "counts": [len(labels) for _, labels in (train, test)]}
    digest = hashlib.blake2b(json.dumps(header, sort_keys=True).encode(), digest_size=16)
    for part, labels in (train, test):
        digest.update(part.digest)
        digest.update(labels.contiguous().numpy().data)
    return digest.hexdigest()
