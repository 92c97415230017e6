"""Networks: one registry of plain data, names that say everything, and seeded construction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from condense.networks.names import canonical_name
from condense.networks.pools import network_names
from condense.networks.registry import NetworkEntry, networks
from condense.runtime.registry import imported_when_asked_for

if TYPE_CHECKING:
    from condense.networks.base import Network
    from condense.networks.build import build_network
    from condense.networks.own import NetworkFactory, NetworkLike, network_name

_LATE = {"build_network": "build", "Network": "base"} | dict.fromkeys(
    ("NetworkFactory", "NetworkLike", "network_name"), "own"
)
__all__ = [
    "Network",
    "NetworkEntry",
    "NetworkFactory",
    "NetworkLike",
    "build_network",
    "canonical_name",
    "network_name",
    "network_names",
    "networks",
]

__getattr__ = imported_when_asked_for(__name__, _LATE)
