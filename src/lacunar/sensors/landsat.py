"""Landsat 8 and 9 products as delivered: a folder or a .tar with bands, quality bits and metadata.

`open_product` looks at everything that can be wrong before anything is computed; `Product.read` and
`Product.qa_flags` then give digital numbers and quality flags, whole or window by window. What the numbers mean is
`lacunar.sensors.sebal`'s matter; the constants it wants come from the product's own MTL file.
"""

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import DatasetReader
from rasterio.windows import Window

from lacunar.errors import ProductError
from lacunar.geo.windows import Tile
from lacunar.sensors.archive import Delivery, open_delivery
from lacunar.sensors.landsat_qa import GAP_CLASSES, RADSAT_BITS, QaClass, QaForm, qa_flags
from lacunar.sensors.mtl import MTL_SIZE_LIMIT, Mtl, parse_mtl

__all__ = ["GAP_CLASSES", "Product", "QaClass", "open_product"]

MTL_ENDINGS = ("_mtl.txt", "_mtl.json", "_mtl.xml")  # in order of preference, where there are several
SATURATED_DN = 65535  # QUANTIZE_CAL_MAX of every band
GRID_TOLERANCE = 1e-3  # metres by which the bands' transforms may differ

_BAND_FILE = re.compile(r"_((?:ST_|SR_)?B\d{1,2}|QA_PIXEL|QA_RADSAT|BQA)\.tiff?$", re.IGNORECASE)

Purpose = Literal["lst", "water"]

# What LST cannot do without, the thermal band first; the reflective bands, one of which water wants; those for albedo.
_REQUIRED = {1: ("B10", "B4", "B5"), 2: ("ST_B10",)}
_REFLECTIVE = {level: tuple(f"{prefix}{number}" for number in range(2, 8)) for level, prefix in ((1, "B"), (2, "SR_B"))}
_ALBEDO_BANDS = ("B2", "B3", "B4", "B5", "B6", "B7")
_QA_BANDS = ("QA_PIXEL", "BQA")


