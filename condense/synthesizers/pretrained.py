"""Networks trained on the real data before a run begins, kept in the cache folder."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from condense.compute.derivatives import Parameters
from condense.compute.engine import Engine
from condense.labels import classified
from condense.methods.interface import Job
from condense.networks import build_network, canonical_name
from condense.runtime.cache import found_or_made
from condense.runtime.seeds import derive_seed
from condense.training.loop import train_network
from condense.training.rule import TrainingRule
from condense.training.state import float_values, under


@dataclass(frozen=True, eq=False)
class Pretrained:
    """A network's parameters, with the statistics of BatchNorm, before and after its training."""

    initial: Parameters
    final: Parameters


def pretrained_network(job: Job, network: str, number: int, rule: TrainingRule) -> tuple[Pretrained, float]:
    """Network `number` trained on all training images by `rule`, and the seconds that finding it in the cache saved.

    It depends on the data with its preprocessing, the network, the rule, the run's seed and the number. In a rehearsal
    it is left untrained.
    """
    info = job.data.info
    name = canonical_name(network, info.image_shape)

    def before_and_after(*, trained: bool = True) -> dict[str, Tensor]:
        module = build_network(name, info.image_shape, len(info.classes), derive_seed(job.seed, "pretrained", number))
        initial = {f"initial.{key}": value.clone() for key, value in float_values(module).items()}
        if trained:
            seed, engine = derive_seed(job.seed, "pretraining", number), Engine(module, job.plan)
            train_network(
                module, classified(job.data), rule, seed=seed, device=job.device, engine=engine, progress=job.progress
            )
        return initial | {f"final.{key}": value for key, value in float_values(module).items()}

    if job.rehearsal:
        return _pair(before_and_after(trained=False), job.device), 0.0
    parts = (info.identity, name, rule.model_dump(mode="json", exclude_defaults=True), job.seed, number)
    kept = found_or_made("networks", info.name, parts, before_and_after, what="networks trained on the real data")
    return _pair(kept.tensors, job.device), kept.seconds_saved


def _pair(tensors: dict[str, Tensor], device: torch.device) -> Pretrained:
    tensors = {key: value.to(device) for key, value in tensors.items()}
    return Pretrained(under("initial.", tensors), under("final.", tensors))
