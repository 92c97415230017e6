"""The state of a network in training, as tensors by name."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from condense.compute.derivatives import Parameters
from condense.networks import Network


def training_state(network: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """All that training changes, by names that begin with `network.` and `training.`."""
    values = {f"network.{name}": value for name, value in network.state_dict().items()}
    return values | optimizer_state(optimizer, "training")


def load_training_state(network: nn.Module, optimizer: torch.optim.Optimizer, state: Mapping[str, Tensor]) -> None:
    """Take back what `training_state` gave; other names are passed over."""
    network.load_state_dict(under("network.", state))
    load_optimizer_state(optimizer, state, "training")


def optimizer_state(optimizer: torch.optim.Optimizer, name: str = "optimizer") -> dict[str, Tensor]:
    """What an optimiser keeps of each value that it moves, by names that begin with its own and the value's number."""
    return {
        f"{name}.{index}.{key}": value
        for index, entries in optimizer.state_dict()["state"].items()
        for key, value in entries.items()
        if isinstance(value, Tensor)
    }


def load_optimizer_state(
    optimizer: torch.optim.Optimizer, state: Mapping[str, Tensor], name: str = "optimizer"
) -> None:
    """Take back what `optimizer_state` gave; other names are passed over."""
    buffers: dict[int, dict[str, Tensor]] = {}
    for key, value in under(f"{name}.", state).items():
        index, kept = key.split(".")
        buffers.setdefault(int(index), {})[kept] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": buffers, "param_groups": groups})


def float_values(network: Network) -> Parameters:
    """Parameters and statistics of a network, detached."""
    return {name: value for name, value in network.state_dict().items() if value.is_floating_point()}


def under(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, by the rest of their names.

    >>> list(under("network.", {"network.bias": torch.zeros(1), "images": torch.zeros(1)}))
    ['bias']
    """
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
