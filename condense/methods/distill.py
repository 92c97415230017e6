"""`distill`: one function that runs any registered method and gives, and if asked stores, a synthetic set."""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from condense.data import DataInfo, RealData
from condense.data.budget import Budget
from condense.data.fitting import data_options
from condense.data.reading import READING_OPTIONS
from condense.methods.checkpoints import check_continues, checkpoint_path
from condense.methods.interface import ExpertSource, Job, MethodSettings, Product
from condense.methods.intermediate_sets import check_kept, kept_path, without_iterations
from condense.methods.method import Method
from condense.methods.output import claimed_target, store
from condense.methods.prepared import Prepared
from condense.methods.request import Request
from condense.runtime.device import threads_restored
from condense.runtime.executors import Executor
from condense.runtime.memory import memory_errors_named
from condense.runtime.progress import notes_heard
from condense.runtime.provenance import circumstances, peak_memory, versions
from condense.runtime.validation import option_name, option_words, validated
from condense.sets.large import StoredRows
from condense.sets.synthetic_set import SyntheticSet
from condense.teachers import Committee, Teacher


def distill(
    method: str,
    data: RealData,
    ipc: int | None = None,
    *,
    fraction: float | None = None,
    balanced: bool = True,
    iterations: int | None = None,
    minutes: float | None = None,
    seed: int = 0,
    recipe: str | None = None,
    out: str | Path | None = None,
    resume: bool = True,
    overwrite: bool = False,
    device: str = "auto",
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    compile: Literal["auto", "on", "off"] = "auto",
    micro_batch: int | None = None,
    threads: int | None = None,
    buffer: ExpertSource | None = None,
    label_buffer: ExpertSource | None = None,
    teacher: Teacher | Committee | str | Path | None = None,
    executor: Executor | None = None,
    keep_every: int | None = None,
    progress: bool = False,
    **options: Any,
) -> SyntheticSet:
    """Make a synthetic set of `ipc` images per class, or of a fraction of them, from the training part of `data`.

    Args:
        method: a registered name or alias, for example `dm` or `random` (`condense methods` lists them).
        data: from `load_data`; only its training part is given to the method.
        ipc: images per class, at least 1; methods that choose real images need that many in every class.
        fraction: instead of `ipc`: the part of the training images that is chosen, shared among the classes by largest
            remainder. Images that are learned come in whole numbers per class.
        balanced: whether every class gets its share; otherwise real images are chosen whatever their class.
        iterations: updates of the images; default: the recipe's.
        minutes: stop after this time instead, or at `iterations` if both are given and these come first. The set
            records the iterations reached, and its `command`, with every setting written out, makes it again.
        seed: of everything random; the same call gives the same file.
        recipe: name of a recipe of the method or path of a YAML file; default: the method's published settings for
            this data and ipc.
        out: where to store the set (`.h5`). A run that is killed is continued by the same call; a `.json` of the same
            name beside the finished file tells time, memory and hardware.
        resume: whether to continue an unfinished run found beside `out`.
        overwrite: whether a finished `out` may be replaced.
        device: `auto`, `cpu` or `cuda:N`.
        precision: of what networks compute; `auto` is bfloat16 where the machine runs it natively, else float32.
        compile: whether inner functions are compiled; `auto` does so where it saves more time than it costs.
        micro_batch: images that go through a network at once, at most; default: the fastest size. Less needs less
            memory.
        threads: processor threads; default: torch's choice. Like the three before it, an unfinished run keeps the
            value it began with.
        buffer: recorded experts, for methods that match trajectories: `buffers.ExpertBuffer.open(folder)`.
        label_buffer: other experts on the same data, of any network, that choose the images to start from and say what
            their labels are, for methods that learn labels (`datm`).
        teacher: for methods that ask trained networks: a `Teacher`, several with weights as a `Committee`, or their
            files as `--teacher` names them (`A:0.8,B:0.2`).
        executor: where methods that work in slices make them, for example `Ray(workers=4)`; default: in this process,
            one after the other. Slices are stored as they are finished.
        keep_every: also store the set as it is after every so many updates, as `NAME-000500.h5` beside `out`: what a
            run of as many iterations would have stored, but for settings that are given for the whole run. It changes
            nothing about the run.
        progress: show a progress bar on standard error.
        options: settings of the method by name; they win over the recipe. `network` may also be an `nn.Module`, or a
            function that makes one (see `condense.networks.network_name`).

    Raises:
        CondenseError: for anything wrong in the request, before any work is lost.
        KeyboardInterrupt: after a Ctrl-C; an unfinished run is saved first if `out` is given.
    """
    request = Request.of(
        method,
        validated(Budget, {"ipc": ipc, "fraction": fraction, "balanced": balanced}, spell=option_name),
        options,
        iterations=iterations,
        minutes=minutes,
        seed=seed,
        recipe=recipe,
        out=out,
        resume=resume,
        overwrite=overwrite,
        device=device,
        precision=precision,
        compile=compile,
        micro_batch=micro_batch,
        threads=threads,
        keep_every=keep_every,
    )
    committee = None if teacher is None else Committee.of(teacher)
    return make(
        request, data, buffer=buffer, label_buffer=label_buffer, teacher=committee, executor=executor, progress=progress
    )


