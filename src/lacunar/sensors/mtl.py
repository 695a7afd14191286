"""The metadata (MTL) file of a Landsat product: text, JSON or XML, of any collection, as one frozen value.

Pre-collection products, Collection 1 and Collection 2 name their groups differently, and a Level-2 file repeats the
Level-1 coefficients under the same keys; `parse_mtl` takes each value from the group that is right for the product.
"""

import json
import math
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from lacunar.errors import ProductError

MTL_SIZE_LIMIT = 1 << 20  # bytes; real files have 8 to 25 kB in all three forms
SATELLITES = tuple(f"LANDSAT_{number}" for number in (4, 5, 7, 8, 9))  # TM; TM; ETM+; OLI and TIRS

Groups = dict[str, dict[str, str]]

_AS_DELIVERED = "take the file as delivered"

# Where each level keeps its constants: Collection 2 first, then Collection 1 and before.
_CONSTANT_GROUPS: dict[int, tuple[str, ...]] = {
    1: (
        "LEVEL1_RADIOMETRIC_RESCALING",
        "LEVEL1_THERMAL_CONSTANTS",
        "LEVEL1_MIN_MAX_PIXEL_VALUE",
        "RADIOMETRIC_RESCALING",
        "TIRS_THERMAL_CONSTANTS",
        "MIN_MAX_PIXEL_VALUE",
        "IMAGE_ATTRIBUTES",
    ),
    2: ("LEVEL2_SURFACE_REFLECTANCE_PARAMETERS", "LEVEL2_SURFACE_TEMPERATURE_PARAMETERS", "IMAGE_ATTRIBUTES"),
}
_FILE_GROUPS = ("PRODUCT_CONTENTS", "PRODUCT_METADATA")
_GRID_GROUPS = ("PRODUCT_METADATA", "PROJECTION_PARAMETERS", "LEVEL1_PROJECTION_PARAMETERS", "PROJECTION_ATTRIBUTES")
_QUALITY_BANDS = {"FILE_NAME_QUALITY_L1_PIXEL": "QA_PIXEL", "FILE_NAME_BAND_QUALITY": "BQA"}
_QUALITY_BANDS |= {"FILE_NAME_QUALITY_L2_SURFACE_TEMPERATURE": "ST_QA"}


