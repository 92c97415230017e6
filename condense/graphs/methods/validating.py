"""Choosing between sets by what networks trained on them reach on validation graphs."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import TypeVar

from condense.graphs.evaluate import measured
from condense.graphs.methods.interface import GraphJob
from condense.graphs.protocols import PROTOCOLS
from condense.graphs.real import TrainingGraphs
from condense.graphs.sets import GraphSet
from condense.graphs.training import graph_logits, train_graphs
from condense.runtime.errors import CondenseError
from condense.runtime.progress import progress_bar
from condense.runtime.seeds import derive_seed

_NETWORKS = 3  # a tenth of a hundred graphs says little, and one network on it less
ChoiceT = TypeVar("ChoiceT", float, int, str)


def validated_by(
    net: str, candidates: Mapping[ChoiceT, GraphSet], job: GraphJob[TrainingGraphs]
) -> tuple[ChoiceT, dict[str, float]]:
    """The candidate on which three networks called `net` are best in the mean, and the means of all of them.

    Of equals the one with the fewest bytes is taken. Raises `CondenseError` where there are no validation graphs.
    """
    if job.validation is None or not len(job.validation):
        raise CondenseError(f"{job.data.info.name} has no validation graphs to choose by; give the setting itself")
    labels, info, protocol = job.validation.labels, job.data.info, PROTOCOLS.find("graph-desk")
    seen: dict[ChoiceT, float] = {}
    with progress_bar("validating", _NETWORKS * len(candidates), enabled=job.progress, unit="networks") as bar:
        for choice, made in candidates.items():
            values = []
            for number in range(_NETWORKS):
                seed = derive_seed(job.seed, "validation", number)
                network, _ = train_graphs(net, made, info, protocol, seed=seed, device=job.device)
                logits = graph_logits(network, job.validation, info, job.device)
                values.append(measured(logits, labels, info.metric))
                bar.update(_NETWORKS * len(seen) + number + 1, {info.metric: values[-1]})
            seen[choice] = fmean(values)
    best = max(candidates, key=lambda choice: (seen[choice], -candidates[choice].bytes))
    return best, {f"{choice}": value for choice, value in seen.items()}
