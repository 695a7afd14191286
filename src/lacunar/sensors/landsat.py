"""Landsat 8 and 9 products as delivered: a folder or a .tar with bands, quality bits and metadata.

An archive is read in place and never unpacked. What the digital numbers mean is `lacunar.sensors.sebal`'s matter; the
constants come from the product's own MTL file.
"""

import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.io import DatasetReader
from rasterio.windows import Window
from scipy import ndimage

from lacunar.errors import ProductError
from lacunar.geo.gate import gdal, open_archive, open_member, open_raster
from lacunar.geo.windows import Tile, blocks_over
from lacunar.limits import ARCHIVE_BYTES, ARCHIVE_MEMBERS
from lacunar.sensors import sebal
from lacunar.sensors.bands import BANDS, BandName
from lacunar.sensors.landsat_qa import QaClass, QaForm, qa_flags
from lacunar.sensors.mtl import MTL_SIZE_LIMIT, Mtl, parse_mtl
from lacunar.sensors.scene import PLAUSIBLE_LST, BoolArray, LstOptions, Measured, Planes, Scene, date_in, planes_of
from lacunar.sensors.sebal import ReflectanceForm

MTL_ENDINGS = ("_mtl.txt", "_mtl.json", "_mtl.xml")  # in order of preference, where there are several
SATURATED_DN = 65535  # QUANTIZE_CAL_MAX of every band
GRID_TOLERANCE = 1e-3  # metres by which the bands' transforms may differ
CLOUD_DILATION = 3  # pixels that CFMask grows a cloud by (Foga et al. 2017); the class "dilated_cloud" of Collection 2
CLOUD_CLASSES: tuple[QaClass, ...] = ("cloud", "cloud_shadow")  # that hide water
CLOUD_SIDE = 1024  # of the blocks in which they are counted

