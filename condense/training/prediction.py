"""What a trained network says of images, and how often it is right."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from condense.runtime.global_draws import drawing
from condense.runtime.memory import keep_freed_memory
from condense.training.sources import ImageSource

_MOST_AT_ONCE = 256  # images: 128 to 512 take about the same time on two cores
_PIXELS_AT_ONCE = 2**20  # the maps of a ConvNet of width 64 for so many pixels take about a gigabyte


def images_at_once(height: int, width: int) -> int:
    """How many images of a size go through a network together where nothing is learned: memory is that of their maps.

    >>> images_at_once(32, 32), images_at_once(128, 128), images_at_once(224, 224)
    (256, 64, 20)
    """
    return max(1, min(_MOST_AT_ONCE, _PIXELS_AT_ONCE // (height * width)))


def predict(network: nn.Module, source: ImageSource, device: torch.device) -> Tensor:
    """The logits [N, K] of all images, on the processor, by the network in evaluation mode (and left in it)."""
    keep_freed_memory()
    network.to(device).eval()
    height, width = source.images(torch.tensor([0])).shape[2:]
    batches = torch.arange(len(source)).split(images_at_once(height, width))
    with torch.inference_mode():
        logits = [_predicted(network, source.images(batch).to(device)) for batch in batches]
    return torch.cat(logits)  # out here, or the result could not take part in a training


def _predicted(network: nn.Module, images: Tensor) -> Tensor:
    with drawing(network, images):
        logits: Tensor = network(images)
    return logits.cpu()


class ClassifiedImages(ImageSource, Protocol):
    """Images with their class indices: a split of real data, for one."""

    @property
    def labels(self) -> Tensor:
        """The class index of each image, int64 [N]."""


def accuracy(network: nn.Module, source: ClassifiedImages, device: torch.device) -> float:
    """The fraction of images whose largest logit is that of their class index; logits that are not finite are wrong."""
    return (answers(predict(network, source, device)) == source.labels).double().mean().item()


def answers(logits: Tensor) -> Tensor:
    """The class index of the largest of the logits [N, K] of each image, int64 [N]; -1 where one is not finite."""
    return logits.argmax(1).where(logits.isfinite().all(1), -1)
