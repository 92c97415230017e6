"""Several networks by one word: the pools of the released code of DC and DM (Zhao, Mopuri & Bilen, 2021 and 2023).

This module imports neither torch nor any network.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from condense.runtime.registry import Registry


@dataclass(frozen=True)
class Pool:
    """Networks whose results are wanted side by side; what their names leave open the protocol fills in."""

    name: str
    summary: str
    nets: tuple[str, ...]
    aliases: tuple[str, ...] = ()


def _convnets(*words: str) -> tuple[str, ...]:
    return tuple(f"convnet-{word}" for word in words)


POOLS: Registry[Pool] = Registry(
    "pool of networks",
    (
        Pool("pool-m", "several families", ("mlp", "convnet", "lenet", "alexnet", "vgg11", "resnet18")),
        Pool(
            "pool-b",
            "several families with BatchNorm",
            ("convnet-bn", "convnet-bn-swish", "alexnet-bn", "vgg11-bn", "resnet18-bn"),
        ),
        Pool("pool-w", "ConvNets of several widths", _convnets("w32", "w64", "w128", "w256")),
        Pool("pool-d", "ConvNets of several depths", _convnets("d1", "d2", "d3", "d4")),
        Pool("pool-a", "ConvNets with several activations", _convnets("sigmoid", "relu", "leaky", "swish")),
        Pool("pool-p", "ConvNets with several poolings", _convnets("nopool", "maxpool", "avgpool")),
        Pool("pool-n", "ConvNets with several norms", _convnets("nonorm", "bn", "ln", "in", "gn")),
    ),
)


def network_names(words: Iterable[str]) -> list[str]:
    """The networks that `words` name, in this order: a pool's word stands for its networks, another for itself.

    Raises `CondenseError` for an unknown pool.

    >>> network_names(["resnet10", "pool-w"])
    ['resnet10', 'convnet-w32', 'convnet-w64', 'convnet-w128', 'convnet-w256']
    """
    names: list[str] = []
    for word in words:
        names += POOLS.find(word).nets if word.lower().startswith("pool-") else [word]
    return names
