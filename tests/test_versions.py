import re

import torch

import lacunar as lc
from lacunar.versions import describe_machine


def test_show_versions_names_lacunar_python_and_the_libraries(capsys):
    lc.show_versions()
    said = capsys.readouterr().out
    assert said.startswith(f"lacunar: {lc.__version__}\n")
    for name in ("python", "executable", "machine", "torch", "numpy", "rasterio", "xarray"):
        assert re.search(rf"^ +{name}: \S+", said, re.MULTILINE), name


def test_the_command_says_the_same(lacunar, capsys):
    lc.show_versions()
    assert capsys.readouterr().out == lacunar("--version", "--verbose").out


def test_an_unknown_public_name_is_an_attribute_error():
    assert "show_versions" in dir(lc)
    assert not hasattr(lc, "no_such_name")


def test_the_machine_is_described_in_one_line():
    text = describe_machine()
    assert "\n" not in text
    assert torch.__version__ in text
    assert "cores" in text
