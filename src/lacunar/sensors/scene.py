"""One way to open an image: `open_scene` answers with a `Scene`, whatever the sensor.

A scene lies on a grid (``shape``, ``transform``, ``crs``) and gives windows of ``lst`` (of a product land surface
temperature, of a single-band raster its values), ``valid`` and ``bands`` (reflectance) as labelled arrays. Block by
block the jobs read the same as numpy arrays: `Scene.measured`, and `Scene.planes`, which a network for water sees.

Opening reads no pixel; ``check_lst`` or ``check_bands`` then refuses what cannot be read, before any work is done. Each
band of a window is read and decoded once. Files stay open until the ``with`` block ends; use a scene in one thread.
To add a sensor, write one file with a subclass of `Scene`, and add one line to `open_scene`.
"""

import datetime
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS

from lacunar.errors import LacunarError, RasterError
from lacunar.geo.brought import brought, is_brought
from lacunar.geo.grid import check_same_grid
from lacunar.geo.raster import RasterSource
from lacunar.geo.windows import Tile, blocks_over
from lacunar.sensors.bands import BANDS, BandName, common_scale, parse_bands, place_bands
from lacunar.sensors.landsat_qa import GAP_CLASSES, QaClass
from lacunar.sensors.plausible import KELVIN, ValueJudge, unit_of
from lacunar.sensors.sebal import Atmosphere, ReflectanceForm

if TYPE_CHECKING:
    import xarray as xr

SceneKind = Literal["picture", "raster", "product"]

ARCHIVES = (".tar", ".tar.gz", ".tgz")  # endings of a product in one file
SEEN_PIXELS = 100_000  # that tell what a raster holds; fewer where it has fewer
READ_SIDE = 1024  # of the blocks in which a labelled array is read
SAMPLE_SIDE = 256  # of the blocks whose pixels give the common scale
SAMPLE_BLOCKS = 36  # of them, spread over the image: all of it up to 1536 x 1536 pixels
UNMASKED = "the product has no quality band: clouds and their shadows are not masked"

_GOLDEN = (5**0.5 - 1) / 2  # multiples of it, modulo 1, spread evenly whatever their number
_DATE = re.compile(r"(?<!\d)((?:19|20)\d\d)([-_]?)(0[1-9]|1[0-2])\2(0[1-9]|[12]\d|3[01])(?!\d)")

BoolArray = NDArray[np.bool_]
Planes = NDArray[np.float32]
Reader = Callable[[Tile], Planes]
Window = Tile | tuple[int, int, int, int]  # first row and column, height and width


@dataclass(frozen=True, eq=False)
class Measured:
    """A window of values (H, W), where they are measured, and where they are missing and wanted.

    A pixel that is neither known nor missing lies outside the image: it stays nodata.
    """

    values: NDArray[np.floating]
    known: BoolArray
    missing: BoolArray
    remarks: Mapping[str, BoolArray] = field(default_factory=dict)  # what a user should know -> of which pixels
    sigma: NDArray[np.floating] | None = None  # one standard deviation of measured values, where asked for

    def part(self, window: Tile) -> "Measured":
        """A window of this window."""
        cut = window.slices
        remarks = {text: where[cut] for text, where in self.remarks.items()}
        sigma = None if self.sigma is None else self.sigma[cut]
        return Measured(self.values[cut], self.known[cut], self.missing[cut], remarks, sigma)


@dataclass(frozen=True, kw_only=True)
class LstOptions:
    """How LST is computed from a product, and which of its pixels count as missing."""

    gap_classes: Sequence[QaClass] = GAP_CLASSES  # quality classes that are filled
    soil_l: float = 0.5  # soil adjustment L of SAVI, 0 to 1
    reflectance: ReflectanceForm = "usgs"  # or "dr", the variant that divides by dr = 1/d^2 once more
    atmosphere: Atmosphere | None = None  # None leaves LST without atmospheric correction
    max_st_qa: float | None = None  # K: pixels whose ``ST_QA`` (Level 2) is larger are missing
    measured_sigma: bool = False  # give ``ST_QA`` as the sigma of measured pixels, which is 0 else

    def __post_init__(self) -> None:
        object.__setattr__(self, "gap_classes", tuple(self.gap_classes))
        for name in self.gap_classes:
            if name not in get_args(QaClass):
                raise LacunarError(f"unknown gap class {name!r}: choose among {', '.join(get_args(QaClass))}")
        if self.reflectance not in get_args(ReflectanceForm):
            names = ", ".join(get_args(ReflectanceForm))
            raise LacunarError(f"unknown form of the reflectance {self.reflectance!r}: choose one of {names}")
        if not 0.0 <= self.soil_l <= 1.0:
            raise LacunarError(f"soil adjustment L of SAVI is {self.soil_l}: wanted 0 to 1; 0.5 is usual")
        if self.max_st_qa is not None and not self.max_st_qa > 0:
            raise LacunarError(f"largest ST_QA is {self.max_st_qa} K: wanted above 0; 2 to 5 are usual")


