"""Recipes: which file is read, which case wins, what is refused."""

import re
from pathlib import Path

import pytest
import yaml

from condense import recipes
from condense.methods.registry import methods
from condense.recipes import load_recipe, recipe_names
from condense.recipes.yaml12 import load_yaml, parse_yaml
from condense.runtime.errors import CondenseError
from condense.runtime.registry import load_object
from condense.runtime.validation import validated


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


ODD_YAML = {
    "a list that is too deep": "[" * 5000 + "]" * 5000,
    "a mapping that is too deep": "{a: " * 5000 + "1" + "}" * 5000,
    "levels that are too many": "\n".join("  " * level + "a:" for level in range(70)),
    "an alias of itself": "&a [*a]",
    "a mapping in itself": "&a {x: *a}",
    "a billion": "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}' if n else 'x'] * 9)}]" for n in range(12)),
    "a tag that is unknown": "!mine {a: 1}",
    "a tag of 1.1": "!!timestamp 2001-01-01",
    "bytes": "!!binary aGVsbG8=",
    "a set": "!!set {a, b}",
    "pairs": "!!pairs [a: 1]",
    "no integer": "!!int x",
    "no number": "!!float x",
    "no boolean": "!!bool x",
    "a list that is none": "!!seq x",
    "a mapping that is none": "!!map [1]",
    "a key that is a list": "? [a, b]\n: c",
    "a key that is a mapping": "{{a: 1}: 2}",
    "too many digits": "9" * 5000,
    "two documents": "a: 1\n---\nb: 2",
    "an unknown alias": "*a",
    "a control character": "a: \x07",
}


@pytest.mark.parametrize("name", ODD_YAML)
def test_yaml_that_nobody_expects_is_refused_in_one_line(name: str):
    with pytest.raises(CondenseError) as caught:
        parse_yaml(ODD_YAML[name], "mine.yaml")
    assert str(caught.value).startswith("mine.yaml")
    assert "\n" not in str(caught.value)


def test_many_keys_take_no_longer_each_than_a_few(tmp_path: Path):
    """Comparing each with each would be 200 million comparisons: minutes."""
    keys = {f"key{number}": number for number in range(20_000)}
    assert parse_yaml("\n".join(f"{key}: {number}" for key, number in keys.items()), "text") == keys
    assert parse_yaml("a: &x {b: [1, 2]}\nc: *x\n!!str d: !!str 1", "text") == {
        "a": {"b": [1, 2]},
        "c": {"b": [1, 2]},
        "d": "1",
    }


def test_a_long_file_is_not_read(tmp_path: Path):
    (tmp_path / "a.yaml").write_text("#" * 2**20 + "\n")
    with pytest.raises(CondenseError, match="has 1,048,577 bytes, and at most 1,048,576 are read"):
        load_yaml(tmp_path / "a.yaml")


def test_every_recipe_is_valid_for_its_method_at_every_size():
    assert "dm-published" in recipe_names()
    for method in methods():
        settings = load_object(method.target).Settings
        for name in recipe_names(method.name):
            recipe = load_recipe(method.name, name.removeprefix(f"{method.name}-"))
            for data in ("digits", "fashion-mnist", "cifar10", "cifar100", "tiny-imagenet", "imagenet-1k"):
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


def published(method: str, data: str, ipc: int) -> dict:
    """All settings of a published run."""
    settings = load_object(methods().find(method).target).Settings
    return settings(**load_recipe(method, None).settings_for(data, ipc)).model_dump()


def chosen(settings: dict, *names: str) -> tuple:
    return tuple(settings[name] for name in names)


SIZES = (1, 10, 50)
WINDOW = ("inner_steps", "span", "max_start")  # of a method that matches trajectories


