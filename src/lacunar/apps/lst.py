"""The story of LST: a Landsat product, or any raster with gaps, becomes a filled raster with its uncertainty."""

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS

import lacunar
from lacunar import radiometry
from lacunar.checkpoint import Model, load_model
from lacunar.errors import LacunarError, RasterError
from lacunar.figures import lst_figure, save_figure
from lacunar.filling import PresetName, preset_named
from lacunar.interpolation import fill
from lacunar.landsat import GAP_CLASSES, Product, QaClass, open_product
from lacunar.metrics import bias, mae, rmse
from lacunar.radiometry import Atmosphere, ReflectanceForm
from lacunar.raster import RasterSource, RasterWriter, open_raster, same_grid
from lacunar.streaming import FilledBlock, Gappy, Survey, fill_blocks, survey
from lacunar.tiling import Tile, blocks_over

logger = logging.getLogger(__name__)

DEFAULT_MODEL = "lst-small"
THUMBNAIL_SIDE = 1200  # pixels on the longer side of what a figure shows
PLAUSIBLE_LST = (150.0, 400.0)  # K: beyond this a land surface temperature is a fault, not a measurement

Callback = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class FillOptions:
    """How gaps are filled and what is written besides the raster.

    Parameters
    ----------
    model
        A shipped model's name or a model folder.
    preset, samples, seed, device
        How samples are drawn, how many, the seed, and where the network runs.
    overwrite
        Replace outputs that exist.
    figure
        PNG to draw, or None.
    truth
        Raster of true values to score the fill against, or None.
    command
        What the user typed, for the record.
    """

    model: str = DEFAULT_MODEL
    preset: PresetName = "fast"
    samples: int = 8
    seed: int = 0
    device: str = "cpu"
    overwrite: bool = False
    figure: Path | None = None
    truth: Path | None = None
    command: str = ""


@dataclass(frozen=True, kw_only=True)
class LstOptions:
    """How LST is computed from a product, and which pixels count as gap.

    Parameters
    ----------
    gap_classes
        Quality classes that are filled.
    soil_l
        L of SAVI, 0.5 by default.
    reflectance
        ``usgs``, or ``dr`` for the variant that divides by dr = 1/d^2 once more.
    atmosphere
        Path radiance, transmissivity and sky radiance; None leaves LST without atmospheric correction.
    """

    gap_classes: Sequence[QaClass] = GAP_CLASSES
    soil_l: float = 0.5
    reflectance: ReflectanceForm = "usgs"
    atmosphere: Atmosphere | None = None


class GapSource(Protocol):
    """What can be filled: a grid, windows of values with gaps, and what is to be recorded of it."""

    shape: tuple[int, int]
    transform: Affine
    crs: CRS | None
    quantity: str
    units: str

    def read(self, window: Tile) -> Gappy:
        """Values, measured pixels and gap of a window."""

    def record(self) -> dict[str, Any]:
        """What the sidecar says about the source."""


def fill_lst(
    product_path: Path,
    output: Path,
    *,
    lst_options: LstOptions | None = None,
    gap_mask: Path | None = None,
    bands_folder: Path | None = None,
    options: FillOptions | None = None,
    callback: Callback | None = None,
) -> dict[str, Any]:
    """Compute LST from a Landsat product and fill its gaps.

    Parameters
    ----------
    product_path
        A product folder or .tar, Level 1 (SEBAL) or Level 2 (``ST_B10``).
    output
        GeoTIFF with the bands ``lst`` (K), ``source`` (0 nodata, 1 measured, 2 filled) and ``sigma`` (K, one standard
        deviation; 0 where measured). What is filled is the clear-sky-equivalent LST.
    lst_options, gap_mask, bands_folder, options
        The physics and the gap classes; a raster whose non-zero pixels are to be filled too; a folder for every
        intermediate band; how gaps are filled.
    callback
        Called with (done, all).

    Returns
    -------
    dict
        The record that is also written beside the output as JSON.

    Raises
    ------
    LacunarError
        Bad input; nothing is written then.
    """
    lst_options, options = lst_options or LstOptions(), options or FillOptions()
    with ExitStack() as stack:
        mask = stack.enter_context(open_raster(gap_mask)) if gap_mask else None
        source = ProductGaps(open_product(product_path), lst_options, mask)
        record = _fill(source, output, options, callback)
        if bands_folder is not None:
            save_bands(source.product, bands_folder, lst_options, overwrite=options.overwrite)
    return record


