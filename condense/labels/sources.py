"""Images joined with their labels, as a training takes them."""

from __future__ import annotations

from torch import Tensor

from condense.data.info import DataInfo
from condense.data.real import Split
from condense.labels.kinds import HardLabels
from condense.training.presentation import Labelled
from condense.training.sources import TargetSource, Tensors


def classified(split: Split) -> Labelled:
    """Real images with their class indices."""
    return Labelled(split, HardLabels(split.labels), split.info)


def in_memory(images: Tensor, labels: TargetSource, info: DataInfo) -> Labelled:
    """Images float32 [N, C, H, W], preprocessed as `info` says, with their labels."""
    return Labelled(Tensors(images), labels, info)
