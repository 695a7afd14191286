"""The one gate through which every raster, picture and archive is opened.

A file is what its first bytes say, out of a short list of formats that cannot name other files; GDAL is then told which
driver to use and guesses nothing. Of what lies beside a raster (``.aux.xml``, ``.ovr``, ``.msk`` and the like) nothing
may lead anywhere else. A VRT, which is all about other files, is opened where the user allows it, and only with plain
sources beside it. Nothing is fetched from a network because a file says so.
"""

import io
import json
import logging
import os
import tarfile
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from lacunar.errors import LacunarError, RasterError, one_line
from lacunar.limits import (
    BANDS,
    BLOCK_BYTES,
    HEADER_BYTES,
    PIXELS,
    PIXELS_AT_ONCE,
    TEXT_BYTES,
    check_limit,
)

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    import geopandas as gpd
    from rasterio.io import DatasetReader, DatasetWriter

# First bytes of a file -> GDAL's driver.
_MAGIC = {
    **dict.fromkeys((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "GTiff"),
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    **dict.fromkeys((b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"), "JP2OpenJPEG"),
    b"EHFA_HEADER_TAG": "HFA",
    **dict.fromkeys((b"CDF\x01", b"CDF\x02", b"CDF\x05"), "netCDF"),
    b"BM": "BMP",
}
_VECTORS = {".gpkg": b"SQLite format 3", ".geojson": b"{", ".json": b"{", ".shp": b"\0\0\x27\x0a"}
_HDF5 = b"\x89HDF\r\n\x1a\n"
_GRID_STARTS = (b"ncols", b"nrows", b"dsaa")  # of an Arc/Info ASCII grid
_FORMATS = "GeoTIFF, PNG, JPEG, JPEG 2000, WebP, BMP, ENVI, Erdas Imagine, ASCII grid or netCDF 3"
_HELD_WHOLE = ("PNG", "JPEG", "JP2OpenJPEG", "WEBP", "AAIGrid")  # a part of them may cost as much as all
_READ_WHOLE = (  # headers of an archive
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)
_START = 64  # bytes that tell a format

_RASTERS_BESIDE = (".ovr", ".msk")
_METADATA_BESIDE = ".aux.xml"
DESCRIBING = (_METADATA_BESIDE, *_RASTERS_BESIDE)  # endings of what GDAL reads along with a raster
_ELSEWHERE = "OVERVIEW_FILE"  # in GDAL's domain OVERVIEWS: the name of another file, which it would open
_VRT_TAGS = frozenset(
    """VRTDataset SRS GeoTransform GCPList GCP Metadata MDI VRTRasterBand Description UnitType Offset Scale NoDataValue
    HideNoDataValue ColorInterp ColorTable Entry CategoryNames Category SimpleSource ComplexSource AveragedSource
    SourceFilename SourceBand SourceProperties SrcRect DstRect NODATA UseMaskBand ScaleOffset ScaleRatio LUT MaskBand
    BlockXSize BlockYSize""".split()
)

# GDAL would take 5 % of the machine's memory; 64 MiB hold a row of float32 tiles of a 32,000-pixel raster.
_ENVIRONMENT = {
    "GDAL_CACHEMAX": 64 * 2**20,
    "CPL_VSIL_CURL_ALLOWED_FILENAME": "none",  # no name in a file leads to a network
    "CPL_VSIL_GZIP_WRITE_PROPERTIES": "NO",  # or GDAL leaves a file beside a .tar.gz
    "GDAL_ENABLE_WMS_CACHE": "NO",
    "GDAL_VRT_ENABLE_RAWRASTERBAND": "NO",
    "GDAL_VRT_ENABLE_PYTHON": "NO",
}
_allow_vrt: ContextVar[bool] = ContextVar("allow_vrt", default=False)

# The messages of both come back in our exceptions; without a handler Python would print them to the screen as well.
for _library in ("rasterio", "PIL"):
    logging.getLogger(_library).addHandler(logging.NullHandler())


@contextmanager
def allowing_vrt(allowed: bool = True) -> Iterator[None]:
    """Let VRT files in for the ``with`` block, if ``allowed``: those whose sources are plain rasters beside them."""
    token = _allow_vrt.set(allowed)
    try:
        yield
    finally:
        _allow_vrt.reset(token)


@contextmanager
def gdal(
    message: str,
    error: type[LacunarError] = RasterError,
    *,
    advice: str = "",
    **options: Any,  # noqa: ANN401
) -> Iterator[None]:
    """Call GDAL: what it raises becomes one line, ``message (reason): advice``; of missing coordinates it is silent."""
    import rasterio  # only where a raster is opened: a machine without it trains from packed files
    from rasterio.errors import NodataShadowWarning, NotGeoreferencedWarning

    with rasterio.Env(**_ENVIRONMENT, **options), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        warnings.simplefilter("ignore", NodataShadowWarning)
        try:
            yield
        except error:
            raise
        except Exception as fault:  # rasterio lets GDAL's own classes, OSError, SystemError and UnicodeError through
            raise error(f"{message} ({one_line(fault)}){advice and f': {advice}'}") from fault


def open_raster(path: str | Path, *, only: str | None = None) -> "DatasetReader":
    """Open a raster file, to be called and read inside `gdal`.

    A `RasterError` refuses another format (also any but ``only``, by the name of GDAL's driver), one that leads to
    other files, and one that is too large to work on.
    """
    import rasterio

    path = Path(path)
    driver = _driver_of(path)
    if only not in (None, driver):
        raise RasterError(f"{path}: got a file for GDAL's driver {driver}; wanted {only}")
    if driver == "VRT":
        _check_vrt(path)
    else:
        _check_beside(path)
    dataset = rasterio.open(os.path.abspath(path), driver=driver)  # noqa: PTH100  # no link is followed, no scheme read
    try:
        _check_opened(path, dataset)
    except BaseException:
        dataset.close()
        raise
    return dataset


def open_member(source: str) -> "DatasetReader":
    """Open a GeoTIFF inside an archive by its ``/vsitar/`` name, inside `gdal`; nothing beside it is looked at."""
    import rasterio

    dataset = rasterio.open(source, driver="GTiff")
    try:
        _check_size(source.rpartition("/")[2], dataset)
    except BaseException:
        dataset.close()
        raise
    return dataset


def create_raster(path: Path, **profile: Any) -> "DatasetWriter":  # noqa: ANN401
    """Open a raster for writing, inside `gdal`."""
    import rasterio

    return rasterio.open(path, "w", **profile)


def read_vectors(path: Path) -> "gpd.GeoDataFrame":
    """Read a GeoPackage, GeoJSON or shapefile; any other file, or a table without geometry, is a `RasterError`."""
    if not path.is_file():
        raise RasterError(f"{path}: no such file; wanted polygons as {', '.join(_VECTORS)}: check the path")
    import geopandas as gpd
    import pyogrio

    starts = _VECTORS.get(path.suffix.lower(), b"\0" * _START)
    if not _first_bytes(path).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(starts):
        raise RasterError(f"{path}: no polygons can be read; wanted a whole {', '.join(_VECTORS)}: convert it")
    try:
        if starts == b"{":
            json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_refuse_linked_crs)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shapes = pyogrio.read_dataframe(path)
    except Exception as error:  # GDAL's own classes
        raise RasterError(
            f"{path}: no polygons can be read ({one_line(error)}): wanted .gpkg, .geojson, .shp"
        ) from error
    if not isinstance(shapes, gpd.GeoDataFrame):
        raise RasterError(f"{path} is a table without geometry: wanted polygons")
    return shapes


def _refuse_linked_crs(members: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Members of a GeoJSON object; where its CRS stands at an address, which GDAL would ask, a ``ValueError``.

    GDAL takes names and kinds in any case, and the kinds by their first letters.
    """
    for name, value in members:
        if name.lower() != "crs" or not isinstance(value, list):
            continue
        inner = [(key.lower(), str(kind).lower()) for key, kind in (pair for pair in value if isinstance(pair, tuple))]
        if any(key == "type" and kind.startswith(("link", "url")) for key, kind in inner):
            raise ValueError("its CRS is a link to an address, which is not asked")
    return members


@contextmanager
def open_image(source: Path | bytes, formats: tuple[str, ...]) -> Iterator[Image.Image]:
    """Open a picture by Pillow, which refuses formats that are not named, and is silent of odd metadata."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file: IO[bytes] | Path = source if isinstance(source, Path) else io.BytesIO(source)
        with Image.open(file, formats=formats) as image:
            yield image


@contextmanager
def open_archive(path: Path, message: str, error: type[LacunarError]) -> Iterator[tarfile.TarFile]:
    """Open a .tar, compressed or not; what is wrong with it becomes one line that begins with ``message``."""
    try:
        with tarfile.open(path, tarinfo=_Member) as archive:
            yield archive
    except LacunarError:
        raise
    except Exception as fault:  # tarfile, zlib, lzma and what numbers in a header come to
        raise error(f"{message} ({one_line(fault)}): get it anew") from None


@contextmanager
def open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a .zip; what is wrong with it, or with the disk while it is unpacked, is a `RasterError`."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except LacunarError:
        raise
    except Exception as fault:  # zipfile, zlib, lzma, and of the disk
        raise RasterError(f"{path.name} cannot be unpacked ({one_line(fault)}): get it anew, or unpack it") from fault


class _Member(tarfile.TarInfo):
    """A member whose own headers are small: tarfile reads a pax header or a long name whole."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _READ_WHOLE:
            check_limit(self.size, HEADER_BYTES, "bytes in a header of the archive", "it is damaged, get it anew")
        found: tarfile.TarInfo = super()._proc_member(archive)  # type: ignore[misc]
        return found


def _driver_of(path: Path) -> str:
    """The driver that the first bytes of a file stand for."""
    start = _first_bytes(path)
    found = next((driver for magic, driver in _MAGIC.items() if start.startswith(magic)), None)
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        found = "WEBP"
    if found is None and start.lower().lstrip().startswith(_GRID_STARTS):
        found = "AAIGrid"
    if found is None and any(
        header.is_file() and _first_bytes(header).startswith(b"ENVI")
        for header in (path.with_suffix(".hdr"), Path(f"{path}.hdr"))
    ):
        found = "ENVI"
    if found is None and b"<VRTDataset" in start:
        if not _allow_vrt.get():
            raise RasterError(f"{path}: a VRT, which reads other files; wanted one of those, or --allow-vrt")
        found = "VRT"
    if found is None:
        got = (
            "an HDF5 file, which can name other files" if start.startswith(_HDF5) else "not a raster that can be opened"
        )
        raise RasterError(f"{path}: {got}; wanted a whole {_FORMATS}: convert it, such as by gdal_translate")
    return found


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_START)


def _check_beside(path: Path) -> None:
    """Refuse what lies beside a raster, is read along with it, and leads elsewhere."""
    starts = (f"{path.name}.", f"{path.stem}.")
    for other in path.parent.iterdir():
        name = other.name.lower()
        if other.name == path.name or not other.name.startswith(starts) or not other.is_file():
            continue
        if name.endswith(_METADATA_BESIDE):
            if any(entry.get("key") == _ELSEWHERE for entry in _xml_of(other).iter()):
                raise RasterError(f"{other}: names another file as overview; wanted none: remove it")
        elif name.endswith(_RASTERS_BESIDE):
            if _MAGIC.get(_first_bytes(other)[:4]) != "GTiff":
                raise RasterError(f"{other}: no TIFF; wanted overviews and masks as TIFF: remove it")
            import rasterio

            with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR", GDAL_PAM_ENABLED="NO"):
                with rasterio.open(other, driver="GTiff") as dataset:
                    _check_overviews(other, dataset)


def _check_overviews(path: Path, dataset: "DatasetReader") -> None:
    """Refuse a raster whose own metadata name another file."""
    if _ELSEWHERE in dataset.tags(ns="OVERVIEWS"):
        raise RasterError(f"{path}: names another file as overview; wanted none: rewrite it, such as by gdal_translate")


def _check_opened(path: Path, dataset: "DatasetReader") -> None:
    _check_overviews(path, dataset)
    folder = os.path.dirname(os.path.abspath(path))  # noqa: PTH100, PTH120
    away = [name for name in dataset.files if os.path.dirname(os.path.normpath(name)) != folder]  # noqa: PTH120
    if away and dataset.driver != "VRT":  # whose sources are checked, and may lie in folders below
        raise RasterError(f"{path}: leads to {away[0]}; wanted all its files beside it")
    _check_size(str(path), dataset)


def _check_size(name: str, dataset: "DatasetReader") -> None:
    """Refuse a raster that costs too much, before a pixel is read."""
    most = PIXELS_AT_ONCE if dataset.driver in _HELD_WHOLE else PIXELS
    cut = "cut out a part, such as by gdal_translate -srcwin"
    check_limit(dataset.height * dataset.width, most, f"pixels in {name}", cut, error=RasterError)
    check_limit(dataset.count, BANDS, f"bands in {name}", "choose some (gdal_translate -b)", error=RasterError)
    if dataset.driver == "GTiff":
        together = dataset.count if dataset.profile.get("interleave") == "pixel" else 1
        sizes = zip(dataset.block_shapes, dataset.dtypes, strict=True)
        largest = max(rows * cols * _bytes_of(kind) for (rows, cols), kind in sizes) * together
        rewrite = "rewrite it in small tiles, such as by gdal_translate -co TILED=YES"
        check_limit(largest, BLOCK_BYTES, f"bytes in one tile or strip of {name}", rewrite, error=RasterError)


def _bytes_of(kind: str) -> int:
    return 4 if kind == "complex_int16" else np.dtype(kind).itemsize


def _check_vrt(path: Path) -> None:
    """Refuse a VRT of anything but plain rasters that lie beside it, or in folders below."""
    folder = path.resolve().parent
    for element in _xml_of(path).iter():
        plain = element.tag in _VRT_TAGS and element.get("subClass") in (None, "VRTSourcedRasterBand")
        if not plain:
            raise RasterError(f"{path}: a VRT with {element.tag}; wanted plain sources: make a GeoTIFF of it")
        if element.tag != "SourceFilename":
            continue
        source = Path(os.path.normpath(path.parent / (element.text or "")))
        if not (source.is_file() and source.resolve().is_relative_to(folder)):
            raise RasterError(f"{path}: names the source {element.text}; wanted files beside the VRT: move them there")
        with allowing_vrt(False), open_raster(source):
            pass


def _xml_of(path: Path) -> "Element":
    """The root of an XML file, read without entities, DTDs or anything from outside."""
    check_limit(path.stat().st_size, TEXT_BYTES, f"bytes in {path}", "remove it", error=RasterError)
    import defusedxml.ElementTree

    try:
        root: Element = defusedxml.ElementTree.fromstring(path.read_bytes(), forbid_dtd=True)
    except Exception as error:  # the parser's errors, and those of encodings
        raise RasterError(f"{path}: no whole XML ({one_line(error)}); wanted what GDAL wrote: remove it") from error
    return root
