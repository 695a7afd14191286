"""MTL files of every collection in every form: one value; and each way in which they can be broken."""

import json
import re

import pytest

from lacunar.errors import ProductError
from lacunar.sensors.mtl import MTL_SIZE_LIMIT, parse_mtl

FLATHEAD = "LC08_L1TP_041027_20150604_20170226_01_T1"
MAUI = "LC09_L1TP_063046_20230714_20230714_02_T1"
LIVERPOOL = "LC08_L2SP_204023_20200927_20201006_02_T1"

# As small as an MTL file can be: Collection 2, Level 1.
TEXT = """GROUP = LANDSAT_METADATA_FILE
  GROUP = PRODUCT_CONTENTS
    LANDSAT_PRODUCT_ID = "LC09_L1TP_001001_20220101_20220102_02_T1"
    PROCESSING_LEVEL = "L1TP"
    COLLECTION_NUMBER = 02
    FILE_NAME_BAND_10 = "LC09_L1TP_001001_20220101_20220102_02_T1_B10.TIF"
    FILE_NAME_QUALITY_L1_PIXEL = "LC09_L1TP_001001_20220101_20220102_02_T1_QA_PIXEL.TIF"
  END_GROUP = PRODUCT_CONTENTS
  GROUP = IMAGE_ATTRIBUTES
    SPACECRAFT_ID = "LANDSAT_9"
    DATE_ACQUIRED = 2022-01-01
    SUN_ELEVATION = 41.5
  END_GROUP = IMAGE_ATTRIBUTES
  GROUP = PROJECTION_ATTRIBUTES
    MAP_PROJECTION = "UTM"
    DATUM = "WGS84"
    UTM_ZONE = 19
    GRID_CELL_SIZE_REFLECTIVE = 30.00
    CORNER_UL_LAT_PRODUCT = -10.0
    CORNER_UL_PROJECTION_X_PRODUCT = 300000.000
    CORNER_UL_PROJECTION_Y_PRODUCT = -1100010.000
    CORNER_LR_PROJECTION_X_PRODUCT = 300270.000
    CORNER_LR_PROJECTION_Y_PRODUCT = -1100160.000
  END_GROUP = PROJECTION_ATTRIBUTES
  GROUP = LEVEL1_THERMAL_CONSTANTS
    K1_CONSTANT_BAND_10 = 799.0284
  END_GROUP = LEVEL1_THERMAL_CONSTANTS
END_GROUP = LANDSAT_METADATA_FILE
END
"""


def parse(text, name="X_MTL.txt"):
    return parse_mtl(text.encode(), name)


def tree(text):
    """Groups of the text form, by a parser of the test's own."""
    groups: dict[str, dict[str, str]] = {}
    for group, body in re.findall(r"^  GROUP = (\w+)\n(.*?)^  END_GROUP", text, flags=re.DOTALL | re.MULTILINE):
        groups[group] = {key: value.strip('"') for key, value in re.findall(r"(\w+) = (.*)", body)}
    return groups


def as_json(text):
    return json.dumps({"LANDSAT_METADATA_FILE": tree(text)}, indent=2)


def as_xml(text):
    body = "".join(
        f"<{group}>{''.join(f'<{key}>{value}</{key}>' for key, value in entries.items())}</{group}>\n"
        for group, entries in tree(text).items()
    )
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<LANDSAT_METADATA_FILE>\n{body}</LANDSAT_METADATA_FILE>\n'


def real(shared, product):
    return (shared / "data" / "landsat" / product / f"{product}_MTL.txt").read_text()


@pytest.mark.parametrize(
    ("product", "satellite", "date", "collection", "level", "epsg", "shape"),
    [
        (FLATHEAD, "LANDSAT_8", "2015-06-04", 1, 1, 32611, (7781, 7671)),
        (MAUI, "LANDSAT_9", "2023-07-14", 2, 1, 32605, (367, 301)),
        (LIVERPOOL, "LANDSAT_8", "2020-09-27", 2, 2, 32630, (267, 433)),
    ],
)
def test_real_files(shared, product, satellite, date, collection, level, epsg, shape):
    got = parse(real(shared, product))
    assert (got.product_id, got.satellite, got.date) == (product, satellite, date)
    assert (got.collection, got.level) == (collection, level)
    assert (got.grid.epsg, got.grid.shape) == (epsg, shape)


