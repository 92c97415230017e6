"""DQ: Zhou et al., "Dataset Quantization", ICCV 2023 (algorithm 1), and the released code.

1. Each class is divided into bins of equal size: the first is the graph cut of all its images, the next that of those
   that are left, and so on; the last is what remains. Early bins are what a class is like, late ones what it also is.
2. Every bin gives the same share of its images, drawn uniformly.
3. If asked, patches of the chosen images are dropped where the network does not look (`dropped`, 0.2 in the paper).

Here as in the released code the similarity in the cut is 1/2 + 1/2 cos between gradients of the last layer (the paper
writes of features). Other than there, the network is the one that is trained on the data for all evidence (released:
ResNet-18 and ViT-B/16 trained on ImageNet), gradients are those of the cross-entropy (released: of the cross-entropy of
a second softmax), and shares are rounded so that they sum to what was asked for (released: each by itself). Patches are
ranked by Grad-CAM of that network for the image's own class (released: Grad-CAM++ of a ResNet-18 of ImageNet for the
class that it predicts), and gaps are filled with the mean colour (paper: by a masked autoencoder).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from pydantic import Field
from torch import Tensor

from condense.data import TrainingData
from condense.data.budget import Budget
from condense.data.sampling import sample
from condense.labels.showing import colour_beyond
from condense.methods.interface import Product
from condense.networks import build_network, canonical_name
from condense.networks.class_activation import class_activation, last_maps
from condense.runtime.errors import CondenseError
from condense.runtime.seeds import generator, uniforms
from condense.selection.base import Choice, Group
from condense.selection.evidence import Evidence, EvidenceSettings
from condense.selection.graph_cut import cut
from condense.selection.last_layer import GradientSelector, LastLayerGradients, last_layer_gradients
from condense.sets.kept_patches import KeptPatches, patch_count, patches_of

_SMALLEST_PATCH = 2
_AT_ONCE = 64  # images that the network looks at


class QuantizationSettings(EvidenceSettings):
    """Settings of `dq`."""

    bins: int = Field(10, ge=1, description="that each class is divided into, each of which gives the same share")
    dropped: float = Field(
        0.0, ge=0, le=0.99, description="part of the patches of each image that is not stored (0.2 in the paper)"
    )
    patch: int | None = Field(
        None,
        ge=1,
        description="side of these patches in pixels; none: an eighth of an image's shorter side, at least 2",
    )


def graph_cut_bins(gradients: LastLayerGradients, bins: int) -> list[Tensor]:
    """All n rows in so many bins (in n, if there are fewer), each int64 and as large as the others, up to one row.

    Each is the graph cut of the rows that are left, in order of choice, whose sums of similarities are those over what
    is left; the last one is the rest.

    >>> errors = torch.tensor([[1.0, -1.0]] * 3 + [[-1.0, 1.0]] * 3)
    >>> [each.tolist() for each in graph_cut_bins(LastLayerGradients(errors, torch.zeros(6, 1)), 3)]
    [[0, 3], [1, 4], [2, 5]]
    """
    left, found = torch.arange(len(gradients)), []
    *sizes, _ = (len(part) for part in left.tensor_split(min(bins, len(left))))
    for size in sizes:
        rows, _ = cut(gradients.at(left), size)
        found.append(left[rows])
        others = torch.ones(len(left), dtype=torch.bool)
        others[rows] = False
        left = left[others]
    return [*found, left]


def shares_of_bins(count: int, sizes: list[int]) -> tuple[int, ...]:
    """How many rows each bin gives of `count` in all: its share by size, by largest remainders.

    Where there are fewer than bins, the first bins give.

    >>> shares_of_bins(7, [4, 4, 4, 3]), shares_of_bins(2, [4, 4, 4])
    ((2, 2, 2, 1), (1, 1, 0))
    """
    return Budget(ipc=None, fraction=count / sum(sizes), balanced=True).counts(sizes)


def kept_count(patches: int, dropped: float) -> int:
    """How many of so many patches are kept where this part is dropped: the whole part of the rest, at least 1.

    >>> kept_count(196, 0.2), kept_count(10, 0.9), kept_count(4, 0.99)
    (156, 1, 1)
    """
    return max(1, int((1 - dropped) * patches + 1e-9))


def most_activated(activation: Tensor, patch: int, count: int, chances: Tensor) -> Tensor:
    """Which patches of each image have the highest mean activation, `count` of P: bool [n, P] of [n, H, W].

    Patches at the edge are compared by what they have of the image. Equal ones, as there are many where a network does
    not look at all, come in the order of `chances` [n, P], which are drawn for each image.

    >>> most_activated(torch.tensor([[[0.0, 0.0, 5.0], [0.0, 2.0, 3.0]]]), 2, 1, torch.rand(1, 2))
    tensor([[False,  True]])
    """
    maps = torch.stack([activation, torch.ones_like(activation)])[:, :, None]  # (2, n, 1, H, W)
    sums, pixels = (patches_of(each, patch).sum((2, 3, 4)) for each in maps)
    means = sums / pixels  # (n, P)
    order = chances.argsort(dim=1)
    ranked = order.gather(1, means.gather(1, order).argsort(dim=1, descending=True, stable=True))
    return torch.zeros_like(means, dtype=torch.bool).scatter_(1, ranked[:, :count], True)


class Quantization(GradientSelector[QuantizationSettings]):
    """The same share of every bin of a class, bin after bin; an image's score is the number of its bin, from 1 on.

    Another number of images is another draw, so that a part of a choice is none: the first images of a class are all
    from its first bins.
    """

    def choose_from(self, evidence: Evidence, group: Group) -> Choice:
        """Divide the group into bins, and draw from each."""
        bins = graph_cut_bins(last_layer_gradients(evidence, group.members), self.settings.bins)
        shares = shares_of_bins(group.count, [len(each) for each in bins])
        drawn = [
            sample(each, share, generator(self.job.seed, "bin", group.name, number))
            for number, (each, share) in enumerate(zip(bins, shares, strict=True), 1)
        ]
        numbers = torch.arange(1, len(bins) + 1, dtype=torch.float64).repeat_interleave(torch.tensor(shares))
        return Choice(torch.cat(drawn), scores=numbers)

    def product(self, chosen: Choice) -> Product:
        """The chosen images or, where patches are dropped, the rest of them."""
        whole, info = super().product(chosen), self.data.info
        if not self.settings.dropped:
            return whole
        side, _, _ = patch_plan(info.image_shape, self.settings)
        pixels, kept = self.data.pixels(chosen.indices), self.kept(chosen.indices)
        decoder, stored = KeptPatches.of(pixels, kept, side, colour_beyond(info))
        return replace(whole, stored=stored, decoder=decoder)

    def kept(self, indices: Tensor) -> Tensor:
        """Which patches of these training images (int64 [n]) the network looks at for their class; bool [n, P]."""
        data, device, seed, network = self.job.data, self.job.device, self.job.seed, self.evidence.network
        layer = last_maps(network, data.info.image_shape)
        side, count, patches = patch_plan(data.info.image_shape, self.settings)
        found = []
        for batch in indices.split(_AT_ONCE):
            images, labels = data.images(batch).to(device), data.labels[batch].to(device)
            activation = class_activation(network, images, labels, layer).cpu()
            chances = [uniforms(patches, seed, "order of equal patches", index) for index in batch.tolist()]
            found.append(most_activated(activation, side, count, torch.tensor(chances)))
        return torch.cat(found)

    @classmethod
    def keeps_images(cls, settings: QuantizationSettings) -> bool:
        """Unless patches are dropped."""
        return not settings.dropped

    @classmethod
    def check(cls, data: TrainingData, budget: Budget, settings: QuantizationSettings) -> None:
        """Where patches are dropped, the rest must be less than an image, and the network have maps."""
        super().check(data, budget, settings)
        if not settings.dropped:
            if settings.patch is not None:
                raise CondenseError(f"--patch {settings.patch} is of patches that are dropped: give --dropped, too")
            return
        shape = data.info.image_shape
        side, count, patches = patch_plan(shape, settings)
        kept, whole = count * shape[0] * side**2 + -(-patches // 8), shape[0] * shape[1] * shape[2]
        if side > min(shape[1:]) or kept >= whole:
            raise CondenseError(
                f"--dropped {settings.dropped:g} stores {count} of {patches} patches of {side}x{side} of images of "
                f"{shape[1]}x{shape[2]}, {kept:,} bytes with their bitmap, and an image has {whole:,}; drop more, give "
                "another --patch, or leave --dropped out"
            )
        last_maps(build_network(canonical_name(settings.network, shape), shape, len(data.info.classes), 0), shape)


def patch_plan(image_shape: tuple[int, int, int], settings: QuantizationSettings) -> tuple[int, int, int]:
    """The side of patches, how many of an image are kept, and how many it has.

    >>> patch_plan((3, 32, 32), QuantizationSettings(dropped=0.25))
    (4, 48, 64)
    """
    side = settings.patch or max(_SMALLEST_PATCH, round(min(image_shape[1:]) / 8))
    patches = patch_count(side, *image_shape[1:])
    return side, kept_count(patches, settings.dropped), patches
