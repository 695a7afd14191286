"""The story of LST: a Landsat product, or any raster with gaps, becomes a filled raster with its uncertainty."""

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

import lacunar
from lacunar.checkpoint import Model, load_model
from lacunar.errors import LacunarError, RasterError
from lacunar.figures import lst_figure, save_figure
from lacunar.filling import PresetName, preset_named
from lacunar.gaps import GapSource, LstOptions, ProductGaps, RasterGaps, compute_lst
from lacunar.interpolation import FillName, fill
from lacunar.landsat import Product, open_product
from lacunar.metrics import bias, mae, rmse
from lacunar.raster import RasterWriter, check_same_grid, open_raster, read_raster
from lacunar.simulation import remove_simulated, simulate_product
from lacunar.streaming import FILLED, FilledBlock, Survey, fill_blocks, survey
from lacunar.tiling import Tile, blocks_over

logger = logging.getLogger(__name__)

DEFAULT_MODEL = "lst-small"
THUMBNAIL_SIDE = 1200  # pixels on the longer side of what a figure shows

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
            true_values = truth.add(block)
            if options.figure is not None:
                before = source.read(block.window).values if true_values is None else true_values
                picture.add(block, before)
            tiles, coarse_tiles = tiles + block.tiles, coarse_tiles + block.coarse_tiles
    record = _record(source, output, options, model, found, time.perf_counter() - begun)
    record["tiles"], record["tiles_from_coarser_level"] = tiles, coarse_tiles
    record["network_evaluations"] = {"per_sample": preset.evaluations, "tiles_x_samples": tiles * options.samples}
    record |= truth.scores()
    _write_text(sidecar, json.dumps(record, indent=2, default=str) + "\n")
    if options.figure is not None:
        save_figure(picture.draw(source.name, has_truth=options.truth is not None), options.figure)
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


def demonstrate(
    folder: Path, *, options: FillOptions, size: int = 256, callback: Callback | None = None
) -> dict[str, Any]:
    """Simulate a cloudy Landsat product, fill it, and score the fill and classical ones against the hidden truth.

    Parameters
    ----------
    folder
        Receives ``product/``, ``lst_filled.tif`` with its sidecar, and ``lst_filled.png``.
    options
        How gaps are filled; its figure and truth are set here.
    size
        Side of the product in pixels.
    callback
        Called with (done, all).

    Returns
    -------
    dict
        ``record`` (see `fill_lst`), ``rmse`` (method -> gap RMSE in kelvin), ``output`` and ``figure``.
    """
    if options.overwrite:
        remove_simulated(folder / "product")
    folder.mkdir(parents=True, exist_ok=True)
    output, figure = folder / "lst_filled.tif", folder / "lst_filled.png"
    simulated = simulate_product(folder / "product", size=size, seed=options.seed)
    options = replace(options, truth=simulated.truth_path, figure=figure)
    record = fill_lst(simulated.folder, output, options=options, callback=callback)
    source = ProductGaps(open_product(simulated.folder), LstOptions())
    whole = source.read(Tile(0, 0, *source.shape))
    truth = read_raster(simulated.truth_path).data[0]
    scores = {"lacunar": record["truth"]["rmse"]}
    baselines: tuple[FillName, ...] = ("idw", "laplace", "nearest", "mean")
    for name in baselines:
        scores[name] = rmse(fill(name, whole.values, whole.known), truth, region=whole.gap)
    return {"record": record, "rmse": scores, "output": output, "figure": figure}


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


class _Truth:
    """Scores of the filled pixels against a raster of true values, block by block; nothing where there is none."""

    def __init__(self, source: GapSource, path: Path | None) -> None:
        self.raster = open_raster(path) if path else None
        if self.raster is not None:
            check_same_grid(source, self.raster, names=("the input", f"the truth {path}"))
        self.errors: list[NDArray[np.float32]] = []
        self.within = 0

    def add(self, block: FilledBlock) -> NDArray[np.float32] | None:
        """Take the errors of a block; returns its true values."""
        if self.raster is None:
            return None
        part = self.raster.read(block.window, bands=[1])
        scored = (block.source == FILLED) & part.known[0]
        error = block.value[scored] - part.data[0][scored]
        self.errors.append(error)
        self.within += int((np.abs(error) <= block.sigma[scored]).sum())
        values: NDArray[np.float32] = part.data[0]
        return values

    def scores(self) -> dict[str, Any]:
        """RMSE, MAE and bias over the filled pixels with a true value, and how many lie within one sigma of it."""
        error = np.concatenate(self.errors) if self.errors else np.empty(0, dtype=np.float32)
        if error.size == 0:
            return {}
        zero = np.zeros_like(error)
        return {
            "truth": {
                "pixels": int(error.size),
                "rmse": round(rmse(error, zero), 4),
                "mae": round(mae(error, zero), 4),
                "bias": round(bias(error, zero), 4),
                "within_one_sigma": round(self.within / error.size, 4),
            }
        }


class _Thumbnails:
    """Every n-th pixel of the result, for a figure of a raster of any size."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.step = -(-max(shape) // THUMBNAIL_SIDE)
        small = tuple(-(-length // self.step) for length in shape)
        self.before, self.value, self.sigma = (np.full(small, np.nan, dtype=np.float32) for _ in range(3))
        self.source = np.zeros(small, dtype=np.uint8)

    def add(self, block: FilledBlock, before: NDArray[np.floating]) -> None:
        """Take the pixels of a block, and of what it was filled from, that lie on the grid of every n-th."""
        start = (block.window.row, block.window.col)
        grid = tuple(slice(-first % self.step, None, self.step) for first in start)
        place = tuple(
            slice(-(-first // self.step), -(-(first + length) // self.step))
            for first, length in zip(start, block.window.shape, strict=True)
        )
        self.before[place], self.value[place] = before[grid], block.value[grid]
        self.sigma[place], self.source[place] = block.sigma[grid], block.source[grid]

    def draw(self, title: str, *, has_truth: bool) -> Figure:
        """The paper's Figure 4 from what was gathered."""
        gap, truth = self.source == FILLED, self.before if has_truth else None
        return lst_figure(self.before, self.value, gap, truth=truth, sigma=self.sigma, title=title)
