"""What FRePo and RCIG share: a set that a ridge classifier is fitted to, on features of networks from a pool."""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import torch
from pydantic import Field
from torch import Tensor

from condense.augmentation.dsa import flip_closure
from condense.compute.engine import Engine
from condense.data import DataInfo, TrainingData
from condense.data.budget import Budget
from condense.data.sampling import sample
from condense.labels import RegressionLabels, centred_one_hot, in_memory
from condense.methods.interface import Job
from condense.networks import Network, build_network, canonical_name
from condense.networks.build import blank_state
from condense.runtime.errors import CondenseError
from condense.runtime.memory import available_memory
from condense.runtime.seeds import derive_seed, generator
from condense.synthesizers.base import INITIALIZATION_HELP, Synthesizer, SynthesizerSettings, decoder_of
from condense.synthesizers.initialization import Initialization
from condense.synthesizers.inner_network import InnerNetwork
from condense.synthesizers.multi_formation import FACTOR_HELP
from condense.synthesizers.network_pool import NetworkPool
from condense.training.rule import TrainingRule


class PooledRegressionSettings(SynthesizerSettings):
    """The settings of both."""

    labels: Literal["learned", "hard"] = Field(
        "learned",
        description="learned: with the images, as values to be predicted; hard: class indices, centred for the "
        "regression",
    )
    flips: bool | None = Field(
        None, description="regress on the images and their mirror images; default: where the data allows it"
    )
    factor: int = Field(1, ge=1, le=8, description=FACTOR_HELP)
    initialization: Initialization = Field("real", description=INITIALIZATION_HELP)
    network: str = Field("conv-w128-nonorm", description="networks whose features are regressed on")
    networks: int = Field(10, ge=1, description="M: networks in the pool")
    network_lr: float = Field(3e-4, gt=0, description="learning rate of their training on the set (Adam)")
    network_batch: int | None
    real_batch: int = Field(1024, ge=1, description="real images that the classifier should be right about")
    gradient_rows: int | None = Field(
        None, ge=1, description="training images that an update goes through, drawn anew each time; default: all"
    )

    def mirrored(self, info: DataInfo) -> bool:
        """As settings say, else where mirror images are of the same class."""
        return info.mirror if self.flips is None else self.flips

    def training_images(self, info: DataInfo, ipc: int) -> int:
        """How many images the set is for networks, without mirror images."""
        decoder = decoder_of(self, ipc)
        return (ipc if decoder is None else decoder.images_in(ipc)) * len(info.classes)

    def rows(self, info: DataInfo, ipc: int) -> int:
        """Those of the kernel: training images, and mirror images."""
        return self.training_images(info, ipc) * (2 if self.mirrored(info) else 1)


RegressionSettingsT = TypeVar("RegressionSettingsT", bound=PooledRegressionSettings)