def test_published_values_of_attention_matching():
    """The authors' table; their script has other values, which are a recipe of their own."""
    for data in ("cifar10", "cifar100", "fashion-mnist", "imagenet-1k", "imagewoof"):
        for ipc in (*SIZES, 51, 100):
            found = published("datadam", data, ipc)
            weight = 0.02 if data.startswith("image") else 0.01
            assert chosen(found, "iterations", "real_batch", "power", "feature_weight") == (8000, 64, 4, weight)
            assert chosen(found, "image_lr", "image_momentum") == (10 if ipc > 50 else 1, 0.5)
            assert chosen(found, "initialization", "augmentation") == ("real", "dsa")
            assert not found["flip_closure"]
            assert found["network"] == "convnet-w128-in"
            script = load_recipe("datadam", "script").settings_for(data, ipc)
            assert chosen(script, "iterations", "power", "network") == (20_000, 1, "convnet-w128-bn")
            assert chosen(script, "feature_weight", "image_lr") == (0.01, 10 if ipc == 100 else 1)


def test_defaults_of_settings_are_the_published_values_for_cifar10_at_ten_images_per_class():
    for name in ("dm", "datadam", "idc", "idm", "ncfm"):
        settings = load_object(methods().find(name).target).Settings
        assert settings().model_dump() == published(name, "cifar10", 10), name


def test_what_trajectory_matching_is_published_for_beside_its_settings():
    """Whitened images for some rows of MTT and AST, all of FTD and DATM on CIFAR and one of TESLA; and special experts.

    Where MTT, TESLA and AST do not whiten CIFAR-100, they have the constants of CIFAR-10.

    Alpha of FTD's is 0.3 for small sets of CIFAR-10 and else 1; DATM looks at experts after their last epoch, and the
    rate of AST's drops halfway.
    """
    cifar = {(data, ipc) for data in ("cifar10", "cifar100") for ipc in SIZES}
    whitened = {
        "mtt": {("cifar10", 1), ("cifar10", 10), ("cifar100", 1), ("cifar100", 50)},
        "tesla": {("cifar100", 50)},
        "ftd": cifar,
        "datm": cifar,
        "ast": {("cifar10", ipc) for ipc in SIZES} | {("cifar100", 1)},
        "dm": set(),
    }
    cifar10_constants = {("mtt", "cifar100"), ("tesla", "cifar100"), ("ast", "cifar100")}
    last = ("mtt", "cifar10", 50)
    flat = {"radius": 0.01, "ascent_weight": 0.3}
    of_experts = {"ftd": flat, "datm": flat | {"epochs": 100}, "ast": {"epochs": 50}}
    for method, rows in whitened.items():
        recipe = load_recipe(method, None)
        for data in ("cifar10", "cifar100", "fashion-mnist"):
            for ipc in SIZES:
                plain = "cifar10" if (method, data) in cifar10_constants or (method, data, ipc) == last else None
                assert recipe.normalization_for(data, ipc) == ("zca" if (data, ipc) in rows else plain)
                experts = of_experts.get(method, {})
                if method == "ftd" and (data == "cifar100" or ipc == 50):
                    experts = experts | {"ascent_weight": 1}
                assert recipe.experts_for(data, ipc) == experts
    for method in ("mtt", "tesla", "ftd", "ast"):
        assert {load_recipe(method, None).normalization_for("tiny-imagenet", ipc) for ipc in SIZES} == {"imagenet"}


