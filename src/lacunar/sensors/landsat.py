"""Landsat 4 to 9 products as delivered: a folder or a .tar with bands, quality bits and metadata.

An archive is read in place and never unpacked. What the digital numbers mean is `lacunar.sensors.sebal`'s matter; the
constants come from the product's own MTL file.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.io import DatasetReader
from rasterio.windows import Window
from scipy import ndimage

from lacunar.errors import ProductError
from lacunar.geo.gate import gdal, open_member, open_raster
from lacunar.geo.windows import Tile, blocks_over
from lacunar.sensors import sebal
from lacunar.sensors.bands import BANDS, BandName
from lacunar.sensors.delivery import IN_ARCHIVE, band_sources, mtl_name_of, open_delivery, own_files
from lacunar.sensors.landsat_qa import QaClass, QaForm, qa_flags
from lacunar.sensors.mtl import MTL_SIZE_LIMIT, Mtl, parse_mtl
from lacunar.sensors.plausible import PLAUSIBLE_LST
from lacunar.sensors.scene import (
    UNMASKED,
    BoolArray,
    LstOptions,
    Measured,
    Planes,
    Scene,
    blocks_from_centre,
    date_in,
    planes_of,
)
from lacunar.sensors.sebal import ReflectanceForm

ST_QA_KELVIN = 0.01  # of a digital number of ST_QA, the uncertainty of ST_B10 (LSDS-1619)
SATURATED_DN = 65535  # QUANTIZE_CAL_MAX of 16 bits
GRID_TOLERANCE = 1e-3  # metres by which the bands' transforms may differ
CLOUD_DILATION = 3  # pixels that CFMask grows a cloud by (Foga et al. 2017); the class "dilated_cloud" of Collection 2
CLOUD_CLASSES: tuple[QaClass, ...] = ("cloud", "cloud_shadow")  # that hide water
CLOUD_SIDE = 1024  # of the blocks in which they are counted

# By satellite: the thermal band of Level 1 and of Level 2. Of ETM+ the low gain, which does not saturate.
_TIRS, _TM = ("B10", "ST_B10"), ("B6", "ST_B6")
_THERMAL = {"LANDSAT_4": _TM, "LANDSAT_5": _TM, "LANDSAT_7": ("B6_VCID_1", "ST_B6")}
_THERMAL |= {"LANDSAT_8": _TIRS, "LANDSAT_9": _TIRS}
# The same of the bands in the order of BANDS; red and nir are the third and fourth.
_OLI_NUMBERS, _TM_NUMBERS = (2, 3, 4, 5, 6, 7), (1, 2, 3, 4, 5, 7)
_QA_BANDS = ("QA_PIXEL", "BQA")
_GET_MISSING = "get the missing files from the product's source"

Quantity = Literal["RADIANCE", "REFLECTANCE", "TEMPERATURE"]
Float = NDArray[np.float64]


class LandsatScene(Scene):
    """A Landsat product, Level 1 (LST by SEBAL) or Level 2 (its ``ST_B10``). Parameters are those of `open_scene`.

    Refused with a `ProductError`: what is no product, or unsafe to unpack; no MTL file, several, or one that cannot be
    read; no band of use; no coordinate system in the GeoTIFF nor in the MTL file.
    """

    kind = "product"
    quantity = "lst"
    units = "K"

    def __init__(
        self,
        path: Path,
        *,
        lst_options: LstOptions | None = None,
        gap_mask: str | Path | None = None,
        invert: bool = False,
        keep_clouds: bool = False,
    ) -> None:
        super().__init__(path)
        self.options, self._keep_clouds = lst_options or LstOptions(), keep_clouds
        delivery = open_delivery(path)
        mtl_name = mtl_name_of(delivery)
        self.mtl = parse_mtl(delivery.load(mtl_name, limit=MTL_SIZE_LIMIT), mtl_name)
        self.level = self.mtl.level
        numbers = _OLI_NUMBERS if _THERMAL[self.mtl.satellite] is _TIRS else _TM_NUMBERS
        self._all_reflective = tuple(f"{'SR_' if self.level == 2 else ''}B{number}" for number in numbers)
        self._thermal_band = _THERMAL[self.mtl.satellite][self.level - 1]
        self._required = (self._thermal_band, *(self._all_reflective[2:4] if self.level == 1 else ()))  # by LST
        self.sources = band_sources(delivery, self.mtl)  # of B10, QA_PIXEL, ST_B10 ...: what rasterio opens
        self.product_id, self.date = self.mtl.product_id, date_in(self.mtl.date)
        self.title = f"{self.mtl.product_id} ({self.mtl.date})"
        self.inputs += [path / name for name in own_files(delivery, self.sources)] if path.is_dir() else [path]
        self._datasets: dict[str, DatasetReader] = {}
        wanted = (*self._required, *self._all_reflective)
        self._grid_band = next((band for band in wanted if band in self.sources), wanted[0])
        dataset = self._open(self._grid_band)
        self.shape, self.crs, self.transform, self.notes = _place(self.mtl, self._grid_band, dataset)
        self._check_band(self._grid_band, dataset)
        self._add_mask(gap_mask, inverted=invert)

    # --- LST ---

    def check_lst(self, *, needs_qa: bool = True) -> None:
        """Refuse a product that lacks a band, a constant or a quality band, and a correction that is made already."""
        required = self._required
        if lacking := [band for band in required if band not in self.sources]:
            wanted = f"LST of a Level-{self.level} product wants {', '.join(required)}"
            raise ProductError(f"{self.name} lacks {', '.join(lacking)}: {wanted}; {_GET_MISSING}")
        _ = self.constants
        if self.options.max_st_qa is not None or self.options.measured_sigma:
            if "ST_QA" not in self.sources:
                raise ProductError(
                    f"{self.name} has no ST_QA, the uncertainty that Level 2 brings: leave out --max-st-qa and "
                    "--measured-sigma"
                )
            required = (*required, "ST_QA")
        self._open_all(required)
        self._refuse_all_fill()
        if needs_qa and self._mask is None and self._qa_band is None:
            raise ProductError(
                f"{self.product_id} has no quality band (QA_PIXEL or BQA) and no gap mask was given: "
                "name the gaps with --gap-mask RASTER (non-zero = to be filled)"
            )
        if self.level == 2 and self.options.atmosphere is not None:
            raise ProductError(
                f"{self.product_id} is of Level 2, corrected for the atmosphere already: "
                "leave path radiance, transmissivity and sky radiance out"
            )

    def _refuse_all_fill(self) -> None:
        """Refuse a band that holds nothing at all, such as that of a thermal sensor that was off."""
        for band in self._required:
            if not any((self.dn(band, block) > 0).any() for block in blocks_from_centre(self.shape)):
                off = "the thermal sensor was off" if band == self._thermal_band else "nothing was measured"
                raise ProductError(f"band {band} of {self.product_id} is all fill: {off}; wanted another date")

    def measured(self, window: Tile | None = None) -> Measured:
        """LST in float32; missing is what quality classes, saturation or the gap mask name, and what is implausible.

        The image is what the quality band does not call fill; inside it, pixels without a value are missing too.
        Without a quality band it is where all of the bands have a value.
        """
        window = window or self._whole
        numbers = {band: self.dn(band, window) for band in self._required}
        lst = self._steps(numbers, window)["lst"].astype(np.float32)
        measured = np.logical_and.reduce([number > 0 for number in numbers.values()])
        hidden, fill = (np.zeros_like(measured), ~measured) if self._qa_band is None else self._quality(window)
        footprint = measured | ~fill
        plausible = np.isfinite(lst) & (lst > PLAUSIBLE_LST[0]) & (lst < PLAUSIBLE_LST[1])
        masked, remarks = self._masked(window)
        doubtful, sigma = self._doubt(window)
        missing = hidden | ~measured | ~plausible | (numbers[self._thermal_band] == self._saturated) | masked | doubtful
        remarks |= {
            f"inside the image have no value in {' or '.join(self._required)}: taken as missing": footprint & ~measured,
            f"lie beyond {PLAUSIBLE_LST[0]:g} to {PLAUSIBLE_LST[1]:g} K, as no land surface does: taken as missing": (
                measured & ~plausible
            ),
            "of the gap mask lie outside the image: they stay nodata": masked & ~footprint,
            f"have an ST_QA above {self.options.max_st_qa} K: taken as missing": footprint & doubtful,
        }
        known = footprint & ~missing
        if sigma is not None:
            remarks["are measured and have no ST_QA: their sigma is nodata"] = known & np.isnan(sigma)
        return Measured(lst, known, footprint & missing, remarks, sigma)

    @property
    def _saturated(self) -> int:
        """The highest number of the thermal band."""
        number = self._thermal_band.removeprefix("B")
        return int(self.mtl.optional(f"QUANTIZE_CAL_MAX_BAND_{number}") or SATURATED_DN)

    def _doubt(self, window: Tile) -> tuple[BoolArray, NDArray[np.float32] | None]:
        """Where the product's own uncertainty, ``ST_QA``, is too large, and that uncertainty; where asked for."""
        options = self.options
        if options.max_st_qa is None and not options.measured_sigma:
            return np.zeros(window.shape, dtype=np.bool_), None
        stored, nodata = self._stored("ST_QA", window)
        told = (stored >= 0) & (stored != nodata)
        sigma = np.where(told, stored * ST_QA_KELVIN, np.nan).astype(np.float32)
        most = np.inf if options.max_st_qa is None else options.max_st_qa
        return sigma > most, sigma if options.measured_sigma else None

    def intermediates(self, window: Tile | None = None) -> dict[str, Float]:
        """Every step from digital numbers to LST, by SEBAL (Bastiaanssen et al. 1998; the 2002 Idaho manual).

        ``radiance``, ``reflectance_b4``, ``reflectance_b5``, ``ndvi``, ``savi``, ``lai``, ``emissivity_nb``,
        ``emissivity_0``, ``brightness_temperature`` (K) and ``lst`` (K), NaN where fill; of Level 2 only ``lst``.
        """
        window = window or self._whole
        steps = self._steps({band: self.dn(band, window) for band in self._required}, window)
        if self.level == 1:
            albedo = steps.pop("albedo", None)
            steps["emissivity_0"] = sebal.emissivity(steps["ndvi"], steps["lai"], kind="broad_band", albedo=albedo)
            steps["brightness_temperature"] = sebal.brightness_temperature(steps["radiance"], **self._thermal)
        return steps

    def lst_notes(self) -> tuple[str, ...]:
        """Where the grid comes from, and what is not told of clouds."""
        unknown = "no quality band: every plausible pixel counts as measured, clouds too"
        return self.notes if self._qa_band else (*self.notes, unknown)

    def lst_record(self) -> dict[str, Any]:
        """Product, constants and physics."""
        options, air = self.options, self.options.atmosphere
        physics: dict[str, Any] = {"lst_from": f"{self._thermal_band} of Level 2"}
        if self.level == 1:
            physics = {"lst_from": "SEBAL", "savi_l": options.soil_l, "reflectance": options.reflectance}
            physics["atmosphere"] = None if air is None else asdict(air)
        if options.max_st_qa is not None or options.measured_sigma:
            physics |= {"max_st_qa": options.max_st_qa, "measured_sigma": options.measured_sigma}
        return {
            "product": self.metadata,
            "gap_classes": list(options.gap_classes) if self._qa_band else [],
            "gap_mask": str(self._mask.path) if self._mask else None,
            **physics,
            "atmospherically_corrected": self.level == 2 or air is not None,
            "meaning": "filled pixels hold the clear-sky-equivalent LST",
        }

    @property
    def has_quality(self) -> bool:
        """Whether it brings a quality band."""
        return self._qa_band is not None

    @property
    def metadata(self) -> dict[str, Any]:
        """The product and its constants, ready for JSON."""
        return {
            "id": self.mtl.product_id,
            "satellite": self.mtl.satellite,
            "collection": self.mtl.collection,
            "level": self.level,
            "date": self.mtl.date,
            "sun_elevation": self.mtl.optional("SUN_ELEVATION"),
            "earth_sun_distance": self.mtl.optional("EARTH_SUN_DISTANCE"),
            "qa_band": self._qa_band,
            "constants": self.constants,
            "notes": list(self.notes),
        }

    @property
    def constants(self) -> dict[str, float]:
        """Every constant that LST takes from the MTL file, by its MTL name."""
        if self.level == 2:
            names = [f"TEMPERATURE_{part}_BAND_{self._thermal_band}" for part in ("MULT", "ADD")]
        else:
            thermal, red, nir = (band.removeprefix("B") for band in self._required)
            scaled = (f"RADIANCE_{{}}_BAND_{thermal}", f"REFLECTANCE_{{}}_BAND_{red}", f"REFLECTANCE_{{}}_BAND_{nir}")
            names = [name.format(part) for name in scaled for part in ("MULT", "ADD")]
            names += [f"K1_CONSTANT_BAND_{thermal}", f"K2_CONSTANT_BAND_{thermal}", "SUN_ELEVATION"]
        return {name: self.mtl.constant(name) for name in names}

    def _steps(self, numbers: Mapping[str, NDArray[np.uint16]], window: Tile) -> dict[str, Float]:
        """Steps that LST takes; ``albedo`` among them where snow has to be told from water."""
        if self.level == 2:
            coefficients = self.coefficients("TEMPERATURE", self._thermal_band)
            return {"lst": sebal.rescale(numbers[self._thermal_band], **coefficients)}
        form = self.options.reflectance
        radiance = sebal.rescale(numbers[self._thermal_band], **self.coefficients("RADIANCE", self._thermal_band))
        reflectances = {band: self._toa(band, numbers[band], form) for band in self._required[1:]}
        red, nir = reflectances.values()
        ndvi, savi = sebal.ndvi(red, nir), sebal.savi(red, nir, soil_l=self.options.soil_l)
        steps = {"radiance": radiance} | {f"reflectance_{band.lower()}": rho for band, rho in reflectances.items()}
        steps |= {"ndvi": ndvi, "savi": savi}
        steps["lai"] = sebal.lai(savi)
        weights = self.albedo_weights()
        if weights and (ndvi < 0.0).any():  # only there does albedo change the emissivity
            others = {band: self._toa(band, self.dn(band, window), form) for band in weights if band not in numbers}
            bands = [(reflectances | others)[band] for band in weights]
            steps["albedo"] = sebal.surface_albedo(bands, list(weights.values()))
        steps["emissivity_nb"] = sebal.emissivity(ndvi, steps["lai"], albedo=steps.get("albedo"))
        steps["lst"] = sebal.lst(radiance, steps["emissivity_nb"], **self._thermal, atmosphere=self.options.atmosphere)
        return steps

    @property
    def _thermal(self) -> dict[str, float]:
        number = self._thermal_band.removeprefix("B")
        return {name: self.mtl.constant(f"{name.upper()}_CONSTANT_BAND_{number}") for name in ("k1", "k2")}

    def _toa(self, band: str, dn: NDArray[np.uint16], form: ReflectanceForm = "usgs") -> Float:
        return sebal.toa_reflectance(
            dn,
            **self.coefficients("REFLECTANCE", band),
            sun_elevation=self.mtl.constant("SUN_ELEVATION"),
            form=form,
            earth_sun_distance=self.mtl.optional("EARTH_SUN_DISTANCE"),
        )

    def coefficients(self, quantity: Quantity, band: str) -> dict[str, float]:
        """Keyword arguments ``mult`` and ``add``: multiplier and addend of a band, from the MTL file."""
        suffix = band if band.startswith("ST_") else band.removeprefix("SR_").removeprefix("B")
        names = {part: f"{quantity}_{part.upper()}_BAND_{suffix}" for part in ("mult", "add")}
        found = {part: self.mtl.constant(name) for part, name in names.items()}
        if not found["mult"] > 0:
            raise ProductError(f"{self.mtl.name}: {names['mult']} is {found['mult']:g}; wanted a number above 0")
        return found

    def albedo_weights(self) -> dict[str, float]:
        """Each reflective band's share of the sun's irradiance, of sum 1, for `lacunar.sensors.sebal.surface_albedo`.

        The irradiance of a band is proportional to M_L / M_rho. Empty where the product lacks one of the bands 2 to 7
        or is of Level 2.
        """
        if self.level != 1 or not set(self._all_reflective) <= set(self.sources):
            return {}
        irradiance = {
            band: self.coefficients("RADIANCE", band)["mult"] / self.coefficients("REFLECTANCE", band)["mult"]
            for band in self._all_reflective
        }
        total = sum(irradiance.values())
        return {band: value / total for band, value in irradiance.items()}

    # --- bands for water ---

    def check_bands(self) -> None:
        """Refuse a product without any of the bands 2 to 7."""
        reflective = self._all_reflective
        if not self.band_names:
            got = f"{self.name} holds none of {reflective[0]} to {reflective[-1]}"
            raise ProductError(f"{got}: water wants one or more of them; {_GET_MISSING}")
        self._open_all(self._reflective)
        super().check_bands()

    @property
    def band_names(self) -> tuple[BandName, ...]:
        """Those of the bands 2 to 7 that are there."""
        return tuple(band for band, file in zip(BANDS, self._all_reflective, strict=True) if file in self.sources)

    @property
    def band_units(self) -> str:
        """Reflectance at the top of the atmosphere or at the surface."""
        surface = "surface" if self.level == 2 else "top-of-atmosphere"
        return f"{surface} reflectance by the coefficients of the MTL file"

    @cached_property
    def band_notes(self) -> tuple[str, ...]:
        """Where the grid comes from, which bands are lacking, and what is hidden by cloud."""
        lacking = [band for band in BANDS if band not in self.band_names]
        notes = self.notes + ((f"the product lacks {', '.join(lacking)}",) if lacking else ())
        return notes if self._keep_clouds else notes + self._cloud_notes()

    @property
    def _reflective(self) -> tuple[str, ...]:
        return tuple(band for band in self._all_reflective if band in self.sources)

    def reflectance(self, window: Tile) -> Planes:
        """Reflectance, NaN at fill and, unless clouds are kept, under cloud and cloud shadow."""
        planes = np.empty((len(self._reflective), *window.shape), dtype=np.float32)
        for plane, band in zip(planes, self._reflective, strict=True):
            dn = self.dn(band, window)
            if self.level == 1:
                plane[:] = self._toa(band, dn)
            else:
                plane[:] = sebal.rescale(dn, **self.coefficients("REFLECTANCE", band))
        if self._qa_band is not None:
            hidden = () if self._keep_clouds else CLOUD_CLASSES
            planes[:, self.qa_flags(("fill", *hidden), window)] = np.nan
        return planes_of(planes, self.band_names)

    def _cloud_notes(self) -> tuple[str, ...]:
        """The share of the footprint that clouds hide, or that nothing tells it."""
        if self._qa_band is None:
            return (UNMASKED,)
        seen = hidden = 0
        for block in blocks_over(self.shape, block=CLOUD_SIDE, halo=0):
            qa = self._qa(block.core)
            footprint = ~qa_flags(qa, ["fill"], form=self._qa_form)
            seen += int(footprint.sum())
            hidden += int((footprint & qa_flags(qa, CLOUD_CLASSES, form=self._qa_form)).sum())
        if not hidden:
            return ()
        return (f"{hidden / seen:.1%} is cloud or cloud shadow by the quality band: not valid; --keep-clouds maps it",)

    # --- digital numbers and quality bits ---

    def dn(self, band: str, window: Tile | None = None) -> NDArray[np.uint16]:
        """Digital numbers (H, W) of a 30 m band; 0 where nothing was measured (fill, or the file's own nodata value).

        A band that is lacking, lies on another grid, is cut off, or holds other numbers is a `ProductError`.
        """
        numbers, nodata = self._stored(band, window)
        measured = numbers > 0
        if nodata is not None:
            measured &= numbers != nodata
        if measured.any() and int(numbers.max(where=measured, initial=0)) > SATURATED_DN:
            raise ProductError(f"band {band} holds values above {SATURATED_DN}: wanted digital numbers as delivered")
        return np.where(measured, numbers, 0).astype(np.uint16)

    def qa_flags(self, classes: Sequence[QaClass], window: Tile | None = None) -> BoolArray:
        """Where the quality band says one of these classes; `lacunar.sensors.landsat_qa.qa_flags` says what counts."""
        return qa_flags(self._qa(window), classes, form=self._qa_form)

    @property
    def _qa_band(self) -> str | None:
        return next((band for band in _QA_BANDS if band in self.sources), None)

    @property
    def _qa_form(self) -> QaForm:
        if self._qa_band == "QA_PIXEL":
            return "collection_2"
        return "collection_1" if self.mtl.collection == 1 else "pre_collection"

    def _qa(self, window: Tile | None) -> NDArray[Any]:
        """Values of the quality band, 0 where the file declares nodata."""
        if self._qa_band is None:
            raise ProductError(f"{self.product_id} has no quality band (QA_PIXEL or BQA): give a gap mask instead")
        qa, nodata = self._stored(self._qa_band, window)
        return qa if nodata is None else np.where(qa == nodata, 0, qa)

    def _quality(self, window: Tile) -> tuple[BoolArray, BoolArray]:
        """Pixels of the gap classes (cloud is dilated before Collection 2, which has no class for it), and of fill."""
        classes = self.options.gap_classes
        if self.mtl.collection == 2 or "dilated_cloud" not in classes:
            qa = self._qa(window)
            return qa_flags(qa, classes, form=self._qa_form), qa_flags(qa, ["fill"], form=self._qa_form)
        top, left = max(0, window.row - CLOUD_DILATION), max(0, window.col - CLOUD_DILATION)
        bottom = min(self.shape[0], window.row + window.height + CLOUD_DILATION)
        right = min(self.shape[1], window.col + window.width + CLOUD_DILATION)
        qa = self._qa(Tile(top, left, bottom - top, right - left))
        cloud = qa_flags(qa, ["cloud"], form=self._qa_form)
        grown = ndimage.binary_dilation(cloud, structure=np.ones((3, 3)), iterations=CLOUD_DILATION)
        inner = Tile(window.row - top, window.col - left, window.height, window.width)
        hidden = qa_flags(qa, classes, form=self._qa_form) | grown
        return hidden[inner.slices], qa_flags(qa, ["fill"], form=self._qa_form)[inner.slices]

    def _stored(self, band: str, window: Tile | None) -> tuple[NDArray[Any], float | None]:
        """A band's values as stored, and its declared nodata value."""
        window = window or self._whole
        if not window.inside(self.shape):
            raise ProductError(f"{window} reaches outside the product's {self.shape[0]} x {self.shape[1]} pixels")
        dataset = self._open(band)
        with _gdal(band, self.sources[band]):
            return dataset.read(1, window=Window.from_slices(*window.slices)), dataset.nodata

    def _open_all(self, bands: Sequence[str]) -> None:
        """Open bands and the quality band, so that one that does not fit is refused now."""
        for band in (*bands, *_QA_BANDS):
            if band in self.sources:
                self._open(band)

    def _open(self, band: str) -> DatasetReader:
        """A band's file, opened when first needed and checked against the product's grid."""
        if band not in self._datasets:
            if band not in self.sources:
                raise ProductError(f"{self.product_id} lacks band {band}: it has {', '.join(sorted(self.sources))}")
            with _gdal(band, self.sources[band]):
                source = self.sources[band]
                dataset = open_member(source) if source.startswith(IN_ARCHIVE) else open_raster(source, only="GTiff")
                self._open_files.callback(dataset.close)
                if band != self._grid_band:
                    self._check_band(band, dataset)
            self._datasets[band] = dataset
        return self._datasets[band]

    def _check_band(self, band: str, dataset: DatasetReader) -> None:
        """Refuse a band that is not on the product's grid or holds no digital numbers."""
        name = f"band {band} of {self.product_id}"
        if dataset.shape != self.shape:
            sizes = [f"{height} x {width}" for height, width in (dataset.shape, self.shape)]
            got = f"{name} has {sizes[0]} pixels, {self._grid_band} has {sizes[1]}"
            raise ProductError(f"{got}: wanted one size; crop or resample all bands alike")
        placed = dataset.transform != Affine.identity()
        if (dataset.crs is not None and dataset.crs != self.crs) or (
            placed and not dataset.transform.almost_equals(self.transform, precision=GRID_TOLERANCE)
        ):
            raise ProductError(f"{name} lies elsewhere than {self._grid_band}: wanted one grid for all bands")
        if not np.issubdtype(np.dtype(dataset.dtypes[0]), np.integer):
            raise ProductError(f"{name} holds {dataset.dtypes[0]} values: wanted digital numbers (integers)")


