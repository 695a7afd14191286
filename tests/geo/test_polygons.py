"""Water bodies: traced exactly, joined at corners, measured on the ellipsoid, written and read back."""

import json
import math
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import shapely
from affine import Affine
from pyproj import Transformer
from rasterio.crs import CRS
from rasterio.features import rasterize
from scipy import ndimage

from lacunar.errors import RasterError
from lacunar.geo.polygons import check_polygon_file, pixel_counts, polygonize, simplified, write_polygons

UTM = Affine(30.0, 0.0, 400000.0, 0.0, -30.0, 5700000.0)


def bodies_of(mask, probability=None, *, crs="EPSG:32632", transform=UTM):
    chance = np.ones(mask.shape) if probability is None else probability
    placed = CRS.from_user_input(crs) if crs else None
    return polygonize(mask, transform, placed, means={"mean_probability": lambda window: chance[window.slices]})


def random_mask(seed, shape=(600, 700), share=0.5):
    return ndimage.uniform_filter(np.random.default_rng(seed).random(shape), 3) < share


def mask_from(text):
    return np.array([[letter == "#" for letter in line] for line in text.split()])


@pytest.mark.parametrize(
    ("drawing", "areas", "lengths", "islands"),
    [
        ("#.. .#. ..#", [3], [12], 0),  # a river that runs aslant is one body
        ("##.. ##.. ...#", [4, 1], [8, 4], 0),
        ("### #.# ###", [8], [16], 1),  # an island stays a hole, its shore counts
        ("##### #...# #.#.# #...# #####", [16, 1], [32, 4], 1),  # a pond on the island
        ("#### #..# #.## ####", [13], [24], 1),
        ("#### #.## ##.# ####", [14], [24], 2),  # two islands that touch at a corner
        (".... .##. ....", [2], [6], 0),
        ("## ##", [4], [8], 0),  # all water
        ("... ...", [], [], 0),  # all land
    ],
)
def test_small_maps(drawing, areas, lengths, islands):
    found = bodies_of(mask_from(drawing), crs=None)
    assert found.area_pixels.tolist() == areas
    assert found.perimeter_pixels.tolist() == lengths
    assert sum(len(part.interiors) for outline in found.geometry for part in outline.geoms) == islands
    assert found.mean_probability.tolist() == [1.0] * len(areas)


@pytest.mark.parametrize("share", [0.35, 0.5, 0.65])
def test_a_rough_map_is_that_of_a_labelling(share):
    mask = random_mask(1, share=share)
    probability = np.random.default_rng(2).random(mask.shape)
    found = bodies_of(mask, probability, crs=None)
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    assert len(found) == count
    assert found.is_valid.all()
    burnt = rasterize(zip(found.geometry, found.id, strict=True), out_shape=mask.shape)
    np.testing.assert_array_equal(burnt > 0, mask)
    assert len(np.unique(labels[mask] * (count + 1) + burnt[mask])) == count  # the same pixels belong together
    means = ndimage.mean(probability, burnt, np.arange(1, count + 1))
    np.testing.assert_allclose(found.mean_probability, means, atol=1e-9)
    np.testing.assert_array_equal(found.area_pixels, ndimage.sum(mask, burnt, np.arange(1, count + 1)))
    assert (np.diff(found.area_pixels) <= 0).all()


def test_where_probability_is_not_known_it_counts_as_0():
    probability = np.array([[np.nan, 0.8]])
    assert bodies_of(np.ones((1, 2), bool), probability).mean_probability.tolist() == pytest.approx([0.4])


def meridian_strip(south, north, degrees):
    """Area between two parallels of WGS 84 in closed form (Snyder 1987, Eq. 3-12), degrees of longitude wide."""
    a, f = 6378137.0, 1 / 298.257223563
    e = math.sqrt(f * (2 - f))

    def q(latitude):
        s = math.sin(math.radians(latitude))
        return (1 - e**2) * (s / (1 - (e * s) ** 2) - math.log((1 - e * s) / (1 + e * s)) / (2 * e))

    return a**2 / 2 * math.radians(degrees) * (q(north) - q(south))


