"""Bad input at the command line: one line that teaches, exit code 2, and every folder as it was before."""

import errno
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from commands import bands_of, check_bands, cloud_at, contents, hole, mask_for, write
from gap_models import tiny_model
from lacunar.cli import BAD_INPUT, INTERRUPTED
from lacunar.models.checkpoint import save_model
from lacunar.sensors.scene import open_scene
from lacunar.sensors.simulated import PRODUCT_ID
from products import drop_georeference, edit_mtl, file_of, mtl_of, rewrite


@pytest.fixture
def refused(lacunar, out, tiny_folder):
    """Run ``lacunar lst`` with every kind of output and hold it to the contract of bad input."""

    def run(product, message, *more, output=out / "lst.tif", model=tiny_folder, command="lst"):
        bands = ("--save-bands", out / "bands") if command == "lst" else ()
        before = contents(out)
        told = ("--model", model, "--samples", 2, "--figure", out / "lst.png", *bands)
        ran = lacunar(command, product, "-o", output, *told, *more)
        assert ran.out == ""
        assert ran.code == BAD_INPUT
        assert ran.err.startswith("lacunar: ")
        assert ran.err.endswith("\n")
        assert ran.err.count("\n") == 1
        assert re.search(message, ran.err), ran.err
        assert ".partial" not in ran.err
        assert contents(out) == before
        return ran.err

    return run


def pack(folder, archive, *, skip=(), extra=()):
    """A .tar of a folder, and of members of any kind."""
    with tarfile.open(archive, "w") as made:
        for path in sorted(folder.iterdir()):
            if not path.name.endswith(tuple(skip)):
                made.add(path, path.name)
        for member in extra:
            made.addfile(member)
    return archive


# --- the product ---


def test_a_folder_without_mtl(product, refused):
    mtl_of(product).unlink()
    refused(product, r"holds no MTL file \(\*_MTL\.txt, \.json or \.xml\): give a product's folder")


def test_an_mtl_without_thermal_constants(product, refused):
    edit_mtl(product, ("K1_CONSTANT_BAND_10", "K9_CONSTANT_BAND_10"))
    refused(product, "lacks K1_CONSTANT_BAND_10: wanted the MTL file as delivered")


