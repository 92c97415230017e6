"""What networks are trained on: a set's images, or real ones, with the labels that a protocol asks for."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from condense.data import TrainingData
from condense.data.info import DataInfo
from condense.evaluation.label_networks import static_logits
from condense.evaluation.protocols import Protocol, StaticLabels
from condense.labels.static import corrected_logits
from condense.networks import canonical_name
from condense.sets.synthetic_set import SyntheticSet
from condense.training.sources import TensorSource, TrainingSource


@dataclass(frozen=True)
class TrainingSet:
    """Images and labels to train on, what of it is stored and where labels came from.

    `bytes` is what all of it costs to keep, `learned_lr` the learning rate that was learned with a set. `in_class` is
    the fraction of images whose soft label is largest for their own class, None where labels are hard.
    """

    source: TrainingSource
    stored_images: int
    label_source: str
    bytes: int
    learned_lr: float | None = None
    in_class: float | None = None


@dataclass(frozen=True, eq=False)
class Relabelled:
    """The images of `base` with other labels, but in the epochs from `own_from` on."""

    base: TrainingSource
    labels: Tensor
    info: DataInfo
    own_from: int | None = None

    def __len__(self) -> int:
        return len(self.base)

    def images(self, indices: Tensor) -> Tensor:
        """The images at `indices` (int64 [n])."""
        return self.base.images(indices)

    def labels_in(self, epoch: int) -> Tensor:
        """The labels that a training has in this epoch."""
        return self.labels if self.own_from is None or epoch < self.own_from else self.base.labels


def training_set(
    given: SyntheticSet | TrainingData,
    train: TrainingData,
    protocol: Protocol,
    *,
    device: torch.device,
    progress: bool = False,
) -> TrainingSet:
    """The images of `given` as `protocol` labels them.

    Hard labels are class indices. Static ones are the set's own soft labels, else the averaged logits of networks
    trained on `train`, which is preprocessed as `given` is; such labels count in the bytes as float32 [N, K].
    """
    source, labels = _hard(given, train.info), protocol.labels
    stored = len(given.stored) if isinstance(given, SyntheticSet) else len(given)
    cost = given.bytes if isinstance(given, SyntheticSet) else _bytes(given)
    rate = given.learned_lr if isinstance(given, SyntheticSet) else None
    if labels == "hard":
        return TrainingSet(source, stored, "class index", cost, rate)
    if isinstance(given, SyntheticSet) and given.probabilities is not None:
        probabilities, label_source = given.probabilities, f"own {given.label_kind}"
    else:
        logits = static_logits(source, train, protocol.network, labels, device=device, progress=progress)
        if labels.corrected:
            logits = corrected_logits(logits, source.labels)
        probabilities, label_source = torch.softmax(logits, 1), _teachers(protocol.network, labels, train.info)
        cost += logits.numel() * logits.element_size()
    own_from = protocol.rule.epochs_run - labels.hard_epochs if labels.hard_epochs else None
    in_class = (probabilities.argmax(1) == source.labels).double().mean().item()
    relabelled = Relabelled(source, probabilities, source.info, own_from)
    return TrainingSet(relabelled, stored, label_source, cost, rate, in_class)


def _teachers(network: str, labels: StaticLabels, info: DataInfo) -> str:
    """In words, who made the labels."""
    corrected = ", corrected" if labels.corrected else ""
    name = canonical_name(network, info.image_shape)
    return f"{labels.networks} x {name}, {labels.training.epochs_run} epochs on the real data{corrected}"


def _hard(given: SyntheticSet | TrainingData, info: DataInfo) -> TrainingSource:
    return given if isinstance(given, TrainingData) else TensorSource(given.images, given.labels, info)


def _bytes(real: TrainingData) -> int:
    """Pixels at one byte and int64 labels, as a set of real images stores them."""
    return len(real) * (math.prod(real.info.image_shape) + real.labels.element_size())
