"""Fill labelled arrays: the public function of this room. Dask arrays are filled when the result is computed."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from lacunar.diffusion.samplers import preset_named
from lacunar.errors import LacunarError
from lacunar.fill.archive_choice import candidates_named
from lacunar.fill.blocks import FILLED, MEASURED, NODATA, Survey, blocks_of, fill_block, survey
from lacunar.fill.guides import MAX_PLANES, MAX_REFERENCES
from lacunar.fill.inputs import FillInputs
from lacunar.fill.job import fill_scene
from lacunar.fill.options import FillOptions
from lacunar.fill.outputs import OutputFiles
from lacunar.geo.brought import is_brought
from lacunar.geo.labelled import (
    MISSING,
    AnyArray,
    as_labelled,
    dataset_on,
    is_lazy,
    missing_of,
    on_grid,
    time_dim,
    undecoded,
    units_of,
)
from lacunar.geo.windows import Block, Tile
from lacunar.sensors.plausible import KELVIN, ValueJudge, unit_of
from lacunar.sensors.scene import ARCHIVES, LstOptions, Measured
from lacunar.sensors.sebal import digital_numbers_hint

if TYPE_CHECKING:
    from lacunar.models.checkpoint import Model

BAND = "band"  # the first dimension of an array of several bands
NEIGHBOURS = 9  # dates of a cube that guide the fill of another: the nearest in time

_OF_INPUTS = ("radar", "invert", "nodata", "scale", "offset", "band", "clip")  # fields of `FillInputs`
_SOURCES = {"flag_values": [NODATA, MEASURED, FILLED], "flag_meanings": "nodata measured filled"}


class FilledArrays(NamedTuple):
    """What `fill` gives for a numpy array; ``source``: 0 nodata, 1 measured, 2 filled; ``quantiles``: (Q, H, W)."""

    value: NDArray[np.floating[Any]]
    source: NDArray[np.uint8]
    sigma: NDArray[np.float32]
    quantiles: NDArray[np.float32]


class FilledSamples(NamedTuple):
    """`FilledArrays` with the samples (K, H, W), where they are asked for."""

    value: NDArray[np.floating[Any]]
    source: NDArray[np.uint8]
    sigma: NDArray[np.float32]
    quantiles: NDArray[np.float32]
    samples: NDArray[np.float32]


def fill(
    array: AnyArray,
    *,
    guides: AnyArray | Sequence[AnyArray] = (),
    missing: AnyArray | None = None,
    model: "str | Path | Model | None" = None,
    preset: str = "fast",
    samples: int | None = None,
    return_samples: bool = False,
    **options: Any,  # noqa: ANN401  # they are checked by name
) -> xr.Dataset | FilledArrays | FilledSamples:
    """Fill what is missing of an array, and say how sure that is.

    Measured pixels keep their value bit by bit. A filled land surface temperature is the clear-sky-equivalent one: what
    the sensor would have seen without the cloud.

    Parameters
    ----------
    array
        (y, x) in any unit, kelvin for temperature; NaN = missing. Or (time, y, x): every date is filled, guided by the
        nine nearest others. Or a DataArray (band, y, x): each band is filled with all guides, and gives a plane of
        ``value``, ``source`` and ``sigma``. A DataArray needs coordinates. A dask array is filled block by block when
        the result is computed, to the same values.
    guides
        Other dates of the place, or static rasters, in any unit; on another grid they are warped, if both have a CRS.
        From four on no network is asked, whatever the preset.
    missing
        (y, x) booleans, True = to be filled; other NaN pixels stay NaN. By default the coordinate ``missing`` of an LST
        of `lacunar.open_scene`, else all that is NaN.
    model
        A shipped model's name, a model folder, or what `lacunar.load_model` gave (on its device). None: no network for
        ``fast`` and ``instant``, lst-small for the others.
    preset
        ``fast``, ``balanced``, ``paper`` (RePaint; no guides), or ``instant`` (mean and sigma from one evaluation).
    samples
        How many are drawn, 8 by default (``instant`` draws none).
    return_samples
        Give the samples too: coherent fields, equal where measured, whose mean is ``value`` and whose spread is
        ``sigma``. What is summed or averaged over an area gets its uncertainty from them (`lacunar.zonal`).
    **options
        Fields of `lacunar.fill.options.FillOptions`, such as ``seed``, which fixes the values, ``quantiles``, levels
        in (0, 1), and ``suspect``: measured pixels (in kelvin) that look like missed cloud are told (``report``, a
        variable of booleans) or filled (``fill``).

    Returns
    -------
    xarray.Dataset, FilledArrays or FilledSamples
        ``value`` (unit of the array), ``source`` (0 nodata, 1 measured, 2 filled), ``sigma`` (one standard deviation of
        a filled pixel, 0 where measured), ``quantiles`` and ``samples``, where asked for. For a numpy array a named
        tuple of arrays.

    Raises
    ------
    LacunarError
        No measured pixel, digital numbers, or a guide or a model that does not fit.

    References
    ----------
    Song, Meng & Ermon 2021 (DDIM, arXiv 2010.02502); Lugmayr et al. 2022 (RePaint, arXiv 2201.09865).

    Examples
    --------
    >>> import numpy as np, lacunar as lc
    >>> rows, cols = np.indices((64, 64))
    >>> lst = 300 + 4 * np.sin(rows / 9) * np.cos(cols / 13)  # kelvin
    >>> lst[20:30, 30:44] = np.nan
    >>> filled = lc.fill(lst, preset="instant")
    >>> bool(np.isfinite(filled.value).all()), int((filled.source == 2).sum())
    (True, 140)
    """
    samples = preset_named(preset).usual_samples if samples is None else samples
    options["quantiles"] = levels = tuple(options.get("quantiles", ()))
    named = None if model is None else str(model) if isinstance(model, str | Path) else model.name
    how = FillOptions(model=named, preset=preset, samples=samples, realisations=return_samples, **options)
    if how.suspect == "report" and not isinstance(array, xr.DataArray):
        raise LacunarError("suspect='report' has no place among numpy arrays: wanted a DataArray, or suspect='fill'")
    given = as_labelled(array, name="the array")
    _refuse_what_is_not_measured(array, given)
    beside = [on_grid(guide, given, name=f"guide {number}") for number, guide in enumerate(_listed(guides), start=1)]
    most = MAX_PLANES if given.dims[0] == BAND else MAX_REFERENCES
    if len(beside) > most:
        raise LacunarError(f"got {len(beside)} guides: wanted {most} at most; choose the nearest dates")
    network = how.load(len(beside)) if model is None or isinstance(model, str | Path) else model
    if given.ndim == 3 and given.dims[0] == BAND:
        filled = _fill_bands(given, missing, beside, how)
    elif given.ndim == 2:
        filled = _Fill(given, _missing(missing, given), beside, named=len(beside)).dataset(network, how)
    else:
        filled = _fill_dates(given, missing, beside, how, network)
    if isinstance(array, xr.DataArray):
        return filled
    told = filled["quantiles"].data if levels else np.empty((0, *given.shape), dtype=np.float32)
    arrays = FilledArrays(filled["value"].data, filled["source"].data, filled["sigma"].data, told)
    return FilledSamples(*arrays, filled["samples"].data) if return_samples else arrays


def fill_file(
    path: str | Path,
    output: str | Path,
    *,
    guides: Sequence[str | Path] = (),
    covariates: Sequence[str | Path] = (),
    gap_mask: str | Path | None = None,
    archive: str | Path | None = None,
    **options: Any,  # noqa: ANN401  # they are checked by name
) -> dict[str, Any]:
    """Fill a Landsat product or a raster of any size, block by block.

    Returns the record that is also written beside the output as JSON. Raises `LacunarError` for bad input; nothing is
    written then.

    Parameters
    ----------
    path
        A product (folder or .tar), of which land surface temperature is computed, or a raster.
    output
        GeoTIFF with the bands ``lst`` (K) or ``value``, ``source``, ``sigma`` and what quantiles are wanted.
    guides, covariates
        Other dates of the place (products or rasters), and static rasters such as an elevation model; on any grid.
    gap_mask
        Raster on the same grid whose non-zero pixels are to be filled; it adds to a product's quality band.
    archive
        Where guides are chosen: a folder of other dates, or ``auto`` or ``nearest:N`` among what lies beside the input.
    **options
        Fields of `lacunar.fill.options.FillOptions` (``model``, ``preset``, ``seed``, ``quantiles`` ...), of
        `lacunar.fill.outputs.OutputFiles` (``figure``, ``overwrite``, ``resume`` ...), ``lst_options``, and of a raster
        ``nodata``, ``scale``, ``offset`` and ``band`` (``all``, or several by comma: they are filled together, and
        every band of a guide counts); ``radar``, rasters of backscatter; ``invert``, of the gap mask; ``clip``, a box
        or a file of polygons.
    """
    path = Path(path)
    product = path.is_dir() or path.name.lower().endswith(ARCHIVES)
    of_files = {item.name for item in fields(OutputFiles)} & set(options)
    files = OutputFiles(raster=Path(output), **{name: options.pop(name) for name in of_files})
    if "radar" in options:
        options["radar"] = tuple(map(Path, options["radar"]))
    candidates, most = (None, 0) if archive is None else candidates_named(str(archive), [path])
    inputs = FillInputs(
        path=path,
        candidates=candidates,
        most_references=most,
        kind=None if is_brought(path) else "product" if product else "raster",
        lst_options=options.pop("lst_options", LstOptions()),
        gap_mask=None if gap_mask is None else Path(gap_mask),
        references=tuple(map(Path, guides)),
        covariates=tuple(map(Path, covariates)),
        **{name: options.pop(name) for name in _OF_INPUTS if name in options},
    )
    options.setdefault("suspect", "report" if product else "keep")
    if options.get("samples") is None:
        options["samples"] = preset_named(options.get("preset", "fast")).usual_samples
    return fill_scene(inputs, files, FillOptions(**options))


def _fill_bands(
    bands: xr.DataArray, missing: AnyArray | None, guides: list[xr.DataArray], options: FillOptions
) -> xr.Dataset:
    """Every band of one date: see `lacunar.fill.bands`."""
    if not options.uses_field(len(guides)):
        raise LacunarError(
            "several bands are filled without a network: leave out model, and take preset fast or instant"
        )
    planes = [bands.isel({BAND: number}) for number in range(bands.sizes[BAND])]
    filled = [_Fill(one, _missing(missing, one), guides, named=len(guides)).dataset(None, options) for one in planes]
    return xr.concat(filled, dim=bands[BAND] if BAND in bands.coords else BAND)


def _fill_dates(
    cube: xr.DataArray,
    missing: AnyArray | None,
    guides: list[xr.DataArray],
    options: FillOptions,
    model: "Model | None",
) -> xr.Dataset:
    """Every date of a cube, guided by its neighbours in time."""
    axis = time_dim(cube)
    if axis is None:
        raise LacunarError(
            f"the array has the dimensions {cube.dims} and the shape {cube.shape}: wanted rows and columns, or a "
            "DataArray with a first dimension `time`; fill one band at a time"
        )
    if missing is not None:
        raise LacunarError("missing together with an axis of time: wanted NaN where the dates miss something")
    times = cube[axis].values if axis in cube.coords else np.arange(cube.sizes[axis])
    room = min(NEIGHBOURS, MAX_REFERENCES - len(guides)) if options.chosen.conditional else 0
    filled = []
    for number, one in enumerate(times):
        nearest = [int(other) for other in np.argsort(np.abs(times - one), kind="stable") if other != number]
        others = [cube.isel({axis: other}, drop=True).astype(np.float32) for other in nearest[:room]]
        plane = cube.isel({axis: number})
        one_fill = _Fill(plane, _missing(None, plane), [*guides, *others], named=len(guides))
        filled.append(one_fill.dataset(model, options))
    return xr.concat(filled, dim=cube[axis] if axis in cube.coords else axis)


class _Fill:
    """The fill of one plane. The first guides have to share pixels with it, as many as are ``named``.

    No dataclass: dask would look into it and compute its arrays whole.
    """

    def __init__(
        self, plane: xr.DataArray, missing: xr.DataArray | None, guides: list[xr.DataArray], *, named: int
    ) -> None:
        self.plane, self.missing, self.guides, self.named = plane, missing, guides, named
        self.shape = (plane.shape[0], plane.shape[1])

    def dataset(self, model: "Model | None", options: FillOptions) -> xr.Dataset:
        """Value, source, sigma and quantiles; computed now, or when a lazy result is."""
        lazy = any(is_lazy(one) for one in (self.plane, self.missing, *self.guides))
        bands = (self._lazy if lazy else self._eager)(model, options)
        units = {"units": units_of(self.plane)} if units_of(self.plane) else {}
        source = bands[1].astype(np.uint8)
        said = {name: text for name, text in self.plane.attrs.items() if name != "units"}
        variables = {
            "value": (self._measured_kept(bands[0], source), said | units),
            "source": (source, _SOURCES),
            "sigma": (bands[2], units | {"long_name": "one standard deviation of a filled pixel"}),
        }
        filled = dataset_on(self.plane, variables, {"model": model.name if model else "", "preset": options.preset})
        levels = list(options.quantiles)
        if levels:
            filled["quantiles"] = self._stacked(bands[3 : 3 + len(levels)], units, xr.Variable("quantile", levels))
        if options.realisations:
            numbers = xr.Variable("sample", np.arange(1, options.samples + 1))
            drawn = bands[3 + len(levels) : 3 + len(levels) + options.samples]
            kept = [self._measured_kept(band, source) for band in drawn]
            filled["samples"] = self._stacked(kept, units, numbers)
        if options.suspect != "keep":
            filled["suspect"] = dataset_on(self.plane, {"suspect": (bands[-1] == 1, {})}, {})["suspect"]
        return filled

    def _stacked(self, bands: Any, units: dict[str, str], along: xr.Variable) -> xr.DataArray:  # noqa: ANN401
        planes = [dataset_on(self.plane, {"band": (band, units)}, {})["band"] for band in bands]
        return xr.concat(planes, along)

    def _measured_kept(self, filled: Any, source: Any) -> Any:  # noqa: ANN401  # numpy or dask arrays
        """Filled values in the type of the array, which keeps its own where it is measured."""
        kept = self.plane.copy(data=filled.astype(self.plane.dtype))
        return kept.where(self.plane.copy(data=source) != MEASURED, self.plane).data

    def read(self, window: Tile) -> Measured:
        """A window with what is known of it and what is to be filled."""
        values = _computed(self.plane, window).astype(np.float32)
        finite = np.isfinite(values)
        if self.missing is None:
            return Measured(values, finite, ~finite)
        missing = _computed(self.missing, window)
        return Measured(values, finite & ~missing, missing)

    def read_guides(self, window: Tile) -> NDArray[np.float32]:
        """Guides (K, H, W) of a window."""
        return np.stack([_computed(guide, window) for guide in self.guides]).astype(np.float32)

    def survey(self, options: FillOptions) -> Survey:
        """The first pass: what is measured, block means for what is far from it, and suspects."""
        guides = self.read_guides if self.guides else None
        found = survey(self.read, self.shape, guides, suspect=options.suspect, options=options)
        for number, guide in enumerate(found.guides[: self.named], start=1):
            if guide.common == 0:
                raise LacunarError(
                    f"guide {number} has {guide.measured} measured pixels and none in common with the array: wanted "
                    "some, to match the two; leave it out"
                )
        return found

    def block(self, block: Block, found: Survey, model: "Model | None", options: FillOptions) -> NDArray[np.float32]:
        """Bands (3 + Q, h, w) of one block, then samples, then suspects, where they are asked for."""
        guides = self.read_guides if self.guides else None
        filled = fill_block(self.read, block, found, model, options, guides=guides)
        parts = [filled.bands, *([] if filled.realisations is None else [filled.realisations])]
        if found.suspect is not None:
            parts.append(found.suspect[None, *block.core.slices].astype(np.float32))
        return np.concatenate(parts)

    def _eager(self, model: "Model | None", options: FillOptions) -> NDArray[np.float32]:
        found = self.survey(options)
        bands = np.empty((_count(options), *self.shape), dtype=np.float32)
        for block in blocks_of(self.shape):
            bands[:, *block.core.slices] = self.block(block, found, model, options)
        return bands

    def _lazy(self, model: "Model | None", options: FillOptions) -> Any:  # noqa: ANN401  # a dask array
        """All bands as a dask array. Tasks read the input themselves: in the graph it would be held in memory."""
        import dask
        import dask.array as da

        shared, network = dask.delayed(self), dask.delayed(model, traverse=False)
        found = dask.delayed(_Fill.survey)(shared, options)
        count, lines = _count(options), dict[int, list[Any]]()
        for block in blocks_of(self.shape):
            task = dask.delayed(_Fill.block)(shared, block, found, network, options)
            part = da.from_delayed(task, shape=(count, *block.core.shape), dtype=np.float32)
            lines.setdefault(block.core.row, []).append(part)
        return da.block(list(lines.values()))


def _count(options: FillOptions) -> int:
    """Bands of a block."""
    samples = options.samples if options.realisations else 0
    return 3 + len(options.quantiles) + samples + (options.suspect != "keep")


def _computed(array: xr.DataArray, window: Tile) -> NDArray[Any]:
    part = array.data[window.slices]
    return np.asarray(part.compute(scheduler="synchronous") if is_lazy(part) else part)


def _refuse_what_is_not_measured(array: AnyArray, given: xr.DataArray) -> None:
    """Refuse integers that nothing explains, values that look stored, and numbers that stand for nothing measured."""
    units, seen = units_of(given), np.empty(0)
    if not is_lazy(given):  # else values are not looked at before the result is computed
        finite = given.values[np.isfinite(given.values)]
        judge, seen = ValueJudge.of(finite, units=units), finite[finite != 0]
    hint = digital_numbers_hint(seen)
    if undecoded(array):
        wanted = hint or "wanted physical values as floats, NaN where missing: convert with `.astype(float)`"
        raise LacunarError(f"the array holds integers without a scale: {wanted}")
    if hint and (unit_of(units) in KELVIN or (not units and (seen == np.rint(seen)).all())):
        raise LacunarError(f"the array {hint}, with NaN where they are 0")
    for reason, where in ({} if is_lazy(given) else judge.faults(finite)).items():
        wanted = "wanted NaN where nothing is measured (`array.where(...)`)"
        raise LacunarError(f"the array: {where.sum()} values {reason}; {wanted}")


def _missing(missing: AnyArray | None, plane: xr.DataArray) -> xr.DataArray | None:
    """What is to be filled of a plane, where anything but its NaN pixels says so."""
    if missing is None and MISSING in plane.coords:
        missing = plane[MISSING]
    return None if missing is None else missing_of(missing, plane)


def _listed(guides: AnyArray | Sequence[AnyArray]) -> list[AnyArray]:
    """Guides one by one: an array of two dimensions is one guide."""
    return [guides] if getattr(guides, "ndim", 0) == 2 else list(guides)  # type: ignore[list-item]