def test_an_mtl_that_is_cut_off(product, refused):
    text = mtl_of(product).read_text()
    mtl_of(product).write_text(text[: len(text) // 2])
    refused(product, r"_MTL\.txt is cut off: .*take the file as delivered")


def test_an_mtl_of_100_mb_of_junk(product, refused):
    with mtl_of(product).open("wb") as file:
        file.truncate(100_000_000)
    refused(product, r"_MTL\.txt has more than [\d,]+ bytes: wanted an MTL file of a few kB")


def test_a_tar_whose_members_point_outside(product, tmp_path, refused):
    outside = tarfile.TarInfo(f"../{PRODUCT_ID}_B11.TIF")
    refused(pack(product, tmp_path / "product.tar", extra=[outside]), r"product\.tar.*\.\./")
    assert not (tmp_path.parent / f"{PRODUCT_ID}_B11.TIF").exists()


def test_a_tar_with_a_link(product, tmp_path, refused):
    link = tarfile.TarInfo(f"{PRODUCT_ID}_B11.TIF")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    refused(pack(product, tmp_path / "product.tar", extra=[link]), r"product\.tar.*link")


def test_a_tar_that_lacks_bands(product, tmp_path, refused):
    refused(pack(product, tmp_path / "product.tar", skip=["_B10.TIF"]), "lacks B10: LST of a Level-1 product wants B10")


def test_a_product_without_b10(product, refused):
    file_of(product, "B10").unlink()
    refused(product, "lacks B10: LST of a Level-1 product wants B10, B4, B5; get the missing files")


def test_bands_of_different_size(product, refused):
    rewrite(file_of(product, "B5"), np.ones((32, 32), np.uint16))
    refused(product, "band B5 .* has 32 x 32 pixels, B10 has 64 x 64: wanted one size")


@pytest.mark.parametrize("band", ["B10", "QA_PIXEL"])
def test_a_geotiff_that_is_cut_off(product, refused, band):
    rewrite(file_of(product, band), compress=None)
    os.truncate(file_of(product, band), 3000)
    refused(product, f"band {band} cannot be read .* is it cut off. Get it anew")


def test_a_product_without_position(product, refused):
    edit_mtl(product, ("UTM_ZONE", "UTM_ZONES"))
    for path in product.glob("*_B*.TIF"):
        drop_georeference(path)
    refused(product, "B10 has no CRS and .* no UTM zone: wanted one of them")


def test_no_product_at_all(out, refused):
    refused(out / "none", "none: no such file; wanted a raster file, or a product's folder or .tar")


def test_one_file_of_a_product(product, refused):
    for file in (file_of(product, "B10"), mtl_of(product)):
        refused(file, rf"{file.name} is one file of a Landsat product: give its folder, {product}")


def test_names_that_no_disk_takes(product, refused, out):
    refused(product, "an argument is empty: wanted a name or a value", output="")
    refused(product, "a name of 244 bytes, wanted 210 at most: shorten it", output=out / f"{'x' * 240}.tif")


# --- what is gap ---


def test_neither_quality_band_nor_gap_mask(product, refused):
    file_of(product, "QA_PIXEL").unlink()
    refused(product, r"no quality band .* name the gaps with --gap-mask RASTER \(non-zero = to be filled\)")


def test_a_gap_mask_on_another_grid(product, tmp_path, refused):
    mask = write(tmp_path / "mask.tif", np.zeros((64, 63), np.uint8))
    refused(product, r"the gap mask .*mask\.tif is 63x64 .*; wanted the grid of the input.*", "--gap-mask", mask)


def test_a_gap_mask_that_is_none(product, tmp_path, refused):
    (tmp_path / "mask.tif").write_text("no raster")
    refused(product, r"mask\.tif: not a raster that can be opened; wanted", "--gap-mask", tmp_path / "mask.tif")
    refused(product, r"none\.tif: no such file; wanted a raster file", "--gap-mask", tmp_path / "none.tif")


def test_all_pixels_are_gap(product, refused):
    cloud_at(product, np.ones((64, 64), bool))
    refused(product, "no measured pixel: 4096 of 4096 pixels are missing .*: check the gap mask or the quality classes")


def test_no_gap_at_all_is_no_fault(product, out, lacunar, tiny_folder):
    cloud_at(product, np.zeros((64, 64), bool))
    ran = lacunar("lst", product, "-o", out / "lst.tif", "--model", tiny_folder, "--save-bands", out / "bands")
    assert (ran.code, ran.err) == (0, "")
    assert "no gap to fill: the output equals the input" in ran.out
    everything = np.ones((64, 64), bool)
    check_bands(out / "lst.tif", bands_of(out / "bands" / "lst.tif")[0], ~everything, everything)


def test_a_tile_with_fewer_than_16_known_pixels_is_filled_and_flagged(out, lacunar, tiny_folder, tmp_path):
    values = np.full((64, 192), np.nan, np.float32)
    values[:, :40] = np.linspace(280, 300, 40)
    values[5:8, 170:175] = 290.0  # 15 pixels, alone in their tile
    ran = lacunar("fill", write(tmp_path / "in.tif", values), "-o", out / "out.tif", "--model", tiny_folder)
    assert ran.code == 0
    record = json.loads((out / "out.json").read_text())
    coarse = record["kriging_tiles_from_coarser_level"]
    assert coarse > 0
    assert f"note: {coarse} tiles start from a coarser level, far from any measured pixel" in ran.out
    assert np.isfinite(bands_of(out / "out.tif")).all()


@pytest.mark.parametrize(
    ("raster", "message"),
    [
        (np.full((64, 64), np.nan, np.float32), "no measured pixel: 4096 of 4096 pixels are missing"),
        (np.ones((2, 8, 8), np.float32), r"in\.tif has 2 bands: wanted one of 1 band_1, 2 band_2; choose it"),
        (np.ones((8, 8), np.complex64), r"in\.tif: got 1 bands of \['complex64'\]; wanted .* real numbers"),
    ],
)
def test_rasters_that_cannot_be_filled(tmp_path, refused, raster, message):
    refused(write(tmp_path / "in.tif", raster), message, command="fill")


# --- names that do not exist ---


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--model", "lst-huge", "unknown model 'lst-huge', wanted a model folder or a shipped model: "),
        ("--preset", "best", "unknown preset 'best': choose one of fast, balanced, paper"),
        (
            "--gap-classes",
            "cloud,fog",
            "unknown gap class 'fog': choose among fill, .*cloud_shadow, snow, water, clear",
        ),
        ("--reflectance", "toa", "unknown form of the reflectance 'toa': choose one of usgs, dr"),
        ("--device", "gpu", "no device 'gpu' here: choose one of auto, cpu"),
        ("--device", "meta", "no device 'meta' here: choose one of auto, cpu"),
        ("--savi-l", "7", "soil adjustment L of SAVI is 7.0: wanted 0 to 1"),
        (
            "--transmissivity",
            "0.8",
            "got 1 of --path-radiance, --transmissivity and --sky-radiance: .* wants all three",
        ),
        ("--samples", "0", r"Invalid value for '--samples': .* \(`lacunar lst --help` lists what there is\)"),
        ("--seed", "-1", "Invalid value for '--seed'"),
        ("--figure", "a.bmp", r"a\.bmp: wanted a figure in \.png, \.pdf, \.svg: rename it"),
        ("--figure", "none/a.png", r"none/a\.png: none does not exist, wanted an existing folder"),
        ("--truth", "none.tif", r"none\.tif: no such file; wanted a raster file"),
        ("--glow", "1", r"No such option: --glow.* \(`lacunar lst --help` lists"),
    ],
)
def test_values_that_do_not_exist(simulated_64, refused, option, value, message):
    refused(simulated_64.folder, message, option, value)


