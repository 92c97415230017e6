"""Networks trained on the real data before a run begins, kept in the cache folder."""

from __future__ import annotations

from dataclasses import dataclass

from condense.compute.derivatives import Parameters
from condense.compute.engine import Engine
from condense.labels import classified
from condense.methods.interface import Job
from condense.networks import build_network, canonical_name
from condense.runtime.seeds import derive_seed
from condense.training.records import Training, record_training
from condense.training.rule import TrainingRule
from condense.training.state import float_values


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
    name, seed = canonical_name(network, info.image_shape), derive_seed(job.seed, "pretrained", number)
    if job.rehearsal:
        values = float_values(build_network(name, info.image_shape, len(info.classes), seed).to(job.device))
        return Pretrained(values, values), 0.0
    record = record_training(
        classified(job.data),
        Training(name, rule, seed, derive_seed(job.seed, "pretraining", number)),
        device=job.device,
        engine=lambda network: Engine(network, job.plan),
        progress=job.progress,
    )
    initial = {name: value for name, value in record.initial.items() if value.is_floating_point()}
    return Pretrained(initial, float_values(record.network)), record.seconds_saved
