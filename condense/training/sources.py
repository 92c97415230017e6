"""What networks are trained on: a source gives batches, with all that a step needs to know of them.

The loop knows neither a kind of label nor an augmentation. `condense.training.presentation.Labelled` joins images and
labels, which are shown as a training rule says; a source whose images and labels belong together (labels that were made
for one view of an image) gives its batches itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from condense.compute.losses import Loss
from condense.data.info import DataInfo
from condense.training.rule import TrainingRule


class ImageSource(Protocol):
    """Preprocessed images that are found by index: a split of real data, or `Tensors`."""

    def __len__(self) -> int: ...

    def images(self, indices: Tensor) -> Tensor:
        """The images at `indices` (int64 [n]): float32 [n, C, H, W]."""


@dataclass(frozen=True, eq=False)
class Targets:
    """What the outputs of a network are compared with: `values` [n, ...], the loss, and a weight for each image.

    Values are class indices int64 [n], or float32 [n, K].
    """

    values: Tensor
    loss: Loss
    weights: Tensor | None = None

    def to(self, device: torch.device) -> Targets:
        """The same on a device."""
        weights = None if self.weights is None else self.weights.to(device)
        return Targets(self.values.to(device), self.loss, weights)


class TargetSource(Protocol):
    """The labels of images that are found by index: `condense.labels.Labels`, or several of them in turn."""

    def for_batch(self, epoch: int, ids: Tensor) -> Targets:
        """Those of the images `ids` (int64 [n]) in an epoch, counted from 0."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Images [n, C, H, W] as the network sees them, and what it is to say of them.

    `ids` (int64 [n]) and `epoch` say which images they are and when; `plain` are the images before augmentation.
    """

    epoch: int
    ids: Tensor
    images: Tensor
    targets: Targets
    plain: Tensor


class BatchSource(Protocol):
    """Gives the batches of one training."""

    def batch(self, epoch: int, number: int, ids: Tensor) -> Batch:
        """The images `ids` (int64 [n]), which are batch `number` of an epoch."""

    def batches(self, epoch: int) -> list[Tensor] | None:
        """The images of each batch of an epoch, int64 [n] each; None where the training may choose them."""
        return None


class TrainingSource(Protocol):
    """Images to train on."""

    @property
    def info(self) -> DataInfo:
        """What data it is; `info.mirror` decides whether augmentation may flip."""

    def __len__(self) -> int: ...

    def presented(self, rule: TrainingRule, seed: int, device: torch.device) -> BatchSource:
        """The batches of a training by this rule, with draws from this seed, on this device."""


@dataclass(frozen=True, eq=False)
class Tensors:
    """Images that lie in memory, `values` float32 [N, C, H, W], preprocessed."""

    values: Tensor

    def __len__(self) -> int:
        return len(self.values)

    def images(self, indices: Tensor) -> Tensor:
        """The images at `indices` (int64 [n])."""
        return self.values[indices]
