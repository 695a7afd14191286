"""Rasters in and out: read through GDAL, whole or by window; written by window as a Cloud-Optimized GeoTIFF."""

from __future__ import annotations

import glob
import math
import uuid
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.enums import MaskFlags
from rasterio.transform import Affine
from rasterio.windows import Window

from lacunar.errors import RasterError
from lacunar.geo.gate import DESCRIBING, create_raster, gdal, open_raster
from lacunar.geo.windows import Tile
from lacunar.limits import VALUES_AT_ONCE, check_limit

# Side of a tile in the file: the COG driver's default.
_TILE_SIDE = 512
_UNWRITABLE = "cannot be written; wanted a writable folder with free space"
_TILED = {"driver": "GTiff", "tiled": True, "blockxsize": _TILE_SIDE, "blockysize": _TILE_SIDE, "BIGTIFF": "IF_SAFER"}
# Level 1 takes half the time of the usual 6, for files 3 % larger.
_COG = {"driver": "COG", "COMPRESS": "DEFLATE", "LEVEL": 1, "PREDICTOR": "FLOATING_POINT", "BLOCKSIZE": _TILE_SIDE}
_COG |= {"OVERVIEW_RESAMPLING": "NEAREST", "BIGTIFF": "IF_SAFER"}  # nearest: it keeps classes and measurements


@dataclass(frozen=True, eq=False)
class Raster:
    """What a reader gives; treat its arrays as read-only."""

    data: NDArray[np.float32]  # (bands, height, width), in physical units; NaN where not known
    known: NDArray[np.bool_]  # the shape of `data`: bands may be known at different places; True = measured
    transform: Affine = field(default_factory=Affine.identity)  # of a pixel's upper left corner
    crs: CRS | None = None

    def __post_init__(self) -> None:
        if self.data.ndim != 3 or self.data.dtype != np.float32:
            raise RasterError(f"got data {self.data.dtype} {self.data.shape}; wanted float32 (bands, height, width)")
        if self.known.shape != self.data.shape or self.known.dtype != np.bool_:
            raise RasterError(f"got known {self.known.dtype} {self.known.shape}; wanted bool {self.data.shape}")
        if not np.all(np.isfinite(self.data), where=self.known):
            raise RasterError("got known pixels that are NaN or infinite; wanted known = False there")

    @property
    def count(self) -> int:
        """Number of bands."""
        return int(self.data.shape[0])

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return int(self.data.shape[1]), int(self.data.shape[2])