def fill_raster(
    raster_path: Path,
    output: Path,
    *,
    gap_mask: Path | None = None,
    options: FillOptions | None = None,
    callback: Callback | None = None,
) -> dict[str, Any]:
    """Fill the gaps of any single-band raster: nodata, NaN, and what ``gap_mask`` names.

    Parameters and errors are those of `fill_lst`; the bands are ``value``, ``source`` and ``sigma`` in the raster's own
    units. With a gap mask, only what it names is filled and other nodata stays nodata.
    """
    with ExitStack() as stack:
        mask = stack.enter_context(open_raster(gap_mask)) if gap_mask else None
        source = RasterGaps(stack.enter_context(open_raster(raster_path)), mask)
        return _fill(source, output, options or FillOptions(), callback)


def compute_lst(product: Product, options: LstOptions, *, window: Tile | None = None) -> dict[str, NDArray[np.float64]]:
    """Every step from digital numbers to LST (SEBAL, METHOD of Bastiaanssen 1998 and the 2002 Idaho manual).

    Parameters
    ----------
    product
        Level 1 or 2; of Level 2 only ``lst`` is given, from its ``ST_B10``.
    options
        L of SAVI, form of the reflectance, atmosphere.
    window
        Part of the product.

    Returns
    -------
    dict
        Name -> (rows, columns): ``radiance``, ``reflectance_b4``, ``reflectance_b5``, ``ndvi``, ``savi``, ``lai``,
        ``emissivity_nb``, ``emissivity_0``, ``brightness_temperature`` (K) and ``lst`` (K); NaN where fill.
    """
    if product.level == 2:
        mult, add = product.coefficients("TEMPERATURE", "ST_B10")
        dn = product.read("ST_B10", window=window)
        return {"lst": radiometry.surface_temperature_from_level2(dn, mult=mult, add=add)}
    radiance = radiometry.radiance(product.read("B10", window=window), **_pair(product, "RADIANCE", "B10"))
    red, nir = (_reflectance(product, band, options, window) for band in ("B4", "B5"))
    ndvi, savi = radiometry.ndvi(red, nir), radiometry.savi(red, nir, soil_l=options.soil_l)
    lai = radiometry.lai(savi)
    albedo = _albedo(product, options, window)
    emissivity_nb = radiometry.emissivity(ndvi, lai, albedo=albedo)
    k1, k2 = (product.constants[f"{name}_CONSTANT_BAND_10"] for name in ("K1", "K2"))
    return {
        "radiance": radiance,
        "reflectance_b4": red,
        "reflectance_b5": nir,
        "ndvi": ndvi,
        "savi": savi,
        "lai": lai,
        "emissivity_nb": emissivity_nb,
        "emissivity_0": radiometry.emissivity(ndvi, lai, kind="broad_band", albedo=albedo),
        "brightness_temperature": radiometry.brightness_temperature(radiance, k1=k1, k2=k2),
        "lst": radiometry.lst(radiance, emissivity_nb, k1=k1, k2=k2, atmosphere=options.atmosphere),
    }


def _pair(product: Product, quantity: Any, band: str) -> dict[str, float]:
    """Multiplier and addend of a band as keyword arguments."""
    mult, add = product.coefficients(quantity, band)
    return {"mult": mult, "add": add}


def _reflectance(product: Product, band: str, options: LstOptions, window: Tile | None) -> NDArray[np.float64]:
    """Top-of-atmosphere reflectance of a band."""
    return radiometry.toa_reflectance(
        product.read(band, window=window),
        **_pair(product, "REFLECTANCE", band),
        sun_elevation=product.constants["SUN_ELEVATION"],
        form=options.reflectance,
        earth_sun_distance=product.mtl.optional("EARTH_SUN_DISTANCE"),
    )


def _albedo(product: Product, options: LstOptions, window: Tile | None) -> NDArray[np.float64] | None:
    """Surface albedo where the product has the bands for it; it only tells snow from water."""
    weights = product.albedo_weights()
    if not weights:
        return None
    bands = [_reflectance(product, band, options, window) for band in weights]
    return radiometry.surface_albedo(bands, list(weights.values()))


