"""What networks are trained on: images that are found by index, and their labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from condense.data.info import DataInfo


class ImageSource(Protocol):
    """Preprocessed images that are found by index: a split of real data, or a `TensorSource`."""

    def __len__(self) -> int: ...

    def images(self, indices: Tensor) -> Tensor:
        """The images at `indices` (int64 [n]): float32 [n, C, H, W]."""


class TrainingSource(ImageSource, Protocol):
    """Images to train on, with `labels`: class indices int64 [N], or probabilities float32 [N, K].

    A source whose labels change has `labels_in(epoch)` as well, which a training then asks for.
    """

    @property
    def info(self) -> DataInfo:
        """What data it is; `info.mirror` decides whether augmentation may flip."""

    @property
    def labels(self) -> Tensor:
        """One label an image."""


@dataclass(frozen=True, eq=False)
class TensorSource:
    """Images that lie in memory, `tensor` float32 [N, C, H, W], preprocessed as `info` says."""

    tensor: Tensor
    labels: Tensor
    info: DataInfo

    def __len__(self) -> int:
        return len(self.tensor)

    def images(self, indices: Tensor) -> Tensor:
        """The images at `indices` (int64 [n])."""
        return self.tensor[indices]