@threads_restored()
def make(
    request: Request,
    data: RealData,
    *,
    buffer: ExpertSource | None = None,
    label_buffer: ExpertSource | None = None,
    teacher: Committee | None = None,
    executor: Executor | None = None,
    progress: bool = False,
) -> SyntheticSet:
    """Make the set that is asked for, and store it where the request says so; see `distill`."""
    with notes_heard() as notes:
        prepared = Prepared.of(request, data, buffer, label_buffer, teacher, executor)
        claimed = nullcontext() if request.out is None else claimed_target(request.out, overwrite=request.overwrite)
        with claimed as target:
            checkpoint = None if target is None else checkpoint_path(target)
            plan = prepared.plan(checkpoint if request.resume else None)
            job = prepared.job(plan, progress=progress, checkpoint=checkpoint)
            return _run(prepared, job, target, notes)


def _run(prepared: Prepared, job: Job, target: Path | None, notes: list[str]) -> SyntheticSet:
    """Make the set and, with a target, store it, with what was noted on the way."""
    settings = prepared.settled(job)
    configuration = _configuration(prepared.entry, prepared.data, job, settings)
    if job.keep_every is not None:
        check_kept(job.keep_every, target, configuration, overwrite=prepared.request.overwrite)
    must_agree = configuration if job.iterations is not None else without_iterations(configuration)
    if prepared.for_the_whole_run:
        must_agree = must_agree | {"for the whole run": prepared.for_the_whole_run}
    if job.checkpoint is not None and not prepared.request.resume:
        job.checkpoint.unlink(missing_ok=True)  # not before: a request that is refused must not cost an unfinished run
    if job.checkpoint is not None and job.checkpoint.exists():
        check_continues(job.checkpoint, must_agree)

    def made_of(product: Product) -> SyntheticSet:
        reached = configuration | {"settings": product.settings.model_dump(mode="json")}
        return _as_set(product, prepared.data.info, reached, prepared.entry)

    def keep(product: Product) -> None:
        assert target is not None, "nothing is kept beside a set that is not stored"
        kept = made_of(product)
        kept.save(kept_path(target, kept.provenance["configuration"]["settings"]["iterations"]))

    started = time.monotonic()
    with memory_errors_named():
        product = prepared.maker.make(replace(job, configuration=must_agree, keep=keep), settings)
    synthetic = made_of(product)
    if target is not None:
        account = _account(product, synthetic, time.monotonic() - started, job.buffer)
        store(synthetic, account | {"notes": notes}, target, must_agree)
        if isinstance(synthetic.stored, StoredRows):  # of slices, which are gone now
            return SyntheticSet.load(target)
    return synthetic


