"""What the gate lets in: plain rasters of known formats that lead nowhere else and cost no more than they may."""

import io
import json
import shutil
import tarfile

import numpy as np
import pytest
import rasterio
from affine import Affine

from commands import write
from lacunar.errors import LacunarError, ProductError, RasterError
from lacunar.geo import gate
from lacunar.geo.gate import read_vectors
from lacunar.geo.raster import RasterSource, read_raster
from lacunar.limits import SAMPLES, check_limit

SECRET, OPEN = 99, 7


def vrt(source, *, side=8, relative=0, more="", band=""):
    """A VRT of one band, from one file."""
    name = f'<SourceFilename relativeToVRT="{relative}">{source}</SourceFilename>'
    source = f"<SimpleSource>{name}<SourceBand>1</SourceBand></SimpleSource>"
    band = f'<VRTRasterBand dataType="Byte" band="1"{band}>{more}{source}</VRTRasterBand>'
    return f'<VRTDataset rasterXSize="{side}" rasterYSize="{side}">{band}</VRTDataset>'


@pytest.fixture
def secret(tmp_path):
    """A raster in another folder, that no file may lead to."""
    (tmp_path / "elsewhere").mkdir()
    return write(tmp_path / "elsewhere" / "secret.tif", np.full((8, 8), SECRET, np.uint8))


@pytest.fixture
def raster(tmp_path):
    (tmp_path / "data").mkdir()
    return write(tmp_path / "data" / "a.tif", np.full((8, 8), OPEN, np.uint8))


def refused(path, message):
    with pytest.raises(RasterError, match=message) as caught:
        read_raster(path)
    assert "\n" not in str(caught.value)


WMS = "<GDAL_WMS><Service name='TMS'><ServerUrl>http://127.0.0.1:9/${z}</ServerUrl></Service></GDAL_WMS>"
STACTA = '{"type": "Feature", "stac_version": "1.0.0", "properties": {"tiled-assets": {}}, "asset_templates": {}}'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (vrt("/etc/hostname"), "a VRT, which reads other files"),
        (vrt("/vsicurl/http://127.0.0.1:9/s.tif"), "a VRT, which reads other files"),
        ("  \n" + vrt("x.tif"), "a VRT, which reads other files"),
        (WMS, "not a raster that can be opened"),
        ("<WCS_GDAL><ServiceURL>http://127.0.0.1:9/</ServiceURL></WCS_GDAL>", "not a raster that can be opened"),
        ("<GDAL_WMTS><GetCapabilitiesUrl>http://127.0.0.1:9/</GetCapabilitiesUrl></GDAL_WMTS>", "not a raster that"),
        (STACTA, "not a raster that can be opened"),
        ("<PDS4 />", "not a raster that can be opened"),
        ("\x89HDF\r\n\x1a\n", "an HDF5 file, which can name other files"),
        ("GIF89a", "not a raster that can be opened; wanted a whole GeoTIFF"),
        ("", "not a raster that can be opened"),
    ],
)
@pytest.mark.parametrize("name", ["a.tif", "a.vrt", "a.xml", "a.json"])
def test_a_format_that_can_name_other_files_is_not_opened(tmp_path, content, message, name):
    path = tmp_path / name
    path.write_bytes(content.encode("latin-1"))
    refused(path, message)


def test_a_name_that_is_no_file_is_not_opened(tmp_path, secret, monkeypatch):
    monkeypatch.chdir(secret.parent)
    for name in ("vrt://secret.tif", "GTIFF_DIR:1:secret.tif", "/vsicurl/http://127.0.0.1:9/s.tif"):
        refused(name, "no such file")


def overviews_in_metadata(key="OVERVIEW_FILE"):
    def add(path, secret):
        entry = f'<MDI key="{key}">{secret}</MDI>'
        path.with_name("a.tif.aux.xml").write_text(
            f'<PAMDataset><Metadata domain="OVERVIEWS">{entry}</Metadata></PAMDataset>'
        )

    return add


def overviews_in_the_file(path, secret):
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=str(secret))


def overviews_of_overviews(path, secret):
    shutil.copy(path, path.with_name("a.tif.ovr"))
    overviews_in_the_file(path.with_name("a.tif.ovr"), secret)


