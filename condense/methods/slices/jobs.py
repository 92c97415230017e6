"""What the jobs of one run share: objects in this process, names of files where jobs travel to others."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from condense.data.travelling import PackedData, read_once
from condense.methods.interface import Job
from condense.runtime.errors import CondenseError
from condense.teachers.committee import Committee


@dataclass(frozen=True, eq=False)
class SlicedRun:
    """A method with its settings and the job of the whole run; or, where jobs travel, what makes such a job elsewhere.

    That are its plain `fields`, the packed `data` and the files of the `teachers` with their weights, and the hash of
    all of them.
    """

    method: Any
    settings: Any
    job: Job | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    data: PackedData | None = None
    teachers: tuple[tuple[str, float], ...] = ()
    hash_of_teachers: str = ""

    @classmethod
    def of(cls, method: Any, job: Job, settings: Any, *, remote: bool) -> SlicedRun:
        """The run of `job`; raises `CondenseError` where it has to travel and a teacher is in no file."""
        if not remote:
            return cls(method, settings, job)
        assert job.packed is not None, "settled before a run begins"
        teachers = []
        for member, weight in () if job.teacher is None else zip(job.teacher.members, job.teacher.weights):
            if member.path is None:
                raise CondenseError(
                    f"teacher {member.name} is in this process only, not in those of workers; store it in a file, or "
                    "leave the workers out"
                )
            teachers.append((str(member.path.resolve()), weight))
        fields = {name: getattr(job, name) for name in ("budget", "seed", "device", "plan", "configuration")}
        known = "" if job.teacher is None else job.teacher.hash
        return cls(method, settings, None, fields, job.packed, tuple(teachers), known)


def settled_job(run: SlicedRun, checkpoint: Path | None) -> Job:
    """The job of the run, with data and teachers in memory, for a slice that is kept there while it is unfinished."""
    if run.job is not None:
        return replace(run.job, checkpoint=checkpoint)
    teacher = _committee(run.teachers, run.hash_of_teachers) if run.teachers else None
    assert run.data is not None, "jobs that travel name it"
    return Job(data=read_once(run.data).train, teacher=teacher, checkpoint=checkpoint, **run.fields)


@functools.lru_cache(maxsize=1)
def _committee(teachers: tuple[tuple[str, float], ...], known: str) -> Committee:
    found = Committee.open([f"{path}:{weight!r}" for path, weight in teachers])
    if found.hash != known:
        raise CondenseError(f"teacher {found.name} has changed since the run began; start it again")
    return found
