"""Training teachers on real data, here or on workers; what is killed goes on after the epoch that it had reached."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch

from condense.compute.planning import Asked, draws_uncompiled
from condense.data import RealData
from condense.data.preprocessing import Normalization
from condense.data.travelling import PackedData
from condense.networks import NetworkLike, canonical_name, network_name
from condense.runtime.errors import CondenseError
from condense.runtime.executors import Executor, InProcess, device_of_jobs
from condense.runtime.files import check_folder
from condense.runtime.progress import progress_bar, say
from condense.runtime.provenance import versions
from condense.runtime.validation import option_name, validated
from condense.teachers.job import TeacherJob, Trained, begun, held_out_part, train, train_on_worker
from condense.teachers.manifest import Manifest
from condense.teachers.output import check_same, claimed_teacher, is_finished, partial_path, store, teacher_file
from condense.teachers.rule import TeacherRule
from condense.teachers.teacher import SUFFIX, Teacher, batch_norm_of
from condense.training.engines import training_engine

_LAST_BITS = ("device", "compile", "threads")  # of a training: they decide the rounding and nothing else


@dataclass(frozen=True)
class TeacherTraining:
    """What became of the teachers that were asked for.

    `teachers` are those that are finished, `found` the files of those among them that were so before, `failed` the
    errors of the others by their files.
    """

    teachers: tuple[Teacher, ...]
    found: tuple[Path, ...]
    failed: dict[Path, str]


def train_teacher(
    data: RealData,
    net: NetworkLike,
    out: str | Path | None = None,
    *,
    epochs: int = 30,
    lr: float = 0.1,
    batch_size: int = 128,
    weight_decay: float = 5e-4,
    augmentation: str = "crop-flip",
    holdout: float = 0.1,
    seed: int = 0,
    device: str = "auto",
    compile: Asked = "auto",
    overwrite: bool = False,
    progress: bool = False,
) -> Teacher:
    """A network trained on the training images of `data`, in this process.

    With a folder `out` the teacher is stored there, as `NETWORK-sSEED.safetensors`, and a training that was killed goes
    on after the last epoch that it finished, to the same bits as without the kill. One that is finished is not trained
    again. Equal calls give equal files, on as many threads of the same kind of processor.

    Args:
        data: from `load_data`, with a normalisation for each channel; its test images only serve to tell the accuracy.
        net: name of a network, an `nn.Module`, or a function that makes one (see `condense.networks.network_name`).
            One without BatchNorm can label images, but none can be recovered from it.
        out: folder; None keeps the teacher in memory only.
        epochs: as `lr`, `batch_size`, `weight_decay`, `augmentation` and `holdout` a field of `TeacherRule`.
        seed: of the initialisation, the order of images and the views; not of which images are held out.
        device: `auto`, `cpu` or `cuda:N`; `auto` is a GPU if there is one.
        compile: whether the training step is compiled; `auto` does so where it saves more time than it costs.
        overwrite: replace what is there.
        progress: show a progress bar on standard error.

    Raises:
        CondenseError: for values out of their range, an unknown network, data without labels, whitened data and data
            that is not normalised, for a training that diverges, and for another teacher where this one is to be.

    >>> from condense import load_data
    >>> teacher = train_teacher(load_data("digits"), "convnet-d2-w8-bn", epochs=1, lr=0.01)
    >>> teacher.manifest.held_out.images
    143
    """
    given: dict[str, Any] = {"epochs": epochs, "lr": lr, "batch_size": batch_size, "weight_decay": weight_decay}
    given |= {"augmentation": augmentation, "holdout": holdout}
    rule = validated(TeacherRule, given, spell=option_name)
    if out is None:
        request = _Request(data, rule, 1, _here(), device, compile, progress)
        return train(data, request.job(request.manifest(net, seed), None)).teacher
    made = train_teachers(
        data, net, out, rule=rule, seed=seed, device=device, compile=compile, overwrite=overwrite, progress=progress
    )
    for error in made.failed.values():
        raise CondenseError(error)
    return made.teachers[0]


def train_teachers(
    data: RealData,
    nets: NetworkLike | Sequence[NetworkLike],
    out: str | Path,
    *,
    rule: TeacherRule | None = None,
    count: int = 1,
    seed: int = 0,
    executor: Executor | None = None,
    device: str = "auto",
    compile: Asked = "auto",
    overwrite: bool = False,
    progress: bool = False,
) -> TeacherTraining:
    """Several teachers as `train_teacher` makes each: of every network `count`, with the seeds from `seed` on.

    None depends on the others or on the executor, which is this process unless another one is given. With workers the
    data travels as a packed file in the cache. What is half trained goes on as it began: on the same kind of device,
    and compiled or not, unless these are given.

    Raises `CondenseError` as `train_teacher` does, before the first training; but a training that fails is listed in
    the result, and the others go on.
    """
    folder, executor = check_folder(out), executor or _here()
    networks: list[NetworkLike] = list(nets) if isinstance(nets, list | tuple) else [cast(NetworkLike, nets)]
    if not networks or count < 1:
        raise CondenseError(f"{count} teachers of each of {len(networks)} networks: give at least 1 of each")
    if not isinstance(executor, InProcess) and not all(isinstance(net, str) for net in networks):
        raise CondenseError(
            "a network object is in this process only, not in those of workers; leave the executor out, or make the "
            "network an entry point of condense.networks"
        )
    request = _Request(data, rule or TeacherRule(), count, executor, device, compile, progress)
    every = [request.manifest(net, number) for net in networks for number in range(seed, seed + count)]
    asked = {folder / teacher_file(manifest): manifest for manifest in every}
    with ExitStack() as claims:
        for target in asked:
            claims.enter_context(claimed_teacher(target, overwrite))
        found = [] if overwrite else [target for target in asked if is_finished(target)]
        for target in found:
            check_same(Teacher.open(target).manifest, asked[target], target, but=_LAST_BITS)
        jobs = {
            target: request.job(manifest, partial_path(target), overwrite=overwrite)
            for target, manifest in asked.items()
            if target not in found
        }
        plain = [job.manifest.network for job in jobs.values() if job.manifest.batch_norm == "none"]
        for network in dict.fromkeys(plain):  # before trainings that may take hours
            say(f"note: {network} has no BatchNorm: it can label images, but none can be recovered from it")
        failed = _train_all(request, jobs)
    teachers = tuple(Teacher.open(target) for target in asked if target not in failed)
    return TeacherTraining(teachers, tuple(found), failed)


def threads_begun_with(folder: Path) -> int | None:
    """Those of a training that is half done in `folder`; None where there is none, or where it does not tell."""
    for path in sorted(folder.glob(f"*.partial{SUFFIX}")):
        manifest = begun(path)
        if manifest is not None:
            return manifest.training.get("threads")
    return None


def not_by_channel(data: str, kind: str) -> CondenseError:
    """The error for data whose preprocessing, `none` or `zca`, is not a normalisation of each channel."""
    what = "not normalised" if kind == "none" else "whitened"
    return CondenseError(
        f"{data} is {what}, but a teacher carries the normalisation of each channel as its first layer; give "
        "--normalization computed, or the name of a known set"
    )


def _here() -> InProcess:
    """This process with the threads that it has; a training that fails here would fail again."""
    return InProcess(torch.get_num_threads(), attempts=1)


@dataclass(frozen=True)
class _Request:
    """What all teachers of a call have in common."""

    data: RealData
    rule: TeacherRule
    count: int
    executor: Executor
    device: str
    compile: Asked
    progress: bool

    def manifest(self, net: NetworkLike, seed: int) -> Manifest:
        """A teacher as far as it is known before its training; raises `CondenseError` for what cannot be trained."""
        data, normalization = self.data, self.data.preprocessing
        if not data.train.labelled:
            raise CondenseError(
                f"a teacher needs the classes of images, and {data.name} was read without: leave --labels none out"
            )
        if not isinstance(normalization, Normalization):
            raise not_by_channel(data.name, normalization.kind)
        shape, classes = data.image_shape, len(data.classes)
        network = canonical_name(network_name(net, shape, classes), shape)
        draws_uncompiled(network, shape, classes, self.compile)  # refuses what cannot be
        kept, _ = held_out_part(data.train, self.rule.holdout)
        return Manifest(
            network=network,
            image_shape=shape,
            classes=data.classes,
            mean=normalization.mean,
            std=normalization.std,
            batch_norm=batch_norm_of(network, shape, classes),
            origin="trained",
            data=data.name,
            fingerprint=data.fingerprint,
            training=self.rule.recorded | {"images": len(kept), "mirror": data.mirror},
            seed=seed,
            versions=versions(),
        )

    def job(self, manifest: Manifest, partial: Path | None, *, overwrite: bool = False) -> TeacherJob:
        """The training of a teacher, which goes on as it began.

        Raises `CondenseError` where another one began in `partial`; with `overwrite` that one is removed.
        """
        there = None if partial is None else begun(partial)
        as_begun = {} if there is None else there.training
        device = device_of_jobs(as_begun.get("device", "auto") if self.device == "auto" else self.device, self.executor)
        compile = as_begun.get("compile", "auto") if self.compile == "auto" else self.compile
        compile = self._worth_compiling(manifest, device) if compile == "auto" else compile
        how = {"device": device.type, "compile": compile, "threads": self.executor.threads}
        manifest = manifest.model_copy(update={"training": manifest.training | how})
        if partial is not None and there is not None:
            try:
                check_same(there, manifest, partial)
            except CondenseError:
                if not overwrite:
                    raise
                partial.unlink()
                return self.job(manifest, partial)
        assert manifest.seed is not None, "those that are trained here have one"
        place = None if partial is None else str(partial.resolve())  # workers may be in another folder
        return TeacherJob(
            manifest, self.rule, manifest.seed, place, compile=compile, device=str(device), progress=self.progress
        )

    def _worth_compiling(self, manifest: Manifest, device: torch.device) -> Literal["on", "off"]:
        """What is over sooner on this machine."""
        images, rule = manifest.training["images"], self.rule.training
        engine = training_engine(
            manifest.network, self.data.info, images, rule, networks=self.count, device=device, compile="auto"
        )
        return engine.plan.compile


def _train_all(request: _Request, jobs: Mapping[Path, TeacherJob]) -> dict[Path, str]:
    """Train the teachers and store each as it is finished; the errors of those that failed."""
    if not jobs:
        return {}
    targets = {job.partial: target for target, job in jobs.items()}
    function: Callable[[TeacherJob], Trained] = functools.partial(train, request.data)
    waiting = list(jobs.values())
    if not isinstance(request.executor, InProcess):
        function, packed = train_on_worker, PackedData.of(request.data)
        waiting = [dataclasses.replace(job, data=packed, progress=False) for job in waiting]
    failed: dict[Path, str] = {}
    with progress_bar("training teachers", len(jobs), enabled=request.progress, unit="teachers") as bar:
        for done, outcome in enumerate(request.executor.run(function, waiting), 1):
            target = targets[outcome.job.partial]
            if outcome.value is None:
                failed[target] = outcome.error or "no result"
            else:
                store(outcome.value, target)
            bar.update(done)
    return failed