@dataclass(frozen=True, kw_only=True)
class StoredAs:
    """What the numbers of a raster mean, where the file does not say it or is wrong."""

    # Of all channels (alpha left out or not), in order, or a name of `lacunar.sensors.dialects.LAYOUTS`; by default
    # those in the file, or red, green, blue of three.
    bands: Sequence[str] = ()
    scale: float | None = None  # physical value = stored number x scale + offset, in place of what the file declares
    offset: float | None = None
    # Not valid where all channels hold this stored number, besides what the file declares and besides numbers that
    # stand for nothing measured (`lacunar.sensors.plausible`), which nan makes measurements.
    nodata: float | None = None
    band: int | str | None = None  # number (from 1) or name of the band that `Scene.measured` gives

    def __post_init__(self) -> None:
        bands = self.bands if isinstance(self.bands, str) else ",".join(self.bands)
        object.__setattr__(self, "bands", parse_bands(bands) if bands else ())


class Scene(AbstractContextManager["Scene"], ABC):
    """An open image; see the head of this file. Made by `open_scene`."""

    path: Path
    name: str  # last part of the path
    title: str  # what people call it
    kind: SceneKind  # a picture has one or three channels of 8 or 16 bits, and no position
    shape: tuple[int, int]  # rows and columns
    transform: Affine  # pixel (column, row) to coordinates, of a pixel's upper left corner
    crs: CRS | None
    quantity: str = "value"  # what `lst` gives; "lst" of a product
    units: str = ""  # of it: K, or what a raster declares
    product_id: str | None = None
    date: datetime.date | None = None
    clip: str | None = None  # the region of a part
    notes: tuple[str, ...] = ()  # what a user should know about how it was opened
    channels: Mapping[int, str] = {}  # of a raster: number (from 1) and name of each band that is no transparency
    inputs: list[Path]  # files that are read

    def __init__(self, path: Path) -> None:
        self.path, self.name, self.title = path, path.name, path.name
        self.inputs = []
        self._mask: RasterSource | None = None
        self._open_files, self._close_after = ExitStack(), ExitStack()

    def close(self) -> None:
        """Close every file."""
        self._open_files.close()
        self._close_after.close()

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- labelled arrays ---

    def lst(self, window: Window | None = None, *, needs_qa: bool = True) -> "xr.DataArray":
        """Land surface temperature (y, x) in kelvin, float32; of a raster its single band, in its own unit.

        NaN where not measured. The coordinate ``missing`` marks the pixels to be filled, which `lacunar.fill` heeds:
        clouds, but not what lies outside the image. ``window`` is (row, column, height, width), the whole by default. A
        product with neither quality band nor gap mask is refused; with ``needs_qa=False`` all of its pixels count as
        measured. A scene without LST, of several bands, or damaged, or a window that reaches outside is a
        `LacunarError`.
        """
        self.check_lst(needs_qa=needs_qa)
        whole = self._inside(window)
        values, missing = np.empty(whole.shape, dtype=np.float32), np.empty(whole.shape, dtype=np.bool_)
        for part, place in _parts(whole):
            read = self.measured(part)
            values[place], missing[place] = np.where(read.known, read.values, np.nan), read.missing
        said = {"units": self.units, "notes": "; ".join(self.lst_notes())}
        if self.quantity == "lst":
            said |= {"long_name": "land surface temperature", "comment": "clear-sky-equivalent"}
        lst = self._labelled(values, whole, self.quantity, said)
        return lst.assign_coords(missing=(lst.dims, missing))

    def valid(self, window: Window | None = None, *, needs_qa: bool = True) -> "xr.DataArray":
        """Where `lst` is measured, (y, x) booleans."""
        return self.lst(window, needs_qa=needs_qa).notnull().rename("valid").drop_vars("missing")

    def bands(self, window: Window | None = None) -> "xr.DataArray":
        """Reflectance (band, y, x) of the bands that the image has, float32; NaN where not valid.

        Bands have the names and the order of `lacunar.sensors.bands.BANDS`; ``window`` is that of `lst`. A scene
        without a valid pixel, or whose bands or units are unknown, is a `LacunarError`.
        """
        self.check_bands()
        whole, chosen = self._inside(window), [BANDS.index(name) for name in self.band_names]
        values = np.empty((len(chosen), *whole.shape), dtype=np.float32)
        for part, place in _parts(whole):
            values[:, *place] = self.reflectance(part)[chosen]
        said = {"units": "1", "notes": "; ".join(self.band_notes), "long_name": self.band_units}
        return self._labelled(values, whole, "reflectance", said).assign_coords(band=list(self.band_names))

    def _inside(self, window: Window | None) -> Tile:
        """A window that lies in the image."""
        if window is None:
            return self._whole
        tile = window if isinstance(window, Tile) else Tile(*window)
        if not tile.inside(self.shape):
            raise LacunarError(f"{tile} reaches outside the {self.shape[0]} x {self.shape[1]} pixels of {self.name}")
        return tile

    def _labelled(self, values: NDArray[Any], window: Tile, name: str, said: Mapping[str, str]) -> "xr.DataArray":
        from lacunar.geo.labelled import labelled_on  # xarray takes a second to load, and jobs on files need none

        date = self.date.isoformat() if self.date else ""
        attrs = {**said, "source": self.product_id or self.name, "date": date}
        return labelled_on(self, window, values, name=name, attrs={key: text for key, text in attrs.items() if text})

    # --- the quantity that is filled ---

    @abstractmethod
    def check_lst(self, *, needs_qa: bool = True) -> None:
        """Refuse a scene whose `lst` cannot be read; with ``needs_qa`` also a product without quality band or mask."""

    @abstractmethod
    def measured(self, window: Tile | None = None) -> Measured:
        """A window (the whole by default) of `lst`, in `units`."""

    @abstractmethod
    def lst_record(self) -> dict[str, Any]:
        """What a sidecar says about `lst`, ready for JSON."""

    def lst_notes(self) -> tuple[str, ...]:
        """What a user should know about `lst`."""
        return self.notes

    @property
    def in_kelvin(self) -> bool:
        """Whether `lst` is declared to be in kelvin."""
        return unit_of(self.units) in KELVIN

    def some_lst(self) -> NDArray[np.floating]:
        """Measured values other than 0, from as few blocks about the centre as give enough of them."""

        def read(window: Tile) -> NDArray[np.floating]:
            part = self.measured(window)
            return np.asarray(part.values[part.known & (part.values != 0)])

        return some_values(read, self.shape)

    def intermediates(self, window: Tile | None = None) -> Mapping[str, NDArray[np.float64]]:
        """Every step from digital numbers to LST by name, where there are steps."""
        return {}

    # --- the bands of a network for water ---

    @property
    @abstractmethod
    def band_names(self) -> tuple[BandName, ...]:
        """The bands that the image has, in the order of `BANDS`."""

    @property
    @abstractmethod
    def band_units(self) -> str:
        """How stored values became reflectance, in words."""

    @property
    @abstractmethod
    def band_notes(self) -> tuple[str, ...]:
        """What a user should know about the bands."""

    @abstractmethod
    def reflectance(self, window: Tile) -> Planes:
        """Reflectance (6, H, W) of a window; NaN in bands that are lacking, and in all where a pixel is not valid."""

    @cached_property
    def common_scale(self) -> float:
        """The reflectance by which all bands are divided, from a sample of blocks."""
        return scale_of(sample_planes(self.reflectance, self.shape, self.name))

    @property
    def has_quality(self) -> bool:
        """Whether it brings a quality band, by which clouds are masked."""
        return False

    def check_bands(self) -> None:
        """Refuse a scene whose `planes` cannot be read."""
        _ = self.common_scale

    def planes(self, window: Tile | None = None) -> Planes:
        """Six planes (6, H, W) in the order of `BANDS`, float32, divided by `common_scale`; NaN as in `reflectance`."""
        return self.reflectance(window or self._whole) / np.float32(self.common_scale)

    def record(self) -> dict[str, Any]:
        """What a sidecar says about `planes`, ready for JSON."""
        return {
            "input": str(self.path),
            "kind": self.kind,
            "size": list(self.shape),
            "crs": str(self.crs) if self.crs else None,
            "date": self.date.isoformat() if self.date else None,
            "bands": list(self.band_names),
            "units": self.band_units,
            "common_scale": float(f"{self.common_scale:.7g}"),
            "notes": list(self.band_notes),
        }

    # --- for subclasses ---

    @property
    def _whole(self) -> Tile:
        return Tile(0, 0, *self.shape)

    def _add_mask(self, path: str | Path | None, *, inverted: bool) -> None:
        """Open the gap mask, which must lie on the grid of the scene."""
        self._mask_inverted = inverted
        if path is not None:
            self._mask = self._open_files.enter_context(RasterSource(path))
            self.inputs += self._mask.files
            check_same_grid(self, self._mask, names=("the input", f"the gap mask {path}"))

    def _masked(self, window: Tile) -> tuple[BoolArray, dict[str, BoolArray]]:
        """Non-zero pixels of the gap mask, and remarks on it; what stands for nothing measured names no gap."""
        if self._mask is None:
            return np.zeros(window.shape, dtype=np.bool_), {}
        part = self._mask.read(window, bands=[1])
        gap = np.asarray(part.known[0] & ((np.nan_to_num(part.data[0]) != 0) != self._mask_inverted))
        faults = self._mask_judge.faults(part.data[0])
        for where in faults.values():
            gap &= ~where
        return gap, {f"{reason} in the gap mask: they name no gap": where for reason, where in faults.items()}

    @cached_property
    def _mask_judge(self) -> ValueJudge:
        mask = self._mask
        assert mask is not None
        return ValueJudge.of_mask(some_values(lambda window: mask.read(window, bands=[1]).data[0], self.shape))