@dataclass(frozen=True, slots=True)
class MtlGrid:
    """The grid of the 30 m bands as the MTL file states it; corners are CENTRES of the corner pixels, metres."""

    epsg: int
    upper_left: tuple[float, float]
    lower_right: tuple[float, float]
    pixel: float

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns that the corners span."""
        width = round((self.lower_right[0] - self.upper_left[0]) / self.pixel) + 1
        height = round((self.upper_left[1] - self.lower_right[1]) / self.pixel) + 1
        return height, width


@dataclass(frozen=True, slots=True)
class Mtl:
    """What lacunar uses of an MTL file, under one set of names for all collections."""

    name: str  # of the file, for messages
    product_id: str  # such as LC08_L1TP_041027_20150604_20170226_01_T1
    satellite: str
    date: str
    collection: Literal[0, 1, 2]  # 0 before there were any
    level: Literal[1, 2]  # 1 at-sensor, 2 surface reflectance and surface temperature
    files: Mapping[str, str]  # band name (B10, ST_B10, SR_B4, QA_PIXEL, BQA) -> file name
    grid: MtlGrid | None  # None where the file does not say it
    values: Mapping[str, str]  # the product's own constants as written, by their MTL names

    def constant(self, key: str) -> float:
        """One constant by its MTL name, such as ``K1_CONSTANT_BAND_10``; a `ProductError` where it is no number."""
        if key not in self.values:
            raise ProductError(f"{self.name} lacks {key}: wanted the MTL file as delivered with the product")
        return _number(self.values[key], key, self.name)

    def optional(self, key: str) -> float | None:
        """Like `constant`, but None where the file lacks it (early products have no EARTH_SUN_DISTANCE)."""
        return self.constant(key) if key in self.values else None


def parse_mtl(data: bytes, name: str) -> Mtl:
    """Read an MTL file from its bytes; the ending of its name (``.txt``, ``.json``, ``.xml``) says the form.

    Refused with a `ProductError`: larger than `MTL_SIZE_LIMIT`; not text; cut off; not an MTL file; a satellite other
    than `SATELLITES`.

    >>> parse_mtl(b"GROUP = L1_METADATA_FILE", "X_MTL.txt")
    Traceback (most recent call last):
    lacunar.errors.ProductError: X_MTL.txt is cut off: group L1_METADATA_FILE is not closed; take the file as delivered
    """
    if len(data) > MTL_SIZE_LIMIT:
        raise ProductError(f"{name} has more than {MTL_SIZE_LIMIT:,} bytes: wanted an MTL file of a few kB; it is none")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ProductError(f"{name} is not text: wanted an MTL file; {_AS_DELIVERED}") from None
    suffix = name.lower().rpartition(".")[2]
    groups = {"json": _groups_of_json, "xml": _groups_of_xml}.get(suffix, _groups_of_text)(text, name)
    return _normalise(groups, name)


def _groups_of_text(text: str, name: str) -> Groups:
    """Groups of the ODL form: KEY = VALUE lines between GROUP and END_GROUP, closed by END."""
    groups: Groups = {}
    path: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        key, equals, value = (part.strip() for part in line.partition("="))
        if key == "END" and not path:
            return groups
        if not key and not equals:
            continue
        if not equals:
            raise ProductError(f"{name}, line {number}: got {key[:40]!r}, wanted KEY = VALUE; it is no MTL file")
        if key == "GROUP":
            path.append(value)
        elif key == "END_GROUP":
            if not path or path.pop() != value:
                raise ProductError(f"{name}, line {number}: END_GROUP {value[:40]!r} does not match; {_AS_DELIVERED}")
        elif path:
            groups.setdefault(path[-1], {})[key] = value.strip('"')
    lacking = f"group {path[-1]} is not closed" if path else "END is lacking"
    raise ProductError(f"{name} is cut off: {lacking}; {_AS_DELIVERED}")


def _groups_of_json(text: str, name: str) -> Groups:
    """Groups of the JSON form: one root object of objects."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise ProductError(f"{name} is no JSON or cut off; {_AS_DELIVERED}") from None
    root = next(iter(document.values())) if isinstance(document, dict) and len(document) == 1 else None
    if not isinstance(root, dict):
        raise ProductError(f"{name}: wanted one object LANDSAT_METADATA_FILE; it is no MTL file")
    return {
        group: {key: str(value) for key, value in entries.items() if not isinstance(value, dict | list)}
        for group, entries in root.items()
        if isinstance(entries, dict)
    }


def _groups_of_xml(text: str, name: str) -> Groups:
    """Groups of the XML form, read without entities, DTDs or anything from outside."""
    try:
        root = fromstring(text, forbid_dtd=True)
    except (ElementTree.ParseError, DefusedXmlException, ValueError) as error:
        reason = "uses a DTD or entities" if isinstance(error, DefusedXmlException) else "is no XML or cut off"
        raise ProductError(f"{name} {reason}; {_AS_DELIVERED}") from None
    return {group.tag: {entry.tag: (entry.text or "").strip() for entry in group} for group in root}


def _normalise(groups: Groups, name: str) -> Mtl:
    """The groups of any collection as one value."""
    identity = _merged(groups, ("PRODUCT_METADATA", "METADATA_FILE_INFO", "IMAGE_ATTRIBUTES", "PRODUCT_CONTENTS"))
    satellite = _wanted(identity, "SPACECRAFT_ID", name)
    if satellite not in SATELLITES:
        raise ProductError(f"{name} is of {satellite[:40]}: wanted one of {', '.join(SATELLITES)}")
    processing = _wanted(identity, "PROCESSING_LEVEL" if "PROCESSING_LEVEL" in identity else "DATA_TYPE", name)
    levels: dict[str, Literal[1, 2]] = {"L1": 1, "L2": 2}  # of names such as L1TP, L1GT, L1T or L2SP
    if (level := levels.get(processing[:2])) is None:
        raise ProductError(f"{name}: processing level {processing[:40]!r}; wanted L1... or L2...")
    number = identity.get("COLLECTION_NUMBER", "0")
    collections: dict[str, Literal[0, 1, 2]] = {"": 0, "1": 1, "2": 2}
    if (collection := collections.get(number.lstrip("0"))) is None:
        raise ProductError(f"{name}: collection {number[:40]!r}; wanted 1, 2 or none")
    return Mtl(
        name=name,
        product_id=identity.get("LANDSAT_PRODUCT_ID") or _wanted(identity, "LANDSAT_SCENE_ID", name),
        satellite=satellite,
        date=_wanted(identity, "DATE_ACQUIRED", name),
        collection=collection,
        level=level,
        files=_files(groups, level),
        grid=_grid(groups, name),
        values=_merged(groups, reversed(_CONSTANT_GROUPS[level])),
    )


