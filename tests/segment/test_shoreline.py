"""How far shores moved: a river and a lake that move by a known distance, on several grids, and lengths of shores."""

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest
from affine import Affine
from rasterio.crs import CRS

from commands import write
from lacunar.geo.polygons import pixel_sides
from lacunar.geo.windows import Tile
from lacunar.segment import shoreline
from lacunar.segment.fusion import decided_block
from lacunar.segment.raster_map import WaterMap, write_map
from lacunar.segment.shoreline import migration, shore_length
from water_models import stand_in

UTM = CRS.from_epsg(32632)
GRID = Affine(30.0, 0.0, 400000.0, 0.0, -30.0, 5700000.0)


def made(path, water, *, valid=None, transform=GRID, crs=UTM):
    probability = np.where(water, 0.9, 0.1).astype(np.float32)
    if valid is not None:
        probability[~valid] = np.nan
    grid = SimpleNamespace(shape=water.shape, transform=transform, crs=crs)
    write_map(path, [decided_block(Tile(0, 0, *water.shape), probability, 0 * probability, 0.5)], grid)
    return WaterMap(path)


def river(shape, at, width, angle):
    """A straight river through the middle, moved sideways by ``at`` pixels."""
    rows, cols = np.mgrid[: shape[0], : shape[1]] - np.array(shape)[:, None, None] / 2 + 0.5
    return np.abs(rows * np.cos(angle) + cols * np.sin(angle) - at) < width / 2


@pytest.mark.parametrize("degrees", [0, 10, 22.5, 45, 60, 90])
def test_a_straight_shore_has_its_length_at_any_angle(tmp_path, degrees):
    water = river((300, 300), 0.2, 40, np.radians(degrees))
    with made(tmp_path / "a.tif", water) as found:
        length = shore_length(found, found)
    wanted = 2 * 300 / max(np.cos(np.radians(degrees)), np.sin(np.radians(degrees))) * 30
    wanted -= 2 * 2 * 20 * 30 if degrees == 45 else 0  # the image's corners cut it
    assert length == pytest.approx(wanted, rel=0.06)


def test_a_circle_and_the_cut_into_blocks(tmp_path, monkeypatch):
    rows, cols = np.mgrid[:200, :200]
    with made(tmp_path / "a.tif", np.hypot(rows - 99.7, cols - 100.2) < 80) as found:
        whole = shore_length(found, found)
        monkeypatch.setattr(shoreline, "BLOCK", 64)
        assert shore_length(found, found) == pytest.approx(whole)
    assert whole == pytest.approx(2 * np.pi * 80 * 30, rel=0.01)


def test_pixels_need_not_be_square(tmp_path):
    """A circle on the ground, on a grid of degrees at 60° north, where a pixel is half as wide as it is high."""
    transform = Affine(0.0005, 0.0, 10.0, 0.0, -0.0005, 60.05)
    width, height = pixel_sides(transform, CRS.from_epsg(4326), (200, 400))
    assert (width, height) == pytest.approx((27.9, 55.7), rel=0.01)
    rows, cols = np.mgrid[:200, :400]
    water = np.hypot((rows - 100) * height, (cols - 200) * width) < 4000
    with made(tmp_path / "a.tif", water, transform=transform, crs=CRS.from_epsg(4326)) as found:
        assert shore_length(found, found) == pytest.approx(2 * np.pi * 4000, rel=0.02)


def test_the_end_of_what_is_seen_is_no_shore(tmp_path):
    water = np.zeros((60, 80), bool)
    water[:, 40:] = True
    hidden = np.ones(water.shape, bool)
    hidden[:30] = False
    with made(tmp_path / "a.tif", water) as all_of_it, made(tmp_path / "b.tif", water, valid=hidden) as half:
        whole, part = shore_length(all_of_it, all_of_it), shore_length(all_of_it, half)
    assert whole == pytest.approx(60 * 30, rel=0.07)
    assert part == pytest.approx(whole / 2, rel=0.03)


def test_no_rate_without_years_or_shores():
    assert migration(10.0, 0.0, 5.0) is None
    assert migration(10.0, 5.0, None) is None
    assert migration(10.0, 5.0, 0.0) is None


def reflectance(water):
    land, lake = np.array([0.06, 0.10, 0.12, 0.32]), np.array([0.06, 0.07, 0.05, 0.01])
    return np.where(water, lake[:, None, None], land[:, None, None])


@pytest.mark.parametrize(("degrees", "crs"), [(0, "EPSG:32632"), (30, "EPSG:32632"), (30, None)])
def test_a_river_that_moves_by_a_known_distance(tmp_path, out, lacunar, monkeypatch, degrees, crs):
    """4 pixels in 2 years, then 6 pixels back in 4 years: 2 and 1.5 pixels a year, 10 in 6 years."""
    stand_in(monkeypatch)
    paths = []
    for year, at in ((2000, 0.0), (2002, 4.0), (2006, -2.0)):
        values = (reflectance(river((150, 150), at + 0.2, 30, np.radians(degrees))) * 10000).astype(np.uint16)
        paths.append(write(tmp_path / f"river_{year}0701.tif", values, crs=crs))
    ran = lacunar("water", *paths, "-o", out / "river", "--series", "--bands", "blue,green,red,nir", "--nodata", 60000)
    assert (ran.code, ran.err) == (0, "")
    with (out / "river" / "areas.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    column, unit, side = ("migration_m_per_year", "m", 30) if crs else ("migration_pixels_per_year", "pixels", 1)
    assert rows[0][column] == ""
    assert [float(row[column]) for row in rows[1:]] == pytest.approx([2 * side, 1.5 * side], rel=0.07)
    assert float(rows[1][f"shore_{unit}"]) == pytest.approx(2 * 150 / np.cos(np.radians(degrees)) * side, rel=0.07)
    record = json.loads((out / "river" / "change.json").read_text())
    assert record[column] == pytest.approx(10 / 6 * side, rel=0.07)
    assert f"; shores moved {float(rows[1][column]):.3g} {unit} a year)" in ran.out
