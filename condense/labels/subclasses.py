"""Subclasses: the parts of each class that a teacher's features tell apart, for data of few classes.

With few classes logits say little of an image, and features say more. LELP (Loo, Iliopoulos, Hu & Vee, "Linear
Projections of Teacher Embeddings for Few-Class Distillation", arXiv 2409.20449) divides every class along the principal
directions of its features, and trains networks on the subclasses; the probability of a class is the sum of those of its
parts.

The directions are those of what the logits do not see (the null space of the classifier), as in the paper. Of the rest
no code was found, and what the sources at hand leave open is done so: the directions of a class are turned by a random
rotation, so that no part has more variance than another, and are scaled so that the places of its images along them
have variance 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from condense.labels.kinds import LogitLabels
from condense.labels.labels import Attributes, Labels, Stored, read_number, read_text, whole
from condense.labels.objectives import Objective
from condense.runtime.errors import CondenseError
from condense.runtime.seeds import generator

_NOISE = 1e-12  # of the sum of squares of features: what rounding leaves in directions that there are not


@dataclass(frozen=True, eq=False)
class Subclasses:
    """Where S subclasses of each of K classes lie in features of D numbers.

    `directions` float32 [K, S, D] point to each, from `centres` float32 [K, D], the mean features of the classes.
    """

    directions: Tensor
    centres: Tensor

    def divided(self, logits: Tensor, features: Tensor) -> Tensor:
        """Logits [n, K S] of subclasses, those of a class beside one another, of logits [n, K] and features [n, D].

        z_cs = z_c + log softmax_s (h - centre_c) . direction_cs: the log-sum-exp over the parts of a class is z_c, so
        that their probabilities at temperature 1 sum to that of the class.
        """
        directions, centres = self.directions.to(features), self.centres.to(features)
        towards = torch.einsum("nd,ksd->nks", features, directions) - torch.einsum("kd,ksd->ks", centres, directions)
        return (logits[:, :, None] + torch.log_softmax(towards, 2)).flatten(1)  # [n, K, S] to [n, K S]


def find_subclasses(features: Tensor, classes: Tensor, weight: Tensor, parts: int, seed: int) -> Subclasses:
    """So many parts of each class, of features [N, D] of images of these classes (int64 [N]).

    `weight` [K, D] is that of the classifier on these features. A class of fewer than two images, or whose features
    vary only in what the logits see, has parts that are all alike.
    """
    features, weight = features.double(), weight.double()
    inverse = torch.linalg.pinv(weight)  # [D, K]
    centres, directions = [], []
    for label in range(len(weight)):
        own = features[classes == label]
        centre = own.mean(0) if len(own) else features.mean(0)
        away = own - centre
        rotation = _rotation(parts, generator(seed, "subclasses", label))
        centres.append(centre)
        unseen = away - away @ inverse @ weight  # what is left is orthogonal to the rows of the weight
        directions.append(rotation @ _principal(unseen, parts, least=_NOISE * away.square().sum()))
    return Subclasses(torch.stack(directions).float(), torch.stack(centres).float())


def merged(logits: Tensor, classes: int) -> Tensor:
    """Logits [n, K] of classes, of those of their subclasses [n, K S]: the log-sum-exp over the parts of each.

    >>> merged(torch.tensor([[0.5, 0.5, 0.25, 0.0]]).log(), 2).exp()
    tensor([[1.0000, 0.2500]])
    """
    return logits if logits.shape[1] == classes else logits.unflatten(1, (classes, -1)).logsumexp(2)


class SubclassLabels(LogitLabels):
    """Logits float32 [N, K S] of the S `parts` of each class; networks that are trained on them have K S outputs."""

    kind = "subclasses"
    usual_loss = "kl"

    def __init__(
        self,
        rows: Tensor,
        classes: Tensor | None,
        parts: int,
        temperature: float = 20.0,
        loss: str | None = None,
        *,
        teacher: str | None = None,
        images: str | None = None,
    ) -> None:
        super().__init__(rows, classes, temperature, loss, teacher=teacher, images=images)
        check_parts(parts, self.rows.shape[1])
        self.parts = parts

    @property
    def attributes(self) -> Attributes:
        """With the number of parts."""
        return {**super().attributes, "parts": self.parts}

    @property
    def probabilities(self) -> None:
        """There are none of classes alone."""
        return None

    @property
    def likeliest(self) -> Tensor:
        """The class whose parts together are likeliest."""
        return merged(self.rows, self.rows.shape[1] // self.parts).argmax(1)

    def at(self, rows: Tensor) -> Self:
        """The labels of the images `rows`, of which no digest is known."""
        about = self.parts, self.temperature, self.objective.loss
        return type(self)(self.rows[rows], self._classes_at(rows), *about, teacher=self.teacher)

    def check(self, images: int, classes: int) -> None:
        """There must be a number for each part of a class."""
        super().check(images, classes * self.parts)
        Labels.check(self, images, classes)

    def describe(self) -> str:
        """What they are, for people."""
        return self._described(f"each class in {self.parts}, {self.objective.describe()}")

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Stored], attributes: Mapping[str, Any], classes: Tensor | None) -> Labels:
        """The rows, of how many parts they are, and how they are trained on."""
        rows, temperature = whole(arrays, "values"), read_number(attributes, "temperature")
        objective = Objective.from_attributes(attributes, temperature, cls.usual_loss)
        if "parts" not in attributes or objective.class_weight:
            raise CondenseError("its labels of parts of classes do not tell of how many, or have a loss of classes")
        known = {name: read_text(attributes, name) for name in ("teacher", "images")}
        return cls(rows, classes, read_parts(attributes), temperature, objective.loss, **known)


def check_parts(parts: int, outputs: int) -> None:
    """Raise `CondenseError` where so many logits are not those of classes in so many parts."""
    if parts < 1 or outputs % parts:
        raise CondenseError(f"{outputs} logits are not those of classes in {parts} parts; make the labels again")


def read_parts(attributes: Mapping[str, Any]) -> int:
    """How many parts of a class labels in a file have, 1 where it does not say; raises `CondenseError` for none."""
    parts = attributes.get("parts", 1)
    if type(parts) is not int or parts < 1:
        raise CondenseError(f"its labels are of {parts!r} parts of each class; make it again")
    return parts


class OfClasses(nn.Module):
    """A network of subclasses as one of classes: logits [n, K] of images."""

    def __init__(self, network: nn.Module, classes: int) -> None:
        super().__init__()
        self.network, self.classes = network, classes
        self.draws = getattr(network, "draws", None)

    def forward(self, images: Tensor) -> Tensor:
        """Those of the network, merged."""
        return merged(self.network(images), self.classes)


def _principal(deviations: Tensor, count: int, least: Tensor) -> Tensor:
    """The first principal directions of deviations [n, D], divided by the root of their mean variance: [count, D].

    Zero where there are fewer whose sum of squares is more than `least`. Of a direction and its opposite it is the one
    whose largest number is positive.
    """
    _, lengths, vectors = torch.linalg.svd(deviations, full_matrices=False)  # descending
    vectors = vectors[lengths.square() > least][:count]
    if not len(vectors):
        return deviations.new_zeros(count, deviations.shape[1])
    signs = vectors.gather(1, vectors.abs().argmax(1, keepdim=True)).sign()
    variance = lengths[: len(vectors)].square().sum() / len(deviations) / count
    return torch.cat([signs * vectors / variance.sqrt(), vectors.new_zeros(count - len(vectors), vectors.shape[1])])


def _rotation(size: int, source: torch.Generator) -> Tensor:
    """A random orthogonal matrix, float64 [size, size]."""
    found, triangle = torch.linalg.qr(torch.randn(size, size, dtype=torch.float64, generator=source))
    rotation: Tensor = found * triangle.diagonal().sign()
    return rotation