@dataclass
class ProductGaps:
    """LST of a product, with the gaps that its quality band and a gap mask name."""

    product: Product
    options: LstOptions
    mask: RasterSource | None = None
    quantity: str = field(default="lst", init=False)
    units: str = field(default="K", init=False)

    def __post_init__(self) -> None:
        """Refuse a product whose gaps nothing tells, and a mask on another grid."""
        self.shape, self.transform, self.crs = self.product.shape, self.product.transform, self.product.crs
        if self.mask is None and not self.product.has_qa:
            raise LacunarError(
                f"{self.product.mtl.product_id} has no quality band (QA_PIXEL or BQA) and no gap mask was given: "
                "name the gaps with --gap-mask RASTER (non-zero = to be filled)"
            )
        _require_grid(self.mask, self)

    def read(self, window: Tile) -> Gappy:
        """LST in float32, so that a written pixel is the computed one."""
        lst = compute_lst(self.product, self.options, window=window)["lst"].astype(np.float32)
        footprint = self.product.read(self.product.thermal_band, window=window) > 0
        if self.product.level == 1:
            for band in ("B4", "B5"):
                footprint &= self.product.read(band, window=window) > 0
        plausible = np.isfinite(lst) & (lst > PLAUSIBLE_LST[0]) & (lst < PLAUSIBLE_LST[1])
        gap = ~plausible | self.product.saturated(self.product.thermal_band, window=window)
        if self.product.has_qa:
            gap |= self.product.qa_flags(list(self.options.gap_classes), window=window)
        if self.mask is not None:
            gap |= _masked(self.mask, window)
        return Gappy(lst, footprint & ~gap, footprint & gap)

    def record(self) -> dict[str, Any]:
        """Product, constants and physics."""
        corrected = self.product.level == 2 or self.options.atmosphere is not None
        return {
            "product": self.product.metadata,
            "gap_classes": list(self.options.gap_classes) if self.product.has_qa else [],
            "gap_mask": str(self.mask.path) if self.mask else None,
            "savi_l": self.options.soil_l,
            "reflectance": self.options.reflectance,
            "atmospherically_corrected": corrected,
            "meaning": "filled pixels hold the clear-sky-equivalent LST",
        }


@dataclass
class RasterGaps:
    """A single-band raster whose gaps are its nodata, or what a gap mask names."""

    raster: RasterSource
    mask: RasterSource | None = None
    quantity: str = field(default="value", init=False)

    def __post_init__(self) -> None:
        """Refuse several bands and a mask on another grid."""
        if self.raster.count != 1:
            raise RasterError(
                f"{self.raster.path} has {self.raster.count} bands: wanted one; extract it first (rio stack --bidx)"
            )
        self.shape, self.transform, self.crs = self.raster.shape, self.raster.transform, self.raster.crs
        self.units = self.raster.units[0]
        _require_grid(self.mask, self)

    def read(self, window: Tile) -> Gappy:
        """Values, what is measured, and what is to be filled."""
        part = self.raster.read(window)
        known = part.known[0]
        if self.mask is None:
            return Gappy(part.data[0], known, ~known)
        gap = _masked(self.mask, window)
        return Gappy(part.data[0], known & ~gap, gap)

    def record(self) -> dict[str, Any]:
        """The file."""
        return {"raster": str(self.raster.path), "gap_mask": str(self.mask.path) if self.mask else None}


def _masked(mask: RasterSource, window: Tile) -> NDArray[np.bool_]:
    """Non-zero pixels of a gap mask; its own nodata names no gap."""
    part = mask.read(window, bands=[1])
    return np.asarray(part.known[0] & (np.nan_to_num(part.data[0]) != 0))


def _require_grid(mask: RasterSource | None, source: Any) -> None:
    """Refuse a gap mask that is not on the grid of what it masks."""
    if mask is not None and not same_grid(mask, source):
        raise RasterError(
            f"gap mask {mask.path} ({mask.shape[0]} x {mask.shape[1]} pixels, {mask.crs}) is not on the grid of the input "
            f"({source.shape[0]} x {source.shape[1]} pixels, {source.crs}): warp it with gdalwarp or rio warp --like"
        )


