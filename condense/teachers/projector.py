"""Projectors: a frozen encoder that low-rank factors and a new head turn into a teacher of other classes.

The idea of HeLlO (Yu et al., "Heavy Labels Out!", arXiv 2408.08201), whose encoder is CLIP's and whose head begins as
embeddings of class names, so that factors are all that is kept of it too. Here the encoder is any teacher, so that this
is not HeLlO, and the head begins as the mean features of the classes in the real data: it is kept whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, parametrize, vector_to_parameters

from condense.augmentation.views import ViewRule
from condense.data.preprocessing import None_
from condense.data.real import TrainingData
from condense.labels.advisers import Advisers
from condense.labels.objectives import Objective
from condense.labels.plain import plain_pixels
from condense.labels.showing import Showing, colour_beyond
from condense.labels.shown import ShownImages
from condense.labels.views import Asked
from condense.networks import build_network
from condense.runtime.cache import found_or_made
from condense.runtime.errors import CondenseError
from condense.runtime.seeds import derive_seed, generator
from condense.teachers.classifier import Normalize, PixelClassifier, Voters, linear_head
from condense.teachers.manifest import Manifest
from condense.training.loop import Diverged, train_network
from condense.training.prediction import images_at_once
from condense.training.rule import TrainingRule

REVISION = 1  # to be raised when equal arguments give other projectors: those in caches are not believed any more
_RULE = TrainingRule(optimizer="adam", lr=1e-3, batch_size=128, epochs=1, schedule="cosine")
_OBJECTIVE = Objective("mse", class_weight=0.1)
_MOST_FOR_MEANS = 5_000  # images


class Encoder(Protocol):
    """A teacher (`condense.teachers.Teacher`) as a projector needs it."""

    @property
    def manifest(self) -> Manifest:
        """Its network, image shape and normalisation."""

    @property
    def state(self) -> Mapping[str, Tensor]:
        """The values of the network."""

    @property
    def name(self) -> str:
        """For people."""

    @property
    def hash(self) -> str:
        """Of all that decides what it says."""


class LowRank(nn.Module):
    """W + A B of a frozen weight W [o, ...]: A [o, r] begins as zeros, B [r, i] as normal numbers over the root of i.

    A rank r above o or i would say nothing more, and is cut to the smaller one.

    >>> weight = torch.ones(2, 3, 1, 1)
    >>> torch.equal(LowRank(weight, 1, torch.Generator())(weight), weight)
    True
    """

    def __init__(self, weight: Tensor, rank: int, source: torch.Generator) -> None:
        super().__init__()
        outputs, inputs = len(weight), weight[0].numel()
        rank = min(rank, outputs, inputs)
        self.left = nn.Parameter(torch.zeros(outputs, rank))
        self.right = nn.Parameter(torch.randn(rank, inputs, generator=source) / inputs**0.5)

    def forward(self, weight: Tensor) -> Tensor:
        """The weight that layers compute with."""
        return weight + (self.left @ self.right).view_as(weight)


class AdaptedEncoder(PixelClassifier):
    """The encoder of a teacher with factors of every convolution and linear layer, and a head for so many classes.

    Only these are trained. BatchNorm keeps the statistics of the encoder, in training too. Raises `CondenseError` for a
    network without a linear layer at its end.
    """

    def __init__(self, encoder: Encoder, rank: int, outputs: int, seed: int = 0) -> None:
        manifest, source = encoder.manifest, generator(seed, "projector")
        network = build_network(manifest.network, manifest.image_shape, outputs, seed=0)
        head = linear_head(network, encoder.name)
        known = {name: value for name, value in encoder.state.items() if not name.startswith("classifier.")}
        network.load_state_dict(known | {f"classifier.{name}": value for name, value in head.state_dict().items()})
        super().__init__(Normalize(manifest.mean, manifest.std), network)
        self.name = f"a projector on {encoder.name}"
        for layer in [part for part in network.features.modules() if isinstance(part, nn.Conv2d | nn.Linear)]:
            parametrize.register_parametrization(layer, "weight", LowRank(layer.weight, rank, source))
        head.requires_grad_(True)

    @property
    def trained(self) -> list[nn.Parameter]:
        """Factors in the order of layers, then the head."""
        return [value for value in self.parameters() if value.requires_grad]

    def train(self, mode: bool = True) -> Self:
        """It stays in evaluation mode."""
        return super().train(False)


@dataclass(frozen=True, eq=False)
class Projector:
    """An encoder and the `values` of what was trained on it, float32 [P]: a teacher of `outputs` classes.

    Raises `CondenseError` where there are not as many values as such a projector has.
    """

    encoder: Encoder
    rank: int
    outputs: int
    values: Tensor

    def __post_init__(self) -> None:
        wanted = sum(value.numel() for value in AdaptedEncoder(self.encoder, self.rank, self.outputs).trained)
        if self.values.shape != (wanted,):
            raise CondenseError(
                f"a projector of rank {self.rank} for {self.outputs} classes on {self.encoder.name} has {wanted:,} "
                f"numbers, not {self.values.numel():,}; relabel the images"
            )

    @property
    def name(self) -> str:
        """For people."""
        return f"projector of rank {self.rank} on {self.encoder.name}"

    def classifiers(self, device: torch.device) -> Voters:
        """A copy of it on a device, as fast as the encoder: factors are multiplied out."""
        made = AdaptedEncoder(self.encoder, self.rank, self.outputs)
        vector_to_parameters(self.values, made.trained)
        for layer in [part for part in made.network.features.modules() if parametrize.is_parametrized(part)]:
            parametrize.remove_parametrizations(layer, "weight")
        return Voters((made.requires_grad_(False).to(device),), (1.0,))


def fit_projector(
    encoder: Encoder,
    teachers: Advisers,
    train: TrainingData,
    *,
    rank: int,
    epochs: int,
    seed: int,
    device: torch.device,
    progress: bool = False,
) -> Projector:
    """A projector that says of crops and flips of real images what the teachers say.

    It descends the mean of (z - z')^2 over logits plus a tenth of the cross-entropy of the class (the form of HeLlO's
    objective; the weight is ours), by Adam at 0.001 along a cosine. It is kept in the cache folder, by the data,
    encoder, teachers and settings. Raises `CondenseError` for an encoder of another image shape or without a linear
    layer at its end, and where the training diverges.
    """
    if encoder.manifest.image_shape != train.info.image_shape:
        raise CondenseError(
            f"the encoder is for images of shape {list(encoder.manifest.image_shape)} but {train.info.name} has "
            f"{list(train.info.image_shape)}; give another one"
        )
    outputs, rule = len(train.info.classes), _RULE.model_copy(update={"epochs": epochs})

    def fitted() -> tuple[dict[str, Tensor], float]:
        adapted = AdaptedEncoder(encoder, rank, outputs, seed).to(device)
        _begin_head(adapted, train, device, seed)
        try:
            train_network(adapted, _shown(train, teachers, seed), rule, seed=seed, device=device, progress=progress)
        except Diverged as error:
            raise CondenseError(f"{error.args[0].partition(';')[0]}; give another encoder or teacher") from error
        return {"values": parameters_to_vector(adapted.trained).detach().cpu()}, 0.0

    parts = train.info.identity, encoder.hash, teachers.hash, rank, epochs, seed, REVISION
    kept = found_or_made("projectors", train.info.name, parts, fitted, what="projectors")
    return Projector(encoder, rank, outputs, kept.tensors["values"])


def _shown(train: TrainingData, teachers: Advisers, seed: int) -> ShownImages:
    """Views of the real images as pixels, and what the teachers say of them."""
    info, rule = train.info, ViewRule(flip=train.info.mirror)
    showing = Showing(seed=derive_seed(seed, "views of a projector"), rule=rule, fill=colour_beyond(info))
    as_pixels = replace(info, preprocessing=None_())
    return ShownImages(showing, _OBJECTIVE, Asked(showing, teachers), plain_pixels(train), as_pixels, train.labels)


def _begin_head(adapted: AdaptedEncoder, train: TrainingData, device: torch.device, seed: int) -> None:
    """The head begins as the mean features of each class, of length 1; of a part of the images where there are many."""
    plain, (_, height, width) = plain_pixels(train), train.info.image_shape
    order = torch.randperm(len(train), generator=generator(seed, "images for a head"))[:_MOST_FOR_MEANS]
    head = adapted.network.classifier
    with torch.no_grad():
        batches = order.split(images_at_once(height, width))
        features = torch.cat([adapted.embed(plain.read(ids).to(device)).cpu() for ids in batches])  # [n, D]
        sums = torch.zeros(head.weight.shape).index_add(0, train.labels[order], features)
        head.weight.copy_(F.normalize(sums))
        if head.bias is not None:
            nn.init.zeros_(head.bias)
