"""The command line as a user meets it: what it says, what it writes, what it takes."""

import errno
import json
import re
import subprocess
import sys

import matplotlib.image
import numpy as np
import pytest
import rasterio
import torch
from safetensors.torch import load_file, save_file
from scipy import ndimage

from commands import Ran, bands_of, contents, hole, write
from lacunar import __version__, cli
from lacunar.cli.options import PresetOption, resolve_device
from lacunar.cli.progress import Bars
from lacunar.diffusion.samplers import PRESETS
from lacunar.errors import LacunarError
from lacunar.models.backend import load_filler
from lacunar.models.checkpoint import shipped_models
from lacunar.networks.unet import UNetConfig
from lacunar.sensors.landsat_qa import GAP_CLASSES
from lacunar.sensors.scene import LstOptions, open_scene
from lacunar.train.kinds import LstRecipe
from lacunar.train.loop import Progress, TrainingConfig
from lacunar.train.recipes import RECIPES

COMMANDS = ("lst", "fill", "demo", "simulate", "models", "convert", "train", "evaluate")


@pytest.fixture
def raster(tmp_path):
    """A raster in millimetres with a gap."""
    values = np.add.outer(np.linspace(0, 9, 64), np.linspace(0, 5, 64)).astype(np.float32)
    return write(tmp_path / "in.tif", np.where(hole((64, 64)), np.nan, values).astype(np.float32), units="mm")


# --- the door ---


def test_help_and_version_are_quick_and_complete(lacunar):
    ran = lacunar("--help")
    assert (ran.code, ran.err) == (0, "")
    assert all(f"\n  {name} " in ran.out for name in COMMANDS)
    assert lacunar() == ran
    assert lacunar("--version").out == f"lacunar {__version__}\n"
    for name in COMMANDS:
        ran = lacunar(name, "--help")
        assert (ran.code, ran.err) == (0, "")
        assert ran.out.startswith(f"Usage: lacunar {name} ")


def test_help_imports_nothing_heavy():
    heavy = ("torch", "numpy", "scipy", "rasterio", "matplotlib", "diffusers", "accelerate", "rich.progress")
    code = (
        "import sys; from lacunar.cli import main\n"
        "try: main()\n"
        f"finally: print([name for name in {heavy} if name in sys.modules], file=sys.stderr)"
    )
    for option in ("--help", "--version"):
        ran = subprocess.run([sys.executable, "-c", code, option], capture_output=True, text=True, check=True)
        assert ran.stderr == "[]\n"
        assert "lacunar" in ran.stdout


def test_the_module_is_a_door_too():
    ran = subprocess.run(
        [sys.executable, "-m", "lacunar", "--version"], capture_output=True, text=True, check=True, cwd="/"
    )
    assert ran.stdout == f"lacunar {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("lst",), r"Missing argument '[\w.]+'\. \(`lacunar lst --help` lists what there is\)"),
        (("fill", "a.tif"), r"Missing option '-o'.* \(`lacunar fill --help` lists what there is\)"),
        (("paint",), r"No such command 'paint'\..* \(`lacunar --help` lists what there is\)"),
        (("models", "all"), r"Got unexpected extra argument.* \(`lacunar models --help` lists what there is\)"),
    ],
)
def test_bad_use_is_one_line(lacunar, arguments, message):
    ran = lacunar(*arguments)
    assert (ran.code, ran.out) == (cli.BAD_INPUT, "")
    assert re.fullmatch(f"lacunar: {message}\n", ran.err)


def test_faults_of_the_machine_are_one_line_too(lacunar, monkeypatch):
    def broken():
        raise PermissionError(errno.EACCES, "Permission denied", "/models")

    monkeypatch.setattr("lacunar.models.checkpoint.shipped_models", broken)
    assert lacunar("models") == Ran(cli.BAD_INPUT, "", "lacunar: [Errno 13] Permission denied: '/models'\n")


def test_the_defaults_are_those_of_the_library():
    assert LstOptions().gap_classes == GAP_CLASSES
    text = PresetOption.__metadata__[0].help  # it says what the presets cost
    assert all(f"{name} (" in text and str(preset.evaluations) in text for name, preset in PRESETS.items())
    expected = {"fast": 10, "balanced": 25, "paper": 2410, "instant": 1}
    assert {name: preset.evaluations for name, preset in PRESETS.items()} == expected


# --- lst and fill ---


