"""Imports go one way, and what must be quick does not import torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# A module may import from its own layer and from those below it.
LAYERS = [
    ["condense.cli", "condense.__main__"],
    ["condense.synthesizers", "condense.evaluation"],
    ["condense.selection"],
    [
        *("condense.training", "condense.training_rule", "condense.making", "condense.recipes"),
        *("condense.synthetic_set", "condense.set_file", "condense.spaces", "condense.description"),
        *("condense.exporting", "condense.importing", "condense.pictures", "condense.classic_augmentation"),
    ],
    [
        *("condense.matching", "condense.labels", "condense.networks", "condense.augmentation", "condense.data"),
        *("condense.cutmix", "condense.decoders"),
        *("condense.derivatives", "condense.engine", "condense.planning", "condense.unroll"),
    ],
    ["condense.runtime", "condense._version"],
]


def modules() -> dict[str, Path]:
    files = [file for package in ("condense", "buffers", "benchmarks") for file in (ROOT / package).rglob("*.py")]
    return {".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


def imported(file: Path) -> list[tuple[str, bool]]:
    """Names that a file imports, and whether it does so inside a function."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    inside = {id(node) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) for node in ast.walk(f)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) in inside) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found.append((node.module or "", id(node) in inside))
    return found


def layer(module: str) -> int | None:
    for number, names in enumerate(LAYERS):
        if any(module == name or module.startswith(name + ".") for name in names):
            return number
    return None


def test_every_module_of_condense_has_a_layer():
    assert [name for name in modules() if name.startswith("condense.") and layer(name) is None] == []


@pytest.mark.parametrize("module", [name for name in modules() if name.startswith("condense.")])
def test_condense_imports_downwards_only(module: str):
    for name, _ in imported(modules()[module]):
        if layer(name) is not None:
            assert layer(name) >= layer(module), f"{module} imports {name}, which is above it"


def test_only_the_command_line_imports_buffers_and_benchmarks_and_only_inside_functions():
    for module, file in modules().items():
        for name, inside in imported(file):
            top = name.split(".")[0]
            if module.startswith("condense") and top in ("buffers", "benchmarks"):
                assert module.startswith("condense.cli"), f"{module} imports {name}"
                assert inside, f"{module} imports {name} before it is needed"
            if module.startswith("buffers"):
                assert top != "benchmarks", f"{module} imports {name}"


def test_the_rule_would_notice_an_upward_import(tmp_path: Path):
    file = tmp_path / "bad.py"
    file.write_text("def f():\n    from condense.cli.main import main\n")
    assert imported(file) == [("condense.cli.main", True)]
    assert layer("condense.cli.main") < layer("condense.data.real")


QUICK = [
    "import condense",
    "from condense.cli import main; main(['--help'])",
    "from condense.cli import main; main(['--version'])",
    *(
        f"from condense.cli import main; main(['{name}'])"
        for name in ("methods", "networks", "data", "protocols", "recipes")
    ),
]


@pytest.mark.parametrize("code", QUICK)
def test_lists_and_help_import_no_torch_and_no_method(code: str):
    check = (
        "; import sys; names = list(sys.modules); top = [name.split('.')[0] for name in names]"
        "; assert not {'torch', 'sklearn', 'matplotlib'} & set(top)"
        "; assert 'condense.synthesizers.distribution_matching' not in names"
    )
    subprocess.run([sys.executable, "-c", code + check], check=True, capture_output=True)