class PooledRegression(Synthesizer[RegressionSettingsT]):
    """Images with labels [N, K] as values, and a pool of networks in training on them.

    What is regressed on is computed in float32 by `engine`, whatever the plan has for other work: the kernel's
    condition is the square of that of the features.
    """

    def __init__(self, job: Job, settings: RegressionSettingsT) -> None:
        super().__init__(job, settings)
        self.classes = len(self.data.info.classes)
        exact = job.plan.model_copy(update={"precision": "float32"})
        self.engine = Engine(self.new_network(0).eval(), exact)
        self.training_engine = Engine(self.new_network(0).train(), job.plan)
        self.pool = NetworkPool(self._pooled, settings.networks)
        self.label_average = None if self.average is None else self.label_values.detach().clone()
        self.ages = self.first_ages()
        self.most_tenfold = 0

    @classmethod
    def check(cls, data: TrainingData, budget: Budget, settings: RegressionSettingsT) -> None:
        """The pool, each network with two moments of Adam, must fit into memory."""
        super().check(data, budget, settings)
        name, shape, classes = network_of(settings, data.info)
        state = blank_state(name, shape, classes)
        needed = 3 * settings.networks * sum(value.numel() * value.element_size() for value in state.values())
        free = available_memory(torch.device("cpu"))
        if needed > free:
            raise CondenseError(
                f"a pool of {settings.networks} networks {name} takes {needed / 1e9:.3g} GB of memory, and "
                f"{free / 1e9:.3g} GB are free; give fewer --networks, or a narrower --network"
            )

    def first_ages(self) -> list[int]:
        """How old the networks of the pool count as at the start, in updates."""
        return [0] * int(self.settings.networks)

    def new_network(self, number: int) -> Network:
        """The random network with this number, on the run's device."""
        name, shape, classes = network_of(self.settings, self.data.info)
        return build_network(name, shape, classes, derive_seed(self.job.seed, "network", number)).to(self.job.device)

    def _pooled(self, number: int) -> InnerNetwork:
        lr, batch_size = self.settings.network_lr, self._network_batch
        rule = TrainingRule(optimizer="adam", lr=lr, batch_size=batch_size, epochs=1)
        return InnerNetwork(self.new_network(number).eval(), rule)

    @property
    def _network_batch(self) -> int:
        """How many images of the set are in one update of a network, at most."""
        return self.settings.network_batch or self.settings.rows(self.data.info, self.job.ipc)

    def make_optimizer(self) -> torch.optim.Optimizer:
        """With labels beside the images, which are learned unless settings say otherwise."""
        self.label_values = self.first_labels().to(self.job.device)
        if self.settings.labels == "learned":
            self.label_values.requires_grad_()
        return self.optimizer_of([self.images, self.label_values] if self.learns_labels else [self.images])

    def first_labels(self) -> Tensor:
        """The labels to start from, float32 [N, K]."""
        return centred_one_hot(self.labels, len(self.data.info.classes)).values

    def optimizer_of(self, learned: list[Tensor]) -> torch.optim.Optimizer:
        """That of images, and of labels where these are learned."""
        raise NotImplementedError

    @property
    def learns_labels(self) -> bool:
        """Whether labels are learned."""
        return bool(self.settings.labels == "learned")

    def advance(self, iteration: int) -> dict[str, float]:
        """With the average of the labels, which is like that of the images."""
        metrics, kept = super().advance(iteration), self.settings.image_average
        if self.label_average is not None and kept is not None:
            self.label_average.lerp_(self.label_values.detach(), 1 - kept)
        return metrics

    def place_of(self, group: int) -> int:
        """The place in the pool of the network of so many updates, drawn alike."""
        draws = generator(self.job.seed, "pool", group)
        return int(torch.randint(self.settings.networks, (), generator=draws))

    def real_indices(self, group: int) -> Tensor:
        """Training indices of a real batch, without replacement."""
        draws = generator(self.job.seed, "real batch", group)
        return sample(torch.arange(len(self.data)), self.settings.real_batch, draws)

    def regressed(self) -> tuple[Tensor, Tensor]:
        """The images that the classifier is fitted to, mirror images behind the others, and their labels [m, K]."""
        images, labels = self.decoded(self.images, self.label_values)
        return flip_closure(images, labels) if self.settings.mirrored(self.data.info) else (images, labels)

    def moving_rows(self, iteration: int, count: int) -> tuple[Tensor, Tensor]:
        """Which of so many rows gradients go through in an update, and the others."""
        order = torch.arange(count)
        if (self.settings.gradient_rows or count) < count:
            order = torch.randperm(count, generator=generator(self.job.seed, "gradient rows", iteration))
        moving, fixed = order.to(self.job.device).tensor_split([self.settings.gradient_rows or count])
        return moving, fixed

    def train_network(self, place: int, images: Tensor, labels: Tensor, *indices: int) -> None:
        """One update of a network of the pool on at most `network_batch` of these images, drawn by the indices."""
        if len(images) > self._network_batch:
            draws = generator(self.job.seed, "inner images", *indices)
            chosen = torch.randperm(len(images), generator=draws)[: self._network_batch].to(images.device)
            images, labels = images[chosen], labels[chosen]
        source = in_memory(images.detach(), RegressionLabels(labels.detach()), self.data.info)
        seed = derive_seed(self.job.seed, "inner training", *indices)
        self.pool.members[place].train(source, self.training_engine, seed=seed, device=self.job.device)
        self.ages[place] += 1

    def renew(self, place: int) -> None:
        """A fresh network in this place of the pool."""
        self.pool.renew(place)
        self.ages[place] = 0

    def learned(self) -> dict[str, Any]:
        """With the labels, where they are learned."""
        values = self.label_values.detach() if self.label_average is None else self.label_average
        return super().learned() | (
            {"labels": RegressionLabels(values.cpu(), self.labels)} if self.learns_labels else {}
        )

    def remarks(self, iterations: int) -> list[str]:
        """With a kernel that was singular."""
        found = super().remarks(iterations)
        if self.most_tenfold:
            found.append(
                f"the kernel was singular, and its ridge was made up to 10^{self.most_tenfold} times as large: some "
                "images are alike; give a larger --ridge, or start from others"
            )
        return found

    def results(self) -> dict[str, Tensor]:
        """With the labels."""
        average = {} if self.label_average is None else {"label_average": self.label_average}
        return super().results() | average | {"label_values": self.label_values.detach()}

    def state(self) -> dict[str, Tensor]:
        """With the pool."""
        counts = {"ages": torch.tensor(self.ages), "most_tenfold": torch.tensor(self.most_tenfold)}
        return super().state() | self.pool.state() | counts

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` gave."""
        super().load_state(state)
        with torch.no_grad():
            self.label_values.copy_(state["label_values"])
            if self.label_average is not None:
                self.label_average.copy_(state["label_average"])
        self.pool.load_state(state)
        self.ages, self.most_tenfold = state["ages"].tolist(), int(state["most_tenfold"])


def network_of(settings: PooledRegressionSettings, info: DataInfo) -> tuple[str, tuple[int, int, int], int]:
    """Name, image shape and classes of the networks that these settings ask for."""
    return canonical_name(settings.network, info.image_shape), info.image_shape, len(info.classes)
