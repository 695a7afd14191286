"""The rules of the house beside the layers contract of pyproject.toml: lengths, and what an import loads."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "lacunar"
SOURCES = sorted(PACKAGE.rglob("*.py"))
LEAVES = {"__init__.py", "__main__.py", "errors.py", "limits.py", "metrics.py", "plotting.py", "versions.py"}
MATHEMATICS = sorted((PACKAGE / "diffusion").glob("*.py"))
FILES_AND_SCREENS = {
    *("rasterio", "rioxarray", "xarray", "PIL", "skimage", "pathlib", "os", "io", "json", "csv", "safetensors"),
    *("diffusers", "accelerate", "matplotlib", "rich", "typer", "sys", "subprocess"),
}
HEAVY = {"torch", "diffusers", "numpy", "scipy", "pandas", "xarray", "dask", "rasterio", "rioxarray", "geopandas"}
HEAVY |= {"matplotlib", "skimage", "typer"}
MAX_FILE_LINES = 600
MAX_PARAMETERS = 8


def imported(path):
    """Top-level packages that a source imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


def test_only_leaves_lie_beside_the_rooms():
    assert {path.name for path in PACKAGE.glob("*.py")} == LEAVES


@pytest.mark.parametrize("path", MATHEMATICS, ids=lambda path: path.stem)
def test_the_mathematics_knows_no_raster_file_or_screen(path):
    assert imported(path) & FILES_AND_SCREENS == set()


def test_networks_know_no_schedule():
    assert [path.name for path in (PACKAGE / "networks").glob("*.py") if "lacunar.diffusion" in path.read_text()] == []


@pytest.mark.parametrize("path", sorted((PACKAGE / "interpolate").glob("*.py")), ids=lambda path: path.stem)
def test_interpolation_needs_no_torch(path):
    assert "torch" not in imported(path)


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import lacunar; lacunar.show_versions(); dir(lacunar)", HEAVY),
        ("import lacunar.cli, sys; sys.argv = ['lacunar', '--help']; lacunar.cli.main()", {"torch", "diffusers"}),
        ("import lacunar.segment.job", {"lacunar.fill", "lacunar.interpolate"}),
        (
            "import lacunar.sensors.sebal, lacunar.geo.windows, lacunar.metrics, lacunar.plotting",
            {"torch", "diffusers"},
        ),
    ],
    ids=["package", "help", "water", "numbers"],
)
def test_an_import_loads_nothing_heavy(code, absent):
    ends = "import sys, atexit; atexit.register(lambda: sys.stderr.write(' '.join(set(sys.modules))));"
    result = subprocess.run([sys.executable, "-c", ends + code], capture_output=True, text=True, check=False)
    assert "lacunar" in result.stderr.split()
    assert set(result.stderr.split()) & absent == set()


def test_no_file_is_too_long():
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in SOURCES}
    assert {name: length for name, length in lengths.items() if length > MAX_FILE_LINES} == {}


def test_no_function_takes_too_many_parameters():
    found = {}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            command = path.parent.name == "cli" and str(getattr(node, "name", "")).endswith("_command")
            if isinstance(node, ast.FunctionDef) and not command:  # a command's parameters are its options
                arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                count = len([one for one in arguments if one.arg not in ("self", "cls")])
                if count > MAX_PARAMETERS:
                    found[f"{path.relative_to(PACKAGE)}:{node.name}"] = count
    assert found == {}


GATE = PACKAGE / "geo" / "gate.py"
OPENERS = {
    *("rasterio.open", "Image.open", "tarfile.open", "tarfile.TarFile", "zipfile.ZipFile", "gpd.read_file"),
    *("pyogrio.read_dataframe", "rioxarray.open_rasterio", "xr.open_dataset", "xarray.open_dataset", "DatasetReader"),
}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_rasters_pictures_and_archives_are_opened_by_the_gate_alone(path):
    called = {ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)}
    opened = called & OPENERS
    assert opened == set() or path == GATE
