"""DosCond for graphs with a class each (Jin et al., KDD 2022): one-step gradient matching with learned structure.

A few graphs of features X and logits of edges Phi should move a network as real graphs of their class do. The gradient
of the loss is matched at the start of training only, in a fresh network for each update, so that no network is ever
trained; what it reads is a draw from the relaxed Bernoulli distribution of Phi (`condense.graphs.methods.bernoulli`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from condense.graphs.graphs import Graphs
from condense.graphs.methods.bernoulli import (
    density,
    first_logits,
    relaxed_adjacency,
    symmetric,
    symmetric_uniforms,
    temperature,
)
from condense.graphs.methods.budget import GraphBudget
from condense.graphs.methods.interface import GraphJob
from condense.graphs.methods.learning import GraphSynthesizer, LearningSettings
from condense.graphs.methods.padded import Padded, padded, unpadded
from condense.graphs.methods.prefixes import longest_fitting
from condense.graphs.networks import GraphNetwork, Pool, build_graph_network
from condense.graphs.real import GraphInfo, TrainingGraphs
from condense.graphs.sets import GraphSet
from condense.graphs.structure import DenseGraphs, Structure, Undirected
from condense.graphs.training import Inputs
from condense.matching import match_gradients_relative
from condense.runtime.errors import CondenseError
from condense.runtime.seeds import derive_seed, generator

_DROP = 0.1  # of both learning rates


class DosCondSettings(LearningSettings):
    """Settings of DosCond; the defaults are those of the released code for NCI1."""

    feature_lr: float = Field(0.01, gt=0, description="learning rate of features (Adam)")
    structure_lr: float = Field(1.0, gt=0, description="learning rate of the logits of edges (Adam)")
    drop_at: int = Field(400, ge=1, description="updates after which both rates are a tenth, with Adam begun anew")
    real_batch: int = Field(256, ge=1, description="real graphs of each class in an update")
    layers: int = Field(3, ge=1, le=16, description="layers of the GCN in which gradients are matched")
    width: int = Field(128, ge=1, description="of its layers")
    beta: float = Field(0.1, ge=0, description="weight of edges beyond the density of the start")
    nodes: int | None = Field(
        None, ge=2, description="largest number of nodes of a graph; none: the mean of the training graphs, rounded"
    )
    compat_padding: bool = Field(
        False, description="every graph has all its nodes, those of padding too, as in the released code"
    )


Gradient = dict[str, Tensor]
Read = tuple[Tensor, Structure, Pool]  # graphs as a network is given them: features of nodes, neighbours, readout


def loss_gradient(network: GraphNetwork, batch: Read, label: int, *, create_graph: bool = False) -> Gradient:
    """The gradient of the mean cross-entropy of a batch of one class with respect to every parameter, by its name."""
    logits = network(*batch)
    loss = F.cross_entropy(logits, torch.full((len(logits),), label, device=logits.device))
    names, parameters = zip(*network.named_parameters())
    return dict(zip(names, torch.autograd.grad(loss, parameters, create_graph=create_graph)))


def dense_batch(features: Tensor, adjacency: Tensor, there: Tensor) -> Read:
    """Graphs of features [G, n, F] and adjacency [G, n, n]; nodes that are not `there` [G, n] do not count."""
    count, nodes, _ = features.shape
    owner = torch.arange(count, device=features.device).repeat_interleave(nodes)
    return features.flatten(0, 1), DenseGraphs(adjacency), Pool(owner, count, there.flatten())


def excess_density(logits: Tensor, pairs: Tensor, first: float) -> Tensor:
    """relu(mean sigmoid(Phi) - s0): what the graphs have more of edges than at the start, [G, n, n] to one number."""
    return (density(logits.sigmoid(), pairs) - first).relu()


class DosCond(GraphSynthesizer[TrainingGraphs, DosCondSettings]):
    """Graphs whose gradients in fresh networks are those of real ones.

    Per update: L = sum_c |g_S^c - g_R^c|^2 / |g_R^c|^2 + beta relu(mean sigmoid(Phi) - s0), with the gradients of the
    cross-entropy of class c in a new GCN with mean readout. Graphs start as real ones of their class. An edge is stored
    where sigmoid(Phi) > 0.5.

    This is the released code, but for: nodes that pad a graph of the start do not exist (`compat_padding` has them);
    the default size is the mean of the training graphs and not of all; networks begin as all networks here do, not by
    Glorot's rule without biases; cross-entropy in place of one logit for OGB's sets, and one gradient for each class in
    place of a joint one for molbace; the rates fall after 400 updates and not 401. Directions of edges are not learned.

    A budget of bytes is filled as if graphs kept the number of edges that they start with; of more than that, those
    likeliest to be there are stored.
    """

    Settings = DosCondSettings

    def __init__(self, job: GraphJob[TrainingGraphs], settings: DosCondSettings) -> None:
        super().__init__(job, settings)
        self.counts = _counts(job, settings)
        first = _start(job.data, settings, job.seed, self.counts)
        self.there = first.there
        self.pairs = (self.there[:, :, None] & self.there[:, None, :]).to(job.device)  # (G, n, n)
        self.first_density = float(density(first.adjacency.to(job.device), self.pairs))
        self.learned = {
            "features": first.features.to(job.device).requires_grad_(),
            "edge_logits": first_logits(first.adjacency).to(job.device).requires_grad_(),
        }
        self.optimizers = {
            "feature_optimizer": torch.optim.Adam([self.learned["features"]], lr=settings.feature_lr),
            "structure_optimizer": torch.optim.Adam([self.learned["edge_logits"]], lr=settings.structure_lr),
        }
        self.whole: dict[int, Read] = {}  # of classes that fit into a batch
        self.inputs = Inputs.of(self.data, self.data.info)
        self.members = [self.data.class_indices(label) for label in range(len(self.counts))]

    @classmethod
    def check(cls, data: TrainingGraphs, budget: GraphBudget, settings: DosCondSettings) -> None:
        """Raise `CondenseError` where no size is given or too small a one, or a class has no graph to start from."""
        budget.check_given()
        if budget.bytes is None:
            budget.shares(data.class_counts(), learned=True)
        nodes = _nodes(data, settings)
        for label, name in enumerate(data.info.classes):
            sizes = data.graphs.node_counts[data.class_indices(label)]
            if not len(sizes):
                raise CondenseError(f"{data.info.name} has no training graph of class {name!r}; leave the class out")
            if int(sizes.min()) > nodes:
                raise CondenseError(
                    f"class {name!r} has no graph of at most {nodes} nodes to start from: its smallest has "
                    f"{int(sizes.min())}; give --nodes {int(sizes.min())} or more"
                )

    def step(self, iteration: int) -> dict[str, float]:
        """One update of features and logits, in a network of its own."""
        self._cool(iteration)
        distance = self.distance(iteration, self.network(iteration))
        excess = excess_density(self.learned["edge_logits"], self.pairs, self.first_density)
        loss = distance + self.settings.beta * excess
        for optimizer in self.optimizers.values():
            optimizer.zero_grad()
        loss.backward()
        for optimizer in self.optimizers.values():
            optimizer.step()
        return {"loss": float(loss.detach()), "excess_density": float(excess.detach())}

    def network(self, iteration: int) -> GraphNetwork:
        """The network of an update, at random."""
        info, seed = self.data.info, derive_seed(self.job.seed, "network", iteration)
        width, layers = self.settings.width, self.settings.layers
        network = build_graph_network("gcn", info.features, len(info.classes), layers=layers, width=width, seed=seed)
        return network.to(self.job.device)

    def distance(self, iteration: int, network: GraphNetwork) -> Tensor:
        """How far the gradients of the classes are from those of real graphs, summed over classes."""
        features, logits = self.learned["features"], self.learned["edge_logits"]
        draws = symmetric_uniforms(len(logits), logits.shape[1], generator(self.job.seed, "edges", iteration))
        adjacency = relaxed_adjacency(logits, draws.to(logits.device), temperature(iteration), self.pairs)
        distances = []
        parts = zip(*(value.split(self.counts) for value in (features, adjacency, self.there.to(features.device))))
        for label, part in enumerate(parts):
            real = loss_gradient(network, self.real_batch(iteration, label), label)
            made = loss_gradient(network, dense_batch(*part), label, create_graph=True)
            distances.append(match_gradients_relative(real, made))
        return torch.stack(distances).sum()

    def real_batch(self, iteration: int, label: int) -> Read:
        """Real graphs of a class, none of them twice; of a small class always all of them."""
        members, size = self.members[label], self.settings.real_batch
        if len(members) > size:
            order = torch.randperm(len(members), generator=generator(self.job.seed, "real graphs", iteration, label))
            return self._read(members[order[:size]])
        if label not in self.whole:
            self.whole[label] = self._read(members)
        return self.whole[label]

    def _read(self, indices: Tensor) -> Read:
        batch = self.inputs.batch(indices, self.job.device)
        edges = batch.structure
        return batch.x, edges if self.data.info.directed else Undirected(edges.edges, edges.nodes), batch.pool

    def _cool(self, iteration: int) -> None:
        """The learning rates of this update; where they fall, the optimisers forget what they kept."""
        dropped = iteration >= self.settings.drop_at
        rates = (self.settings.feature_lr, self.settings.structure_lr)
        for optimizer, rate in zip(self.optimizers.values(), rates):
            if iteration == self.settings.drop_at:
                optimizer.state.clear()
            for group in optimizer.param_groups:
                group["lr"] = _DROP * rate if dropped else rate

    def synthetic(self) -> GraphSet:
        """The set as it is now: the edges that are likelier there than not, and that the budget has room for."""
        logits = symmetric(self.learned["edge_logits"].detach().cpu())
        edges = (logits > 0) & self.pairs.cpu() & ~torch.eye(logits.shape[1], dtype=torch.bool)
        made, budget = self._set(edges), self.job.budget.bytes
        if budget is None or _stored_bytes(made, self.settings) <= budget:
            return made
        likeliest = _likeliest(logits, edges)

        def size(count: int) -> int:
            return _stored_bytes(self._set(likeliest(count)), self.settings)

        return self._set(likeliest(longest_fitting(size, int(edges.sum()) // 2, budget, 0)))

    def _set(self, edges: Tensor) -> GraphSet:
        features = self.learned["features"].detach().cpu()
        return _learned_set(unpadded(features, edges, self.there), self.counts, self.data.info)


def _nodes(data: TrainingGraphs, settings: DosCondSettings) -> int:
    """N: as many nodes as a graph may have."""
    return settings.nodes or max(2, round(data.graphs.nodes / len(data)))


def _counts(job: GraphJob[TrainingGraphs], settings: DosCondSettings) -> list[int]:
    """How many graphs of each class are learned."""
    if job.budget.bytes is not None:
        return _fitting_counts(job.data, settings, job.seed, job.budget.bytes)
    return job.budget.shares(job.data.class_counts(), learned=True)


def _start(data: TrainingGraphs, settings: DosCondSettings, seed: int, counts: list[int]) -> Padded:
    """The real graphs that learned ones start as: of each class those of at most N nodes, in a random order.

    Where more are asked for than there are, they come again. With `compat_padding` all N nodes of each are there.
    """
    nodes = _nodes(data, settings)
    chosen = []
    for label, count in enumerate(counts):
        members = data.class_indices(label)
        fitting = members[data.graphs.node_counts[members] <= nodes]
        order = fitting[torch.randperm(len(fitting), generator=generator(seed, "start", label))]
        chosen.append(order[torch.arange(count) % len(order)])
    features = Inputs.of(data, data.info).batch(torch.cat(chosen), torch.device("cpu")).x
    found = padded(data.graphs.at(torch.cat(chosen)), features, nodes)
    return replace(found, there=torch.ones_like(found.there)) if settings.compat_padding else found


def _fitting_counts(data: TrainingGraphs, settings: DosCondSettings, seed: int, bytes: int) -> list[int]:
    """As many graphs of each class, the same number of all, as have room with the edges of the start."""
    classes = len(data.info.classes)

    def size(per_class: int) -> int:
        counts = [per_class] * classes
        start = _start(data, settings, seed, counts)
        features = torch.full_like(start.features, 1 / 3)  # which only the full type holds, as those that are learned
        made = _learned_set(unpadded(features, start.adjacency > 0, start.there), counts, data.info)
        return _stored_bytes(made, settings)

    most = 1
    while size(most) <= bytes:
        most *= 2
    return [longest_fitting(size, most, bytes, 1)] * classes


def _learned_set(graphs: Graphs, counts: list[int], info: GraphInfo) -> GraphSet:
    """Graphs class by class; their nodes have features of their own, so that no table of labels is kept."""
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    return GraphSet(graphs=graphs, labels=labels, info=replace(info, alphabet=None))


def _stored_bytes(made: GraphSet, settings: DosCondSettings) -> int:
    return (made.rounded() if settings.half else made).bytes


def _likeliest(logits: Tensor, edges: Tensor) -> Callable[[int], Tensor]:
    """Of a symmetric `edges` bool [G, n, n], so many of the largest logits, in both directions."""
    owner, source, target = edges.triu().nonzero().T
    order = logits[owner, source, target].argsort(descending=True, stable=True)

    def first(count: int) -> Tensor:
        kept = torch.zeros_like(edges)
        kept[owner[order[:count]], source[order[:count]], target[order[:count]]] = True
        return kept | kept.transpose(1, 2)

    return first
