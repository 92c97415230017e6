"""A small graph of communities whose nodes have classes."""

from __future__ import annotations

import pytest
import torch

from condense.graphs.real import GraphInfo, HeldOutNodes, RealNodeGraph, TrainingNodes

NODES, CLASSES, FEATURES = 60, 3, 12


def planted(seed: int = 0) -> RealNodeGraph:
    """Sixty nodes that mostly hear their own class and count words that are mostly those of it."""
    draws = torch.Generator().manual_seed(seed)
    labels = torch.arange(NODES) % CLASSES
    same = labels[:, None] == labels
    upper = (torch.rand(NODES, NODES, generator=draws) < torch.where(same, 0.2, 0.02)).triu(1)
    edges = (upper | upper.T).nonzero().T
    words = torch.where(torch.arange(FEATURES) % CLASSES == labels[:, None], 0.5, 0.15)
    features = (torch.rand(NODES, FEATURES, generator=draws) < words).float()
    features[:, 0] = 1
    info = GraphInfo("planted", tuple("abc"), FEATURES, "0" * 32, normalize_rows=True)
    order = torch.randperm(NODES, generator=draws)
    parts = [order[start : start + 20].sort().values for start in (0, 20, 40)]
    train, validation, test = ((indices, labels[indices]) for indices in parts)
    known = TrainingNodes(features, edges, *train, torch.arange(NODES), info)
    return RealNodeGraph(info, features, edges, known, HeldOutNodes(*validation), HeldOutNodes(*test))


@pytest.fixture(scope="session")
def communities() -> RealNodeGraph:
    return planted()
