"""How a run is made, whatever its method is, as plain data: this module does not import torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from condense.runtime.validation import Closed


class SittingOptions(Closed):
    """How a run is made, whatever its method and its data are."""

    seed: int = Field(0, ge=0, description="of everything random")
    recipe: str | None = Field(None, description="name or YAML file of a recipe [the published settings]")
    minutes: float | None = Field(None, gt=0, allow_inf_nan=False, description="stop after this time")
    device: str = Field("auto", description="auto, cpu or cuda:N")
    threads: int | None = Field(None, ge=1, description="processor threads [what torch finds]")
    resume: bool = Field(True, description="go on with an unfinished run of the same configuration")
    overwrite: bool = Field(False, description="replace a finished set")


class RunOptions(SittingOptions):
    """How a run that makes images is made."""

    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of what networks compute [bfloat16 where it is native, else float32]"
    )
    compile: Literal["auto", "on", "off"] = Field(
        "auto", description="compile inner functions [where it saves more time than it costs]"
    )
    micro_batch: int | None = Field(
        None, ge=1, description="images that go through a network at once; less needs less memory [the fastest size]"
    )
    workers: int | None = Field(
        None, ge=1, description="of methods that work in slices: do so many at once, on Ray [one after the other, here]"
    )
    keep_every: int | None = Field(
        None, ge=1, description="also store the set after every so many updates, as NAME-000500.h5 beside --out"
    )
