"""Samples as an output: their mean and spread are the product, they keep what is measured, and blocks do not show."""

from dataclasses import replace

import numpy as np
import pytest

import lacunar as lc
from commands import bands_of, write
from gap_models import GaussianResidual, gap_model, tiny_model
from lacunar.errors import LacunarError
from lacunar.fill.array import fill_array
from lacunar.fill.block_store import BlockStore
from lacunar.fill.blocks import fill_blocks, survey
from lacunar.fill.options import FillOptions
from lacunar.sensors.scene import Measured
from surfaces import surface


def reader(values, missing):
    return lambda window: Measured(values[window.slices], ~missing[window.slices], missing[window.slices])


def holed(shape=(70, 80)):
    values = surface(shape).astype(np.float32)
    values[20:44, 30:60] = np.nan
    return values


def test_they_are_as_spread_out_as_sigma_says():
    values, missing = surface((96, 96)).astype(np.float32), np.zeros((96, 96), bool)
    missing[20:60, 20:60] = True
    model = gap_model(GaussianResidual(variance=0.6))
    model = replace(model, card=replace(model.card, sigma_factor={"fast": 1.5}))
    made = fill_array(values, ~missing, missing, model, FillOptions(samples=32, background="kriging"))
    drawn = made.realisations
    np.testing.assert_allclose(drawn.mean(axis=0), made.mean, atol=1e-3)
    spread = np.sqrt((drawn.var(axis=0) / np.where(missing, made.sigma, 1) ** 2)[missing].mean())
    assert 0.97 < spread < 1.03
    np.testing.assert_array_equal(drawn[:, ~missing], np.broadcast_to(values[~missing], (32, (~missing).sum())))


def test_a_file_of_them_beside_the_same_raster(tmp_path, tiny_folder):
    write(tmp_path / "in.tif", holed(), units="K")
    plain, asked = {"model": str(tiny_folder), "samples": 4, "seed": 3}, {"realisations": True, "resume": True}
    lc.fill_file(tmp_path / "in.tif", tmp_path / "plain.tif", **plain)
    record = lc.fill_file(tmp_path / "in.tif", tmp_path / "out.tif", **plain, **asked)
    value, source, _ = bands_of(tmp_path / "out.tif")
    np.testing.assert_array_equal(bands_of(tmp_path / "plain.tif"), bands_of(tmp_path / "out.tif"))
    drawn = bands_of(tmp_path / "out_realisations.tif")
    assert record["realisations"] == str(tmp_path / "out_realisations.tif")
    assert drawn.shape == (4, *value.shape)
    np.testing.assert_array_equal(drawn[:, source == 1], np.repeat(value[None], 4, 0)[:, source == 1])
    np.testing.assert_allclose(drawn.mean(axis=0), value, rtol=1e-6)
    assert lc.fill_file(tmp_path / "in.tif", tmp_path / "out.tif", **plain, **asked)["whole_already"]
    for name in ("out.tif", "out.json"):
        (tmp_path / name).unlink()
    with pytest.raises(LacunarError, match=r"out_realisations.tif exists"):
        lc.fill_file(tmp_path / "in.tif", tmp_path / "out.tif", **plain, realisations=True)


def test_arrays_give_what_files_give(tmp_path, tiny_folder):
    values = holed()
    write(tmp_path / "in.tif", values)
    lc.fill_file(tmp_path / "in.tif", tmp_path / "out.tif", model=str(tiny_folder), samples=4, realisations=True)
    filled = lc.fill(values, model=tiny_folder, samples=4, return_samples=True)
    np.testing.assert_array_equal(filled.samples, bands_of(tmp_path / "out_realisations.tif"))
    np.testing.assert_array_equal(filled.value, lc.fill(values, model=tiny_folder, samples=4).value)


@pytest.mark.parametrize("dates", [0, 4])
def test_no_step_where_blocks_meet(monkeypatch, dates):
    shape = (96, 330)
    land = surface(shape, seed=4)
    values, others = land + surface(shape, 1) - 295, np.stack([land + surface(shape, 5 + n) - 295 for n in range(4)])
    missing = np.zeros(shape, bool)
    missing[20:50, 60:250] = True
    read = reader(values.astype(np.float32), missing)
    beside = (lambda window: others[:, *window.slices]) if dates else None

    def mosaic():
        out = np.empty((4, *values.shape))
        options = FillOptions(samples=4, realisations=True)
        found = survey(read, values.shape, beside, options=options)
        for block in fill_blocks(read, values.shape, found, tiny_model(), options, guides=beside):
            out[:, *block.window.slices] = block.realisations
        return out

    whole = mosaic()
    monkeypatch.setattr("lacunar.fill.blocks.BLOCK", 96)
    parts, spread = mosaic(), whole.std(axis=0)[missing].mean()
    assert abs(parts - whole)[:, missing].mean() < 0.2 * spread

    def steps(fields, col):  # between two columns, where both are missing
        both = missing[:, col - 1] & missing[:, col]
        return np.abs(np.diff(fields[:, both, col - 1 : col + 1], axis=2)).mean()

    borders = [col for col in range(96, values.shape[1], 96) if (missing[:, col - 1] & missing[:, col]).sum() > 4]
    assert borders
    for col in borders:
        assert steps(parts, col) < 1.2 * steps(whole, col) + 0.05 * spread


def test_finished_blocks_keep_them(tmp_path):
    values, missing = surface((64, 64)).astype(np.float32), np.zeros((64, 64), bool)
    missing[20:30, 20:30] = True
    read = reader(values, missing)
    options = FillOptions(samples=2, realisations=True)
    (block,) = fill_blocks(read, (64, 64), survey(read, (64, 64)), tiny_model(), options)
    store = BlockStore(tmp_path / "out.tif", {"a": 1})
    store.save(block)
    np.testing.assert_array_equal(store.load(block.window).realisations, block.realisations)


def test_what_cannot_be_drawn_is_refused(lacunar, tmp_path):
    with pytest.raises(LacunarError, match="1 realisation has no spread: wanted 2 or more"):
        FillOptions(preset="instant", samples=1, realisations=True)
    write(tmp_path / "in.tif", holed())
    asked = ("fill", tmp_path / "in.tif", "-o", tmp_path / "out.tif", "--realisations", "4")
    assert "preset instant gives the mean alone" in lacunar(*asked, "--preset", "instant").err
    ran = lacunar(*asked, "--samples", "8")
    assert (ran.code, "--realisations 4 with --samples 8" in ran.err) == (2, True)
