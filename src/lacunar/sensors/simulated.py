"""A simulated Landsat-8 Collection-2 Level-1 product with clouds, and the clear-sky temperature that they hide.

The product is a folder that any Landsat tool opens: bands, QA_PIXEL, QA_RADSAT and an MTL file with the names,
coefficients and conventions of the USGS. It shows no real place, and its ORIGIN says so. Its digital numbers come from
SEBAL turned round, so that computing LST from them gives the written truth back outside the clouds.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.warp import transform as transform_points
from scipy import ndimage

from lacunar.errors import ProductError, RasterError, one_line
from lacunar.geo.gate import create_raster, gdal
from lacunar.geo.staging import Staging
from lacunar.sensors.sebal import emissivity, emitted_radiance, lai, lst, ndvi, savi, toa_reflectance
from lacunar.sensors.synthetic_scene import (
    CLOUD_TOP_TEMPERATURE,
    PIXEL,
    Clouds,
    Sun,
    SyntheticScene,
    make_clouds,
    make_scene,
)

Float = NDArray[np.float64]

SIZE_RANGE = (64, 2048)  # pixels on a side; memory grows with the square (1024: 0.7 GB)
DATE = "2022-11-15"  # 10:20 by the sun at 41 S, a spring morning
SUN = Sun(azimuth=62.1, elevation=53.2)  # degrees, there and then
EARTH_SUN_DISTANCE = 0.9889  # AU, on that day
PATH, ROW, UTM_ZONE = 232, 88, 19
UPPER_LEFT = (297000.0, -4548000.0)  # centre of the first pixel; USGS writes northern zones with negative northings
_CRS = CRS.from_epsg(32600 + UTM_ZONE)
PRODUCT_ID = f"LC08_L1TP_{PATH:03d}{ROW:03d}_20221115_20221121_02_T1"
SCENE_ID = f"LC8{PATH:03d}{ROW:03d}2022319LGN00"

# Coefficients of Landsat 8: reflectance and band 10 as in every Collection-2 product.
REFLECTANCE_MULT, REFLECTANCE_ADD = 2.0e-5, -0.1
RADIANCE_MULT_10, RADIANCE_ADD_10 = 3.3420e-4, 0.1
K1, K2 = 774.8853, 1321.0789
# Sunlight at 1 AU over pi, W m-2 sr-1 um-1, bands 1 to 7: RADIANCE_MULT / REFLECTANCE_MULT of real products.
SUNLIGHT = (627.8, 642.9, 592.4, 499.6, 305.7, 76.02, 25.62)

PSF_SIGMA = 1.42  # pixels of 30 m: TIRS resolves 100 m, the full width at half maximum
THERMAL_NOISE = 0.05  # K, the noise-equivalent temperature difference of band 10
REFLECTANCE_NOISE = 0.0006  # OLI, signal-to-noise above 200

# Reflectance at the top of the atmosphere, bands 1 to 7: what the ground is made of, under clear air.
SPECTRA: dict[str, tuple[float, ...]] = {
    "water": (0.104, 0.082, 0.055, 0.036, 0.014, 0.006, 0.004),
    "soil": (0.138, 0.136, 0.150, 0.182, 0.242, 0.305, 0.262),
    "rock": (0.146, 0.144, 0.158, 0.178, 0.208, 0.232, 0.205),
    "town": (0.158, 0.156, 0.168, 0.182, 0.212, 0.238, 0.222),
    "leaves": (0.100, 0.076, 0.072, 0.046, 0.372, 0.170, 0.078),
    "snow": (0.690, 0.680, 0.660, 0.620, 0.632, 0.110, 0.075),  # old snow: its NDVI is just above 0
    "cloud": (0.640, 0.630, 0.620, 0.620, 0.640, 0.500, 0.390),
}
SHADOW_LIGHT = (0.80, 0.72, 0.60, 0.50, 0.38, 0.34, 0.34)  # of full light: the sky still shines, most in the blue
SHADOW_COOLING = 3.5  # K

# QA_PIXEL (LSDS-1822): every confidence pair low, then what each class adds.
_QA_LOW = 1 << 8 | 1 << 10 | 1 << 12 | 1 << 14
_QA_DILATED, _QA_CLOUD, _QA_SHADOW, _QA_SNOW, _QA_CLEAR, _QA_WATER = (1 << bit for bit in (1, 3, 4, 5, 6, 7))
_QA_CLOUD_HIGH, _QA_SHADOW_HIGH, _QA_SNOW_HIGH = 1 << 9, 1 << 11, 1 << 13


@dataclass(frozen=True, slots=True)
class SimulatedProduct:
    """Where a simulated product lies, its clear-sky LST (GeoTIFF, float32, K), and the share of pixels under cloud."""

    folder: Path
    truth_path: Path
    gap_fraction: float


def simulate_product(
    folder: str | Path, *, size: int = 256, seed: int = 0, cloud_fraction: float = 0.22, overwrite: bool = False
) -> SimulatedProduct:
    """Write a simulated product and its truth; the same seed gives the same product, bit by bit.

    ``size`` is a side in pixels of 30 m, 64 to 2048; ``cloud_fraction``, 0 to 0.9, the share of pixels that clouds,
    their rims (dilated cloud) and their shadows take together. The folder must not exist or be empty; ``overwrite``
    replaces an earlier simulated product. It appears only when everything is written. A `ProductError` says what is out
    of range, or why the folder cannot be written.
    """
    target = Path(folder)
    truth_path = target / f"{PRODUCT_ID}_TRUTH_LST.TIF"
    if seed < 0:
        raise ProductError(f"seed {seed}: wanted 0 or more")
    if not SIZE_RANGE[0] <= size <= SIZE_RANGE[1]:
        raise ProductError(f"size {size}: wanted {SIZE_RANGE[0]} to {SIZE_RANGE[1]} pixels on a side")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        if not overwrite:
            raise ProductError(f"{target} exists and is not an empty folder: wanted a new one; choose another name")
        if not all(path.name.startswith(PRODUCT_ID) for path in target.iterdir()):
            raise ProductError(f"{target} holds no simulated product: it is not removed; choose another folder")
    rng = np.random.default_rng(seed)
    land = make_scene(size, rng, SUN)
    clouds = make_clouds(size, rng, SUN, fraction=cloud_fraction)
    bands, truth = _digital_numbers(land, clouds, rng)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with Staging(overwrite=overwrite) as staging:
            _write_product(staging.stage_folder(target), bands, truth, cloud_cover=float(clouds.cloud.mean()))
    except (OSError, RasterError) as error:
        raise ProductError(f"{target} cannot be written ({one_line(error)}): check the place and its room") from error
    return SimulatedProduct(target, truth_path, float(clouds.gap.mean()))


def _digital_numbers(
    land: SyntheticScene, clouds: Clouds, rng: np.random.Generator
) -> tuple[dict[str, NDArray[np.uint16]], NDArray[np.float32]]:
    """Bands by name, and the LST that the same scene would have shown without clouds."""
    clear = _reflectances(land) + REFLECTANCE_NOISE * rng.standard_normal((7, *land.water.shape))
    clear_dn = _reflectance_dn(clear)
    # SEBAL will see the clear pixels' quantised reflectance: the emissivity must be that of the digital numbers.
    red, nir = toa_reflectance(clear_dn[3:5], mult=REFLECTANCE_MULT, add=REFLECTANCE_ADD, sun_elevation=SUN.elevation)
    e_nb = emissivity(ndvi(red, nir), lai(savi(red, nir)))

    # The sensor blurs radiance, not temperature; white noise loses 1 / (2 sigma sqrt(pi)) of its spread in the blur.
    noise = THERMAL_NOISE * 2.0 * PSF_SIGMA * math.sqrt(math.pi) * rng.standard_normal(land.water.shape)
    ground = emitted_radiance(land.temperature + noise, e_nb, k1=K1, k2=K2)
    ground = ndimage.gaussian_filter(ground, PSF_SIGMA, mode="nearest")
    truth = lst(ground, e_nb, k1=K1, k2=K2)

    shade = ndimage.gaussian_filter(clouds.shadow.astype(np.float64), PSF_SIGMA) * clouds.gap
    opacity = ndimage.gaussian_filter(clouds.opacity, PSF_SIGMA) * clouds.gap
    below = emitted_radiance(truth - SHADOW_COOLING * shade, e_nb, k1=K1, k2=K2)
    above = emitted_radiance(CLOUD_TOP_TEMPERATURE + 6.0 * (1.0 - clouds.opacity), 1.0, k1=K1, k2=K2)
    radiance_10 = (1.0 - opacity) * below + opacity * above

    dim = 1.0 - clouds.shadow * (1.0 - np.array(SHADOW_LIGHT)[:, None, None])
    white = np.array(SPECTRA["cloud"])[:, None, None] * (0.85 + 0.25 * clouds.opacity)
    seen = (1.0 - clouds.opacity) * clear * dim + clouds.opacity * white
    reflective = np.where(clouds.gap, _reflectance_dn(seen), clear_dn)

    bands = {f"B{number}": band for number, band in enumerate(reflective, start=1)}
    bands["B10"] = _quantised(radiance_10, RADIANCE_MULT_10, RADIANCE_ADD_10)
    bands["QA_PIXEL"] = _qa_pixel(land, clouds)
    bands["QA_RADSAT"] = np.zeros(land.water.shape, dtype=np.uint16)
    return bands, truth.astype(np.float32)


def _reflectances(land: SyntheticScene) -> Float:
    """Reflectance of bands 1 to 7 without clouds, (7, size, size)."""
    spectra = {name: np.array(values)[:, None, None] for name, values in SPECTRA.items()}
    bare = np.where(land.town, spectra["town"], (1.0 - land.rock) * spectra["soil"] + land.rock * spectra["rock"])
    ground = (land.cover * spectra["leaves"] + (1.0 - land.cover) * bare * land.texture) * (0.35 + 0.65 * land.light)
    ground = np.where(land.snow, spectra["snow"] * (0.5 + 0.5 * np.clip(land.light, 0.0, 1.2)), ground)
    return np.asarray(np.where(land.water, spectra["water"], ground))


def _reflectance_dn(reflectance: Float) -> NDArray[np.uint16]:
    return _quantised(reflectance * math.sin(math.radians(SUN.elevation)), REFLECTANCE_MULT, REFLECTANCE_ADD)


def _quantised(value: Float, mult: float, add: float) -> NDArray[np.uint16]:
    return np.clip(np.rint((value - add) / mult), 1, 65535).astype(np.uint16)


def _qa_pixel(land: SyntheticScene, clouds: Clouds) -> NDArray[np.uint16]:
    """QA_PIXEL as CFMask would set it: cloud hides all else; snow in shadow counts as shadow."""
    qa = np.full(land.water.shape, _QA_LOW)
    qa[~clouds.cloud & ~clouds.dilated] |= _QA_CLEAR
    qa[clouds.dilated] |= _QA_DILATED
    qa[clouds.cloud] |= _QA_CLOUD | _QA_CLOUD_HIGH
    qa[clouds.shadow] |= _QA_SHADOW | _QA_SHADOW_HIGH
    qa[land.water & ~clouds.cloud] |= _QA_WATER
    qa[land.snow & ~clouds.cloud & ~clouds.shadow] |= _QA_SNOW | _QA_SNOW_HIGH
    return qa.astype(np.uint16)


def _write_product(
    folder: Path, bands: dict[str, NDArray[np.uint16]], truth: NDArray[np.float32], *, cloud_cover: float
) -> None:
    for band, dn in bands.items():
        _write_geotiff(folder / f"{PRODUCT_ID}_{band}.TIF", dn, nodata=1 if band == "QA_PIXEL" else 0, predictor=2)
    _write_geotiff(folder / f"{PRODUCT_ID}_TRUTH_LST.TIF", truth, nodata=math.nan, predictor=3)
    text = _mtl_text(list(bands), truth.shape, cloud_cover)
    (folder / f"{PRODUCT_ID}_MTL.txt").write_text(text, encoding="ascii")


def _write_geotiff(path: Path, data: NDArray[Any], *, nodata: float, predictor: int) -> None:
    left, top = UPPER_LEFT[0] - PIXEL / 2, UPPER_LEFT[1] + PIXEL / 2
    profile = {"driver": "GTiff", "tiled": True, "compress": "deflate", "predictor": predictor}
    profile |= {"height": data.shape[0], "width": data.shape[1], "count": 1, "dtype": data.dtype.name, "nodata": nodata}
    profile |= {"crs": _CRS, "transform": Affine(PIXEL, 0.0, left, 0.0, -PIXEL, top)}
    with gdal(f"{path.name}: cannot be written"), create_raster(path, **profile) as dataset:
        dataset.write(data, 1)


def _mtl_text(bands: list[str], shape: tuple[int, ...], cloud_cover: float) -> str:
    keys = {"QA_PIXEL": "QUALITY_L1_PIXEL", "QA_RADSAT": "QUALITY_L1_RADIOMETRIC_SATURATION"}
    files = {keys.get(band, "BAND_" + band.removeprefix("B")): f"{PRODUCT_ID}_{band}.TIF" for band in bands}
    contents: dict[str, Any] = {
        "ORIGIN": "Simulated by lacunar; shows no real place",
        "LANDSAT_PRODUCT_ID": PRODUCT_ID,
        "PROCESSING_LEVEL": "L1TP",
        "COLLECTION_NUMBER": "02",
        "COLLECTION_CATEGORY": "T1",
        "OUTPUT_FORMAT": "GEOTIFF",
        **{f"FILE_NAME_{key}": name for key, name in files.items()},
        "FILE_NAME_METADATA_ODL": f"{PRODUCT_ID}_MTL.txt",
    }
    ends = (("MAX", 65535), ("MIN", 1))
    limits = {f"QUANTIZE_CAL_{end}_BAND_{n}": value for n in (*range(1, 8), 10) for end, value in ends}
    groups: dict[str, dict[str, Any]] = {
        "PRODUCT_CONTENTS": contents | {f"DATA_TYPE_{key}": "UINT16" for key in files},
        "IMAGE_ATTRIBUTES": {
            "SPACECRAFT_ID": "LANDSAT_8",
            "SENSOR_ID": "OLI_TIRS",
            "WRS_TYPE": 2,
            "WRS_PATH": PATH,
            "WRS_ROW": ROW,
            "NADIR_OFFNADIR": "NADIR",
            "DATE_ACQUIRED": DATE,
            "SCENE_CENTER_TIME": "14:20:00.0000000Z",
            "CLOUD_COVER": f"{100.0 * cloud_cover:.2f}",
            "SUN_AZIMUTH": f"{SUN.azimuth:.8f}",
            "SUN_ELEVATION": f"{SUN.elevation:.8f}",
            "EARTH_SUN_DISTANCE": f"{EARTH_SUN_DISTANCE:.7f}",
        },
        "PROJECTION_ATTRIBUTES": _projection(shape),
        "LEVEL1_PROCESSING_RECORD": {"LANDSAT_SCENE_ID": SCENE_ID, **contents},
        "LEVEL1_MIN_MAX_PIXEL_VALUE": limits,
        "LEVEL1_RADIOMETRIC_RESCALING": _coefficients(),
        "LEVEL1_THERMAL_CONSTANTS": {"K1_CONSTANT_BAND_10": K1, "K2_CONSTANT_BAND_10": K2},
    }
    lines = ["GROUP = LANDSAT_METADATA_FILE"]
    for name, entries in groups.items():
        lines.append(f"  GROUP = {name}")
        for key, value in entries.items():
            quoted = isinstance(value, str) and value[0].isalpha()
            lines.append(f'    {key} = "{value}"' if quoted else f"    {key} = {value}")
        lines.append(f"  END_GROUP = {name}")
    return "\n".join([*lines, "END_GROUP = LANDSAT_METADATA_FILE", "END", ""])


def _projection(shape: tuple[int, ...]) -> dict[str, Any]:
    """Projection, size and corners; the corners are centres of pixels, as the USGS has them."""
    right, bottom = UPPER_LEFT[0] + PIXEL * (shape[1] - 1), UPPER_LEFT[1] - PIXEL * (shape[0] - 1)
    corners = {"UL": UPPER_LEFT, "UR": (right, UPPER_LEFT[1]), "LL": (UPPER_LEFT[0], bottom), "LR": (right, bottom)}
    eastings, northings = zip(*corners.values(), strict=True)
    longitudes, latitudes = transform_points(_CRS, CRS.from_epsg(4326), eastings, northings)
    entries: dict[str, Any] = {
        "MAP_PROJECTION": "UTM",
        "DATUM": "WGS84",
        "ELLIPSOID": "WGS84",
        "UTM_ZONE": UTM_ZONE,
        "ORIENTATION": "NORTH_UP",
    }
    for kind in ("REFLECTIVE", "THERMAL"):
        entries |= {f"GRID_CELL_SIZE_{kind}": PIXEL, f"{kind}_LINES": shape[0], f"{kind}_SAMPLES": shape[1]}
    for name, easting, northing, longitude, latitude in zip(
        corners, eastings, northings, longitudes, latitudes, strict=True
    ):
        entries[f"CORNER_{name}_LAT_PRODUCT"] = f"{latitude:.5f}"
        entries[f"CORNER_{name}_LON_PRODUCT"] = f"{longitude:.5f}"
        entries[f"CORNER_{name}_PROJECTION_X_PRODUCT"] = f"{easting:.3f}"
        entries[f"CORNER_{name}_PROJECTION_Y_PRODUCT"] = f"{northing:.3f}"
    return entries


def _coefficients() -> dict[str, str]:
    sunlight = {number: value / EARTH_SUN_DISTANCE**2 for number, value in enumerate(SUNLIGHT, start=1)}
    radiance = {number: (REFLECTANCE_MULT * sun, REFLECTANCE_ADD * sun) for number, sun in sunlight.items()}
    radiance[10] = (RADIANCE_MULT_10, RADIANCE_ADD_10)
    reflectance = dict.fromkeys(sunlight, (REFLECTANCE_MULT, REFLECTANCE_ADD))
    entries: dict[str, str] = {}
    for quantity, table, digits in (("RADIANCE", radiance, 5), ("REFLECTANCE", reflectance, 6)):
        entries |= {f"{quantity}_MULT_BAND_{n}": f"{mult:.4E}" for n, (mult, _) in table.items()}
        entries |= {f"{quantity}_ADD_BAND_{n}": f"{add:.{digits}f}" for n, (_, add) in table.items()}
    return entries
