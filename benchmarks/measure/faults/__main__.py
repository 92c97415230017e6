"""The command: see `benchmarks.measure.faults`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from benchmarks.measure.faults import kills, limits, mutations
from benchmarks.measure.measuring import end, give_out
from condense.cli.parsing import POSITIONAL, parse
from condense.runtime.errors import CondenseError
from condense.runtime.files import write_json
from condense.runtime.progress import progress_bar
from condense.runtime.provenance import circumstances
from condense.runtime.validation import Closed

_SHOWN = sys.stderr.isatty()
_SAID = ("equal", "refused", "other")  # outcomes of mutations that are no faults


class FaultOptions(Closed):
    """What is tried, and how often."""

    what: Literal["kills", "mutations", "limits"] = Field(description="what is tried", json_schema_extra=POSITIONAL)
    out: Path = Field(description="where results are written, as JSON, and where the same command goes on from")
    count: int | None = Field(None, ge=1, description="kills [100], or mutated inputs [10000]")
    seed: int = Field(0, ge=0, description="of the moments and the mutations")


Results = dict[str, Any]


def try_kills(options: FaultOptions, results: Results, save: Callable[[], None]) -> None:
    """Trials until as many kills are made as are asked for."""
    trials, wanted = results.setdefault("trials", []), options.count or 100
    with progress_bar("kills", wanted, enabled=_SHOWN) as bar:
        while sum(len(trial["killed_after"]) for trial in trials) < wanted:
            trials.append(kills.trial(len(trials), options.seed))
            results["summary"] = {
                "kills": sum(len(trial["killed_after"]) for trial in trials),
                "trials": len(trials),
                "not as if nothing had happened": sum(not kills.went_well(trial) for trial in trials),
                "stuck": sum(trial["hung"] for trial in trials),
            }
            save()
            bar.update(results["summary"]["kills"])


def try_mutations(options: FaultOptions, results: Results, save: Callable[[], None]) -> None:
    """Batches of mutated inputs, format after format; only faults are kept whole."""
    wanted = options.count or 10_000
    counts, faults = results.setdefault("outcomes", {}), results.setdefault("faults", [])
    results.setdefault("batches", 0)
    with progress_bar("mutations", wanted, enabled=_SHOWN) as bar:
        while sum(sum(each.values()) for each in counts.values()) < wanted:
            outcomes = mutations.batch(results["batches"], options.seed)
            for name, each in mutations.summary(outcomes).items():
                before = counts.setdefault(name, {})
                counts[name] = {
                    outcome: before.get(outcome, 0) + each.get(outcome, 0) for outcome in sorted({*before, *each})
                }
            faults += [outcome for outcome in outcomes if outcome["outcome"] not in _SAID]
            results["batches"] += 1
            results["summary"] = {"inputs": sum(sum(each.values()) for each in counts.values()), "faults": len(faults)}
            save()
            bar.update(results["summary"]["inputs"])
    mutations.forget_originals()


def try_limits(options: FaultOptions, results: Results, save: Callable[[], None]) -> None:
    """Every writing command under every limit."""
    trials, reason = results.setdefault("trials", {}), limits.why_no_disks()
    if reason is not None:
        results["skipped"] = reason
    plan = list(_limited(disks=reason is None))
    with progress_bar("limits", len(plan), enabled=_SHOWN) as bar:
        for number, (name, attempt) in enumerate(plan, start=1):
            if name not in trials:
                trials[name] = attempt()
            failed = [each for each, trial in trials.items() if not limits.went_well(trial)]
            results["summary"] = {"trials": len(trials), "failed": failed}
            save()
            bar.update(number)


def _limited(*, disks: bool) -> Iterator[tuple[str, Callable[[], Results]]]:
    for command in limits.WRITING:
        for free in limits.FREE if disks else ():
            yield f"{command.name}, {free} KiB free", partial(limits.full_disk, command, free)
        for what, amounts in (("open files", limits.OPEN_FILES), ("memory", limits.MEMORY)):
            for amount in amounts:
                yield f"{command.name}, {what} {amount}", partial(limits.little, command, what, amount)


_TRIED = {"kills": try_kills, "mutations": try_mutations, "limits": try_limits}


def main(words: Sequence[str]) -> int:
    """The command."""
    options = parse(
        FaultOptions,
        words,
        program="python -m benchmarks.measure.faults",
        description="What happens when commands are killed, files are damaged, and room is scarce.",
    )
    settings = options.model_dump(mode="json", exclude={"out"})
    results: Results = {"settings": settings}
    if options.out.exists():
        results = json.loads(options.out.read_text(encoding="utf-8"))
        if results.get("settings", {}).get("seed") != options.seed or results["settings"]["what"] != options.what:
            raise CondenseError(f"--out {options.out} has results of other settings; give another name")
        results["settings"] = settings
    results |= circumstances()
    _TRIED[options.what](options, results, lambda: write_json(options.out, results))
    give_out(results, json.dumps(results["summary"], indent=2), options.out)
    return 0


if __name__ == "__main__":
    end("benchmarks.measure.faults", main)
