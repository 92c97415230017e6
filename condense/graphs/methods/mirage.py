"""Mirage (Gupta et al., ICLR 2024): frequent sets of computation trees stand for a class; no gradients, no training."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor

from condense.graphs.graphs import Graphs, from_counts
from condense.graphs.methods.codes import Codes, neighbours, refine
from condense.graphs.methods.itemsets import frequent
from condense.graphs.methods.prefixes import longest_fitting, taking_turns
from condense.graphs.real import TrainingGraphs
from condense.graphs.sets import GraphSet
from condense.runtime.errors import CondenseError
from condense.runtime.progress import say

MOST_HOPS = 4
MOST_NODES = 2_000_000  # of all trees of a set
_MOST_COUNTED = 3  # of nodes of one code in a graph, where they are counted at all
Item = tuple[int, int]  # a code, and how often


@dataclass(frozen=True, eq=False)
class Pattern:
    """A frequent set of trees: items, the class they are frequent in, and how many graphs of it hold them."""

    items: tuple[Item, ...]
    label: int
    support: int


def mirage(
    train: TrainingGraphs,
    *,
    hops: int = 2,
    support: float | int = 0.1,
    largest: int = 3,
    closed: bool = True,
    multiset: bool = False,
    distinct: bool = False,
    edge_labels: bool = False,
    degree: Literal["none", "label"] = "none",
    tree_nodes: int = 2000,
    bytes: int | None = None,
) -> GraphSet:
    """A forest for each frequent set of trees of each class.

    Args:
        train: real graphs whose nodes have labels.
        hops: depth of the trees, and layers of the networks that are trained on them.
        support: how many graphs of a class must hold a set of trees: a fraction below 1, or a count.
        largest: trees in a set.
        closed: leave out sets that a larger one is as frequent as.
        multiset: distinguish how often a tree occurs in a graph, up to three times.
        distinct: leave out sets that are frequent in several classes.
        edge_labels: distinguish trees by labels of edges, which the networks here do not read.
        degree: `label` makes a node's degree part of its label and keeps it, so that GCN sees the same numbers as in
            the graphs; there are more trees then.
        tree_nodes: the largest tree that takes part.
        bytes: the most frequent sets that fit into so many bytes, of each class in turn; None for all.

    The weight of a forest is its support among the supports of its class, times the share of the class.

    Raises:
        CondenseError: nodes have features instead of labels; too many hops; no tree of a class is frequent; too many
            sets of trees or nodes, with a support that fits; fewer bytes than one forest of each class takes.
    """
    _check(train, hops, support, largest)
    graphs = train.graphs
    codes = refine(graphs, hops, degrees=degree == "label", edge_labels=edge_labels)
    _say_large(codes, tree_nodes)
    held = _transactions(graphs, codes, tree_nodes, multiset)
    found: list[list[Pattern]] = []
    for label, name in enumerate(train.info.classes):
        members = [held[graph] for graph in train.class_indices(label).tolist()]
        least = _least(support, len(members))
        mined = frequent([*map(set, members)], least, largest=largest, closed=closed, what=f"class {name}")
        if not mined:
            raise _nothing_frequent(members, name, least, hops)
        found.append([Pattern(items, label, count) for items, count in mined])
    if distinct:
        found = _of_one_class(found, train)
    _check_nodes(found, codes)
    maker = _Maker(train, codes, held, hops, degree == "label", edge_labels)
    settings = {
        "hops": hops,
        "support": support,
        "largest": largest,
        "closed": closed,
        "multiset": multiset,
        "distinct": distinct,
        "edge_labels": edge_labels,
        "degree": degree,
        "tree_nodes": tree_nodes,
        "bytes": bytes,
    }
    ordered = taking_turns(found)
    if bytes is not None:
        count = longest_fitting(lambda count: maker.forest(ordered[:count], {}).bytes, len(ordered), bytes, len(found))
        ordered = ordered[:count]
    return maker.forest(ordered, {"configuration": {"method": "mirage", "settings": settings}})


def _check(train: TrainingGraphs, hops: int, support: float | int, largest: int) -> None:
    if train.graphs.node_labels is None:
        raise CondenseError(
            f"nodes of {train.info.name} have features, and trees are equal by labels; give graphs with node labels or "
            "another method"
        )
    if not 1 <= hops <= MOST_HOPS:
        raise CondenseError(f"--hops {hops}: trees grow by the degree with each hop; give 1 to {MOST_HOPS}")
    if not 1 <= largest <= 4:
        raise CondenseError(f"--largest {largest}: give 1 to 4 trees in a set")
    if not (0 < support < 1 or (isinstance(support, int) and support >= 1)):
        raise CondenseError(f"--support {support}: give a fraction below 1, or a whole number of graphs")


def _least(support: float | int, graphs: int) -> int:
    """How many of so many graphs must hold a set."""
    return int(support) if support >= 1 else max(1, math.ceil(support * graphs))


def _say_large(codes: Codes, tree_nodes: int) -> None:
    large = sum(size > tree_nodes for size in codes.sizes)
    if large:
        say(f"note: {large:,} of {len(codes.sizes):,} trees have more than {tree_nodes:,} nodes and take no part")


def _transactions(graphs: Graphs, codes: Codes, tree_nodes: int, multiset: bool) -> list[dict[Item, int]]:
    """For each graph the items that it holds, and how many of its nodes have the code of each."""
    bounds, of_node = graphs.node_ptr.tolist(), codes.of_node.tolist()
    held = []
    for start, stop in pairwise(bounds):
        counts = Counter(code for code in of_node[start:stop] if codes.sizes[code] <= tree_nodes)
        held.append({(code, min(many, _MOST_COUNTED) if multiset else 1): many for code, many in counts.items()})
    return held


def _nothing_frequent(members: Sequence[dict[Item, int]], name: str, least: int, hops: int) -> CondenseError:
    counts = Counter(item for items in members for item in items)
    most = max(counts.values(), default=0)
    return CondenseError(
        f"no tree of {hops} hops is in {least} of the {len(members)} graphs of class {name!r}: the most frequent one "
        f"is in {most}; give fewer hops, a smaller support, or coarser labels (degrees=log2 where these are degrees)"
    )


def _of_one_class(found: list[list[Pattern]], train: TrainingGraphs) -> list[list[Pattern]]:
    times = Counter(pattern.items for patterns in found for pattern in patterns)
    kept = [[pattern for pattern in patterns if times[pattern.items] == 1] for patterns in found]
    empty = [name for name, patterns in zip(train.info.classes, kept) if not patterns]
    if empty:
        raise CondenseError(
            f"every frequent set of class {empty[0]!r} is frequent in another class, too; give a smaller support, or "
            "leave --distinct out"
        )
    return kept


def _check_nodes(found: Sequence[Sequence[Pattern]], codes: Codes) -> None:
    """Before anything of that size is made."""
    patterns = sorted((pattern for each in found for pattern in each), key=lambda pattern: -pattern.support)
    nodes = 0
    for pattern in patterns:
        nodes += sum(times * codes.sizes[code] for code, times in pattern.items)
        if nodes > MOST_NODES:
            raise CondenseError(
                f"the trees of all frequent sets have more than {MOST_NODES:,} nodes; give a support of "
                f"{pattern.support + 1} or more, or fewer hops"
            )


@dataclass(frozen=True, eq=False)
class _Tree:
    """One tree, parents before children: nodes of the real graphs, parents by place (-1: none), edges to them."""

    nodes: list[int]
    parents: list[int]
    edges: list[int]


class _Maker:
    """Makes forests of patterns; each tree is walked once."""

    def __init__(
        self,
        train: TrainingGraphs,
        codes: Codes,
        held: Sequence[dict[Item, int]],
        hops: int,
        degrees: bool,
        edge_labels: bool,
    ) -> None:
        self.train, self.held, self.hops = train, held, hops
        self.degrees, self.edge_labels = degrees, edge_labels
        self.heard = neighbours(train.graphs)
        self.example: dict[int, int] = {}  # a node of each code
        for node, code in enumerate(codes.of_node.tolist()):
            self.example.setdefault(code, node)
        self.trees: dict[int, _Tree] = {}

    def tree(self, code: int) -> _Tree:
        """The tree of a code: its example's neighbours, theirs, and so on; a node may come again."""
        if code not in self.trees:
            nodes, parents, edges = [self.example[code]], [-1], [-1]
            start = 0
            for _ in range(self.hops):
                stop = len(nodes)
                for place in range(start, stop):
                    for other, edge in self.heard[nodes[place]]:
                        nodes.append(other)
                        parents.append(place)
                        edges.append(edge)
                start = stop
            self.trees[code] = _Tree(nodes, parents, edges)
        return self.trees[code]

    def forest(self, patterns: Sequence[Pattern], provenance: dict[str, Any]) -> GraphSet:
        """A set with a graph for each pattern."""
        nodes: list[int] = []
        parents: list[int] = []
        edges: list[int] = []
        sizes: list[int] = []
        for pattern in patterns:
            size = 0
            for code in (code for code, times in pattern.items for _ in range(times)):
                tree = self.tree(code)
                nodes += tree.nodes
                parents += [parent if parent < 0 else parent + size for parent in tree.parents]
                edges += tree.edges
                size += len(tree.nodes)
            sizes.append(size)
        return self._set(patterns, torch.tensor(nodes), torch.tensor(parents), torch.tensor(edges), sizes, provenance)

    def _set(
        self,
        patterns: Sequence[Pattern],
        nodes: Tensor,
        parents: Tensor,
        edges: Tensor,
        sizes: Sequence[int],
        provenance: dict[str, Any],
    ) -> GraphSet:
        real, pointers = self.train.graphs, from_counts(torch.tensor(sizes))
        owner = torch.arange(len(sizes)).repeat_interleave(pointers.diff())
        local, roots = torch.arange(len(nodes)) - pointers[owner], parents < 0
        assert real.node_labels is not None, "checked before"
        labelled = self.edge_labels and real.edge_labels is not None
        graphs = Graphs(
            pointers,
            from_counts(torch.bincount(owner[~roots], minlength=len(sizes))),
            torch.stack([local, parents])[:, ~roots],
            real.node_labels[nodes],
            edge_labels=real.edge_labels[edges[~roots]] if labelled and real.edge_labels is not None else None,
        )
        return GraphSet(
            graphs=graphs,
            labels=torch.tensor([pattern.label for pattern in patterns]),
            info=self.train.info,
            weights=self._weights(patterns),
            roots=roots,
            root_counts=torch.tensor([count for pattern in patterns for count in self._root_counts(pattern)]),
            degrees=real.degrees[nodes] if self.degrees else None,
            hops=self.hops,
            provenance=provenance,
        )

    def _weights(self, patterns: Sequence[Pattern]) -> Tensor:
        """Supports, with the classes as they are shared among the real graphs."""
        labels = torch.tensor([pattern.label for pattern in patterns])
        supports = torch.tensor([float(pattern.support) for pattern in patterns])
        counts = torch.tensor(self.train.class_counts())
        totals = torch.zeros(len(counts)).index_add_(0, labels, supports)
        return supports / totals[labels] * (counts / counts.sum())[labels]

    def _root_counts(self, pattern: Pattern) -> list[int]:
        """For each root the mean number of nodes of its code, among the graphs of the class that hold the pattern."""
        wanted = set(pattern.items)
        members = self.train.class_indices(pattern.label).tolist()
        holding = [self.held[graph] for graph in members if wanted <= self.held[graph].keys()]
        means = [sum(held[item] for held in holding) / (len(holding) * item[1]) for item in pattern.items]
        return [max(1, round(mean)) for mean, (_, times) in zip(means, pattern.items) for _ in range(times)]
