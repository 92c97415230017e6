"""A training that can stop after any epoch and go on, in another process as well, to the same bits."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from condense.compute.engine import Engine
from condense.training.loop import Update, descend, make_optimizer, train_network
from condense.training.rule import TrainingRule
from condense.training.sources import TrainingSource
from condense.training.state import load_training_state, training_state


class EpochTraining:
    """`network`, trained on `source` as `rule` says, one epoch after the other; `epoch` counts those that are over.

    Every epoch is a training by itself, with a seed of its own and the learning rate that the rule has for it. So what
    is still to come depends on `state`, on `epoch` and on the seeds that are still to be given, and on nothing else.
    The rule counts epochs, and its optimiser is SGD.
    """

    def __init__(
        self, network: nn.Module, rule: TrainingRule, source: TrainingSource, *, device: torch.device, engine: Engine
    ) -> None:
        self.network, self.rule, self.source = network.to(device), rule, source
        self.device, self.engine = device, engine
        self.optimizer = make_optimizer(network, rule)
        self.epoch = 0

    def train_epoch(self, seed: int, update: Update = descend) -> None:
        """The next epoch, with order and augmentation from `seed`; raises `Diverged` as `train_network` does."""
        rule = self.rule.for_epoch(self.epoch)
        if self.rule.restarts(self.epoch):
            self.optimizer = make_optimizer(self.network, rule)
        train_network(
            self.network,
            self.source,
            rule,
            seed=seed,
            device=self.device,
            engine=self.engine,
            optimizer=self.optimizer,
            update=update,
        )
        self.epoch += 1

    @property
    def state(self) -> dict[str, Tensor]:
        """Everything that training changes; see `training_state`."""
        return training_state(self.network, self.optimizer)

    def go_on_from(self, state: Mapping[str, Tensor], epoch: int) -> None:
        """Take back the `state` after so many epochs."""
        load_training_state(self.network, self.optimizer, state)
        self.epoch = epoch