def _merged(groups: Groups, names: Iterable[str]) -> dict[str, str]:
    """Entries of several groups; a later group wins."""
    return {key: value for name in names for key, value in groups.get(name, {}).items()}


def _files(groups: Groups, level: int) -> dict[str, str]:
    files: dict[str, str] = {}
    for key, value in _merged(groups, _FILE_GROUPS).items():
        if key in _QUALITY_BANDS:
            files[_QUALITY_BANDS[key]] = value
        elif match := re.fullmatch(r"FILE_NAME_BAND_(ST_B\d+|\d+(?:_VCID_\d)?)", key):
            number = match[1]
            files[number if number.startswith("ST") else f"{'SR_' if level == 2 else ''}B{number}"] = value
    return files


def _grid(groups: Groups, name: str) -> MtlGrid | None:
    """The grid, or None where the file lacks the projection, a corner or the pixel size."""
    entries = _merged(groups, _GRID_GROUPS)
    epsg = _epsg(entries, name)
    corners = [f"CORNER_{corner}_PROJECTION_{axis}_PRODUCT" for corner in ("UL", "LR") for axis in ("X", "Y")]
    keys = [*corners, "GRID_CELL_SIZE_REFLECTIVE"]
    if epsg is None or not all(key in entries for key in keys):
        return None
    left, top, right, bottom, pixel = (_number(entries[key], key, name) for key in keys)
    if not 1 <= pixel <= 1000 or right <= left or bottom >= top:
        return None
    return MtlGrid(epsg=epsg, upper_left=(left, top), lower_right=(right, bottom), pixel=pixel)


def _epsg(entries: Mapping[str, str], name: str) -> int | None:
    """EPSG code of a WGS 84 UTM zone or of the Antarctic polar stereographic grid; None for anything else.

    USGS writes northern zones also south of the equator, with negative northings; a crop with southern northings
    (above 0 where the latitude is below 0) is taken as the southern zone.
    """
    projection, datum = entries.get("MAP_PROJECTION"), entries.get("DATUM")
    if datum != "WGS84":
        return None
    if projection == "PS":
        return 3031  # WGS 84 / Antarctic Polar Stereographic, the only one in use (USGS19, appendix)
    if projection != "UTM" or "UTM_ZONE" not in entries:
        return None
    zone = round(_number(entries["UTM_ZONE"], "UTM_ZONE", name))
    if not 1 <= abs(zone) <= 60:
        return None
    latitude = _number(entries.get("CORNER_UL_LAT_PRODUCT", "0"), "CORNER_UL_LAT_PRODUCT", name)
    northing = _number(entries.get("CORNER_UL_PROJECTION_Y_PRODUCT", "0"), "CORNER_UL_PROJECTION_Y_PRODUCT", name)
    southern = zone < 0 or (latitude < 0 < northing)
    return (32700 if southern else 32600) + abs(zone)


def _wanted(entries: Mapping[str, str], key: str, name: str) -> str:
    if not entries.get(key):
        raise ProductError(f"{name} lacks {key}: wanted the MTL file of a Landsat product, as delivered")
    return entries[key]


def _number(text: str, key: str, name: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ProductError(f"{name}: {key} is {text[:40]!r}; wanted a number; {_AS_DELIVERED}")
    return value