@dataclass(frozen=True, slots=True)
class Product:
    """An opened product: where its bands are, on which grid, and its metadata. Made by `open_product`.

    Attributes
    ----------
    mtl
        The metadata file.
    sources
        Band name (``B10``, ``QA_PIXEL``, ``ST_B10`` ...) -> what rasterio opens.
    shape, crs, transform
        Grid of the 30 m bands: rows and columns, coordinate system, pixel -> map.
    notes
        What a user should know, for example where the coordinate system was taken from.
    grid_band
        The band whose grid all others must have.
    """

    mtl: Mtl
    sources: Mapping[str, str]
    shape: tuple[int, int]
    crs: CRS
    transform: Affine
    notes: tuple[str, ...]
    grid_band: str

    @property
    def level(self) -> Literal[1, 2]:
        """1: ``B10`` holds radiance; 2: ``ST_B10`` holds surface temperature."""
        return self.mtl.level

    @property
    def thermal_band(self) -> str:
        """``B10`` or ``ST_B10``; its fill is the product's footprint."""
        return _REQUIRED[self.level][0]

    @property
    def has_qa(self) -> bool:
        """Whether `qa_flags` can answer."""
        return self._qa_band() is not None

    @property
    def constants(self) -> dict[str, float]:
        """Every constant that LST takes from this product's MTL file, by its MTL name."""
        return {key: self.mtl.constant(key) for key in _constant_names(self.level)}

    @property
    def metadata(self) -> dict[str, Any]:
        """What a sidecar should record, ready for JSON."""
        return {
            "id": self.mtl.product_id,
            "satellite": self.mtl.satellite,
            "collection": self.mtl.collection,
            "level": self.level,
            "date": self.mtl.date,
            "sun_elevation": self.mtl.optional("SUN_ELEVATION"),
            "earth_sun_distance": self.mtl.optional("EARTH_SUN_DISTANCE"),
            "qa_band": self._qa_band(),
            "constants": self.constants,
            "notes": list(self.notes),
        }

    def coefficients(
        self, quantity: Literal["RADIANCE", "REFLECTANCE", "TEMPERATURE"], band: str
    ) -> tuple[float, float]:
        """Multiplier and addend of a band from the MTL file, for example of ``"RADIANCE"`` and ``"B10"``.

        Raises
        ------
        ProductError
            The MTL file lacks one of them.
        """
        suffix = band if band.startswith("ST_") else band.removeprefix("SR_").removeprefix("B")
        return (
            self.mtl.constant(f"{quantity}_MULT_BAND_{suffix}"),
            self.mtl.constant(f"{quantity}_ADD_BAND_{suffix}"),
        )

    def albedo_weights(self) -> dict[str, float]:
        """Each reflective band's share of the sun's irradiance, of sum 1, for `lacunar.sensors.sebal.surface_albedo`.

        The irradiance of a band is proportional to M_L / M_rho, so that the shares follow from the MTL file.
        Empty where the product lacks one of the bands 2 to 7 or is of Level 2.
        """
        if self.level != 1 or not set(_ALBEDO_BANDS) <= set(self.sources):
            return {}
        irradiance = {
            band: self.coefficients("RADIANCE", band)[0] / self.coefficients("REFLECTANCE", band)[0]
            for band in _ALBEDO_BANDS
        }
        total = sum(irradiance.values())
        return {band: value / total for band, value in irradiance.items()}

    def read(self, band: str, *, window: Tile | None = None) -> NDArray[np.uint16]:
        """Digital numbers of a 30 m band; 0 where nothing was measured (fill, or the file's own nodata value).

        Parameters
        ----------
        band
            For example ``"B10"``, ``"B4"``, ``"ST_B10"``.
        window
            Part of the band; all of it without.

        Returns
        -------
        numpy.ndarray
            (rows, columns), uint16.

        Raises
        ------
        ProductError
            The band is lacking, lies on another grid, is cut off, or holds no digital numbers.
        """
        dn, nodata = self._read_raw(band, window)
        measured = dn > 0
        if nodata is not None:
            measured &= dn != nodata
        if measured.any() and int(dn.max(where=measured, initial=0)) > SATURATED_DN:
            raise ProductError(f"band {band} holds values above {SATURATED_DN}: wanted digital numbers as delivered")
        return np.where(measured, dn, 0).astype(np.uint16)

    def qa_flags(self, classes: Sequence[QaClass], *, window: Tile | None = None) -> NDArray[np.bool_]:
        """Where the product's quality band says one of these classes.

        `lacunar.sensors.landsat_qa.qa_flags` says what counts in each collection, and which classes it does not know.

        Parameters
        ----------
        classes
            Of `QaClass`; `GAP_CLASSES` is the usual choice. None at all gives False everywhere.
        window
            Part of the product; all of it without.

        Returns
        -------
        numpy.ndarray
            (rows, columns), bool.

        Raises
        ------
        ProductError
            No quality band in the product, an unknown class, or a band that cannot be read.
        """
        band = self._qa_band()
        if band is None:
            raise ProductError(f"{self.mtl.product_id} has no quality band (QA_PIXEL or BQA): give a gap mask instead")
        form: QaForm = "collection_2"
        if band == "BQA":
            form = "collection_1" if self.mtl.collection == 1 else "pre_collection"
        qa, nodata = self._read_raw(band, window)
        if nodata is not None:
            qa = np.where(qa == nodata, 0, qa)
        return qa_flags(qa, classes, form=form)

    def saturated(self, band: str, *, window: Tile | None = None) -> NDArray[np.bool_]:
        """Where a band was saturated: its bit in QA_RADSAT where the product has that, and the highest digital number.

        Raises
        ------
        ProductError
            The band or QA_RADSAT cannot be read.
        """
        flags: NDArray[np.bool_] = self.read(band, window=window) == SATURATED_DN
        if "QA_RADSAT" in self.sources and band in RADSAT_BITS:
            radsat, _ = self._read_raw("QA_RADSAT", window)
            flags |= (radsat >> RADSAT_BITS[band]) & 1 == 1
        return flags

    def _qa_band(self) -> str | None:
        """The quality band that the product has."""
        return next((band for band in _QA_BANDS if band in self.sources), None)

    def _read_raw(self, band: str, window: Tile | None) -> tuple[NDArray[Any], float | None]:
        """A band's values as stored, and its declared nodata value."""
        if band not in self.sources:
            raise ProductError(f"{self.mtl.product_id} lacks band {band}: it has {', '.join(sorted(self.sources))}")
        if window is not None and not window.inside(self.shape):
            raise ProductError(f"{window} reaches outside the product's {self.shape[0]} x {self.shape[1]} pixels")
        part = None if window is None else Window(window.col, window.row, window.width, window.height)
        with _opened(band, self.sources[band]) as dataset:
            _check_band(band, dataset, self)
            return dataset.read(1, window=part), dataset.nodata


