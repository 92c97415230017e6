"""A network that a method trains while it matches, with an optimiser that goes on from one training to the next."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from condense.derivatives import Parameters
from condense.engine import Engine
from condense.networks import Network
from condense.training import TrainingRule, TrainingSource, make_optimizer, train_network


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


def training_state(network: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """All that training by SGD with momentum changes, by names that begin with `network.` and `momentum.`."""
    momentum = {
        f"momentum.{name}": optimizer.state[value]["momentum_buffer"]
        for name, value in network.named_parameters()
        if optimizer.state.get(value, {}).get("momentum_buffer") is not None
    }
    return {f"network.{name}": value for name, value in network.state_dict().items()} | momentum


def load_training_state(network: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Tensor]) -> None:
    """Take back what `training_state` gave; other names are passed over."""
    network.load_state_dict(under("network.", state))
    momentum = under("momentum.", state)
    for name, value in network.named_parameters():
        if name in momentum:
            optimizer.state[value]["momentum_buffer"] = momentum[name].to(value.device)


def float_values(network: Network) -> Parameters:
    """Parameters and statistics of a network, detached."""
    return {name: value for name, value in network.state_dict().items() if value.is_floating_point()}


def under(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, by the rest of their names.

    >>> list(under("network.", {"network.bias": torch.zeros(1), "images": torch.zeros(1)}))
    ['bias']
    """
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
