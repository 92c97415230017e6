"""Condensed sets for graph and node classification: own data, sets, networks and protocols beside those of images.

The names are imported when they are used, so that `condense.graphs.protocols` can be read without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from condense.runtime.registry import imported_when_asked_for

if TYPE_CHECKING:
    from condense.graphs.data import load_graphs
    from condense.graphs.distill import distill_graphs
    from condense.graphs.evaluate import evaluate_graphs
    from condense.graphs.real import RealGraphs, RealNodeGraph
    from condense.graphs.sets import GraphSet, NodeGraphSet

__all__ = [
    "GraphSet",
    "NodeGraphSet",
    "RealGraphs",
    "RealNodeGraph",
    "distill_graphs",
    "evaluate_graphs",
    "load_graphs",
]

_HOMES = {
    "GraphSet": "sets",
    "NodeGraphSet": "sets",
    "RealGraphs": "real",
    "RealNodeGraph": "real",
    "evaluate_graphs": "evaluate",
    "load_graphs": "data",
    "distill_graphs": "distill",
}

__getattr__ = imported_when_asked_for(__name__, _HOMES)