def open_scene(
    path: str | Path,
    *,
    lst_options: LstOptions | None = None,
    gap_mask: str | Path | None = None,
    invert: bool = False,
    keep_clouds: bool = False,
    clip: str | None = None,
    **stored: Any,  # noqa: ANN401
) -> Scene:
    """Open a picture, any raster that GDAL reads, or a Landsat product (folder or .tar), without reading a pixel.

    Parameters
    ----------
    lst_options
        Of a product: how LST is computed and which quality classes are missing.
    gap_mask
        Raster on the same grid whose non-zero pixels are missing; of a product besides others, of a raster only these.
    invert
        Zero of the gap mask is missing, not what is non-zero.
    keep_clouds
        Of a product: what its quality band calls cloud or cloud shadow stays valid in `Scene.bands`.
    clip
        Only this part: ``XMIN,YMIN,XMAX,YMAX[,CRS]``, or a file of polygons in any CRS.
    **stored
        Fields of `StoredAs`: ``bands``, ``scale``, ``offset``, ``nodata``, ``band``.

    Raises
    ------
    LacunarError
        No such file, a file that is cut off or no image, a product without metadata or position.

    Examples
    --------
    >>> import lacunar as lc, tempfile
    >>> from lacunar.sensors.simulated import simulate_product
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     product = simulate_product(folder + "/product", size=64, seed=1)
    ...     with lc.open_scene(product.folder) as scene:
    ...         lst, corner = scene.lst(), scene.lst((0, 0, 8, 8))
    >>> lst.dims, lst.attrs["units"], lst.rio.crs.to_epsg(), lst.attrs["date"]
    (('y', 'x'), 'K', 32619, '2022-11-15')
    >>> corner.equals(lst[:8, :8])
    True
    """
    path = Path(path)
    said: dict[str, Any] = {
        "lst_options": lst_options,
        "gap_mask": gap_mask,
        "invert": invert,
        "keep_clouds": keep_clouds,
    }
    if clip:
        from lacunar.sensors.clipped import ClippedScene

        return ClippedScene(open_scene(path, **said, **stored), clip)
    if is_brought(path):
        return _brought_scene(path, **said, **stored)
    if not path.exists():
        raise RasterError(f"{path}: no such file; wanted a raster file, or a product's folder or .tar: check the path")
    if path.is_dir() or path.name.lower().endswith(ARCHIVES):
        from lacunar.sensors.landsat import LandsatScene

        if stored and StoredAs(**stored) != StoredAs():
            got = f"{path.name} is a Landsat product, which brings its own bands, scales and offsets"
            raise LacunarError(f"{got}: leave out --bands, --scale, --offset, --nodata and --band")
        return LandsatScene(path, lst_options=lst_options, gap_mask=gap_mask, invert=invert, keep_clouds=keep_clouds)
    from lacunar.sensors.raster_scene import RasterScene

    return RasterScene(path, gap_mask=gap_mask, invert=invert, stored=StoredAs(**stored))