_BAND_FILE = re.compile(r"_((?:ST_|SR_)?B\d{1,2}|QA_PIXEL|BQA)\.tiff?$", re.IGNORECASE)
_IN_ARCHIVE = "/vsitar/"  # how GDAL calls what lies in one
_REQUIRED = {1: ("B10", "B4", "B5"), 2: ("ST_B10",)}  # by LST, the thermal band first
# Bands 2 to 7 of Landsat 8 and 9, in the order of BANDS.
_REFLECTIVE = {level: tuple(f"{prefix}{number}" for number in range(2, 8)) for level, prefix in ((1, "B"), (2, "SR_B"))}
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
        keep_clouds: bool = False,
    ) -> None:
        super().__init__(path)
        self.options, self._keep_clouds = lst_options or LstOptions(), keep_clouds
        delivery = open_delivery(path)
        mtl_name = _mtl_name(delivery)
        self.mtl = parse_mtl(delivery.load(mtl_name, limit=MTL_SIZE_LIMIT), mtl_name)
        self.level = self.mtl.level
        self.sources = _band_sources(delivery, self.mtl)  # of B10, QA_PIXEL, ST_B10 ...: what rasterio opens
        self.product_id, self.date = self.mtl.product_id, date_in(self.mtl.date)
        self.title = f"{self.mtl.product_id} ({self.mtl.date})"
        files = [mtl_name, *(PurePosixPath(source).name for source in self.sources.values())]
        self.inputs += [path / name for name in files] if path.is_dir() else [path]
        self._datasets: dict[str, DatasetReader] = {}
        wanted = (*_REQUIRED[self.level], *_REFLECTIVE[self.level])
        self._grid_band = next((band for band in wanted if band in self.sources), wanted[0])
        dataset = self._open(self._grid_band)
        self.shape, self.crs, self.transform, self.notes = _place(self.mtl, self._grid_band, dataset)
        self._check_band(self._grid_band, dataset)
        self._add_mask(gap_mask)

    # --- LST ---

    def check_lst(self, *, needs_qa: bool = True) -> None:
        """Refuse a product that lacks a band, a constant or a quality band, and a correction that is made already."""
        required = _REQUIRED[self.level]
        if lacking := [band for band in required if band not in self.sources]:
            wanted = f"LST of a Level-{self.level} product wants {', '.join(required)}"
            raise ProductError(f"{self.name} lacks {', '.join(lacking)}: {wanted}; {_GET_MISSING}")
        _ = self.constants
        self._open_all(required)
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

    def measured(self, window: Tile | None = None) -> Measured:
        """LST in float32; missing is what quality classes, saturation or the gap mask name, and what is implausible.

        Pixels that are fill in one of the bands are neither known nor missing.
        """
        window = window or self._whole
        numbers = {band: self.dn(band, window) for band in _REQUIRED[self.level]}
        thermal = numbers[_REQUIRED[self.level][0]]
        lst = self._steps(numbers, window)["lst"].astype(np.float32)
        footprint = np.logical_and.reduce([number > 0 for number in numbers.values()])
        plausible = np.isfinite(lst) & (lst > PLAUSIBLE_LST[0]) & (lst < PLAUSIBLE_LST[1])
        missing = ~plausible | (thermal == SATURATED_DN) | self._masked(window)
        if self._qa_band is not None:
            missing |= self._hidden(window)
        return Measured(lst, footprint & ~missing, footprint & missing)

    def intermediates(self, window: Tile | None = None) -> dict[str, Float]:
        """Every step from digital numbers to LST, by SEBAL (Bastiaanssen et al. 1998; the 2002 Idaho manual).

        ``radiance``, ``reflectance_b4``, ``reflectance_b5``, ``ndvi``, ``savi``, ``lai``, ``emissivity_nb``,
        ``emissivity_0``, ``brightness_temperature`` (K) and ``lst`` (K), NaN where fill; of Level 2 only ``lst``.
        """
        window = window or self._whole
        steps = self._steps({band: self.dn(band, window) for band in _REQUIRED[self.level]}, window)
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
        physics: dict[str, Any] = {"lst_from": "ST_B10 of Level 2"}
        if self.level == 1:
            physics = {"lst_from": "SEBAL", "savi_l": options.soil_l, "reflectance": options.reflectance}
            physics["atmosphere"] = None if air is None else asdict(air)
        return {
            "product": self.metadata,
            "gap_classes": list(options.gap_classes) if self._qa_band else [],
            "gap_mask": str(self._mask.path) if self._mask else None,
            **physics,
            "atmospherically_corrected": self.level == 2 or air is not None,
            "meaning": "filled pixels hold the clear-sky-equivalent LST",
        }

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
            names = ["TEMPERATURE_MULT_BAND_ST_B10", "TEMPERATURE_ADD_BAND_ST_B10"]
        else:
            scaled = ("RADIANCE_{}_BAND_10", "REFLECTANCE_{}_BAND_4", "REFLECTANCE_{}_BAND_5")
            names = [name.format(part) for name in scaled for part in ("MULT", "ADD")]
            names += ["K1_CONSTANT_BAND_10", "K2_CONSTANT_BAND_10", "SUN_ELEVATION"]
        return {name: self.mtl.constant(name) for name in names}

    def _steps(self, numbers: Mapping[str, NDArray[np.uint16]], window: Tile) -> dict[str, Float]:
        """Steps that LST takes; ``albedo`` among them where snow has to be told from water."""
        if self.level == 2:
            return {"lst": sebal.rescale(numbers["ST_B10"], **self.coefficients("TEMPERATURE", "ST_B10"))}
        form = self.options.reflectance
        radiance = sebal.rescale(numbers["B10"], **self.coefficients("RADIANCE", "B10"))
        reflectances = {band: self._toa(band, numbers[band], form) for band in ("B4", "B5")}
        red, nir = reflectances.values()
        ndvi, savi = sebal.ndvi(red, nir), sebal.savi(red, nir, soil_l=self.options.soil_l)
        steps = {"radiance": radiance, "reflectance_b4": red, "reflectance_b5": nir, "ndvi": ndvi, "savi": savi}
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
        return {name: self.mtl.constant(f"{name.upper()}_CONSTANT_BAND_10") for name in ("k1", "k2")}

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
        return {part: self.mtl.constant(f"{quantity}_{part.upper()}_BAND_{suffix}") for part in ("mult", "add")}

    def albedo_weights(self) -> dict[str, float]:
        """Each reflective band's share of the sun's irradiance, of sum 1, for `lacunar.sensors.sebal.surface_albedo`.

        The irradiance of a band is proportional to M_L / M_rho. Empty where the product lacks one of the bands 2 to 7
        or is of Level 2.
        """
        if self.level != 1 or not set(_REFLECTIVE[1]) <= set(self.sources):
            return {}
        irradiance = {
            band: self.coefficients("RADIANCE", band)["mult"] / self.coefficients("REFLECTANCE", band)["mult"]
            for band in _REFLECTIVE[1]
        }
        total = sum(irradiance.values())
        return {band: value / total for band, value in irradiance.items()}

    # --- bands for water ---

    def check_bands(self) -> None:
        """Refuse a product without any of the bands 2 to 7."""
        reflective = _REFLECTIVE[self.level]
        if not self.band_names:
            got = f"{self.name} holds none of {reflective[0]} to {reflective[-1]}"
            raise ProductError(f"{got}: water wants one or more of them; {_GET_MISSING}")
        self._open_all(self._reflective)
        super().check_bands()

    @property
    def band_names(self) -> tuple[BandName, ...]:
        """Those of the bands 2 to 7 that are there."""
        files = _REFLECTIVE[self.level]
        return tuple(band for band, file in zip(BANDS, files, strict=True) if file in self.sources)

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
        return tuple(band for band in _REFLECTIVE[self.level] if band in self.sources)

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
            return ("the product has no quality band: clouds and their shadows are not masked",)
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

    def _hidden(self, window: Tile) -> BoolArray:
        """Pixels of the gap classes; before Collection 2, which has no class for it, cloud is dilated here."""
        classes = self.options.gap_classes
        if self.mtl.collection == 2 or "dilated_cloud" not in classes:
            return self.qa_flags(classes, window)
        top, left = max(0, window.row - CLOUD_DILATION), max(0, window.col - CLOUD_DILATION)
        bottom = min(self.shape[0], window.row + window.height + CLOUD_DILATION)
        right = min(self.shape[1], window.col + window.width + CLOUD_DILATION)
        qa = self._qa(Tile(top, left, bottom - top, right - left))
        cloud = qa_flags(qa, ["cloud"], form=self._qa_form)
        grown = ndimage.binary_dilation(cloud, structure=np.ones((3, 3)), iterations=CLOUD_DILATION)
        inner = Tile(window.row - top, window.col - left, window.height, window.width)
        return np.asarray((qa_flags(qa, classes, form=self._qa_form) | grown)[inner.slices])

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
                dataset = open_member(source) if source.startswith(_IN_ARCHIVE) else open_raster(source, only="GTiff")
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


