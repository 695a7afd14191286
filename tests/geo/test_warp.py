"""A raster on another grid: the field is the same, its gaps stay gaps, and a window is a part of the whole."""

from dataclasses import dataclass

import numpy as np
import pytest
from affine import Affine
from rasterio.crs import CRS
from rasterio.warp import transform

from lacunar.errors import RasterError
from lacunar.geo import warp as warping
from lacunar.geo.warp import Warped
from lacunar.geo.windows import Tile

UTM_31, UTM_32, DEGREES = CRS.from_epsg(32631), CRS.from_epsg(32632), CRS.from_epsg(4326)


@dataclass
class Grid:
    """Where an array lies."""

    shape: tuple
    transform: Affine
    crs: CRS | None


def north_up(x, y, step):
    return Affine(step, 0.0, x, 0.0, -step, y)


TARGET = Grid((220, 250), north_up(709_000.0, 5_780_000.0, 30.0), UTM_31)
SOURCES = {
    "other zone": Grid((400, 400), north_up(297_000.0, 5_782_000.0, 30.0), UTM_32),
    "finer": Grid((1300, 1300), north_up(299_000.0, 5_778_500.0, 5.0), UTM_32),
    "coarser": Grid((60, 60), north_up(297_000.0, 5_784_000.0, 250.0), UTM_32),
    "degrees": Grid((400, 500), north_up(5.98, 52.16, 0.0004), DEGREES),
    "turned": Grid((500, 500), north_up(297_000.0, 5_779_000.0, 30.0) @ Affine.rotation(20.0), UTM_32),
    "shifted": Grid((300, 300), north_up(708_990.0, 5_780_007.0, 30.0), UTM_31),
}


def centres(grid, crs=UTM_32):
    """Coordinates of a grid's pixels in one CRS; the shape is that of the grid."""
    rows, cols = np.indices(grid.shape) + 0.5
    x, y = grid.transform @ (cols.ravel(), rows.ravel())
    if grid.crs not in (None, crs):
        x, y = transform(grid.crs, crs, x, y)
    return np.reshape(x, grid.shape), np.reshape(y, grid.shape)


def smooth(grid):
    """A field over places, not pixels."""
    x, y = centres(grid)
    return (300.0 + 4.0 * np.sin(x / 900.0) + 3.0 * np.cos(y / 1100.0)).astype(np.float32)


def reader(values, seen=None):
    """Windows of an array; what was asked for is noted."""

    def read(window):
        assert window.inside(values.shape)
        if seen is not None:
            seen.append(window)
        return values[window.slices]

    return read


def whole(grid):
    return Tile(0, 0, *grid.shape)


def inside(source, target, border):
    """Pixels of the target that lie inside the source, some source pixels from its border."""
    x, y = centres(target, source.crs)
    cols, rows = ~source.transform @ (x.ravel(), y.ravel())
    height, width = source.shape
    good = (rows > border) & (cols > border) & (rows < height - border) & (cols < width - border)
    return good.reshape(target.shape)


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [("other zone", 0.01), ("finer", 0.005), ("coarser", 0.1), ("degrees", 0.01), ("turned", 0.01), ("shifted", 0.01)],
)
def test_a_field_is_the_same_on_another_grid(name, tolerance):
    source = SOURCES[name]
    seen = Warped(source, TARGET, reader(smooth(source)), name="it").read(whole(TARGET))
    covered = inside(source, TARGET, 8)
    assert covered.sum() > 5_000
    assert np.abs(seen - smooth(TARGET))[covered].max() < tolerance
    assert np.isnan(seen[~inside(source, TARGET, -1)]).all()
    assert seen.dtype == np.float32


