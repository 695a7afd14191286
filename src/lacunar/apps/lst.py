"""The story of LST: a Landsat product, or any raster with gaps, becomes a filled raster with its uncertainty."""

import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import lacunar
from lacunar.checkpoint import Model, load_model
from lacunar.errors import RasterError
from lacunar.fill_options import FillOptions as FillOptions
from lacunar.filling import preset_named
from lacunar.gaps import GapSource, LstOptions, ProductGaps, RasterGaps, compute_lst
from lacunar.interpolation import FillName, fill
from lacunar.landsat import Product, open_product
from lacunar.metrics import rmse
from lacunar.outputs import Staging, write_text
from lacunar.raster import RasterWriter, open_raster, read_raster
from lacunar.references import References, open_references
from lacunar.simulation import SimulatedProduct, remove_simulated, simulate_product
from lacunar.streaming import Survey, fill_blocks, survey
from lacunar.tally import Evaluations, Picture, Truth
from lacunar.tiling import Tile, blocks_over

BAND_UNITS = {"radiance": "W m-2 sr-1 um-1", "brightness_temperature": "K", "lst": "K", "lai": "m2 m-2"}

Callback = Callable[[int, int], None]


def fill_lst(
    product_path: Path,
    output: Path,
    *,
    lst_options: LstOptions | None = None,
    gap_mask: Path | None = None,
    bands_folder: Path | None = None,
    references: Sequence[Path] = (),
    covariates: Sequence[Path] = (),
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
        deviation; 0 where measured), and what quantiles are wanted. What is filled is the clear-sky-equivalent LST.
    lst_options, gap_mask, bands_folder, options
        The physics and the gap classes; a raster whose non-zero pixels are to be filled too; a folder for every
        intermediate band; how gaps are filled.
    references, covariates
        Other dates of the same place (products or rasters in kelvin), and static rasters such as an elevation model,
        which guide the fill; on any grid, with their own gaps. `lacunar.references.open_references` says more.
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
    options = options or FillOptions()
    with ExitStack() as stack:
        mask = stack.enter_context(open_raster(gap_mask)) if gap_mask else None
        source = ProductGaps(open_product(product_path), lst_options or LstOptions(), mask)
        beside = stack.enter_context(open_references(references, covariates, source, source.options))
        bands = _Bands(source.product, source.options, bands_folder) if bands_folder else None
        return _fill(source, beside, output, options, callback, bands)


