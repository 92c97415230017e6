"""What a training costs, and the engine that does it: compiled where that is over sooner."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import torch

from condense.compute.costs import Workload
from condense.compute.engine import Engine
from condense.compute.planning import Asked, choose_plan
from condense.data.info import DataInfo
from condense.networks import build_network
from condense.training.rule import TrainingRule


def training_engine(
    name: str,
    info: DataInfo,
    images: int,
    rule: TrainingRule,
    *,
    networks: int,
    device: torch.device,
    compile: Asked,
    outputs: int | None = None,
) -> Engine:
    """What trains `networks` networks called `name` on so many images: compiled where that is over sooner.

    They have an output for each class, or `outputs`. Whether it is follows from the planned work and the measured rates
    of this machine (`condense.compute.planning`), if `compile` is `auto`; numbers differ by rounding only.
    """
    plan = choose_plan(
        [],
        None,
        once=[training_work(name, info, images, rule, networks=networks)],
        device=device,
        threads=torch.get_num_threads(),
        precision="float32",
        compile=compile,
    )
    network = build_network(name, info.image_shape, outputs or len(info.classes), seed=0)
    return Engine(network.to(device).train(), plan)


def training_work(name: str, info: DataInfo, images: int, rule: TrainingRule, *, networks: int = 1) -> Workload:
    """The whole training of `networks` networks called `name` on so many images, for a plan."""
    batch, updates = min(rule.batch_size, images), rule.updates_run(images)
    return Workload("training", name, info.image_shape, len(info.classes), batch, times=networks * updates)


@lru_cache(maxsize=1)
def engine_of_jobs(
    name: str, info: DataInfo, images: int, rule: TrainingRule, device: torch.device, compile: Literal["on", "off"]
) -> Engine:
    """What trains one network after the other in this process, all alike: it is compiled once."""
    return training_engine(name, info, images, rule, networks=1, device=device, compile=compile)