def open_product(path: str | Path, *, purpose: Purpose = "lst") -> Product:
    """Open a product and check all that is wanted of it, without reading a pixel.

    Parameters
    ----------
    path
        A product's folder, or its .tar or .tar.gz as delivered, which is read in place and never unpacked.
    purpose
        ``"lst"`` wants the thermal band (of Level 1 also bands 4 and 5) and its constants; ``"water"`` one or more of
        the bands 2 to 7.

    Returns
    -------
    Product
        Ready for `Product.read`.

    Raises
    ------
    ProductError
        No folder or archive; an archive with members that point outside, are links or devices; no MTL file or several;
        an MTL file that cannot be read or lacks a constant; a band that is lacking, cut off or of another size;
        no coordinate system, neither in the GeoTIFF nor in the MTL file.
    """
    delivery = open_delivery(Path(path))
    mtl_name = _mtl_name(delivery)
    mtl = parse_mtl(delivery.load(mtl_name, limit=MTL_SIZE_LIMIT), mtl_name)
    sources = _band_sources(delivery, mtl)
    wanted = _wanted_bands(delivery.path.name, mtl, sources, purpose)
    for key in _constant_names(mtl.level) if purpose == "lst" else ():
        mtl.constant(key)
    product = _place(mtl, sources, wanted[0])
    for band in (*wanted[1:], *_QA_BANDS, "QA_RADSAT"):
        if band in sources:
            with _opened(band, sources[band]) as dataset:
                _check_band(band, dataset, product)
    return product


def _wanted_bands(name: str, mtl: Mtl, sources: Mapping[str, str], purpose: Purpose) -> tuple[str, ...]:
    """The bands that a purpose takes, that of the grid first; refuses a product without them."""
    if purpose == "water":
        reflective = _REFLECTIVE[mtl.level]
        if not (there := tuple(band for band in reflective if band in sources)):
            raise ProductError(
                f"{name} holds none of {reflective[0]} to {reflective[-1]}: water wants one or more of them; get the "
                "missing files from the product's source"
            )
        return there
    required = _REQUIRED[mtl.level]
    if lacking := [band for band in required if band not in sources]:
        raise ProductError(
            f"{name} lacks {', '.join(lacking)}: LST of a Level-{mtl.level} product wants {', '.join(required)}; get "
            "the missing files from the product's source"
        )
    return required


def _constant_names(level: int) -> tuple[str, ...]:
    """MTL names of the constants between digital numbers and LST."""
    if level == 2:
        return ("TEMPERATURE_MULT_BAND_ST_B10", "TEMPERATURE_ADD_BAND_ST_B10")
    scaled = ("RADIANCE_{}_BAND_10", "REFLECTANCE_{}_BAND_4", "REFLECTANCE_{}_BAND_5")
    coefficients = (name.format(part) for name in scaled for part in ("MULT", "ADD"))
    return (*coefficients, "K1_CONSTANT_BAND_10", "K2_CONSTANT_BAND_10", "SUN_ELEVATION")


def _mtl_name(delivery: Delivery) -> str:
    """Name of the one metadata file, text before JSON before XML."""
    for ending in MTL_ENDINGS:
        found = [name for name in delivery.sources if name.lower().endswith(ending)]
        if len(found) > 1:
            raise ProductError(f"{delivery.path.name} holds {found[0]} and {found[1]}: wanted one product; part them")
        if found:
            return found[0]
    raise ProductError(
        f"{delivery.path.name} holds no MTL file (*_MTL.txt, .json or .xml): give a product's folder, or its .tar"
    )


