"""Draws that only global generators can give: layers such as dropout take no generator of one's own.

The global generators are seeded while such a network runs, and are afterwards as they were. Which seed that is follows
from what the network runs for (`network_draws`), as for every other draw: a batch of a training, an iteration of a
method. All calls for one such thing meet equal draws, so a derivative of a gradient is of the gradient that was taken.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar

import numpy as np
import torch
from torch import Tensor, nn

from condense.runtime.seeds import derive_seed

_seed: ContextVar[int] = ContextVar("seed of what networks draw", default=0)


@contextmanager
def network_draws(seed: int) -> Iterator[None]:
    """Within this, what a network draws depends on `seed`; on the same one for each call of a network."""
    before = _seed.set(seed)
    try:
        yield
    finally:
        _seed.reset(before)


def network_draws_of_step(step: int) -> AbstractContextManager[None]:
    """Draws for one of several steps of what networks run for now.

    >>> with network_draws_of_step(0):
    ...     first = _seed.get()
    >>> first == _seed.get()
    False
    """
    return network_draws(derive_seed(_seed.get(), "step", step))


def drawing(network: nn.Module, images: Tensor) -> AbstractContextManager[None]:
    """What a network that draws has to be called in, for images on this device; nothing for other networks."""
    return global_generators(_seed.get(), images.device) if getattr(network, "draws", False) else nullcontext()


@contextmanager
def global_generators(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Within this, the global generators of torch (on the processor and `device`), numpy and Python follow `seed`.

    >>> before = torch.random.get_rng_state()
    >>> with global_generators(7):
    ...     first = torch.rand(1)
    >>> with global_generators(7):
    ...     bool(first == torch.rand(1))
    True
    >>> torch.equal(torch.random.get_rng_state(), before)
    True
    """
    cuda = device if device is not None and device.type == "cuda" else None
    states = torch.random.get_rng_state(), np.random.get_state(), random.getstate()
    on_device = None if cuda is None else torch.cuda.get_rng_state(cuda)
    try:
        torch.default_generator.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        if cuda is not None:
            with torch.cuda.device(cuda):
                torch.cuda.manual_seed(seed)
        yield
    finally:
        torch.random.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])
        if cuda is not None and on_device is not None:
            torch.cuda.set_rng_state(on_device, cuda)


def global_states() -> tuple[bytes, bytes, int]:
    """The global generators of the processor, to be compared."""
    kind, keys, position, *rest = np.random.get_state()
    numpy = f"{kind} {position} {rest}".encode() + np.asarray(keys).tobytes()
    return torch.random.get_rng_state().numpy().tobytes(), numpy, hash(random.getstate())
