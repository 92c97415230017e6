"""A teacher whose classes are divided by what its features tell apart (LELP): see `condense.labels.subclasses`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from condense.labels.plain import PlainImages
from condense.labels.showing import Showing
from condense.labels.subclasses import Subclasses, find_subclasses
from condense.runtime.errors import CondenseError
from condense.runtime.global_draws import drawing
from condense.runtime.seeds import generator
from condense.teachers.classifier import PixelClassifier, linear_head
from condense.teachers.committee import Committee

_MOST_VIEWS = 20_000  # that principal directions are found from
_VIEWS = 10  # of an image, at most
_ASKED_AT_ONCE = 128


@dataclass(frozen=True, eq=False)
class DividedTeacher:
    """The classifier of a teacher, asked about subclasses."""

    classifier: PixelClassifier
    subclasses: Subclasses

    def logits(self, pixels: Tensor, *, batch_norm: str = "running") -> Tensor:
        """Those of the parts of each class, [n, K S], of pixels [n, C, H, W] in [0, 1], without gradient.

        Only the statistics of its training give features that its subclasses lie in.
        """
        assert batch_norm == "running", "label settings refuse the other one"
        features = _features(self.classifier, pixels)
        with torch.no_grad():
            logits: Tensor = self.classifier.network.classifier(features)
        return self.subclasses.divided(logits, features)


def divided(
    committee: Committee,
    parts: int,
    plain: PlainImages,
    classes: Tensor | None,
    showing: Showing | None,
    device: torch.device,
    seed: int,
) -> DividedTeacher:
    """The only teacher of a committee, with so many parts of each class, found from the images themselves.

    It sees them as they are, or in the first views of a `showing`, unmixed. `classes` int64 [N] are those of the
    images. Raises `CondenseError` where there are none, and for several teachers: their features cannot be averaged.
    """
    if len(committee) > 1:
        raise CondenseError(f"--subclasses are parts of the classes of one teacher, and there are {len(committee)}")
    if classes is None:
        raise CondenseError("--subclasses are found class by class, and these images have no classes; leave it out")
    teacher = committee.members[0]
    classifier = teacher.classifier(device)
    weight = linear_head(classifier.network, teacher.name).weight.detach().cpu()
    if torch.linalg.matrix_rank(weight.double()) >= weight.shape[1]:
        raise CondenseError(
            f"--subclasses are where features vary and logits do not: the logits of {teacher.name} see all of its "
            f"{weight.shape[1]} features; give a teacher with more features than classes, or leave it out"
        )
    rows = torch.randperm(len(plain), generator=generator(seed, "images for subclasses"))[:_MOST_VIEWS].sort().values
    views = 1 if showing is None else max(1, min(_VIEWS, showing.views or _VIEWS, _MOST_VIEWS // len(rows)))
    features = []
    for view in range(views):
        for ids in rows.split(_ASKED_AT_ONCE):
            pixels = plain.read(ids).to(device)
            seen = pixels if showing is None else showing.seen(pixels, torch.full_like(ids, view), ids)
            features.append(_features(classifier, seen).cpu())
    return DividedTeacher(
        classifier, find_subclasses(torch.cat(features), classes[rows].repeat(views), weight, parts, seed)
    )


def _features(classifier: PixelClassifier, pixels: Tensor) -> Tensor:
    with torch.no_grad(), drawing(classifier, pixels):
        return classifier.embed(pixels)