def test_lst_tells_what_it_did_and_leaves_what_it_told(lacunar, simulated_64, tiny_folder, out):
    truth = simulated_64.truth_path
    arguments = ("lst", simulated_64.folder, "-o", out / "lst.tif", "--model", tiny_folder, "--samples", 2)
    arguments += ("--suspect", "keep")
    ran = lacunar(*arguments, "--figure", out / "lst.png", "--truth", truth, "--save-bands", out / "bands")
    assert (ran.code, ran.err) == (0, "")
    record = json.loads((out / "lst.json").read_text())
    filled = record["pixels"]["filled"]
    lines = ran.out.splitlines()
    assert lines[0].startswith(f"filled {filled} of 4096 pixels ({filled / 4096:.1%}) in ")
    assert lines[1].startswith("note: LST is not corrected for the atmosphere")
    assert lines[2].startswith(f"against the truth: RMSE {record['truth']['rmse']:.3f}, MAE ")
    assert lines[3:] == [f"raster:  {out / 'lst.tif'}", f"record:  {out / 'lst.json'}", f"picture: {out / 'lst.png'}"]
    assert record["command"].startswith(f"lacunar lst {simulated_64.folder} -o {out / 'lst.tif'} --model ")
    assert len(list((out / "bands").iterdir())) == 10
    assert matplotlib.image.imread(out / "lst.png").std() > 0.1
    again = lacunar(*arguments)
    assert again.code == cli.BAD_INPUT
    assert lacunar(*arguments, "--overwrite").code == 0


def test_json_is_all_that_standard_output_holds(lacunar, raster, tiny_folder, out):
    ran = lacunar("fill", raster, "-o", out / "out.tif", "--model", tiny_folder, "--samples", 2, "--json")
    assert (ran.code, ran.err) == (0, "")
    assert json.loads(ran.out) == json.loads((out / "out.json").read_text())


def test_every_option_reaches_the_record(lacunar, simulated_64, tiny_folder, out):
    told = {"--gap-classes": "cloud, cirrus", "--preset": "balanced", "--samples": 3, "--seed": 7, "--device": "cpu"}
    told |= {"--savi-l": 0.1, "--reflectance": "dr", "--path-radiance": 0.9, "--transmissivity": 0.85}
    told |= {"--sky-radiance": 1.4, "--model": tiny_folder, "-o": out / "lst.tif"}
    ran = lacunar("lst", simulated_64.folder, *(word for pair in told.items() for word in pair))
    assert ran.code == 0, ran.err
    assert "not corrected for the atmosphere" not in ran.out
    record = json.loads((out / "lst.json").read_text())
    expected = {"gap_classes": ["cloud", "cirrus"], "preset": "balanced", "samples": 3, "seed": 7, "device": "cpu"}
    expected |= {"savi_l": 0.1, "reflectance": "dr", "atmospherically_corrected": True, "gap_mask": None}
    expected["atmosphere"] = {"path_radiance": 0.9, "transmissivity": 0.85, "sky_radiance": 1.4}
    assert {key: record[key] for key in expected} == expected
    assert record["network_evaluations"]["per_sample_and_tile"] == 25
    gap = open_scene(simulated_64.folder).qa_flags(["cloud", "cirrus"])
    np.testing.assert_array_equal(bands_of(out / "lst.tif")[1] == 2, gap)


def test_fill_takes_a_gap_mask_and_a_picture_in_the_rasters_units(lacunar, tiny_folder, out, tmp_path):
    values = np.add.outer(np.linspace(0, 9, 64), np.linspace(0, 5, 64)).astype(np.float32)
    given = write(tmp_path / "in.tif", values, units="mm")
    mask = write(tmp_path / "mask.tif", hole((64, 64)).astype(np.uint8))
    more = ("--gap-mask", mask, "--figure", out / "out.png", "--truth", given, "--samples", 1)
    ran = lacunar("fill", given, "-o", out / "out.tif", "--model", tiny_folder, *more)
    assert (ran.code, ran.err) == (0, "")
    assert list(contents(out)) == ["out.json", "out.png", "out.tif"]
    filled, source, _ = bands_of(out / "out.tif")
    np.testing.assert_array_equal(source == 2, hole((64, 64)))
    np.testing.assert_array_equal(filled[source == 1], values[source == 1])
    with rasterio.open(out / "out.tif") as dataset:
        assert dataset.units == ("mm", None, "mm")
    assert matplotlib.image.imread(out / "out.png").std() > 0.1