def test_names_of_the_collections_are_one(shared):
    old, new = parse(real(shared, FLATHEAD)), parse(real(shared, MAUI))
    assert old.constant("K1_CONSTANT_BAND_10") == 774.8853
    assert new.constant("K1_CONSTANT_BAND_10") == 799.0284
    assert old.constant("RADIANCE_MULT_BAND_10") == 3.3420e-4
    assert new.constant("RADIANCE_MULT_BAND_10") == 3.8e-4
    assert old.constant("SUN_ELEVATION") == 61.25996297
    assert old.files["B10"] == f"{FLATHEAD}_B10.TIF"
    assert old.files["BQA"] == f"{FLATHEAD}_BQA.TIF"
    assert new.files["QA_PIXEL"] == f"{MAUI}_QA_PIXEL.TIF"


def test_level2_takes_its_own_coefficients_and_not_those_of_level1(shared):
    got = parse(real(shared, LIVERPOOL))
    assert got.constant("REFLECTANCE_MULT_BAND_4") == 2.75e-5
    assert got.constant("TEMPERATURE_ADD_BAND_ST_B10") == 149.0
    assert got.files["ST_B10"] == f"{LIVERPOOL}_ST_B10.TIF"
    assert got.files["SR_B4"] == f"{LIVERPOOL}_SR_B4.TIF"
    with pytest.raises(ProductError, match="lacks K1_CONSTANT_BAND_10"):
        got.constant("K1_CONSTANT_BAND_10")


@pytest.mark.parametrize("product", [FLATHEAD, MAUI, LIVERPOOL])
def test_json_and_xml_are_the_text(shared, product):
    text = real(shared, product)
    wanted = parse(text, "M")
    assert parse_mtl(as_json(text).encode(), "M.json").__repr__().replace("M.json", "M") == repr(wanted)
    assert parse_mtl(as_xml(text).encode(), "M.XML").__repr__().replace("M.XML", "M") == repr(wanted)


def test_byte_order_mark_and_windows_lines():
    got = parse_mtl(b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode(), "X_MTL.txt")
    assert got.constant("K1_CONSTANT_BAND_10") == 799.0284


def test_pre_collection_has_no_collection_and_no_product_id():
    text = (
        TEXT.replace('    LANDSAT_PRODUCT_ID = "LC09_L1TP_001001_20220101_20220102_02_T1"\n', "")
        .replace("COLLECTION_NUMBER = 02", 'LANDSAT_SCENE_ID = "LC80410272015155LGN00"')
        .replace("PRODUCT_CONTENTS", "METADATA_FILE_INFO")
        .replace('PROCESSING_LEVEL = "L1TP"', 'DATA_TYPE = "L1T"')
    )
    got = parse(text)
    assert (got.product_id, got.collection, got.level) == ("LC80410272015155LGN00", 0, 1)


def test_crs():
    # USGS writes northern zones with negative northings; 10,000 km more is the southern zone of a reprojected crop.
    southern = TEXT.replace("-1100010", "8899990").replace("-1100160", "8899840")
    assert parse(TEXT).grid.epsg == 32619
    assert parse(southern).grid.epsg == 32719
    assert parse(TEXT.replace("UTM_ZONE = 19", "UTM_ZONE = -19")).grid.epsg == 32719
    assert parse(TEXT.replace('"UTM"', '"PS"')).grid.epsg == 3031


@pytest.mark.parametrize(
    "lost",
    ['    DATUM = "WGS84"\n', "    UTM_ZONE = 19\n", "    CORNER_LR_PROJECTION_X_PRODUCT = 300270.000\n",
     "    GRID_CELL_SIZE_REFLECTIVE = 30.00\n"],
)  # fmt: skip
def test_no_grid_without_projection_corner_or_cell(lost):
    assert parse(TEXT.replace(lost, "")).grid is None


def test_unlikely_grids_are_none():
    assert parse(TEXT.replace("UTM_ZONE = 19", "UTM_ZONE = 61")).grid is None
    assert parse(TEXT.replace('"UTM"', '"ALBERS"')).grid is None
    assert parse(TEXT.replace("X_PRODUCT = 300270", "X_PRODUCT = 200270")).grid is None


