"""The versions that a record and a report of a fault hold."""

import re
from importlib import metadata

import torch

import lacunar as lc
from lacunar import versions as module
from lacunar.versions import describe_machine, versions, versions_used


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


def test_versions_are_those_of_all_that_computes(monkeypatch):
    found = versions()
    assert found["diffusers"] == metadata.version("diffusers")

    def lacking(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(module, "version", lambda name: lacking(name) if name == "onnxruntime" else "0.1")
    assert versions() == {k: v for k, v in found.items() if k != "onnxruntime"} | {"diffusers": "0.1", "torch": "0.1"}
    monkeypatch.setattr(module, "version", lambda name: "0.1")
    assert versions()["onnxruntime"] == "0.1"


def test_onnx_runtime_counts_only_where_it_computes():
    found = {"torch": "2", "onnxruntime": "1.0"}
    assert versions_used("onnx", found) == versions_used("int8", found) == found
    assert versions_used("eager", found) == {"torch": "2"}
