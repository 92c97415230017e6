"""The methods for graphs and for nodes of one graph, as lines of the registry; see `condense.methods.registry`."""

from __future__ import annotations

from condense.methods.method import Method

_SEEN = "a network (trained first)"
GRAPH_METHODS = (
    Method(
        name="mirage",
        modality="graphs",
        target="condense.graphs.methods.mirage:Mirage",
        summary="frequent sets of computation trees of each class: no gradients, no training, any network of messages",
        paper="Gupta et al., Mirage: Model-Agnostic Graph Distillation for Graph Classification, ICLR 2024",
        needs="nodes with labels",
        protocol="graph-desk",
    ),
    Method(
        name="doscond",
        modality="graphs",
        target="condense.graphs.methods.doscond:DosCond",
        summary="match loss gradients of untrained networks: features and edges are learned, no network is trained",
        paper="Jin et al., Condensing Graphs via One-Step Gradient Matching, KDD 2022",
        protocol="graph-desk",
    ),
    Method(
        name="random",
        modality="graphs",
        target="condense.graphs.methods.graph_selection:RandomGraphs",
        summary="real graphs at random",
        paper="baseline",
        protocol="graph-desk",
    ),
    Method(
        name="herding",
        modality="graphs",
        target="condense.graphs.methods.graph_selection:HerdedGraphs",
        summary="real graphs whose mean features follow those of their class",
        paper="Welling, Herding Dynamical Weights to Learn, ICML 2009",
        needs=_SEEN,
        protocol="graph-desk",
    ),
    Method(
        name="k-center",
        modality="graphs",
        target="condense.graphs.methods.graph_selection:SpreadGraphs",
        summary="real graphs, always the one farthest from those chosen before",
        paper="Sener & Savarese, Active Learning for Convolutional Neural Networks: A Core-Set Approach, ICLR 2018",
        needs=_SEEN,
        protocol="graph-desk",
    ),
    Method(
        name="random",
        modality="nodes",
        target="condense.graphs.methods.node_selection:RandomNodes",
        summary="real nodes at random, with the edges among them or with what they hear of the whole graph",
        paper="baseline",
        protocol="node-desk",
    ),
    Method(
        name="herding",
        modality="nodes",
        target="condense.graphs.methods.node_selection:HerdedNodes",
        summary="real nodes whose mean features follow those of their class",
        paper="Welling, Herding Dynamical Weights to Learn, ICML 2009",
        needs=_SEEN,
        protocol="node-desk",
    ),
    Method(
        name="k-center",
        modality="nodes",
        target="condense.graphs.methods.node_selection:SpreadNodes",
        summary="real nodes, always the one farthest from those chosen before",
        paper="Sener & Savarese, Active Learning for Convolutional Neural Networks: A Core-Set Approach, ICLR 2018",
        needs=_SEEN,
        protocol="node-desk",
    ),
    Method(
        name="cluster",
        modality="nodes",
        target="condense.graphs.methods.cluster:Cluster",
        summary="centroids of what nodes of a class hear of the whole graph, without edges: the baseline to beat",
        paper="Gong et al., GC4NC / GraphSlim (ClusterAgg), 2024",
        nested=False,
        protocol="node-desk",
    ),
    Method(
        name="coarsening",
        modality="nodes",
        target="condense.graphs.methods.coarsening:Coarsening",
        summary="neighbourhoods contracted to super-nodes, with the edges between them, so that slow modes stay",
        paper="Loukas, Graph Reduction with Spectral and Cut Guarantees, JMLR 2019",
        nested=False,
        protocol="node-desk",
    ),
)
