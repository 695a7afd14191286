"""What the tests of the command line share: how a run ended, what a folder holds, products that are bent to a case."""

import hashlib
import zlib
from dataclasses import dataclass

import numpy as np
import rasterio
from affine import Affine

from lacunar.sensors.scene import open_scene
from lacunar.sensors.simulated import PRODUCT_ID
from products import edit_mtl, file_of, mtl_of, rewrite

CLEAR, CLOUD = 21824, 22280  # QA_PIXEL of land under a clear sky and under a cloud
SCENE_ID = "LC82320882022319LGN00"


@dataclass(frozen=True)
class Ran:
    """How a command ended: its exit code, and what it wrote to each stream."""

    code: int
    out: str
    err: str


def contents(folder):
    """Every path under a folder, hidden ones too, with what each file holds."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
    }


def bands_of(path):
    """Bands of a raster (count, rows, columns) as they are stored."""
    with rasterio.open(path) as dataset:
        return dataset.read()


def write(path, array, *, units=None, scale=None, offset=0.0, crs="EPSG:32632", transform=None, **profile):
    """A GeoTIFF made by rasterio alone; array (rows, columns) or (bands, rows, columns)."""
    array = np.atleast_3d(array.T).T
    transform = transform or Affine(30.0, 0.0, 400000.0, 0.0, -30.0, 5700000.0)
    count, height, width = array.shape
    shape = {"count": count, "height": height, "width": width, "dtype": array.dtype.name}
    with rasterio.open(path, "w", driver="GTiff", crs=crs, transform=transform, **shape, **profile) as dataset:
        dataset.write(array)
        if units is not None:
            dataset.units = [units] * count
        if scale is not None:
            dataset.scales, dataset.offsets = [scale] * count, [offset] * count
    return path


def mask_for(folder, path, gap):
    """A gap mask on the grid of a product."""
    product = open_scene(folder)
    return write(path, gap.astype(np.uint8), crs=product.crs, transform=product.transform)


def cloud_at(folder, gap):
    """Let the quality band of a simulated product name exactly these pixels as cloud."""
    rewrite(file_of(folder, "QA_PIXEL"), np.where(gap, CLOUD, CLEAR).astype(np.uint16))


def make_pre_collection(folder, cloud):
    """Turn a simulated product into the layout of LC8PPPRRRYYYYDDD..., with this cloud in its BQA."""
    edit_mtl(
        folder,
        ("LANDSAT_METADATA_FILE", "L1_METADATA_FILE"),
        ("    COLLECTION_NUMBER = 02\n", f'    LANDSAT_SCENE_ID = "{SCENE_ID}"\n'),
        (f'    LANDSAT_PRODUCT_ID = "{PRODUCT_ID}"\n', ""),
        ('PROCESSING_LEVEL = "L1TP"', 'DATA_TYPE = "L1T"'),
        ("FILE_NAME_QUALITY_L1_PIXEL", "FILE_NAME_BAND_QUALITY"),
        (f"{PRODUCT_ID}_QA_PIXEL", f"{PRODUCT_ID}_BQA"),
        (PRODUCT_ID, SCENE_ID),
        ("PRODUCT_CONTENTS", "PRODUCT_METADATA"),
        ("PROJECTION_ATTRIBUTES", "PROJECTION_PARAMETERS"),
        ("LEVEL1_RADIOMETRIC_RESCALING", "RADIOMETRIC_RESCALING"),
        ("LEVEL1_THERMAL_CONSTANTS", "TIRS_THERMAL_CONSTANTS"),
        ("    EARTH_SUN_DISTANCE = 0.9889000\n", ""),
    )
    mtl_of(folder).rename(folder / f"{SCENE_ID}_MTL.txt")
    rewrite(file_of(folder, "QA_PIXEL"), np.where(cloud, 53248, 20480).astype(np.uint16))
    file_of(folder, "QA_PIXEL").rename(folder / f"{SCENE_ID}_BQA.TIF")
    file_of(folder, "QA_RADSAT").unlink()
    for path in list(folder.glob(f"{PRODUCT_ID}*")):
        path.rename(folder / path.name.replace(PRODUCT_ID, SCENE_ID))


def hole(shape, rows=slice(20, 28), cols=slice(24, 36)):
    """A gap, boolean."""
    gap = np.zeros(shape, bool)
    gap[rows, cols] = True
    return gap


def check_bands(path, unfilled, gap, footprint):
    """Hold the bands of a filled raster beside what was measured; returns the filled values."""
    value, source, sigma = bands_of(path)
    known = footprint & ~gap
    np.testing.assert_array_equal(source, np.where(known, 1, np.where(gap, 2, 0)))
    np.testing.assert_array_equal(value[known], unfilled[known])  # bit by bit
    np.testing.assert_array_equal(sigma[known], 0.0)
    assert np.isfinite(value[gap]).all()
    assert (sigma[gap] > 0).all()
    assert np.isnan(value[~footprint]).all()
    assert np.isnan(sigma[~footprint]).all()
    return value[gap]


def png_of_zeros(path, width, height):
    """A PNG that says it has so many pixels; its data are few."""

    def chunk(name, data):
        return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )
