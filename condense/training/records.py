"""Trained networks and what their trainings tell of the images: made once, and kept in the cache folder.

Features, labels and scores all come from networks that are trained on the real images. `record_training` trains such a
network or finds it; whoever asks for the same one gets the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from condense.compute.derivatives import Parameters
from condense.compute.engine import Engine
from condense.networks import Network, build_network
from condense.runtime.cache import found_or_made
from condense.training.loop import train_network
from condense.training.prediction import predict
from condense.training.presentation import Labelled
from condense.training.rule import TrainingRule
from condense.training.state import under

REVISION = 1  # to be raised when equal arguments give other networks: those in caches are not believed any more
_EMBEDDED_AT_ONCE = 64  # images


@dataclass(frozen=True)
class Training:
    """Which network is trained, how, and from which seeds: that of its values, and that of order and augmentation."""

    network: str
    rule: TrainingRule
    network_seed: int
    training_seed: int


@dataclass(frozen=True, eq=False)
class TrainingRecord:
    """What is left of a training on N images of K classes.

    `network` is trained and in evaluation mode; `initial` are its values before. `logits` float32 [E, N, K] are what it
    said of all images, as they are, after each epoch; E is 0 where nobody asked. `seconds_saved` is what it took to
    make, if it was found in the cache.
    """

    network: Network
    initial: Parameters
    logits: Tensor
    seconds_saved: float

    def correct(self, labels: Tensor) -> Tensor:
        """Whether the largest logit of each image was that of its class, after each epoch; bool [E, N]."""
        return self.logits.argmax(2) == labels


def record_training(
    source: Labelled,
    training: Training,
    *,
    device: torch.device,
    engine: Callable[[Network], Engine],
    every_epoch: bool = False,
    progress: bool = False,
) -> TrainingRecord:
    """The record of a training on real images with their class indices (`condense.labels.classified`).

    It is found in the cache folder, by the data as networks see it, the training and `REVISION`, or made and kept
    there. `engine` gives that which trains the network, and is only asked where one is trained. `every_epoch` records
    logits after each epoch. Raises `Diverged` as `train_network` does.
    """
    info = source.info
    network = build_network(training.network, info.image_shape, len(info.classes), training.network_seed)

    def trained() -> tuple[dict[str, Tensor], float]:
        network.to(device)
        initial = {f"initial.{key}": value.cpu().clone() for key, value in network.state_dict().items()}
        logits: list[Tensor] = []

        def watch(epoch: int) -> None:
            logits.append(predict(network, source.base, device))
            network.train()

        train_network(
            network,
            source,
            training.rule,
            seed=training.training_seed,
            device=device,
            engine=engine(network.train()),
            after_epoch=watch if every_epoch else None,
            progress=progress,
        )
        final = {f"final.{key}": value for key, value in network.state_dict().items()}
        return initial | final | ({"logits": torch.stack(logits)} if logits else {}), 0.0

    parts = (*_identity(source, training), every_epoch)
    kept = found_or_made("networks", info.name, parts, trained, what="networks trained on the real data")
    network.load_state_dict(under("final.", kept.tensors))
    initial = {name: value.to(device) for name, value in under("initial.", kept.tensors).items()}
    nothing = torch.zeros(0, len(source), len(info.classes))
    return TrainingRecord(network.to(device).eval(), initial, kept.tensors.get("logits", nothing), kept.seconds_saved)


def trained_features(
    source: Labelled,
    training: Training,
    *,
    device: torch.device,
    engine: Callable[[Network], Engine],
    progress: bool = False,
) -> tuple[Tensor, float]:
    """Features [N, D] of all images, as they are, by the trained network; and the seconds that finding them saved.

    They are kept in the cache folder as well: on large data, to read them is faster than to compute them again.
    """

    def embedded() -> tuple[dict[str, Tensor], float]:
        record = record_training(source, training, device=device, engine=engine, progress=progress)
        return {"features": embed_all(record.network, source, device)}, record.seconds_saved

    parts = _identity(source, training)
    kept = found_or_made("features", source.info.name, parts, embedded, what="features")
    return kept.tensors["features"], kept.seconds_saved


def embed_all(network: Network, source: Labelled, device: torch.device) -> Tensor:
    """The features [N, D] of all images, as they are, by a network, which is put into evaluation mode."""
    network.to(device).eval()
    batches = torch.arange(len(source)).split(_EMBEDDED_AT_ONCE)
    with torch.inference_mode():
        return torch.cat([network.embed(source.base.images(batch).to(device)).cpu() for batch in batches])


def _identity(source: Labelled, training: Training) -> tuple[object, ...]:
    rule = training.rule.model_dump(mode="json", exclude_defaults=True)
    seeds = (training.network_seed, training.training_seed)
    return source.info.identity, training.network, rule, *seeds, REVISION