def beside(ending, content=None):
    def add(path, secret):
        path.with_name(f"a{ending}").write_text(content or vrt(secret))

    return add


@pytest.mark.parametrize(
    ("add", "message"),
    [
        (beside(".tif.msk"), "a.tif.msk: no TIFF"),
        (beside(".msk"), "a.msk: no TIFF"),
        (beside(".tif.ovr"), "a.tif.ovr: no TIFF"),
        (beside(".tif.OVR", WMS), "a.tif.OVR: no TIFF"),
        (overviews_in_metadata(), "a.tif.aux.xml: names another file"),
        (overviews_in_metadata("OVERVIEW&#95;FILE"), "a.tif.aux.xml: names another file"),
        (beside(".tif.aux.xml", "<PAMDataset><Metadata domain=OVERVIEWS>"), "no whole XML"),
        (overviews_in_the_file, "a.tif: names another file"),
        (overviews_of_overviews, "a.tif.ovr: names another file"),
    ],
)
def test_what_lies_beside_a_raster_leads_nowhere(raster, secret, add, message):
    add(raster, secret)
    refused(raster, message)


def test_plain_files_beside_a_raster_are_read(raster):
    mask = np.full((8, 8), 255, np.uint8)
    mask[0] = 0
    write(raster.with_name("a.tif.msk"), mask).rename(raster.with_name("a.tif.msk"))
    with rasterio.open(raster.with_name("a.tif.msk"), "r+") as dataset:
        dataset.update_tags(INTERNAL_MASK_FLAGS_1="2")
    raster.with_name("a.tif.aux.xml").write_text(
        "<PAMDataset><PAMRasterBand band='1'><UnitType>K</UnitType></PAMRasterBand></PAMDataset>"
    )
    with RasterSource(raster) as source:
        assert source.units == ("K",)
        np.testing.assert_array_equal(source.read().known[0], mask == 255)


def test_a_part_of_an_imagine_file_lies_beside_it(tmp_path, secret):
    inner = tmp_path / "data"
    inner.mkdir()
    path = inner / "a.img"
    profile = {"driver": "HFA", "height": 8, "width": 8, "count": 1, "dtype": "uint8", "USE_SPILL": "YES"}
    with rasterio.open(path, "w", **profile, transform=Affine.scale(2)) as dataset:
        dataset.write(np.full((1, 8, 8), OPEN, np.uint8))
    assert (read_raster(path).data == OPEN).all()
    stolen = secret.with_name("a.ige")
    (inner / "a.ige").rename(stolen)
    content = path.read_bytes()
    assert content.count(b"a.ige\0") == 1
    longer = b"../elsewhere/a.ige\0"
    at = content.index(b"a.ige\0")
    path.write_bytes(content[:at] + longer + content[at + len(longer) :])
    refused(path, "leads to|not a raster that can be opened")


def test_a_vrt_is_opened_where_it_is_allowed_and_lies_beside_its_sources(raster):
    path = raster.with_name("a.vrt")
    path.write_text(vrt("a.tif", relative=1))
    refused(path, "--allow-vrt")
    with gate.allowing_vrt():
        assert (read_raster(path).data == OPEN).all()
        with RasterSource(path) as source:
            assert source.files == (path, raster)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda secret: vrt(secret), "wanted files beside the VRT"),
        (lambda secret: vrt("../elsewhere/secret.tif", relative=1), "wanted files beside the VRT"),
        (lambda secret: vrt("link.tif", relative=1), "wanted files beside the VRT"),
        (lambda secret: vrt("/vsicurl/http://127.0.0.1:9/s.tif"), "wanted files beside the VRT"),
        (lambda secret: vrt("inner.vrt", relative=1), "a VRT, which reads other files"),
        (lambda secret: vrt("a.tif", relative=1, band=' subClass="VRTDerivedRasterBand"'), "wanted plain sources"),
        (lambda secret: vrt("a.tif", relative=1, band=' subClass="VRTRawRasterBand"'), "wanted plain sources"),
        (lambda secret: vrt("a.tif", relative=1, more="<Overview />"), "wanted plain sources"),
        (lambda secret: vrt("a.tif", relative=1).replace("</VRTDataset>", ""), "no whole XML"),
    ],
)
def test_a_vrt_that_is_allowed_still_leads_nowhere_else(raster, secret, content, message):
    raster.with_name("link.tif").symlink_to(secret)
    raster.with_name("inner.vrt").write_text(vrt(secret))
    path = raster.with_name("a.vrt")
    path.write_text(content(secret))
    with gate.allowing_vrt():
        refused(path, message)


