"""Imports go one way, and what must be quick does not import torch."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# The rooms of condense from the ground up: each uses itself and those before it.
ROOMS = [
    *(
        "_version",
        "runtime",
        "data",
        "networks",
        "augmentation",
        "compute",
        "matching",
        "unroll",
        "kernel_ridge",
        "linearized",
        "training",
        "labels",
    ),
    *(
        "sets",
        "teachers",
        "recipes",
        "methods",
        "selection",
        "synthesizers",
        "baselines",
        "evaluation",
        "graphs",
        "cli",
        "__main__",
    ),
]
PACKAGES = ["condense", "buffers", "benchmarks"]  # each uses itself and those before it, but for the command line
FACE = "condense"  # hands on the public names of every room


def modules(root: Path = ROOT) -> dict[str, Path]:
    files = [file for package in PACKAGES for file in (root / package).rglob("*.py")]
    return {".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


def imported(file: Path) -> Iterator[tuple[str, bool]]:
    """The dotted names that a file imports, in whatever way, and whether it does so inside a function.

    `from a import b` gives `a.b`, which may be a module or a name in one; `import_module` counts where it is told its
    name in writing.
    """
    tree = ast.parse(file.read_text(encoding="utf-8"))
    inside = {id(node) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) for node in ast.walk(f)}
    for node in ast.walk(tree):
        late = id(node) in inside
        if isinstance(node, ast.Import):
            yield from ((alias.name, late) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield from ((f"{node.module}.{alias.name}", late) for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            yield from ((str(name.value), late) for name in node.args[:1] if isinstance(name, ast.Constant))


def room(name: str) -> int | None:
    """The number of a dotted name's room; None for the face and what is not of condense."""
    parts = name.split(".")
    return ROOMS.index(parts[1]) if parts[0] == "condense" and len(parts) > 1 and parts[1] in ROOMS else None


def is_upward(module: str, name: str) -> bool:
    here, there = room(module), room(name)
    return module != FACE and here is not None and there is not None and there > here


def test_every_module_of_condense_has_a_room():
    assert [name for name in modules() if name.startswith("condense.") and room(name) is None] == []
    there = {path.stem for path in (ROOT / "condense").iterdir() if path.suffix in ("", ".py")}
    assert there - {"__init__", "__pycache__"} == set(ROOMS)


def test_every_room_says_what_it_is_for():
    for path in (ROOT / "condense").rglob("__init__.py"):
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), f"{path} has no docstring"


@pytest.mark.parametrize("module", [name for name in modules() if name.startswith("condense.")])
def test_rooms_of_condense_use_rooms_below_only(module: str):
    for name, _ in imported(modules()[module]):
        assert not is_upward(module, name), f"{module} imports {name}, which is above it"


def test_only_the_command_line_imports_buffers_and_benchmarks_and_only_inside_functions():
    for module, file in modules().items():
        for name, inside in imported(file):
            top, above = module.split(".")[0], name.split(".")[0]
            if above in PACKAGES and PACKAGES.index(above) > PACKAGES.index(top):
                assert module.startswith("condense.cli"), f"{module} imports {name}"
                assert inside, f"{module} imports {name} before it is needed"


def test_no_modules_import_each_other_in_a_circle():
    every = modules()
    graph = {
        module: {name if name in every else name.rpartition(".")[0] for name, inside in imported(file) if not inside}
        for module, file in every.items()
    }
    while leaves := [module for module, names in graph.items() if not (names - {module}) & graph.keys()]:
        for module in leaves:
            del graph[module]
    assert list(graph) == []


@pytest.mark.parametrize(
    "line",
    [
        "from condense.cli.main import main",
        "from condense.cli import main",
        "from condense import cli",
        "import condense.cli",
        "import condense.cli.main as command",
        "importlib.import_module('condense.cli')",
        "import_module('condense.cli.main')",
    ],
)
@pytest.mark.parametrize("indent", ["", "    "])
def test_the_rule_notices_every_way_of_importing(tmp_path: Path, line: str, indent: str):
    file = tmp_path / "bad.py"
    file.write_text(f"def f():\n    pass\n{indent}{line}\n")
    ((name, inside),) = imported(file)
    assert inside == bool(indent)
    assert is_upward("condense.data.real", name)
    assert not is_upward("condense.cli.main", name)


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
