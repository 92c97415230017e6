"""Pictures of condensed graphs: a few of each class, trees from their roots down; one graph with its classes."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from condense.graphs.sets import GraphSet, NodeGraphSet
from condense.runtime.errors import CondenseError
from condense.runtime.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TILE, LARGE_TILE = 96, 384  # sides in pixels of graphs in a sprite: of one of many, and of one alone
_DPI = 96  # of sprites
_COLUMNS, _ROWS = 6, 4  # graphs of a class, and classes, that are drawn at most
_MOST_NODES = 1500  # of one picture
_EDGES_PER_NODE = 3  # of weighted ones, the strongest
_SEED = 0  # of layouts
_COLOURS: dict[str, Any] = {"cmap": "tab20", "vmin": 0, "vmax": 19}


def draw_graphs(made: GraphSet | NodeGraphSet, path: Path) -> None:
    """Write a PNG: of many graphs the first ones of each class, by weight; of one graph all nodes, coloured by class.

    Raises `CondenseError` where networkx is missing, which places the nodes.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = _many(made, Figure) if isinstance(made, GraphSet) else _one(made, Figure)
    FigureCanvasAgg(figure)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def graph_sprite(made: GraphSet | NodeGraphSet, classes: int, per_class: int) -> Image.Image:
    """Square tiles without gaps: the first graphs of each class, by weight, a row each; one graph has one large tile.

    Short rows end in grey. Raises `CondenseError` where networkx is missing.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = _heaviest(made, classes, per_class) if isinstance(made, GraphSet) else [[0]]
    side = TILE if isinstance(made, GraphSet) else LARGE_TILE
    columns = max(map(len, rows))
    inches = side / _DPI
    figure = Figure(figsize=(inches * columns, inches * len(rows)), dpi=_DPI, facecolor="#808080")
    for row, members in enumerate(rows):
        for column, member in enumerate(members):
            place = (column / columns, 1 - (row + 1) / len(rows), 1 / columns, 1 / len(rows))
            axes = figure.add_axes(place, facecolor="white", xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            if isinstance(made, GraphSet):
                _draw_graph(axes, made, member)
            else:
                _draw_nodes(axes, made)
    FigureCanvasAgg(figure)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=_DPI)
    return Image.open(drawn).convert("RGB")


def _heaviest(made: GraphSet, classes: int, per_class: int) -> list[list[int]]:
    """The first graphs of each of the first classes, those of large weight first."""
    weights = torch.ones(len(made)) if made.weights is None else made.weights
    rows = []
    for label in range(min(classes, len(made.info.classes))):
        of_class = (made.classes == label).nonzero().flatten()
        rows.append(of_class[weights[of_class].argsort(descending=True, stable=True)][:per_class].tolist())
    return rows


def _many(made: GraphSet, new_figure: Any) -> Any:
    weights = torch.ones(len(made)) if made.weights is None else made.weights
    rows = _heaviest(made, _ROWS, _COLUMNS)
    columns = max(map(len, rows))
    figure = new_figure(figsize=(2.2 * columns, 2.4 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for label, members in enumerate(rows):
        for place, axes in enumerate(grid[label]):
            axes.set_axis_off()
            if place < len(members):
                share = "" if made.weights is None else f", {float(weights[members[place]] / weights.sum()):.1%}"
                axes.set_title(f"{made.info.classes[label]}{share}", fontsize=8)
                _draw_graph(axes, made, members[place])
    return figure


def _draw_graph(axes: Axes, made: GraphSet, index: int) -> None:
    graphs = made.graphs
    first, last = graphs.node_ptr[index : index + 2].tolist()
    edges = graphs.edges[:, graphs.edge_ptr[index] : graphs.edge_ptr[index + 1]]
    if last - first > _MOST_NODES:
        axes.text(0.5, 0.5, f"{last - first:,} nodes", ha="center", transform=axes.transAxes, fontsize=8)
        return
    kinds = _kinds(graphs.node_labels, graphs.features)[first:last].numpy()
    roots = None if made.roots is None else made.roots[first:last].numpy()
    places = _spring(last - first, edges) if roots is None else tree_places(edges[1].tolist(), roots)
    _draw(axes, places, edges, kinds, marked=roots)


def _kinds(node_labels: Tensor | None, features: Tensor | None) -> Tensor:
    """What nodes are coloured by: their label, or the largest of their features."""
    if node_labels is not None:
        return node_labels
    assert features is not None, "nodes have labels or features"
    return features.argmax(1)


def tree_places(parents: list[int], roots: np.ndarray) -> np.ndarray:
    """Where the nodes of a forest stand, float [n, 2]: children below their parents, leaves beside each other.

    `parents` has the place of its parent for each node that is no root, in order; parents come before children.

    >>> tree_places([0, 0], np.array([True, False, False])).tolist()
    [[0.5, 0.0], [0.0, -1.0], [1.0, -1.0]]
    """
    of_node = iter(parents)
    parent = [-1 if root else next(of_node) for root in roots.tolist()]
    children: list[list[int]] = [[] for _ in parent]
    places = np.zeros((len(parent), 2))
    for node, above in enumerate(parent):
        if above >= 0:
            children[above].append(node)
            places[node, 1] = places[above, 1] - 1
    pending, leaves = [node for node in range(len(parent) - 1, -1, -1) if roots[node]], 0
    order = []
    while pending:  # depth first, so that leaves are met from left to right
        node = pending.pop()
        order.append(node)
        pending += reversed(children[node])
        if not children[node]:
            places[node, 0] = leaves
            leaves += 1
    for node in reversed(order):
        if children[node]:
            places[node, 0] = places[children[node], 0].mean()
    return places


def _spring(nodes: int, edges: Tensor) -> np.ndarray:
    """Where the nodes of a graph stand, float [n, 2]."""
    try:
        import networkx
    except ImportError as error:
        raise CondenseError("this needs networkx; install it with: pip install 'condense-data[graphs]'") from error
    graph = networkx.Graph()
    graph.add_nodes_from(range(nodes))
    graph.add_edges_from(edges.T.tolist())
    placed = networkx.spring_layout(graph, seed=_SEED) if nodes > 100 else networkx.kamada_kawai_layout(graph)
    return np.array([placed[node] for node in range(nodes)])


def _draw(
    axes: Axes, places: np.ndarray, edges: Tensor, kinds: np.ndarray, marked: np.ndarray | None, alpha: Any = 0.7
) -> None:
    """Lines between nodes, and nodes coloured by kind; those that are marked have a dark rim."""
    from matplotlib.collections import LineCollection

    ends = places[edges.T.numpy()]  # (E, 2, 2)
    axes.add_collection(LineCollection(list(ends), colors="0.5", linewidths=0.8, alpha=alpha, zorder=1))
    dots: Any = axes.scatter  # whose types do not take lists of colours
    rims = "white" if marked is None else np.where(marked, "black", "white")
    size = float(np.clip(2000 / max(1, len(places)), 8, 60))
    dots(places[:, 0], places[:, 1], c=kinds % 20, s=size, edgecolors=rims, linewidths=1, zorder=2, **_COLOURS)
    axes.margins(0.12)


def _one(made: NodeGraphSet, new_figure: Any) -> Any:
    from matplotlib import colormaps

    figure = new_figure(figsize=(6, 5), layout="constrained")
    axes = figure.subplots()
    axes.set_axis_off()
    if not _draw_nodes(axes, made):
        return figure
    shown, every = len(_strongest(made)[0][0]), 0 if made.edges is None else made.edges.shape[1] // 2
    by_edges = f"placed by the {shown:,} strongest of {every:,} edges" if shown < every else "placed by their edges"
    what = "placed by the two largest directions of their features" if made.edges is None else by_edges
    axes.set_title(f"{len(made)} nodes that stand for {made.info.name}, {what}", fontsize=9)
    for label, name in enumerate(made.info.classes[:20]):
        axes.scatter([], [], color=colormaps["tab20"](label), label=name)
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return figure


def _draw_nodes(axes: Axes, made: NodeGraphSet) -> bool:
    """All nodes, coloured by class; whether there were not too many."""
    labels = (made.labels if made.labels.ndim == 1 else made.labels.argmax(1)).numpy()
    if len(made) > _MOST_NODES:
        axes.text(0.5, 0.5, f"{len(made):,} nodes", ha="center", transform=axes.transAxes)
        return False
    edges, weights = _strongest(made)
    places = _by_features(made.features) if made.edges is None else _spring(len(made), edges)
    alpha = 0.5 if weights is None else (0.7 * weights / weights.max()).numpy()
    _draw(axes, places, edges, labels, marked=None, alpha=alpha)
    return True


def _strongest(made: NodeGraphSet) -> tuple[Tensor, Tensor | None]:
    """Edges int64 [2, E], each once, and weights [E] if they have some: no more of these than can be told apart."""
    if made.edges is None:
        return torch.zeros(2, 0, dtype=torch.int64), None
    once = made.edges[0] < made.edges[1]
    edges = made.edges[:, once]
    if made.edge_weights is None:
        return edges, None
    strongest = made.edge_weights[once].topk(min(edges.shape[1], _EDGES_PER_NODE * len(made)))
    return edges[:, strongest.indices], strongest.values


def _by_features(features: Tensor) -> np.ndarray:
    """The two largest principal components, float [n, 2]."""
    centred = (features - features.mean(0)).double().numpy()
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    return np.pad(left[:, :2] * sizes[:2], ((0, 0), (0, max(0, 2 - len(sizes)))))
