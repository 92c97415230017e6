"""Recording experts: independent jobs, here or on workers, each stored as soon as it is finished."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from buffers.experts import ExpertJob, remove_partial, train_expert, training_rule
from buffers.index import (
    INDEX,
    PREPROCESSING,
    BufferDescription,
    preprocessed_alike,
    read_description,
    write_description,
    write_preprocessing,
)
from buffers.rules import ExpertRule, Kind, expert_rule
from buffers.store import expert_path, list_experts, write_expert
from condense.compute.planning import draws_uncompiled
from condense.data import DataInfo, RealData
from condense.data.travelling import PackedData
from condense.networks import NetworkLike, build_network, canonical_name, network_name
from condense.networks.layout import Layout
from condense.runtime.errors import CondenseError
from condense.runtime.executors import Executor, InProcess, device_of_jobs
from condense.runtime.files import check_folder, remove_half_done
from condense.runtime.locks import Claim, only_one
from condense.runtime.progress import progress_bar
from condense.runtime.provenance import versions
from condense.training.engines import training_engine


@dataclass(frozen=True)
class Recording:
    """What became of the experts that were asked for: the error of each that failed, by its number."""

    folder: Path
    finished: int
    failed: dict[int, str] = field(default_factory=dict)


def record_experts(
    data: RealData,
    network: NetworkLike,
    experts: int,
    epochs: int,
    out: str | Path,
    *,
    optimizer: Kind | None = None,
    rule: ExpertRule | None = None,
    dtype: Literal["float32", "float16"] = "float32",
    seed: int = 0,
    executor: Executor | None = None,
    device: str = "auto",
    compile: Literal["auto", "on", "off"] = "auto",
    progress: bool = False,
) -> Recording:
    """Train `experts` networks on the training part of `data` and store their parameters before and after every epoch.

    The same call goes on where an earlier one stopped, within an expert as well, and adds experts if it asks for more.
    Expert k depends on the data, the network, the rule, the epochs, `seed` and k only, not on which worker trains it;
    its last bits also on the kind of device, the threads of the executor and `compile`, which a buffer keeps, and on
    the kind of processor and the version of torch, which it does not.

    Args:
        data: from `load_data`; its test part only serves to tell the accuracy of experts.
        network: name of a network; a plain `convnet` is of width 128 with instance norm. Or an `nn.Module`, or a
            function that makes one (see `condense.networks.network_name`), for experts of this process.
        experts: how many, at least 1.
        epochs: of each expert; as many as a method's latest start and its span together.
        out: folder of the buffer.
        optimizer: `sgd` as MTT, which is the default, `flat` as FTD and DATM, `smooth` as AST: their published values.
        rule: instead of these, other values.
        dtype: of the stored snapshots; float16 halves the size and rounds each weight by about 5e-4 of it.
        seed: of initialisations, order of images and augmentation.
        executor: where experts are trained; default: in this process with one thread.
        device: `auto`, `cpu` or `cuda:N`; `auto` goes on as it began, and is a GPU at first if there is one. Executors
            with workers train on processors.
        compile: whether the training step is compiled; `auto` does so where it saves more time than it costs, and goes
            on as it began.
        progress: show a progress bar on standard error.

    Raises:
        CondenseError: for an unknown network, numbers below 1, an `out` that cannot be a folder or that another call is
            writing to, and a folder with experts of another kind, naming the field that differs. A failed expert is no
            error: it is listed in the result.
    """
    if experts < 1 or epochs < 1:
        raise CondenseError(f"{experts} experts of {epochs} epochs: give at least 1 of each")
    executor = executor or InProcess()
    if not isinstance(network, str) and not isinstance(executor, InProcess):
        raise CondenseError(
            "a network object is in this process only, not in those of workers; leave the executor out, or make the "
            "network an entry point of condense.networks"
        )
    name = network_name(network, data.image_shape, len(data.classes))
    folder = check_folder(out)
    if rule is not None and optimizer not in (None, rule.optimizer):
        raise CondenseError(
            f"optimizer {optimizer} and a rule of {rule.optimizer} do not go together; give one of them"
        )
    chosen = rule or expert_rule(optimizer or "sgd")
    description = describe_request(data, name, chosen, epochs, dtype, seed)
    draws_uncompiled(description.network, data.image_shape, len(data.classes), compile)  # refuses what cannot be
    begun = read_description(folder) if (folder / INDEX).exists() else None
    where = device_of_jobs(device if device != "auto" or not begun else begun.device, executor)
    if compile == "auto":
        compile = begun.compile if begun else _worth_compiling(data, description, experts, where)
    settled = {"device": where.type, "compile": compile, "threads": executor.threads}
    with only_one(folder, "recording") as claim:  # two would undo each other's epochs
        description = enter(folder, description.model_copy(update=settled), data)
        failed = _record_missing(data, description, experts, claim, executor, where, progress)
        claim.check()
        finished = [number for number in range(experts) if number not in failed]
        lost = [number for number in finished if not expert_path(folder, number).exists()]
    if lost:
        raise CondenseError(f"expert {lost[0]} was removed from {folder} while others were recorded; start it again")
    return Recording(folder, len(finished), failed)


def _record_missing(
    data: RealData,
    description: BufferDescription,
    experts: int,
    claim: Claim,
    executor: Executor,
    device: torch.device,
    progress: bool,
) -> dict[int, str]:
    """Train the experts that are not there yet and store each as it is finished; the errors of those that failed."""
    folder = claim.folder
    there = folder.resolve()  # workers may be in another folder
    partials = {number: expert_path(there, number).with_suffix(".partial") for number in range(experts)}
    missing = [number for number in range(experts) if not expert_path(folder, number).exists()]
    for number in partials.keys() - missing:  # a kill may have come between the two
        remove_partial(partials[number])
    if not missing:
        return {}
    packed = PackedData.of(data)
    jobs = [
        ExpertJob(
            data=packed,
            network=description.network,
            rule=description.rule,
            epochs=description.epochs,
            seed=description.seed,
            number=number,
            partial=str(partials[number]),
            compile=description.compile,
            device=str(device),
        )
        for number in missing
    ]
    failed: dict[int, str] = {}
    with progress_bar("recording experts", experts, enabled=progress, unit="experts") as bar:
        bar.update(experts - len(missing))
        for done, outcome in enumerate(executor.run(train_expert, jobs), 1):
            claim.check()
            number = outcome.job.number
            if outcome.value is None:
                failed[number] = outcome.error or "no result"
            else:
                write_expert(expert_path(folder, number), outcome.value, description.dtype)
                list_experts(folder, description)
                remove_partial(partials[number])
                bar.update(experts - len(missing) + done, {"accuracy": outcome.value.accuracies[-1]})
    return failed


def _worth_compiling(
    data: RealData, description: BufferDescription, experts: int, device: torch.device
) -> Literal["on", "off"]:
    """What is over sooner on this machine."""
    engine = training_engine(
        description.network,
        data.info,
        len(data.train),
        training_rule(description.rule, description.epochs),
        networks=experts,
        device=device,
        compile="auto",
    )
    return engine.plan.compile


def describe_request(
    data: RealData, network: str, rule: ExpertRule, epochs: int, dtype: Literal["float32", "float16"], seed: int
) -> BufferDescription:
    """What a buffer of such experts is of; raises `CondenseError` for an unknown network."""
    name = canonical_name(network, data.image_shape)
    module = build_network(name, data.image_shape, len(data.classes), seed=0)
    parameters, statistics = Layout.of_parameters(module), Layout.of_statistics(module)
    return BufferDescription(
        network=name,
        image_shape=data.image_shape,
        classes=data.classes,
        parameters=tuple(zip(parameters.names, parameters.shapes)),
        statistics=tuple(zip(statistics.names, statistics.shapes)),
        data=data.name,
        fingerprint=data.fingerprint,
        preprocessing=data.preprocessing.kind,
        identity=data.info.identity,
        mirror=data.mirror,
        rule=rule.resolved(epochs),
        epochs=epochs,
        dtype=dtype,
        seed=seed,
        versions=versions(),
    )


def enter(folder: Path, description: BufferDescription, data: RealData) -> BufferDescription:
    """Begin a buffer in its folder, or go on with the one that is there, whose description is given back.

    Raises `CondenseError` with what differs between the two.
    """
    remove_half_done(folder, INDEX, PREPROCESSING, "expert-*.h5")
    if not (folder / INDEX).exists():
        write_preprocessing(folder, data.preprocessing)
        write_description(folder, description)
        return description
    begun = read_description(folder)
    _same_request(begun, description, folder, data.info)
    list_experts(folder, begun)  # a kill may have come between an expert and the index
    return begun


def _same_request(found: BufferDescription, asked: BufferDescription, folder: Path, info: DataInfo) -> None:
    """Raise `CondenseError` with what differs between the buffer in `folder` and what is asked for data of `info`."""
    recorded = _decisive(found)
    for name, here in _decisive(asked).items():
        there = recorded.get(name)
        if here != there and not (name == "threads" and None in (here, there)):
            raise CondenseError(
                f"{folder} has experts with another {name.replace('_', ' ')} ({_short(there)}, not {_short(here)}); "
                "give the same, or another --out"
            )
    if not preprocessed_alike(folder, found, info):
        raise CondenseError(
            f"{folder} has experts with another preprocessing ({found.preprocessing} with other numbers); "
            "give the same, or another --out"
        )


def _decisive(description: BufferDescription) -> dict[str, Any]:
    """What decides the experts and must be equal, by the words of errors."""
    rule = {f"rule: {name}": value for name, value in description.rule.used.items()}
    return description.model_dump(exclude={"versions", "identity", "rule", "experts"}) | rule


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."