class RasterSource(AbstractContextManager["RasterSource"]):
    """An open raster, read window by window in a ``with`` block; its attributes say what the file declares.

    A `RasterError` refuses a file that is missing, no raster, cut off, or of complex numbers.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            got = "a folder" if self.path.is_dir() else "no such file"
            raise RasterError(f"{self.path}: {got}; wanted a raster file: check the path")
        with gdal(f"{self.path}: not a raster that can be opened; wanted a whole GeoTIFF or the like"):
            self._dataset = open_raster(self.path)
        try:
            with gdal(f"{self.path}: its metadata cannot be read", advice="rewrite it, such as by gdal_translate"):
                self._describe()
        except BaseException:
            self.close()
            raise

    def _describe(self) -> None:
        behind = dict.fromkeys([self.path, *map(Path, self._dataset.files)])  # of a VRT its sources too
        beside = [Path(f"{file}{ending}") for file in behind for ending in DESCRIBING]
        self.files = (*behind, *(file for file in beside if file not in behind and file.is_file()))
        self.shape: tuple[int, int] = self._dataset.shape
        self.count: int = self._dataset.count
        self.transform: Affine = self._dataset.transform
        self.crs: CRS | None = self._dataset.crs
        if self.transform.is_identity and self._dataset.gcps[0]:
            got = f"placed by {len(self._dataset.gcps[0])} ground control points alone"
            self.close()
            raise RasterError(f"{self.path}: {got}; wanted a grid: gdalwarp {self.path.name} NEW.tif makes one")
        self.band_names = tuple(name or f"band_{i}" for i, name in enumerate(self._dataset.descriptions, start=1))
        self.units: tuple[str, ...] = tuple(unit or "" for unit in self._dataset.units)
        self.dtypes: tuple[str, ...] = self._dataset.dtypes
        self.scales, self.offsets = tuple(self._dataset.scales), tuple(self._dataset.offsets)  # 1.0, 0.0 where not told
        self.nodatavals: tuple[float | None, ...] = self._dataset.nodatavals
        self.colours = tuple(colour.name for colour in self._dataset.colorinterp)  # red, alpha, palette, undefined ...
        height, width = self.shape
        area = self.transform.determinant
        corners = [self.transform @ corner for corner in ((0, 0), (width, height))]
        if not area or not np.isfinite([*corners, (area, 1 / area)]).all():
            got = f"got the position {tuple(self.transform)[:6]}, by which pixels have no area"
            raise RasterError(f"{self.path}: {got}; wanted a grid; assign one (gdal_edit -a_ullr)")
        kinds = sorted(set(self.dtypes))
        if not kinds or any(kind.startswith("complex") for kind in kinds):
            raise RasterError(f"{self.path}: got {self.count} bands of {kinds}; wanted one or more of real numbers")

    def read(self, window: Tile | None = None, *, bands: Sequence[int] | None = None, alpha: bool = True) -> Raster:
        """Read a window (the whole by default) as float32 in physical units: scale and offset applied.

        ``bands`` are counted from 1, in the order wanted, all by default. A pixel is known when it differs from nodata,
        GDAL's mask (internal or, with ``alpha``, alpha) is not zero, and its value is finite. Whole numbers above 2**24
        lose digits. A window that reaches outside, a band that does not exist, or a damaged file is a `RasterError`.
        """
        tile = window or Tile(0, 0, *self.shape)
        if not tile.inside(self.shape):
            raise RasterError(f"{self.path}: got {tile}; wanted a window inside {_size(self.shape)}")
        chosen = list(range(1, self.count + 1)) if bands is None else list(bands)
        if not chosen or not all(1 <= band <= self.count for band in chosen):
            raise RasterError(f"{self.path}: got bands {chosen}; wanted one or more of 1 .. {self.count}")
        values = math.prod(tile.shape) * len(chosen)
        smaller = "read it window by window, or cut out a part"
        check_limit(values, VALUES_AT_ONCE, f"values of {self.path} at once", smaller, error=RasterError)
        area = Window.from_slices(*tile.slices)
        with gdal(f"{self.path}: pixels cannot be read, the file is cut off or damaged: fetch it again"):
            raw = self._dataset.read(chosen, window=area)
            known = self._dataset.read_masks(chosen, window=area) != 0
            if not alpha and MaskFlags.alpha in self._dataset.mask_flag_enums[chosen[0] - 1]:
                known[:] = True
        data = np.empty(raw.shape, dtype=np.float32)
        meanings = list(zip(self.nodatavals, self.scales, self.offsets, strict=True))
        for index, band in enumerate(chosen):
            nodata, scale, offset = meanings[band - 1]
            with np.errstate(over="ignore", invalid="ignore"):  # beyond float32 is infinite: not known
                if nodata is not None:
                    known[index] &= raw[index] != nodata
                data[index] = raw[index] if (scale, offset) == (1.0, 0.0) else raw[index] * np.float64(scale) + offset
        known &= np.isfinite(data)
        data[~known] = np.nan
        t, row, col = self.transform, tile.row, tile.col
        transform = Affine(t.a, t.b, t.c + t.a * col + t.b * row, t.d, t.e, t.f + t.d * col + t.e * row)
        return Raster(data, known, transform, self.crs)

    def close(self) -> None:
        """Close the file."""
        self._dataset.close()

    def __exit__(self, *_: object) -> None:
        self.close()


def read_raster(path: str | Path, *, window: Tile | None = None, bands: Sequence[int] | None = None) -> Raster:
    """Read a raster, or a window of it, as `RasterSource.read` does."""
    with RasterSource(path) as source:
        return source.read(window, bands=bands)


@dataclass(eq=False)
class RasterWriter:
    """Write a Cloud-Optimized GeoTIFF window by window; memory does not grow with the raster.

    Windows go into an uncompressed, hidden GeoTIFF beside `path` (4 bytes of disk per pixel and band). When the
    ``with`` block ends well, GDAL's COG driver makes the final file from it (float32, deflate, predictor 3, tiles of
    512, overviews), which then takes its name. After an exception or Ctrl-C, or on a full disk, the hidden files are
    deleted and `path` stays as it was. Pixels never written are nodata. A file that exists, a folder that does not, a
    window that does not fit, or a full disk is a `RasterError`.
    """

    path: Path  # ends in .tif or .tiff
    _: KW_ONLY
    shape: tuple[int, int]
    transform: Affine
    crs: CRS | None
    band_names: tuple[str, ...]  # as many as there are bands
    units: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    nodata: float = np.nan  # stored where there is no value, in all bands
    dtype: str = "float32"  # or uint8
    colours: Mapping[int, tuple[int, int, int]] = field(default_factory=dict)  # of the values of one uint8 band
    overwrite: bool = False

    def __post_init__(self) -> None:
        self.path = Path(self.path)
        self.units = self.units or ("",) * len(self.band_names)
        if self.path.suffix.lower() not in (".tif", ".tiff"):
            raise RasterError(f"{self.path.name}: got the ending '{self.path.suffix}'; wanted .tif: rename the output")
        if not self.path.parent.is_dir():
            raise RasterError(f"{self.path.name}: no folder {self.path.parent}; wanted an existing one: make it first")
        if min(self.shape) < 1 or not self.band_names or len(self.units) != len(self.band_names):
            got = f"{_size(self.shape)}, bands {self.band_names}, units {self.units}"
            raise RasterError(f"{self.path.name}: got {got}; wanted a pixel and a band or more, one unit per band")
        self._refuse_existing()

    def __enter__(self) -> Self:
        profile = {"height": self.shape[0], "width": self.shape[1], "transform": self.transform, "crs": self.crs}
        profile |= {"count": len(self.band_names), "dtype": self.dtype, "nodata": self.nodata}
        hidden = f".{self.path.name}.{uuid.uuid4().hex[:8]}"
        self._staged = self.path.with_name(f"{hidden}.uncompressed.partial")
        self._final = self.path.with_name(f"{hidden}.partial")
        with gdal(f"{self.path.name}: {_UNWRITABLE}"):
            try:
                self._staging = create_raster(self._staged, **profile, **_TILED)
                self._staging.descriptions, self._staging.units = self.band_names, self.units
                self._staging.update_tags(**self.tags)
                if self.colours:
                    self._staging.write_colormap(1, self.colours)
            except BaseException:
                self._remove_hidden()
                raise
        return self

    def write(self, array: NDArray[np.floating[Any]], window: Tile | None = None) -> None:
        """Write one window, all bands: (bands, height, width), NaN where there is no value."""
        tile = window or Tile(0, 0, *self.shape)
        wanted = (len(self.band_names), *tile.shape)
        if not tile.inside(self.shape) or array.shape != wanted:
            got = f"{self.path.name}: got {array.shape} for {tile}"
            raise RasterError(f"{got}; wanted {wanted} inside {_size(self.shape)}")
        values = np.where(np.isnan(array), np.float32(self.nodata), array).astype(self.dtype, copy=False)
        with gdal(f"{self.path.name}: {_UNWRITABLE}"):
            self._staging.write(values, window=Window.from_slices(*tile.slices))

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            with suppress(Exception):  # what already goes wrong must stay the error that is seen
                self._staging.close()
            self._remove_hidden()

    def _finish(self) -> None:
        tiles = -(-self.shape[0] // _TILE_SIDE) * -(-self.shape[1] // _TILE_SIDE)
        with gdal(f"{self.path.name}: {_UNWRITABLE}"):
            self._staging.close()
            predictor = {} if self.dtype == "float32" else {"PREDICTOR": "STANDARD"}
            rasterio.shutil.copy(self._staged, self._final, **_COG | predictor)
            # On a full disk GDAL may report success for a file that lacks its end: its size or its last tile tells.
            size = tiles * _TILE_SIDE**2 * np.dtype(self.dtype).itemsize * len(self.band_names)
            if self._staged.stat().st_size < size:
                raise RasterError(f"{self.path.name}: the disk is full, it cut off the copy: free some space")
            with open_raster(self._final) as made:
                *_, (_, last) = made.block_windows()
                made.read(window=last)
            self._refuse_existing()
            self._final.replace(self.path)

    def _remove_hidden(self) -> None:
        """Remove the hidden files, and what GDAL may have left beside them."""
        for path in (self._staged, self._final):
            for left in self.path.parent.glob(f"{glob.escape(path.name)}*"):
                left.unlink(missing_ok=True)

    def _refuse_existing(self) -> None:
        if self.path.is_dir() or (self.path.exists() and not self.overwrite):
            raise RasterError(f"{self.path.name}: exists already; wanted a new name, or overwriting allowed")


def uncompressed_bytes(shape: tuple[int, int]) -> int:
    """Bytes of one float32 band, as `RasterWriter` stages it."""
    return np.dtype(np.float32).itemsize * math.prod(shape)


def _size(shape: tuple[int, int]) -> str:
    """Width x height, as GDAL's tools print it."""
    return f"{shape[1]}x{shape[0]} pixels"
