"""The networks that label images which have no soft labels of their own, and where they are kept."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from condense.compute.engine import Engine
from condense.data import TrainingData
from condense.evaluation.protocols import StaticLabels
from condense.labels import classified
from condense.labels.static import averaged_logits
from condense.networks import Network, canonical_name
from condense.runtime.progress import progress_bar
from condense.runtime.seeds import derive_seed
from condense.training.engines import training_engine
from condense.training.records import Training, record_training
from condense.training.sources import ImageSource

_SEED = 0  # one for all: every set and every method gets its labels from the same networks
_LABELLED_AT_ONCE = 256


def static_logits(
    source: ImageSource,
    train: TrainingData,
    network: str,
    labels: StaticLabels,
    *,
    device: torch.device,
    progress: bool = False,
) -> Tensor:
    """Averaged logits [N, K] of the images of `source`, by networks trained on `train` (equally preprocessed).

    `network` may leave its depth open. The networks are kept in the cache folder and depend on the real data, the
    preprocessing and the rule only: sets of all methods and sizes share them.
    """
    networks = _label_networks(train, canonical_name(network, train.info.image_shape), labels, device, progress)
    batches = torch.arange(len(source)).split(_LABELLED_AT_ONCE)
    return torch.cat([averaged_logits(networks, source.images(batch).to(device)).cpu() for batch in batches])


def _label_networks(
    train: TrainingData, name: str, labels: StaticLabels, device: torch.device, progress: bool
) -> list[Network]:
    rule, networks = labels.training, list[Network]()

    @functools.cache
    def engine() -> Engine:
        count = labels.networks
        return training_engine(name, train.info, len(train), rule, networks=count, device=device, compile="auto")

    with progress_bar("label networks", labels.networks, enabled=progress) as bar:
        for index in range(labels.networks):
            seeds = (derive_seed(_SEED, f"label {purpose}", index) for purpose in ("network", "training"))
            training, source = Training(name, rule, *seeds), classified(train)
            record = record_training(source, training, device=device, engine=lambda _: engine(), progress=progress)
            networks.append(record.network)
            bar.update(index + 1)
    return networks
