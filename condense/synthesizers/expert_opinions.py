"""What experts say of images: for labels, and to choose images by."""

from __future__ import annotations

import torch
from torch import Tensor

from condense.compute.derivatives import called
from condense.data import DataInfo
from condense.methods.interface import ExpertSource
from condense.networks import build_network

_AT_ONCE = 50  # images


class ExpertOpinions:
    """The experts of a buffer as classifiers, in evaluation mode.

    `epoch` is the one that they are asked after where nothing else is said; by default their last one.
    """

    def __init__(self, buffer: ExpertSource, info: DataInfo, device: torch.device, epoch: int | None = None) -> None:
        self._buffer, self._device = buffer, device
        self.experts = buffer.experts
        self.epoch = buffer.epochs if epoch is None else epoch
        self._network = build_network(buffer.network, info.image_shape, len(info.classes), seed=0).to(device).eval()

    def logits(self, images: Tensor, expert: int, epoch: int | None = None) -> Tensor:
        """What an expert says of `images` after so many epochs, on their device; float32 [N, C]."""
        epoch = self.epoch if epoch is None else epoch
        (vector,) = self._buffer.snapshots(expert, epoch)
        state = self._buffer.layout.unflatten(vector) | self._buffer.statistics(expert, epoch)
        state = {name: value.to(self._device) for name, value in state.items()}
        with torch.no_grad():
            parts = [called(self._network, state, part.to(self._device)) for part in images.split(_AT_ONCE)]
        return torch.cat(parts).to(images.device)
