"""The examples of the README are run as they stand."""

import re
from pathlib import Path

import pytest

from condense.cli.main import main
from condense.methods.registry import methods

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"<!-- test -->\n```(\w+)\n(.*?)```", README, re.DOTALL)


def test_the_readme_has_examples_of_both_kinds():
    assert {language for language, _ in EXAMPLES} == {"python", "sh"}


@pytest.mark.parametrize(
    ("language", "text"), EXAMPLES, ids=[f"{language}-{i}" for i, (language, _) in enumerate(EXAMPLES)]
)
def test_examples_run(language: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.chdir(tmp_path)
    if language == "python":
        exec(compile(text, "README.md", "exec"), {"__name__": "example"})
        return
    for line in text.strip().splitlines():
        words = line.split()
        assert words[0] == "condense"
        assert main(words[1:]) == 0, f"{line}\n{capsys.readouterr().err}"


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))])
def test_links_lead_somewhere(page: str):
    path = ROOT / page
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (path.parent / target).exists(), target


def test_every_method_is_in_the_table_of_methods():
    for name in methods().names():
        assert f"| `{name}` |" in README