# --- where it lies ---


def _place(mtl: Mtl, band: str, dataset: DatasetReader) -> tuple[tuple[int, int], CRS, Affine, tuple[str, ...]]:
    """Shape, CRS and transform of a band, completed from the MTL file, and notes about that."""
    notes = []
    shape, crs, transform = dataset.shape, dataset.crs, dataset.transform
    if crs is None:
        if mtl.grid is None:
            raise ProductError(f"{band} has no CRS and {mtl.name} no UTM zone: wanted one of them; assign the CRS")
        crs = CRS.from_epsg(mtl.grid.epsg)
        notes.append(f"CRS taken from the MTL (EPSG:{mtl.grid.epsg}): the GeoTIFF has none")
    if transform == Affine.identity():
        if mtl.grid is None or mtl.grid.shape != shape:
            said = "none" if mtl.grid is None else f"{mtl.grid.shape[0]} x {mtl.grid.shape[1]} pixels"
            got = f"{band} ({shape[0]} x {shape[1]} pixels) has no position and the corners in {mtl.name} span {said}"
            raise ProductError(f"{got}: wanted the position in one of them")
        left, top = mtl.grid.upper_left
        half = mtl.grid.pixel / 2  # the MTL's corners are centres of pixels
        transform = Affine(mtl.grid.pixel, 0.0, left - half, 0.0, -mtl.grid.pixel, top + half)
        notes.append("position taken from the MTL's corners: the GeoTIFF has none")
    return shape, crs, transform, tuple(notes)


@contextmanager
def _gdal(band: str, source: str) -> Iterator[None]:
    """Call GDAL for a band; what it raises becomes one line."""
    # no search of the whole archive for each band
    options = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"} if source.startswith(IN_ARCHIVE) else {}
    with gdal(f"band {band} cannot be read", ProductError, advice="is it cut off? Get it anew", **options):
        yield
