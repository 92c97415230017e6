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

from condense.data.decoding import ImageShape
from condense.data.sources import PixelSource


@dataclass(frozen=True, eq=False)
class Survey:
    """`digest` of all pixels; `histogram` int64 [C, 256] counts the pixel values of each channel."""

    digest: bytes
    histogram: np.ndarray


def survey(source: PixelSource) -> Survey:
    """Read every image of `source` once."""
    digest = hashlib.blake2b(digest_size=16)
    histogram = np.zeros((source.image_shape[0], 256), np.int64)
    for chunk in source.chunks():
        pixels = chunk.numpy()  # [n, C, H, W]
        digest.update(pixels.data)
        for channel, counts in enumerate(histogram):
            counts += np.bincount(pixels[:, channel].ravel(), minlength=256)
    return Survey(digest.digest(), histogram)


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
