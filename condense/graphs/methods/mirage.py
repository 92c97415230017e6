"""Mirage (Gupta et al., ICLR 2024): frequent sets of computation trees stand for a class; no gradients, no training."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor

from condense.graphs.graphs import Graphs, from_counts
from condense.graphs.methods.budget import GraphBudget
from condense.graphs.methods.codes import Codes, neighbours, refine
from condense.graphs.methods.interface import GraphJob, GraphProduct
from condense.graphs.methods.itemsets import frequent
from condense.graphs.methods.prefixes import longest_fitting, taking_turns
from condense.graphs.methods.validating import validated_by
from condense.graphs.real import TrainingGraphs
from condense.graphs.sets import GraphSet
from condense.methods.interface import Configured, MethodSettings
from condense.runtime.errors import CondenseError
from condense.runtime.progress import say

MOST_HOPS = 4
MOST_NODES = 2_000_000  # of all trees of a set
SUPPORTS = (0.5, 0.4, 0.3, 0.2, 0.15, 0.1, 0.07, 0.05)
_MOST_COUNTED = 3  # of nodes of one code in a graph, where they are counted at all
Item = tuple[int, int]  # a code, and how often


@dataclass(frozen=True, eq=False)
class Pattern:
    """A frequent set of trees: items, the class they are frequent in, and how many graphs of it hold them."""

    items: tuple[Item, ...]
    label: int
    support: int


class MirageSettings(MethodSettings):
    """The settings of `Mirage`."""

    hops: int = Field(2, ge=1, le=MOST_HOPS, description="depth of the trees, and layers of networks trained on them")
    support: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="how many graphs of a class must hold a set of trees: a fraction below 1, or a count; none: of "
        f"{', '.join(f'{each:g}' for each in SUPPORTS)} the one that is best on validation graphs, or the largest "
        "whose sets fill --bytes",
    )
    largest: int = Field(3, ge=1, le=4, description="trees in a set")
    closed: bool = Field(True, description="leave out sets that a larger one is as frequent as")
    multiset: bool = Field(False, description="distinguish how often a tree occurs in a graph, up to three times")
    distinct: bool = Field(False, description="leave out sets that are frequent in several classes")
    edge_labels: bool = Field(
        False, description="distinguish trees by labels of edges, which the networks here do not read"
    )
    degree: Literal["none", "label"] = Field(
        "none",
        description="label: a node's degree is part of its label and is kept, so that gcn sees the same numbers as in "
        "the graphs; there are more trees then",
    )
    tree_nodes: int = Field(2000, ge=1, description="the largest tree that takes part")
    net: str = Field("gin", description="network that is trained on sets, to choose the support on validation graphs")

    @field_validator("support")
    @classmethod
    def _fraction_or_count(cls, support: float | None) -> float | None:
        if support is not None and support >= 1 and support != int(support):
            raise ValueError("must be a fraction below 1, or a whole number of graphs")
        return support


class Mirage(Configured[MirageSettings]):
    """A forest for each frequent set of trees of each class.

    The weight of a forest is its support among the supports of its class, times the share of the class. `--bytes N`
    keeps the most frequent sets that fit, of each class in turn.

    Raises:
        CondenseError: nodes have features instead of labels; no tree of a class is frequent; too many sets of trees or
            nodes, with a support that fits; fewer bytes than one forest of each class takes.
    """

    @classmethod
    def check(cls, data: TrainingGraphs, budget: GraphBudget, settings: MirageSettings) -> None:
        """Nodes must have labels, and only bytes are a size."""
        if data.graphs.node_labels is None:
            raise CondenseError(
                f"nodes of {data.info.name} have features, and trees are equal by labels; give graphs with node labels "
                "or another method"
            )
        if budget.given and budget.bytes is None:
            raise CondenseError(
                f"mirage finds how many sets of trees are frequent: give --bytes N, or --support, instead of {budget}"
            )

    @classmethod
    def make(cls, job: GraphJob[TrainingGraphs], settings: MirageSettings) -> GraphProduct:
        """Mine, and make the forests."""
        mined = Mined(job.data, settings)
        if settings.support is not None:
            return GraphProduct(mined.forests(settings.support, job.budget.bytes), settings)
        if job.budget.bytes is not None:
            support = mined.support_for(job.budget.bytes)
            return GraphProduct(
                mined.forests(support, job.budget.bytes), settings.model_copy(update={"support": support})
            )
        candidates = dict(mined.possible())
        support, seen = validated_by(settings.net, candidates, job)
        return GraphProduct(
            candidates[support], settings.model_copy(update={"support": support}), facts={"validation": seen}
        )


class Mined:
    """What is counted once, whatever the support: codes of nodes, and which of them each graph holds."""

    def __init__(self, train: TrainingGraphs, settings: MirageSettings) -> None:
        self.train, self.settings = train, settings
        degrees = settings.degree == "label"
        self.codes = refine(train.graphs, settings.hops, degrees=degrees, edge_labels=settings.edge_labels)
        _say_large(self.codes, settings.tree_nodes)
        self.held = _transactions(train.graphs, self.codes, settings.tree_nodes, settings.multiset)
        self.maker = _Maker(train, self.codes, self.held, settings.hops, degrees, settings.edge_labels)

    def forests(self, support: float, bytes: int | None = None) -> GraphSet:
        """The set for this support; of so many bytes at most."""
        ordered = taking_turns(self.frequent(support))
        if bytes is not None:
            classes = len(self.train.info.classes)
            fitting = longest_fitting(
                lambda count: self.maker.forest(ordered[:count]).bytes, len(ordered), bytes, classes
            )
            ordered = ordered[:fitting]
        return self.maker.forest(ordered)

    def possible(self) -> Iterator[tuple[float, GraphSet]]:
        """The supports that give a set, largest first, and the sets; raises where none does."""
        refused: CondenseError | None = None
        any_there = False
        for support in SUPPORTS:
            try:
                yield support, self.forests(support)
                any_there = True
            except CondenseError as error:  # nothing is that frequent, or too much is
                refused = error
                if any_there:
                    return  # smaller supports give more still
        if not any_there and refused is not None:
            raise refused

    def support_for(self, bytes: int) -> float:
        """The largest support whose forests take so many bytes; where none does, the smallest that gives a set."""
        smaller = SUPPORTS[0]
        for support, made in self.possible():
            if made.bytes >= bytes:
                return support
            smaller = support
        return smaller

    def frequent(self, support: float) -> list[list[Pattern]]:
        """The frequent sets of each class, most frequent first."""
        settings, train = self.settings, self.train
        found: list[list[Pattern]] = []
        for label, name in enumerate(train.info.classes):
            members = [self.held[graph] for graph in train.class_indices(label).tolist()]
            least = _least(support, len(members))
            mined = frequent(
                [*map(set, members)], least, largest=settings.largest, closed=settings.closed, what=f"class {name}"
            )
            if not mined:
                raise _nothing_frequent(members, name, least, settings.hops)
            found.append([Pattern(items, label, count) for items, count in mined])
        if settings.distinct:
            found = _of_one_class(found, train)
        _check_nodes(found, self.codes)
        return found


def _least(support: float, graphs: int) -> int:
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

    def forest(self, patterns: Sequence[Pattern]) -> GraphSet:
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
        return self._set(patterns, torch.tensor(nodes), torch.tensor(parents), torch.tensor(edges), sizes)

    def _set(
        self,
        patterns: Sequence[Pattern],
        nodes: Tensor,
        parents: Tensor,
        edges: Tensor,
        sizes: Sequence[int],
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
