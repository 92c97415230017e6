"""The one loop that trains a network: for evaluation, features, label networks and whatever else needs one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condense.augmentation.classic import augment_classic, draw_classic
from condense.augmentation.cutmix import draw_mix, mix_images
from condense.augmentation.dsa import Augmentation, augment, draw_per_image
from condense.compute.derivatives import Parameters
from condense.compute.engine import Engine
from condense.compute.plan import Plan
from condense.data.info import DataInfo
from condense.runtime.errors import CondenseError
from condense.runtime.global_draws import network_draws
from condense.runtime.memory import keep_freed_memory
from condense.runtime.progress import progress_bar
from condense.runtime.seeds import derive_seed, generator
from condense.training.rule import TrainingRule
from condense.training.sources import TrainingSource


@dataclass(frozen=True, eq=False)
class Step:
    """What one step of a training has at hand: a batch as the network sees it, and `plain`, before augmentation.

    `state` has the parameters and buffers of `engine.network`, the parameters as leaves.
    """

    engine: Engine
    state: Parameters
    optimizer: torch.optim.Optimizer
    images: Tensor
    labels: Tensor
    plain: Tensor


Update = Callable[[Step], Tensor]  # changes the parameters and gives the loss


def descend(step: Step) -> Tensor:
    """One step of the optimiser down the mean loss of the batch, which is returned."""
    loss = step.engine.loss(step.state, step.images, step.labels)
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
    progress: bool = False,
) -> nn.Module:
    """Train `network` on `source` as `rule` says, in place; return it, on `device` and in evaluation mode.

    The loss is the cross-entropy, averaged over the batch: -log p[label], or -sum_k label[k] log p[k] for labels that
    are probabilities. The order of the images in an epoch depends on (seed, epoch) and the augmentation of a batch on
    (seed, epoch, batch) only, so equal arguments give equal networks and two data sets of one size meet equal draws.
    `engine` is one of `training_engine` for networks of this structure; without it nothing is compiled. With an
    `optimizer` an earlier training goes on: it is used as it is, from epoch 0 of the rule to its end. `update` makes
    the step of every batch.

    Where BatchNorm takes the statistics of a batch, a single image that is left over joins the batch before.

    Raises `Diverged` at the end of the first epoch whose mean loss is not finite, and `CondenseError` if BatchNorm
    would never see two images at once.
    """
    keep_freed_memory()
    network.to(device).train()
    training = _Training(network, source, rule, seed, device, engine or Engine(network, Plan()), update)
    name = getattr(network, "name", "") or type(network).__name__
    given = optimizer
    try:
        with progress_bar(f"training {name}", rule.epochs_run, enabled=progress, unit="epochs") as bar:
            for epoch in range(rule.epochs_run):
                if rule.restarts(epoch):
                    optimizer = given or make_optimizer(network, rule)
                assert optimizer is not None, "the first epoch always starts with one"
                for group in optimizer.param_groups:
                    group["lr"] = rule.learning_rate(epoch)
                loss = training.epoch(epoch, optimizer)
                bar.update(epoch + 1, {"loss": loss})
                if not math.isfinite(loss):
                    raise Diverged(
                        f"training {name} on {source.info.name} diverged in epoch {epoch + 1} of {rule.epochs_run} at "
                        f"learning rate {rule.learning_rate(epoch):g}; give a lower one, or look for broken images"
                    )
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
    if rule.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=rule.lr, weight_decay=rule.weight_decay)
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
        self.source, self.rule, self.seed, self.device = source, rule, seed, device
        self.engine, self.update = engine, update
        self.state = dict(network.named_parameters()) | dict(network.named_buffers())
        self.usual_batch = min(rule.batch_size, len(source))
        self.plain = Engine(network, Plan())  # for a last, smaller batch, which is not worth a compilation of its own
        if self.plain.whole_batches and self.usual_batch < 2:
            raise CondenseError(
                f"BatchNorm in {getattr(network, 'name', 'the network')} needs at least 2 images in a batch, and there "
                f"are {len(source)} in batches of {rule.batch_size}; give more, or a network with another norm"
            )
        self.augment = _augmentation(source.info, rule)

    def epoch(self, epoch: int, optimizer: torch.optim.Optimizer) -> float:
        """One pass over all images in random order; returns the mean loss."""
        order = torch.randperm(len(self.source), generator=generator(self.seed, "order", epoch))
        labels_in = getattr(self.source, "labels_in", None)
        every_label = self.source.labels if labels_in is None else labels_in(epoch)
        total = torch.zeros((), device=self.device)
        for number, indices in enumerate(self._batches(order)):
            plain = self.source.images(indices).to(self.device)
            images, labels = self.batch(plain, every_label[indices].to(self.device), epoch, number)
            engine = self.engine if len(indices) == self.usual_batch else self.plain
            with network_draws(derive_seed(self.seed, "network draws", epoch, number)):
                loss = self.update(Step(engine, self.state, optimizer, images, labels, plain))
            total += loss * len(indices)
        return total.item() / len(self.source)

    def _batches(self, order: Tensor) -> list[Tensor]:
        batches = list(order.split(self.rule.batch_size))
        if self.plain.whole_batches and len(batches[-1]) == 1:
            last = batches.pop()
            batches[-1] = torch.cat([batches[-1], last])
        return batches

    def batch(self, images: Tensor, labels: Tensor, epoch: int, number: int) -> tuple[Tensor, Tensor]:
        """These images and labels as the network is to see them in batch `number` of an epoch."""
        shape = self.source.info.image_shape
        if self.augment is not None:
            images = self.augment(images, generator(self.seed, "augmentation", epoch, number))
        if self.rule.cutmix:
            if not labels.is_floating_point():
                labels = F.one_hot(labels, len(self.source.info.classes)).to(images.dtype)
            mix = draw_mix(shape, len(images), self.rule.cutmix, generator(self.seed, "cutmix", epoch, number))
            if mix is not None:
                images, labels = mix_images(images, labels, mix)
        return images, labels


def _augmentation(info: DataInfo, rule: TrainingRule) -> Callable[[Tensor, torch.Generator], Tensor] | None:
    """What makes of such images, by a generator of its draws, what networks see of them."""
    shape = info.image_shape
    match rule.augmentation:
        case None:
            return None
        case "dc-crop-scale-rotate" | "dc-crop-noise" as classic:
            return lambda images, draws: augment_classic(
                classic, images, draw_classic(classic, shape, len(images), draws)
            )
        case name:
            strategy = Augmentation.named(name, mirror=info.mirror, align_corners=rule.align_corners)
            assert strategy is not None, "only the name none has no strategy"
            return lambda images, draws: augment(strategy, images, draw_per_image(strategy, shape, len(images), draws))
