"""Building a network from its name and a seed, without touching torch's global random state."""

from __future__ import annotations

import copy
import functools
import math

import torch
from torch import nn

from condense.networks.base import ImagesTooSmallError, Network, describe_shape
from condense.networks.names import canonical_name, parse_name
from condense.networks.registry import networks
from condense.runtime.errors import CondenseError
from condense.runtime.registry import load_object
from condense.runtime.seeds import generator


def build_network(name: str, image_shape: tuple[int, int, int], classes: int, seed: int) -> Network:
    """The network called `name` for images (C, H, W), on the processor, initialised from `seed`.

    What `name` leaves open is filled in by `canonical_name`; the result's `.name` is the full name. The same arguments
    give the same parameters on every machine and for every number of threads.

    Raises `CondenseError` for unknown or malformed names, and for images too small for the network.

    >>> network = build_network("convnet-w32", (1, 8, 8), classes=10, seed=0)
    >>> network.name, network.embed(torch.zeros(2, 1, 8, 8)).shape
    ('convnet-d2-w32-in', torch.Size([2, 128]))
    """
    full_name = canonical_name(name, image_shape)
    try:
        network = copy.deepcopy(_skeleton(full_name, image_shape, classes))
    except ImagesTooSmallError as error:
        fitting = ", ".join(_fitting_names(image_shape))
        shape = describe_shape(image_shape)
        raise CondenseError(f"network {full_name} needs larger images than {shape}; these fit: {fitting}") from error
    network.to_empty(device="cpu")
    initialize(network, generator(seed, "network"))
    return network


@functools.lru_cache(maxsize=64)  # several times the cost of the rest, and methods build a network in every iteration
def _skeleton(full_name: str, image_shape: tuple[int, int, int], classes: int) -> Network:
    """The network without values: its parameters are on the meta device, where initialisation draws nothing."""
    entry, words = parse_name(full_name)
    options = {option.name: option.value(words[option.name]) for option in entry.options if option.name in words}
    with torch.device("meta"):
        network: Network = load_object(entry.target)(image_shape, classes, **options)
    network.name = full_name
    return network


def _fitting_names(image_shape: tuple[int, int, int]) -> list[str]:
    """The full names of the families that take such images, with BatchNorm where the usual norm does not."""
    fitting = []
    for entry in networks():
        suffixes = ["", "-bn"] if any(option.accepts("bn") for option in entry.options) else [""]
        names = [canonical_name(entry.name + suffix, image_shape) for suffix in suffixes]
        fitting += [name for name in names if _fits(name, image_shape)][:1]
    return fitting


def _fits(full_name: str, image_shape: tuple[int, int, int]) -> bool:
    try:
        _skeleton(full_name, image_shape, classes=1)
    except ImagesTooSmallError:
        return False
    return True


def initialize(network: nn.Module, source: torch.Generator) -> None:
    """Give every parameter and buffer PyTorch's default initial value, drawn from `source`.

    Convolutions and linear layers have weights U(-b, b) with b = 1 / sqrt(fan_in), written as PyTorch writes it
    (Kaiming's rule with a = sqrt(5)), and biases likewise; norms have weight 1, bias 0 and blank running statistics.
    Drawn in the order of `network.modules()`, the values equal those of a network constructed under this random state.
    A module of another kind, or with other values, draws them itself, in a method `initialize(source)`.

    Raises `TypeError` for a module that cannot: leaving it out would leave its memory unset.
    """
    for module in network.modules():
        if callable(own := getattr(module, "initialize", None)):
            own(source)
        elif isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5), generator=source)
            if module.bias is not None:
                bound = 1 / math.sqrt(module.weight[0].numel())
                nn.init.uniform_(module.bias, -bound, bound, generator=source)
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.GroupNorm | nn.LayerNorm):
            module.reset_parameters()
        elif [*module.parameters(recurse=False), *module.buffers(recurse=False)]:
            kind = type(module).__name__
            raise TypeError(f"no seeded initialisation is known for {kind}; give it a method `initialize(source)`")
