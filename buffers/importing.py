"""Experts of the reference projects: `replay_buffer_*.pt`, a list of experts of epochs of parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from buffers.record import describe_request, enter
from buffers.rules import Kind, expert_rule
from buffers.store import ExpertBuffer, Trajectory, expert_path, list_experts, number_of, write_expert
from condense.data import RealData
from condense.runtime.errors import CondenseError
from condense.runtime.files import check_folder
from condense.runtime.locks import only_one
from condense.runtime.torch_files import load_torch_file, plain_tensor

_FORMS = "a replay_buffer_*.pt of the MTT line of work"


def import_replay_buffer(
    path: str | Path,
    data: RealData,
    network: str,
    out: str | Path,
    *,
    optimizer: Kind = "sgd",
    dtype: Literal["float32", "float16"] = "float32",
) -> int:
    """Add the experts of a reference project's file to the buffer in `out`; returns how many there are then.

    Experts that are there already are not added again, so a call that was killed is made good by the same call.
    Such a file tells neither network nor data nor preprocessing: `network` and `data`, with its normalisation, say it,
    and `optimizer` the kind of experts. The values of their training and their accuracies are not in the file either
    and stay unknown, so `record_experts` adds none to them; statistics of
    BatchNorm are missing, so networks with it are refused. Only tensors and plain containers are read.

    Raises `CondenseError` for a file that is something else or does not fit the network, whose experts do not move, and
    for a buffer of another kind in `out`.
    """
    folder = check_folder(out)
    experts = load_torch_file(Path(path), _FORMS)
    description = describe_request(data, network, expert_rule(optimizer), _epochs(experts, path), dtype, seed=0)
    description = description.model_copy(update={"origin": "imported"})
    if description.statistics:
        raise CondenseError(f"{path} has no statistics of BatchNorm, which {description.network} needs; record experts")
    trajectories = [_trajectory(expert, description.layout.shapes, path) for expert in experts]
    with only_one(folder, "recording") as claim:
        description = enter(folder, description, data)
        there = ExpertBuffer(folder, description)
        known = {there.digest(expert) for expert in range(there.experts)}
        new = [trajectory for trajectory in trajectories if trajectory.digest not in known]
        first = max(map(number_of, there.files), default=-1) + 1
        for number, trajectory in enumerate(new, first):
            write_expert(expert_path(folder, number), trajectory, dtype)
        list_experts(folder, description)
        claim.check()
    return ExpertBuffer.open(folder).experts


def _epochs(experts: Any, path: str | Path) -> int:
    lists = isinstance(experts, list) and experts and all(isinstance(expert, list) and expert for expert in experts)
    if not lists or len({len(expert) for expert in experts}) != 1 or len(experts[0]) < 2:
        raise CondenseError(f"{path} is no list of experts with equally many epochs; give {_FORMS}")
    return len(experts[0]) - 1


def _trajectory(expert: list[Any], shapes: tuple[tuple[int, ...], ...], path: str | Path) -> Trajectory:
    rows: list[Tensor] = []
    for number, epoch in enumerate(expert):
        parameters = _parameters(epoch, path)
        measured = tuple(tuple(value.shape) for value in parameters)
        if measured != shapes:
            raise CondenseError(
                f"{path} has parameters of the shapes {measured[:3]}... ({len(measured)} of them), but the network has "
                f"{shapes[:3]}... ({len(shapes)}); give the --net and --data that its experts are of"
            )
        rows.append(torch.cat([value.float().reshape(-1) for value in parameters]))
        if not torch.isfinite(rows[-1]).all():
            raise CondenseError(
                f"{path} has parameters that are not finite after epoch {number} of an expert: it diverged"
            )
        if number > 0 and torch.equal(rows[-1], rows[-2]):
            raise CondenseError(
                f"{path} has equal parameters before and after epoch {number} of an expert: recorded on a "
                "processor, the reference code stores its live weights, so every epoch is the last one; record experts "
                "again with condense experts"
            )
    unknown = (float("nan"),) * len(rows)
    return Trajectory(torch.stack(rows), torch.zeros(len(rows), 0), unknown, float("nan"))


def _parameters(epoch: Any, path: str | Path) -> list[Tensor]:
    if not isinstance(epoch, list | tuple):
        raise CondenseError(f"{path} has an epoch that is no list of parameters; give {_FORMS}")
    try:
        return [plain_tensor(value) for value in epoch]
    except CondenseError as error:
        raise CondenseError(f"{path} has a parameter that is {error}; give {_FORMS}") from error