@pytest.mark.parametrize(("south", "side"), [(0.0, 0.01), (46.0, 0.001), (70.0, 0.002)])
def test_area_in_a_geographic_crs_is_that_on_the_ellipsoid(south, side):
    rows, cols = 100, 200
    transform = Affine(side, 0, 10.0, 0, -side, south + rows * side)
    found = bodies_of(np.ones((rows, cols), bool), crs="EPSG:4326", transform=transform)
    assert found.area_m2.item() == pytest.approx(meridian_strip(south, south + rows * side, cols * side), rel=1e-6)


def test_area_in_utm_is_that_of_an_equal_area_projection():
    """A pixel of UTM is not quite as large as it says."""
    found = bodies_of(random_mask(3, (80, 90)))
    way = Transformer.from_crs(32632, 6933, always_xy=True)
    for outline, area in zip(found.geometry[:20], found.area_m2[:20], strict=True):
        fine = shapely.segmentize(outline, 30.0)
        flat = shapely.transform(fine, lambda xy: np.column_stack(way.transform(*xy.T)))
        assert area == pytest.approx(flat.area, rel=1e-6)
        assert area != pytest.approx(outline.area, rel=1e-4)
        assert area == pytest.approx(outline.area, rel=2e-3)


def test_the_shore_in_metres():
    """That of the island counts."""
    found = bodies_of(mask_from("### #.# ###"))
    assert found.perimeter_m.item() == pytest.approx(16 * 30.0, rel=1e-3)


@pytest.mark.parametrize("crs", [None, CRS.from_epsg(32632)])
def test_simplified_bodies_stay_whole_and_apart(crs):
    rows, cols = np.mgrid[:60, :80]
    lake = (np.hypot(rows - 30, cols - 30) < 25) & (np.hypot(rows - 30, cols - 30) > 8)  # round, with an island
    lake[28:33, 54:56] = False
    lake[20:40, 56:78] = True
    found = polygonize(lake, UTM, crs)
    fewer = simplified(found, 1.0, UTM)
    assert fewer.geometry.count_coordinates().sum() < found.geometry.count_coordinates().sum() / 2
    assert fewer.is_valid.all()
    assert [len(part.interiors) for body in fewer.geometry for part in body.geoms] == [1, 0]
    assert not fewer.geometry.iloc[0].overlaps(fewer.geometry.iloc[1])
    np.testing.assert_allclose(fewer.area, found.area, rtol=0.02)
    assert pixel_counts(fewer).tolist() == pixel_counts(found).tolist()


def test_a_mask_without_probability_has_no_such_column():
    found = polygonize(mask_from("##. ..#"), UTM, CRS.from_epsg(32632))
    assert list(found.columns) == ["id", "area_m2", "perimeter_m", "pixels", "geometry"]
    assert found.crs == "EPSG:32632"


def test_a_crs_that_is_nowhere_on_earth():
    local = 'LOCAL_CS["site",UNIT["metre",1]]'
    with pytest.raises(RasterError, match="no way from the CRS 'site' to longitude and latitude"):
        bodies_of(np.ones((2, 2), bool), crs=local)


def test_pixels_beyond_a_projection():
    with pytest.raises(RasterError, match=r"pixels lie outside where the CRS 'WGS 84 / UTM zone 32N' holds"):
        bodies_of(np.ones((2, 2), bool), transform=Affine(30, 0, 1e12, 0, -30, 1e12))


# --- files ---


def written(path, bodies=None, crs="EPSG:32632"):
    bodies = bodies_of(mask_from("##### #...# #.#.# #...# #####"), crs=crs) if bodies is None else bodies
    write_polygons(path, bodies, UTM)
    meta, _, geometry, columns = pyogrio.raw.read(path)
    return meta, shapely.from_wkb(geometry), dict(zip(meta["fields"], columns, strict=True))


