"""What networks that were trained on the real images tell of each of them: the evidence that choices rest on."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from condense.compute.costs import Workload
from condense.compute.engine import Engine
from condense.data import TrainingData
from condense.labels import classified
from condense.methods.interface import Job, MethodSettings
from condense.networks import Network, canonical_name
from condense.runtime.seeds import derive_seed
from condense.selection.features import TRAINING
from condense.training.engines import training_work
from condense.training.records import Training, TrainingRecord, embed_all, record_training
from condense.training.rule import TrainingRule

_ALL = slice(None)


class EvidenceSettings(MethodSettings):
    """Which network is trained on all images before any is chosen, and how long."""

    network: str = Field("convnet-w64-in", description="the network that is trained on all images first")
    epochs: int = Field(15, ge=1, description="of its training")


class AveragedEvidenceSettings(EvidenceSettings):
    """The same for scores that can be averaged over several networks."""

    trainings: int = Field(1, ge=1, description="trainings from different seeds, over which scores are averaged")


class EarlyEvidenceSettings(AveragedEvidenceSettings):
    """Short trainings from several seeds: what networks say early."""

    epochs: int = Field(5, ge=1, description="of each training")
    trainings: int = Field(3, ge=1, description="trainings from different seeds, over which scores are averaged")


def evidence_rule(settings: EvidenceSettings) -> TrainingRule:
    """How networks are trained: SGD 0.05, momentum 0.9, weight decay 5e-4, batch 128, cosine, no augmentation."""
    return TRAINING.model_copy(update={"epochs": settings.epochs})


def evidence_work(data: TrainingData, settings: EvidenceSettings) -> list[Workload]:
    """The trainings behind the evidence, for a plan."""
    name = canonical_name(settings.network, data.info.image_shape)
    rule, networks = evidence_rule(settings), len(_trainings(settings))
    return [training_work(name, data.info, len(data), rule, networks=networks)]


def _trainings(settings: EvidenceSettings) -> range:
    return range(settings.trainings if isinstance(settings, AveragedEvidenceSettings) else 1)


class Evidence:
    """What trained networks say of N training images of K classes; everything is of clean images in evaluation mode.

    Trainings are made when a score first asks for them and kept in the cache folder, where other scores and other
    sizes of sets find them: one training serves all scores of its settings. What is not said to be of every training is
    of the first. `seconds_saved` is what those took that were found.
    """

    def __init__(self, job: Job, settings: EvidenceSettings) -> None:
        self.job, self.settings = job, settings
        self.labels = job.data.labels  # int64 [N]
        self.seconds_saved = 0.0
        self._records: dict[int, TrainingRecord] = {}

    def training(self, index: int = 0) -> TrainingRecord:
        """Training `index`, with the logits of all images after each of its epochs."""
        if index not in self._records:
            job, info = self.job, self.job.data.info
            seeds = (derive_seed(job.seed, f"evidence {purpose}", index) for purpose in ("network", "training"))
            record = record_training(
                classified(job.data),
                Training(canonical_name(self.settings.network, info.image_shape), evidence_rule(self.settings), *seeds),
                device=job.device,
                engine=lambda network: Engine(network, job.plan),
                every_epoch=True,
                progress=job.progress,
            )
            self.seconds_saved += record.seconds_saved
            self._records[index] = record
        return self._records[index]

    @property
    def network(self) -> Network:
        """The trained network."""
        return self.training().network

    @property
    def logits(self) -> Tensor:
        """After each epoch, float32 [E, N, K]."""
        return self.training().logits

    def probabilities(self, training: int = 0, members: Tensor | slice = _ALL) -> Tensor:
        """Softmax p of the last logits of a training; float64 [N, K], or 1 - p of what is sure would be rounding."""
        return torch.softmax(self.training(training).logits[-1][members].double(), 1)

    def features(self, training: int = 0) -> Tensor:
        """What the classifier of the trained network sees, float32 [N, D]."""
        if training == 0:
            return self._features
        return embed_all(self.training(training).network, classified(self.job.data), self.job.device)

    @cached_property
    def _features(self) -> Tensor:
        return embed_all(self.network, classified(self.job.data), self.job.device)

    def errors(self, training: int = 0, members: Tensor | slice = _ALL) -> Tensor:
        """p - y with the one-hot class y: the gradient of the cross-entropy in the logits; float64 [N, K].

        Of some images only, where their indices (int64 [n]) are given.
        """
        probabilities = self.probabilities(training, members)
        return probabilities - F.one_hot(self.labels[members], probabilities.shape[1])

    def mean(self, score: Callable[[int], Tensor]) -> Tensor:
        """The mean of a score [N] over all trainings that are asked for, of which it is given the index."""
        return torch.stack([score(training).double() for training in _trainings(self.settings)]).mean(0)