def test_published_values_of_trajectory_matching():
    table = {  # inner_steps, span, max_start, image_lr, inner_lr_lr, inner_lr, synthetic_batch, normalisation
        ("cifar10", 1): (50, 2, 2, 100, 1e-7, 0.01, None, "zca"),
        ("cifar10", 10): (30, 2, 20, 100, 1e-5, 0.001, None, "zca"),
        ("cifar10", 50): (30, 2, 40, 1000, 1e-5, 0.001, None, "cifar10"),
        ("cifar100", 1): (20, 3, 20, 1000, 1e-5, 0.01, None, "zca"),
        ("cifar100", 10): (20, 2, 20, 1000, 1e-5, 0.01, None, "cifar10"),
        ("cifar100", 50): (80, 2, 40, 1000, 1e-5, 0.01, 125, "zca"),
        ("tiny-imagenet", 1): (10, 2, 10, 10_000, 1e-4, 0.01, None, "imagenet"),
        ("tiny-imagenet", 10): (20, 2, 40, 10_000, 1e-4, 0.01, 200, "imagenet"),
        ("tiny-imagenet", 50): (20, 2, 40, 10_000, 1e-4, 0.01, 300, "imagenet"),
        ("imagenette", 1): (20, 2, 10, 1000, 1e-6, 0.01, None, "imagenet"),
        ("imagesquawk", 1): (20, 2, 10, 1000, 1e-6, 0.01, None, "imagenet"),
        ("imagewoof", 10): (20, 2, 10, 1000, 1e-6, 0.01, None, "imagenet"),
        ("imagemeow", 50): (20, 2, 10, 1000, 1e-6, 0.01, None, "imagenet"),
    }
    for (data, ipc), (*values, normalization) in table.items():
        found = published("mtt", data, ipc)
        assert chosen(found, *WINDOW, "image_lr", "inner_lr_lr", "inner_lr", "synthetic_batch") == tuple(values)
        assert chosen(found, "iterations", "image_momentum", "gradient") == (5000, 0.5, "adjoint")
        assert load_recipe("mtt", None).normalization_for(data, ipc) == normalization


def test_published_values_of_soft_label_trajectory_matching():
    """Three commands of the authors, whose rates of the images are twice these; Tiny-ImageNet has MTT's values."""
    table = {  # inner_steps, span, max_start, image_lr, inner_lr_lr, inner_lr, synthetic_batch, labels, normalisation
        ("cifar10", 1): (50, 2, 5, 500, 1e-7, 0.01, None, None, None),
        ("cifar100", 50): (80, 2, 40, 500, 1e-5, 0.01, 125, "hard", "zca"),
        ("imagenet-1k", 1): (10, 3, 10, 5000, 1e-4, 0.01, 100, "assigned", "imagenet"),
    }
    for (data, ipc), (*values, normalization) in table.items():
        found = published("tesla", data, ipc)
        names = ("image_lr", "inner_lr_lr", "inner_lr", "synthetic_batch", "labels")
        assert chosen(found, *WINDOW, *names) == tuple(values)
        assert chosen(found, "iterations", "gradient") == (10_000, "frozen")
        assert load_recipe("tesla", None).normalization_for(data, ipc) == normalization
    for ipc in SIZES:
        found, mtt = published("tesla", "tiny-imagenet", ipc), published("mtt", "tiny-imagenet", ipc)
        names = ("image_lr", "inner_lr_lr", "inner_lr", "synthetic_batch", "network")
        assert chosen(found, *WINDOW, *names) == chosen(mtt, *WINDOW, *names)
        assert found["labels"] == "hard"


def test_published_values_of_flat_trajectories():
    table = {  # inner_steps, span, max_start, image_lr, inner_lr_lr, inner_lr, synthetic_batch, image_average
        ("cifar10", 1): (50, 2, 2, 100, 1e-7, 0.01, None, 0.9999),
        ("cifar10", 10): (30, 2, 20, 100, 1e-5, 0.001, None, 0.9995),
        ("cifar10", 50): (30, 2, 40, 1000, 1e-5, 0.01, None, 0.999),
        ("cifar100", 1): (40, 3, 20, 1000, 1e-5, 0.01, None, 0.9995),
        ("cifar100", 10): (20, 2, 40, 1000, 1e-5, 0.01, None, 0.9995),
        ("cifar100", 50): (80, 2, 40, 1000, 1e-5, 0.01, 1000, 0.999),
        ("tiny-imagenet", 1): (30, 2, 10, 10_000, 1e-4, 0.01, None, 0.999),
        ("tiny-imagenet", 10): (20, 2, 40, 10_000, 1e-4, 0.01, 500, 0.999),
    }
    for (data, ipc), values in table.items():
        found = published("ftd", data, ipc)
        names = ("image_lr", "inner_lr_lr", "inner_lr", "synthetic_batch", "image_average")
        assert chosen(found, *WINDOW, *names) == values
        assert found["iterations"] == 5000


