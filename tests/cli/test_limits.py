"""What costs too much, or is damaged past what a parser expects: one line and exit code 2, before any work."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine

from commands import contents, png_of_zeros, write
from lacunar.cli import BAD_INPUT
from products import drop_georeference, edit_mtl, file_of, mtl_of


@pytest.fixture
def refused(lacunar, out):
    """Run a command and hold it to one line, exit code 2, and an output folder that stays as it was."""

    def run(*arguments, says):
        before = contents(out)
        ran = lacunar(*arguments)
        assert ran.code == BAD_INPUT, ran.err
        assert ran.out == ""
        assert ran.err.startswith("lacunar: ")
        assert ran.err.count("\n") == 1
        assert says in ran.err
        assert contents(out) == before

    return run


@pytest.fixture
def raster(tmp_path):
    values = np.random.default_rng(0).normal(290, 3, (24, 24)).astype(np.float32)
    values[5:9, 5:9] = np.nan
    return write(tmp_path / "in.tif", values, nodata=np.nan)


def sparse(path, side):
    profile = {"driver": "GTiff", "height": side, "width": side, "count": 1, "dtype": "uint8", "crs": "EPSG:32632"}
    profile |= {"tiled": True, "blockxsize": 8192, "blockysize": 8192, "BIGTIFF": "YES", "sparse_ok": True}
    with rasterio.open(path, "w", transform=Affine(30, 0, 400000, 0, -30, 5700000), **profile):
        pass
    return path


@pytest.mark.parametrize("role", ["--reference", "--covariate", "--gap-mask", "--truth"])
def test_a_raster_beyond_the_budget_is_refused_in_every_role(refused, out, raster, tmp_path, tiny_folder, role):
    large = sparse(tmp_path / "large.tif", 10**6)
    told = ("-o", out / "a.tif", "--model", tiny_folder, role, large)
    refused("fill", raster, *told, says="got 1,000,000,000,000 pixels")


def test_large_images_are_refused_by_the_jobs_that_hold_them(refused, out, tmp_path):
    refused("water", sparse(tmp_path / "a.tif", 40_000), "-o", out / "a.tif", says="got 1,600,000,000 pixels")
    png_of_zeros(tmp_path / "a.png", 60_000, 60_000)
    refused("water", tmp_path / "a.png", "-o", out / "b.png", says="pixels")


@pytest.mark.parametrize("command", ["fill", "water", "inpaint"])
def test_samples_have_a_limit(refused, out, raster, command):
    more = ("--mask", raster) if command == "inpaint" else ()
    refused(command, raster, "-o", out / "a.tif", *more, "--samples", 10**12, says="samples")


def with_json(folder, tmp_path, name, change):
    """A copy of a model folder with one JSON file changed, or replaced by text."""
    model = shutil.copytree(folder, tmp_path / "model")
    text = change if isinstance(change, str) else json.dumps(change(json.loads((model / name).read_text())))
    (model / name).write_text(text)
    return model


BRACKETS = "[" * 100_000


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("config.json", BRACKETS, "is not JSON"),
        ("card.json", BRACKETS, "is not JSON"),
        ("scaling.json", lambda old: old | {"kind": []}, "scaling: kind is []"),
        ("schedule.json", lambda old: {"prediction": "v", "name": "cosine", "num_timesteps": 10**12}, "timesteps"),
        ("schedule.json", lambda old: {"prediction": "v", "name": "linear", "num_timesteps": "many"}, "schedule"),
        ("config.json", lambda old: old | {"layers_per_block": 10**9}, "layers_per_block"),
        ("config.json", lambda old: old | {"block_out_channels": [8] * 1000}, "block_out_channels"),
        ("config.json", lambda old: old | {"sample_size": 10**9}, "sample_size"),
    ],
)
def test_a_model_folder_that_asks_too_much(refused, out, raster, tiny_folder, tmp_path, name, change, says):
    model = with_json(tiny_folder, tmp_path, name, change)
    refused("fill", raster, "-o", out / "a.tif", "--model", model, says=says)


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ({"input_blocks.999999999.0.weight": torch.zeros(1)}, "input_blocks"),
        ({0: torch.zeros(1)}, "holds no state dict"),
    ],
)
def test_a_checkpoint_of_odd_keys(refused, out, tmp_path, state, says):
    torch.save(state, tmp_path / "a.pt")
    refused("convert", tmp_path / "a.pt", out / "model", says=says)


def test_diffusers_settings_of_wrong_types(refused, out, tmp_path):
    folder = tmp_path / "ddpm"
    folder.mkdir()
    (folder / "scheduler_config.json").write_text(json.dumps({"num_train_timesteps": 1000}))
    torch.save({"a": torch.zeros(1)}, folder / "diffusion_pytorch_model.bin")
    for settings in ({"down_block_types": 5}, {"sample_size": []}, {"norm_num_groups": "x"}, {"act_fn": {}}):
        (folder / "config.json").write_text(json.dumps({"_class_name": "UNet2DModel", **settings}))
        refused("convert", folder, out / "model", says="lacunar: ")


@pytest.mark.parametrize("pattern", ["a**b/*", "[z-a]*", "***"])
def test_a_pattern_that_is_none(refused, out, pattern):
    refused("fill", pattern, "-o", out, says=pattern[:3])


def test_a_list_with_what_is_no_path(refused, out, tmp_path):
    (tmp_path / "list.txt").write_bytes(b"a.tif\nb\0c.tif\n")
    refused("fill", f"@{tmp_path / 'list.txt'}", "-o", out, says="which is no path")


def test_links_that_form_a_ring(refused, out, raster, tmp_path):
    ring = tmp_path / "ring.tif"
    ring.symlink_to(ring)
    refused("fill", ring, "-o", out / "a.tif", says="ring.tif")
    refused("fill", raster, "-o", ring, says="links lead nowhere")


@pytest.mark.parametrize("transform", [(30, 0, 0, 30, 0, 0), (30, 0, np.nan, 0, -30, 0), (1e-320, 0, 0, 0, -30, 0)])
@pytest.mark.parametrize("role", ["input", "--gap-mask", "--reference"])
def test_a_position_that_is_none(refused, out, raster, tmp_path, transform, role):
    odd = tmp_path / "odd.tif"
    shutil.copy(raster, odd)
    with rasterio.open(odd, "r+") as dataset:
        dataset.transform = Affine(*transform)
    inputs = (odd,) if role == "input" else (raster, role, odd)
    refused("fill", *inputs, "-o", out / "a.tif", says="by which pixels have no area")


def test_a_description_that_is_no_text(refused, out, raster):
    with rasterio.open(raster, "r+") as dataset:
        dataset.set_band_description(1, "QQQQQQQQ")
    raster.write_bytes(raster.read_bytes().replace(b"QQQQQQQQ", b"\xff\xfe\xe9\x80caf\xe9", 1))
    refused("fill", raster, "-o", out / "a.tif", says="its metadata cannot be read")


def set_in_mtl(product, key, value):
    line = next(line for line in mtl_of(product).read_text().splitlines() if line.strip().startswith(f"{key} ="))
    edit_mtl(product, (line, f"    {key} = {value}"))


@pytest.mark.parametrize("key", ["RADIANCE_MULT_BAND_10", "REFLECTANCE_MULT_BAND_4"])
def test_a_gain_of_zero(refused, out, product, tiny_folder, key):
    set_in_mtl(product, key, "0.0")
    refused("lst", product, "-o", out / "a.tif", "--model", tiny_folder, says=f"{key} is 0; wanted a number above 0")


def test_a_pixel_of_no_size(refused, out, product, tiny_folder):
    set_in_mtl(product, "GRID_CELL_SIZE_REFLECTIVE", "1e-320")
    drop_georeference(file_of(product, "B10"))
    refused("lst", product, "-o", out / "a.tif", "--model", tiny_folder, says="lacunar: ")


def test_what_libraries_print_stays_off_the_error_stream():
    code = "import os, sys, lacunar.cli as cli\n"
    code += "cli.app = lambda **_: (os.write(2, b'C code'), print('ours', file=sys.stderr))[0] and 0\n"
    code += "cli.main()"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.stderr == "ours\n"


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_signal_ends_like_ctrl_c(name):
    code = "import os, signal, time, lacunar.cli as cli\n"
    code += "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a background job of a shell ignores some
    code += "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
    code += f"cli.app = lambda **_: (os.kill(os.getpid(), signal.{name}), time.sleep(9))\n"
    ran = subprocess.run([sys.executable, "-c", f"{code}cli.main()"], capture_output=True, text=True, check=False)
    assert ran.returncode == 130
    assert ran.stderr == "lacunar: interrupted; what was finished is kept, nothing half-written is left\n"
