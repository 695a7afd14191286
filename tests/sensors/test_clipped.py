"""A part of a scene is what the same window of the whole is, at its place."""

import geopandas as gpd
import numpy as np
import pytest
from affine import Affine
from rasterio.warp import transform_bounds
from shapely.geometry import Polygon, box

from commands import write
from lacunar.errors import LacunarError, RasterError
from lacunar.geo.windows import Tile
from lacunar.sensors.bands import BANDS
from lacunar.sensors.scene import open_scene

VALUES = np.random.default_rng(0).normal(290, 3, (60, 80)).astype(np.float32)
TRANSFORM = Affine(30.0, 0.0, 400_000.0, 0.0, -30.0, 5_700_000.0)  # of `write`
WINDOW = Tile(10, 20, 30, 40)
BOX = (400_600.0, 5_698_800.0, 401_800.0, 5_699_700.0)  # its borders


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "a.tif", VALUES, units="K")


def text(bounds, crs=""):
    return ",".join([*map(str, bounds), *([crs] if crs else [])])


def test_a_box_is_a_window(path):
    for clip in (text(BOX), text(BOX, "EPSG:32632"), text(np.add(BOX, 14.0))):  # less than half a pixel off: the same
        with open_scene(path, clip=clip) as scene:
            assert (scene.shape, scene.transform) == (WINDOW.shape, TRANSFORM @ Affine.translation(20, 10))
            scene.check_lst()
            np.testing.assert_array_equal(scene.measured().values, VALUES[WINDOW.slices])
            np.testing.assert_array_equal(scene.measured(Tile(3, 4, 5, 6)).values, VALUES[13:18, 24:30])
            assert scene.lst().rio.crs.to_epsg() == 32632


def test_a_box_in_degrees_holds_the_box_in_metres(path):
    with open_scene(path, clip=text(transform_bounds("EPSG:32632", "EPSG:4326", *BOX), "EPSG:4326")) as scene:
        left, top = scene.transform.c, scene.transform.f
        assert BOX[0] - 300 < left <= BOX[0] + 15
        assert BOX[3] - 15 <= top < BOX[3] + 300


@pytest.mark.parametrize("crs", [32632, 4326])
def test_polygons_leave_what_is_outside_as_nodata(path, tmp_path, crs):
    triangle = Polygon([(BOX[0], BOX[1]), (BOX[2], BOX[1]), (BOX[0], BOX[3])])
    file = tmp_path / "p.gpkg"
    gpd.GeoDataFrame(geometry=[triangle], crs=32632).to_crs(crs).to_file(file)
    with open_scene(path, clip=str(file)) as scene:
        part = scene.measured()
        rows, cols = np.indices(scene.shape) + 0.5
        x, y = scene.transform.c + 30 * cols, scene.transform.f - 30 * rows
        inside = (x > BOX[0]) & (y > BOX[1]) & ((x - BOX[0]) / 1200 + (y - BOX[1]) / 900 < 1)
        assert (part.known != inside).mean() < 0.03  # a straight border in degrees is bent in metres, a little
        assert not part.missing[~inside & ~part.known].any()


def test_the_mask_may_be_of_the_whole(path, tmp_path):
    gap = np.zeros(VALUES.shape, np.uint8)
    gap[15:20, 30:40] = 1
    with open_scene(path, gap_mask=write(tmp_path / "m.tif", gap), clip=text(BOX)) as scene:
        np.testing.assert_array_equal(scene.measured().missing, gap[WINDOW.slices] == 1)


def test_bands_are_those_of_the_window(tmp_path):
    values = np.random.default_rng(1).integers(100, 3000, (6, 60, 80)).astype(np.uint16)
    path = write(tmp_path / "b.tif", values)
    with open_scene(path, bands=BANDS, clip=text(BOX)) as scene:
        scene.check_bands()
        assert scene.planes(Tile(0, 0, *scene.shape)).shape == (6, 30, 40)
        found = scene.reflectance(Tile(0, 0, *scene.shape))
    np.testing.assert_allclose(found, values[:, *WINDOW.slices] / 1e4, rtol=1e-6)


def test_regions_that_cannot_be(path, tmp_path):
    for clip, message in (
        ("1,2,3", r"box '1,2,3': wanted XMIN,YMIN,XMAX,YMAX"),
        ("4,0,1,9", r"box '4,0,1,9' is empty"),
        ("1,2,3,4,EPSG:0", r"box '1,2,3,4,EPSG:0': wanted"),
        ("1,2,3,4", r"holds no pixel of a.tif, which spans x 400000 to 402400, y 5698200 to 5700000 in EPSG:32632"),
        (str(tmp_path / "none.gpkg"), "no such file; wanted polygons"),
    ):
        with pytest.raises(LacunarError, match=message):
            open_scene(path, clip=clip)
    with pytest.warns(UserWarning, match="'crs' was not provided"):
        gpd.GeoDataFrame(geometry=[box(*BOX)]).to_file(tmp_path / "bare.gpkg")
    with pytest.raises(LacunarError, match=r"bare.gpkg has no CRS: wanted one in both"):
        open_scene(path, clip=str(tmp_path / "bare.gpkg"))
    rotated = write(tmp_path / "r.tif", VALUES, transform=Affine(8, -6, 5e5, -6, -8, 5.2e6))
    with pytest.raises(RasterError, match=r"r.tif lies on a rotated grid"):
        open_scene(rotated, clip=text(BOX))
