"""What networks are trained on: a set's images, or real ones, with the labels that a protocol asks for."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from condense.baselines.base import Baseline
from condense.data import TrainingData
from condense.data.info import DataInfo
from condense.evaluation.label_networks import corrected_logits, static_logits
from condense.evaluation.protocols import Protocol, StaticLabels, TeacherLabels
from condense.evaluation.teacher_labels import teacher_labels
from condense.labels import HardLabels, Labels, ProbabilityLabels, centred_one_hot
from condense.labels.combined import Switched, Weighted
from condense.labels.costs import heavy_labels
from condense.labels.plain import PlainImages, plain_pixels
from condense.networks import canonical_name
from condense.runtime.errors import CondenseError
from condense.sets.synthetic_set import SyntheticSet
from condense.teachers.committee import Committee
from condense.training.presentation import Labelled
from condense.training.sources import ImageSource, TargetSource, TrainingSource


@dataclass(frozen=True)
class TrainingSet:
    """Images and labels to train on, what of it is stored and where labels came from.

    `bytes` is what all of it costs to keep, `learned_lr` the learning rate that was learned with a set. `in_class` is
    the fraction of images whose soft label is largest for their own class, None where there is none to tell. `weighted`
    tells whether images count by the weights of a set that has some. `parts` is how many subclasses each class has in
    the labels. `notes` are sentences for the user.
    """

    source: TrainingSource
    stored_images: int
    label_source: str
    bytes: int
    learned_lr: float | None = None
    in_class: float | None = None
    weighted: bool | None = None
    parts: int = 1
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Given:
    """Images to train on, preprocessed and `plain`, before a protocol has said what their labels are."""

    images: ImageSource
    plain: PlainImages
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

    def labelled(self, labels: TargetSource) -> TrainingSource:
        """The images with labels that go with them as they are."""
        return Labelled(self.images, labels if self.weights is None else Weighted(labels, self.weights), self.info)


@dataclass(frozen=True)
class _Chosen:
    """The images with the labels that a protocol has chosen, and what these cost beyond those that are stored."""

    source: TrainingSource
    label_source: str
    bytes: int = 0
    in_class: float | None = None
    parts: int = 1
    asked: bool = False  # whether the teacher gave labels, or gives them in training


def training_set(
    given: SyntheticSet | TrainingData | Baseline[Any],
    train: TrainingData,
    protocol: Protocol,
    *,
    teacher: Committee | None = None,
    device: torch.device,
    progress: bool = False,
) -> TrainingSet:
    """The images of `given` as `protocol` labels them.

    Hard labels are class indices. Static ones are the set's own soft labels, else the averaged logits of networks
    trained on `train`, which is preprocessed as `given` is; such labels count in the bytes as float32 [N, K].
    Regression labels are the set's own, else class indices as centred one-hot vectors. Those of a teacher are the set's
    own, else those of `teacher`, whose bytes count where it is asked in training.

    Raises `CondenseError` where a protocol needs class indices and images have none, for regression labels of another
    width than the outputs of networks, which are one for each class, and where a teacher is needed that is not there.
    """
    if isinstance(given, Baseline):
        return _of_baseline(given, protocol, _unused(teacher, protocol))
    images, weighted = _images(given, train.info, weighted=protocol.weighted), None
    if protocol.mirrored and isinstance(given, SyntheticSet) and given.mirrored:
        images = _with_mirror_images(images)
    match protocol.labels:
        case "hard":
            chosen = _Chosen(images.labelled(images.hard), "class index")
        case "regression":
            chosen = _regression(images)
        case StaticLabels() as rule:
            chosen = _static(images, train, protocol, rule, device, progress)
        case TeacherLabels() as asked:
            chosen = _by_teacher(images, asked, protocol, teacher, device)
    own = 0 if isinstance(given, TrainingData) else given.stored_labels.bytes
    notes = [heavy_labels(images.bytes - own, own + chosen.bytes)]
    if isinstance(given, SyntheticSet) and given.weights is not None:
        weighted = protocol.weighted
        if not weighted:
            notes.append(f"protocol {protocol.name} leaves out the weights of the set: all of its images count alike")
    notes += [] if chosen.asked else _unused(teacher, protocol)
    return TrainingSet(
        chosen.source,
        images.stored_images,
        chosen.label_source,
        images.bytes + chosen.bytes,
        images.learned_lr,
        chosen.in_class,
        weighted,
        chosen.parts,
        tuple(note for note in notes if note is not None),
    )


def _unused(teacher: Committee | None, protocol: Protocol) -> list[str]:
    """A sentence for the user who gave a teacher that nobody asks."""
    if teacher is None:
        return []
    return [f"protocol {protocol.name} asks no teacher about these images: {teacher.name} is not used"]


def _of_baseline(given: Baseline[Any], protocol: Protocol, notes: list[str]) -> TrainingSet:
    if protocol.labels != "hard":
        raise CondenseError(
            f"protocol {protocol.name} has labels of its own, and baselines train on class indices; choose one that "
            "does, such as fraction"
        )
    weighted, images = protocol.weighted if given.has_weights else None, given.unique_images(protocol.rule)
    return TrainingSet(
        given.source(weighted=protocol.weighted),
        images,
        given.label_source,
        given.bytes(images),
        weighted=weighted,
        notes=tuple(notes),
    )


def _images(given: SyntheticSet | TrainingData, info: DataInfo, *, weighted: bool) -> _Given:
    if isinstance(given, TrainingData):
        labels = HardLabels(given.labels)
        return _Given(given, plain_pixels(given), labels, None, given.info, len(given), _bytes(given), None)
    weights = given.training_weights if weighted else None
    return _Given(
        _ImagesOf(given),
        given.plain,
        given.training_labels,
        None if weights is None else weights / weights.max(),  # only ratios count, and sums of large ones are infinite
        info,
        len(given.stored),
        given.bytes,
        given.learned_lr,
    )


def _with_mirror_images(given: _Given) -> _Given:
    """The images, and behind them their mirror images with the same labels; what is stored stays what it was."""
    count = len(given.images)
    twice = torch.arange(count).repeat(2)
    return replace(
        given,
        images=_Mirrored(count, given.images.images),
        plain=PlainImages(len(twice), _Mirrored(count, given.plain.read).images),
        labels=given.labels.at(twice),
        weights=None if given.weights is None else given.weights.repeat(2),
    )


@dataclass(frozen=True)
class _Mirrored:
    """So many images, which `read` gives by their indices, and behind them their mirror images."""

    count: int
    read: Callable[[Tensor], Tensor]

    def __len__(self) -> int:
        return 2 * self.count

    def images(self, indices: Tensor) -> Tensor:
        """The images at `indices` (int64 [n])."""
        turned, images = indices >= self.count, self.read(indices % self.count)
        return torch.where(turned.to(images.device)[:, None, None, None], images.flip(-1), images)


@dataclass(frozen=True)
class _ImagesOf:
    """The preprocessed images of a set, prepared when a training asks for them."""

    synthetic: SyntheticSet

    def __len__(self) -> int:
        return len(self.synthetic)

    def images(self, indices: Tensor) -> Tensor:
        """The images at `indices` (int64 [n])."""
        return self.synthetic.images_at(indices)


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
        return _Chosen(images.labelled(images.labels), f"own {images.labels.kind}")
    return _Chosen(images.labelled(centred_one_hot(images.hard.indices, outputs)), "centred one-hot")


def _by_teacher(
    images: _Given, asked: TeacherLabels, protocol: Protocol, teacher: Committee | None, device: torch.device
) -> _Chosen:
    labels, source, cost, classes = images.labels, "own: ", 0, images.labels.classes
    if labels.soft_per != asked.per:
        if teacher is None:
            raise CondenseError(
                f"protocol {protocol.name} trains on a soft label for each {asked.per}, and the images have labels of "
                f"the kind {labels.kind}; give --teacher, or relabel them (condense relabel)"
            )
        teacher.check_matches(images.info)
        about = teacher, images.plain, images.info, classes
        labels, source = teacher_labels(*about, protocol.rule, asked, device), "of the teacher given: "
        cost = labels.bytes - (0 if classes is None else classes.numel() * classes.element_size())
    likeliest = labels.likeliest
    in_class = None if likeliest is None or classes is None else (likeliest == classes).double().mean().item()
    taken = labels.source(images.images, images.plain, images.info, weights=images.weights, advisers=teacher)
    by_it = labels.asks or labels is not images.labels
    return _Chosen(taken, source + labels.describe(), cost, in_class, labels.parts, by_it)


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
    return _Chosen(images.labelled(labels), source, cost, in_class)


def _teachers(network: str, labels: StaticLabels, train: TrainingData) -> str:
    """In words, who made the labels."""
    corrected = ", corrected" if labels.corrected else ""
    name, rule = canonical_name(network, train.info.image_shape), labels.training
    length = f"{rule.epochs} epochs" if rule.updates is None else f"{rule.updates_run(len(train)):,} updates"
    return f"{labels.networks} x {name}, {length} on the real data{corrected}"
