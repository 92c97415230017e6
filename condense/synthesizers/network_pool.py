"""Networks in training that a method draws from: some are fresh, some have learned for a while."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from condense.synthesizers.inner_network import InnerNetwork
from condense.training.state import under


class NetworkPool:
    """`members` in their order, at first so many; `begun` counts all that ever came.

    `begin` makes the network of a number, untrained: each that comes has one of its own.
    """

    def __init__(self, begin: Callable[[int], InnerNetwork], size: int) -> None:
        self._begin, self.begun = begin, size
        self.members = [begin(number) for number in range(size)]

    def add(self) -> None:
        """A new network at the end."""
        self.members.append(self._next())

    def renew(self, place: int) -> None:
        """A new network, and optimiser, in the place of another."""
        self.members[place] = self._next()

    def _next(self) -> InnerNetwork:
        self.begun += 1
        return self._begin(self.begun - 1)

    def state(self) -> dict[str, Tensor]:
        """All of it, by names that begin with `pool.`."""
        members = {
            f"pool.{place}.{name}": value
            for place, inner in enumerate(self.members)
            for name, value in inner.state().items()
        }
        return members | {"pool.counts": torch.tensor([len(self.members), self.begun])}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state` gave; other names are passed over."""
        size, self.begun = state["pool.counts"].tolist()
        self.members = [self._begin(0) for _ in range(size)]
        for place, inner in enumerate(self.members):
            inner.load_state(under(f"pool.{place}.", state))
