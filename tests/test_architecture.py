"""The rules of the house, read from the source: which module may import which, and how long anything may be."""

import ast
import fnmatch
import io
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "lacunar"

# Top to bottom; a module imports only from further down. A new module needs its place here: decide it on purpose.
ORDER = (
    "cli",
    "cli.*",
    "progress",
    "web.*",
    "batch",
    "cluster",
    "apps.*",
    "recipes.registry",
    "recipes.lst",
    "recipes.faces",
    "recipes.water",
    "recipes.gap_filling",
    "quality_report",
    "picture_quality_report",
    "water_quality_report",
    "water_findings",
    "report",
    "tables",
    "evaluation",
    "picture_scores",
    "picture_evaluation",
    "water_evaluation",
    "water_scores",
    "water_measures",
    "scores",
    "measures",
    "probabilistic",
    "cases",
    "cluster_tasks",
    "scene_list",
    "fill_outputs",
    "lst_bands",
    "block_store",
    "fingerprint",
    "fill_inputs",
    "fill_options",
    "tally",
    "water_changes",
    "water_map",
    "water_report_figures",
    "water_figures",
    "face_figures",
    "picture_report_figures",
    "report_figures",
    "figures",
    "training",
    "distillation",
    "objectives",
    "transfer",
    "references",
    "streaming",
    "segmentation",
    "gaps",
    "face_filling",
    "picture_filling",
    "picture_sampling",
    "refinement",
    "filling",
    "tiled",
    "basefield",
    "conversion",
    "guided_diffusion",
    "engines",
    "graphs",
    "checkpoint",
    "weights",
    "card",
    "datasets",
    "water_examples",
    "water_data",
    "picture_datasets",
    "picture_packing",
    "packing",
    "noise",
    "presets",
    "samplers",
    "unipc",
    "zero_shot",
    "solvers",
    "repaint",
    "sampling",
    "losses",
    "diffusion",
    "schedule",
    "networks.*",
    "simulation",
    "landscape",
    "warping",
    "scenes",
    "channels",
    "landsat",
    "mtl",
    "archive",
    "quality",
    "raster",
    "polygons",
    "fusion",
    "grids",
    "radiometry",
    "reflectance",
    "face_roi",
    "holes",
    "images",
    "water_baselines",
    "tiling",
    "scaling",
    "spectra",
    "drift",
    "interpolation",
    "gaussian_prior",
    "picture_base",
    "kriging",
    "occlusions",
    "masks",
    "water_metrics",
    "metrics",
    "confusion",
    "bootstrap",
    "devices",
    "outputs",
    "dates",
    "errors",
)
# Rooms whose modules may import one another; those of `apps` may not.
OPEN_ROOMS = ("cli.*", "web.*", "networks.*")
MATHEMATICS = ("schedule", "diffusion", "losses", "sampling", "solvers", "repaint", "zero_shot")
RASTERS_FILES_AND_SCREENS = {
    *("rasterio", "rioxarray", "xarray", "PIL", "skimage", "imageio", "tifffile", "cv2"),
    *("pathlib", "os", "io", "shutil", "tempfile", "glob"),
    *("json", "csv", "pickle", "zipfile", "tarfile", "safetensors"),
    *("diffusers", "accelerate", "matplotlib", "rich", "typer", "tqdm", "sys", "subprocess"),
}
WITHOUT_TORCH = (
    *("radiometry", "tiling", "metrics", "probabilistic", "masks", "occlusions", "report", "confusion", "bootstrap"),
    *("figures", "water_figures", "face_figures", "report_figures", "water_report_figures"),
    *("water_metrics", "water_baselines"),
)
NUMPY_ONLY = ("radiometry", "tiling", "metrics", "confusion", "bootstrap", "spectra", "reflectance", "fusion")
NAMES_THAT_SAY_NOTHING = {"utils.py", "helpers.py", "common.py", "misc.py"}
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60


