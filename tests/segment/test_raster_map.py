"""Water maps on disk: three bands, read back as they were, and brought to another grid."""

from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS

from lacunar.errors import RasterError
from lacunar.geo.windows import Tile, blocks_over
from lacunar.segment.fusion import decided_block
from lacunar.segment.raster_map import CELL, ClassWriter, WaterMap, blocks_on, thinned, water_and_sigma, write_map

GRID = Affine(30.0, 0.0, 400000.0, 0.0, -30.0, 5700000.0)


def grid(shape, *, transform=GRID, crs="EPSG:32632"):
    return SimpleNamespace(shape=shape, transform=transform, crs=CRS.from_string(crs) if crs else None)


def made(path, probability, disagreement=None, *, on=None, side=16):
    """A map of these values, written in blocks."""
    disagreement = np.zeros_like(probability) if disagreement is None else disagreement
    blocks = [
        decided_block(b.core, probability[b.core.slices], disagreement[b.core.slices], 0.5)
        for b in blocks_over(probability.shape, block=side, halo=0)
    ]
    return write_map(path, blocks, on or grid(probability.shape))


@pytest.fixture
def probability():
    values = np.random.default_rng(0).random((40, 50)).astype(np.float32)
    values[3:6, 3:7] = np.nan
    return values


def test_what_is_written_stands_in_the_file_and_is_read_back(tmp_path, probability):
    spread = np.where(np.isnan(probability), np.nan, np.float32(0.1)).astype(np.float32)
    counts = made(tmp_path / "map.tif", probability, spread)
    lost, wet = np.isnan(probability), probability >= 0.5
    assert counts == {"water": wet.sum(), "land": (~wet & ~lost).sum(), "nodata": lost.sum()}
    with rasterio.open(tmp_path / "map.tif") as dataset:
        assert dataset.descriptions == ("water", "probability", "disagreement")
        assert (dataset.nodatavals, dataset.crs.to_epsg()) == ((255.0,) * 3, 32632)
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        water, chance, spread_read = dataset.read()
    np.testing.assert_array_equal(water, np.where(lost, 255, wet))
    np.testing.assert_array_equal(chance, np.where(lost, 255, probability))
    np.testing.assert_array_equal(spread_read, np.where(lost, 255, spread))
    window = Tile(2, 2, 20, 30)
    with WaterMap(tmp_path / "map.tif") as found:
        np.testing.assert_array_equal(found.water(window), wet[window.slices])
        np.testing.assert_array_equal(found.valid(window), ~lost[window.slices])
        np.testing.assert_array_equal(found.probability(window), probability[window.slices])
        np.testing.assert_array_equal(found.disagreement(window), spread[window.slices])


def test_a_map_on_a_coarser_grid_decides_anew(tmp_path):
    """Each pixel of 60 m is the mean of four of 30 m, three of them wet."""
    probability = np.tile(np.array([[1.0, 0.9], [0.8, 0.0]], np.float32), (20, 20))
    made(tmp_path / "map.tif", probability)
    target = grid((20, 20), transform=Affine(60.0, 0.0, 400000.0, 0.0, -60.0, 5700000.0))
    with WaterMap(tmp_path / "map.tif") as found:
        (block,) = blocks_on(found, target, threshold=0.5, name="map")
    inner = (slice(2, -2), slice(2, -2))
    np.testing.assert_allclose(block.probability[inner], 0.675, atol=0.01)
    assert (block.water[inner] == 1).all()


def test_a_map_of_another_place(tmp_path, probability):
    made(tmp_path / "map.tif", probability)
    target = grid((40, 50), transform=Affine(30.0, 0.0, 900000.0, 0.0, -30.0, 5700000.0))
    with WaterMap(tmp_path / "map.tif") as found, pytest.raises(RasterError, match="map does not overlap the input"):
        list(blocks_on(found, target, threshold=0.5, name="map"))


@pytest.mark.parametrize(("shape", "most"), [((10, 30), 7), ((3000, 1100), 1200), ((5, 5), 100), ((1025, 2049), 1024)])
def test_thinning_takes_every_nth_pixel_whatever_the_blocks(shape, most):
    values = np.arange(np.prod(shape)).reshape(shape)
    step = -(-max(shape) // most)
    found = thinned(lambda window: values[window.slices], shape, most=most)
    np.testing.assert_array_equal(found, values[::step, ::step])
    np.testing.assert_array_equal(thinned(lambda w: values[None][:, *w.slices], shape, most=most)[0], found)


def test_deviations_add_within_a_cell_and_their_squares_between_cells(tmp_path):
    values = np.zeros((CELL + 3, 2 * CELL), np.float32)
    values[:4, :5] = 0.5  # 20 pixels of 0.5 in the first cell
    values[:2, CELL] = 0.1
    values[CELL, 0] = 0.2
    values[10, 10] = np.nan
    made(tmp_path / "map.tif", values)
    with WaterMap(tmp_path / "map.tif") as found:
        expected, sigma = water_and_sigma(found)
    assert expected == pytest.approx(10 + 0.2 + 0.2, rel=1e-5)
    assert sigma == pytest.approx((10**2 + (2 * 0.3) ** 2 + 0.4**2) ** 0.5, rel=1e-5)


def test_the_water_alone_is_written_in_8_bits(tmp_path, probability):
    blocks = [
        decided_block(b.core, probability[b.core.slices], 0 * probability[b.core.slices], 0.5)
        for b in blocks_over(probability.shape, block=16, halo=0)
    ]
    with ClassWriter(tmp_path / "water.tif", grid(probability.shape), ("water",), {"source": "a.tif"}) as kinds:
        assert list(kinds.passing(blocks)) == blocks
    assert kinds.pixels == {"land": int((probability < 0.5).sum()), "water": int((probability >= 0.5).sum())}
    with rasterio.open(tmp_path / "water.tif") as dataset:
        assert (dataset.dtypes, dataset.nodata, dataset.crs.to_epsg()) == (("uint8",), 255.0, 32632)
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert dataset.tags()["source"] == "a.tif"
        np.testing.assert_array_equal(dataset.read(1), np.where(np.isnan(probability), 255, probability >= 0.5))
