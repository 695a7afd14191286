"""Landsat products that a test may break: their files, their metadata, their grids."""

import pytest
import rasterio
from affine import Affine

from lacunar.errors import ProductError
from lacunar.sensors.scene import open_scene
from lacunar.sensors.simulated import PRODUCT_ID


def file_of(folder, band):
    return folder / f"{PRODUCT_ID}_{band}.TIF"


def mtl_of(folder):
    return folder / f"{PRODUCT_ID}_MTL.txt"


def edit_mtl(folder, *changes):
    text = mtl_of(folder).read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    mtl_of(folder).write_text(text)


def rewrite(path, data=None, **profile):
    """The same GeoTIFF with other data or another profile."""
    with rasterio.open(path) as dataset:
        old, kept = dataset.profile, dataset.read(1)
    data = kept if data is None else data
    height, width = data.shape
    path.unlink()
    with rasterio.open(path, "w", **{**old, "height": height, "width": width, **profile}) as dataset:
        dataset.write(data, 1)


def drop_georeference(path):
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        rewrite(path, crs=None, transform=Affine.identity())


def fails(target, message):
    with pytest.raises(ProductError, match=message) as caught:
        open_scene(target).check_lst()
    assert "\n" not in str(caught.value)