def _brought_scene(path: Path, **how: Any) -> Scene:  # noqa: ANN401
    """The scene of an https address or a .zip, which goes by that name."""
    with ExitStack() as stack:
        local, note = stack.enter_context(brought(path))
        scene = open_scene(local, **how)
        scene._close_after = stack.pop_all()
    scene.path, scene.inputs = path, [path] if path.is_file() else []
    scene.notes = (*scene.notes, note)
    return scene


def date_in(text: str) -> datetime.date | None:
    """The first date in a text, such as 20240813, 2024-08-13 or 2024_08_13; None where there is none.

    >>> date_in("S2_lake_2024-08-13_B04.tif")
    datetime.date(2024, 8, 13)
    >>> date_in("20240231") is None  # February has no 31st
    True
    """
    if (match := _DATE.search(text)) is None:
        return None
    try:
        return datetime.date(int(match[1]), int(match[3]), int(match[4]))
    except ValueError:
        return None


def _parts(window: Tile) -> Iterator[tuple[Tile, tuple[slice, slice]]]:
    """Blocks of a window, and where they lie in it."""
    for block in blocks_over(window.shape, block=READ_SIDE, halo=0):
        core = block.core
        yield Tile(window.row + core.row, window.col + core.col, core.height, core.width), core.slices