def test_the_correction_with_values_that_cannot_be(simulated_64, refused):
    air = ("--path-radiance", "1", "--sky-radiance", "1", "--transmissivity")
    refused(simulated_64.folder, r"transmissivity 1\.5: wanted above 0 and at most 1", *air, "1.5")


# --- the model ---


@pytest.fixture
def model(tiny_folder, tmp_path):
    """A model folder that a test may damage."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


def test_weights_that_are_a_pickle(simulated_64, model, refused):
    torch.save(load_file(model / "model.safetensors"), model / "weights.pt")
    (model / "weights.pt").rename(model / "model.safetensors")
    refused(
        simulated_64.folder, r"model\.safetensors is a pickle, which could run code, wanted safetensors", model=model
    )


def test_weights_whose_sha256_differs_from_the_card(simulated_64, model, refused):
    card = json.loads((model / "card.json").read_text())
    (model / "card.json").write_text(json.dumps(card | {"sha256": "0" * 64}))
    refused(simulated_64.folder, "has sha256 [0-9a-f]{64}, wanted 0{64} as in its card: download or", model=model)


def test_a_model_of_other_channels(simulated_64, refused, tmp_path):
    folder = save_model(tmp_path / "three", tiny_model(in_channels=3))
    refused(simulated_64.folder, r"model three takes 3 channels .* wanted 4 .*: choose an LST model", model=folder)


# --- the output ---


@pytest.mark.parametrize("name", ["lst.tif", "lst.json", "lst.png", "bands/emissivity_nb.tif"])
def test_an_output_that_exists(simulated_64, out, refused, name):
    (out / "bands").mkdir()
    (out / name).write_text("mine")
    refused(simulated_64.folder, f"{name} exists, wanted a new name: .* --overwrite")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none/lst.tif", "none does not exist, wanted an existing folder: make it first"),
        ("file/lst.tif", "file is a file, wanted an existing folder"),
        ("lst.jpg", r"got the ending '\.jpg'; wanted \.tif: rename the output"),
    ],
)
@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)])
def test_an_output_that_cannot_be(simulated_64, out, refused, name, message, overwrite):
    (out / "file").write_text("")
    refused(simulated_64.folder, message, *overwrite, output=out / name)


def test_a_folder_that_cannot_be_written(simulated_64, refused):
    refused(
        simulated_64.folder, "nothing can be written in /proc .*: wanted a writable folder", output=Path("/proc/a.tif")
    )


@pytest.mark.parametrize(("limit", "fails"), [(0, "radiance"), (100_000, "radiance"), (2_000_000, "lst")])
@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)])
def test_a_full_disk(simulated_64, out, refused, limit, fails, overwrite):
    """No file may grow beyond a limit: a band of 1 MiB fails, or the raster of 3 MiB."""
    for name in ("lst.tif", "lst.json", "lst.png") if overwrite else ():
        (out / name).write_text("old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        refused(simulated_64.folder, rf"{fails}\.tif: .*(wanted a writable folder with|free some) .*space", *overwrite)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


@pytest.mark.parametrize(
    ("part", "name"), [("pathlib.Path.write_text", "json"), ("matplotlib.figure.Figure.savefig", "png")]
)
def test_a_disk_that_is_full_at_the_very_end(simulated_64, refused, monkeypatch, part, name):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(part, full)
    message = rf"lst\.{name}: cannot be written \(No space left on device\); wanted a folder with free space"
    refused(simulated_64.folder, message)


@pytest.mark.parametrize("command", ["lst", "fill"])
def test_ctrl_c(simulated_64, out, lacunar, tiny_folder, monkeypatch, tmp_path, command):
    def interrupt(*_):
        raise KeyboardInterrupt

    given = simulated_64.folder
    if command == "fill":
        given = write(tmp_path / "in.tif", np.where(hole((64, 64)), np.nan, 290.0).astype(np.float32))
    monkeypatch.setattr("lacunar.cli.progress.Bars.filling", interrupt)
    ran = lacunar(command, given, "-o", out / "lst.tif", "--model", tiny_folder, "--figure", out / "lst.png")
    assert (ran.code, ran.out) == (INTERRUPTED, "")
    assert ran.err == "lacunar: interrupted; what was finished is kept, nothing half-written is left\n"
    assert contents(out) == {}


def test_a_real_ctrl_c_in_a_real_process(out, tiny_folder, tmp_path):
    """SIGINT while a raster is being filled."""
    raster = write(tmp_path / "in.tif", np.where(hole((64, 64)), np.nan, 290.0).astype(np.float32))
    # The network itself sends the signal: no clock decides whether the test tests anything. A shell that starts the
    # tests in the background has them ignore SIGINT, and what they start inherits that.
    code = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from lacunar.networks.unet import UNet; from lacunar.cli import main\n"
        "forward = UNet.forward\n"
        "UNet.forward = lambda *inputs: (os.kill(os.getpid(), signal.SIGINT), forward(*inputs))[1]\n"
        "main()"
    )
    arguments = ["fill", str(raster), "-o", str(out / "out.tif"), "--model", str(tiny_folder), "--preset", "balanced"]
    ran = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (INTERRUPTED, "")
    assert ran.stderr == "lacunar: interrupted; what was finished is kept, nothing half-written is left\n"
    assert contents(out) == {}


def test_libraries_do_not_print_on_the_error_stream():
    """What C code writes to it goes nowhere; our own line, and what is on the stream before and after, stay."""
    code = (
        "import os, sys, warnings, lacunar.cli as cli\n"
        "def chatter(**_):\n"
        "    os.write(2, b'TIFFReadDirectory: odd\\n'); warnings.warn('odd'); print('ours \\udcff', file=sys.stderr)\n"
        "    raise cli.LacunarError('no \\udcff')\n"
        "cli.app = chatter\n"
        "try: cli.main()\n"
        "finally: os.write(2, b'after\\n')"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.stderr == "ours \\udcff\nlacunar: no \\udcff\nafter\n"


def test_a_mask_that_hides_all_that_is_measured(product, tmp_path, refused):
    mask = mask_for(product, tmp_path / "mask.tif", np.ones(open_scene(product).shape))
    refused(product, "no measured pixel: 4096 of 4096 pixels are missing", "--gap-mask", mask)