def test_published_values_of_difficulty_alignment():
    """Where starts are not opened step by step, the first limit is the last one, whatever the growth."""
    table = {  # inner_steps, span, max_start, min_start, first_max_start, growth, synthetic_batch, rates x 3, start
        ("cifar10", 1): (80, 2, 4, 0, 4, None, 10, 100, 1e-7, 5, "correct"),
        ("cifar10", 10): (80, 2, 20, 0, 10, 1000, 100, 100, 1e-5, 2, "correct"),
        ("cifar10", 50): (80, 2, 40, 0, 20, 2000, 500, 1000, 1e-5, 2, "correct"),
        ("cifar10", 500): (40, 2, 60, 40, 60, None, 1000, 50, 1e-5, 10, "correct"),
        ("cifar10", 1000): (100, 2, 60, 40, 60, None, 1000, 50, 1e-5, 10, "correct"),
        ("cifar100", 1): (40, 3, 20, 0, 10, 1000, 100, 1000, 1e-5, 10, "correct"),
        ("cifar100", 10): (80, 2, 50, 0, 30, 2000, 1000, 1000, 1e-5, 10, "correct"),
        ("cifar100", 50): (80, 2, 70, 20, 70, None, 1000, 1000, 1e-5, 10, "real"),
        ("cifar100", 100): (80, 2, 70, 30, 70, None, 1000, 50, 1e-5, 10, "correct"),
        ("tiny-imagenet", 1): (40, 2, 20, 0, 15, 2000, 200, 10_000, 1e-4, 10, "correct"),
        ("tiny-imagenet", 10): (40, 2, 50, 10, 50, None, 500, 100, 1e-4, 10, "correct"),
        ("tiny-imagenet", 50): (20, 2, 70, 40, 70, None, 1000, 100, 1e-4, 10, "correct"),
    }
    for (data, ipc), values in table.items():
        found = published("datm", data, ipc)
        found["first_max_start"] = found["first_max_start"] or found["max_start"]
        if found["first_max_start"] == found["max_start"]:
            found["growth"] = None
        names = ("min_start", "first_max_start", "growth", "synthetic_batch", "image_lr", "inner_lr_lr", "label_lr")
        assert chosen(found, *WINDOW, *names, "initialization") == values, (data, ipc)
        assert chosen(found, "iterations", "inner_lr") == (10_000, 0.01)
        assert found["skip_above"] == (1.1 if (data, ipc) == ("cifar10", 1) else 1.0)
        assert load_recipe("datm", None).normalization_for(data, ipc) == "zca"


def test_published_values_of_smooth_trajectories():
    """The authors' five commands: only two are balanced, and the one for CIFAR-100 at 50 has no help but momentum."""
    names = ("synthetic_batch", "image_lr", "inner_lr_lr", "balanced", "intermediate", "perturbation", "initialization")
    table = {  # inner_steps, span, max_start, and these names
        ("cifar10", 10): (30, 2, 20, None, 1000, 1e-5, True, "equal", 1, "real"),
        ("cifar100", 1): (20, 3, 20, None, 1000, 1e-5, True, "equal", 1, "representative"),
        ("cifar100", 10): (20, 2, 30, 128, 1000, 1e-5, False, "equal", 1, "representative"),
        ("cifar100", 50): (80, 2, 40, 700, 1000, 1e-5, False, "none", 0, "representative"),
        ("tiny-imagenet", 1): (10, 2, 10, None, 10_000, 1e-4, False, "equal", 1, "real"),
    }
    for (data, ipc), values in table.items():
        found = published("ast", data, ipc)
        assert chosen(found, *WINDOW, *names) == values, (data, ipc)
        assert chosen(found, "iterations", "inner_lr", "inner_momentum", "gradient") == (5000, 0.01, 0.9, "adjoint")


