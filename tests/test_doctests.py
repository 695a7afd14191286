"""The examples in the docstrings of the public functions."""

import doctest
import importlib

import pytest

PUBLIC = [
    *("lacunar.fill.api", "lacunar.pictures.api", "lacunar.segment.api", "lacunar.sensors.api", "lacunar.versions"),
]


@pytest.mark.parametrize("name", PUBLIC)
def test_the_examples_of_the_public_functions(name):
    results = doctest.testmod(importlib.import_module(name))
    assert results.attempted > 0
    assert results.failed == 0