def fill_raster(
    raster_path: Path,
    output: Path,
    *,
    gap_mask: Path | None = None,
    references: Sequence[Path] = (),
    covariates: Sequence[Path] = (),
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
        beside = stack.enter_context(open_references(references, covariates, source))
        return _fill(source, beside, output, options or FillOptions(), callback)


def _fill(
    source: GapSource,
    beside: References,
    output: Path,
    options: FillOptions,
    callback: Callback | None,
    bands: "_Bands | None" = None,
) -> dict[str, Any]:
    """Check, survey, fill block by block and record; no output takes its name before all of them are whole."""
    begun = time.perf_counter()
    inputs = [*source.inputs, *beside.inputs, *([options.truth] if options.truth else [])]
    read_beside = beside.read if beside else None
    with Staging(overwrite=options.overwrite, inputs=inputs) as staging, Truth(source, options.truth) as truth:
        bands_out = 3 + len(options.quantiles)
        writer = _writer(
            source, staging.stage(output, size=bands_out * _bytes_of_band(source.shape)), options.quantiles
        )
        sidecar = staging.stage(output.with_suffix(".json"))
        shown = staging.stage(options.figure) if options.figure else None
        picture = Picture(source, shown, has_truth=options.truth is not None) if shown else None
        if bands is not None:
            bands.stage(staging)
        preset, model = preset_named(options.preset), load_model(options.model, device=options.device)
        if bands is not None:
            bands.write()
        with writer, Evaluations(model) as evaluations:
            found, tiles, coarse_tiles = survey(source.read, source.shape, read_beside), 0, 0
            beside.check(found.references)
            for block in fill_blocks(
                source.read,
                source.shape,
                found.coarse,
                model,
                preset=preset,
                samples=options.samples,
                seed=options.seed,
                quantiles=options.quantiles,
                references=read_beside,
                coarse_references=[part.coarse for part in found.references],
                callback=callback,
            ):
                writer.write(block.bands, block.window)
                true_values = truth.add(block)
                if picture is not None:
                    picture.add(block, true_values)
                tiles, coarse_tiles = tiles + block.tiles, coarse_tiles + block.coarse_tiles
        record = _record(source, output, options, model, found, time.perf_counter() - begun)
        record["network_tiles"], record["kriging_tiles_from_coarser_level"] = tiles, coarse_tiles
        record["network_evaluations"] = {"per_sample_and_tile": preset.evaluations, "all": evaluations.count}
        record |= beside.record(found.references) | truth.scores()
        write_text(sidecar, json.dumps(record, indent=2, default=str) + "\n")
        if picture is not None:
            picture.draw()
    return record


def _writer(source: GapSource, path: Path, quantiles: Sequence[float]) -> RasterWriter:
    """What the filled raster is written by."""
    return RasterWriter(
        path,
        shape=source.shape,
        transform=source.transform,
        crs=source.crs,
        band_names=(source.quantity, "source", "sigma", *(f"quantile_{level:g}" for level in quantiles)),
        units=(source.units, "", source.units, *[source.units] * len(quantiles)),
        tags={"source_values": "0 nodata, 1 measured, 2 filled", "sigma": "one standard deviation of a filled pixel"},
    )


def _bytes_of_band(shape: tuple[int, int]) -> int:
    """Bytes of one float32 band, uncompressed as it is written first."""
    return np.dtype(np.float32).itemsize * math.prod(shape)


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
        "quantiles": list(options.quantiles),
        "seed": options.seed,
        "device": options.device,
        "model": {"name": model.name, "sha256": model.card.sha256, "sigma_factor": model.card.sigma_factor},
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

    Raises
    ------
    LacunarError
        A model, size or folder that does not serve, or results that exist and may not be replaced.
    """
    load_model(options.model)  # refused before anything is written
    output, figure = folder / "lst_filled.tif", folder / "lst_filled.png"
    for path in (folder / "product", output, figure, output.with_suffix(".json")):
        if path.exists() and not options.overwrite:
            raise RasterError(f"{path} exists, wanted a new demo folder: choose another, or give --overwrite")
    simulated = _simulate_anew(folder / "product", size=size, seed=options.seed)
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


def _simulate_anew(folder: Path, *, size: int, seed: int) -> SimulatedProduct:
    """Simulate beside the product that is there, which goes only when the new one is whole."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", suffix=".partial", dir=folder.parent) as hidden:
            made = simulate_product(Path(hidden) / folder.name, size=size, seed=seed)
            remove_simulated(folder)
            made.folder.replace(folder)
    except OSError as error:
        raise RasterError(f"{folder} cannot be written ({error.strerror}): choose another place") from error
    return replace(made, folder=folder, truth_path=folder / made.truth_path.name)


def save_bands(product: Product, folder: Path, options: LstOptions, *, overwrite: bool = False) -> list[Path]:
    """Write every intermediate of `compute_lst` as ``NAME.tif`` into a folder; returns the files.

    Raises
    ------
    LacunarError
        A file that exists and may not be replaced, or a folder that cannot be written; nothing is written then.
    """
    bands = _Bands(product, options, folder)
    with Staging(overwrite=overwrite) as staging:
        bands.stage(staging)
        bands.write()
    return bands.targets


class _Bands:
    """The intermediates of LST, each of which becomes a file."""

    def __init__(self, product: Product, options: LstOptions, folder: Path) -> None:
        self.product, self.options = product, options
        names = compute_lst(product, options, window=Tile(0, 0, 1, 1))
        self.targets = [folder / f"{name}.tif" for name in names]

    def stage(self, staging: Staging) -> None:
        """Check the files before any work is done."""
        self.writers = [
            RasterWriter(
                staging.stage(path, size=_bytes_of_band(self.product.shape), make_folder=True),
                shape=self.product.shape,
                transform=self.product.transform,
                crs=self.product.crs,
                band_names=(path.stem,),
                units=(BAND_UNITS.get(path.stem, ""),),
            )
            for path in self.targets
        ]

    def write(self) -> None:
        """Compute and write, block by block."""
        with ExitStack() as stack:
            for writer in self.writers:
                stack.enter_context(writer)
            for block in blocks_over(self.product.shape, block=1024, halo=0):
                bands = compute_lst(self.product, self.options, window=block.core)
                for writer, band in zip(self.writers, bands.values(), strict=True):
                    writer.write(band[None], block.core)
