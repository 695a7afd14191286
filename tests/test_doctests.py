"""The examples in the docstrings of the package."""

import doctest
import importlib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "lacunar"
MODULES = [
    ".".join(["lacunar", *path.relative_to(PACKAGE).with_suffix("").parts])
    for path in sorted(PACKAGE.rglob("*.py"))
    if ">>>" in path.read_text()
]
PUBLIC = {f"lacunar.{name}" for name in ("fill.api", "pictures.api", "segment.api", "sensors.scene", "versions")}


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module(name):
    results = doctest.testmod(importlib.import_module(name))
    assert results.attempted > 0 or name not in PUBLIC
    assert results.failed == 0


def test_the_public_modules_have_examples():
    assert set(MODULES) >= PUBLIC
