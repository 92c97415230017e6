"""Networks: one registry of plain data, names that say everything, and seeded construction."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from condense.networks.names import canonical_name
from condense.networks.pools import network_names
from condense.networks.registry import NetworkEntry, networks

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


def __getattr__(name: str) -> Any:
    """Import what needs torch only when it is asked for, so that lists of networks stay fast."""
    if name in _LATE:
        return getattr(import_module(f"condense.networks.{_LATE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