@pytest.mark.parametrize("name", SOURCES)
def test_a_window_is_a_part_of_the_whole(name):
    source = SOURCES[name]
    values = np.random.default_rng(0).normal(300.0, 9.0, source.shape).astype(np.float32)
    values[: source.shape[0] // 3, ::7] = np.nan
    warped = Warped(source, TARGET, reader(values), name="it")
    full = warped.read(whole(TARGET))
    assert np.isfinite(full).any()
    windows = [Tile(0, 0, 1, 1), Tile(37, 90, 101, 77), Tile(95, 95, 3, 3), Tile(200, 0, 20, 250)]
    for window in windows:
        np.testing.assert_array_equal(warped.read(window), full[window.slices])
        np.testing.assert_array_equal(
            Warped(source, TARGET, reader(values), name="it").read(window), full[window.slices]
        )


def test_the_source_is_read_once_block_by_block_and_no_more_than_the_target_needs(monkeypatch):
    monkeypatch.setattr(warping, "BLOCK", 100)
    source, seen = SOURCES["finer"], []
    small = Grid((40, 40), TARGET.transform @ Affine.translation(100, 100), UTM_31)  # 240 x 240 pixels of 5 m
    warped = Warped(source, small, reader(smooth(source), seen), name="it")
    assert seen == []
    for window in (Tile(0, 0, 10, 10), whole(small)):
        warped.read(window)
    assert max(max(window.shape) for window in seen) <= 100
    assert 240**2 < sum(np.prod(window.shape) for window in seen) < 300**2


def test_several_bands_are_warped_as_each_of_them_alone():
    source = SOURCES["other zone"]
    planes = np.stack([smooth(source), smooth(source) ** 2])
    planes[:, 100:200, 100:200] = np.nan
    read = lambda window: planes[:, *window.slices]  # noqa: E731
    seen = Warped(source, TARGET, read, name="it", count=2).read(whole(TARGET))
    for plane, values in zip(seen, planes, strict=True):
        alone = Warped(source, TARGET, reader(values), name="it").read(whole(TARGET))
        np.testing.assert_array_equal(plane, alone)


def test_the_copy_goes_with_the_warped_raster(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    source = SOURCES["shifted"]
    warped = Warped(source, TARGET, reader(smooth(source)), name="it")
    warped.read(whole(TARGET))
    assert len(list(tmp_path.iterdir())) == 1
    del warped
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", SOURCES)
def test_what_is_unknown_stays_so_and_does_not_bleed(name):
    source = SOURCES[name]
    values = smooth(source)
    x, y = centres(source)
    hole = (np.abs(x - 301_500.0) < 900.0) & (np.abs(y - 5_776_500.0) < 900.0)
    assert hole.any()
    values[hole] = np.nan
    seen = Warped(source, TARGET, reader(values), name="it").read(whole(TARGET))
    known = np.isfinite(seen)
    assert np.abs(seen - smooth(TARGET))[known & inside(source, TARGET, 1)].max() < 1.5  # a fill of 0 would be far off
    x, y = centres(TARGET)
    side = max(np.sqrt(abs(source.transform.determinant)) * (1e5 if source.crs == DEGREES else 1.0), 30.0)
    apart = np.maximum(np.abs(x - 301_500.0), np.abs(y - 5_776_500.0)) - 900.0
    assert not known[apart < -1.5 * side].any()
    assert known[(apart > 1.5 * side) & inside(source, TARGET, 1)].all()


@pytest.mark.parametrize("axis", [0, 1])
def test_a_finer_source_is_averaged(axis):
    source = SOURCES["finer"]
    stripes = np.where(np.indices(source.shape)[axis] % 2, 310.0, 290.0).astype(np.float32)
    seen = Warped(source, TARGET, reader(stripes), name="it").read(whole(TARGET))
    assert np.abs(seen - 300.0)[inside(source, TARGET, 8)].max() < 1.0  # one pixel of six would be 290 or 310


def test_the_same_grid_is_read_as_it_is():
    values = smooth(TARGET)
    warped = Warped(TARGET, Grid(TARGET.shape, TARGET.transform, TARGET.crs), reader(values), name="it")
    assert warped.same_grid
    np.testing.assert_array_equal(warped.read(Tile(3, 4, 50, 60)), values[3:53, 4:64])


# --- places ---


def test_a_missing_crs_is_refused_unless_the_grids_agree():
    bare = Grid(TARGET.shape, TARGET.transform, None)
    shifted = Grid((50, 50), TARGET.transform, None)
    pixels = Grid(TARGET.shape, Affine.identity(), None)
    assert Warped(bare, TARGET, reader(smooth(TARGET)), name="it").same_grid
    assert Warped(TARGET, bare, reader(smooth(TARGET)), name="it").same_grid
    for source in (shifted, pixels):
        with pytest.raises(RasterError, match=r"^it has no CRS and differs .* from the input: wanted a CRS in both"):
            Warped(source, TARGET, reader(smooth(source)), name="it")
        with pytest.raises(RasterError, match=r"^the input has no CRS and differs .* from it: wanted a CRS in both"):
            Warped(TARGET, source, reader(smooth(TARGET)), name="it")


def test_two_grids_without_crs_share_one_plane():
    target = Grid((40, 50), north_up(0.0, 0.0, 10.0), None)
    source = Grid((60, 70), north_up(-40.0, 45.0, 10.0), None)
    seen = Warped(source, target, reader(smooth(source)), name="it").read(whole(target))
    np.testing.assert_allclose(seen, smooth(target), atol=1e-3)
    with pytest.raises(RasterError, match="it has no CRS"):
        Warped(Grid((3, 3), Affine.identity(), None), target, reader(smooth(source)), name="it")


def test_a_source_elsewhere_is_refused():
    for crs, x in ((UTM_31, 800_000.0), (UTM_32, 709_000.0)):
        with pytest.raises(
            RasterError, match=r"^it does not overlap the input: x \d+ to .* in EPSG:3263\d, the input is x 709000 to"
        ):
            Warped(Grid((90, 90), north_up(x, 5_780_000.0, 30.0), crs), TARGET, reader(smooth(TARGET)), name="it")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RasterError("damaged"), "^damaged$"),
        (MemoryError("full"), r"^it cannot be warped to the grid of the .* \(full\)"),
    ],
)
def test_a_source_that_cannot_be_read_is_told_and_leaves_no_copy(tmp_path, monkeypatch, error, message):
    def fail(_):
        raise error

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    warped = Warped(SOURCES["shifted"], TARGET, fail, name="it")
    with pytest.raises(RasterError, match=message):
        warped.read(whole(TARGET))
    assert list(tmp_path.iterdir()) == []


def test_a_source_within_the_target_overlaps():
    small = Grid((5, 5), north_up(710_000.0, 5_778_000.0, 30.0), UTM_31)
    seen = Warped(small, TARGET, reader(smooth(small)), name="it").read(whole(TARGET))
    assert 16 <= np.isfinite(seen).sum() <= 36
