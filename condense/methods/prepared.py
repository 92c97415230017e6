"""A request with the data that it is for: checked, with its settings, its experts and what it is going to cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from condense.compute.costs import Workload
from condense.compute.plan import Plan
from condense.compute.planning import choose_plan
from condense.data import DataInfo, RealData
from condense.data.fitting import normalization_name
from condense.data.travelling import PackedData
from condense.methods.checkpoints import recorded_part
from condense.methods.interface import ExpertSource, Job, Maker, MethodSettings
from condense.methods.method import Method
from condense.methods.missing_experts import how_to_record
from condense.methods.registry import methods
from condense.methods.request import Request, resolve_settings
from condense.methods.slices.sliced import Sliced
from condense.networks import canonical_name
from condense.recipes import load_recipe
from condense.runtime.device import set_threads
from condense.runtime.errors import CondenseError
from condense.runtime.executors import Executor, InProcess, Ray, device_of_jobs, here
from condense.runtime.progress import say
from condense.runtime.registry import load_object
from condense.runtime.validation import option_name, validated
from condense.teachers.committee import Committee


@dataclass(frozen=True)
class Prepared:
    """A request that is ready to be planned and run."""

    request: Request
    data: RealData
    entry: Method
    maker: type[Maker]
    settings: MethodSettings
    device: torch.device
    work: list[Workload]
    preparation: list[Workload]
    iterations: int | None  # that end the run; None where only the time does, or nothing is iterated
    buffer: ExpertSource | None  # the experts that are matched, and no others
    label_buffer: ExpertSource | None
    teacher: Committee | None
    executor: Executor | None

    @classmethod
    def of(
        cls,
        request: Request,
        data: RealData,
        buffer: ExpertSource | None,
        label_buffer: ExpertSource | None,
        teacher: Committee | None = None,
        executor: Executor | None = None,
    ) -> Prepared:
        """The run that is asked for; raises `CondenseError` for anything wrong in it."""
        entry = methods().find(request.method)
        if buffer is not None and entry.experts:
            settings = {"network": buffer.network} | request.settings
            request = request.model_copy(update={"settings": settings})
            if buffer.kind != entry.experts:
                say(f"note: {entry.name} is published with {entry.experts} experts, these are {buffer.kind} ones")
        elif buffer is not None:
            raise CondenseError(f"{entry.name} uses no experts: leave --buffer out")
        if not data.train.labelled:
            raise CondenseError(
                f"{entry.name} needs the classes of images, and {data.name} was read without: leave --labels none out"
            )
        settled = resolve_settings(request, data.info)
        maker: type[Maker] = load_object(entry.target)
        maker.check(data.train, request.budget, settled)
        buffer = _experts(request, entry, data, settled, buffer)
        if label_buffer is not None and not entry.label_experts:
            raise CondenseError(f"{entry.name} takes no labels from other experts: leave --label-buffer out")
        _check_label_experts(label_buffer or buffer, data.info, settled)
        executor = _executor(request, maker, executor)
        _check_teachers(request, entry, data, settled, maker, teacher)
        end = request.iterations if request.minutes is not None else getattr(settled, "iterations", None)
        asked = data.train, request.budget, settled
        return cls(
            request=request,
            data=data,
            entry=entry,
            maker=maker,
            settings=settled,
            device=device_of_jobs(request.device, executor or here),
            work=maker.work(*asked, teacher) if issubclass(maker, Sliced) else maker.work(*asked),
            preparation=maker.preparation(*asked),
            iterations=end,
            buffer=buffer,
            label_buffer=label_buffer,
            teacher=teacher,
            executor=executor,
        )

    def job(self, plan: Plan, *, progress: bool = False, checkpoint: Path | None = None) -> Job:
        """What the method is given."""
        return Job(
            self.data.train,
            self.request.budget,
            self.request.seed,
            self.device,
            plan,
            progress=progress,
            iterations=self.iterations,
            minutes=self.request.minutes,
            checkpoint=checkpoint,
            buffer=self.buffer,
            label_buffer=self.label_buffer,
            teacher=self.teacher,
            executor=self.executor,
            packed=None if self.executor is None or isinstance(self.executor, InProcess) else PackedData.of(self.data),
            keep_every=self.request.keep_every,
        )

    def settled(self, job: Job) -> MethodSettings:
        """The settings in updates, as the run of `job` takes them: what was given for its whole length, for an update.

        The length is the iterations asked for, or as many as the minutes hold at the pace of a few updates, which are
        made for this and thrown away like other measurements of a plan. An unfinished run keeps the values that it
        began with.
        """
        given = self.settings
        if not self.for_the_whole_run:
            return given
        if self.request.resume and job.checkpoint is not None and job.checkpoint.exists():
            recorded = recorded_part(job.checkpoint, "settings")
            # that of another method has others, and is refused where the two are compared
            return given.model_copy(update={name: recorded.get(name) for name in self.for_the_whole_run})
        if self.request.minutes is None:
            assert self.iterations is not None, "a run without minutes ends after its iterations"
            return given.for_length(self.iterations)
        pace = self.maker.pace(job, given)
        assert pace is not None, "only updates take minutes"
        length = pace.within(self.request.minutes, self.iterations)
        spread = " and ".join(option_name(name) for name, value in self.for_the_whole_run.items() if value is not None)
        say(f"for the whole run: {spread}, taken for about {length:,} updates")
        return given.for_length(length)

    @property
    def for_the_whole_run(self) -> dict[str, Any]:
        """The settings that are given for the whole run, however long it is."""
        given = self.settings
        spread = [given.for_length(length) for length in (1, 2)]  # a value may be its own for one of them
        return {name: value for name, value in given if any(getattr(each, name) != value for each in spread)}

    @property
    def _usual_precision(self) -> Literal["auto", "float32"]:
        return getattr(self.maker, "usual_precision", "auto")

    def plan(self, unfinished: Path | None = None) -> Plan:
        """The plan of the unfinished run, with what is asked for explicitly; for a new run, one made for its work.

        A plan is fixed for the whole run: sums that are divided otherwise can end in other last bits.
        """
        asked = self.request
        fields = asked.model_dump(include={"precision", "compile", "micro_batch", "threads"})
        explicit = {name: value for name, value in fields.items() if value not in (None, "auto")}
        recorded = {}
        if unfinished is not None and unfinished.exists():
            recorded = recorded_part(unfinished, "plan")
        plan = validated(Plan, recorded | explicit | {"device": self.device.type}, spell=option_name)
        set_threads(plan.threads if recorded else asked.threads or (self.executor or here).threads)
        if recorded:
            return plan
        return choose_plan(
            self.work,
            self.iterations,
            once=self.preparation,
            device=self.device,
            threads=torch.get_num_threads(),
            precision=asked.precision if asked.precision != "auto" else self._usual_precision,
            compile=asked.compile,
            micro_batch=asked.micro_batch,
            seconds=None if asked.minutes is None else 60 * asked.minutes,
        )


def _executor(request: Request, maker: type[Maker], given: Executor | None) -> Executor | None:
    """Where slices are made: on what is given, or on so many workers; raises `CondenseError` where it is of no use."""
    if given is None and request.workers is None:
        return None
    if not issubclass(maker, Sliced):
        raise CondenseError(f"{request.method} does not work in slices, which workers could share: leave --workers out")
    executor = given or Ray(request.workers, threads=request.threads or 1)
    if isinstance(executor, Ray):
        executor.check()
    return executor


def _check_teachers(
    request: Request,
    entry: Method,
    data: RealData,
    settings: MethodSettings,
    maker: type[Maker],
    teacher: Committee | None,
) -> None:
    """Raise `CondenseError` unless there are teachers where they are asked, and such as know this data."""
    if teacher is None and entry.teacher:
        raise CondenseError(
            f"{entry.name} asks a teacher, a network trained on the real data: train one with condense teachers --data "
            f"{data.name} --net convnet-bn --out teachers, and give --teacher teachers"
        )
    if not issubclass(maker, Sliced):
        if teacher is not None:
            raise CondenseError(f"{entry.name} asks no teacher: leave --teacher out")
        return
    for option in ("minutes", "keep_every"):
        if getattr(request, option) is not None:
            raise CondenseError(
                f"{entry.name} works in slices, each of which needs all of its updates: leave {option_name(option)} "
                "out; --iterations makes it shorter, and --dry-run tells how long it takes"
            )
    if maker.only_float32 and request.precision == "bfloat16":
        raise CondenseError(f"{entry.name} computes in float32 only: leave --precision bfloat16 out")
    if teacher is None:
        return
    for note in teacher.check_matches(data.info):
        say(f"note: {note}")
    maker.check_teachers(data.train, request.budget, settings, teacher)


def _experts(
    request: Request, entry: Method, data: RealData, settings: Any, buffer: ExpertSource | None
) -> ExpertSource | None:
    """The experts that are matched, as many as the settings ask for; raises `CondenseError` without the right ones."""
    found = load_recipe(entry.name, request.recipe)
    usual, given = found.normalization_for(data.name, request.budget.ipc), normalization_name(data.info.preprocessing)
    other = None if usual == given else usual
    special = found.experts_for(data.name, request.budget.ipc)
    if entry.experts and buffer is None:
        special = {**data.reading_options, **special}
        raise CondenseError(how_to_record(entry, data.info, len(data.train), settings, special, other))
    if other is not None:
        say(f"note: the recipe's values for {data.name} are for --normalization {other}, this data has {given}")
    if buffer is None:
        return None
    part = getattr(settings, "max_experts", None)
    buffer = buffer if part is None else buffer.first(part)
    _check_experts(buffer, data.info, settings)
    _compare_experts(buffer, special)
    return buffer


def _check_experts(buffer: ExpertSource, info: DataInfo, settings: Any) -> None:
    """Raise `CondenseError` unless they are such networks on this data and have the window of these settings."""
    buffer.check_matches(canonical_name(settings.network, info.image_shape), info)
    buffer.check_window(settings.max_start, settings.span, settings.min_start)


def _check_label_experts(buffer: ExpertSource | None, info: DataInfo, settings: Any) -> None:
    """Raise `CondenseError` unless the experts that say what images are know this data and have the epoch."""
    epoch = getattr(settings, "label_epoch", None)
    if buffer is None:
        return
    buffer.check_matches(buffer.network, info)  # of any network
    if epoch is not None and epoch > buffer.epochs:
        raise CondenseError(
            f"--label-epoch {epoch} is after the last epoch of the experts; give one from 0 to {buffer.epochs}"
        )


def _compare_experts(buffer: ExpertSource, special: Mapping[str, Any]) -> None:
    """Say where they were trained otherwise than the recipe wants it."""
    for name, value in special.items():
        if buffer.training.get(name, value) != value:
            wanted, given = f"{option_name(name)} {value}", buffer.training[name]
            say(f"note: the recipe's values are for experts with {wanted}, these have {given}")
