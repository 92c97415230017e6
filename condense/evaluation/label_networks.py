"""The networks that label images which have no soft labels of their own, and where they are kept."""

from __future__ import annotations

import torch
from torch import Tensor

from condense.data import TrainingData
from condense.evaluation.protocols import StaticLabels
from condense.labels import classified
from condense.labels.static import averaged_logits
from condense.networks import Network, build_network, canonical_name
from condense.runtime.cache import found_or_made
from condense.runtime.progress import progress_bar
from condense.runtime.seeds import derive_seed
from condense.training.engines import training_engine
from condense.training.loop import train_network
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
    networks = [_untrained(train, name, index) for index in range(labels.networks)]

    def trained() -> dict[str, Tensor]:
        _train(networks, train, labels, device, progress)
        return {
            f"{index}.{key}": value
            for index, network in enumerate(networks)
            for key, value in network.state_dict().items()
        }

    rules = labels.model_dump(mode="json", include={"networks", "training"})
    parts = (train.info.identity, name, rules)
    states = found_or_made("label-networks", train.info.name, parts, trained, what="label networks").tensors
    for index, network in enumerate(networks):
        network.load_state_dict({key: states[f"{index}.{key}"] for key in network.state_dict()})
        network.to(device).eval()
    return networks


def _untrained(train: TrainingData, name: str, index: int) -> Network:
    seed = derive_seed(_SEED, "label network", index)
    return build_network(name, train.info.image_shape, len(train.info.classes), seed)


def _train(
    networks: list[Network], train: TrainingData, labels: StaticLabels, device: torch.device, progress: bool
) -> None:
    name, rule = networks[0].name, labels.training
    engine = training_engine(name, train.info, len(train), rule, networks=len(networks), device=device, compile="auto")
    with progress_bar("label networks", len(networks), enabled=progress) as bar:
        for index, network in enumerate(networks):
            seed = derive_seed(_SEED, "label training", index)
            train_network(network, classified(train), rule, seed=seed, device=device, engine=engine, progress=progress)
            bar.update(index + 1)
