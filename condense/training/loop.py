"""The one loop that trains a network: for evaluation, features, label networks and whatever else needs one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from condense.compute.derivatives import Parameters
from condense.compute.engine import Engine
from condense.compute.plan import Plan
from condense.runtime.errors import CondenseError
from condense.runtime.global_draws import network_draws
from condense.runtime.memory import keep_freed_memory
from condense.runtime.progress import progress_bar
from condense.runtime.seeds import derive_seed, generator
from condense.training.rule import TrainingRule
from condense.training.sources import Batch, TrainingSource


@dataclass(frozen=True, eq=False)
class Step:
    """What one step of a training has at hand: a batch, and the network in its state.

    `state` has the parameters and buffers of `engine.network`, the parameters as leaves.
    """

    engine: Engine
    state: Parameters
    optimizer: torch.optim.Optimizer
    batch: Batch

    def loss(self) -> Tensor:
        """That of the batch, differentiable in the parameters; BatchNorm's statistics move."""
        targets = self.batch.targets
        return self.engine.loss(self.state, self.batch.images, targets.values, targets.loss, targets.weights)


Update = Callable[[Step], Tensor]  # changes the parameters and gives the loss


def descend(step: Step) -> Tensor:
    """One step of the optimiser down the mean loss of the batch, which is returned."""
    loss = step.loss()
    step.optimizer.zero_grad()
    loss.backward()
    step.optimizer.step()
    return loss.detach()


class Diverged(CondenseError):  # noqa: N818 (it is what happened, and callers may well go on)
    """Training gave a loss that is not finite; the network is left as it was after that epoch."""


def train_network(
    network: nn.Module,
    source: TrainingSource,
    rule: TrainingRule,
    *,
    seed: int,
    device: torch.device,
    engine: Engine | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    update: Update = descend,
    after_epoch: Callable[[int], None] | None = None,
    progress: bool = False,
) -> nn.Module:
    """Train `network` on `source` as `rule` says, in place; return it, on `device` and in evaluation mode.

    What is descended is the loss that the source gives with each batch, a mean over its images. The order of the
    images in an epoch depends on (seed, epoch), unless the source has batches of its own, and the augmentation of a
    batch on (seed, epoch, batch) only, so equal arguments give equal networks and two data sets of one size meet equal
    draws. `engine` is one of `training_engine` for networks of this structure; without it nothing is compiled. With an
    `optimizer` an earlier training goes on: it is used as it is, from epoch 0 of the rule to its end. `update` makes
    the step of every batch; `after_epoch` gets the number of each epoch when it is over, and leaves the network in
    training mode.

    Where BatchNorm takes the statistics of a batch, a single image that is left over joins the batch before.

    Raises `Diverged` at the end of the first epoch whose mean loss is not finite, and `CondenseError` if BatchNorm
    would never see two images at once.
    """
    keep_freed_memory()
    network.to(device).train()
    training = _Training(network, source, rule, seed, device, engine or Engine(network, Plan()), update)
    name = getattr(network, "name", "") or type(network).__name__
    epochs = rule.epochs_run(len(source))
    given = optimizer
    try:
        with progress_bar(f"training {name}", epochs, enabled=progress, unit="epochs") as bar:
            for epoch in itertools.takewhile(training.goes_on, itertools.count()):
                if rule.restarts(epoch):
                    optimizer = given or make_optimizer(network, rule)
                assert optimizer is not None, "the first epoch always starts with one"
                loss = training.epoch(epoch, optimizer)
                bar.update(epoch + 1, {"loss": loss})
                if not math.isfinite(loss):
                    raise Diverged(
                        f"training {name} on {source.info.name} diverged in epoch {epoch + 1} of {epochs} at learning "
                        f"rate {optimizer.param_groups[0]['lr']:g}; give a lower one, or look for broken images"
                    )
                if after_epoch is not None:
                    after_epoch(epoch)
    finally:
        network.eval()
    return network


def make_optimizer(network: nn.Module, rule: TrainingRule) -> torch.optim.Optimizer:
    """A new optimiser of all parameters, as `rule` says."""
    parameters = list(network.parameters())
    groups: list[dict[str, Any]] = [{"params": parameters}]
    if rule.decayed == "weights":
        groups = [
            {"params": [value for value in parameters if value.dim() > 1]},
            {"params": [value for value in parameters if value.dim() <= 1], "weight_decay": 0.0},
        ]
    match rule.optimizer:
        case "adam":
            return torch.optim.Adam(groups, lr=rule.lr, weight_decay=rule.weight_decay)
        case "adamw":
            return torch.optim.AdamW(groups, lr=rule.lr, weight_decay=rule.weight_decay)
        case "sgd":
            return torch.optim.SGD(groups, lr=rule.lr, momentum=rule.momentum, weight_decay=rule.weight_decay)


class _Training:
    """What stays the same in all epochs of one training."""

    def __init__(
        self,
        network: nn.Module,
        source: TrainingSource,
        rule: TrainingRule,
        seed: int,
        device: torch.device,
        engine: Engine,
        update: Update,
    ) -> None:
        self.images, self.rule, self.seed, self.device = len(source), rule, seed, device
        self.engine, self.update = engine, update
        self.state = dict(network.named_parameters()) | dict(network.named_buffers())
        self.usual_batch = min(rule.batch_size, self.images)
        self.updates, self.updated = rule.updates_run(self.images), 0
        self.plain = Engine(network, Plan())  # for a last, smaller batch, which is not worth a compilation of its own
        if self.plain.whole_batches and self.usual_batch < 2:
            raise CondenseError(
                f"BatchNorm in {getattr(network, 'name', 'the network')} needs at least 2 images in a batch, and there "
                f"are {self.images} in batches of {rule.batch_size}; give more, or a network with another norm"
            )
        self.source = source.presented(rule, seed, device)

    def goes_on(self, epoch: int) -> bool:
        """Whether there is something left to do in an epoch."""
        rule = self.rule
        return epoch < rule.epochs_run(self.images) if rule.updates is None else self.updated < self.updates

    def epoch(self, epoch: int, optimizer: torch.optim.Optimizer) -> float:
        """One pass over all images, or to the last update; returns the mean loss."""
        total, seen = torch.zeros((), device=self.device), 0
        for number, ids in enumerate(self._batches(epoch)):
            self._set_rate(epoch, optimizer)
            batch = self.source.batch(epoch, number, ids)
            engine = self.engine if len(ids) == self.usual_batch else self.plain
            with network_draws(derive_seed(self.seed, "network draws", epoch, number)):
                loss = self.update(Step(engine, self.state, optimizer, batch))
            total, seen = total + loss * len(ids), seen + len(ids)
            self.updated += 1
        return total.item() / seen

    def _set_rate(self, epoch: int, optimizer: torch.optim.Optimizer) -> None:
        rule = self.rule
        rate = rule.learning_rate(epoch) if rule.updates is None else rule.update_rate(self.updated, self.updates)
        for group in optimizer.param_groups:
            group["lr"] = rate

    def _batches(self, epoch: int) -> list[Tensor]:
        batches = self.source.batches(epoch) or self._in_order(epoch)
        return batches if self.rule.updates is None else batches[: self.updates - self.updated]

    def _in_order(self, epoch: int) -> list[Tensor]:
        order = torch.arange(self.images)
        if self.rule.shuffled:
            order = torch.randperm(self.images, generator=generator(self.seed, "order", epoch))
        batches = list(order.split(self.rule.batch_size))
        if self.plain.whole_batches and len(batches[-1]) == 1:
            last = batches.pop()
            batches[-1] = torch.cat([batches[-1], last])
        return batches