# --- reading the source ---


def module_name(path, package=PACKAGE):
    """``apps/lst.py`` -> ``apps.lst``; the package itself is ``""``, a room's ``__init__.py`` is the room."""
    parts = list(path.relative_to(package).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
ROOMS = {module_name(path) for path in PACKAGE.rglob("__init__.py")}


def imports_of(source, *, module, is_room=False):
    """Every module that a source imports, anywhere in it, by its full dotted name."""
    here = ["lacunar", *module.split(".")] if module else ["lacunar"]
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = here[: len(here) - node.level + is_room] if node.level else []
            base = ".".join([*start, *([node.module] if node.module else [])])
            # `from lacunar import raster` names a module, `from lacunar.raster import Raster` does not: keep both forms
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if called in ("import_module", "__import__"):
                found.add(str(node.args[0].value))
    return found


IMPORTS = {
    name: imports_of(path.read_text(), module=name, is_room=path.name == "__init__.py")
    for name, path in SOURCES.items()
}
OWN = {
    name: {target.removeprefix("lacunar.") for target in imports if target.removeprefix("lacunar.") in SOURCES} - {name}
    for name, imports in IMPORTS.items()
}
OTHERS = {name: {target.split(".")[0] for target in imports} - {"lacunar"} for name, imports in IMPORTS.items()}


def place(module):
    """Where a module stands in the list, None where it does not."""
    return next((index for index, entry in enumerate(ORDER) if fnmatch.fnmatchcase(module, entry)), None)


def wrong_arrows(imports):
    """Imports that do not go down the list; modules that are not on it are another test's matter."""
    for module, targets in imports.items():
        for target in targets:
            above, below = place(module), place(target)
            if above is None or below is None or above < below:
                continue
            if above == below and ORDER[above] in OPEN_ROOMS:
                continue
            yield f"{module} imports {target}"


def reached(module, imports):
    """A module and all of ours that it imports, directly or through others."""
    found, ahead = set(), [module]
    while ahead:
        here = ahead.pop()
        if here not in found:
            found.add(here)
            ahead += imports.get(here, ())
    return found


def code_lines(source):
    """For each function of a source, its lines that hold code: no blank line, no comment, no docstring."""
    skipped = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in skipped:
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            held = lines & set(range(node.lineno, node.end_lineno + 1))
            if ast.get_docstring(node, clean=False) is not None:
                held -= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
            yield node.name, len(held)


# --- the arrows ---


def test_every_module_has_its_place():
    named = set(SOURCES) - ROOMS - {"__main__"}
    unlisted = sorted(module for module in named if place(module) is None)
    assert not unlisted, f"not in ORDER: {unlisted}: decide where each stands, and say so in the design"


def test_imports_run_down_the_list_only():
    assert sorted(wrong_arrows(OWN)) == []


def test_no_module_imports_itself_through_others():
    circles = [module for module, targets in OWN.items() if any(module in reached(target, OWN) for target in targets)]
    assert circles == []


def test_the_package_and_its_rooms_import_nothing_but_the_door():
    assert {room: IMPORTS[room] for room in ROOMS - {"cli"} if IMPORTS[room]} == {}


# --- never ---


def test_an_app_never_imports_another_app():
    apps = [module for module in SOURCES if module.startswith("apps.")]
    assert {app: sorted(OWN[app] & set(apps)) for app in apps if OWN[app] & set(apps)} == {}


def in_cli(module):
    return module == "cli" or module.startswith("cli.")


def test_nothing_imports_cli_but_the_door():
    outside = {module: targets for module, targets in OWN.items() if module != "__main__" and not in_cli(module)}
    assert [module for module, targets in outside.items() if any(map(in_cli, targets))] == []


@pytest.mark.parametrize("module", MATHEMATICS)
def test_the_mathematics_knows_no_network_raster_file_or_screen(module):
    assert OWN[module] <= {*MATHEMATICS, "errors"}
    assert OTHERS[module] & RASTERS_FILES_AND_SCREENS == set()
    calls = {
        node.func.id for node in ast.walk(parsed(module)) if isinstance(node, ast.Call) and hasattr(node.func, "id")
    }
    assert calls & {"open", "print", "input"} == set()


def test_networks_never_import_the_schedule():
    networks = [module for module in SOURCES if module.startswith("networks.")]
    assert networks
    assert [module for module in networks if "schedule" in reached(module, OWN)] == []


@pytest.mark.parametrize("module", WITHOUT_TORCH)
def test_torch_is_not_reached_even_inside_a_function(module):
    assert [other for other in reached(module, OWN) if "torch" in OTHERS[other]] == []


@pytest.mark.parametrize("module", NUMPY_ONLY)
def test_numpy_is_enough(module):
    assert OTHERS[module] - set(sys.stdlib_module_names) <= {"numpy"}


@pytest.mark.parametrize("module", ["figures", "water_figures", "report_figures", "report"])
def test_figures_and_pages_import_nothing_of_ours(module):
    assert OWN[module] == set()


def test_no_file_has_a_name_that_says_nothing():
    assert [str(path) for path in PACKAGE.rglob("*.py") if path.name in NAMES_THAT_SAY_NOTHING] == []


def parsed(module):
    return ast.parse(SOURCES[module].read_text())


# --- what an import costs ---


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("lacunar", ("torch", "rasterio", "diffusers", "numpy", "scipy", "matplotlib", "typer")),
        *((f"lacunar.{module}", ("torch", "diffusers", "accelerate")) for module in WITHOUT_TORCH),
    ],
)
def test_an_import_takes_nothing_heavy_along(module, absent):
    code = f"import sys, {module}; print(*[name for name in {absent!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.stdout.strip(), result.stderr) == ("", "")