def _band_sources(delivery: Delivery, mtl: Mtl) -> dict[str, str]:
    """Band name -> what rasterio opens: by the MTL's file names, and where they do not help by the file names' end."""
    by_pattern: dict[str, list[str]] = {}
    for file in delivery.sources:
        if match := _BAND_FILE.search(file):
            by_pattern.setdefault(match[1].upper(), []).append(file)
    by_lower = {file.lower(): file for file in delivery.sources}
    sources = {}
    for band in {**mtl.files, **by_pattern}:
        named = by_lower.get(mtl.files.get(band, "").lower())
        files = by_pattern.get(band, []) if named is None else [named]
        if len(files) > 1:
            raise ProductError(f"{files[0]} and {files[1]} are both band {band}: wanted one product; part them")
        if files:
            sources[band] = delivery.sources[files[0]]
    return sources


def _place(mtl: Mtl, sources: Mapping[str, str], band: str) -> Product:
    """The product on the grid of one of its bands, completed from the MTL file."""
    notes = []
    with _opened(band, sources[band]) as dataset:
        shape, crs, transform = dataset.shape, dataset.crs, dataset.transform
    if crs is None:
        if mtl.grid is None:
            raise ProductError(f"{band} has no CRS and {mtl.name} no UTM zone: wanted one of them; assign the CRS")
        crs = CRS.from_epsg(mtl.grid.epsg)
        notes.append(f"CRS taken from the MTL (EPSG:{mtl.grid.epsg}): the GeoTIFF has none")
    if transform == Affine.identity():
        if mtl.grid is None or mtl.grid.shape != shape:
            said = "none" if mtl.grid is None else f"{mtl.grid.shape[0]} x {mtl.grid.shape[1]} pixels"
            raise ProductError(
                f"{band} ({shape[0]} x {shape[1]} pixels) has no position and the corners in {mtl.name} span {said}: "
                "wanted the position in one of them"
            )
        left, top = mtl.grid.upper_left
        half = mtl.grid.pixel / 2  # the MTL's corners are centres of pixels
        transform = Affine(mtl.grid.pixel, 0.0, left - half, 0.0, -mtl.grid.pixel, top + half)
        notes.append("position taken from the MTL's corners: the GeoTIFF has none")
    return Product(mtl, sources, shape, crs, transform, tuple(notes), grid_band=band)


@contextmanager
def _opened(band: str, source: str) -> Iterator[DatasetReader]:
    """A GeoTIFF, only for reading, with what can be wrong with it said in one line."""
    options = {"CPL_VSIL_GZIP_WRITE_PROPERTIES": "NO"}  # or GDAL leaves a file beside a .tar.gz
    if source.startswith("/vsitar/"):
        options["GDAL_DISABLE_READDIR_ON_OPEN"] = "EMPTY_DIR"  # no search of the whole archive for each band
    with rasterio.Env(**options), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            with rasterio.open(source, driver="GTiff") as dataset:
                yield dataset
        except ProductError:
            raise
        except Exception as error:  # rasterio lets GDAL's own classes, OSError and SystemError through
            reason = " ".join(str(error.__cause__ or error).split())[:160]
            raise ProductError(f"band {band} cannot be read ({reason}): is it cut off? Get it anew") from error


def _check_band(band: str, dataset: DatasetReader, product: Product) -> None:
    """Refuse a band that is not on the product's grid or holds no digital numbers."""
    name = f"band {band} of {product.mtl.product_id}"
    if dataset.shape != product.shape:
        raise ProductError(
            f"{name} has {dataset.shape[0]} x {dataset.shape[1]} pixels, {product.grid_band} has "
            f"{product.shape[0]} x {product.shape[1]}: wanted one size; crop or resample all bands alike"
        )
    placed = dataset.transform != Affine.identity()
    if (dataset.crs is not None and dataset.crs != product.crs) or (
        placed and not dataset.transform.almost_equals(product.transform, precision=GRID_TOLERANCE)
    ):
        raise ProductError(f"{name} lies elsewhere than {product.grid_band}: wanted one grid for all bands")
    if not np.issubdtype(np.dtype(dataset.dtypes[0]), np.integer):
        raise ProductError(f"{name} holds {dataset.dtypes[0]} values: wanted digital numbers (integers) as delivered")
