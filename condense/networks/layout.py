"""The flat form of a network: which parameter, and which statistic of BatchNorm, lies where in a vector."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Layout:
    """Names and shapes of the tensors of a network in the order of a flat vector."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    @classmethod
    def of_parameters(cls, network: nn.Module) -> Layout:
        """In the order of `network.parameters()`.

        >>> Layout.of_parameters(nn.Linear(2, 3)).size
        9
        """
        return cls._of(dict(network.named_parameters()))

    @classmethod
    def of_statistics(cls, network: nn.Module) -> Layout:
        """The running means and variances of BatchNorm; empty for other networks."""
        return cls._of({name: value for name, value in network.named_buffers() if value.is_floating_point()})

    @classmethod
    def _of(cls, tensors: dict[str, Tensor]) -> Layout:
        return cls(tuple(tensors), tuple(tuple(value.shape) for value in tensors.values()))

    @property
    def size(self) -> int:
        """Numbers in the vector."""
        return sum(math.prod(shape) for shape in self.shapes)

    def flatten(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """A new vector [size] that shares no memory with the tensors, of their type."""
        if not self.names:
            return torch.zeros(0)
        return torch.cat([tensors[name].reshape(-1) for name in self.names])

    def unflatten(self, vector: Tensor) -> dict[str, Tensor]:
        """Views into the vector, by name."""
        pieces = vector.split([math.prod(shape) for shape in self.shapes])
        return {name: piece.view(shape) for name, shape, piece in zip(self.names, self.shapes, pieces)}