# --- lengths ---


def test_no_file_is_too_long():
    files = [path for folder in ("src", "tests", "benchmarks", "examples") for path in (ROOT / folder).rglob("*.py")]
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in files}
    assert {name: length for name, length in lengths.items() if length > MAX_FILE_LINES} == {}


def test_no_function_is_too_long():
    lengths = {f"{name} in {path.name}": n for path in SOURCES.values() for name, n in code_lines(path.read_text())}
    assert {name: length for name, length in lengths.items() if length > MAX_FUNCTION_LINES} == {}


# --- the readers above, held to small sources ---


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import torch.nn", "torch.nn"),
        ("def f():\n    from lacunar.raster import Raster", "lacunar.raster"),
        ("from lacunar import raster", "lacunar.raster"),
        ("if TYPE_CHECKING:\n    from lacunar.cli import main", "lacunar.cli"),
        ("from .lst import run", "lacunar.apps.lst"),
        ("from ..raster import Raster", "lacunar.raster"),
        ("from .. import raster", "lacunar.raster"),
        ("import importlib\nimportlib.import_module('lacunar.cli')", "lacunar.cli"),
    ],
)
def test_the_reader_sees_each_form_of_import(source, found):
    assert found in imports_of(source, module="apps.faces")


def test_the_reader_tells_right_arrows_from_wrong_ones():
    imports = {
        "cli": {"apps.lst"},
        "apps.lst": {"apps.faces"},
        "raster": {"tiling", "cli"},
        "networks.unet": {"networks.a"},
    }
    assert sorted(wrong_arrows(imports)) == ["apps.lst imports apps.faces", "raster imports cli"]
    assert reached("cli", imports) == {"cli", "apps.lst", "apps.faces"}


def test_the_reader_counts_code_only():
    source = (
        'def f():\n    """Doc.\n\n    More.\n    """\n    # a comment\n    a = (\n        1,\n    )\n\n    return a\n'
    )
    assert list(code_lines(source)) == [("f", 5)]
