"""A network that a method trains while it matches, with an optimiser that goes on from one training to the next."""

from __future__ import annotations

import torch
from torch import Tensor

from condense.compute.derivatives import Parameters
from condense.compute.engine import Engine
from condense.networks import Network
from condense.training.loop import make_optimizer, train_network
from condense.training.rule import TrainingRule
from condense.training.sources import TrainingSource
from condense.training.state import float_values, load_training_state, training_state


class InnerNetwork:
    """`network`, trained by `rule` in pieces."""

    def __init__(self, network: Network, rule: TrainingRule) -> None:
        self.network, self.rule = network, rule
        self.optimizer = make_optimizer(network, rule)

    @property
    def parameters(self) -> Parameters:
        """As the engine takes them."""
        return {name: value.detach() for name, value in self.network.named_parameters()}

    @property
    def values(self) -> Parameters:
        """Parameters, and the statistics of BatchNorm with them: what reads features in evaluation mode."""
        return float_values(self.network)

    def train(self, source: TrainingSource, engine: Engine, *, seed: int, device: torch.device) -> None:
        """Go on with the training, on all images of `source` as often as the rule says.

        `engine` runs networks of this structure in training mode.
        """
        train_network(
            self.network, source, self.rule, seed=seed, device=device, engine=engine, optimizer=self.optimizer
        )

    def state(self) -> dict[str, Tensor]:
        """Everything that training changes; see `training_state`."""
        return training_state(self.network, self.optimizer)

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` gave; other names are passed over."""
        load_training_state(self.network, self.optimizer, state)
