"""Recipes: which file is read, which case wins, what is refused."""

import re
from pathlib import Path

import pytest
import yaml

from condense import recipes
from condense.recipes import load_recipe, recipe_names
from condense.recipes.yaml12 import load_yaml, parse_yaml
from condense.runtime.errors import CondenseError
from condense.runtime.registry import load_object
from condense.runtime.validation import validated
from condense.synthesizers.registry import methods


def test_yaml_is_read_as_people_expect():
    text = "a: on\nb: 1e-4\nc: 012\nd: .5\ne: null\nf: [yes, true, ~]\ng: 1_000\nh: 2024-01-01"
    assert parse_yaml(text, "text") == {
        "a": "on",
        "b": 1e-4,
        "c": 12,
        "d": 0.5,
        "e": None,
        "f": ["yes", True, None],
        "g": "1_000",
        "h": "2024-01-01",
    }


def test_yaml_refuses_repeated_keys_bad_syntax_and_objects(tmp_path: Path):
    with pytest.raises(CondenseError, match="'zca' is given twice"):
        parse_yaml("zca: true\nlr: 1\nzca: false", "text")
    with pytest.raises(CondenseError, match="text line"):
        parse_yaml("a: [1", "text")
    with pytest.raises(CondenseError, match="could not determine a constructor"):
        parse_yaml("!!python/object/apply:os.system ['true']", "text")
    with pytest.raises(CondenseError, match="cannot read"):
        load_yaml(tmp_path / "missing.yaml")


def test_every_recipe_is_valid_for_its_method_at_every_size():
    assert "dm-published" in recipe_names()
    for method in methods():
        settings = load_object(method.target).Settings
        for name in recipe_names(method.name):
            recipe = load_recipe(method.name, name.removeprefix(f"{method.name}-"))
            for data in ("digits", "fashion-mnist", "cifar10", "cifar100"):
                for ipc in (1, 10, 50, 100, 1000):
                    validated(settings, recipe.settings_for(data, ipc), origin=name)


def _lines_with_settings(node: yaml.Node, inside: bool = False) -> set[int]:
    """The lines, counted from 0, on which `node` has values inside a `settings` block."""
    if isinstance(node, yaml.MappingNode):
        found = [_lines_with_settings(value, inside or key.value == "settings") for key, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        found = [_lines_with_settings(item, inside) for item in node.value]
    else:
        found = [{node.start_mark.line}] if inside else []
    return set().union(*found)


@pytest.mark.parametrize(
    "path", sorted(Path(recipes.__file__).parent.glob("*-published.yaml")), ids=lambda path: path.stem
)
def test_every_published_value_says_where_it_comes_from(path: Path):
    text = path.read_text(encoding="utf-8")
    lines, source = text.splitlines(), re.compile(r" # (?:(?:paper|code|DC-BENCH|both)(?:, .+)?|ours: .+)$")
    numbers = sorted(_lines_with_settings(yaml.compose(text, Loader=yaml.SafeLoader)))
    assert numbers
    assert [lines[number] for number in numbers if not source.search(lines[number])] == []


def test_published_distribution_matching_raises_its_rate_for_large_sets_of_cifar10_only():
    recipe = load_recipe("dm", None)
    assert recipe.settings_for("cifar10", 50)["image_lr"] == 1.0
    assert recipe.settings_for("cifar10", 100)["image_lr"] == 10.0
    assert recipe.settings_for("cifar100", 100)["image_lr"] == 1.0


def test_a_recipe_file_of_ones_own(tmp_path: Path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "method: dm\nsummary: mine\nsource: me\nsettings: {image_lr: 2e-1}\n"
        "cases: [{ipc_from: 5, ipc_to: 9, settings: {image_lr: 3}}]\n"
    )
    recipe = load_recipe("dm", str(path))
    assert [recipe.settings_for("digits", ipc)["image_lr"] for ipc in (4, 5, 9, 10)] == [0.2, 3, 3, 0.2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("- a list", "must be a mapping"),
        ("method: random\nsummary: s\nsource: s", "is for method 'random', not 'dm'"),
        ("method: dm\nsummary: s\nsource: s\nsetings: {}", "did you mean settings"),
        ("summary: s\nsource: s", "method is missing"),
    ],
)
def test_wrong_recipe_files(tmp_path: Path, content: str, message: str):
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(CondenseError, match=message):
        load_recipe("dm", str(path))


def test_unknown_recipe_names_are_refused_with_those_that_exist():
    with pytest.raises(CondenseError, match=r"unknown recipe of dm 'dask'.*desk.*did you mean desk"):
        load_recipe("dm", "dask")
    assert load_recipe("random", None).settings_for("digits", 1) == {}