def blocks_from_centre(shape: tuple[int, int]) -> list[Tile]:
    """Blocks that cover a raster, those near its centre first."""

    def distance(tile: Tile) -> float:
        row, col = tile.row + (tile.height - shape[0]) / 2, tile.col + (tile.width - shape[1]) / 2
        return float(row**2 + col**2)

    return sorted((block.core for block in blocks_over(shape, block=512, halo=0)), key=distance)


def some_values(read: Callable[[Tile], NDArray[np.floating]], shape: tuple[int, int]) -> NDArray[np.floating]:
    """Finite values (N,), from as few blocks about the centre of a raster as give enough of them."""
    seen: list[NDArray[np.floating]] = []
    for block in blocks_from_centre(shape):
        values = read(block)
        seen.append(values[np.isfinite(values)])
        if sum(part.size for part in seen) >= SEEN_PIXELS:
            break
    return np.concatenate(seen)


def planes_of(channels: Planes, names: Sequence[str]) -> Planes:
    """Planes in the order of `BANDS`; NaN in all where one of the channels used is."""
    used = [index for index, name in enumerate(names) if name in BANDS]
    planes = place_bands(channels, names)
    planes[:, np.isnan(channels[used]).any(axis=0)] = np.nan
    return planes


def sample_planes(read: Reader, shape: tuple[int, int], name: str) -> Planes:
    """Valid pixels (6, N) of blocks that are spread over an image of this shape; a `RasterError` where it has none."""
    blocks = blocks_over(shape, block=SAMPLE_SIDE, halo=0)
    found: list[Planes] = []
    for index in sorted(range(len(blocks)), key=lambda number: number * _GOLDEN % 1):
        planes = read(blocks[index].core)
        valid = ~np.isnan(planes).all(axis=0)
        if valid.any():
            found.append(planes[:, valid])
        if len(found) == SAMPLE_BLOCKS:
            break
    if not found:
        raise RasterError(f"{name}: no valid pixel, all is nodata or masked: check the file and its nodata value")
    return np.concatenate(found, axis=1)


def scale_of(sample: Planes) -> float:
    """The common scale of a sample (6, N)."""
    return common_scale(sample[:, None], np.ones((1, sample.shape[1]), dtype=np.bool_))
