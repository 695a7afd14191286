"""Inputs that are typed as an https address or a .zip: what is meant, and what is refused."""

import io
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import numpy as np
import pytest

from commands import write
from lacunar.errors import RasterError
from lacunar.geo import brought as module
from lacunar.geo.brought import brought, is_brought
from lacunar.sensors.scene import open_scene

VALUES = np.linspace(280, 300, 64).reshape(8, 8).astype(np.float32)


@pytest.fixture
def packed(tmp_path):
    """A .zip of one raster of 2024, and what stays out of it."""
    write(tmp_path / "lst_20240813.tif", VALUES, units="K")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "lst_20240813.tif", "data/lst_20240813.tif")
        archive.writestr("data/readme.txt", "hello")
        archive.writestr("__MACOSX/data/._lst_20240813.tif", "noise")
    return tmp_path / "a.zip"


class Answer(io.BytesIO):
    def __init__(self, data, url, length=None):
        super().__init__(data)
        self.url, self.headers = url, {"Content-Length": str(len(data) if length is None else length)}

    def geturl(self):
        return self.url


def test_the_raster_in_a_zip_is_meant(packed):
    inside = "data/lst_20240813.tif"
    for typed in (packed, packed / inside, f"/vsizip/{packed}/{inside}"):
        with open_scene(typed) as scene:
            np.testing.assert_array_equal(scene.measured().values, VALUES)
            assert scene.path == Path(typed)
            assert scene.date.isoformat() == "2024-08-13"
            assert scene.lst_record()["notes"] == [f"read from {packed}"]


def test_the_product_in_a_zip_is_meant(simulated_64, tmp_path):
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        for file in simulated_64.folder.iterdir():
            archive.write(file, f"deep/{file.name}")
    with open_scene(tmp_path / "p.zip") as scene, open_scene(simulated_64.folder) as plain:
        np.testing.assert_array_equal(scene.measured().values, plain.measured().values)


def test_a_zip_of_several_or_none_is_asked_about(packed, tmp_path):
    with pytest.raises(RasterError, match=r"a.zip holds no b.tif: it has data/lst_20240813.tif, data/readme.txt"):
        open_scene(packed / "b.tif")
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("a.tif", b"")
        archive.writestr("b.tif", b"")
    with pytest.raises(RasterError, match=r"two.zip holds 2 rasters \(a.tif, b.tif\): wanted one; name it as .*/NAME"):
        open_scene(tmp_path / "two.zip")
    (tmp_path / "no.zip").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(RasterError, match=r"no.zip cannot be unpacked .*: get it anew"):
        open_scene(tmp_path / "no.zip")


def test_members_cannot_leave_the_folder(tmp_path):
    write(tmp_path / "a.tif", VALUES)
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.write(tmp_path / "a.tif", "../../escaped.tif")
    (tmp_path / "a.tif").unlink()
    with pytest.raises(RasterError, match=r"z.zip holds 0 rasters \(none\): wanted one"):
        open_scene(tmp_path / "z.zip")
    assert [path.name for path in tmp_path.iterdir()] == ["z.zip"]


def test_what_was_brought_goes_when_the_scene_is_closed(packed):
    with brought(packed) as (file, _):
        assert file.is_file()
        assert packed.parent not in file.parents
    assert not file.exists()


def test_a_budget_holds_for_what_is_brought(packed, monkeypatch):
    monkeypatch.setattr(module, "ARCHIVE_BYTES", 100)
    with pytest.raises(RasterError, match=r"bytes of a.zip: wanted at most 100; fetch and cut out"):
        open_scene(packed)
    monkeypatch.setattr(urllib.request, "urlopen", lambda url, timeout: Answer(b"", url, length=101))
    with pytest.raises(RasterError, match=r"got 101 bytes of https://a.org/b.tif: wanted at most 100"):
        open_scene("https://a.org/b.tif")


def test_an_address_is_fetched_and_its_size_told(packed, monkeypatch):
    asked = []

    def answer(url, timeout):
        asked.append(url)
        return Answer(packed.read_bytes(), url)

    monkeypatch.setattr(urllib.request, "urlopen", answer)
    with open_scene("https://example.org/sub/a.zip?key=secret") as scene:
        np.testing.assert_array_equal(scene.measured().values, VALUES)
        size = packed.stat().st_size / 2**20
        assert scene.notes == (f"fetched {size:.1f} MiB from https://example.org/sub/a.zip",)
    assert asked == ["https://example.org/sub/a.zip?key=secret"]


def test_other_schemes_and_no_answer(monkeypatch):
    assert not is_brought("http://a.org/b.tif")
    with pytest.raises(RasterError, match="no such file"):
        open_scene("http://a.org/b.tif")
    monkeypatch.setattr(urllib.request, "urlopen", lambda url, timeout: Answer(b"", "http://a.org/b.tif"))
    with pytest.raises(RasterError, match=r"leads to http://a.org/b.tif: wanted https"):
        open_scene("https://a.org/b.tif")

    def down(url, timeout):
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(urllib.request, "urlopen", down)
    with pytest.raises(RasterError, match=r"https://a.org/b.tif cannot be fetched .*no route.*: check the address"):
        open_scene("https://a.org/b.tif")
