"""What a teacher is to whoever asks it: a classifier of pixels in [0, 1], with its normalisation as first layer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from condense.networks import Network
from condense.networks.layers import batch_norms
from condense.runtime.errors import CondenseError
from condense.runtime.global_draws import drawing


class Normalize(nn.Module):
    """(pixels - mean) / std for each channel."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])  # (C, 1, 1)
        self.register_buffer("std", torch.tensor(std)[:, None, None])

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels [N, C, H, W] of [0, 1] to what the network was trained on."""
        return (pixels - self.mean) / self.std


class PixelClassifier(nn.Module):
    """`normalize`, then `network`, frozen and in evaluation mode: logits [N, K] of pixels [N, C, H, W] in [0, 1]."""

    def __init__(self, normalize: Normalize, network: Network) -> None:
        super().__init__()
        self.normalize, self.network = normalize, network
        self.draws = network.draws
        self.requires_grad_(False)
        self.eval()

    def embed(self, pixels: Tensor) -> Tensor:
        """The features [N, D], as the network's classifier sees them."""
        return self.network.embed(self._normalized(pixels))

    def forward(self, pixels: Tensor) -> Tensor:
        """The logits."""
        logits: Tensor = self.network(self._normalized(pixels))
        return logits

    def _normalized(self, pixels: Tensor) -> Tensor:
        normalized: Tensor = self.normalize(pixels)
        return normalized.to(next(self.network.parameters()).dtype)


def linear_head(network: Network, name: str) -> nn.Linear:
    """The last layer, on features; raises `CondenseError` for a network whose features are its outputs."""
    if not isinstance(network.classifier, nn.Linear):
        raise CondenseError(
            f"{name} has no linear layer at its end, whose features are wanted; give a teacher with one"
        )
    return network.classifier


@contextmanager
def batch_statistics(classifier: nn.Module) -> Iterator[None]:
    """Within this, BatchNorm takes the mean and variance of the batch that it sees; its own do not move.

    Nothing else goes into training mode: dropout stays off.
    """
    norms = [norm for norm in batch_norms(classifier) if isinstance(norm, nn.modules.batchnorm._BatchNorm)]
    before = [(norm.training, norm.track_running_stats) for norm in norms]
    try:
        for norm in norms:
            norm.training, norm.track_running_stats = True, False
        yield
    finally:
        for norm, (training, tracked) in zip(norms, before):
            norm.training, norm.track_running_stats = training, tracked


def logits_of(classifier: nn.Module, pixels: Tensor, *, batch_norm: str = "running") -> Tensor:
    """The logits [N, K] of pixels [N, C, H, W] in [0, 1], without gradient.

    `batch_norm` says whose statistics BatchNorm takes: `running`, those of the training, or `batch`, those of exactly
    these images; then a label depends on the images beside it.
    """
    statistics = batch_statistics(classifier) if batch_norm == "batch" else nullcontext()
    with torch.no_grad(), drawing(classifier, pixels), statistics:
        return classifier(pixels)  # type: ignore[no-any-return]


@dataclass(frozen=True, eq=False)
class Voters:
    """The classifiers of a committee on a device, with their weights."""

    classifiers: tuple[PixelClassifier, ...]
    weights: tuple[float, ...]

    def votes(self, pixels: Tensor) -> Tensor:
        """As `logits` by running statistics, differentiable in the pixels."""
        votes = [weight * classifier(pixels) for classifier, weight in zip(self.classifiers, self.weights)]
        return torch.stack(votes).sum(0)

    def logits(self, pixels: Tensor, *, batch_norm: str = "running") -> Tensor:
        """The weighted mean of their logits, [N, K], of pixels [N, C, H, W] in [0, 1], without gradient.

        Logits, not probabilities, are averaged, as in the released code of CV-DD and INFER; see `logits_of`.
        """
        votes = [
            weight * logits_of(classifier, pixels, batch_norm=batch_norm)
            for classifier, weight in zip(self.classifiers, self.weights)
        ]
        return torch.stack(votes).sum(0)
