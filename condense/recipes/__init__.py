"""Recipes: the settings of a method as published and as measured here, one YAML file each.

`dm-published.yaml` holds what `condense distill dm` uses by itself, `dm-desk.yaml` what `--recipe desk` uses.
Every value of a published recipe has a comment that says where it comes from: `paper`, `code` (the released one),
`DC-BENCH` (commands that it collected), `both` (paper and code agree) or `ours: REASON`.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import Field

from condense.recipes.yaml12 import load_yaml
from condense.runtime.errors import CondenseError, unknown_name
from condense.runtime.validation import Closed, validated

_FOLDER = Path(__file__).parent


class Case(Closed):
    """What is different for some data sets or sizes; all the conditions that are given must hold."""

    data: list[str] | None = Field(None, description="base names of data sets")
    ipc_from: int = Field(1, ge=1, description="smallest images per class")
    ipc_to: int | None = Field(None, ge=1, description="largest images per class; none: no limit")
    at_least: dict[str, float] = Field(
        default_factory=dict, description="smallest values of settings, whether given by the user or the recipe's"
    )
    settings: dict[str, Any] = Field(default_factory=dict)
    experts: dict[str, Any] = Field(default_factory=dict)
    normalization: str | None = None

    def fits(self, data: str, ipc: int | None, values: Mapping[str, Any]) -> bool:
        """Whether the case is meant for this data set at this many images per class, and these settings.

        Sets of another size than so many images per class have cases that are for all sizes.
        """
        if ipc is None:
            fits_size = self.ipc_from == 1 and self.ipc_to is None
        else:
            fits_size = self.ipc_from <= ipc and (self.ipc_to is None or ipc <= self.ipc_to)
        return (
            (self.data is None or data in self.data)
            and fits_size
            and all(_reaches(values.get(name), least) for name, least in self.at_least.items())
        )


def _reaches(value: Any, least: float) -> bool:
    """Whether a setting, which nobody has validated yet, is a number and at least this one."""
    return isinstance(value, int | float) and value >= least


class Recipe(Closed):
    """A recipe file: settings and experts for everything, then cases that replace some of it, later ones winning."""

    method: str
    modality: str = Field("images", description="what the method is for: images, graphs, or nodes of one graph")
    summary: str = ""
    source: str = Field("", description="where the values come from")
    settings: dict[str, Any] = Field(default_factory=dict)
    experts: dict[str, Any] = Field(
        default_factory=dict, description="options of `condense experts`, where the method wants other than usual ones"
    )
    normalization: str | None = Field(
        default=None,
        description="the --normalization that the values were found for, where it is not that of the data set",
    )
    cases: list[Case] = Field(default_factory=list)

    def settings_for(self, data: str, ipc: int | None, /, **options: Any) -> dict[str, Any]:
        """The settings for a data set (by base name) at `ipc` images per class (None: a size of another kind), beside
        the user's `options`.

        These win, and decide about cases that are for some values of a setting.
        """
        fitting = [case.settings for case in self._fitting(data, ipc, options)]
        return functools.reduce(operator.or_, fitting, self.settings) | options

    def experts_for(self, data: str, ipc: int | None) -> dict[str, Any]:
        """The options of `condense experts` for a data set at `ipc` images per class."""
        return functools.reduce(operator.or_, [case.experts for case in self._fitting(data, ipc)], self.experts)

    def normalization_for(self, data: str, ipc: int | None) -> str | None:
        """The normalisation that the values for a data set at `ipc` images per class are for, if it is special."""
        return next(
            (case.normalization for case in reversed(self._fitting(data, ipc)) if case.normalization),
            self.normalization,
        )

    def _fitting(self, data: str, ipc: int | None, options: Mapping[str, Any] = MappingProxyType({})) -> list[Case]:
        return [case for case in self.cases if case.fits(data, ipc, {**self.settings, **options})]


def recipe_names(method: str | None = None) -> list[str]:
    """The names of the recipes that come with condense, as `method-recipe`; of one method if it is given."""
    names = sorted(path.stem for path in _FOLDER.glob("*.yaml"))
    return [name for name in names if method is None or name.startswith(f"{method}-")]


def load_recipe(method: str, recipe: str | None, modality: str = "images") -> Recipe:
    """The recipe of `method` for such data called `recipe`, or in the YAML file `recipe`; None is the published one.

    A method without a published recipe (it has nothing to set) gets an empty one. Raises `CondenseError` for an unknown
    name, an unreadable file and a recipe of another method.
    """
    if recipe is not None and (recipe.endswith((".yaml", ".yml")) or "/" in recipe):
        path = Path(recipe)
    else:
        path = _FOLDER / f"{method}-{recipe or 'published'}.yaml"
        if not path.exists():
            if recipe is None:
                return Recipe(method=method, modality=modality, summary="defaults", source="defaults of the method")
            own = [name.removeprefix(f"{method}-") for name in recipe_names(method)]
            raise unknown_name(f"recipe of {method}", recipe, [*own, "a path to a .yaml file"])
    content = load_yaml(path)
    if not isinstance(content, dict):
        raise CondenseError(f"recipe {path.name} must be a mapping of method, summary, source, settings and cases")
    found = validated(Recipe, content, origin=f"recipe {path.name}: ")
    if found.method != method:
        raise CondenseError(f"recipe {path.name} is for method {found.method!r}, not {method!r}; give one of {method}")
    if found.modality != modality:
        raise CondenseError(
            f"recipe {path.name} is of {method} for {found.modality}, and the data are {modality}; leave --recipe out"
        )
    return found
