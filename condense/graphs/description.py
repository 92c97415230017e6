"""A set of graphs in words: the rows that `condense show` prints."""

from __future__ import annotations

import json
from typing import Any

from condense.graphs.sets import GraphSet, NodeGraphSet


def describe_graphs(made: GraphSet | NodeGraphSet) -> dict[str, str]:
    """What the set is and how it was made; texts by row name, in reading order."""
    info = made.info
    rows = {
        "real data": f"{info.name} (fingerprint {info.fingerprint[:12]})",
        "classes": f"{len(info.classes)}: {', '.join(info.classes[:12])}{', ...' if len(info.classes) > 12 else ''}",
        "measured by": info.metric,
    }
    rows |= _many(made) if isinstance(made, GraphSet) else _one(made)
    rows["labels"] = "classes" if made.labels.ndim == 1 else "distributions over the classes"
    if made.weights is not None:
        rows["weights"] = "how much each counts in training"
    rows["bytes"] = f"{made.bytes:,} ({made.dense_bytes:,} as papers count them)"
    for name, value in made.provenance.items():
        rows |= _rows(name, value)
    return rows


def _many(made: GraphSet) -> dict[str, str]:
    counts, graphs = ", ".join(f"{count:,}" for count in made.class_counts), made.graphs
    kind = "graphs" if made.hops is None else f"forests of trees of {made.hops} hops"
    rows = {
        "graphs": f"{len(made):,} {kind} ({counts} of each class)",
        "nodes": f"{graphs.nodes:,}, {'with labels' if graphs.node_labels is not None else 'with features'}",
        "edges": f"{graphs.edges.shape[1]:,} directed",
        "readout": made.readout if made.roots is None else f"{made.readout} of the {int(made.roots.sum()):,} roots",
    }
    if made.degrees is not None:
        rows["degrees"] = "those that nodes had in their real graphs"
    if made.source_indices is not None:
        rows["source indices"] = "which training graph each one is"
    return rows


def _one(made: NodeGraphSet) -> dict[str, str]:
    weighted = "" if made.edge_weights is None else ", with weights"
    rows = {
        "nodes": f"{len(made):,} with {made.info.features:,} features",
        "edges": "none: each node hears itself alone"
        if made.edges is None
        else f"{made.edges.shape[1] // 2:,} in both directions{weighted}",
    }
    if made.normalize_rows:
        rows["features"] = "are divided by the sum of their row before networks read them"
    if made.indices is not None:
        rows["indices"] = "which real node each one is"
    return rows


def _rows(name: str, value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        return {name: value if isinstance(value, str) else json.dumps(value)}
    return {f"{name} {key}": text for key, each in value.items() for key, text in _rows(key, each).items()}
