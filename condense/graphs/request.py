"""What is asked of a method for graphs: one model for the command line, `distill_graphs` and benchmarks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from condense.graphs.methods.budget import GraphBudget
from condense.graphs.methods.interface import GraphMaker
from condense.graphs.real import GraphInfo
from condense.methods.interface import MethodSettings
from condense.methods.method import Method
from condense.methods.options import SittingOptions
from condense.recipes import load_recipe
from condense.runtime.errors import CondenseError
from condense.runtime.registry import load_object
from condense.runtime.validation import option_name, validated


class GraphRequest(SittingOptions):
    """A set of graphs that is asked for, before anything is known of the data; see `distill_graphs` for its fields."""

    method: str
    budget: GraphBudget
    iterations: int | None = None
    out: Path | None = None
    settings: dict[str, Any] = {}  # noqa: RUF012  (pydantic copies defaults)

    @classmethod
    def of(cls, method: str, budget: GraphBudget, settings: Mapping[str, Any], **fields: Any) -> GraphRequest:
        """A checked request; raises `CondenseError` for values out of range."""
        own = {"method": method, "budget": budget, "settings": dict(settings)}
        return validated(cls, own | fields, spell=option_name)


def resolve_graph_settings(request: GraphRequest, entry: Method, info: GraphInfo) -> MethodSettings:
    """The settings of a run on such data: defaults of the method, then its recipe for this data, then options.

    Raises `CondenseError` for an unknown recipe or option, a value out of range, and a length for a method that makes
    its set in one go.
    """
    maker: type[GraphMaker] = load_object(entry.target)
    if "iterations" not in maker.Settings.model_fields:
        for length in ("iterations", "minutes"):
            if getattr(request, length) is not None:
                raise CondenseError(f"{entry.name} makes its set in one go: leave {option_name(length)} out")
    recipe = load_recipe(entry.name, request.recipe, entry.modality)
    values = recipe.settings_for(info.name, request.budget.ipc, **request.settings)
    if request.iterations is not None:
        values["iterations"] = request.iterations
    return validated(maker.Settings, values, origin=f"{entry.name}: ", spell=option_name)
