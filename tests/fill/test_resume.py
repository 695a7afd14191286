"""An interrupted fill goes on from its finished blocks, to the same bits; nothing half-valid is ever taken over."""

import errno
import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest

import fills
from commands import bands_of, contents
from lacunar.cli import BAD_INPUT, INTERRUPTED
from lacunar.errors import LacunarError, RasterError
from lacunar.fill import blocks as streaming
from lacunar.fill.array import Filled
from lacunar.fill.blocks import fill_block
from lacunar.fill.options import FillOptions
from lacunar.geo.windows import blocks_over

BLOCKS = 4  # of 32 pixels in the product of 64


def drawn(values, known, missing, model, options, *, coarse, **_):
    """Noise in place of a network's samples: other values for every block, seed and number of samples."""
    rng = np.random.default_rng((options.seed, *coarse.origin, options.samples))
    samples = np.where(known, values, 300 + rng.standard_normal((options.samples, *values.shape))).astype(np.float32)
    spread = np.where(known, 0, 1).astype(np.float32)
    return Filled(samples, samples[0], spread, tiles=1, coarse_tiles=0, evaluations=options.chosen.evaluations)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    """Four blocks that cost nothing; what is tested is what becomes of them."""
    monkeypatch.setattr(streaming, "blocks_of", lambda shape: blocks_over(shape, block=32, halo=0))
    monkeypatch.setattr("lacunar.fill.array.fill_array", drawn)


@pytest.fixture
def options(tiny_folder):
    return FillOptions(model=str(tiny_folder), sampler="ddim", evaluations=2, samples=2, quantiles=(0.1, 0.9))


def fill_lst(path, raster, *, resume=True, **more):
    return fills.fill_lst(path, raster, resume=resume, **more)


@pytest.fixture
def computed(monkeypatch):
    """Windows of the blocks that are computed, as they come; an exception in it is raised in place of that many."""
    seen = []

    def counting(read, block, *arguments, **options):
        seen.append(block.core)
        return fill_block(read, block, *arguments, **options)

    monkeypatch.setattr(streaming, "fill_block", counting)
    return seen


def interrupted_after(count):
    """A callback that presses Ctrl-C when so many blocks are done."""

    def callback(done, total):
        if done >= 100 * total // 100 * count // BLOCKS:
            raise KeyboardInterrupt

    return callback


@pytest.fixture
def whole(simulated_64, options, tmp_path):
    """The bands of a run that nothing interrupts."""
    folder = tmp_path / "whole"
    folder.mkdir()
    fill_lst(simulated_64.folder, folder / "out.tif", options=options, resume=False)
    assert list(contents(folder)) == ["out.json", "out.tif"]
    return bands_of(folder / "out.tif")


def interrupt(product, out, options, count=3):
    """Fill until Ctrl-C; returns the files of the finished blocks."""
    with pytest.raises(KeyboardInterrupt):
        fill_lst(product, out / "out.tif", options=options, callback=interrupted_after(count))
    assert [path.name for path in out.iterdir()] == [".out.tif.blocks"]
    return sorted((out / ".out.tif.blocks").glob("*.npz"))


def test_an_interrupted_run_goes_on_to_the_same_bits(simulated_64, options, out, computed, whole):
    computed.clear()
    kept = interrupt(simulated_64.folder, out, options)
    assert 1 <= len(kept) < BLOCKS
    computed.clear()
    record = fill_lst(simulated_64.folder, out / "out.tif", options=options)
    assert len(computed) == BLOCKS - len(kept)
    np.testing.assert_array_equal(bands_of(out / "out.tif"), whole)
    assert list(contents(out)) == ["out.json", "out.tif"]
    assert record == json.loads((out / "out.json").read_text())
    assert record["network_evaluations"]["all"] == 2 * 2 * record["network_tiles"] > 0


def test_a_damaged_block_is_computed_again(simulated_64, options, out, computed, whole):
    first, *others = interrupt(simulated_64.folder, out, options)
    first.write_bytes(first.read_bytes()[:-40])
    computed.clear()
    fill_lst(simulated_64.folder, out / "out.tif", options=options)
    assert len(computed) == BLOCKS - len(others)
    np.testing.assert_array_equal(bands_of(out / "out.tif"), whole)


def test_blocks_of_other_options_or_inputs_are_refused(product, options, out, tmp_path):
    interrupt(product, out, options)
    before = contents(out)
    for other, what in (
        ({"seed": 1}, r"options\.seed"),
        ({"samples": 4}, r"options\.samples"),
        ({"quantiles": (0.2, 0.9)}, r"options\.quantiles"),
        ({"sampler": None, "evaluations": None}, r"options\.evaluations, options\.sampler, preset"),
    ):
        with pytest.raises(LacunarError, match=rf"holds blocks of another run, which differs in {what}: give the same"):
            fill_lst(product, out / "out.tif", options=replace(options, **other))
    band = next(product.glob("*_B10.TIF"))
    os.utime(band, (1, 1))
    with pytest.raises(LacunarError, match=r"another run, which differs in files\..*_B10\.TIF: give the same"):
        fill_lst(product, out / "out.tif", options=options)
    assert contents(out) == before
    shutil.rmtree(out / ".out.tif.blocks")
    fill_lst(product, out / "out.tif", options=options)


