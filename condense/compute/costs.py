"""What work costs, counted: floating point operations, and bytes of activations."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from condense.networks import build_network
from condense.runtime.global_draws import global_generators
from condense.runtime.memory import available_memory

Kind = Literal["features", "feature gradient", "gradient", "mixed product", "image product", "training"]
# kind: what it costs in forwards of the network, and how many times a forward's activations it keeps
_COSTS: dict[Kind, tuple[int, int]] = {
    "features": (1, 1),
    "feature gradient": (2, 2),
    "gradient": (3, 2),
    "mixed product": (9, 6),
    "image product": (6, 5),
    "training": (3, 2),
}


@dataclass(frozen=True)
class Workload:
    """Something that a run does: `times` calls of the engine for a batch of so many images."""

    kind: Kind
    network: str
    image_shape: tuple[int, int, int]
    classes: int
    batch: int
    times: int = 1

    @property
    def images(self) -> int:
        """Images in all calls."""
        return self.batch * self.times

    @property
    def operations(self) -> float:
        """Floating point operations of all calls, about."""
        return self.images * _COSTS[self.kind][0] * forward_operations(self.network, self.image_shape, self.classes)


@functools.cache
def forward_operations(network: str, image_shape: tuple[int, int, int], classes: int) -> int:
    """Floating point operations of one image going through the network: two for each multiplication and addition.

    >>> round(forward_operations("convnet-w128", (3, 32, 32), 10) / 1e6, 1)
    101.5
    """
    with _tried(network, image_shape, classes) as (module, device), FlopCounterMode(display=False) as counter:
        module(torch.zeros(2, *image_shape, device=device))  # one image alone would be too few for BatchNorm
    return int(counter.get_total_flops()) // 2


@functools.cache
def activation_bytes(network: str, image_shape: tuple[int, int, int], classes: int) -> int:
    """Bytes of float32 that the backward pass of one image needs from its forward pass."""
    kept: list[int] = []
    with _tried(network, image_shape, classes) as (module, device):
        own = {id(value) for value in module.parameters()}

        def keep(value: torch.Tensor) -> torch.Tensor:
            kept.append(0 if id(value) in own else value.numel() * value.element_size())
            return value

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
            module(torch.zeros(2, *image_shape, device=device))
    return sum(kept) // 2


@contextmanager
def _tried(network: str, image_shape: tuple[int, int, int], classes: int) -> Iterator[tuple[nn.Module, str]]:
    """A network to be looked at, and its device: one where nothing is computed, but for networks that need values."""
    module = build_network(network, image_shape, classes, seed=0)
    if not module.foreign:
        yield module.to("meta"), "meta"
    else:
        with global_generators(0):
            yield module, "cpu"


def largest_micro_batch(works: Sequence[Workload], device: torch.device) -> int:
    """How many images fit at once into half of the memory that is free now, at least 1; an estimate."""
    needed = max(
        _COSTS[work.kind][1] * activation_bytes(work.network, work.image_shape, work.classes) for work in works
    )
    return int(max(1, available_memory(device) // 2 // needed))
