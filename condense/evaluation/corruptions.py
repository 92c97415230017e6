"""Accuracy on corrupted test images: ten corruptions at three strengths, ours, frozen and hashed.

They are made by kornia of a thousand test images. These are not the files called CIFAR-10-C, and accuracies on both are
not comparable.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor, nn

from condense.data import TestData
from condense.runtime.seeds import generator
from condense.training.prediction import accuracy
from condense.training.sources import Tensors

IMAGES = 1000  # test images, drawn once for all; all of them where there are fewer
_SEED = 0
_REFERENCE_SIDE = 32  # pixels of the shorter side that lengths are given for: they grow with images
_AT_ONCE = 250


@dataclass(frozen=True)
class Corruption:
    """What it does to images [n, C, H, W] in [0, 1] at each of three levels, weak to strong; results are clamped.

    `apply` takes the images, a level, and a generator for what is random in it.
    """

    name: str
    levels: tuple[float, float, float]
    apply: Callable[[Tensor, float, torch.Generator], Tensor]


def _pixels(length: float, images: Tensor) -> float:
    """A length that is given for 32 pixels, in pixels of these images."""
    return length * min(images.shape[2:]) / _REFERENCE_SIDE


def _odd(length: float) -> int:
    """The odd number of pixels, at least 3, that is nearest to a length."""
    return max(3, 2 * round((length - 1) / 2) + 1)


def gaussian_noise(images: Tensor, level: float, draws: torch.Generator) -> Tensor:
    """Normal noise of this standard deviation in every channel of every pixel."""
    return images + level * torch.randn(images.shape, generator=draws)


def salt_and_pepper(images: Tensor, level: float, draws: torch.Generator) -> Tensor:
    """So large a part of the pixels black or white."""
    chance = torch.rand((len(images), 1, *images.shape[2:]), generator=draws)
    return torch.where(chance < level / 2, 0.0, torch.where(chance > 1 - level / 2, 1.0, images))


def gaussian_blur(images: Tensor, level: float, draws: torch.Generator) -> Tensor:
    """By a Gaussian of this standard deviation."""
    from kornia.filters import gaussian_blur2d

    sigma = _pixels(level, images)
    size = _odd(6 * sigma)
    return gaussian_blur2d(images, (size, size), (sigma, sigma))


def motion_blur(images: Tensor, level: float, draws: torch.Generator) -> Tensor:
    """Along a line of this length, in a direction drawn for each image."""
    from kornia.filters import motion_blur as blurred

    angles = 180 * torch.rand(len(images), generator=draws)
    return blurred(images, _odd(_pixels(level, images)), angles, torch.zeros(len(images)))


def pixelate(images: Tensor, level: float, draws: torch.Generator) -> Tensor:
    """Sides so many times smaller, and enlarged again."""
    from kornia.geometry.transform import resize

    height, width = images.shape[2:]
    small = resize(images, (max(1, round(height / level)), max(1, round(width / level))), "area")
    return resize(small, (height, width), "nearest")


def elastic(images: Tensor, level: float, draws: torch.Generator) -> Tensor:
    """Pixels displaced smoothly, by about this part of the image."""
    from kornia.geometry.transform import elastic_transform2d

    noise = 2 * torch.rand((len(images), 2, *images.shape[2:]), generator=draws) - 1
    sigma = _pixels(2.0, images)
    size = _odd(6 * sigma)
    # the mean of n independent numbers of variance 1/3 under a Gaussian has the deviation 1 / (sigma sqrt(12 pi))
    strength = level * sigma * (12 * torch.pi) ** 0.5
    return elastic_transform2d(
        images, noise, (size, size), (sigma, sigma), (strength, strength), mode="bilinear", padding_mode="reflection"
    )


def brightness(images: Tensor, level: float, draws: torch.Generator) -> Tensor:
    """So much added."""
    from kornia.enhance import adjust_brightness

    return adjust_brightness(images, level)


def contrast(images: Tensor, level: float, draws: torch.Generator) -> Tensor:
    """Differences from the mean of the image this part of what they were."""
    from kornia.enhance import adjust_contrast_with_mean_subtraction

    return adjust_contrast_with_mean_subtraction(images, level)


def gamma(images: Tensor, level: float, draws: torch.Generator) -> Tensor:
    """To this power: darker."""
    from kornia.enhance import adjust_gamma

    return adjust_gamma(images, level)


def posterize(images: Tensor, level: float, draws: torch.Generator) -> Tensor:
    """So many bits left of each number."""
    from kornia.enhance import posterize as posterized

    return posterized(images, int(level))


CORRUPTIONS = (
    Corruption("gaussian-noise", (0.05, 0.1, 0.2), gaussian_noise),
    Corruption("salt-and-pepper", (0.02, 0.06, 0.15), salt_and_pepper),
    Corruption("gaussian-blur", (0.7, 1.0, 1.6), gaussian_blur),
    Corruption("motion-blur", (3.0, 5.0, 9.0), motion_blur),
    Corruption("pixelate", (2.0, 3.0, 4.0), pixelate),
    Corruption("elastic", (0.02, 0.04, 0.07), elastic),
    Corruption("brightness", (0.1, 0.2, 0.3), brightness),
    Corruption("contrast", (0.6, 0.4, 0.2), contrast),
    Corruption("gamma", (1.5, 2.2, 3.5), gamma),
    Corruption("posterize", (4.0, 3.0, 2.0), posterize),
)


@functools.cache
def corruptions_hash() -> str:
    """12 hex digits of what decides them: names, levels, how many images, and the seed.

    >>> corruptions_hash()
    'c1595a7eb10f'
    """
    decided = [[each.name, each.levels] for each in CORRUPTIONS]
    text = json.dumps([decided, IMAGES, _SEED], separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


@dataclass(frozen=True, eq=False)
class CorruptedImages:
    """Test images under one corruption at one level, preprocessed, with their class indices."""

    base: Tensors
    labels: Tensor

    def __len__(self) -> int:
        return len(self.base)

    def images(self, indices: Tensor) -> Tensor:
        """The images at `indices` (int64 [n])."""
        return self.base.images(indices)


def corrupted_accuracies(network: nn.Module, test: TestData, device: torch.device) -> dict[str, float]:
    """By the name of each corruption: accuracy on the thousand test images, the mean over its levels."""
    return {
        each.name: fmean(accuracy(network, corrupted(test, each, level), device) for level in range(len(each.levels)))
        for each in CORRUPTIONS
    }


def corrupted(test: TestData, corruption: Corruption, level: int) -> CorruptedImages:
    """The thousand test images under a corruption at a level from 0 to 2; always the same ones."""
    order = torch.randperm(len(test), generator=generator(_SEED, "corrupted test images"))
    rows = order[:IMAGES].sort().values
    made = []
    for number, batch in enumerate(rows.split(_AT_ONCE)):
        draws = generator(_SEED, "corruption", corruption.name, level, number)
        plain = test.pixels(batch).float() / 255
        spoiled = corruption.apply(plain, corruption.levels[level], draws).clamp(0, 1)
        made.append(test.info.preprocessing.apply(spoiled))
    return CorruptedImages(Tensors(torch.cat(made)), test.labels[rows])
