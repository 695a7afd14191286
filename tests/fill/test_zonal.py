"""Means over polygons: right pixels, and an uncertainty that knows that neighbours err alike."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rioxarray  # noqa: F401  # the accessor rio
import shapely
import xarray as xr

import lacunar as lc
from commands import write
from gaussian_fields import SMOOTH, covariances
from lacunar.errors import LacunarError

LEFT, TOP, STEP = 400_000.0, 5_700_000.0, 30.0


def dataset(samples, source, crs="EPSG:32632"):
    """What a fill gives, of these samples (K, H, W)."""
    height, width = source.shape
    rows, cols = np.arange(height) + 0.5, np.arange(width) + 0.5
    coords = {"y": TOP - STEP * rows, "x": LEFT + STEP * cols} if crs else {"y": rows, "x": cols}
    bands = {"value": (("y", "x"), samples.mean(axis=0)), "source": (("y", "x"), source)}
    made = xr.Dataset(bands | {"samples": (("sample", "y", "x"), samples)}, coords=coords)
    return made.rio.write_crs(crs) if crs else made


def box(rows, cols):
    """The polygon around pixels, a little within their outer border."""
    return shapely.box(
        LEFT + STEP * cols.start + 1,
        TOP - STEP * rows.stop + 1,
        LEFT + STEP * cols.stop - 1,
        TOP - STEP * rows.start - 1,
    )


def polygons(*shapes, crs="EPSG:32632"):
    return gpd.GeoDataFrame(
        {"name": [f"park {number}" for number in range(len(shapes))]}, geometry=list(shapes), crs=crs
    )


def test_sigma_is_that_of_a_mean_of_correlated_pixels():
    # Truth: the variance of a mean is a' C a, of fields drawn by a dense Cholesky factor.
    pixels = np.argwhere(np.ones((12, 14), bool))
    covariance = 4.0 * covariances(SMOOTH[0], pixels, pixels)
    white = np.random.default_rng(0).standard_normal((len(pixels), 3000))
    samples = (300 + np.linalg.cholesky(covariance) @ white).T.reshape(3000, 12, 14)
    zone = (slice(2, 9), slice(3, 11))
    share = np.zeros((12, 14))
    share[zone] = 1 / 56
    exact = np.sqrt(share.ravel() @ covariance @ share.ravel())
    (found,) = lc.zonal(dataset(samples, np.full((12, 14), 2)), polygons(box(*zone))).itertuples()
    assert found.pixels == 56
    assert found.mean == pytest.approx(samples.mean(axis=0)[zone].mean())
    assert found.sigma == pytest.approx(exact, rel=0.05)
    assert found.sigma > 5 * 2.0 / np.sqrt(56)  # what independent pixels would say


def test_what_is_measured_filled_and_outside_is_counted():
    source = np.full((10, 10), 1)
    source[:, 5:], source[0] = 2, 0
    samples = np.where(source == 2, np.array([-1.0, 1.0])[:, None, None], 0.0) + 300
    samples[:, 0] = np.nan
    found = lc.zonal(
        dataset(samples, source),
        polygons(
            box(slice(0, 4), slice(3, 7)),
            box(slice(5, 8), slice(0, 3)),
            shapely.box(LEFT + 1, TOP - 68, LEFT + 5, TOP - 62),  # between the centres of pixels
            shapely.box(0, 0, 9, 9),  # elsewhere
        ),
    )
    assert found["name"].tolist() == ["park 0", "park 1", "park 2", "park 3"]
    assert found["pixels"].tolist() == [12, 9, 1, 0]
    np.testing.assert_allclose(found["filled_share"], [0.5, 0, 0, np.nan])
    np.testing.assert_allclose(found["mean"], [300, 300, 300, np.nan])
    np.testing.assert_allclose(found["sigma"], [0.5, 0, 0, np.nan])


def test_polygons_of_another_crs_and_windows_of_a_large_one(monkeypatch):
    samples = np.random.default_rng(1).normal(300, 2, (5, 60, 70))
    filled, zone = dataset(samples, np.full((60, 70), 2)), (slice(5, 44), slice(6, 51))
    there = polygons(box(*zone)).to_crs(4326)
    monkeypatch.setattr("lacunar.fill.zonal.BLOCK", 16)
    (found,) = lc.zonal(filled, there).itertuples()
    means = samples[:, *zone].mean(axis=(1, 2))
    assert (found.pixels, found.mean) == (39 * 45, pytest.approx(means.mean()))
    assert found.sigma == pytest.approx(means.std(ddof=1))


@pytest.mark.parametrize("ending", [".gpkg", ".geojson", ".csv"])
def test_the_command(lacunar, tmp_path, tiny_folder, ending):
    values = 300 + np.add.outer(np.arange(70.0), np.arange(80.0)).astype(np.float32) / 9
    values[20:40, 30:60] = np.nan
    write(tmp_path / "in.tif", values)
    fill = ("fill", tmp_path / "in.tif", "-o", tmp_path / "out.tif", "--model", tiny_folder, "--realisations", "4")
    assert "samples: " in lacunar(*fill).out
    polygons(box(slice(10, 30), slice(30, 60))).to_file(tmp_path / "parks.gpkg")
    asked = ("zonal", tmp_path / "out.tif", tmp_path / "parks.gpkg", "-o", tmp_path / f"zones{ending}")
    assert lacunar(*asked).out.startswith("1 polygons, 0 without a pixel")
    read = pd.read_csv if ending == ".csv" else gpd.read_file
    (zone,) = read(tmp_path / f"zones{ending}").itertuples()
    assert (zone.name, zone.pixels, zone.filled_share) == ("park 0", 600, 0.5)
    assert zone.sigma > 0
    assert (lacunar(*asked).code, "exists" in lacunar(*asked).err) == (2, True)
    fill = ("fill", tmp_path / "in.tif", "-o", tmp_path / "out.tif", "--model", tiny_folder, "--seed", "1")
    assert lacunar(*fill, "--overwrite").code == 0  # the realisations of the fill before are still there
    assert "out_realisations.tif is of another fill than" in lacunar(*asked, "--overwrite").err


def test_what_does_not_fit_is_refused(tmp_path):
    filled, parks = dataset(np.zeros((2, 9, 9)), np.ones((9, 9))), polygons(box(slice(0, 4), slice(3, 7)))
    write(tmp_path / "out.tif", np.zeros((9, 9), np.float32))
    (tmp_path / "broken.gpkg").write_text("no database")
    for given, zones, message in [
        (filled.drop_vars("samples"), parks, "holds no samples: wanted that of lacunar.fill"),
        (filled, parks.assign(mean=1.0), "a column 'mean' already"),
        (filled, parks.iloc[:0], "got 0 shapes"),
        (filled, parks.set_geometry(parks.centroid), r"kinds \['Point'\]: wanted one polygon"),
        (filled, parks.set_crs(None, allow_override=True), "the polygons have no CRS"),
        (tmp_path / "out.tif", parks, r"out.tif has no band source: wanted what `lacunar lst`"),
        (filled, tmp_path / "broken.gpkg", r"broken.gpkg: no polygons can be read"),
    ]:
        with pytest.raises(LacunarError, match=message):
            lc.zonal(given, zones)