def test_auto_takes_the_best_device_there_is(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert resolve_device("auto") == resolve_device("cpu") == "cpu"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert resolve_device("auto") == "mps"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("auto") == "cuda:0"
    with pytest.raises(LacunarError, match="no device 'cuda:7' here: choose one of auto, cpu, cuda:0, cuda:1, mps"):
        resolve_device("cuda:7")


# --- the other commands ---


def test_simulate_writes_a_product_and_its_truth(lacunar, out):
    ran = lacunar("simulate", out / "product", "--size", 64, "--cloud", 0.3, "--seed", 4)
    assert (ran.code, ran.err) == (0, "")
    product, truth = (line.split(":", 1)[1].strip() for line in ran.out.splitlines())
    assert product.endswith("gap)")
    assert open_scene(out / "product").shape == (64, 64)
    with rasterio.open(truth) as dataset:
        assert dataset.shape == (64, 64)
    ran = lacunar("simulate", out / "product")
    assert ran.code == cli.BAD_INPUT
    assert "exists and is not an empty folder" in ran.err


def test_demo_prints_a_table_and_where_everything_is(lacunar, out, tiny_folder):
    arguments = ("demo", "-o", out / "demo", "--only", "lst", "--size", 96, "--model", tiny_folder, "--samples", 2)
    arguments += ("--overwrite",)
    said = []
    for _ in range(2):
        ran = lacunar(*arguments)
        assert (ran.code, ran.err) == (0, "")
        said.append([line.split(";")[0] for line in ran.out.splitlines()])  # what follows is the time it took
    assert said[0] == said[1]
    names = [line.split()[0] for line in said[0][2:7]]
    assert names == ["lacunar", "idw", "laplace", "nearest", "mean"]
    assert all(0 < float(line.split()[1]) < 20 for line in said[0][2:7])
    assert said[0][0].startswith("simulated Landsat-8 product, 96 x 96 pixels, 22% under cloud: ")
    assert sorted(path.name for path in (out / "demo").iterdir()) == [
        "lst_filled.json",
        "lst_filled.png",
        "lst_filled.tif",
        "product",
    ]
    ran = lacunar(*arguments[:-1])
    assert ran.code == cli.BAD_INPUT
    assert "product exists, wanted a new demo folder: choose another, or give --overwrite" in ran.err


def test_models_lists_what_is_shipped(lacunar, tiny_folder, monkeypatch):
    monkeypatch.setattr("lacunar.models.checkpoint.MODELS", tiny_folder.parent)
    assert lacunar("models").out == "tiny: for tests Licence: none.\n"
    monkeypatch.setattr("lacunar.models.checkpoint.MODELS", tiny_folder / "none")
    assert "no model comes with this installation: `lacunar train` makes one" in lacunar("models").out


def test_convert_makes_a_model_folder_and_says_where(lacunar, shared, out):
    golden = load_file(shared / "golden" / "guided_diffusion_unet_tiny.safetensors")
    weights = {key.removeprefix("weights."): value for key, value in golden.items() if key.startswith("weights.")}
    save_file(weights, out / "tiny.safetensors")
    (out / "settings.json").write_text(json.dumps({"num_head_channels": 16, "image_size": 32}))
    arguments = ("convert", out / "tiny.safetensors", out / "model", "--architecture", out / "settings.json")
    assert lacunar(*arguments) == Ran(0, f"model: {out / 'model'}\n", "")
    with torch.inference_mode():
        difference = load_filler(out / "model").network(golden["io.x"], golden["io.t"]) - golden["io.y"]
    assert difference.abs().max() < 1e-4
    ran = lacunar(*arguments)
    assert (ran.code, ran.out) == (cli.BAD_INPUT, "")
    assert "model exists" in ran.err
    assert lacunar(*arguments, "--overwrite").code == 0
    assert "no checkpoint" in lacunar("convert", out / "none.pt", out / "other").err


# --- train ---


@pytest.fixture
def recipe(monkeypatch):
    """A recipe of few steps."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    network = UNetConfig(
        sample_size=32,
        in_channels=5,
        block_out_channels=(8, 16),
        layers_per_block=1,
        middle_attention=False,
        norm_groups=4,
        patch=4,
    )
    tiny = LstRecipe(
        name="tiny",
        network=network,
        training=TrainingConfig(steps=6, batch_size=2, checkpoint_every=2, validate_every=3, warmup_steps=1),
        examples=4,
        held_out_examples=2,
        weights={"hill": 1.0},
        held_out_weights={"lake": 1.0},
    )
    monkeypatch.setattr("lacunar.train.recipes.RECIPES", {"tiny": tiny})
    return tiny


@pytest.fixture
def places(tmp_path):
    """Rasters of two places in kelvin."""
    folder = tmp_path / "data"
    folder.mkdir()
    for seed, place in enumerate(("hill", "lake")):
        rough = np.random.default_rng(seed).standard_normal((160, 160))
        kelvin = 290.0 + 40.0 * ndimage.gaussian_filter(rough, 5.0)
        write(folder / f"{place}_1.tif", kelvin.astype(np.float32))
    return folder


def test_train_packs_runs_and_goes_on(lacunar, recipe, places, out):
    arguments = ("train", "tiny", "--pack", out / "pack.npz", "--run", out / "run", "--workers", 1)
    ran = lacunar(*arguments)
    assert (ran.code, ran.out) == (cli.BAD_INPUT, "")
    assert ran.err.endswith("pack.npz and no --data to write it from: give what it is trained from\n")
    ran = lacunar(*arguments, "--data", places, "--steps", 3)
    assert ran.code == 0, ran.err
    assert ran.out.startswith(f"packed {places} into {out / 'pack.npz'} (")
    assert ran.out.endswith(f"model: {out / 'run' / 'model'}\nloss:  {out / 'run' / 'loss.png'}\n")
    assert matplotlib.image.imread(out / "run" / "loss.png").ndim == 3
    log = ran.err.splitlines()
    assert log[0].startswith("training: step 1 of 3, loss ")  # drawing was soon over
    assert log[-1].startswith("training: step 3 of 3, loss ")
    assert log[-1].endswith(" 0 min left")
    assert load_filler(out / "run" / "model").card.steps == 3
    ran = lacunar(*arguments)
    assert ran.code == 0, ran.err
    assert "drawing" not in ran.err
    assert ran.err.startswith("training: step 4 of 6, loss ")
    assert load_filler(out / "run" / "model").card.steps == 6


@pytest.mark.parametrize(
    ("name", "option", "value", "takers"),
    [
        ("water-small", "clouds", "masks", "lst-small, lst-full"),
        ("face-small", "clouds", "masks", "lst-small, lst-full"),
        ("water-small", "workers", 2, "lst-small, lst-full"),
        ("lst-prior", "workers", 2, "lst-small, lst-full"),
        ("water-small", "distill", "lst-small", "lst-small, lst-full, picture-small, face-small, face-full"),
    ],
)
def test_an_option_without_a_meaning_for_a_recipe_is_refused(lacunar, out, name, option, value, takers):
    ran = lacunar("train", name, "--pack", out / "pack.npz", "--data", out, f"--{option}", value)
    line = f"lacunar: --{option} {value} for {name}: it has a meaning for {takers} alone; leave it out\n"
    assert ran == Ran(cli.BAD_INPUT, "", line)
    assert not list(out.iterdir())


def test_ctrl_c_while_training_says_how_to_go_on(lacunar, recipe, places, out, monkeypatch):
    def interrupt(_, progress):
        if progress.step == 4:
            raise KeyboardInterrupt

    arguments = ("train", "tiny", "--pack", out / "pack.npz", "--data", places, "--run", out / "run", "--workers", 1)
    with monkeypatch.context() as patch:
        patch.setattr("lacunar.cli.progress.Bars.training", interrupt)
        ran = lacunar(*arguments)
    assert ran.code == cli.INTERRUPTED
    *_, kept, last = ran.err.splitlines()
    assert kept == f"lacunar: the run is kept in {out / 'run'}, the same command goes on from there"
    assert last.startswith("lacunar: interrupted; ")
    assert not (out / "run" / "model").exists()
    ran = lacunar(*arguments)
    assert ran.code == 0, ran.err
    assert ran.err.startswith("training: step 5 of 6, loss ")


def test_an_unknown_recipe_names_the_known_ones(lacunar, out):
    ran = lacunar("train", "lst-huge", "--pack", out / "pack.npz")
    assert ran == Ran(cli.BAD_INPUT, "", f"lacunar: unknown recipe 'lst-huge': choose one of {', '.join(RECIPES)}\n")


def test_a_log_gets_a_line_every_half_minute_and_the_last(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    with Bars() as bars:
        for step in range(1, 101):
            now[0] = 1.0 * step
            bars.training(Progress(step, 100, 0.5, 19.87, 60.0 * (100 - step)))
            bars.filling(step, 100)
    out, err = capsys.readouterr()
    assert out == ""
    assert [int(line.split()[2]) for line in err.splitlines()] == [1, 31, 61, 91, 100]
    assert err.splitlines()[1] == "training: step 31 of 100, loss 0.5000, 19.9 examples/s, 69 min left"


def test_a_terminal_gets_bars_and_no_lines(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    with Bars() as bars:
        bars.training(Progress(1, 100, 0.5, 19.87, 60.0))
        bars.filling(50, 100)
    out, err = capsys.readouterr()
    assert out == ""
    assert "50/100" in err
    assert "loss 0.5000, 19.9 examples/s" in err
    assert "min left" not in err


# --- the shipped model ---


@pytest.fixture
def shipped():
    """Skip where the model that the commands take by default is not there."""
    if "lst-small" not in shipped_models():
        pytest.skip("the model lst-small is not in this checkout: `lacunar train lst-small` makes it")


@pytest.mark.usefixtures("shipped")
def test_demo_with_the_shipped_model_beats_the_simple_fills(lacunar, out):
    ran = lacunar("demo", "-o", out / "demo", "--size", 128, "--only", "lst")
    assert ran.code == 0, ran.err
    scores = {line.split()[0]: float(line.split()[1]) for line in ran.out.splitlines()[2:7]}
    assert scores["lacunar"] < min(scores["idw"], scores["nearest"], scores["mean"])
    assert "lst-small" in lacunar("models").out
