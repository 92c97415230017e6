"""The published algorithms written down plainly: eager float32, one class after the other, second derivatives by
differentiating twice.

What `python -m benchmarks.measure.speed` times the engine against, and the oracle of the engine's tests. Nothing here
is clever on purpose; trajectories have their plain form in `condense.unroll` (`mode="unrolled"`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from condense.augmentation.dsa import Augmentation, Draws, augment
from condense.networks import Network

Classes = Sequence[Tensor]  # the images of each class, [n, C, H, W]


def dm_step(
    network: Network, real: Classes, synthetic: Classes, strategy: Augmentation, draws: Draws
) -> tuple[float, list[Tensor]]:
    """Distribution matching: the loss, and its gradient with respect to the synthetic images of each class."""
    total = 0.0
    gradients: list[Tensor] = []
    for label, (theirs, ours) in enumerate(zip(real, synthetic)):
        ours = ours.detach().requires_grad_()
        shared = draws.expand(torch.tensor([label]))
        with torch.no_grad():
            target = network.embed(augment(strategy, theirs, shared)).mean(0)
        loss = (network.embed(augment(strategy, ours, shared)).mean(0) - target).square().sum()
        gradients += torch.autograd.grad(loss, [ours])
        total += loss.item()
    return total, gradients


def gradient_matching_step(
    network: Network, real: Classes, synthetic: Classes, strategy: Augmentation, draws: Draws
) -> tuple[float, list[Tensor]]:
    """Gradient matching: the loss, and its gradient with respect to the synthetic images of each class."""
    total = 0.0
    gradients: list[Tensor] = []
    for label, (theirs, ours) in enumerate(zip(real, synthetic)):
        ours = ours.detach().requires_grad_()
        shared = draws.expand(torch.tensor([label]))
        target = parameter_gradient(network, augment(strategy, theirs, shared), label, keep_graph=False)
        found = parameter_gradient(network, augment(strategy, ours, shared), label, keep_graph=True)
        loss = gradient_distance(target, found)
        loss.backward()  # as published: fills the gradients of the parameters too, which nobody uses
        network.zero_grad()
        gradients.append(ours.grad if ours.grad is not None else torch.zeros_like(ours))
        total += loss.item()
    return total, gradients


def parameter_gradient(network: Network, images: Tensor, label: int, *, keep_graph: bool) -> list[Tensor]:
    """The gradient of the mean cross-entropy of images that are all of one class."""
    loss = F.cross_entropy(network(images), torch.full((len(images),), label, device=images.device))
    return list(torch.autograd.grad(loss, list(network.parameters()), create_graph=keep_graph))


def gradient_distance(left: Sequence[Tensor], right: Sequence[Tensor]) -> Tensor:
    """The sum over output rows of one minus the cosine, as the published code writes it."""
    total = torch.zeros((), device=left[0].device)
    for a, b in zip(left, right):
        if a.dim() == 1:
            continue
        a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
        cosines = (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1) + 0.000001)
        total = total + (1 - cosines).sum()
    return total


def train(
    network: Network,
    images: Tensor,
    labels: Tensor,
    strategy: Augmentation,
    batches: Sequence[tuple[Tensor, Draws]],
    lr: float,
) -> Network:
    """Train `network`, in place, by the rule of the `dsa` protocol on batches of (indices, augmentation)."""
    optimizer = torch.optim.SGD(network.parameters(), lr=lr, momentum=0.9, weight_decay=5e-4)
    for indices, draws in batches:
        loss = F.cross_entropy(network(augment(strategy, images[indices], draws)), labels[indices])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network
