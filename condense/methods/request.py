"""What is asked of a method: one model for the command line, `distill`, `estimate` and benchmarks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from condense.data import DataInfo
from condense.data.budget import Budget
from condense.methods.interface import Maker, MethodSettings
from condense.methods.options import RunOptions
from condense.methods.registry import find_method, methods
from condense.networks import canonical_name, network_name
from condense.recipes import load_recipe
from condense.runtime.errors import CondenseError
from condense.runtime.registry import load_object
from condense.runtime.validation import option_name, validated


class Request(RunOptions):
    """A set that is asked for, before anything is known of the data; see `condense.distill` for its fields.

    `settings` are those of the method that are given by name: they win over the recipe. What is None or `auto` is left
    open. Data and experts, which are no plain values, go beside it.
    """

    method: str
    budget: Budget
    iterations: int | None = None
    out: Path | None = None
    settings: dict[str, Any] = {}  # noqa: RUF012  (pydantic copies defaults)

    @classmethod
    def of(cls, method: str, budget: Budget, settings: Mapping[str, Any] | None = None, **fields: Any) -> Request:
        """A request with the method by any of its names.

        Raises `CondenseError` for a method that does not exist and for values out of range.

        >>> Request.of("distribution-matching", Budget(ipc=10), {"image_lr": 0.5}, seed=3).method
        'dm'
        """
        own = {"method": find_method(method).name, "budget": budget, "settings": dict(settings or {})}
        return validated(cls, own | fields, spell=option_name)


def resolve_settings(request: Request, info: DataInfo) -> MethodSettings:
    """The settings of a run on such data: defaults of the method, then its recipe for this data and ipc, then options.

    Raises `CondenseError` for an unknown recipe, option or network, a value out of range, and a budget for a method
    without iterations.
    """
    name = request.method
    maker: type[Maker] = load_object(methods().find(name).target)
    model, options = maker.Settings, dict(request.settings)
    if "iterations" not in model.model_fields:
        for budget in ("iterations", "minutes"):
            if getattr(request, budget) is not None:
                raise CondenseError(f"{name} makes its set in one go: leave {option_name(budget)} out")
    if not isinstance(options.get("network", ""), str):
        options["network"] = network_name(options["network"], info.image_shape, len(info.classes))
    values = load_recipe(name, request.recipe).settings_for(info.name, request.budget.ipc, **options)
    if request.iterations is not None:
        values["iterations"] = request.iterations
    for pair in model.alternatives:
        if options.keys() & set(pair):  # then the recipe and the defaults say nothing
            values |= {field: options.get(field) for field in pair}
    settings = validated(model, values, origin=f"{name}: ", spell=option_name)
    network = getattr(settings, "network", None)
    if network is not None:
        canonical_name(network, info.image_shape)
    return settings
