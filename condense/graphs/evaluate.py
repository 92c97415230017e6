"""`evaluate_graphs`: train fresh networks on a set as a protocol says, and measure them on real graphs or nodes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any, Literal

import torch
from torch import Tensor

from condense.evaluation.statistics import deviation
from condense.graphs.networks import GRAPH_NETWORKS, NODE_NETWORKS
from condense.graphs.protocols import PROTOCOLS, GraphProtocol
from condense.graphs.real import Metric, RealGraphs, RealNodeGraph, TrainingGraphs, TrainingNodes
from condense.graphs.sets import GraphSet, NodeGraphSet
from condense.graphs.structure import Edges, row_normalized
from condense.graphs.training import graph_logits, train_graphs, train_nodes, train_on_part
from condense.runtime.device import choose_device
from condense.runtime.errors import CondenseError, unknown_name
from condense.runtime.inputs import as_json
from condense.runtime.progress import progress_bar
from condense.runtime.provenance import versions
from condense.runtime.seeds import derive_seed

Given = GraphSet | TrainingGraphs | NodeGraphSet | TrainingNodes
Part = Literal["test", "validation"]


@dataclass(frozen=True, kw_only=True)
class GraphResult:
    """What one kind of network reached, all trained on one set under one protocol.

    Args:
        network: its name.
        layers: how many layers of messages it had.
        protocol: name of the protocol.
        protocol_hash: only results with equal hash, network, layers and metric may be compared.
        metric: what `values` are.
        values: one for each network trained, fractions, after the last epoch; network k depends on (`seed`, k) only.
        accuracies: the fraction that is right, whatever the metric.
        class_accuracies: by the name of each class that is there to be measured, the fraction of it that is right, mean
            over the networks.
        diverged: the k whose loss was not finite; they count in the mean.
        part: what was measured on; validation is for choosing settings only.
        seconds: for training and measuring all of them.
        graphs: graphs, or nodes with a class, that were trained on.
        bytes: what the set costs to keep; for real graphs what they would cost in the same form.
        dense_bytes: the same as papers count it.
        seed: from which networks and orders were drawn.
        versions: packages that can change a number.
    """

    network: str
    layers: int
    protocol: str
    protocol_hash: str
    metric: Metric
    values: tuple[float, ...]
    accuracies: tuple[float, ...]
    class_accuracies: dict[str, float]
    diverged: tuple[int, ...]
    part: Part
    seconds: float
    graphs: int
    bytes: int
    dense_bytes: int
    seed: int
    versions: dict[str, str] = field(default_factory=versions)

    @property
    def mean(self) -> float:
        """Mean of the metric; nothing is left out of it."""
        return fmean(self.values)

    @property
    def std(self) -> float | None:
        """Sample standard deviation (n - 1); None for a single network."""
        return deviation(self.values)

    def as_dict(self) -> dict[str, Any]:
        """Everything, JSON-able, `mean` and `std` first."""
        return {"mean": self.mean, "std": self.std, **as_json("results", asdict(self))}

    def __str__(self) -> str:
        error = "" if self.std is None else f" ± {100 * self.std:.1f}"
        count = len(self.values)
        networks = f"{count} network{'s' if count > 1 else ''} of {self.layers} layers"
        what = "" if self.metric == "accuracy" else f" {self.metric}"
        return (
            f"{self.network}: {100 * self.mean:.1f}{error} %{what} ({networks}, {self.bytes:,} bytes, protocol "
            f"{self.protocol} {self.protocol_hash}, {self.seconds:.0f} s)"
        )


@dataclass(frozen=True)
class GraphEvaluation:
    """One result for each kind of network, in the order asked for; `notes` are sentences that the user should read."""

    results: tuple[GraphResult, ...]
    notes: tuple[str, ...] = ()

    def as_dict(self) -> list[dict[str, Any]]:
        """All results as dictionaries."""
        return [result.as_dict() for result in self.results]


def evaluate_graphs(
    given: Given,
    data: RealGraphs | RealNodeGraph,
    nets: Sequence[str] | None = None,
    runs: int | None = None,
    protocol: str | GraphProtocol | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: bool = False,
    part: Part = "test",
) -> GraphEvaluation:
    """Train networks on `given` from scratch and measure each once, after its last epoch.

    Args:
        given: a set; or the real training part of `data`, all of it or a subset.
        data: the real graphs or the real node graph that the set was made from.
        nets: names of networks, by default those of the protocol.
        runs: networks trained of each kind, by default the protocol's number.
        protocol: a name or a `GraphProtocol`, by default `graph-desk` or `node-desk`.
        seed: network k depends on (seed, k) only, so results on different sets are paired network by network.
        device: `auto`, `cpu` or `cuda:N`.
        progress: show bars on standard error.
        part: where to measure; `validation` is for choosing settings.

    Raises:
        CondenseError: unknown names; a set and data that do not match; networks that do not fit forests. A diverged
            network is no error: it is listed in the result.
    """
    of_nodes = isinstance(data, RealNodeGraph)
    chosen = protocol or ("node-desk" if of_nodes else "graph-desk")
    found = PROTOCOLS.find(chosen) if isinstance(chosen, str) else chosen
    names = tuple(nets or found.nets)
    count = found.runs if runs is None else runs
    if count < 1:
        raise CondenseError(f"--runs {count}: give at least one run")
    allowed = NODE_NETWORKS if of_nodes else GRAPH_NETWORKS
    for name in names:
        if name not in allowed:
            raise unknown_name("node network" if of_nodes else "graph network", name, allowed)
    notes = _check(given, data, found, names)
    if not len(data.validation.labels if part == "validation" else data.test.labels):
        raise CondenseError(f"{data.name} has no {part} part; give a split that has one")
    task = _Task(given, data, found, seed, choose_device(device), part)
    results: list[GraphResult] = []
    with progress_bar("evaluating graphs", len(names) * count, enabled=progress, unit="networks") as bar:
        for name in names:
            started, measured = time.perf_counter(), []
            for index in range(count):
                measured.append(task.measure(name, index))
                bar.update(len(results) * count + index + 1, {data.info.metric: measured[-1].value})
            results.append(task.result(name, measured, time.perf_counter() - started))
    return GraphEvaluation(tuple(results), notes)


def _check(
    given: Given, data: RealGraphs | RealNodeGraph, protocol: GraphProtocol, names: Sequence[str]
) -> tuple[str, ...]:
    """Make sure that a set fits data, protocol and networks; returns notes for the user."""
    of_nodes = isinstance(data, RealNodeGraph)
    if of_nodes != isinstance(given, NodeGraphSet | TrainingNodes) or of_nodes != (protocol.of == "nodes"):
        raise CondenseError(
            f"{data.name} has {'one graph' if of_nodes else 'many graphs'}: give a set of that kind, and protocol "
            f"{'node-desk' if of_nodes else 'graph-desk'}, not {protocol.name}"
        )
    if isinstance(given, TrainingGraphs | TrainingNodes):
        whole = given.part_of if isinstance(given, TrainingGraphs) else given.info.fingerprint
        if whole != data.fingerprint:
            raise CondenseError(f"the training part is of another data set or split than {data.name}; give both of one")
        return ()
    notes = [given.check_matches(data.info)]
    if isinstance(given, GraphSet) and given.roots is not None and given.degrees is None:
        notes += [
            f"{name} weighs neighbours by degrees, which this forest does not keep: its trees say only about what the "
            "graphs would; make the set with degree=label for the same numbers"
            for name in names
            if name in ("gcn", "sgc")
        ]
    return tuple(note for note in notes if note is not None)


@dataclass(frozen=True, eq=False)
class _Measured:
    """Of one network: the metric, what of the held-out part it has right [n], and whether its loss stayed finite."""

    value: float
    right: Tensor
    finite: bool


@dataclass(frozen=True, eq=False)
class _Task:
    """What all networks of one evaluation share."""

    given: Given
    data: RealGraphs | RealNodeGraph
    protocol: GraphProtocol
    seed: int
    device: torch.device
    part: Part

    @property
    def layers(self) -> int:
        return (self.given.hops if isinstance(self.given, GraphSet) else None) or self.protocol.layers

    def measure(self, name: str, index: int) -> _Measured:
        """Network `index` of this name, trained and measured."""
        seed = derive_seed(self.seed, "evaluation of graphs", index)
        if isinstance(self.data, RealGraphs):
            assert isinstance(self.given, GraphSet | TrainingGraphs)
            network, finite = train_graphs(
                name, self.given, self.data.info, self.protocol, seed=seed, device=self.device
            )
            held_out = self.data.test if self.part == "test" else self.data.validation
            logits = graph_logits(network, held_out, self.data.info, self.device)
        else:
            logits, finite = self._nodes(name, seed, self.data)
        value = measured(logits, self.labels, self.data.info.metric)
        return _Measured(value, found_classes(logits) == self.labels, finite)

    @property
    def labels(self) -> Tensor:
        """Classes of what is held out, [n]."""
        return (self.data.test if self.part == "test" else self.data.validation).labels

    def _nodes(self, name: str, seed: int, data: RealNodeGraph) -> tuple[Tensor, bool]:
        """Logits of held-out nodes, which are read in the whole graph."""
        assert isinstance(self.given, NodeGraphSet | TrainingNodes)
        if isinstance(self.given, NodeGraphSet):
            network, finite = train_nodes(name, self.given, self.protocol, seed=seed, device=self.device)
        else:
            network, finite = train_on_part(name, self.given, self.protocol, seed=seed, device=self.device)
        x = row_normalized(data.features) if data.info.normalize_rows else data.features
        held_out = data.test if self.part == "test" else data.validation
        with torch.no_grad():
            logits = network(x.to(self.device), Edges(data.edges.to(self.device), len(x))).cpu()
        return logits[held_out.indices], finite

    def result(self, name: str, networks: Sequence[_Measured], seconds: float) -> GraphResult:
        """What networks of one name reached."""
        stored = as_set(self.given)
        return GraphResult(
            network=name,
            layers=self.layers,
            protocol=self.protocol.name,
            protocol_hash=self.protocol.hash,
            metric=self.data.info.metric,
            values=tuple(one.value for one in networks),
            accuracies=tuple(one.right.double().mean().item() for one in networks),
            class_accuracies=self._class_accuracies(networks),
            diverged=tuple(index for index, one in enumerate(networks) if not one.finite),
            part=self.part,
            seconds=seconds,
            graphs=len(self.given.indices) if isinstance(self.given, TrainingNodes) else len(self.given),
            bytes=stored.bytes,
            dense_bytes=stored.dense_bytes,
            seed=self.seed,
        )

    def _class_accuracies(self, networks: Sequence[_Measured]) -> dict[str, float]:
        right = torch.stack([one.right for one in networks]).double().mean(0)  # (n)
        members = {name: self.labels == label for label, name in enumerate(self.data.info.classes)}
        return {name: right[these].mean().item() for name, these in members.items() if these.any()}


def as_set(given: Given) -> GraphSet | NodeGraphSet:
    """Real graphs as a set would keep them, to count their bytes by the same rules; sets as they are."""
    if isinstance(given, TrainingGraphs):
        return GraphSet(graphs=given.graphs, labels=given.labels, info=given.info)
    if isinstance(given, TrainingNodes):
        labels = torch.zeros(len(given.features), dtype=torch.int64)
        labels[given.indices] = given.labels
        return NodeGraphSet(features=given.features, labels=labels, info=given.info, edges=given.edges)
    return given


def found_classes(logits: Tensor) -> Tensor:
    """The class of the largest of logits [n, K], int64 [n]; -1 where one is not finite."""
    return torch.where(logits.isfinite().all(1), logits.argmax(1), -1)


def measured(logits: Tensor, labels: Tensor, metric: Metric) -> float:
    """The metric of logits [n, K] against classes [n], a fraction; what is not finite is wrong.

    ROC-AUC is that of the second of two classes, one half where only one class is there.

    >>> measured(torch.tensor([[0.0, 1.0], [0.0, 2.0], [0.0, 3.0]]), torch.tensor([0, 1, 1]), "roc-auc")
    1.0
    """
    found = found_classes(logits)
    if metric == "accuracy":
        return (found == labels).double().mean().item()
    from sklearn.metrics import f1_score, roc_auc_score  # takes a second to import

    if metric == "macro-f1":
        return float(f1_score(labels.numpy(), found.numpy(), labels=labels.unique().numpy(), average="macro"))
    if len(labels.unique()) < 2 or (found < 0).any():
        return 0.5
    return float(roc_auc_score(labels.numpy(), (logits[:, 1] - logits[:, 0]).double().numpy()))
