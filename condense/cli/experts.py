"""`condense experts`: train networks on real data and keep their parameters of every epoch."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, create_model

from condense.cli.options import DataOptions, load, open_fields
from condense.cli.parsing import parse
from condense.cli.workers import ray_workers
from condense.runtime.progress import answer, say

if TYPE_CHECKING:
    from condense.runtime.executors import Executor


class ExpertOptions(DataOptions):
    """Options of `condense experts`."""

    data: str = Field(description="name of a data set, or a path to images or arrays")
    net: str = Field("convnet-w64", description="network of the experts, and of the methods that use them")
    experts: int = Field(ge=1, description="how many; more than there are adds to them")
    epochs: int = Field(ge=1, description="of each: the latest start and the span of the methods together")
    out: Path = Field(description="folder of the experts")
    optimizer: Literal["sgd", "flat", "smooth"] = Field(
        "sgd", description="sgd for mtt and tesla, flat for ftd and datm, smooth for ast"
    )
    dtype: Literal["float32", "float16"] = Field("float32", description="of the stored parameters")
    seed: int = Field(0, ge=0, description="of everything random")
    device: str = Field("auto", description="auto, cpu or cuda:N; workers train on processors")
    compile: Literal["auto", "on", "off"] = Field(
        "auto", description="compile the training step [where it saves more time than it costs]"
    )
    workers: int | None = Field(None, ge=1, description="train so many at once, on Ray [one after the other, here]")
    ray: str | None = Field(
        None, description="address of a Ray cluster to train on, whose machines share this file system"
    )
    threads: int | None = Field(
        None, ge=1, description="processor threads of each training [as it began; at first all here, 1 on Ray]"
    )


def experts(words: Sequence[str]) -> int:
    """Record expert trajectories."""
    from buffers import ExpertBuffer, record_experts

    options = parse(
        _options_model(),
        words,
        program="condense experts",
        description="Train networks on real data and store their parameters before and after every epoch, for the "
        "methods that match trajectories. The same command goes on where it stopped.",
    )
    from condense.runtime.files import check_folder

    check_folder(options.out)
    rule, executor = _rule(options), _executor(options)  # what may be wrong comes before data that may take minutes
    found = record_experts(
        load(options.data, options),
        options.net,
        options.experts,
        options.epochs,
        options.out,
        rule=rule,
        dtype=options.dtype,
        seed=options.seed,
        executor=executor,
        device=options.device,
        compile=options.compile,
        progress=sys.stderr.isatty(),
    )
    for number, error in sorted(found.failed.items()):
        say(f"expert {number} failed: {error}")
    if found.finished:
        buffer = ExpertBuffer.open(options.out)
        answer(f"{options.out}: {buffer.experts} experts of {buffer.epochs} epochs, {buffer.bytes / 1e6:,.1f} MB")
    return 1 if found.failed else 0


def _executor(options: ExpertOptions) -> Executor:
    """Where experts are trained; raises `CondenseError` if that is out of reach."""
    threads = options.threads or _threads_of(options.out)
    there = ray_workers(options.workers, options.ray, threads)
    if there is not None:
        return there
    import torch

    from condense.runtime.executors import InProcess

    return InProcess(threads or torch.get_num_threads())


def _threads_of(folder: Path) -> int | None:
    """Those with which the experts there are trained: the last bits depend on them."""
    from buffers.index import INDEX, read_description

    return read_description(folder).threads if (folder / INDEX).exists() else None


def _options_model() -> type[Any]:
    """The options of the command, and every value of a rule."""
    from buffers import ExpertRule

    own = open_fields(ExpertRule, lambda field: "as published for --optimizer")
    del own["optimizer"]
    return create_model("ExpertOptions", __base__=ExpertOptions, **own)


def _rule(options: Any) -> Any:
    """The published rule of the kind of experts that is asked for, with the values that are given."""
    from buffers import ExpertRule, expert_rule

    given = sorted(options.model_fields_set & ExpertRule.model_fields.keys() - {"optimizer"})
    return expert_rule(options.optimizer, **{name: getattr(options, name) for name in given})
