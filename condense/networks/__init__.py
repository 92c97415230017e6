"""Networks: one registry of plain data, names that say everything, and seeded construction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from condense.networks.names import canonical_name
from condense.networks.pools import network_names
from condense.networks.registry import NetworkEntry, networks

if TYPE_CHECKING:
    from condense.networks.base import Network
    from condense.networks.build import build_network

__all__ = ["Network", "NetworkEntry", "build_network", "canonical_name", "network_names", "networks"]


def __getattr__(name: str) -> Any:
    """Import what needs torch only when it is asked for, so that lists of networks stay fast."""
    if name == "build_network":
        from condense.networks.build import build_network

        return build_network
    if name == "Network":
        from condense.networks.base import Network

        return Network
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