def test_corners_are_centres_of_pixels():
    assert parse(TEXT).grid.shape == (6, 10)


def test_optional_constant():
    got = parse(TEXT)
    assert got.optional("EARTH_SUN_DISTANCE") is None
    assert got.optional("SUN_ELEVATION") == 41.5


BILLION_LAUGHS = (
    """<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><l><g><k>&b;</k></g></l>"""
)
OUTSIDE = """<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a SYSTEM "file:///etc/passwd">]><l><g><k>&a;</k></g></l>"""


@pytest.mark.parametrize(
    ("data", "name", "message"),
    [
        (b"x" * (MTL_SIZE_LIMIT + 1), "X_MTL.txt", "more than 1,048,576 bytes: wanted an MTL file of a few kB"),
        (b"\xff\xfe\x00\x01" * 50, "X_MTL.txt", "is not text"),
        (b"", "X_MTL.txt", "cut off: END is lacking"),
        (TEXT[:600].encode(), "X_MTL.txt", "cut off|wanted KEY = VALUE"),
        (
            TEXT[: TEXT.index("    UTM_ZONE")].encode(),
            "X_MTL.txt",
            "cut off: group PROJECTION_ATTRIBUTES is not closed",
        ),
        (TEXT.removesuffix("END\n").encode(), "X_MTL.txt", "cut off: END is lacking"),
        (b"GROUP = A\nlorem ipsum\n", "X_MTL.txt", "line 2: got 'lorem ipsum', wanted KEY = VALUE"),
        (b"GROUP = A\nEND_GROUP = B\n", "X_MTL.txt", "line 2: END_GROUP 'B' does not match"),
        (as_json(TEXT)[:700].encode(), "X_MTL.json", "no JSON or cut off"),
        (b"[" * 100_000, "X_MTL.json", "no JSON or cut off"),
        (b'["a"]', "X_MTL.json", "wanted one object LANDSAT_METADATA_FILE"),
        (b'{"type": "Feature", "id": "stac"}', "X_MTL.json", "wanted one object LANDSAT_METADATA_FILE"),
        (as_xml(TEXT)[:700].encode(), "X_MTL.xml", "no XML or cut off"),
        (BILLION_LAUGHS.encode(), "X_MTL.xml", "uses a DTD or entities"),
        (OUTSIDE.encode(), "X_MTL.xml", "uses a DTD or entities"),
        (TEXT.replace("LANDSAT_9", "LANDSAT_3").encode(), "X_MTL.txt", "of LANDSAT_3: wanted one of LANDSAT_4, LAND"),
        (TEXT.replace("SPACECRAFT_ID", "SHIP").encode(), "X_MTL.txt", "lacks SPACECRAFT_ID"),
        (TEXT.replace("DATE_ACQUIRED", "DAY").encode(), "X_MTL.txt", "lacks DATE_ACQUIRED"),
        (TEXT.replace("LANDSAT_PRODUCT_ID", "ID").encode(), "X_MTL.txt", "lacks LANDSAT_SCENE_ID"),
        (TEXT.replace("PROCESSING_LEVEL", "LEVEL").encode(), "X_MTL.txt", "lacks DATA_TYPE"),
        (TEXT.replace('"L1TP"', '"L3"').encode(), "X_MTL.txt", "processing level 'L3'; wanted L1... or L2..."),
        (TEXT.replace("NUMBER = 02", "NUMBER = 07").encode(), "X_MTL.txt", "collection '07'; wanted 1, 2 or none"),
        (TEXT.replace("ZONE = 19", "ZONE = x").encode(), "X_MTL.txt", "UTM_ZONE is 'x'; wanted a number"),
    ],
)
def test_broken_files(data, name, message):
    with pytest.raises(ProductError, match=message) as caught:
        parse_mtl(data, name)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("value", ["high", "nan", "inf", ""])
def test_constant_that_is_no_number_is_named(value):
    got = parse(TEXT.replace("799.0284", value))
    with pytest.raises(ProductError, match=r"X_MTL.txt: K1_CONSTANT_BAND_10 is .*; wanted a number"):
        got.constant("K1_CONSTANT_BAND_10")