def _configuration(entry: Method, data: RealData, job: Job, settings: MethodSettings) -> dict[str, Any]:
    """All that decides the result, in JSON's types."""
    experts: dict[str, Any] = (
        {} if job.buffer is None else {"experts": job.buffer.identity, "kind of experts": job.buffer.kind}
    )
    if job.label_buffer is not None:
        experts["label experts"] = job.label_buffer.identity
    if job.teacher is not None:
        experts["teachers"] = job.teacher.recorded
    return settings.files() | {
        "method": entry.name,
        "revision": entry.revision,
        **data_options(data.info),
        **data.reading_options,
        "fingerprint": data.fingerprint,
        "identity": data.info.identity,
        **job.budget.recorded,
        "seed": job.seed,
        "settings": settings.model_dump(mode="json"),
        **experts,
        "plan": job.plan.model_dump(),
    }


def _as_set(product: Product, info: DataInfo, configuration: dict[str, Any], entry: Method) -> SyntheticSet:
    soft = product.labels.kind != "hard"
    return SyntheticSet(
        stored=product.stored,
        stored_labels=product.labels,
        weights=product.weights,
        source_indices=product.source_indices,
        scores=product.scores,
        space=product.space,
        decoder=product.decoder,
        learned_lr=product.learned_lr,
        mirrored=product.mirrored,
        augmentation=product.augmentation,
        protocol=entry.soft_protocol if soft and entry.soft_protocol else entry.protocol,
        info=info,
        provenance={
            "configuration": configuration,
            "command": reproduction_command(configuration),
            "versions": versions(),
        },
        metrics=product.metrics,
    )


def reproduction_command(configuration: dict[str, Any]) -> str:
    """The command line that makes the same set again, every setting written out; data by its base name.

    >>> data = {"data": "digits", "image_size": "8x8", "normalization": "computed", "mirror": False}
    >>> run = {"ipc": 1, "seed": 0, "settings": {"image_lr": 1.0}, "plan": {"device": "cpu", "micro_batch": 32}}
    >>> print(reproduction_command({"method": "dm"} | data | run))  # doctest: +NORMALIZE_WHITESPACE
    condense distill dm --data digits --image-size 8x8 --normalization computed --no-mirror --ipc 1 --seed 0
    --image-lr 1.0 --device cpu --micro-batch 32 --out set.h5
    """
    about = ("data", "image_size", "normalization", "mirror", *READING_OPTIONS, "ipc", "fraction", "balanced", "seed")
    values = {key: configuration[key] for key in about if key in configuration}
    values |= configuration["settings"] | configuration["plan"]
    if "experts" in configuration:
        values["buffer"] = "experts"
    if "teachers" in configuration:
        values["teacher"] = named_teachers(configuration["teachers"])
    if "label experts" in configuration:
        values["label_buffer"] = "label-experts"
    return shlex.join(["condense", "distill", configuration["method"], *option_words(values | {"out": "set.h5"})])


def named_teachers(teachers: Sequence[Mapping[str, Any]]) -> str:
    """Teachers for a command, by files that are called as their hashes; weights where there are several."""
    if len(teachers) == 1:
        return f"{teachers[0]['hash']}.safetensors"
    return ",".join(f"{each['hash']}.safetensors:{each['weight']:.12g}" for each in teachers)


def _account(product: Product, synthetic: SyntheticSet, seconds: float, buffer: ExpertSource | None) -> dict[str, Any]:
    """What belongs beside the file and not in it, because it differs from run to run.

    The trainings of experts, which runs share, are told by themselves: seconds of all of them one after the other.
    """
    trained = sum(buffer.seconds(expert) for expert in range(buffer.experts)) if buffer else math.nan
    experts = {} if math.isnan(trained) else {"expert_seconds": round(trained, 3)}
    return experts | {
        "method": synthetic.provenance["configuration"]["method"],
        "iterations": getattr(product.settings, "iterations", None),
        "seconds": round(product.facts.get("seconds", seconds), 3),
        "peak_memory": peak_memory(),
        "bytes": synthetic.bytes,
        "plan": synthetic.provenance["configuration"]["plan"],
        **circumstances(),
        **{name: value for name, value in product.facts.items() if name != "seconds"},
    }