def test_published_values_of_multi_formation():
    """2,000 networks of 100 matches at every size; distance, rate and images of a training by data set.

    The released code multiplies the rate by a tenth of the images per class and, but for MNIST, by (side / 32)^2. It
    trains in whole batches of 64, as many as it takes to have seen 2,000 or 500 images.
    """
    by_data = {  # distance, image_lr at ten images per class, network_images, cutmix
        "cifar10": ("l2", 5e-3, 2048, 0.5),
        "cifar100": ("l2", 5e-3, 2048, 0.5),
        "svhn": ("l2", 5e-3, 512, 0.5),
        "mnist": ("l1", 1e-4, 512, 0.0),
        "fashion-mnist": ("l1", 1e-4 * (28 / 32) ** 2, 512, 0.5),
    }
    for data, (distance, image_lr, network_images, cutmix) in by_data.items():
        for ipc in (1, 5, 10, 20, 50):
            found = published("idc", data, ipc)
            assert chosen(found, "distance", "network_images", "cutmix") == (distance, network_images, cutmix)
            assert found["image_lr"] == pytest.approx(image_lr * ipc / 10, rel=1e-3)
            assert chosen(found, "iterations", "matching_steps", "inner_epochs") == (2000 * 100, 100, 1)
            assert chosen(found, "factor", "initialization", "image_momentum") == (2, "tiles", 0.5)
            assert chosen(found, "real_batch", "synthetic_batch", "network_lr") == (64, 128, 0.01)
            assert found["augmentation"] == ("color-crop" if data == "mnist" else "color-crop-cutout")
            normalization = load_recipe("idc", None).normalization_for(data, ipc)
            assert normalization == ("cifar10" if data == "cifar100" else None)


def test_published_values_of_dream():
    """IDC with 128 representative real images of a class, chosen anew after ten matches; 64 on Tiny-ImageNet."""
    assert {"idc-dream-published", "idc-desk", "idc-published"} == set(recipe_names("idc"))
    recipe = load_recipe("idc", "dream-published")
    own = {"real_batch", "real_batches", "representative_interval", "initialization"}
    for data in ("cifar10", "cifar100", "svhn", "mnist", "fashion-mnist"):
        assert recipe.normalization_for(data, 10) == load_recipe("idc", None).normalization_for(data, 10)
        for ipc in SIZES:
            found, plain = recipe.settings_for(data, ipc), load_recipe("idc", None).settings_for(data, ipc)
            names = ("real_batch", "real_batches", "representative_interval", "initialization")
            assert chosen(found, *names) == (128, "representative", 10, "kmeans")
            assert {name: found[name] for name in found.keys() - own} == {
                name: plain[name] for name in plain.keys() - own
            }
    for ipc, image_lr in ((1, 0.1 * 5e-3 * 4), (10, 5e-3 * 4), (50, 5 * 1e-6 * 4)):
        found = recipe.settings_for("tiny-imagenet", ipc)
        assert chosen(found, "real_batch", "network_images") == (64, 1024)
        assert found["image_lr"] == pytest.approx(image_lr)


def test_whole_images_of_mnist_are_matched_and_mixed_as_those_of_other_data():
    """The released code of IDC leaves out cutout and CutMix on MNIST for mosaics only."""
    for data, factor, cutmix in (("mnist", 2, 0.0), ("mnist", 1, 0.5), ("mnist", 3, 0.0), ("fashion-mnist", 1, 0.5)):
        found = load_recipe("idc", None).settings_for(data, 10, factor=factor)
        expected = (factor, cutmix, "color-crop-cutout" if cutmix else "color-crop")
        assert chosen(found, "factor", "cutmix", "augmentation") == expected
    asked = load_recipe("idc", None).settings_for("mnist", 10, factor=1, cutmix=0.2)
    assert chosen(asked, "cutmix", "augmentation") == (0.2, "color-crop-cutout")


