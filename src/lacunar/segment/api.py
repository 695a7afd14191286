"""Segment labelled arrays, and polygons of the result: the public functions of this room."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import geopandas as gpd
import numpy as np
import xarray as xr
from affine import Affine
from numpy.typing import NDArray

from lacunar.errors import LacunarError
from lacunar.geo import polygons
from lacunar.geo.labelled import ROW, AnyArray, as_labelled, dataset_on, grid_of, is_lazy, undecoded
from lacunar.geo.staging import temporary_room
from lacunar.geo.windows import Tile
from lacunar.models.backend import load_segmenter
from lacunar.models.checkpoint import SegmentationModel
from lacunar.segment.array import SEGMENTER_SAMPLES, SEGMENTER_STEPS, look_for, segment_blocks
from lacunar.segment.classes import LAND, NOT_VALID, WATER, WATER_NAME, class_numbers, flags, number_of
from lacunar.segment.fusion import THRESHOLD, FusionName, check_fusion, fuse_blocks
from lacunar.segment.job import DEFAULT_MODEL
from lacunar.sensors.bands import BANDS, RGB, recognise
from lacunar.sensors.dialects import laid_out, translated
from lacunar.sensors.plausible import ValueJudge
from lacunar.sensors.scene import Planes, planes_of, sample_planes, scale_of


class SegmentedArrays(NamedTuple):
    """What `segment` gives for a numpy array; ``class_``: see there."""

    class_: NDArray[np.uint8]
    probability: NDArray[np.float32]
    disagreement: NDArray[np.float32]


def segment(
    image: AnyArray,
    *,
    bands: Sequence[str] = (),
    model: str | Path | SegmentationModel = DEFAULT_MODEL,
    samples: int = SEGMENTER_SAMPLES,
    steps: int = SEGMENTER_STEPS,
    fusion: FusionName = "mean",
    threshold: float = THRESHOLD,
    seed: int = 0,
) -> xr.Dataset | SegmentedArrays:
    """Find the water in an image.

    Parameters
    ----------
    image
        (band, y, x), or a picture (y, x, 3) in numpy: reflectance of 0 to 1 or times 10,000, or 8 bits.
        NaN = not valid. Dask arrays are read block by block.
    bands
        What the bands are, in their order, from blue, green, red, nir, swir1, swir2, and coastal or other, which are
        left out; as tools write them (B02, nir08), or one of sentinel2, landsat, planet4, planet8, naip. By default the
        coordinate ``band`` of a DataArray; three bands are red, green, blue.
    model
        A shipped model's name, a model folder, or what `lacunar.load_model` gave (on its device).
    samples, steps, seed
        Samples of the mask that are fused, network evaluations of each, and the seed of their noise.
    fusion, threshold
        ``mean`` of the samples, or ``staple``; and the probability from which a pixel is water.

    Returns
    -------
    xarray.Dataset or SegmentedArrays
        ``class`` (0 land, 1 water, 255 not valid, and from 2 on what else the model knows, such as cloud: its
        attributes ``flag_values`` and ``flag_meanings`` say), ``probability`` of water and ``disagreement`` (standard
        deviation of the samples), on the coordinates of the image. For a numpy array a named tuple of arrays.

    Raises
    ------
    LacunarError
        Bands that nobody named, values that may be raw digital numbers, no valid pixel, or options out of range.

    References
    ----------
    Wu et al. 2023 (MedSegDiff-V2, arXiv 2301.11798); Warfield, Zou & Wells 2004 (STAPLE).

    Examples
    --------
    >>> import numpy as np, lacunar as lc
    >>> picture = np.full((64, 64, 3), 150, dtype=np.uint8)
    >>> picture[16:48, 16:48] = 20, 40, 60
    >>> found = lc.segment(picture, samples=1, steps=1)
    >>> found.probability.shape, sorted(set(found.class_.ravel().tolist()) - set(range(5)))
    ((64, 64), [])
    """
    check_fusion(fusion, samples=samples, threshold=threshold)
    given = _planes_first(image)
    shape = (given.shape[1], given.shape[2])
    names = _names(given, bands)
    _refuse_fills(given)

    def planes(window: Tile) -> Planes:
        return planes_of(np.asarray(given.data[:, *window.slices], dtype=np.float32), names)

    sample = sample_planes(planes, shape, "the image")
    dtype = str(np.asarray(image[:0]).dtype) if undecoded(image) else "float32"
    is_picture = ROW not in given.coords and given.shape[0] in (1, len(RGB))
    encoding = recognise(sample[~np.isnan(sample).all(axis=1)], dtype=dtype, picture=is_picture, name="the image")
    scale = np.float32(scale_of(sample))
    network = model if isinstance(model, SegmentationModel) else load_segmenter(model)
    classes = network.network.spec.classes
    blocks = segment_blocks(
        lambda window: planes(window) / scale,
        shape,
        network,
        look=look_for([name for name in names if name in BANDS], encoding.meaning),
        steps=steps,
        samples=samples,
        seed=seed,
    )
    class_ = np.empty(shape, dtype=np.uint8)
    probability, disagreement = np.empty((2, *shape), dtype=np.float32)
    with temporary_room("fusion") as room:
        fused = fuse_blocks(blocks, method=fusion, threshold=threshold, folder=room.path, classes=classes)
        for block in fused:
            cut = block.window.slices
            class_[cut], probability[cut], disagreement[cut] = block.classes, block.probability, block.disagreement
    if not isinstance(image, xr.DataArray):
        return SegmentedArrays(class_, probability, disagreement)
    variables = {
        "class": (class_, flags(class_numbers(classes))),
        "probability": (probability, {"long_name": "probability of water"}),
        "disagreement": (disagreement, {"long_name": "standard deviation of the samples"}),
    }
    return dataset_on(given, variables, {"model": network.name, "threshold": threshold})


def polygonize(
    found: xr.Dataset | SegmentedArrays, *, of: str | int = WATER_NAME, min_area: float = 0.0
) -> gpd.GeoDataFrame:
    """Water bodies, or those of another class, as polygons with their area on the ellipsoid.

    Parameters
    ----------
    found
        What `segment` gave. A CRS that does not lead to longitude and latitude is a ``LacunarError``.
    of
        Name or number of a class; of a tuple of arrays, where others than land and water have no names, its number.
    min_area
        Least area, in square metres; in pixels without a CRS.

    Returns
    -------
    geopandas.GeoDataFrame
        One MultiPolygon per body, the largest first: ``id``, ``area_m2``, ``perimeter_m`` (``area_pixels`` and
        ``perimeter_pixels`` without a CRS) and, of water, ``mean_probability``.

    Examples
    --------
    >>> import numpy as np, lacunar as lc
    >>> from lacunar.segment.api import SegmentedArrays
    >>> water = np.array([[1, 1, 0], [0, 0, 0], [0, 0, 1]], dtype=np.uint8)
    >>> sure = np.where(water == 1, 0.9, 0.1)
    >>> lc.polygonize(SegmentedArrays(water, sure, 0 * sure))["area_pixels"].tolist()
    [2.0, 1.0]
    """
    if isinstance(found, SegmentedArrays):
        transform, crs, (class_, probability, _) = Affine.identity(), None, found
        known = {"land": LAND, "water": WATER}
        said = flags(known | ({str(of): of} if isinstance(of, int) and WATER < of < NOT_VALID else {}))
    else:
        grid = grid_of(found["class"])
        transform, crs, said = grid.transform, grid.crs, found["class"].attrs
        class_, probability = found["class"].values, found["probability"].values
    said = said if "flag_meanings" in said else flags({"land": LAND, "water": WATER})
    number = number_of(of, said["flag_meanings"], said["flag_values"])

    def read(window: Tile) -> NDArray[np.floating[Any]]:
        return np.asarray(probability[window.slices])

    means = {"mean_probability": read} if number == WATER else {}
    bodies = polygons.polygonize(np.asarray(class_ == number), transform, crs, means=means)
    return bodies[bodies[polygons.area_column(crs)] >= min_area].reset_index(drop=True)


def _planes_first(image: AnyArray) -> xr.DataArray:
    """An image as (band, y, x); the last axis of a numpy picture becomes the first."""
    if not isinstance(image, xr.DataArray):
        image = np.asarray(image)
        if image.ndim == 3 and image.shape[-1] == len(RGB) and image.shape[0] > len(RGB):
            image = np.moveaxis(image, -1, 0)
    given = as_labelled(image, name="the image")
    if given.ndim == 2:
        given = given.expand_dims("band")
    if given.ndim != 3:
        raise LacunarError(f"the image has the dimensions {given.dims}: wanted (band, y, x), or a picture (y, x, 3)")
    return given


def _refuse_fills(given: xr.DataArray) -> None:
    """Refuse numbers that stand for nothing measured; of a lazy array none is looked at before."""
    for band in () if is_lazy(given) else given.values:
        finite = band[np.isfinite(band)]
        for reason, where in ValueJudge.of_light(finite).faults(finite).items():
            raise LacunarError(f"the image: {where.sum()} values {reason}; wanted NaN where not valid")


def _names(given: xr.DataArray, bands: Sequence[str]) -> tuple[str, ...]:
    count, first = given.shape[0], given.dims[0]
    if not bands and first in given.coords and given[first].dtype.kind in "UOT":
        bands = [str(name) for name in given[first].values]
    if not bands and count == len(RGB):
        bands = RGB
    bands = laid_out([bands] if isinstance(bands, str) else bands, (count,))
    if len(bands) != count:
        raise LacunarError(
            f"the image has {count} bands and {len(bands)} names: wanted one name for each in `bands`, such as "
            "blue, green, red, nir, or a coordinate `band` of names"
        )
    return translated(bands) or tuple(bands)