def test_what_is_whole_already_is_left_as_it_is(simulated_64, options, out, computed):
    first = fill_lst(simulated_64.folder, out / "out.tif", options=options)
    before, _ = contents(out), computed.clear()
    again = fill_lst(simulated_64.folder, out / "out.tif", options=options, overwrite=True, command="other")
    assert again == first | {"whole_already": True}
    assert (contents(out), computed) == (before, [])
    with pytest.raises(RasterError, match=r"out\.tif exists, wanted a new name"):
        fill_lst(simulated_64.folder, out / "out.tif", options=replace(options, seed=9))
    fill_lst(simulated_64.folder, out / "out.tif", options=replace(options, seed=9), overwrite=True)
    assert len(computed) == BLOCKS


def test_what_is_newly_asked_for_is_done(simulated_64, options, out):
    def fill(**more):
        return fill_lst(simulated_64.folder, out / "out.tif", options=options, overwrite=True, **more)

    fill()
    assert fill()["whole_already"]
    asked = {}
    for more in (
        {"truth": simulated_64.truth_path},
        {"figure": out / "out.png"},
        {"figure": out / "other.png"},
        {"bands_folder": out / "bands"},
    ):
        if "figure" in more:
            more["figure"].write_bytes(b"of another run")
        asked |= more
        record = fill(**asked)
        assert "whole_already" not in record
        assert record["truth"]["pixels"] > 0
        assert fill(**asked) == record | {"whole_already": True}
    assert (out / "other.png").stat().st_size > 1000
    (out / "bands" / "ndvi.tif").unlink()
    assert "whole_already" not in fill(**asked)
    assert (out / "bands" / "ndvi.tif").is_file()
    assert fill()["whole_already"]  # less than it has
    with pytest.raises(RasterError, match=r"out\.tif exists, wanted a new name"):
        fill_lst(simulated_64.folder, out / "out.tif", options=options, figure=out / "new.png")


def test_the_model_is_loaded_once(simulated_64, options, out, monkeypatch):
    fill_lst(simulated_64.folder, out / "out.tif", options=options)
    load, loaded = FillOptions.load, []
    monkeypatch.setattr(FillOptions, "load", lambda options, *given: loaded.append(options) or load(options, *given))
    fill_lst(simulated_64.folder, out / "out.tif", options=replace(options, seed=9), overwrite=True)
    assert len(loaded) == 1


def test_a_full_disk_keeps_the_blocks_before_it(simulated_64, options, out, monkeypatch, whole):
    savez, saved = np.savez, []

    def full(*arguments, **arrays):
        if len(saved) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        saved.append(arguments)
        savez(*arguments, **arrays)

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(RasterError, match=r"out\.tif: a finished block cannot be kept .*again with --resume"):
        fill_lst(simulated_64.folder, out / "out.tif", options=options)
    assert len(list((out / ".out.tif.blocks").glob("*.npz"))) == 2
    monkeypatch.setattr(np, "savez", savez)
    fill_lst(simulated_64.folder, out / "out.tif", options=options)
    np.testing.assert_array_equal(bands_of(out / "out.tif"), whole)


def test_ctrl_c_says_what_is_kept_and_the_same_command_goes_on(simulated_64, out, lacunar, tiny_folder, monkeypatch):
    command = (
        "lst",
        simulated_64.folder,
        "-o",
        out / "out.tif",
        "--model",
        tiny_folder,
        "--resume",
        "--suspect",
        "keep",
    )
    stop = interrupted_after(2)
    monkeypatch.setattr("lacunar.cli.progress.Bars.filling", lambda _, done, total: stop(done, total))
    ran = lacunar(*command)
    assert (ran.code, ran.out) == (INTERRUPTED, "")
    kept = len(list((out / ".out.tif.blocks").glob("*.npz")))
    first, second = ran.err.splitlines()
    assert first == f"{kept} finished blocks are kept: the same command goes on from them"
    assert second == "lacunar: interrupted; what was finished is kept, nothing half-written is left"
    ran = lacunar(*command, "--seed", 1)
    assert (ran.code, ran.out) == (BAD_INPUT, "")
    assert ran.err.count("\n") == 1
    monkeypatch.setattr("lacunar.cli.progress.Bars.filling", lambda *_: None)
    assert lacunar(*command).code == 0
    ran = lacunar(*command)
    assert ran.out.startswith(f"{out / 'out.tif'} is whole already, from the same inputs and options\n")
    assert list(contents(out)) == ["out.json", "out.tif"]