def test_a_case_can_be_for_some_values_of_a_setting(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("{method: dm, cases: [{at_least: {real_batch: 64}, settings: {image_lr: 3}}]}")
    recipe = load_recipe("dm", str(path))
    assert recipe.settings_for("digits", 1) == {}
    assert recipe.settings_for("digits", 1, real_batch=63) == {"real_batch": 63}
    assert recipe.settings_for("digits", 1, real_batch=64) == {"real_batch": 64, "image_lr": 3}
    assert recipe.settings_for("digits", 1, real_batch="64") == {"real_batch": "64"}  # to be refused later
    path.write_text(
        "{method: dm, settings: {real_batch: 64}, cases: [{at_least: {real_batch: 64}, settings: {image_lr: 3}}]}"
    )
    assert load_recipe("dm", str(path)).settings_for("digits", 1)["image_lr"] == 3


def test_published_values_of_improved_distribution_matching():
    """A queue of 100 networks, two of them trained in an iteration; at one image nearly all real ones are compared."""
    table = {  # classification_weight, real_batch, queue_interval, network_steps, accuracy_window
        ("cifar10", 1): (0.5, 5000, 5, 10, 100),
        ("cifar10", 10): (0.5, 256, 30, 10, 100),
        ("cifar10", 50): (0.1, 256, 30, 10, 500),
        ("cifar100", 1): (0.5, 5000, 5, 10, 100),
        ("cifar100", 10): (0.1, 256, 30, 50, 100),
        ("cifar100", 50): (0.1, 256, 30, 10, 500),
        ("tiny-imagenet", 1): (0.5, 256, 30, 10, 100),
        ("tiny-imagenet", 10): (0.5, 256, 30, 10, 500),
        ("tiny-imagenet", 50): (0.8, 256, 30, 50, 1000),
    }
    for (data, ipc), values in table.items():
        found = published("idm", data, ipc)
        names = ("classification_weight", "real_batch", "queue_interval", "network_steps", "accuracy_window")
        assert chosen(found, *names) == values
        assert found["network"] == ("convnet-d3-w128-in" if data == "tiny-imagenet" else "convnet-w128-in")
        assert chosen(found, "iterations", "image_lr", "image_momentum") == (20_000, 0.2, 0.5)
        assert chosen(found, "queue", "networks_trained", "network_batch", "network_lr") == (100, 2, 256, 0.01)
        assert chosen(found, "factor", "initialization", "augmentation") == (2, "tiles", "dsa")


def test_published_values_of_characteristic_matching():
    """AdamW but for CIFAR-100 at ten images per class; 20 networks of 60 epochs; 4,096 frequencies."""
    for data in ("cifar10", "cifar100"):
        for ipc in SIZES:
            found = published("ncfm", data, ipc)
            if (data, ipc) == ("cifar100", 10):
                assert chosen(found, "image_optimizer", "image_lr", "image_momentum") == ("sgd", 0.01, 0.5)
            else:
                names = ("image_optimizer", "image_lr", "image_weight_decay")
                assert chosen(found, *names) == ("adamw", 0.001, 5e-4)
            assert chosen(found, "iterations", "real_batch", "frequencies") == (20_000, 1024, 4096)
            assert chosen(found, "amplitude_weight", "phase_weight", "calibration") == (0.5, 0.5, 1)
            assert chosen(found, "networks", "network_epochs", "network_lr") == (20, 60, 0.01)
            assert chosen(found, "sampling", "augmentation") == ("gaussian", "color-crop-cutout")
            assert chosen(found, "factor", "initialization") == (2, "tiles")
            assert found["image_optimizers"] is None
            normalization = load_recipe("ncfm", None).normalization_for(data, ipc)
            assert normalization == ("cifar10" if data == "cifar100" else None)


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