# --- the files of a product ---


@dataclass(frozen=True, slots=True)
class Delivery:
    """A product's folder or archive: file name -> what rasterio opens, and -> name in the archive (not of a folder)."""

    path: Path
    sources: Mapping[str, str]
    members: Mapping[str, str]

    def load(self, name: str, *, limit: int) -> bytes:
        """Bytes of a small file, at most one more than ``limit``; a `ProductError` where it cannot be read."""
        if not self.members:
            try:
                with (self.path / name).open("rb") as stream:
                    return stream.read(limit + 1)
            except OSError as error:
                raise ProductError(f"{name} cannot be read ({error.strerror}): check the folder {self.path}") from None
        with open_archive(self.path, _no_archive(self.path), ProductError) as archive:
            member = archive.extractfile(self.members[name])
            return b"" if member is None else member.read(limit + 1)


def open_delivery(path: Path) -> Delivery:
    """List a product's folder, or its .tar (also .tar.gz) after checking every member.

    An archive that is cut off, too large, has a member that points outside, is a link or a device, or two members of
    one name is a `ProductError`.
    """
    if path.is_dir():
        names = sorted(entry.name for entry in path.iterdir() if entry.is_file() and not entry.name.startswith("."))
        return Delivery(path, {name: str(path.resolve() / name) for name in names}, {})
    if not path.is_file():
        raise ProductError(f"{path}: no such folder or file; give a product's folder, or its .tar as delivered")
    members: dict[str, str] = {}
    total = 0
    with open_archive(path, _no_archive(path), ProductError) as archive:
        for count, member in enumerate(archive, start=1):
            total += member.size
            if count > ARCHIVE_MEMBERS or total > ARCHIVE_BYTES:
                got = f"{path.name} holds more than {ARCHIVE_MEMBERS} files or {ARCHIVE_BYTES >> 30} GiB"
                raise ProductError(f"{got}: wanted one Landsat product; it is none")
            _check_member(member, path.name)
            name = PurePosixPath(member.name).name
            if member.isdir() or name.startswith("."):
                continue
            if name in members:
                raise ProductError(f"{path.name} holds {name} twice: wanted one Landsat product, as delivered")
            members[name] = member.name
    # GDAL drops a leading "./", and so does PurePosixPath.
    sources = {name: f"{_IN_ARCHIVE}{{{path.resolve()}}}/{PurePosixPath(member)}" for name, member in members.items()}
    return Delivery(path, sources, members)


def _check_member(member: tarfile.TarInfo, archive: str) -> None:
    inner = PurePosixPath(member.name)
    if inner.is_absolute() or ".." in inner.parts or "\\" in member.name:
        raise ProductError(f"{archive}: member {member.name!r} points outside; refused, get it from its source")
    if not (member.isdir() or (member.isreg() and not member.issparse())):
        raise ProductError(f"{archive}: member {member.name!r} is a link or device; refused, get it from its source")


def _no_archive(path: Path) -> str:
    return f"{path.name} is no whole .tar, wanted a product's folder, or its .tar"


def _mtl_name(delivery: Delivery) -> str:
    for ending in MTL_ENDINGS:
        found = [name for name in delivery.sources if name.lower().endswith(ending)]
        if len(found) > 1:
            raise ProductError(f"{delivery.path.name} holds {found[0]} and {found[1]}: wanted one product; part them")
        if found:
            return found[0]
    got = f"{delivery.path.name} holds no MTL file (*_MTL.txt, .json or .xml)"
    raise ProductError(f"{got}: give a product's folder, or its .tar")


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
    options = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"} if source.startswith(_IN_ARCHIVE) else {}
    with gdal(f"band {band} cannot be read", ProductError, advice="is it cut off? Get it anew", **options):
        yield
