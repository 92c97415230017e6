from __future__ import annotations

import subprocess
import sys

import pytest

from condense.data.catalogue import DATA_SETS, find_data_set
from condense.runtime.registry import load_object


def test_the_catalogue_is_read_without_torch() -> None:
    code = "import sys, condense.data.catalogue; print('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_names_and_aliases_are_unique() -> None:
    names = [name for entry in DATA_SETS for name in (entry.name, *entry.aliases)]
    assert len(names) == len(set(names)) == len({name.lower() for name in names})


@pytest.mark.parametrize("entry", DATA_SETS, ids=lambda entry: entry.name)
def test_every_entry_leads_somewhere(entry) -> None:  # type: ignore[no-untyped-def]
    assert callable(load_object(entry.target))
    assert "\n" not in entry.summary
    assert entry.found
    if entry.torchvision:
        assert load_object(f"torchvision.datasets:{entry.torchvision}")
    if entry.constants:
        assert len(entry.constants.mean) == len(entry.constants.std) == (1 if "grayscale" in entry.summary else 3)


@pytest.mark.parametrize("name", ["FashionMNIST", "fashion_mnist", "Fashion-MNIST"])
def test_spellings(name: str) -> None:
    found = find_data_set(name)
    assert found is not None
    assert found.name == "fashion-mnist"


def test_mirror_property() -> None:
    subsets = {entry.name for entry in DATA_SETS if entry.imagenet_classes}
    assert {entry.name for entry in DATA_SETS if entry.mirror} - subsets == {
        *("fashion-mnist", "cifar10", "cifar100", "stl10")
    }
    assert all(entry.mirror for entry in DATA_SETS if entry.name in subsets)