def _fill(source: GapSource, output: Path, options: FillOptions, callback: Callback | None) -> dict[str, Any]:
    """Survey, fill block by block, write, and record."""
    begun = time.perf_counter()
    sidecar = output.with_suffix(".json")
    refuse_existing([output, sidecar, options.figure], overwrite=options.overwrite)
    preset, model = preset_named(options.preset), load_model(options.model, device=options.device)
    if options.samples < 1:
        raise LacunarError(f"{options.samples} samples: wanted 1 or more (8 gives a mean and a sigma)")
    found = survey(source.read, source.shape)
    truth = _Truth(source, options.truth)
    picture, tiles, coarse_tiles = _Thumbnails(source.shape), 0, 0
    names = (source.quantity, "source", "sigma")
    tags = {"source_values": "0 nodata, 1 measured, 2 filled", "sigma": "one standard deviation of a filled pixel"}
    with RasterWriter(
        output,
        shape=source.shape,
        transform=source.transform,
        crs=source.crs,
        band_names=names,
        units=(source.units, "", source.units),
        tags=tags,
        overwrite=options.overwrite,
    ) as writer:
        for block in fill_blocks(
            source.read,
            source.shape,
            found.coarse,
            model,
            preset=preset,
            samples=options.samples,
            seed=options.seed,
            callback=callback,
        ):
            writer.write(block.bands, block.window)
            picture.add(block)
            truth.add(block)
            tiles, coarse_tiles = tiles + block.tiles, coarse_tiles + block.coarse_tiles
    record = _record(source, output, options, model, found, time.perf_counter() - begun)
    record["tiles"], record["tiles_from_coarser_level"] = tiles, coarse_tiles
    record["network_evaluations"] = {"per_sample": preset.evaluations, "tiles_x_samples": tiles * options.samples}
    record |= truth.scores()
    _write_text(sidecar, json.dumps(record, indent=2, default=str) + "\n")
    if options.figure is not None:
        save_figure(picture.draw(truth.thumbnail(picture.step)), options.figure)
    return record


def _record(
    source: GapSource, output: Path, options: FillOptions, model: Model, found: Survey, seconds: float
) -> dict[str, Any]:
    """What the sidecar says: input, counts, options, model, time, versions and command."""
    import rasterio
    import torch

    total = found.measured + found.gap
    return {
        **source.record(),
        "output": str(output),
        "pixels": {"measured": found.measured, "filled": found.gap, "nodata": found.nodata},
        "gap_share": round(found.gap / total, 6),
        "preset": options.preset,
        "samples": options.samples,
        "seed": options.seed,
        "device": options.device,
        "model": {"name": model.name, "sha256": model.card.sha256},
        "seconds": round(seconds, 2),
        "versions": {
            "lacunar": lacunar.__version__,
            "python": sys.version.split()[0],
            "torch": torch.__version__,
            "rasterio": rasterio.__version__,
            "numpy": np.__version__,
        },
        "command": options.command,
    }


def refuse_existing(paths: Sequence[Path | None], *, overwrite: bool) -> None:
    """Raise where an output exists and may not be replaced, before any work is done."""
    for path in paths:
        if path is not None and path.exists() and not overwrite:
            raise RasterError(f"{path} exists: give --overwrite to replace it, or another name")


def _write_text(path: Path, text: str) -> None:
    """Write a small file through a temporary name."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise RasterError(f"{path}: cannot be written ({error.strerror}); wanted a folder with free space") from error


def save_bands(product: Product, folder: Path, options: LstOptions, *, overwrite: bool = False) -> list[Path]:
    """Write every intermediate of `compute_lst` as ``NAME.tif`` into a folder; returns the files."""
    units = {"radiance": "W m-2 sr-1 um-1", "brightness_temperature": "K", "lst": "K", "lai": "m2 m-2"}
    folder.mkdir(parents=True, exist_ok=True)
    first = compute_lst(product, options, window=Tile(0, 0, 1, 1))
    paths = [folder / f"{name}.tif" for name in first]
    refuse_existing(paths, overwrite=overwrite)
    with ExitStack() as stack:
        writers = [
            stack.enter_context(
                RasterWriter(
                    path,
                    shape=product.shape,
                    transform=product.transform,
                    crs=product.crs,
                    band_names=(path.stem,),
                    units=(units.get(path.stem, ""),),
                    overwrite=overwrite,
                )
            )
            for path in paths
        ]
        for block in blocks_over(product.shape, block=1024, halo=0):
            bands = compute_lst(product, options, window=block.core)
            for writer, band in zip(writers, bands.values(), strict=True):
                writer.write(band[None], block.core)
    return paths
