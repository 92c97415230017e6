"""IDM: Zhao, Li, Qin & Yu, Improved Distribution Matching for Dataset Condensation, CVPR 2023.

Distribution matching with three changes: every stored image holds four smaller ones; features come from a queue of
networks that are trained on real images step by step, from fresh to good ones; and synthetic images must also be
classified rightly, the more so the better the network is.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from condense.compute.costs import Workload
from condense.compute.engine import Engine
from condense.compute.tangents import features_and_logits
from condense.data import TrainingData
from condense.data.budget import Budget
from condense.data.sampling import sample
from condense.labels import classified
from condense.matching import class_means, match_means
from condense.methods.interface import Job
from condense.runtime.seeds import derive_seed, generator
from condense.synthesizers.base import INITIALIZATION_HELP
from condense.synthesizers.class_matching import (
    ClassMatching,
    ClassMatchingSettings,
    network_of,
    presented_images,
    real_batch_sizes,
)
from condense.synthesizers.initialization import Initialization
from condense.synthesizers.inner_network import InnerNetwork
from condense.synthesizers.multi_formation import FACTOR_HELP
from condense.synthesizers.network_pool import NetworkPool
from condense.training.prediction import accuracy
from condense.training.rule import TrainingRule

_FIRST_NETWORKS = 3


class ImprovedDistributionMatchingSettings(ClassMatchingSettings):
    """Settings of IDM; the defaults are those published for CIFAR-10 at ten images per class."""

    iterations: int = Field(20_000, ge=1, description="updates of the images of every class")
    image_lr: float = Field(0.2, gt=0, description="learning rate of the images (SGD)")
    factor: int = Field(2, ge=1, le=8, description=FACTOR_HELP)
    initialization: Initialization = Field("tiles", description=INITIALIZATION_HELP)
    classification_weight: float = Field(
        0.5, ge=0, description="of the classification loss, times the network's accuracy on real images in percent"
    )
    queue: int = Field(100, ge=3, description="networks that are kept; then the oldest one goes")
    queue_interval: int = Field(30, ge=1, description="iterations after which a new random network comes")
    networks_trained: int = Field(2, ge=0, description="networks of the queue that are trained in an iteration")
    network_steps: int = Field(10, ge=1, description="steps of such a training")
    network_batch: int = Field(256, ge=1, description="real images in one of these steps")
    network_lr: float = Field(0.01, gt=0, description="learning rate of that training (SGD, momentum 0.9)")
    accuracy_window: int = Field(100, ge=1, description="iterations after which accuracies are counted from zero again")


@dataclass
class Tally:
    """How many of the real images that a network has seen in training it classified rightly.

    >>> tally = Tally()
    >>> tally.percent
    0.0
    >>> tally.add(0.5, 4)
    >>> tally.add(1.0, 12)
    >>> tally.percent
    87.5
    """

    right: int = 0
    seen: int = 0

    @property
    def percent(self) -> float:
        """The accuracy in percent; zero before the first image."""
        return 100 * self.right / self.seen if self.seen else 0.0

    def add(self, accuracy: float, images: int) -> None:
        """Count a batch of so many images, of which the network got the fraction `accuracy` right."""
        self.right += round(accuracy * images)
        self.seen += images


class ImprovedDistributionMatching(ClassMatching[ImprovedDistributionMatchingSettings]):
    """L_c = |mean f(A_c(real_c)) - mean f(A_c(decoded synthetic_c))|^2 + w a CE(network(A_c(decoded synthetic_c)), c)

    f are the features of a network drawn from the queue, in evaluation mode, a its accuracy in percent on all real
    batches that it was trained on in this window of `accuracy_window` iterations, on each before the step; zero as long
    as there is none. (The released code counts anew whenever it evaluates the images.) One SGD step for each class; one
    optimiser has the images of all classes, so its momentum moves the others too. The released code's exception for one
    undivided image per class (the second term only where it is classified wrongly) is left out.
    """

    tile_sampling = "bilinear"

    def __init__(self, job: Job, settings: ImprovedDistributionMatchingSettings) -> None:
        super().__init__(job, settings)
        self.network.eval()
        self.training_engine = Engine(self.new_network(0).train(), job.plan)
        self.queue = NetworkPool(self._queued, _FIRST_NETWORKS)
        self.tallies = [Tally() for _ in self.queue.members]

    def step(self, iteration: int) -> dict[str, float]:
        """Match in one network of the queue, then train some of them."""
        if iteration % self.settings.accuracy_window == 0:
            self.tallies = [Tally() for _ in self.queue.members]
        if iteration % self.settings.queue_interval == 0:
            self._push()
        metrics = self._match(iteration)
        self._train_some(iteration)
        return metrics

    def _match(self, iteration: int) -> dict[str, float]:
        place = self._places(iteration, "matched network", 1)[0]
        parameters, weight = (
            self.queue.members[place].values,
            self.settings.classification_weight * self.tallies[place].percent,
        )
        self.choose_representatives(iteration, parameters)
        indices, draws = self.real_batches(iteration), self.class_draws(iteration)
        labels = self.data.labels[indices]
        with torch.no_grad():
            seen = self.augmented(self.data.images(indices).to(self.job.device), labels, draws)
            features = self.engine.features(parameters, seen)
            real = class_means(features, labels.to(features.device), self.classes)
        matched = classified = 0.0
        for label in range(self.classes):
            leaf, images, targets = self.presented_class(label)
            features, logits = self.engine.read(parameters, self.augmented(images, targets, draws), features_and_logits)
            distance = match_means(real[label], features.mean(0))
            loss = F.cross_entropy(logits, targets.to(logits.device))
            (gradient,) = torch.autograd.grad(distance + weight * loss, leaf)
            self.descend_class(label, gradient)
            matched, classified = matched + distance.item(), classified + loss.item() / self.classes
        return {"loss": matched, "classification": classified}

    def _train_some(self, iteration: int) -> None:
        everything, settings = torch.arange(len(self.data)), self.settings
        for place in self._places(iteration, "trained networks", settings.networks_trained):
            batches = [
                sample(everything, settings.network_batch, generator(self.job.seed, "inner", iteration, place, step))
                for step in range(settings.network_steps)
            ]
            self._train(place, [self.data.subset(batch) for batch in batches], iteration)

    def _train(self, place: int, batches: list[TrainingData], iteration: int) -> None:
        """One step on each batch, and the accuracy on it before that, if it is to weigh anything."""
        inner, device = self.queue.members[place], self.job.device
        seed = derive_seed(self.job.seed, "inner", iteration, place)
        for batch in batches:
            if self.settings.classification_weight:
                self.tallies[place].add(accuracy(inner.network, batch, device), len(batch))
            inner.train(classified(batch), self.training_engine, seed=seed, device=device)

    def _places(self, iteration: int, purpose: str, count: int) -> list[int]:
        """So many different places in the queue, at random."""
        draws = generator(self.job.seed, purpose, iteration)
        return torch.randperm(len(self.queue.members), generator=draws)[:count].tolist()

    def _push(self) -> None:
        """A new network at the end of the queue; the oldest leaves a full one."""
        if len(self.queue.members) == self.settings.queue:
            del self.queue.members[0], self.tallies[0]
        self.queue.add()
        self.tallies.append(Tally())

    def _queued(self, number: int) -> InnerNetwork:
        rule = TrainingRule(
            lr=self.settings.network_lr, weight_decay=5e-4, batch_size=self.settings.network_batch, epochs=1
        )
        return InnerNetwork(self.new_network(number), rule)

    def state(self) -> dict[str, Tensor]:
        """With the queue."""
        tallies = torch.tensor([[tally.right, tally.seen] for tally in self.tallies])
        return super().state() | self.queue.state() | {"tallies": tallies}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` gave."""
        super().load_state(state)
        self.tallies = [Tally(right, seen) for right, seen in state["tallies"].tolist()]
        self.queue.load_state(state)

    @classmethod
    def work(cls, data: TrainingData, budget: Budget, settings: ImprovedDistributionMatchingSettings) -> list[Workload]:
        """Features of the real batch, their gradient for each class, and the training of networks."""
        network, classes = network_of(settings, data.info), len(data.info.classes)
        steps = settings.networks_trained * settings.network_steps
        batch = min(settings.network_batch, len(data))
        training = [Workload("training", *network, batch=batch, times=steps)]
        if settings.classification_weight:
            training.append(Workload("features", *network, batch=batch, times=steps))
        synthetic = presented_images(budget.images_per_class, settings)
        return [
            Workload("features", *network, batch=int(real_batch_sizes(data, settings).sum())),
            Workload("feature gradient", *network, batch=synthetic, times=classes),
            *(training if steps else []),
        ]
