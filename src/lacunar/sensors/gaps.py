"""What can be filled: LST of a product or a single-band raster, with the gaps that quality bits and masks name."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from scipy import ndimage

from lacunar.errors import LacunarError, RasterError
from lacunar.geo.grid import check_same_grid
from lacunar.geo.raster import RasterSource
from lacunar.geo.windows import Tile
from lacunar.sensors import sebal as radiometry
from lacunar.sensors.landsat import GAP_CLASSES, Product, QaClass
from lacunar.sensors.sebal import Atmosphere, ReflectanceForm

CLOUD_DILATION = 3  # pixels that CFMask grows a cloud by (Foga et al. 2017); the class "dilated_cloud" of Collection 2
PLAUSIBLE_LST = (150.0, 400.0)  # K: beyond this a land surface temperature is a fault, not a measurement

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Gappy:
    """A window of a raster with gaps: values (H, W), and which are measured and which are to be filled."""

    values: NDArray[np.floating]
    known: BoolArray
    gap: BoolArray


@dataclass(frozen=True, kw_only=True)
class LstOptions:
    """How LST is computed from a product, and which pixels count as gap.

    Parameters
    ----------
    gap_classes
        Quality classes that are filled.
    soil_l
        L of SAVI, 0 to 1; 0.5 by default.
    reflectance
        ``usgs``, or ``dr`` for the variant that divides by dr = 1/d^2 once more.
    atmosphere
        Path radiance, transmissivity and sky radiance; None leaves LST without atmospheric correction.

    Raises
    ------
    LacunarError
        A quality class, an L or a form of the reflectance that does not exist.
    """

    gap_classes: Sequence[QaClass] = GAP_CLASSES
    soil_l: float = 0.5
    reflectance: ReflectanceForm = "usgs"
    atmosphere: Atmosphere | None = None

    def __post_init__(self) -> None:
        """Refuse what does not exist before any product is opened."""
        object.__setattr__(self, "gap_classes", tuple(self.gap_classes))
        for name in self.gap_classes:
            if name not in get_args(QaClass):
                raise LacunarError(f"unknown gap class {name!r}: choose among {', '.join(get_args(QaClass))}")
        if self.reflectance not in get_args(ReflectanceForm):
            names = ", ".join(get_args(ReflectanceForm))
            raise LacunarError(f"unknown form of the reflectance {self.reflectance!r}: choose one of {names}")
        if not 0.0 <= self.soil_l <= 1.0:
            raise LacunarError(f"soil adjustment L of SAVI is {self.soil_l}: wanted 0 to 1; 0.5 is usual")


class GapSource(Protocol):
    """What can be filled: a grid, windows of values with gaps, the files that are read, and what is recorded of it."""

    shape: tuple[int, int]
    transform: Affine
    crs: CRS | None
    name: str
    quantity: str
    units: str
    inputs: list[Path]

    def read(self, window: Tile) -> Gappy:
        """Values, measured pixels and gap of a window."""

    def record(self) -> dict[str, Any]:
        """What the sidecar says about the source."""


def compute_lst(product: Product, options: LstOptions, *, window: Tile | None = None) -> dict[str, NDArray[np.float64]]:
    """Every step from digital numbers to LST, by SEBAL (Bastiaanssen et al. 1998; the 2002 Idaho manual).

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


def _pair(product: Product, quantity: Literal["RADIANCE", "REFLECTANCE"], band: str) -> dict[str, float]:
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
    """LST of a product, with the gaps that its quality band and a gap mask name.

    Without either it is refused, unless `needs_qa` is False: then every plausible pixel counts as measured.
    """

    product: Product
    options: LstOptions
    mask: RasterSource | None = None
    needs_qa: bool = True
    quantity: str = field(default="lst", init=False)
    units: str = field(default="K", init=False)

    def __post_init__(self) -> None:
        """Refuse a product whose gaps nothing tells, a mask on another grid, and a correction that is made already."""
        self.shape, self.transform, self.crs = self.product.shape, self.product.transform, self.product.crs
        self.name = f"{self.product.mtl.product_id} ({self.product.mtl.date})"
        self.inputs = [Path(file) for file in self.product.sources.values()]
        if self.needs_qa and self.mask is None and not self.product.has_qa:
            raise LacunarError(
                f"{self.product.mtl.product_id} has no quality band (QA_PIXEL or BQA) and no gap mask was given: "
                "name the gaps with --gap-mask RASTER (non-zero = to be filled)"
            )
        if self.product.level == 2 and self.options.atmosphere is not None:
            raise LacunarError(
                f"{self.product.mtl.product_id} is of Level 2, corrected for the atmosphere already: "
                "leave path radiance, transmissivity and sky radiance out"
            )
        if self.mask is not None:
            self.inputs.append(self.mask.path)
            check_same_grid(self, self.mask, names=("the input", f"the gap mask {self.mask.path}"))

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
            gap |= self._flagged(window)
        if self.mask is not None:
            gap |= _masked(self.mask, window)
        return Gappy(lst, footprint & ~gap, footprint & gap)

    def _flagged(self, window: Tile) -> BoolArray:
        """Pixels of the gap classes; before Collection 2, which has no class for it, cloud is dilated here."""
        flags = self.product.qa_flags(list(self.options.gap_classes), window=window)
        if self.product.mtl.collection != 2 and "dilated_cloud" in self.options.gap_classes:
            top, left = max(0, window.row - CLOUD_DILATION), max(0, window.col - CLOUD_DILATION)
            bottom = min(self.shape[0], window.row + window.height + CLOUD_DILATION)
            right = min(self.shape[1], window.col + window.width + CLOUD_DILATION)
            cloud = self.product.qa_flags(["cloud"], window=Tile(top, left, bottom - top, right - left))
            grown = ndimage.binary_dilation(cloud, structure=np.ones((3, 3)), iterations=CLOUD_DILATION)
            inner = Tile(window.row - top, window.col - left, window.height, window.width)
            flags |= grown[inner.slices]
        return flags

    def record(self) -> dict[str, Any]:
        """Product, constants and physics."""
        physics: dict[str, Any] = {"lst_from": "ST_B10 of Level 2"}
        if self.product.level == 1:
            air = self.options.atmosphere
            physics = {
                "lst_from": "SEBAL",
                "savi_l": self.options.soil_l,
                "reflectance": self.options.reflectance,
                "atmosphere": None if air is None else asdict(air),
            }
        return {
            "product": self.product.metadata,
            "gap_classes": list(self.options.gap_classes) if self.product.has_qa else [],
            "gap_mask": str(self.mask.path) if self.mask else None,
            **physics,
            "atmospherically_corrected": self.product.level == 2 or self.options.atmosphere is not None,
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
        self.units, self.name, self.inputs = self.raster.units[0], self.raster.path.name, [self.raster.path]
        if self.mask is not None:
            self.inputs.append(self.mask.path)
            check_same_grid(self, self.mask, names=("the input", f"the gap mask {self.mask.path}"))

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
