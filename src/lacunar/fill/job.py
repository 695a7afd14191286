"""The story of LST: a Landsat product, or any raster with gaps, becomes a filled raster with its uncertainty."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from lacunar.errors import RasterError
from lacunar.fill.blocks import fill_blocks, survey
from lacunar.fill.inputs import FillInputs, open_inputs
from lacunar.fill.options import FillOptions as FillOptions
from lacunar.fill.outputs import FillOutputs
from lacunar.fill.provenance import fingerprint_of
from lacunar.geo.raster import read_raster
from lacunar.interpolate.classical import FillName, fill
from lacunar.metrics import rmse
from lacunar.models.backend import with_engine
from lacunar.models.checkpoint import load_model
from lacunar.sensors.scene import LstOptions, open_scene
from lacunar.sensors.simulated import simulate_product

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
        which guide the fill; on any grid, with their own gaps. `lacunar.fill.guides.open_guides` says more.
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
    inputs = FillInputs(
        path=product_path,
        kind="product",
        lst_options=lst_options or LstOptions(),
        gap_mask=gap_mask,
        references=tuple(references),
        covariates=tuple(covariates),
    )
    return fill_inputs(inputs, output, bands_folder=bands_folder, options=options, callback=callback)


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
    inputs = FillInputs(
        path=raster_path,
        kind="raster",
        gap_mask=gap_mask,
        references=tuple(references),
        covariates=tuple(covariates),
    )
    return fill_inputs(inputs, output, options=options, callback=callback)


def fill_inputs(
    inputs: FillInputs,
    output: Path,
    *,
    bands_folder: Path | None = None,
    options: FillOptions | None = None,
    callback: Callback | None = None,
) -> dict[str, Any]:
    """Check, survey, fill block by block and record; no output takes its name before all of them are whole.

    Parameters
    ----------
    inputs
        What is read.
    output, bands_folder, options, callback
        As in `fill_lst`, which says what is returned too.
    """
    options = options or FillOptions()
    load = cache(lambda: with_engine(load_model(options.model, device=options.device), options.engine))
    with open_inputs(inputs) as (source, beside):
        outputs = FillOutputs(source, beside, output, options, bands_folder)
        if options.resume and output.exists():
            if record := outputs.whole(fingerprint_of(inputs, source, beside, options, load())):
                return record
        with outputs:
            model = load()
            outputs.start(model, fingerprint_of(inputs, source, beside, options, model))
            read_beside = beside.read if beside else None
            found = survey(source.lst, source.shape, read_beside)
            outputs.begin(found)
            for block in fill_blocks(
                source.lst,
                source.shape,
                found,
                model,
                options,
                guides=read_beside,
                finished=outputs.finished,
                callback=callback,
            ):
                outputs.add(block)
            return outputs.finish()


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
    simulated = simulate_product(folder / "product", size=size, seed=options.seed, overwrite=options.overwrite)
    options = replace(options, truth=simulated.truth_path, figure=figure)
    record = fill_lst(simulated.folder, output, options=options, callback=callback)
    with open_scene(simulated.folder) as scene:
        whole = scene.lst()
    truth = read_raster(simulated.truth_path).data[0]
    scores = {"lacunar": record["truth"]["rmse"]}
    baselines: tuple[FillName, ...] = ("idw", "laplace", "nearest", "mean")
    for name in baselines:
        scores[name] = rmse(fill(name, whole.values, whole.known), truth, region=whole.missing)
    return {"record": record, "rmse": scores, "output": output, "figure": figure}