def test_a_geopackage_in_the_crs_of_the_raster(tmp_path):
    meta, outlines, columns = written(tmp_path / "lakes.gpkg")
    assert (meta["crs"], meta["geometry_type"]) == ("EPSG:32632", "MultiPolygon")
    assert list(columns) == ["id", "area_m2", "perimeter_m", "pixels", "mean_probability"]
    assert columns["id"].tolist() == [1, 2]
    assert shapely.bounds(outlines).tolist() == [
        [400000.0, 5699850.0, 400150.0, 5700000.0],
        [400060.0, 5699910.0, 400090.0, 5699940.0],
    ]
    assert shapely.area(outlines).tolist() == [16 * 900.0, 900.0]
    np.testing.assert_allclose(columns["area_m2"], [16 * 900.0, 900.0], rtol=2e-3)


def test_geojson_is_that_of_the_rfc(tmp_path):
    path = tmp_path / "lakes.geojson"
    meta, outlines, columns = written(path)
    assert meta["crs"] == "EPSG:4326"
    assert "crs" not in json.loads(path.read_text())
    way = Transformer.from_crs(32632, 4326, always_xy=True)
    x, y = way.transform([400000.0, 400150.0] * 2, [5700000.0] * 2 + [5699850.0] * 2)
    np.testing.assert_allclose(outlines[0].bounds, [min(x), min(y), max(x), max(y)], atol=1e-7)
    assert all(part.exterior.is_ccw for part in shapely.get_parts(outlines))
    np.testing.assert_allclose(columns["area_m2"], [16 * 900.0, 900.0], rtol=2e-3)


@pytest.mark.parametrize("ending", ["gpkg", "geojson"])
def test_without_a_crs_both_hold_pixels(tmp_path, ending):
    _, outlines, columns = written(tmp_path / f"lakes.{ending}", crs=None)
    assert shapely.bounds(outlines).tolist() == [[0.0, 0.0, 5.0, 5.0], [2.0, 2.0, 3.0, 3.0]]
    assert list(columns) == ["id", "area_pixels", "perimeter_pixels", "mean_probability"]
    assert columns["area_pixels"].tolist() == [16.0, 1.0]


@pytest.mark.parametrize("ending", ["gpkg", "geojson"])
@pytest.mark.parametrize("crs", ["EPSG:32632", None])
def test_no_water_is_a_layer_without_features(tmp_path, ending, crs):
    none = bodies_of(np.zeros((3, 3), bool), crs=crs)
    meta, outlines, _ = written(tmp_path / f"lakes.{ending}", none)
    assert (len(outlines), meta["geometry_type"]) == (0, "MultiPolygon" if ending == "gpkg" else "Unknown")


def test_a_date_line_is_where_geojson_is_cut(tmp_path):
    transform = Affine(0.01, 0, 179.95, 0, -0.01, 10.0)
    mask = np.ones((3, 10), bool)
    path = tmp_path / "lakes.geojson"
    found = bodies_of(mask, crs="EPSG:4326", transform=transform)
    write_polygons(path, found, transform)
    west, _, east, _ = shapely.from_wkb(pyogrio.raw.read(path)[2])[0].bounds
    assert (west, east) == (-180.0, 180.0)
    assert found.area_m2.item() == pytest.approx(meridian_strip(9.97, 10.0, 0.1), rel=1e-6)


def test_endings_that_say_nothing():
    for name in ("lakes.shp", "lakes.json", "lakes"):
        with pytest.raises(RasterError, match=r"wanted polygons as \.gpkg or \.geojson: rename"):
            check_polygon_file(Path(name))


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(RasterError, match=r"lakes\.gpkg: cannot be written .*; wanted a writable folder"):
        written(tmp_path / "none" / "lakes.gpkg")