def sparse(path, side, **profile):
    profile = {"driver": "GTiff", "height": side, "width": side, "count": 1, "dtype": "uint8"} | profile
    with rasterio.open(path, "w", transform=Affine.scale(2), sparse_ok=True, BIGTIFF="YES", **profile):
        pass
    return path


def test_a_raster_beyond_the_budget_is_refused_unread(tmp_path):
    million = {"tiled": True, "blockxsize": 8192, "blockysize": 8192}
    refused(sparse(tmp_path / "a.tif", 10**6, **million), "got 1,000,000,000,000 pixels .*: wanted at most")
    refused(sparse(tmp_path / "b.tif", 4, count=1025), "got 1,025 bands in .*: wanted at most 1,024")
    tile = {"tiled": True, "blockxsize": 40_000, "blockysize": 40_000, "compress": "deflate"}
    refused(sparse(tmp_path / "c.tif", 40_000, **tile), "bytes in one tile or strip of .*TILED=YES")


def test_a_large_raster_is_opened_but_not_read_at_once(tmp_path):
    with RasterSource(sparse(tmp_path / "a.tif", 60_000, tiled=True)) as source:
        assert source.shape == (60_000, 60_000)
        with pytest.raises(RasterError, match="wanted at most"):
            source.read()


LARGE = tarfile.TarInfo._create_header({"name": "x", "type": tarfile.XHDTYPE, "size": 1 << 30}, 0, "utf-8", "strict")
NO_NUMBERS = tarfile.TarInfo._create_pax_generic_header({"GNU.sparse.map": "one,two"}, tarfile.XHDTYPE, "utf-8")
CHAIN = tarfile.TarInfo._create_pax_generic_header({"comment": "x"}, tarfile.XHDTYPE, "utf-8") * 2000


@pytest.mark.parametrize("header", [LARGE, NO_NUMBERS, CHAIN], ids=["large", "no numbers", "chain"])
def test_an_archive_of_damaged_headers_is_one_line(tmp_path, header):
    path = tmp_path / "a.tar"
    path.write_bytes(header + tarfile.TarInfo("a_MTL.txt").tobuf() + bytes(1024))
    fails_to_list(path)


def fails_to_list(path):
    def names():
        with gate.open_archive(path, "no tar", ProductError) as archive:
            return archive.getnames()

    with pytest.raises(LacunarError, match=r"no tar .*get it anew|got 1,073,741,824 bytes in a header") as caught:
        names()
    assert "\n" not in str(caught.value)


def test_a_compressed_archive_that_is_damaged_is_one_line(tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w:xz") as archive:
        archive.addfile(tarfile.TarInfo("a"), io.BytesIO())
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    path.write_bytes(raw)
    fails_to_list(path)


@pytest.mark.parametrize("names", ["crs type link", "CRS Type LINKS", "crs type url"])
def test_polygons_whose_crs_is_an_address_are_refused_without_asking_it(tmp_path, names):
    """GDAL would fetch it."""
    polygon = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}
    feature = {"type": "Feature", "properties": {}, "geometry": polygon}
    collection = {"type": "FeatureCollection", "features": [feature]}
    file = tmp_path / "a.geojson"
    file.write_text(json.dumps(collection))
    assert len(read_vectors(file)) == 1
    crs, kind, value = names.split()
    link = {kind: value, "properties": {"href": "http://127.0.0.1:9/a", "type": "ogcwkt"}}
    file.write_text(json.dumps({crs: link} | collection))
    with pytest.raises(RasterError, match="its CRS is a link to an address, which is not asked"):
        read_vectors(file)


def test_a_count_beyond_any_float_is_above_its_limit():
    with pytest.raises(LacunarError, match=r"got 10[,0]+ steps: wanted at most 256; ask for fewer"):
        check_limit(10**400, SAMPLES, "steps", "ask for fewer")
