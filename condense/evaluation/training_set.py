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
from condense.labels import HardLabels, Labels, ProbabilityLabels, centred_one_hot
from condense.labels.combined import Switched, Weighted
from condense.labels.static import corrected_logits
from condense.networks import canonical_name
from condense.runtime.errors import CondenseError
from condense.sets.synthetic_set import SyntheticSet
from condense.training.presentation import Labelled
from condense.training.sources import ImageSource, TargetSource, Tensors, TrainingSource


@dataclass(frozen=True)
class TrainingSet:
    """Images and labels to train on, what of it is stored and where labels came from.

    `bytes` is what all of it costs to keep, `learned_lr` the learning rate that was learned with a set. `in_class` is
    the fraction of images whose soft label is largest for their own class, None where there is none to tell.
    """

    source: TrainingSource
    stored_images: int
    label_source: str
    bytes: int
    learned_lr: float | None = None
    in_class: float | None = None


@dataclass(frozen=True)
class _Given:
    """Images to train on before a protocol has said what their labels are."""

    images: ImageSource
    labels: Labels
    weights: Tensor | None
    info: DataInfo
    stored_images: int
    bytes: int
    learned_lr: float | None

    @property
    def hard(self) -> HardLabels:
        """Class indices; raises `CondenseError` where images have none."""
        if self.labels.classes is None:
            raise CondenseError(
                f"the images have no class index, only labels of the kind {self.labels.kind}; choose a protocol that "
                "trains on these"
            )
        return HardLabels(self.labels.classes)


@dataclass(frozen=True)
class _Chosen:
    """The labels that a protocol has chosen, and what they cost beyond those that are stored."""

    labels: TargetSource
    source: str
    bytes: int = 0
    in_class: float | None = None


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
    Regression labels are the set's own, else class indices as centred one-hot vectors.

    Raises `CondenseError` where a protocol needs class indices and images have none, and for regression labels of
    another width than the outputs of networks, which are one for each class.
    """
    images = _images(given, train.info)
    if protocol.labels == "hard":
        chosen = _Chosen(images.hard, "class index")
    elif protocol.labels == "regression":
        chosen = _regression(images)
    else:
        chosen = _static(images, train, protocol, protocol.labels, device, progress)
    labels, weights = chosen.labels, images.weights
    if weights is not None:
        labels = Weighted(labels, weights / weights.max())  # only ratios count, and sums of large ones are infinite
    return TrainingSet(
        Labelled(images.images, labels, images.info),
        images.stored_images,
        chosen.source,
        images.bytes + chosen.bytes,
        images.learned_lr,
        chosen.in_class,
    )


def _images(given: SyntheticSet | TrainingData, info: DataInfo) -> _Given:
    if isinstance(given, TrainingData):
        return _Given(given, HardLabels(given.labels), None, given.info, len(given), _bytes(given), None)
    return _Given(
        Tensors(given.images),
        given.training_labels,
        given.training_weights,
        info,
        len(given.stored),
        given.bytes,
        given.learned_lr,
    )


def _bytes(real: TrainingData) -> int:
    """Pixels at one byte and int64 labels, as a set of real images stores them."""
    return len(real) * (math.prod(real.info.image_shape) + real.labels.element_size())


def _regression(images: _Given) -> _Chosen:
    values, outputs = images.labels.values, len(images.info.classes)
    if values is not None and values.shape[1] != outputs:
        raise CondenseError(
            f"the regression labels of the set have width {values.shape[1]}, but networks have {outputs} outputs, one "
            "for each class; choose a protocol that trains on class indices"
        )
    if values is not None:
        return _Chosen(images.labels, f"own {images.labels.kind}")
    return _Chosen(centred_one_hot(images.hard.indices, outputs), "centred one-hot")


def _static(
    images: _Given,
    train: TrainingData,
    protocol: Protocol,
    rule: StaticLabels,
    device: torch.device,
    progress: bool,
) -> _Chosen:
    classes = images.labels.classes
    if images.labels.probabilities is not None:
        probabilities, source, cost = images.labels.probabilities, f"own {images.labels.kind}", 0
    else:
        logits = static_logits(images.images, train, protocol.network, rule, device=device, progress=progress)
        if rule.corrected:
            logits = corrected_logits(logits, images.hard.indices)
        probabilities, source = torch.softmax(logits, 1), _teachers(protocol.network, rule, train)
        cost = logits.numel() * logits.element_size()
    in_class = None if classes is None else (probabilities.argmax(1) == classes).double().mean().item()
    labels: TargetSource = ProbabilityLabels(probabilities)
    if rule.hard_epochs:
        labels = Switched(labels, images.hard, protocol.rule.epochs_run(len(images.images)) - rule.hard_epochs)
    return _Chosen(labels, source, cost, in_class)


def _teachers(network: str, labels: StaticLabels, train: TrainingData) -> str:
    """In words, who made the labels."""
    corrected = ", corrected" if labels.corrected else ""
    name, rule = canonical_name(network, train.info.image_shape), labels.training
    length = f"{rule.epochs} epochs" if rule.updates is None else f"{rule.updates_run(len(train)):,} updates"
    return f"{labels.networks} x {name}, {length} on the real data{corrected}"
